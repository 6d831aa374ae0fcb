import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from tadkit.synth.tracks import make_track


@given(seed=st.integers(0, 2**32), steps=st.integers(20, 300), classes=st.integers(1, 6))
def test_actions_lie_in_the_track_in_order_and_apart(seed: int, steps: int, classes: int) -> None:
    track = make_track(seed, steps, 8, classes)
    assert track.features.shape == (steps, 8)
    assert len(track.segments) == len(track.labels)
    assert set(track.labels) <= set(range(classes))
    edges = track.segments.ravel()
    assert (np.diff(edges) > 0).all()
    assert not len(edges) or (edges[0] > 0 and edges[-1] < steps - 1)


def test_the_same_seed_makes_the_same_track() -> None:
    for one, other in zip(make_track(3, 64, 8, 2), make_track(3, 64, 8, 2), strict=True):
        np.testing.assert_array_equal(one, other)


def test_steps_of_one_class_point_the_same_way_in_every_track() -> None:
    means: dict[int, list[np.ndarray]] = {}
    for seed in range(4):
        features, segments, labels = make_track(seed, 256, 32, 3)
        for (start, end), label in zip(segments, labels, strict=True):
            if end - start > 16:
                means.setdefault(int(label), []).append(features[int(start) + 6 : int(end) - 6].mean(axis=0))
    codes = [np.mean(vectors, axis=0) for _, vectors in sorted(means.items())]
    assert len(codes) == 3
    for label, vectors in means.items():
        nearest = [int(np.argmin([np.linalg.norm(v - code) for code in codes])) for v in vectors]
        assert nearest == [label] * len(vectors)
