"""The HDF5 files: flow and feature tracks of many videos in one documented, versioned layout."""

from tadkit.store.layout import Kind
from tadkit.store.reader import TrackReader, read_store
from tadkit.store.writer import TrackStore, VideoEntry, open_store

__all__ = ["Kind", "TrackReader", "TrackStore", "VideoEntry", "open_store", "read_store"]
