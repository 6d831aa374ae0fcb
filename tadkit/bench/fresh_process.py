"""What a process costs that does nothing but detect: ``tadkit bench detect`` starts one with this module."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from tadkit.config import VideoSettings
from tadkit.video import SampledVideo, open_sampled

CLIP_S = 10.0
"""Seconds of the clip of a cold start."""


class FreshProcess(NamedTuple):
    """Costs of a process of its own.

    Attributes:
        cold_start_s: from its start to the detections of the first 10 s of the video.
        peak_rss_mb: most memory at any time until the whole stretch was done, in MiB; None on Windows.
    """

    cold_start_s: float
    peak_rss_mb: float | None


def measure(path: Path, *, model: str, device: str, engine: str, threads: int, seconds: float) -> FreshProcess:
    """Detect in the first seconds of a video in a process of its own, which must not fail."""
    given = {"path": str(path), "model": model, "device": device, "engine": engine, "threads": threads}
    ran = subprocess.run(
        [sys.executable, "-m", __name__],
        input=json.dumps({**given, "seconds": seconds, "started_s": time.time()}),
        capture_output=True,
        text=True,
        check=True,
    )
    return FreshProcess(**json.loads(ran.stdout))


def first_seconds(path: Path, settings: VideoSettings, seconds: float) -> SampledVideo:
    """An open video that ends after some seconds.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    video = open_sampled(path, settings)
    video.indices = video.indices[: max(1, int((video.stamps_s < seconds).sum()))]
    return video


def _run(given: Mapping[str, Any]) -> FreshProcess:
    import torch

    from tadkit.detection.detect import detections_in_video, load_detector

    torch.set_num_threads(given["threads"])
    detector = load_detector(given["model"], device=given["device"], engine=given["engine"])
    cold_start_s = 0.0
    for seconds in (min(CLIP_S, given["seconds"]), given["seconds"]):
        with first_seconds(Path(given["path"]), detector.video, seconds) as video:
            detections_in_video(
                detector.net,
                video,
                name="video",
                decoding=detector.decoding,
                flow=detector.flow,
                engine=detector.engine,
            )
        cold_start_s = cold_start_s or time.time() - given["started_s"]
    return FreshProcess(cold_start_s, _peak_mb())


def _peak_mb() -> float | None:
    try:
        import resource
    except ImportError:  # on Windows
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) / (2**20 if sys.platform == "darwin" else 2**10)


if __name__ == "__main__":
    json.dump(_run(json.load(sys.stdin))._asdict(), sys.stdout)
