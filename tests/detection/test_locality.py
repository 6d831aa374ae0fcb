"""What is found at a moment depends on a bounded stretch of video around it, whose length the detector states.

So two videos joined give what they give apart, away from the seam, and the last minutes of three hours give what the
first ones give. A grid of steps and windows begins with each track; videos are joined here at a multiple of it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
import torch
from jaxtyping import Float

from tadkit.config import (
    ActionFormerSettings,
    BmnSettings,
    DecodeSettings,
    FusionSettings,
    HeadSettings,
    TadtrSettings,
    TagsSettings,
    TemporalMaxerSettings,
    TriDetSettings,
    VideoSettings,
)
from tadkit.detection.detect import Detector, detections_in_branches, load_detector
from tadkit.detection.tail import CORE_STEPS, Track, detections_in_features, reach_s
from tadkit.extraction.branch_features import BranchFeatures, branch_features
from tadkit.models.fusion import JointHead
from tadkit.records import Annotation, Detection, read_dataset
from tadkit.timeline import Timeline
from tadkit.video import open_sampled, write_video

CHANNELS, STEPS, WINDOW = 6, 320, 16
DECODING = DecodeSettings(min_score=0.05, keep=20, top_candidates=60, stretch_s=20.0)
PYRAMID: dict[str, Any] = {"dim": 16, "levels": 3, "prior_probability": 0.5}
WHOLE: dict[str, Any] = {"window_steps": 32, "prior_probability": 0.5}
HEADS: dict[str, HeadSettings] = {
    "actionformer": ActionFormerSettings(**PYRAMID, attention_heads=2, attention_window=5),
    "actionformer, attention to all": ActionFormerSettings(**PYRAMID, attention_heads=2, attention_windows=(5, 0, 0)),
    "actionformer, positions": ActionFormerSettings(**PYRAMID, attention_heads=2, absolute_positions=True),
    "actionformer, convolutions": ActionFormerSettings(**PYRAMID, blocks="conv", neck="fpn"),
    "tridet": TriDetSettings(**PYRAMID, bins=4),
    "temporal-maxer": TemporalMaxerSettings(**PYRAMID),
    "temporal-maxer, group norm": TemporalMaxerSettings(**PYRAMID, neck_groups=4),
    "temporal-maxer, padded": TemporalMaxerSettings(**PYRAMID, pad_to_steps=16, padding="leaky"),
    "tadtr": TadtrSettings(
        **WHOLE, dim=16, queries=8, mlp_dim=16, encoder_layers=1, decoder_layers=1, norm_groups=2, attention_heads=2
    ),
    "bmn": BmnSettings(**WHOLE, dim=8, map_dim=4, roi_dim=4, durations=12, samples=4, graph_layers=1, score="iou"),
    "tags": TagsSettings(**WHOLE, dim=16, layers=1, reach_steps=8, attention_heads=2),
}
ATTENTION = {"cross-attention": {"attention_heads": 2}}
SLOW = ("positions", "convolutions", "group norm", "padded")
FUSED = ("temporal-maxer + late", "temporal-maxer + cross-attention", "tadtr + late", "tridet + late", "tags + sum")
SLOW_FUSED = FUSED[2:]
KINDS = [
    pytest.param(kind, marks=pytest.mark.slow if kind.endswith(SLOW) or kind in SLOW_FUSED else ())
    for kind in (*HEADS, *FUSED)
]
"""A head with local attentive fusion, or head + fusion."""


def joint_head(kind: str) -> JointHead:
    """Fusion and head with random weights, that finds plenty."""
    torch.manual_seed(3)
    head, _, fusion = kind.partition(" + ")
    joint = JointHead(
        fusion=FusionSettings.model_validate({"kind": fusion or "local-attentive", **ATTENTION.get(fusion, {})}),
        head=HEADS[head],
        dim=CHANNELS,
        num_classes=2,
        two_branches=True,
        trained_steps=WINDOW,
    )
    with torch.no_grad():  # fresh norms and biases are all alike; no place could be told from another
        for parameter in joint.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    return joint.eval()


def branches(steps: int, *, seed: int) -> Float[torch.Tensor, "2 channels steps"]:
    return torch.randn(2, CHANNELS, steps, generator=torch.Generator().manual_seed(seed))


@torch.no_grad()
def found_in(
    joint: JointHead, track: torch.Tensor, *, core_steps: int = CORE_STEPS, decoding: DecodeSettings = DECODING
) -> np.ndarray:
    """Start, end, class and score of each detection in branch features of one step a second."""
    steps = track.shape[2]
    fused = joint.fused(track[:1], track[1:], torch.ones(1, steps, dtype=torch.bool))
    where = Track("v", Timeline(np.arange(steps) + 0.5), float(steps))
    found = detections_in_features(
        joint.head, fused, where, labels=("0", "1"), decoding=decoding, core_steps=core_steps
    )
    return rows_of(found, ("0", "1"))


def rows_of(found: list[Detection], labels: tuple[str, ...]) -> np.ndarray:
    return np.array([(d.start_s, d.end_s, labels.index(d.label), d.score) for d in found]).reshape(-1, 4)


def away(rows: np.ndarray, first: float, last: float) -> np.ndarray:
    """Detections between two moments, by start, end and class."""
    inside = rows[(rows[:, 0] >= first) & (rows[:, 1] <= last)].round(6)
    return inside[np.lexsort(inside.T[::-1])]


def later(rows: np.ndarray, seconds: float) -> np.ndarray:
    """The same detections, so much later."""
    return rows + np.array([seconds, seconds, 0, 0])


def assert_same(ours: np.ndarray, theirs: np.ndarray, *, least: int = 10) -> None:
    assert len(ours) >= least
    np.testing.assert_allclose(ours, theirs, rtol=0, atol=1e-4)


@pytest.mark.parametrize("kind", KINDS)
def test_videos_joined_give_what_they_give_apart_away_from_the_seam(kind: str) -> None:
    joint = joint_head(kind)
    one, other = branches(STEPS, seed=1), branches(STEPS, seed=2)
    joined, reach = found_in(joint, torch.cat((one, other), dim=2)), stated_reach(joint)
    assert_same(away(joined, 0, STEPS - reach), away(found_in(joint, one), 0, STEPS - reach))
    after = later(away(found_in(joint, other), reach, STEPS), STEPS)
    assert_same(away(joined, STEPS + reach, 2 * STEPS), after)


def stated_reach(joint: JointHead) -> float:
    """Seconds, here steps, that the head and decoding state, and the length of the candidates that may overlap."""
    assert joint.context_steps is not None
    reach = reach_s(joint.context_steps, DECODING)
    assert reach is not None
    return reach + 40


@pytest.mark.parametrize("kind", KINDS)
def test_a_change_changes_nothing_beyond_the_stated_reach(kind: str) -> None:
    joint = joint_head(kind)
    track, reach, at = branches(2 * STEPS, seed=1), stated_reach(joint), STEPS
    changed = track.clone()
    changed[:, :, at : at + 4] = branches(4, seed=5)
    before, after = found_in(joint, track), found_in(joint, changed)
    assert_same(away(after, 0, at - reach), away(before, 0, at - reach))
    assert_same(away(after, at + 4 + reach, 2 * STEPS), away(before, at + 4 + reach, 2 * STEPS))
    assert len(before) != len(after) or not np.allclose(before, after)


@pytest.mark.parametrize(
    "kind",
    ["actionformer", "actionformer, convolutions", "temporal-maxer", "tridet", *FUSED[:2]],
)
def test_the_size_of_chunks_shows_nowhere(kind: str) -> None:
    joint, track = joint_head(kind), branches(STEPS, seed=1)
    small, large = (away(found_in(joint, track, core_steps=steps), 0, STEPS) for steps in (24, 10**6))
    assert_same(small, large)


@pytest.mark.parametrize("kind", ["actionformer", pytest.param("tridet", marks=pytest.mark.slow)])
def test_the_last_minutes_of_three_hours_of_features_give_what_the_first_ones_give(kind: str) -> None:
    joint, day = joint_head(kind), branches(60, seed=1)
    minutes, decoding = 180, DECODING.model_copy(update={"min_score": 0.3})
    rows = found_in(joint, torch.cat([day] * minutes + [branches(48, seed=2)], dim=2), decoding=decoding)
    of_minute = [away(rows, 60 * minute, 60 * minute + 60) for minute in (10, 90, 170)]
    for minute, others in zip((90, 170), of_minute[1:], strict=True):
        assert_same(others, later(of_minute[0], 60 * (minute - 10)), least=5)


def test_a_head_of_another_project_states_that_it_needs_the_whole_track() -> None:
    joint = joint_head("tridet")
    joint.head.trained_steps = None
    assert joint.context_steps is None
    assert reach_s(joint.context_steps, DECODING) is None
    assert reach_s(10.0, DECODING.model_copy(update={"stretch_s": 0.0})) is None


def test_a_detector_states_its_reach(tiny_model: Path) -> None:
    detector = load_detector(tiny_model, device="cpu")
    student, joint = detector.net.student, detector.net.joint
    assert joint.trained_steps == 64  # 25.6 s at 2.5 steps a second, for a file that states nothing
    context_s = student.halo_frames / 5 + (joint.head.halo_steps + 64 + 1) / 2.5
    assert detector.reach_s == pytest.approx(context_s + 2 * 60)
    assert detector.origin["model"]["reach_s"] == detector.reach_s


def joined(path: Path, *parts: Path) -> Path:
    """One video of several that are coded alike, without coding them again."""
    with av.open(str(path), "w") as out:
        stream, base = None, 0
        for part in parts:
            with av.open(str(part)) as source:
                video = source.streams.video[0]
                stream = stream or out.add_stream_from_template(video)
                end = 0
                for packet in source.demux(video):
                    if packet.dts is None:
                        continue
                    packet.pts, packet.dts = packet.pts + base, packet.dts + base
                    end = max(end, packet.pts + packet.duration)
                    packet.stream = stream
                    out.mux(packet)
                base = end
    return path


def test_video_files_joined_give_what_they_give_apart_away_from_the_seam(
    tmp_path: Path, write_squares: Any, tiny_model: Path
) -> None:
    detector = load_detector(tiny_model, device="cpu", overrides={"decode": {"min_score": 0.3, "stretch_s": 5.0}})
    seconds = 76.8  # a multiple of the coarsest step
    parts = [write_squares(tmp_path / f"{seed}.mp4", round(seconds * 10), seed=seed) for seed in (1, 2)]
    whole = rows_in(detector, joined(tmp_path / "joined.mp4", *parts))
    one, other = (rows_in(detector, part) for part in parts)
    assert detector.reach_s is not None
    reach = detector.reach_s + 10
    assert reach < 65
    assert_same(away(whole, 0, seconds - reach), away(one, 0, seconds - reach), least=5)
    after = later(away(other, reach, seconds), seconds)
    assert_same(away(whole, seconds + reach, 2 * seconds), after, least=5)


@pytest.mark.slow
def test_six_real_videos_in_one_file_are_found_as_well_as_one_by_one(tmp_path: Path, shared_data: Path) -> None:
    detector = load_detector(device="cpu")
    videos = sorted((shared_data / "room" / "videos").glob("*.mp4"))[:6]
    known = read_dataset(shared_data / "room" / "annotations.json").videos
    whole = detector.detect(joined(tmp_path / "six.mp4", *videos))
    met, kept, high, after_s = np.zeros(2, dtype=int), 0, 0, 0.0
    for video in videos:
        found, truth = detector.detect(video), known[video.stem].annotations
        met[0] += sum(any(overlap(action, d, after_s=0) >= 0.5 for d in found) for action in truth)
        met[1] += sum(any(overlap(action, d, after_s=after_s) >= 0.5 for d in whole) for action in truth)
        kept, high, after_s = kept + len(found), high + len(found.above(0.3)), after_s + found.duration_s
    assert whole.duration_s == pytest.approx(after_s, abs=0.5)
    assert met[1] >= met[0] - 1
    assert abs(len(whole.above(0.3)) - high) <= 0.1 * high
    assert len(whole) >= 0.7 * kept


@pytest.mark.slow
def test_real_videos_joined_give_what_they_give_apart_away_from_the_seam(shared_data: Path) -> None:
    """The bundled model, on features of two videos; the first is cut to a multiple of the coarsest step."""
    detector = load_detector(device="cpu", overrides={"decode": {"stretch_s": 10.0}})
    assert detector.reach_s is not None
    names, step_s = ("20200626_154556_01_light_none", "20200626_161431_01_light_none"), 0.2
    one, other = (features_of(detector, shared_data / "room" / "videos" / f"{name}.mp4") for name in names)
    one = BranchFeatures(*(x[: len(x) // 16 * 16] for x in one if x is not None))
    both = BranchFeatures(*(np.concatenate(pair) for pair in zip(one, other, strict=True)))
    apart, after = (rows_in_features(detector, x) for x in (one, other))
    whole, seam_s, reach = rows_in_features(detector, both), len(one.appearance) * step_s, detector.reach_s + 25
    assert_same(away(whole, 0, seam_s - reach), away(apart, 0, seam_s - reach), least=5)
    rest_s = len(other.appearance) * step_s
    assert_same(away(whole, seam_s + reach, seam_s + rest_s), later(away(after, reach, rest_s), seam_s), least=5)


def features_of(detector: Detector, video: Path) -> BranchFeatures:
    with open_sampled(video, detector.video) as sampled:
        return branch_features(detector.net.student, sampled)["original"]


def rows_in_features(detector: Detector, features: BranchFeatures) -> np.ndarray:
    steps = len(features.appearance)
    track = Track("v", Timeline(np.arange(steps) * 0.2), steps * 0.2)
    found = detections_in_branches(detector.net, features, track, decoding=detector.decoding)
    return rows_of(found, detector.labels)


@pytest.mark.slow
def test_the_last_minutes_of_three_hours_of_video_are_found_as_well_as_the_first(tmp_path: Path) -> None:
    """The example's synthetic scene over and over, at five frames a second, in multiples of the coarsest step."""
    examples, rounds, round_s = Path(__file__).parents[2] / "examples", 242, 44.8
    with open_sampled(examples / "room.mp4", VideoSettings(rate_hz=5.0)) as scene:
        frames = list(scene.frames(0, len(scene)))
    frames += [frames[-1]] * (round(round_s * 5) - len(frames))
    write_video(tmp_path / "round.mp4", frames, fps=5)
    video = joined(tmp_path / "long.mp4", *[tmp_path / "round.mp4"] * rounds)
    found = load_detector(device="cpu").detect(video)
    assert found.duration_s == pytest.approx(rounds * round_s)
    assert found.duration_s > 3 * 3600
    truth = read_dataset(examples / "room.json").videos["room"].annotations
    of_round: list[list[Detection]] = [[] for _ in range(rounds)]
    for d in found:
        of_round[min(int((d.start_s + d.end_s) / 2 / round_s), rounds - 1)].append(d)
    counts = [len(some) for some in of_round]
    assert min(counts) >= 0.5 * max(counts)
    for least, needed in ((0.0, 0.8), (0.2, 0.6)):
        met = [
            sum(
                any(d.score >= least and overlap(action, d, after_s=number * round_s) >= 0.5 for d in some)
                for action in truth
            )
            for number, some in enumerate(of_round)
        ]
        assert min(met) >= needed * len(truth), met
        assert min(met[-4:]) >= min(met[:4]), met


def overlap(action: Annotation, found: Detection, *, after_s: float) -> float:
    """Temporal intersection over union; zero where the labels differ."""
    start_s, end_s = action.start_s + after_s, action.end_s + after_s
    both = min(end_s, found.end_s) - max(start_s, found.start_s)
    either = max(end_s, found.end_s) - min(start_s, found.start_s)
    return max(0.0, both) / either if action.label == found.label else 0.0


def rows_in(detector: Detector, video: Path) -> np.ndarray:
    return rows_of(detector.detect(video), detector.labels)
