"""In every dataset's format, one bad row, action or video is placed and costs no other."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tadkit.annotations.formats import Known, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

RUN = Annotation(1.0, 2.5, "1")
GOOD, BAD = {"segment": [1, 2.5], "label": "1"}, {"segment": [1, "x"], "label": "1"}


def database(*videos: list[dict[str, Any]], subset: str = "training") -> dict[str, Any]:
    entries = {f"v{n}": {"subset": subset, "duration": 9, "annotations": found} for n, found in enumerate(videos)}
    return {"database": entries}


def saved(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


EPIC = "video_id,start_timestamp,stop_timestamp,verb_class\n"
CASES = [
    ("a.json", database([GOOD, BAD]), "activitynet", "'v0' end is 'x'"),
    ("a.json", database([GOOD], [BAD]), "activitynet", "'v1': no action is left, so the video is left out"),
    ("a.json", database([GOOD]) | {"x": 1}, "hacs", None),
    ("a.json", {"v0": {"duration": 9, "actions": [[1, 1, 2.5], [1, 2]]}}, "multithumos", "'v0' has the action [1, 2]"),
    ("a.json", {"v0": {"duration": 9, "actions": [[1, 1, 2.5]]}, "v1": 3}, "charades", "'v1' has no list 'actions'"),
    ("Charades_v1_test.csv", "id,actions,length\nv0,1 1 2.5;1 3,9\n", "charades", "'v0' has the action '1 3'"),
    ("Charades_v1_test.csv", "id,actions,length\nv0,1 1 2.5,9\nv1,,x\n", "charades", "'v1' length is 'x'"),
    ("E.csv", f"{EPIC}v0,0:01,0:02.5,1\nv0,0:03,0:75,1\n", "epic-kitchens", "row 3: 'v0' stop_timestamp is '0:75'"),
    ("E.csv", f"{EPIC}v0,0:01,0:02.5,1\nv0,0:00:03:12,0:09,1\n", "epic-kitchens", "start_timestamp is '0:00:03:12'"),
    ("val_Annotation.csv", "video,type,start,end\nv0,1,1,2.5\nv0,1,x,3\n", "thumos14-afsd", "row 3: 'v0' start is 'x'"),
]


@pytest.mark.parametrize(("name", "content", "form", "said"), CASES)
def test_one_bad_item_is_placed_and_costs_no_other(name, content, form, said, tmp_path):
    source = read_annotations(saved(tmp_path / name, content), form, Known())
    assert [(video.name, video.annotations) for video in source.videos] == [("v0", (RUN,))]
    assert bool(source.losses) == (said is not None)
    assert said is None or said in source.losses[-1]
    assert all(loss.startswith(str(tmp_path / name)) for loss in source.losses)


def test_one_bad_line_of_thumos14_or_multithumos_is_placed_and_costs_no_other(tmp_path):
    lines = "video_validation_0000001 1.0 2.5\nvideo_validation_0000001 1.0\n"
    saved(tmp_path / "1_val.txt", lines)
    source = read_annotations(tmp_path, "thumos14", Known())
    assert [video.annotations for video in source.videos] == [(RUN,)]
    assert "1_val.txt, line 2: 'video_validation_0000001 1.0'; expected: video start end" in source.losses[0]
    (tmp_path / "m").mkdir()
    saved(tmp_path / "m" / "1.txt", f"{lines}kitchen 1 2\n")
    source = read_annotations(tmp_path / "m", "multithumos", Known())
    assert [video.annotations for video in source.videos] == [(RUN,)]
    assert "1.txt, line 2: " in source.losses[0]
    assert "'kitchen' is not a video of MultiTHUMOS" in source.losses[1]


def test_where_nothing_can_be_read_the_first_reasons_are_the_error(tmp_path):
    path = saved(tmp_path / "a.json", database(*([BAD] for _ in range(9))))
    with pytest.raises(AnnotationError) as caught:
        read_annotations(path, "activitynet", Known())
    assert str(caught.value).startswith(f"{path}: 'v0' end is 'x'; expected a number of seconds; ")
    assert str(caught.value).endswith("; and 13 more, so that no labelled video is left")
    assert len(str(caught.value)) < 1000


def test_segments_that_end_before_they_start_are_losses_except_as_published(tmp_path):
    back = {"segment": [3, 2], "label": "1"}
    source = read_annotations(saved(tmp_path / "a.json", database([GOOD, back])), "activitynet", Known())
    assert "1 segments end before they start and are left out: 'v0' [3, 2]" in source.losses[0]
    content = {"v0": {"duration": 9, "actions": [[1, 1, 2.5], [1, 3, 2]]}}
    source = read_annotations(saved(tmp_path / "c.json", content), "charades", Known())
    assert source.losses == ()
    assert "1 segments end before they start" in source.remarks[-1]
