"""``tadkit extract-flow``: optical flow of videos, and the teacher's features and predictions, to HDF5."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import assert_never

import torch

from tadkit.checkpoint import load_checkpoint
from tadkit.config import FlowSettings, RaftSettings, VideoSettings
from tadkit.errors import TadkitError, UsageError, VideoError
from tadkit.extraction.flow_video import Advanced, Done, Event, Failed, FlowJob
from tadkit.extraction.flow_workers import flow_of_jobs
from tadkit.extraction.quarantine import Quarantine
from tadkit.extraction.results import ExtractionResult
from tadkit.extraction.teacher_outputs import extract_teacher_outputs
from tadkit.files import digest_of
from tadkit.flow import build_flow
from tadkit.keys import flow_key
from tadkit.models.detector import build_teacher
from tadkit.progress import Progress
from tadkit.runtime.devices import torch_device
from tadkit.store import TrackStore, open_store
from tadkit.video.digests import source_digest, source_key
from tadkit.video.discovery import named
from tadkit.video.index import build_index
from tadkit.video.sampling import sample_indices


def extract_flow(
    videos: Sequence[Path],
    out: Path,
    *,
    flow: FlowSettings,
    video: VideoSettings,
    teacher: Path | None,
    device: str,
    progress: Progress,
    workers: int = 1,
    retry_failed: bool = False,
) -> ExtractionResult:
    """Write the flow of ``videos`` to the store ``out``; with ``teacher``, its features and predictions instead.

    A teacher reads only the kind of flow that it was trained on, so its own flow settings are used. The flow is kept
    beside ``out`` with ``-flow`` at the end of its stem. Videos already in the store are skipped; failed ones are
    reported.

    Raises:
        WeightsError: the teacher, or RAFT's weights, cannot be loaded.
        StoreError: ``out`` is something else, or cannot be written.
    """
    items, flow_path = named(videos), out
    if teacher is not None:
        settings, _ = build_teacher(load_checkpoint(teacher, kind="teacher"))
        flow, video = settings.flow, settings.video
        flow_path = out.with_name(f"{out.stem}-flow{out.suffix}")
    extracted = extract_flow_of(
        items,
        flow_path,
        flow=flow,
        video=video,
        device=device,
        progress=progress,
        workers=workers,
        retry_failed=retry_failed,
    )
    if teacher is None:
        return extracted
    names = [name for name in items if name not in extracted.failed]
    first = device.split(",")[0]
    tracks = extract_teacher_outputs(
        names, flow_path, out, teacher=teacher, views=("original",), device=first, progress=progress
    )
    return ExtractionResult(tracks.done, tracks.reused, extracted.failed | tracks.failed, extracted.clipped)


def extract_flow_of(
    items: Mapping[str, Path],
    out: Path,
    *,
    flow: FlowSettings,
    video: VideoSettings,
    device: str,
    progress: Progress,
    workers: int = 1,
    retry_failed: bool = False,
) -> ExtractionResult:
    """Write the flow of videos, given by name, to the store ``out``.

    A video that fails is listed in ``<out>.failed.json`` (:class:`Quarantine`). While its bytes and all settings stay
    the same it is not retried, but reported as failed.

    Args:
        items: the videos' files.
        out: the store.
        flow: the method.
        video: how frames are read.
        device: a torch device; several, separated by commas, are assigned to the workers in turn.
        progress: counts frame pairs.
        workers: processes that each take a video at a time; the flow does not depend on their number.
        retry_failed: retry videos that failed before.

    Raises:
        WeightsError: RAFT's weights cannot be loaded; nothing has been written then.
        SettingsError: the method is not available here.
        StoreError: ``out`` is something else, or cannot be written.
        UsageError: a device is not available, or there are more devices than workers.
    """
    devices = [torch_device(name) for name in device.split(",")]
    if len(devices) > workers:
        raise UsageError(
            f"--device {device}: {len(devices)} devices for {workers} workers; add --workers {len(devices)}"
        )
    _refuse_unusable(flow, devices[0], out)
    settings = {"flow": flow.model_dump(mode="json", exclude={"stack"}), "video": video.model_dump(mode="json")}
    with open_store(out, kind="flow", settings=settings) as store:
        run = _Run(store, Quarantine(out), digest_of(settings), progress)
        progress.start("check videos", total=len(items), unit="videos")
        for name, path in items.items():
            run.plan(name, path, flow=flow, video=video, retry_failed=retry_failed)
            progress.advance(note=name)
        store.keep_pieces({job.name: job.key for job in run.jobs})
        if run.jobs:
            progress.start("extract-flow", total=sum(job.pairs for job in run.jobs), unit="pairs")
        with closing(flow_of_jobs(run.jobs, devices=devices, workers=workers)) as events:
            for job, event in events:
                run.take(job, event)
    return run.result.in_order(items)


def _refuse_unusable(flow: FlowSettings, device: torch.device, out: Path) -> None:
    """Try the method before any file is written; an existing store may need no downloaded net."""
    if not out.exists() or (isinstance(flow, RaftSettings) and flow.weights is not None):
        build_flow(flow, device=device)


@dataclass
class _Run:
    """One run: its jobs and their outcome."""

    store: TrackStore
    quarantine: Quarantine
    settings: str
    progress: Progress
    jobs: list[FlowJob] = field(default_factory=list)
    result: ExtractionResult = field(default_factory=ExtractionResult)
    pairs: dict[str, int] = field(default_factory=dict)
    clipped: int = 0
    values: int = 0

    def plan(self, name: str, path: Path, *, flow: FlowSettings, video: VideoSettings, retry_failed: bool) -> None:
        """Add a job for a video, unless its flow is stored or it has failed before."""
        source_sha256 = ""
        try:
            source_sha256 = source_digest(path)
            key = flow_key(source_key(path), flow, video)
            if self.store.has(name, key):
                self.quarantine.remove(name)
                self.result.reused.append(name)
                return
            known = self.quarantine.known(name, source_sha256=source_sha256, settings=self.settings)
            if known is not None and not retry_failed:
                self.result.failed[name] = known
                return
            pairs = sampled_pairs(path, video)
        except VideoError as error:
            self._fail(name, error, source_sha256)
            return
        self.jobs.append(FlowJob(name, path, source_sha256, key, pairs, flow, video, self.store.parts))

    def take(self, job: FlowJob, event: Event) -> None:
        """Record an event of a worker."""
        match event:
            case Advanced(pairs, clipped, values):
                self.pairs[job.name] = self.pairs.get(job.name, 0) + pairs
                self.clipped += clipped
                self.values += values
                self._advance(job, pairs)
            case Done(clipped):
                self.store.link(job.name)
                self.quarantine.remove(job.name)
                self.result.done.append(job.name)
                self.result.clipped[job.name] = clipped
            case Failed(error):
                self._fail(job.name, error, job.source_sha256)
                self._advance(job, job.pairs - self.pairs.get(job.name, 0))
            case _:
                assert_never(event)

    def _advance(self, job: FlowJob, pairs: int) -> None:
        share = self.clipped / max(1, self.values)
        self.progress.advance(pairs, note=f"{share:.2%} clipped, {job.name}")

    def _fail(self, name: str, error: TadkitError, source_sha256: str) -> None:
        self.result.failed[name] = error
        self.quarantine.add(name, error, source_sha256=source_sha256, settings=self.settings)


def sampled_pairs(path: Path, video: VideoSettings) -> int:
    """Number of frame pairs of a video as ``video`` samples it, from its index alone.

    Raises:
        VideoError: the file cannot be read as a video.
    """
    index = build_index(path, fallback_fps=video.fallback_fps)
    return max(0, len(sample_indices(index.stamps_s, index.duration_s, video.rate_hz)) - 1)
