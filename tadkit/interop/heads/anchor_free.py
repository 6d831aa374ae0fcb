"""Settings of imported anchor-free heads, from their weights and the project's options.

What shapes and names of the weights show is read from them, and must agree with the options. The outputs of these
projects depend on padding, so imported heads pad as they do (``padding``, ``pad_to_steps``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from torch import Tensor

from tadkit.errors import WeightsError
from tadkit.interop import Source
from tadkit.interop.heads.actionformer import modules_of
from tadkit.interop.heads.options import Options, plain
from tadkit.interop.heads.pyramids import actionformer, temporal_maxer, tridet

_LONGEST = 2304
"""``max_seq_len`` of ActionFormer's and OpenTAD's recipes for THUMOS14."""


class Imported(NamedTuple):
    """Everything that options and weights say about an anchor-free head.

    Attributes:
        section: head settings, plain values.
        seen: values of the project's options that the weights show.
        assumed: settings found in neither weights nor options, as ``name=value``.
    """

    section: dict[str, Any]
    seen: dict[str, Any]
    assumed: list[str]


def refuse_other_project(tensors: Mapping[str, Tensor], source: Source, *, where: str) -> None:
    """Refuse a head that is plainly of another project, before its options are taken for those of ``source``.

    Raises:
        WeightsError: it is; the message names the project.
    """
    shown = _project(tensors) if "scales" in tensors else ""
    if source != "opentad" and shown not in ("", source):
        raise WeightsError(f"{where}: its weights are those of a head of {shown}, not of {source}; pass --from {shown}")


def settings_of(tensors: Mapping[str, Tensor], source: Source, options: Options, *, where: str) -> Imported:
    """The head settings that fit translated weights.

    Args:
        tensors: under tadkit's names.
        source: project that they are from.
        options: the project's options; may be empty.
        where: file name for error messages.

    Raises:
        WeightsError: the weights are not those of a supported head, or contradict the options.
    """
    if "scales" not in tensors or "classifier.out.conv.bias" not in tensors:
        raise WeightsError(f"{where}: not a head of {source}: it has no classifier or no level scales")
    if source == "opentad" and any(name.startswith("pyramid.fpn.") for name in tensors):
        raise WeightsError(
            f"{where}: has OpenTAD's FPN neck, which tadkit does not support; expected FPNIdentity, as in recipes"
        )
    kind, seen, assumed = _kind(tensors, source), _seen(tensors), list[str]()
    levels = _levels(tensors, options, kind)
    seen |= {"levels": levels, "fpn_start_level": levels - len(tensors["scales"])}
    section = _common(seen, levels=levels) | _training(options, kind)
    section["layer_scale"] = any(name.endswith("_path.scale") for name in tensors)
    section["padding"] = "opentad" if source == "opentad" else "leaky"
    if source == "opentad":
        section["norm_eps"] = 1e-6
    section["level_ratio"] = int(options.get("scale_factor", 2))
    match kind:
        case "actionformer":
            section |= actionformer(tensors, options, seen, assumed)
            if (heads := section["attention_heads"]) > 0 and section["dim"] % heads:
                name = options.name("n_head")
                raise WeightsError(f"{where}: {name} is {heads}, which does not divide embd_dim {section['dim']}")
        case "tridet":
            section |= tridet(tensors, options, seen)
        case _:
            section |= temporal_maxer(options, seen, assumed, where=where)
    _check_levels(section, options, where=where)
    options.check(seen, where=where)
    if kind != "temporal-maxer":
        _check_norm(options, seen, assumed, opentad=source == "opentad", where=where)
    section |= _lengths(options, assumed, kind=kind, conv=section.get("blocks") == "conv")
    return Imported({"kind": kind, **section}, seen, assumed)


def _project(tensors: Mapping[str, Tensor]) -> str:
    """The only one of the authors' projects that has such layers; empty for convolutions, which several have."""
    if any(".gate." in name or name.startswith(("starts.", "ends.")) for name in tensors):
        return "tridet"
    if any(".attention." in name for name in tensors):
        return "actionformer"
    convolved = any(name.startswith(("pyramid.branches.", "pyramid.stem.")) for name in tensors)
    return "" if convolved else "temporalmaxer"


def _kind(tensors: Mapping[str, Tensor], source: Source) -> str:
    """Kind of tadkit's head."""
    if any(".gate." in name for name in tensors):
        return "tridet"
    convolved = any(name.startswith(("pyramid.branches.", "pyramid.stem.")) for name in tensors)
    if source == "temporalmaxer" or (source == "opentad" and not convolved):
        return "temporal-maxer"
    return "tridet" if source == "tridet" else "actionformer"


def _levels(tensors: Mapping[str, Tensor], options: Options, kind: str) -> int:
    """Levels of the pyramid; max-pooled ones have no weights."""
    if kind != "temporal-maxer":
        return modules_of(tensors, "pyramid.branches") + 1
    arch = options.get("backbone_arch")
    return len(tensors["scales"]) + int(options.get("fpn_start_level") or 0) if arch is None else int(arch[-1]) + 1


def _seen(tensors: Mapping[str, Tensor]) -> dict[str, Any]:
    """Options of any head that shapes and names show."""
    out, first = tensors["classifier.out.conv.weight"], tensors.get("classifier.hidden.0.conv.weight")
    streams = [
        tensors[f"pyramid.streams.{n}.conv.weight"].shape[:2] for n in range(modules_of(tensors, "pyramid.streams"))
    ]
    embedding, fpn = tensors.get("pyramid.embedding.0.conv.weight"), tensors.get("pyramid.fpn.laterals.0.conv.weight")
    neck_dim = (first if first is not None else out).shape[1]
    dim = neck_dim if fpn is None else fpn.shape[1]
    seen = {
        "embd_dim": [width for width, _ in streams] or dim,
        "input_dim": [channels for _, channels in streams] or (dim if embedding is None else embedding.shape[1]),
        "num_classes": out.shape[0],
        "fpn_type": "identity" if fpn is None else "fpn",
        "fpn_dim": neck_dim,
        "fpn_with_ln": any(name.startswith(("pyramid.out_norms.", "pyramid.fpn.norms.")) for name in tensors),
        "head_num_layers": modules_of(tensors, "classifier.hidden") + 1,
        "head_kernel_size": out.shape[2],
        "arch": (modules_of(tensors, "pyramid.embedding"), modules_of(tensors, "pyramid.stem")),
    }
    if embedding is not None:
        normed = any(name.startswith("pyramid.embedding_norms.") for name in tensors)
        seen |= {"embd_kernel_size": embedding.shape[2], "embd_with_ln": normed}
    if first is not None:
        seen |= {
            "head_dim": out.shape[1],
            "head_with_ln": any(name.startswith("classifier.norms.") for name in tensors),
        }
    return seen


def _common(seen: dict[str, Any], *, levels: int) -> dict[str, Any]:
    """Settings of any head; completes the option ``backbone_arch``."""
    streams, dim, (embedding, stem) = isinstance(seen["embd_dim"], list), seen["embd_dim"], seen.pop("arch")
    pairs = list(zip(seen["input_dim"], dim, strict=True)) if streams else []
    dim, fpn = sum(dim) if streams else dim, seen["fpn_type"] == "fpn"
    seen["backbone_arch"] = [embedding, stem, levels - 1]
    return {
        "levels": levels,
        "start_level": seen["fpn_start_level"],
        "dim": dim,
        "stem_layers": stem,
        "embedding_layers": embedding,
        "embedding_kernel": seen.get("embd_kernel_size", 3),
        "embedding_norm": seen.get("embd_with_ln", True),
        "streams": pairs,
        "neck": seen["fpn_type"],
        "neck_dim": seen["fpn_dim"] if fpn else 0,
        "neck_norm": seen["fpn_with_ln"],
        "head_dim": seen.get("head_dim", 0),
        "head_layers": seen["head_num_layers"],
        "head_kernel": seen["head_kernel_size"],
        "head_norm": seen.get("head_with_ln", True),
        "normaliser": "running",
        "closed_ranges": True,
    }


def _training(options: Options, kind: str) -> dict[str, Any]:
    """Training settings from the project's options."""
    section: dict[str, Any] = {"dropout": float(options.get("dropout", 0.0)), "drop_path": 0.1}
    ours = {
        "droppath": "drop_path",
        "center_sample_radius": "centre_radius",
        "assigner.center_radius": "centre_radius",
        "loss_weight": "regression_weight",
        "cls_prior_prob": "prior_probability",
        "init_loss_norm": "normaliser_start",
        "label_smoothing": "label_smoothing",
    }
    given = {own: options.get(theirs) for theirs, own in ours.items()}
    section |= {own: float(value) for own, value in given.items() if value is not None}
    if options.get("center_sample") == "none" and kind != "temporal-maxer":  # which does not read it
        section["centre_radius"] = 0.0
    if section.get("regression_weight", 1.0) < 0:
        section["regression_weight"] = 0.0
    if "regression_range" in options:
        section["ranges_steps"] = [(float(low), float(high)) for low, high in options.get("regression_range")]
    return section


def _lengths(options: Options, assumed: list[str], *, kind: str, conv: bool) -> dict[str, Any]:
    """Length of the padding, and positions; convolutional pyramids and max-pools have none."""
    length = options.get("max_seq_len")
    if length is None:
        length = _LONGEST
        assumed.append(f"pad_to_steps={length}")
    plain = conv or kind == "temporal-maxer"
    if not options.values and not plain:  # not visible in weights; a config without them means off
        assumed.append("absolute_positions=false")
    positions = bool(options.get("use_abs_pe", False)) and not plain
    return {"pad_to_steps": int(length), "absolute_positions": positions, "positions_steps": int(length)}


def _check_norm(options: Options, seen: Mapping[str, Any], assumed: list[str], *, opentad: bool, where: str) -> None:
    """Refuse other norms of OpenTAD's neck than layer norms; without a config, report that there is none."""
    norm = options.get("fpn_norm", "LN" if seen["fpn_with_ln"] else None)
    if norm != ("LN" if seen["fpn_with_ln"] else None):
        raise WeightsError(
            f"{where}: {options.name('fpn_norm')} is {norm} in --config, which is not supported with these weights; "
            "expected LN, or None and no weights"
        )
    if opentad and not seen["fpn_with_ln"] and not options.values:
        assumed.append("neck_norm=false")


def _check_levels(section: Mapping[str, Any], options: Options, *, where: str) -> None:
    """Refuse levels that are not spaced by ``scale_factor``, and windows and ranges of another number of levels."""
    ratio, start, levels = section["level_ratio"], section["start_level"], section["levels"]
    if start < 0 and "backbone_arch" not in options:
        raise WeightsError(
            f"{where}: predicts {levels - start} levels, but has weights for {levels - 1} steps from level to level; "
            "expected one less than the levels, or TemporalMaxer, which has none (--from temporalmaxer)"
        )
    if start < 0:
        raise WeightsError(
            f"{where}: {options.name('backbone_arch')} gives {levels} levels in --config, but the weights predict "
            f"{levels - start}; give the --config that it was trained with"
        )
    strides = [ratio**level for level in range(start, levels)]
    counts = {
        "n_mha_win_size": (levels, "of the pyramid"),
        "n_sgp_win_size": (levels, "of the pyramid"),
        "regression_range": (levels - start, "that are predicted"),
    }
    for name, (count, which) in counts.items():
        given = options.get(name)
        if isinstance(given, (list, tuple)) and len(given) != count:
            raise WeightsError(
                f"{where}: {options.name(name)} has {len(given)} entries in --config for {count} levels {which}; give "
                "the --config that it was trained with"
            )
    if (given := options.get("strides")) is not None and plain(given) != strides:
        raise WeightsError(
            f"{where}: {options.name('strides')} is {plain(given)} in --config, expected {strides}, the strides "
            "of the levels"
        )
