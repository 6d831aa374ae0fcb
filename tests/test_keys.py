"""Keys stay what they were, so that stores and models of earlier runs stay up to date."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tadkit.config import (
    ActionFormerSettings,
    DistillSettings,
    FlowSettings,
    FusionSettings,
    HeadTrainSettings,
    ModelSettings,
    OpencvDisSettings,
    OpencvTvl1Settings,
    RaftSettings,
    TeacherTrainSettings,
    TemporalGradientSettings,
    TemporalShiftSettings,
    TrainSettings,
    Tvl1Settings,
    VideoMaeSettings,
    VideoSettings,
)
from tadkit.errors import WeightsError
from tadkit.keys import (
    TrainingTruth,
    features_head_key,
    features_key,
    flow_key,
    head_key,
    late_key,
    student_key,
    teacher_key,
    teacher_outputs_key,
)

KEYS = json.loads((Path(__file__).parent / "golden" / "keys-0.1.0.json").read_text())
"""Of version 0.1.0's code, for the settings below."""
TVL1 = Tvl1Settings(**KEYS["flow tvl1 settings"])
"""As a store or a model of that version states them."""
TRUTH = TrainingTruth(["t-v", "t-w"], ("a", "b"))
STORED = ["k-v", "k-w"]
SOURCES = ["s-v", "s-w"]
MODEL, TRAIN = ModelSettings(flow=TVL1), TrainSettings()


def student_of(method: str, *, joint: bool = False) -> str:
    distill = MODEL.distill.model_copy(update={"method": method, "joint": joint})
    outputs = STORED if distill.taught else []
    model = MODEL.model_copy(update={"distill": distill})
    return student_key(SOURCES, outputs, model=model, train=TRAIN, truth=TRUTH)


@pytest.mark.parametrize(
    "flow",
    [
        TVL1,
        TemporalGradientSettings(),
        OpencvTvl1Settings(method="opencv-tvl1"),
        OpencvDisSettings(method="opencv-dis"),
        RaftSettings(method="raft-small"),
    ],
    ids=lambda flow: flow.method,
)
def test_keys_of_flow(flow: FlowSettings) -> None:
    assert flow_key("s", flow, VideoSettings()) == KEYS[f"flow {flow.method}"]
    assert flow_key("s", flow, VideoSettings(reader="pyav")) == KEYS[f"flow {flow.method}"]
    assert flow_key("other", flow, VideoSettings()) != KEYS[f"flow {flow.method}"]
    assert flow_key("s", flow, VideoSettings(fallback_fps=50)) != KEYS[f"flow {flow.method}"]


def test_flow_that_fast_made_before_is_not_taken_for_that_of_today() -> None:
    assert flow_key("s", Tvl1Settings(), VideoSettings()) != KEYS["flow tvl1"]
    assert flow_key("s", Tvl1Settings(preset="faster"), VideoSettings()) != KEYS["flow tvl1"]
    assert flow_key("s", Tvl1Settings(preset="reference"), VideoSettings()) == KEYS["flow tvl1 reference"]
    rest = {"train": TRAIN, "truth": TRUTH}
    assert teacher_key(STORED, model=ModelSettings(), **rest) != teacher_key(STORED, model=MODEL, **rest)


def test_settings_of_earlier_files_keep_their_meaning() -> None:
    assert (TVL1.start, TVL1.gradient, TVL1.coarse_warps, TVL1.coarse_inner_steps) == ("dis", "second", 2, 16)
    assert Tvl1Settings(**Tvl1Settings().model_dump()) == Tvl1Settings()


def test_each_setting_of_tvl1_that_changes_the_flow_changes_the_key() -> None:
    changed = [{"coarse_warps": 4}, {"coarse_inner_steps": 8}, {"gradient": "second"}, {"start": "dis"}, {"warps": 3}]
    keys = {flow_key("s", Tvl1Settings(**one), VideoSettings()) for one in ({}, *changed)}
    assert len(keys) == 1 + len(changed)
    speed = [{"compile": "never"}, {"batch_pairs": 3}]
    assert {flow_key("s", Tvl1Settings(**one), VideoSettings()) for one in speed} <= keys


def test_keys_of_features() -> None:
    assert teacher_outputs_key("f", teacher="t", views=("original", "mirror")) == KEYS["teacher outputs"]
    assert features_key("s", model="m", video=VideoSettings(), views=("original",)) == KEYS["features"]


def test_keys_of_trainings() -> None:
    rest = {"model": MODEL, "truth": TRUTH}
    assert teacher_key(STORED, train=TRAIN, **rest) == KEYS["teacher"]
    for method in ("decomposed", "direct", "rgb", "rgb-matched"):
        assert student_of(method) == KEYS[f"student {method}"]
    assert student_of("decomposed", joint=True) == KEYS["student joint"]
    assert head_key(STORED, train=TRAIN, half=False, **rest) == KEYS["head"]
    assert head_key(STORED, train=TRAIN, half=True, **rest) == KEYS["head half"]
    assert features_head_key(STORED, train=TRAIN, **rest) == KEYS["features head"]
    stepped = TRAIN.model_copy(update={"schedule": "actionformer-multistep"})
    assert head_key(STORED, train=stepped, half=False, **rest) == KEYS["head multistep"]


def test_of_a_weights_file_the_content_counts_and_not_the_path(tmp_path: Path) -> None:
    def keys(name: str, content: bytes) -> tuple[str, str]:
        (tmp_path / name).write_bytes(content)
        net = TemporalShiftSettings(weights=tmp_path / name)
        rest = {"train": TRAIN, "truth": TRUTH}
        model = MODEL.model_copy(update={"backbone": net, "teacher_backbone": net})
        return teacher_key(STORED, model=model, **rest), student_key(SOURCES, [], model=model, **rest)

    first, same, other = keys("a.pth", b"one"), keys("b.pth", b"one"), keys("a.pth", b"two")
    assert first == same
    assert not {*first} & {*other}
    assert KEYS["teacher"] not in first


def test_a_weights_file_that_is_gone_is_reported_with_its_setting(tmp_path: Path) -> None:
    model = MODEL.model_copy(update={"teacher_backbone": TemporalShiftSettings(weights=tmp_path / "gone.pth")})
    with pytest.raises(WeightsError, match=r"^teacher_backbone\.weights .*gone\.pth: cannot be read"):
        teacher_key(STORED, model=model, train=TRAIN, truth=TRUTH)
    student_key(SOURCES, [], model=model, train=TRAIN, truth=TRUTH)  # does not depend on it


def test_stacks_of_flow_and_its_jitter_change_the_teacher_and_not_the_flow() -> None:
    stacked = TVL1.model_copy(update={"stack": 10})
    assert flow_key("s", stacked, VideoSettings()) == KEYS["flow tvl1"]
    rest = {"truth": TRUTH, "train": TeacherTrainSettings()}
    assert teacher_key(STORED, model=MODEL, **rest) == KEYS["teacher"]
    assert teacher_key(STORED, model=MODEL.model_copy(update={"flow": stacked}), **rest) != KEYS["teacher"]
    jittered = {"truth": TRUTH, "train": TeacherTrainSettings(flow_jitter=0.1)}
    assert teacher_key(STORED, model=MODEL, **jittered) != KEYS["teacher"]


def test_each_setting_of_the_fusion_changes_the_key_of_the_head() -> None:
    changed = [
        {},
        {"directions": "motion"},
        {"residual": True},
        {"kind": "concat"},
        {"kind": "cross-attention"},
        {"kind": "cross-attention", "attention_heads": 8},
    ]
    models = [MODEL.model_copy(update={"fusion": FusionSettings.model_validate(one)}) for one in changed]
    keys = [head_key(STORED, model=model, train=TRAIN, truth=TRUTH, half=False) for model in models]
    assert keys[0] == KEYS["head"]
    assert len(set(keys)) == len(changed)


def test_settings_of_distillation_count_where_they_change_the_student() -> None:
    def key(**chosen: object) -> str:
        distill = DistillSettings.model_validate(chosen)
        return student_key(
            SOURCES, STORED, model=MODEL.model_copy(update={"distill": distill}), train=TRAIN, truth=TRUTH
        )

    assert key(feature_weight=1, prediction_weight=1, feature_loss="mse-normalised") == KEYS["student decomposed"]
    assert key(shared_head=True, time_contrast_temperature=0.1, relation_weight=0) == KEYS["student decomposed"]
    assert key(method="mars") == key(method="mars", feature_loss="mse", feature_weight=50, prediction_weight=3)
    contrast = {"time_contrast_weight": 1}
    changed: list[dict[str, object]] = [
        {},
        {"shared_head": False},
        {"feature_weight": 0},
        {"feature_loss": "sigmoid-l2"},
        contrast,
        {**contrast, "time_contrast_temperature": 0.3},
        {"relation_weight": 1},
        {"boundary_weight": 1},
        *({"method": method} for method in ("mars", "mers", "hallucination", "logits")),
    ]
    assert len({key(**one) for one in changed}) == len(changed)


def test_a_head_that_reads_flow_depends_on_the_teacher() -> None:
    rest = {"train": TRAIN, "truth": TRUTH, "half": False}
    distill = MODEL.distill.model_copy(update={"method": "rgb"})
    rgb = MODEL.model_copy(update={"distill": distill})
    two = rgb.model_copy(update={"streams": "two-stream"})
    keys = [head_key(STORED, model=model, **rest) for model in (rgb, two)]
    keys += [head_key(STORED, model=two, teacher=teacher, **rest) for teacher in ("t", "u")]
    keys += [
        late_key(detector=d, teacher=t, half=h) for d, t, h in (("d", "t", False), ("e", "t", False), ("d", "u", False))
    ]
    keys += [late_key(detector="d", teacher="t", half=True)]
    assert len(set(keys)) == len(keys) == 8
    assert head_key(STORED, model=MODEL.model_copy(update={"streams": "rgb"}), **rest) == KEYS["head"]


def test_groups_of_training_videos_leave_the_key_of_the_head_alone() -> None:
    """Cross-fitting shows in the keys of the features, and in the digest of the embedded student."""
    rest = {"model": MODEL, "truth": TRUTH, "half": False}
    assert head_key(STORED, train=HeadTrainSettings(), **rest) == KEYS["head"]
    grouped = HeadTrainSettings(groups=3, cross_fit=True)
    assert head_key(STORED, train=grouped, **rest) == KEYS["head"]
    assert head_key(STORED, train=grouped, student="s", **rest) != KEYS["head"]


def test_settings_without_effect_on_the_result_do_not_change_a_key() -> None:
    rest = {"model": MODEL, "truth": TRUTH}
    quick = TRAIN.model_copy(update={"cache_mb": 1, "checkpoint_s": 1.0})
    assert teacher_key(STORED, train=quick, **rest) == KEYS["teacher"]
    longer = TRAIN.model_copy(update={"epochs": 99})
    assert teacher_key(STORED, train=longer, **rest) != KEYS["teacher"]


def test_models_whose_windows_started_inside_clips_are_trained_again() -> None:
    net = VideoMaeSettings(name="videomae-s")

    def keys(levels: int) -> list[str]:
        changes = {"backbone": net, "teacher_backbone": net, "head": ActionFormerSettings(levels=levels)}
        model = MODEL.model_copy(update=changes)
        rest = {"model": model, "train": TRAIN, "truth": TRUTH}
        return [teacher_key(STORED, **rest), student_key(SOURCES, STORED, **rest)]

    # Of the version before: 4 levels of stride 2 make 16 frames, a clip, and 3 levels make half of one.
    assert not {*keys(3)} & {
        "198ce0d6442605920ab3f72ffa93f51f727ab5871037b5cb12033f4dcedcf26c",
        "dbc8479fe08acae19b3793525cc373a7c4b7cb59c217e46795440e217eede406",
    }
    assert keys(4) == [
        "094c68a579d4e27c47addcf200cbc49e94dfec3c300c781dd03aa64c31a3d042",
        "d365f05e61c6037e5776363a77a775d21da1a3d623ed4ccf9b43573e1c432e5e",
    ]
