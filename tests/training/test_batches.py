"""Batches from real stores and real videos: frames, flow and teacher outputs of a step belong together."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from tadkit.config import ActionFormerSettings, TemporalShiftSettings, TrainSettings, VideoSettings, View
from tadkit.errors import StoreError, VideoError
from tadkit.extraction.teacher_outputs import teacher_outputs
from tadkit.flow import encode
from tadkit.flow.codec import read_flow, read_stacks
from tadkit.models.backbones import TemporalShiftBackbone
from tadkit.models.teacher import Teacher
from tadkit.store import TrackReader, open_store, read_store
from tadkit.store.streams import FeatureStream
from tadkit.training.batches import FeatureBatches, FlowBatches, FrameBatches, StreamBatches, pad_time
from tadkit.training.caches import FrameCache, PrefixCache
from tadkit.training.windows import TrainingVideo, WindowPlan
from tadkit.video import write_video
from tadkit.views import view_flow

SIZE, SIDE, BOUND = 64, 12, 8.0
LENGTHS = {"long": 37, "short": 10, "still": 1}
SETTINGS = VideoSettings(rate_hz=10.0, height_px=SIZE, width_px=SIZE)
STRIDE, WINDOW, ALIGN, LEVELS = 2, 16, 8, 3
STRIDES = tuple(2**level for level in range(LEVELS))


def centres(name: str) -> np.ndarray:
    """Centre (x, y) of the square in each frame; no two steps are alike."""
    count = LENGTHS[name]
    steps = np.random.default_rng(count).integers(-3, 4, size=(count, 2))
    position, path = np.array([24, 20]), []
    for step in steps:
        path.append(position)
        after = position + step
        position = np.where((after < 10) | (after > 38), position - step, after)
    return np.array(path, dtype=np.float64)


def pictures(name: str) -> Iterator[np.ndarray]:
    for x, y in centres(name).astype(int):
        picture = np.zeros((SIZE, SIZE, 3), dtype=np.uint8)
        picture[y - SIDE // 2 : y + SIDE // 2, x - SIDE // 2 : x + SIDE // 2] = 255
        yield picture


def true_flow(name: str) -> np.ndarray:
    """Flow (frames - 1, 2, height, width): the square's displacement inside it, zero around it."""
    path = centres(name)
    flow = np.zeros((max(0, len(path) - 1), 2, SIZE, SIZE), dtype=np.float32)
    for k, (here, there) in enumerate(pairwise(path)):
        x, y = here.astype(int)
        inside = np.s_[y - SIDE // 2 : y + SIDE // 2, x - SIDE // 2 : x + SIDE // 2]
        for axis in range(2):
            flow[(k, axis, *inside)] = (there - here)[axis]
    return flow


@dataclass(frozen=True)
class World:
    """Videos and stores."""

    folder: Path
    paths: dict[str, Path]
    flow: TrackReader
    teacher: TrackReader
    features: TrackReader
    videos: list[TrainingVideo]


def _teacher_outputs(name: str, view: View) -> dict[str, np.ndarray]:
    """Tracks whose value is the step that they stand for."""
    steps, sign = -(-LENGTHS[name] // STRIDE), 1 if view == "original" else -1
    tracks = {"feature": np.repeat(sign * np.arange(1, steps + 1)[:, None], 4, axis=1)}
    for level in range(LEVELS):
        at = sign * np.arange(1, steps + 1)[:: 2**level, None]
        tracks |= {f"logits_{level}": np.repeat(at, 3, axis=1), f"offsets_{level}": np.repeat(100 + at, 2, axis=1)}
    return {track: values.astype(np.float16) for track, values in tracks.items()}


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Three videos of a moving square, its flow, and tracks on the steps of two frames."""
    folder = tmp_path_factory.mktemp("world")
    paths = {name: folder / f"{name}.mp4" for name in LENGTHS}
    with (
        open_store(folder / "flow.h5", kind="flow", settings={}) as flow,
        open_store(folder / "teacher.h5", kind="features", settings={}) as teacher,
        open_store(folder / "features.h5", kind="features", settings={}) as features,
    ):
        for name, count in LENGTHS.items():
            write_video(paths[name], pictures(name), fps=10, crf=1)
            stamps_s = np.arange(count) / 10
            with flow.video(name, key="k", stamps_s=stamps_s, attributes={}) as entry:
                entry.append("motion", encode(true_flow(name), BOUND).values, bound=BOUND)
            for store in (teacher, features):
                with store.video(name, key="k", stamps_s=stamps_s[::STRIDE], attributes={}) as entry:
                    for view in ("original", "mirror"):
                        tracks = _teacher_outputs(name, view)
                        if store is features:
                            tracks = {"motion": tracks["feature"], "appearance": 2 * tracks["feature"]}
                        for track, values in tracks.items():
                            entry.append(f"{view}/{track}", values)
    videos = [TrainingVideo(name, n, np.zeros((0, 2)), np.zeros(0, dtype=np.int64)) for name, n in LENGTHS.items()]
    with (
        read_store(folder / "flow.h5", kind="flow") as flow_reader,
        read_store(folder / "teacher.h5", kind="features") as teacher_reader,
        read_store(folder / "features.h5", kind="features") as feature_reader,
    ):
        yield World(folder, paths, flow_reader, teacher_reader, feature_reader, videos)


def plan_of(world: World, *views: View, batch: int = 3) -> WindowPlan:
    train = TrainSettings(views=views or ("original",), batch_windows=batch)
    return WindowPlan(world.videos, train, window_frames=WINDOW, align_frames=ALIGN)


def frame_batches(world: World, plan: WindowPlan, *, limit_bytes: int = 1 << 24) -> FrameBatches:
    return FrameBatches(
        plan,
        stride=STRIDE,
        cache=FrameCache(SETTINGS, limit_bytes=limit_bytes),
        paths=world.paths,
        teacher_outputs=world.teacher,
        strides=STRIDES,
    )


def centre_of(weight: Tensor) -> tuple[float, float]:
    """Centre of mass (x, y) of a picture (height, width)."""
    y, x = torch.meshgrid(torch.arange(SIZE), torch.arange(SIZE), indexing="ij")
    weight = (weight > 128).float()
    return float((x * weight).sum() / weight.sum()), float((y * weight).sum() / weight.sum())


@pytest.mark.parametrize("view", ["original", "mirror", "flip", "turn90", "antitranspose"])
def test_flow_leads_from_each_frame_to_the_next_in_every_view(world: World, view: View) -> None:
    plan = plan_of(world, view)
    frames_of, flow_of = frame_batches(world, plan), FlowBatches(plan, stride=STRIDE, flow=world.flow)
    checked = 0
    for step in range(plan.steps_per_epoch):
        flows = flow_of.batch(step)
        for number, window in enumerate(plan.windows(step)):
            frames = frames_of.inputs(world.videos[window.video], window)["frames"]
            for k in range(window.stop - window.start - 1):
                here, there = (centre_of(frames[i].float().mean(dim=-1)) for i in (k, k + 1))
                u, v = flows.inputs["flow"][number, k, :, round(here[1]), round(here[0])].tolist()
                assert (here[0] + u, here[1] + v) == pytest.approx(there, abs=0.3)
                checked += 1
    assert checked > 30


def test_the_first_real_frame_of_a_window_is_its_start(world: World) -> None:
    plan = plan_of(world)
    batches = frame_batches(world, plan)
    for window in plan.windows(0):
        name = world.videos[window.video].name
        frames = batches.inputs(world.videos[window.video], window)["frames"]
        assert frames.dtype == torch.uint8
        assert frames.shape == (WINDOW, SIZE, SIZE, 3)
        for k in range(window.stop - window.start):
            expected = centres(name)[window.start + k] - 0.5  # an even square lies half a pixel up and left
            assert centre_of(frames[k].float().mean(dim=-1)) == pytest.approx(tuple(expected), abs=0.2)


def test_frames_are_the_same_from_memory_and_decoded_again(world: World) -> None:
    plan = plan_of(world, "original", "mirror")
    kept, decoded = frame_batches(world, plan), frame_batches(world, plan, limit_bytes=0)
    for step in range(plan.steps_per_epoch):
        for window in plan.windows(step):
            video = world.videos[window.video]
            assert torch.equal(kept.inputs(video, window)["frames"], decoded.inputs(video, window)["frames"])
    assert decoded.cache.videos == {}
    assert kept.cache.free_bytes == (1 << 24) - sum(LENGTHS.values()) * SIZE * SIZE * 3


def test_the_cache_keeps_to_its_limit_and_is_not_written_to(world: World) -> None:
    limit = LENGTHS["short"] * SIZE * SIZE * 3
    cache = FrameCache(SETTINGS, limit_bytes=limit)
    first = cache.read(world.paths["long"], 3, 9)
    assert cache.free_bytes == limit
    cache.read(world.paths["short"], 0, 4)
    assert cache.free_bytes == 0
    assert np.array_equal(cache.read(world.paths["long"], 3, 9), first)


def test_a_missing_video_is_an_error(world: World) -> None:
    with pytest.raises(VideoError):
        FrameCache(SETTINGS, limit_bytes=0).read(world.folder / "none.mp4", 0, 1)


@pytest.mark.parametrize(("start", "stop"), [(0, 37), (0, 5), (30, 37), (36, 37), (35, 36)])
def test_the_last_frame_repeats_the_flow_before_it(world: World, start: int, stop: int) -> None:
    expected = true_flow("long")
    expected = np.concatenate([expected, expected[-1:]])[start:stop]
    np.testing.assert_allclose(read_flow(world.flow, "long", start, stop), expected, atol=BOUND / 254 + 1e-6)


def test_a_video_of_one_frame_has_zero_flow(world: World) -> None:
    flow = read_flow(world.flow, "still", 0, 1)
    assert flow.shape == (1, 2, SIZE, SIZE)
    assert not flow.any()


def test_batches_are_padded_with_zeros_where_the_mask_is_false(world: World) -> None:
    plan = plan_of(world)
    for batches, name in (
        (frame_batches(world, plan), "frames"),
        (FlowBatches(plan, stride=2, flow=world.flow), "flow"),
    ):
        for step in range(plan.steps_per_epoch):
            batch = batches.batch(step)
            assert batch.inputs[name].shape[:2] == batch.mask.shape == (3, WINDOW)
            lengths = [window.stop - window.start for window in plan.windows(step)]
            assert batch.mask.sum(dim=1).tolist() == lengths
            assert not batch.inputs[name][~batch.mask].any()


@pytest.mark.parametrize("view", ["original", "mirror"])
def test_teacher_slices_of_every_level_line_up_with_the_window(world: World, view: View) -> None:
    plan = plan_of(world, view)
    batches, sign = frame_batches(world, plan), 1 if view == "original" else -1
    starts = set()
    for step in range(4 * plan.steps_per_epoch):
        batch = batches.batch(step)
        assert batch.teacher is not None
        feature, predictions = batch.teacher.feature, batch.teacher.predictions
        assert feature.shape == (3, 4, WINDOW // STRIDE)
        for number, window in enumerate(plan.windows(step)):
            starts.add(window.start)
            first, last = window.start // STRIDE, -(-window.stop // STRIDE)
            real = torch.arange(first + 1, last + 1) * sign
            assert feature[number, 0, : last - first].tolist() == real.tolist()
            assert not feature[number, :, last - first :].any()
            for level in range(LEVELS):
                at = real[:: 2**level]
                assert predictions.masks[level].shape == (3, WINDOW // STRIDE // 2**level)
                assert predictions.masks[level][number].sum() == len(at)
                assert predictions.logits[level][number, : len(at), 0].tolist() == at.tolist()
                assert predictions.offsets[level][number, : len(at), 1].tolist() == (100 + at).tolist()
    assert len(starts) > 2


def kept_batches(world: World, limit_bytes: int, **train: object) -> FrameBatches:
    """Batches of activations of a net whose first two blocks are frozen."""
    torch.manual_seed(0)
    settings = TemporalShiftSettings(name="tiny", pretrained=False, frozen_blocks=2, shift_blocks=1)
    net = TemporalShiftBackbone(settings, in_channels=3, pretrained=False).train()
    plan = WindowPlan(
        world.videos,
        TrainSettings.model_validate({"views": ("original", "mirror"), "batch_windows": 3, **train}),
        window_frames=WINDOW,
        align_frames=ALIGN,
    )
    batches = frame_batches(world, plan, limit_bytes=limit_bytes)
    batches.prefix = PrefixCache(net, batches.cache)
    return batches


FRAMES_BYTES, ROOM_BYTES = sum(LENGTHS.values()) * SIZE * SIZE * 3, 1 << 26


@pytest.mark.parametrize("limit", [0, FRAMES_BYTES, FRAMES_BYTES + 10 * 16 * 16 * 32 * 4])
def test_activations_are_the_same_to_the_bit_whatever_is_kept(world: World, limit: int) -> None:
    expected, found = (kept_batches(world, size, colour_variants=2) for size in (ROOM_BYTES, limit))
    for step in (2, 0, 2):
        ours, theirs = (batches.batch(step).inputs["activations"] for batches in (found, expected))
        assert torch.equal(ours, theirs)
    for batches, size in ((expected, ROOM_BYTES), (found, limit)):
        kept = sum(x.nbytes for x in batches.prefix.chunks.values())
        assert kept + sum(x.nbytes for x in batches.cache.videos.values()) == size - batches.cache.free_bytes <= size
    assert len(found.prefix.chunks) < len(expected.prefix.chunks)


def test_activations_without_jitter_are_those_of_the_frames(world: World) -> None:
    batches = kept_batches(world, ROOM_BYTES, colour_jitter=0.0, colour_variants=3)
    step = batches.batch(1)
    plain = frame_batches(world, batches.plan).batch(1)
    net = batches.prefix.backbone
    torch.testing.assert_close(
        net.suffix(step.inputs["activations"], step.mask), net(plain.inputs["frames"], step.mask)
    )


def test_windows_have_the_colours_of_one_of_the_variants(world: World) -> None:
    several = kept_batches(world, ROOM_BYTES, colour_variants=2, views=("original",))
    seen = {window.colours for step in range(20) for window in several.plan.windows(step)}
    assert seen == {0, 1}
    window = several.plan.windows(0)[0]._replace(video=0, start=0, stop=16)
    video = several.plan.videos[0]
    colours = [several.inputs(video, window._replace(colours=n))["activations"] for n in (0, 1, 0)]
    assert torch.equal(colours[0], colours[2])
    assert not torch.equal(colours[0], colours[1])
    drawn_anew = kept_batches(world, ROOM_BYTES)
    assert drawn_anew.batch(0).inputs.keys() == {"frames"}


def test_validation_reads_kept_activations_without_jitter(world: World) -> None:
    batches = kept_batches(world, ROOM_BYTES, validate_every=1, validation_share=0.4)
    aside = batches.validation
    assert aside is not None
    first = aside.batch(0).inputs["activations"]
    kept = dict(aside.prefix.chunks)
    assert kept
    assert torch.equal(aside.batch(0).inputs["activations"], first)
    assert aside.prefix.chunks == kept


def test_without_teacher_there_are_no_targets(world: World) -> None:
    plan = plan_of(world)
    cache = FrameCache(SETTINGS, limit_bytes=0)
    batches = FrameBatches(plan, stride=STRIDE, cache=cache, paths=world.paths, teacher_outputs=None, strides=STRIDES)
    assert batches.teacher(plan.windows(0)) is None


@pytest.mark.parametrize("tracks", [("motion", "appearance"), ("appearance",)])
def test_feature_windows_are_channels_by_steps(world: World, tracks: tuple[str, ...]) -> None:
    steps = [TrainingVideo(v.name, -(-v.frames // STRIDE), v.segments, v.labels) for v in world.videos]
    train = TrainSettings(views=("mirror",), batch_windows=2)
    plan = WindowPlan(steps, train, window_frames=8, align_frames=4)
    batches = FeatureBatches(plan, features=world.features, tracks=tracks)
    for step in range(plan.steps_per_epoch):
        batch = batches.batch(step)
        assert batch.inputs.keys() == set(tracks)
        for number, window in enumerate(plan.windows(step)):
            real = window.stop - window.start
            assert batch.mask[number].tolist() == [True] * real + [False] * (8 - real)
            expected = [-2 * (window.start + 1 + k) for k in range(real)] + [0] * (8 - real)
            assert batch.inputs["appearance"].shape == (2, 4, 8)
            assert batch.inputs["appearance"][number, 3].tolist() == expected


@pytest.mark.parametrize("stack", [1, 2, 3, 10])
@pytest.mark.parametrize("view", ["original", "mirror", "turn90"])
def test_a_stack_has_the_flows_around_its_frame_repeated_at_the_ends(world: World, stack: int, view: View) -> None:
    for name, frames in LENGTHS.items():
        single = view_flow(read_flow(world.flow, name, 0, frames), view)
        stacks = read_stacks(world.flow, name, 0, frames, view=view, stack=stack)
        assert stacks.shape == (frames, 2 * stack, SIZE, SIZE)
        for k in range(frames):
            around = [min(max(k - stack // 2 + i, 0), frames - 1) for i in range(stack)]
            np.testing.assert_array_equal(stacks[k].numpy(), np.concatenate([single[j] for j in around]))
        for start in range(0, frames, 4):  # what a window reads does not depend on where it is cut
            stop = min(start + 7, frames)
            part = read_stacks(world.flow, name, start, stop, view=view, stack=stack)
            assert torch.equal(part, stacks[start:stop])


@torch.no_grad()
def test_a_teacher_reads_the_same_stacks_in_training_and_when_its_features_are_stored(world: World) -> None:
    torch.manual_seed(0)
    head = ActionFormerSettings(dim=16, levels=2, attention_heads=2)
    backbone = TemporalShiftSettings(name="tiny", stride=STRIDE, pretrained=False)
    sizes = {"dim": 8, "motion_channels": 2, "num_classes": 2, "pretrained": False}
    teacher = Teacher(backbone=backbone, head=head, stack=5, **sizes).eval()
    train = TrainSettings(views=("mirror",), batch_windows=2)
    plan = WindowPlan(world.videos, train, window_frames=32, align_frames=ALIGN)
    batches = FlowBatches(plan, stride=STRIDE, flow=world.flow, stack=teacher.stack)
    stored = teacher_outputs(world.flow, "long", LENGTHS["long"], model=teacher, view="mirror")["feature"]
    checked, halo = 0, (teacher.halo_frames - teacher.stack // 2) // STRIDE + 1
    for step in range(plan.steps_per_epoch):
        batch = batches.batch(step)
        features = teacher.features(batch.inputs["flow"], batch.mask)
        for number, window in enumerate(plan.windows(step)):
            if world.videos[window.video].name == "long":
                first, last = window.start // STRIDE + halo, window.stop // STRIDE - halo
                inside = features[number, :, halo : halo + last - first].T.numpy()
                np.testing.assert_allclose(inside, stored[first:last], atol=2e-3)
                checked += max(last - first, 0)
    assert checked >= 6


def test_validation_batches_are_of_the_videos_set_aside_in_the_original_view(world: World) -> None:
    train = TrainSettings(views=("mirror",), batch_windows=2, validate_every=1, validation_share=0.34)
    plan = WindowPlan(world.videos, train, window_frames=WINDOW, align_frames=ALIGN)
    batches = FlowBatches(plan, stride=STRIDE, flow=world.flow)
    aside = batches.validation
    assert aside is not None
    assert aside.validation is None
    trained, validated = ({video.name for video in it.plan.videos} for it in (batches, aside))
    assert trained | validated == LENGTHS.keys()
    assert not trained & validated
    assert len(validated) == 1
    windows = [window for step in range(aside.steps_per_epoch) for window in aside.plan.windows(step)]
    assert {window.view for window in windows} == {"original"}
    assert aside.batch(0).inputs["flow"].shape == (2, WINDOW, 2, SIZE, SIZE)
    assert {window.view for window in plan.windows(0)} == {"mirror"}


def test_without_validation_there_are_no_validation_batches(world: World) -> None:
    assert FlowBatches(plan_of(world), stride=STRIDE, flow=world.flow).validation is None


@pytest.mark.parametrize("limit", [0, 300, 1 << 20])
def test_stored_tracks_are_the_same_from_memory_and_read_again(world: World, limit: int) -> None:
    steps = {name: -(-count // STRIDE) for name, count in LENGTHS.items()}
    videos = [TrainingVideo(name, n, np.zeros((0, 2)), np.zeros(0, dtype=np.int64)) for name, n in steps.items()]
    plan = WindowPlan(videos, TrainSettings(views=("original",), batch_windows=3), window_frames=8, align_frames=4)

    def batches(limit: int) -> StreamBatches:
        return StreamBatches(
            plan,
            stream=FeatureStream(world.features, "appearance"),
            name="frames",
            teacher_outputs=world.teacher,
            strides=STRIDES,
            cache_bytes=limit,
        )

    kept, read = batches(limit), batches(0)
    for step in (0, 1, 2, 1, 0):
        one, other = kept.batch(step), read.batch(step)
        assert torch.equal(one.inputs["frames"], other.inputs["frames"])
        assert one.teacher is not None
        assert other.teacher is not None
        assert torch.equal(one.teacher.feature, other.teacher.feature)
        torch.testing.assert_close(one.teacher.predictions, other.teacher.predictions, rtol=0, atol=0)
    cache = kept.track_cache
    assert sum(track.nbytes for track in cache.tracks.values()) == limit - cache.free_bytes <= limit
    assert bool(cache.tracks) == (limit > 0)
    with pytest.raises(StoreError, match="requested 0 to 1000"):
        cache.read(world.teacher.read, "long", "original/feature", start=0, stop=1000)


def test_a_batch_does_not_depend_on_the_order_of_requests(world: World) -> None:
    plan = plan_of(world, "original", "mirror")
    once, again = frame_batches(world, plan), frame_batches(world, plan)
    later = [again.batch(step) for step in (3, 1, 0)][-1]
    assert torch.equal(once.batch(0).inputs["frames"], later.inputs["frames"])


def test_truth_is_of_the_window(world: World) -> None:
    segments, labels = np.array([[1.0, 3.0], [9.0, 12.0]]), np.array([0, 1])
    videos = [TrainingVideo("long", LENGTHS["long"], segments, labels)]
    plan = WindowPlan(
        videos, TrainSettings(views=("original",), batch_windows=1), window_frames=WINDOW, align_frames=ALIGN
    )
    batches = FlowBatches(plan, stride=STRIDE, flow=world.flow)
    for step in range(3 * plan.steps_per_epoch):
        (window,) = plan.windows(step)
        truth = batches.batch(step).truth
        assert truth.segments[0].dtype == torch.float32
        for segment, label in zip(truth.segments[0].tolist(), truth.labels[0].tolist(), strict=True):
            moved = [end + window.start / STRIDE for end in segment]
            if segment[0] >= 0 and segment[1] < WINDOW / STRIDE - 0.5:
                assert moved == segments[label].tolist()


def test_padding_adds_zeros_and_never_cuts() -> None:
    x = torch.ones(3, 2)
    assert pad_time(x, 3) is x
    assert pad_time(x, 5).tolist() == [[1, 1]] * 3 + [[0, 0]] * 2
    with pytest.raises(AssertionError):
        pad_time(x, 2)


def test_a_batch_has_the_labelled_windows_that_it_has_without_unlabelled_videos_and_the_teacher_of_all(
    world: World,
) -> None:
    train = TrainSettings(views=("original", "mirror"), batch_windows=2)
    labelled, other = [TrainingVideo("long", 37, np.array([[1.0, 4.0]]), np.array([1]))], world.videos[1:2]

    def plan(unlabelled: WindowPlan | None) -> WindowPlan:
        return WindowPlan(labelled, train, window_frames=WINDOW, align_frames=ALIGN, unlabelled=unlabelled)

    added = WindowPlan(other, train, window_frames=WINDOW, align_frames=ALIGN)
    without, mixed = frame_batches(world, plan(None)), frame_batches(world, plan(added))
    for step in range(4):
        alone, both = without.batch(step), mixed.batch(step)
        assert len(alone.truth) == len(alone.mask) == len(both.truth) == 2
        assert len(both.mask) == 4
        assert torch.equal(both.inputs["frames"][:2], alone.inputs["frames"])
        assert torch.equal(both.mask[:2], alone.mask)
        assert all(torch.equal(a, b) for a, b in zip(both.truth.segments, alone.truth.segments, strict=True))
        assert both.teacher is not None
        assert alone.teacher is not None
        assert torch.equal(both.teacher.feature[:2], alone.teacher.feature)
        steps = LENGTHS["short"] // STRIDE
        assert torch.equal(both.teacher.feature[2:, 0, :steps].abs(), torch.arange(1.0, steps + 1).expand(2, -1))
