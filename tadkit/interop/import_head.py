"""``tadkit import head``: convert a checkpoint of another project to a tadkit head with the same outputs."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from torch import Tensor

from tadkit.checkpoint import read_foreign
from tadkit.errors import UsageError, WeightsError
from tadkit.files import digest_of_file
from tadkit.interop import Source
from tadkit.interop.configurations import read_config
from tadkit.interop.heads.actionformer import translated
from tadkit.interop.heads.anchor_free import refuse_other_project, settings_of
from tadkit.interop.heads.decoding import UNKNOWN, Decoding, decoding_of
from tadkit.interop.heads.opentad import BMN_SEEN, TADTR_SEEN, ForeignHead, from_opentad, opentad_kind
from tadkit.interop.heads.option_tables import Family
from tadkit.interop.heads.options import read_options
from tadkit.interop.heads.tadtr import SEEN, from_authors
from tadkit.models.head_file import head_settings, save_head
from tadkit.models.heads import AGNOSTIC_LABEL, Head, build_head

_WRAPPED = re.compile(r"^(?:(?:module|model|_orig_mod)\.)+")
"""Prefixes of parallel, averaged, compiled and Lightning models."""
_NUMBERED = re.compile(r"(\d+)[\s,]+(.*\S)")
_EXPLAINED = (
    (r"^(encoder|decoder)\..*offsets", "enc_n_points, dec_n_points, num_feature_levels"),
    (r"^pyramid\.embedding", "embd_with_ln, embd_kernel_size"),
    (r"^pyramid\.(out_norms|fpn)", "fpn_type, fpn_with_ln"),
    (r"^pyramid\.streams", "input_dim, embd_dim"),
    (r"\.distances$", "n_head, n_mha_win_size, use_rel_pe"),
    (r"\.attention\.", "backbone_type, scale_factor"),
    (r"\.(widen|narrow|skip)\.", "backbone_type, scale_factor"),
    (r"\.(gate|short)\.", "n_sgp_win_size"),
    (r"\.long\.", "k, n_sgp_win_size"),
    (r"\.mlp_(in|out)\.", "sgp_mlp_dim"),
    (r"\.pooled\.", "downsample_type"),
    (r"_path\.scale$", "droppath"),
    (r"^(stem|branches)\.", "backbone_arch"),
    (r"^(starts|ends)\.", "use_trident_head, boudary_kernel_size"),
    (r"^(classifier|regressor)\.", "head_with_ln, head_num_layers, head_dim"),
    (r"^embedding\.", "kernel size of the projection"),
)
"""Options of other projects on which the existence and the shape of a tensor depend, by tadkit's names."""


@dataclass(frozen=True)
class ImportedHead:
    """An imported head.

    Attributes:
        head: in evaluation mode.
        averaged: whether its weights are the checkpoint's averaged ones.
        assumed: settings found in neither weights nor config, as ``name=value``.
        left_out: number of tensors of the backbone, which are not imported.
        decoding: how to decode as the config says.
    """

    head: Head
    averaged: bool
    assumed: tuple[str, ...]
    left_out: int = 0
    decoding: Decoding = UNKNOWN


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
    origin = {"from": source, "file": checkpoint.name, "sha256": digest_of_file(checkpoint)}
    provenance = {"imported": origin | {"decode": dict(imported.decoding.settings)}}
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
        found = _sized(state, source, config, where=where)
    except (TypeError, ValueError, LookupError, ArithmeticError) as error:
        raise WeightsError(
            f"{where}: weights or config do not match a head of {source}: a size or a setting has an unexpected form "
            f"({error})"
        ) from error
    head = build_head(
        head_settings(found.section, where=where), in_channels=found.in_channels, num_classes=found.num_classes
    )
    _load(head, found.tensors, source, configured=bool(config), where=where)
    return ImportedHead(
        head.eval(), averaged=False, assumed=found.assumed, left_out=given - len(state), decoding=found.decoding
    )


def _load(head: Head, tensors: Mapping[str, Tensor], source: Source, *, configured: bool, where: str) -> None:
    """Load translated weights; names or shapes that do not fit are refused, with the options that explain them."""
    own = head.state_dict()
    unseen = {"running.mean"} - tensors.keys()  # only OpenTAD saves it
    strange, missing = sorted(tensors.keys() - own.keys()), sorted(own.keys() - tensors.keys() - unseen)
    way_out = "expected the --config that it was trained with" if configured else "give its --config"
    if strange or missing:
        lists = {"unknown": strange, "missing": missing}
        differences = "; ".join(f"{word} {', '.join(names[:4])}" for word, names in lists.items() if names)
        raise WeightsError(
            f"{where}: not a head of {source} that tadkit supports ({differences}{_explained([*strange, *missing])}); "
            f"{way_out}"
        )
    for name, value in tensors.items():
        if _shape(value, own[name]) != tuple(size for size in own[name].shape if size != 1):
            shapes = f"{tuple(value.shape)}, expected {tuple(own[name].shape)}{_explained([name])}"
            raise WeightsError(f"{where}: {name} has shape {shapes}; give the --config that it was trained with")
        if not value.isfinite().all():
            raise WeightsError(f"{where}: {name} holds values that are not finite; take another epoch's checkpoint")
    head.load_state_dict(own | {name: value.reshape(own[name].shape).float() for name, value in tensors.items()})


def _shape(value: Tensor, own: Tensor) -> tuple[int, ...]:
    """Sizes other than 1, which projects add or leave out; those of a vector of ours are taken together."""
    sizes = (value.numel(),) if own.ndim <= 1 else value.shape
    return tuple(size for size in sizes if size != 1)


def _explained(names: Sequence[str]) -> str:
    """The options on which these tensors depend, for an error message."""
    found = (option for name in names for pattern, option in _EXPLAINED if re.search(pattern, name))
    option = next(found, None)
    return "" if option is None else f", which depends on {option}"


def _head_alone(state: Mapping[str, Tensor], config: Mapping[str, Any]) -> tuple[dict[str, Tensor], Mapping[str, Any]]:
    """Weights and settings of OpenTAD's model without the backbone of end-to-end training."""
    head = {name: value for name, value in state.items() if not name.removeprefix("module.").startswith("backbone.")}
    model = config.get("model")
    if isinstance(model, Mapping):  # a backbone has attention heads of its own
        config = {**config, "model": {name: value for name, value in model.items() if name != "backbone"}}
    return head, config


def _sized(state: Mapping[str, Tensor], source: Source, config: Mapping[str, Any], *, where: str) -> ForeignHead:
    """Head settings, channels, classes, weights under tadkit's names, and assumed settings."""
    kind = opentad_kind(state) if source == "opentad" else None
    family: Family = source if kind is None else f"opentad-{kind}"  # type: ignore[assignment]
    if source == "tadtr" or kind is not None:
        options = read_options(config, family, where=where)
        found = (from_authors if source == "tadtr" else from_opentad)(state, config, where=where)
        names = {"tadtr": SEEN, "opentad-tadtr": TADTR_SEEN, "opentad-bmn": BMN_SEEN}[family]
        options.check(
            {theirs: found.section[own] for theirs, own in names.items() if own in found.section}, where=where
        )
        return found._replace(decoding=decoding_of(options, family, levels=1))
    heads = {name.removeprefix("module.").partition(".")[0] for name in state} & {"rpn_head", "cls_head"}
    if heads == ({"cls_head"} if source == "opentad" else {"rpn_head"}):
        other = "actionformer, tridet or temporalmaxer" if source == "opentad" else "opentad"
        raise WeightsError(f"{where}: its weights have the names of {other}; pass that with --from")
    tensors = translated(state)
    refuse_other_project(tensors, source, where=where)
    options = read_options(config, family, where=where)
    section, seen, assumed = settings_of(tensors, source, options, where=where)
    channels = sum(seen["input_dim"]) if section["streams"] else seen["input_dim"]
    decoding = decoding_of(options, family, levels=len(tensors["scales"]))
    return ForeignHead(section, channels, seen["num_classes"], tensors, tuple(assumed), decoding)


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
