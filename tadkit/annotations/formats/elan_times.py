"""When ELAN's annotations begin and end (EAF 3.0 schema, and ELAN's four stereotypes of tiers).

An alignable annotation refers to two time slots. Slots without a value divide evenly the stretch between the nearest
two slots with a value *in the chain of their own tier's annotations*, whatever other slots stand between them in the
file. The slots of a parent tier are known before those of its subdivisions. A reference annotation has no slots: the
annotations of one tier that refer to the same parent divide its stretch evenly, in the order of
``PREVIOUS_ANNOTATION``, and an association takes the whole of it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from xml.etree.ElementTree import Element

_ASSOCIATION = "Symbolic_Association"
Span = tuple[float, float]
"""Begin and end, in the unit of the slots' values."""


def spans_of(root: Element, values: Mapping[str, float]) -> dict[Element, Span]:
    """Begin and end of each annotation; those without a time are absent.

    Args:
        root: the document.
        values: values of the time slots that have one, by name.
    """
    at: dict[str, float] = dict(values)
    found: dict[Element, Span] = {}
    by_name: dict[str | None, Element] = {}
    waiting: list[tuple[str | None, list[Element], bool]] = []
    associations = _types(root, _ASSOCIATION)
    for tier in _parents_first(root.findall("TIER")):
        aligned = list(tier.iter("ALIGNABLE_ANNOTATION"))
        at |= _divided(aligned, at)
        for item in aligned:
            begin, end = at.get(item.get("TIME_SLOT_REF1", "")), at.get(item.get("TIME_SLOT_REF2", ""))
            if begin is not None and end is not None:
                found[item] = (begin, end)
        by_name |= {item.get("ANNOTATION_ID"): item for item in (*aligned, *tier.iter("REF_ANNOTATION"))}
        whole = tier.get("LINGUISTIC_TYPE_REF") in associations
        waiting += [(parent, items, whole) for parent, items in _by_parent(tier).items()]
    by_name.pop(None, None)
    more = True
    while more:
        left = []
        for parent, items, whole in waiting:
            if by_name.get(parent) in found:
                found |= _shared(found[by_name[parent]], items, whole=whole)
            else:
                left.append((parent, items, whole))
        more = 0 < len(left) < len(waiting)
        waiting = left
    return found


def _shared(span: Span, items: Sequence[Element], *, whole: bool) -> dict[Element, Span]:
    """Each annotation's part of its parent's span, or all of it."""
    begin, end = span
    step = (end - begin) / len(items)
    parts = (span if whole else (begin + n * step, begin + (n + 1) * step) for n in range(len(items)))
    return dict(zip(items, parts, strict=True))


def _types(root: Element, stereotype: str) -> set[str | None]:
    """Linguistic types of a stereotype."""
    types = root.findall("LINGUISTIC_TYPE")
    return {
        one.get("LINGUISTIC_TYPE_ID") for one in types if one.get("CONSTRAINTS", "").replace(" ", "_") == stereotype
    }


def _parents_first(tiers: Sequence[Element]) -> list[Element]:
    """The tiers with every parent before its children, else in their order."""
    parents = {tier.get("TIER_ID"): tier.get("PARENT_REF") for tier in tiers}

    def depth(tier: Element) -> int:
        seen: list[str | None] = []
        name = tier.get("PARENT_REF")
        while name is not None and name not in seen:
            seen.append(name)
            name = parents.get(name)
        return len(seen)

    return sorted(tiers, key=depth)


def _divided(items: Sequence[Element], at: Mapping[str, float]) -> dict[str, float]:
    """Values of the slots of a tier that have none, where a chain of its annotations joins two slots that have."""
    found: dict[str, float] = {}
    ends = {item.get("TIME_SLOT_REF1", ""): item.get("TIME_SLOT_REF2", "") for item in items}
    for item in items:
        chain = [item.get("TIME_SLOT_REF1", ""), item.get("TIME_SLOT_REF2", "")]
        if chain[0] not in at or chain[1] in at:
            continue
        chain.extend(_followed(chain[1], ends, at))
        if chain[-1] in at:
            begin, steps = at[chain[0]], len(chain) - 1
            step = (at[chain[-1]] - begin) / steps
            found.update({slot: begin + place * step for place, slot in enumerate(chain[1:-1], start=1)})
    return found


def _followed(slot: str, ends: Mapping[str, str], at: Mapping[str, float]) -> Iterator[str]:
    """The slots after ``slot`` in a chain, up to the first with a value."""
    seen = set()
    while slot not in at and slot in ends and slot not in seen:
        seen.add(slot)
        slot = ends[slot]
        yield slot


def _by_parent(tier: Element) -> dict[str | None, list[Element]]:
    """The reference annotations of a tier by the annotation that they refer to, each list in ELAN's order."""
    groups: dict[str | None, list[Element]] = {}
    for item in tier.iter("REF_ANNOTATION"):
        groups.setdefault(item.get("ANNOTATION_REF"), []).append(item)
    return {parent: _in_order(items) for parent, items in groups.items()}


def _in_order(items: Sequence[Element]) -> list[Element]:
    """Follow ``PREVIOUS_ANNOTATION``; annotations outside its chain keep their order after it."""
    names = {item.get("ANNOTATION_ID", "") for item in items}
    after: dict[str, list[Element]] = {}
    for item in items:
        previous = item.get("PREVIOUS_ANNOTATION", "")
        after.setdefault(previous if previous in names else "", []).append(item)
    ordered: list[Element] = []
    waiting = list(reversed(after.pop("", [])))
    while waiting:
        item = waiting.pop()
        ordered.append(item)
        waiting.extend(reversed(after.pop(item.get("ANNOTATION_ID", ""), [])))
    left = {id(item) for item in ordered}
    return [*ordered, *(item for item in items if id(item) not in left)]
