"""``tadkit inspect --preview``: frames beside their flow in colour, as a video or a still picture."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Float64

from tadkit.errors import StoreError, UsageError, VideoError
from tadkit.files import whole_file
from tadkit.flow.codec import read_flow
from tadkit.flow.panels import Panels, encoded
from tadkit.progress import Progress
from tadkit.report.inspect import StoreSummary, inspect_store
from tadkit.store import TrackReader, read_store
from tadkit.timeline import Timeline
from tadkit.video import SampledVideo, open_video, write_video
from tadkit.video.digests import source_digest

MOVING = (".mp4", ".mov", ".mkv")
STILL = (".jpg", ".jpeg", ".png")
FULL_SHARE = 0.99
"""Quantile of the motion shown that gets the full colour by default."""
LEAST_FULL_PX = 0.5
"""Smallest default for the full colour: where nothing moves, noise stays pale."""

_BIN_PX = 0.01
_BINS = 100_000
_CHUNK_BYTES = 1 << 24
_STAMP_TOLERANCE_S = 1e-6
_QUALITY_CRF = 18


class PreviewResult(NamedTuple):
    """What was written."""

    out: Path
    video: str
    pairs: int
    """Frame pairs shown; 1 for a still."""
    full_px: float | None
    """Motion shown in full colour; None for the temporal gradient."""
    source: Path | None
    """Source of the frames; None if the preview shows flow alone."""


@dataclass(frozen=True)
class _Shown:
    """The frame pairs ``start`` to ``stop`` (half open) of one video, read a few at a time."""

    reader: TrackReader
    video: str
    stamps_s: Float64[np.ndarray, " frames"]
    start: int
    stop: int

    def chunks(self) -> Iterator[tuple[int, Float[np.ndarray, "pairs channels height width"]]]:
        """The first pair and the motion of each chunk."""
        pair = read_flow(self.reader, self.video, self.start, self.start + 1)
        step = max(1, min(64, _CHUNK_BYTES // pair.nbytes))
        for start in range(self.start, self.stop, step):
            yield start, read_flow(self.reader, self.video, start, min(start + step, self.stop))


def write_preview(
    store: Path,
    video: str | None,
    out: Path,
    *,
    source: Path | None = None,
    seconds: tuple[float | None, float | None] = (None, None),
    full_px: float | None = None,
    progress: Progress,
) -> PreviewResult:
    """Show a video's frames beside its flow, with the colour wheel, in constant memory.

    A still shows the pair with the most motion. Without the original video, flow is shown alone, with a warning.

    Args:
        store: a store of flow, or one part of it.
        video: its name; None if the store has only one.
        out: ``.mp4``, ``.mov`` or ``.mkv``; or ``.jpg`` or ``.png`` for a still.
        source: the original video; by default it is searched for by name (:func:`source_folders`).
        seconds: from and to (half open); None is the video's own start or end.
        full_px: motion shown in full colour, in pixels; by default the 99th percentile of the motion shown.
        progress: reports frame pairs.

    Raises:
        UsageError: unknown file format, seconds outside the video, or no name given for one of several videos.
        StoreError: not a store of flow, an empty one, no such video, or a video without flow.
        VideoError: ``source`` is not the video that the flow was computed from.
    """
    if out.suffix.lower() not in (*MOVING, *STILL):
        raise UsageError(f"{out}: unknown preview format; name it {', '.join(MOVING)} (video) or .jpg, .png (still)")
    with ExitStack() as opened:
        reader = opened.enter_context(read_store(store, kind="flow"))
        name = _chosen(reader, video)
        shown = _shown(reader, name, seconds)
        original = _original(reader, name, source, progress)
        if original is not None and out.resolve() == original.resolve():
            raise UsageError(f"{out}: is the original video; name another file for the preview")
        scale_px, busiest = _scale(shown, full_px)
        if out.suffix.lower() in STILL:
            shown = _Shown(reader, name, shown.stamps_s, busiest, busiest + 1)
            scale_px, _ = _scale(shown, full_px)
        panels = _panels(inspect_store(store, video=name), shown, scale_px, with_frame=original is not None)
        frames = None if original is None else opened.enter_context(_frames_at(original, shown.stamps_s, panels))
        progress.start("preview", total=shown.stop - shown.start, unit="pairs")
        _write(out, _pictures(shown, panels, frames, progress), shown)
    return PreviewResult(out, name, shown.stop - shown.start, scale_px, original)


def parse_seconds(text: str) -> tuple[float | None, float | None]:
    """Start and end of ``A:B``, ``A:`` or ``:B``, in seconds.

    Raises:
        UsageError: any other text.
    """
    parts = text.split(":")
    try:
        if len(parts) != 2:
            raise ValueError(text)
        start, stop = (float(part) if part.strip() else None for part in parts)
        if not all(math.isfinite(value) for value in (start, stop) if value is not None):
            raise ValueError(text)
    except ValueError as error:
        raise UsageError(f"'{text}' is not a range of seconds; expected A:B, such as 12.5:20, 12: or :20") from error
    return start, stop


def _chosen(reader: TrackReader, video: str | None) -> str:
    names = reader.videos()
    if not names:
        raise StoreError(f"{reader.path}: has no videos to show; add some with: tadkit extract-flow")
    if video is None and len(names) > 1:
        some = ", ".join(f"'{name}'" for name in names[:3])
        raise UsageError(f"{reader.path}: has {len(names)} videos ({some}, ...); choose one with --video NAME")
    return names[0] if video is None else video


def _shown(reader: TrackReader, name: str, seconds: tuple[float | None, float | None]) -> _Shown:
    stamps_s = reader.stamps_s(name)
    pairs = reader.length(name, "motion")
    if pairs == 0:
        raise StoreError(f"{reader.path}: '{name}' has a single frame and therefore no flow; choose another video")
    length_s = float(reader.attributes(name).get("duration_s", stamps_s[-1]))
    start_s, stop_s = seconds[0] or 0.0, length_s if seconds[1] is None else seconds[1]
    requested = f"seconds {start_s:g} to {stop_s:g}"
    if not 0 <= start_s < stop_s <= length_s + _STAMP_TOLERANCE_S:
        raise UsageError(f"{requested} of '{name}': out of range; the video lasts {length_s:.6g} s")
    start, stop = np.searchsorted(stamps_s[:pairs], np.array([start_s, stop_s]) - _STAMP_TOLERANCE_S).tolist()
    if start == stop:
        step_s = Timeline(stamps_s).step_s
        raise UsageError(f"{requested} of '{name}': no flow starts there; frames are {step_s:.3g} s apart")
    return _Shown(reader, name, stamps_s, start, stop)


def source_folders(store: Path) -> list[Path]:
    """Where a store's videos are searched: beside it, in its run folder, in the current folder and its examples."""
    beside = store.absolute().parent
    if beside.suffix == ".parts":
        beside = beside.parent
    return [beside, *sorted(beside.glob("data/*/videos")), Path(), Path("examples")]


def _original(reader: TrackReader, name: str, source: Path | None, progress: Progress) -> Path | None:
    """The video that the flow was computed from, identified by its digest; None, with a warning, if not found."""
    attributes = reader.attributes(name)
    digest, file_name = attributes.get("source_sha256"), str(attributes.get("source", name))
    if source is not None:
        if source_digest(source) != digest:
            raise VideoError(
                f"{source}: not the source of '{name}' in {reader.path} (SHA-256 differs); name the original "
                f"'{file_name}', or extract this video's flow with: tadkit extract-flow"
            )
        return source
    candidates = [folder / file_name for folder in source_folders(reader.path)]
    present = [path for path in candidates if path.is_file()]
    same = next((path for path in present if source_digest(path) == digest), None)
    if same is None:
        found = f"{present[0]} is a different video" if present else f"'{file_name}' was not found"
        progress.warn(f"{found}; the preview shows flow alone. Give the original with --source")
    return same


def _scale(shown: _Shown, full_px: float | None) -> tuple[float | None, int]:
    """The full scale (None for the temporal gradient), and the pair with the largest mean motion."""
    channels = shown.reader.channels(shown.video, "motion")
    if channels != 2 and full_px is not None:
        raise UsageError(f"a full scale of {full_px:g} px: '{shown.video}' has no flow, only the temporal gradient")
    counts = np.zeros(_BINS, dtype=np.int64)
    means: list[float] = []
    for _, motion in shown.chunks():
        size = np.sqrt(np.square(motion).sum(axis=1))
        means += size.mean(axis=(1, 2)).tolist()
        bins = np.minimum(size / _BIN_PX, _BINS - 1).astype(np.int64)
        counts += np.bincount(bins.ravel(), minlength=_BINS)
    busiest = shown.start + int(np.argmax(means))
    if channels != 2:
        return None, busiest
    if full_px is not None:
        return full_px, busiest
    past = np.searchsorted(np.cumsum(counts), FULL_SHARE * counts.sum())
    return max(LEAST_FULL_PX, float(past + 1) * _BIN_PX), busiest


def _panels(summary: StoreSummary, shown: _Shown, full_px: float | None, *, with_frame: bool) -> Panels:
    _, _, height, width = read_flow(shown.reader, shown.video, shown.start, shown.start + 1).shape
    notes = [summary.method or "flow", f"{width} x {height} px"]
    if summary.rate_hz is not None:
        notes.append(f"{summary.rate_hz:g} frames a second")
    if full_px is None:
        notes.append("grey: no change")
    return Panels((height, width), full_px, tuple(notes), with_frame)


def _frames_at(path: Path, stamps_s: Float64[np.ndarray, " frames"], panels: Panels) -> SampledVideo:
    """The video's frames on screen at ``stamps_s``, decoded at the size of the panels."""
    reader = open_video(path, size_hw=panels.panel_hw)
    # The first sample is the first frame; stores of version 0.1.0 counted from it, not from the start of the sound.
    counted_s = stamps_s - stamps_s[0] + reader.stamps_s[0]
    at = np.searchsorted(reader.stamps_s, counted_s + _STAMP_TOLERANCE_S, side="right") - 1
    return SampledVideo(reader, np.maximum(at, 0))


def _pictures(shown: _Shown, panels: Panels, frames: SampledVideo | None, progress: Progress) -> Iterator[np.ndarray]:
    for start, motion in shown.chunks():
        for k, field in enumerate(motion, start=start):
            frame = None if frames is None else frames.frames(k, k + 1)[0]
            yield panels.picture(field, frame=frame, caption=f"{shown.video}   {shown.stamps_s[k]:.2f} s")
            progress.advance()


def _write(out: Path, pictures: Iterator[np.ndarray], shown: _Shown) -> None:
    if out.suffix.lower() in STILL:
        with whole_file(out) as temporary:
            temporary.write_bytes(encoded(next(pictures), out.suffix.lower()))
        return
    stamps_s: Sequence[float] = (shown.stamps_s[shown.start : shown.stop] - shown.stamps_s[shown.start]).tolist()
    rate_hz = 1.0 / Timeline(shown.stamps_s).step_s
    write_video(out, pictures, fps=rate_hz, crf=_QUALITY_CRF, stamps_s=stamps_s)
