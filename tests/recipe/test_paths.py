"""Paths of weights files in a recipe are relative to its folder, wherever the command runs."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.config import RaftSettings, TrainSettings
from tadkit.config.loading import parse_recipe
from tadkit.errors import SettingsError
from tadkit.keys import TrainingTruth, flow_key, student_key
from tadkit.recipe.paths import with_weights_found

TEXT = """
name = "mine"
labels = ["a"]
compare = ["teacher"]
[[sources]]
kind = "made-up-features"
"""
VIDEOS = """
name = "mine"
labels = ["a"]
compare = ["teacher", "other"]
[[sources]]
kind = "files"
annotations = "a.json"
videos = "."
[flow]
method = "raft-small"
weights = "nets/raft.pth"
[backbone]
name = "tiny"
weights = "nets/rgb.pth"
[teacher_backbone]
name = "tiny"
weights = "${NETS}/flow.pth"
[variants.other.backbone]
weights = "nets/other.pth"
"""


def test_they_start_from_the_recipes_folder_in_variants_and_in_set_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NETS", "from-environment")
    (tmp_path / "recipes").mkdir()
    monkeypatch.chdir(tmp_path)
    recipe = with_weights_found(parse_recipe(VIDEOS, name="r"), base=Path("recipes"))
    folder = tmp_path / "recipes"
    assert isinstance(recipe.flow, RaftSettings)
    assert recipe.flow.weights == folder / "nets" / "raft.pth"
    assert recipe.backbone.weights == folder / "nets" / "rgb.pth"
    assert recipe.teacher_backbone.weights == folder / "from-environment" / "flow.pth"
    assert recipe.of_row("other").backbone.weights == folder / "nets" / "other.pth"
    overridden = parse_recipe(VIDEOS, name="r", overrides=["backbone.weights=b.pth", "flow.weights=/there/raft.pth"])
    recipe = with_weights_found(overridden, base=Path("recipes"))
    assert recipe.backbone.weights == folder / "b.pth"
    assert isinstance(recipe.flow, RaftSettings)
    assert recipe.flow.weights == Path("/there/raft.pth")


def test_a_variable_that_is_not_set_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NETS", raising=False)
    with pytest.raises(SettingsError, match="the environment variable NETS is not set"):
        with_weights_found(parse_recipe(VIDEOS, name="r"), base=tmp_path)


def test_keys_depend_on_the_content_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NETS", "nets")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "nets").mkdir()
    for name in ("raft", "rgb", "flow", "other"):
        (tmp_path / "nets" / f"{name}.pth").write_text(name)
    written = parse_recipe(VIDEOS.replace("${NETS}", "nets"), name="r")
    found = with_weights_found(written, base=tmp_path)
    assert found != written

    def keys(recipe) -> list[str]:  # type: ignore[no-untyped-def]
        rest = {"model": recipe.model_settings, "train": TrainSettings(), "truth": TrainingTruth(["t"], ("a",))}
        return [student_key(["s"], ["t"], **rest), flow_key("s", recipe.flow, recipe.video)]

    assert keys(found) == keys(written)


def test_a_recipe_without_weights_files_stays_as_it_is(tmp_path: Path) -> None:
    recipe = parse_recipe(TEXT, name="r")
    assert with_weights_found(recipe, base=tmp_path) is recipe
