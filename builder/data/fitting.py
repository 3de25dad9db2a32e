"""Which of the shipped models and tasks suit a data set of which nothing is said but its tensors."""

from __future__ import annotations

from collections.abc import Mapping

from builder.data.facts import Facts, TensorFact


def fitting(facts: Facts, stated: Mapping[str, str]) -> dict[str, str]:
    """The model and the task that suit the data, without those for which none is known.

    Args:
        facts: what is known of the data.
        stated: what the data set says itself, which holds.
    """
    guessed = {"model": _model(facts), "task": _task(facts)}
    return {group: choice for group, choice in {**guessed, **stated}.items() if choice is not None}


def _model(facts: Facts) -> str | None:
    x, known = facts.tensors.get("x"), facts.values
    if "ids" in facts.tensors and "vocab_size" in known:
        return "lstm_tagger" if "num_classes" in known else "gpt" if "length" in known else None
    if x is None or not _is_number(x):
        return None
    if "target" not in facts.tensors:
        return "autoencoder" if "num_features" in known else None
    if "categories" in facts.tensors and known.get("category_sizes"):
        return "table"
    if "num_outputs" not in known:
        return None
    return "cnn" if len(x.shape) == 3 and "num_classes" in known else "mlp"


def _task(facts: Facts) -> str | None:
    target, known = facts.tensors.get("target"), facts.values
    if target is None:
        return "reconstruction" if "x" in facts.tensors and _is_number(facts.tensors["x"]) else None
    if "ids" in facts.tensors:
        return "tagging" if "num_classes" in known else "language_model" if "vocab_size" in known else None
    if "num_classes" in known and not target.shape:
        return "classification"
    if _is_number(target):
        return "regression"
    return "multilabel" if len(target.shape) == 1 and "num_outputs" in known else None


def _is_number(tensor: TensorFact) -> bool:
    return tensor.dtype.startswith(("float", "bfloat"))
