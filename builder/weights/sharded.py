"""Weights in several files, and the index that says which tensor lies in which."""

from __future__ import annotations

import json
import pathlib
from collections.abc import Callable
from typing import Any

from builder.weights.entries import Entry, WeightsError, WeightsFile

INDEX = ".index.json"


def open_sharded(path: pathlib.Path, open_shard: Callable[[pathlib.Path], WeightsFile]) -> WeightsFile:
    """The tensors of all shards that an index names, in its order.

    Raises:
        WeightsError: the index is wrong, or a shard is missing, damaged, or lacks a tensor.
    """
    places = _weight_map(path)
    names = sorted(set(places.values()))
    missing = [name for name in names if not (path.parent / name).is_file()]
    if missing:
        raise WeightsError(
            f"{path} names {len(names)} shards, of which {len(missing)} aren't there: {', '.join(missing)}",
            "they belong into the folder of the index",
        )
    shards = {name: open_shard(path.parent / name) for name in names}
    entries = {key: _entry(path, key, shards[place]) for key, place in places.items()}
    extra = [key for shard in shards.values() for key in shard.entries if key not in places]
    notes = (f"left out, since the index doesn't name them: {', '.join(extra)}",) if extra else ()
    kind = f"{len(names)} shards, {shards[names[0]].format}" if names else "an index without shards"
    paths = tuple(path.parent / name for name in names)
    return WeightsFile(path, kind, entries, lambda key: shards[places[key]].read(key), notes, shards=paths)


def _weight_map(path: pathlib.Path) -> dict[str, str]:
    try:
        index: Any = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    except (ValueError, RecursionError) as error:
        raise WeightsError(f"{path} is no index of shards: {error}") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict):
        raise WeightsError(f"{path} is no index of shards: it has no 'weight_map'")
    for name in places.values():
        if not isinstance(name, str) or pathlib.PurePath(name).name != name:
            raise WeightsError(f"{path} names the shard {name!r}, which is no file beside it")
    return places


def _entry(path: pathlib.Path, key: str, shard: WeightsFile) -> Entry:
    if key not in shard.entries:
        raise WeightsError(f"{path} says that {key!r} is in {shard.path.name}, but it isn't")
    entry = shard.entries[key]
    return Entry(entry.shape, entry.dtype, key, entry.version)
