"""Puts the blocks of a level into rows, top to bottom, and the blocks of a row into an order with few crossings.

Layers by longest paths, then sweeps of barycentres (Sugiyama, Tagawa and Toda 1981). Where a wire passes a row it has a
bend there; wires from one block share theirs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from builder.inspect.graph.level import Level

SWEEPS = 8

Pair = tuple[int, int]


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows of nodes from left to right: below `blocks` a node is a block's place in its level, from there on a bend.

    `routes` has the nodes that each wired pair of blocks leads over, both ends included.
    """

    blocks: int
    rows: tuple[tuple[int, ...], ...]
    routes: Mapping[Pair, tuple[int, ...]]

    def segments(self) -> list[Pair]:
        """The pairs of nodes in neighbouring rows that are joined, each once."""
        steps = (pair for route in self.routes.values() for pair in zip(route, route[1:], strict=False))
        return list(dict.fromkeys(steps))


def rows_of(level: Level) -> Rows:
    """The rows of a level."""
    pairs = list(dict.fromkeys((wire.source, wire.target) for wire in level.wires))
    ranks = _ranks(level, pairs)
    bends: dict[tuple[int, int], int] = {}
    routes = {}
    for source, target in pairs:
        passed = [(source, rank) for rank in range(ranks[source] + 1, ranks[target])]
        for place in passed:
            bends.setdefault(place, len(level.blocks) + len(bends))
        routes[source, target] = (source, *(bends[place] for place in passed), target)
    rows: list[list[int]] = [[] for _ in range(max(ranks, default=-1) + 1)]
    for index, rank in enumerate(ranks):
        rows[rank].append(index)
    for (_, rank), bend in bends.items():
        rows[rank].append(bend)
    unsorted = Rows(len(level.blocks), tuple(map(tuple, rows)), routes)
    return Rows(len(level.blocks), _sorted(unsorted), routes)


def _ranks(level: Level, pairs: Sequence[Pair]) -> list[int]:
    """The row of each block: below all that it takes, and no further up than it needs to be if it takes nothing."""
    count = len(level.blocks)
    if not pairs:
        return list(range(count))
    ranks = [0] * count
    for source, target in sorted(pairs, key=lambda pair: pair[1]):
        ranks[target] = max(ranks[target], ranks[source] + 1)
    takes = {target for _, target in pairs}
    below: dict[int, int] = {}
    for source, target in pairs:
        below[source] = min(below.get(source, ranks[target]), ranks[target])
    for index, block in enumerate(level.blocks):
        if index not in takes and index in below and block.kind not in ("input", "entry"):
            ranks[index] = below[index] - 1
        if block.kind in ("output", "exit"):
            ranks[index] = max(ranks)
    return ranks


def _sorted(unsorted: Rows) -> tuple[tuple[int, ...], ...]:
    """The rows with the least crossings that the sweeps come by."""
    above: dict[int, list[int]] = {}
    below: dict[int, list[int]] = {}
    for one, other in unsorted.segments():
        above.setdefault(other, []).append(one)
        below.setdefault(one, []).append(other)
    rows = [list(row) for row in unsorted.rows]
    best, least = [list(row) for row in rows], _crossings(rows, below)
    for sweep in range(SWEEPS):
        if not least:
            break
        down = sweep % 2 == 0
        neighbours = above if down else below
        for index in range(1, len(rows)) if down else range(len(rows) - 2, -1, -1):
            fixed = {node: place for place, node in enumerate(rows[index - 1 if down else index + 1])}
            rows[index] = _by_barycentre(rows[index], neighbours, fixed)
        crossings = _crossings(rows, below)
        if crossings < least:
            best, least = [list(row) for row in rows], crossings
    return tuple(map(tuple, best))


def _by_barycentre(row: list[int], neighbours: Mapping[int, list[int]], fixed: Mapping[int, int]) -> list[int]:
    places = {node: float(place) for place, node in enumerate(row)}
    for node in row:
        joined = [fixed[other] for other in neighbours.get(node, ())]
        if joined:
            places[node] = sum(joined) / len(joined)
    return sorted(row, key=places.__getitem__)


def _crossings(rows: Sequence[Sequence[int]], below: Mapping[int, list[int]]) -> int:
    """How many pairs of segments cross."""
    count = 0
    for row, following in zip(rows, rows[1:], strict=False):
        places = {node: place for place, node in enumerate(following)}
        ends = [sorted(places[other] for other in below.get(node, ())) for node in row]
        flat = [end for each in ends for end in each]
        if len(flat) > len(row) or len(row) > 1:
            count += sum(flat[i] > flat[j] for i in range(len(flat)) for j in range(i + 1, len(flat)))
    return count
