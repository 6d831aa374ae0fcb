"""``tadkit ablate``: rows of a recipe with several seeds and folds, and what their differences are worth."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from tadkit.cli.console import TerminalProgress, print_line, print_note, print_table, show_error
from tadkit.cli.options import PATH, device_option, example, set_option, workers_option
from tadkit.errors import UsageError

if TYPE_CHECKING:
    from tadkit.ablation.ablate import Ablated
    from tadkit.ablation.page import Table


class _Folds(click.ParamType[int]):
    """A number of folds, or ``all``."""

    name = "folds"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        """Parse to a number; all is 0."""
        if value == "all":
            return 0
        if not str(value).isdecimal() or int(value) < 1:
            self.fail(f"'{value}' is neither a number of folds nor all.", param, ctx)
        return int(value)


def _rows(text: str | None) -> tuple[str, ...]:
    return tuple(row.strip() for row in (text or "").split(",") if row.strip())


def _pair(text: str) -> tuple[str, str]:
    first, colon, second = text.partition(":")
    if not colon or not first or not second or first == second:
        raise UsageError(f"--compare {text}: expected two rows, such as decomposed:direct")
    return first, second


@click.command(
    short_help="Compare rows of a recipe over seeds and folds.",
    epilog=example(
        "tadkit ablate examples/made-up-tracks.toml --seeds 5 --compare decomposed:direct",
        "tadkit ablate examples/room.toml --rows teacher,rgb,direct,decomposed,two-stream --folds 4 --seeds 3",
        "tadkit ablate examples/room.toml --quick",
    ),
)
@click.argument("recipe", type=PATH, required=False)
@click.option("--rows", metavar="ROW,ROW", help="Rows to compare; by default those that the recipe compares.")
@click.option(
    "--seeds",
    type=click.IntRange(min=1),
    metavar="N",
    help="Number of seeds, 3 by default; they are added to those of the recipe.",
)
@click.option(
    "--folds",
    type=_Folds(),
    metavar="K",
    help="Number of folds, each of which holds out other videos, or "
    "groups of the split; all: one for each. By default 1, which holds out what the recipe does.",
)
@click.option(
    "--against", metavar="ROW", help="Row that the others are compared with; by default rgb, or else the first."
)
@click.option("--compare", "pairs", multiple=True, metavar="ROW:ROW", help="Compare these two, too. May be repeated.")
@click.option(
    "--out",
    type=PATH,
    metavar="DIR",
    help="Folder of the ablation; by default NAME-ablation beside the recipe's run folder, or NAME-quick.",
)
@click.option(
    "--quick",
    is_flag=True,
    help="A quarter of the epochs and two views in training, one seed, and the rows "
    "teacher, rgb, direct, decomposed and two-stream, unless others are given.",
)
@click.option(
    "--pilot",
    type=PATH,
    metavar="FILE",
    help="The ablation.json of an earlier ablation, from which the number of videos and seeds is estimated.",
)
@click.option("--render", type=PATH, metavar="FILE", help="Print the page of an ablation.json, and run nothing.")
@workers_option("one seed and fold")
@device_option
@set_option
@click.pass_context
def ablate(
    context: click.Context,
    recipe: Path | None,
    rows: str | None,
    seeds: int | None,
    folds: int | None,
    against: str | None,
    pairs: tuple[str, ...],
    out: Path | None,
    quick: bool,
    pilot: Path | None,
    render: Path | None,
    workers: int,
    device: str,
    overrides: tuple[str, ...],
) -> None:
    """Train and evaluate all rows of RECIPE with several seeds and folds, and compare them.

    Flow is computed once, and a teacher once for each seed and fold. What is up to date is not done again: an
    interrupted ablation resumes, and further rows and seeds are added. ablation.json and ablation.md in the folder hold
    all figures, with paired intervals over videos and seeds; failed runs are reported, and the rest still run.
    """
    if render is not None:
        _render(render)
        return
    if recipe is None:
        raise UsageError("ablate: give a RECIPE, or --render FILE")
    from tadkit.ablation.ablate import ablate, pilot_of
    from tadkit.ablation.plan import planned
    from tadkit.config.loading import load_recipe

    with TerminalProgress() as progress:
        plan = planned(
            load_recipe(recipe, overrides=overrides),
            base=recipe.parent,
            out=out,
            rows=_rows(rows),
            seeds=seeds,
            folds=folds,
            against=against,
            compare=[_pair(text) for text in pairs],
            quick=quick,
            device=device,
            progress=progress,
        )
        before = pilot_of(plan, pilot)
        if before is None:
            print_note("no pilot, so how many videos and seeds a difference needs is not known yet")
        else:
            _print_power(before, seeds=plan.seeds)
        result = ablate(
            plan,
            command=context.find_root().obj,
            device=device,
            workers=workers,
            progress=progress,
            piloted=None if before is not None else lambda figures: _print_power(figures, seeds=plan.seeds),
        )
    _print_result(result)
    context.exit(next((error.exit_code for error in result.failed.values()), 0))


def _render(path: Path) -> None:
    from tadkit.ablation.ablate import read_ablation
    from tadkit.ablation.page import page_of

    click.echo(page_of(read_ablation(path)), nl=False)


def _print_result(result: Ablated) -> None:
    from tadkit.ablation.page import differences_table, headroom_line, rows_table

    for title, count in result.done.items():
        print_line(f"{title}: {f'{count} stages done' if count else 'up to date'}")
    if result.figures is not None:
        print_line(headroom_line(result.figures).replace("*", ""))
        _print(rows_table(result.figures))
        _print(differences_table(result.figures))
        print_line(f"written to {result.page}")
    for title, error in result.failed.items():
        show_error(type(error)(*(f"{title}: {message}" for message in error.args)))


def _print_power(figures: dict[str, Any], *, seeds: int) -> None:
    from tadkit.ablation.page import power_note, power_table

    print_line(f"{power_note(figures)}:")
    _print(power_table(figures, seeds=seeds))


def _print(table: Table) -> None:
    headings, rows = table
    print_table(headings, rows, right=headings[1:])
