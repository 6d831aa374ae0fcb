import json
from pathlib import Path

import pytest

from tadkit.records import Annotation, Detection


@pytest.fixture
def golden():
    """A function to (truth of the validation subset, detections, tious, peers' results) of one case of the peers."""

    def read(name):
        content = json.loads((Path(__file__).parent / "golden" / f"{name}.json").read_text())
        truth = {
            video: [Annotation(*item["segment"], item["label"]) for item in entry["annotations"]]
            for video, entry in content["truth"]["database"].items()
            if entry["subset"] == "validation"
        }
        detections = {
            video: [Detection(*item["segment"], item["label"], item["score"]) for item in found]
            for video, found in content["detections"]["results"].items()
        }
        return truth, detections, content["tious"], content["peers"]

    return read
