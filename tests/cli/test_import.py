from __future__ import annotations

import numpy as np


def test_imported_features_are_counted(tadkit, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "v.npy", np.zeros((5, 3), np.float32))
    ran = tadkit("import", "features", tmp_path / "in", "--out", tmp_path / "f.h5", "--stride", "4", "--fps", "30")
    assert (ran.code, ran.err) == (0, "")
    assert ran.out == f"{tmp_path / 'f.h5'}: 1 videos, 3 channels, 5 steps, 0 failed\n"


def test_a_file_that_cannot_be_used_makes_the_exit_code(tadkit, tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "v.npy", np.zeros((5, 3), np.float32))
    (tmp_path / "in" / "w.npy").write_text("no array")
    ran = tadkit("import", "features", tmp_path / "in", "--out", tmp_path / "f.h5", "--stride", "4", "--fps", "30")
    assert ran.code == 4
    assert "1 videos, 3 channels, 5 steps, 1 failed" in ran.out
    assert ran.err.startswith("tadkit: error: ")
