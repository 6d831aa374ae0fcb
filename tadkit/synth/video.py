"""One synthetic video: frames, annotations and exact flow."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import numpy as np
from jaxtyping import Float32, UInt8

from tadkit.errors import UsageError
from tadkit.records import Annotation
from tadkit.synth.body import Body, pose_limbs
from tadkit.synth.motion import perform
from tadkit.synth.phases import Phase
from tadkit.synth.render import Renderer, random_clothes, random_light
from tadkit.synth.scene import Room, empty_room, random_camera, random_room
from tadkit.synth.script import write_script

CameraKind = Literal["side", "above"]
_SIDE_PX = (32, 2048)
_LOOKS_SEED = 20232
"""So that a look is not that of the video whose seed is its number."""
_MATS = 0.75
"""Share of rooms with a mat on the floor in place of a bed, with many falls."""


@dataclass(frozen=True)
class MadeUpVideo:
    """An untrimmed video whose actions and pixel motion are known exactly; frames are drawn on demand.

    Attributes:
        annotations: the actions, in order of time, in seconds.
        fps: frames per second, constant; frame ``k`` is shown at ``k / fps``.
        frame_count: number of frames.
        size_hw: (height, width) in pixels.
        seed: determines the video, with ``camera`` and ``look``.
        camera: ``side`` or ``above``.
        camera_noise: whether noise and compression artefacts are drawn.
        phases: the whole story, including pauses.
        room: the room of the story.
        look: determines room, furniture, clothes, light and view of the camera; None if ``seed`` does.
    """

    annotations: tuple[Annotation, ...]
    fps: float
    frame_count: int
    size_hw: tuple[int, int]
    seed: int
    camera: CameraKind
    camera_noise: bool
    phases: tuple[Phase, ...]
    room: Room
    look: int | None

    @property
    def duration_s(self) -> float:
        """Length in seconds."""
        return self.frame_count / self.fps

    def frames(self) -> Iterator[UInt8[np.ndarray, "height width 3"]]:
        """The frames in order, RGB; the same each time."""
        for k in range(self.frame_count):
            yield self.frame(k)

    def frame(self, k: int) -> UInt8[np.ndarray, "height width 3"]:
        """Frame ``k`` alone."""
        if not self.camera_noise:
            return np.clip(self._renderer.clean(k) + 0.5, 0, 255).astype(np.uint8)
        return self._renderer.frame(k, rng=np.random.default_rng([self.seed, k]))

    def flow(self, k: int) -> Float32[np.ndarray, "2 height width"]:
        """Exact optical flow (u right, v down, in pixels) from frame ``k`` to ``k + 1``.

        A pixel that shows a limb in frame ``k`` moves with that point of the limb, visible or hidden in the next frame;
        the room is still. Shadows and flicker do not count as motion.
        """
        assert 0 <= k < self.frame_count - 1, k
        return self._renderer.flow(k)

    @cached_property
    def _renderer(self) -> Renderer:
        streams = _streams(self.seed, self.camera, self.look)
        rng = streams["person"]
        body = Body(float(rng.uniform(1.5, 1.92)), float(rng.uniform(0.88, 1.22)))
        states = perform(self.phases, body, fps=self.fps, frames=self.frame_count, rng=rng)
        view = random_camera(streams["camera"], self.camera, self.size_hw)
        picture, depth = empty_room(self.room, view, streams["surfaces"])
        light = random_light(streams["light"], self.size_hw, self.frame_count, self.fps)
        return Renderer(picture, depth, view, light, random_clothes(streams["clothes"]), body, pose_limbs(states, body))


_LOOKS = ("room", "camera", "surfaces", "light", "clothes")
_NAMES = ("room", "story", "person", "camera", "surfaces", "light", "clothes")


def _streams(seed: int, camera: CameraKind, look: int | None) -> dict[str, np.random.Generator]:
    """Random numbers of each part of a video; with a look, those of its parts are the same in all videos."""
    kind = ("side", "above").index(camera)
    streams = _spawned([seed, kind])
    if look is not None:
        of_look = _spawned([look, kind, _LOOKS_SEED])
        streams |= {name: of_look[name] for name in _LOOKS}
    return streams


def _spawned(entropy: list[int]) -> dict[str, np.random.Generator]:
    children = np.random.SeedSequence(entropy).spawn(len(_NAMES))
    return {name: np.random.default_rng(child) for name, child in zip(_NAMES, children, strict=True)}


def make_video(
    *,
    seed: int,
    duration_s: float,
    camera: CameraKind,
    size_hw: tuple[int, int] = (240, 320),
    fps: float = 25.0,
    actions: Sequence[str] | None = None,
    camera_noise: bool = True,
    look: int | None = None,
    many_falls: bool = False,
) -> MadeUpVideo:
    """Make one synthetic video; equal arguments give equal videos.

    Args:
        seed: zero or more.
        duration_s: length; rounded to whole frames.
        camera: ``side``, or ``above`` for a ceiling camera.
        size_hw: height and width in pixels.
        fps: frames per second.
        actions: labels that may occur, from :data:`ACTIONS`; None for all.
        camera_noise: False leaves out noise and compression, which tests of the flow need.
        look: zero or more: room, furniture, clothes, light and view of the camera are those of this number, whatever
            the seed; None: the seed determines them, too.
        many_falls: more falls, also from the edge of the picture, and more mats on the floor.

    Raises:
        UsageError: invalid length, size, rate, seed or action.
    """
    if seed < 0 or not 1.0 <= duration_s <= 36_000 or not 1.0 <= fps <= 1000:
        raise UsageError(
            f"no synthetic video of {duration_s} s at {fps} fps with seed {seed}; expected 1 to 36000 s, "
            "1 to 1000 fps, and a seed of 0 or more"
        )
    if not all(_SIDE_PX[0] <= side <= _SIDE_PX[1] for side in size_hw):
        raise UsageError(
            f"no synthetic video of {size_hw[0]}x{size_hw[1]} px; sides must be {_SIDE_PX[0]} to {_SIDE_PX[1]} px"
        )
    streams = _streams(seed, camera, look)
    room = random_room(streams["room"], camera, mats=_MATS if many_falls else 0.6)
    frame_count = round(duration_s * fps)
    phases = write_script(room, frame_count / fps, streams["story"], actions, many_falls=many_falls)
    annotations = tuple(Annotation(p.start_s, p.end_s, p.kind) for p in phases if p.kind != "idle")
    return MadeUpVideo(annotations, fps, frame_count, size_hw, seed, camera, camera_noise, phases, room, look)
