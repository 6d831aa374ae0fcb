"""Where a mistake in settings is: the name of the setting in a recipe at the location of a pydantic error.

Pydantic puts the tag of a union into the location, such as ``sources.0.features.rgb`` for ``sources.0.rgb``.
"""

from __future__ import annotations

import types
from collections.abc import Sequence
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import BaseModel

TAGS = ("method", "kind", "name")
"""Settings that choose the class of a table."""


def setting_name(kind: type[BaseModel], location: Sequence[str | int]) -> str:
    """Dotted name of the setting at a pydantic error's location, without the union tags that pydantic inserts."""
    return ".".join(place(kind, location)[0])


def place(kind: type[BaseModel], location: Sequence[str | int]) -> tuple[list[str], list[type[BaseModel]]]:
    """The keys of a mistake without the union tags that pydantic inserts, and the settings classes it may belong to."""
    keys: list[str] = []
    candidates, parents = [kind], list[type[BaseModel]]()
    choosing = False  # whether a union was entered: its tag comes next, even if a setting has the same name
    for position, part in enumerate(location):
        tagged = [model for model in candidates if part in tags_of(model)]
        if choosing and tagged:
            candidates, choosing = tagged, False
            continue
        keys.append(str(part))
        parents = candidates
        if isinstance(part, str) and position < len(location) - 1:
            fields = [model.model_fields[part].annotation for model in candidates if part in model.model_fields]
            candidates = [model for annotation in fields for model in _models(annotation)]
            choosing = len(candidates) > 1
    return keys, parents


def tags_of(model: type[BaseModel]) -> list[str]:
    """The tag values that select ``model`` in a union."""
    fields = [model.model_fields[tag] for tag in TAGS if tag in model.model_fields]
    return [str(value) for field in fields for value in get_args(field.annotation)]


def _models(annotation: Any) -> list[type[BaseModel]]:
    """The settings classes inside an annotation: itself, a union's members, a tuple's items."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    if get_origin(annotation) in (Annotated, Union, types.UnionType, tuple):
        return [model for inner in get_args(annotation) for model in _models(inner)]
    return []
