"""Each detection as a short video (H.264, without sound).

Clips are encoded again from the frames on screen, so that each begins and ends with its detection; copying the stream
would begin at the keyframe before. ``clips.jsonl`` says which file holds what: names of files keep labels only roughly.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from jaxtyping import Float64, UInt8

from tadkit.detection.outputs.content import Content, VideoContent, free_name, safe_name, safe_names
from tadkit.errors import TadkitError
from tadkit.files import encodable, write_text
from tadkit.progress import Progress
from tadkit.video import VideoReader, open_video, write_video

INDEX = "clips.jsonl"
SHORTEST_S = 1e-3
"""A frame that is shown for less at the end of a clip is left out."""


def write_clips(folder: Path, content: Content, *, progress: Progress) -> dict[str, TadkitError]:
    """Write a clip of each detection into ``folder``, and the list of them, ``clips.jsonl``.

    Args:
        folder: is made if it does not exist; other files in it are left alone.
        content: the detections.
        progress: counts the clips.

    Returns:
        The errors of videos that cannot be read, by name; the clips of the others are written.

    Raises:
        UsageError: the folder cannot be written to.
    """
    progress.start("clips", total=sum(len(video.detections) for video in content.videos), unit="clips")
    names = safe_names(video.name for video in content.videos)
    taken: set[str] = set()
    rows: list[dict[str, object]] = []
    failed: dict[str, TadkitError] = {}
    for video in content.videos:
        try:
            rows += _clips_of(folder, video, names[video.name], taken, progress)
        except TadkitError as error:
            failed[video.name] = error
    write_text(folder / INDEX, "".join(json.dumps(row) + "\n" for row in rows))
    return failed


def _clips_of(
    folder: Path, video: VideoContent, name: str, taken: set[str], progress: Progress
) -> Iterator[dict[str, object]]:
    """Write the clips of one video, none as a file that is ``taken``, and yield a record of each."""
    if not video.detections:
        return
    digits = max(3, len(str(len(video.detections))))
    with open_video(video.source, fallback_fps=video.fallback_fps) as reader:
        for number, d in enumerate(video.in_order, start=1):
            file = f"{free_name(f'{name}-{number:0{digits}d}-{safe_name(d.label)}', taken)}.mp4"
            write_clip(folder / file, reader, start_s=d.start_s, end_s=d.end_s)
            said = {"start_s": d.start_s, "end_s": d.end_s, "label": d.label, "score": d.score}
            yield {"file": encodable(file), "video": video.name, **said}
            progress.advance(note=video.name)


def write_clip(path: Path, reader: VideoReader, *, start_s: float, end_s: float) -> None:
    """Write what a video shows from ``start_s`` to ``end_s`` (half open), at least one frame of it.

    Raises:
        VideoError: a frame cannot be decoded, or has less than two pixels on a side.
        UsageError: the folder cannot be written to.
    """
    start_s = min(max(start_s, 0.0), reader.duration_s)
    end_s = min(end_s, reader.duration_s)
    stamps_s = reader.stamps_s
    first = max(0, int(np.searchsorted(stamps_s, start_s + 1e-6, side="right")) - 1)
    stop = max(first + 1, int(np.searchsorted(stamps_s, end_s - SHORTEST_S)))
    shown_s: Float64[np.ndarray, " frames"] = np.maximum(stamps_s[first:stop] - start_s, 0.0)
    last_s = max(SHORTEST_S, end_s - start_s - float(shown_s[-1]))
    write_video(path, _even(reader, first, stop), fps=1 / last_s, stamps_s=shown_s.tolist())


def _even(reader: VideoReader, first: int, stop: int) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
    """Frames one at a time, without the last row or column where their number is odd, as H.264 needs."""
    height, width = (side - side % 2 for side in reader.size_hw)
    for number in range(first, stop):
        yield reader.read([number])[0, :height, :width]
