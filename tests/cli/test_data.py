from __future__ import annotations

from pathlib import Path

from tadkit.config import SynthSource
from tadkit.records import read_dataset


def test_synth_prints_where_the_annotations_are(tadkit, tmp_path):
    ran = tadkit("data", "synth", tmp_path / "made", "--count", "1", "--duration", "5", "--camera", "above")
    assert ran.code == 0
    (video,) = read_dataset(Path(ran.out.strip())).videos.values()
    assert abs(video.duration_s - 5.0) < 0.1


def test_defaults_in_the_help_are_those_of_the_settings(tadkit):
    shown = tadkit("data", "synth", "-h").out
    for name in ("count", "duration_s", "camera", "seed"):
        field = SynthSource.model_fields[name]
        assert f"[default: {field.default}]" in " ".join(shown.split())


def test_values_out_of_range_exit_2_with_the_setting_named(tadkit, tmp_path):
    ran = tadkit("data", "synth", tmp_path / "made", "--duration", "1", "--count", "0")
    assert ran.code == 2
    assert "count: must be greater than or equal to 1, got 0" in ran.err
    assert "duration_s: must be greater than or equal to 5, got 1.0" in ran.err
    assert not (tmp_path / "made").exists()


def test_clips_that_are_not_there_are_one_line(tadkit, tmp_path):
    ran = tadkit("data", "compose", tmp_path / "no.npz", tmp_path / "streams")
    assert ran.code > 1
    assert ran.err.count("\n") == 1
    assert "no.npz" in ran.err
