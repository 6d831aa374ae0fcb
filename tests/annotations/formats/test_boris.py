"""BORIS's projects as BORIS itself writes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tadkit.annotations.formats import FrameTimes, Known, SourceVideo, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

CASES = Path(__file__).parent / "cases"
WALK = (Annotation(1.0, 2.5, "walk"), Annotation(4.0, 6.0, "walk"))


def test_boris_toggles_states_and_keeps_points_without_length(tmp_path):
    project = {
        "behaviors_conf": {"0": {"code": "walk", "type": "State event"}, "1": {"code": "hit", "type": "Point event"}},
        "observations": {
            "obs": {
                "file": {"1": ["C:\\films\\a b.avi"], "2": []},
                "media_info": {"length": {"C:\\films\\a b.avi": 9.0}, "fps": {"C:\\films\\a b.avi": 25.0}},
                "events": [
                    [4.0, "cat", "walk", "", ""],
                    [1.0, "cat", "walk", "", ""],
                    [1.5, "dog", "walk", "", ""],
                    [2.5, "cat", "walk", "", "", 62],
                    [3.0, "dog", "walk", "", ""],
                    [3.5, "cat", "hit", "", ""],
                    [6.0, "cat", "walk", "", ""],
                ],
            },
            "live": {"file": {}, "events": []},
        },
    }
    path = tmp_path / "p.boris"
    path.write_text(json.dumps(project))
    source = read_annotations(path, "boris", Known())
    (video,) = source.videos
    assert (video.name, video.duration_s, video.fps) == ("a b", 9.0, 25.0)
    assert video.annotations == (WALK[0], Annotation(1.5, 3.0, "walk"), Annotation(3.5, 3.5, "hit"), WALK[1])
    assert "observation 'obs': 1 point events become actions of zero length" in source.remarks[0]
    assert "observation 'live' has no media file (it is live, or of images)" in source.remarks[1]
    assert source.losses == ()


def test_a_state_that_never_stops_is_lost_and_costs_no_other(tmp_path):
    events = [[1.0, "", "walk", "", ""], [2.5, "", "walk", "", ""], [4.0, "", "walk", "", ""]]
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(0, 0, events=events)), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)
    (loss,) = source.losses
    assert "observation 'o' starts 'walk' at 4 s and never stops it; left out" in loss


def boris(path: Path, **observations: dict[str, object]) -> Path:
    """A project as BORIS 9 writes it, with what matters of an observation."""
    behaviours = {"0": {"code": "walk", "type": "State event"}}
    path.write_text(json.dumps({"behaviors_conf": behaviours, "observations": observations}))
    return path


def observed(start_s: float, end_s: float, **more: object) -> dict[str, object]:
    events = [[start_s, "", "walk", "", "", 25], [end_s, "", "walk", "", "", 50]]
    return {"type": "MEDIA", "file": {"1": ["films/v.mp4"], "2": []}, "time offset": 0.0, "events": events} | more


def test_boris_s_live_observations_have_a_list_for_files(tmp_path):
    live = {"type": "LIVE", "file": [], "events": [[1.0, "", "walk", "", ""]], "media_info": {"offset": {}}}
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(1.0, 2.5), live=live), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)
    (loss,) = source.losses
    assert "observation 'live' has no media file (it is live, or of images) and is left out with its 1 events" in loss


@pytest.mark.parametrize(
    "observation",
    [
        observed(61.0, 62.5, **{"time offset": 60.0}),
        observed(
            1700000061.0,
            1700000062.5,
            **{"time offset": 60.0},
            media_creation_date_as_offset=True,
            media_info={"media_creation_time": {"films/v.mp4": 1700000000.0}},
        ),
    ],
)
def test_boris_s_offsets_are_taken_off_its_times(observation, tmp_path):
    source = read_annotations(boris(tmp_path / "p.boris", o=observation), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)


def test_files_in_a_row_share_a_clock_and_an_action_across_their_seam_is_split():
    source = read_annotations(CASES / "boris_two_files_in_a_row.boris", "boris", Known())
    assert source.videos == (
        SourceVideo("a1", (Annotation(5, 8, "feed"), Annotation(9, 10, "feed")), "", 10.0, 25.0),
        SourceVideo("a2", (Annotation(0, 1.5, "feed"), Annotation(2, 5, "feed")), "", 20.0, 25.0),
        SourceVideo("b", (Annotation(1, 4, "feed"),), "", 30.0, 25.0),
    )
    assert "'pen A' plays 2 files in a row, on one clock ('a1.mp4', 'a2.mp4'); 1 actions cross" in source.remarks[0]
    assert source.losses == ()


def in_a_row(**more: object) -> dict[str, object]:
    return observed(11.0, 12.5, file={"1": ["v.mp4", "w.mp4"]}, **more)


def test_lengths_that_the_project_lacks_come_from_the_videos_or_cost_that_observation_alone(tmp_path):
    path = boris(tmp_path / "p.boris", o=in_a_row(), other=observed(1.0, 2.5, file={"1": ["x.mp4"]}))
    known = Known(frame_times={"v": FrameTimes(duration_s=10.0)})
    assert [video for video in read_annotations(path, "boris", known).videos if video.annotations] == [
        SourceVideo("w", WALK[:1]),
        SourceVideo("x", WALK[:1]),
    ]
    source = read_annotations(path, "boris", Known())
    assert source.videos == (SourceVideo("x", WALK[:1]),)
    assert "'o' plays 2 files in a row, and the length of 'v.mp4' is unknown; it is left out; give" in source.losses[0]


def test_creation_times_of_files_in_a_row_tell_which_file_plays(tmp_path):
    info = {"length": {"v.mp4": 10.0, "w.mp4": 20.0}, "media_creation_time": {"v.mp4": 1.7e9, "w.mp4": 1.7e9 + 500}}
    more = {"media_creation_date_as_offset": True, "media_info": info}
    events = [[1.7e9 + 500 + t, "", "walk", "", ""] for t in (11.0, 12.5)]
    source = read_annotations(boris(tmp_path / "p.boris", o=in_a_row(events=events, **more)), "boris", Known())
    assert [v.annotations for v in source.videos] == [(), WALK[:1]]
    events = [[1.7e9 + t, "", "walk", "", ""] for t in (11.0, 12.5)]  # in neither file
    with pytest.raises(AnnotationError, match="its time 1700000011 s falls into 0 of the files in a row; left out"):
        read_annotations(boris(tmp_path / "p.boris", o=in_a_row(events=events, **more)), "boris", Known())


def test_several_observations_of_a_video_are_lost_unless_they_are_chosen(tmp_path):
    path = boris(
        tmp_path / "p.boris",
        cat=observed(1.0, 2.5),
        dog=observed(4.0, 6.0),
        other=observed(1.0, 2.5, file={"1": ["x.mp4"]}),
    )
    source = read_annotations(path, "boris", Known())
    assert [video.name for video in source.videos] == ["x"]
    assert "several observations of the video 'v' ('cat', 'dog'), which is left out; choose with" in source.losses[0]
    one = read_annotations(path, "boris", Known(observations=("dog",)))
    assert (one.videos, one.losses) == ((SourceVideo("v", WALK[1:]),), ())
    both = read_annotations(path, "boris", Known(observations=("cat", "d*")))
    assert (both.videos, both.losses) == ((SourceVideo("v", WALK),), ())
    with pytest.raises(AnnotationError, match="no observation 'cow'; expected 'cat', 'dog', 'other'"):
        read_annotations(path, "boris", Known(observations=("dog", "cow")))


def test_subjects_are_chosen_by_name(tmp_path):
    events = [[t, who, "walk", "", ""] for t, who in ((1.0, "cat"), (2.5, "cat"), (4.0, ""), (6.0, ""))]
    path = boris(tmp_path / "p.boris", o=observed(0, 0, events=events))
    for subject, walk in (("cat", WALK[:1]), ("No focal subject", WALK[1:]), ("*", WALK)):
        (video,) = read_annotations(path, "boris", Known(subjects=(subject,))).videos
        assert video.annotations == walk
    with pytest.raises(AnnotationError, match="no subject 'dog'; expected 'No focal subject', 'cat'"):
        read_annotations(path, "boris", Known(subjects=("dog",)))


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"events": 3}, "not an observation of BORIS"),
        ({"events": [[1.0]]}, "not an observation of BORIS"),
        ({"time offset": "noon"}, "time offset is 'noon'"),
        ({"file": {"1": ["w.mp4"]}, "media_info": {"length": {"w.mp4": "x"}}}, "length of 'w.mp4' is 'x'"),
    ],
)
def test_one_bad_observation_never_costs_the_others(bad, said, tmp_path):
    other = observed(1.0, 2.5, file={"1": ["x.mp4"]})
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(1.0, 2.5, **bad), p=other), "boris", Known())
    assert SourceVideo("x", WALK[:1]) in source.videos
    assert not any(video.annotations for video in source.videos if video.name != "x")
    assert all("observation 'o'" in loss for loss in source.losses)
    assert said in source.losses[0]


def test_an_event_that_cannot_be_read_makes_all_of_its_kind_doubtful_and_no_others(tmp_path):
    walk = [[t, who, "walk", "", ""] for who in ("cat", "dog") for t in (1.0, 2.5)]
    events = [*walk, ["x", "cat", "walk", "", ""], [9.0, "cat", "fly", "", ""]]
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(0, 0, events=events)), "boris", Known())
    assert source.videos[0].annotations == WALK[:1]
    assert "event 4 is 'x'; expected a number of seconds; left out with all 'walk' of 'cat'" in source.losses[0]
    assert "event 5: 'fly' is not in the ethogram; left out with all 'fly' of 'cat'" in source.losses[1]


def test_an_observation_limited_to_an_interval_is_reported(tmp_path):
    observation = observed(1.0, 2.5, **{"observation time interval": [0, 5]})
    source = read_annotations(boris(tmp_path / "p.boris", o=observation), "boris", Known())
    assert "was limited to 0 to 5 s; the rest counts as without actions" in source.remarks[0]


def test_chosen_observations_are_joined_across_files_but_never_different_videos_of_one_name(tmp_path):
    boris(tmp_path / "a.boris", cat=observed(1.0, 2.5))
    boris(tmp_path / "b.boris", dog=observed(4.0, 6.0), far=observed(8.0, 9.0, file={"1": ["other/v.mp4"]}))
    with pytest.raises(AnnotationError, match=r"several observations of the video 'v' \('cat', 'dog', 'far'\)"):
        read_annotations(tmp_path, "boris", Known())
    source = read_annotations(tmp_path, "boris", Known(observations=("cat", "dog")))
    assert (source.videos, source.losses) == ((SourceVideo("v", WALK),), ())
    assert "observations of the video 'v' are read together: 'cat', 'dog'" in source.remarks[0]
    with pytest.raises(AnnotationError, match=r"different files of one name, 'films/v\.mp4', 'other/v\.mp4'"):
        read_annotations(tmp_path, "boris", Known(observations=("cat", "far")))


def test_observations_of_images_have_no_seconds_of_a_video(tmp_path):
    images = observed(1.0, 2.5, type="IMAGES", directories_list=["frames"], file={"1": ["x.mp4"]})
    source = read_annotations(boris(tmp_path / "p.boris", o=observed(1.0, 2.5), i=images), "boris", Known())
    assert source.videos == (SourceVideo("v", WALK[:1]),)
    assert "observation 'i' has no media file (it is live, or of images) and is left out with its 2" in source.losses[0]
