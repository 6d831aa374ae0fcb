"""Each thing that is wrong with annotations is found, and says which video it is about."""

from __future__ import annotations

from typing import Any

import pytest

from tadkit.annotations.findings import Finding
from tadkit.annotations.mistakes import Entry, check_entries
from tadkit.annotations.presets import ACTIVITYNET, CHARADES, EPIC_KITCHENS, THUMOS14


def entry(name: str = "v", **content: Any) -> Entry:
    return Entry("a.json", name, {"subset": "training", "duration": 10.0, "annotations": [], **content})


def found(*entries: Entry, preset=None) -> list[Finding]:
    return list(check_entries(entries, preset))


def annotated(*segment: Any, label: str = "walk") -> Entry:
    return entry(annotations=[{"segment": list(segment), "label": label}])


@pytest.mark.parametrize(
    ("name", "what"),
    [
        ("cam\x1b[31m1", "control-characters"),
        ("two\nlines", "control-characters"),
        ("../../outside", "path"),
        ("a/../../b", "path"),
        ("..\\b", "path"),
        ("/etc/passwd", "path"),
        ("C:\\videos\\a", "path"),
        ("C:/videos/a", "path"),
        ("n" * 241, "long-name"),
        ("n" * 240 + "/" + "\N{LATIN SMALL LETTER O WITH DIAERESIS}" * 121, "long-name"),
        ("  ", "name"),
        ("", "name"),
    ],
)
def test_a_name_that_cannot_be_that_of_a_file_is_an_error(name, what):
    (finding,) = found(entry(name))
    assert (finding.level, finding.what) == ("error", what)


@pytest.mark.parametrize(
    "name", ["a..b", "v_1", "day 1/cam:2", "n" * 240, "Kuechenvideo \N{LATIN SMALL LETTER SHARP S}"]
)
def test_an_odd_name_that_a_file_can_have_is_right(name):
    assert found(entry(name)) == []


def test_what_is_right_has_no_findings():
    assert found(annotated(0, 10.0), entry("w", subset="testing")) == []


@pytest.mark.parametrize(
    ("wrong", "level", "what", "said"),
    [
        (annotated("1", "2"), "warning", "text", "has text instead of numbers"),
        (entry(duration="10"), "warning", "text", "duration is text, '10'"),
        (entry(fps="25"), "warning", "text", "fps is text, '25'"),
        (entry(duration=None), "error", "duration", "has no duration"),
        (entry(fps=0), "error", "fps", "fps is 0; expected a positive number"),
        (entry(duration=1e300), "error", "duration", "expected a positive"),
        (entry(duration=10**400), "error", "duration", "expected a positive"),
        (entry(duration=-1), "error", "duration", "duration is -1; expected a positive"),
        (annotated(-1, 2), "error", "negative", "starts before the video does"),
        (annotated(3, 2), "error", "reversed", "ends before it starts"),
        (annotated(3, 3), "warning", "empty", "has no length"),
        (annotated(3, 10.5), "warning", "past-end", "ends past the end of the video, 10 s"),
        (annotated(11, 12), "error", "past-end", "lies past the end of the video, 10 s"),
        (annotated(1), "error", "form", "expected [start, end]"),
        (annotated("x", 2), "error", "form", "expected [start, end]"),
        (annotated(1, 2, label=""), "error", "form", "no text 'label'"),
        (entry(annotations={}), "error", "form", "annotations that are not a list"),
        (Entry("a.json", "v", 3), "error", "form", "is not an object"),
        (entry(subset="val"), "error", "subset", "unknown subset 'val'"),
        (entry(subset=""), "warning", "subset", "has no subset"),
        (annotated(1, 2, label="weld\x1b[31m"), "error", "control-characters", "label 'weld\x1b[31m' has control"),
        (annotated(1, 2, label="\u202edlew"), "error", "control-characters", "has control characters"),
    ],
)
def test_one_wrong_thing_is_one_finding(wrong, level, what, said):
    (finding,) = found(wrong)
    assert (finding.level, finding.video, finding.what) == (level, "v", what)
    assert said in finding.message
    assert str(finding).startswith(f"{level}: 'v': ")
    assert "\n" not in str(finding)


@pytest.mark.parametrize("other", ["v", "v_v", "V.mp4"])
def test_a_video_in_two_splits_is_found_under_either_name(other):
    (finding,) = found(entry("v"), entry(other, subset="testing"))
    assert (finding.level, finding.what) == ("error", "two-splits")
    assert "training and testing" in finding.message


def test_a_name_that_comes_twice_in_one_split_is_found():
    (finding,) = found(entry(), entry())
    assert finding.what == "twice"


def test_duplicates_are_of_one_label():
    both = [{"segment": [1, 2], "label": label} for label in ("Diving", "CliffDiving", "Diving")]
    (finding,) = found(entry(annotations=both))
    assert finding.message == "'Diving' [1, 2] is listed 2 times"


def test_labels_that_differ_in_spelling_only_are_told_at_the_rarer_one():
    first = entry("v", annotations=[{"segment": [i, i + 1], "label": "sit down"} for i in range(3)])
    second = entry("w", annotations=[{"segment": [1, 2], "label": "Sit-Down"}])
    (finding,) = found(first, second)
    assert finding.video == "w"
    assert "'sit down' (3), 'Sit-Down' (1)" in finding.message


def test_a_preset_knows_classes_and_counts():
    wrong = annotated(1, 2, label="Walking")
    findings = found(wrong, entry("w", subset="testing"), preset=THUMOS14)
    assert [finding.what for finding in findings] == ["label", "counts", "counts"]
    assert "training: 1 videos with 1 instances; published counts: 200/3007" in findings[1].message
    assert not [f for f in found(annotated(1, 2, label="Ambiguous"), preset=THUMOS14) if f.what == "label"]


def whole(finding: Finding) -> tuple[str, str]:
    assert finding.video == ""
    return finding.level, finding.message


def test_a_preset_misses_a_split_that_is_absent():
    (absent,) = [f for f in found(entry(), preset=THUMOS14) if f.what != "counts"]
    said = "no video is in subset 'testing' of thumos14; check files that belong together in one call"
    assert whole(absent) == ("error", said)
    assert found(preset=THUMOS14) == []  # told as no-videos


def test_a_preset_knows_a_split_by_its_name():
    misnamed = [entry(), entry("w", subset="validation"), entry("x", subset="validation")]
    absent, strange = (f for f in found(*misnamed, preset=THUMOS14) if f.what != "counts")
    assert absent.what == "absent-subset"
    said = "2 videos are in subset 'validation'; thumos14 has only training, testing"
    assert whole(strange) == ("warning", said)


@pytest.mark.parametrize("more", [(), ("testing",)])
def test_testing_videos_of_activitynet_may_be_there_or_not(more):
    videos = [entry(subset, subset=subset) for subset in ("training", "validation", *more)]
    assert {f.what for f in found(*videos, preset=ACTIVITYNET)} == {"counts"}


def test_what_lies_past_the_end_as_published_is_one_warning_and_anything_else_an_error():
    def diving(name: str, *starts_s: float) -> Entry:
        actions = [{"segment": [start_s, start_s + 2], "label": "Diving"} for start_s in starts_s]
        return entry(name, subset="testing", duration=117.2, annotations=actions)

    published = (diving("video_test_0001081", 20.0, 127.5), diving("video_test_0000814", 233.6, 305.5))
    mistakes = (diving("video_test_0000814 2", 233.6), diving("video_test_0001081 2", 150.0))
    kinds = {f.what: f for f in found(*published, preset=THUMOS14)}
    assert set(kinds) == {"published-past-end", "absent-subset", "counts"}
    said = "3 actions lie past the end of their videos, as published for thumos14: "
    said += "'video_test_0001081' (1), 'video_test_0000814' (2)"
    assert whole(kinds["published-past-end"]) == ("warning", said)
    for wrong in (*mistakes, diving("video_test_0001081", 150.0)):
        assert ("error", "past-end") in {(f.level, f.what) for f in found(wrong, preset=THUMOS14)}
    assert [f.what for f in found(*published)] == ["past-end"] * 3


def test_presets_without_classes_take_any_label_and_know_subsets():
    walk = {"annotations": [{"segment": [1, 2], "label": "walk"}]}
    (counts,) = found(entry(subset="validation", **walk), entry("w", subset="training"), preset=EPIC_KITCHENS)
    said = "validation: 1 videos with 1 instances; published counts: 138/9668 (official)"
    assert whole(counts) == ("warning", said)
    assert {f.what for f in found(entry(**walk), preset=CHARADES)} == {"absent-subset", "counts"}


def test_presets_have_their_numbers():
    assert len(THUMOS14.labels) == 20
    assert (THUMOS14.classes["BaseballPitch"], THUMOS14.classes["VolleyballSpiking"]) == (7, 97)
    assert len(ACTIVITYNET.labels) == 200
    assert list(ACTIVITYNET.labels) == sorted(ACTIVITYNET.labels)
