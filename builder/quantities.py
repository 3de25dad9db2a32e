"""Numbers as people read them: counts and sizes in three digits."""

from __future__ import annotations

from collections.abc import Sequence

UNITS = ("", " k", " M", " G", " T", " P", " E")
BYTES = (" B", " KiB", " MiB", " GiB", " TiB", " PiB")


def rounded(number: float) -> str:
    """A count in three digits: `1.23 M`."""
    return _scaled(number, 1000, UNITS)


def in_bytes(number: float) -> str:
    """A size in three digits: `1.23 MiB`."""
    return _scaled(number, 1024, BYTES)


def _scaled(number: float, base: int, units: Sequence[str]) -> str:
    power = 0
    while number >= 999.5 and power < len(units) - 1:
        number, power = number / base, power + 1
    digits = 0 if not power or number >= 99.95 else 1 if number >= 9.995 else 2
    return f"{number:.{digits}f}{units[power]}"
