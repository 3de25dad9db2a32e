"""`builder doctor`: what is wrong with layers that were written in Python."""

from __future__ import annotations

import sys

from builder.cli.options import Common, Json, load_plugins_of
from builder.cli.output import print_json, styled
from builder.cli.show_model import Words, chosen_model


def doctor(common: Common, words: Words = None, as_json: Json = False) -> int:
    """Look for mistakes in your own Python layers: --import layers.py.

    Modules and tensors that no optimiser or checkpoint sees, a forgotten super().__init__(), forward called directly,
    devices that are written out, what can't be pickled: each with file, line and the mend. The layers' source is read
    and they are made: as the config makes them that the words name, else with their defaults. Exit code 1 if something
    is found. A line that ends in `# doctor: fine` isn't told of.
    """
    load_plugins_of(common)
    chosen = chosen_model(common, words) if words else None
    from builder.preview import examine_layers

    report = examine_layers(chosen)
    if as_json:
        print_json(report.to_json())
        return int(bool(report.findings))
    for finding in report.findings:
        head, rest = str(finding).split("\n", 1)
        place, _, message = head.partition(": ")
        print(f"{styled(place, bold=True)}: {message}", rest, sep="\n")
    for note in report.notes:
        print(f"note: {note}", file=sys.stderr)
    if not report.layers:
        print("no layers of your own are registered; name their file: builder doctor --import layers.py")
    elif report.findings:
        print(f"{len(report.findings)} {'finding' if len(report.findings) == 1 else 'findings'}")
    else:
        print(f"nothing found in {', '.join(report.layers)}")
    return int(bool(report.findings))
