"""`builder weights`: what a file of weights holds, and how two differ."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common, Json
from builder.cli.output import print_json, print_table, styled
from builder.errors import printable

if TYPE_CHECKING:
    from builder.weights.compare import Comparison, Difference
    from builder.weights.entries import Entry, WeightsFile

File = Annotated[
    str,
    typer.Argument(
        metavar="FILE", show_default=False,
        help="A file of torch.save, safetensors or .npz, an index of shards, a folder, or run:FOLDER@best.",
    ),
]  # fmt: skip
Other = Annotated[str | None, typer.Argument(metavar="OTHER", help="Another one, to compare with.", show_default=False)]
All = Annotated[bool, typer.Option("--all", help="A line for each tensor; else layers that repeat share one.")]
Key = Annotated[
    str | None, typer.Option("--key", metavar="KEY", help="Where the state dict lies in a checkpoint, dotted.")
]
Ema = Annotated[bool, typer.Option("--ema", help="The moving average of the weights instead of the raw ones.")]


def weights(
    common: Common,
    file: File,
    other: Other = None,
    every: All = False,
    key: Key = None,
    ema: Ema = False,
    as_json: Json = False,
) -> int:
    """List what a file of weights holds; with two files, how they differ.

    Nothing in a file is run, and no tensor is read to list it. The exit code is 1 if two files differ,
    and 2 if one can't be read.
    """
    opened = _opened(file, key, ema)
    if other is None:
        _list(opened, every, as_json)
        return 0
    from builder.weights.compare import compare

    second = _opened(other, key, ema)
    found = compare(opened, second)
    if as_json:
        print_json({"first": opened.path, "second": second.path, **found.to_json()})
    else:
        _print_comparison((file, other), found, every)
    return 0 if found.is_same else 1


def _opened(name: str, key: str | None, ema: bool) -> WeightsFile:
    from builder.runs.find import find_run
    from builder.weights.files import open_weights
    from builder.weights.sources import located

    return open_weights(located(name, find_run), key=key, weights="ema" if ema else "raw")


def _list(file: WeightsFile, every: bool, as_json: bool) -> None:
    from builder.weights.load_report import dtype_name

    if as_json:
        tensors = [
            {"name": name, "shape": list(entry.shape), "dtype": dtype_name(entry.dtype), "bytes": entry.nbytes}
            for name, entry in file.entries.items()
        ]
        print_json({"path": file.path, "format": file.format, "notes": file.notes, "metadata": file.metadata,
                    "numbers": _numbers(file), "bytes": _bytes(file), "tensors": tensors})  # fmt: skip
        return
    from builder.quantities import in_bytes, rounded

    size = f"{rounded(_numbers(file))} numbers, {in_bytes(_bytes(file))}"
    print(styled(f"{file.path}: {file.format}, {len(file.entries)} tensors, {size}", bold=True))
    for note in file.notes:
        print(f"  note: {printable(note)}")
    for name, value in file.metadata.items():
        print(f"  {printable(name)}: {printable(value)}")
    print_table(_rows(file, every))


def _numbers(file: WeightsFile) -> int:
    return sum(entry.elements for entry in file.entries.values())


def _bytes(file: WeightsFile) -> int:
    return sum(entry.nbytes for entry in file.entries.values())


def _rows(file: WeightsFile, every: bool) -> Iterable[Sequence[str]]:
    from builder.quantities import in_bytes
    from builder.weights.load_report import dtype_name

    for name, entry, count in _lines([(name, _common(entry)) for name, entry in file.entries.items()], every):
        shape, dtype, nbytes = entry
        yield name, str(list(shape)), dtype_name(dtype), f"×{count}" if count > 1 else "", in_bytes(count * nbytes)


def _common(entry: Entry) -> tuple[Any, ...]:
    return entry.shape, entry.dtype, entry.nbytes


def _lines(items: list[tuple[str, Any]], every: bool) -> list[tuple[str, Any, int]]:
    """Names with what belongs to them and how many they are: each by itself, or collapsed."""
    if every:
        return [(printable(name), common, 1) for name, common in items]
    from builder.weights.collapse import collapse

    return [(printable(line.name), line.common, line.count) for line in collapse(items)]


def _print_comparison(names: tuple[str, str], found: Comparison, every: bool) -> None:
    for name, only in zip(names, (found.only_first, found.only_second), strict=True):
        _section(
            f"only in {name}", len(only), [(line,) for line, _, _ in _lines([(each, None) for each in only], every)]
        )
    shapes = [each for each in found.differences if each.most is None]
    values = [each for each in found.differences if each.most is not None]
    rows = _lines([(each.name, _shapes(each)) for each in shapes], every)
    _section("of different shapes", len(shapes), [(name, *cells) for name, cells, _ in rows])
    rows = _lines([(each.name, _values(each, names)) for each in values], every)
    _section("of different values", len(values), [(name, *cells) for name, cells, _ in rows])
    both = len(found.equal) + len(found.differences)
    equal = f"{len(found.equal)} of {both} tensors that both have are equal, bit for bit"
    print(equal if both else "no tensor is in both")


def _shapes(difference: Difference) -> tuple[str, ...]:
    first, second = difference.shapes
    return str(list(first)), str(list(second))


def _values(difference: Difference, names: tuple[str, str]) -> tuple[str, ...]:
    from builder.weights.load_report import dtype_name

    first, second = map(dtype_name, difference.dtypes)
    dtypes = first if first == second else f"{first}, {second}"
    return str(list(difference.shapes[0])), dtypes, _by(difference, names)


def _by(difference: Difference, names: tuple[str, str]) -> str:
    """How much two tensors differ: where only one has nan, and by how much where both have numbers."""
    most = f"by at most {difference.most:.3g}"
    if not any(difference.nan):
        return most
    where = "nan in both, in different places"
    if not all(difference.nan):
        where = f"nan in {names[difference.nan.index(True)]} only"
    return f"{where}; else {most}" if difference.most else where


def _section(title: str, count: int, rows: Sequence[Sequence[str]]) -> None:
    if not rows:
        return
    print(f"{title} ({count}):")
    print_table(rows, indent="  ")
