"""Why a model can't be exported, and at which line of its YAML."""

from __future__ import annotations

import re

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
    texts, one = [], error
    while one is not None and len(texts) < 10:
        texts.append(f"{type(one).__name__}: {one}")
        one = one.__cause__ or one.__context__  # type: ignore[assignment]
    text = "\n".join(texts)
    found = next((cause for cause in _CAUSES if any(word in text for word in cause[0])), None)
    first = str(error).strip().splitlines()[0][:300] if str(error).strip() else ""
    reason = f"{type(error).__name__}: {first}" if found is None else found[1]
    lines = [f"the model can't be exported to {target}: {reason}"]
    place = _place(error, text)
    lines += [f"  at:       {place}"] if place else []
    lines += [f"  said:     {first}"] if found is not None and first else []
    lines += [f"  hint:     {found[2]}"] if found is not None and found[2] else []
    return ExportError("\n".join(lines))


def _place(error: BaseException, text: str) -> str:
    one: BaseException | None = error
    while one is not None:
        told = explain(one)
        if told.path:
            return str(told.origin)
        one = one.__cause__ or one.__context__
    frames = _FRAME.findall(text)
    return f"{frames[-1][0]}:{frames[-1][1]}" if frames else ""
