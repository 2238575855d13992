"""Is a dataset on disk what its reader takes it for? `python -m datamodules.check <dataset> <folder>`."""
