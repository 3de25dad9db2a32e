"""The section `load:`: what is loaded, from where, by which rules, and what may be missing. Opens no file."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from builder.config.origin import Origins
from builder.errors import ConfigError, Fault, Origin, Path, nearest
from builder.weights.entries import WeightsError
from builder.weights.keys import OriginOf, Rule, read_patterns, read_rules
from builder.weights.resize import Resize, read_resize
from builder.weights.sources import FORM, RUN, FindRun, misspelt, settled

KEYS = (
    "path", "into", "key", "weights", "rules", "shape", "missing", "unexpected", "strict", "min_loaded"
)  # fmt: skip
WEIGHTS = ("raw", "ema")
SHAPES = ("error", "skip", "resize")
LENIENCY = ("error", "warn")


@dataclass(frozen=True, slots=True)
class Allowed:
    """What may be missing (or unexpected): `error` nothing, `warn` anything, with patterns what they match."""

    policy: str = "error"
    patterns: tuple[tuple[str, Origin], ...] = ()


@dataclass(frozen=True, slots=True)
class ShapePolicy:
    """What happens where shapes differ: `error`, `skip`, or a `Resize`, for names that a pattern covers."""

    pattern: str
    what: str | Resize
    origin: Origin


@dataclass(frozen=True, slots=True)
class SourceSpec:
    """One mapping of the section; `path` is its place in the config and `origin_of` gives the origins below it."""

    path: Path
    origin_of: OriginOf
    source: str
    into: str
    key: str | None
    weights: str
    rules: tuple[Rule, ...]
    shapes: tuple[ShapePolicy, ...]
    default_shape: str | Resize
    missing: Allowed
    unexpected: Allowed
    min_loaded: float | None
    is_text: bool = False

    @property
    def origin(self) -> Origin:
        """Where it was written."""
        return self.origin_of(self.path)

    @property
    def place(self) -> Path:
        """The config path of what is opened: that of the key `path`, or of the whole source if it is a text."""
        return self.path if self.is_text else (*self.path, "path")

    def unreadable(self, error: WeightsError) -> Fault:
        """The fault of a file that can't be read."""
        return Fault(error.message, self.place, self.origin_of(self.place), hint=error.hint)


@dataclass(frozen=True, slots=True)
class LoadPlanSpec:
    """The section, read: the sources in order, and what finds a run by its name."""

    sources: tuple[SourceSpec, ...]
    find_run: FindRun | None = None


def read_load(
    section: Any, origins: Origins, path: Path = ("load",), *, find_run: FindRun | None = None
) -> LoadPlanSpec:
    """Read the section `load:`, a mapping or a list of mappings; None is no source, a text is a `path` alone.

    Raises:
        ConfigError: something is wrong that can be seen without opening a file.
    """
    if isinstance(section, Mapping | str):
        read = [_read_source(section, path, origins.of)]
    elif isinstance(section, list | tuple) or section is None:
        read = [_read_source(item, (*path, index), origins.of) for index, item in enumerate(section or ())]
    else:
        raise ConfigError(_not_a_source(section, path, origins.of))
    faults = [fault for _, some in read for fault in some]
    if faults:
        raise ConfigError(*faults)
    return LoadPlanSpec(tuple(source for source, _ in read if source is not None), find_run)


def _not_a_source(raw: Any, path: Path, origin_of: OriginOf) -> Fault:
    return Fault("this loads nothing", path, origin_of(path), raw, "a path, a mapping with 'path', or a list of such")


def resolved(spec: LoadPlanSpec) -> list[tuple[Path, str]]:
    """Of each source that is a run, its place in the config, and a text for it that no later run changes.

    The text is `run:FOLDER@WHICH`, the folder as `find_run` gives it.

    Raises:
        ConfigError: there is no such run, or it has no such checkpoint.
    """
    texts: list[tuple[Path, str]] = []
    faults = []
    for source in spec.sources:
        try:
            text = settled(source.source, spec.find_run)
        except WeightsError as error:
            faults.append(source.unreadable(error))
        else:
            texts += [(source.place, text)] if source.source.startswith(RUN) else []
    if faults:
        raise ConfigError(*faults)
    return texts


def _read_source(raw: Any, path: Path, origin_of: OriginOf) -> tuple[SourceSpec | None, list[Fault]]:
    is_text = isinstance(raw, str)
    raw = {"path": raw} if is_text else raw
    if not isinstance(raw, Mapping):
        return None, [_not_a_source(raw, path, origin_of)]
    reader = _Reader(raw, path, origin_of, [], is_text)
    reader.check_keys()
    rules, faults = read_rules(raw.get("rules") or [], (*path, "rules"), origin_of)
    reader.faults += faults
    shapes, default = reader.shape()
    key, weights = reader.text("key"), raw.get("weights", "raw")
    if weights not in WEIGHTS:
        reader.wrong("weights", "'weights' can't be used", "raw or ema", nearest(weights, WEIGHTS))
    elif key is not None and weights == "ema":
        reader.wrong("weights", "'key' says already which weights are taken", "'key' or 'weights', not both")
    spec = SourceSpec(
        path, origin_of, reader.source(), (reader.text("into") or ""), key, weights, rules, shapes, default,
        reader.allowed("missing"), reader.allowed("unexpected"), reader.share(), is_text,
    )  # fmt: skip
    reader.check_strict()
    return spec, reader.faults


@dataclass
class _Reader:
    """Reads the keys of one source, and notes what is wrong."""

    raw: Mapping[str, Any]
    path: Path
    origin_of: OriginOf
    faults: list[Fault]
    is_text: bool = False

    def wrong(self, key: str, message: str, expected: str | None = None, near: tuple[str, ...] = ()) -> None:
        place = (*self.path, key)
        self.faults.append(Fault(message, place, self.origin_of(place), self.raw.get(key), expected, near))

    def check_keys(self) -> None:
        for key in self.raw:
            if key not in KEYS:
                place = (*self.path, key)
                message, expected = f"unknown key {key!r}", f"one of {', '.join(KEYS)}"
                self.faults.append(Fault(message, place, self.origin_of(place), None, expected, nearest(key, KEYS)))

    def text(self, key: str) -> str | None:
        value = self.raw.get(key)
        if value is not None and (not isinstance(value, str) or not value):
            self.wrong(key, f"{key!r} is a text")
        return value if isinstance(value, str) else None

    def source(self) -> str:
        value = self.raw.get("path")
        if not isinstance(value, str):
            message = "'path' is a text" if "path" in self.raw else "this names no 'path' to load"
            place = (*self.path, "path") if "path" in self.raw else self.path
            expected = f"a file, a folder, or {FORM}"
            self.faults.append(Fault(message, place, self.origin_of(place), value, expected))
            return ""
        problem = misspelt(value)
        if problem is not None:
            place = self.path if self.is_text else (*self.path, "path")
            message, expected = f"'path' can't be used: {problem}", f"a file, a folder, or {FORM}"
            self.faults.append(Fault(message, place, self.origin_of(place), value, expected))
        return value

    def share(self) -> float | None:
        value = self.raw.get("min_loaded")
        if value is None:
            return None
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= 1:
            self.wrong("min_loaded", "'min_loaded' can't be used", "a share above 0, at most 1")
            return None
        return float(value)

    def check_strict(self) -> None:
        """`strict` adds nothing to the defaults: it forbids what softens them."""
        if "strict" not in self.raw or self.raw["strict"] is None:
            return
        if self.raw["strict"] is not True:
            self.wrong(
                "strict",
                "'strict' can only be true",
                "true; what may differ is said by missing: warn, unexpected: warn",
            )
            return
        for key in ("shape", "missing", "unexpected"):
            if self.raw.get(key, "error") not in ("error", {"default": "error"}):
                self.wrong(key, f"'strict: true' and this {key!r} contradict each other", "one of the two")

    def allowed(self, key: str) -> Allowed:
        value, place = self.raw.get(key, "error"), (*self.path, key)
        if value in LENIENCY:
            return Allowed(value)
        wrong = [name for name in value if name != "allow"] if isinstance(value, Mapping) else []
        for name in wrong:
            here, message = (*place, name), f"unknown key {name!r} of {key!r}"
            self.faults.append(Fault(message, here, self.origin_of(here), None, "allow", nearest(name, ["allow"])))
        if not isinstance(value, Mapping) or "allow" not in value:
            if not wrong:
                near = nearest(value, LENIENCY)
                self.wrong(key, f"{key!r} can't be used", "error, warn, or {allow: [patterns]}", near)
            return Allowed()
        place = (*place, "allow")
        found, faults = read_patterns(value["allow"], place, self.origin_of(place))
        self.faults += faults
        indexed = isinstance(value["allow"], list | tuple)
        origins = [self.origin_of((*place, index) if indexed else place) for index in range(len(found))]
        return Allowed("allow", tuple(zip(found, origins, strict=True)))

    def shape(self) -> tuple[tuple[ShapePolicy, ...], str | Resize]:
        value, place = self.raw.get("shape", "error"), (*self.path, "shape")
        if not isinstance(value, Mapping) or "resize" in value:
            return (), self.shape_policy(value, place)
        policies, default = [], "error"
        for pattern, what in value.items():
            here = (*place, pattern)
            read = self.shape_policy(what, here)
            if pattern == "default":
                default = read
                continue
            self.faults += read_patterns(pattern, here, self.origin_of(here))[1]
            policies.append(ShapePolicy(str(pattern), read, self.origin_of(here)))
        return tuple(policies), default

    def shape_policy(self, value: Any, place: Path) -> Any:
        if isinstance(value, Mapping) and "resize" in value:
            return self.resize(value, place)
        if value == "resize":
            return Resize()
        if value not in SHAPES:
            expected = "error, skip, resize, {resize: bicubic, …}, or a mapping from patterns to these"
            near = nearest(value, SHAPES) if isinstance(value, str) else ()
            message = "this is no policy for shapes that differ"
            self.faults.append(Fault(message, place, self.origin_of(place), value, expected, near))
        return value

    def resize(self, value: Mapping[str, Any], place: Path) -> Resize | str:
        resize, key, expected = read_resize(value)
        if resize is not None:
            return resize
        known = ("resize", "channels", "prefix", "grid", "source_grid", "antialias")
        here, found = (*place, str(key)), value[str(key)] if expected else None
        message = f"{key!r} can't be used" if expected else f"unknown key {key!r} of a resize"
        near = () if expected else nearest(key, known)
        expected = expected or f"one of {', '.join(known)}"
        self.faults.append(Fault(message, here, self.origin_of(here), found, expected, near))
        return "resize"
