"""The config of a run in its report, each line with the place where it was written."""

from __future__ import annotations

import pathlib

from builder.config.yaml_file import parse_yaml
from builder.durable import told
from builder.errors import ConfigError, dotted
from builder.report.attempts import changed_keys
from builder.report.markup import Markup, join, tag
from builder.runs.compare import read_json
from builder.runs.record import CONFIG

ORIGINS = "origins.json"
"""Where each value of the config was written: a text for each dotted key."""


def config_section(run: pathlib.Path) -> list[Markup]:
    """The overrides and the config; nothing if it isn't there."""
    path, overrides = run / CONFIG, run / "overrides.txt"
    if not path.is_file():
        return []
    made = []
    with told("read", path):
        text = path.read_text(encoding="utf-8", errors="replace")
        said = overrides.read_text(encoding="utf-8", errors="replace") if overrides.is_file() else ""
    if said.strip():
        made += [tag("h3", "Overrides"), tag("pre", said.rstrip("\n"))]
    known = read_json(run / ORIGINS)
    if isinstance(known, dict):
        known = {**known, **changed_keys(run)}
    made += [tag("h3", "Config"), _with_origins(text, known)]
    return made


def _with_origins(text: str, origins: object) -> Markup:
    """The text, and beside each line that a key stands on, where that was written."""
    known = {str(key): str(value) for key, value in origins.items()} if isinstance(origins, dict) else {}
    places = _places(text, known) if known else {}
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        rows += [tag("code", line or " "), tag("span", places.get(number, ""))]
    return tag("div", tag("div", join(rows), class_="config"), class_="scroll")


def _places(text: str, known: dict[str, str]) -> dict[int, str]:
    """The origin for each line of a YAML text; of several keys on one line that of the innermost."""
    try:
        document = parse_yaml(text, CONFIG)
    except ConfigError:
        return {}
    places: dict[int, str] = {}
    for path, origin in document.origins.items():
        if origin.line is not None and path:
            said = known.get(dotted(path))
            if said is not None:
                places[origin.line] = said
    return places
