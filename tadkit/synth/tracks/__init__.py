"""Synthetic feature tracks with exactly known actions: one stream, or RGB and flow."""

from tadkit.synth.tracks.one_stream import Track, make_track

__all__ = ["Track", "make_track"]
