"""`builder show select`: what a selector selects in a model."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from builder.cli.options import Common, Json
from builder.cli.output import print_json, print_table, styled
from builder.cli.show_model import Words, chosen_model

if TYPE_CHECKING:
    from builder.preview import Selected

Pattern = Annotated[
    str,
    typer.Argument(
        metavar="SELECTOR", show_default=False,
        help="As in a config: 'encoder.**', 're:.*norm', '{type: Linear, name: weight}', '[embed, head]'.",
    ),
]  # fmt: skip


def select(common: Common, selector: Pattern, words: Words = None, as_json: Json = False) -> None:
    """List the modules and parameters that a selector selects, in the model of a config or of a file."""
    chosen = chosen_model(common, words)
    from builder.preview import selected

    found = selected(chosen, selector)
    if as_json:
        print_json(plain(found))
        return
    values = sum(parameter.numel() for parameter in found.parameters.values())
    print(styled(f"{_counted(len(found.parameters), 'parameter')} ({values:,} values), "
                 f"{_counted(len(found.modules), 'module')}", bold=True))  # fmt: skip
    for title, rows in (("parameters", _parameters(found)), ("modules", _modules(found))):
        if rows:
            print(f"\n{title}")
            print_table(rows, indent="  ")


def plain(found: Selected) -> dict[str, Any]:
    """What was selected, as plain values."""
    return {
        "parameters": [
            {"name": name, "names": list(found.aliases[name]), "shape": list(parameter.shape),
             "requires_grad": parameter.requires_grad}
            for name, parameter in found.parameters.items()
        ],
        "modules": [{"name": name, "type": type(module).__name__} for name, module in found.modules.items()],
    }  # fmt: skip


def _parameters(found: Selected) -> list[tuple[str, str, str]]:
    rows = []
    for name, parameter in found.parameters.items():
        others = [other for other in found.aliases[name] if other != name]
        notes = ([f"also {', '.join(others)}"] if others else []) + ([] if parameter.requires_grad else ["no gradient"])
        rows.append((name, str(list(parameter.shape)), "; ".join(notes)))
    return rows


def _modules(found: Selected) -> list[tuple[str, str]]:
    return [(name or "(the model)", type(module).__name__) for name, module in found.modules.items()]


def _counted(count: int, what: str) -> str:
    return f"{count:,} {what}{'' if count == 1 else 's'}"
