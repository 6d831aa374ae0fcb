"""Timings of parts of tadkit, and comparisons with other implementations."""
