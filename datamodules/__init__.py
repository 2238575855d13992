"""Sources of labelled hands. Each gives the batch contract of `datamodules.batch`."""
