"""A few samples with what the model said of them, from a run's `predictions.json`.

The file holds `{"note": …, "samples": [{"image": …, "target": …, "prediction": …, …}]}`: `image` is a PNG as a
`data:` address, `right` says whether the prediction is; all else is shown by its name.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from builder.report.markup import Markup, join, tag
from builder.report.page import badge
from builder.report.tables import value

FILE = "predictions.json"
MOST = 48
_PNG = re.compile(r"data:image/png;base64,[A-Za-z0-9+/]+=*")


def predictions_section(found: Any) -> Markup | None:
    """The samples; None if there are none."""
    samples = found.get("samples") if isinstance(found, Mapping) else None
    if not isinstance(samples, list) or not samples:
        return None
    note = tag("p", found["note"], class_="note") if found.get("note") else None
    shown = [each for each in samples if isinstance(each, Mapping)][:MOST]
    if any("image" in each for each in shown):
        return join((note, tag("div", *map(_figure, shown), class_="samples")))
    return join((note, value([{name: item for name, item in each.items() if name != "right"} for each in shown])))


def _figure(sample: Mapping[str, Any]) -> Markup:
    address = str(sample.get("image", ""))
    image = tag("img", src=address, alt="the sample") if _PNG.fullmatch(address) else None
    right = sample.get("right")
    mark = None if right is None else badge("right" if right else "wrong", "right" if right else "wrong")
    rest = [(name, item) for name, item in sample.items() if name not in ("image", "right")]
    lines = [tag("div", f"{name}: ", value(item)) for name, item in rest]
    return tag("figure", image, mark, *lines)
