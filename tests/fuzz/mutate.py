"""Mutations of a seed: bytes, numbers, pieces and tokens changed at random, the same for the same random numbers."""

from __future__ import annotations

import random
import struct
from collections.abc import Sequence

_NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
_TOKENS = (
    b"[", b"{", b"(", b"'", b'"', b"\n", b"\0", b":", b"- ", b"&a ", b"*a", b"<<: *a", b"!!", b"{{ ", b" }}", b"{% ",
    b"9" * 5000, b"[" * 2000, b"{" * 2000, b"-" * 500, b" " * 3000, b"1e999", b"NaN", b"-1", b"[0:99999999]",
    b"\xff\xfe", b"\xc3", b"\\ud800", b"\x1b]52;c;eA==\x07", b"../../", b"null", b"true", b"0x", b"!unsafe ",
)  # fmt: skip


def mutate(seed: bytes, others: Sequence[bytes], chance: random.Random) -> bytes:
    """A mutation of the seed, of one to eight steps; at most 1 MiB longer."""
    data = bytearray(seed)
    for _ in range(chance.choice((1, 1, 2, 3, 5, 8))):
        place = chance.randrange(len(data) + 1)
        kind = chance.randrange(8)
        if kind == 0 and place < len(data):
            data[place] = chance.randrange(256)
        elif kind == 1 and place < len(data):
            data[place] ^= 1 << chance.randrange(8)
        elif kind == 2:
            width = chance.choice((1, 2, 4, 8))
            number = (chance.choice(_NUMBERS) + chance.choice((0, 0, 1, -1))) % (1 << 8 * width)
            data[place : place + width] = struct.pack("<Q", number)[:width]
        elif kind == 3:
            del data[place : place + chance.choice((1, 2, 4, 16, 1000))]
        elif kind == 4:
            piece = data[place : place + chance.choice((1, 4, 16, 200, 4000))]
            data[place:place] = piece * min(chance.choice((1, 2, 50, 300)), 1 + (1 << 20) // (len(piece) + 1))
        elif kind == 5:
            data[place:place] = chance.choice(_TOKENS)
        elif kind == 6:
            other = chance.choice(others)
            start = chance.randrange(len(other) + 1)
            data[place:place] = other[start : start + chance.choice((4, 50, 1000))]
        elif kind == 7:
            del data[place:]
    return bytes(data[: len(seed) + (1 << 20)])


def smaller(data: bytes) -> list[bytes]:
    """The data without one of its pieces, large pieces first."""
    found = []
    size = len(data) // 2
    while size and len(found) < 400:
        found += [data[:at] + data[at + size :] for at in range(0, len(data), size)]
        size //= 2
    return found[:400]
