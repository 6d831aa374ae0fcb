"""``tadkit inspect``: what a store of flow or features contains, how it was made, and what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from math import prod
from pathlib import Path
from typing import Any

from tadkit.extraction.quarantine import Quarantine
from tadkit.store import Kind
from tadkit.store.survey import StoreSurvey, TrackSurvey, VideoSurvey, survey_store

_DIGEST_CHARACTERS = 12
_MINUTE_S = 60.0


@dataclass(frozen=True)
class VideoSummary:
    """One video of a store; if it has a ``problem``, the fields that could still be read."""

    name: str
    source: str | None
    """File name of the video."""
    duration_s: float | None
    frames: int
    """Number of time stamps: frames (flow) or steps (features)."""
    clipped: float | None
    """Share of values, 0..1, beyond the bound; None if not measured."""
    bytes: int
    tracks: tuple[TrackSurvey, ...]
    other_settings: bool
    """Whether its settings differ from the store's latest; the next extraction recomputes it."""
    problem: str | None


@dataclass(frozen=True)
class StoreSummary:
    """A store, or one part of one; totals are over ``videos``."""

    path: Path
    kind: Kind
    version: int
    producer: str
    method: str | None
    """Flow method, or the start of the digest of the model that computed the features."""
    settings: Mapping[str, Any]
    labels: tuple[str, ...] | None
    size_hw: tuple[int, int] | None
    """(height, width) in pixels of the frames that were read."""
    rate_hz: float | None
    codes: tuple[str, ...]
    """How values are stored, such as ``int8, +-20 px``."""
    frames: int
    minutes: float
    bytes: int
    bytes_per_minute: float | None
    clipped: float | None
    """Share of all values beyond the bound."""
    videos: tuple[VideoSummary, ...]
    """Videos with a problem first, then the most clipped."""
    quarantined: Mapping[str, str]
    """Reason by name of the failed videos, from ``<store>.failed.json``."""
    unlinked: tuple[Path, ...]
    unfinished: tuple[Path, ...]

    @property
    def problems(self) -> list[str]:
        """Problems of the videos in the index."""
        return [f"'{video.name}': {video.problem}" for video in self.videos if video.problem is not None]


def inspect_store(path: Path, *, video: str | None = None) -> StoreSummary:
    """Summarise the store, or the single part of a store, at ``path``.

    Args:
        path: the ``.h5`` file, of flow or features.
        video: summarise only this one.

    Raises:
        StoreError: not a track store, damaged, of a newer version, without that video, or its list of failed videos
            cannot be read.
    """
    survey = survey_store(path, video=video)
    quarantined = Quarantine(path).reasons
    videos = tuple(sorted((_video(found, survey) for found in survey.videos), key=_worst_first))
    seconds = sum(video.duration_s or 0.0 for video in videos)
    # The index belongs to the store, not to one video.
    total_bytes = sum(video.bytes for video in videos) + (survey.index_bytes if video is None else 0)
    frames = _section(survey.settings, "video")
    return StoreSummary(
        path=path,
        kind=survey.kind,
        version=survey.version,
        producer=survey.producer,
        method=_method(survey.settings),
        settings=survey.settings,
        labels=survey.labels,
        size_hw=(frames["height_px"], frames["width_px"]) if {"height_px", "width_px"} <= frames.keys() else None,
        rate_hz=frames.get("rate_hz"),
        codes=_codes(survey),
        frames=sum(video.frames for video in videos),
        minutes=seconds / _MINUTE_S,
        bytes=total_bytes,
        bytes_per_minute=total_bytes / seconds * _MINUTE_S if seconds else None,
        clipped=_clipped(videos),
        videos=videos,
        quarantined={name: why for name, why in quarantined.items() if video in (None, name)},
        unlinked=survey.unlinked,
        unfinished=survey.unfinished,
    )


def _video(found: VideoSurvey, survey: StoreSurvey) -> VideoSummary:
    attributes = found.attributes or {}
    return VideoSummary(
        name=found.name,
        source=attributes.get("source"),
        duration_s=attributes.get("duration_s"),
        frames=found.stamps,
        clipped=attributes.get("clipped"),
        bytes=found.file_bytes,
        tracks=found.tracks,
        other_settings=found.settings is not None and found.settings != survey.settings,
        problem=found.problem,
    )


def _worst_first(video: VideoSummary) -> tuple[bool, float, str]:
    return video.problem is None, -(video.clipped or 0.0), video.name


def _section(settings: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """A section of the settings; in a teacher's store it is part of the model's settings."""
    model = settings.get("model")
    found = settings.get(name, model.get(name) if isinstance(model, dict) else None)
    return found if isinstance(found, dict) else {}


def _method(settings: Mapping[str, Any]) -> str | None:
    if settings.get("imported"):
        return "frozen nets" if "frozen" in settings else "imported"
    for role in ("teacher", "model"):
        if isinstance(settings.get(role), str):
            return f"{role} {settings[role][:_DIGEST_CHARACTERS]}"
    return _section(settings, "flow").get("method")


def _codes(survey: StoreSurvey) -> tuple[str, ...]:
    grey = _section(survey.settings, "flow").get("method") == "temporal-gradient"
    unit = "grey levels" if grey else "px"
    tracks = [track for video in survey.videos for track in video.tracks]
    codes = {f"{track.dtype}, +-{track.bound:g} {unit}" if track.bound is not None else track.dtype for track in tracks}
    return tuple(sorted(codes))


def _clipped(videos: tuple[VideoSummary, ...]) -> float | None:
    """Clipped values over all values, for the videos where clipping was measured."""
    measured = [(video.clipped, _values(video)) for video in videos if video.clipped is not None]
    total = sum(values for _, values in measured)
    return sum(share * values for share, values in measured) / total if total else None


def _values(video: VideoSummary) -> int:
    return sum(prod(track.shape) for track in video.tracks)


def summary_json(summary: StoreSummary) -> dict[str, Any]:
    """The summary as plain JSON values: names as in :class:`StoreSummary`, shares as fractions."""
    return asdict(summary) | {
        "path": str(summary.path),
        "unlinked": [str(path) for path in summary.unlinked],
        "unfinished": [str(path) for path in summary.unfinished],
    }
