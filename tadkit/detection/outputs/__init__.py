"""What detections are written to: one file a kind of output, chosen by the suffix of a path."""

from tadkit.detection.outputs.content import Content, VideoContent
from tadkit.detection.outputs.forms import has_all, per_video, refuse_form, write_content

__all__ = ["Content", "VideoContent", "has_all", "per_video", "refuse_form", "write_content"]
