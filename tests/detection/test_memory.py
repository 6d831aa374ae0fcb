"""Memory does not grow with the length of a video, measured in processes of their own."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import av
import pytest

from tadkit.bench import fresh_process

ROOM = Path(__file__).parents[2] / "examples" / "room.mp4"


def joined(source: Path, out: Path, *, times: int) -> Path:
    """A video several times over, by copying its stream."""
    with av.open(str(source)) as reader, av.open(str(out), "w") as writer:
        video = reader.streams.video[0]
        copy = writer.add_stream_from_template(video)
        length = round(video.frames / Fraction(video.average_rate or 1) / Fraction(video.time_base or 1))
        for number in range(times):
            reader.seek(0)
            for packet in reader.demux(video):
                if packet.dts is not None and packet.pts is not None:
                    packet.pts, packet.dts = packet.pts + number * length, packet.dts + number * length
                    packet.stream = copy
                    writer.mux(packet)
    return out


@pytest.mark.slow
@pytest.mark.skipif(fresh_process._peak_mb() is None, reason="this system does not say how much memory a process took")
def test_twelve_times_the_length_takes_at_most_a_tenth_more(tiny_model: Path, tmp_path: Path) -> None:
    peaks = []
    for times in (4, 48):  # three minutes, and 35
        video = joined(ROOM, tmp_path / f"{times}.mp4", times=times)
        costs = fresh_process.measure(
            video, model=str(tiny_model), device="cpu", engine="torch", threads=1, seconds=float("inf")
        )
        peaks.append(costs.peak_rss_mb or 0)
    assert 0 < peaks[1] <= 1.1 * peaks[0], peaks
