"""`builder rerun`: train a run again, and say whether the same came out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common, Json, load_plugins_of
from builder.cli.output import print_json, styled
from builder.cli.runs import Name
from builder.durable import plain

if TYPE_CHECKING:
    from builder.rerun import Rerun

Check = Annotated[bool, typer.Option("--check", help="Only say what differs from then; train nothing.")]


def rerun(common: Common, run: Name, check: Check = False, as_json: Json = False) -> int:
    """Train a run again from its own config, and say whether metrics and weights are the same, bit for bit.

    Before that it says what differs from when the run was made: commit and uncommitted changes, versions, machine,
    data, weights that were loaded. The exit code is 0 if the same came out, else 1; with --check, 0 if nothing differs.
    Your own layers are imported by --import, as then.
    """
    from builder.runs.find import find_run

    found = find_run(run)
    load_plugins_of(common)
    from builder.rerun import Rerun, again, look

    ready, changes = look(found, common.config_dir)
    if not as_json:
        count = f"{len(changes)} difference{'s' if len(changes) > 1 else ''}"
        print(f"{count} from then:" if changes else "nothing differs from then: code, versions, machine, data")
        for change in changes:
            print(f"  {change}")
    result = Rerun(found, changes) if check else again(found, ready, changes, quiet=common.quiet or as_json)
    if as_json:
        print_json(_as_json(result))
    elif result.again is not None:
        _print(result)
    return 0 if result.is_identical else 1


def _print(result: Rerun) -> None:
    """What came out, the new folder on the last line."""
    if result.is_identical:
        print(f"{styled('identical', fg='green', bold=True)}, bit for bit: {', '.join(result.same)}")
    else:
        print(f"{styled('not identical', fg='red', bold=True)}:")
        for line in result.different:
            print(f"  {line}")
        print(f"the same: {', '.join(result.same) or 'nothing'}")
    print(result.again)


def _as_json(result: Rerun) -> dict[str, Any]:
    return {
        "run": str(result.run), "again": None if result.again is None else str(result.again),
        "identical": result.is_identical,
        "changes": [{"what": one.what, "then": plain(one.then), "now": plain(one.now)} for one in result.changes],
        "same": list(result.same), "different": list(result.different),
    }  # fmt: skip
