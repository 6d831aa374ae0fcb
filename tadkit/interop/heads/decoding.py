"""Settings of decoding that give the detections of another project's configuration, and what they cannot reproduce."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from tadkit.config import DecodeSettings
from tadkit.interop.heads.option_tables import Family
from tadkit.interop.heads.options import Options

_EVERYTHING = 1_000_000
_YAML = (
    *("pre_nms_thresh", "pre_nms_topk", "iou_threshold", "min_score", "max_seg_num", "nms_method", "nms_sigma"),
    *("duration_thresh", "multiclass_nms", "voting_thresh"),
)
_OPENTAD: Mapping[str, tuple[str, Any]] = {
    "pre_nms_thresh": ("pre_nms_thresh", 0.001),
    "pre_nms_topk": ("pre_nms_topk", 2000),
    "iou_threshold": ("nms.iou_threshold", 0.0),
    "min_score": ("nms.min_score", 0.0),
    "max_seg_num": ("nms.max_seg_num", 100),
    "nms_sigma": ("nms.sigma", 0.5),
    "multiclass_nms": ("nms.multiclass", True),
    "voting_thresh": ("nms.voting_thresh", 0.0),
}
"""ActionFormer's names of OpenTAD's options under ``post_processing``, and their defaults."""
_FIXED = {"tridet": (0.001, 2000), "opentad-tadtr": (0.001, _EVERYTHING), "opentad-bmn": (0.0, _EVERYTHING)}
"""Lowest score and number of candidates of OpenTAD's detectors that read neither from the configuration."""
WHOLE_FILE: Mapping[str, Any] = {"clip_first": False, "stretch_s": 0.0}
"""Settings that all of these projects have in common."""
_METHODS = {0: "vanilla", 1: "soft-linear", 2: "soft-gaussian", 3: "improved Gaussian"}


class Decoding(NamedTuple):
    """How to decode as another project does.

    Attributes:
        settings: values of :class:`tadkit.config.DecodeSettings`; empty if the configuration has none.
        differences: what the settings do not reproduce, each with its option.
    """

    settings: Mapping[str, Any]
    differences: tuple[str, ...]


def changes(settings: Mapping[str, Any]) -> str:
    """The options of the command line that change the default settings of decoding to these; empty if none do."""
    default = DecodeSettings().model_dump()
    changed = {name: value for name, value in settings.items() if value != default[name]}
    texts = {name: str(value).lower() if isinstance(value, bool) else str(value) for name, value in changed.items()}
    return " ".join(f"--set decode.{name}={text}" for name, text in texts.items())


UNKNOWN = Decoding({}, ())
"""Without a configuration."""


def decoding_of(options: Options, family: Family, *, levels: int) -> Decoding:
    """Settings for the options of a configuration.

    Args:
        options: of a project's file.
        family: the kind of configuration.
        levels: predicted levels, of each of which ActionFormer, TriDet and TemporalMaxer keep the best candidates.
    """
    if family == "tadtr":
        return _of_tadtr(options)
    if family.startswith("opentad"):
        return _of_opentad(options, "tridet" if "n_sgp_win_size" in options else family)
    if not options.whole and not any(name in options for name in _YAML):
        return UNKNOWN
    recorded = {name: options.get(name) for name in _YAML}
    missing = [name for name, value in recorded.items() if value is None]
    if missing:
        return Decoding({}, (f"decoding is not known: --config has no {', '.join(missing)}",))
    rule = "score-iou" if family == "actionformer" else "score"
    found, differences = settings_for(recorded, rule=rule, levels=levels)
    if options.get("ext_score_file"):
        differences.append("ext_score_file is not read; give the scores of the videos by --video-scores")
    if (rate := options.get("downsample_rate", 1)) != 1:
        differences.append(f"downsample_rate {rate}: keep one step in {rate} of the features before importing them")
    if options.get("force_upsampling"):
        differences.append("force_upsampling: resample features to max_seq_len steps, and import them with --rescaled")
    return Decoding(found, tuple(differences))


def settings_for(recorded: Mapping[str, Any], *, rule: str, levels: int) -> tuple[dict[str, Any], list[str]]:
    """Settings for ActionFormer's options of decoding, and what they do not reproduce."""
    method = {"soft": "soft-gaussian", "hard": "hard"}.get(recorded["nms_method"], recorded["nms_method"])
    before, after = float(recorded["pre_nms_thresh"]), float(recorded["min_score"])
    agnostic = not recorded["multiclass_nms"]
    votes = agnostic and recorded["voting_thresh"] > 0 and method != "none"
    differences = []
    if method.startswith("soft") and after < before:
        differences.append(f"pre_nms_thresh {before:g} above min_score {after:g}: more low-scoring detections are kept")
    if votes and after > before:
        differences.append(f"min_score {after:g} above pre_nms_thresh {before:g}: candidates between them do not vote")
    found = {
        "min_score": before if method == "none" else max(before, after) if method == "hard" else after,
        "min_steps": float(recorded.get("duration_thresh") or 0.0),
        "top_candidates": int(recorded["pre_nms_topk"]) * levels,
        "method": method,
        "keep": _EVERYTHING if method == "none" else int(recorded["max_seg_num"]),
        "class_agnostic": agnostic,
        **WHOLE_FILE,
    }
    if method == "soft-gaussian":
        found["sigma"] = float(recorded["nms_sigma"])
    elif method != "none":
        found["iou"] = float(recorded["iou_threshold"])
    if votes:
        found |= {"voting": rule, "voting_iou": float(recorded["voting_thresh"])}
    return found, differences


def _of_opentad(options: Options, kind: str) -> Decoding:
    """Settings for OpenTAD's ``post_processing``."""
    post = {
        name.partition(".")[2]: value for name, value in options.values.items() if name.startswith("post_processing.")
    }
    windows = "sliding windows: OpenTAD predicts each by itself, tadkit the whole track at once"
    slides = (windows,) if post.pop("sliding_window", False) else ()
    if not post:
        return Decoding({}, slides)
    recorded: dict[str, Any] = {name: post.get(theirs, default) for name, (theirs, default) in _OPENTAD.items()}
    if kind in _FIXED:
        recorded |= dict(zip(("pre_nms_thresh", "pre_nms_topk"), _FIXED[kind], strict=True))
    method = _METHODS.get(post.get("nms.method", 2), "unknown") if post.get("nms.use_soft_nms", True) else "hard"
    suppressed = any(name.startswith("nms.") for name in post)
    recorded["nms_method"] = method if suppressed else "none"
    if recorded["nms_method"] in ("vanilla", "improved Gaussian", "unknown"):
        return Decoding({}, (f"post_processing.nms.method {post['nms.method']} is not available; use another method",))
    found, differences = settings_for(recorded, rule="score", levels=1)
    if kind == "opentad-tadtr":
        differences.append("OpenTAD keeps the best 200 candidates of each window, and its windows overlap otherwise")
    if any(name.startswith("external_cls") for name in post):
        differences.append("external_cls is not read; give the scores of the videos by --video-scores")
    return Decoding(found, (*differences, *slides))


def _of_tadtr(options: Options) -> Decoding:
    """Settings for the options of TadTR's authors, whose detections are the best of each window."""
    if not options.values:
        return UNKNOWN
    if options.get("postproc_rank", 1) != 1:
        return Decoding({}, ("postproc_rank 2 is not available: a query gives a detection of every class",))
    return Decoding(
        {"method": "none", "min_score": 0.0, "keep": 200, **WHOLE_FILE},
        (
            "postproc_ins_topk, nms_thr, test_slice_overlap: TadTR keeps the best of each window, and suppresses where "
            "windows overlap",
        ),
    )
