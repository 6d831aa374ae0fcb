"""Paths of a recipe: relative to its folder, with ``${NAME}`` replaced from the environment."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.config import RaftSettings, Recipe
from tadkit.errors import SettingsError


def expanded(text: str, *, base: Path) -> Path:
    """A path of a recipe, relative to ``base``, with ``${NAME}`` replaced from the environment.

    Raises:
        SettingsError: a variable is not set.
    """

    def value(match: re.Match[str]) -> str:
        if match[1] not in os.environ:
            raise SettingsError(f"'{text}': the environment variable {match[1]} is not set; export {match[1]}=FOLDER")
        return os.environ[match[1]]

    return base / re.sub(r"\$\{(\w+)\}", value, text)


def with_weights_found(recipe: Recipe, *, base: Path) -> Recipe:
    """The recipe with absolute paths of the weights files of its backbones, of its variants' and of RAFT.

    Absolute, since a detector that computes flow reads RAFT's file again, from any folder.

    Raises:
        SettingsError: an environment variable is not set.
    """

    def found(path: object) -> Path:
        return expanded(str(path), base=base).absolute()

    nets = {name: getattr(recipe, name) for name in ("backbone", "teacher_backbone")}
    nets |= {"flow": recipe.flow} if isinstance(recipe.flow, RaftSettings) else {}
    changed: dict[str, Any] = {
        name: net.model_copy(update={"weights": found(net.weights)})
        for name, net in nets.items()
        if net.weights is not None
    }
    variants = dict(recipe.variants)
    for row, changes in recipe.variants.items():
        net = changes.get("backbone")
        if isinstance(net, Mapping) and net.get("weights") is not None:
            variants[row] = {**changes, "backbone": {**net, "weights": str(found(net["weights"]))}}
    if variants != recipe.variants:
        changed["variants"] = variants
    return recipe.model_copy(update=changed) if changed else recipe
