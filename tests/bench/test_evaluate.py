import json

import pytest

from tadkit.bench.evaluate import bench_evaluate, report_json
from tadkit.progress import Quiet


def test_both_are_timed_on_the_same_work_with_the_same_result():
    result = bench_evaluate(videos=20, detections=60, classes=4, candidates=300, rounds=2, seed=0, progress=Quiet())
    report = json.loads(json.dumps(report_json(result)))
    for work in ("evaluator", "suppression"):
        assert report[work]["largest_difference"] < 1e-9
        assert 0 < report[work]["tadkit_s"] < report[work]["loop_s"]
        assert report[work]["times_faster"] > 1


@pytest.mark.slow
def test_at_full_size_the_evaluator_is_ten_times_as_fast_as_the_loop_with_the_same_result():
    result = bench_evaluate(videos=200, detections=200, classes=20, candidates=2000, rounds=5, seed=0, progress=Quiet())
    assert max(result.evaluator.largest_difference, result.suppression.largest_difference) <= 1e-9
    assert result.evaluator.times_faster >= 10
    assert result.suppression.times_faster >= 5
