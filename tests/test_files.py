from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tadkit.errors import AnnotationError, UsageError
from tadkit.files import canonical_json, digest_of, digest_of_file, read_json, whole_file, write_text


def test_a_file_appears_whole_when_the_block_ends(tmp_path):
    path = tmp_path / "new" / "dets.json"
    with whole_file(path) as temporary:
        temporary.write_text("all of it")
        assert not path.exists()
        assert temporary.suffix == ".json"
    assert path.read_text() == "all of it"
    assert list(path.parent.iterdir()) == [path]


def test_after_a_failure_the_old_file_is_what_it_was(tmp_path):
    path = tmp_path / "dets.json"
    path.write_text("old")

    def fail() -> None:
        with whole_file(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.skipif(os.name != "posix", reason="permissions as of POSIX")
def test_a_written_file_has_the_permissions_of_any_other(tmp_path):
    (tmp_path / "usual").touch()
    write_text(tmp_path / "ours", "text")
    assert stat.S_IMODE((tmp_path / "ours").stat().st_mode) == stat.S_IMODE((tmp_path / "usual").stat().st_mode)


def test_a_folder_that_cannot_be_made_is_a_usage_error_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match=r"file/x\.json: cannot be written"):
        write_text(tmp_path / "file" / "x.json", "text")


def test_reading_json_names_the_path_and_raises_the_error_asked_for(tmp_path):
    path = tmp_path / "a.json"
    with pytest.raises(AnnotationError, match=r"a\.json: no such file"):
        read_json(path, error=AnnotationError)
    path.write_text("{")
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON"):
        read_json(path, error=AnnotationError)
    with pytest.raises(AnnotationError, match="cannot be read"):
        read_json(tmp_path, error=AnnotationError)
    path.write_bytes(b"\xff")
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON"):
        read_json(path, error=AnnotationError)
    path.write_text('{"a": 1}')
    assert read_json(path, error=AnnotationError) == {"a": 1}


def test_digests_do_not_see_the_order_of_keys_but_every_value():
    assert digest_of({"a": 1, "b": [2, 3]}) == digest_of({"b": [2, 3], "a": 1})
    assert digest_of({"a": 1, "b": [2, 3]}) != digest_of({"a": 1, "b": [3, 2]})
    assert digest_of({"a": 1}) != digest_of({"a": 1.5})


def test_nan_has_no_canonical_form():
    with pytest.raises(ValueError, match="not JSON compliant"):
        canonical_json(float("nan"))


def test_digest_of_a_file_is_sha256(tmp_path):
    path = tmp_path / "abc"
    path.write_bytes(b"abc")
    assert digest_of_file(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"


def test_digest_of_a_file_larger_than_one_read(tmp_path):
    path = tmp_path / "large"
    path.write_bytes(b"x" * (1 << 20) + b"tail")
    other = tmp_path / "other"
    other.write_bytes(b"x" * (1 << 20) + b"tial")
    assert digest_of_file(path) != digest_of_file(other)


@given(st.dictionaries(st.text(), st.integers() | st.text() | st.lists(st.integers())))
def test_canonical_json_is_one_line_for_any_order(values):
    backwards = dict(reversed(values.items()))
    assert canonical_json(values) == canonical_json(backwards)
    assert "\n" not in canonical_json(values)


def test_a_name_that_is_a_folder_or_too_long_is_a_usage_error(tmp_path):
    (tmp_path / "folder").mkdir()
    for name in ("folder", "n" * 300):
        with pytest.raises(UsageError, match="cannot be written"):
            write_text(tmp_path / name, "text")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def test_a_byte_order_mark_is_passed_over(tmp_path):
    (tmp_path / "a.json").write_bytes(b"\xef\xbb\xbf[1]")
    assert read_json(tmp_path / "a.json", error=AnnotationError) == [1]


@pytest.mark.parametrize("text", ["[" * 100_000, '["\\ud800"]', '["\\uDFFF"]'])
def test_json_that_is_too_deep_or_no_unicode_is_refused(text, tmp_path):
    (tmp_path / "a.json").write_text(text)
    with pytest.raises(AnnotationError, match=r"a\.json: not JSON"):
        read_json(tmp_path / "a.json", error=AnnotationError)


def test_characters_beyond_the_basic_plane_may_be_escaped(tmp_path):
    (tmp_path / "a.json").write_text('["\\ud83c\\udfc3"]')
    assert read_json(tmp_path / "a.json", error=AnnotationError) == ["\U0001f3c3"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's device that is always full")
def test_a_full_disk_is_told_in_a_line_and_leaves_what_was_there(tmp_path):
    (tmp_path / "a.txt").write_text("old")
    with (
        pytest.raises(UsageError, match=r"a\.txt: cannot be written \(No space left on device\); free some disk space"),
        whole_file(tmp_path / "a.txt"),
    ):
        Path("/dev/full").write_text("new")
    assert [path.name for path in tmp_path.iterdir()] == ["a.txt"]
    assert (tmp_path / "a.txt").read_text() == "old"


@pytest.mark.skipif(os.name != "posix", reason="limits are POSIX")
def test_a_file_larger_than_allowed_is_told_in_a_line(tmp_path):
    code = (
        "import pathlib, resource, signal, sys\n"
        "from tadkit.errors import UsageError; from tadkit.files import write_text\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN); resource.setrlimit(resource.RLIMIT_FSIZE, (9, 9))\n"
        "try: write_text(pathlib.Path(sys.argv[1]), 'x' * 10)\n"
        "except UsageError as error: print(error)"
    )
    words = [sys.executable, "-c", code, str(tmp_path / "a.txt")]
    ran = subprocess.run(words, capture_output=True, text=True, check=True, timeout=60)
    assert "a.txt: cannot be written (File too large); free some disk space" in ran.stdout
    assert list(tmp_path.iterdir()) == []
