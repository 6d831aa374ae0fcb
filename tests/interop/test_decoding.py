"""Settings of decoding from other projects' configurations, and what they cannot reproduce."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from interop.published_weights import options_of, weights_of
from safetensors.torch import save_file

from tadkit.config import DecodeSettings
from tadkit.interop.heads.decoding import WHOLE_FILE, changes, decoding_of
from tadkit.interop.heads.options import read_options

YAML: dict[str, Any] = {"model": {"n_head": 4}, "test_cfg": {"pre_nms_topk": 2000, "min_score": 0.001}}


def decoded(config: dict[str, Any], family: Any = "actionformer", levels: int = 6) -> tuple[dict[str, Any], str]:
    found = decoding_of(read_options(config, family, where="here"), family, levels=levels)
    DecodeSettings.model_validate(dict(found.settings))
    return dict(found.settings), "; ".join(found.differences)


def test_what_a_yaml_file_leaves_out_has_the_projects_default() -> None:
    found, differences = decoded(YAML)
    assert differences == ""
    assert found == {
        "min_score": 0.001,
        "min_steps": 0.05,
        "top_candidates": 12000,
        "method": "soft-gaussian",
        "sigma": 0.5,
        "keep": 1000,
        "class_agnostic": False,
        **WHOLE_FILE,
    }


@pytest.mark.parametrize(
    ("option", "wanted"),
    [
        ({"nms_method": "hard", "iou_threshold": 0.4}, {"method": "hard", "iou": 0.4}),
        ({"nms_method": "none"}, {"method": "none", "min_score": 0.001, "keep": 1_000_000}),
        ({"nms_sigma": 0.9}, {"sigma": 0.9}),
        ({"max_seg_num": 100}, {"keep": 100}),
        ({"duration_thresh": 0.1}, {"min_steps": 0.1}),
        ({"multiclass_nms": False}, {"class_agnostic": True, "voting": "score-iou", "voting_iou": 0.75}),
        ({"multiclass_nms": False, "voting_thresh": 0.9}, {"voting_iou": 0.9}),
        ({"multiclass_nms": False, "voting_thresh": 0}, {"class_agnostic": True}),
    ],
)
def test_options_of_decoding_become_settings(option: dict[str, Any], wanted: dict[str, Any]) -> None:
    found, differences = decoded(YAML | {"test_cfg": YAML["test_cfg"] | option})
    assert differences == ""
    assert wanted.items() <= found.items()
    assert ("voting" in found) == (not option.get("multiclass_nms", True) and option.get("voting_thresh") != 0)


def test_tridet_votes_by_score_alone() -> None:
    found, _ = decoded({"model": {"k": 5}, "test_cfg": {"multiclass_nms": False}}, "tridet")
    assert found["voting"] == "score"


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"test_cfg": {"pre_nms_thresh": 0.1, "min_score": 0.01}}, "pre_nms_thresh 0.1 above min_score 0.01"),
        ({"test_cfg": {"min_score": 0.1, "multiclass_nms": False}}, "candidates between them do not vote"),
        ({"test_cfg": {"ext_score_file": "scores.json"}}, "ext_score_file is not read; give the scores of the videos"),
        ({"dataset": {"downsample_rate": 2}}, "downsample_rate 2: keep one step in 2"),
        ({"dataset": {"force_upsampling": True}}, "force_upsampling: resample features"),
    ],
)
def test_what_is_not_reproduced_is_reported(config: dict[str, Any], said: str) -> None:
    assert said in decoded({"model": {"n_head": 4}} | config)[1]


def test_opentads_post_processing_has_its_own_names_and_defaults() -> None:
    nms = {"use_soft_nms": True, "sigma": 0.7, "max_seg_num": 300, "min_score": 0.001, "multiclass": True}
    found, differences = decoded({"model": {}, "post_processing": {"nms": nms, "pre_nms_topk": 5000}}, "opentad")
    assert differences == ""
    assert (found["top_candidates"], found["sigma"], found["keep"]) == (5000, 0.7, 300)
    found, _ = decoded({"model": {}, "post_processing": {"nms": nms | {"method": 1, "iou_threshold": 0.4}}}, "opentad")
    assert (found["method"], found["iou"]) == ("soft-linear", 0.4)
    found, _ = decoded({"model": {}, "post_processing": {"nms": None}}, "opentad")
    assert found["method"] == "none"


def test_some_detectors_of_opentad_do_not_read_the_number_of_candidates() -> None:
    post = {"post_processing": {"nms": {"min_score": 0.001}, "pre_nms_topk": 50}}
    found, _ = decoded({"model": {"projection": {"sgp_win_size": [1, 1]}}} | post, "opentad")
    assert found["top_candidates"] == 2000
    found, _ = decoded({"model": {}} | post, "opentad-bmn")
    assert found["top_candidates"] == 1_000_000
    found, differences = decoded({"model": {}} | post, "opentad-tadtr")
    assert "the best 200 candidates of each window" in differences


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"post_processing": {"nms": {"method": 3, "t1": 0.2}}}, "nms.method 3 is not available"),
        ({"post_processing": {"external_cls": {"type": "X"}, "nms": {"min_score": 0.001}}}, "external_cls is not read"),
        ({"dataset": {"test": {"type": "ThumosSlidingDataset"}}}, "OpenTAD predicts each by itself"),
    ],
)
def test_what_is_not_reproduced_of_opentad_is_reported(config: dict[str, Any], said: str) -> None:
    model = {"projection": {"use_abs_pe": False}}
    assert said in decoded({"model": model} | config, "opentad")[1]


def test_no_config_gives_no_settings() -> None:
    for family in ("actionformer", "opentad", "tadtr"):
        assert decoded({}, family) == ({}, "")


def test_the_command_prints_the_settings_and_the_differences(
    tmp_path: Path, tadkit: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    options = options_of("actionformer")
    save_file(weights_of(options), tmp_path / "w.safetensors")
    test_cfg = {"multiclass_nms": False, "ext_score_file": "scores.json"}
    model = {name: value for name, value in options.items() if name not in ("droppath", "input_dim", "num_classes")}
    dataset = {"input_dim": 6, "num_classes": 3}
    Path("c.json").write_text(json.dumps({"dataset": dataset, "model": model, "test_cfg": test_cfg}))
    ran = tadkit(
        "import", "head", "w.safetensors", "--from", "actionformer", "--config", "c.json", "--out", "h.safetensors"
    )
    assert ran.code == 0
    assert "--set decode.min_steps=0.05" in ran.err.replace("\n", " ")
    assert "--set decode.class_agnostic=true" in ran.err.replace("\n", " ")
    assert "ext_score_file is not read" in ran.err.replace("\n", " ")


def test_only_what_differs_from_our_defaults_is_printed() -> None:
    assert (
        changes({"keep": 200, "method": "hard", "clip_first": False})
        == "--set decode.method=hard --set decode.clip_first=false"
    )
