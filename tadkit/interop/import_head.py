"""``tadkit import head``: convert a checkpoint of another project to a tadkit head with the same outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tadkit.checkpoint import read_foreign
from tadkit.errors import UsageError, WeightsError
from tadkit.files import digest_of_file
from tadkit.interop import Source
from tadkit.interop.actionformer import settings_of, translated
from tadkit.interop.configurations import read_config
from tadkit.interop.opentad import from_opentad, opentad_kind
from tadkit.interop.tadtr import from_authors
from tadkit.models.head_file import head_settings, save_head
from tadkit.models.heads import AGNOSTIC_LABEL, Head, build_head

_SECTIONS = (
    *("dataset", "model", "kwargs", "config", "train_cfg"),
    *("projection", "rpn_head", "conv_cfg", "attn_cfg", "assigner"),  # in OpenTAD's model
)

_WRAPPED = re.compile(r"^(?:(?:module|model|_orig_mod)\.)+")
"""Prefixes of parallel, averaged, compiled and Lightning models."""
_NUMBERED = re.compile(r"(\d+)[\s,]+(.*\S)")

_OPENTAD = {
    "center_radius": "center_sample_radius",
    "path_pdrop": "droppath",
    "proj_pdrop": "dropout",
    "loss_normalizer": "init_loss_norm",
}
"""OpenTAD's names of ActionFormer's settings."""


@dataclass(frozen=True)
class ImportedHead:
    """An imported head.

    Attributes:
        head: in evaluation mode.
        averaged: whether its weights are the checkpoint's averaged ones.
        assumed: settings found in neither weights nor config, as ``name=value``.
        left_out: number of tensors of the backbone, which are not imported.
    """

    head: Head
    averaged: bool
    assumed: tuple[str, ...]
    left_out: int = 0


def import_head(
    checkpoint: Path, out: Path, *, source: Source, config: Path | None = None, labels: Path | None = None
) -> ImportedHead:
    """Convert a head of another project and write it to ``out``.

    Args:
        checkpoint: ``.pth.tar``, ``.pth`` (read without running any code in it) or ``.safetensors``.
        out: ``.safetensors`` file of kind ``head``.
        source: project that it is from.
        config: the project's settings: YAML, an OpenTAD recipe (Python, not run), or JSON of constructor arguments.
        labels: text file with one class per line, optionally after its number; by default classes are named by their
            numbers, and the one of a head without classifier ``action``.

    Raises:
        WeightsError: the file is not a checkpoint of a head of that project.
        SettingsError: the config cannot be read.
        UsageError: labels do not match the head.
    """
    given = read_config(config) if config is not None else {}
    state, averaged = read_state(checkpoint)
    imported = build_imported(state, source, given, where=str(checkpoint))
    names = _labels(labels, imported.head)
    provenance = {"imported": {"from": source, "file": checkpoint.name, "sha256": digest_of_file(checkpoint)}}
    save_head(out, imported.head, labels=names, provenance=provenance)
    return replace(imported, averaged=averaged)


def build_imported(
    state: Mapping[str, Tensor], source: Source, config: Mapping[str, Any], *, where: str
) -> ImportedHead:
    """Build the head of an imported state dict, in evaluation mode.

    Raises:
        WeightsError: names or shapes match no head; the message lists the first few.
    """
    given = len(state)
    if source == "opentad":
        state, config = _head_alone(state, config)
    try:
        section, channels, classes, tensors, assumed = _sized(state, source, config, where=where)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise WeightsError(
            f"{where}: weights or config do not match a head of {source}: a size or a setting has an unexpected form "
            f"({error})"
        ) from error
    head = build_head(head_settings(section, where=where), in_channels=channels, num_classes=classes)
    own = head.state_dict()
    unseen = {"running.mean"} - tensors.keys()  # ActionFormer and TriDet do not save it
    strange, missing = sorted(tensors.keys() - own.keys()), sorted(own.keys() - tensors.keys() - unseen)
    if strange or missing:
        lists = {"unknown": strange, "missing": missing}
        differences = "; ".join(f"{word} {', '.join(names[:4])}" for word, names in lists.items() if names)
        way_out = "expected the --config that it was trained with" if config else "give its --config"
        raise WeightsError(f"{where}: not a head of {source} that tadkit supports ({differences}); {way_out}")
    for name, value in tensors.items():
        if value.numel() != own[name].numel():
            shapes = f"{tuple(value.shape)}, expected {tuple(own[name].shape)}"
            raise WeightsError(f"{where}: {name} has shape {shapes}; give the --config that it was trained with")
        if not value.isfinite().all():
            raise WeightsError(f"{where}: {name} holds values that are not finite; take another epoch's checkpoint")
    head.load_state_dict(own | {name: value.reshape(own[name].shape).float() for name, value in tensors.items()})
    return ImportedHead(head.eval(), averaged=False, assumed=assumed, left_out=given - len(state))


def _head_alone(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Weights and settings of OpenTAD's model without the backbone of end-to-end training."""
    head = {name: value for name, value in state.items() if not name.removeprefix("module.").startswith("backbone.")}
    model = config.get("model")
    if isinstance(model, Mapping):  # a backbone has attention heads of its own
        config = {**config, "model": {name: value for name, value in model.items() if name != "backbone"}}
    return head, config


def _sized(
    state: Mapping[str, Tensor], source: Source, config: Mapping[str, Any], *, where: str
) -> tuple[dict[str, Any], int, int, dict[str, Tensor], tuple[str, ...]]:
    """Head settings, channels, classes, weights under tadkit's names, and assumed settings."""
    if source == "tadtr" or (source == "opentad" and opentad_kind(state) is not None):
        one = (from_authors if source == "tadtr" else from_opentad)(state, config, where=where)
        return one.section, one.in_channels, one.num_classes, one.tensors, one.assumed
    heads = {name.removeprefix("module.").partition(".")[0] for name in state} & {"rpn_head", "cls_head"}
    if heads == ({"cls_head"} if source == "opentad" else {"rpn_head"}):
        other = "actionformer or tridet" if source == "opentad" else "opentad"
        raise WeightsError(f"{where}: its weights have the names of {other}; pass that with --from")
    tensors = translated(state)
    section, assumed = settings_of(tensors, source, flattened(config), where=where)
    first = tensors.get("pyramid.embedding.0.conv.weight")
    streams = section["streams"]
    channels = sum(n for n, _ in streams) if streams else first.shape[1] if first is not None else section["dim"]
    return section, channels, len(tensors["classifier.out.conv.bias"]), tensors, tuple(assumed)


def read_state(path: Path) -> tuple[dict[str, Tensor], bool]:
    """State dict of a checkpoint, averaged weights where it has them, and whether it had.

    Raises:
        WeightsError: not a checkpoint, or one that could only be read by running code in it.
    """
    held = read_foreign(path)
    for name in ("state_dict_ema", "state_dict", "model"):
        if isinstance(held, Mapping) and isinstance(held.get(name), Mapping) and held[name]:
            held = held[name]
            averaged = name == "state_dict_ema"
            break
    else:
        averaged = False
    if not isinstance(held, Mapping) or not held:
        raise WeightsError(f"{path}: contains no state dict; expected a checkpoint of a training run")
    if strange := [name for name, value in held.items() if not isinstance(value, Tensor)]:
        raise WeightsError(
            f"{path}: contains no state dict ('{strange[0]}' is not a tensor); expected a training checkpoint"
        )
    return {_WRAPPED.sub("", str(name)): value for name, value in held.items()}, averaged


def flattened(config: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of all sections in one table; the group norm of OpenTAD's neck as ``neck_groups``."""
    flat = {name: value for name, value in config.items() if not isinstance(value, Mapping)}
    for name in _SECTIONS:
        if isinstance(config.get(name), Mapping):
            flat |= flattened(config[name])
    neck = config.get("neck")
    norm = neck.get("norm_cfg") if isinstance(neck, Mapping) else None
    if isinstance(neck, Mapping) and "norm_cfg" in neck:
        flat["neck_groups"] = norm["num_groups"] if isinstance(norm, Mapping) and norm.get("type") == "GN" else 0
    generator = config.get("prior_generator")
    if isinstance(generator, Mapping) and "regression_range" in generator:
        flat["regression_range"] = generator["regression_range"]
    for theirs, name in _OPENTAD.items():
        if theirs in flat:
            flat.setdefault(name, flat[theirs])
    return flat


def _labels(path: Path | None, head: Head) -> tuple[str, ...]:
    count, class_agnostic = head.num_classes, head.settings.class_agnostic
    if path is None:
        return (AGNOSTIC_LABEL,) if class_agnostic else tuple(str(n) for n in range(count))
    try:
        names = tuple(line.strip() for line in path.read_text(encoding="utf-8").splitlines() if line.strip())
    except OSError as error:
        raise UsageError(f"{path}: cannot be read ({error.strerror}); expected one class per line") from error
    except UnicodeDecodeError as error:
        raise UsageError(f"{path}: is not text ({error}); expected one class per line") from error
    numbered = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    numbers = [int(match[1]) for match in numbered]
    if len(numbered) == len(names) and numbers == sorted(set(numbers)):
        names = tuple(match[2] for match in numbered)  # a class list such as THUMOS14's
    if len(names) != count or len(set(names)) != count:
        out = " and no classifier; leave out --labels: --video-scores gives the labels" if class_agnostic else ""
        raise UsageError(f"{path}: {len(set(names))} different classes; the head has {count}{out}")
    return names
