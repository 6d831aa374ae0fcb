"""Label Studio's exports: whose frames, which classes, whose labels, and what is reported."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "cases"
LASTS = ("--durations", "d.csv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work beside a table of durations."""
    (tmp_path / "d.csv").write_text("video,seconds\nkitchen,20\nbench,20\n")
    monkeypatch.chdir(tmp_path)


def timeline(start: Any, end: Any, *labels: str, name: str = "tl", **more: Any) -> dict[str, Any]:
    value = {"ranges": [{"start": start, "end": end}], "timelinelabels": list(labels)}
    return {
        "id": f"{name}{start}",
        "type": "timelinelabels",
        "from_name": name,
        "to_name": "video",
        "value": value,
    } | more


def task(*results: Any, video: str = "kitchen.mp4", number: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "id": number,
        "data": {"video": video},
        "annotations": [{"completed_by": 1, "result": list(results)}],
    } | more


def test_frames_count_at_the_rate_of_the_labelling_interface_not_at_the_video_s(converted, films):
    got = converted(CASES / "label_studio_timeline.json", "--videos", films)
    assert (got.code, got.rows("bench"), got.videos["bench"].duration_s) == (0, [(10.0, 20.0, "weld")], 20.0)
    assert "assumed rate of 24 per second" in got.err
    assert "give it with --fps: 'bench'" in got.err


@pytest.mark.parametrize(("fps", "row"), [("30", (8.0, 16.0, "weld")), ("24", (10.0, 20.0, "weld"))])
def test_a_rate_that_is_given_decides_beside_the_videos_too(fps, row, converted, films):
    got = converted(CASES / "label_studio_timeline.json", "--videos", films, "--fps", fps)
    assert (got.code, got.rows("bench")) == (0, [row])
    assert "assumed" not in got.err


def test_a_video_in_html_is_named_by_its_address(converted, films):
    got = converted(CASES / "label_studio_html_video.json", "--videos", films)
    assert (got.code, got.rows("kitchen")) == (0, [(3.25, 7.5, "pour")])


@pytest.mark.parametrize(
    "video",
    [
        "<video src='https://x.org/kitchen.mp4' width=100%/>",
        '<video controls><source src="/data/upload/3/0a1b2c3d-kitchen.mp4" type="video/mp4"></video>',
        ["https://x.org/kitchen.mp4"],
        "s3://bucket/a/kitchen.MP4",
    ],
)
def test_addresses_of_videos(video, converted):
    got = converted([task(timeline(1, 24, "pour"), video=video)], *LASTS)
    assert got.rows("kitchen") == [(0.0, 1.0, "pour")]


def test_the_rate_in_the_data_is_named_and_one_below_1_is_seconds_per_frame(converted):
    one = task(timeline(26, 50, "pour"))
    one["data"]["fps"] = 25
    got = converted([one], *LASTS)
    assert got.rows("kitchen") == [(1.0, 2.0, "pour")]
    assert "the rate 'fps' of their data" in got.err
    one["data"]["fps"] = 0.04
    assert converted([one], *LASTS).rows("kitchen") == [(1.0, 2.0, "pour")]


def test_an_assumed_rate_at_which_labels_lie_past_the_end_is_refused(converted, films):
    tasks = [task(timeline(1, 600, "pour")), task(timeline(1, 24, "weld"), video="bench.mp4", number=2)]
    got = converted(tasks, "--videos", films)
    assert (got.code, got.rows("bench"), "kitchen" in got.videos) == (6, [(0.0, 1.0, "weld")], False)
    assert "at 24 frames per second its labels end at 25 s, but it lasts 20 s" in got.err
    assert converted(tasks, "--videos", films, "--fps", "30").rows("kitchen") == [(0.0, 20.0, "pour")]


def rectangle(*keys: tuple[int, bool], fps: float = 25.0, label: str = "person", **value: Any) -> dict[str, Any]:
    sequence = [{"frame": n, "enabled": on, "time": n / fps, "x": 1, "y": 1, "width": 9, "height": 9} for n, on in keys]
    value |= {"framesCount": 500, "duration": 20.0, "sequence": sequence, "labels": [label]}
    return {"id": "r", "type": "videorectangle", "from_name": "box", "to_name": "video", "value": value}


def test_a_rectangle_is_an_action_while_it_is_enabled_at_its_own_rate(converted):
    got = converted([task(rectangle((26, True), (40, True), (50, False), (101, True)))])
    assert (got.code, got.rows("kitchen")) == (0, [(1.0, 2.0, "person"), (4.0, 20.0, "person")])
    assert "assumed" not in got.err
    assert (
        "1 videos have the length that the browser found; --videos gives that of their files: 'kitchen' 20 s" in got.err
    )


def test_labels_and_time_may_be_in_two_results_of_one_region(converted):
    box = rectangle((26, True), (50, False))
    label = {"id": "r", "type": "labels", "from_name": "kinds", "to_name": "video", "value": {"labels": ["run"]}}
    del box["value"]["labels"]
    assert converted([task(box, label)], *LASTS).rows("kitchen") == [(1.0, 2.0, "run")]


def test_a_region_without_a_label_is_counted_with_its_place_and_the_others_are_kept(converted):
    bare = timeline(50, 60) | {"id": "bare"}
    del bare["value"]["timelinelabels"]
    open_end = timeline(70, None, "pour") | {"id": "open"}
    got = converted([task(timeline(1, 24, "pour"), bare, open_end)], *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(0.0, 1.0, "pour")])
    assert "1 regions have no label: task 1 region bare (timelinelabels)" in got.err
    assert "task 1 region open end is None" in got.err


@pytest.mark.parametrize(
    "other",
    [
        {"type": "rectanglelabels", "value": {"x": 1, "y": 2, "width": 3, "height": 4, "rectanglelabels": ["hand"]}},
        {"type": "timeserieslabels", "value": {"start": 3, "end": 9, "instant": False, "timeserieslabels": ["run"]}},
        {"type": "labels", "value": {"start": 3, "end": 9, "text": "said", "labels": ["PER"]}},
        {"type": "paragraphlabels", "value": {"start": "0", "end": "2", "startOffset": 1, "paragraphlabels": ["Q"]}},
    ],
)
def test_regions_that_are_not_of_time_are_losses(other, converted):
    got = converted([task(timeline(1, 24, "pour"), {"id": "x", "from_name": "c", **other})], *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(0.0, 1.0, "pour")])
    assert f"1 regions are not stretches of time: task 1 region x ({other['type']})" in got.err


def test_labels_of_a_text_count_characters_and_are_no_seconds(converted):
    one = task(timeline(1, 24, "pour"))
    span = {
        "id": "x",
        "type": "labels",
        "from_name": "l",
        "to_name": "note",
        "value": {"start": 3, "end": 9, "labels": ["T"]},
    }
    one["annotations"][0]["result"].append(span)
    one["data"]["note"] = "Take two eggs and stir."
    got = converted([one], *LASTS)
    assert (got.code, got.rows("kitchen")) == (6, [(0.0, 1.0, "pour")])


def choice(region: str, value: str, name: str = "action", **time: Any) -> dict[str, Any]:
    return {
        "id": region,
        "type": "choices",
        "from_name": name,
        "to_name": "video",
        "value": {"choices": [value], **time},
    }


def test_answers_for_regions_are_classes_where_there_are_no_labels_or_when_chosen(converted):
    sound = {
        "id": "s",
        "type": "audio",
        "from_name": "a",
        "to_name": "v",
        "value": {"start": 1, "end": 2, "channel": 0},
    }
    got = converted([task(sound, choice("s", "pour", start=1, end=2, channel=0))], *LASTS)
    assert (got.code, got.rows("kitchen")) == (0, [(1.0, 2.0, "pour")])
    assert "1 regions without labels have the answers of 'action' as classes" in got.err
    both = [task(timeline(1, 24, "person"), choice("tl1", "pour"))]
    plain = converted(both, *LASTS)
    assert plain.rows("kitchen") == [(0.0, 1.0, "person")]
    assert "1 answers of 'action' for single regions are not used; --attribute action makes them classes" in plain.err
    assert converted(both, *LASTS, "--attribute", "action").rows("kitchen") == [(0.0, 1.0, "pour")]


def test_one_of_several_controls_can_be_chosen_by_name(converted):
    tasks = [task(timeline(1, 24, "pour"), timeline(49, 72, "left", name="hand"))]
    got = converted(tasks, *LASTS)
    assert got.rows("kitchen") == [(0.0, 1.0, "pour"), (2.0, 3.0, "left")]
    assert "classes come from several controls: 'tl' (1), 'hand' (1); --attribute NAME keeps one" in got.err
    chosen = converted(tasks, *LASTS, "--attribute", "hand")
    assert (chosen.code, chosen.rows("kitchen")) == (0, [(2.0, 3.0, "left")])
    assert "1 regions have no value of --attribute hand and are left out: task 1 region tl1" in chosen.err
    wrong = converted(tasks, *LASTS, "--attribute", "foot")
    assert wrong.code == 6
    assert "no region has a value of 'foot'; controls with values: 'hand', 'tl'" in wrong.err


def by_two() -> dict[str, Any]:
    one = task(timeline(1, 24, "pour"))
    ann = {"id": 7, "email": "ann@x.org", "first_name": "Ann", "last_name": "Lee"}
    one["annotations"].append({"completed_by": ann, "result": [timeline(25, 48, "pour")]})
    return one


def test_the_labels_of_several_people_cost_that_task_unless_one_is_chosen(converted):
    tasks = [by_two(), task(timeline(1, 24, "weld"), video="bench.mp4", number=2)]
    got = converted(tasks, *LASTS)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "task 1 was labelled 2 times, by '1', 'ann@x.org'; choose one with --rater" in got.err
    for name in ("7", "ann@x.org", "Ann Lee"):
        chosen = converted(tasks, *LASTS, "--rater", name)
        assert (chosen.code, chosen.rows("kitchen")) == (0, [(1.0, 2.0, "pour")])
        assert f"1 tasks have no annotation of --rater {name}: task 2" in chosen.err
    wrong = converted(tasks, *LASTS, "--rater", "bob")
    assert "nobody is called 'bob'; --rater takes one of '1', '7', 'Ann Lee', 'ann@x.org'" in wrong.err


def test_predictions_drafts_and_cancelled_annotations_are_named_and_not_used(converted):
    skipped = {"was_cancelled": True, "result": [timeline(1, 99, "skip")]}
    one = task(timeline(1, 24, "pour"), predictions=[{"result": [timeline(1, 99, "guess")]}], drafts=[{"result": []}])
    one["annotations"].append(skipped)
    got = converted([one, {"id": 2, "data": {"video": "b.mp4"}, "annotations": [skipped]}], *LASTS)
    assert (got.code, got.rows("kitchen")) == (0, [(0.0, 1.0, "pour")])
    for said in (
        "1 unlabelled or skipped tasks are left out: task 2",
        "1 cancelled annotations are not used: task 1",
        "1 tasks have predictions, which are not used: task 1",
        "1 tasks have drafts",
    ):
        assert said in got.err


def test_a_video_without_any_label_that_could_be_converted_does_not_pass_for_background(converted):
    bare = timeline(50, 60) | {"id": "bare"}
    del bare["value"]["timelinelabels"]
    got = converted([task(bare), task(timeline(1, 24, "weld"), video="bench.mp4", number=2)], *LASTS)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "'kitchen' (task 1) is left out: none of its labels could be converted" in got.err
    assert converted([task()], *LASTS).rows("kitchen") == []


def test_two_tasks_of_one_video_cost_that_video_only(converted):
    tasks = [task(timeline(1, 24, "pour"), number=n) for n in (1, 2)] + [
        task(timeline(1, 24, "weld"), video="bench.mp4")
    ]
    got = converted(tasks, *LASTS)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "2 tasks for the video 'kitchen', which is left out" in got.err


def short_form() -> list[dict[str, Any]]:
    """JSON-MIN of two people's annotations of one task, and one of another."""
    frames = [{"ranges": [{"start": 1, "end": 24}], "timelinelabels": ["pour"]}]
    more = {"created_at": "2024-05-01", "updated_at": "2024-05-01", "lead_time": 3.5}
    return [
        {"id": 1, "video": "/data/upload/1/0a1b2c3d-kitchen.mp4", "tl": frames, "annotator": 1, "annotation_id": 5}
        | more,
        {"id": 1, "video": "/data/upload/1/0a1b2c3d-kitchen.mp4", "tl": [], "annotator": 2, "annotation_id": 6} | more,
        {"id": 2, "video": "bench.mp4", "tl": frames, "whole": "good", "annotator": 1, "annotation_id": 7} | more,
    ]


def test_json_min_has_a_record_for_each_person(converted):
    got = converted(short_form(), *LASTS)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "task 1 was labelled 2 times, by '1', '2'" in got.err
    assert converted(short_form(), *LASTS, "--rater", "1").rows("kitchen") == [(0.0, 1.0, "pour")]


@pytest.mark.parametrize(("suffix", "delimiter"), [("csv", ","), ("tsv", "\t")])
def test_csv_and_tsv_exports_are_read(suffix, delimiter, converted, tmp_path):
    table, records = io.StringIO(), short_form()
    keys = sorted({key for record in records for key in record})
    writer = csv.DictWriter(table, keys, quoting=csv.QUOTE_NONNUMERIC, delimiter=delimiter)
    writer.writeheader()
    for record in records:
        writer.writerow({key: json.dumps(v) if isinstance(v, list) else v for key, v in record.items()})
    path = tmp_path / f"export.{suffix}"
    path.write_text(table.getvalue())
    got = converted(path, *LASTS, "--rater", "1")
    assert (got.code, got.rows("kitchen"), got.rows("bench")) == (0, [(0.0, 1.0, "pour")], [(0.0, 1.0, "pour")])
    assert "read as label-studio" in got.err
    path.write_text(table.getvalue().rstrip() + f"{delimiter}x\n")
    assert f"row {len(records) + 1}: has more cells than the heading" in converted(path, *LASTS).err


def test_files_of_a_target_storage_in_a_folder(converted, tmp_path):
    folder = tmp_path / "storage"
    folder.mkdir()
    for n, name in enumerate(("kitchen", "bench")):
        annotation = {"id": n, "result": [timeline(1, 24, "pour")], "task": {"id": n, "data": {"video": f"{name}.mp4"}}}
        (folder / f"{n}.json").write_text(json.dumps(annotation))
    got = converted(folder, *LASTS)
    assert (got.code, got.rows("kitchen"), got.rows("bench")) == (0, [(0.0, 1.0, "pour")], [(0.0, 1.0, "pour")])
    (folder / "2.json").write_text("[{")
    damaged = converted(folder, *LASTS)
    assert (damaged.code, list(damaged.videos)) == (6, ["kitchen", "bench"])
    assert "2.json: not JSON" in damaged.err


def test_of_several_videos_the_labelled_one_is_taken_and_the_others_are_named(converted):
    one = task(timeline(1, 24, "pour") | {"to_name": "second"})
    one["data"] = {"first": "bench.mp4", "second": "kitchen.mp4"}
    got = converted([one], *LASTS)
    assert got.rows("kitchen") == [(0.0, 1.0, "pour")]
    assert "('kitchen' is taken, 'bench' left out)" in got.err


@pytest.mark.parametrize(("fps", "first", "last"), [("24", 241, 480), ("30", 301, 600), ("", 301, 600)])
def test_frames_are_written_at_the_rate_of_the_interface(fps, first, last, tadkit, films, tmp_path):
    weld = {"duration": 20.0, "subset": "", "annotations": [{"segment": [10.0, 20.0], "label": "weld"}]}
    (tmp_path / "a.json").write_text(json.dumps({"database": {"bench": weld}}))
    rate = ["--fps", fps] if fps else []
    ran = tadkit("data", "convert", "a.json", "--to", "label-studio", "--out", "ls.json", "--videos", films, *rate)
    (written,) = json.loads((tmp_path / "ls.json").read_text())
    value = written["annotations"][0]["result"][0]["value"]
    assert (ran.code, value["ranges"]) == (0, [{"start": first, "end": last}])
    assert written["data"]["fps"] == pytest.approx(float(fps or 30))
