"""Options of other projects' configurations: imported with equal outputs, or refused by name."""

from __future__ import annotations

import io
import json
import re
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from interop.published import Published
from interop.published_weights import as_opentad, options_of, recipe_of, weights_of
from safetensors.torch import load

from tadkit.interop.heads.option_tables import ONLY, OPTIONS, POST_PROCESSING, Family
from tadkit.interop.import_head import build_imported
from tadkit.models.heads import AnchorFreeHead

ACTIONFORMER: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no norm in the embedding": {"embd_with_ln": False},
    "no norm in the neck": {"fpn_with_ln": False},
    "no norm in the heads": {"head_with_ln": False},
    "no norm": {"embd_with_ln": False, "fpn_with_ln": False, "head_with_ln": False},
    "fpn": {"fpn_type": "fpn", "fpn_dim": 24},
    "fpn without norm": {"fpn_type": "fpn", "fpn_with_ln": False},
    "start level": {"fpn_start_level": 1},
    "start level of an fpn": {"fpn_start_level": 1, "fpn_type": "fpn"},
    "start level and windows": {"fpn_start_level": 1, "n_mha_win_size": [9, 3, 5]},
    "scale factor": {"scale_factor": 4},
    "scale factor of an fpn": {"scale_factor": 4, "fpn_type": "fpn"},
    "windows": {"n_mha_win_size": [5, -1, 3]},
    "even windows": {"n_mha_win_size": [4, 2, 1]},
    "global attention": {"n_mha_win_size": -1},
    "relative positions": {"use_rel_pe": True, "n_mha_win_size": [5, -1, 3]},
    "absolute positions": {"use_abs_pe": True},
    "convolutions": {"backbone_type": "conv"},
    "convolutions ignore positions": {"backbone_type": "conv", "use_abs_pe": True, "use_rel_pe": True, "n_head": 3},
    "convolutions by three": {"backbone_type": "conv", "scale_factor": 3, "max_seq_len": 36},
    "no embedding": {"backbone_arch": [0, 1, 2], "input_dim": 16},
    "no stem": {"backbone_arch": [1, 0, 2]},
    "one level": {"backbone_arch": [1, 2, 0]},
    "two streams": {"input_dim": [4, 2], "embd_dim": [10, 6]},
    "kernels": {"embd_kernel_size": 5, "head_kernel_size": 1},
    "one layer": {"head_num_layers": 1},
    "four layers": {"head_num_layers": 4, "head_dim": 20},
    "one attention head": {"n_head": 1},
    "no drop path": {"droppath": 0.0},
}
TRIDET: dict[str, dict[str, Any]] = {
    "as it is": {},
    "no norm": {"embd_with_ln": False, "fpn_with_ln": False, "head_with_ln": False},
    "fpn": {"fpn_type": "fpn"},
    "windows": {"n_sgp_win_size": [9, 3, 5], "k": 1.25},
    "scale factor": {"scale_factor": 4},
    "average": {"downsample_type": "avg"},
    "average by four": {"downsample_type": "avg", "scale_factor": 4},
    "kernels": {"head_kernel_size": 5, "boudary_kernel_size": 1, "num_bins": 2},
    "no Trident head": {"use_trident_head": False},
    "absolute positions": {"use_abs_pe": True},
    "convolutions": {"backbone_type": "conv", "n_sgp_win_size": 3},
    "convolutions without Trident head": {"backbone_type": "conv", "use_trident_head": False},
    "no stem": {"backbone_arch": [1, 0, 2]},
    "no drop path": {"droppath": 0.0},
}
TEMPORALMAXER: dict[str, dict[str, Any]] = {
    "as it is": {},
    "two groups": {"num_group": 2},
    "layer norm": {"fpn_norm": "layernorm"},
    "no norm": {"fpn_norm": None, "embd_with_ln": False, "head_with_ln": False},
    "start level": {"fpn_start_level": 1},
    "scale factor": {"scale_factor": 4},
    "two streams": {"input_dim": [4, 2], "embd_dim": [10, 6]},
}
CASES = [
    pytest.param(project, changed, id=f"{project}: {name}")
    for project, cases in (("actionformer", ACTIONFORMER), ("tridet", TRIDET), ("temporalmaxer", TEMPORALMAXER))
    for name, changed in cases.items()
]


OPENTAD: dict[str, tuple[str, dict[str, Any], dict[str, Any]]] = {
    "ActionFormer": ("actionformer", {}, {}),
    "no norm in the neck": ("actionformer", {"fpn_with_ln": False}, {"neck": {"norm_cfg": None}}),
    "no norm in the embedding": ("actionformer", {"embd_with_ln": False}, {"projection": {"norm_cfg": None}}),
    "start level": ("actionformer", {"fpn_start_level": 1}, {"neck": {"start_level": 1}}),
    "windows": ("actionformer", {"n_mha_win_size": [5, -1, 3]}, {}),
    "two streams": ("actionformer", {"input_dim": [4, 2], "embd_dim": [10, 6]}, {}),
    "TriDet": ("tridet", {"n_sgp_win_size": [1, 3, 5], "boudary_kernel_size": 1, "head_kernel_size": 5}, {}),
    "absolute positions": ("tridet", {"use_abs_pe": True}, {}),
}


def compare(head: Any, published: Published, features: torch.Tensor) -> None:
    assert isinstance(head, AnchorFreeHead)
    time = features.shape[2]
    with torch.no_grad():
        found = head(features, torch.ones(1, time, dtype=torch.bool))
        wanted = published.forward(features)
    assert len(found.logits) == len(wanted)
    for logits, offsets, real, theirs in zip(*found, wanted, strict=True):
        assert int(real.sum()) == len(theirs[0]) > 0
        torch.testing.assert_close(logits[real], theirs[0], rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(offsets[real], theirs[1], rtol=1e-4, atol=1e-4)


GOLDEN = Path(__file__).parents[1] / "parity" / "golden" / "models"


@pytest.mark.parametrize("name", ["af_win9_fpn_pe", "af_mixwin_relpe", "af_two_stream", "af_convbackbone", "td_win1"])
def test_the_reference_computes_what_the_code_itself_did(name: str) -> None:
    with zipfile.ZipFile(GOLDEN / f"{name}.zip") as archive:
        weights, recorded = load(archive.read("weights.safetensors")), json.loads(archive.read("config.json"))["kwargs"]
        inputs, found = (np.load(io.BytesIO(archive.read(f"{part}.npz"))) for part in ("inputs", "eval_T37"))
        features, theirs = torch.from_numpy(inputs["feats_T37"])[None], {part: found[part] for part in found.files}
    reference = Published({"fpn_start_level": 0, "droppath": 0.1} | recorded, weights)
    for level, (x, mask) in enumerate(reference.levels(features)):
        real = theirs[f"mask_l{level}"]
        logits = reference.tower(x, mask, "cls_head")[0].T[: len(real)]
        np.testing.assert_allclose(logits[real], theirs[f"cls_l{level}"][real], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(("project", "changed"), CASES)
def test_an_imported_head_computes_what_the_published_code_does(project: Any, changed: dict[str, Any]) -> None:
    options = options_of(project, **changed)
    weights = weights_of(options)
    config = {name: value for name, value in options.items() if name in OPTIONS[project]}
    imported = build_imported(weights, project, config, where="here")
    assert imported.assumed == ()
    torch.manual_seed(1)
    channels = options["input_dim"] if isinstance(options["input_dim"], int) else sum(options["input_dim"])
    for time in (21, 41):
        compare(imported.head, Published(options, weights), torch.randn(1, channels, time))


def test_an_fpn_without_norm_may_have_no_biases_as_in_older_code() -> None:
    options = options_of("actionformer", fpn_type="fpn", fpn_with_ln=False)
    weights = {name: x for name, x in weights_of(options).items() if not re.match(r"neck\..*bias", name)}
    config = {name: value for name, value in options.items() if name in OPTIONS["actionformer"]}
    head = build_imported(weights, "actionformer", config, where="here").head
    compare(head, Published(options, weights), torch.randn(1, 6, 21))


def test_weights_show_norms_levels_and_kernels_without_a_config() -> None:
    options = options_of("tridet", embd_with_ln=False, head_with_ln=False, n_sgp_win_size=[1, 3, 5], k=1.3)
    weights = weights_of(options)
    imported = build_imported(weights, "tridet", {}, where="here")
    assert imported.assumed == ("pad_to_steps=2304", "absolute_positions=false")
    compare(imported.head, Published(options | {"max_seq_len": 2304}, weights), torch.randn(1, 6, 21))


@pytest.mark.parametrize("name", OPENTAD)
def test_an_imported_head_of_opentad_computes_what_its_code_does(name: str) -> None:
    project, changed, its = OPENTAD[name]
    options = options_of(project, **changed)
    weights = weights_of(options)
    imported = build_imported(as_opentad(weights), "opentad", recipe_of(options, its), where="here")
    assert imported.assumed == ()
    torch.manual_seed(1)
    compare(imported.head, Published(options, weights, opentad=True), torch.randn(1, 6, 21))


TABLES: dict[str, tuple[Family, ...]] = {
    "ActionFormer, TriDet and TemporalMaxer": ("actionformer", "tridet", "temporalmaxer"),
    "TadTR of its authors": ("tadtr",),
    "ActionFormer, TriDet and TemporalMaxer in OpenTAD": ("opentad",),
    "TadTR in OpenTAD": ("opentad-tadtr",),
    "BMN in OpenTAD": ("opentad-bmn",),
}


def documented(heading: str) -> dict[str, str]:
    """Options of one table of the docs, and the last column."""
    page = (Path(__file__).parents[2] / "docs" / "parity.md").read_text()
    lines = page.partition(f"| {heading} | use |\n")[2].partition("\n\n")[0].splitlines()[1:]
    rows = [line.strip("| ").rpartition(" | ") for line in lines]
    return {name: use for words, _, use in rows for name in re.findall(r"`([^-`][^`]*)`", words)}


@pytest.mark.parametrize("heading", TABLES)
def test_every_option_is_documented_with_its_use(heading: str) -> None:
    table = documented(heading)
    for family in TABLES[heading]:
        for name, use in OPTIONS[family].items():
            if (family, name) != ("temporalmaxer", "fpn_with_ln"):  # the table says that it is unused there
                assert table[name].startswith(use), (family, name)
    values = {str(value) for family in TABLES[heading] for allowed in ONLY[family].values() for value in allowed}
    values |= {"FPN"}
    assert table.keys() - {name for family in TABLES[heading] for name in OPTIONS[family]} <= values


def test_every_option_of_opentads_decoding_is_documented() -> None:
    assert documented("`post_processing` in OpenTAD") == POST_PROCESSING
