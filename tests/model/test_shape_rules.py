"""Each rule for a shape gives what PyTorch's own way to it on the meta device gives, and its errors."""

import math

import pytest
import torch
import torch.nn.functional as F
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.model.infer_mode import ALL_RULES, Exploring, by_rule

SIZES = st.sampled_from((1, 2, 3, 4, 6))
DTYPES = st.sampled_from((torch.float32,) * 8 + (torch.float16, torch.float64, torch.int64, torch.bool))
RARELY = st.sampled_from((False,) * 9 + (True,))


@st.composite
def tensors(draw, shape=None, ndim=None, dtype=None):
    """A tensor on the meta device: mostly contiguous, else permuted, cut out, expanded, or with channels last."""
    shape = draw(st.lists(SIZES, min_size=ndim or 0, max_size=ndim or 4)) if shape is None else list(shape)
    dtype = draw(DTYPES) if dtype is None else dtype
    layout = draw(st.sampled_from(("plain", "plain", "plain", "permuted", "cut", "expanded", "last")))
    if layout == "permuted":
        order = draw(st.permutations(range(len(shape))))
        inverse = sorted(range(len(shape)), key=order.__getitem__)
        return torch.empty([shape[dim] for dim in order], dtype=dtype, device="meta").permute(inverse)
    if layout == "cut" and shape:
        return torch.empty([*shape[:-1], 2 * shape[-1]], dtype=dtype, device="meta").chunk(2, dim=-1)[1]
    if layout == "expanded" and shape:
        return torch.empty([1, *shape[1:]], dtype=dtype, device="meta").expand(shape)
    x = torch.empty(shape, dtype=dtype, device="meta")
    return x.to(memory_format=torch.channels_last) if layout == "last" and len(shape) == 4 else x


def optional(strategy):
    return st.none() | strategy


def near(shape):
    """The same shape, or rarely another."""
    return st.tuples(*[st.one_of(st.just(size), st.just(size), st.just(size), SIZES) for size in shape])


def settings_of(spatial, low, high):
    one = st.integers(low, high)
    return one | st.tuples(*[one] * spatial) | st.lists(one, min_size=spatial, max_size=spatial)


@st.composite
def unary(draw):
    functions = (
        F.relu, F.silu, F.mish, F.selu, F.hardswish, F.hardsigmoid, torch.sigmoid, torch.tanh, F.softsign, F.logsigmoid,
        torch.exp, torch.Tensor.exp, torch.log, torch.sqrt, torch.rsqrt, torch.abs, torch.Tensor.neg, torch.square,
        torch.sin, torch.cos, torch.erf, F.tanhshrink, F.relu6, torch.relu, torch.Tensor.tanh,
    )  # fmt: skip
    return draw(st.sampled_from(functions)), (draw(tensors()),), {}


@st.composite
def activations(draw):
    x = draw(tensors())
    number = st.sampled_from((-1, 0, 0.2, 1.5, 2))
    inplace = {"inplace": draw(RARELY)} if x.dtype.is_floating_point else {}
    return draw(
        st.sampled_from(
            (
                (F.gelu, (x,), {"approximate": draw(st.sampled_from(("none", "tanh", "none", "wrong")))}),
                (F.leaky_relu, (x, draw(number)), {}),
                (F.elu, (x,), {"alpha": draw(number)}),
                (F.softplus, (x, draw(number), 20.0), {}),
                (F.hardtanh, (x, draw(number), draw(number)), inplace),
                (F.dropout, (x, draw(number)), {"training": draw(st.booleans())}),
                (F.softmax, (x,), {"dim": draw(st.integers(-4, 4))}),
                (F.log_softmax, (x, draw(st.integers(-4, 4))), {}),
                (torch.Tensor.softmax, (x, draw(st.integers(-4, 4))), {}),
            )
        )
    )


@st.composite
def binary(draw):
    x = draw(tensors())
    shape = draw(near(x.shape)) if draw(st.booleans()) else [draw(st.sampled_from((1, size))) for size in x.shape]
    other = draw(
        tensors(shape=list(shape)[draw(st.sampled_from((0, 0, 1, 2))) :], dtype=draw(st.just(x.dtype) | DTYPES))
    )
    functions = (
        torch.add, torch.sub, torch.mul, torch.div, torch.Tensor.add, torch.Tensor.mul, torch.Tensor.__rsub__,
        torch.lt, torch.Tensor.ge, torch.Tensor.__eq__, torch.ne, torch.Tensor.add_, torch.Tensor.mul_,
        torch.Tensor.div_, torch.pow, torch.Tensor.__pow__, torch.Tensor.__rpow__, torch.Tensor.__rdiv__,
    )  # fmt: skip
    number = st.sampled_from((0, 1, 2, 2.5, -1, True))
    return draw(st.sampled_from(functions)), (x, draw(number) if draw(st.booleans()) else other), {}


@st.composite
def products(draw):
    kind = draw(st.sampled_from(("linear", "linear", "matmul", "bmm")))
    x = draw(tensors(dtype=torch.float32))
    width, out = (x.shape[-1] if x.ndim else 1), draw(SIZES)
    other = draw(st.just(torch.float32) | DTYPES)
    if kind == "linear":
        weight = draw(tensors(shape=draw(near((out, width))), dtype=other))
        bias = draw(optional(tensors(shape=draw(near((out,))), dtype=torch.float32)))
        return F.linear, (x, weight) if draw(st.booleans()) else (x, weight, bias), {}
    batch = x.shape[:-2] if draw(st.booleans()) else ()
    right = draw(tensors(shape=(*batch, *draw(near((width, out)))), dtype=other))
    function = torch.bmm if kind == "bmm" else draw(st.sampled_from((torch.matmul, torch.Tensor.matmul)))
    return function, (x, right), {}


@st.composite
def norms(draw):
    x = draw(tensors(dtype=draw(st.just(torch.float32) | DTYPES)))
    weights = optional(tensors(dtype=draw(st.just(x.dtype) | DTYPES), shape=draw(near(x.shape[1:2] or (1,)))))
    kind = draw(st.sampled_from(("layer", "rms", "group", "batch")))
    if kind == "group":
        return F.group_norm, (x, draw(st.sampled_from((1, 1, 2, 3)))), {"weight": draw(weights), "bias": draw(weights)}
    if kind == "batch":
        statistics = [draw(weights), draw(weights)]
        return F.batch_norm, (x, *statistics, draw(weights), draw(weights), draw(st.booleans())), {}
    shape = draw(near(x.shape[draw(st.integers(0, 4)) :]))
    own = optional(tensors(shape=draw(near(shape)), dtype=x.dtype))
    if kind == "rms":
        return F.rms_norm, (x, shape), {"weight": draw(own)}
    return F.layer_norm, (x, shape), {"weight": draw(own), "bias": draw(own)}


@st.composite
def lookups(draw):
    ids = draw(tensors(dtype=draw(st.sampled_from((torch.int64, torch.int64, torch.int32, torch.float32)))))
    weight = draw(tensors(ndim=draw(st.sampled_from((2, 2, 2, 1))), dtype=torch.float32))
    return F.embedding, (ids, weight), {"padding_idx": draw(st.sampled_from((None, 0, -1, 9)))}


@st.composite
def attention(draw):
    batch = draw(st.lists(SIZES, min_size=0, max_size=2))
    length, source, width = draw(SIZES), draw(SIZES), draw(SIZES)
    dtype = st.sampled_from((torch.float32,) * 9 + (torch.float64,))
    query = draw(tensors(shape=draw(near((*batch, length, width))), dtype=draw(dtype)))
    key = draw(tensors(shape=draw(near((*batch, source, width))), dtype=draw(dtype)))
    value = draw(tensors(shape=draw(near((*batch, source, draw(st.just(width) | SIZES)))), dtype=draw(dtype)))
    options = {"is_causal": draw(st.booleans()), "dropout_p": draw(st.sampled_from((0.0, 0.1, 2.0)))}
    if draw(st.booleans()):
        shape = draw(st.sampled_from(((length, source), (*batch, length, source), (1, source), (source,))))
        options["attn_mask"] = draw(tensors(shape=shape, dtype=draw(st.sampled_from((torch.bool, torch.float32)))))
    if draw(RARELY):
        options["enable_gqa"] = True
    return F.scaled_dot_product_attention, (query, key, value), options


@st.composite
def shaping(draw):
    x = draw(tensors())
    dims = st.integers(-4, 4)
    some = st.lists(dims, max_size=2)
    kind = draw(st.sampled_from(("mean", "sum", "cat", "reshape", "contiguous", "like", "triangle", "fill")))
    if kind in ("mean", "sum"):
        function = draw(
            st.sampled_from({"mean": (torch.mean, torch.Tensor.mean), "sum": (torch.sum, torch.Tensor.sum)}[kind])
        )
        options = {"keepdim": draw(st.booleans())}
        return (function, (x,), {}) if draw(RARELY) else (function, (x, draw(dims | some)), options)
    if kind == "cat":
        dim = draw(dims)
        others = [draw(tensors(shape=draw(near(x.shape)), dtype=draw(st.just(x.dtype) | DTYPES))) for _ in range(2)]
        return torch.cat, ([x, *others],) if draw(RARELY) else ([x, *others], dim), {}
    if kind == "reshape":
        sizes = draw(st.permutations((*x.shape, -1))) if draw(st.booleans()) else [x.numel()]
        joined = [math.prod(x.shape[:2]), *x.shape[2:]]
        return torch.Tensor.reshape, (x, draw(st.sampled_from((sizes, joined, [*joined, 1], [-1, *x.shape[1:]])))), {}
    if kind == "triangle":
        return draw(st.sampled_from((torch.tril, torch.triu, torch.Tensor.tril))), (x, draw(st.integers(-2, 2))), {}
    if kind == "fill":
        mask = draw(tensors(shape=draw(near(x.shape)), dtype=torch.bool))
        return torch.Tensor.masked_fill, (x, mask, draw(st.sampled_from((0, -1.5, float("-inf"))))), {}
    if kind == "like":
        return draw(st.sampled_from((torch.zeros_like, torch.ones_like, torch.empty_like, torch.randn_like))), (x,), {}
    return torch.Tensor.contiguous, (x,), {}


@st.composite
def ranges(draw):
    numbers = draw(st.lists(st.integers(-3, 9), min_size=1, max_size=3))
    dtype = draw(st.sampled_from((None, None, torch.float32, torch.int64, torch.int32)))
    return torch.arange, tuple(numbers), {"device": "meta"} | ({} if dtype is None else {"dtype": dtype})


@st.composite
def windows(draw):
    spatial = draw(st.integers(1, 3))
    x = draw(tensors(ndim=draw(st.sampled_from((spatial + 2,) * 5 + (spatial + 1,))), dtype=torch.float32))
    channels = x.shape[1] if x.ndim == spatial + 2 else x.shape[0]
    groups, out = draw(st.sampled_from((1, 1, 1, 2, 3))), draw(SIZES)
    stride, padding = draw(settings_of(spatial, 0 if draw(RARELY) else 1, 3)), draw(settings_of(spatial, 0, 2))
    dilation, kernel = draw(settings_of(spatial, 1, 2)), draw(st.lists(SIZES, min_size=spatial, max_size=spatial))
    bias = draw(optional(tensors(shape=draw(near((out,))), dtype=torch.float32)))
    kind = draw(st.sampled_from(("conv", "conv", "transpose", "max", "avg", "adaptive")))
    if kind == "conv":
        weight = draw(tensors(shape=draw(near((out, max(channels // groups, 1), *kernel))), dtype=torch.float32))
        padding = draw(st.sampled_from((padding, padding, padding, "same")))
        return getattr(F, f"conv{spatial}d"), (x, weight, bias, stride, padding, dilation, groups), {}
    if kind == "transpose":
        weight = draw(tensors(shape=draw(near((channels, max(out // groups, 1), *kernel))), dtype=torch.float32))
        more = draw(settings_of(spatial, 0, 1))
        return getattr(F, f"conv_transpose{spatial}d"), (x, weight, bias, stride, padding, more, groups, dilation), {}
    if kind == "adaptive":
        return getattr(F, f"adaptive_avg_pool{spatial}d"), (x, draw(settings_of(spatial, 0, 5))), {}
    if kind == "avg":
        return getattr(F, f"avg_pool{spatial}d"), (x, tuple(kernel), stride, padding, draw(RARELY)), {}
    options = {"ceil_mode": draw(RARELY), "return_indices": draw(RARELY)}
    return getattr(F, f"max_pool{spatial}d"), (x, tuple(kernel), stride, padding, dilation), options


CALLS = {
    "unary": unary(), "activations": activations(), "binary": binary(), "products": products(), "norms": norms(),
    "lookups": lookups(), "attention": attention(), "shaping": shaping(), "ranges": ranges(), "windows": windows(),
}  # fmt: skip


def outcome(function, args, kwargs):
    """What comes of a call: a layout, or an error's type and text."""
    try:
        found = function(*args, **kwargs)
    except Exception as error:
        return type(error), str(error)
    found = found if isinstance(found, tuple) else (found,)
    return [(tuple(x.shape), _telling(x), x.dtype, x.device, any(x is arg for arg in args)) for x in found]


def _telling(x):
    """The strides, those apart that nothing depends on."""
    return None if x.numel() == 0 else [stride for stride, size in zip(x.stride(), x.shape, strict=True) if size > 1]


@pytest.mark.filterwarnings("ignore")  # PyTorch's own, of padding and of deprecated uses
@pytest.mark.parametrize("kind", CALLS)
def test_a_rule_gives_what_pytorch_gives(kind):
    answered = []

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True, database=None)
    @given(CALLS[kind])
    def compare(call):
        function, args, kwargs = call
        with torch.no_grad():
            wanted = outcome(function, args, kwargs)
            with Exploring():
                assert outcome(function, args, kwargs) == wanted
            answered.append(function in ALL_RULES and by_rule(ALL_RULES[function], args, kwargs) is not None)

    compare()
    assert sum(answered) > len(answered) / 20
