"""``tadkit data convert``: convert annotations of datasets and tools to tadkit's format or to a tool's."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from tadkit.annotations.durations import completed, read_durations, with_durations
from tadkit.annotations.formats import (
    Format,
    Known,
    SourceVideo,
    Tool,
    first_losses,
    guess,
    read_annotations,
    read_classes,
    write_annotations,
)
from tadkit.annotations.placing import inside, read_starts, started
from tadkit.annotations.video_times import VideoTimes
from tadkit.errors import AnnotationError, UsageError
from tadkit.records import AMBIGUOUS, Dataset, VideoRecord, check_subset, write_dataset
from tadkit.video.discovery import find_video

_NUMBERED: tuple[Format, ...] = ("multithumos", "charades", "epic-kitchens")
_IN_FRAMES: tuple[Tool, ...] = ("cvat", "label-studio")
_WITH_ATTRIBUTES: tuple[Tool, ...] = ("cvat", "label-studio", "via")
_WITH_SUBJECTS: tuple[Tool, ...] = ("boris", "elan")


@dataclass(frozen=True)
class SubsetCounts:
    """Counts of one subset.

    Attributes:
        videos: all videos.
        with_actions: videos with at least one instance.
        instances: annotations other than the ambiguous ones.
        ambiguous: annotations labelled ``Ambiguous`` (THUMOS14).
        classes: labels of the instances.
    """

    videos: int
    with_actions: int
    instances: int
    ambiguous: int
    classes: int


@dataclass(frozen=True)
class Conversion:
    """What was converted.

    Attributes:
        form: the source's format.
        counts: counts by subset, sorted by name.
        remarks: what was assumed, or left out without losing a label.
        losses: labels that were not converted, each with its place and the reason.
    """

    form: Format
    counts: Mapping[str, SubsetCounts]
    remarks: tuple[str, ...]
    losses: tuple[str, ...] = ()


def convert(
    source: Path,
    out: Path,
    *,
    form: Format | None = None,
    to: Tool | None = None,
    subsets: Collection[str] = (),
    durations: Sequence[Path] = (),
    videos: Path | None = None,
    classes: Path | None = None,
    fps: float | None = None,
    noun: bool = False,
    present_only: bool = False,
    attribute: str | None = None,
    rater: str | None = None,
    tiers: Sequence[str] = (),
    tier_types: Sequence[str] = (),
    subjects: Sequence[str] = (),
    observations: Sequence[str] = (),
    starts: Path | None = None,
) -> Conversion:
    """Convert annotations; what cannot be converted is in the result, and the rest is written.

    Args:
        source: file or folder.
        out: output file; for ELAN and CVAT a folder.
        form: the source's format; None detects it.
        to: a tool's format; None writes tadkit's, which needs a duration for every video.
        subsets: keep only these, named as in the result; empty keeps all.
        durations: csv files of durations (docs/data.md) for videos without one in the source.
        videos: folder of the videos, for durations, frame stamps and file names.
        classes: class list for sources that have numbers only.
        fps: frame rate of frame-based formats: for Label Studio that of the labelling interface, which always
            decides; for CVAT used when neither source nor video gives one.
        noun: EPIC-KITCHENS: use nouns as labels instead of verbs.
        present_only: leave out videos without a file in ``videos``, with a remark.
        attribute: the attribute (CVAT, VIA) or control (Label Studio) that holds the classes; None detects it.
        rater: whose labels to use where several people labelled a video (Label Studio).
        tiers: ELAN: names or patterns of the tiers to read; empty reads all.
        tier_types: ELAN: the same for linguistic types.
        subjects: BORIS's subjects or ELAN's participants to read; empty reads all.
        observations: BORIS's observations to read; empty reads all.
        starts: csv file of what the labels' clock shows at the first frame of each video, for sources on another
            clock than their videos.

    Raises:
        AnnotationError: the source cannot be read or has no video, a subset does not exist, or a duration is missing.
        VideoError: a video of ``videos`` cannot be read.
        UsageError: ``videos`` is not a folder, or is needed but not given; an option does not apply to these
            formats; or ``out`` would overwrite the source.
    """
    if present_only and videos is None:
        raise UsageError("--present-only keeps the videos in a folder; name it with --videos")
    known = Known(
        classes=None if classes is None else read_classes(classes),
        noun=noun,
        fps=fps,
        frame_times={} if videos is None else VideoTimes(videos),
        attribute=attribute,
        rater=rater,
        tiers=tuple(tiers),
        tier_types=tuple(tier_types),
        subjects=tuple(subjects),
        observations=tuple(observations),
    )
    form = guess(source) if form is None else form
    _refuse_unused(form, to, known)
    _refuse_own_place(source, form, out, to)
    lengths = {name: entry for path in durations for name, entry in read_durations(path, known).items()}
    read = read_annotations(source, form, replace(known, lengths=lengths))
    if not read.videos:
        raise AnnotationError("; ".join((f"{source}: no labelled video", *read.remarks)))
    remarks, losses = list(read.remarks), list(read.losses)
    moved = read.videos if starts is None else started(read.videos, read_starts(starts), starts)
    kept = _of_subsets(moved, subsets, source)
    if videos is not None and present_only:
        kept = _present(kept, videos, source, remarks)
    kept = [completed(video, lengths, known, form, remarks) for video in kept]
    kept, outside, late = inside(kept, form, source)
    remarks, losses = [*remarks, *late], [*losses, *outside]
    if not kept:
        raise AnnotationError("; ".join((f"{source}: no labelled video", *first_losses(losses))))
    if to is None:
        kept = _without_ambiguous_only(kept, source, remarks)
        kept = with_durations(kept, source, videos, losses)
        write_dataset(out, Dataset({video.name: _record(video) for video in kept}))
    else:
        write_annotations(out, to, kept, known)
    return Conversion(form, counted(kept), tuple(remarks), tuple(losses))


def _refuse_unused(form: Format, to: Tool | None, known: Known) -> None:
    rules: tuple[tuple[str, bool, tuple[Format, ...], set[Format | Tool | None]], ...] = (
        ("--noun", known.noun, ("epic-kitchens",), {form}),
        ("--classes", known.classes is not None, _NUMBERED, {form}),
        ("--fps", known.fps is not None, _IN_FRAMES, {form, to}),
        ("--attribute", known.attribute is not None, _WITH_ATTRIBUTES, {form}),
        ("--rater", known.rater is not None, ("label-studio",), {form}),
        ("--tier", bool(known.tiers), ("elan",), {form}),
        ("--tier-type", bool(known.tier_types), ("elan",), {form}),
        ("--subject", bool(known.subjects), _WITH_SUBJECTS, {form}),
        ("--observation", bool(known.observations), ("boris",), {form}),
    )
    for option, given, forms, used in rules:
        if given and not used & set(forms):
            raise UsageError(f"{option} applies only to {', '.join(forms)}, and this is {form}; leave it out")


def _refuse_own_place(source: Path, form: Format, out: Path, to: Tool | None) -> None:
    """Never overwrite annotations that a person made: the source file, or a file of the source folder."""
    if out.resolve() == source.resolve() or (form == to and out.resolve() == source.resolve().parent):
        raise UsageError(f"--out {out} would overwrite the source annotations; name another place")


def _present(videos: Sequence[SourceVideo], folder: Path, source: Path, remarks: list[str]) -> list[SourceVideo]:
    """Videos that have a file; a remark gives the number of the others."""
    kept = [video for video in videos if find_video(video.name, folder) is not None]
    if len(kept) < len(videos):
        remarks.append(f"{source}: {len(videos) - len(kept)} of {len(videos)} videos are not in {folder}; left out")
    return kept


def _without_ambiguous_only(videos: Sequence[SourceVideo], source: Path, remarks: list[str]) -> list[SourceVideo]:
    """Leave out videos of unknown length that have only ambiguous instances, with a remark: THUMOS14 has one."""
    kept = []
    for video in videos:
        only_ambiguous = video.annotations and all(a.label == AMBIGUOUS for a in video.annotations)
        if only_ambiguous and video.duration_s is None:
            count = len(video.annotations)
            remarks.append(f"{source}: '{video.name}' is left out: only ambiguous instances ({count}), and no duration")
        else:
            kept.append(video)
    return kept


def _of_subsets(videos: Sequence[SourceVideo], subsets: Collection[str], source: Path) -> list[SourceVideo]:
    for subset in subsets:
        check_subset(subset, [video.subset for video in videos], where=str(source))
    return [video for video in videos if not subsets or video.subset in subsets]


def _record(video: SourceVideo) -> VideoRecord:
    assert video.duration_s is not None
    return VideoRecord(video.name, video.duration_s, video.subset, video.annotations, video.fps)


def counted(videos: Sequence[SourceVideo | VideoRecord]) -> dict[str, SubsetCounts]:
    """Counts of each subset."""
    found = {}
    for subset in sorted({video.subset for video in videos}):
        inside = [video for video in videos if video.subset == subset]
        labels = [[a.label for a in video.annotations if a.label != AMBIGUOUS] for video in inside]
        instances = sum(map(len, labels))
        found[subset] = SubsetCounts(
            videos=len(inside),
            with_actions=sum(1 for of_video in labels if of_video),
            instances=instances,
            ambiguous=sum(len(video.annotations) for video in inside) - instances,
            classes=len({label for of_video in labels for label in of_video}),
        )
    return found
