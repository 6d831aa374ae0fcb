"""Names and labels that a terminal, a file system or another program would take for something else."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from tadkit.annotations.findings import Finding
from tadkit.errors import printable
from tadkit.files import LONGEST_NAME_BYTES, leaves_folder


def check_name(name: str) -> Iterator[Finding]:
    """Check the name of a video, which may become a file's name."""
    if not name.strip():
        yield Finding("error", name, "name", "the video's name is empty; name it after its file")
    if printable(name) != name:
        yield Finding("error", name, "control-characters", "the name has control characters; rename the video")
    if leaves_folder(name):
        said = "the name is an absolute path, or leads out of its folder by '..'; name the video after its file"
        yield Finding("error", name, "path", said)
    longest = max(len(part.encode(errors="replace")) for part in re.split(r"[/\\]", name))
    if longest > LONGEST_NAME_BYTES:
        said = f"the name is {longest} bytes long; files can have names of {LONGEST_NAME_BYTES} bytes and a suffix"
        yield Finding("error", name, "long-name", said)


def check_labels(labels: Iterable[str], video: str) -> Iterator[Finding]:
    """Check the labels of one video, each once."""
    for label in dict.fromkeys(labels):
        if printable(label) != label:
            yield Finding("error", video, "control-characters", f"label '{label}' has control characters")
