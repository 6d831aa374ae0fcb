"""FFmpeg's cut list (.ffconcat), which plays or joins the detections one after the other (ffmpeg.org, "concat").

``ffmpeg -safe 0 -i dets.ffconcat cut.mp4``. FFmpeg reads such files line by line, so that the name of a video must not
have a line break.
"""

from __future__ import annotations

import os
from pathlib import Path

from tadkit.detection.outputs.content import Content, VideoContent, plain_text
from tadkit.errors import HIDDEN, UsageError, VideoError
from tadkit.files import write_text
from tadkit.video.index import build_index


def write_cut_list(path: Path, content: Content) -> None:
    """Write the detections of all videos, by video and start.

    Raises:
        VideoError: the file of a video is not known.
        UsageError: FFmpeg cannot be given its name.
    """
    lines = ["ffconcat version 1.0"]
    for video in content.videos:
        zero_s = _zero_s(video) if video.detections else 0.0
        for d in video.in_order:
            lines.append(f"# {plain_text(d.label)} {d.score:.2f}")
            lines.append(f"file {_quoted(path, video.source)}")
            start_s, end_s = max(0.0, d.start_s), max(d.start_s + 1e-3, d.end_s)
            lines += [f"inpoint {zero_s + start_s:.6f}", f"outpoint {zero_s + end_s:.6f}"]
    write_text(path, "\n".join(lines) + "\n")


def _zero_s(video: VideoContent) -> float:
    """The file's own stamp of the start, by which FFmpeg cuts; 0 where the video cannot be read."""
    try:
        return build_index(video.source, fallback_fps=video.fallback_fps).zero_s if video.source.exists() else 0.0
    except VideoError:
        return 0.0


def _quoted(path: Path, file: Path) -> str:
    """The file as FFmpeg reads it: below the folder of the list by its relative path, which works without -safe 0."""
    folder, absolute = path.resolve().parent, file.resolve()
    text = os.fspath(absolute.relative_to(folder) if absolute.is_relative_to(folder) else absolute)
    text = f"file:{absolute}" if ":" in text else text  # what is before a colon would be taken for a protocol
    if HIDDEN.search(text):
        raise UsageError(f"{path}: {text!r} has control characters, which a cut list cannot hold; rename the video")
    return "'" + text.replace("'", r"'\''") + "'"
