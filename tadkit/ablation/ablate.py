"""``tadkit ablate``: run a plan, and write its figures as one JSON file and one page."""

from __future__ import annotations

import json
import logging
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

from tadkit.ablation.cost import costs
from tadkit.ablation.figures import RESAMPLES, summarised
from tadkit.ablation.page import page_of
from tadkit.ablation.plan import Part, Plan
from tadkit.ablation.runs import Failed, Ran, compute_flow, run_parts
from tadkit.errors import TadkitError, UsageError
from tadkit.files import read_json, write_text
from tadkit.progress import Progress, Quiet
from tadkit.recipe.workspace import locked
from tadkit.version import __version__

_log = logging.getLogger(__name__)

FORMAT, VERSION = "tadkit-ablation", 1
JSON, PAGE = "ablation.json", "ablation.md"
PILOT_SEEDS = 2
"""Seeds after which an ablation without a pilot is its own."""


class Ablated(NamedTuple):
    """What an ablation gave.

    Attributes:
        figures: what :data:`JSON` holds (docs/formats.md); None if no seed is complete.
        done: how many stages of each complete part were done now, by its title; 0 if it was up to date.
        failed: parts that failed, by their titles.
        page: where the page is, if there are figures.
    """

    figures: dict[str, Any] | None
    done: dict[str, int]
    failed: dict[str, TadkitError]
    page: Path


def read_ablation(path: Path) -> dict[str, Any]:
    """The figures of an ablation that was written before.

    Raises:
        UsageError: the file is missing, is something else, damaged, or of a newer version.
    """
    content = read_json(path, error=UsageError)
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise UsageError(f"{path}: not an ablation; expected the {JSON} that tadkit ablate writes")
    try:
        if content["version"] > VERSION:
            raise UsageError(
                f"{path}: version {content['version']} of the format; this tadkit reads {VERSION}: upgrade it"
            )
        page_of(content)  # reads all that is used of it
    except (AttributeError, LookupError, StopIteration, TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(f"{path}: this ablation is damaged ({type(error).__name__}: {error})") from error
    return content


def pilot_of(plan: Plan, path: Path | None) -> dict[str, Any] | None:
    """An ablation whose differences say how many videos and seeds are needed: ``path``, or the plan's own so far.

    The plan's own file is written again in the end, so a damaged one is reported and not used.

    Raises:
        UsageError: ``path`` is not an ablation.
    """
    if path is not None:
        return read_ablation(path)
    own = plan.folder / JSON
    if not own.is_file():
        return None
    try:
        found = read_ablation(own)
    except UsageError as error:
        _log.warning("%s; it is not used, and will be written again", error)
        return None
    return found if found["recipe_digest"] == plan.recipe_digest else None


def ablate(
    plan: Plan,
    *,
    command: Sequence[str],
    device: str,
    workers: int,
    progress: Progress,
    piloted: Callable[[dict[str, Any]], None] | None = None,
) -> Ablated:
    """Run what is out of date, and write the figures of all complete seeds to the plan's folder.

    Args:
        plan: what to run.
        command: the words of the command line, for the record.
        device: ``auto``, ``cpu`` ...; several, separated by commas, are assigned to the workers in turn.
        workers: processes.
        progress: counts runs.
        piloted: called once, with the figures of the first two seeds when they are complete, or with all in the end.

    Raises:
        StoreError: another ablation is using the folder.
        TadkitError: the flow of a video cannot be computed.
    """
    ran: dict[Part, Ran] = {}
    failed: dict[str, TadkitError] = {}
    with locked(plan.whole):
        compute_flow(plan, device=device, workers=workers, progress=progress)
        with closing(run_parts(plan.parts, device=device, workers=workers, progress=progress)) as outcomes:
            for part, outcome in outcomes:
                if isinstance(outcome, Failed):
                    failed[part.title] = outcome.error
                    continue
                ran[part] = outcome
                if piloted is not None and len(_complete(plan, ran)) == PILOT_SEEDS < plan.seeds:
                    piloted(_written(plan, ran, command, failed, Quiet()))
                    piloted = None
        done = {part.title: ran[part].done for part in plan.parts if part in ran}
        if not _complete(plan, ran):
            return Ablated(None, done, failed, plan.folder / PAGE)
        figures = _written(plan, ran, command, failed, progress)
        if piloted is not None:
            piloted(figures)
        figures["cost"] = costs(plan, _first(plan, ran).workspace, device=device, progress=progress)
        _write(plan, figures)
        return Ablated(figures, done, failed, plan.folder / PAGE)


def _complete(plan: Plan, ran: dict[Part, Ran]) -> list[int]:
    """Seeds whose folds are all complete."""
    folds = Counter(part.seed for part in ran)
    return [seed for seed in range(plan.seeds) if folds[seed] == len(plan.folds)]


def _first(plan: Plan, ran: dict[Part, Ran]) -> Part:
    """The first part that is complete, in whatever order they ended."""
    return next(part for part in plan.parts if part in ran)


def _written(
    plan: Plan, ran: dict[Part, Ran], command: Sequence[str], failed: dict[str, TadkitError], progress: Progress
) -> dict[str, Any]:
    """Figures of the complete seeds, written as JSON and as a page."""
    recipe, labels = plan.whole.recipe, set(plan.whole.recipe.labels)
    judged = [item for item in plan.whole.items if any(item.name in fold for fold in plan.folds)]
    actions = Counter(a.label for item in judged for a in item.record.annotations if a.label in labels)
    figures: dict[str, Any] = {
        "format": FORMAT,
        "version": VERSION,
        "tadkit": __version__,
        "recipe": recipe.name,
        "recipe_digest": plan.recipe_digest,
        "command": shlex.join(["tadkit", *command]),
        "rows": list(plan.rows),
        "baseline": plan.baseline,
        "folds": [sorted(fold) for fold in plan.folds],
        "videos": len(judged),
        "actions": {label: actions[label] for label in recipe.labels},
        "evaluation": recipe.evaluation.model_dump(mode="json"),
        "resamples": RESAMPLES,
        **summarised(plan, ran[_first(plan, ran)].names, _complete(plan, ran), progress),
        "cost": {},
        "failed": {title: str(error) for title, error in failed.items()},
    }
    _write(plan, figures)
    return figures


def _write(plan: Plan, figures: dict[str, Any]) -> None:
    write_text(plan.folder / JSON, json.dumps(figures, indent=1) + "\n")
    write_text(plan.folder / PAGE, page_of(figures))
