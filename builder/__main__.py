"""`python -m builder`, the same as the command `builder`."""

from __future__ import annotations

import sys

from builder.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
