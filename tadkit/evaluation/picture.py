"""The error analysis as one figure: SVG, PNG or PDF, drawn with matplotlib (extra ``plot``)."""

from __future__ import annotations

import importlib.util
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tadkit.errors import UsageError
from tadkit.evaluation.diagnosis import ERRORS, TOP, Diagnosis, Errors
from tadkit.evaluation.sensitivity import Sensitivity
from tadkit.files import whole_file

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

_NO_DATES = {".svg": {"Date": None}, ".pdf": {"CreationDate": None}, ".png": {}}
"""Metadata that would differ between equal figures, by suffix."""
_OUTCOMES = ("true positive", *ERRORS)
_COLOURS = ("#009e73", "#56b4e9", "#d55e00", "#e69f00", "#cc79a7", "#bdbdbd")
"""Okabe and Ito's palette, which colour-blind people can tell apart."""
_BARS = "#0072b2"
_RESPECTS = {
    "coverage": "coverage of the video",
    "length_s": "length in seconds",
    "instances": "instances in the video",
}
_STYLE: dict[Any, Any] = {
    "axes.axisbelow": True,
    "axes.edgecolor": "#888888",
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlesize": 10,
    "font.size": 9,
    "grid.color": "#e4e4e4",
    "svg.fonttype": "none",
    "svg.hashsalt": "tadkit",
    "xtick.bottom": False,
    "ytick.left": False,
}
"""``svg.hashsalt`` makes the identifiers in SVG files the same each time; ``none`` keeps text as text."""


def check_picture(path: Path) -> None:
    """Check, before the evaluation, that the figure can be drawn.

    Raises:
        UsageError: another suffix, or matplotlib is not installed.
    """
    if path.suffix.lower() not in _NO_DATES:
        raise UsageError(f"{path}: unknown picture format; choose a name that ends in {', '.join(_NO_DATES)}")
    if importlib.util.find_spec("matplotlib") is None:
        raise UsageError(
            f"{path}: drawing needs matplotlib, which is not installed; install it with: pip install 'tadkit[plot]'"
        )


def draw_analysis(path: Path, diagnosis: Diagnosis, *, title: str) -> None:
    """Draw an analysis: types of error and their costs at each threshold, sensitivities below.

    Equal analyses give equal files. The file is written whole or not at all.

    Args:
        path: file to write; its suffix selects the format.
        diagnosis: what to draw.
        title: title of the figure.

    Raises:
        UsageError: another suffix, matplotlib is not installed, or ``path`` cannot be written.
    """
    check_picture(path)
    import matplotlib as mpl

    suffix = path.suffix.lower()
    with mpl.rc_context(_STYLE), whole_file(path) as temporary, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")  # a title in any script
        analysis_figure(diagnosis, title=title).savefig(
            temporary, format=suffix[1:], dpi=150, metadata=_NO_DATES[suffix]
        )


def analysis_figure(diagnosis: Diagnosis, *, title: str) -> Figure:
    """The figure of an analysis: a row per threshold, and one for the sensitivities."""
    from matplotlib.figure import Figure
    from matplotlib.layout_engine import ConstrainedLayoutEngine
    from matplotlib.patches import Patch

    rows = len(diagnosis.errors) + 1
    figure = Figure(figsize=(11, 1.0 + 2.6 * rows), layout=ConstrainedLayoutEngine(h_pad=0.12, w_pad=0.12))
    grid = figure.add_gridspec(rows, 6)
    for row, errors in enumerate(diagnosis.errors):
        _draw_shares(figure.add_subplot(grid[row, :3]), errors)
        _draw_costs(figure.add_subplot(grid[row, 3:]), errors)
    for place, sensitivity in enumerate(diagnosis.sensitivities):
        _draw_sensitivity(figure.add_subplot(grid[-1, 2 * place : 2 * place + 2]), sensitivity)
    patches = [Patch(color=colour, label=name) for name, colour in zip(_OUTCOMES, _COLOURS, strict=True)]
    legend = figure.legend(handles=patches, loc="outside upper center", ncols=len(patches), frameon=False, title=title)
    legend.get_title().set(fontsize=13, fontweight="bold", parse_math=False)
    return figure


def _draw_shares(axes: Axes, errors: Errors) -> None:
    """Shares of true positives and errors among the best G, 2G ... detections, stacked."""
    ranks = [f"{k + 1}G" for k in range(TOP)]
    percent = 100 * errors.shares
    base = percent.cumsum(axis=1) - percent
    for column, colour in enumerate(_COLOURS):
        axes.bar(ranks, percent[:, column], bottom=base[:, column], color=colour, width=0.8)
    axes.set(title=f"Best detections of each class (G: its actions), tIoU {errors.tiou:g}", ylabel="share (%)")
    axes.set_ylim(0, 100)


def _draw_costs(axes: Axes, errors: Errors) -> None:
    """Gain of mAP without each type of error."""
    points = [100 * errors.costs[name] for name in ERRORS]
    bars = axes.bar([name.replace(" ", "\n") for name in ERRORS], points, color=_COLOURS[1:], width=0.65)
    axes.bar_label(bars, fmt="%.1f", padding=3)
    axes.set(title=f"Gain of mAP without each error, tIoU {errors.tiou:g}", ylabel="mAP (points)")
    axes.set_ylim(0, max(1.0, 1.15 * max(points)))


def _draw_sensitivity(axes: Axes, sensitivity: Sensitivity) -> None:
    """Normalised mAP of each group; the dashed line is that of all actions."""
    groups = sensitivity.groups
    percent = [100 * (group.normalised_map or 0.0) for group in groups]
    overall = 100 * sensitivity.normalised_map
    bars = axes.bar([f"{group.name}\n({group.actions})" for group in groups], percent, color=_BARS, width=0.65)
    values = [f"{value:.1f}" if group.actions else "" for group, value in zip(groups, percent, strict=True)]
    axes.bar_label(bars, values, padding=3, bbox={"facecolor": "white", "edgecolor": "none", "pad": 1}, zorder=3)
    axes.axhline(overall, color="black", linewidth=1, linestyle="--")
    axes.annotate(
        f"all {overall:.1f}", (1, overall), xycoords=("axes fraction", "data"), xytext=(3, 0),
        textcoords="offset points", va="center", fontsize=8, annotation_clip=False,
    )  # fmt: skip
    axes.set(title=f"Actions by {_RESPECTS[sensitivity.respect]}", ylabel="normalised mAP (%)")
    axes.set_ylim(0, max(1.0, 1.15 * max([*percent, overall])))
