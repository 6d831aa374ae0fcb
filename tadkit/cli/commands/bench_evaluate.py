"""``tadkit bench evaluate``: the evaluator and suppression beside plain loops."""

from __future__ import annotations

import json

import click

from tadkit.cli.options import example


@click.command(
    short_help="Time the evaluator and suppression.",
    epilog=example("tadkit bench evaluate --videos 20 --rounds 1 --json"),
)
@click.option("--videos", type=click.IntRange(min=1), default=200, show_default=True, help="Made-up videos.")
@click.option("--detections", type=click.IntRange(min=1), default=200, show_default=True, help="Detections a video.")
@click.option("--classes", type=click.IntRange(min=1), default=20, show_default=True, help="Classes.")
@click.option(
    "--candidates", type=click.IntRange(min=1), default=2000, show_default=True, help="Candidates to suppress."
)
@click.option("--rounds", type=click.IntRange(min=1), default=3, show_default=True, help="Runs of each, in turn.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Seed of the made-up data.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def evaluate(
    videos: int, detections: int, classes: int, candidates: int, rounds: int, seed: int, as_json: bool
) -> None:
    """Time average precision and soft-NMS beside plain loops of the same rules, on made-up data.

    The loops are also what the results are held to. Both take turns, round after round; figures are medians.
    """
    from tadkit.bench.evaluate import bench_evaluate, report_json
    from tadkit.cli.console import TerminalProgress, print_table

    with TerminalProgress() as progress:
        result = bench_evaluate(
            videos=videos,
            detections=detections,
            classes=classes,
            candidates=candidates,
            rounds=rounds,
            seed=seed,
            progress=progress,
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    click.echo(f"{result.machine['cpu']}, {result.threads} threads of torch; {rounds} rounds")
    named = {
        f"evaluator: {videos} videos x {detections} detections, {classes} classes": result.evaluator,
        f"soft-NMS: {candidates} candidates in {classes} classes": result.suppression,
    }
    headings = ("work", "tadkit ms", "loop ms", "times faster", "largest difference")
    rows = [
        (
            name,
            f"{1000 * one.tadkit_s:.2f}",
            f"{1000 * one.loop_s:.1f}",
            f"{one.times_faster:.1f}",
            f"{one.largest_difference:.1e}",
        )
        for name, one in named.items()
    ]
    print_table(headings, rows, right=headings[1:])
