"""How many threads torch and OpenCV compute flow with."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import cv2
import torch

OPENCV_VERSION = str(cv2.__version__)


@contextmanager
def same_threads(count: int) -> Iterator[None]:
    """Let torch and OpenCV each compute with ``count`` threads inside the block."""
    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(count)
    cv2.setNumThreads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])
