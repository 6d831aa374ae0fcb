"""``tadkit export``: a detector as a file that other programs run, compared with torch on frames of a video."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Float64, UInt8

from tadkit.checkpoint import load_checkpoint
from tadkit.detection.tail import CORE_STEPS, reach_s
from tadkit.errors import UsageError, WeightsError
from tadkit.models.backbones import average_steps, step_mask
from tadkit.models.decode.tracks import predict_in_chunks
from tadkit.models.detector import DetectorNet, build_detector, refuse_features
from tadkit.models.engines import build_engine
from tadkit.models.exported import (
    ExportForm,
    Run,
    files_of,
    load_exported,
    refuse_form,
    state_names,
    write_exported,
)
from tadkit.models.fusion import LateHead
from tadkit.models.streamed import StreamedDetector
from tadkit.version import __version__
from tadkit.video import open_sampled

FORMAT = 1
"""Version of the metadata."""
PIECE_FRAMES = 96
MOST_FRAMES = 600
"""Frames of the video that are compared, at most."""
MOST_SCORE, MOST_S = 1e-3, 0.05
"""Largest differences from torch."""


@dataclass(frozen=True)
class Difference:
    """Largest differences from torch.

    Attributes:
        frames: that were compared.
        score: of all candidates.
        seconds: between starts or ends of candidates that score ``decode.min_score`` or more.
        candidates: number of these.
    """

    frames: int
    score: float
    seconds: float
    candidates: int


def export_detector(path: Path, out: Path, *, form: ExportForm, video: Path) -> Difference:
    """Write the RGB path of a detector for other programs, if it finds what torch finds.

    Args:
        path: the detector's checkpoint.
        out: the file to write.
        form: what runs it.
        video: the first frames of it are compared, in pieces as a stream reads them.

    Raises:
        UsageError: the form cannot be written here, or the detector has a part that cannot be exported.
        WeightsError: the detector cannot be loaded, or the file's candidates differ from torch's.
        VideoError: the video cannot be read.
    """
    refuse_form(form, out)
    checkpoint = load_checkpoint(path, kind="detector")
    net = build_detector(checkpoint)
    refuse_features(net.settings, path=path)
    streamed = StreamedDetector(net).eval()
    with open_sampled(video, net.settings.video) as sampled:
        frames = sampled.frames(0, min(len(sampled), MOST_FRAMES))
    stated = {"name": path.stem, "sha256": checkpoint.digest, "operating_points": dict(checkpoint.operating_points)}
    expected = torch_points(net, frames, strides=streamed.strides)
    with TemporaryDirectory(prefix=f".{out.stem[:60]}.", dir=_folder(out)) as folder:
        made = Path(folder) / out.name
        write_exported(streamed, form, made, metadata_of(streamed, net, stated))
        first = [one.numpy() for one in streamed.first_state()]
        found = points_in_pieces(load_exported(form, made), frames, first, strides=streamed.strides)
        differs = _difference(found, expected, net, frames=len(frames))
        if differs.score > MOST_SCORE or differs.seconds > MOST_S:
            raise WeightsError(
                f"{path}: the results of --to {form} differ from those of torch (scores by up to {differs.score:.1g}, "
                f"ends by {differs.seconds:.1g} s); nothing is written, try another form"
            )
        for one in reversed(files_of(form, made)):
            one.replace(out.with_name(one.name))
    return differs


def _folder(out: Path) -> Path:
    """The folder of ``out``, which is made if it is missing."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(f"{out}: cannot be written ({error.strerror}); choose another place") from error
    return out.parent


def metadata_of(streamed: StreamedDetector, net: DetectorNet, model: Mapping[str, Any]) -> dict[str, Any]:
    """What a program must know to run the file (docs/python.md)."""
    backbone, settings = net.student.backbone, net.settings
    names = state_names(streamed)
    return {
        "format": FORMAT,
        "producer": f"tadkit {__version__}",
        "model": dict(model),
        "labels": list(net.labels),
        "rate_hz": settings.video.rate_hz,
        "size_hw": list(settings.video.size_hw),
        "scaling": "bilinear, of the whole picture, to size_hw",
        "frames": "RGB, 0 to 255, uint8",
        "normalisation": {"mean": backbone.rgb_mean, "std": backbone.rgb_std, "done_by": "the model"},
        "stride_frames": backbone.stride,
        "first_piece_frames": streamed.halo_frames + 1,
        "context_steps": streamed.context_steps,
        "reach_s": reach_s(net.context_s, settings.decode),
        "decode": settings.decode.model_dump(mode="json"),
        "state": {
            name: {"shape": list(one.shape), "dtype": str(one.dtype).removeprefix("torch.")}
            for name, one in zip(names, streamed.first_state(), strict=True)
        },
    }


class Points(NamedTuple):
    """What a head predicts at the points of all levels, finest first.

    Attributes:
        segments: (points, classes, 2), start and end as fractional positions on the feature track.
        scores: (points, classes), in (0, 1).
    """

    segments: Float64[np.ndarray, "points classes 2"]
    scores: Float64[np.ndarray, "points classes"]


def points_in_pieces(
    run: Run,
    frames: UInt8[np.ndarray, "frames height width 3"],
    state: Sequence[np.ndarray],
    *,
    strides: Sequence[int],
    piece_frames: int = PIECE_FRAMES,
) -> Points:
    """The points of a video that a file reads in pieces, in the order of one pass.

    Args:
        run: runs the file.
        frames: of the whole video.
        state: before the first piece.
        strides: those of the head's levels.
        piece_frames: frames of a piece.
    """
    parts: list[list[Points]] = []
    for start in range(0, len(frames), piece_frames):
        end = np.zeros(int(start + piece_frames >= len(frames)), dtype=np.uint8)
        before = int(state[0].sum())
        segments, scores, *state = run([frames[start : start + piece_frames], end, *state])
        stop = int(state[0].sum())
        counts = [-(-stop // stride) - -(-before // stride) for stride in strides]
        cuts = np.cumsum(counts)[:-1]
        parts.append([Points(*level) for level in zip(np.split(segments, cuts), np.split(scores, cuts), strict=True)])
    levels = [piece[level] for level in range(len(strides)) for piece in parts]
    return Points(*(np.concatenate(field).astype(np.float64) for field in zip(*levels, strict=True)))


@torch.inference_mode()
def torch_points(
    net: DetectorNet, frames: UInt8[np.ndarray, "frames height width 3"], *, strides: Sequence[int]
) -> Points:
    """The points of a video as ``tadkit detect`` predicts them with the engine torch."""
    engine = build_engine("torch", net.student.backbone)
    assert engine is not None
    features, _ = engine.piece(torch.from_numpy(frames), (), last=True)
    real = torch.ones(1, len(features), dtype=torch.bool)
    stride = net.student.backbone.stride
    motion, appearance = net.student.branches(average_steps(features[None], real, stride).transpose(1, 2), real)
    mask = step_mask(real, stride)
    track = net.joint.fused(motion, appearance, mask)
    predicted = predict_in_chunks(net.joint.head, track, mask, core_steps=CORE_STEPS)
    if isinstance(net.joint.head, LateHead):
        predicted = net.joint.head.first.average(*predicted)
    segments, scores = [], []
    for logits, offsets, level in zip(predicted[0], predicted[1], strides, strict=True):
        at = np.arange(logits.shape[1])[:, None] * level
        reach = offsets[0].double().numpy().reshape(len(at), -1, 2) * level
        ends = np.stack([at - reach[..., 0], at + reach[..., 1]], axis=2)
        segments.append(np.broadcast_to(ends, (len(at), logits.shape[2], 2)))
        scores.append(logits[0].double().sigmoid().numpy())
    return Points(np.concatenate(segments), np.concatenate(scores))


def _difference(found: Points, expected: Points, net: DetectorNet, *, frames: int) -> Difference:
    settings, stride = net.settings, net.student.backbone.stride
    likely = expected.scores >= settings.decode.min_score
    apart = np.abs(found.segments - expected.segments)[likely]
    return Difference(
        frames=frames,
        score=float(np.abs(found.scores - expected.scores).max()),
        seconds=float(apart.max(initial=0.0)) * stride / settings.video.rate_hz,
        candidates=int(likely.sum()),
    )
