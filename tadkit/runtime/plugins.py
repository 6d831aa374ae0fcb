"""Backbones, heads and flow methods of other packages, which announce them as entry points.

A package names them in its ``pyproject.toml`` (docs/plugins.md)::

    [project.entry-points."tadkit.backbones"]
    my-net = "my_package:my_net"
"""

from __future__ import annotations

from collections.abc import Callable
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Literal, NamedTuple, get_args

from tadkit.errors import SettingsError, TadkitError

Group = Literal["tadkit.backbones", "tadkit.heads", "tadkit.flow"]


class Plugin(NamedTuple):
    """An entry point that is installed.

    Attributes:
        group: what it is.
        name: as in ``entry_point`` of the settings.
        package: name and version of the package.
        place: module and function that it names.
    """

    group: Group
    name: str
    package: str
    place: str


def plugins() -> list[Plugin]:
    """Every installed entry point of tadkit's groups, by group and name; nothing is imported."""
    return [_described(group, entry) for group in get_args(Group) for entry in _entries(group)]


def load_plugin(group: Group, name: str) -> Callable[..., Any]:
    """The function that an entry point names.

    Raises:
        SettingsError: no package, or more than one, has this entry point, or it does not load.
    """
    entry = _entry(group, name)
    plugin = _described(group, entry)
    try:
        function: Callable[..., Any] = entry.load()
    except Exception as error:  # of the other package's code
        raise SettingsError(f"{_said(plugin)} does not load ({_reason(error)}); {_remedy(plugin, error)}") from error
    if not callable(function):
        raise SettingsError(f"{_said(plugin)} is no function; {plugin.place} must be callable")
    return function


def made_by_plugin(group: Group, name: str, **arguments: Any) -> Any:
    """What the function of an entry point returns.

    Raises:
        SettingsError: it does not load, or it fails.
    """
    function = load_plugin(group, name)
    try:
        return function(**arguments)
    except TadkitError:
        raise
    except Exception as error:  # of the other package's code
        plugin = _described(group, _entry(group, name))
        called = f"{_said(plugin)} failed ({_reason(error)}) when called with {', '.join(arguments)}"
        raise SettingsError(f"{called}; {_remedy(plugin, error)}") from error


def wrong_plugin(group: Group, name: str, problem: str) -> SettingsError:
    """The error for an entry point whose function returns something else than documented."""
    return SettingsError(f"{_said(_described(group, _entry(group, name)))} {problem}")


def package_of(group: Group, name: str) -> str:
    """Name and version of the package of an entry point.

    Raises:
        SettingsError: no package, or more than one, has it.
    """
    return _described(group, _entry(group, name)).package


def _entries(group: Group) -> list[EntryPoint]:
    """Each entry point once: a package may be found twice, in its source folder and where it is installed."""
    found = {(entry.name, _package(entry), entry.value): entry for entry in entry_points(group=group)}
    return [found[key] for key in sorted(found)]


def _entry(group: Group, name: str) -> EntryPoint:
    found = [entry for entry in _entries(group) if entry.name == name]
    if len(found) > 1:
        packages = " and ".join(_package(entry) for entry in found)
        raise SettingsError(f"{_named(group, name)}: {packages} both have it; uninstall one of them")
    if not found:
        known = ", ".join(f"'{entry.name}'" for entry in _entries(group)) or "none"
        raise SettingsError(
            f"{_named(group, name)}: no installed package has it (installed: {known}); install the package that has it"
        )
    return found[0]


def _described(group: Group, entry: EntryPoint) -> Plugin:
    return Plugin(group, entry.name, _package(entry), entry.value)


def _package(entry: EntryPoint) -> str:
    return f"{entry.dist.name} {entry.dist.version}" if entry.dist is not None else "unknown"


def _said(plugin: Plugin) -> str:
    return f"{_named(plugin.group, plugin.name)} of {plugin.package}"


def _named(group: Group, name: str) -> str:
    """The value of the setting; several sections have one for the same group, such as those of teacher and student."""
    return f"entry_point '{name}' (group {group})"


def _remedy(plugin: Plugin, error: Exception) -> str:
    """What to do about an exception inside a package: only a module that it lacks can be installed."""
    report = f"report it to the authors of {plugin.package.partition(' ')[0]}"
    return f"install that module, or {report}" if isinstance(error, ModuleNotFoundError) else report


def _reason(error: Exception) -> str:
    return f"{type(error).__name__}: {' '.join(str(error).split())}"
