"""CVAT's exports: which frames are shown, which classes, which video, and what is reported."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

CASES = Path(__file__).parent / "cases"
AT_10 = ("--fps", "10", "--durations", "d.csv")


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    """Work beside a table of durations."""
    (tmp_path / "d.csv").write_text("video,seconds\nkitchen,20\nbench,20\nannotations,20\n")
    monkeypatch.chdir(tmp_path)


def box(frame: int, outside: int = 0, **attributes: str) -> str:
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in attributes.items())
    return f'<box frame="{frame}" keyframe="1" outside="{outside}" occluded="0">{inner}</box>'


def track(*shapes: str, label: str = "pour", number: int = 0, **more: Any) -> str:
    extra = "".join(f' {key}="{value}"' for key, value in more.items())
    return f'<track id="{number}" label="{label}" source="manual"{extra}>{"".join(shapes)}</track>'


def meta(kind: str = "task", *, size: int = 200, start: int = 0, step: int = 1, source: str = "kitchen.mp4", number=1):
    frames = f"<start_frame>{start}</start_frame><stop_frame>{start + step * (size - 1)}</stop_frame>"
    skip = f"<frame_filter>{f'step={step}' if step > 1 else ''}</frame_filter>"
    name = f"<source>{source}</source>" if source else ""
    mode = "<mode>interpolation</mode>"
    return f"<{kind}><id>{number}</id><subset>default</subset><size>{size}</size>{mode}{frames}{skip}{name}</{kind}>"


@pytest.fixture
def file(tmp_path):
    def write(about: str, *elements: str, name: str = "a.xml", folder: str = "") -> Path:
        path = tmp_path / folder / name
        path.parent.mkdir(exist_ok=True)
        body = f"<version>1.1</version><meta>{about}</meta>{''.join(elements)}"
        path.write_text(f'<?xml version="1.0" encoding="utf-8"?><annotations>{body}</annotations>')
        return path

    return write


def test_a_shown_frame_stands_until_the_next_shown_one(converted, films):
    got = converted(CASES / "cvat_step30.xml", "--videos", films)
    assert (got.code, got.rows("bench"), got.videos["bench"].duration_s) == (0, [(10.0, 20.0, "weld")], 20.0)
    assert (
        "show only some frames; an action may end up to a step earlier or later: 'bench' (every 30 frames)" in got.err
    )


def test_a_job_has_the_length_of_its_video_and_the_rest_is_reported(converted, films):
    got = converted(CASES / "cvat_job.xml", "--videos", films)
    assert (got.code, got.rows("kitchen"), got.videos["kitchen"].duration_s) == (0, [(1.0, 2.0, "pour")], 20.0)
    assert "stretches without labels, which count as background: 'kitchen' (5 to 20 s)" in got.err
    told = converted(CASES / "cvat_job.xml", "--fps", "30", "--durations", "d.csv")
    assert (told.videos["kitchen"].duration_s, "'kitchen' (5 to 20 s)" in told.err) == (20.0, True)
    alone = converted(CASES / "cvat_job.xml", "--fps", "30")
    assert alone.videos["kitchen"].duration_s == 5.0
    assert "assumed to end where they are labelled to; --videos gives their length: 'kitchen' (job" in alone.err


def test_a_skeleton_is_visible_while_one_of_its_points_is(converted, films):
    got = converted(CASES / "cvat_skeleton.xml", "--videos", films)
    assert (got.code, got.rows("kitchen")) == (0, [(1.0, 2.0, "pour"), (3.0, 4.0, "pour")])


def test_frames_are_numbered_in_the_video_although_the_task_starts_later(converted, file):
    path = file(meta(start=50, step=5, size=20), track(box(60), box(65), box(70, 1)), track(box(140), box(145)))
    got = converted(path, *AT_10)
    assert got.rows("kitchen") == [(6.0, 7.0, "pour"), (14.0, 15.0, "pour")]
    assert "stretches without labels, which count as background: 'kitchen' (0 to 5 s, 15 to 20 s)" in got.err


def test_the_last_shown_frame_ends_no_later_than_the_video(converted, films, file):
    got = converted(file(meta(step=7, size=86), track(box(588), box(595))), "--videos", films)
    assert got.rows("kitchen") == [(19.6, 20.0, "pour")]


def test_deleted_frames_in_a_track_count_to_it(converted, file):
    got = converted(file(meta(), track(*(box(n) for n in (10, 11, 15, 16)), box(17, 1))), *AT_10)
    assert got.rows("kitchen") == [(1.0, 1.7, "pour")]


def test_shapes_of_single_frames_are_joined_where_they_follow_one_another(converted, file):
    shapes = [track(box(n), box(n + 2, 1), number=n) for n in (10, 12, 14, 40)]
    got = converted(file(meta(step=2, size=100), *shapes), *AT_10)
    assert got.rows("kitchen") == [(1.0, 1.6, "pour"), (4.0, 4.2, "pour")]
    assert "shapes of single frames, which are joined where frames follow one another" in got.err


def test_an_attribute_of_a_person_s_track_can_hold_the_classes(converted, file):
    person = track(
        box(10, action="pour", age="40"),
        box(11, action="pour"),
        box(12, action="stir"),
        box(13),
        box(14, 1),
        label="person",
    )
    path = file(meta(), person)
    plain = converted(path, *AT_10)
    assert (plain.code, plain.rows("kitchen")) == (0, [(1.0, 1.4, "person")])
    assert "attribute 'action' of 'person' is not used; --attribute action takes the classes from it" in plain.err
    chosen = converted(path, *AT_10, "--attribute", "action")
    assert (chosen.code, chosen.rows("kitchen")) == (0, [(1.0, 1.2, "pour"), (1.2, 1.4, "stir")])
    wrong = converted(path, *AT_10, "--attribute", "act")
    assert wrong.code == 6
    assert "no attribute 'act' has a value; attributes with values: 'action', 'age'" in wrong.err


def test_a_checkbox_is_a_class_while_it_is_ticked_and_an_unset_value_is_none(converted, file):
    shapes = [box(10, pour="false"), box(11, pour="true"), box(12, pour="true"), box(13, pour="__undefined__")]
    got = converted(file(meta(), track(*shapes, box(14, 1), label="person")), *AT_10, "--attribute", "pour")
    assert got.rows("kitchen") == [(1.1, 1.3, "pour")]


def image(frame: int, *marks: str) -> str:
    return f'<image id="{frame}" name="frame_{frame:06}" width="16" height="16">{"".join(marks)}</image>'


def tag(label: str, **attributes: str) -> str:
    inner = "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in attributes.items())
    return f'<tag label="{label}" source="manual">{inner}</tag>'


def test_tags_and_shapes_of_pictures_are_actions_while_they_follow_one_another(converted, file):
    marks = {2: [tag("pour")], 4: [tag("pour"), '<box label="cup" xtl="1"/>'], 6: ['<box label="cup" xtl="1"/>']}
    pictures = [image(n, *marks.get(n, [])) for n in range(0, 20, 2)]
    got = converted(file(meta(step=2, size=10), *pictures), *AT_10)
    assert (got.code, got.rows("kitchen")) == (0, [(0.2, 0.6, "pour"), (0.4, 0.8, "cup")])


def test_a_deleted_picture_ends_no_action_around_it_and_lengthens_none_before_it(converted, file):
    listed = [0, 1, 2, 4, 5, 9, 10]
    held = {1, 2, 4, 5}
    got = converted(file(meta(), *(image(n, *[tag("pour")] * (n in held)) for n in listed)), *AT_10)
    assert got.rows("kitchen") == [(0.1, 0.6, "pour")]


def test_attributes_of_tags_can_hold_the_classes(converted, file):
    pictures = [image(n, tag("scene", action=value)) for n, value in enumerate(["", "pour", "pour", "stir", ""])]
    got = converted(file(meta(), *pictures), *AT_10, "--attribute", "action")
    assert got.rows("kitchen") == [(0.1, 0.3, "pour"), (0.3, 0.4, "stir")]


def test_a_project_numbers_frames_on_over_the_tasks_of_a_subset(converted, file):
    tasks = meta(number=1, size=100), meta(number=2, source="bench.mp4", start=20, step=2, size=50)
    about = f"<project><tasks>{''.join(tasks)}</tasks></project>"
    first = track(box(10), box(11, 1), task_id=1, subset="default")
    second = track(box(100 + 30), box(100 + 40, 1), task_id=2, subset="default")
    got = converted(file(about, first, second), *AT_10)
    assert (got.code, got.rows("kitchen"), got.rows("bench")) == (0, [(1.0, 1.1, "pour")], [(3.0, 4.0, "pour")])


def test_a_frame_that_its_task_does_not_show_is_a_loss(converted, file):
    good = track(box(10), box(11), box(12, 1))
    got = converted(file(meta(size=100), good, track(box(400), box(401, 1), number=7)), *AT_10)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 1.2, "pour")])
    assert "track 7 ('pour') has frame 400, which its task does not show" in got.err


def test_jobs_of_one_video_are_joined_and_one_action_that_the_seam_cuts_is_one_again(converted, file):
    file(meta("job", size=100), track(box(90), *(box(n) for n in range(91, 100))), folder="jobs", name="1.xml")
    later = track(*(box(n) for n in range(100, 110)), box(110, 1))
    path = file(meta("job", start=100, size=100), later, folder="jobs", name="2.xml")
    got = converted(path.parent, *AT_10)
    assert (got.code, got.rows("kitchen")) == (0, [(9.0, 11.0, "pour")])


def test_a_video_that_is_labelled_twice_is_a_loss_and_the_others_are_kept(converted, file):
    for name in ("1", "2"):
        file(meta(), track(box(10), box(11), box(12, 1)), folder="two", name=f"{name}.xml")
    path = file(meta(source="bench.mp4"), track(box(10), box(11), box(12, 1)), folder="two", name="3.xml")
    got = converted(path.parent, *AT_10)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "'kitchen' is labelled more than once" in got.err


def test_a_damaged_file_costs_no_other(converted, file):
    path = file(meta(), track(box(10), box(11), box(12, 1)), folder="both", name="a.xml")
    (path.parent / "b.xml").write_text("<annotations><meta>")
    got = converted(path.parent, *AT_10)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 1.2, "pour")])
    assert "b.xml: not XML" in got.err


def test_a_job_names_no_video_so_that_its_file_does(converted, file):
    path = file(meta("job", source=""), track(box(10), box(11), box(12, 1)), name="annotations.xml")
    got = converted(path, *AT_10)
    assert (got.code, list(got.videos)) == (0, ["annotations"])
    assert "named like their files, which do not name a video: 'annotations'" in got.err


def test_a_track_of_one_visible_frame_is_not_prolonged_to_the_end(converted, file):
    got = converted(file(meta(size=200), track(box(199))), *AT_10)
    assert got.rows("kitchen") == [(19.9, 20.0, "pour")]


def test_what_has_no_label_or_no_task_is_a_loss(converted, file):
    good, bare = track(box(10), box(11), box(12, 1)), track(box(10), box(11), box(12, 1), number=5, label="")
    got = converted(file(meta(), good, bare), *AT_10)
    assert (got.code, got.rows("kitchen")) == (6, [(1.0, 1.2, "pour")])
    assert "track 5 ('') has no label" in got.err
    about = f"<project><tasks>{meta(size=100)}</tasks></project>"
    strange = track(box(10), box(11), box(12, 1), task_id=9)
    got = converted(file(about, strange, track(box(20), box(21), box(22, 1), task_id=1)), *AT_10)
    assert (got.code, got.rows("kitchen")) == (6, [(2.0, 2.2, "pour")])
    assert "1 <track> belong to no task of the project (task '9')" in got.err


def test_a_video_of_which_all_labels_are_lost_does_not_pass_for_background(converted, file):
    file(meta(), track(box(900), box(901), box(902, 1)), folder="both", name="a.xml")
    path = file(meta(source="bench.mp4"), track(box(10), box(11), box(12, 1)), folder="both", name="b.xml")
    got = converted(path.parent, *AT_10)
    assert (got.code, list(got.videos)) == (6, ["bench"])
    assert "'kitchen' is left out: none of its labels could be converted" in got.err
