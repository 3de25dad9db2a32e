"""What the docstring of a registered object says of each of its arguments, in a line."""

from __future__ import annotations

import inspect
import re
from collections import Counter
from collections.abc import Callable, Iterator
from functools import cache
from typing import Any

from builder.catalog.argument_words import COMMON, WORDS
from builder.catalog.arguments import parameters_of
from builder.catalog.signatures import plain_text, prose
from builder.registry import Registry

_SECTION = re.compile(r"(?P<indent> *)(Args|Arguments|Parameters|Keyword Args):\s*")
_ENTRY = re.compile(
    r"(?P<indent> +)\*{0,2}(?P<names>\w+(?:, \w+)*)\s*(?:\([^()]*(?:\([^()]*\)[^()]*)*\))?\s*:\s*(?P<text>.*)"
)
_TAIL = re.compile(r"\s*[,.(]?\s*(?:\(?(?:[Dd]efaults?(?: value)?(?: is|:|=|\s)|optional\)|required\))).*$", re.DOTALL)
_SENTENCE = re.compile(r"(?<=[.:;])\s")


def argument_docs(registry: Registry, name: str) -> dict[str, str]:
    """Argument → one line, for all arguments of what is registered under `name` of which anything is said.

    That is the first sentence of its entry in the docstring's section `Args:`, else the sentence that begins with it
    in backquotes, else what `argument_words` says of such an argument, else what others of that registry do.
    """
    target = registry.get(name)
    parameters = parameters_of(target)
    if parameters is None:
        return {}
    known = _documented(target)
    words, usual = WORDS.get(registry.kind, {}), _usual(registry, tuple(registry))
    found = {
        key: known.get(key) or words.get(key) or usual.get(key) or COMMON.get(key, "") for key in parameters.accepts
    }
    return {key: line for key, line in found.items() if line}


@cache
def _usual(registry: Registry, names: tuple[str, ...]) -> dict[str, str]:
    """What is said most often of an argument by those of a registry that document theirs."""
    counts: dict[str, Counter[str]] = {}
    for name in names:
        for argument, line in _documented(registry.get(name)).items():
            counts.setdefault(argument, Counter())[line] += 1
    return {argument: lines.most_common(1)[0][0] for argument, lines in counts.items()}


@cache
def _documented(target: Callable[..., Any]) -> dict[str, str]:
    texts = [prose(target), inspect.getdoc(getattr(target, "__init__", None)) or ""]
    found: dict[str, str] = {}
    for text in texts:
        for names, said in _entries(text.split("\n")):
            found |= {name: _line(said) for name in names.split(", ") if name not in found}
    for sentence in re.split(r"(?<=[.;])\s", " ".join(texts[0].split())):
        first = re.match(r"(?:With )?((?:`\w+`(?:, | and )?)+)", sentence)
        for name in re.findall(r"\w+", first[1].replace(" and ", " ")) if first is not None else ():
            found.setdefault(name, plain_text(sentence).rstrip(".;"))
    return {name: line for name, line in found.items() if line}


def _line(text: str) -> str:
    """The first sentence as plain text, without the default that stands elsewhere."""
    return _TAIL.sub("", plain_text(_SENTENCE.split(text, maxsplit=1)[0])).strip().rstrip(".:;,")


def _entries(lines: list[str]) -> Iterator[tuple[str, str]]:
    """Names and text of each entry of the sections on arguments, its lines joined."""
    inside: int | None = None
    depth: str | None = None
    entry: tuple[str, list[str]] | None = None
    for line in lines:
        section = _SECTION.fullmatch(line)
        match = _ENTRY.fullmatch(line) if inside is not None else None
        if section is not None:
            inside, depth = len(section["indent"]), None
        elif inside is not None and line.strip() and len(line) - len(line.lstrip()) <= inside:
            inside = None
        elif match is not None and depth in (None, match["indent"]):
            if entry is not None:
                yield entry[0], " ".join(entry[1])
            depth, entry = match["indent"], (match["names"], [match["text"].strip()])
        elif entry is not None and inside is not None and line.strip():
            entry[1].append(line.strip())
    if entry is not None:
        yield entry[0], " ".join(entry[1])
