"""What ELAN's files say besides times: media, units, values, and files that are not annotations."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tadkit.annotations.formats import Known, Source, guess, read_annotations
from tadkit.errors import AnnotationError
from tadkit.records import Annotation

FILM = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/my%20v.mp4" MIME_TYPE="video/mp4"/>'
SOUND = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/v_16k.wav" MIME_TYPE="audio/x-wav" TIME_ORIGIN="7000"/>'


def annotation(value: str, *, slots: tuple[str, str] = ("ts1", "ts2"), name: str = "a1", more: str = "") -> str:
    refs = f'ANNOTATION_ID="{name}" TIME_SLOT_REF1="{slots[0]}" TIME_SLOT_REF2="{slots[1]}" {more}'
    inner = f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>"
    return f"<ANNOTATION><ALIGNABLE_ANNOTATION {refs}>{inner}</ALIGNABLE_ANNOTATION></ANNOTATION>"


def reference(value: str, more: str) -> str:
    inner = f"<ANNOTATION_VALUE>{value}</ANNOTATION_VALUE>"
    return f"<ANNOTATION><REF_ANNOTATION {more}>{inner}</REF_ANNOTATION></ANNOTATION>"


def tier(*items: str, name: str = "hands", kind: str = "t") -> str:
    return f'<TIER TIER_ID="{name}" LINGUISTIC_TYPE_REF="{kind}">{"".join(items)}</TIER>'


def eaf(*tiers: str, media: str = FILM, units: str = "milliseconds", slots: str | None = None, more: str = "") -> str:
    order = (
        slots or '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2000"/>'
    )
    return (
        f'<?xml version="1.0" encoding="UTF-8"?><ANNOTATION_DOCUMENT FORMAT="3.0"><HEADER TIME_UNITS="{units}">{media}'
        f"</HEADER><TIME_ORDER>{order}</TIME_ORDER>{''.join(tiers)}{more}</ANNOTATION_DOCUMENT>"
    )


ALL = Known()


@pytest.fixture
def read(tmp_path: Path):
    def call(text: str, known: Known = ALL) -> Source:
        path = tmp_path / "a.eaf"
        path.write_text(text)
        return read_annotations(path, "elan", known)

    return call


def test_the_video_gives_name_and_origin_although_its_sound_is_listed_first(read):
    (video,) = read(eaf(tier(annotation("wave")), media=SOUND + FILM)).videos
    assert (video.name, video.annotations) == ("my v", (Annotation(1.0, 2.0, "wave"),))


def test_the_origin_is_that_of_the_video(read):
    film = FILM.replace("/>", ' TIME_ORIGIN="500"/>')
    (video,) = read(eaf(tier(annotation("wave")), media=SOUND + film)).videos
    assert video.annotations == (Annotation(1.5, 2.5, "wave"),)


def test_of_several_videos_the_first_is_annotated_and_the_others_are_named(read):
    other = '<MEDIA_DESCRIPTOR MEDIA_URL="file:///x/side.MOV" MIME_TYPE="unknown" TIME_ORIGIN="500"/>'
    source = read(eaf(tier(annotation("wave")), media=FILM + other))
    assert source.videos[0].annotations == (Annotation(1.0, 2.0, "wave"),)
    assert "shows 2 videos; actions are those of 'my v', not of 'side'" in source.remarks[0]


def test_without_media_the_file_gives_the_name_and_says_so(read):
    source = read(eaf(tier(annotation("wave")), media=""))
    assert source.videos[0].name == "a"
    assert "names no media file; the video is called 'a'" in source.remarks[0]


@pytest.mark.parametrize(("units", "start_s"), [("PAL-frames", 40.0), ("NTSC-frames", 33.366667)])
def test_slots_in_frames_are_read_as_frames_and_reported(units, start_s, read):
    source = read(eaf(tier(annotation("wave")), units=units))
    assert source.videos[0].annotations[0].start_s == start_s
    assert f"TIME_UNITS is '{units}'" in source.remarks[0]


def test_unknown_units_are_refused(read):
    with pytest.raises(AnnotationError, match="TIME_UNITS is 'minutes'; expected milliseconds, PAL-frames"):
        read(eaf(tier(annotation("wave")), units="minutes"))


VOCABULARY = (
    '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="t" CONTROLLED_VOCABULARY_REF="cv"/>'
    '<LINGUISTIC_TYPE LINGUISTIC_TYPE_ID="u" CONTROLLED_VOCABULARY_REF="other"/>'
    '<CONTROLLED_VOCABULARY CV_ID="other"><CV_ENTRY_ML CVE_ID="cveid0"><CVE_VALUE>nod</CVE_VALUE></CV_ENTRY_ML>'
    '</CONTROLLED_VOCABULARY><CONTROLLED_VOCABULARY CV_ID="cv"><CV_ENTRY_ML CVE_ID="cveid0">'
    '<CVE_VALUE LANG_REF="eng">wave</CVE_VALUE><CVE_VALUE LANG_REF="nld">zwaai</CVE_VALUE></CV_ENTRY_ML>'
    "</CONTROLLED_VOCABULARY>"
)


@pytest.mark.parametrize(
    ("value", "label", "said"), [("", "wave", 0), ("zwaai", "zwaai", 0), ("old name", "old name", 1)]
)
def test_an_entry_of_the_tier_s_vocabulary_gives_the_value_that_is_missing(value, label, said, read):
    source = read(eaf(tier(annotation(value, more='CVE_REF="cveid0"')), more=VOCABULARY))
    assert [a.label for a in source.videos[0].annotations] == [label]
    assert sum("differ from their controlled vocabulary" in remark for remark in source.remarks) == said


def test_annotations_without_a_value_are_labelled_by_their_tier_and_reported(read):
    source = read(eaf(tier(annotation(" \n "), annotation("big\n  wave", name="a2"))))
    assert {a.label for a in source.videos[0].annotations} == {"hands", "big wave"}
    assert "without a value are labelled by their tier: 'hands' (1)" in source.remarks[0]


NO_TIMES = (
    '<TIME_SLOT TIME_SLOT_ID="ts1" TIME_VALUE="1000"/><TIME_SLOT TIME_SLOT_ID="ts2" TIME_VALUE="2000"/>'
    + "".join(f'<TIME_SLOT TIME_SLOT_ID="ts{n}"/>' for n in (3, 4, 5))
)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (annotation("x", slots=("ts2", "ts3"), name="a9"), r"'x' \(a9\) is left out: of its time slots ts2 and ts3"),
        (annotation("x", slots=("ts4", "ts5"), name="a9"), r"'x' \(a9\) .* one has no time and is in no chain"),
        (annotation("x", slots=("ts1", "none"), name="a9"), r"'x' \(a9\) .* ts1 and none"),
        (reference("x", 'ANNOTATION_ID="a9"'), r"'x' \(a9\) is left out: it refers to nothing, which has no time"),
        (reference("x", 'ANNOTATION_ID="a9" ANNOTATION_REF="a8"'), "refers to a8, which has no time"),
        (reference("x", 'ANNOTATION_ID="a9" ANNOTATION_REF="a9"'), "refers to a9, which has no time"),
    ],
)
def test_an_annotation_without_a_time_is_lost_and_placed_and_costs_no_other(bad, said, read):
    source = read(eaf(tier(annotation("wave")), tier(bad, name="bad"), slots=NO_TIMES))
    assert source.videos[0].annotations == (Annotation(1.0, 2.0, "wave"),)
    (loss,) = source.losses
    assert "tier 'bad'" in loss
    assert re.search(said, loss)


def test_a_circle_of_slots_or_tiers_ends(read):
    slots = NO_TIMES
    circle = tier(annotation("x", slots=("ts1", "ts3")), annotation("y", slots=("ts3", "ts3"), name="a2"))
    own_parent = circle.replace("LINGUISTIC_TYPE_REF", 'PARENT_REF="hands" LINGUISTIC_TYPE_REF')
    source = read(eaf(own_parent, tier(annotation("wave", name="a3"), name="head"), slots=slots))
    assert len(source.losses) == 2
    assert source.videos[0].annotations == (Annotation(1.0, 2.0, "wave"),)
    with pytest.raises(AnnotationError, match="no action is left, so 'my v' is left out"):
        read(eaf(own_parent, slots=slots))


@pytest.mark.parametrize("suffix", [".etf", ".pfsx", ".ecv"])
def test_elan_s_other_files_are_refused_with_the_way_out(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    path.write_text(eaf())
    with pytest.raises(AnnotationError, match=r"and no annotations; give the \.eaf file"):
        guess(path)
    with pytest.raises(AnnotationError, match=r"and no annotations; give the \.eaf file"):
        read_annotations(path, "elan", Known())


def test_a_damaged_file_or_two_of_one_video_cost_no_other_file(tmp_path):
    (tmp_path / "a.eaf").write_text(eaf(tier(annotation("wave"))))
    (tmp_path / "b.eaf").write_text(eaf(tier(annotation("nod")), media=FILM.replace("my%20v", "w")))
    (tmp_path / "c.eaf").write_text("<ANNOTATION_DOC")
    (tmp_path / "d.EAF").write_text(eaf(tier(annotation("nod")), media=FILM.replace("my%20v", "w")))
    source = read_annotations(tmp_path, "elan", Known())
    assert [video.name for video in source.videos] == ["my v"]
    assert len(source.losses) == 2
    assert "c.eaf: not XML" in source.losses[0]
    assert "the video 'w' is annotated 2 times and left out; keep one of these files" in source.losses[1]


def test_a_file_without_the_chosen_tier_is_left_out_and_not_taken_for_a_video_without_actions(tmp_path):
    (tmp_path / "a.eaf").write_text(eaf(tier(annotation("wave"))))
    (tmp_path / "b.eaf").write_text(eaf(tier(annotation("nod"), name="head"), media=FILM.replace("my%20v", "w")))
    source = read_annotations(tmp_path, "elan", Known(tiers=("hands",)))
    assert [video.name for video in source.videos] == ["my v"]
    assert "b.eaf: left out: it has none of the chosen tiers, but 'head'" in source.losses[0]


def test_a_time_slot_that_is_no_number_costs_only_the_annotations_that_use_it(read):
    values = ("0", "1000", "abc", "", "4000", "5000")
    slots = "".join(
        f'<TIME_SLOT TIME_SLOT_ID="ts{n}" TIME_VALUE="{value}"/>'.replace(' TIME_VALUE=""', "")
        for n, value in enumerate(values, start=1)
    )
    chain = [annotation(f"c{n}", slots=(f"ts{n}", f"ts{n + 1}"), name=f"a{n}") for n in range(1, 6)]
    source = read(eaf(tier(*chain), slots=slots))
    assert [video.annotations for video in source.videos] == [(Annotation(0, 1, "c1"), Annotation(4, 5, "c5"))]
    assert [loss.partition("tier 'hands': ")[2].partition(" (")[0] for loss in source.losses] == [
        "'c2'",
        "'c3'",
        "'c4'",
    ]
    assert all("depends on a time slot whose TIME_VALUE is not a number" in loss for loss in source.losses)
