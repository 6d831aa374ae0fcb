"""The clips of ``tennis/`` as one file for ``tadkit data compose``.

python docs/tennis_clips.py TENNIS_FOLDER OUT.npz: scenes take the place of subjects, so that whole scenes are held out.
Scenes of fewer than four clips are left out: their streams would show the same clip again and again.
"""

from __future__ import annotations

import csv
import sys
from collections import defaultdict
from pathlib import Path

import numpy as np

from tadkit.video import open_video

_SIZE_HW = (112, 200)
_FEWEST = 4


def main(folder: Path, out: Path) -> None:
    """Write the clips, scaled."""
    scenes: dict[str, list[dict[str, str]]] = defaultdict(list)
    with (folder / "clips.csv").open(newline="") as file:
        for row in csv.DictReader(file):
            scenes[row["scene"]].append(row)
    clips = {}
    for scene, rows in sorted(scenes.items()):
        for take, row in enumerate(rows if len(rows) >= _FEWEST else ()):
            with open_video(folder / "clips" / row["file"], size_hw=_SIZE_HW) as reader:
                label = row["label"].replace("_", "-")
                clips[f"scene{scene}_{label}_{take}"] = reader.read(list(range(len(reader.stamps_s))))
    np.savez(out, **clips)


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
