"""Schedules, pictures, tables and run folders: all that is not the forward pass."""
