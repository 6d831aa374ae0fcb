"""FiftyOne's ``FiftyOneTemporalDetectionDataset``: the file ``labels.json`` of a data set of videos.

``{"labels": {video: [{"label", "timestamps": [start, stop], "confidence"}]}}``, in seconds; a video is called by its
file without the suffix, relative to the folder of videos (docs.voxel51.com, "Importing data into FiftyOne"). FiftyOne
filters by confidence, so this has all detections.
"""

from __future__ import annotations

import json
from pathlib import Path

from tadkit.detection.outputs.content import Content
from tadkit.files import write_text


def write_fiftyone(path: Path, content: Content) -> None:
    """Write the labels of a data set of temporal detections."""
    labels = {
        video.name: [
            {"label": d.label, "timestamps": [d.start_s, d.end_s], "confidence": d.score} for d in video.in_order
        ]
        for video in content.videos
    }
    write_text(path, json.dumps({"labels": labels}, indent=1) + "\n")
