"""Reads what a definition says of tensors: its inputs, parameters and buffers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal

from builder import registry
from builder.catalog.arguments import check_arguments
from builder.catalog.functions import constants
from builder.errors import ConfigError, nearest
from builder.lang.formula import Formula
from builder.lang.forward import Expression, parse_expression
from builder.lang.names import MODULE_API
from builder.model.scope import Context, is_spelt, read_formula, read_value, refuse_unknown
from builder.model.spec import Input, TensorSpec

DTYPES = (
    "float64", "float32", "float16", "bfloat16", "complex64", "complex128",
    "int64", "int32", "int16", "int8", "uint8", "bool",
)  # fmt: skip
"""dtypes of tensors by PyTorch's names."""

PLAIN = ("int", "float", "str")
"""`dtype`s of inputs that are plain Python values (`bool` is a tensor's)."""

INPUT_KEYS = ("shape", "dtype", "optional")
PARAMETER_KEYS = ("shape", "init", "dtype", "requires_grad", "when")
BUFFER_KEYS = ("shape", "init", "value", "dtype", "persistent", "when")


def read_inputs(raw: Any, context: Context) -> tuple[Input, ...]:
    """`[x, mask]`, or a mapping of names to a shape or to `{shape, dtype, optional}`; `x` where nothing is said."""
    if raw is None:
        return (Input("x", None, "float32", False, context.place),)
    if isinstance(raw, list):
        raw = {name: None for name in raw} if all(isinstance(name, str) for name in raw) else raw
    if not isinstance(raw, dict) or not raw:
        context.fault(
            "'inputs' lists names, or maps them to shapes", found=raw, expected="for example `x: [B, 3, H, W]`"
        )
        return ()
    inputs = [_read_input(str(name), value, context.at(name)) for name, value in raw.items()]
    optional = next((item for item in inputs if item.optional), None)
    for item in inputs[inputs.index(optional) :] if optional else []:
        if not item.optional:
            context.at(item.name).fault(
                f"input {item.name!r} is not optional and comes after {optional.name!r}, which is"  # type: ignore[union-attr]
            )
    return tuple(inputs)


def _read_input(name: str, raw: Any, context: Context) -> Input:
    _check_tensor_name(name, context, "input")
    details = raw if isinstance(raw, dict) else {"shape": raw}
    refuse_unknown(details, context, INPUT_KEYS, f"input {name!r}")
    dtype, optional = details.get("dtype") or "float32", details.get("optional", False)
    if dtype not in (*DTYPES, *PLAIN):
        context.fault(f"unknown dtype {dtype!r}", expected=f"one of {', '.join((*DTYPES, *PLAIN))}",
                      nearest=nearest(dtype, (*DTYPES, *PLAIN)))  # fmt: skip
    if not isinstance(optional, bool):
        context.fault("'optional' is true or false", found=optional)
    return Input(name, _read_dims(details.get("shape"), context), str(dtype), optional is True, context.place)


def _read_dims(raw: Any, context: Context) -> tuple[int | str | Formula, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list):
        context.fault("the shape of an input is a list", found=raw, expected="for example `[B, 3, H, W]`")
        return None
    dims: list[int | str | Formula] = []
    for index, dim in enumerate(raw):
        here = context.at(index)
        if isinstance(dim, str) and dim.startswith("="):
            formula = read_formula(dim, here)
            dims.extend([formula] if formula is not None else [])
        elif (isinstance(dim, int) and not isinstance(dim, bool) and dim >= 0) or (
            isinstance(dim, str) and dim.isidentifier()
        ):
            dims.append(dim)
        else:
            here.fault("a dimension is a size, a formula, or the name of a free dimension", found=dim)
    return tuple(dims)


def read_tensors(raw: Any, role: Literal["parameter", "buffer"], context: Context) -> tuple[TensorSpec, ...]:
    """The `parameters` or `buffers` of a definition."""
    if raw is None:
        return ()
    if not isinstance(raw, dict):
        context.fault(
            f"'{role}s' is a mapping of names", found=raw, expected="for example `scale: {shape: [8], init: ones_}`"
        )
        return ()
    return tuple(_read_tensor(str(name), value, role, context.at(name)) for name, value in raw.items())


def _read_tensor(name: str, raw: Any, role: Literal["parameter", "buffer"], context: Context) -> TensorSpec:
    _check_tensor_name(name, context, role)
    details: Any = {"shape": raw} if isinstance(raw, list) else raw
    if not isinstance(details, dict):
        context.fault(f"a {role} is a mapping", found=raw, expected="for example `{shape: [8], init: ones_}`")
        details = {"shape": [], "init": "zeros_"}
    known = PARAMETER_KEYS if role == "parameter" else BUFFER_KEYS
    refuse_unknown(details, context, known, f"{role} {name!r}")
    value = _read_expression(details["value"], context.at("value")) if "value" in details else None
    if "shape" not in details and "value" not in details:
        context.fault(f"{role} {name!r} has no shape", expected="`shape: [...]`")
    if "value" in details and ("shape" in details or "init" in details):
        context.fault(f"{role} {name!r} has a `value`, which gives its shape too", found=sorted(details))
    if role == "parameter" and "init" not in details:
        context.fault(
            f"parameter {name!r} doesn't say how it begins", expected="`init: normal_` or another initialiser"
        )
    init, arguments = _read_init(details.get("init"), context.at("init"))
    dtype: str | None = details.get("dtype")
    if dtype is not None and dtype not in DTYPES:
        context.at("dtype").fault(
            f"unknown dtype {dtype!r}", expected=f"one of {', '.join(DTYPES)}", nearest=nearest(dtype, DTYPES)
        )
    for key in ("persistent", "requires_grad"):
        if not isinstance(details.get(key, True), bool):
            context.at(key).fault(f"{key!r} is true or false", found=details[key])
    shape = _read_shape(details.get("shape"), context.at("shape"))
    return TensorSpec(
        name, role, context.place, shape, dtype, init, arguments, value,
        details.get("persistent", True) is True, details.get("requires_grad", True) is True,
        read_value(details.get("when", True), context.at("when")),
    )  # fmt: skip


def _read_shape(raw: Any, context: Context) -> Any:
    if raw is not None and not isinstance(raw, list) and not (isinstance(raw, str) and raw.startswith("=")):
        context.fault("a shape is a list of sizes", found=raw, expected="for example `[=width, 4]`")
        return []
    return read_value(raw, context)


def _read_init(raw: Any, context: Context) -> tuple[str | None, Mapping[str, Any]]:
    if raw is None:
        return None, {}
    details = {"type": raw} if isinstance(raw, str) else raw
    if not isinstance(details, dict) or not isinstance(details.get("type"), str):
        context.fault("'init' names an initialiser", found=raw, expected="`normal_`, or `{type: normal_, std: 0.02}`")
        return None, {}
    name = details["type"]
    if name not in registry.initialisers:
        context.fault(f"unknown initialiser {name!r}", nearest=nearest(name, registry.initialisers.names()),
                      hint="`builder registry initialiser` lists them")  # fmt: skip
        return None, {}
    arguments = {key: read_value(value, context.at(key)) for key, value in details.items() if key != "type"}
    faults = check_arguments(
        "initialiser", name, registry.initialisers.get(name), arguments,
        path=context.path, origin_of=lambda key: context.at(key).place.origin, withheld=("tensor", "generator"),
    )  # fmt: skip
    context.reading.faults.extend(faults)
    return name, arguments


def _read_expression(raw: Any, context: Context) -> Expression | None:
    if not isinstance(raw, str):
        raw = repr(raw)
    names = context.names - {"data", "i"}
    place = context.place
    try:
        return parse_expression(
            raw, names, registry.functions, constants=constants(), origin=place.origin, path=place.path
        )
    except ConfigError as error:
        context.reading.faults.extend(error.faults)
        return None


def _check_tensor_name(name: str, context: Context, what: str) -> None:
    if is_spelt(name, context, f"a {what}") and name in MODULE_API and what != "input":
        context.fault(f"{name!r} can't be the name of a {what}: every torch.nn.Module has it already")
