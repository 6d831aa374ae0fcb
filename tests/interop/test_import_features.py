from __future__ import annotations

from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest

from tadkit.errors import AnnotationError, StoreError, UsageError
from tadkit.interop.import_features import TRACK, ImportResult, import_features
from tadkit.progress import Quiet
from tadkit.records import Dataset, VideoRecord, write_dataset
from tadkit.store import read_store


def saved(folder: Path, **steps: int) -> Path:
    folder.mkdir(exist_ok=True)
    for name, count in steps.items():
        np.save(folder / f"{name}.npy", np.full((count, 3), float(count), np.float32))
    return folder


def annotated(path: Path, **durations_s: float) -> Path:
    write_dataset(path, Dataset({name: VideoRecord(name, s, "", (), 25.0) for name, s in durations_s.items()}))
    return path


def imported(tmp_path: Path, progress: Quiet | None = None, **options: Any) -> ImportResult:
    given = {"annotations": None, "stride_frames": 4.0, "clip_frames": 16, "fps": 30.0, "channels_first": False}
    out = tmp_path / "f.h5"
    return import_features(tmp_path / "in", out, **(given | options), progress=progress or Quiet())


def test_step_k_lies_at_the_centre_of_its_frames(tmp_path):
    saved(tmp_path / "in", v=5)
    result = imported(tmp_path)
    assert (result.videos, result.channels, result.steps) == (1, 3, 5)
    with read_store(tmp_path / "f.h5", kind="features") as store:
        np.testing.assert_allclose(store.stamps_s("v"), (np.arange(5) * 4 + 7.5) / 30)
        assert store.read("v", TRACK).shape == (5, 3)
        assert store.attributes("v")["duration_s"] == pytest.approx((4 * 4 + 16) / 30)


def test_durations_and_rates_come_from_the_annotations(tmp_path):
    saved(tmp_path / "in", v=25, w=25, stranger=3)
    told = Quiet()
    imported(tmp_path, told, annotations=annotated(tmp_path / "a.json", v=4.3, v_w=4.1, missing=9.0), fps=None)
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["v", "v_w"]
        assert store.attributes("v")["duration_s"] == 4.3
        assert store.stamps_s("v")[0] == 7.5 / 25
    assert "1 videos are not in" in told.warnings[0]
    assert "1 of its 3 videos have no features" in told.warnings[1]


def test_a_wrong_stride_is_refused_and_the_rest_is_kept(tmp_path):
    saved(tmp_path / "in", v=25, w=50)
    result = imported(tmp_path, annotations=annotated(tmp_path / "a.json", v=4.3, w=4.3), fps=None)
    assert result.videos == 1
    (error,) = result.failed.values()
    assert "50 steps of stride 4 at 25 frames per second end at 8.48 s, but 'w' lasts 4.30 s" in str(error)


def test_rescaled_steps_lie_evenly_over_the_duration(tmp_path):
    saved(tmp_path / "in", v=10)
    options = {"stride_frames": None, "clip_frames": None, "fps": None, "rescaled": True}
    imported(tmp_path, annotations=annotated(tmp_path / "a.json", v=100.0), **options)
    with read_store(tmp_path / "f.h5", kind="features") as store:
        np.testing.assert_allclose(store.stamps_s("v"), np.arange(10) * 10 + 5)
    with pytest.raises(UsageError, match="give them with --annotations"):
        imported(tmp_path, **options)


@pytest.mark.parametrize(("missing", "flag"), [("stride_frames", "--stride"), ("fps", "--fps")])
def test_what_nobody_says_is_asked_for_once(missing, flag, tmp_path):
    saved(tmp_path / "in", v=5, w=5)
    with pytest.raises(UsageError, match=f"give {flag}"):
        imported(tmp_path, **{missing: None})


def test_turned_arrays_are_told_from_their_channels(tmp_path):
    saved(tmp_path / "in", a=5)
    np.save(tmp_path / "in" / "b.npy", np.zeros((3, 7), np.float32))
    (error,) = imported(tmp_path).failed.values()
    assert str(error).endswith("'b' has 7 channels, others have 3; if they are (channels, steps), add --channels-first")
    np.save(tmp_path / "in" / "b.npy", np.zeros((4, 7), np.float32))
    (error,) = imported(tmp_path).failed.values()
    assert str(error).endswith("'b' has 7 channels, others have 3")


def test_two_files_of_one_video_are_refused(tmp_path):
    saved(tmp_path / "in", a=5, v_b=5)
    (tmp_path / "in" / "more").mkdir()
    np.save(tmp_path / "in" / "more" / "a.npy", np.zeros((5, 3), np.float32))
    np.save(tmp_path / "in" / "b.npy", np.zeros((5, 3), np.float32))
    result = imported(tmp_path, annotations=annotated(tmp_path / "a.json", a=0.8, v_b=0.8))
    assert result.videos == 2
    assert all("is also in" in str(error) for error in result.failed.values())
    assert len(result.failed) == 2


@pytest.mark.parametrize("given", [{"stride_frames": 4.0}, {"clip_frames": 16}, {"fps": 30.0}])
def test_rescaled_refuses_what_it_makes_no_use_of(given, tmp_path):
    saved(tmp_path / "in", v=10)
    options = {"stride_frames": None, "clip_frames": None, "fps": None, "rescaled": True} | given
    with pytest.raises(UsageError, match="leave out --stride, --clip-frames and --fps"):
        imported(tmp_path, annotations=annotated(tmp_path / "a.json", v=100.0), **options)


def test_one_video_that_cannot_be_used_costs_no_other_in_its_file(tmp_path):
    (tmp_path / "in").mkdir()
    with h5py.File(tmp_path / "in" / "all.h5", "w") as file:
        for name, value in (("a", 1.0), ("b", np.nan), ("c", 2.0)):
            file[name] = np.full((5, 3), value, np.float32)
    result = imported(tmp_path)
    (error,) = result.failed.values()
    assert "'b' holds values that are not finite" in str(error)
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["a", "c"]


def test_where_nothing_can_be_used_no_store_is_made(tmp_path):
    saved(tmp_path / "in", v=0)
    assert len(imported(tmp_path).failed) == 1
    saved(tmp_path / "in", v=5)
    with pytest.raises(UsageError, match="the stride of 'v' is not known; give --stride"):
        imported(tmp_path, stride_frames=None)
    assert not list(tmp_path.rglob("f.h5*"))


def test_features_of_other_videos_alone_are_refused(tmp_path):
    saved(tmp_path / "in", v=5)
    with pytest.raises(StoreError, match="none of its videos, such as 'v', is in"):
        imported(tmp_path, annotations=annotated(tmp_path / "a.json", w=0.8))


def test_videos_that_the_store_had_before_are_kept_and_told(tmp_path):
    saved(tmp_path / "in", v=5, w=5)
    imported(tmp_path)
    (tmp_path / "in" / "w.npy").unlink()
    told = Quiet()
    imported(tmp_path, told)
    assert f"keeps 1 videos from before, in {tmp_path}/f.h5.parts, such as 'w'" in told.warnings[0]
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["v", "w"]
        np.testing.assert_array_equal(store.read("w", TRACK), np.full((5, 3), 5.0))


def test_turned_arrays_are_told_from_the_length_of_their_video(tmp_path):
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "v.npy", np.zeros((3, 25), np.float32))
    (error,) = imported(tmp_path, annotations=annotated(tmp_path / "a.json", v=4.3), fps=None).failed.values()
    assert str(error).endswith("check --channels-first")


@pytest.mark.parametrize(("fps", "duration_s"), [(0.0, 4.3), (-25.0, 4.3), (25.0, 0.0)])
def test_rates_and_lengths_of_annotations_are_above_zero(fps, duration_s, tmp_path):
    saved(tmp_path / "in", v=25)
    write_dataset(tmp_path / "a.json", Dataset({"v": VideoRecord("v", duration_s, "", (), fps)}))
    (error,) = imported(tmp_path, annotations=tmp_path / "a.json", fps=None).failed.values()
    assert isinstance(error, AnnotationError)
    assert "in the annotations" in str(error)


def test_what_was_read_before_an_error_of_use_is_in_the_store(tmp_path):
    (tmp_path / "in").mkdir()
    np.savez(tmp_path / "in" / "a.npz", feats=np.zeros((5, 3), np.float32), stride=4)
    np.save(tmp_path / "in" / "b.npy", np.zeros((5, 3), np.float32))
    with pytest.raises(UsageError, match="the stride of 'b' is not known"):
        imported(tmp_path, stride_frames=None)
    with read_store(tmp_path / "f.h5", kind="features") as store:
        assert store.videos() == ["a"]


@pytest.mark.parametrize("index_deleted", [False, True])
def test_videos_of_other_channels_are_not_mixed_although_the_index_was_deleted(index_deleted, tmp_path):
    saved(tmp_path / "in", old=5)
    imported(tmp_path)
    if index_deleted:
        (tmp_path / "f.h5").unlink()
    (tmp_path / "in" / "old.npy").unlink()
    np.save(tmp_path / "in" / "new.npy", np.zeros((5, 7), np.float32))
    with pytest.raises(StoreError, match=r"'old' is in this store already and has 3 channels, these have 7; ") as error:
        imported(tmp_path)
    assert str(error.value).endswith(
        f"delete both {tmp_path / 'f.h5'} and the folder of its videos, {tmp_path}/f.h5.parts"
    )
    assert (tmp_path / "f.h5").exists() != index_deleted
    saved(tmp_path / "in", more=5)
    (tmp_path / "in" / "new.npy").unlink()
    told = Quiet()
    assert imported(tmp_path, told).videos == 1
    assert f"keeps 1 videos from before, in {tmp_path}/f.h5.parts, such as 'old'" in told.warnings[-1]
