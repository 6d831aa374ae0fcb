"""The windows that training reads, and their ground truth."""

from __future__ import annotations

import json
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import TrainSettings
from tadkit.errors import SettingsError
from tadkit.records import Annotation, VideoRecord
from tadkit.timeline import Timeline
from tadkit.training.windows import TrainingVideo, Window, WindowPlan, set_aside, training_video, window_truth


def video(frames: int, segments: list[tuple[float, float]] | None = None, *, name: str = "v") -> TrainingVideo:
    ends = np.array(segments or [], dtype=np.float64).reshape(-1, 2)
    return TrainingVideo(name, frames, ends, np.arange(len(ends), dtype=np.int64))


def plan_of(
    lengths: list[int], *, window: int = 16, align: int = 4, batch: int = 2, seed: int = 0, **chosen: object
) -> WindowPlan:
    train = TrainSettings.model_validate({"batch_windows": batch, "seed": seed, **chosen})
    return WindowPlan([video(n) for n in lengths], train, window_frames=window, align_frames=align)


LENGTHS = st.lists(st.integers(1, 100), min_size=1, max_size=6)


@given(lengths=LENGTHS, batch=st.integers(1, 4), seed=st.integers(0, 2**31 - 1), epoch=st.integers(0, 5))
@settings(max_examples=60)
def test_every_epoch_covers_every_video_by_aligned_windows(
    lengths: list[int], batch: int, seed: int, epoch: int
) -> None:
    plan = plan_of(lengths, batch=batch, seed=seed)
    first = epoch * plan.steps_per_epoch
    read = [w for step in range(first, first + plan.steps_per_epoch) for w in plan.windows(step)]
    assert len(read) == plan.steps_per_epoch * batch
    counts = Counter(window.video for window in set(read))
    for index, frames in enumerate(lengths):
        assert counts[index] >= 1
        assert sum(w.video == index for w in read) >= -(-frames // 16)  # as many as would tile it
    for window in read:
        frames = lengths[window.video]
        assert window.start % 4 == 0
        assert 0 <= window.start < window.stop <= frames
        assert window.stop == min(window.start + 16, frames)
        assert window.stop - window.start > min(16, frames) - 4  # no more padding than the alignment costs


@given(lengths=LENGTHS, seed=st.integers(0, 1000), order=st.permutations(list(range(7))))
@settings(max_examples=30)
def test_a_step_has_its_windows_in_whatever_order_steps_are_read(
    lengths: list[int], seed: int, order: list[int]
) -> None:
    forward = [plan_of(lengths, seed=seed).windows(step) for step in range(7)]
    plan = plan_of(lengths, seed=seed)
    found = {step: plan.windows(step) for step in order}
    assert [found[step] for step in range(7)] == forward


@pytest.mark.parametrize("case", json.loads((Path(__file__).parent / "golden" / "windows.json").read_text()))
def test_windows_of_a_seed_stay_what_they_were(case: dict[str, Any]) -> None:
    plan = plan_of(case["lengths"], window=case["window"], align=case["align"], **case["train"])
    drawn = [plan.windows(step) for step in range(len(case["steps"]))]
    assert all(window.colours == 0 for windows in drawn for window in windows)  # the setting came later; 0 is off
    found = [[[w.video, w.start, w.stop, w.view] for w in windows] for windows in drawn]
    assert found == case["steps"]


def test_threads_that_read_different_epochs_get_the_windows_of_their_steps() -> None:
    plan, again = plan_of([100, 7, 64] * 20), plan_of([100, 7, 64] * 20)
    steps = [epoch * plan.steps_per_epoch + step for step in range(20) for epoch in range(4)]
    with ThreadPoolExecutor(max_workers=4) as pool:
        found = list(pool.map(plan.windows, steps))
    assert found == [again.windows(step) for step in steps]


def test_an_epoch_is_planned_once(monkeypatch: pytest.MonkeyPatch) -> None:
    plan = plan_of([100, 90, 80])
    planned: list[int] = []
    draw = plan._plan
    monkeypatch.setattr(plan, "_plan", lambda number: planned.append(number) or draw(number))
    for step in range(2 * plan.steps_per_epoch):
        plan.windows(step)
    assert planned == [0, 1]


@given(count=st.integers(2, 40), share=st.floats(0.01, 0.99), seed=st.integers(0, 100))
def test_videos_set_aside_are_a_share_of_all_and_the_same_for_a_seed(count: int, share: float, seed: int) -> None:
    videos = [video(10, name=str(number)) for number in range(count)]
    train = TrainSettings(validate_every=1, validation_share=share, seed=seed)
    kept, aside = set_aside(videos, train)
    assert sorted([*kept, *aside], key=videos.index) == videos
    assert kept
    assert len(aside) == min(count - 1, max(1, round(share * count)))
    assert set_aside(videos, train) == (kept, aside)


def test_without_validation_no_video_is_set_aside() -> None:
    videos = [video(10), video(20)]
    assert set_aside(videos, TrainSettings()) == (videos, [])


def test_another_seed_sets_other_videos_aside() -> None:
    videos = [video(10, name=str(number)) for number in range(40)]
    names = {
        tuple(v.name for v in set_aside(videos, TrainSettings(validate_every=1, seed=seed))[1]) for seed in range(5)
    }
    assert len(names) > 1


def test_one_video_cannot_be_split() -> None:
    with pytest.raises(SettingsError, match="validate_every: needs two training videos"):
        set_aside([video(10)], TrainSettings(validate_every=1))


def test_epochs_and_seeds_differ() -> None:
    plan = plan_of([100, 90, 80])
    size = plan.steps_per_epoch

    def epoch(plan: WindowPlan, number: int) -> list[list[Window]]:
        return [plan.windows(number * size + step) for step in range(size)]

    assert epoch(plan, 0) != epoch(plan, 1)
    assert epoch(plan, 0) != epoch(plan_of([100, 90, 80], seed=1), 0)


def test_views_are_drawn_from_the_settings_alone() -> None:
    chosen = ("mirror", "turn180")
    plan = plan_of([100] * 4, views=chosen)
    views = Counter(w.view for step in range(4 * plan.steps_per_epoch) for w in plan.windows(step))
    assert views.keys() == set(chosen)
    assert min(views.values()) > 0.25 * sum(views.values())


def test_windows_of_a_long_video_reach_its_beginning_and_its_end() -> None:
    plan = plan_of([64])
    read = [w for step in range(40 * plan.steps_per_epoch) for w in plan.windows(step)]
    assert min(w.start for w in read) == 0
    assert max(w.stop for w in read) == 64
    assert {w.start for w in read} == set(range(0, 49, 4))


@pytest.mark.parametrize(
    ("segment", "expected"),
    [
        ((12.0, 15.0), (2.0, 5.0)),  # inside: moved
        ((9.0, 13.0), (-0.5, 3.0)),  # more than half left: cut at the first edge
        ((15.0, 19.0), (5.0, 7.5)),  # more than half left: cut at the last edge
        ((6.0, 11.0), None),  # less than half left
        ((4.0, 8.0), None),  # before
        ((19.0, 25.0), None),  # after
        ((0.0, 14.0), (-0.5, 4.0)),  # less than half left, but it fills half of the window
        ((0.0, 40.0), (-0.5, 7.5)),  # all of the window
        ((12.0, 12.0), None),  # no length
    ],
)
def test_truth_of_a_window_of_eight_steps_from_step_ten(
    segment: tuple[float, float], expected: tuple[float, float] | None
) -> None:
    segments, labels = window_truth(video(100, [segment]), Window(0, 20, 36, "original"), stride=2)
    assert segments.tolist() == ([] if expected is None else [list(expected)])
    assert labels.tolist() == ([] if expected is None else [0])


def test_labels_stay_with_their_segments() -> None:
    many = video(100, [(0, 3), (11, 14), (30, 33), (15, 17)])
    segments, labels = window_truth(many, Window(0, 20, 36, "original"), stride=2)
    assert segments.tolist() == [[1, 4], [5, 7]]
    assert labels.tolist() == [1, 3]


def test_a_short_window_ends_with_its_last_step() -> None:
    segments, _ = window_truth(video(25, [(10.0, 14.0)]), Window(0, 20, 25, "original"), stride=2)
    assert segments.tolist() == [[0.0, 2.5]]  # three steps, the last one of one frame


def test_annotations_land_on_feature_steps_by_stamp() -> None:
    annotations = (Annotation(1.0, 3.0, "b"), Annotation(0.0, 9.0, "unknown"), Annotation(2.0, 4.0, "a"))
    record = VideoRecord("v", 10.0, "training", annotations)
    stamps = Timeline(np.arange(20, dtype=np.float64) * 0.5)
    found = training_video(record, stamps, labels=("a", "b"), stride=2)
    assert found.name == "v"
    assert found.frames == 20
    assert found.labels.tolist() == [1, 0]
    # Step k averages stamps k and k + 0.5 s, so its centre is at k + 0.25 s.
    np.testing.assert_allclose(found.segments, [[0.75, 2.75], [1.75, 3.75]])


def test_a_video_without_annotations_trains_as_background() -> None:
    record = VideoRecord("v", 10.0, "training", ())
    found = training_video(record, Timeline(np.arange(5.0)), labels=("a",), stride=2)
    assert found.segments.shape == (0, 2)
    segments, labels = window_truth(found, Window(0, 0, 5, "original"), stride=2)
    assert segments.shape == (0, 2)
    assert labels.shape == (0,)


@given(lengths=LENGTHS, others=LENGTHS, batch=st.integers(1, 3), count=st.integers(1, 5))
@settings(max_examples=40)
def test_unlabelled_windows_come_on_top_of_the_same_labelled_ones(
    lengths: list[int], others: list[int], batch: int, count: int
) -> None:
    without, added = plan_of(lengths, batch=batch), plan_of(others, batch=count, seed=5)
    train = TrainSettings(batch_windows=batch)
    labelled = [video(n) for n in lengths]
    plan = WindowPlan(labelled, train, window_frames=16, align_frames=4, unlabelled=added)
    assert plan.steps_per_epoch == without.steps_per_epoch
    assert [video.frames for video in plan.videos] == [*lengths, *others]
    read: set[int] = set()
    for step in range(added.steps_per_epoch):
        windows = plan.windows(step)
        assert windows[:batch] == plan.labelled_windows(step) == without.windows(step)
        assert [w._replace(video=w.video - len(lengths)) for w in windows[batch:]] == added.windows(step)
        read |= {window.video for window in windows[batch:]}
    assert read == set(range(len(lengths), len(plan.videos)))  # all unlabelled videos in an epoch of their own


def test_no_unlabelled_video_is_validated_on() -> None:
    train = TrainSettings(validate_every=1, validation_share=0.5)
    plan = WindowPlan([video(20)] * 4, train, window_frames=16, align_frames=4, unlabelled=plan_of([30, 30]))
    assert plan.validation is not None
    assert [video.frames for video in plan.validation.videos] == [20, 20]
    assert [video.frames for video in plan.videos] == [20, 20, 30, 30]
