"""Video in and out: frames with decoder time stamps, sampling at a constant rate, and a deterministic writer."""

from tadkit.video.container import decoder_threads
from tadkit.video.reader import VideoReader, open_video
from tadkit.video.sampling import SampledVideo, Window, open_sampled, sample_indices, windows
from tadkit.video.writer import write_video

__all__ = [
    "SampledVideo",
    "VideoReader",
    "Window",
    "decoder_threads",
    "open_sampled",
    "open_video",
    "sample_indices",
    "windows",
    "write_video",
]
