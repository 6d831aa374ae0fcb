from __future__ import annotations

from pathlib import Path

import annotated_types
import pytest
from pydantic import BaseModel, ValidationError

from tadkit import config
from tadkit.config import (
    ActionFormerSettings,
    DecodeSettings,
    Recipe,
    Settings,
    SplitSettings,
    StageTraining,
    StudentTrainSettings,
    SynthSource,
    TadtrSettings,
    TrainSettings,
    VideoSettings,
)
from tadkit.config.loading import check_settings
from tadkit.errors import SettingsError

ALL = [
    value
    for value in vars(config).values()
    if isinstance(value, type) and issubclass(value, BaseModel) and value not in (BaseModel, Settings)
]


def recipe(**changes: object) -> Recipe:
    return Recipe.model_validate({"name": "x", "labels": ["a", "b"], "sources": [SynthSource()], **changes})


def test_settings_cannot_be_changed_after_they_were_checked():
    with pytest.raises(ValidationError, match="frozen"):
        DecodeSettings().keep = 3


@pytest.mark.parametrize("kind", ALL)
def test_every_setting_is_described_and_unknown_ones_are_errors(kind):
    undescribed = [name for name, field in kind.model_fields.items() if not field.description]
    assert set(undescribed) <= {"method", "kind"}
    with pytest.raises(ValidationError, match="extra_forbidden"):
        kind.model_validate({"no_such_setting": 1})


@pytest.mark.parametrize("kind", ALL)
def test_every_default_passes_its_own_check(kind):
    values = {name: field.default for name, field in kind.model_fields.items() if not field.is_required()}
    if not any(field.is_required() for field in kind.model_fields.values()):
        assert kind.model_validate(values) == kind()


@pytest.mark.parametrize("kind", ALL)
def test_every_number_has_a_lowest_and_a_highest_value(kind):
    lowest, highest = (annotated_types.Ge, annotated_types.Gt), (annotated_types.Le, annotated_types.Lt)
    for name, field in kind.model_fields.items():
        if field.annotation in (int, float):
            for ends in (lowest, highest):
                assert any(isinstance(bound, ends) for bound in field.metadata), name


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"head": {"ranges_steps": [[0, 4], [8, 4]], "levels": 2}},
            "each entry of ranges_steps must be a shorter distance",
        ),
        ({"head": {"ranges_steps": [[0, 4]], "levels": 2}}, "ranges_steps has 1 entries for 2 levels"),
        ({"head": {"ranges_steps": [[0, 4]], "levels": 3, "start_level": 1}}, "has 1 entries for 2 levels"),
        ({"head": {"levels": 3, "start_level": 3}}, "start_level 3 must be less than levels 3"),
        ({"head": {"level_ratio": 3}}, "level_ratio must be even, got 3"),
        ({"head": {"kind": "tridet", "level_ratio": 3}}, "level_ratio must be even, got 3"),
        ({"head": {"kind": "temporal-maxer", "neck_groups": 7}}, "dim 128 must be a multiple of neck_groups 7"),
        ({"head": {"kind": "temporal-maxer", "neck_groups": 8, "neck": "fpn"}}, "neck_groups requires neck identity"),
        ({"evaluation": {"tiou": []}}, "at least 1 item"),
        ({"evaluation": {"tiou": [0.5, 1.5]}}, "less than or equal to 1"),
        ({"train": {"head": {"views": []}}}, "at least 1 item"),
        ({"train": {"head": {"milestones": [50]}}}, "less than or equal to 1"),
    ],
)
def test_lists_hold_what_can_be_used(changes, said):
    with pytest.raises(ValidationError, match=said):
        recipe(**changes)


def test_settings_added_later_are_written_only_if_they_are_not_the_default():
    later = {"level_ratio", "start_level", "embedding_norm", "neck_norm", "head_norm"}
    assert not later & ActionFormerSettings().model_dump().keys()
    assert ActionFormerSettings(start_level=1).model_dump()["start_level"] == 1
    assert ActionFormerSettings.model_validate(ActionFormerSettings(head_norm=False).model_dump()).head_norm is False


def test_levels_have_strides():
    assert ActionFormerSettings(levels=4, start_level=1).strides == (2, 4, 8)
    assert ActionFormerSettings(levels=3, level_ratio=4).strides == (1, 4, 16)
    assert TadtrSettings().strides == ()


def test_size_is_height_then_width():
    assert VideoSettings(height_px=90, width_px=160).size_hw == (90, 160)


def test_an_attention_window_has_a_middle():
    with pytest.raises(ValidationError, match="attention_window must be odd, got 8"):
        ActionFormerSettings(attention_window=8)


def test_attention_heads_divide_the_channels():
    with pytest.raises(ValidationError, match="dim 130 must be a multiple of attention_heads 4"):
        ActionFormerSettings(dim=130)


def test_labels_are_distinct():
    with pytest.raises(ValidationError, match="labels are not distinct: a, a"):
        recipe(labels=["a", "a"])


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"compare": []}, "at least 1 item"),
        ({"compare": ["rgb", "rgb"]}, "'rgb' is there twice; name each row once"),
        ({"variants": {"RGB": {}}}, "'RGB' is the name of two rows but for its case"),
        ({"compare": ["teacher", "no-such"]}, "no row is named 'no-such'; define it under variants, or choose from"),
        ({"variants": {"rgb": {}}}, "'rgb' is the name of a built-in row"),
        ({"variants": {"a/b": {}}}, "'a/b' must have letters"),
        ({"variants": {"x": {"head": {"levels": 2}}}}, "variants.x: all rows of a recipe share head"),
        ({"variants": {"x": {"distill": {"dim": 32}}}}, "variants.x.distill.dim must be 128, as wide as the teacher's"),
        ({"variants": {"x": {"train": {"teacher": {"epochs": 1}}}}}, "share train.teacher"),
        ({"variants": {"x": {"distill": {"dim": 1}}}}, "variants.x.distill.dim: must be greater than or equal to 8"),
        ({"variants": {"x": {"fusion": {"kind": "no"}}}}, r"variants.x.fusion.*kind"),
        (
            {"variants": {"x": {"joint_head": {"kind": "tridet", "levels": 0}}}},
            r"variants\.x\.joint_head\.levels: must be",
        ),
        ({"streams": "two-stream"}, "streams = 'two-stream' needs distill.method = 'rgb'"),
        ({"streams": "two-stream", "distill": {"method": "rgb", "relation_weight": 1}}, "without added terms"),
    ],
)
def test_rows_that_cannot_be_are_refused(changes, said):
    with pytest.raises(ValidationError, match=said):
        recipe(**changes)


def test_a_row_has_the_settings_of_the_recipe_but_for_its_own():
    changed = recipe(
        compare=["wide"],
        distill={"prediction_weight": 3},
        variants={"wide": {"distill": {"method": "logits", "dim": 64}, "decode": {"keep": 9}}},
    )
    assert changed.of_row("decomposed") is changed.of_row("teacher") is changed
    assert changed.of_row("wide").distill == changed.distill.model_copy(update={"method": "logits", "dim": 64})
    assert changed.of_row("wide").decode.keep == 9
    assert changed.of_row("rgb").distill == changed.distill.model_copy(update={"method": "rgb"})
    both = changed.of_row("two-stream")
    assert (both.streams, both.distill.method, both.own_row) == ("two-stream", "rgb", "two-stream")
    assert both.of_row("decomposed").streams == "rgb"
    added = recipe(distill={"relation_weight": 1})
    assert not added.of_row("two-stream").distill.taught
    assert added.of_row("rgb").distill.relation_weight == added.of_row("mars").distill.relation_weight == 1


def test_a_fold_lies_below_the_number_of_folds():
    with pytest.raises(ValidationError, match=r"split\.fold 3 must be below split\.folds 3"):
        recipe(split=SplitSettings(fold=3))


def test_views_that_turn_by_90_degrees_need_square_frames():
    train = StageTraining(student=StudentTrainSettings(views=("original", "turn90")))
    assert recipe(train=train).train.student.views == ("original", "turn90")
    with pytest.raises(ValidationError, match="90 degrees"):
        recipe(train=train, video=VideoSettings(height_px=96, width_px=128))


def test_a_name_is_a_folder_name():
    for bad in ("", "a/b", "a b"):
        with pytest.raises(ValidationError):
            recipe(name=bad)


def test_paths_are_read_from_text():
    settings = recipe(flow={"method": "raft-small", "weights": "w.pth"}).flow
    assert isinstance(settings, config.RaftSettings)
    assert settings.weights == Path("w.pth")


@pytest.mark.parametrize(
    ("changed", "named"),
    [
        ({}, {"schedule", "milestones", "validate_every", "validation_share", "colour_variants"}),
        ({"validate_every": 2}, {"schedule", "milestones", "colour_variants"}),
        ({"schedule": "actionformer-multistep"}, {"validate_every", "validation_share", "colour_variants"}),
        ({"colour_variants": 2}, {"schedule", "milestones", "validate_every", "validation_share"}),
        (
            {"colour_variants": 2, "colour_jitter": 0},
            {"schedule", "milestones", "validate_every", "validation_share", "colour_variants"},
        ),
    ],
)
def test_settings_without_effect_on_the_weights_depend_on_the_others(changed, named):
    of_speed = {"checkpoint_s", "backbone_windows", "cache_mb", "log_every"}
    assert TrainSettings.model_validate(changed).without_effect == of_speed | named


def test_a_net_without_published_weights_needs_no_setting_to_say_so():
    assert config.TemporalShiftSettings(name="tiny").pretrained is False
    assert config.TemporalShiftSettings().pretrained is True
    with pytest.raises(SettingsError, match=r"teacher_backbone: there are no ImageNet weights for 'tiny'"):
        check_settings(config.ModelSettings, {"teacher_backbone": {"name": "tiny", "pretrained": True}}, name="r")


ONE_STREAM = ("direct", "rgb", "mars", "mers", "logits")
TWO_BRANCHES = "a method with two branches (decomposed, rgb-matched, hallucination)"
ALONE = {"sources": [{"kind": "features", "annotations": "a.json", "features": "f.h5"}]}


def rows_of(method: str) -> dict[str, object]:
    """Changes of a recipe whose only detector is that of a method."""
    return {"compare": ["teacher", method]}


@pytest.mark.parametrize("method", ONE_STREAM)
@pytest.mark.parametrize(
    ("section", "given", "needs"),
    [
        ("fusion", {"kind": "concat"}, f"{TWO_BRANCHES}, or streams = 'two-stream'"),
        ("fusion", {"directions": "motion"}, f"{TWO_BRANCHES}, or streams = 'two-stream'"),
        ("distill", {"shared_head": False}, TWO_BRANCHES),
        ("distill", {"stop_gradient": "motion", "joint": True}, "a method whose joint loss trains that branch"),
        ("distill", {"stop_gradient": "both"}, "joint = true"),
        ("distill", {"time_contrast_temperature": 0.5}, "time_contrast_weight above 0"),
    ],
)
def test_a_setting_that_a_method_of_one_stream_does_not_have_is_refused(method, section, given, needs):
    (name,) = given.keys() - {"joint"}
    changes = {**rows_of(method), "distill": {"method": method}}
    recipe(**changes)
    changes[section] = {**changes.get(section, {}), **given}
    with pytest.raises(ValidationError) as refused:
        recipe(**changes)
    assert f"{section}.{name} has no effect: it needs {needs}; leave it out" in str(refused.value)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"distill": {"method": "mers", "joint": True, "stop_gradient": "both"}}, "distill.stop_gradient"),
        ({"distill": {"stop_gradient": "motion"}}, "distill.stop_gradient"),
        ({"distill": {"joint_prediction_weight": 1}}, "distill.joint_prediction_weight"),
        (
            {"distill": {"method": "rgb", "joint": True, "joint_prediction_weight": 1}},
            "distill.joint_prediction_weight",
        ),
        ({"distill": {"method": "rgb", "feature_weight": 2}}, "distill.feature_weight"),
        ({"distill": {"method": "rgb-matched", "prediction_weight": 2}}, "distill.prediction_weight"),
        ({"distill": {"method": "mars", "prediction_weight": 2}}, "distill.prediction_weight"),
        ({"distill": {"method": "logits", "feature_weight": 2}}, "distill.feature_weight"),
        ({"distill": {"method": "logits", "feature_loss": "mse"}}, "distill.feature_loss"),
        ({"distill": {"feature_weight": 0, "feature_loss": "mse"}}, "distill.feature_loss"),
        ({"streams": "two-stream-late", "distill": {"method": "rgb"}, "fusion": {"kind": "sum"}}, "fusion.kind"),
        ({"decode": {"iou": 0.4}}, "decode.iou"),
        ({"decode": {"method": "hard", "sigma": 0.4}}, "decode.sigma"),
        ({"decode": {"voting_iou": 0.4}}, "decode.voting_iou"),
        ({"split": {"kind": "all", "fold": 1}}, "split.fold"),
        ({"split": {"kind": "group", "training": ["a"], "held_out": ["b"]}}, "split.training"),
        ({"split": {"held_out": ["b"]}}, "split.held_out"),
        ({"train": {"student": {"milestones": [0.3]}}}, "train.student.milestones"),
        ({"train": {"teacher": {"validation_share": 0.3}}}, "train.teacher.validation_share"),
        ({"train": {"student": {"colour_variants": 3, "colour_jitter": 0}}}, "train.student.colour_variants"),
        ({"train": {"teacher": {"colour_jitter": 0.2}}}, "train.teacher.colour_jitter"),
        ({"train": {"head": {"colour_jitter": 0.2}}}, "train.head.colour_jitter"),
        ({"train": {"head": {"colour_variants": 2}}}, "train.head.colour_variants"),
        ({"train": {"head": {"backbone_lr": 0.2}}}, "train.head.backbone_lr"),
        ({"flow": {"method": "tvl1", "theta": 0.2}}, "flow.theta"),
        (
            {
                "distill": {"method": "rgb"},
                "compare": ["rgb"],
                "sources": [SynthSource(), {"kind": "files", "labelled": False, "videos": "v"}],
                "train": {"student": {"unlabelled_windows": 3}},
            },
            "train.student.unlabelled_windows",
        ),
        ({**ALONE, "flow": {"method": "temporal-gradient"}}, "flow.method"),
        ({**ALONE, "video": {"rate_hz": 5}}, "video.rate_hz"),
        ({**ALONE, "train": {"head": {"views": ["original", "flip"]}}}, "train.head.views"),
        ({**ALONE, "train": {"student": {"epochs": 3}}}, "train.student.epochs"),
        ({**ALONE, "distill": {"dim": 64}}, "distill.dim"),
        ({**ALONE, "fusion": {"kind": "sum"}}, "fusion.kind"),
        ({**ALONE, "backbone": {"name": "tiny"}}, "backbone.name"),
        ({**ALONE, "half_precision": True}, "half_precision"),
        ({**ALONE, "compare": ["rgb"]}, "compare"),
        ({**ALONE, "variants": {"x": {"decode": {"keep": 3}}}}, "variants"),
    ],
)
def test_a_setting_that_changes_no_row_is_refused(changes, named):
    own = changes.get("streams", changes.get("distill", {}).get("method", "decomposed"))
    alone = {} if "sources" in changes else rows_of(own)
    with pytest.raises(ValidationError, match=f"Value error, {named} has no effect: it needs .*; leave it out"):
        recipe(**{**alone, **changes})


def test_a_setting_that_changes_any_row_is_accepted():
    for compare in (["rgb", "decomposed"], ["rgb", "two-stream"], ["rgb", "hallucination"]):
        assert recipe(compare=compare, distill={"method": "rgb"}, fusion={"kind": "concat"}).own_row == "rgb"
    contrast = {"time_contrast_weight": 1, "time_contrast_temperature": 0.5}
    own = recipe(distill=contrast, variants={"plain": {"distill": {"time_contrast_weight": 0}}})
    assert own.of_row("plain").distill.time_contrast_temperature == 0.5
    assert recipe(distill={"method": "direct", "joint": True, "stop_gradient": "both"}).distill.joint_trains == ()
    with pytest.raises(ValidationError, match=r"fusion\.kind has no effect on any row of the recipe: it needs"):
        recipe(compare=["rgb", "mars"], distill={"method": "rgb"}, fusion={"kind": "concat"})


def test_a_setting_of_a_variant_changes_that_variant():
    variants = {"x": {"distill": {"method": "mars"}, "fusion": {"kind": "concat"}}}
    with pytest.raises(ValidationError, match=r"variants\.x\.fusion\.kind has no effect: it needs a method with two"):
        recipe(variants=variants)
    assert recipe(variants={"y": {"fusion": {"kind": "concat"}}}).of_row("y").fusion.kind == "concat"


def test_a_variant_in_one_stage_has_no_settings_of_a_head_that_it_does_not_train():
    head = {"train": {"head": {"epochs": 3}}}
    with pytest.raises(
        ValidationError, match=r"variants\.x\.train\.head\.epochs has no effect: it needs distill\.joint"
    ):
        recipe(variants={"x": {"distill": {"joint": True}, **head}})
    assert recipe(distill={"joint": True}, variants={"x": {"distill": {"joint": False}, **head}}).of_row("x")


def test_groups_of_training_videos_are_those_of_all_rows():
    with pytest.raises(ValidationError, match=r"variants\.x\.train\.head\.groups: all rows have the same; set train"):
        recipe(train={"head": {"groups": 2}}, variants={"x": {"train": {"head": {"groups": 3}}}})
    variants = {"x": {"train": {"head": {"groups": 2, "cross_fit": True}}}}
    assert recipe(train={"head": {"groups": 2}}, variants=variants).of_row("x").train.head.cross_fit


def test_a_default_may_be_stated_though_it_has_no_effect():
    stated = {"fusion": {"kind": "local-attentive"}, "distill": {"method": "rgb", "stop_gradient": "none"}}
    assert recipe(**rows_of("rgb"), **stated).distill.method == "rgb"
    assert recipe(train={"teacher": {"colour_jitter": 0}}).train.teacher.colour_jitter == 0
    assert recipe(**ALONE, train={"head": {"views": ["original"]}}).head_alone


def test_a_comparison_that_cannot_be_is_refused_by_the_name_of_its_row():
    changes = {"joint_head": {"levels": 2}, "compare": ["decomposed", "two-stream-late"]}
    values = {"name": "x", "labels": ["a"], "sources": [{"kind": "synth"}], **changes}
    with pytest.raises(SettingsError, match=r"r: compare: two-stream-late: .* leave out joint_head$"):
        check_settings(Recipe, values, name="r")


def test_a_head_of_fixed_windows_reads_whole_clips_of_the_backbone():
    nets = {part: {"name": "swin3d-t", "stride": 4} for part in ("backbone", "teacher_backbone")}
    assert recipe(head={"kind": "tadtr", "window_steps": 104}, **nets).head.fixed_window_steps == 104
    with pytest.raises(
        ValidationError, match=r"head\.window_steps 100 must be a multiple of 8, the steps of a clip of"
    ):
        recipe(head={"kind": "tadtr", "window_steps": 100}, **nets)
