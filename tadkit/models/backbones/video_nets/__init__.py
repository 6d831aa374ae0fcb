"""Nets over time and space: I3D, SlowFast, VideoMAE, and those of torchvision."""
