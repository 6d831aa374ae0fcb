"""Flow of one video: decoded once, ahead of the flow method, coded, and written in pieces that survive a kill."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float16, Int8, UInt8

from tadkit.config import FlowSettings, VideoSettings
from tadkit.errors import StoreError, TadkitError, UsageError, VideoError
from tadkit.extraction.read_ahead import read_ahead
from tadkit.flow import FlowMethod, encode
from tadkit.store import PartWriter, Pieces, VideoEntry
from tadkit.video import SampledVideo, open_sampled

PIECE_PAIRS = 512
"""Pairs in a piece: the most that a kill costs. A video with no more pairs is written in one go."""
_TRACK = "motion"
_BLOCK_PAIRS = 64
_BLOCK_BYTES = 32 << 20
_BLOCKS_AHEAD = 2
_LARGEST_HALF = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class FlowJob:
    """A video whose flow is to be computed.

    Attributes:
        name: the video's name in the store.
        path: its file.
        source_sha256: digest of that file.
        key: digest of everything that its flow depends on.
        pairs: frame pairs, as sampled.
        flow: the method's settings.
        video: how frames are read.
        parts: writes the store's parts.
    """

    name: str
    path: Path
    source_sha256: str
    key: str
    pairs: int
    flow: FlowSettings
    video: VideoSettings
    parts: PartWriter


class Advanced(NamedTuple):
    """Some pairs of a video are done; ``clipped`` of their ``values`` exceeded the bound."""

    pairs: int
    clipped: int
    values: int


class Done(NamedTuple):
    """A video's part is written; ``clipped`` is the share of values that exceeded the bound."""

    clipped: float


class Failed(NamedTuple):
    """A video has failed; none of it is in the store."""

    error: TadkitError


Event = Advanced | Done | Failed


class CodedFlow(NamedTuple):
    """Flow of a block as it is stored, and how many of its values exceeded the bound."""

    values: Int8[np.ndarray, "pairs channels height width"] | Float16[np.ndarray, "pairs channels height width"]
    clipped: int


class Span(NamedTuple):
    """Pairs ``start`` to ``stop``, half open."""

    start: int
    stop: int


def flow_events(job: FlowJob, method: FlowMethod) -> Iterator[Event]:
    """Compute a video's flow and report progress; the last event is :class:`Done` or :class:`Failed`.

    Raises:
        StoreError: the store cannot be written, so that no other video would succeed.
        UsageError: the store's folder cannot be written.
    """
    total = Advanced(0, 0, 0)
    try:
        with open_sampled(job.path, job.video) as sampled:
            steps = _in_pieces if len(sampled) - 1 > PIECE_PAIRS else _in_one_go
            for step in steps(job, method, sampled):
                total = _sum(total, step)
                yield step
    except (StoreError, UsageError):
        raise
    except VideoError as error:
        yield Failed(error)
    except TadkitError as error:
        yield Failed(type(error)(f"'{job.name}': {error}"))
    else:
        yield Done(total.clipped / max(1, total.values))


def _in_one_go(job: FlowJob, method: FlowMethod, sampled: SampledVideo) -> Iterator[Advanced]:
    blocks = flow_blocks(len(sampled) - 1, job.flow, size_hw=job.video.size_hw)
    total = Advanced(0, 0, 0)
    with _part(job, method, sampled) as entry, flow_of_blocks(sampled, blocks, job.flow, method) as computed:
        for step in _appended(entry, computed, job):
            total = _sum(total, step)
            yield step
        entry.describe(clipped=total.clipped / max(1, total.values))


def _in_pieces(job: FlowJob, method: FlowMethod, sampled: SampledVideo) -> Iterator[Advanced]:
    """Compute the missing pieces, then join all of them."""
    pairs = len(sampled) - 1
    pieces = Pieces(job.parts.path, job.name, key=job.key)
    spans = _pieces(pairs)
    total = Advanced(0, 0, 0)
    missing: dict[int, list[Span]] = {}
    for number, span in enumerate(spans):
        if pieces.has(number):
            step = Advanced(*(int(pieces.attributes(number)[field]) for field in Advanced._fields))
            total = _sum(total, step)
            yield step
        else:
            missing[number] = _blocks(span, job.flow, job.video.size_hw)
    every = [block for blocks in missing.values() for block in blocks]
    with flow_of_blocks(sampled, every, job.flow, method) as computed:
        for number, blocks in missing.items():
            own = Advanced(0, 0, 0)
            with pieces.write(number) as entry:
                for step in _appended(entry, islice(computed, len(blocks)), job):
                    own = _sum(own, step)
                    yield step
                entry.describe(**own._asdict())
            total = _sum(total, own)
    with _part(job, method, sampled) as entry:
        pieces.append_to(entry, _TRACK, range(len(spans)))
        entry.describe(clipped=total.clipped / max(1, total.values))
    pieces.remove()


@contextmanager
def _part(job: FlowJob, method: FlowMethod, sampled: SampledVideo) -> Iterator[VideoEntry]:
    """The video's part of the store, with an empty track of flow."""
    attributes: dict[str, str | float] = {
        "source": job.path.name,
        "source_sha256": job.source_sha256,
        "duration_s": sampled.duration_s,
    }
    empty = np.zeros((0, method.channels, *job.video.size_hw), dtype=job.flow.code)
    with job.parts.video(job.name, key=job.key, stamps_s=sampled.stamps_s, attributes=attributes) as entry:
        entry.append(_TRACK, empty, bound=code_bound(job.flow))
        yield entry


def _appended(entry: VideoEntry, computed: Iterable[CodedFlow], job: FlowJob) -> Iterator[Advanced]:
    for block in computed:
        entry.append(_TRACK, block.values, bound=code_bound(job.flow))
        yield Advanced(len(block.values), block.clipped, block.values.size)


def flow_blocks(pairs: int, flow: FlowSettings, *, size_hw: tuple[int, int]) -> list[Span]:
    """The blocks in which the flow of a video of ``pairs`` frame pairs is computed, in stores and on the way alike."""
    return [block for span in _pieces(pairs) for block in _blocks(span, flow, size_hw)]


def _pieces(pairs: int) -> list[Span]:
    return [Span(start, min(start + PIECE_PAIRS, pairs)) for start in range(0, pairs, PIECE_PAIRS)]


def _blocks(span: Span, flow: FlowSettings, size_hw: tuple[int, int]) -> list[Span]:
    """Pairs that are computed at once; their starts depend only on the settings and the piece's own start."""
    height, width = size_hw
    wanted = max(_BLOCK_PAIRS, getattr(flow, "batch_pairs", 1))
    size = max(1, min(wanted, _BLOCK_BYTES // (height * width * 3)))
    return [Span(start, min(start + size, span.stop)) for start in range(span.start, span.stop, size)]


@contextmanager
def flow_of_blocks(
    sampled: SampledVideo, blocks: Sequence[Span], flow: FlowSettings, method: FlowMethod
) -> Iterator[Iterator[CodedFlow]]:
    """Flow of ``blocks`` one by one, while the frames of the next blocks are decoded."""
    with read_ahead(_frames(sampled, blocks), depth=_BLOCKS_AHEAD) as decoded:
        yield (_coded(flow, method, frames, block) for block, frames in zip(blocks, decoded, strict=True))


def _frames(sampled: SampledVideo, blocks: Iterable[Span]) -> Iterator[UInt8[np.ndarray, "frames height width 3"]]:
    """Frames of each block, one more than its pairs; a frame shared by two blocks is decoded once."""
    last, here = np.zeros((0, 0, 0, 3), dtype=np.uint8), -1
    for start, stop in blocks:
        if start == here:
            frames = np.concatenate([last, sampled.frames(start + 1, stop + 1)])
        else:
            frames = sampled.frames(start, stop + 1)
        last, here = frames[-1:].copy(), stop
        yield frames


@torch.inference_mode()
def _coded(
    flow: FlowSettings, method: FlowMethod, frames: UInt8[np.ndarray, "frames height width 3"], block: Span
) -> CodedFlow:
    try:
        motion = method(torch.from_numpy(frames))
    except torch.OutOfMemoryError as error:
        raise TadkitError(
            "its flow does not fit in the device's memory; lower flow.batch_pairs, or video.height_px and width_px"
        ) from error
    if not bool(torch.isfinite(motion).all()):
        raise TadkitError(f"flow is not finite near frame {block.start}; try another flow.method")
    if flow.code == "int8":
        values, share = encode(motion, flow.bound_px)
        return CodedFlow(values, round(share * values.size))
    half = motion.clamp(-_LARGEST_HALF, _LARGEST_HALF).half()
    return CodedFlow(half.cpu().numpy(), int((motion.abs() > _LARGEST_HALF).sum()))


def code_bound(flow: FlowSettings) -> float | None:
    """The bound of the int8 code; None for float16, whose range flow never exceeds."""
    return flow.bound_px if flow.code == "int8" else None


def _sum(one: Advanced, other: Advanced) -> Advanced:
    return Advanced(one.pairs + other.pairs, one.clipped + other.clipped, one.values + other.values)
