"""Why a model can't be exported, and at which line of its YAML."""

from __future__ import annotations

import re
from collections.abc import Iterator

from builder.errors import BuilderError
from builder.model.explain import explain

_FRAME = re.compile(r'File "([^"]+\.ya?ml)", line (\d+), in (\w+)')
_CAUSES = (
    (
        ("GuardOnDataDependent", "data-dependent", "data dependent", "DataDependent"),
        "what happens next depends on values in a tensor, which a graph doesn't know",
        "branch on shapes and arguments instead, or choose with where(condition, a, b)",
    ),
    (
        ("Constraints violated", "specialized", "constant"),
        "a dimension that should be free has one size only for this model",
        "leave it out of --dynamic",
    ),
    (("No ONNX function found", "UnsupportedOperator", "DispatchError"), "ONNX has no operator for a part of it", None),
)


class ExportError(BuilderError):
    """A model can't be exported, or the export gives something else than the model."""


def explained(error: Exception, target: str) -> ExportError:
    """The error to tell: the reason in words where it is known, and the YAML's line where the trace names one."""
    text = "\n".join(f"{type(one).__name__}: {one}" for one in _chain(error))
    found = next((cause for cause in _CAUSES if any(word in text for word in cause[0])), None)
    first = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
    reason = f"{type(error).__name__}: {first}" if found is None else found[1]
    lines = [f"the model can't be exported to {target}: {reason}"]
    place = _place(error, text)
    lines += [f"  at:       {place}"] if place else []
    lines += [f"  said:     {first}"] if found is not None and first else []
    lines += [f"  hint:     {found[2]}"] if found is not None and found[2] else []
    return ExportError("\n".join(lines))


def _chain(error: BaseException) -> Iterator[BaseException]:
    """An exception, that which it came from, and so on."""
    one: BaseException | None = error
    for _ in range(20):
        if one is None:
            return
        yield one
        one = one.__cause__ or one.__context__


def _place(error: BaseException, text: str) -> str:
    for one in _chain(error):
        told = explain(one)
        if told.path:
            return str(told.origin)
    frames = _FRAME.findall(text)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""
