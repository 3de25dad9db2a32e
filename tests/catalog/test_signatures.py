import inspect

import pytest
import torch
import torch.nn.functional
import torchmetrics
from torchmetrics.classification import MulticlassAccuracy

from builder.catalog.signatures import METRIC_ARGUMENTS, doc_line, prose, signature_of, signature_text


def test_a_class_that_takes_anything_shows_its_overload():
    assert list(signature_of(torch.nn.LSTM).parameters) == [
        "input_size", "hidden_size", "num_layers", "bias", "batch_first", "dropout", "bidirectional", "proj_size", "device", "dtype",
    ]  # fmt: skip
    assert "nonlinearity" in signature_of(torch.nn.RNN).parameters


@pytest.mark.parametrize("layer", [torch.nn.Sigmoid, torch.nn.Tanh, torch.nn.Softsign, torch.nn.Softmax2d])
def test_a_module_without_a_constructor_takes_nothing(layer):
    assert not signature_of(layer).parameters
    with pytest.raises(TypeError):
        layer(anything=1)


def test_identity_still_takes_anything():
    torch.nn.Identity(54, anything=1)
    assert [p.kind for p in signature_of(torch.nn.Identity).parameters.values()][-1] is inspect.Parameter.VAR_KEYWORD


def test_annotations_kept_as_text_are_resolved():
    milestones = signature_of(torch.optim.lr_scheduler.MultiStepLR).parameters["milestones"]
    assert milestones.annotation.__args__ == (int,)


def test_an_annotation_that_no_one_can_resolve_leaves_the_signature():
    def function(x: "Absent", y: int = 1):  # noqa: F821, UP037
        pass

    assert list(signature_of(function).parameters) == ["x", "y"]


def test_a_metric_takes_the_arguments_of_its_base_class_and_no_others():
    assert set(METRIC_ARGUMENTS) <= set(signature_of(MulticlassAccuracy).parameters)
    assert set(METRIC_ARGUMENTS) <= set(signature_of(torchmetrics.MeanMetric).parameters)
    with pytest.raises(ValueError, match="Unexpected keyword arguments"):
        MulticlassAccuracy(num_classes=2, other=1)
    source = inspect.getsource(torchmetrics.Metric.__init__)
    assert all(f'kwargs.pop("{name}"' in source for name in METRIC_ARGUMENTS)
    assert source.count("kwargs.pop(") == len(METRIC_ARGUMENTS)


@pytest.mark.parametrize(
    ("target", "text"),
    [
        (torch.nn.Linear, "(in_features, out_features, bias=True, device=None, dtype=None)"),
        (torch.cat, "(tensors, dim=0, *, out=None)"),
        (torch.linalg.lu_factor, "(A, *, bool pivot=True, out=None)"),
        (torch.masked_fill, "(input, mask, value)"),
        (torch.finfo, "(dtype)"),
        (torch.nn.functional.scaled_dot_product_attention,
         "(query, key, value, attn_mask=None, dropout_p=0.0, is_causal=False, scale=None, enable_gqa=False)"),
        (torch.nn.functional.max_pool2d,
         "(input, kernel_size, stride=None, padding=0, dilation=1, ceil_mode=False, return_indices=False)"),
        (MulticlassAccuracy,
         "(num_classes=None, top_k=1, average='macro', multidim_average='global', ignore_index=None, validate_args=True)"),
        (torch.float32, ""),
    ],
)  # fmt: skip
def test_a_call_is_shown_as_people_write_it(target, text):
    assert signature_text(target) == text


def test_a_function_as_a_default_is_shown_by_its_name():
    assert "activation=relu" in signature_text(torch.nn.TransformerEncoderLayer)


@pytest.mark.parametrize(
    ("target", "line"),
    [
        (torch.nn.Linear, "Applies an affine linear transformation to the incoming data"),
        (torch.cat, "Concatenates the given sequence of tensors in tensors in the given dimension."),
        (torch.lt, r"Computes input < other element-wise."),
        (torch.masked_fill, "Out-of-place version of Tensor.masked_fill_"),
        (torch.nn.LSTM, "Apply a multi-layer long short-term memory (LSTM) RNN to an input sequence."),
        (torch.float32, "constant torch.float32"),
    ],
)
def test_the_purpose_is_the_first_sentence_without_markup(target, line):
    assert doc_line(target) == line


def test_the_call_at_the_head_of_a_docstring_is_no_prose():
    assert prose(torch.cat).startswith("Concatenates the given sequence")
    assert prose(torch.nn.LSTM).startswith("Apply a multi-layer")
