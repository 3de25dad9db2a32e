"""The command line of this process, as it may be written down."""

from __future__ import annotations

import re
import sys


def command_line() -> list[str]:
    """Its words, without the passwords of URLs."""
    return [*map(without_password, sys.argv)]


def without_password(text: str) -> str:
    """A text whose URLs have no passwords any more: `postgresql://user:…@host/database`."""
    return re.sub(r"(://[^:/@\s]*):[^@/\s]*@", r"\1:…@", text)
