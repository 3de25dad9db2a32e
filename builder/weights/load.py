"""Loads weights of other models: `read_load` reads the section, `plan` lays files and model together, `load` copies."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from builder.errors import ConfigError, Fault
from builder.weights.compare import are_equal
from builder.weights.digest import sha256
from builder.weights.entries import WeightsError
from builder.weights.load_report import FileRead, LoadReport, SourceReport
from builder.weights.load_section import Allowed, LoadPlanSpec, read_load, resolved
from builder.weights.match import Copy, Draft, covers_any, match, permitted
from builder.weights.suggest import suggest
from builder.weights.targets import Target, is_newer_counter, targets_of
from builder.weights.values import Odd
from builder.weights.wording import covering, few, listed

__all__ = ["LoadPlan", "LoadPlanSpec", "LoadReport", "load", "plan", "read_load", "resolved"]


@dataclass(frozen=True, slots=True)
class LoadPlan:
    """All that will be copied into a model, settled; `copies` has each tensor of the model once, with its source."""

    drafts: tuple[Draft, ...]
    copies: tuple[tuple[Draft, Copy], ...]
    reports: tuple[SourceReport, ...]

    def report(self) -> LoadReport:
        """What will be loaded."""
        return LoadReport(self.reports)


def plan(spec: LoadPlanSpec, model: nn.Module) -> LoadPlan:
    """Match the files with a model, which may be on the meta device. Of the files only headers are read.

    Two tensors of a file that go into one tied tensor are compared, and so are read.

    Raises:
        ConfigError: a file can't be read, a rule hits nothing, or a policy is violated.
    """
    targets, modules = targets_of(model), dict(model.named_modules(remove_duplicate=False))
    matched = [match(source, spec.find_run, targets, modules) for source in spec.sources]
    faults = [fault for _, some in matched for fault in some]
    drafts = [draft for draft, _ in matched if draft is not None]
    copies, more = _copies(drafts, targets)
    if faults:  # what is missing may be in a source that couldn't be read
        raise ConfigError(*faults, *more, *(fault for draft in drafts for fault in draft.faults))
    reports = [_settled(draft, drafts) for draft in drafts]
    faults = [*more, *(fault for draft in drafts for fault in draft.faults)]
    if faults:
        raise ConfigError(*faults)
    return LoadPlan(tuple(drafts), tuple(copies), tuple(reports))


def load(plan: LoadPlan, model: nn.Module) -> LoadReport:
    """Copy the tensors into the parameters and buffers of a model, in place, one at a time.

    `model` is the one that was planned for, or another of the same making.

    Raises:
        ConfigError: a file is damaged where a tensor lies.
    """
    targets = targets_of(model)
    odd: dict[int, Odd] = {id(draft): Odd() for draft in plan.drafts}
    with torch.no_grad():
        for draft, copy in plan.copies:
            tensor = targets[copy.name].tensor
            assert tensor.shape == copy.shape and not tensor.is_meta, f"{copy.name} isn't what was planned for"
            _copy(draft, copy, tensor, odd[id(draft)])
    hashed: dict[str, str] = {}
    return LoadReport(tuple(
        dataclasses.replace(report, notes=(*report.notes, *odd[id(draft)].notes()), files=_hashed(draft, hashed))
        for draft, report in zip(plan.drafts, plan.reports, strict=True)
    ))  # fmt: skip


def _copy(draft: Draft, copy: Copy, tensor: Tensor, odd: Odd) -> None:
    """Copy one tensor; a function by itself, so that the one that was read is gone before the next is."""
    source = _read(draft, copy)
    tensor.copy_(source)
    odd.note(copy.name, source, tensor)


def _read(draft: Draft, copy: Copy) -> Tensor:
    try:
        return copy.tensor(draft.file)
    except WeightsError as error:
        raise ConfigError(draft.spec.unreadable(error)) from error


def _hashed(draft: Draft, known: dict[str, str]) -> tuple[FileRead, ...]:
    """The files of a source with their SHA-256; one that several sources read is hashed once."""
    for path in draft.file.files:
        try:
            if str(path) not in known:
                known[str(path)] = sha256(path)
        except WeightsError as error:
            raise ConfigError(draft.spec.unreadable(error)) from error
    return tuple(FileRead(str(path), known[str(path)]) for path in draft.file.files)


def _copies(drafts: Iterable[Draft], targets: Mapping[str, Target]) -> tuple[list[tuple[Draft, Copy]], list[Fault]]:
    """Each tensor of the model with what goes into it, and the faults of those that two would go into."""
    first: dict[str, tuple[Draft, Copy]] = {}
    faults = []
    twice: dict[tuple[int, int], list[tuple[Draft, Draft, Copy]]] = {}
    for draft in drafts:
        for copy in draft.copies:
            known = first.setdefault(targets[copy.name].first, (draft, copy))
            if known[1] is copy:
                continue
            if known[0] is not draft:
                twice.setdefault((id(known[0]), id(draft)), []).append((known[0], draft, copy))
            elif not are_equal(_read(draft, known[1]), _read(draft, copy)):
                faults.append(_untied(draft, known[1], copy))
    return list(first.values()), [*faults, *(_twice(*found[0][:2], found) for found in twice.values())]


def _twice(earlier: Draft, draft: Draft, found: list[tuple[Draft, Draft, Copy]]) -> Fault:
    names = [copy.name for _, _, copy in found]
    one = len(names) == 1
    what = f"{names[0]!r} is" if one else f"{len(names)} tensors are"
    message = f"{what} loaded twice, from {earlier.file.path} and from {draft.file.path}"
    message += "" if one else f": {listed(names)}"
    hint = f"drop {'it' if one else 'them'} in one of the two by a rule, or say by 'into' where each goes"
    return Fault(message, draft.spec.path, draft.spec.origin, hint=hint)


def _untied(draft: Draft, one: Copy, other: Copy) -> Fault:
    message = f"{one.name!r} and {other.name!r} are one tensor in the model, but differ in the file"
    place = draft.spec.place
    hint = f"drop the one that isn't wanted: rules: [{{drop: {other.key!r}}}]"
    return Fault(message, place, draft.spec.origin_of(place), hint=hint)


def _settled(draft: Draft, drafts: Iterable[Draft]) -> SourceReport:
    """The report of a source; what its policies forbid is noted as faults of the draft."""
    given = {row.name for each in drafts for row in (*each.rows, *each.skipped, *each.differing)}
    absent, counters = _absent(draft, given)
    missing, forbidden = permitted(draft.spec.missing, absent)
    unexpected, strange = permitted(draft.spec.unexpected, draft.unexpected)
    share = _share(draft)
    if not draft.rows:
        _nothing_loaded(draft)
    else:
        _forbid(draft, forbidden, strange, share)
    notes = [*draft.file.notes, *_counters_note(len(counters)), *_idle_notes(draft, absent)]
    return SourceReport(
        str(draft.file.path), draft.spec.source, draft.spec.into, draft.file.format, len(draft.file.entries),
        tuple(notes), tuple(zip(map(str, draft.spec.rules), draft.renamed.hits, strict=True)), tuple(draft.rows),
        tuple(draft.skipped), draft.renamed.dropped, tuple(missing), tuple(unexpected), share,
        tuple(FileRead(str(path)) for path in draft.file.files),
    )  # fmt: skip


def _idle_notes(draft: Draft, absent: list[str]) -> list[str]:
    """What the policies of a source allow for and what doesn't occur."""
    spec, unused = draft.spec, [policy.pattern for policy in draft.spec.shapes if policy.what != "error"]
    idle = {
        "shape": (
            [pattern for pattern in unused if pattern not in draft.used],
            "no shape differs there, or an earlier pattern holds",
        ),
        "missing": (_idle_patterns(spec.missing, absent), "nothing of it is missing"),
        "unexpected": (_idle_patterns(spec.unexpected, draft.unexpected), "the model has a place for all of it"),
    }
    return [f"{key} has no effect for {few(names)}: {why}" for key, (names, why) in idle.items() if names]


def _idle_patterns(allowed: Allowed, names: Iterable[str]) -> list[str]:
    return [pattern for pattern, _ in allowed.patterns if not covers_any(pattern, names)]


def _counters_note(count: int) -> list[str]:
    what = "1 counter of BatchNorm stays as it is" if count == 1 else f"{count} counters of BatchNorm stay as they are"
    return [f"{what}: the file is of a version that has none"] if count else []


def _absent(draft: Draft, given: set[str]) -> tuple[list[str], list[str]]:
    """Names of the submodule that nothing gave, and among the rest the counters that old files lack."""
    versions = {row.name.rpartition(".")[0]: draft.file.entries[row.key].version for row in draft.rows}
    absent: list[str] = []
    counters: list[str] = []
    seen: set[int] = set()
    for name, target in draft.local.items():
        if id(target.tensor) in seen or any(each in given for each in target.names):
            continue
        seen.add(id(target.tensor))
        module = target.name.rpartition(".")[0]  # of which something must be there: else it is missing like the rest
        old = module in versions and is_newer_counter(target, versions[module])
        (counters if old else absent).append(name)
    return absent, counters


def _share(draft: Draft) -> float:
    """How much of the submodule's parameters is loaded, by elements, a tied one counted once."""
    sizes = {id(each.tensor): each.tensor.numel() for each in draft.local.values() if each.is_parameter}
    by_name = {target.name: id(target.tensor) for target in draft.local.values()}
    loaded = {by_name[row.name] for row in draft.rows} & sizes.keys()
    total = sum(sizes.values())
    return sum(sizes[key] for key in loaded) / total if total else 1.0


def _forbid(draft: Draft, missing: list[str], unexpected: list[str], share: float) -> None:
    spec, known = draft.spec, len({id(target.tensor) for target in draft.local.values()})
    hint = _hint(draft) if missing or unexpected else None
    where = repr(spec.into) if spec.into else "the model"
    if missing:
        message = f"the file lacks {len(missing)} of {known} tensors of {where}: {listed(missing)}"
        patterns = ", ".join(covering(missing, [name for name in draft.local if name not in missing]))
        draft.fault("missing", message, hint=hint or f"if they may: missing: {{allow: [{patterns}]}}")
    if unexpected:
        keys = len(draft.renamed.tensors)
        message = f"{where} has no place for {len(unexpected)} of {keys} keys: {listed(unexpected)}"
        others = [row.given for row in (*draft.rows, *draft.skipped, *draft.differing)]
        patterns = ", ".join(covering(unexpected, others))
        draft.fault("unexpected", message, hint=hint or f"if they aren't wanted: rules: [{{drop: [{patterns}]}}]")
    if spec.min_loaded is not None and share < spec.min_loaded:
        draft.fault("min_loaded", f"only {share:.1%} of the parameters of {where} would be loaded",
                    expected=f"at least {spec.min_loaded:.1%}")  # fmt: skip


def _nothing_loaded(draft: Draft) -> None:
    if draft.differing:
        return  # said already, and all there is to say
    if draft.skipped:
        draft.fault("shape", f"nothing is loaded: all {len(draft.skipped)} tensors that fit by name are skipped, since "
                    "their shapes differ")  # fmt: skip
        return
    keys, names = [tensor.name for tensor in draft.renamed.tensors], list(draft.local)
    if not keys:
        draft.fault("rules", f"nothing is loaded: the rules drop all {len(draft.renamed.dropped)} keys of the file")
        return
    slashes = any("/" in key for key in keys) and not any("/" in name for name in names)
    dots = "; {rename: '/', to: '.'} makes dots of slashes" if slashes else ""
    hint = _hint(draft) or f"the file has {listed(keys, 3)}; the model {listed(names, 3)}{dots}"
    place = draft.spec.place
    message = f"nothing is loaded: none of the {len(keys)} keys is a name of {draft.spec.into or 'the model'}"
    draft.faults.append(Fault(message, place, draft.spec.origin_of(place), hint=hint))


def _hint(draft: Draft) -> str | None:
    """The rules that would have made more keys fit."""
    found = suggest(
        {tensor.name: tensor.shape for tensor in draft.renamed.tensors},
        {name: target.shape for name, target in draft.local.items()},
        least=len(draft.rows) + 1,
        further=bool(draft.spec.rules),
    )
    return None if found is None else str(found)
