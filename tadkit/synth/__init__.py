"""Synthetic untrimmed video of one person in a room, with exact actions and exact optical flow."""

from tadkit.synth.dataset import write_dataset
from tadkit.synth.phases import ACTIONS
from tadkit.synth.video import MadeUpVideo, make_video

__all__ = ["ACTIONS", "MadeUpVideo", "make_video", "write_dataset"]
