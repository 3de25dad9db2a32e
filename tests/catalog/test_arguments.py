from collections.abc import Callable, Mapping, Sequence
from typing import Annotated, Any, Literal, Optional, Union

import pytest
import torch
from torchmetrics.classification import MulticlassAccuracy

from builder.catalog.arguments import accepts, check_arguments
from builder.errors import Origin


def faults(target, arguments, kind="layer", **more):
    found = check_arguments(
        kind, target.__name__, target, arguments,
        path=("model", "layers", "x"), origin_of=lambda key: Origin("mlp.yaml", 3), **more,
    )  # fmt: skip
    return "\n".join(map(str, found))


def test_fitting_arguments_have_no_faults():
    assert faults(torch.nn.Linear, {"in_features": 3, "out_features": 4, "bias": False, "device": None}) == ""
    assert (
        faults(torch.nn.Conv2d, {"in_channels": 3, "out_channels": 4, "kernel_size": [3, 5], "padding": "same"}) == ""
    )
    assert faults(torch.nn.LayerNorm, {"normalized_shape": [3, 4], "eps": 1}) == ""
    assert faults(torch.nn.Identity, {"anything": 1}) == ""


def test_an_unknown_argument_is_told_with_all_names_and_the_nearest():
    assert faults(torch.nn.Linear, {"in_features": 3, "out_feature": 4}, provided=["out_features"]) == (
        "mlp.yaml:3: model.layers.x.out_feature: layer Linear has no argument 'out_feature'\n"
        "  expected: in_features, out_features, bias, device, dtype\n"
        "  did you mean 'out_features' or 'in_features'?"
    )


def test_a_layer_without_arguments_says_so():
    assert faults(torch.nn.Tanh, {"inplace": True}) == (
        "mlp.yaml:3: model.layers.x.inplace: layer Tanh has no argument 'inplace'\n  expected: no arguments"
    )


def test_a_missing_argument_is_told_at_the_node():
    assert faults(torch.nn.Linear, {"in_features": 3}) == (
        "mlp.yaml:3: model.layers.x: layer Linear needs the argument 'out_features'\n  expected: int"
    )


def test_an_argument_that_the_builder_fills_in_may_be_missing_or_given():
    assert faults(torch.nn.Linear, {"out_features": 3}, provided={"in_features"}) == ""
    assert faults(torch.nn.Linear, {"in_features": 2, "out_features": 3}, provided={"in_features"}) == ""


def test_an_argument_that_only_the_builder_gives_is_refused():
    assert faults(torch.optim.SGD, {"params": [], "lr": 1}, kind="optimizer", withheld=["params"]).split("\n")[0] == (
        "mlp.yaml:3: model.layers.x.params: optimizer SGD is given its 'params' by the builder"
    )
    assert faults(torch.optim.SGD, {"lr": 1}, kind="optimizer", withheld=["params"]) == ""


def test_reserved_keys_are_no_arguments():
    assert faults(torch.nn.ReLU, {"type": "ReLU", "unused": True}, reserved={"type", "unused"}) == ""


def test_a_wrong_type_is_told_with_what_was_found_and_expected():
    assert faults(torch.nn.Linear, {"in_features": "wide", "out_features": True, "bias": None}) == (
        "mlp.yaml:3: model.layers.x.in_features: layer Linear can't take this value for 'in_features'\n"
        "  found:    'wide'\n"
        "  expected: int\n"
        "mlp.yaml:3: model.layers.x.out_features: layer Linear can't take this value for 'out_features'\n"
        "  found:    True\n"
        "  expected: int\n"
        "mlp.yaml:3: model.layers.x.bias: layer Linear can't take this value for 'bias'\n"
        "  found:    null\n"
        "  expected: bool"
    )


def test_a_wrong_choice_is_told_with_the_choices_and_the_nearest():
    arguments = {"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3, 3], "padding_mode": "zero"}
    assert faults(torch.nn.Conv2d, arguments) == (
        "mlp.yaml:3: model.layers.x.kernel_size: layer Conv2d can't take this value for 'kernel_size'\n"
        "  found:    [3, 3, 3]\n"
        "  expected: int or list of 2 int\n"
        "mlp.yaml:3: model.layers.x.padding_mode: layer Conv2d can't take this value for 'padding_mode'\n"
        "  found:    'zero'\n"
        "  expected: 'zeros', 'reflect', 'replicate' or 'circular'\n"
        "  did you mean 'zeros'?"
    )


def test_a_metric_refuses_an_argument_that_its_constructor_would():
    assert "has no argument 'num_clases'" in faults(MulticlassAccuracy, {"num_clases": 3}, kind="metric")
    assert faults(MulticlassAccuracy, {"num_classes": 3, "sync_on_compute": False}, kind="metric") == ""


def test_private_parameters_are_no_arguments():
    assert "has no argument '_freeze'" in faults(
        torch.nn.Embedding, {"num_embeddings": 3, "embedding_dim": 4, "_freeze": True}
    )


def test_values_that_are_not_plain_are_left_to_the_constructor():
    later = object()
    assert faults(torch.nn.Linear, {"in_features": later, "out_features": later, "bias": later}) == ""
    assert faults(torch.nn.Conv2d, {"in_channels": 1, "out_channels": 2, "kernel_size": [later, 3]}) == ""


def test_what_has_no_signature_is_not_judged():
    assert faults(torch.cat, {"anything": 1}) == ""


@pytest.mark.parametrize(
    ("annotation", "words", "right", "wrong"),
    [
        (int, "int", [3, -1], [True, 3.0, "3", None]),
        (float, "float", [3.0, 3, -1], [True, "3e-4", None, [1.0]]),
        (bool, "bool", [True], [0, "yes", None]),
        (str, "str", ["a"], [1, None]),
        (Optional[int], "int or null", [None, 1], ["a"]),  # noqa: UP045
        (int | None, "int or null", [None, 1], ["a"]),
        (Union[int, tuple[int, int]], "int or list of 2 int", [1, [1, 2], (1, 2)], [[1], [1, "a"], 1.5]),  # noqa: UP007
        (tuple[int, ...], "list of int", [[], [1, 2, 3]], [3, ["a"], "abc"]),
        (tuple[float, bool], "list of 2", [[1, True]], [[1, 1], [1]]),
        (list[int | None], "list of int or null", [[1, None]], [["a"]]),
        (Sequence[str], "list of str", [["a"]], ["a", [1]]),
        (dict[str, int], "mapping", [{"a": 1}], [[1], 3]),
        (Mapping, "mapping", [{}], [3]),
        (Literal["a", "b", 1, None], "'a', 'b', 1 or null", ["a", 1, None], ["c", True, 2]),
        (Annotated[int, "units"], "int", [1], ["a"]),
        (torch.Tensor | None, "tensor or null", [None, [1.0, 2.0]], ["a", {}]),
        (torch.Size, "list of int", [[1, 2]], [["a"], 1]),
        (float | torch.Tensor, "float or tensor", [1, 1.5], ["fast", True]),
    ],
)
def test_annotations_say_what_they_take(annotation, words, right, wrong):
    found = accepts(annotation)
    assert str(found) == words
    assert [value for value in right if not found.test(value)] == []
    assert [value for value in wrong if found.test(value)] == []


@pytest.mark.parametrize(
    "annotation", [Any, object, Callable, "text", torch.dtype, int | torch.device, torch.nn.Module]
)
def test_annotations_that_say_nothing_simple_are_not_judged(annotation):
    assert accepts(annotation) is None


def test_a_signature_is_read_once_for_all_nodes_of_a_type(monkeypatch):
    arguments = {"in_channels": 3, "out_channels": 4, "kernel_size": [3, 3], "padding": 1, "bias": False}
    assert faults(torch.nn.Conv2d, arguments) == ""

    def read_again(target, **options):
        raise AssertionError(f"the signature of {target} is read again")

    monkeypatch.setattr("inspect.signature", read_again)
    assert faults(torch.nn.Conv2d, arguments) == ""


def test_every_default_of_every_layer_loss_and_optimizer_is_accepted():
    from builder import registry
    from builder.catalog.arguments import parameters_of
    from builder.catalog.signatures import signature_of

    refused = []
    for kind in ("layer", "loss", "optimizer", "scheduler", "initialiser"):
        entries = registry.registries[kind]
        for name in entries:
            target = entries.get(name)
            for key, accepted in parameters_of(target).accepts.items():
                default = signature_of(target).parameters[key].default
                if default is not signature_of(target).empty and accepted is not None:
                    if type(default) in (int, float, bool, str, list, tuple, type(None)) and not accepted.test(default):
                        refused.append((name, key, default))
    assert refused == []
