"""A model as a graph: `torch.export`'s, and ONNX's made of that."""

from __future__ import annotations

import contextlib
import logging
import re
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.export import Dim, ExportedProgram

from builder.errors import BuilderError
from builder.export.compare import names
from builder.export.error import ExportError, explained
from builder.export.subject import TRACED, Subject
from builder.optional import require


@dataclass(frozen=True, slots=True)
class Graph:
    """A traced model; `symbols` are the names of free dimensions by their symbols, `fixed` the sizes of others."""

    program: ExportedProgram
    symbols: Mapping[str, str]
    fixed: Mapping[str, int]

    @property
    def dynamic(self) -> tuple[str, ...]:
        """The names of the dimensions that are free."""
        return tuple(dict.fromkeys(self.symbols.values()))


def trace(subject: Subject, wanted: Sequence[str] | None, target: str) -> Graph:
    """The graph of the model, with the dimensions `wanted` free, or all that can be if that is None.

    Raises:
        ExportError: it can't be traced, or a dimension that is wanted can't be free.
    """
    given = subject.given(TRACED)
    hint = Dim.AUTO if wanted is None else Dim.DYNAMIC
    shapes = tuple(
        {index: hint for index, name in dims.items() if wanted is None or name in wanted}
        for dims in subject.names.values()
    )
    try:
        with quiet():
            program = torch.export.export(subject.model, given, dynamic_shapes=shapes)
    except BuilderError:
        raise
    except Exception as error:  # the tracer raises what it likes, and so does a layer
        raise explained(error, target) from error
    return Graph(program, *_dimensions(program, subject))


def _dimensions(program: ExportedProgram, subject: Subject) -> tuple[dict[str, str], dict[str, int]]:
    inputs = [node for node in program.graph.nodes if node.op == "placeholder"][-len(subject.rows) :]
    symbols: dict[str, str] = {}
    fixed: dict[str, int] = {}
    for node, dims in zip(inputs, subject.names.values(), strict=True):
        for index, name in dims.items():
            size = node.meta["val"].shape[index]
            if isinstance(size, int):
                fixed[name] = size
            else:
                symbols.setdefault(str(size), name)
    return symbols, {name: size for name, size in fixed.items() if name not in symbols.values()}


def save_program(graph: Graph, path: Path) -> None:
    """Write the program as `torch.export.load` reads it."""
    with quiet():
        torch.export.save(graph.program, path)


def run_program(path: Path, given: Sequence[torch.Tensor]) -> Any:
    """What the program in a file gives, loaded anew."""
    with quiet():
        return torch.export.load(path).module()(*given)


def require_onnx() -> None:
    """Import what ONNX needs.

    Raises:
        MissingExtra: a package isn't installed.
    """
    for module in ("onnx", "onnxscript", "onnxruntime"):
        require(module, "onnx", "an export to ONNX")


def save_onnx(graph: Graph, subject: Subject, path: Path, opset: int | None) -> None:
    """Write the program as ONNX; inputs, outputs and free dimensions have their names.

    Raises:
        ExportError: a part of the model has no counterpart in ONNX.
    """
    import onnx

    with torch.inference_mode():
        output = subject.model(*subject.given(TRACED))
    try:
        with quiet():
            program = torch.onnx.export(
                graph.program, subject.given(TRACED), dynamo=True, verbose=False, opset_version=opset,
                input_names=list(subject.rows), output_names=list(names(output)),
            )  # fmt: skip
            assert program is not None, "it is None only where a file is given"
            program.save(path)
    except Exception as error:  # the exporter raises what it likes
        raise explained(error, "ONNX") from error
    model = onnx.load(path, load_external_data=False)
    _rename(model.graph, graph.symbols)
    onnx.save(model, path)


def _rename(graph: Any, symbols: Mapping[str, str]) -> None:
    """Write the names of free dimensions where the exporter writes symbols, in sizes that follow from them too."""
    for value in (*graph.input, *graph.output, *graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = re.sub(r"\w+", lambda word: symbols.get(word[0], word[0]), dim.dim_param)


def run_onnx(path: Path, given: Sequence[torch.Tensor]) -> list[torch.Tensor]:
    """What ONNX Runtime makes of a file.

    Raises:
        ExportError: it can't run it.
    """
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
        fed = {item.name: tensor.numpy() for item, tensor in zip(session.get_inputs(), given, strict=True)}
        return [torch.from_numpy(array) for array in session.run(None, fed)]
    except Exception as error:  # of a compiled module, with classes of its own
        raise ExportError(f"ONNX Runtime can't run {path}: {str(error).splitlines()[0]}") from error


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without what the tracer and the exporter tell developers of PyTorch."""
    loggers = [logging.getLogger(name) for name in ("torch.onnx", "torch._export", "torch.export", "onnxscript")]
    levels = [logger.level for logger in loggers]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for logger in loggers:
            logger.setLevel(logging.CRITICAL)
        try:
            yield
        finally:
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
