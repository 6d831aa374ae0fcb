"""The front door: what ``import tadkit`` offers. The command line is a thin layer over the same functions."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import overload

from tadkit.config.loading import load_recipe
from tadkit.detection.detect import OnError, load_detector
from tadkit.detection.detections import Detections, VideoDetections
from tadkit.evaluation import MeanAveragePrecision, Protocol
from tadkit.evaluation.evaluate import AnnotationsByVideo, precision_of, tiou_of
from tadkit.progress import LogWarnings, Progress
from tadkit.recipe.run import RunResult
from tadkit.recipe.run import run as run_recipe
from tadkit.records import THUMOS14_TIOU, Dataset, Detection, read_dataset


@overload
def detect(  # type: ignore[overload-overlap]  # a str is an iterable, too; the first fits before
    videos: str | Path, *, model: str | Path | None = None, device: str = "auto"
) -> Detections: ...


@overload
def detect(
    videos: Iterable[str | Path],
    *,
    model: str | Path | None = None,
    device: str = "auto",
    on_error: OnError = "raise",
) -> VideoDetections: ...


def detect(
    videos: str | Path | Iterable[str | Path],
    *,
    model: str | Path | None = None,
    device: str = "auto",
    on_error: OnError = "raise",
) -> Detections | VideoDetections:
    """Detect actions in a video, or in several videos and folders of them.

    Loads the model at every call: to detect again and again, :func:`load_detector` once.

    Args:
        videos: one file gives its :class:`Detections`, a list gives :class:`VideoDetections`.
        model: name of a bundled model, or a detector's checkpoint; None is the bundled ``people-motion``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        on_error: with a list, ``collect`` keeps the errors of failed videos in ``failed`` instead of raising the first.

    Raises:
        VideoError: a video cannot be read.
        WeightsError: there is no such model, or it cannot be loaded.
        UsageError: the device is not available.
    """
    detector = load_detector(model, device=device)
    return detector.detect(videos) if isinstance(videos, str | Path) else detector.detect(videos, on_error=on_error)


def evaluate(
    detections: str | Path | Mapping[str, Sequence[Detection]] | Detections,
    annotations: str | Path | Dataset | AnnotationsByVideo,
    *,
    tiou: float | Sequence[float] | str = THUMOS14_TIOU,
    protocol: Protocol = "activitynet",
    subset: str | None = None,
    labels: Sequence[str] | None = None,
) -> MeanAveragePrecision:
    """Mean average precision of detections.

    Args:
        detections: a file, a mapping of video names to detections, or the :class:`Detections` of one video.
        annotations: a file, what :func:`read_annotations` gave, or a mapping of video names to annotations.
        tiou: one threshold, several, or text such as ``start:step:stop``; the default is THUMOS14's.
        protocol: ``activitynet`` or ``thumos14``: their figures differ by up to five points on the same files.
        subset: judge only this subset of annotated videos.
        labels: judge only these classes; None judges all that are annotated.

    Returns:
        Fractions: ``average_map``, ``map`` by threshold, ``per_class`` and more.

    Raises:
        AnnotationError: a file cannot be read, there is no such subset, or no video is in both.
        UsageError: ``tiou`` is not distinct thresholds from 0 to 1, or a mapping of annotations has no subsets.
    """
    found: Path | Mapping[str, Sequence[Detection]]
    match detections:
        case str():
            found = Path(detections)
        case Detections():
            found = {detections.video: detections}
        case _:
            found = detections
    truth = Path(annotations) if isinstance(annotations, str) else annotations
    return precision_of(found, truth, protocol=protocol, tiou=tiou_of(tiou), subset=subset, labels=labels)


def read_annotations(path: str | Path) -> Dataset:
    """Read ActivityNet-style annotations: videos by name, each with duration, subset and actions.

    Raises:
        AnnotationError: not such a file; the message names the file, the video and the value.
    """
    return read_dataset(Path(path))


def run(
    recipe: str | Path,
    *,
    overrides: Sequence[str] = (),
    device: str = "auto",
    workers: int = 1,
    progress: Progress | None = None,
) -> RunResult:
    """Run every stage of a recipe that is not up to date, and evaluate the result on the held-out videos.

    Args:
        recipe: a TOML file; relative paths in it start from its folder.
        overrides: settings laid over the file, as in ``["train.head.epochs=5"]``.
        device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
        workers: processes that compute flow.
        progress: reports every step; by default only warnings are logged.

    Returns:
        The run folder, what became of each stage, and the rows of the final table.

    Raises:
        SettingsError: the recipe or an override is wrong.
        TadkitError: a stage failed; finished stages are kept, and the next run resumes from there.
    """
    path = Path(recipe)
    loaded = load_recipe(path, overrides=overrides)
    return run_recipe(loaded, base=path.parent, device=device, workers=workers, progress=progress or LogWarnings())
