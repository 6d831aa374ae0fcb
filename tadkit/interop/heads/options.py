"""Reading of other projects' options: unknown ones are refused by name, and values that would need another net."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from tadkit.errors import WeightsError
from tadkit.interop.heads.option_tables import (
    DEFAULTS,
    ONLY,
    OPTIONS,
    POST_PROCESSING,
    PROJECTS,
    RENAMED,
    SECTIONS,
    YAML,
    Family,
    Use,
)


@dataclass(frozen=True)
class Options:
    """The options of one configuration.

    Attributes:
        values: by ActionFormer's, TriDet's or TemporalMaxer's names for the anchor-free heads.
        shown: the name in the file of each option that is called otherwise there.
        whole: whether the file is a complete configuration, so that what is missing has the project's default.
    """

    values: Mapping[str, Any] = field(default_factory=dict)
    shown: Mapping[str, str] = field(default_factory=dict)
    whole: bool = False

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def get(self, name: str, otherwise: Any = None) -> Any:
        """An option, or the project's default if the file is a complete configuration."""
        return self.values.get(name, DEFAULTS.get(name, otherwise) if self.whole else otherwise)

    def name(self, name: str) -> str:
        """What the option is called in the file."""
        return self.shown.get(name, name)

    def check(self, seen: Mapping[str, Any], *, where: str) -> None:
        """Refuse the first option that contradicts the weights.

        Args:
            seen: values that the weights show.
            where: file name for error messages.

        Raises:
            WeightsError: naming the option.
        """
        for name, shown in seen.items():
            if name in self.values and plain(self.values[name]) != plain(shown):
                raise WeightsError(
                    f"{where}: {self.name(name)} is {plain(self.values[name])} in --config, but the weights show "
                    f"{plain(shown)}; give the --config that it was trained with"
                )


def plain(value: Any) -> Any:
    """A value in which a list equals a tuple."""
    return [plain(item) for item in value] if isinstance(value, (list, tuple)) else value


def read_options(config: Mapping[str, Any], family: Family, *, where: str) -> Options:
    """Options of a configuration, nested as in its file or flat.

    Raises:
        WeightsError: an option is unknown, or has a value that tadkit does not support.
    """
    if isinstance(config.get("kwargs"), Mapping):
        config = config["kwargs"]
    if family.startswith("opentad"):
        return _of_opentad(config, family, where=where)
    found: dict[str, Any] = {}
    for path, value in _leaves(config):
        name = ".".join(_outside_sections(path))
        _check(name, value, family, where=where)
        found[name] = value
    nested = isinstance(config.get("model"), Mapping) or isinstance(config.get("dataset"), Mapping)
    return Options(found, whole=nested and family in YAML)


def _of_opentad(config: Mapping[str, Any], family: Family, *, where: str) -> Options:
    """Options of a recipe of OpenTAD, or of its ``model`` alone, under ActionFormer's names where it has them."""
    model, post = config.get("model"), config.get("post_processing")
    found: dict[str, Any] = {}
    shown: dict[str, str] = {}
    for path, value in _leaves(model if isinstance(model, Mapping) else config):
        name = ".".join(path)
        if path[0] == "post_processing":
            continue
        full = name if len(path) > 1 else _spelt_out(name, family)
        _check(full, value, family, where=where)
        own = RENAMED.get(full, full) if family == "opentad" else full
        found[own], shown[own] = value, name
    for path, value in _leaves(post) if isinstance(post, Mapping) else ():
        name = ".".join(path)
        if not _use_of(name, POST_PROCESSING):
            raise _unknown(f"post_processing.{name}", family, where=where)
        found[f"post_processing.{name}"] = value
    if family == "opentad" and found and _slides(config):
        found["post_processing.sliding_window"] = True
    if family == "opentad" and (hidden := found.pop("rpn_head.num_convs", None)) is not None:
        found["head_num_layers"], shown["head_num_layers"] = hidden + 1, "rpn_head.num_convs, plus one,"
    return Options(found, shown)


def _slides(config: Mapping[str, Any]) -> bool:
    """Whether a recipe of OpenTAD predicts windows of a video one by one."""
    test = dataset.get("test") if isinstance(dataset := config.get("dataset"), Mapping) else None
    return isinstance(test, Mapping) and "Sliding" in str(test.get("type"))


def _spelt_out(name: str, family: Family) -> str:
    """The option that a name outside of all tables means, if there is only one."""
    if name in OPTIONS[family]:
        return name
    whole = [option for option in OPTIONS[family] if option.rpartition(".")[2] == name]
    own = [option for option, theirs in RENAMED.items() if theirs == name] if family == "opentad" else []
    return own[0] if own else whole[0] if whole else name


def _leaves(table: Mapping[str, Any], above: tuple[str, ...] = ()) -> Iterator[tuple[tuple[str, ...], Any]]:
    """Paths and values of all options of a nested table; empty tables count as options."""
    for name, value in table.items():
        path = (*above, str(name))
        if isinstance(value, Mapping) and value:
            yield from _leaves(value, path)
        elif not isinstance(value, Mapping):
            yield path, value


def _outside_sections(path: tuple[str, ...]) -> tuple[str, ...]:
    """The path without the sections of a YAML file whose options have names of their own."""
    while len(path) > 1 and path[0] in SECTIONS:
        path = path[1:]
    if len(path) > 1 and path[0] == "dataset" and path[1] != "backbone_type":
        return path[1:]
    return path


def _use_of(name: str, known: Mapping[str, Use]) -> Use | None:
    if name in known:
        return known[name]
    return next((use for pattern, use in known.items() if "*" in pattern and fnmatchcase(name, pattern)), None)


def _check(name: str, value: Any, family: Family, *, where: str) -> None:
    """Refuse an unknown option, or a value that would need another net."""
    if _use_of(name, OPTIONS[family]) is None:
        raise _unknown(name, family, where=where)
    allowed = ONLY[family].get(name)
    if allowed is not None and value not in allowed:
        expected = " or ".join(str(one) for one in allowed)
        raise WeightsError(
            f"{where}: {PROJECTS[family]} with {name} = {value} in --config is not supported; expected {expected}"
        )


def _unknown(name: str, family: Family, *, where: str) -> WeightsError:
    return WeightsError(
        f"{where}: --config has the option '{name}', which is not known for {PROJECTS[family]}; remove it from the "
        "config if it does not affect the net"
    )
