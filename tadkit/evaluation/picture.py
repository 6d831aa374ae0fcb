"""The analysis as one SVG picture, written by hand: no LaTeX, no plotting library, and the same bytes every time."""

from __future__ import annotations

from collections.abc import Sequence
from xml.sax.saxutils import escape

from tadkit.evaluation.diagnosis import ERRORS, TOP, Diagnosis, Errors
from tadkit.evaluation.sensitivity import Sensitivity

_OUTCOMES = ("true positive", *ERRORS)
_COLOURS = ("#33a02c", "#1f78b4", "#e31a1c", "#ff7f00", "#6a3d9a", "#b0b0b0")
_WIDTH_PX, _PANEL_HEIGHT_PX, _PLOT_PX = 960, 240, 150
_HALF_PX, _MARGIN_PX = 480, 60
_RESPECTS = {
    "coverage": "coverage of the video",
    "length_s": "length in seconds",
    "instances": "instances in the video",
}


def analysis_svg(diagnosis: Diagnosis, *, title: str) -> str:
    """Draw an analysis: errors and their costs at each threshold, sensitivities below.

    Args:
        diagnosis: what to draw.
        title: stands on top.

    Returns:
        The text of an SVG file.
    """
    parts = [_text(_WIDTH_PX / 2, 24, title, size=16, anchor="middle")]
    parts += _legend(48)
    top_px = 70
    for errors in diagnosis.errors:
        parts += _moved(_profile(errors), 0, top_px) + _moved(_costs(errors), _HALF_PX, top_px)
        top_px += _PANEL_HEIGHT_PX
    width_px = _WIDTH_PX / max(len(diagnosis.sensitivities), 1)
    for number, sensitivity in enumerate(diagnosis.sensitivities):
        parts += _moved(_sensitivity(sensitivity, width_px), number * width_px, top_px)
    height_px = top_px + _PANEL_HEIGHT_PX
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_WIDTH_PX}" height="{height_px}" '
        f'viewBox="0 0 {_WIDTH_PX} {height_px}" font-family="sans-serif" font-size="11">'
    )
    return "\n".join([head, '<rect width="100%" height="100%" fill="white"/>', *parts, "</svg>"]) + "\n"


def _legend(y_px: float) -> list[str]:
    parts = []
    for number, (name, colour) in enumerate(zip(_OUTCOMES, _COLOURS, strict=True)):
        x_px = _MARGIN_PX + number * 145
        parts += [_bar(x_px, y_px - 9, 10, 10, colour), _text(x_px + 15, y_px, name)]
    return parts


def _profile(errors: Errors) -> list[str]:
    """Shares of hits and errors among the best G, 2G ... detections, stacked."""
    parts = [_text(_MARGIN_PX, 14, f"best detections of each class, tIoU {errors.tiou:g} (share of each outcome)")]
    parts += _axes(_HALF_PX, 1.0)
    pitch_px = (_HALF_PX - _MARGIN_PX - 20) / TOP
    for k in range(TOP):
        x_px, base = _MARGIN_PX + k * pitch_px + 3, 0.0
        for share, colour, name in zip(errors.shares[k], _COLOURS, _OUTCOMES, strict=True):
            y_px, height_px = _span(base, base + float(share), 1.0)
            parts.append(_bar(x_px, y_px, pitch_px - 6, height_px, colour, f"{name}: {100 * share:.1f} %"))
            base += float(share)
        parts.append(_text(x_px + pitch_px / 2 - 3, _PLOT_PX + 44, f"{k + 1}G", anchor="middle"))
    return parts


def _costs(errors: Errors) -> list[str]:
    """What mAP would gain without each type of error."""
    values = [errors.costs[name] for name in ERRORS]
    most = _ceiling(max(values, default=0.0))
    parts = [_text(_MARGIN_PX, 14, f"cost at tIoU {errors.tiou:g} (gain of mAP without the error, points)")]
    parts += _axes(_HALF_PX, most)
    return parts + _bars(ERRORS, values, _COLOURS[1:], _HALF_PX, most)


def _sensitivity(sensitivity: Sensitivity, width_px: float) -> list[str]:
    """Normalised mAP of each group; the dashed line is that of all actions."""
    groups = [group for group in sensitivity.groups if group.normalised_map is not None]
    values = [group.normalised_map or 0.0 for group in groups]
    most = _ceiling(max([*values, sensitivity.normalised_map]))
    names = [f"{group.name} ({group.actions})" for group in groups]
    parts = [_text(_MARGIN_PX, 14, f"normalised mAP by {_RESPECTS[sensitivity.respect]}"), *_axes(width_px, most)]
    parts += _bars(names, values, ["#1f78b4"] * len(values), width_px, most)
    y_px = _span(0.0, sensitivity.normalised_map, most)[0]
    line = f'<line x1="{_MARGIN_PX}" x2="{width_px - 20:.1f}" y1="{y_px:.1f}" y2="{y_px:.1f}" '
    return [*parts, line + 'stroke="black" stroke-dasharray="4 3"/>']


def _bars(
    names: Sequence[str], values: Sequence[float], colours: Sequence[str], width_px: float, most: float
) -> list[str]:
    parts = []
    pitch_px = (width_px - _MARGIN_PX - 20) / max(len(names), 1)
    for number, (name, value, colour) in enumerate(zip(names, values, colours, strict=True)):
        x_px = _MARGIN_PX + number * pitch_px
        y_px, height_px = _span(0.0, max(value, 0.0), most)
        parts.append(_bar(x_px + 8, y_px, pitch_px - 16, height_px, colour, f"{name}: {100 * value:.2f}"))
        parts.append(_text(x_px + pitch_px / 2, y_px - 4, f"{100 * value:.1f}", anchor="middle"))
        parts.append(_text(x_px + pitch_px / 2, _PLOT_PX + 44, name, anchor="middle", size=10))
    return parts


def _axes(width_px: float, most: float) -> list[str]:
    """Left and lower axis, with per cent at the bottom, the middle and the top."""
    parts = []
    for share in (0.0, 0.5, 1.0):
        y_px = _span(0.0, share * most, most)[0]
        line = f'<line x1="{_MARGIN_PX}" x2="{width_px - 20:.1f}" y1="{y_px:.1f}" y2="{y_px:.1f}" stroke="#dddddd"/>'
        parts += [line, _text(_MARGIN_PX - 6, y_px + 4, f"{100 * share * most:.3g}", anchor="end")]
    return parts


def _span(low: float, high: float, most: float) -> tuple[float, float]:
    """Upper edge and height in pixels of a bar between two values."""
    return 30 + _PLOT_PX * (1 - high / most), _PLOT_PX * (high - low) / most


def _ceiling(value: float) -> float:
    """The next round number above a fraction, at least one hundredth."""
    return next((top for top in (0.01, 0.02, 0.05, 0.1, 0.2, 0.5) if value <= 0.9 * top), 1.0)


def _bar(x_px: float, y_px: float, width_px: float, height_px: float, colour: str, hint: str = "") -> str:
    title = f"<title>{escape(hint)}</title>" if hint else ""
    return (
        f'<rect x="{x_px:.1f}" y="{y_px:.1f}" width="{width_px:.1f}" height="{height_px:.1f}" '
        f'fill="{colour}">{title}</rect>'
    )


def _text(x_px: float, y_px: float, words: str, *, anchor: str = "start", size: int = 11) -> str:
    return f'<text x="{x_px:.1f}" y="{y_px:.1f}" text-anchor="{anchor}" font-size="{size}">{escape(words)}</text>'


def _moved(parts: list[str], x_px: float, y_px: float) -> list[str]:
    return [f'<g transform="translate({x_px:.1f} {y_px:.1f})">', *parts, "</g>"]
