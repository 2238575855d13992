"""Performance and paper tables: `python -m benchmarks.<name>` prints a table, then one JSON line last."""
