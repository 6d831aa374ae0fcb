"""Random observations, written as BORIS writes its projects and tables, beside the truth."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import Known, Source, read_annotations
from tadkit.errors import AnnotationError

Span = tuple[int, int, str, str, str]
"""Begin and end in milliseconds on the observation's clock, behaviour, subject, modifier."""
BEHAVIOURS = {"walk": "State event", "feed, fast": "State event with coding map", "hit": "Point event"}


@dataclass(frozen=True)
class Observed:
    """One observation: files of the first player with lengths, files of the second, offset, and what happened."""

    name: str
    files: dict[str, int]
    others: list[str]
    offset_ms: int
    spans: list[Span]

    @property
    def length_ms(self) -> int:
        return sum(self.files.values())

    def events(self) -> list[tuple[int, str, str, str, str]]:
        """Time, subject, behaviour, modifier and status, sorted as BORIS sorts them."""
        found = []
        for begin, end, label, subject, modifier in self.spans:
            if begin == end:
                found.append((begin + self.offset_ms, subject, label, modifier, "POINT"))
            else:
                found.append((begin + self.offset_ms, subject, label, modifier, "START"))
                found.append((end + self.offset_ms, subject, label, modifier, "STOP"))
        return sorted(found, key=lambda event: event[0])

    def truth(self, spans: list[Span] | None = None) -> dict[str, list[tuple[float, float, str]]]:
        """Seconds in each file of the first player."""
        found: dict[str, list[tuple[float, float, str]]] = {}
        start = 0
        for file, length in self.files.items():
            last = file == list(self.files)[-1]
            pieces = found.setdefault(Path(file).stem, [])
            for begin, end, label, *_ in self.spans if spans is None else spans:
                a, b = max(begin, start), end if last else min(end, start + length)
                if a < b or (begin == end and start <= begin and (last or begin < start + length)):
                    pieces.append(((a - start) / 1000, (b - start) / 1000, label))
            start += length
        return {name: sorted(pieces) for name, pieces in found.items()}


@st.composite
def observations(draw: st.DrawFn) -> list[Observed]:
    found = []
    for n in range(draw(st.integers(1, 3))):
        files = {f"films/o{n} file{k}.mp4": draw(st.integers(1000, 20000)) for k in range(draw(st.integers(1, 3)))}
        spans: list[Span] = []
        for label, kind in BEHAVIOURS.items():
            for subject in draw(st.lists(st.sampled_from(["", "cat", "dog"]), max_size=2, unique=True)):
                for modifier in draw(st.lists(st.sampled_from(["", "up", "up|left"]), max_size=2, unique=True)):
                    ends = st.lists(st.integers(1, sum(files.values()) - 1), max_size=6, unique=True)
                    times = sorted(draw(ends))
                    if kind.startswith("Point"):
                        spans += [(t, t, label, subject, modifier) for t in times]
                    else:
                        pairs = zip(times[::2], times[1::2], strict=False)
                        spans += [(begin, end, label, subject, modifier) for begin, end in pairs]
        offset_ms = draw(st.sampled_from([0, 60_000, 1_700_000_000_000]))
        others = draw(st.sampled_from([[], [f"o{n} side.mp4"]]))
        found.append(Observed(f"o {n}", files, others, offset_ms, spans))
    return found


def project(observed: list[Observed]) -> str:
    content: dict[str, Any] = {
        "project_format_version": "7.0",
        "behaviors_conf": {str(n): {"code": code, "type": kind} for n, (code, kind) in enumerate(BEHAVIOURS.items())},
        "observations": {
            one.name: {
                "type": "MEDIA",
                "file": {"1": list(one.files), "2": one.others},
                "time offset": one.offset_ms / 1000,
                "media_info": {"length": {f: ms / 1000 for f, ms in one.files.items()}, "offset": {"2": 20.0}},
                "events": [[t / 1000, who, what, how, ""] for t, who, what, how, _ in one.events()],
            }
            for one in observed
        },
    }
    return json.dumps(content)


HEADINGS = {  # words and units that changed between versions
    "7.13": {"length": "Media duration (s)", "fps": "FPS (frame/s)", "media": "Media file"},
    "8.20": {"length": "Media duration (s)", "fps": "FPS", "media": "Media file name"},
    "9": {"length": "Media duration", "fps": "FPS", "media": "Media file path"},
}


def cells_of(one: Observed, words: dict[str, str], subject: str, label: str, how: str) -> dict[str, str]:
    player = "player #1:" + ";".join(one.files) + "".join(f"|player #2:{other}" for other in one.others)
    lengths = ";".join(f"{ms / 1000:.3f}" for ms in one.files.values()) + "|5.000" * len(one.others)
    modifiers = [*how.split("|"), "", ""][:2]
    return {
        "Observation id": one.name,
        "Observation type": "Media file(s)",
        "Source": player,
        "Time offset (s)": f"{one.offset_ms / 1000:.3f}",
        words["length"]: lengths,
        words["fps"]: ";".join("25.000" for _ in one.files),
        "Subject": subject,
        "Behavior": label,
        "Modifier #1": modifiers[0],
        "Modifier #2": modifiers[1],
        words["media"]: "Not found",
    }


def written(rows: list[dict[str, str]]) -> str:
    return "\n".join("\t".join(row) for row in [list(rows[0]), *(row.values() for row in rows)]) + "\n"


def tabular(observed: list[Observed], words: dict[str, str], inside: tuple[int, int]) -> list[dict[str, str]]:
    """One row per event, limited to an interval, in which BORIS keeps the status that the whole observation gives."""
    return [
        {
            **cells_of(one, words, subject, label, how),
            "Behavior type": status,
            "Time": f"{t / 1000:.3f}",
        }
        for one in observed
        for t, subject, label, how, status in one.events()
        if inside[0] <= t - one.offset_ms <= inside[1]
    ]


def aggregated(observed: list[Observed], words: dict[str, str]) -> list[dict[str, str]]:
    return [
        {
            **cells_of(one, words, subject or "No focal subject", label, how),
            "Behavior type": "POINT" if begin == end else "STATE",
            "Start (s)": f"{(begin + one.offset_ms) / 1000:.3f}",
            "Stop (s)": f"{(end + one.offset_ms) / 1000:.3f}",
        }
        for one in observed
        for begin, end, label, subject, how in one.spans
    ]


def read(name: str, text: str) -> Source:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        path.write_text(text)
        return read_annotations(path, "boris", Known())


def assert_read(source: Source, wanted: dict[str, list[tuple[float, float, str]]]) -> None:
    found = {v.name: sorted((a.start_s, a.end_s, a.label) for a in v.annotations) for v in source.videos}
    assert set(found) == set(wanted)
    for name, actions in wanted.items():
        assert [label for *_, label in found[name]] == [label for *_, label in actions]
        for (start_s, end_s, _), (wanted_start_s, wanted_end_s, _) in zip(found[name], actions, strict=True):
            assert (start_s, end_s) == pytest.approx((wanted_start_s, wanted_end_s), abs=2e-6)


@settings(max_examples=60)
@given(observations())
def test_a_project_gives_what_happened_in_each_file(observed):
    source = read("p.boris", project(observed))
    assert source.losses == ()
    assert_read(source, {name: found for one in observed for name, found in one.truth().items()})


@settings(max_examples=40)
@given(observations(), st.sampled_from(list(HEADINGS)))
def test_an_aggregated_table_of_any_version_gives_what_happened(observed, version):
    rows = aggregated(observed, HEADINGS[version])
    if rows:
        source = read("a.tsv", written(rows))
        assert source.losses == ()
        labelled = [one for one in observed if one.spans]
        assert_read(source, {name: found for one in labelled for name, found in one.truth().items()})


@settings(max_examples=60)
@given(observations(), st.sampled_from(list(HEADINGS)), st.integers(0, 15000), st.integers(0, 60000))
def test_a_tabular_table_gives_what_happened_within_its_interval_and_counts_what_it_cuts(observed, version, low, more):
    inside = (low, low + more)
    rows = tabular(observed, HEADINGS[version], inside)
    if not rows:
        return
    whole = {one.name: [s for s in one.spans if inside[0] <= s[0] and s[1] <= inside[1]] for one in observed}
    cut = {
        one.name: sum((inside[0] <= s[0] <= inside[1]) != (inside[0] <= s[1] <= inside[1]) for s in one.spans)
        for one in observed
    }
    if not any(whole.values()):
        with pytest.raises(AnnotationError, match=r"no action is left|no labelled video is left"):
            read("e.tsv", written(rows))
        return
    source = read("e.tsv", written(rows))
    without = sum(1 for one in observed if cut[one.name] and not whole[one.name])
    assert len(source.losses) == sum(cut.values()) + without
    there = [one for one in observed if whole[one.name]]
    assert_read(source, {name: found for one in there for name, found in one.truth(whole[one.name]).items()})
