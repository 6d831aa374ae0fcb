"""Find actions in a video with ONNX Runtime and NumPy alone (PyAV decodes), by a model that `tadkit export` wrote.

tadkit export people-motion --to onnx --out people-motion.onnx --video examples/room.mp4
python examples/run_onnx.py people-motion.onnx examples/room.mp4
"""

import json
import sys

import av
import numpy as np
import onnxruntime

session = onnxruntime.InferenceSession(sys.argv[1])
about = json.loads(session.get_modelmeta().custom_metadata_map["tadkit"])
inputs, rate, decode = [node.name for node in session.get_inputs()], about["rate_hz"], about["decode"]
(height, width), stride, most = about["size_hw"], about["stride_frames"], decode["stretch_s"] or np.inf
piece, stamps, segments, scores = [], [], [], []
state = [np.zeros(one["shape"], one["dtype"]) for one in about["state"].values()]


def run(last):
    """Read a piece of frames: candidates of earlier frames come out, and the state for the next piece."""
    global state
    values = [np.stack(piece), np.zeros(last, np.uint8), *state]
    found, score, *state = session.run(None, dict(zip(inputs, values, strict=True)))
    segments.append(found)
    scores.append(score)
    piece.clear()


def best(centres, scores, limit):
    """Those with fewer than `limit` better ones within a stretch of time, best first."""
    order = np.argsort(-scores, kind="stable")
    return [i for n, i in enumerate(order) if (abs(centres[order[:n]] - centres[i]) <= most).sum() < limit]


def sample(frame, until_s):
    """Take a frame if it is on screen at one of the times 0, 1 / rate, 2 / rate, ..."""
    global due
    if due / rate < until_s - 1e-6:
        if len(piece) > about["first_piece_frames"] + 64:
            run(last=0)
        piece.append(frame.to_ndarray(width=width, height=height, format="rgb24", interpolation="BILINEAR"))
        stamps.append(frame.time - first_s)
        due = int(np.ceil((until_s - 1e-6) * rate))


due, shown = 0, None
for frame in av.open(sys.argv[2]).decode(video=0):
    if shown is None:
        first_s = frame.time
    else:
        sample(shown, frame.time - first_s)
    shown = frame
end_s = shown.time - first_s + float(shown.duration * shown.time_base)
sample(shown, end_s)
run(last=1)

starts = np.arange(0, len(stamps), stride)  # from positions on the track to seconds
at_s = np.add.reduceat(stamps, starts) / np.diff([*starts, len(stamps)])
step_s, last = np.median(np.diff(at_s)), len(at_s) - 1
places = [-at_s[0] / step_s, *range(len(at_s)), last + (end_s - at_s[-1]) / step_s]
ends_s, scores = np.interp(np.concatenate(segments), places, [0, *at_s, end_s]), np.concatenate(scores)

rows, classes = np.nonzero((scores >= decode["min_score"]) & (ends_s[..., 1] > ends_s[..., 0]))
ends_s, scores = ends_s[rows, classes], scores[rows, classes].astype(np.float64)
kept = best(ends_s.mean(axis=1), scores, decode["top_candidates"])
ends_s, scores, classes, found = ends_s[kept], scores[kept], classes[kept], []
for number, label in enumerate(about["labels"]):  # Gaussian soft-NMS
    (start, end), score = ends_s[classes == number].T, scores[classes == number]
    while len(score) and score.max() >= decode["min_score"]:
        k = score.argmax()
        found.append((score[k], start[k], end[k], label))
        both = np.clip(np.minimum(end, end[k]) - np.maximum(start, start[k]), 0, None)
        score = score * np.exp(-((both / (end - start + end[k] - start[k] - both)) ** 2) / decode["sigma"])
        score[k] = -1
centres, left = (np.array([value(one) for one in found]) for value in (lambda d: (d[1] + d[2]) / 2, lambda d: d[0]))
for k in best(centres, left, decode["keep"]):
    score, start, end, label = found[k]
    print(json.dumps({"label": label, "score": float(score), "segment": [float(start), float(end)]}))
