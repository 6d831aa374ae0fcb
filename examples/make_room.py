"""Makes examples/room.mp4 and its truth examples/room.json: a synthetic room seen from the ceiling."""

from pathlib import Path

from tadkit.records import Dataset, VideoRecord, write_dataset
from tadkit.synth import make_video
from tadkit.video.writer import write_video

HERE = Path(__file__).parent
ACTIONS = ["walk", "sitdown", "standup", "lying", "falling"]

video = make_video(seed=900076, duration_s=44.0, camera="above", actions=ACTIONS)
write_video(HERE / "room.mp4", video.frames(), fps=video.fps, crf=26)
record = VideoRecord("room", video.duration_s, "validation", video.annotations)
write_dataset(HERE / "room.json", Dataset({"room": record}))
