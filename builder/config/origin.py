"""Where each value of a config was written."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from builder.errors import DEFAULT, Origin, Path


class Origins:
    """The origin of each path of a config; a path without one has that of its nearest ancestor."""

    def __init__(self, known: Mapping[Path, Origin] | None = None) -> None:
        self._known: dict[Path, Origin] = dict(known or {})

    def of(self, path: Path) -> Origin:
        """The origin of a path, or of the nearest ancestor that has one, or a default's."""
        for end in range(len(path), -1, -1):
            origin = self._known.get(path[:end])
            if origin is not None:
                return origin
        return DEFAULT

    def set(self, path: Path, origin: Origin) -> None:
        """Note where the value at `path` was written."""
        self._known[path] = origin

    def merge(self, other: Origins | Mapping[Path, Origin], prefix: Path = ()) -> None:
        """Take over all of another's origins, below `prefix`; the other's win."""
        self._known.update({prefix + path: origin for path, origin in other.items()})

    def discard(self, path: Path) -> None:
        """Forget the origin of a path, not those below it."""
        self._known.pop(path, None)

    def under(self, prefix: Path) -> Origins:
        """The origins of what lies at `prefix` and below, by their paths from there."""
        depth = len(prefix)
        found = {path[depth:]: origin for path, origin in self._known.items() if path[:depth] == prefix}
        found.setdefault((), self.of(prefix))
        return Origins(found)

    def items(self) -> Iterator[tuple[Path, Origin]]:
        """Every known path with its origin."""
        return iter(self._known.items())

    def __contains__(self, path: object) -> bool:
        return path in self._known

    def __len__(self) -> int:
        return len(self._known)
