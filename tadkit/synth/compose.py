"""Untrimmed streams composed of trimmed clips: actions of one subject in random order, with still gaps between."""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float32, UInt8
from numpy.typing import NDArray

from tadkit.config import ComposeSource
from tadkit.errors import AnnotationError, UsageError
from tadkit.files import digest_of_file
from tadkit.progress import Progress
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset
from tadkit.synth.dataset import Ledger
from tadkit.video.writer import write_video

Clip = UInt8[np.ndarray, "frames height width 3"]

_MAKER = 1
"""Increased whenever equal settings give different streams, so that old ones are made again."""
_ACTION_S = (1.5, 4.0)
_GAP_S = (1.0, 4.0)
_NOISE = 1.5


@dataclass(frozen=True, eq=False)
class Stream:
    """One composed video; frames are made on demand.

    Attributes:
        name: ``<subject>_<n>``.
        pieces: clips, and None for gaps, alternating; gaps come first and last.
        lengths_frames: length of each piece in frames.
        annotations: the actions in seconds.
        fps: frames per second.
        seed: seed of the noise.
    """

    name: str
    pieces: tuple[Clip | None, ...]
    lengths_frames: tuple[int, ...]
    annotations: tuple[Annotation, ...]
    fps: float
    seed: tuple[int, ...]

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return sum(self.lengths_frames) / self.fps

    def frames(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """The frames in order: clips, played to and fro if too short, and gaps that fade from one still to the next."""
        rng = np.random.default_rng(self.seed)
        for i, (clip, length) in enumerate(zip(self.pieces, self.lengths_frames, strict=True)):
            if clip is not None:
                yield from (_noisy(clip[k], rng) for k in _to_and_fro(len(clip), length))
                continue
            before, after = self._last_shown(i - 1), self._first_shown(i + 1)
            first, last = after if before is None else before, before if after is None else after
            assert first is not None
            assert last is not None
            for k in range(length):
                share = np.clip((k / max(length - 1, 1) - 0.25) / 0.5, 0, 1)
                yield _noisy(first * (1 - share) + last * share, rng)

    def _last_shown(self, i: int) -> NDArray[np.float64] | None:
        clip = self.pieces[i] if i >= 0 else None
        return None if clip is None else clip[_to_and_fro(len(clip), self.lengths_frames[i])[-1]].astype(np.float64)

    def _first_shown(self, i: int) -> NDArray[np.float64] | None:
        clip = self.pieces[i] if i < len(self.pieces) else None
        return None if clip is None else clip[0].astype(np.float64)


def compose_streams(settings: ComposeSource, clips_path: Path, folder: Path, *, progress: Progress) -> Path:
    """Write ``videos/<subject>_<n>.mp4`` and ``annotations.json`` and return the path of the latter.

    Every stream shows one subject, so that splitting by group (the name before the first ``_``) holds out whole
    subjects. An action lasts 1.5 to 4 s: a longer clip is cut, a shorter one is played to and fro. Gaps last 1 to 4 s
    and fade between the still pictures at their ends, without motion. A complete stream made from equal settings and
    clips is kept.

    Args:
        settings: number of streams and of actions, frame rate, seed.
        clips_path: ``.npz`` of uint8 clips (frames, height, width, 3) keyed ``<subject>_<action>_<take>``.
        folder: created if missing.
        progress: reports each stream.

    Raises:
        UsageError: ``clips_path`` is missing or not an ``.npz``, or the folder cannot be written to.
        AnnotationError: a key or a clip does not have that form.
    """
    subjects = read_clips(clips_path)
    source = digest_of_file(clips_path)
    ledger = Ledger(folder / "made.json")
    records: dict[str, VideoRecord] = {}
    progress.start("composed streams", total=settings.streams * len(subjects), unit="videos")
    for subject, clips in subjects.items():
        for n in range(settings.streams):
            stream = compose_stream(settings, subject, clips, n)
            path = folder / "videos" / f"{stream.name}.mp4"
            made_from = {"maker": _MAKER, "clips": source, "n": n, "actions": settings.actions}
            made_from |= {"fps": settings.fps, "seed": settings.seed}
            if not ledger.holds(path, made_from):
                write_video(path, stream.frames(), fps=stream.fps)
                ledger.add(path, made_from)
            records[stream.name] = VideoRecord(stream.name, stream.duration_s, "training", stream.annotations)
            progress.advance(note=stream.name)
    annotations = folder / "annotations.json"
    write_dataset(annotations, Dataset(records))
    return annotations


def read_clips(path: Path) -> dict[str, dict[str, list[Clip]]]:
    """Clips by subject and action, in order of their keys.

    Raises:
        UsageError: the file is missing or not an ``.npz``.
        AnnotationError: a key or a clip does not have the form described at :func:`compose_streams`.
    """
    subjects: dict[str, dict[str, list[Clip]]] = {}
    for key, clip in sorted(_read_arrays(path).items()):
        parts = key.split("_")
        if len(parts) < 2 or not all(parts[:2]):
            raise AnnotationError(f"{path}: clip '{key}' is not named <subject>_<action>_<take>; rename it")
        if clip.dtype != np.uint8 or clip.ndim != 4 or clip.shape[3] != 3 or len(clip) < 2:
            shape = "x".join(map(str, clip.shape))
            raise AnnotationError(
                f"{path}: clip '{key}' is {clip.dtype} {shape}; expected uint8 of 2 or more frames x height x width x 3"
            )
        action = "_".join(parts[1:-1]) or parts[1]
        subjects.setdefault(parts[0], {}).setdefault(action, []).append(clip)
        first = next(iter(subjects[parts[0]].values()))[0]
        if clip.shape[1:3] != first.shape[1:3]:
            raise AnnotationError(
                f"{path}: clip '{key}' differs in height or width from others of '{parts[0]}'; resize it"
            )
    if not subjects:
        raise AnnotationError(f"{path}: contains no clips; expected arrays named <subject>_<action>_<take>")
    return subjects


def _read_arrays(path: Path) -> Mapping[str, NDArray[np.uint8]]:
    try:
        with np.load(path, allow_pickle=False) as archive:
            return {key: archive[key] for key in archive.files}
    except FileNotFoundError as cause:
        raise UsageError(f"{path}: no such file; expected an .npz of clips") from cause
    except (OSError, ValueError, EOFError, AttributeError, TypeError, zipfile.BadZipFile) as cause:
        raise UsageError(f"{path}: not an .npz of clips; write one with numpy.savez") from cause


def compose_stream(settings: ComposeSource, subject: str, clips: Mapping[str, list[Clip]], n: int) -> Stream:
    """The ``n``-th stream of one subject: random actions, as evenly distributed as possible."""
    seed = (settings.seed, n, *subject.encode())
    rng = np.random.default_rng(seed)
    actions: list[str] = []
    while len(actions) < settings.actions:
        actions += [str(a) for a in rng.permutation(sorted(clips))]
    pieces: list[Clip | None] = []
    lengths: list[int] = []
    annotations: list[Annotation] = []

    def add(piece: Clip | None, span_s: tuple[float, float]) -> tuple[float, float]:
        start = sum(lengths)
        pieces.append(piece)
        lengths.append(round(float(rng.uniform(*span_s)) * settings.fps))
        return start / settings.fps, (start + lengths[-1]) / settings.fps

    add(None, _GAP_S)
    for action in actions[: settings.actions]:
        takes = clips[action]
        start_s, end_s = add(_cut(takes[int(rng.integers(len(takes)))], rng, settings.fps), _ACTION_S)
        annotations.append(Annotation(start_s, end_s, action))
        add(None, _GAP_S)
    return Stream(f"{subject}_{n}", tuple(pieces), tuple(lengths), tuple(annotations), settings.fps, seed)


def _cut(clip: Clip, rng: np.random.Generator, fps: float) -> Clip:
    """The clip from a random start that leaves at least the shortest action, if the clip is long enough."""
    spare = len(clip) - round(_ACTION_S[0] * fps)
    start = int(rng.integers(0, spare + 1)) if spare > 0 else 0
    return clip[start:]


def _to_and_fro(count: int, length: int) -> NDArray[np.int64]:
    """``length`` indices into ``count`` frames that reverse at either end, so that motion has no cut."""
    k = np.arange(length) % (2 * count - 2)
    return np.asarray(np.minimum(k, 2 * count - 2 - k), dtype=np.int64)


def _noisy(
    picture: NDArray[np.float64] | NDArray[np.uint8], rng: np.random.Generator
) -> UInt8[np.ndarray, "height width 3"]:
    """Camera noise, in clips and gaps alike, so that noise does not reveal which is which."""
    grain: Float32[np.ndarray, "height width 3"] = rng.standard_normal(picture.shape, dtype=np.float32) * _NOISE
    return np.asarray(np.clip(picture + grain + 0.5, 0, 255), dtype=np.uint8)
