from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.annotations.stats import propose, stats
from tadkit.errors import AnnotationError
from tadkit.records import Annotation, Dataset, VideoRecord, write_dataset


def written(path: Path) -> Path:
    first = (Annotation(0, 2, "walk"), Annotation(1, 4, "walk"), Annotation(8, 9, "sit"), Annotation(5, 6, "Ambiguous"))
    videos = [
        VideoRecord("a", 10.0, "training", first),
        VideoRecord("b", 30.0, "testing", (Annotation(28, 32, "sit"),)),
    ]
    write_dataset(path, Dataset({video.name: video for video in videos}))
    return path


def test_counts_lengths_and_coverage(tmp_path):
    result = stats(written(tmp_path / "a.json"), subset=None, rate_hz=10, stride=2)
    walk, sit = result.per_class["walk"], result.per_class["sit"]
    assert (walk.instances, walk.videos, walk.shortest_s, walk.longest_s) == (2, 1, 2.0, 3.0)
    assert walk.coverage == pytest.approx(4 / 40)  # overlaps once
    assert sit.coverage == pytest.approx(3 / 40)  # cut at the end
    assert (result.total.instances, result.videos) == (4, 2)
    assert sum(count for _, _, count in result.histogram) == 4


def test_coverage_of_actions_is_in_detads_groups_a_bound_in_the_lower_one(tmp_path):
    shares = (0.0, 0.02, 0.021, 0.05, 0.08, 0.081, 0.2, 0.5, 0.9, 1.5)
    actions = tuple(Annotation(0, 1000 * share, "walk") for share in shares)
    videos = {"a": VideoRecord("a", 1000.0, "training", (*actions, Annotation(0, 30, "Ambiguous")))}
    write_dataset(tmp_path / "a.json", Dataset(videos))
    assert stats(tmp_path / "a.json", subset=None, rate_hz=10, stride=2).coverage_histogram == (
        (0.0, 0.02, 2),
        (0.02, 0.04, 1),
        (0.04, 0.06, 1),
        (0.06, 0.08, 1),
        (0.08, 0.2, 2),
        (0.2, 0.4, 0),
        (0.4, 0.6, 1),
        (0.6, 0.8, 0),
        (0.8, 1.0, 2),
    )


def test_one_subset(tmp_path):
    path = written(tmp_path / "a.json")
    assert set(stats(path, subset="testing", rate_hz=10, stride=2).per_class) == {"sit"}
    with pytest.raises(AnnotationError, match="no subset 'test'; the annotations have 'testing', 'training'"):
        stats(path, subset="test", rate_hz=10, stride=2)


@given(
    st.lists(st.floats(0.2, 300), min_size=1, max_size=40),
    st.sampled_from([2.0, 10.0, 30.0]),
    st.sampled_from([1, 2, 8]),
)
def test_a_proposed_pyramid_reaches_and_its_window_holds_all_but_the_longest_hundredth(lengths_s, rate_hz, stride):
    lengths = np.array(lengths_s)
    fit = propose(lengths, longest_video_s=1e6, rate_hz=rate_hz, stride=stride)
    long_s = float(np.quantile(lengths, 0.99))
    reach_steps = long_s / fit.step_s / 2
    assert fit.levels == 10 or reach_steps <= fit.first_range_steps * 2 ** (fit.levels - 1) * (1 + 1e-9)
    assert fit.window_s >= 1.4999 * long_s
    coarsest_steps = fit.window_s / (fit.step_s * 2 ** (fit.levels - 1))
    assert coarsest_steps == pytest.approx(round(coarsest_steps), abs=1e-4)


def test_videos_without_length_are_sent_to_the_check(tmp_path):
    path = tmp_path / "a.json"
    video = VideoRecord("v", 0.0, "training", (Annotation(0, 0, "a"),))
    write_dataset(path, Dataset({"v": video}))
    with pytest.raises(AnnotationError, match=r"'v' lasts 0 s; list all mistakes with: tadkit data check"):
        stats(path, subset=None, rate_hz=10, stride=1)
