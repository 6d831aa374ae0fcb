"""Reads recipes (the TOML file of a run) and applies ``--set`` to them.

All mistakes in a recipe are reported together, one line each; for an unknown key the nearest known name is suggested.
"""

from __future__ import annotations

import difflib
import re
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import tomli_w
from pydantic import BaseModel, ValidationError, create_model

from tadkit.config import Recipe, Settings
from tadkit.config.base import merged
from tadkit.config.places import TAGS, place, tags_of
from tadkit.config.recipe import RowError
from tadkit.errors import SettingsError

Checked = TypeVar("Checked", bound=BaseModel)
_BARE_WORD = re.compile(r"[A-Za-z0-9_./${}~+-]+")


def load_recipe(path: Path, *, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe.

    Args:
        path: a TOML file.
        overrides: replacements for values in the file, each ``a.b=TOML``; ``sources.0.count=3`` sets one in a list.

    Raises:
        SettingsError: the file is missing or not TOML, or settings are wrong; one line per mistake.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as cause:
        raise SettingsError(f"{path}: no such recipe; docs/quickstart.md shows one to start from") from cause
    except (OSError, UnicodeDecodeError) as cause:
        raise SettingsError(f"{path}: cannot be read as a text file ({cause}); expected a recipe in TOML") from cause
    return parse_recipe(text, name=str(path), overrides=overrides)


def parse_recipe(text: str, *, name: str, overrides: Sequence[str] = ()) -> Recipe:
    """Read a recipe from its text; error messages start with ``name``.

    Raises:
        SettingsError: as :func:`load_recipe`.
    """
    try:
        values: dict[str, Any] = tomllib.loads(text)
    except tomllib.TOMLDecodeError as cause:
        raise SettingsError(f"{name}: not TOML: {cause}") from cause
    return check_settings(Recipe, merged(values, parse_overrides(overrides)), name=name)


def recipe_toml(recipe: Recipe) -> str:
    """The recipe as TOML, including defaults; :func:`parse_recipe` reads it back to an equal recipe."""
    return tomli_w.dumps(recipe.model_dump(mode="json", exclude_none=True))


def parse_overrides(overrides: Sequence[str]) -> dict[str, Any]:
    """Turn ``["head.levels=5", "name=try"]`` into ``{"head": {"levels": 5}, "name": "try"}``.

    Values are TOML; a bare word is read as text.

    Raises:
        SettingsError: no ``=``, an empty name, or a value that is neither TOML nor a bare word.
    """
    values: dict[str, Any] = {}
    for override in overrides:
        key, equals, text = override.partition("=")
        names = [name.strip() for name in key.split(".")]
        if not equals or not all(names):
            raise SettingsError(f"--set {override}: expected name=value, as in --set decode.keep=50")
        value = _toml_value(text.strip(), override)
        for name in reversed(names):
            value = {name: value}
        values = merged(values, value)
    return values


def _toml_value(text: str, override: str) -> Any:
    try:
        parsed = tomllib.loads(f"value = {text}")
        if set(parsed) == {"value"}:
            return parsed["value"]
    except tomllib.TOMLDecodeError:
        if _BARE_WORD.fullmatch(text):
            return text
    raise SettingsError(f"--set {override}: '{text}' is not a TOML value; quote text: --set 'name=\"some text\"'")


def load_sections(overrides: Sequence[str], *sections: str) -> dict[str, Any]:
    """Some sections of a recipe, by name, from the defaults and overrides, without a file.

    Raises:
        SettingsError: an override is wrong or belongs to another section; one line per mistake.
    """
    fields: dict[str, Any] = {
        name: (Recipe.model_fields[name].annotation, Recipe.model_fields[name]) for name in sections
    }
    kind = create_model("Sections", __base__=Settings, **fields)
    checked = check_settings(kind, parse_overrides(overrides), name="--set")
    return {name: getattr(checked, name) for name in sections}


def check_settings(kind: type[Checked], values: Mapping[str, Any], *, name: str, context: str | None = None) -> Checked:
    """Validate plain values as settings.

    Args:
        kind: a settings class.
        values: tables, lists and scalars as read from TOML.
        name: where the values come from; error messages start with it.
        context: :data:`tadkit.config.recipe.A_ROW` allows settings of a recipe that have no effect.

    Raises:
        SettingsError: one line per mistake.
    """
    try:
        return kind.model_validate(_with_default_tags(kind, values), context=context)
    except ValidationError as cause:
        raise SettingsError(*_lines(kind, cause, name)) from None


def refuse_unused(section: Settings, own: Settings, *, name: str) -> None:
    """Refuse changes of a section that change nothing, where ``own`` is the section without them.

    Raises:
        SettingsError: a changed setting has no effect; its name starts with ``name``.
    """
    for setting, need in section.unused.items():
        if getattr(section, setting) != getattr(own, setting):
            raise SettingsError(f"{name}{setting} has no effect: it needs {need}; leave it out")


def _lines(kind: type[BaseModel], cause: ValidationError, name: str) -> list[str]:
    """One line for each mistake; those of a variant start with its name."""
    errors, lines = cause.errors(include_url=False), list[str]()
    for error in errors:
        inner = error.get("ctx", {}).get("error")
        if isinstance(inner, RowError):
            lines += _lines(kind, inner.cause, f"{name}: {inner.where}")
        elif not _follows(error["loc"], errors):
            lines.append(_line(kind, dict(error), name))
    return lines


def _follows(location: tuple[int | str, ...], errors: Sequence[Any]) -> bool:
    """Whether a mistake follows from another one inside it, such as a list that is too short as its items are wrong."""
    return any(len(e["loc"]) > len(location) and e["loc"][: len(location)] == location for e in errors)


def _with_default_tags(kind: type[BaseModel], values: Mapping[str, Any]) -> dict[str, Any]:
    """Fill in the tag of a union from the field's default where a table omits it."""
    filled = kind.with_defaults(values) if issubclass(kind, Recipe) else dict(values)
    for field_name, field in kind.model_fields.items():
        tag, table = field.discriminator, filled.get(field_name)
        if isinstance(tag, str) and isinstance(table, Mapping) and tag not in table and field.default is not None:
            filled[field_name] = {tag: getattr(field.default, tag), **table}
    return filled


def _line(kind: type[BaseModel], error: dict[str, Any], name: str) -> str:
    """One mistake in one line: where and what."""
    keys, models = place(kind, error["loc"])
    given = error.get("input")
    if error["type"].startswith("union_tag") and isinstance(given, Mapping):
        named = error["ctx"]["discriminator"].strip("'")  # or a function, of heads
        tag = named if named in TAGS else "kind"
        keys, given = [*keys, tag], given.get(tag)
    where = "".join(f"{'.'.join(keys)}: " for _ in [0] if keys)
    message = _words(error, keys, models)
    named = error["type"] in ("extra_forbidden", "missing")
    got = f", got {given!r}" if isinstance(given, (str, int, float, bool)) and not named else ""
    return f"{name}: {where}{message}{got}"


def _words(error: dict[str, Any], keys: Sequence[str], models: Sequence[type[BaseModel]]) -> str:
    """What is wrong, with the nearest known name or the valid choices, in plainer words than some of pydantic's."""
    match error["type"]:
        case "extra_forbidden":
            known = sorted(models[0].model_fields) if models else []
            near = difflib.get_close_matches(keys[-1], known, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known settings: {', '.join(known)}"
            return f"no such setting; {hint}"
        case "missing":
            return "is missing"
        case "union_tag_invalid":
            return f"must be one of {error['ctx']['expected_tags']}"
        case "union_tag_not_found" if isinstance(error["input"], Mapping):
            return f"is missing; one of {', '.join(repr(tag) for model in models for tag in tags_of(model))}"
        case "union_tag_not_found" | "model_type" | "model_attributes_type":
            return "must be a table"
        case "dict_type":
            return "must be a table"
        case "tuple_type" if isinstance(error["input"], Mapping):
            return f"must be a list of tables; write [[{keys[-1]}]] with two brackets"
        case "tuple_type":
            return "must be a list"
        case "bool_type" | "bool_parsing":
            return "must be true or false"
        case "too_short":
            return f"must have {error['ctx']['min_length']} or more, has {error['ctx']['actual_length']}"
    message = str(error["msg"]).removeprefix("Value error, ")
    return re.sub("^Input should be", "must be", message[0].lower() + message[1:], flags=re.IGNORECASE)
