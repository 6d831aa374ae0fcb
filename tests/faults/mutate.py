"""Damage to bytes and to JSON values, drawn from a seed."""

from __future__ import annotations

import random
from typing import Any

NUMBERS = (0, 1, -1, 127, 128, 255, 256, 32767, 65535, 2**31 - 1, 2**31, 2**32 - 1, 2**63 - 1, 2**64 - 1)
ODD_VALUES: tuple[Any, ...] = (
    *(None, True, -1, 0, 2**63, 10**400, 1e308, -1e-308, float("nan"), float("inf"), "", "\0", "\ud800", "../../x"),
    *("/etc/passwd", "a" * 5000, "1e999", "\x1b[31m", [], {}, [[]], [None], {"a": []}, {"": ""}, [1, 2, 3]),
)
ODD_WORDS = (
    *(b"", b"0", b"-1", b"1e999", b"nan", b"inf", b"99999999999999999999", b"1" * 5000, b"\0", b"\xff\xfe", b'"', b"'"),
    *(b"\xef\xbb\xbf", b"\r", b",,,,", b"../../../../etc/passwd", b"/etc/passwd", b"\xed\xa0\x80", b"null", b"true"),
    *(b"<!--", b"]]>", b"&x;", b"[" * 3000, b"{" * 3000, b"(" * 300, b"\\u0000", b"\\ud800", b"%00", b"${HOME}"),
)


def damaged(content: bytes, chance: random.Random) -> bytes:
    """``content`` with one to a few kinds of damage."""
    found = bytearray(content)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        chance.choice((_flip, _flip, _overwrite, _overwrite, _cut, _remove, _repeat, _insert, _zero))(found, chance)
    return bytes(found)


def _at(found: bytearray, chance: random.Random) -> int:
    """A place; the start, where headers are, more often than others."""
    most = len(found) if chance.random() < 0.5 else min(len(found), 512)
    return chance.randrange(max(1, most))


def _flip(found: bytearray, chance: random.Random) -> None:
    for _ in range(chance.choice((1, 1, 3, 16, 64))):
        if found:
            found[_at(found, chance) % len(found)] ^= 1 << chance.randrange(8)


def _overwrite(found: bytearray, chance: random.Random) -> None:
    """A number of 1 to 8 bytes in place of what is there, as sizes and counts are."""
    width = chance.choice((1, 2, 4, 4, 8))
    value = chance.choice(NUMBERS) if chance.random() < 0.7 else chance.getrandbits(64)
    at = _at(found, chance)
    found[at : at + width] = (value % (1 << 8 * width)).to_bytes(width, chance.choice(("big", "little")))


def _cut(found: bytearray, chance: random.Random) -> None:
    del found[chance.randrange(len(found) + 1) :]


def _remove(found: bytearray, chance: random.Random) -> None:
    at = _at(found, chance)
    del found[at : at + chance.choice((1, 2, 8, 100, 4096))]


def _repeat(found: bytearray, chance: random.Random) -> None:
    at = _at(found, chance)
    part = found[at : at + chance.choice((1, 8, 100, 4096))]
    found[at:at] = part * chance.choice((1, 2, 20))


def _insert(found: bytearray, chance: random.Random) -> None:
    at = _at(found, chance)
    found[at:at] = chance.choice(ODD_WORDS) if chance.random() < 0.5 else chance.randbytes(chance.choice((1, 7, 300)))


def _zero(found: bytearray, chance: random.Random) -> None:
    at, width = _at(found, chance), chance.choice((4, 64, 1024))
    found[at : at + width] = bytes(len(found[at : at + width]))


def damaged_value(value: Any, chance: random.Random) -> Any:
    """A JSON value with another value somewhere in it, or with a part removed, repeated or nested deeply."""
    if isinstance(value, dict) and value and chance.random() < 0.85:
        name = chance.choice(list(value))
        others = {key: inner for key, inner in value.items() if key != name}
        if chance.random() < 0.1:
            return others
        if chance.random() < 0.1:
            return others | {chance.choice(("", "\ud800", "../x", "a" * 3000, name.upper())): value[name]}
        return value | {name: damaged_value(value[name], chance)}
    if isinstance(value, list) and value and chance.random() < 0.85:
        at = chance.randrange(len(value))
        if chance.random() < 0.1:
            return value[:at] + value[at + 1 :]
        if chance.random() < 0.1:
            return value * chance.choice((2, 50))
        return [*value[:at], damaged_value(value[at], chance), *value[at + 1 :]]
    if chance.random() < 0.05:
        for _ in range(chance.choice((10, 300))):
            value = [value]
        return value
    return chance.choice(ODD_VALUES)
