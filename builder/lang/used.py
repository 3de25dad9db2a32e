"""What checking a text collects: the names it uses."""

from __future__ import annotations

from dataclasses import dataclass, field

from builder.lang.scope import Reference

Names = dict[str, None]
"""Names in order of first use; the values mean nothing."""


@dataclass(slots=True)
class Used:
    """The names a text uses. `reads` and `writes` are buffers; `functions` holds constants too.

    `lookups` are the keys taken from mappings (`output.depth`); `references` the paths below opaque layers, by the node
    that ends them.
    """

    inputs: Names = field(default_factory=dict)
    args: Names = field(default_factory=dict)
    layers: Names = field(default_factory=dict)
    parameters: Names = field(default_factory=dict)
    functions: Names = field(default_factory=dict)
    builtins: Names = field(default_factory=dict)
    reads: Names = field(default_factory=dict)
    writes: Names = field(default_factory=dict)
    lookups: dict[tuple[str, str], None] = field(default_factory=dict)
    references: dict[int, Reference] = field(default_factory=dict)
