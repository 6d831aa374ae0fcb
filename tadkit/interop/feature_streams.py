"""RGB and flow features of one video in two files, as feature extractors such as video_features write them.

``NAME_rgb.npy`` and ``NAME_flow.npy`` are the streams of the video NAME. ``NAME_fps.npy`` is its frame rate and
``NAME_timestamps_ms.npy`` has a time stamp for each step: that of the frame after the last one of its clip (the frame
itself for features of single frames). So stride and clip length follow from the stamps.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

STREAMS = {"rgb": "appearance", "flow": "motion"}
"""Streams by their name in files, and their tracks in a store."""
SIDECARS = ("fps", "timestamps_ms")
_NAMED = ".npy"


@dataclass(frozen=True)
class FeatureSet:
    """Files of one video.

    Attributes:
        name: of the video.
        streams: file by stream, ``rgb``, ``flow`` or the name of another extractor.
        sidecars: file by what it says, ``fps`` or ``timestamps_ms``.
    """

    name: str
    streams: dict[str, Path]
    sidecars: dict[str, Path] = field(default_factory=dict)


def feature_sets(files: Iterable[Path]) -> Iterator[FeatureSet | Path]:
    """Group the files of one video; a file that is not part of a group is itself.

    A group has a file of ``fps`` or time stamps, or both RGB and flow.
    """
    groups: dict[tuple[Path, str], dict[str, Path]] = {}
    listed = list(files)
    for path in listed:
        for ending in (*STREAMS, *SIDECARS):
            name = path.stem.removesuffix(f"_{ending}")
            if name and name != path.stem and (ending in STREAMS or path.suffix == _NAMED):
                groups.setdefault((path.parent, name), {})[ending] = path
    kept = {key: found for key, found in groups.items() if set(found) & set(SIDECARS) or set(STREAMS) <= set(found)}
    pairs = any(set(STREAMS) <= set(found) for found in kept.values())
    if pairs:  # then a stream without its partner is one that misses it, which is reported when it is read
        kept |= {key: found for key, found in groups.items() if set(found) & set(STREAMS)}
    taken: set[Path] = set()
    for (folder, name), found in kept.items():
        streams = {ending: path for ending, path in found.items() if ending in STREAMS}
        if not streams:
            others = [path for path in listed if path.parent == folder and path.stem.startswith(f"{name}_")]
            streams = {p.stem.removeprefix(f"{name}_"): p for p in others if p not in found.values()}
        kept[folder, name] = found | streams
        taken |= set(kept[folder, name].values())
    for (_, name), found in kept.items():
        sidecars = {ending: path for ending, path in found.items() if ending in SIDECARS}
        yield FeatureSet(name, {ending: path for ending, path in found.items() if ending not in SIDECARS}, sidecars)
    yield from (path for path in listed if path not in taken)
