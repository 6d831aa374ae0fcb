"""What the halves of synthetic features show, which is what they are for."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import pytest

from tadkit.config import MadeUpFeaturesSource
from tadkit.progress import Quiet
from tadkit.records import read_dataset
from tadkit.store import read_store
from tadkit.synth.tracks.rgb_and_flow import APPEARANCES, LABELS, MOTIONS, make_feature_track, write_feature_tracks

World = Literal["motion", "appearance"]
VIDEOS, EDGE = 150, 2


@cache
def steps_of(world: World, half: str, labels: tuple[str, ...]) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Three neighbouring steps of one half in the middle of each action, its label, and the number of its video."""
    settings, steps, found, videos = MadeUpFeaturesSource(world=world), [], [], []
    for number in range(VIDEOS):
        track = make_feature_track(number, settings)
        values = track.rgb if half == "rgb" else track.flow
        for (start, end), label in zip(track.segments, track.labels, strict=True):
            if LABELS[label] in labels:
                middle = range(int(start) + EDGE, int(end) - EDGE)
                steps += [values[at - 1 : at + 2] for at in middle]
                found += [labels.index(LABELS[label])] * len(middle)
                videos += [number] * len(middle)
    return np.array(steps), np.array(found), np.array(videos)


def accuracy(world: World, half: str, labels: tuple[str, ...], *, products: bool = False) -> float:
    """Share of steps in the last third of the videos whose class ridge regression on the others finds."""
    steps, found, videos = steps_of(world, half, labels)
    inputs = steps.reshape(len(steps), -1)
    if products:  # of each channel with each channel of the next step
        inputs = np.einsum("ni,nj->nij", steps[:, 1], steps[:, 2]).reshape(len(steps), -1)
    inputs = np.concatenate([inputs, np.ones((len(inputs), 1))], axis=1).astype(np.float64)
    fitted = videos < 2 * VIDEOS // 3
    x, y = inputs[fitted], np.eye(len(labels))[found[fitted]]
    weights = np.linalg.solve(x.T @ x + 10.0 * np.eye(x.shape[1]), x.T @ y)
    return float(np.mean((inputs[~fitted] @ weights).argmax(axis=1) == found[~fitted]))


def test_the_flow_half_shows_motions_and_no_appearances() -> None:
    assert accuracy("motion", "flow", MOTIONS) > 0.8
    assert accuracy("motion", "flow", APPEARANCES) < 0.6


def test_the_rgb_half_shows_appearances_to_a_linear_classifier_and_motions_only_to_products_of_steps() -> None:
    assert accuracy("motion", "rgb", APPEARANCES) > 0.9
    assert accuracy("motion", "rgb", MOTIONS) < 0.35  # of four, chance is 0.25
    assert accuracy("motion", "rgb", MOTIONS, products=True) > 0.5


def test_in_the_control_the_rgb_half_shows_everything() -> None:
    assert accuracy("appearance", "rgb", LABELS) > 0.9


def test_no_strength_hides_motions_from_rgb_altogether() -> None:
    shown, hidden = (make_feature_track(3, MadeUpFeaturesSource(strength=strength)) for strength in (1.0, 0.0))
    np.testing.assert_array_equal(shown.flow, hidden.flow)
    np.testing.assert_array_equal(shown.segments, hidden.segments)
    assert hidden.rgb.var() < shown.rgb.var() / 2


@pytest.fixture
def few() -> MadeUpFeaturesSource:
    return MadeUpFeaturesSource(training_videos=3, test_videos=2)


def test_store_and_annotations_are_those_of_the_tracks(few: MadeUpFeaturesSource, tmp_path: Path) -> None:
    annotations, store = write_feature_tracks(tmp_path, few, progress=Quiet())
    records = read_dataset(annotations).videos
    assert [record.subset for record in records.values()] == ["training"] * 3 + ["testing"] * 2
    with read_store(store, kind="features") as reader:
        for number, (name, record) in enumerate(records.items()):
            track = make_feature_track(number, few)
            np.testing.assert_array_equal(reader.read(name, "original/appearance"), track.rgb)
            np.testing.assert_array_equal(reader.features(name), np.concatenate([track.rgb, track.flow], axis=1))
            stamps_s, ends = reader.stamps_s(name), np.arange(len(track.rgb))
            exact = [(np.interp(a, ends, stamps_s), np.interp(b, ends, stamps_s)) for a, b in track.segments]
            noted = [(action.start_s, action.end_s) for action in record.annotations]
            difference = np.abs(np.array(exact) - np.array(noted)).max()
            assert difference < 1e-9 if record.subset == "testing" else 0.01 < difference < 1.0
            assert record.duration_s > stamps_s[-1]


def test_videos_are_made_again_only_for_other_settings(few: MadeUpFeaturesSource, tmp_path: Path) -> None:
    _, store = write_feature_tracks(tmp_path, few, progress=Quiet())

    def written() -> dict[str, int]:
        return {part.name: part.stat().st_mtime_ns for part in store.with_name("features.h5.parts").glob("[!.]*.h5")}

    first = written()
    write_feature_tracks(tmp_path, few.model_copy(update={"test_videos": 1}), progress=Quiet())
    assert written() == first
    write_feature_tracks(tmp_path, few.model_copy(update={"seed": 1}), progress=Quiet())
    assert all(written()[name] != at for name, at in first.items())
