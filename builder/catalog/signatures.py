"""How a registered object is called and what it is for, as far as Python, its overloads or its docstring tell."""

from __future__ import annotations

import collections
import collections.abc
import inspect
import re
import sys
import typing
from collections.abc import Callable
from typing import Any

METRIC_ARGUMENTS = (
    "compute_on_cpu",
    "compute_with_cache",
    "dist_sync_fn",
    "dist_sync_on_step",
    "distributed_available_fn",
    "process_group",
    "sync_on_compute",
)
"""What the base class of torchmetrics takes through `**kwargs`; it refuses anything else."""

_UNDOCUMENTED = {
    "torch.finfo": ("(dtype)", "The limits of a floating point dtype: eps, max, min, tiny."),
    "torch.iinfo": ("(dtype)", "The limits of an integer dtype: max, min."),
}

_NOTHING = ("(…)", "")

_ANNOTATION_NAMES = {**vars(typing), **vars(collections.abc), "OrderedDict": collections.OrderedDict}


def signature_of(target: Callable[..., Any]) -> inspect.Signature:
    """The arguments by which a class or function is called, annotations resolved where they can be.

    Better than `inspect.signature` where that says only `(*args, **kwargs)`: overloads are asked (`LSTM`), the module
    classes that take nothing say so (`Sigmoid`), and metrics name their common arguments.

    Raises:
        ValueError: it is written in C and has none.
    """
    signature = _inspected(target)
    if isinstance(target, type):
        if _takes_nothing(target):
            return inspect.Signature()
        if _is_metric(target):
            return _with_keywords(signature, METRIC_ARGUMENTS)
        if _says_nothing(signature):
            return _overloaded(target) or signature
    return signature


def signature_text(target: object) -> str:
    """The call as people read it, `(in_features, out_features, bias=True)`; empty for a value that isn't called."""
    if not callable(target):
        return ""
    try:
        signature = signature_of(target)
    except ValueError:
        documented = _split_call(target)[0] if target.__doc__ else ""
        return documented or _operator_call(target) or _UNDOCUMENTED.get(_path(target), _NOTHING)[0]
    if _says_nothing(signature):
        return _split_call(target)[0] or _shown(signature)
    return _shown(signature)


def doc_line(target: object) -> str:
    """What an object is for: the first sentence of its docstring, the roles of reStructuredText taken out."""
    if not callable(target):
        return f"constant {target}"
    paragraphs = (" ".join(paragraph.split()) for paragraph in prose(target).split("\n\n"))
    first = next((text for text in paragraphs if text and not text.startswith(("..", "Args:", "Note:"))), "")
    sentence = re.split(r"(?<=[.:])\s", first, maxsplit=1)[0]
    return plain_text(sentence).removesuffix(":") or _UNDOCUMENTED.get(_path(target), _NOTHING)[1]


def prose(target: object) -> str:
    """The docstring of an object without the call that it may begin with; empty for a value that isn't called."""
    return _split_call(target)[1].strip() if callable(target) else ""


def _inspected(target: Callable[..., Any]) -> inspect.Signature:
    try:
        return inspect.signature(target, locals=_ANNOTATION_NAMES, eval_str=True)
    except (NameError, AttributeError, SyntaxError, TypeError):
        return inspect.signature(target)  # an annotation names what is imported for type checkers only


def _takes_nothing(target: type) -> bool:
    torch = sys.modules.get("torch")
    return torch is not None and target.__init__ is torch.nn.Module.__init__  # type: ignore[misc]


def _is_metric(target: type) -> bool:
    torchmetrics = sys.modules.get("torchmetrics")
    return torchmetrics is not None and issubclass(target, torchmetrics.Metric)


def _says_nothing(signature: inspect.Signature) -> bool:
    kinds = [parameter.kind for parameter in signature.parameters.values()]
    return bool(kinds) and all(
        kind in (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD) for kind in kinds
    )


def _overloaded(target: type) -> inspect.Signature | None:
    overloads = typing.get_overloads(target.__init__)  # type: ignore[misc]
    if not overloads:
        return None
    signature = _inspected(overloads[0])
    return signature.replace(parameters=list(signature.parameters.values())[1:])


def _with_keywords(signature: inspect.Signature, names: tuple[str, ...]) -> inspect.Signature:
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    if len(own) == len(signature.parameters):
        return signature
    known = {parameter.name for parameter in own}
    extra = [
        inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None) for name in names if name not in known
    ]
    return signature.replace(parameters=[*own, *extra])


def _shown(signature: inspect.Signature) -> str:
    parameters = [
        parameter.replace(annotation=parameter.empty, default=_shown_default(parameter.default))
        for parameter in signature.parameters.values()
        if parameter.name not in METRIC_ARGUMENTS
    ]
    return str(inspect.Signature(parameters))


class _Named:
    """A default that prints as a bare name."""

    def __init__(self, name: str) -> None:
        self.name = name

    def __repr__(self) -> str:
        return self.name


def _shown_default(default: object) -> object:
    if default is not inspect.Parameter.empty and (inspect.isroutine(default) or isinstance(default, type)):
        return _Named(default.__name__)
    return default


def _split_call(target: object) -> tuple[str, str]:
    """The arguments of the call that a docstring begins with, as those of functions written in C do, and the rest."""
    doc = inspect.getdoc(target) or _method_doc(target)
    name = re.match(r"([\w.]+)\s?\(", doc)
    known = (_bare(getattr(target, "__name__", "")), _bare("__init__"))
    if name is None or not any(own.endswith(_bare(name[1].rpartition(".")[2])) for own in known):
        return "", doc
    depth = 0
    for position in range(name.end() - 1, len(doc)):
        depth += {"(": 1, ")": -1}.get(doc[position], 0)
        if depth == 0:
            return " ".join(doc[name.end() - 1 : position + 1].split()), doc[position + 1 :].partition("\n")[2]
    return "", doc


def _method_doc(target: object) -> str:
    """The docstring of the tensor method of the same name, for the C functions that have none."""
    torch = sys.modules.get("torch")
    if torch is None or not inspect.isbuiltin(target):
        return ""
    return inspect.getdoc(getattr(torch.Tensor, target.__name__, None)) or ""


def _path(target: object) -> str:
    return f"{getattr(target, '__module__', '')}.{getattr(target, '__qualname__', '')}"


def _bare(name: str) -> str:
    return name.replace("_", "").lower()


def _operator_call(target: object) -> str:
    """The arguments of a C function without a docstring, from the schema of the operator of that name."""
    torch = sys.modules.get("torch")
    packet = getattr(torch.ops.aten, getattr(target, "__name__", ""), None) if torch is not None else None
    if packet is None or not inspect.isbuiltin(target):
        return ""
    schema = getattr(packet, packet.overloads()[0])._schema
    return f"({', '.join('input' if argument.name == 'self' else argument.name for argument in schema.arguments)})"


def plain_text(text: str) -> str:
    """A text of a docstring without the marks of reStructuredText."""
    text = re.sub(r"(`|\b[A-Za-z-]+)_(?=[\s.,)]|$)", r"\1", text)  # the links `text`_ and text_
    text = re.sub(r"\\text\{([^}]*)\}", r"\1", text)
    text = re.sub(r":math:`([^`]*)`", r"\1", text)
    text = re.sub(r":\w+:`~?(?:torch\.)?([^`<]*?)\s*(?:<[^`]*>)?`", r"\1", text)
    return text.replace("``", "").replace("`", "")
