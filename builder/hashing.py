"""Randomness as a function of place: seeds derived from names and numbers, never from the state of a generator."""

from __future__ import annotations

import hashlib


def derive(*place: int | str) -> int:
    """A number in [0, 2**63) that is a pure function of `place`, e.g. `derive(seed, "order", epoch)`.

    The same on every machine and in every version of Python: BLAKE2b of the written form.
    """
    digest = hashlib.blake2b(repr(place).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") >> 1
