import json

from tadkit.pipelines.bench_evaluate import bench_evaluate, report_json
from tadkit.progress import Quiet


def test_both_rivals_are_timed_on_the_same_work_with_the_same_result():
    result = bench_evaluate(videos=20, detections=60, classes=4, candidates=300, rounds=2, seed=0, progress=Quiet())
    report = json.loads(json.dumps(report_json(result)))
    for work in ("evaluator", "suppression"):
        assert report[work]["largest_difference"] < 1e-9
        assert 0 < report[work]["tadkit_s"] < report[work]["loop_s"]
        assert report[work]["times_faster"] > 1
