"""The table of backbones says what the code builds."""

from __future__ import annotations

import re
from pathlib import Path
from typing import get_args

import pytest
import torch

from tadkit.config import BackboneSettings, PluginBackboneSettings
from tadkit.models.backbones import build_backbone

PAGE = (Path(__file__).parents[2] / "docs" / "backbones.md").read_text(encoding="utf-8")
ROWS = {
    found[1]: [cell.strip() for cell in line.strip("|").split("|")]
    for line in PAGE.splitlines()
    if (found := re.match(r"\| `([\w-]+)`", line))
}
PARAMETERS = dict(re.findall(r"^\| ([\w-]+) \| ([\d.]+) \| [\d.]+ \|$", PAGE, re.MULTILINE))
KINDS = get_args(get_args(BackboneSettings)[0])
NAMES = {name: kind for kind in KINDS for name in get_args(kind.model_fields["name"].annotation)}


def test_every_backbone_has_a_row():
    assert ROWS.keys() == NAMES.keys()


@pytest.mark.parametrize("name", [name for name, kind in NAMES.items() if kind is not PluginBackboneSettings])
def test_a_row_says_what_is_built(name):
    settings = NAMES[name].model_validate({"name": name})
    _, _, weights, channels, stride, halo, align = ROWS[name]
    with torch.device("meta"):
        net = build_backbone(settings, in_channels=3, pretrained=False)
    assert (str(net.channels), str(net.halo_frames)) == (channels, halo)
    assert stride.split(",")[0] == str(net.stride)
    assert net.align_frames == settings.align_frames
    assert str(net.align_frames) == (str(net.stride) if align == "stride" else align)
    assert (weights == "none") == (not settings.pretrained)
    parameters = sum(parameter.numel() for parameter in net.parameters()) / 1e6
    assert PARAMETERS.get(name, f"{parameters:.1f}") == f"{parameters:.1f}"


def test_parameters_are_given_of_nets_over_time_and_space():
    assert len(PARAMETERS) == 9
    assert PARAMETERS.keys() <= NAMES.keys()
