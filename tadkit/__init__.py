"""tadkit: temporal action detection from RGB video alone, trained with an optical-flow teacher.

``docs/python.md`` shows every name below in use. They are imported when they are first asked for, so that
``import tadkit`` costs next to nothing.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

from tadkit.version import __version__

if TYPE_CHECKING:
    from tadkit.api import detect, evaluate, read_annotations, run
    from tadkit.detection.detect import Detector, load_detector
    from tadkit.detection.detections import Detections, VideoDetections
    from tadkit.errors import TadkitError
    from tadkit.records import Annotation, Dataset, Detection, VideoRecord

__all__ = [
    "Annotation",
    "Dataset",
    "Detection",
    "Detections",
    "Detector",
    "TadkitError",
    "VideoDetections",
    "VideoRecord",
    "__version__",
    "detect",
    "evaluate",
    "load_detector",
    "read_annotations",
    "run",
]

_HOMES = {
    "tadkit.api": ("detect", "evaluate", "read_annotations", "run"),
    "tadkit.detection.detect": ("Detector", "load_detector"),
    "tadkit.detection.detections": ("Detections", "VideoDetections"),
    "tadkit.errors": ("TadkitError",),
    "tadkit.records": ("Annotation", "Dataset", "Detection", "VideoRecord"),
}


def __getattr__(name: str) -> object:
    """Import a public name from its home when it is first used."""
    for home, names in _HOMES.items():
        if name in names:
            value: object = getattr(importlib.import_module(home), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module 'tadkit' has no attribute '{name}'")


def __dir__() -> list[str]:
    """The public names."""
    return list(__all__)
