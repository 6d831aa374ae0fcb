from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.config import FilesSource, Recipe, SynthSource, TemporalGradientSettings, Tvl1Settings
from tadkit.config.loading import load_recipe, load_sections, parse_overrides, parse_recipe, recipe_toml
from tadkit.errors import SettingsError

SMALL = """
name = "small"
labels = ["walk", "sit"]
[[sources]]
kind = "synth"
count = 4
[[sources]]
kind = "files"
annotations = "${HOME}/a.json"
videos = "v"
"""


def parse(text: str = SMALL, *overrides: str) -> Recipe:
    return parse_recipe(text, name="small.toml", overrides=overrides)


def mistakes(text: str, *overrides: str) -> list[str]:
    with pytest.raises(SettingsError) as caught:
        parse(text, *overrides)
    return str(caught.value).splitlines()


def test_a_recipe_needs_only_name_labels_and_sources():
    recipe = parse()
    assert recipe.labels == ("walk", "sit")
    assert recipe.sources == (SynthSource(count=4), FilesSource(annotations="${HOME}/a.json", videos="v"))
    assert recipe.flow == Tvl1Settings()


def test_overrides_win_over_the_file_and_reach_into_lists():
    recipe = parse(SMALL, "head.levels=3", "sources.0.count=2", "train.teacher.lr=1e-4", "name=other")
    assert recipe.head.levels == 3
    assert recipe.sources[0] == SynthSource(count=2)
    assert recipe.train.teacher.lr == 1e-4
    assert recipe.train.student.lr != 1e-4
    assert recipe.name == "other"


def test_flow_without_a_method_is_the_default_method():
    assert parse(SMALL, "flow.warps=3").flow == Tvl1Settings(warps=3)
    assert parse(SMALL, "flow.method=temporal-gradient").flow == TemporalGradientSettings()


def test_all_mistakes_are_told_at_once_one_line_each():
    text = SMALL.replace('"small"', '"not a name"').replace("count = 4", "count = 0\ncuont = 4")
    assert mistakes(text, "head.levls=4", "flow.warp=3", "video.rate_hz=fast") == [
        "small.toml: video.rate_hz: must be a valid number, unable to parse string as a number, got 'fast'",
        "small.toml: flow.warp: no such setting; did you mean warps?",
        "small.toml: head.levls: no such setting; did you mean levels?",
        "small.toml: name: string should match pattern '^[A-Za-z0-9._-]+$', got 'not a name'",
        "small.toml: sources.0.count: must be greater than or equal to 1, got 0",
        "small.toml: sources.0.cuont: no such setting; did you mean count?",
    ]


def test_an_unknown_name_far_from_all_others_lists_what_is_known():
    (line,) = mistakes(SMALL, "fusion.qqq=1")
    assert (
        line == "small.toml: fusion.qqq: no such setting; known settings: attention_heads, directions, kind, residual"
    )


def test_a_missing_setting_is_named_by_its_place():
    assert mistakes('name = "x"\nlabels = ["a"]') == ["small.toml: sources: is missing"]
    assert mistakes(SMALL.replace('videos = "v"', "")) == ["small.toml: sources.1.videos: is missing"]


def test_a_setting_with_the_name_of_its_table_s_kind_is_named_once():
    text = 'name = "x"\nlabels = ["a"]\n[[sources]]\nkind = "features"\nannotations = "a.json"\n'
    assert mistakes(text) == ["small.toml: sources.0.features: is missing"]
    assert mistakes(text, "sources.0.features=3") == [
        "small.toml: sources.0.features: must be a valid string, got 3",
    ]
    (line,) = mistakes(text, "sources.0.features=f.h5", "sources.0.rgb='9:9'", "sources.0.flow=motion")
    assert line.startswith("small.toml: sources.0.rgb: ")


def test_settings_that_contradict_one_another_are_told():
    (line,) = mistakes(SMALL, "backbone.stride=4")
    assert line.startswith("small.toml: backbone.stride 4 differs from teacher_backbone.stride 2")


@pytest.mark.parametrize(
    ("override", "line"),
    [
        (
            "flow.method=farneback",
            "flow.method: must be one of 'tvl1', 'opencv-tvl1', 'opencv-dis', 'temporal-gradient', 'raft-small', "
            "'raft-large', 'entry-point', got 'farneback'",
        ),
        (
            "head.kind=foo",
            "head.kind: must be one of 'actionformer', 'tridet', 'temporal-maxer', 'tadtr', 'bmn', 'tags', "
            "'entry-point', got 'foo'",
        ),
        (
            "joint_head.kind=[1]",
            "joint_head.kind: must be one of 'actionformer', 'tridet', 'temporal-maxer', 'tadtr', 'bmn', 'tags', "
            "'entry-point'",
        ),
        (
            "backbone.name=resnet",
            "backbone.name: must be one of 'efficientnet-lite0', 'tiny', 'resnet18', 'mobilenet-v3-small', "
            "'tsm-resnet18', 'tsm-resnet50', 'tsm-resnet101', 'i3d', 'slowfast-r50-4x16', 'slowfast-r50-8x8', "
            "'videomae-s', 'videomae-b', 'r2plus1d-18', 's3d', 'mvit-v2-s', 'swin3d-t', 'temporal-encoder', "
            "'entry-point', got 'resnet'",
        ),
        ("fusion.residual=maybe", "fusion.residual: must be true or false, got 'maybe'"),
        (
            "sources.0.kind=3",
            "sources.0.kind: must be one of 'files', 'features', 'made-up-features', 'synth', 'compose', got 3",
        ),
        (
            "sources=[{}]",
            "sources.0.kind: is missing; one of 'files', 'features', 'made-up-features', 'synth', 'compose'",
        ),
        ("split.kind=some", "split.kind: must be 'folds', 'subset', 'group' or 'all', got 'some'"),
    ],
)
def test_a_choice_that_there_is_not_is_told_with_those_that_there_are(override, line):
    assert mistakes(SMALL, override) == [f"small.toml: {line}"]


@pytest.mark.parametrize(
    ("overrides", "lines"),
    [
        (
            ["variants.x.train.head.epoch=3", "variants.x.distill.dim=1"],
            {
                "variants.x: train.head.epoch: no such setting; did you mean epochs?",
                "variants.x: distill.dim: must be greater than or equal to 8, got 1",
            },
        ),
        (["variants.x.fusion=3"], {"variants.x: fusion: must be a table, got 3"}),
        (["variants.x=3"], {"variants.x: must be a table, got 3"}),
    ],
)
def test_mistakes_in_a_variant_are_reported_as_others_are(overrides, lines):
    with pytest.raises(SettingsError) as caught:
        parse_recipe(SMALL, name="mine", overrides=overrides)
    assert set(str(caught.value).splitlines()) == {f"mine: {line}" for line in lines}


def test_a_table_where_a_list_of_tables_belongs_is_told_its_second_bracket():
    with pytest.raises(SettingsError, match=re.escape("sources: must be a list of tables; write [[sources]] with two")):
        parse_recipe("name = 'k'\nlabels = ['pour']\n[sources]\nkind = 'synth'\n", name="k.toml", overrides=())


@pytest.mark.parametrize(
    ("override", "line"),
    [
        ("head=5", "head: must be a table, got 5"),
        ("flow=tvl1", "flow: must be a table, got 'tvl1'"),
        ("train.head=[]", "train.head: must be a table"),
        ("sources=synth", "sources: must be a list, got 'synth'"),
        ("sources=[]", "sources: must have 1 or more, has 0"),
    ],
)
def test_what_is_no_table_or_no_list_is_told_in_the_words_of_toml(override, line):
    assert mistakes(SMALL, override) == [f"small.toml: {line}"]


def test_a_recipe_that_is_not_toml_says_where():
    (line,) = mistakes("name = \nlabels")
    assert line.startswith("small.toml: not TOML: ")
    assert "line 1" in line


def test_a_recipe_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(SettingsError, match="no such recipe"):
        load_recipe(tmp_path / "no.toml")
    with pytest.raises(SettingsError, match="cannot be read"):
        load_recipe(tmp_path)
    (tmp_path / "video.toml").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(SettingsError, match="cannot be read as a text file"):
        load_recipe(tmp_path / "video.toml")


def test_a_recipe_is_read_from_its_file(tmp_path):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    assert load_recipe(path, overrides=["video.width_px=64"]) == parse(SMALL, "video.width_px=64")


@pytest.mark.parametrize(
    "overrides",
    [(), ("flow.method=raft-small", "flow.weights=w.pth"), ("train.head.views=['mirror']",), ("split.kind=all",)],
)
def test_written_recipes_are_read_back_equal(overrides):
    recipe = parse(SMALL, *overrides)
    assert parse_recipe(recipe_toml(recipe), name="written") == recipe


@pytest.mark.parametrize(
    ("override", "values"),
    [
        ("a.b.c=5", {"a": {"b": {"c": 5}}}),
        ("a = 1.5", {"a": 1.5}),
        ("a=true", {"a": True}),
        ("a=[1, 2]", {"a": [1, 2]}),
        ("a='two words'", {"a": "two words"}),
        ("a=opencv-tvl1", {"a": "opencv-tvl1"}),
        ("a=${TADKIT_DATA}/room", {"a": "${TADKIT_DATA}/room"}),
        ('a={b="x=y"}', {"a": {"b": "x=y"}}),
    ],
)
def test_overrides_are_toml_or_bare_words(override, values):
    assert parse_overrides([override]) == values


@pytest.mark.parametrize("override", ["a", "=5", "a.=5", "a=", "a=two words", "a=[1", "a=1\nb=2", ""])
def test_what_is_neither_is_refused(override):
    with pytest.raises(SettingsError, match="--set"):
        parse_overrides([override])


def test_later_overrides_win():
    assert parse_overrides(["a.b=1", "a.c=2", "a.b=3"]) == {"a": {"b": 3, "c": 2}}


@given(st.text())
def test_no_override_breaks_anything_but_by_a_settings_error(text):
    try:
        values = parse_overrides([text])
    except SettingsError:
        return
    assert len(values) == 1


def test_an_index_past_the_end_of_a_list_is_refused():
    with pytest.raises(SettingsError, match="items 0 to 1"):
        parse(SMALL, "sources.2.count=3")


def test_sections_take_overrides_of_the_defaults():
    sections = load_sections(["flow.warps=2", "video.width_px=64"], "flow", "video")
    assert sections["flow"] == Tvl1Settings(warps=2)
    assert sections["video"].width_px == 64


def test_sections_refuse_settings_of_other_sections():
    with pytest.raises(SettingsError, match="--set: fusion: no such setting; known settings: flow, video"):
        load_sections(["fusion.kind=concat"], "flow", "video")
