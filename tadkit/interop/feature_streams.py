"""RGB and flow features of one video in two files, as feature extractors write them.

``NAME_rgb.npy`` and ``NAME_flow.npy`` (video_features), or ``rgb/NAME.npy`` and ``flow/NAME.npy``, are the streams of
the video NAME. ``NAME_fps.npy`` is its frame rate and ``NAME_timestamps_ms.npy`` has a time stamp for each step: that
of the frame after the last one of its clip (the frame itself for features of single frames). So stride and clip length
follow from the stamps.
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

    A group has a file of ``fps`` or time stamps, or both RGB and flow. Where some videos have both, a stream without
    its partner is a group, too, which is an error when it is read.
    """
    listed = list(files)
    groups = _groups(listed)
    both = {key: found for key, found in groups.items() if set(STREAMS) <= set(found)}
    taken = {path for found in both.values() for path in found.values()}
    for key, found in groups.items():
        partial = set(found) & set(SIDECARS) or (both and set(found) & set(STREAMS))
        if key not in both and partial and not taken & set(found.values()):
            both[key] = found if set(found) & set(STREAMS) else found | _others(key, found, listed)
            taken |= set(both[key].values())
    for (_, name), found in both.items():
        streams = {ending: path for ending, path in found.items() if ending not in SIDECARS}
        yield FeatureSet(name, streams, {ending: path for ending, path in found.items() if ending in SIDECARS})
    yield from (path for path in listed if path not in taken)


def _groups(files: Iterable[Path]) -> dict[tuple[Path, str], dict[str, Path]]:
    """Files by folder and name of the video, and by what they hold."""
    groups: dict[tuple[Path, str], dict[str, Path]] = {}
    for path in files:
        if path.parent.name in STREAMS:
            name = path.stem.removesuffix(f"_{path.parent.name}")
            groups.setdefault((path.parent.parent, name), {})[path.parent.name] = path
        for ending in (*STREAMS, *SIDECARS):
            name = path.stem.removesuffix(f"_{ending}")
            if name and name != path.stem and (ending in STREAMS or path.suffix == _NAMED):
                groups.setdefault((path.parent, name), {})[ending] = path
    return groups


def _others(key: tuple[Path, str], found: dict[str, Path], files: Iterable[Path]) -> dict[str, Path]:
    """Streams of other extractors by their names, such as ``NAME_resnet.npy``."""
    folder, name = key
    beside = [path for path in files if path.parent == folder and path.stem.startswith(f"{name}_")]
    return {path.stem.removeprefix(f"{name}_"): path for path in beside if path not in found.values()}
