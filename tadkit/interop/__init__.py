"""Heads and features from other projects."""
