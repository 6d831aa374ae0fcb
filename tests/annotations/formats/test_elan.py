"""ELAN's files by the rules of its format (EAF 3.0), not as tadkit writes them."""

from __future__ import annotations

import fnmatch
import tempfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tadkit.annotations.formats import Known, Source, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

CASES = Path(__file__).parent / "cases"
TYPES = {
    "root": "",
    "time-sub": 'CONSTRAINTS="Time_Subdivision"',
    "sym-sub": 'CONSTRAINTS="Symbolic_Subdivision"',
    "assoc": 'CONSTRAINTS="Symbolic_Association"',
}
Truth = tuple[str, float, float, str]
"""Tier, begin and end in milliseconds, label."""


@dataclass
class Document:
    """A document that is built slot by slot, beside its truth."""

    slots: list[tuple[float, int, str, int | None]] = field(default_factory=list)
    tiers: list[tuple[str, str, str, str, list[str]]] = field(default_factory=list)
    truth: list[Truth] = field(default_factory=list)
    ids: int = 0

    def slot(self, at: float, value: int | None) -> str:
        """A slot at ``at``, which orders it in the file, with or without a value."""
        self.ids += 1
        self.slots.append((at, self.ids, f"ts{self.ids}", value))
        return f"ts{self.ids}"

    def tier(self, name: str, kind: str, parent: str = "", participant: str = "") -> list[str]:
        items: list[str] = []
        self.tiers.append((name, kind, parent, participant, items))
        return items

    def aligned(self, items: list[str], tier: str, slots: tuple[str, str], span: tuple[float, float]) -> str:
        name, label = self._named()
        refs = f'TIME_SLOT_REF1="{slots[0]}" TIME_SLOT_REF2="{slots[1]}"'
        items.append(f'<ALIGNABLE_ANNOTATION ANNOTATION_ID="{name}" {refs}>{value(label)}</ALIGNABLE_ANNOTATION>')
        self.truth.append((tier, *span, label))
        return name

    def referring(self, items: list[str], tier: str, parent: str, previous: str, span: tuple[float, float]) -> str:
        name, label = self._named()
        before = f' PREVIOUS_ANNOTATION="{previous}"' if previous else ""
        refs = f'ANNOTATION_REF="{parent}"{before}'
        items.append(f'<REF_ANNOTATION ANNOTATION_ID="{name}" {refs}>{value(label)}</REF_ANNOTATION>')
        self.truth.append((tier, *span, label))
        return name

    def _named(self) -> tuple[str, str]:
        self.ids += 1
        return f"a{self.ids}", f"w{self.ids}"

    def text(self, *, media: str = "", header: str = "", vocabularies: str = "") -> str:
        order = "".join(
            f'<TIME_SLOT TIME_SLOT_ID="{name}"{"" if ms is None else f" TIME_VALUE={chr(34)}{ms}{chr(34)}"}/>'
            for _, _, name, ms in sorted(self.slots)
        )
        tiers = "".join(
            f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="{kind}"'
            + (f' PARENT_REF="{parent}"' if parent else "")
            + (f' PARTICIPANT="{participant}"' if participant else "")
            + ">"
            + "".join(f"<ANNOTATION>{item}</ANNOTATION>" for item in items)
            + "</TIER>"
            for name, kind, parent, participant, items in self.tiers
        )
        types = "".join(f'<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="{k}" {rest}/>' for k, rest in TYPES.items())
        return (
            f'<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT FORMAT="3.0"><HEADER {header}>'
            f"{media}</HEADER><TIME_ORDER>{order}</TIME_ORDER>{tiers}{types}{vocabularies}</ANNOTATION_DOCUMENT>"
        )


def value(label: str) -> str:
    return f"<ANNOTATION_VALUE>{label}</ANNOTATION_VALUE>"


@st.composite
def documents(draw: st.DrawFn) -> Document:
    """Tiers whose annotations lie between each other in time; subdivisions of subdivisions; references to all."""
    document = Document()
    for root in range(draw(st.integers(1, 3))):
        name = f"root {root}"
        items, words = document.tier(name, "root"), document.tier(f"{name} words", "time-sub", name)
        parts = document.tier(f"{name} parts", "time-sub", f"{name} words")
        glosses = document.tier(f"{name} glosses", "sym-sub", f"{name} words")
        notes = document.tier(f"{name} notes", "assoc", f"{name} glosses")
        begin = draw(st.integers(0, 500))
        for _ in range(draw(st.integers(0, 3))):
            end = begin + draw(st.integers(100, 5000))
            slots = (document.slot(begin, begin), document.slot(end, end))
            document.aligned(items, name, slots, (begin, end))
            for at, of_slots, word in divided(draw, document, words, f"{name} words", slots, (begin, end)):
                if draw(st.booleans()):
                    divided(draw, document, parts, f"{name} parts", of_slots, at, valued=False)
                for span, gloss in referred(draw, document, glosses, f"{name} glosses", word, at):
                    if draw(st.booleans()):
                        document.referring(notes, f"{name} notes", gloss, "", span)
            begin = end + draw(st.integers(0, 700))
    draw(st.randoms()).shuffle(document.tiers)
    return document


def divided(draw, document, items, tier, slots, span, *, valued=True):
    """Subdivide an annotation; a cut with a value stands at it, those between two such are spaced evenly."""
    cuts: list[float | None] = [span[0]]
    for _ in range(draw(st.integers(0, 4))):
        last = max(cut for cut in cuts if cut is not None)
        at = draw(st.integers(int(last) + 1, int(span[1]))) if valued and draw(st.booleans()) else None
        cuts.append(at if at is not None and at < span[1] else None)
    cuts.append(span[1])
    times = [known if known is not None else between(cuts, place) for place, known in enumerate(cuts)]
    inner = [
        document.slot(times[n] if cuts[n] is not None else span[0] + 0.01, cuts[n]) for n in range(1, len(cuts) - 1)
    ]
    chain = [slots[0], *inner, slots[1]]
    found = []
    for n in range(len(chain) - 1):
        of_slots, at = (chain[n], chain[n + 1]), (times[n], times[n + 1])
        found.append((at, of_slots, document.aligned(items, tier, of_slots, at)))
    return found


def between(cuts: list[float | None], place: int) -> float:
    before = max(n for n in range(place) if cuts[n] is not None)
    after = min(n for n in range(place, len(cuts)) if cuts[n] is not None)
    begin, end = cuts[before], cuts[after]
    return begin + (end - begin) * (place - before) / (after - before)


def referred(draw, document, items, tier, parent, span):
    """Annotations that divide their parent evenly, in an order that only PREVIOUS_ANNOTATION tells."""
    count, previous, found = draw(st.integers(0, 4)), "", []
    written: list[str] = []
    for n in range(count):
        at = (span[0] + (span[1] - span[0]) * n / count, span[0] + (span[1] - span[0]) * (n + 1) / count)
        previous = document.referring(written, tier, parent, previous, at)
        found.append((at, previous))
    draw(st.randoms()).shuffle(written)
    items += written
    return found


ALL = Known()


def read(text: str, known: Known = ALL) -> Source:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.eaf"
        path.write_text(text)
        return read_annotations(path, "elan", known)


def assert_found(found, truth: list[Truth], origin_ms: float = 0.0) -> None:
    by_label = {a.label: a for a in found}
    assert len(found) == len(by_label) == len(truth)
    for _, begin, end, label in truth:
        assert by_label[label].start_s == pytest.approx((begin + origin_ms) / 1000, abs=2e-6), label
        assert by_label[label].end_s == pytest.approx((end + origin_ms) / 1000, abs=2e-6), label


@settings(max_examples=50)
@given(documents(), st.integers(0, 3000))
def test_every_annotation_is_where_elan_shows_it(document, origin_ms):
    media = f'<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/v.mp4" MIME_TYPE="video/mp4" TIME_ORIGIN="{origin_ms}"/>'
    source = read(document.text(media=media))
    (video,) = source.videos
    assert (video.name, source.losses) == ("v", ())
    assert_found(video.annotations, document.truth, origin_ms)


@settings(max_examples=20)
@given(documents(), st.sampled_from(["root 0", "* words", "root ? glosses", "root 1*"]))
def test_chosen_tiers_are_read_and_no_others(document, pattern):
    wanted = [one for one in document.truth if fnmatch.fnmatchcase(one[0], pattern)]
    if not any(fnmatch.fnmatchcase(name, pattern) for name, *_ in document.tiers):
        with pytest.raises(AnnotationError, match=r"no tier|none of the chosen tiers"):
            read(document.text(), Known(tiers=(pattern,)))
        return
    (video,) = read(document.text(), Known(tiers=(pattern,))).videos
    assert_found(video.annotations, wanted)


def test_a_chain_of_slots_divides_its_own_annotation():
    source = read_annotations(CASES / "elan_subdivision.eaf", "elan", Known(tiers=("phase",)))
    (video,) = source.videos
    assert video.name == "kitchen"
    assert video.annotations == (Annotation(2, 4, "fill"), Annotation(4, 6, "boil"), Annotation(6, 8, "pour"))
    assert (source.remarks, source.losses) == ((), ())
    every = read_annotations(CASES / "elan_subdivision.eaf", "elan", Known())
    assert len(every.videos[0].annotations) == 5
    assert "actions of 3 tiers are read together, choose with --tier: 'activity', 'phase', 'gaze'" in every.remarks[0]


def two_people() -> Document:
    document = Document()
    for person, begin in (("Ann", 1000), ("Ben", 2000)):
        items = document.tier(f"{person} gesture", "root", participant=person)
        slots = (document.slot(begin, begin), document.slot(begin + 500, begin + 500))
        document.aligned(items, f"{person} gesture", slots, (begin, begin + 500))
    notes = document.tier("notes", "assoc", "Ann gesture", participant="Ann")
    document.referring(notes, "notes", "a3", "", (1000, 1500))
    return document


@pytest.mark.parametrize(
    ("known", "tiers"),
    [
        (Known(subjects=("Ben",)), ["Ben gesture"]),
        (Known(subjects=("Ann",)), ["Ann gesture", "notes"]),
        (Known(tier_types=("root",)), ["Ann gesture", "Ben gesture"]),
        (Known(tier_types=("root",), subjects=("Ann",)), ["Ann gesture"]),
    ],
)
def test_tiers_are_chosen_by_participant_and_linguistic_type(known, tiers):
    document = two_people()
    (video,) = read(document.text(), known).videos
    assert_found(video.annotations, [one for one in document.truth if one[0] in tiers])


@pytest.mark.parametrize(
    ("known", "said"),
    [
        (Known(tiers=("phas",)), "no tier 'phas'; expected 'Ann gesture', 'Ben gesture', 'notes'"),
        (Known(tiers=("notes", "phas")), "no tier 'phas'; expected 'Ann gesture', 'Ben gesture', 'notes'"),
        (Known(tiers=("notes",), subjects=("Ben",)), "none of the chosen tiers"),
        (Known(subjects=("Ann", "Cy")), "no participant 'Cy'; expected 'Ann', 'Ben'"),
        (Known(tier_types=("root", "x")), "no linguistic type 'x'; expected 'assoc', 'root'"),
    ],
)
def test_a_choice_that_fits_nothing_is_refused_with_the_names(known, said):
    with pytest.raises(AnnotationError, match=said):
        read(two_people().text(), known)
