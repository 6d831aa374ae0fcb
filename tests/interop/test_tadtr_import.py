"""TadTR's actionness from OpenTAD, and TadTR from its authors' own code."""

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from tadkit.errors import WeightsError
from tadkit.interop.heads.opentad import name_from_opentad
from tadkit.interop.heads.tadtr import from_authors
from tadkit.interop.import_head import ImportedHead, build_imported, import_head
from tadkit.models.head_file import load_head
from tadkit.models.heads.tadtr import QueryPredictions

DIM, BINS = 32, 4
STEPS = 256
OPENTAD = {"num_heads": 4, "num_groups": 8, "window_size": STEPS, "roi_extend_ratio": 0.25, "loss_actionness": 3.0}
AUTHORS = {"nheads": 4, "slice_len": STEPS, "set_cost_class": 6, "act_loss_coef": 4}

RENAMED = (
    ("projection.convs.0.conv.", "input_proj.0.0."),
    ("projection.convs.0.norm.", "input_proj.0.1."),
    ("transformer.query_embedding.weight", "query_embed.weight"),
    ("transformer.level_embeds", "transformer.level_embed"),
    ("transformer.class_embed.", "class_embed."),
    ("transformer.bbox_embed.", "segment_embed."),
    ("transformer.actionness_pred.", "actionness_pred."),
    ("ffns.0.layers.0.0.", "linear1."),
    ("ffns.0.layers.1.", "linear2."),
)
"""Names of OpenTAD and of the authors that do not depend on which layer they are in."""


@pytest.fixture
def opentad() -> dict[str, torch.Tensor]:
    """OpenTAD's small golden TadTR, with random weights of an actionness branch in its places."""
    numbers = np.load(Path(__file__).parents[1] / "models" / "heads" / "golden" / "opentad_tadtr.npz")
    state = {name[7:]: torch.from_numpy(numbers[name]) for name in numbers.files if name.startswith("weight/")}
    torch.manual_seed(0)
    for layer, (inner, outer) in {0: (DIM * BINS, DIM), 2: (DIM, DIM), 4: (DIM, 1)}.items():
        state[f"transformer.actionness_pred.{layer}.weight"] = torch.randn(outer, inner) / inner**0.5
        state[f"transformer.actionness_pred.{layer}.bias"] = torch.randn(outer)
    return state


def as_the_authors(state: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same weights under the authors' names; their sampler reads whole values where OpenTAD's reads half."""
    renamed = {}
    for name, value in state.items():
        for theirs, ours in RENAMED:
            name = name.replace(theirs, ours)
        in_decoder = ".decoder." in name
        name = name.replace("attentions.0.attn.", "self_attn.")
        name = name.replace("attentions.0.", "self_attn.").replace("attentions.1.", "cross_attn.")
        place = re.search(r"norms\.(\d)\.", name)
        if place is not None:
            number = {"0": 2, "1": 1, "2": 3}[place[1]] if in_decoder else int(place[1]) + 1
            name = name.replace(place[0], f"norm{number}.")
        renamed[name] = value / 2 if name.endswith("output_proj.weight") else value
    twice = {f"transformer.decoder.{name}": x for name, x in renamed.items() if name.startswith("segment_embed.")}
    return renamed | twice | {"input_proj.0.0.bias": torch.zeros(DIM)}


def imported(state: dict[str, torch.Tensor], source: Any, config: dict[str, Any]) -> ImportedHead:
    return build_imported(state, source, config, where="here")


@torch.no_grad()
def predicted(head: torch.nn.Module) -> QueryPredictions:
    numbers = np.load(Path(__file__).parents[1] / "models" / "heads" / "golden" / "opentad_tadtr.npz")
    features = torch.from_numpy(numbers["feats_T256"])[None]
    predictions: QueryPredictions = head(features, torch.ones(1, STEPS, dtype=torch.bool))
    return predictions


def test_opentads_actionness_is_read_and_leaves_the_rest_as_it_was(opentad: dict[str, torch.Tensor]) -> None:
    made = imported(opentad, "opentad", OPENTAD)
    settings = made.head.settings
    assert (settings.actionness, settings.actionness_bins, settings.actionness_context) == (True, BINS, 0.25)
    assert settings.actionness_weight == 3.0
    assert made.assumed == ()
    told = predicted(made.head)
    without = {name: value for name, value in opentad.items() if "actionness" not in name}
    plain = predicted(imported(without, "opentad", OPENTAD).head)
    torch.testing.assert_close((told.logits, told.segments), (plain.logits, plain.segments))
    assert plain.actionness is None
    assert told.actionness.std() > 0.01


def test_an_unknown_context_is_assumed_and_said(opentad: dict[str, torch.Tensor]) -> None:
    config = {name: value for name, value in OPENTAD.items() if name != "roi_extend_ratio"}
    assert imported(opentad, "opentad", config).assumed == ("actionness_context=0.25",)


def test_a_head_with_actionness_goes_through_a_file(opentad: dict[str, torch.Tensor], tmp_path: Path) -> None:
    (tmp_path / "config.yml").write_text("nheads: 4\nslice_len: 256\nhidden_dim: 32\n")
    torch.save({"model": as_the_authors(opentad), "epoch": 3}, tmp_path / "model_best.pth")
    out = tmp_path / "head.safetensors"
    made = import_head(tmp_path / "model_best.pth", out, source="tadtr", config=tmp_path / "config.yml")
    read, labels = load_head(out)
    assert read.settings == made.head.settings
    assert read.settings.variant == "authors"
    assert labels == tuple("01234")
    for ours, theirs in zip(predicted(read)[:2], predicted(made.head)[:2], strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(predicted(read).actionness, predicted(made.head).actionness)


def test_the_authors_weights_do_what_opentads_do_where_places_are_not_asked_for(
    opentad: dict[str, torch.Tensor],
) -> None:
    for name, value in opentad.items():
        if re.search(r"encoder.*(sampling_offsets|attention_weights)\.weight", name):
            opentad[name] = torch.zeros_like(value)
    groups = {"num_groups": 32}  # the authors' number
    theirs = predicted(imported(opentad, "opentad", OPENTAD | groups).head)
    ours = predicted(imported(as_the_authors(opentad), "tadtr", AUTHORS).head)
    torch.testing.assert_close(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.segments, theirs.segments)
    torch.testing.assert_close(ours.actionness, theirs.actionness)


def test_padding_keeps_the_bias_of_the_authors_embedding(opentad: dict[str, torch.Tensor]) -> None:
    head = imported(as_the_authors(opentad) | {"input_proj.0.0.bias": torch.randn(DIM)}, "tadtr", AUTHORS).head
    short = torch.randn(1, 48, 100)
    padded = torch.nn.functional.pad(short, (0, STEPS - 100))
    with torch.no_grad():
        alone = head(short, torch.ones(1, 100, dtype=torch.bool))
        whole = head(padded, torch.ones(1, STEPS, dtype=torch.bool))
    torch.testing.assert_close(alone.logits, whole.logits)
    torch.testing.assert_close(alone.actionness, whole.actionness)


def test_what_the_authors_config_does_not_tell_is_assumed_and_said(opentad: dict[str, torch.Tensor]) -> None:
    made = from_authors(as_the_authors(opentad), {}, where="here")
    assert made.assumed == ("attention_heads=8", "pad_to_steps=128")
    assert (made.in_channels, made.num_classes) == (48, 5)
    assert from_authors(as_the_authors(opentad), AUTHORS, where="here").section["class_cost"] == 6.0


@pytest.mark.parametrize(
    ("lost", "config", "message"),
    [
        ("transformer.decoder.segment_embed.", {}, "when it refines segments"),
        ("query_embed.weight", {}, "here: has no query_embed.weight"),
        ("nothing", {"use_pos_embed": False}, "TadTR with use_pos_embed = False"),
        ("nothing", {"activation": "gelu"}, "TadTR with activation = gelu"),
        ("nothing", {"seg_refine": False}, "TadTR with seg_refine = False"),
        ("nothing", {"position_embedding": "learned"}, "TadTR with position_embedding = learned"),
        ("nothing", {"disable_query_self_att": True}, "TadTR with disable_query_self_att = True"),
        ("nothing", {"foo": 1}, "the option 'foo', which is not known for TadTR"),
        ("nothing", {"enc_layers": 9}, "enc_layers is 9 in --config, but the weights show 2"),
        ("nothing", {"num_queries": 9}, "num_queries is 9 in --config, but the weights show"),
        ("nothing", {"nheads": 8, "dec_n_points": 4}, "dec_n_points is 4 in --config, but the weights show 2"),
        ("nothing", {"act_reg": False}, "act_reg is False in --config, but the weights show True"),
    ],
)
def test_another_tadtr_is_refused_in_a_line(
    opentad: dict[str, torch.Tensor], lost: str, config: dict[str, Any], message: str
) -> None:
    state = {name: value for name, value in as_the_authors(opentad).items() if not name.startswith(lost)}
    with pytest.raises(WeightsError, match=message):
        imported(state, "tadtr", config)


def test_opentads_weights_are_refused_as_the_authors(opentad: dict[str, torch.Tensor]) -> None:
    with pytest.raises(WeightsError, match="--from opentad"):
        imported(opentad, "tadtr", {})
    assert name_from_opentad("transformer.actionness_pred.4.bias", "tadtr") == "actionness.mlp.4.bias"


def test_several_levels_are_refused_by_name(opentad: dict[str, torch.Tensor]) -> None:
    state = as_the_authors(opentad)
    state["transformer.level_embed"] = state["transformer.level_embed"].repeat(2, 1)
    with pytest.raises(WeightsError, match="TadTR with num_feature_levels = 2 is not supported"):
        imported(state, "tadtr", {})


def test_another_number_of_points_in_the_encoder_is_refused_with_its_options(opentad: dict[str, torch.Tensor]) -> None:
    state = as_the_authors(opentad)
    for name in [name for name in state if "encoder.layers.0.self_attn.sampling_offsets" in name]:
        state[name] = state[name].repeat(*(2 if n == 0 else 1 for n in range(state[name].ndim)))
    with pytest.raises(WeightsError, match="which depends on enc_n_points, dec_n_points, num_feature_levels"):
        imported(state, "tadtr", AUTHORS)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"transformer": {"foo": 1}}, "the option 'transformer.foo', which is not known for OpenTAD's TadTR"),
        (
            {"transformer": {"position_embedding": {"temperature": 20}}},
            "position_embedding.temperature = 20",
        ),
        ({"transformer": {"encoder": {"post_norm": True}}}, "encoder.post_norm = True in --config is not supported"),
        (
            {"transformer": {"encoder": {"num_heads": 4}, "decoder": {"num_heads": 8}}},
            "decoder.num_heads is 8",
        ),
        ({"transformer": {"num_proposals": 99}}, "num_proposals is 99 in --config, but"),
        (
            {"projection": {"type": "ConvSingleProj"}},
            "OpenTAD's TadTR without projection.act_cfg = None is not supported",
        ),
        ({"projection": {"act_cfg": {"type": "relu"}}}, "projection.act_cfg.type = relu in --config is not supported"),
        ({"projection": {"norm_cfg": {"type": "BN"}}}, "projection.norm_cfg.type = BN in --config is not supported"),
    ],
)
def test_other_options_of_opentads_tadtr_are_refused_by_name(
    opentad: dict[str, torch.Tensor], config: dict[str, Any], message: str
) -> None:
    with pytest.raises(WeightsError, match=re.escape(message)):
        imported(opentad, "opentad", config)
