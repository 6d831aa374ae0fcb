"""Damaged files of every other kind through the commands that read them: text, HDF5, safetensors, zip."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import h5py
import numpy as np
import torch
from interop.published_weights import as_opentad, options_of, recipe_of, weights_of
from safetensors.torch import save_file

from faults.mutate import ODD_WORDS, damaged, damaged_value
from faults.worker import Outcome, Worker
from tadkit.cli import main

CONVERT = ("--out", "out.json")
IMPORT = ("--out", "out.h5", "--stride", "4", "--fps", "30")
OUTSIDE = "../outside.h5"
"""A file that no content of another one may lead to."""


REFUSED_WHOLE = ("toy.toml",)
"""Files that are read, and whose command then lacks others."""


@dataclass(frozen=True)
class Target:
    """A file that a command reads.

    Attributes:
        kind: of file, as the report names it.
        name: file in the folder of :func:`write_whole`, which is damaged.
        words: the command; it runs in a copy of that folder.
    """

    kind: str
    name: str
    words: tuple[str, ...]

    @property
    def form(self) -> str:
        """Its name in the report."""
        command = " ".join(word for word in self.words[:2] if word.isalpha() or "-" in word)
        return f"{self.kind}: {self.name}, tadkit {command}"


TARGETS = (
    Target("JSON", "annotations.json", ("data", "stats", "annotations.json")),
    Target("JSON", "annotations.json", ("data", "convert", "annotations.json", "--to", "via", *CONVERT)),
    Target("JSON", "dets.json", ("evaluate", "dets.json", "annotations.json")),
    Target("JSON", "dets.json", ("data", "export-detections", "dets.json", "--out", "out.csv", "--out", "{video}.eaf")),
    Target("JSON", "dets.json", ("report", "dets.json", "--out", "out.html")),
    Target("JSON", "labels.boris", ("data", "convert", "labels.boris", *CONVERT)),
    Target("JSON", "labels.via.json", ("data", "convert", "labels.via.json", *CONVERT)),
    Target("JSON", "labels.ls.json", ("data", "convert", "labels.ls.json", *CONVERT, "--fps", "10")),
    Target(
        "JSON", "scores.json", ("detect", "clip.mp4", "--model", "tiny.safetensors", "--video-scores", "scores.json")
    ),
    Target("JSON", "flow.h5.failed.json", ("inspect", "flow.h5")),
    Target("JSON", "peer.json", ("import", "head", "peer.pth", "--from", "actionformer", "--config", "peer.json")),
    Target("XML", "elan/room0_0.eaf", ("data", "convert", "elan/room0_0.eaf", *CONVERT)),
    Target("XML", "cvat/room0_0.xml", ("data", "convert", "cvat/room0_0.xml", *CONVERT, "--fps", "10")),
    Target("CSV", "labels.csv", ("data", "convert", "labels.csv", "--durations", "durations.csv", *CONVERT)),
    Target("CSV", "durations.csv", ("data", "convert", "labels.csv", "--durations", "durations.csv", *CONVERT)),
    Target("CSV", "table.csv", ("import", "features", "table.csv", *IMPORT)),
    Target("CSV", "classes.txt", ("import", "head", "peer.pth", "--from", "actionformer", "--labels", "classes.txt")),
    Target("CSV", "videos.txt", ("detect", "--list", "videos.txt", "--model", "tiny.safetensors")),
    Target("TOML", "toy.toml", ("train-head", "toy.toml", "--device", "cpu")),
    Target("YAML", "peer.yaml", ("import", "head", "peer.pth", "--from", "actionformer", "--config", "peer.yaml")),
    Target("Python recipe", "peer.py", ("import", "head", "opentad.pth", "--from", "opentad", "--config", "peer.py")),
    Target("HDF5", "flow.h5", ("inspect", "flow.h5")),
    Target("HDF5", "part.h5", ("inspect", "part.h5", "--json")),
    Target("HDF5", "part.h5", ("detect-features", "part.h5", "--head", "head.safetensors", "--out", "out.json")),
    Target(
        "HDF5", "features.h5", ("detect-features", "features.h5", "--head", "head.safetensors", "--out", "out.json")
    ),
    Target("HDF5", "foreign.h5", ("import", "features", "foreign.h5", *IMPORT)),
    Target("safetensors", "tiny.safetensors", ("detect", "clip.mp4", "--model", "tiny.safetensors", "--device", "cpu")),
    Target("safetensors", "tiny.safetensors", ("operating-points", "tiny.safetensors")),
    Target("safetensors", "head.safetensors", ("detect-features", "features.h5", "--head", "head.safetensors")),
    Target("safetensors", "peer.safetensors", ("import", "head", "peer.safetensors", "--from", "actionformer")),
    Target("zip", "peer.pth", ("import", "head", "peer.pth", "--from", "actionformer")),
    Target("zip", "array.pt", ("import", "features", "array.pt", *IMPORT)),
    Target("zip", "array.npz", ("import", "features", "array.npz", *IMPORT)),
    Target("zip", "clips.npz", ("data", "compose", "clips.npz", "out", "--streams", "1", "--actions", "1")),
    Target("NumPy", "array.npy", ("import", "features", "array.npy", *IMPORT)),
)


def _words(target: Target) -> tuple[str, ...]:
    """With the output that a command needs."""
    more = {"import": ("--out", "out.safetensors"), "detect-features": ("--out", "out.json")}.get(target.words[0], ())
    return target.words if "--out" in target.words else (*target.words, *more)


def write_whole(everything: Path, folder: Path) -> None:
    """Write an undamaged file of each kind.

    Args:
        everything: the folder of :func:`faults.commands.make_everything`.
        folder: does not exist yet.
    """
    folder.mkdir()
    data = everything / "data"
    for source in (data / "annotations.json", everything / "labels.boris", everything / "tiny.safetensors"):
        shutil.copy(source, folder)
    shutil.copy(everything / "toy.toml", folder)
    shutil.copy(data / "videos" / "room0_0.mp4", folder / "clip.mp4")
    _write_labels(folder, data)
    _write_stores(everything, folder)
    _write_heads(folder)
    _write_arrays(folder)


def _done(*words: str | Path) -> None:
    assert main([str(word) for word in words]) == 0, words


def _write_labels(folder: Path, data: Path) -> None:
    annotations = folder / "annotations.json"
    for tool, name in (
        ("via", "labels.via.json"),
        ("label-studio", "labels.ls.json"),
        ("elan", "elan"),
        ("cvat", "cvat"),
    ):
        _done("data", "convert", annotations, "--to", tool, "--videos", data / "videos", "--out", folder / name)
    database = json.loads(annotations.read_text())["database"]
    rows = [
        f"{name},{start},{end},{a['label']}"
        for name, v in database.items()
        for a in v["annotations"]
        for start, end in [a["segment"]]
    ]
    (folder / "labels.csv").write_text("\n".join(["video,start,end,label", *rows]) + "\n")
    seconds = [f"{name},{v['duration']}" for name, v in database.items()]
    (folder / "durations.csv").write_text("\n".join(["video,seconds", *seconds]) + "\n")
    found = {
        name: [{"label": a["label"], "score": 0.9, "segment": a["segment"]} for a in v["annotations"]]
        for name, v in database.items()
    }
    durations = {
        "durations_s": {name: v["duration"] for name, v in database.items()},
        "operating_points": {"rest": 0.4},
    }
    (folder / "dets.json").write_text(
        json.dumps({"version": "VERSION 1.3", "results": found, "external_data": durations})
    )
    (folder / "scores.json").write_text(json.dumps({"clip": {"rest": 0.5, "slide": 0.25}}))
    (folder / "videos.txt").write_text("clip.mp4\n")


def _write_stores(everything: Path, folder: Path) -> None:
    run = everything / "runs" / "toy"
    shutil.copy(run / "flow.h5", folder)
    shutil.copytree(run / "flow.h5.parts", folder / "flow.h5.parts")
    (folder / "flow.h5.failed.json").write_text(json.dumps({"format": "tadkit-failed", "version": 1, "videos": {}}))


def _write_heads(folder: Path) -> None:
    options = options_of("actionformer")
    torch.save({"state_dict": weights_of(options)}, folder / "peer.pth")
    save_file(weights_of(options), folder / "peer.safetensors")
    (folder / "peer.json").write_text(json.dumps(options))
    lines = "\n".join(f"  {name}: {json.dumps(value)}" for name, value in options.items())
    (folder / "peer.yaml").write_text(f"dataset:\n  max_seq_len: 32\nmodel:\n{lines}\n")
    torch.save({"state_dict": as_opentad(weights_of(options))}, folder / "opentad.pth")
    (folder / "peer.py").write_text(f"model = {recipe_of(options, {})['model']!r}\n")
    (folder / "classes.txt").write_text("jump\nrun\nthrow\n")
    _done(
        "import",
        "head",
        folder / "peer.pth",
        "--from",
        "actionformer",
        "--config",
        folder / "peer.json",
        "--out",
        folder / "head.safetensors",
    )


def _write_arrays(folder: Path) -> None:
    values = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    np.save(folder / "array.npy", values)
    np.savez(folder / "array.npz", feats=values, fps=np.float64(30))
    torch.save({"feats": torch.from_numpy(values)}, folder / "array.pt")
    np.savetxt(folder / "table.csv", values, delimiter=",")
    with h5py.File(folder / "foreign.h5", "w") as file:
        file.create_dataset("v1/rgb", data=values, compression="gzip")
        file["v2"] = values
    _done("import", "features", folder / "array.npy", *IMPORT[2:], "--out", folder / "features.h5")
    shutil.copy(next((folder / "features.h5.parts").glob("*.h5")), folder / "part.h5")
    clip = np.random.default_rng(0).integers(0, 255, (30, 32, 32, 3), dtype=np.uint8)
    np.savez_compressed(folder / "clips.npz", ann_push_a=clip, ann_drop_a=clip[::-1])


def damaged_file(target: Target, path: Path, seed: int) -> None:
    """Damage a file in place; of the seed alone."""
    chance = random.Random(f"{target.form} {seed}")
    if target.kind == "JSON" and chance.random() < 0.6:
        value = json.loads(path.read_text())
        for _ in range(chance.choice((1, 1, 2, 5))):
            value = damaged_value(value, chance)
        path.write_text(json.dumps(value), errors="surrogatepass")
    elif target.kind == "HDF5" and chance.random() < 0.6:
        damaged_store(path, chance)
    elif target.kind == "safetensors" and chance.random() < 0.6:
        path.write_bytes(_damaged_header(path.read_bytes(), chance))
    elif target.kind in ("CSV", "TOML", "XML", "YAML", "Python recipe") and chance.random() < 0.7:
        path.write_bytes(_damaged_words(path.read_bytes(), chance))
    else:
        path.write_bytes(damaged(path.read_bytes(), chance))


def _damaged_header(content: bytes, chance: random.Random) -> bytes:
    """Safetensors with another JSON header, whose own JSON texts are damaged, too."""
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    own = header.get("__metadata__", {})
    if own and chance.random() < 0.6:
        name = chance.choice(sorted(own))
        try:
            own[name] = json.dumps(damaged_value(json.loads(own[name]), chance))
        except ValueError:
            own[name] = str(damaged_value(own[name], chance))
    else:
        header = damaged_value(header, chance)
    text = json.dumps(header).encode()
    text = text.ljust(-(-len(text) // 8) * 8)
    return len(text).to_bytes(8, "little") + text + content[8 + length :]


def _damaged_words(content: bytes, chance: random.Random) -> bytes:
    """Text with some of its words or lines replaced, repeated or removed."""
    separators = (b",", b"\n", b" ", b'"', b"=", b">", b":")
    for _ in range(chance.choice((1, 1, 2, 4))):
        separator = chance.choice([one for one in separators if one in content] or [b"\n"])
        words = content.split(separator)
        at = chance.randrange(len(words))
        words[at : at + 1] = chance.choice(
            ([chance.choice(ODD_WORDS)], [], [words[at]] * 50, [words[at - 1], words[at]])
        )
        content = separator.join(words)
    return content


def damaged_store(path: Path, chance: random.Random) -> None:
    """Damage what HDF5 describes: links, shapes, types, attributes."""
    with h5py.File(path, "r+") as file:
        names: list[str] = []
        file.visit(names.append)
        for _ in range(chance.choice((1, 1, 2))):
            name = chance.choice([name for name in names if name in file] or ["/"])
            with suppress(
                ValueError, OSError, KeyError, RuntimeError, TypeError
            ):  # what does not fit the damage before
                chance.choice(STORE_FAULTS)(file, name, chance)


def _other_attribute(file: h5py.File, name: str, chance: random.Random) -> None:
    item = file.get(name) or file
    keys = list(item.attrs) or ["version"]
    values = (
        "",
        "x" * 70000,
        b"\xff\xfe",
        0,
        -1,
        2**62,
        np.nan,
        np.arange(3),
        "[1",
        "{}",
        "null",
        h5py.Empty("f4"),
        True,
    )
    with_value = chance.choice(values)
    key = chance.choice(keys)
    try:
        item.attrs[key] = with_value
    except (OSError, ValueError, TypeError):  # too long for an attribute
        del item.attrs[key]


def _removed(file: h5py.File, name: str, chance: random.Random) -> None:  # noqa: ARG001 - all faults have one signature
    if name in file and name != "/":
        del file[name]


def _other_dataset(file: h5py.File, name: str, chance: random.Random) -> None:
    _removed(file, name, chance)
    values: tuple[Any, ...] = (
        np.float32(1),
        np.zeros((0, 0)),
        np.zeros((3,)),
        np.zeros((2, 3, 4)),
        np.array([b"x", b"y"]),
        np.full((60, 6), np.nan),
        np.zeros((4, 4), np.complex64),
        np.zeros(5, [("a", "f4"), ("b", "i8")]),
        "text",
        h5py.Empty("f4"),
        np.zeros((60, 6), bool),
    )
    file[name] = chance.choice(values)


def _huge(file: h5py.File, name: str, chance: random.Random) -> None:
    _removed(file, name, chance)
    shape = chance.choice(((10**12, 6), (10**6, 10**6), (2**40,), (1, 2**40)))
    file.create_dataset(
        name, shape=shape, dtype="f4", chunks=tuple(min(size, 64) for size in shape), compression="gzip"
    )


def _link(file: h5py.File, name: str, chance: random.Random) -> None:
    _removed(file, name, chance)
    links = (
        h5py.ExternalLink(OUTSIDE, "/"),
        h5py.ExternalLink("/etc/passwd", "/"),
        h5py.ExternalLink("nothing.h5", "/x"),
        h5py.ExternalLink(Path(file.filename).name, f"/{name}"),
        h5py.SoftLink(f"/{name}"),
        h5py.SoftLink("/"),
        h5py.SoftLink("/nowhere"),
    )
    file[name] = chance.choice(links)


def _loop(file: h5py.File, name: str, chance: random.Random) -> None:  # noqa: ARG001 - all faults have one signature
    group = file[name] if isinstance(file.get(name), h5py.Group) else file[name].parent if name in file else file
    group["loop"] = group


def _elsewhere(file: h5py.File, name: str, chance: random.Random) -> None:
    """Values that HDF5 would read from another file."""
    _removed(file, name, chance)
    if chance.random() < 0.5:
        file.create_dataset(name, shape=(60, 6), dtype="u1", external=[("/etc/passwd", 0, 360)])
    else:
        layout = h5py.VirtualLayout((60, 6), "f4")
        layout[:] = h5py.VirtualSource(OUTSIDE, "v", (60, 6))
        file.create_virtual_dataset(name, layout)


STORE_FAULTS: tuple[Callable[[h5py.File, str, random.Random], None], ...] = (
    _other_attribute,
    _other_attribute,
    _other_attribute,
    _removed,
    _other_dataset,
    _huge,
    _link,
    _loop,
    _elsewhere,
)


def cases(
    everything: Path, scratch: Path, worker: Worker, *, count: int, seed: int
) -> Iterator[tuple[str, int, Outcome]]:
    """Damage ``count`` files, the kinds in turn; yields kind, seed and outcome."""
    whole = scratch / "whole"
    write_whole(everything, whole)
    for number in range(count):
        target = TARGETS[number % len(TARGETS)]
        yield target.form, seed + number, case(target, whole, scratch / "case", worker, seed + number)


def undamaged(target: Target, whole: Path, folder: Path, worker: Worker) -> Outcome:
    """Run the command of a target on files that nobody damaged."""
    shutil.copytree(whole, folder)
    outcome = worker.run(_words(target), folder)
    shutil.rmtree(folder)
    return outcome


def case(target: Target, whole: Path, folder: Path, worker: Worker, seed: int) -> Outcome:
    """Damage one file in a copy of ``whole`` and run its command; what is lost stays beside ``folder``."""
    shutil.copytree(whole, folder)
    with h5py.File(folder / OUTSIDE, "w") as file:
        file["v"] = np.ones((60, 6), np.float32)
    damaged_file(target, folder / target.name, seed)
    outcome = worker.run(_words(target), folder)
    if outcome.lost:
        shutil.copy(folder / target.name, Path(gettempdir()) / f"lost-{seed}-{Path(target.name).name}")
    shutil.rmtree(folder)
    return outcome
