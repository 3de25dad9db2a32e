import io
import math

import torch
from hypothesis import given
from hypothesis import strategies as st

from builder.training.packed import packed, unpacked

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.complex_numbers(),
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text() | st.just("kept"), inner)
        | st.dictionaries(st.integers() | st.booleans(), inner)
    ),
    max_leaves=20,
)


def through_a_file(value):
    file = io.BytesIO()
    torch.save(packed(value), file)
    return unpacked(torch.load(io.BytesIO(file.getvalue()), weights_only=True))


@given(VALUES)
def test_what_was_packed_comes_back_as_it_was(value):
    assert repr(through_a_file(value)) == repr(value)


def test_tensors_come_back_and_the_rest_is_one_text():
    value = {"a": [torch.arange(3), {"b": 1.5, "c": None}], "d": (torch.float64, torch.zeros(2, 0)), "e": math.nan}
    saved = packed(value)
    assert [type(each) for each in saved["kept"]] == [torch.Tensor, tuple]
    again = through_a_file(value)
    assert torch.equal(again["a"][0], torch.arange(3)) and again["a"][1] == {"b": 1.5, "c": None}
    assert again["d"][0] is torch.float64 and again["d"][1].shape == (2, 0) and math.isnan(again["e"])
