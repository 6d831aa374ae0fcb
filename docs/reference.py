"""Generates docs/cli.md from the commands' help and docs/settings.md from the settings; run by cog."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin

import annotated_types
import click
from pydantic import BaseModel
from pydantic.fields import FieldInfo

from tadkit.cli import app
from tadkit.config import Recipe, TeacherSettings

WIDTH = 88


def cli() -> str:
    """Every command's help, in order of use."""
    return "\n\n".join(f"## {' '.join(words)}\n\n```text\n{text}\n```" for words, text in _helps(app, None, "tadkit"))


def _helps(command: click.Command, parent: click.Context | None, name: str) -> Iterator[tuple[list[str], str]]:
    widths = {"terminal_width": WIDTH, "max_content_width": WIDTH}
    context = command.context_class(command, info_name=name, parent=parent, **{**command.context_settings, **widths})
    lines = [line.rstrip() for line in command.get_help(context).splitlines()]
    yield context.command_path.split(), "\n".join(lines)
    if isinstance(command, click.Group):
        for inner_name in command.list_commands(context):
            yield from _helps(command.commands[inner_name], context, inner_name)


def settings() -> str:
    """Every setting of a recipe: name, values, default, meaning."""
    fields = _required_first(Recipe)
    parts, written = [_table("Top level", "", fields)], dict[tuple[type[BaseModel], ...], str]()
    for name, field in fields:
        models = tuple(_models(field.annotation))
        if like := written.get(models):
            parts.append(f"## {name}\n\n{field.description} It has the same settings as `{like}` above.")
        elif models:
            parts += _sections(name, field, models)
            written[models] = name
    return "\n\n".join(parts)


def _required_first(model: type[BaseModel]) -> list[tuple[str, FieldInfo]]:
    return sorted(model.model_fields.items(), key=lambda item: not item[1].is_required())


def _choice_in_order(model: type[BaseModel], tag: str) -> list[tuple[str, FieldInfo]]:
    """The tag of a union's member first, then required fields, its own fields, and those shared with other members."""
    own = model.__annotations__
    return sorted(
        _required_first(model), key=lambda item: (item[0] != tag, not item[1].is_required(), item[0] not in own)
    )


def _sections(name: str, field: FieldInfo, models: Sequence[type[BaseModel]]) -> Iterator[str]:
    """Tables of the settings classes in a field, one for each member of a union."""
    if models == (TeacherSettings,):  # its tables are sections of their own
        yield _table(name, str(field.description), _required_first(TeacherSettings), tables="the recipe's")
        return
    for model in models:
        nested = [(key, inner) for key, inner in model.model_fields.items() if list(_models(inner.annotation))]
        if nested:
            names = ", ".join(f"`{name}.{key}`" for key, _ in nested)
            inner = next(_models(nested[0][1].annotation))
            yield _table(name, f"{field.description} The same for {names}.", _required_first(inner))
            for key, own in nested:
                (kind,) = _models(own.annotation)
                if more := [item for item in _required_first(kind) if item[0] not in inner.model_fields]:
                    yield _table(f"{name}.{key}", "Beside those above.", more)
            continue
        tag = next((key for key in ("method", "kind", "name") if len(models) > 1 and key in model.model_fields), None)
        title = f"{name}: {_values(model.model_fields[tag])}" if tag else name
        fields = _choice_in_order(model, tag) if tag else _required_first(model)
        about = (model.__doc__ or "").strip().splitlines()[0].replace("``", "`")
        yield _table(title, " ".join(dict.fromkeys([str(field.description), about])), fields)


def _table(title: str, about: str, fields: Sequence[tuple[str, FieldInfo]], *, tables: str = "see below") -> str:
    """A table of settings; ``tables`` is the default of those that are tables themselves."""
    rows = [
        f"| `{name}` | {_values(field)} | {_default(field, tables)} | {_meaning(name, field)} |"
        for name, field in fields
    ]
    head = [f"## {title}", *([about] if about else [])]
    return "\n\n".join([*head, "\n".join(["| setting | values | default | meaning |", "|---|---|---|---|", *rows])])


def _meaning(name: str, field: FieldInfo) -> str:
    words = (field.description or f"Chooses the {name}.").replace("``", "`").replace("|", "\\|")
    return " ".join(words.split())


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)


def _values(field: FieldInfo) -> str:
    if list(_models(field.annotation)):
        return "tables" if get_origin(field.annotation) is tuple else "table"
    return ", ".join([_kind(field.annotation), *_bounds(field.metadata)])


def _bounds(metadata: Sequence[Any]) -> list[str]:
    return [text for item in metadata if (text := _bound(item))]


def _bound(item: Any) -> str:
    match item:
        case annotated_types.Ge(ge=value):
            return f">= {value}"
        case annotated_types.Gt(gt=value):
            return f"> {value}"
        case annotated_types.Le(le=value):
            return f"<= {value}"
        case annotated_types.Lt(lt=value):
            return f"< {value}"
    return ""


def _kind(annotation: Any) -> str:
    names = {int: "integer", float: "number", bool: "true or false", str: "text", Path: "path"}
    if annotation in names:
        return names[annotation]
    arguments = get_args(annotation)
    if get_origin(annotation) is Annotated:
        return ", ".join([_kind(arguments[0]), *(text for field in arguments[1:] for text in _bounds(field.metadata))])
    if get_origin(annotation) is tuple:
        return f"list of {_kind(arguments[0])}"
    if get_origin(annotation) is dict:
        return "tables by name"
    if get_origin(annotation) is Literal:
        return ", ".join(f"`{str(value).lower() if isinstance(value, bool) else value}`" for value in arguments)
    if get_origin(annotation) in (Union, UnionType):
        return " or ".join(_kind(inner) for inner in arguments if inner is not NoneType)
    raise TypeError(f"{annotation}: no words for this kind of setting; add them here")


def _default(field: FieldInfo, tables: str) -> str:
    if field.is_required():
        return "required"
    if isinstance(field.default, BaseModel) or list(_models(field.annotation)):
        return tables
    if field.default is None or field.default_factory is not None:
        return "none"
    value = list(field.default) if isinstance(field.default, tuple) else field.default
    return f"`{str(value).lower() if isinstance(value, bool) else value}`"
