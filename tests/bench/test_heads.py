import json
from collections.abc import Callable
from typing import Any

import pytest
import torch

from tadkit.bench import heads as bench_heads
from tadkit.config import TemporalMaxerSettings, TriDetSettings
from tadkit.errors import UsageError
from tadkit.models.heads import build_head
from tadkit.progress import Quiet


def test_every_head_is_timed_and_threads_are_left_as_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    small = {name: TemporalMaxerSettings(dim=16, levels=3) for name in ("one", "other")}
    monkeypatch.setattr(bench_heads, "HEADS", small)
    threads = torch.get_num_threads()
    result = bench_heads.bench_heads(
        heads=(), steps=64, rounds=2, threads=threads + 1, device=torch.device("cpu"), progress=Quiet()
    )
    assert (result.threads, torch.get_num_threads()) == (threads + 1, threads)
    report = json.loads(json.dumps(bench_heads.report_json(result)))
    assert list(report["heads"]) == ["one", "other"]
    for figures in report["heads"].values():
        assert 0 < figures["forward_ms_min"] <= figures["forward_ms"]
        assert 0 < figures["step_ms_min"] <= figures["step_ms"]


@pytest.mark.parametrize("name", ["tadtr", "bmn", "tags"])
def test_whole_window_heads_are_given_all_windows_of_a_track(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bench_heads, "CHANNELS", 8)
    head = build_head(bench_heads.HEADS[name], in_channels=8, num_classes=bench_heads.CLASSES)
    seen: list[tuple[int, ...]] = []
    head.register_forward_pre_hook(lambda _, given: seen.append(tuple(given[0].shape)))
    bench_heads._forward(head, 129)()
    assert seen == [(2, 8, 128)]


def test_an_unknown_head_is_refused(tadkit: Callable[..., Any]) -> None:
    with pytest.raises(UsageError, match="no such head; choose from actionformer, tridet"):
        bench_heads.bench_heads(
            heads=("gru",), steps=64, rounds=1, threads=None, device=torch.device("cpu"), progress=Quiet()
        )
    ran = tadkit("bench", "heads", "--head", "gru")
    assert ran.code == 2
    assert "--head gru: no such head" in ran.err


@pytest.mark.parametrize(("name", "parameters"), [("actionformer", 29_251_612), ("tridet", 15_989_604)])
def test_what_is_measured_has_the_size_of_the_authors_own(name: str, parameters: int) -> None:
    # Counted in the authors' code at their THUMOS14 configuration, the scales of the levels among them.
    settings = bench_heads.HEADS[name]
    with torch.device("meta"):
        head = build_head(settings, in_channels=bench_heads.CHANNELS, num_classes=bench_heads.CLASSES)
    assert sum(parameter.numel() for parameter in head.parameters()) == parameters
    assert (bench_heads.STEPS, bench_heads.BATCH) == (2304, 2)
    if isinstance(settings, TriDetSettings):
        assert settings.input_noise == 0.0005
