"""What training keeps in memory."""

from __future__ import annotations

import numpy as np
import pytest

from tadkit.training.caches import TrackCache

TRACKS = {name: np.arange(20.0).reshape(10, 2) + number for number, name in enumerate("abc")}
BYTES = TRACKS["a"].nbytes


@pytest.mark.parametrize("limit", [0, BYTES - 1, BYTES, BYTES + 1, 3 * BYTES])
def test_tracks_are_the_same_whatever_is_kept_and_none_is_read_whole_twice(limit):
    cache, read = TrackCache(limit_bytes=limit), []

    def source(name, start=0, stop=None):
        read.append((name, start, stop))
        return TRACKS[name][start:stop]

    for start, stop in ((0, 4), (3, 10), (9, 10)):
        for name, track in TRACKS.items():
            np.testing.assert_array_equal(cache.read(source, name, start=start, stop=stop), track[start:stop])
    whole = [name for name, *window in read if window == [0, None]]
    assert len(whole) == len(set(whole))
    assert len(cache.tracks) == limit // BYTES
    assert {name for name, *window in read if window != [0, None]} == set(TRACKS) - {name for (name,) in cache.tracks}
    assert sum(kept.nbytes for kept in cache.tracks.values()) <= limit
