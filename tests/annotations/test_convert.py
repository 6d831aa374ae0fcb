from __future__ import annotations

import os
import shutil
from dataclasses import astuple
from pathlib import Path

import pytest

from tadkit.annotations.convert import convert
from tadkit.errors import AnnotationError, UsageError
from tadkit.records import Annotation, Dataset, VideoRecord, read_dataset, write_dataset

needs_data = pytest.mark.skipif(not os.environ.get("TADKIT_DATA"), reason="needs TADKIT_DATA, the shared research data")
OFFICIAL = "thumos14/official_txt"
COUNTS = {
    # path: subset -> videos, with actions, instances, ambiguous, classes
    "thumos14/afsd": {"testing": (210, 210, 3311, 0, 20), "training": (200, 200, 3007, 0, 20)},
    "thumos14/afsd/thumos_gt.json": {"testing": (210, 210, 3311, 0, 20), "training": (200, 200, 3007, 0, 20)},
    "thumos14/afsd/test_Annotation.csv": {"testing": (213, 212, 3358, 99, 20)},
    "thumos14/afsd/val_Annotation.csv": {"training": (200, 200, 3007, 89, 20)},
    OFFICIAL: {"testing": (213, 212, 3358, 99, 20), "training": (200, 200, 3007, 89, 20)},
    "activitynet1.3": {
        "testing": (4851, 0, 0, 0, 0),
        "training": (9649, 9649, 14859, 0, 200),
        "validation": (4728, 4728, 7293, 0, 200),
    },
    "multithumos/multithumos.json": {"testing": (213, 213, 20208, 0, 65), "training": (200, 200, 18482, 0, 65)},
    "charades/charades.json": {"testing": (1863, 1814, 16691, 0, 157), "training": (7985, 7811, 49809 - 7, 0, 157)},
    "epic100/EPIC_100_validation.csv": {"validation": (138, 138, 9668, 0, 78)},
    "epic100": {"validation": (138, 138, 9668, 0, 78)},
}


@needs_data
@pytest.mark.parametrize("path", COUNTS)
def test_published_files_convert_with_their_counts(path, shared_data, tmp_path):
    folder = shared_data / "annotations"
    lengths = [folder / "multithumos" / "multithumos.json"] if path.startswith("thumos14") else []
    result = convert(folder / path, tmp_path / "out.json", durations=lengths)
    assert {name: astuple(counts) for name, counts in result.counts.items()} == COUNTS[path]
    written = read_dataset(tmp_path / "out.json").videos.values()
    assert len(written) == sum(counts[0] for counts in COUNTS[path].values())
    assert all(video.duration_s > 0 for video in written)


@needs_data
def test_the_seven_reversed_segments_of_charades_are_named(shared_data, tmp_path):
    result = convert(shared_data / "annotations" / "charades" / "charades.json", tmp_path / "out.json")
    assert "7 segments end before they start and are left out: 'AKKWU' [38, 13]" in result.remarks[-1]


@needs_data
def test_a_video_without_length_and_with_ambiguous_instances_alone_is_left_out_and_told(shared_data, tmp_path):
    folder = shared_data / "annotations" / "thumos14"
    info = [folder / "afsd" / f"{part}_video_info.csv" for part in ("val", "test")]
    result = convert(shared_data / "annotations" / OFFICIAL, tmp_path / "out.json", durations=info)
    assert astuple(result.counts["testing"])[:3] == (212, 212, 3358)
    assert "'video_test_0001292' is left out: only ambiguous instances (3)" in result.remarks[0]


def golf(folder: Path) -> Path:
    folder.mkdir()
    (folder / "GolfSwing_val.txt").write_text("video_validation_0000001 1.0 2.0\nvideo_validation_0000002 1.0 2.0\n")
    return folder


def test_without_durations_one_line_says_where_they_may_come_from(tmp_path):
    with pytest.raises(AnnotationError) as caught:
        convert(golf(tmp_path / "golf"), tmp_path / "out.json")
    assert "'video_validation_0000001' (2 videos in all) has no duration; give --durations" in str(caught.value)
    assert not (tmp_path / "out.json").exists()
    (tmp_path / "videos").mkdir()
    with pytest.raises(AnnotationError, match=r"or put video_validation_0000001\.mp4 into .*videos"):
        convert(tmp_path / "golf", tmp_path / "out.json", videos=tmp_path / "videos")


@pytest.mark.parametrize("table", ["video,seconds\n{0}1,9.5\n{0}2,8\n", "video,fps,count\n{0}1,10,95\n{0}2,10,80\n"])
def test_durations_from_a_csv(table, tmp_path):
    (tmp_path / "d.csv").write_text(table.format("video_validation_000000"))
    convert(golf(tmp_path / "golf"), tmp_path / "out.json", durations=[tmp_path / "d.csv"])
    videos = read_dataset(tmp_path / "out.json").videos
    assert [video.duration_s for video in videos.values()] == [9.5, 8.0]


def test_durations_and_rates_from_the_videos(tmp_path):
    room = Path(__file__).parents[2] / "examples" / "room.mp4"
    (tmp_path / "labels.csv").write_text(
        "Time,Media file path,Subject,Behavior,Comment,Status\n1.0,room.mp4,,walk,,START\n2.5,room.mp4,,walk,,STOP\n"
    )
    result = convert(tmp_path / "labels.csv", tmp_path / "out.json", videos=room.parent)
    (video,) = read_dataset(tmp_path / "out.json").videos.values()
    assert result.form == "boris"
    assert video.annotations == (Annotation(1.0, 2.5, "walk"),)
    assert video.duration_s == pytest.approx(44.0, abs=0.1)
    assert video.fps is not None


def test_a_subset_is_kept_by_its_whole_name(tmp_path):
    (tmp_path / "d.csv").write_text("video,seconds\nvideo_validation_0000001,9\nvideo_validation_0000002,9\n")
    source = golf(tmp_path / "golf")
    with pytest.raises(AnnotationError, match="no subset 'train'; the annotations have 'training'"):
        convert(source, tmp_path / "o.json", durations=[tmp_path / "d.csv"], subsets=["train"])
    kept = convert(source, tmp_path / "o.json", durations=[tmp_path / "d.csv"], subsets=["training"])
    assert list(kept.counts) == ["training"]


def test_a_source_without_a_labelled_video_is_refused_with_what_was_left_out(tmp_path):
    (tmp_path / "a.json").write_text('[{"id": 1, "data": {"video": "v.mp4"}, "annotations": []}]')
    with pytest.raises(AnnotationError, match=r"no labelled video; .* 1 unlabelled or skipped tasks"):
        convert(tmp_path / "a.json", tmp_path / "out.json")
    assert not (tmp_path / "out.json").exists()


def test_a_folder_of_videos_that_is_none_is_refused(tmp_path):
    with pytest.raises(UsageError, match="no such folder of videos"):
        convert(golf(tmp_path / "golf"), tmp_path / "out.json", videos=tmp_path / "none")


def test_present_only_leaves_out_and_counts_videos_without_a_file(tmp_path):
    source = golf(tmp_path / "golf")
    (tmp_path / "d.csv").write_text("video,seconds\nvideo_validation_0000001,9\nvideo_validation_0000002,9\n")
    (tmp_path / "videos").mkdir()
    room = Path(__file__).parents[2] / "examples" / "room.mp4"
    shutil.copy(room, tmp_path / "videos" / "video_validation_0000002.mp4")
    options = {"durations": [tmp_path / "d.csv"], "present_only": True}
    result = convert(source, tmp_path / "o.json", videos=tmp_path / "videos", **options)
    assert list(read_dataset(tmp_path / "o.json").videos) == ["video_validation_0000002"]
    assert "1 of 2 videos are not in" in result.remarks[0]
    with pytest.raises(UsageError, match="name it with --videos"):
        convert(source, tmp_path / "o.json", **options)


@pytest.mark.parametrize("row", ["fps,count\n{0},0,95", "seconds\n{0},-4", "seconds\n{0},0", "fps,count\n{0},-5,95"])
def test_durations_and_rates_are_above_zero(row, tmp_path):
    (tmp_path / "d.csv").write_text(f"video,{row.format('video_validation_0000001')}\n")
    with pytest.raises(AnnotationError, match="expected a number above 0"):
        convert(golf(tmp_path / "golf"), tmp_path / "out.json", durations=[tmp_path / "d.csv"])


def labelled(path: Path, *names: str) -> Path:
    videos = {n: VideoRecord(n, 9.0, "", (Annotation(1.0, 2.0, "walk"),), fps=None) for n in names}
    write_dataset(path, Dataset(videos))
    return path


@pytest.mark.parametrize("to", ["elan", "cvat"])
def test_where_one_video_cannot_be_written_none_is(to, tmp_path):
    source = labelled(tmp_path / "a.json", "a", "b/c")
    with pytest.raises(AnnotationError, match="'b/c' is not a file name"):
        convert(source, tmp_path / "out", to=to, fps=25.0 if to == "cvat" else None)
    with pytest.raises(AnnotationError, match="'a': CVAT counts frames"):
        convert(labelled(tmp_path / "b.json", "a", "b"), tmp_path / "out", to="cvat")
    assert not (tmp_path / "out").exists()


def test_annotations_are_not_written_over_what_they_are_made_of(tmp_path):
    source = labelled(tmp_path / "labels" / "a.json", "a")
    before = source.read_bytes()
    for out in (source, tmp_path / "labels" / ".." / "labels" / "a.json"):
        with pytest.raises(UsageError, match="name another place"):
            convert(source, out, to="via")
    assert source.read_bytes() == before
    convert(source, tmp_path / "elan", to="elan")
    for own in (tmp_path / "elan", tmp_path / "elan" / "a.eaf"):
        with pytest.raises(UsageError, match="name another place"):
            convert(own, tmp_path / "elan", to="elan")


@pytest.mark.parametrize(
    ("option", "said"),
    [
        ({"noun": True}, "--noun applies only to epic-kitchens, and this is tadkit"),
        ({"classes": "c.txt"}, "--classes applies only to multithumos, charades, epic-kitchens"),
        ({"fps": 25.0}, "--fps applies only to cvat, label-studio"),
        ({"tiers": ["phase"]}, "--tier applies only to elan, and this is tadkit"),
        ({"tier_types": ["phase"]}, "--tier-type applies only to elan"),
        ({"subjects": ["cat"]}, "--subject applies only to boris, elan"),
        ({"observations": ["o"]}, "--observation applies only to boris"),
    ],
)
def test_options_that_a_form_makes_no_use_of_are_refused(option, said, tmp_path):
    (tmp_path / "c.txt").write_text("1 walk\n")
    option = {key: tmp_path / value if key == "classes" else value for key, value in option.items()}
    with pytest.raises(UsageError, match=said):
        convert(labelled(tmp_path / "a.json", "a"), tmp_path / "out.json", **option)


def test_a_source_without_subsets_says_so(tmp_path):
    with pytest.raises(AnnotationError, match="no subset 'training'; the videos have no subsets"):
        convert(labelled(tmp_path / "a.json", "a"), tmp_path / "out.json", subsets=["training"])


def test_two_lengths_of_one_video_are_refused(tmp_path):
    name = "video_validation_0000001"
    (tmp_path / "d.csv").write_text(f"video,seconds\n{name},9\n{name},9\n{name},8\n")
    with pytest.raises(AnnotationError, match="is listed twice, with 9 and 8 s"):
        convert(golf(tmp_path / "golf"), tmp_path / "out.json", durations=[tmp_path / "d.csv"])


def test_a_video_that_stands_twice_in_json_is_refused(tmp_path):
    entries = ", ".join(f'"v": {{"subset": "{s}", "duration": 9}}' for s in ("training", "testing"))
    (tmp_path / "a.json").write_text(f'{{"database": {{{entries}}}}}')
    with pytest.raises(AnnotationError, match="'v' appears twice"):
        convert(tmp_path / "a.json", tmp_path / "out.json", form="activitynet")
