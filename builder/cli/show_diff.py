"""`builder show diff`: what two models, or configs, differ in by meaning."""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common, Json, load_plugins_of
from builder.cli.output import print_json, print_table, styled
from builder.errors import UsageError, dotted, printable

if TYPE_CHECKING:
    from builder.config.compose import Composed
    from builder.config.model_file import ModelFile
    from builder.inspect.diff import ModelDiff
    from builder.weights.between import Between

RUN = "run:"

Side = Annotated[
    str,
    typer.Argument(
        show_default=False,
        help="A model's file, a run (its folder or a part of its name), or overrides in one word: 'model=mlp seed=1'",
    ),
]  # fmt: skip


def diff(
    common: Common,
    one: Side,
    other: Side,
    exit_code: Annotated[bool, typer.Option("--exit-code", help="Exit with 1 if there are differences.")] = False,
    as_json: Json = False,
) -> int:
    """Tell what two models differ in: parts, arguments, shapes, parameters, and which weights would still load.

    Of two configs, or two runs, it also tells what else they differ in.
    """
    load_plugins_of(common)
    sides = [_side(word, common) for word in (one, other)]
    from builder.preview import diff_of

    found = diff_of(*sides)
    settings = _settings(sides)
    is_same = found.is_same and not settings
    if as_json:
        config = {dotted(path): list(pair) for path, pair in settings}
        print_json({"one": one, "other": other, **found.to_json(), "same": is_same, "config": config})
    else:
        _print(found, settings, is_same)
    return int(exit_code and not is_same)


def _side(word: str, common: Common) -> Composed | ModelFile:
    """What a word of the command line stands for.

    Raises:
        UsageError: it is no file, run or override.
        ConfigError: the config can't be composed.
    """
    from builder.config.compose import compose
    from builder.config.model_file import ModelFile

    try:
        words = shlex.split(word)
    except ValueError as error:
        raise UsageError(f"{word!r}: {error}") from None
    files = [each for each in words if each.endswith((".yaml", ".yml")) and "=" not in each]
    if files:
        if len(files) > 1:
            raise UsageError(f"{word!r}: one model a side")
        return ModelFile(Path(files[0]), [each for each in words if each not in files], common.config_dir)
    if len(words) == 1 and ("=" not in word or word.startswith(RUN)) and not word.startswith(("+", "~")):
        return _run_of(word.removeprefix(RUN), replace(common, config_name=None))
    return compose(words, config_name=common.config_name or "train", config_dir=common.config_dir)


def _run_of(name: str, common: Common) -> ModelFile:
    """The model of a run, its sizes filled in, which needs no data."""
    from builder.config.model_file import ModelFile
    from builder.runs.find import find_run

    try:
        run = find_run(name)
    except UsageError as error:
        hint = "or name a model's file, or overrides: 'model=mlp'"
        raise UsageError(f"{error}\n  hint:     {hint}") from None
    return ModelFile(run / "model.yaml", (), common.config_dir)


def _settings(sides: Sequence[Composed | ModelFile]) -> list[tuple[Any, tuple[Any, Any]]]:
    """What two configs, or those of two runs, differ in besides the model."""
    from builder.runs.differences import differences
    from builder.runs.record import ABSENT

    configs = [_config(side) for side in sides]
    if any(config is None for config in configs):
        return []
    found = differences([config for config in configs if config is not None])
    return [
        (each.path, tuple("absent" if value is ABSENT else value for value in each.values))  # type: ignore[misc]
        for each in found
        if each.path[0] != "model" or "init" in each.path  # what else there is of the model is told part by part
    ]


def _config(side: Composed | ModelFile) -> dict[str, Any] | None:
    from builder.config.model_file import ModelFile
    from builder.config.yaml_file import read_yaml

    if not isinstance(side, ModelFile):
        return side.unresolved
    config = side.path.with_name("config.yaml")
    if side.path.name != "model.yaml" or not (side.path.parent / "status.json").is_file() or not config.is_file():
        return None
    values: dict[str, Any] = read_yaml(config, str(config)).value
    return values


def _print(found: ModelDiff, settings: Sequence[tuple[Any, tuple[Any, Any]]], is_same: bool) -> None:
    if is_same:
        print("no difference: the models are the same, part by part, and so is all that stands beside them")
        return
    rows = list(_rows(found))
    if rows:
        print(styled("parts", bold=True))
        print_table(rows, indent="  ")
    one, other = found.parameters
    if found.parameters != (one, one) or found.trainable[0] != found.trainable[1]:
        print(f"parameters  {one:,} → {other:,} ({other - one:+,})")
        if found.trainable != found.parameters:
            print(f"trainable   {found.trainable[0]:,} → {found.trainable[1]:,}")
    if found.is_same:
        print("the models are the same, part by part")
    else:
        for line in _weights(found.weights):
            print(line)
    if settings:
        print(styled("config", bold=True))
        print_table([(dotted(path), f"{_value(a)} → {_value(b)}") for path, (a, b) in settings], indent="  ")


def _rows(found: ModelDiff) -> Iterator[tuple[str, str, str]]:
    """Parts that were removed, added, renamed and changed; those alike with other numbers in one line."""
    from builder.weights.collapse import collapse

    for sign, parts in (("-", found.removed), ("+", found.added)):
        for line in collapse((part.path, part.title) for part in parts):
            yield sign, printable(line.name), printable(line.common)
    for old, new in found.renamed:
        yield "=", printable(new), printable(f"was {old}")
    changes = collapse((change.path, tuple(_changes(change.values))) for change in found.changed)
    for name, texts in ((printable(line.name) or "(the model)", line.common) for line in changes):
        yield from (("", "", printable(text)) if index else ("~", name, printable(text)) for index, text in
                    enumerate(texts))  # fmt: skip


def _changes(values: Any) -> Iterator[str]:
    from builder.inspect.diff import INPUTS, OUTPUTS

    is_explained = any(key not in (INPUTS, OUTPUTS, "forward") and not key.endswith(" shape") for key in values)
    for key, (one, other) in values.items():
        if key.endswith(" shape") and is_explained:
            continue  # which weights would load says it again
        if key == "forward":
            yield "forward is another"
        elif key in (INPUTS, OUTPUTS):
            yield f"{key.removesuffix(' shapes')}s {_shapes(one)} → {_shapes(other)}"
        else:
            yield f"{key} {_value(one)} → {_value(other)}"


def _shapes(shapes: Any) -> str:
    return ", ".join(f"[{', '.join(shape)}]" for shape in shapes) or "none"


def _value(value: Any) -> str:
    text = "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
    return printable(text if len(text) <= 60 else text[:59] + "…")


def _weights(found: Between) -> Iterator[str]:
    from builder.weights.collapse import collapse

    count = len(found.loaded) + len(found.differing) + len(found.missing)
    share = found.share if found.share == 1 else min(found.share, 0.999)  # no 100.0 % that isn't all
    yield f"weights     {len(found.loaded)} of {count} tensors would load ({share:.1%} of the parameters)"
    for line in collapse((row.name, (row.source_shape, row.shape)) for row in found.differing):
        yield f"  other shape  {printable(line.name)}  {list(line.common[0])} → {list(line.common[1])}"
    for title, names in (("missing", found.missing), ("unexpected", found.unexpected)):
        for name in collapse((each, None) for each in names):
            yield f"  {title:11}  {printable(name.name)}"
