"""The README of an export: what it is, what it was trained on, how good it is, how it is loaded."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch

from builder import __version__
from builder.config.saved import dump_yaml
from builder.export.subject import Subject, size_of

if TYPE_CHECKING:
    from builder.export.write import Exported

_SHOWN_CLASSES = 20

_LOADING: Mapping[str, str] = {
    "onnx": """import onnxruntime

session = onnxruntime.InferenceSession("model.onnx")
outputs = session.run(None, {{{feeds}}})""",
    "torch-export": """import torch

model = torch.export.load("model.pt2").module()
output = model({arguments})""",
    "safetensors": """from safetensors.torch import load_model

from model import {name}

model = {name}().eval()
load_model(model, "model.safetensors")
output = model({arguments})""",
    "state-dict": """import torch

from model import {name}

model = {name}().eval()
model.load_state_dict(torch.load("model.pt", weights_only=True))
output = model({arguments})""",
    "python": """import torch

from model import {name}

model = {name}().eval()
model.load_state_dict(torch.load("weights.pt", weights_only=True))
output = model({arguments})""",
}


def card(subject: Subject, exported: Exported) -> str:
    """The text of the README, Markdown."""
    values = subject.composed.values
    lines = [f"# {values['name']}", "", f"{subject.definition.name}, exported by builder {__version__} "
             f"as {exported.target}.", ""]  # fmt: skip
    if values.get("description"):
        lines += [values["description"], ""]
    for title, part in (
        ("How to load it", _loading(subject, exported)),
        ("What it takes", _inputs(subject, exported)),
        ("How it was checked", _checks(subject, exported)),
        ("How good it is", _metrics(subject)),
        ("What it was trained on", _data(subject)),
        ("Files", _files(exported)),
        ("Config", _config(subject)),
    ):
        lines += [f"## {title}", "", *part, ""]
    return "\n".join(lines)


def _loading(subject: Subject, exported: Exported) -> Iterator[str]:
    names = list(subject.rows)
    yield "```python"
    yield _LOADING[exported.target].format(
        feeds=", ".join(f'"{name}": {name}' for name in names), arguments=", ".join(names), name=_class(subject)
    )
    yield "```"
    yield ""
    yield f"The inputs are {'NumPy arrays' if exported.target == 'onnx' else 'tensors'}. {_output(subject)}".rstrip()


def _class(subject: Subject) -> str:
    classes = [line.split("(")[0].removeprefix("class ") for line in subject.code().splitlines()
               if line.startswith("class ")]  # fmt: skip
    return classes[-1]


def _output(subject: Subject) -> str:
    classes = subject.run.classes
    return "The last dimension of the output are scores of the classes, in the order below." if classes else ""


def _inputs(subject: Subject, exported: Exported) -> Iterator[str]:
    yield "| input | shape | dtype |"
    yield "| --- | --- | --- |"
    for name, tensor in subject.rows.items():
        dims = subject.names[name]
        sizes = [dims.get(i, str(size)) for i, size in enumerate(tensor.shape)]
        shown = [f"{exported.fixed[size]}" if size in exported.fixed else size for size in sizes]
        yield f"| `{name}` | [{', '.join(shown)}] | {str(tensor.dtype).removeprefix('torch.')} |"
    if exported.dynamic:
        yield ""
        yield f"Of any size: {', '.join(exported.dynamic)}."
    yield ""
    yield "`data.json` says under `state` how new samples are brought into this form: means, deviations, categories."


def _checks(subject: Subject, exported: Exported) -> Iterator[str]:
    where = "random rows" if subject.split == "random" else f"rows of the {subject.split} split"
    yield f"Loaded again from these files and compared with the trained model on {where}:"
    yield ""
    for one in exported.agreements:
        yield f"- {one}"
    for note in exported.notes:
        yield f"- note: {note}"


def _metrics(subject: Subject) -> Iterator[str]:
    found = subject.run.status.metrics or {}
    yield "| metric | value |"
    yield "| --- | --- |"
    for name, value in found.items():
        yield f"| {name} | {value:.6g} |" if isinstance(value, float) else f"| {name} | {value} |"
    yield ""
    yield f"The weights are those of `{subject.run.checkpoint.name}` of the run `{subject.run.path.name}`."


def _data(subject: Subject) -> Iterator[str]:
    values = subject.composed.values["data"]
    yield f"`{values['type']}`" + (f" ({values['name']})" if isinstance(values.get("name"), str) else "")
    yield ""
    for name, value in subject.run.facts.items():
        if name == "class_names" and len(value) > _SHOWN_CLASSES:
            yield f"- class_names: {', '.join(map(str, value[:_SHOWN_CLASSES]))}, … ({len(value)})"
        elif isinstance(value, list):
            yield f"- {name}: {', '.join(_number(one) for one in value[:_SHOWN_CLASSES])}"
        else:
            yield f"- {name}: {_number(value)}"


def _number(value: Any) -> str:
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _files(exported: Exported) -> Iterator[str]:
    for path in exported.files:
        if path.is_file():
            yield f"- `{path.name}`, {size_of(path):,} bytes"
    yield ""
    yield f"Written with PyTorch {torch.__version__}."


def _config(subject: Subject) -> Iterator[str]:
    """The config as its file says it: what comes from the environment stays a reference."""
    yield "```yaml"
    yield dump_yaml(subject.composed.unresolved).rstrip()
    yield "```"
