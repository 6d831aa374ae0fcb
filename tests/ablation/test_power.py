"""Power: variances are recovered where they are known, and the number of videos is the textbook's."""

from __future__ import annotations

import numpy as np
import pytest

from tadkit.ablation.power import power_rows, spread_of, videos_needed

VIDEOS, SEEDS = 200, 20


def drawn_means(values: np.ndarray, draws: int = 1000) -> np.ndarray:
    """Mean over draws of the videos, of values (videos, seeds)."""
    times = np.random.default_rng(1).multinomial(len(values), np.full(len(values), 1 / len(values)), size=draws)
    return times @ values / len(values)


@pytest.mark.parametrize(("of_videos", "of_seeds", "of_both"), [(0.04, 0.0009, 0.01), (0.01, 0.0, 0.04)])
def test_the_variances_of_known_effects_are_recovered(of_videos: float, of_seeds: float, of_both: float) -> None:
    found = []
    for seed in range(12):
        rng = np.random.default_rng(seed)
        effects = (rng.normal(0, np.sqrt(v), size) for v, size in ((of_videos, (VIDEOS, 1)), (of_seeds, (1, SEEDS))))
        values = 0.02 + sum(effects) + rng.normal(0, np.sqrt(of_both), (VIDEOS, SEEDS))
        spread = spread_of(values.mean(axis=0), drawn_means(values), videos=VIDEOS)
        assert (spread["videos"], spread["seeds"]) == (VIDEOS, SEEDS)
        found.append([spread["of_videos"], spread["of_seeds"], spread["of_both"]])
    means = np.mean(found, axis=0)
    assert means[0] == pytest.approx(of_videos, rel=0.2)
    assert means[1] == pytest.approx(of_seeds, rel=0.35, abs=1e-4)
    assert means[2] == pytest.approx(of_both, rel=0.2)


def test_one_seed_does_not_show_how_seeds_vary() -> None:
    values = np.random.default_rng(0).normal(0, 0.2, (VIDEOS, 1))
    spread = spread_of(values.mean(axis=0), drawn_means(values), videos=VIDEOS)
    assert spread["of_seeds"] is None
    assert spread["of_videos"] == pytest.approx(0.04, rel=0.3)


def test_videos_are_as_many_as_the_textbook_says() -> None:
    alone = {"of_videos": 0.04, "of_seeds": 0.0, "of_both": 0.0}
    assert videos_needed(alone, 5.0, seeds=1) == 126  # ((1.96 + 0.84) * 0.2 / 0.05)^2 = 125.6
    assert videos_needed(alone, 1.0, seeds=9) == 3140
    crossed = {"of_videos": 0.0, "of_seeds": 0.0, "of_both": 0.04}
    assert videos_needed(crossed, 1.0, seeds=10) == 314


def test_more_seeds_are_asked_for_where_no_number_of_videos_is_enough() -> None:
    spread = {"row": "a", "other": "b", "of_videos": 0.01, "of_seeds": 0.0004, "of_both": 0.0}
    assert videos_needed(spread, 1.0, seeds=30) is None
    assert videos_needed(spread, 1.0, seeds=40) is not None
    rows = power_rows([spread], seeds=3, instances_per_video=2.5)
    assert [row[:2] for row in rows] == [["a - b", "3"], ["a - b", "5"], ["a - b", "20"]]
    assert rows[0][2:4] == ["more seeds", "more seeds"]
    assert rows[0][4] == "55 videos, 138 actions"
