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
from tadkit.interop.actionformer import modules_of
from tadkit.interop.options import Options, plain

_THUMOS = {"n_head": 4, "n_mha_win_size": 19, "max_seq_len": 2304}
"""Settings of ActionFormer's and OpenTAD's recipes for THUMOS14 that weights do not show."""
_MAXER_GROUPS = 4
"""Groups of the norm without weights in TemporalMaxer's recipes (THUMOS14, EPIC-Kitchens nouns in OpenTAD)."""
_GROUPED, _LAYERED = ("groupnorm", "GN"), ("layernorm", "LN")


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
            section |= _actionformer(tensors, options, seen, assumed)
            if (heads := section["attention_heads"]) > 0 and section["dim"] % heads:
                name = options.name("n_head")
                raise WeightsError(f"{where}: {name} is {heads}, which does not divide embd_dim {section['dim']}")
        case "tridet":
            section |= _tridet(tensors, options, seen)
        case _:
            section |= _temporal_maxer(options, seen, assumed, where=where)
    _check_levels(section, options, where=where)
    options.check(seen, where=where)
    if kind != "temporal-maxer":
        _check_norm(options, seen, assumed, opentad=source == "opentad", where=where)
    section |= _lengths(options, assumed, kind=kind, conv=section.get("blocks") == "conv")
    return Imported({"kind": kind, **section}, seen, assumed)


def _kind(tensors: Mapping[str, Tensor], source: Source) -> str:
    """Kind of tadkit's head."""
    if any(".gate." in name for name in tensors):
        return "tridet"
    convolved = any(name.startswith(("pyramid.branches.", "pyramid.stem.")) for name in tensors)
    if source == "temporalmaxer" or (source == "opentad" and not convolved):
        return "temporal-maxer"
    attends = any(".attention." in name for name in tensors)
    return "tridet" if source == "tridet" and not attends else "actionformer"


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
        length = _THUMOS["max_seq_len"]
        assumed.append(f"pad_to_steps={length}")
    plain = conv or kind == "temporal-maxer"
    if not options.values and not plain:  # not visible in weights; a config without them means off
        assumed.append("absolute_positions=false")
    positions = bool(options.get("use_abs_pe", False)) and not plain
    return {"pad_to_steps": int(length), "absolute_positions": positions, "positions_steps": int(length)}


def _actionformer(
    tensors: Mapping[str, Tensor], options: Options, seen: dict[str, Any], assumed: list[str]
) -> dict[str, Any]:
    """Settings of ActionFormer; only relative positions show the numbers of attention heads and windows."""
    conv, levels = any(".widen." in name for name in tensors), seen["levels"]
    distances = next((value for name, value in tensors.items() if name.endswith(".distances")), None)
    kernels = [value.shape[2] for name, value in tensors.items() if ".branches.0.attention.query.conv" in name]
    seen |= {"backbone_type": "conv" if conv else "convTransformer"}
    seen |= {"scale_factor": kernels[0] - 1} if kernels else {}
    seen |= {} if distances is None else {"n_head": distances.shape[-2]}
    given, heads = _attention(options, seen, assumed), seen.get("n_head", options.get("n_head", _THUMOS["n_head"]))
    windows = [given] * levels if isinstance(given, int) else [int(window) for window in given]
    if not conv and max(windows) > 1:
        seen["use_rel_pe"] = distances is not None
    return {
        "level_ratio": int(seen.get("scale_factor", options.get("scale_factor", 2))),
        "blocks": "conv" if conv else "transformer",
        "attention_heads": 1 if conv else int(heads),
        "attention_windows": [window // 2 * 2 + 1 if window > 1 else 0 for window in windows],  # even ones are wider
        "relative_positions": distances is not None,
    }


def _attention(options: Options, seen: Mapping[str, Any], assumed: list[str]) -> Any:
    """Windows of the attention; reports which numbers are assumed. Convolutions have them for their padding only."""
    if "n_head" not in options and not options.whole and "n_head" not in seen and seen["backbone_type"] != "conv":
        assumed.append(f"attention_heads={_THUMOS['n_head']}")
    if "n_mha_win_size" in options or options.whole:
        return options.get("n_mha_win_size")
    assumed.append(f"attention_windows={_THUMOS['n_mha_win_size']}")
    return _THUMOS["n_mha_win_size"]


def _tridet(tensors: Mapping[str, Tensor], options: Options, seen: dict[str, Any]) -> dict[str, Any]:
    """Settings of TriDet; granularities follow from the shapes of the branches."""
    boundary, regressed = tensors.get("starts.out.conv.weight"), tensors["regressor.out.conv.bias"].shape[0]
    seen |= {"use_trident_head": boundary is not None}
    if boundary is not None:
        seen |= {"num_bins": regressed // 2 - 1, "boudary_kernel_size": boundary.shape[2]}
    section: dict[str, Any] = {
        "bins": seen.get("num_bins", 0),
        "boundary_kernel": seen.get("boudary_kernel_size", 3),
        "iou_power": float(options.get("iou_weight_power", 0.2)),
        "input_noise": float(options.get("input_noise", 0.0)),
    }
    given = options.get("n_sgp_win_size", 1)
    windows = [given] * seen["levels"] if isinstance(given, int) else list(given)
    blocks = [name.removesuffix(".gate.weight") for name in tensors if name.endswith(".gate.weight")]
    if not blocks:
        seen |= {"backbone_type": "conv"}
        return section | {"blocks": "conv", "granularity_windows": [max(int(window), 1) for window in windows]}
    sizes = {
        block: (tensors[f"{block}.short.weight"].shape[2], tensors[f"{block}.long.weight"].shape[2]) for block in blocks
    }
    short = [sizes[f"pyramid.branches.{n}"][0] for n in range(seen["levels"] - 1)]
    first = windows[0] if "n_sgp_win_size" in options else (short or [1])[0]  # only counts in the padding
    shown = [first, *short]
    pooled = "pyramid.branches.0.pooled.weight" in tensors
    mlp_dim = tensors[f"{blocks[0]}.mlp_in.weight"].shape[0]
    seen |= {
        "backbone_type": "SGP",
        "n_sgp_win_size": given if isinstance(given, int) and set(short) <= {given} else shown,
        "sgp_mlp_dim": mlp_dim,
        "k": _ratio(list(sizes.values()), options.get("k")),
        **({"downsample_type": "avg" if pooled else "max"} if short else {}),
    }
    return section | {
        "granularity_windows": [max(int(window), 1) for window in shown],
        "granularity_ratio": float(seen["k"]),
        "mlp_dim": mlp_dim,
        "pooling": "avg" if pooled else "max",
    }


def _ratio(sizes: list[tuple[int, int]], given: Any) -> float:
    """Ratio of the long and the short branches: the given one if it fits the shapes, else one that fits them all."""
    if given is not None and all(_long(short, float(given)) == long for short, long in sizes):
        return float(given)
    lowest = max((long - 1.5) / (short + 1) for short, long in sizes)
    highest = min((long + 0.5) / (short + 1) for short, long in sizes)
    return (lowest + highest) / 2


def _long(short: int, ratio: float) -> int:
    """Size of the long branch in TriDet's code."""
    size = round((short + 1) * ratio)
    return size + (size % 2 == 0)


def _temporal_maxer(options: Options, seen: dict[str, Any], assumed: list[str], *, where: str) -> dict[str, Any]:
    """Settings of TemporalMaxer; a neck without weights has a group norm, which weights do not show."""
    weighted = seen.pop("fpn_with_ln")  # TemporalMaxer does not read this option
    norm = options.get("fpn_norm", "layernorm" if weighted else "groupnorm")
    if len(arch := options.get("backbone_arch") or ()) == 2:  # embedding and levels, without a stem
        seen["backbone_arch"] = [seen["backbone_arch"][0], seen["levels"] - 1]
    elif arch:
        seen["backbone_arch"][1] = arch[1]  # it has no stem
    if weighted != (norm in _LAYERED):
        shown = "has weights" if weighted else "has no weights"
        raise WeightsError(
            f"{where}: the norm of the neck {shown}, but {options.name('fpn_norm')} is {norm} in --config; expected a "
            "layer norm, with weights, or a group norm without (affine=False)"
        )
    groups = 0
    if norm in _GROUPED:
        groups = options.get("num_group")
        if groups is None:
            groups = _MAXER_GROUPS
            assumed.append(f"neck_groups={groups}")
    return {"neck_groups": int(groups), "neck_norm": weighted or bool(groups), "regress_to": "cheapest"}


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
