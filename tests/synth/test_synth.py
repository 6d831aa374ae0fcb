"""Synthetic videos keep their promises: repeatable, plausible, and with the flow that they state."""

import itertools
import json
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.config import SynthSource
from tadkit.errors import UsageError
from tadkit.progress import Quiet
from tadkit.records import read_dataset
from tadkit.synth import ACTIONS, make_video, write_dataset
from tadkit.synth.phases import DURATIONS_S, MANY_FALLS_S

SMALL = (96, 128)
CAMERAS = ("side", "above")


@pytest.mark.parametrize("camera", CAMERAS)
def test_equal_arguments_give_equal_videos_and_another_seed_another(camera):
    a, b, c = (make_video(seed=s, duration_s=12, camera=camera, size_hw=SMALL) for s in (5, 5, 6))
    assert a.annotations == b.annotations != c.annotations
    for k in (0, 150):
        np.testing.assert_array_equal(a.frame(k), b.frame(k))
        assert np.abs(a.frame(k).astype(int) - c.frame(k)).mean() > 5
    np.testing.assert_array_equal(next(a.frames()), a.frame(0))


@pytest.mark.parametrize("camera", CAMERAS)
def test_videos_of_one_look_differ_in_what_people_do_alone(camera):
    def made(seed, look):
        return make_video(seed=seed, duration_s=12, camera=camera, size_hw=SMALL, look=look, camera_noise=False)

    one, other, elsewhere = made(5, 7), made(6, 7), made(5, 8)
    assert one.room == other.room != elsewhere.room
    assert one.phases != other.phases
    (a, b, c) = (video._renderer for video in (one, other, elsewhere))
    np.testing.assert_array_equal(a._picture, b._picture)
    np.testing.assert_array_equal(a._camera.rotation, b._camera.rotation)
    np.testing.assert_array_equal(a._clothes.first, b._clothes.first)
    assert np.abs(a._picture - c._picture).mean() > 5
    own = make_video(seed=7, duration_s=12, camera=camera, size_hw=SMALL)
    assert own.room != one.room, "a look is no video's own"


def test_videos_of_a_dataset_take_looks_in_turn_and_say_their_subset(tmp_path):
    small = {"duration_s": 5, "fps": 5.0, "height_px": 48, "width_px": 64, "camera": "above"}
    source = SynthSource(count=3, looks=2, subset="testing", seed=20, **small)
    dataset = read_dataset(write_dataset(tmp_path, source, progress=Quiet()))
    assert {record.subset for record in dataset.videos.values()} == {"testing"}
    files = sorted((tmp_path / "videos").iterdir())
    assert [_frame_count(file) for file in files] == [25] * 3
    first, second, third = (_first_frame(file) for file in files)
    assert np.abs(first - third).mean() < 0.5 * np.abs(first - second).mean()


@given(st.integers(0, 10**6), st.floats(5, 120), st.sampled_from(CAMERAS), st.booleans())
@settings(max_examples=60, deadline=None)
def test_stories_are_plausible(seed, duration_s, camera, many_falls):
    video = make_video(seed=seed, duration_s=duration_s, camera=camera, size_hw=SMALL, many_falls=many_falls)
    posture, clock_s = "stand", 0.0
    for phase in video.phases:
        assert phase.start_s == clock_s
        clock_s = phase.end_s
        if phase.kind == "standup":
            assert posture in ("sit", "lie")
        if phase.kind in ("walk", "sitdown", "bend", "jump"):
            assert posture == "stand"
        posture = phase.posture
    assert clock_s == pytest.approx(video.duration_s)
    for a in video.annotations:
        low_s, high_s = (DURATIONS_S | (MANY_FALLS_S if many_falls else {}))[a.label]
        assert 0 <= a.start_s < a.end_s <= video.duration_s
        assert low_s - 1e-9 <= a.end_s - a.start_s <= high_s + 1e-9


def test_every_action_happens_and_only_those_asked_for():
    labels = [{a.label for a in make_video(seed=s, duration_s=120, camera="above").annotations} for s in range(8)]
    assert set.union(*labels) == set(ACTIONS)
    few = make_video(seed=3, duration_s=120, camera="side", actions=["sitdown", "standup", "wave"])
    assert {a.label for a in few.annotations} == {"sitdown", "standup", "wave"}


def test_with_many_falls_some_come_from_the_edge_of_the_picture_and_end_in_its_middle():
    from_edge = []
    for seed in range(200, 212):
        video = make_video(seed=seed, duration_s=45, camera="above", many_falls=True)
        for before, phase in itertools.pairwise(video.phases):
            if phase.kind == "falling" and not video.room.on_stage(before.place.x_m, before.place.y_m):
                from_edge.append(video.room.on_stage(phase.rest.x_m, phase.rest.y_m))
    assert len(from_edge) >= 3
    assert all(from_edge)


@pytest.mark.parametrize("actions", [["swim"], [], ["walk", "falling"], ["standup"]])
def test_impossible_actions_are_refused(actions):
    with pytest.raises(UsageError):
        make_video(seed=0, duration_s=10, camera="side", actions=actions)


@pytest.mark.parametrize("camera", CAMERAS)
def test_flow_takes_each_frame_to_the_next(camera):
    better, moved, error, still = 0, 0, 0.0, 0.0
    for seed in (1, 2, 4):
        video = make_video(seed=seed, duration_s=20, camera=camera, size_hw=(120, 160), camera_noise=False)
        for k in range(20, 480, 25):
            flow, now, then = video.flow(k), video.frame(k).astype(np.float32), video.frame(k + 1)
            y, x = np.mgrid[:120, :160].astype(np.float32)
            warped = cv2.remap(then, x + flow[0], y + flow[1], cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
            at = np.abs(flow).max(0) > 1.0
            if at.sum() > 60:
                with_flow, without = np.abs(warped - now)[at].mean(), np.abs(then - now)[at].mean()
                moved, better = moved + 1, better + (with_flow < without)
                error, still = error + with_flow, still + without
    assert moved >= 10
    assert better >= 0.85 * moved
    assert error < 0.6 * still


def test_flow_of_the_room_is_zero_and_of_a_limb_is_its_projection():
    video = make_video(seed=2, duration_s=15, camera="side", size_hw=SMALL)
    draw = video._renderer
    k = next(round(25 * a.start_s) + 30 for a in video.annotations if a.label == "walk")
    limb, depth = draw._cast(k)
    flow = video.flow(k)
    assert not flow[:, limb < 0].any()
    y, x = (int(v[0]) for v in np.nonzero(limb == 1))
    point = draw._camera.position_m + draw._rays[y, x].astype(float) * depth[y, x]
    now, then = ((draw._limbs.rotation[i][1], draw._limbs.start_m[i][1]) for i in (k, k + 1))
    pixel, _ = draw._camera.project(then[0] @ now[0].T @ (point - now[1]) + then[1])
    np.testing.assert_allclose(flow[:, y, x], pixel - (x, y), atol=1e-3)


@pytest.mark.parametrize("camera", CAMERAS)
def test_limbs_keep_their_axes_at_right_angles_and_the_body_stays_on_the_floor(camera):
    video = make_video(seed=9, duration_s=60, camera=camera, size_hw=SMALL)
    limbs = video._renderer._limbs
    product = np.einsum("tlji,tljk->tlik", limbs.rotation, limbs.rotation)
    np.testing.assert_allclose(product, np.broadcast_to(np.eye(3), product.shape), atol=1e-6)
    assert limbs.start_m[..., 2].min() > -0.1
    step_m = np.linalg.norm(np.diff(limbs.start_m, axis=0), axis=-1)
    assert np.quantile(step_m.max(-1), 0.99) < 0.3, "limbs jump from one frame to the next"


def test_dataset_is_whole_resumable_and_read_back(tmp_path):
    source = SynthSource(count=2, duration_s=5, camera="both", seed=40, height_px=SMALL[0], width_px=SMALL[1])
    progress = Quiet()
    path = write_dataset(tmp_path, source, progress=progress)
    dataset = read_dataset(path)
    assert list(dataset.videos) == ["synth_above_000040", "synth_side_000041"]
    files = sorted((tmp_path / "videos").iterdir())
    assert [_frame_count(f) for f in files] == [125, 125]
    record = dataset.videos["synth_above_000040"]
    assert record.subset == "training"
    assert record.annotations == make_video(seed=40, duration_s=5, camera="above", size_hw=SMALL).annotations
    stamps = [f.stat().st_mtime_ns for f in files]
    files[1].unlink()
    write_dataset(tmp_path, source, progress=progress)
    assert files[0].stat().st_mtime_ns == stamps[0]
    assert _frame_count(files[1]) == 125
    write_dataset(tmp_path, source.model_copy(update={"width_px": 96}), progress=progress)
    assert files[0].stat().st_mtime_ns != stamps[0]


def test_damaged_ledger_is_refused(tmp_path):
    (tmp_path / "made.json").write_text(json.dumps([1]))
    with pytest.raises(UsageError, match=r"made\.json"):
        write_dataset(tmp_path, SynthSource(count=1, duration_s=5), progress=Quiet())


def _first_frame(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return next(container.decode(video=0)).to_ndarray(format="rgb24").astype(float)


def _frame_count(path: Path) -> int:
    with av.open(str(path)) as container:
        return sum(1 for _ in itertools.chain(container.decode(video=0)))
