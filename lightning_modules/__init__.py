"""The four methods as LightningModules, their losses, metrics and callbacks."""
