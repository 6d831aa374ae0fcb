from __future__ import annotations

from tadkit.progress import Quiet


def test_quiet_prints_nothing_and_keeps_warnings(capsys):
    quiet = Quiet()
    quiet.start("decode", total=2, unit="frames")
    quiet.advance(2, note="fast")
    quiet.warn("dark")
    captured = capsys.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert quiet.warnings == ["dark"]
