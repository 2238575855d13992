"""Networks that methods share: backbones and heads."""
