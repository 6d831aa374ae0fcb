"""What is labelled in the frames of a CVAT file, and the stretches of time that follow from it.

CVAT for video lists each shown frame in which a track is visible, and its key frames that are ``outside``; the points
of a skeleton are ``outside`` one by one. A shape that is not a track is listed as a track of one frame. CVAT for images
lists every shown frame with its shapes and tags; deleted frames are listed nowhere (cvat/apps/dataset_manager). A frame
stands until the next shown one.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from xml.etree import ElementTree

from tadkit.annotations.formats.source import number
from tadkit.errors import AnnotationError

SHAPES = frozenset({"box", "polygon", "polyline", "points", "cuboid", "mask", "ellipse", "skeleton"})
EXACT = ("start_s", "end_s")
OF_VIDEO = ("subset", "duration_s", "fps")
_UNSET = ("", "__undefined__")
_TRUTH = {"true": True, "false": False}


@dataclass(frozen=True)
class Part:
    """The frames of one video that a task or job shows.

    Attributes:
        place: file and task, for messages.
        source: file name of the video; empty if the file does not give it.
        kind: ``task`` or ``job``.
        first: number of the first shown frame in the video.
        step: every step-th frame is shown.
        size: number of shown frames; None if unknown.
        stop: the task's last frame, which need not be shown; None if unknown.
        offset: added to the numbers of the frames in the file of a whole project.
        task: number of the task in the file of a whole project.
    """

    place: str
    source: str
    kind: str
    first: int
    step: int
    size: int | None
    stop: int | None
    offset: int = 0
    task: str | None = None

    @property
    def whole(self) -> bool:
        """Whether all frames up to the last one that the task names are labelled, from the first of the video on."""
        if self.size is None or self.first > 0:
            return False
        stop = self.size - 1 if self.stop is None else self.stop
        return self.step * self.size >= stop + 1 > self.step * (self.size - 1) + (self.step > 1)

    @property
    def end(self) -> int | None:
        """The frame after the last one that is labelled."""
        if self.size is None:
            return None if self.stop is None else self.stop + 1
        shown = self.first + self.step * self.size
        last = shown - self.step
        return min(shown, self.stop + 1) if self.stop is not None and self.stop > last else shown

    def frame(self, text: str | None, where: str) -> int:
        """The frame of the video from its number in the file.

        Raises:
            AnnotationError: not a frame of this task.
        """
        said = number(text, f"{where} frame", unit="a frame number")
        frame = round(said) - self.offset
        ends = [end for end in (self.end, self.stop) if end is not None]
        shown = not ends or self.first <= frame <= max(ends) + self.step
        if frame != said - self.offset or frame < 0 or not shown:
            raise AnnotationError(f"{where} has frame {text}, which its task does not show; export it again")
        return frame


def part_of(meta: ElementTree.Element, kind: str, place: str, source: str, offset: int = 0) -> Part:
    """The frames that the description of a task or job names."""

    def whole(key: str) -> int | None:
        text = meta.findtext(key)
        return None if text is None else round(number(text, f"{place}: {key}", unit="a frame"))

    step = re.search(r"step\s*=\s*(\d+)", meta.findtext("frame_filter") or "")
    return Part(
        place=place,
        source=meta.findtext("source") or source,
        kind=kind,
        first=whole("start_frame") or 0,
        step=max(1, int(step[1])) if step else 1,
        size=whole("size"),
        stop=whole("stop_frame"),
        offset=offset,
    )


@dataclass(frozen=True)
class Seen:
    """One listed frame of a track, or of all pictures: the classes in it, and the element with its attributes."""

    frame: int
    classes: frozenset[str]
    element: ElementTree.Element | None = None


@dataclass(frozen=True)
class Span:
    """A class from a frame to another one (half open); ``first`` is the element of its first frame."""

    start: int
    end: int
    label: str
    first: ElementTree.Element | None = None


def spans(listed: Sequence[Seen], part: Part) -> Iterator[Span]:
    """Each class from the first listed frame that has it to the next one that does not.

    Frames that are not listed in between were deleted and count to the stretch around them.
    """
    # Pictures list deleted frames nowhere, so that the next listed one may be far away; tracks list where they end.
    pictures = any(seen.element is not None and seen.element.tag == "image" for seen in listed)
    running: dict[str, Seen] = {}
    last: dict[str, int] = {}
    for seen in sorted(listed, key=lambda one: one.frame):
        for label in sorted(set(running) - seen.classes):
            first = running.pop(label)
            end = min(seen.frame, last[label] + part.step) if pictures else seen.frame
            yield Span(first.frame, end, label, first.element)
        for label in seen.classes:
            running.setdefault(label, seen)
            last[label] = seen.frame
    for label, first in sorted(running.items()):
        end = last[label] + part.step
        end = end if part.end is None else max(last[label] + 1, min(end, part.end))
        yield Span(first.frame, end, label, first.element)


def lone(listed: Sequence[Seen], part: Part) -> Seen | None:
    """The frame of a shape that is not a track, which lasts for one shown frame; None for a track."""
    shown = [seen for seen in listed if seen.classes]
    if len(shown) != 1 or any(0 < seen.frame - shown[0].frame != part.step for seen in listed):
        return None
    return shown[0]


def single(found: Iterable[Seen], part: Part) -> list[Seen]:
    """One list for shapes of single frames: those of frames that follow one another are one stretch."""
    held: dict[int, frozenset[str]] = {}
    for seen in found:
        held[seen.frame] = held.get(seen.frame, frozenset()) | seen.classes
    ends = {frame + part.step: frozenset[str]() for frame in held}
    return [Seen(frame, classes) for frame, classes in (ends | held).items()]


def classes(attribute: str | None, label: str, values: Mapping[str, str]) -> frozenset[str]:
    """The class of a shape or tag: its label, or the value of ``attribute``; a ticked checkbox gives its own name."""
    if attribute is None:
        return frozenset({label})
    value = values.get(attribute, "").strip()
    if value in _TRUTH:
        value = attribute if _TRUTH[value] else ""
    return frozenset() if value in _UNSET else frozenset({value})


def attributes_of(element: ElementTree.Element) -> dict[str, str]:
    """Values of the attributes of a shape or tag, without those of the points of a skeleton."""
    return {str(item.get("name")): item.text or "" for item in element.findall("attribute")}


def users(names: Iterable[str]) -> set[str]:
    """Names of attributes other than those that tadkit writes."""
    return set(names) - {*EXACT, *OF_VIDEO}


def track_seen(track: ElementTree.Element, part: Part, attribute: str | None, where: str) -> list[Seen]:
    """The listed frames of a track; values of attributes hold until they change.

    Raises:
        AnnotationError: a frame that its task does not show.
    """
    label, values = str(track.get("label")), dict[str, str]()
    shapes = [(part.frame(shape.get("frame"), where), shape) for shape in track if shape.tag in SHAPES]
    found = []
    for frame, shape in sorted(shapes, key=lambda pair: pair[0]):
        values |= attributes_of(shape)
        visible = _visible(shape)
        found.append(Seen(frame, classes(attribute, label, values) if visible else frozenset(), shape))
    return found


def _visible(shape: ElementTree.Element) -> bool:
    points = [point for point in shape if point.tag in SHAPES] if shape.tag == "skeleton" else []
    return any(point.get("outside") != "1" for point in points) if points else shape.get("outside") != "1"


def images_seen(images: Sequence[ElementTree.Element], part: Part, attribute: str | None, where: str) -> list[Seen]:
    """The classes of the shapes and tags of each listed picture.

    Raises:
        AnnotationError: a frame that its task does not show, or a mark without a label.
    """
    found = []
    for image in images:
        marks = [mark for mark in image if mark.tag in SHAPES or mark.tag == "tag"]
        if any(not mark.get("label") for mark in marks):
            raise AnnotationError(f"{where}: picture {image.get('id')} has a mark without a label")
        held = [classes(attribute, str(mark.get("label")), attributes_of(mark)) for mark in marks]
        found.append(Seen(part.frame(image.get("id"), where), frozenset().union(*held), image))
    return found
