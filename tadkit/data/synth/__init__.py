"""Made-up untrimmed video of one person in a room, with exact actions and exact optical flow."""

from tadkit.data.synth.dataset import write_dataset
from tadkit.data.synth.phases import ACTIONS
from tadkit.data.synth.video import MadeUpVideo, make_video

__all__ = ["ACTIONS", "MadeUpVideo", "make_video", "write_dataset"]
