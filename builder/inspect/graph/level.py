"""A model as a drawing: blocks and the wires between them, level by level; what repeats is drawn once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from builder.inspect.dimensions import NamedShape

Kind = Literal["input", "output", "entry", "exit", "module", "function", "tensor"]


@dataclass(frozen=True, slots=True)
class Block:
    """One thing that is drawn.

    `name` and `type` are its first two lines, `details` those below, `marks` what sets it apart: `frozen`, `shared`.
    `copies` is more than one for a block that stands for several alike which follow each other. `inside` is what
    shows when it is opened.
    """

    key: int
    kind: Kind
    name: str
    type: str = ""
    path: str = ""
    details: tuple[str, ...] = ()
    marks: tuple[str, ...] = ()
    inside: Level | None = None
    copies: int = 1

    @property
    def title(self) -> str:
        """The type, and how many copies it stands for."""
        return f"{self.type} × {self.copies}" if self.copies > 1 else self.type


@dataclass(frozen=True, slots=True)
class Wire:
    """Tensors that flow from a port of one block into a port of another, by the blocks' places in the level."""

    source: int
    port: int
    target: int
    at: int
    shape: NamedShape = ()


@dataclass(frozen=True, slots=True)
class Level:
    """Blocks in the order in which they ran, and the wires between them, which lead from earlier blocks to later."""

    blocks: tuple[Block, ...]
    wires: tuple[Wire, ...]


@dataclass(frozen=True, slots=True)
class Drawing:
    """A model to be drawn: its name, what it comes to in a line, its outermost level, and what there is to be said."""

    name: str
    facts: str
    level: Level
    notes: tuple[str, ...] = ()


def labels(wires: Sequence[Wire]) -> dict[tuple[int, int], str]:
    """The label of each pair of blocks that are wired: `[B, T], 2 × [B, 8]`."""
    found: dict[tuple[int, int], dict[str, int]] = {}
    for wire in wires:
        counts = found.setdefault((wire.source, wire.target), {})
        text = f"[{', '.join(wire.shape)}]"
        counts[text] = counts.get(text, 0) + 1
    return {
        pair: ", ".join(text if times == 1 else f"{times} × {text}" for text, times in counts.items())
        for pair, counts in found.items()
    }


def collapsed(level: Level) -> Level:
    """The level with numbered blocks that are alike and follow each other drawn as one, inside of blocks too."""
    blocks = [
        block if block.inside is None else replace(block, inside=collapsed(block.inside)) for block in level.blocks
    ]
    level = replace(level, blocks=tuple(blocks))
    kinds = [_kind(block) for block in blocks]
    for first in range(len(blocks)):
        if first < len(level.blocks):
            last = _last_alike(level, kinds, first)
            if last > first:
                level = _joined(level, first, last)
                kinds = [*kinds[: first + 1], *kinds[last + 1 :]]
    return level


def _last_alike(level: Level, kinds: Sequence[object], first: int) -> int:
    """The last block of those that are as `first` is and follow it one by one."""
    last = first
    blocks = level.blocks
    while last + 1 < len(blocks) and kinds[last + 1] == kinds[first] and _follows(blocks[last], blocks[last + 1]):
        if not _only_chained(level, first, last, last + 1):
            break
        last += 1
    return last


def _follows(block: Block, other: Block) -> bool:
    """Whether two blocks are neighbours in a container."""
    one, (start, number) = _numbered(block.name), _numbered(other.name)
    return block.kind == other.kind == "module" and one[0] == start and 0 <= one[1] == number - 1


def _numbered(name: str) -> tuple[str, int]:
    start, dot, number = name.rpartition(".")
    return start + dot, int(number) if number.isdecimal() else -9


def _only_chained(level: Level, first: int, one: int, other: int) -> bool:
    """Whether all that `one` gives goes into `other`, which takes of outside only what `first` takes of outside too."""
    inner = [wire for wire in level.wires if wire.source == one and wire.target == other]
    if not inner or any(wire.source == one and wire.target != other for wire in level.wires):
        return False
    chained = {wire.at for wire in inner}
    outside = {(wire.source, wire.port, wire.at) for wire in level.wires if wire.target == other and wire not in inner}
    before = {
        (wire.source, wire.port, wire.at) for wire in level.wires if wire.target == first and wire.at not in chained
    }
    return outside == before


def _joined(level: Level, first: int, last: int) -> Level:
    """The level with the blocks from `first` to `last` as one."""
    beginning, end = level.blocks[first], level.blocks[last]
    name = f"{beginning.name}–{_numbered(end.name)[1]}"
    block = replace(beginning, name=name, copies=last - first + 1)
    moved = {index: index for index in range(first)} | dict.fromkeys(range(first, last + 1), first)
    moved |= {index: index - (last - first) for index in range(last + 1, len(level.blocks))}
    wires = [
        replace(wire, source=moved[wire.source], target=moved[wire.target])
        for wire in level.wires
        if not first <= wire.source < last and not first < wire.target <= last
    ]
    return Level((*level.blocks[:first], block, *level.blocks[last + 1 :]), tuple(wires))


def _kind(block: Block) -> object:
    """What a block has to have in common with another to be drawn as one with it."""
    inside = None if block.inside is None else _kinds(block.inside)
    return block.kind, block.type, block.details, block.marks, block.copies, inside


def _kinds(level: Level) -> object:
    return tuple((block.name, _kind(block)) for block in level.blocks), level.wires
