"""Every form of output is read back by a reader of another project, with labels that would break a careless writer."""

from __future__ import annotations

import json
import re
import string
from collections.abc import Callable
from html import unescape
from pathlib import Path
from typing import Any

import jsonschema
import pandas as pd
import pyarrow.parquet as pq
import pympi
import pysubs2
import pytest

from tadkit import Detection, Detections, TadkitError, VideoDetections
from tadkit.annotations.formats import Known, read_annotations
from tadkit.detection.outputs.content import plain_text, safe_name
from tadkit.records import read_detections

HOSTILE = (
    "walk",
    'a, b; "c"',
    "<b>x</b> & <c.red>y",
    "1\n00:00:01,000 --> 00:00:09,000\nfake",
    "{\\an8}top",
    "nul\0and\x1b[31m",
    "\u202eevil",
    "../../up\\down",
    "ünï 漢字 🙂",
    "x" * 3000,
    "",
    " padded ",
    "=1+1'",
)
FOUND = [
    Detection(0.1 * at, 0.1 * at + 1 / 3, label, (at + 1) / (len(HOSTILE) + 1 / 7)) for at, label in enumerate(HOSTILE)
]
BEST_FIRST = FOUND[::-1]
IN_ORDER = [(d.start_s, d.end_s, plain_text(d.label)) for d in FOUND]
NAME = "monday/cam 1"
ORIGIN = {"model": {"file": "m.safetensors", "sha256": "0"}, "operating_points": {"walk": 0.5}}


@pytest.fixture(scope="module")
def video(tmp_path_factory: pytest.TempPathFactory, write_squares: Callable[..., Path]) -> Path:
    folder = tmp_path_factory.mktemp("videos") / "monday"
    folder.mkdir()
    return write_squares(folder / "cam 1.mp4", 50, fps=25)


@pytest.fixture(scope="module")
def found(video: Path) -> Detections:
    return Detections(BEST_FIRST, video=NAME, duration_s=2.0, origin=ORIGIN, file=video)


def test_json_keeps_everything(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.json")
    assert read_detections(tmp_path / "d.json") == {NAME: BEST_FIRST}


def test_pandas_reads_csv_and_json_lines_exactly(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.csv")
    found.write(tmp_path / "d.jsonl")
    table = pd.read_csv(tmp_path / "d.csv", keep_default_na=False, engine="python")
    assert table.to_dict("records") == found.to_records()
    assert pd.read_json(tmp_path / "d.jsonl", lines=True, precise_float=True).to_dict("records") == found.to_records()


def test_pyarrow_reads_parquet_exactly(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.parquet")
    table = pq.read_table(tmp_path / "d.parquet")
    assert table.to_pylist() == found.to_records()
    assert json.loads(table.schema.metadata[b"tadkit"]) == {**ORIGIN, "durations_s": {NAME: 2.0}}
    found[:0].write(tmp_path / "none.parquet")
    assert pq.read_table(tmp_path / "none.parquet").schema.types == table.schema.types


def test_names_that_utf8_cannot_encode_are_escaped(tmp_path: Path) -> None:
    odd = Detections(FOUND[:1], video="cam\udcff", duration_s=2.0, origin={})
    for suffix in ("csv", "parquet", "srt", "via.json", "boris"):
        odd.write(tmp_path / f"d.{suffix}")
    assert pq.read_table(tmp_path / "d.parquet")["video"].to_pylist() == ["cam\\udcff"]
    assert "cam\\udcff" in (tmp_path / "d.csv").read_text()


@pytest.mark.parametrize(("suffix", "text"), [("srt", lambda cue: cue.text), ("vtt", lambda cue: unescape(cue.text))])
def test_pysubs2_reads_subtitles_as_text(
    found: Detections, tmp_path: Path, suffix: str, text: Callable[[Any], str]
) -> None:
    found.write(tmp_path / f"d.{suffix}")
    cues = pysubs2.load(str(tmp_path / f"d.{suffix}"), keep_unknown_html_tags=True)
    assert [(cue.start, cue.end) for cue in cues] == [(round(s * 1000), round(e * 1000)) for s, e, _ in IN_ORDER]
    shown = [f"{label} {d.score:.2f}" for (_, _, label), d in zip(IN_ORDER, FOUND, strict=True)]
    if suffix == "srt":  # has no escapes
        shown = [
            re.sub(r"(?<=\d):(?=\d)", "\u2236", line.translate(str.maketrans("<>{}\\", "\u2039\u203a()/")))
            for line in shown
        ]
    assert [text(cue).replace("\\N", "\n") for cue in cues] == shown
    assert all(cue.is_text for cue in cues)


def test_webvtt_has_no_markup_and_no_arrow_in_its_text(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.vtt")
    heading, *blocks = (tmp_path / "d.vtt").read_text().strip().split("\n\n")
    assert heading == "WEBVTT"
    assert [len(block.splitlines()) for block in blocks] == [2] * len(FOUND)
    assert not any(sign in block.splitlines()[1] for block in blocks for sign in ("<", "-->"))


def test_pympi_reads_elan(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.eaf")
    elan = pympi.Elan.Eaf(str(tmp_path / "d.eaf"))
    read = [tuple(a[:3]) for tier in elan.get_tier_names() for a in elan.get_annotation_data_for_tier(tier)]
    assert sorted(read) == sorted((round(s * 1000), round(e * 1000), label) for s, e, label in IN_ORDER)
    assert [media["MEDIA_URL"] for media in elan.get_linked_files()] == ["monday/cam 1.mp4"]


def rows(path: Path, form: Any) -> list[tuple[float, float, str]]:
    (video,) = read_annotations(path, form, Known()).videos
    assert video.duration_s == 2.0
    return sorted((a.start_s, a.end_s, a.label) for a in video.annotations)


def test_boris_has_the_scores_as_comments(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.boris")
    assert rows(tmp_path / "d.boris", "boris") == [
        (pytest.approx(s, abs=5e-4), pytest.approx(e, abs=5e-4), label) for s, e, label in IN_ORDER
    ]
    (observation,) = json.loads((tmp_path / "d.boris").read_text())["observations"].values()
    assert observation["file"]["1"] == ["monday/cam 1.mp4"]
    assert all(len(event) == 5 for event in observation["events"])
    comments = [event[4] for event in observation["events"] if event[4]]
    assert sorted(comments) == sorted(f"score={d.score!r}" for d in FOUND)


def test_via_has_the_scores_as_an_attribute(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.via.json")
    assert rows(tmp_path / "d.via.json", "via") == IN_ORDER
    project = json.loads((tmp_path / "d.via.json").read_text())
    (score,) = [aid for aid, attribute in project["attribute"].items() if attribute["aname"] == "score"]
    segments = [item for item in project["metadata"].values() if item["z"]]
    assert [(item["z"][0], float(item["av"][score])) for item in segments] == [(d.start_s, d.score) for d in FOUND]


PREDICTIONS = {
    "type": "array",
    "items": {
        "required": ["data", "predictions"],
        "properties": {
            "data": {"type": "object", "required": ["video"]},
            "annotations": False,
            "predictions": {
                "type": "array",
                "items": {
                    "required": ["result", "score", "model_version"],
                    "properties": {
                        "model_version": {"type": "string"},
                        "score": {"type": "number"},
                        "result": {
                            "type": "array",
                            "items": {
                                "required": ["id", "from_name", "to_name", "type", "value", "score"],
                                "properties": {"type": {"enum": ["labels", "timelinelabels"]}},
                            },
                        },
                    },
                },
            },
        },
    },
}
"""Tasks with pre-annotations, by labelstud.io/guide/predictions."""


@pytest.mark.parametrize("known", [True, False])
def test_label_studio_gets_predictions_that_become_annotations_when_accepted(
    found: Detections, tmp_path: Path, known: bool
) -> None:
    given = found if known else Detections(BEST_FIRST, video=NAME, duration_s=2.0, origin=ORIGIN)
    given.write(tmp_path / "d.labelstudio.json")
    tasks = json.loads((tmp_path / "d.labelstudio.json").read_text())
    jsonschema.validate(tasks, PREDICTIONS)
    (task,) = tasks
    assert task["data"]["video"].endswith("?d=monday/cam 1.mp4" if known else "?d=monday_cam 1.mp4")
    (prediction,) = task.pop("predictions")
    assert prediction["model_version"] == "m.safetensors"
    assert [region["score"] for region in prediction["result"]] == [d.score for d in FOUND]
    assert {region["type"] for region in prediction["result"]} == {"timelinelabels" if known else "labels"}
    task["annotations"] = [{"result": prediction["result"]}]
    (tmp_path / "accepted.json").write_text(json.dumps(tasks))
    assert rows(tmp_path / "accepted.json", "label-studio") == IN_ORDER


TEMPORAL_DETECTIONS = {
    "required": ["labels"],
    "additionalProperties": False,
    "properties": {
        "labels": {
            "additionalProperties": {
                "type": "array",
                "items": {
                    "required": ["label", "timestamps"],
                    "additionalProperties": False,
                    "properties": {
                        "label": {"type": "string"},
                        "timestamps": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
                        "confidence": {"type": "number"},
                    },
                },
            }
        }
    },
}
"""labels.json of a FiftyOneTemporalDetectionDataset, by docs.voxel51.com; without classes, labels are text."""


def test_fiftyone_finds_the_detections_by_the_path_of_the_video(found: Detections, tmp_path: Path) -> None:
    found.write(tmp_path / "d.fiftyone.json")
    content = json.loads((tmp_path / "d.fiftyone.json").read_text())
    jsonschema.validate(content, TEMPORAL_DETECTIONS)
    read = [(d["timestamps"], d["label"], d["confidence"]) for d in content["labels"][NAME]]
    assert read == [([d.start_s, d.end_s], d.label, d.score) for d in FOUND]


def test_a_place_in_the_path_gives_a_file_for_each_video_and_none_outside(tmp_path: Path) -> None:
    names = ["../../up", "a/b", "a_b", "A_b", "/etc/passwd", "nul\0", "..", "", "n" * 3000, "con", "line\nbreak"]
    videos = {name: Detections(FOUND[:1], video=name, duration_s=2.0, origin={}) for name in names}
    folder = tmp_path / "deep" / "in" / "here"
    VideoDetections(videos, origin={}).write(folder / "{video}.srt")
    written = [path for path in tmp_path.rglob("*") if path.is_file()]
    assert {path.parent for path in written} == {folder}
    assert len({path.name.casefold() for path in written}) == len(names)
    assert all(set(path.stem) <= set(string.ascii_letters + string.digits + "._-") for path in written)
    assert safe_name("n" * 3000) != safe_name("n" * 3001)  # also where they are names of different runs
    with pytest.raises(TadkitError, match=r"all\.srt: \.srt files have one video each, and there are 11; .*\{video\}"):
        VideoDetections(videos, origin={}).write(tmp_path / "all.srt")


def test_without_pyarrow_the_error_names_what_to_install(
    found: Detections, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(__import__("sys").modules, "pyarrow", None)
    with pytest.raises(TadkitError, match=r"pip install 'tadkit\[parquet\]'"):
        found.write(tmp_path / "d.parquet")
    assert not (tmp_path / "d.parquet").exists()
