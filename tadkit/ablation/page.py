"""An ablation's JSON as a page of Markdown, and its tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tadkit.ablation.figures import HEADROOM
from tadkit.ablation.power import POINTS, power_rows

Table = tuple[list[str], list[list[str]]]
"""Headings, and rows of cells."""
COVERS = "covers zero"


def page_of(figures: Mapping[str, Any]) -> str:
    """The page; fractions are shown in per cent, differences in percentage points."""
    sections = [
        ("Mean average precision", _rows_note(figures), rows_table(figures)),
        (
            "By class",
            "AP of each class, mean over thresholds and seeds; in brackets its actions.",
            _classes_table(figures),
        ),
        ("Differences", _differences_note(figures), differences_table(figures)),
        ("Cost and calibration", _cost_note(figures), cost_table(figures)),
        ("Power", f"{power_note(figures)}.", power_table(figures)),
    ]
    lines = [f"## Ablation: {figures['recipe']}", "", headroom_line(figures), "", *_what(figures)]
    for heading, note, table in sections:
        if table[1]:
            lines += ["", f"### {heading}", "", note, "", *_markdown(table)]
    if len(figures["folds"]) > 1:
        lines += ["", "### Folds", ""]
        lines += [f"- fold {number}: {', '.join(fold)}" for number, fold in enumerate(figures["folds"], start=1)]
    if figures["failed"]:
        lines += ["", "### Failed", "", *(f"- {title}: {error}" for title, error in figures["failed"].items())]
    return "\n".join(lines) + "\n"


def headroom_line(figures: Mapping[str, Any]) -> str:
    """What flow adds to RGB, if both rows are there."""
    for one in figures["differences"]:
        if (one["row"], one["other"]) == HEADROOM:
            return f"**Headroom**, two-stream minus RGB, mean mAP: **{_difference(one, 'map')}**."
    return "Headroom is not known: it needs the rows two-stream and rgb."


def differences_table(figures: Mapping[str, Any]) -> Table:
    """Each pair of rows: the first minus the second."""
    headings = ["rows", "mean mAP (95 %)", "pooled AP (95 %)"]
    rows = [
        [f"{one['row']} - {one['other']}", _difference(one, "map"), _difference(one, "pooled")]
        for one in figures["differences"]
    ]
    return headings, rows


def rows_table(figures: Mapping[str, Any]) -> Table:
    """Mean over seeds of each row."""
    table = figures["table"]
    tious = list(next(iter(table.values()))["map"])
    headings = ["row", *(f"mAP@{tiou}" for tiou in tious), "mean mAP (95 %)", "pooled AP (95 %)"]
    rows = [
        [name, *(_percent(means["map"][tiou]) for tiou in tious), _mean(means, "map"), _mean(means, "pooled")]
        for name, means in table.items()
    ]
    return headings, rows


def cost_table(figures: Mapping[str, Any]) -> Table:
    """What the model of each row costs, and how well its scores are calibrated."""
    parts = next((list(cost["seconds_per_s"]) for cost in figures["cost"].values() if "seconds_per_s" in cost), [])
    headings = ["row", *(f"{part} (ms/s)" for part in parts), "parameters", "GFLOP/s", "calibration error"]
    rows: list[list[str]] = []
    for row in figures["rows"]:
        cost = figures["cost"].get(row)
        if cost is not None:
            seconds = [f"{1000 * cost['seconds_per_s'][part]:.2f}" for part in parts]
            sizes = [f"{cost['parameters']:,}", f"{cost['flops_per_s'] / 1e9:.4g}"]
            rows.append([row, *seconds, *sizes, _percent(figures["table"][row]["calibration_error"])])
    return headings, rows


def power_table(figures: Mapping[str, Any], *, seeds: int | None = None) -> Table:
    """How many videos and actions each difference needs to show; with ``seeds``, and other numbers for comparison."""
    headings = ["rows", "seeds", *(f"{points:g} point{'s' * (points != 1)}" for points in POINTS)]
    per_video = sum(figures["actions"].values()) / figures["videos"]
    return headings, power_rows(figures["power"], seeds=seeds or len(figures["seeds"]), instances_per_video=per_video)


def _classes_table(figures: Mapping[str, Any]) -> Table:
    table = figures["table"]
    labels = list(dict.fromkeys(label for means in table.values() for label in means["per_class"]))
    headings = [
        "row",
        *(f"{label} ({figures['actions'][label]})" if label in figures["actions"] else label for label in labels),
    ]
    rows = [
        [name, *(_percent(means["per_class"][label]) if label in means["per_class"] else "" for label in labels)]
        for name, means in table.items()
    ]
    return headings, rows


def _what(figures: Mapping[str, Any]) -> list[str]:
    seeds, folds = len(figures["seeds"]), len(figures["folds"])
    held_out = "one split" if folds == 1 else f"{folds} folds, evaluated out of fold"
    evaluation = figures["evaluation"]
    return [
        "```text",
        figures["command"],
        "```",
        "",
        f"{figures['videos']} held-out videos with {sum(figures['actions'].values())} actions; {held_out}; "
        f"{seeds} seed{'s' * (seeds != 1)}; protocol {evaluation['protocol']}; tadkit {figures['tadkit']}; recipe "
        f"digest {figures['recipe_digest'][:12]}.",
    ]


def _rows_note(figures: Mapping[str, Any]) -> str:
    spread = "standard deviation between seeds after ±, " if len(figures["seeds"]) > 1 else ""
    return (
        f"Mean over seeds, per cent; {spread}interval in brackets. A row such as *decomposed: motion* is a branch of "
        "the row's student alone."
    )


def _differences_note(figures: Mapping[str, Any]) -> str:
    what = "videos and seeds" if len(figures["seeds"]) > 1 else "videos alone, because there is one seed"
    return (
        f"Percentage points, with the 95 % interval of a paired bootstrap over {what} ({figures['resamples']} draws). "
        f"Where it {COVERS}, the difference is no evidence that either row is better."
    )


def _cost_note(figures: Mapping[str, Any]) -> str:
    first: Mapping[str, Any] = next(iter(figures["cost"].values()), {})
    timed = f"on {first['timed_s']:.0f} s of '{first['video']}', " if "video" in first else ""
    machine = f"{first.get('threads')} threads, {first.get('machine', {}).get('cpu')}"
    return (
        f"Milliseconds for each part per second of video ({timed}{machine}); parameters used in detection; "
        "multiplications and additions of convolutions and matrix products per second of video, without those of flow; "
        "expected calibration error of the scores at tIoU 0.5, in per cent."
    )


def power_note(figures: Mapping[str, Any]) -> str:
    """What the table of power shows, and where its estimate comes from."""
    one = len(figures["seeds"]) == 1
    unknown = "; one seed does not show how much seeds vary, so all of it is a lower bound" if one else ""
    return (
        "Videos and actions that a true difference needs to show in a two-sided test at 5 % with a power of 80 %, by "
        f"the variances of {figures['videos']} videos and {len(figures['seeds'])} seed{'s' * (not one)} of "
        f"{figures['recipe']}{unknown}"
    )


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f}"


def _mean(means: Mapping[str, Any], figure: str) -> str:
    low, high = means[f"{figure}_interval"]
    spread = means[f"{figure}_spread"]
    spread = "" if spread is None else f" ± {_percent(spread)}"
    return f"{_percent(means[f'average_{figure}'])}{spread} ({_percent(low)} to {_percent(high)})"


def _difference(one: Mapping[str, Any], figure: str) -> str:
    low, high = (f"{100 * end:+.1f}" for end in one[f"{figure}_interval"])
    covers = f", {COVERS}" if one[f"{figure}_covers_zero"] else ""
    return f"{100 * one[f'average_{figure}']:+.1f} ({low} to {high}{covers})"


def _markdown(table: Table) -> Sequence[str]:
    headings, rows = table
    lines = [headings, ["---"] * len(headings), *rows]
    return [f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines]
