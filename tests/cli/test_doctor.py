from __future__ import annotations

import re

import torch

from tadkit import __version__


def test_doctor_tells_versions_and_exits_by_what_detect_needs(tadkit):
    ran = tadkit("doctor")
    rows = {
        cells[0]: cells[1:] for line in ran.out.splitlines() if len(cells := re.split(r"\s{2,}", line.strip())) == 3
    }
    assert rows["tadkit"] == ["ok", __version__]
    assert torch.__version__ in rows["torch"][1]
    parts = {"python", "device", "decord", "PyAV", "h5py", "cv2", "cv2.optflow", "torchvision", "bundled models"}
    assert parts <= rows.keys()
    states = {state for state, _ in rows.values()}
    assert states <= {"state", "ok", "absent", "missing"}
    assert ran.code == (1 if "missing" in states else 0)
    assert ran.err == ""
