"""Damaged videos through ``tadkit detect`` and ``tadkit extract-flow``: a result or one line."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import av
import numpy as np
from toy_recipe import square_frames

from faults.mutate import damaged
from faults.worker import Outcome, Worker

FRAMES = 12
FORMS: dict[str, tuple[str, str, dict[str, str]]] = {
    "mp4": ("clip.mp4", "libx264", {}),
    "mp4 in fragments": ("parts.mp4", "libx264", {"movflags": "frag_keyframe+empty_moov"}),
    "mov": ("clip.mov", "mpeg4", {}),
    "mkv": ("clip.mkv", "libx264", {}),
    "mkv, lossless": ("exact.mkv", "ffv1", {}),
    "webm": ("clip.webm", "libvpx", {}),
    "webm, vp9": ("nine.webm", "libvpx-vp9", {}),
    "avi": ("clip.avi", "mpeg4", {}),
    "avi, pictures": ("pictures.avi", "mjpeg", {}),
    "ts": ("clip.ts", "libx264", {}),
    "mpg": ("clip.mpg", "mpeg2video", {}),
    "flv": ("clip.flv", "flv1", {}),
    "bare h264": ("clip.h264", "libx264", {}),
    "gif": ("clip.gif", "gif", {}),
}
"""File, codec, and the container's options of each form."""
SPEED = ("--device", "cpu", "--engine", "torch")


def write_forms(folder: Path) -> dict[str, Path]:
    """A small video of each form that this FFmpeg can write."""
    pictures = square_frames([n * 2 % 24 for n in range(FRAMES)])
    written = {}
    for form, (name, codec, options) in FORMS.items():
        try:
            _write(folder / name, pictures, codec, options)
        except (av.FFmpegError, ValueError):
            continue
        written[form] = folder / name
    return written


def _write(path: Path, pictures: list[np.ndarray], codec: str, options: dict[str, str]) -> None:
    with av.open(str(path), "w", options=options) as container:
        stream: Any = container.add_stream(codec, rate=25 if codec == "mpeg2video" else 10)
        stream.width = stream.height = pictures[0].shape[0]
        stream.pix_fmt = {"gif": "rgb8", "mjpeg": "yuvj420p"}.get(codec, "yuv420p")
        for number, picture in enumerate(pictures):
            frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, 25 if codec == "mpeg2video" else 10)
            container.mux(stream.encode(frame))
        container.mux(stream.encode(None))


def damaged_video(form: str, whole: bytes, seed: int) -> bytes:
    """The damaged video of a seed."""
    return damaged(whole, random.Random(f"{form} {seed}"))


def cases(
    everything: Path, scratch: Path, worker: Worker, *, count: int, seed: int
) -> Iterator[tuple[str, int, Outcome]]:
    """Damage ``count`` videos, the forms in turn; yields form, seed and outcome."""
    (scratch / "whole").mkdir()
    forms = write_forms(scratch / "whole")
    for number in range(count):
        form = list(forms)[number % len(forms)]
        folder = scratch / "case"
        folder.mkdir()
        video = folder / forms[form].name
        video.write_bytes(damaged_video(form, forms[form].read_bytes(), seed + number))
        shutil.copy(everything / "tiny.safetensors", folder)
        outcome = _run(worker, video, flow=number % 4 == 3)
        if outcome.lost:
            shutil.copy(video, Path(gettempdir()) / f"lost-{seed + number}-{video.name}")
        shutil.rmtree(folder)
        yield form, seed + number, outcome


def _run(worker: Worker, video: Path, *, flow: bool) -> Outcome:
    if flow:
        settings = ("flow.method=temporal-gradient", "video.height_px=32", "video.width_px=32")
        words = ("extract-flow", video.name, "--out", "out.h5", *(w for s in settings for w in ("--set", s)))
        return worker.run((*words, "--device", "cpu"), video.parent)
    words = ("detect", video.name, "--model", "tiny.safetensors", "--out", "out.json", *SPEED)
    outcome = worker.run(words, video.parent)
    out = video.parent / "out.json"
    if outcome.kind == "read" and not json.loads(out.read_text())["results"]:
        return Outcome("traceback", "exit code 0 without the video's detections")
    if outcome.kind == "refused" and out.exists():
        return Outcome("traceback", "an output file of a video that was refused")
    return outcome
