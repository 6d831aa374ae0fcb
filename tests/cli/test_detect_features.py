from __future__ import annotations

import json

import numpy as np
import torch

from tadkit.config import ActionFormerSettings
from tadkit.models.head_file import save_head
from tadkit.models.heads import build_head


def test_a_head_finds_actions_in_imported_features(tadkit, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "v.npy", np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32))
    store, path, out = tmp_path / "f.h5", tmp_path / "head.safetensors", tmp_path / "dets.json"
    assert tadkit("import", "features", tmp_path / "in", "--out", store, "--stride", "4", "--fps", "20").code == 0
    torch.manual_seed(0)
    settings = ActionFormerSettings(dim=16, levels=3, prior_probability=0.5)
    save_head(path, build_head(settings, in_channels=6, num_classes=1), labels=("walk",))
    ran = tadkit("detect-features", store, "--head", path, "--out", out, "--set", "decode.keep=7")
    assert (ran.code, ran.out) == (0, f"{out}: 7 detections\n")
    found = json.loads(out.read_text())["results"]["v"]
    assert {d["label"] for d in found} == {"walk"}
    assert all(0 <= d["segment"][0] < d["segment"][1] <= 8.0 for d in found)
    idle = tadkit("detect-features", store, "--head", path, "--out", out, "--set", "decode.voting_iou=0.4")
    assert idle.code == 2
    assert "--set decode.voting_iou has no effect: it needs voting = 'score-iou' or 'score'" in idle.err


def test_settings_of_other_sections_are_refused(tadkit, tmp_path):
    ran = tadkit("detect-features", "f.h5", "--head", "h", "--out", tmp_path / "d.json", "--set", "video.rate_hz=5")
    assert ran.code == 2
    assert "no such setting" in ran.err
