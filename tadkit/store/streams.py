"""Streams of stored features: the RGB half or the flow half of what others extracted."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float32

from tadkit.config import FeatureStreams, channel_range, full_track
from tadkit.errors import StoreError
from tadkit.store.reader import TrackReader


@dataclass(frozen=True)
class FeatureStream:
    """One stream of a feature store.

    Attributes:
        store: open for reading.
        name: a track, such as ``appearance`` or ``original/appearance``; or a range of channels, such as ``0:1024``.
    """

    store: TrackReader
    name: str

    def read(self, video: str, start: int = 0, stop: int | None = None) -> Float32[np.ndarray, "steps channels"]:
        """Steps ``start`` to ``stop`` (half open; None is the end).

        Raises:
            StoreError: the video has no such track or channels, or not so many steps.
        """
        chosen = channel_range(self.name)
        if chosen is None:
            return self.store.read(video, full_track(self.name), start, stop).astype(np.float32)
        self.channels(video)
        return self.store.features(video, start, stop)[:, chosen.start : chosen.stop].astype(np.float32)

    def channels(self, video: str) -> int:
        """Channels of the stream.

        Raises:
            StoreError: the video has no such track or channels.
        """
        chosen = channel_range(self.name)
        if chosen is None:
            self._refuse_missing(video)
            return self.store.channels(video, full_track(self.name))
        if (found := self.store.feature_channels(video)) < chosen.stop:
            raise StoreError(
                f"{self.store.path}: '{video}' has {found} channels, so there are no channels {self.name}; "
                "choose a range within them"
            )
        return len(chosen)

    def range_in_features(self, video: str) -> range | None:
        """Channels of all features of a video that the stream reads; None for a track that is no part of them.

        Raises:
            StoreError: the video has no features.
        """
        chosen = channel_range(self.name)
        return self.store.feature_range(video, full_track(self.name)) if chosen is None else chosen

    def _refuse_missing(self, video: str) -> None:
        track, present = full_track(self.name), self.store.tracks(video)
        if track not in present:
            raise StoreError(
                f"{self.store.path}: '{video}' has no track '{track}' (it has: {', '.join(present) or 'none'}); name "
                "one of them in sources.rgb and sources.flow, or import the features with: tadkit import features"
            )


def rgb_stream(store: TrackReader, video: str, streams: FeatureStreams, *, model: str) -> FeatureStream:
    """What a model reads of a stored video: the RGB stream of features like those it was trained on, or RGB alone.

    Args:
        store: features of any store.
        video: one of its videos.
        streams: as the model states them.
        model: its file, for the error message.

    Raises:
        StoreError: the features are neither.
    """
    found, stream = store.feature_channels(video), FeatureStream(store, streams.rgb)
    named = channel_range(streams.rgb) is None
    if found == streams.channels and (not named or _has(stream, video, streams.rgb_channels)):
        return stream
    if found == streams.rgb_channels:
        return FeatureStream(store, f"0:{found}")
    raise StoreError(
        f"{store.path}: '{video}' has {found} channels, but {model} reads {streams.rgb_channels} of RGB "
        f"({streams.rgb}) of {streams.channels}; import features like those that it was trained on, or their RGB alone"
    )


def flow_stream(store: TrackReader, video: str, streams: FeatureStreams, *, model: str) -> FeatureStream:
    """What a two-stream model reads of a stored video beside RGB, of features like those it was trained on.

    Raises:
        StoreError: the features are others, or RGB alone.
    """
    found, stream = store.feature_channels(video), FeatureStream(store, streams.flow)
    if found == streams.channels and _has(stream, video, streams.flow_channels):
        return stream
    raise StoreError(
        f"{store.path}: '{video}' has {found} channels, but {model}, a two-stream detector, reads flow "
        f"({streams.flow}) beside RGB, {streams.channels} channels in all; import features like those it was trained on"
    )


def _has(stream: FeatureStream, video: str, channels: int) -> bool:
    """Whether a video has the track of a stream, with so many channels."""
    try:
        return stream.channels(video) == channels
    except StoreError:
        return False
