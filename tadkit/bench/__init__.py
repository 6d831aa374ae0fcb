"""Timings beside other projects."""
