"""Lays the tensors of one source beside those of the model: what fits, what is resized or skipped, what is left."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from builder import patterns
from builder.errors import Fault, Path
from builder.weights.collapse import collapse, collapsed_names
from builder.weights.entries import WeightsError, WeightsFile
from builder.weights.files import LIGHTNING_MODEL, WRAPPERS, open_weights
from builder.weights.keys import Named, Renamed, Rule, apply_rules, clashes
from builder.weights.load_report import Row, dtype_name
from builder.weights.load_section import Allowed, SourceSpec
from builder.weights.resize import Fitting, Resize, Unfit, settle
from builder.weights.sources import FindRun, located
from builder.weights.targets import Target
from builder.weights.wording import covering, few

MOST_POLICIES = 4
"""That are worth writing one by one."""


@dataclass(frozen=True, slots=True)
class Copy:
    """One tensor of a file, what is done to it, and the name of the model's tensor that it goes into."""

    key: str
    name: str
    shape: tuple[int, ...]
    permutations: tuple[tuple[int, ...], ...] = ()
    fitting: Fitting | None = None

    def tensor(self, file: WeightsFile) -> Tensor:
        """The tensor as it is copied, of the target's shape.

        Raises:
            WeightsError: the file is damaged there.
        """
        tensor = file.read(self.key)
        for dims in self.permutations:
            tensor = tensor.permute(dims)
        return self.fitting.apply(tensor) if self.fitting else tensor.reshape(self.shape)


@dataclass
class Draft:
    """One source, matched with the model; `local` are the tensors of its submodule by their names there.

    `rows` and `copies` are what fits, `skipped` and `differing` what doesn't, by a policy and against it; `used` are
    the patterns of policies that were asked.
    """

    spec: SourceSpec
    file: WeightsFile
    local: Mapping[str, Target]
    renamed: Renamed
    copies: list[Copy] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)
    skipped: list[Row] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    differing: list[Row] = field(default_factory=list)
    used: set[str] = field(default_factory=set)
    faults: list[Fault] = field(default_factory=list)

    def fault(self, key: str, message: str, **more: Any) -> None:
        """Note what is wrong, at a key of the source's mapping."""
        place = (*self.spec.path, key)
        self.faults.append(Fault(message, place, self.spec.origin_of(place), **more))


def match(
    spec: SourceSpec, find_run: FindRun | None, targets: Mapping[str, Target], modules: Mapping[str, nn.Module]
) -> tuple[Draft | None, list[Fault]]:
    """Open a source and match it with the model; the draft is None only with faults."""
    if spec.into not in modules:
        return None, [_no_module(spec, modules)]
    start = f"{spec.into}." if spec.into else ""
    local = {name[len(start) :]: target for name, target in targets.items() if name.startswith(start)}
    try:
        path = located(spec.source, find_run)
        file = open_weights(path, key=spec.key, weights=spec.weights, keep=_kept(spec.rules, local))
    except WeightsError as error:
        return None, [spec.unreadable(error)]
    renamed, faults = apply_rules(spec.rules, file)
    place = (*spec.path, "rules")
    faults = faults or clashes(renamed, place, spec.origin_of(place))
    if faults:
        return None, faults
    draft = Draft(spec, file, local, renamed)
    _match_tensors(draft)
    draft.faults += _idle_patterns(draft)
    return draft, []


def laid_beside(spec: SourceSpec, file: WeightsFile, targets: Mapping[str, Target]) -> Draft:
    """A file that is open already, its names as they are, matched with the tensors of a whole model."""
    draft = Draft(spec, file, targets, apply_rules((), file)[0])
    _match_tensors(draft)
    return draft


def _no_module(spec: SourceSpec, modules: Mapping[str, nn.Module]) -> Fault:
    place, names = (*spec.path, "into"), [name for name in modules if name]
    top = ", ".join(name for name in names if "." not in name)
    near = patterns.near(spec.into, names)
    message = f"the model has no submodule {spec.into!r}"
    return Fault(message, place, spec.origin_of(place), None, None if near else f"one of {top}", near)


def _kept(rules: Iterable[Rule], local: Mapping[str, Target]) -> list[str]:
    """The prefixes that aren't taken off: those of which a rule speaks, and those that the model's names have too."""
    said = [text.removeprefix(patterns.REGEX).lstrip("^(") for rule in rules for text in (rule.text, *rule.patterns)]
    return [
        prefix
        for prefix in (*WRAPPERS, LIGHTNING_MODEL)
        if any(re.match(rf"{prefix[:-1]}(?!\w)", text) for text in said)
        or all(name.startswith(prefix) for name in local)
    ]


def _match_tensors(draft: Draft) -> None:
    differing: list[tuple[Row, str, str | None]] = []
    reasons: dict[tuple[str, str | None], list[Row]] = {}
    for tensor in draft.renamed.tensors:
        target = draft.local.get(tensor.name)
        if target is None:
            draft.unexpected.append(tensor.name)
        elif target.shape == tensor.shape or (target.shape == () and tensor.shape == (1,)):
            _take(draft, tensor, target)
        else:
            _fit(draft, tensor, target, differing)
    draft.differing += [row for row, _, _ in differing]
    for row, why, hint in differing:
        reasons.setdefault((why, hint), []).append(row)
    for (why, hint), rows in reasons.items():
        draft.fault("shape", _differ(rows) + why, hint=hint or _policies(draft, rows))
    _refuse_dtypes(draft)


def _differ(rows: list[Row]) -> str:
    """That the shapes of tensors differ, those that differ alike on one line, no more than a few."""
    lines = collapse((row.given, (row.source_shape, row.shape)) for row in rows)
    if len(lines) > 1:
        shapes = [f"{line.name} {list(line.common[0])} → {list(line.common[1])}" for line in lines]
        return f"{len(rows)} tensors have other shapes in the file than in the model: {few(shapes)}"
    (line,), (source, shape) = lines, lines[0].common
    is_have = "has" if line.count == 1 else "have"
    return f"{line.name!r} {is_have} the shape {list(source)} in the file and {list(shape)} in the model"


def _policies(draft: Draft, rows: list[Row]) -> str:
    """The policies under which rows would be skipped."""
    names = dict.fromkeys(row.given for row in rows)
    starred = [re.sub(r"\{\d+\.\.\d+\}", "*", line) for line in collapsed_names(names)]
    beginnings = covering(names, [name for name in draft.local if name not in names])
    found = beginnings if len(beginnings) < len(starred) else starred
    if len(found) > MOST_POLICIES:
        return "a policy settles it: shape: skip"
    written = ", ".join(f"{pattern!r}: skip" for pattern in found)
    return f"a policy settles it: shape: {{{written}}}"


def _fit(draft: Draft, tensor: Named, target: Target, differing: list[tuple[Row, str, str | None]]) -> None:
    row, policy = _row(draft, tensor, target), _policy(draft, tensor.name)
    if policy == "skip":
        draft.skipped.append(row)
    elif not isinstance(policy, Resize):
        differing.append((row, "", None))
    elif not row.source_dtype.is_floating_point:
        differing.append((row, f"; {dtype_name(row.source_dtype)} isn't resized", None))
    else:
        try:
            fitting = settle(tensor.shape, target.shape, target.owner, policy)
        except Unfit as error:
            why, hint = error.args
            differing.append((row, f"; {why}", hint))
        else:
            _take(draft, tensor, target, fitting)


def _policy(draft: Draft, name: str) -> str | Resize:
    for policy in draft.spec.shapes:
        if patterns.covers(policy.pattern, name):
            draft.used.add(policy.pattern)
            return policy.what
    return draft.spec.default_shape


def _take(draft: Draft, tensor: Named, target: Target, fitting: Fitting | None = None) -> None:
    draft.rows.append(_row(draft, tensor, target, fitting.words if fitting else ""))
    draft.copies.append(Copy(tensor.key, target.name, target.shape, tensor.permutations, fitting))


def _row(draft: Draft, tensor: Named, target: Target, how: str = "") -> Row:
    dtype = draft.file.dtype(tensor.key)
    return Row(tensor.key, tensor.name, target.name, tensor.shape, target.shape, dtype, target.tensor.dtype, how)


def _refuse_dtypes(draft: Draft) -> None:
    """Fault conversions that would lose more than precision."""
    lost = [(row.given, (row.source_dtype, row.dtype)) for row in draft.rows if _loses(row.source_dtype, row.dtype)]
    for line in collapse(lost):
        source, dtype = map(dtype_name, line.common)
        message = f"{line.name!r} is {source} in the file and can't become {dtype}"
        draft.fault("path", message, hint="drop it by a rule, and say under 'missing' that it may be missing")


def _loses(source: torch.dtype, dtype: torch.dtype) -> bool:
    if source.is_complex or dtype.is_complex:
        return source.is_complex and not dtype.is_complex
    return (source.is_floating_point and not dtype.is_floating_point) or (dtype == torch.bool != source)


def _idle_patterns(draft: Draft) -> list[Fault]:
    """The faults of patterns that fit no name at all."""
    spec, names = draft.spec, list(draft.local)
    given = [tensor.name for tensor in draft.renamed.tensors]
    faults = [
        _idle("no tensor of the model", policy.pattern, (*spec.path, "shape", policy.pattern), policy.origin, names)
        for policy in spec.shapes
        if not covers_any(policy.pattern, names)
    ]
    for key, allowed, known, what in (
        ("missing", spec.missing, names, "no tensor of the model"),
        ("unexpected", spec.unexpected, given, "no key of the file"),
    ):
        faults += [
            _idle(what, pattern, (*spec.path, key, "allow"), origin, known)
            for pattern, origin in allowed.patterns
            if not covers_any(pattern, known)
        ]
    return faults


def covers_any(pattern: str, names: Iterable[str]) -> bool:
    """Whether a pattern matches one of these names, or an ancestor."""
    return any(patterns.covers(pattern, name) for name in names)


def _idle(what: str, pattern: str, path: Path, origin: Any, names: list[str]) -> Fault:
    return Fault(f"{what} has such a name", path, origin, pattern, nearest=patterns.near(pattern, names))


def permitted(allowed: Allowed, names: Iterable[str]) -> tuple[list[str], list[str]]:
    """Names that may be missing (or unexpected), and those that may not."""
    if allowed.policy != "allow":
        return (list(names), []) if allowed.policy == "warn" else ([], list(names))
    split: tuple[list[str], list[str]] = ([], [])
    for name in names:
        split[not any(patterns.covers(pattern, name) for pattern, _ in allowed.patterns)].append(name)
    return split
