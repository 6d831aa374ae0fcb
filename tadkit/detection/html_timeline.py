"""Detections as a timeline in HTML: one lane a label, one bar a detection, no script and no network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from types import MappingProxyType

from tadkit.records import HIGH_CONFIDENCE, Detection, is_shown

_MOST_BARS = 300
_HUES = (210, 25, 140, 280, 340, 50, 180, 100)
_STYLE = "font:13px/1.5 system-ui,sans-serif;max-width:60em;margin:.5em 0"
_ENDS = "display:flex;justify-content:space-between;margin-left:9em"
_NO_POINTS: Mapping[str, float] = MappingProxyType({})
_LANE = "position:relative;flex:1;height:1.4em;background:rgba(127,127,127,.15);border-radius:3px"


def html_timeline(
    detections: Sequence[Detection], *, video: str, duration_s: float, points: Mapping[str, float] = _NO_POINTS
) -> str:
    """A block of HTML: the high-confidence detections, or the best where none scores as high, in lanes by label.

    ``points`` are the operating points of labels. Text from files is escaped. Colours are readable on light and on
    dark ground.
    """
    sure = [d for d in detections if is_shown(d, points)]
    shown = sorted(sure or detections, key=lambda d: -d.score)[:_MOST_BARS]
    labels = list(dict.fromkeys(d.label for d in sorted(shown, key=lambda d: d.start_s)))
    lanes = "".join(
        _lane(label, [d for d in shown if d.label == label], hue=_HUES[n % len(_HUES)], duration_s=duration_s)
        for n, label in enumerate(labels)
    )
    of = f"{len(shown)} of {len(detections)} detections"
    least = "" if not sure else ", score ≥ that of the label" if points else f", score ≥ {HIGH_CONFIDENCE:g}"
    heading = f"<b>{escape(video)}</b> · {duration_s:.1f} s · {of}{least}"
    ends = (
        f'<div style="display:flex;justify-content:space-between;margin-left:9em">{_clock(0)}{_clock(duration_s)}</div>'
    )
    return f'<div style="{_STYLE}"><div>{heading}</div>{lanes}{ends if shown else ""}</div>'


def _lane(label: str, detections: Sequence[Detection], *, hue: int, duration_s: float) -> str:
    bars = "".join(_bar(d, hue=hue, duration_s=duration_s) for d in sorted(detections, key=lambda d: d.score))
    name = f'<span style="width:9em;overflow:hidden;text-overflow:ellipsis;white-space:nowrap">{escape(label)}</span>'
    return f'<div style="display:flex;align-items:center;margin:2px 0">{name}<div style="{_LANE}">{bars}</div></div>'


def _bar(detection: Detection, *, hue: int, duration_s: float) -> str:
    """A bar over the detection's time; the higher the score, the stronger its colour."""
    whole = max(duration_s, 1e-9)
    left, width = 100 * detection.start_s / whole, 100 * (detection.end_s - detection.start_s) / whole
    strength = 0.35 + 0.6 * min(max(detection.score, 0.0), 1.0)
    words = f"{detection.label}: {detection.start_s:.1f} to {detection.end_s:.1f} s, score {detection.score:.2f}"
    place = f"left:{left:.3f}%;width:{max(width, 0.2):.3f}%"
    colour = f"background:hsla({hue},70%,50%,{strength:.2f})"
    return (
        f'<div title="{escape(words)}" '
        f'style="position:absolute;top:0;bottom:0;{place};{colour};border-radius:3px"></div>'
    )


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"<span>{minutes}:{rest:02d}</span>"
