"""Synthetic RGB and flow features with exactly known actions: can a teacher of motion help a student of RGB, and when?

Two worlds. In both, six things move through a video, each with an angle that turns by a velocity at every step. The
velocities wander; an action that is a motion holds one of two of them at a value: *push* and *pull* turn the first
thing forward and backward, *open* and *close* the second. An action that is an appearance (*box*, *ball*) changes no
velocity.

- The **flow half** of a step shows the velocities of all things, through a random linear map, with noise. It shows
  nothing of the appearances.
- The **RGB half** shows, through another such map, with noise: the scene, which is constant in a video; a code of the
  appearance that is there; and the cosine and sine of every angle, times ``strength``.

So RGB shows *where* things are, and flow *how they move*, as in videos. A motion is in the RGB half, but only as the
difference between neighbouring steps of an angle that starts anywhere: the angle alone says nothing, so no linear
function of any number of steps has another mean during a push than during a pull, and products of neighbouring steps
(or a few convolutions with rectifiers) are needed. Labels say so only where actions are, about the
two things that matter; features of a teacher that reads flow say it at every step.

- The world ``motion`` is as above.
- The world ``appearance`` is the control: the RGB half shows a code of *every* action, so that there is nothing that a
  teacher of motion could add.

The ends of the training videos' actions are noisy, with a standard deviation of one step, as people annotate; those of
the test videos are exact. Nothing here was chosen by which method wins.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float32, Float64, Int64

from tadkit.config import MadeUpFeaturesSource
from tadkit.files import digest_of
from tadkit.progress import Progress
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset
from tadkit.store import open_store
from tadkit.synth.tracks.one_stream import draw_segments
from tadkit.timeline import Timeline

APPEARANCES, MOTIONS = ("box", "ball"), ("push", "pull", "open", "close")
LABELS = (*APPEARANCES, *MOTIONS)
"""Classes of the actions; each action has one, all alike often."""

_MAKER = 2
"""Increased whenever the same settings give other features, so that old ones are made again."""
_CHANNELS = 32
"""Of each half."""
_THINGS = 6
_SHORTEST, _LONGEST = 60, 120
_STEP_S, _FIRST_S = 4 / 30, 7.5 / 30
"""Time of a step and of the first one: I3D's, of 16 frames every 4 frames at 30 frames a second."""
_WANDER, _MEMORY = 0.5, 0.8
"""Standard deviation of the velocities, in radians a step, and their correlation from step to step."""
_HELD = 1.2
"""Velocity of a motion."""
_SCENE = 0.3
"""Standard deviation of the scene in each channel."""
_NOISE = 0.5
"""Standard deviation of the noise in each channel; what a map shows has a length of about 1 a dimension."""
_END_NOISE = 1.0
_MAPS_SEED = 20231
"""The maps and codes are the same in every data set: another seed draws other videos of the same world."""


class MadeUpTrack(NamedTuple):
    """Features of one synthetic video and its actions.

    Attributes:
        rgb: (steps, channels).
        flow: (steps, channels).
        segments: (actions, 2), start and end as fractional positions, in order; they do not overlap.
        labels: (actions,), index in ``LABELS``.
    """

    rgb: Float32[np.ndarray, "steps channels"]
    flow: Float32[np.ndarray, "steps channels"]
    segments: Float64[np.ndarray, "actions 2"]
    labels: Int64[np.ndarray, " actions"]


def make_feature_track(number: int, settings: MadeUpFeaturesSource) -> MadeUpTrack:
    """Features and exact actions of video ``number`` of a data set."""
    random = np.random.default_rng((settings.seed, number))
    steps = int(random.integers(_SHORTEST, _LONGEST + 1))
    segments = draw_segments(random, steps)
    labels = random.integers(0, len(LABELS), len(segments))
    covered = _covered(steps, segments, labels)
    velocities = _velocities(random, covered[:, len(APPEARANCES) :])
    angles = random.uniform(0, 2 * np.pi, _THINGS) + np.cumsum(velocities, axis=0)
    maps = _maps()
    shown = LABELS if settings.world == "appearance" else APPEARANCES
    rgb = covered[:, : len(shown)] @ maps.codes[: len(shown)] + random.normal(0, _SCENE, _CHANNELS)
    rgb += settings.strength * np.concatenate([np.cos(angles), np.sin(angles)], axis=1) @ maps.angles
    halves = (rgb, velocities @ maps.velocities)
    noisy = [half + random.normal(0, _NOISE, half.shape) for half in halves]
    return MadeUpTrack(noisy[0].astype(np.float32), noisy[1].astype(np.float32), segments, labels.astype(np.int64))


def _covered(
    steps: int, segments: Float64[np.ndarray, "actions 2"], labels: Int64[np.ndarray, " actions"]
) -> Float64[np.ndarray, "steps labels"]:
    """Share of each step that an action of each label covers."""
    step, covered = np.arange(steps), np.zeros((steps, len(LABELS)))
    for (start, end), label in zip(segments, labels, strict=True):
        covered[:, label] += np.clip(np.minimum(end, step + 0.5) - np.maximum(start, step - 0.5), 0, 1)
    return covered


def _velocities(
    random: np.random.Generator, motions: Float64[np.ndarray, "steps motions"]
) -> Float64[np.ndarray, "steps things"]:
    """Velocities that wander, and are held where a motion is."""
    kicks = random.normal(0, _WANDER * np.sqrt(1 - _MEMORY**2), (len(motions), _THINGS))
    velocities = np.empty_like(kicks)
    now = random.normal(0, _WANDER, _THINGS)
    for step, kick in enumerate(kicks):
        now = _MEMORY * now + kick
        velocities[step] = now
    for thing in range(len(MOTIONS) // 2):
        forward, backward = motions[:, 2 * thing], motions[:, 2 * thing + 1]
        velocities[:, thing] = (1 - forward - backward) * velocities[:, thing] + _HELD * (forward - backward)
    return velocities


class _Maps(NamedTuple):
    """What the halves show things through: (dimensions, channels), rows of length 1 a channel on average."""

    angles: Float64[np.ndarray, "angles channels"]
    velocities: Float64[np.ndarray, "things channels"]
    codes: Float64[np.ndarray, "labels channels"]


def _maps() -> _Maps:
    random = np.random.default_rng(_MAPS_SEED)
    return _Maps(*(random.normal(0, 1, (rows, _CHANNELS)) for rows in (2 * _THINGS, _THINGS, len(LABELS))))


def write_feature_tracks(folder: Path, settings: MadeUpFeaturesSource, *, progress: Progress) -> tuple[Path, Path]:
    """Write ``annotations.json`` (subsets ``training`` and ``testing``) and the store ``features.h5``.

    RGB is the track ``original/appearance`` and flow ``original/motion``, as of imported features. Complete videos made
    from equal settings are kept.

    Args:
        folder: created if missing.
        settings: the world, how many videos, and the seed.
        progress: reports each video.

    Returns:
        Paths of annotations and store.
    """
    total = settings.training_videos + settings.test_videos
    subsets = ["training" if number < settings.training_videos else "testing" for number in range(total)]
    store_path, records = _write_tracks(folder, settings, subsets, progress)
    write_dataset(folder / "annotations.json", Dataset(records))
    return folder / "annotations.json", store_path


def write_unlabelled_tracks(
    folder: Path, settings: MadeUpFeaturesSource, *, progress: Progress
) -> tuple[tuple[str, ...], Path]:
    """Add the training videos of a source without labels to the store that :func:`write_feature_tracks` wrote.

    Args:
        folder: that of the labelled source.
        settings: of the unlabelled source, with a seed of its own.
        progress: reports each video.

    Returns:
        Names of the videos, which say the seed, and path of the store.
    """
    subset = f"unlabelled-{settings.seed}"
    store_path, records = _write_tracks(folder, settings, [subset] * settings.training_videos, progress)
    return tuple(records), store_path


def _write_tracks(
    folder: Path, settings: MadeUpFeaturesSource, subsets: Sequence[str], progress: Progress
) -> tuple[Path, dict[str, VideoRecord]]:
    """Write a video of each subset, named by subset and number; returns the store and the annotations."""
    folder.mkdir(parents=True, exist_ok=True)
    store_path = folder / "features.h5"
    records: dict[str, VideoRecord] = {}
    progress.start("synthetic features", total=len(subsets), unit="videos")
    described = {"imported": True, "track": "original/appearance", "made_up": settings.world}
    with open_store(store_path, kind="features", settings=described) as store:
        for number, subset in enumerate(subsets):
            name, track = f"{subset}_{number:05d}", make_feature_track(number, settings)
            records[name] = _record(name, subset, track, number, settings)
            made_from = settings.model_dump(mode="json", include={"world", "strength", "seed"})
            key = digest_of({"made_up": made_from, "number": number, "maker": _MAKER})
            if not store.has(name, key):
                attributes: dict[str, str | float | bool] = {
                    "source": "made up",
                    "source_sha256": key,
                    "duration_s": records[name].duration_s,
                }
                stamps_s = _FIRST_S + _STEP_S * np.arange(len(track.rgb))
                with store.parts.video(name, key=key, stamps_s=stamps_s, attributes=attributes) as entry:
                    entry.append("original/appearance", track.rgb)
                    entry.append("original/motion", track.flow)
            progress.advance(note=name)
        store.link(*records)
    return store_path, records


def _record(name: str, subset: str, track: MadeUpTrack, number: int, settings: MadeUpFeaturesSource) -> VideoRecord:
    """Annotations of a video, with noise at the ends of actions of training videos."""
    steps = len(track.rgb)
    ends = track.segments
    if subset == "training":
        noise = np.random.default_rng((settings.seed, number, 1)).normal(0, _END_NOISE, ends.shape)
        ends = np.sort(np.clip(ends + noise, 0, steps - 1), axis=1)
    timeline = Timeline(_FIRST_S + _STEP_S * np.arange(steps))
    actions = tuple(
        Annotation(float(start_s), float(end_s), LABELS[label])
        for (start_s, end_s), label in zip(timeline.seconds(ends), track.labels, strict=True)
    )
    return VideoRecord(name, float(timeline.centres_s[-1] + _FIRST_S), subset, actions)
