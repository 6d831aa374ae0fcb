"""HDF5 stores: flow and feature tracks of many videos in one documented, versioned layout."""

from tadkit.store.layout import Kind
from tadkit.store.parts import PartWriter, VideoEntry
from tadkit.store.pieces import Pieces
from tadkit.store.reader import TrackReader, VideoTracks, read_store
from tadkit.store.writer import TrackStore, open_store

__all__ = [
    "Kind",
    "PartWriter",
    "Pieces",
    "TrackReader",
    "TrackStore",
    "VideoEntry",
    "VideoTracks",
    "open_store",
    "read_store",
]
