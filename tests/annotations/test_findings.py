"""Many findings are few lines, and nothing that is wrong goes untold."""

from __future__ import annotations

from tadkit.annotations.findings import MOST_ERRORS, Finding, lines


def past_end(count: int, *, level="warning") -> list[Finding]:
    return [Finding(level, f"v{place // 2}", "past-end", f"annotation {place} ends late") for place in range(count)]


def test_few_warnings_have_a_line_each():
    assert list(lines(past_end(3))) == [str(finding) for finding in past_end(3)]


def test_warnings_of_one_kind_share_a_line_at_the_place_of_the_first():
    error, other = Finding("error", "w", "past-end", "lies late"), Finding("warning", "w", "empty", "has no length")
    first, *rest = past_end(9)
    assert list(lines([error, first, other, *rest])) == [
        str(error),
        "warning: 9 of kind past-end in 5 videos ('v0', 'v1', 'v2', ...; --json lists all); "
        "the first: annotation 0 ends late",
        str(other),
    ]


def test_what_is_about_whole_files_is_never_put_together():
    counts = [Finding("warning", "", "counts", f"{subset}: other counts") for subset in "abcde"]
    assert list(lines(counts)) == [str(finding) for finding in counts]


def test_errors_have_a_line_each_up_to_a_limit_that_is_told():
    many = past_end(MOST_ERRORS, level="error")
    assert list(lines(many)) == [str(finding) for finding in many]
    more = [*many, Finding("error", "x", "form", "no"), *past_end(2, level="error")]
    assert list(lines(more))[MOST_ERRORS:] == ["error: 3 more errors (past-end 2, form 1); --json lists all"]
