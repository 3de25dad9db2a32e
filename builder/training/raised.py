"""Says where in the config a loss, a prediction or a metric failed, and on what."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from torch import Tensor

from builder.catalog.component import Component
from builder.errors import Fault, Origin, Path, RunError

FIRST = ("output", "prediction", "target")
"""What is shown first of the values that a term was given."""


class TermError(RunError):
    """A loss, a prediction or a metric raised; `fault` says where it is written and what it was given."""

    def __init__(self, fault: Fault) -> None:
        super().__init__(fault)
        self.fault = fault

    def __str__(self) -> str:
        return str(self.fault)


def told(term: Callable[[Mapping[str, Any]], Any], path: Path, origin: Origin) -> Callable[[Mapping[str, Any]], Any]:
    """The same function of named values, whose exceptions say where in the config it is written.

    Raises:
        TermError: whatever the function raises.
    """

    def call(values: Mapping[str, Any]) -> Any:
        try:
            return term(values)
        except Exception as error:  # whatever PyTorch's functions raise
            raise raised(error, path, origin, values) from error

    return call


def raised(error: Exception, path: Path, origin: Origin, values: Mapping[str, Any]) -> TermError:
    """The exception of a term at `path` that was given `values`, as one for the user."""
    first = (str(error).strip() or type(error).__name__).splitlines()[0]
    names = sorted(values, key=lambda name: (*FIRST, name).index(name))
    if values.get("prediction") is values.get("output"):
        names = [name for name in names if name != "prediction"]
    shapes = ", ".join(text for name in names for text in _shapes(name, values[name]))
    return TermError(Fault(f"{type(error).__name__}: {first}", path, origin, _Text(shapes) if shapes else None))


def metric_raised(error: Exception, component: Component, arguments: Sequence[Any]) -> TermError:
    """The exception of a metric that was given `arguments`, as one for the user."""
    names = {f"input {index}": argument for index, argument in enumerate(arguments, 1)}
    return raised(error, component.path, component.origin, names)


class _Text(str):
    """Text that is shown without quotes."""

    def __repr__(self) -> str:
        return str(self)


def _shapes(name: str, value: Any) -> list[str]:
    """A value as `name [2, 3] float32`; one for each entry of a mapping or sequence."""
    if isinstance(value, Tensor):
        return [f"{name} {list(value.shape)} {str(value.dtype).removeprefix('torch.')}"]
    if isinstance(value, Mapping):
        return [text for key, item in value.items() for text in _shapes(f"{name}.{key}", item)]
    if isinstance(value, list | tuple):
        return [text for index, item in enumerate(value) for text in _shapes(f"{name}[{index}]", item)]
    return [f"{name} {value!r}"]
