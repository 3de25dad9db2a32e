"""The model and task that suit a data set, by its tensors and facts."""

import pytest

from builder.data.facts import Facts, TensorFact
from builder.data.fitting import fitting

FLOAT, INT = "float32", "int64"
CASES = {
    "pictures": ({"x": ((3, 8, 8), FLOAT), "target": ((), INT)}, {"num_classes": 2, "num_outputs": 2}, "cnn", "classification"),
    "rows": ({"x": ((5,), FLOAT), "target": ((), INT)}, {"num_classes": 2, "num_outputs": 2}, "mlp", "classification"),
    "series": ({"x": ((5, 9), FLOAT), "target": ((), INT)}, {"num_classes": 2, "num_outputs": 2}, "mlp", "classification"),
    "number": ({"x": ((5,), FLOAT), "target": ((), FLOAT)}, {"num_outputs": 1}, "mlp", "regression"),
    "numbers": ({"x": ((5,), FLOAT), "target": ((2,), FLOAT)}, {"num_outputs": 2}, "mlp", "regression"),
    "labels": ({"x": ((5,), FLOAT), "target": ((2,), "bool")}, {"num_outputs": 2}, "mlp", "multilabel"),
    "alone": ({"x": ((5,), FLOAT)}, {"num_features": 5}, "autoencoder", "reconstruction"),
    "mixed": (
        {"x": ((5,), FLOAT), "categories": ((2,), INT), "target": ((), FLOAT)},
        {"num_outputs": 1, "category_sizes": [3, 4]}, "table", "regression",
    ),
    "text": ({"ids": ((9,), INT), "target": ((9,), INT)}, {"vocab_size": 4, "length": 9}, "gpt", "language_model"),
    "tags": ({"ids": ((9,), INT), "target": ((9,), INT)}, {"vocab_size": 4, "num_classes": 3}, "lstm_tagger", "tagging"),
    "whole numbers": ({"x": ((5,), INT), "target": ((), INT)}, {"num_classes": 2, "num_outputs": 2}, None, "classification"),
    "unknown": ({"y": ((5,), FLOAT)}, {}, None, None),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES)
def test_what_suits(case):
    tensors, values, model, task = CASES[case]
    facts = Facts(values, {name: TensorFact(*fact) for name, fact in tensors.items()})
    expected = {"model": model, "task": task}
    assert fitting(facts, {}) == {group: choice for group, choice in expected.items() if choice is not None}


def test_what_the_data_says_itself_holds():
    facts = Facts({"num_outputs": 1}, {"x": TensorFact((5,), FLOAT), "target": TensorFact((), FLOAT)})
    assert fitting(facts, {"model": "mine"}) == {"model": "mine", "task": "regression"}
