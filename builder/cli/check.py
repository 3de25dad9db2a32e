"""`builder check`: everything up to the first training step, and no training."""

from __future__ import annotations

import dataclasses
from typing import Any

from builder.cli.collector import uncollected
from builder.cli.options import Common, Json, Overrides, compose_of
from builder.cli.output import print_json
from builder.errors import BuilderError, ConfigError, Fault, dotted


def check(common: Common, overrides: Overrides = None, as_json: Json = False) -> int:
    """Check a config without training.

    Everything up to the first training step is done: the config composed, the data loaded, the model's shapes found.
    All that is wrong is told at once, with exit code 2.
    """
    try:
        with uncollected():
            composed = compose_of(common, overrides)
            from builder.check import check as run

        report = run(composed)
    except BuilderError as error:
        if not as_json:
            raise
        print_json({"ok": False, "faults": _faults(error)})
        return error.exit_code
    if as_json:
        print_json({"ok": True, **dataclasses.asdict(report)})
    else:
        print(report)
    return 0


def _faults(error: BuilderError) -> list[dict[str, Any]]:
    if isinstance(error, ConfigError):
        return [fault_as_json(fault) for fault in error.faults]
    return [{"message": str(error)}]


def fault_as_json(fault: Fault) -> dict[str, Any]:
    """A fault for programs: its fields, without those that say nothing."""
    origin = {key: value for key in ("file", "line", "column", "override") if (value := getattr(fault.origin, key))}
    values = {
        "message": fault.message,
        "path": dotted(fault.path),
        "origin": origin,
        "found": fault.found,
        "expected": fault.expected,
        "nearest": list(fault.nearest),
        "hint": fault.hint,
    }
    return {key: value for key, value in values.items() if value not in (None, "", [], {})}
