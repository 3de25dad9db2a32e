"""Metrics: the metric classes of torchmetrics, by their own names."""

from __future__ import annotations

from collections.abc import Iterator

import torchmetrics
from torchmetrics import (
    audio,
    classification,
    clustering,
    detection,
    image,
    nominal,
    regression,
    retrieval,
    segmentation,
    text,
)

from builder.registry import metrics

NAMESPACES = (
    classification, regression, text, segmentation, clustering, nominal, retrieval, image, audio, detection,
    torchmetrics,
)  # fmt: skip
"""Where metrics are taken from, in the order in which they are asked.

The package itself comes last: some of its classes only warn that theirs is the one of a namespace.
"""

_WRAPS = "takes a metric object or a function, which a config can't say"
_PRETRAINED = "fetches a pretrained network"

EXCLUDED = {
    "BERTScore": _PRETRAINED,
    "BootStrapper": _WRAPS,
    "ClasswiseWrapper": _WRAPS,
    "DeepImageStructureAndTextureSimilarity": _PRETRAINED,
    "InfoLM": _PRETRAINED,
    "MemorizationInformedFrechetInceptionDistance": _PRETRAINED,
    "Metric": "the base class",
    "MetricCollection": "the mapping under `metrics` is one",
    "MetricTracker": _WRAPS,
    "MinMaxMetric": _WRAPS,
    "MultioutputWrapper": _WRAPS,
    "MultitaskWrapper": _WRAPS,
    "PermutationInvariantTraining": _WRAPS,
    "functional": "not a class",
}
"""Public names of those namespaces that aren't metrics of a config, and why."""


def public_metrics() -> Iterator[tuple[str, type]]:
    """Each public name of the namespaces once, with its class."""
    seen: set[str] = set()
    for namespace in NAMESPACES:
        for name in set(namespace.__all__) - seen:
            seen.add(name)
            yield name, getattr(namespace, name)


for _name, _metric in public_metrics():
    if _name not in EXCLUDED:
        metrics.register(_name, _metric)
