"""Folders as sources: every file is read or named, and a damaged one costs no other."""

from __future__ import annotations

from pathlib import Path

import pytest

from tadkit.annotations.durations import read_durations
from tadkit.annotations.formats import Known, SourceVideo, guess, read_annotations, write_annotations
from tadkit.annotations.forms import Tool
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

HEAD = "video,label,start,end\n"
V, W = (SourceVideo(name, (Annotation(1.0, 2.5, "wave"),), "training", 9.0, 25.0) for name in "vw")
ENDINGS: dict[Tool, str] = {"boris": "boris", "elan": "eaf", "cvat": "xml", "label-studio": "json", "via": "json"}


def written(folder: Path, tool: Tool, video: SourceVideo, name: str) -> None:
    """One video's labels in the file ``name``; ELAN and CVAT name their files themselves."""
    folder.mkdir(exist_ok=True)
    if tool in ("elan", "cvat"):
        write_annotations(folder, tool, [video], Known())
        (folder / f"{video.name}.{ENDINGS[tool]}").rename(folder / name)
    else:
        write_annotations(folder / name, tool, [video], Known())


@pytest.mark.parametrize("tool", ENDINGS)
def test_suffixes_are_read_in_upper_case_too(tool, tmp_path):
    written(tmp_path, tool, V, f"A.{ENDINGS[tool].upper()}")
    assert guess(tmp_path) == tool
    written(tmp_path, tool, W, f"b.{ENDINGS[tool]}")
    source = read_annotations(tmp_path, tool, Known())
    assert [(video.name, len(video.annotations)) for video in source.videos] == [("v", 1), ("w", 1)]
    assert not [one for one in (*source.remarks, *source.losses) if "not read" in one]


@pytest.mark.parametrize("tool", ENDINGS)
@pytest.mark.parametrize("damaged", [b"\xff\xfe", b'{"oops'])
def test_a_damaged_first_file_is_a_loss_and_costs_no_other(tool, damaged, tmp_path):
    written(tmp_path, tool, V, f"b.{ENDINGS[tool]}")
    (tmp_path / f"a.{ENDINGS[tool]}").write_bytes(damaged)
    assert guess(tmp_path) == tool
    source = read_annotations(tmp_path, tool, Known())
    assert [video.name for video in source.videos] == ["v"]
    (loss,) = source.losses
    assert f"a.{ENDINGS[tool]}" in loss


def test_all_tables_of_a_folder_are_read_and_a_damaged_one_is_a_loss(tmp_path):
    (tmp_path / "a.csv").write_bytes(b"\xff\xfe")
    (tmp_path / "a.tsv").write_text("garbage\n\t\t\n")
    (tmp_path / "B.CSV").write_text(f"{HEAD}v,wave,1,2\n")
    (tmp_path / "c.tsv").write_text(f"{HEAD}w,wave,1,2\n".replace(",", "\t"))
    assert guess(tmp_path) == "csv"
    source = read_annotations(tmp_path, "csv", Known())
    assert [video.name for video in source.videos] == ["v", "w"]
    assert [loss.partition(":")[0] for loss in source.losses] == [str(tmp_path / name) for name in ("a.csv", "a.tsv")]


def test_files_that_are_not_read_are_counted_and_named(tmp_path):
    (tmp_path / "sub").mkdir()
    (tmp_path / "a.csv").write_text(f"{HEAD}v,wave,1,2\n")
    for name in ("b.boris", "sub/c.csv", "d.XML", "e.eaf.txt", "v.mp4", ".hidden.csv", "v.wav"):
        (tmp_path / name).write_text("")
    source = read_annotations(tmp_path, "csv", Known())
    assert [video.name for video in source.videos] == ["v"]
    said = "4 files of this folder are not read; name each in a call of its own, if it is wanted"
    assert source.remarks == (f"{tmp_path}: {said}: b.boris, d.XML, e.eaf.txt and 1 more",)


def test_a_label_studio_table_beside_json_is_named(tmp_path):
    written(tmp_path, "label-studio", V, "a.json")
    (tmp_path / "b.csv").write_text("annotation_id,annotator\n")
    source = read_annotations(tmp_path, "label-studio", Known())
    assert [video.name for video in source.videos] == ["v"]
    assert any("1 files of this folder are not read" in one and one.endswith(": b.csv") for one in source.remarks)


def test_a_table_of_durations_may_have_its_suffix_in_upper_case_and_no_cell_too_many(tmp_path):
    path = tmp_path / "D.CSV"
    path.write_text("video,seconds\nv,20.5\n")
    assert read_durations(path, Known()) == {"v": 20.5}
    path.write_text("video,seconds\nv,20,5\n")
    with pytest.raises(AnnotationError, match="row 2: has more cells than the heading; write decimals with a point"):
        read_durations(path, Known())
