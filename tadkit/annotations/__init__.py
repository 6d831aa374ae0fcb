"""Annotations: reading, writing, checking and counting those of datasets and annotation tools."""
