"""MultiTHUMOS and Charades in JSON with numbered classes, and MultiTHUMOS's own text files.

``{video: {"subset", "duration", "actions": [[class, start, end], ...]}}`` (Piergiovanni and Ryoo, CVPR 2018, whose
files are widely used). Class names come from a class list: the one given, else ``class_list.txt`` or
``Charades_v1_classes.txt`` beside the file; without one the number itself is the label. MultiTHUMOS: Yeung et al., IJCV
2018.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tadkit.annotations.formats.items import actions_of, each
from tadkit.annotations.formats.source import Known, Source, SourceVideo, action, gathered, maybe_number, read_text
from tadkit.annotations.formats.thumos14 import read_lines
from tadkit.errors import AnnotationError
from tadkit.files import read_json
from tadkit.records import Annotation

LISTS = ("class_list.txt", "Charades_v1_classes.txt")
_PREFIXES = {"video_validation_": "training", "video_test_": "testing"}


def read_numbered(path: Path, known: Known) -> Source:
    """Read the JSON format; an action of a class that the class list lacks is a loss.

    Raises:
        AnnotationError: not in this format.
    """
    content = read_json(path, error=AnnotationError, distinct=True)
    if not isinstance(content, dict):
        raise AnnotationError(f"{path}: expected an object with an object for each video")
    names = class_names(path, known)
    losses: list[str] = []
    videos = each(content.items(), lambda one: _video(f"{path}: '{one[0]}'", *one, names, losses), losses)
    return Source(tuple(videos), () if names else (NUMBERS_ONLY.format(path=path),), tuple(losses))


NUMBERS_ONLY = "{path}: classes are numbers, which become the labels; give their names with --classes"


def _video(where: str, name: str, entry: Any, names: Mapping[str, str] | None, losses: list[str]) -> SourceVideo:
    actions = entry.get("actions") if isinstance(entry, dict) else None
    if not isinstance(actions, list):
        raise AnnotationError(f"{where} has no list 'actions' of [class, start, end]")
    return SourceVideo(
        name=name,
        annotations=actions_of(actions, lambda item: _annotation(item, names, where), losses, where),
        subset=str(entry.get("subset", "")),
        duration_s=maybe_number(entry.get("duration"), f"{where} duration"),
    )


def _annotation(item: Any, names: Mapping[str, str] | None, where: str) -> Annotation:
    if not isinstance(item, list) or len(item) != 3:
        raise AnnotationError(f"{where} has the action {item!r}; expected [class, start, end]")
    return action(item[1], item[2], label_of(str(item[0]), names, where), where)


def label_of(code: str, names: Mapping[str, str] | None, where: str) -> str:
    """The name of a class; its number without a class list.

    Raises:
        AnnotationError: the class list lacks it.
    """
    if names is None:
        return code
    if code not in names:
        raise AnnotationError(f"{where} has class {code}, which the class list lacks")
    return names[code]


def class_names(path: Path, known: Known, *lists: str) -> Mapping[str, str] | None:
    """The given class list, or the one beside ``path``; None if there is neither."""
    if known.classes is not None:
        return known.classes
    folder = path if path.is_dir() else path.parent
    for name in lists or LISTS:
        if (folder / name).is_file():
            return read_classes(folder / name)
    return None


def read_classes(path: Path) -> dict[str, str]:
    """Names by number or code: lines ``number name`` or ``number,name``; ``c012 name`` is 12 and c012.

    Raises:
        AnnotationError: a line has another format.
    """
    names: dict[str, str] = {}
    for line in read_text(path).splitlines():
        match = re.match(r"\s*(c?)(\d+)[\s,]+([^,]+)", line)
        if match:
            names[str(int(match[2]))] = names[match[1] + match[2]] = match[3].strip().strip('"')
        elif line.strip() and names:
            raise AnnotationError(f"{path}: {line.strip()!r}; expected one class per line: number name")
    if not names:
        raise AnnotationError(f"{path}: no line such as: 12 HighJump")
    return names


def read_multithumos(path: Path, known: Known) -> Source:
    """Read MultiTHUMOS: the JSON format, or its folder of ``<Class>.txt`` with lines ``video start end``.

    A line that is something else is a loss, as is a video of another dataset.

    Raises:
        AnnotationError: no such file.
    """
    if not path.is_dir():
        return read_numbered(path, known)
    losses: list[str] = []
    files = [file for file in sorted(path.glob("*.txt")) if file.name not in LISTS]
    by_video = gathered(row for file in files for row in read_lines(file, file.stem, losses))
    if not by_video and not losses:
        raise AnnotationError(f"{path}: no file such as BasketballBlock.txt with lines: video start end")
    videos = each(sorted(by_video), lambda name: SourceVideo(name, tuple(by_video[name]), _subset(name, path)), losses)
    return Source(tuple(videos), losses=tuple(losses))


def _subset(name: str, path: Path) -> str:
    for prefix, subset in _PREFIXES.items():
        if name.startswith(prefix):
            return subset
    raise AnnotationError(f"{path}: '{name}' is not a video of MultiTHUMOS; expected {' or '.join(_PREFIXES)}...")
