"""``tadkit bench heads``."""

from __future__ import annotations

import json

import click

from tadkit.cli.options import device_option, example


@click.command(
    short_help="Time the anchor-free heads.",
    epilog=example("tadkit bench heads --json", "tadkit bench heads --head actionformer --steps 256 --rounds 1"),
)
@click.option("--head", "names", multiple=True, metavar="NAME", help="Only this head. May be given again.")
@click.option(
    "--steps", type=click.IntRange(64, 65536), default=2304, show_default=True, help="Feature steps of a window."
)
@click.option("--rounds", type=click.IntRange(min=1), default=5, show_default=True, help="Timed runs of each, in turn.")
@click.option("--threads", type=click.IntRange(min=1), help="Threads of torch; by default all cores.")
@device_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, figures in full precision.")
def heads(names: tuple[str, ...], steps: int, rounds: int, threads: int | None, device: str, as_json: bool) -> None:
    """Time the heads on tracks of THUMOS14's form: 2048 channels, 20 classes.

    A forward pass of one track, and a training step of two (forward, losses, backward; no optimiser). ActionFormer,
    TriDet and TemporalMaxer have their authors' sizes, the heads that see windows tadkit's defaults; those take a
    track's windows as a batch. Heads take turns, round after round; figures are medians.
    """
    from tadkit.bench.heads import bench_heads, report_json
    from tadkit.cli.console import TerminalProgress, print_table
    from tadkit.devices import torch_device

    with TerminalProgress() as progress:
        result = bench_heads(
            heads=names, steps=steps, rounds=rounds, threads=threads, device=torch_device(device), progress=progress
        )
    if as_json:
        click.echo(json.dumps(report_json(result), indent=1))
        return
    machine = result.machine
    click.echo(
        f"{machine['cpu']}, {machine['device']}, {result.threads} threads, torch {machine['torch']}; windows of "
        f"{result.steps} steps, {result.batch} a training step; {result.rounds} rounds"
    )
    rows = [
        (
            name,
            *(f"{ms:.0f}" for ms in (it.forward_ms, it.forward_ms_min, it.step_ms, it.step_ms_min)),
            f"{it.parameters:,}",
        )
        for name, it in result.heads.items()
    ]
    headings = ("head", "forward ms", "min", "step ms", "min", "parameters")
    print_table(headings, rows, right=headings[1:])
