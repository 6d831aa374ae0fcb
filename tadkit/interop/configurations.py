"""Settings files of other projects: YAML, JSON, and OpenTAD's Python recipes, parsed without running them."""

from __future__ import annotations

import ast
import json
import operator
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from tadkit.errors import SettingsError

_LARGEST = 10**9
"""Numbers in a recipe must be smaller."""
_LONGEST = 10_000
"""Maximum characters of a string and items of a range in a recipe."""
_ARITHMETIC: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.FloorDiv: operator.floordiv,
}


def read_config(path: Path) -> Mapping[str, Any]:
    """Settings of another project, from YAML, JSON or an OpenTAD recipe with its bases.

    Raises:
        SettingsError: missing, unreadable, not a table, or Python other than assignments of values.
    """
    return _read(path, ())


def _read(path: Path, above: tuple[Path, ...]) -> Mapping[str, Any]:
    """Settings of a file that the files in ``above`` are based on."""
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".py":
            return _Recipe(path, above).read(ast.parse(text))
        held = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except OSError as error:
        raise SettingsError(f"{path}: cannot be read ({error.strerror}); expected a config file") from error
    except SyntaxError as error:
        raise SettingsError(f"{path}: line {error.lineno}: not Python ({error.msg})") from error
    except (ValueError, RecursionError, yaml.YAMLError) as error:
        reason = " ".join(str(error).split())[:160]
        kind = "not a recipe" if path.suffix == ".py" else "neither YAML nor JSON"
        raise SettingsError(f"{path}: {kind} ({reason})") from error
    if not isinstance(held, Mapping):
        raise SettingsError(f"{path}: expected a table of settings")
    return held


class _Recipe:
    """One Python file of settings (mmengine's style): values assigned to names."""

    def __init__(self, path: Path, above: tuple[Path, ...]) -> None:
        self.path, self.above = path, (*above, path.resolve())
        self.names: dict[str, Any] = {}

    def read(self, tree: ast.Module) -> dict[str, Any]:
        """Its settings, merged over those of its bases."""
        based_on: dict[str, Any] = {}
        for statement in tree.body:
            match statement:
                case ast.Assign(targets=[ast.Name(id="_base_")], value=value):
                    based_on = self.bases(value)
                case ast.Assign(targets=[ast.Name(id=name)], value=value):
                    self.names[name] = self.value(value)
                case ast.Expr(value=ast.Constant()):  # a docstring
                    pass
                case _:
                    raise self.refused(statement)
        return _merged(based_on, self.names)

    def bases(self, node: ast.expr) -> dict[str, Any]:
        """Settings of the files in ``_base_``, relative to this one; later files take precedence."""
        named = self.value(node)
        settings: dict[str, Any] = {}
        for name in [named] if isinstance(named, str) else named or ():
            if not isinstance(name, str):
                raise self.refused(node)
            path = self.path.parent / name
            if path.resolve() in self.above:
                raise SettingsError(f"{self.path}: line {node.lineno}: is based on itself through {name}")
            settings = _merged(settings, _read(path, self.above))
        return settings

    def value(self, node: ast.expr) -> Any:
        """Value of an expression that needs no code to be run."""
        match node:
            case ast.Constant(value=value) if value is None or isinstance(value, (bool, int, float, str)):
                return value
            case ast.Name(id=name) if name in self.names:
                return self.names[name]
            case ast.List(elts=items):
                return [self.value(item) for item in items]
            case ast.Tuple(elts=items):
                return tuple(self.value(item) for item in items)
            case ast.Dict(keys=keys, values=values) if all(isinstance(key, ast.Constant) for key in keys):
                return {self.value(key): self.value(of) for key, of in zip(keys, values, strict=True) if key}
            case ast.Call(func=ast.Name(id="dict"), args=[], keywords=given) if all(one.arg for one in given):
                return {str(one.arg): self.value(one.value) for one in given}
            case ast.Call(func=ast.Name(id="list"), args=[inner], keywords=[]):
                return list(self.counted(inner))
            case ast.UnaryOp(op=ast.USub(), operand=operand):
                return self.computed(node, operator.sub, 0, self.value(operand))
            case ast.BinOp(left=left, op=op, right=right) if type(op) in _ARITHMETIC:
                return self.computed(node, _ARITHMETIC[type(op)], self.value(left), self.value(right))
        raise self.refused(node)

    def counted(self, node: ast.expr) -> range:
        """The numbers of ``range(...)``."""
        match node:
            case ast.Call(func=ast.Name(id="range"), args=[_, *_] as ends, keywords=[]) if len(ends) <= 3:
                bounds = [self.value(end) for end in ends]
                if all(type(end) is int for end in bounds) and 0 not in bounds[2:] and len(range(*bounds)) <= _LONGEST:
                    return range(*bounds)
        raise self.refused(node)

    def computed(self, node: ast.expr, how: Callable[[Any, Any], Any], left: Any, right: Any) -> Any:
        """Arithmetic on numbers, or a concatenation of two strings."""
        if isinstance(left, str) and isinstance(right, str):
            if how is operator.add and len(left) + len(right) <= _LONGEST:
                return left + right
            raise self.refused(node)
        fine = all(isinstance(of, (int, float)) and abs(of) <= _LARGEST for of in (left, right))
        if not fine or (right == 0 and how in (operator.truediv, operator.floordiv)):
            raise self.refused(node)
        return how(left, right)

    def refused(self, node: ast.stmt | ast.expr) -> SettingsError:
        """Error for a line that could only be evaluated by running it."""
        said = " ".join(ast.unparse(node).split())
        said = said if len(said) <= 60 else f"{said[:57]}..."
        return SettingsError(
            f"{self.path}: line {node.lineno}: '{said}' is not read, since no code is run; expected names that are "
            "assigned values, dict(...), lists or names above"
        )


def _merged(base: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Merge ``own`` over ``base``, table by table; a table with ``_delete_`` replaces the other entirely."""
    table = dict(base)
    for name, value in own.items():
        if isinstance(value, Mapping):
            below = base.get(name)
            kept = below if isinstance(below, Mapping) and not value.get("_delete_", False) else {}
            table[name] = _merged(kept, value)
        elif name != "_delete_":
            table[name] = value
    return table
