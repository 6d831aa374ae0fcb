"""Further teachers in a recipe: what they take over from the recipe's own, and what is refused."""

from __future__ import annotations

import pytest

from tadkit.config import OpencvDisSettings, Recipe, TemporalGradientSettings
from tadkit.config.loading import parse_recipe, recipe_toml
from tadkit.errors import SettingsError

VIDEOS = """
name = "mine"
labels = ["walk"]
[[sources]]
kind = "synth"
[flow]
method = "opencv-dis"
stack = 3
preset = "fast"
[teacher_backbone]
name = "tiny"
frozen_blocks = 1
[backbone]
name = "tiny"
[train.teacher]
epochs = 7
"""
FEATURES = """
name = "mine"
labels = ["walk"]
[[sources]]
kind = "features"
annotations = "a.json"
features = "f.h5"
rgb = "0:32"
flow = "32:64"
[teacher_backbone]
width = 16
"""
GRADIENT = '[[teachers]]\nname = "gradient"\nflow.method = "temporal-gradient"\n'
SEED = '[[teachers]]\nname = "seed"\ntrain.seed = 4\n'
STREAM = '[[teachers]]\nname = "pose"\nstream = "64:96"\n'
TADTR = ('head.kind="tadtr"', "head.window_steps=64")


def recipe_of(text: str, *overrides: str) -> Recipe:
    return parse_recipe(text, name="mine", overrides=overrides)


def test_what_a_further_teacher_leaves_out_is_as_in_the_recipe() -> None:
    recipe = recipe_of(VIDEOS + GRADIENT + SEED + '[[teachers]]\nname = "single"\nflow.stack = 1\n')
    gradient, seed, single = recipe.teachers
    assert gradient.flow == TemporalGradientSettings()  # of another method nothing is taken over
    assert seed.flow == recipe.flow == OpencvDisSettings(method="opencv-dis", stack=3, preset="fast")
    assert single.flow == OpencvDisSettings(method="opencv-dis", stack=1, preset="fast")
    assert {teacher.backbone for teacher in recipe.teachers} == {recipe.teacher_backbone}
    assert [(teacher.train.epochs, teacher.train.seed) for teacher in recipe.teachers] == [(7, 0), (7, 4), (7, 0)]


def test_streams_of_features_have_the_defaults_of_features() -> None:
    (pose,) = recipe_of(FEATURES + STREAM + "backbone.depth = 1\n").teachers
    assert (pose.backbone.name, pose.backbone.width, pose.backbone.depth) == ("temporal-encoder", 16, 1)
    assert pose.train.views == ("original",)


@pytest.mark.parametrize("text", [VIDEOS + GRADIENT + SEED, FEATURES + STREAM])
def test_a_recipe_with_teachers_is_read_back_as_it_was_written(text: str) -> None:
    recipe = recipe_of(text)
    assert recipe_of(recipe_toml(recipe)) == recipe


def test_the_settings_of_one_teacher_are_a_recipe_of_its_own() -> None:
    recipe = recipe_of(VIDEOS + GRADIENT + SEED)
    plain = recipe_of(VIDEOS)
    assert recipe.of_teacher("teacher").model_settings == plain.model_settings
    own = recipe.of_teacher("gradient")
    assert (own.flow, own.teachers) == (TemporalGradientSettings(), ())
    assert recipe.of_teacher("seed").train.teacher.seed == 4
    more = '[[sources]]\nkind = "features"\nfeatures = "f.h5"\nlabelled = false\n'
    pose = recipe_of(FEATURES + STREAM + more).of_teacher("pose")
    assert pose.stream_source.flow == "64:96"
    assert [source.labelled for source in pose.sources] == [True, False]


@pytest.mark.parametrize(
    ("chosen", "stated"),
    [
        ((), ("teacher", "gradient", "seed")),
        (('distill.teachers=["seed","teacher"]',), ("seed", "teacher")),
        (('distill.teachers=["gradient"]',), ("gradient",)),
        (('distill.teachers=["teacher"]',), ()),  # as a recipe with one teacher
        (("distill.method=rgb",), ()),
    ],
)
def test_a_model_states_the_teachers_that_it_was_trained_on(chosen: tuple[str, ...], stated: tuple[str, ...]) -> None:
    settings = recipe_of(VIDEOS + GRADIENT + SEED, *chosen).model_settings
    assert settings.distill.teachers == stated
    assert {teacher.name for teacher in settings.teachers} == set(stated) - {"teacher"}


def test_a_variant_may_name_its_teachers() -> None:
    recipe = recipe_of(VIDEOS + GRADIENT + '[variants.one]\ndistill.teachers = ["teacher"]\n')
    assert recipe.of_row("one").taught_by == ("teacher",)
    assert recipe.of_row("mars").taught_by == ("teacher", "gradient")
    assert recipe.of_row("rgb").taught_by == ()


@pytest.mark.parametrize(
    ("text", "overrides", "message"),
    [
        ('[[teachers]]\nname = "b"\n', (), "'b' is trained exactly like 'teacher'; change its flow, backbone or train"),
        (SEED + SEED.replace("seed", "again", 1), (), "'again' is trained exactly like 'seed'"),
        ('[[teachers]]\nflow.method = "tvl1"\n', (), "teachers.0.name: is missing"),
        (GRADIENT + "flow.bound = 3\n", (), "teachers.0.flow.bound: no such setting; did you mean bound_px?"),
        (SEED + "train.epoch = 3\n", (), "teachers.0.train.epoch: no such setting; did you mean epochs?"),
        (SEED + "backbone.stride = 1\n", (), "'seed': backbone.stride 2 differs from teacher_backbone.stride 1"),
        (SEED + 'stream = "motion"\n', (), "'seed': stream needs a source of kind features with rgb and flow"),
        (SEED.replace("seed", "Teacher", 1), (), "'teacher' is the recipe's own; choose another name"),
        (SEED + GRADIENT.replace("gradient", "Seed", 1), (), "'seed' is there twice; choose another name"),
        ("[teachers.b]\ntrain.seed = 2\n", (), "write [[teachers]] with two brackets"),
        (SEED, ('distill.teachers=["c"]',), "no teacher is named 'c'; choose from teacher, seed"),
        (SEED, ('distill.teachers=["seed","seed"]',), "'seed' is there twice; name each teacher once"),
        (SEED, ('compare=["two-stream-late"]',), "'two-stream-late' joins appearance with the feature of one teacher"),
        (SEED, ("distill.method=rgb", "streams=two-stream"), "'two-stream' joins appearance with the feature of one"),
        (
            SEED,
            ("distill.method=rgb", "compare=['rgb']", "distill.teachers=['seed']"),
            "distill.teachers has no effect: it needs a method with a teacher",
        ),
        (SEED, TADTR, "'decomposed' is trained on their average predictions, but queries of tadtr have no partners"),
    ],
)
def test_teachers_that_cannot_be_are_refused_in_one_line(text: str, overrides: tuple[str, ...], message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        recipe_of(VIDEOS + text, *overrides)
    assert message in str(raised.value)
    assert "\n" not in str(raised.value)


def test_tadtr_is_distilled_from_several_teachers_without_their_predictions() -> None:
    assert recipe_of(VIDEOS + SEED, *TADTR, "distill.prediction_weight=0").taught_by == ("teacher", "seed")
    assert recipe_of(VIDEOS + SEED, *TADTR, 'distill.teachers=["seed"]').taught_by == ("seed",)
    assert recipe_of(VIDEOS + SEED, *TADTR, "distill.method=mars", 'compare=["rgb"]').taught_by == ("teacher", "seed")


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ('flow.method = "raft-small"\n', "'pose': flow.method needs videos, but the source has features"),
        ("flow.stack = 3\n", "'pose': flow.stack needs videos"),
        ('train.views = ["mirror"]\n', "'pose': train.teacher.views needs videos"),
        ('backbone.name = "tiny"\n', "'pose': teacher_backbone.name 'tiny' reads videos"),
        (
            "features = {rgb='a', flow='b', rgb_channels=1, flow_channels=1, channels=2}\nstream = '64:64'\n",
            "'pose': a",
        ),
    ],
)
def test_settings_that_features_do_not_have_are_refused_for_every_teacher(given: str, message: str) -> None:
    text = STREAM if "stream" not in given else STREAM.replace('stream = "64:96"\n', "")
    with pytest.raises(SettingsError) as raised:
        recipe_of(FEATURES + text + given)
    assert message in str(raised.value)


def test_no_further_teacher_reads_what_the_student_reads() -> None:
    with pytest.raises(SettingsError, match="'pose': rgb 0:32 and flow 31:96 have channels in common"):
        recipe_of(FEATURES + STREAM.replace("64:96", "31:96"))
    alone = FEATURES.replace('rgb = "0:32"\nflow = "32:64"\n[teacher_backbone]\nwidth = 16\n', "")
    with pytest.raises(SettingsError, match="teachers needs videos, or features with rgb and flow"):
        recipe_of(alone + SEED)
