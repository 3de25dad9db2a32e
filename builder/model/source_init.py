"""Initialisation rules → the statements that an expert would write for them, at the end of a constructor."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from builder import registry
from builder.errors import DEFAULT as NOWHERE
from builder.errors import ConfigError, Fault
from builder.lang.formula import Formula
from builder.model.infer import SkipInit
from builder.model.init_read import COUNT
from builder.model.make import Maker
from builder.model.pending import Names, Sizes
from builder.model.source_file import RESET, WALK, File
from builder.model.source_layout import INDENT, block
from builder.model.source_names import Formulas, free_names
from builder.model.source_tensors import member
from builder.model.source_tests import (
    VARIABLES,
    Member,
    Test,
    Unsayable,
    alternatives,
    both,
    distributed,
    either,
    members,
    named,
)
from builder.model.spec import Definition
from builder.select import NamedModel
from builder.weights.gates import EACH, gates_of
from builder.weights.initialise import DEFAULT, Fill, Rule, matched

MANY = 4
"""Parameters from which on they are filled in a loop."""

REPEATED = re.compile(r"(^|\.)\d+(\.|$)|_l[1-9]\d*(_reverse)?$")
"""Names of which there are as many as something counts: copies of a layer, further layers of a recurrent one."""

SHORT = 60
"""Characters of a condition that fits on a line wherever it stands."""

TORCHS = "torch.nn.init"


def standings(definition: Definition, given: Names, data: Names, sizes: Sizes) -> dict[int, list[nn.Module]]:
    """The modules at which each rule of a model stands, by the rule's identity."""
    found: dict[int, list[nn.Module]] = {}
    if definition.rules:
        maker = Maker(exploring=False, sizes=sizes, notes=True)
        with torch.device("meta"), SkipInit():
            maker.root(definition, given, data)
        for standing in maker.rules:
            found.setdefault(id(standing.rule), []).append(standing.module)
    return found


def names_of(rules: tuple[Rule, ...]) -> list[str]:
    """The names around them that formulas of rules use."""
    used: set[str] = set()
    for rule in rules:
        for fill in rule.fills:
            used |= free_names(dict(fill.arguments))
    return sorted(used - {COUNT})


def function(file: File, rules: tuple[Rule, ...], name: str) -> list[str]:
    """The statements of a function that initialises a layer by rules and returns it."""
    used = names_of(rules)
    body = list(statements(file, rules, "module", frozenset(used)))
    return [f"def {name}({', '.join(['module', *used])}):", *body, "return module"]


def function_lines(texts: list[str]) -> Iterator[str]:
    """The lines of a function: its first line, and its statements laid out."""
    yield texts[0]
    for text in texts[1:]:
        if text.startswith("#"):
            yield INDENT + text
        for node in ast.parse("def _():\n    return module" if text == "return module" else text).body:
            yield from block(node.body[0] if isinstance(node, ast.FunctionDef) else node, 1)


def statements(file: File, rules: tuple[Rule, ...], root: str, taken: frozenset[str]) -> Iterator[str]:
    """Statements, with comments among them, that apply rules to the module that the text `root` stands for.

    `taken` are names that have a meaning there already.

    Raises:
        ConfigError: a rule means different parameters in modules of the same class, in a way that no condition says.
    """
    for rule in rules:
        modules = [module for module in file.standings.get(id(rule), []) if any(True for _ in module.parameters())]
        indices = [NamedModel(module) for module in modules]
        printer = _Printer(file, rule, root, taken, indices, [matched(rule, index) for index in indices])
        if any(names for found in printer.found for names in found):
            if rule.origin != NOWHERE:
                yield f"# {rule.origin}"
            yield from printer.lines()


@dataclass(slots=True)
class _Printer:
    """Prints one rule; `found` has the parameters that each key takes, for each of the modules in `indices`."""

    file: File
    rule: Rule
    root: str
    taken: frozenset[str]
    indices: list[NamedModel]
    found: list[list[dict[str, nn.Parameter]]]

    def lines(self) -> Iterator[str]:
        """The statements."""
        names = [self._last(found) for found in self.found]
        alike = all(each == names[0] for each in names)
        resets = any(fill.initialiser == DEFAULT for fill in self.rule.fills)
        repeated = any(REPEATED.search(name) for each in names for name in each)
        if alike and (resets or (not repeated and len(names[0]) <= MANY)):
            yield from self._direct(names[0])
        elif resets:
            raise self._unsayable()
        else:
            yield from self._loop()

    def _last(self, found: list[dict[str, nn.Parameter]]) -> dict[str, int]:
        """The number of the key that fills each parameter, in the module's order."""
        index = self.indices[next(number for number, each in enumerate(self.found) if each is found)]
        last = {name: number for number, names in enumerate(found) for name in names}
        return {name: last[name] for name in index.parameters if name in last}

    def _unsayable(self) -> ConfigError:
        message = "this rule takes other parameters in some copies of its module than in others, which code can't say"
        return ConfigError(Fault(message, self.rule.path, self.rule.origin))

    def _direct(self, numbers: Mapping[str, int]) -> Iterator[str]:
        """A line for each parameter."""
        index, reset = self.indices[0], set()
        for name, number in numbers.items():
            fill, (layer, _, leaf) = self.rule.fills[number], name.rpartition(".")
            if fill.initialiser != DEFAULT:
                count = str(len(self.found[0][number]))
                tensor = member(index.modules[""], name, self.root)
                yield from self._filled(fill, tensor, {COUNT: count}, self._gates(fill, [(index.modules[layer], leaf)]))
            elif (layer, number) not in reset:
                reset.add((layer, number))
                together = [
                    other for other in numbers if other.rpartition(".")[0] == layer and numbers[other] == number
                ]
                yield self._reset(member(index.modules[""], layer, self.root) if layer else self.root, together)

    def _reset(self, layer: str, names: list[str]) -> str:
        self.file.helpers.add(RESET)
        return f"{RESET}({', '.join([layer, *(repr(name.rpartition('.')[2]) for name in names)])})"

    def _loop(self) -> Iterator[str]:
        """A loop over all parameters, with a condition for each key."""
        self.file.helpers.add(WALK)
        renamed = {name: f"{name}_" for name in VARIABLES if name in self.taken}
        over = f"for {', '.join(renamed.get(name, name) for name in VARIABLES)} in {WALK}({self.root})"
        tensor = renamed.get("parameter", "parameter")
        branches = []
        for number, fill in enumerate(self.rule.fills):
            if not any(found[number] for found in self.found):
                continue
            test, counts = _renamed(self._test(number).text, renamed), {}
            if COUNT in free_names(dict(fill.arguments)):
                counts[COUNT] = f"count{number + 1}" if number or COUNT in self.taken else COUNT
                yield f"{counts[COUNT]} = 0"
                yield "\n".join([f"{over}:", *_branches([(test, [f"{counts[COUNT]} += 1"])])])
            gates = self._gates(fill, self._owners(number))
            branches.append((test, list(self._filled(fill, tensor, counts, gates))))
        yield "\n".join([f"{over}:", *_branches(branches if self._apart() else branches[::-1])])

    def _apart(self) -> bool:
        """Whether no parameter is taken by two keys, so that their order doesn't matter."""
        return all(len(self._last(found)) == sum(map(len, found)) for found in self.found)

    def _owners(self, number: int) -> list[tuple[nn.Module, str]]:
        """The layers whose parameters a key takes, with the parameters' names there."""
        owners = []
        for index, found in zip(self.indices, self.found, strict=True):
            for name in found[number]:
                layer, _, leaf = name.rpartition(".")
                owners.append((index.modules[layer], leaf))
        return owners

    def _test(self, number: int) -> Test:
        """A condition that is true of just the parameters that a key takes."""
        pairs = zip(self.indices, self.found, strict=True)
        known = [(item, item.name in found[number]) for index, found in pairs for item in members(index)]
        for test in self._candidates(number, [item for item, _ in known]):
            if all(test.holds(item) == wanted for item, wanted in known):
                return test
        raise self._unsayable()

    def _candidates(self, number: int, known: list[Member]) -> Iterator[Test]:
        try:
            leaf = named(self.rule.fills[number].key)
            tests = alternatives(self.rule.selector, self.file, known)
            short = both([either(tests), leaf])
            yield short if len(short.text) < SHORT else distributed(tests, leaf)
        except Unsayable:
            pass
        names = tuple(dict.fromkeys(name for found in self.found for name in found[number]))
        yield Test(f"name in {list(names)!r}", lambda item: item.name in names)

    def _gates(self, fill: Fill, owners: list[tuple[nn.Module, str]]) -> tuple[str, ...]:
        """The gates that the parameters hold, if the fill is about gates.

        Raises:
            ConfigError: they differ.
        """
        known = {gates_of(layer, leaf) for layer, leaf in owners} if fill.gates else {()}
        if len(known) > 1:
            raise self._unsayable()
        return known.pop()

    def _filled(self, fill: Fill, tensor: str, renamed: dict[str, str], gates: tuple[str, ...]) -> Iterator[str]:
        """The statements that fill a parameter."""
        target = registry.initialisers.get(fill.initialiser)
        arguments = "".join(f", {key}={self._value(value, renamed)}" for key, value in fill.arguments.items())
        called = self.file.imports.of(target, fill.initialiser)
        if not fill.gates:
            # A user's initialiser may not know of gradients.
            yield f"{called}({tensor}{'' if target.__module__ == TORCHS else '.detach()'}{arguments})"
            return
        parts = f"{tensor}.detach().chunk({len(gates)})"
        if fill.gates == (EACH,):
            gate = "gate_" if "gate" in self.taken else "gate"
            yield f"for {gate} in {parts}:\n{INDENT}{called}({gate}{arguments})"
            return
        for gate in fill.gates:
            yield f"{called}({parts}[{gates.index(gate)}]{arguments})"

    def _value(self, value: Any, renamed: dict[str, str]) -> str:
        if isinstance(value, Formula):
            return Formulas(self.file.data, renamed, self.file.imports).text(value)
        return self.file.value(value, lists=True)


def _renamed(text: str, names: Mapping[str, str]) -> str:
    """A condition with other names for some of its variables."""
    if not text or not names:
        return text
    tree = ast.parse(text, mode="eval")
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            node.id = names.get(node.id, node.id)
    return ast.unparse(tree)


def _branches(branches: list[tuple[str, list[str]]]) -> Iterator[str]:
    """The lines of `if`, `elif` and so on, one level in."""
    for number, (test, inside) in enumerate(branches):
        always = not test
        if not always or number:
            yield f"{INDENT}else:" if always else f"{INDENT}{'elif' if number else 'if'} {test}:"
        depth = 1 if always and not number else 2
        yield from (INDENT * depth + line for text in inside for line in text.split("\n"))
        if always:
            return
