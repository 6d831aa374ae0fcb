"""Pairs of pictures with ground-truth flow, and the error of a method's flow.

Sources: the ``.flo`` format and the error measures are those of Baker et al., "A database and evaluation methodology
for optical flow", IJCV 2011, sections 4 and 5; the outlier threshold is KITTI's (Geiger et al., CVPR 2012), without
its second condition of 5 %.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from jaxtyping import Bool, Float32, UInt8

from tadkit.errors import UsageError

FLO_SUFFIX = "_flow.flo"
IMAGE_SUFFIXES = (".ppm", ".png", ".jpg")
MAGIC = b"PIEH"
"""First bytes of a .flo file: the float 202021.25."""
HEADER_BYTES = 12
UNKNOWN_PX = 1e9
"""Larger displacements in a .flo file mark unknown flow."""
OUTLIER_PX = 3.0
BANDS_PX = ((0.0, 1.0), (1.0, 3.0), (3.0, 10.0), (10.0, math.inf))
"""Bands of the length of the true displacement of a pixel, half open."""


class TruthPair(NamedTuple):
    """Two pictures and the flow from the first to the second."""

    name: str
    frames: UInt8[np.ndarray, "2 height width 3"]
    """RGB."""
    flow: Float32[np.ndarray, "2 height width"]
    """Pixels: channel 0 to the right, channel 1 down."""
    known: Bool[np.ndarray, "height width"]
    """Where the ground truth is known."""


class FlowError(NamedTuple):
    """Error of flow over all pixels of all pairs whose ground truth is known."""

    epe_px: float
    """Mean end-point error."""
    outliers_over_3px: float
    """Share, 0..1, of pixels with an error above 3 px."""
    epe_px_by_band: tuple[float | None, ...]
    """Mean end-point error of the pixels whose true displacement is in each of ``BANDS_PX``; None if there are none."""


def read_truth(folder: Path) -> list[TruthPair]:
    """Every pair of a folder: ``<id>_img1`` and ``<id>_img2`` (.ppm, .png or .jpg) and ``<id>_flow.flo``, by name.

    Raises:
        UsageError: There is no pair, a file of a pair is missing or damaged, sizes differ, or no pixel's flow is known.
    """
    if not folder.is_dir():
        raise UsageError(f"{folder}: no such folder; --truth names one with <id>_img1, <id>_img2 and <id>{FLO_SUFFIX}")
    names = {path.name.removesuffix(FLO_SUFFIX) for path in folder.glob(f"*{FLO_SUFFIX}")}
    names |= {path.stem.removesuffix("_img1") for path in folder.glob("*_img1.*") if path.suffix in IMAGE_SUFFIXES}
    if not names:
        raise UsageError(
            f"{folder}: no ground truth in this folder; expected <id>_img1.ppm, <id>_img2.ppm and <id>{FLO_SUFFIX}"
        )
    return [_read_pair(folder, name) for name in sorted(names)]


def read_flo(path: Path) -> Float32[np.ndarray, "2 height width"]:
    """The flow in a ``.flo`` file (little endian; u, v of each pixel, row by row), in pixels.

    Raises:
        UsageError: The file is missing or damaged.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise UsageError(
            f"{path}: cannot be read ({error.strerror}); every pair needs its ground-truth flow"
        ) from error
    if len(data) < HEADER_BYTES or not data.startswith(MAGIC):
        raise UsageError(f"{path}: not a .flo file, which starts with PIEH, width and height; download it again")
    width, height = (int(side) for side in np.frombuffer(data, "<i4", 2, offset=len(MAGIC)))
    expected = HEADER_BYTES + 8 * width * height
    if min(width, height) < 1 or len(data) != expected:
        raise UsageError(
            f"{path}: damaged: {len(data)} bytes where {width}x{height} px of flow take {expected}; download it again"
        )
    values = np.frombuffer(data, "<f4", offset=HEADER_BYTES).reshape(height, width, 2)
    return np.ascontiguousarray(np.moveaxis(values, -1, 0), dtype=np.float32)


def end_point_distance(
    flow: Float32[np.ndarray, "*pairs 2 height width"], other: Float32[np.ndarray, "*pairs 2 height width"]
) -> Float32[np.ndarray, "*pairs height width"]:
    """Distance between the end points of two flows, in pixels."""
    return np.asarray(np.linalg.norm(flow - other, axis=-3))


def flow_error(flows: Sequence[Float32[np.ndarray, "2 _ _"]], pairs: Sequence[TruthPair]) -> FlowError:
    """Error of ``flows`` against the ground truth of ``pairs``; every known pixel has the same weight."""
    distances_px = np.concatenate(
        [end_point_distance(flow, pair.flow)[pair.known] for flow, pair in zip(flows, pairs, strict=True)]
    )
    lengths_px = np.concatenate([np.linalg.norm(pair.flow, axis=0)[pair.known] for pair in pairs])
    of_bands = [distances_px[(lengths_px >= least) & (lengths_px < most)] for least, most in BANDS_PX]
    return FlowError(
        float(distances_px.mean(dtype=np.float64)),
        float((distances_px > OUTLIER_PX).mean()),
        tuple(float(band.mean(dtype=np.float64)) if band.size else None for band in of_bands),
    )


def _read_pair(folder: Path, name: str) -> TruthPair:
    flow = read_flo(folder / f"{name}{FLO_SUFFIX}")
    height, width = flow.shape[1:]
    images = [_read_image(folder, f"{name}_img{number}") for number in (1, 2)]
    for number, image in enumerate(images, start=1):
        if image.shape[:2] != (height, width):
            raise UsageError(
                f"{folder / name}{FLO_SUFFIX}: the ground truth is {width}x{height} px, but {name}_img{number} is "
                f"{image.shape[1]}x{image.shape[0]}; both must have the same size"
            )
    known = (np.abs(flow) <= UNKNOWN_PX).all(axis=0)
    if not known.any():
        raise UsageError(f"{folder / name}{FLO_SUFFIX}: no pixel has known flow; leave this pair out")
    return TruthPair(name, np.stack(images), flow, known)


def _read_image(folder: Path, stem: str) -> UInt8[np.ndarray, "height width 3"]:
    paths = [path for suffix in IMAGE_SUFFIXES if (path := folder / f"{stem}{suffix}").is_file()]
    if not paths:
        raise UsageError(f"{folder / stem}: no such picture; looked for {' '.join(IMAGE_SUFFIXES)}")
    # OpenCV writes to stderr itself if the file is not a picture.
    logging: Any = cv2.utils.logging
    level = logging.setLogLevel(logging.LOG_LEVEL_SILENT)
    try:
        image = cv2.imread(str(paths[0]), cv2.IMREAD_COLOR)
    finally:
        logging.setLogLevel(level)
    if image is None:
        raise UsageError(f"{paths[0]}: cannot be read as a picture; download it again")
    return np.ascontiguousarray(image[..., ::-1])
