"""The sizes of a model in less time than it takes to make it: of parts that are equal only one is made and run."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from builder.lang.guard import TooLong, bounded
from builder.model.infer_inputs import GUESSES, example_inputs, free_dimensions
from builder.model.infer_leaves import LEAVES, leaf_output
from builder.model.infer_mode import Exploring
from builder.model.infer_run import too_long
from builder.model.make import Maker
from builder.model.pending import Names, Pending, Refused, Sizes, untouched
from builder.model.recall import Contradicted, Recall
from builder.model.record import Shape
from builder.model.sizes import infer_sizes, inferable
from builder.model.spec import Definition, Node
from builder.model.stamp import begin


def sketched(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]]
) -> Sizes | None:
    """The sizes, if all goes well; None if something doesn't, which `explore` then tells.

    Raises:
        ConfigError: the model takes more steps than it may.
    """
    try:
        with torch.no_grad(), torch.device("meta"), Exploring():
            return _sketched(definition, given, data, examples)
    except TooLong as error:
        raise too_long(error) from None


def _sketched(
    definition: Definition, given: Names, data: Names, examples: Mapping[str, tuple[Shape, str]]
) -> Sizes | None:
    free, runs = free_dimensions(definition, examples), 0
    maker = Sketcher(exploring=True)
    maker.recall = Recall(maker.sizes)
    try:
        with bounded():
            model = maker.root(definition, given, data)
    except Refused:
        return None
    for guess in GUESSES if free else GUESSES[:1]:
        inputs = example_inputs(definition, {"data": data, **model.__dict__}, examples, guess)
        if inputs is None:
            return None
        try:
            maker.recall = Recall(maker.sizes)
            with bounded():
                model(*inputs.values())
        except TooLong:
            raise
        except Exception as error:  # whatever a layer raises, a user's among them
            if not runs or maker.guessed or isinstance(error, Contradicted):
                return None
            continue
        runs += 1
        if runs == 2 or not free or not maker.sizes:
            break
    return None if untouched(model) else maker.sizes


class Sketcher(Maker):
    """Makes a model of which most layers, too, are made only when they are called with what no equal one was given."""

    nested = False
    """Whether a layer is being made whole, with the layers that are its arguments."""

    def layer(self, node: Node, names: Names, path: str, inputs: tuple[Any, ...] | None = None) -> nn.Module:
        """What stands for a layer of PyTorch's; any other layer is made.

        Raises:
            Refused: its arguments can't be computed, or its class refuses them.
        """
        if self.nested or inputs is not None or not _is_simple(node):
            return self.whole(node, names, path, inputs)
        arguments = {key: self._argument(node, key, names, path, None) for key in node.arguments}
        return SketchedLayer(self, node, names, path, arguments)

    def whole(self, node: Node, names: Names, path: str, inputs: tuple[Any, ...] | None = None) -> nn.Module:
        """The layer itself.

        Raises:
            Refused: its class refuses the arguments.
        """
        nested, self.nested = self.nested, True
        try:
            return super().layer(node, names, path, inputs)
        finally:
            self.nested = nested


def _is_simple(node: Node) -> bool:
    """Whether a node makes one of PyTorch's layers and no layer is among its arguments."""
    home = getattr(node.target, "__module__", "")
    return home.startswith("torch.nn.") and not any(isinstance(value, Node) for value in node.arguments.values())


class SketchedLayer(Pending):
    """A layer that stands for all that are equal: made when it is called with inputs that none of them was given."""

    def __init__(self, maker: Sketcher, node: Node, names: Names, path: str, arguments: dict[str, Any]) -> None:
        begin(self)
        assert node.target is not None
        # Past nn.Module.__setattr__, which would look for parameters in each.
        self.__dict__.update(
            _maker=maker, _node=node, _names=names, _path=path, _made=(), _arguments=arguments, _called=False,
            _lacks=set(inferable(node.target)).difference(arguments),
        )  # fmt: skip

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """What the layer gives, or an equal one gave.

        Raises:
            Refused: its class refuses the arguments.
        """
        self.__dict__["_called"] = True
        with torch._C.DisableTorchFunction():
            found = None if self._made else self._by_rule(args, kwargs)
        if found is not None:
            return found
        recall = self._maker.recall
        assert recall is not None
        return recall.call(self._path, (self._node.target, repr(self._arguments)), super().forward, *args, **kwargs)

    def _by_rule(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        """What it gives, where that is known without making it; its sizes are noted then."""
        target, known = self._node.target, self._maker.sizes.get(self._path)
        assert target is not None
        if target not in LEAVES or not args:
            return None
        try:
            sizes = infer_sizes(target, self._lacks, args) if self._lacks else {}
        except ValueError:
            return None
        output = leaf_output(target, {**sizes, **self._arguments}, args, kwargs)
        if output is None or (known is not None and known != sizes):
            return None
        if sizes:
            self._maker.sizes[self._path] = sizes
        return output

    def made(self, inputs: tuple[Any, ...] | None = None) -> nn.Module:
        """The layer itself, made when it is first asked for.

        Raises:
            Refused: its class refuses the arguments.
        """
        if not self._made:
            maker = self._maker
            assert isinstance(maker, Sketcher)
            self.__dict__["_made"] = (maker.whole(self._node, self._names, self._path, inputs),)
        return self._made[0]

    def __getattr__(self, name: str) -> Any:
        if self.__dict__.get("_lacks", True) and not self.__dict__.get("_made"):
            return super().__getattr__(name)
        return getattr(self.made(), name)

    @property
    def idle(self) -> bool:
        """Whether it was never called, and either lacks a size or can't be made."""
        return not self._called and (self._lacks or not self._can_be_made())

    def _can_be_made(self) -> bool:
        try:
            self.made()
        except Refused:
            return False
        return True
