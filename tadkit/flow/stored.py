"""Reading motion back from a flow store."""

from __future__ import annotations

import numpy as np
from jaxtyping import Float

from tadkit.flow.codec import decode
from tadkit.store import TrackReader


def read_flow(
    store: TrackReader, name: str, start: int, stop: int
) -> Float[np.ndarray, "frames channels height width"]:
    """Motion of frames ``start`` to ``stop``; the last frame of a video, which has none, repeats the one before it."""
    count = store.length(name, "motion")
    bound = store.bound(name, "motion")
    coded = store.read(name, "motion", min(start, max(0, count - 1)), min(stop, count))
    if len(coded) == 0:  # a video of one frame has no flow: it stands still
        return np.zeros((stop - start, *coded.shape[1:]), dtype=np.float32)
    motion = coded.astype(np.float32) if bound is None else decode(coded, bound)
    missing = stop - max(start, count)
    if start >= count:  # only the last frame was asked for
        return np.repeat(motion[-1:], stop - start, axis=0)
    return np.concatenate([motion, np.repeat(motion[-1:], missing, axis=0)]) if missing > 0 else motion
