"""`builder registry`: the names that a config may use, and what they take."""

from __future__ import annotations

import inspect
from typing import Annotated, Any

import typer

from builder.cli.options import Common, Json, load_plugins_of
from builder.cli.output import cut, print_json, print_table, styled, terminal_width, wrapped
from builder.errors import UnknownName
from builder.registry import Registry, registries

USES = {
    "layer": "`type` of a node under model.layers",
    "function": "called in `forward`, and in the expressions of task",
    "initialiser": "fills a parameter: `init`",
    "loss": "task.loss.type",
    "metric": "task.metrics.<name>.type",
    "optimizer": "optimizer.type",
    "scheduler": "scheduler.type",
    "dataset": "data.type",
    "transform": "data.transforms.train and .eval: items' type",
    "callback": "callbacks.<name>.type",
    "logger": "logger.<name>.type",
    "executor": "sweep.executor.type",
    "hook": "hooks.<name>.type",
}


def registry(
    common: Common,
    kind: Annotated[str | None, typer.Argument(metavar="KIND", help="A kind: layer, loss, optimizer, …")] = None,
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="A name of that kind.")] = None,
    as_json: Json = False,
) -> None:
    """List the names that a config may use.

    Alone it lists the kinds; with KIND the names of that kind; with KIND and NAME all about one.
    """
    if kind is not None and kind not in registries:
        raise UnknownName("kind", kind, registries)
    load_plugins_of(common)
    if kind is None:
        _print_kinds(as_json)
    elif name is None:
        _print_names(registries[kind], as_json)
    else:
        _print_entry(registries[kind], name, as_json)


def _print_kinds(as_json: bool) -> None:
    counts = {kind: len(entries) for kind, entries in registries.items()}
    if as_json:
        print_json(counts)
    else:
        print_table((kind, str(count).rjust(4), USES.get(kind, "")) for kind, count in counts.items())


def _print_names(entries: Registry, as_json: bool) -> None:
    from builder.catalog.signatures import doc_line, signature_text

    rows = [(name, signature_text(entries.get(name)), doc_line(entries.get(name))) for name in entries]
    if as_json:
        print_json([{"name": name, "signature": signature, "doc": doc} for name, signature, doc in rows])
        return
    for name, signature, doc in rows:
        if terminal_width() is None:
            print(f"{name}{signature}  {doc}".rstrip())
            continue
        first, *rest = wrapped(name + signature, "      ")
        print(styled(first[: len(name)], bold=True) + first[len(name) :], *rest, sep="\n")
        if doc:
            print(f"  {styled(cut(doc, '  '), dim=True)}")


def _print_entry(entries: Registry, name: str, as_json: bool) -> None:
    from builder.catalog.signatures import prose, signature_text

    target = entries.get(name)
    signature, arguments, doc = signature_text(target), _arguments(target), prose(target)
    place = source(target)
    if as_json:
        table = [{"name": key, "accepts": words, "default": default} for key, words, default in arguments]
        print_json({"kind": entries.kind, "name": name, "signature": signature, "arguments": table,
                    "object": described(target), "source": place, "doc": doc})  # fmt: skip
        return
    first, *rest = wrapped(name + signature, "      ")
    print(styled(first[: len(name)], bold=True) + first[len(name) :], *rest, sep="\n")
    print(f"{entries.kind}, {described(target)}", *([place] if place else []), sep="\n")
    if arguments:
        print()
        print_table(arguments, indent="  ", first={"fg": "cyan"})
    if doc:
        print(f"\n{doc}")


def _arguments(target: Any) -> list[tuple[str, str, str]]:
    """Name, accepted values and default of each argument that a config can give."""
    from builder.catalog.arguments import parameters_of
    from builder.catalog.signatures import signature_of

    known = parameters_of(target) if isinstance(target, type) else None
    if known is None:
        return []
    signature = signature_of(target)
    return [
        (name, str(accepted) if accepted else "", _default(signature.parameters[name]))
        for name, accepted in known.accepts.items()
    ]


def _default(parameter: inspect.Parameter) -> str:
    if parameter.default is parameter.empty:
        return "required"
    return "null" if parameter.default is None else getattr(parameter.default, "__name__", repr(parameter.default))


def described(target: Any) -> str:
    """The dotted name of a registered object; for a constant, its value."""
    if not callable(target):
        return repr(target)
    module = getattr(target, "__module__", None) or "torch"
    name = "__name__" if inspect.isbuiltin(target) else "__qualname__"
    return f"{module}.{getattr(target, name, type(target).__name__)}"


def source(target: Any) -> str:
    """The file and line that define a registered object, empty where Python doesn't know them."""
    try:
        plain = inspect.unwrap(target)
        return f"{inspect.getsourcefile(plain)}:{inspect.getsourcelines(plain)[1]}"
    except (TypeError, OSError):
        return ""
