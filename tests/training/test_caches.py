"""What training keeps in memory."""

from __future__ import annotations

import numpy as np
import pytest

from tadkit.training.caches import TrackCache

TRACKS = {name: np.arange(20.0).reshape(10, 2) + number for number, name in enumerate("abc")}
BYTES = TRACKS["a"].nbytes


@pytest.mark.parametrize(("limit", "whole"), [(0, 0), (BYTES - 1, 1), (BYTES, 1), (BYTES + 1, 2), (3 * BYTES, 3)])
def test_tracks_are_the_same_whatever_is_kept_and_one_that_does_not_fit_is_read_whole_once(limit, whole):
    cache, read = TrackCache(limit_bytes=limit), []

    def source(name, start=0, stop=None):
        read.append((name, start, stop))
        return TRACKS[name][start:stop]

    for start, stop in ((0, 4), (3, 10), (9, 10)):
        for name, track in TRACKS.items():
            np.testing.assert_array_equal(cache.read(source, name, start=start, stop=stop), track[start:stop])
    assert len([one for one in read if one[1:] == (0, None)]) == whole
    assert sum(kept.nbytes for kept in cache.tracks.values()) <= limit
    assert len(read) == (3 if whole == 3 else 9 - 2 * (limit // BYTES))
