"""The allow-lists of both languages: builtins, attributes, and the names that a definition can't use for its own."""

from __future__ import annotations

import keyword
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any

BUILTINS: Mapping[str, Callable[..., Any]] = {
    entry.__name__: entry
    for entry in (
        range, zip, enumerate, len, reversed, sorted, min, max, sum, abs, round, any, all,
        int, float, bool, tuple, list, dict,
    )
}  # fmt: skip
"""Python's builtins that `forward` may call. None of them reads an attribute by name, opens a file or runs text."""

DTYPE_BUILTINS = frozenset({"int", "float", "bool"})
"""Builtins that are also values: PyTorch takes them as dtypes."""

CONTEXTS = frozenset({"no_grad", "enable_grad", "autocast"})
"""Functions that may stand in `with`, where registered."""

# Methods with a variant that works in place (`add`, `add_`).
_WITH_IN_PLACE = """
abs absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr arccos arccosh arcsin arcsinh arctan arctan2
arctanh asin asinh atan atan2 atanh baddbmm bernoulli bitwise_and bitwise_left_shift bitwise_not bitwise_or
bitwise_right_shift bitwise_xor ceil clamp clamp_max clamp_min clip conj_physical copysign cos cosh cumprod cumsum
deg2rad detach digamma div divide eq erf erfc erfinv exp exp2 expm1 fix float_power floor floor_divide fmod frac gcd
ge greater greater_equal gt heaviside hypot i0 igamma igammac index_add index_copy index_fill index_put index_reduce
lcm ldexp le lerp less less_equal lgamma log log10 log1p log2 logical_and logical_not logical_or logical_xor logit lt
masked_fill masked_scatter mul multiply mvlgamma nan_to_num ne neg negative nextafter not_equal polygamma pow rad2deg
reciprocal relu remainder renorm round rsqrt scatter scatter_add scatter_reduce sgn sigmoid sign sin sinc sinh sqrt
square squeeze sub subtract swapaxes swapdims t tan tanh transpose tril triu true_divide trunc unsqueeze xlogy
""".split()

_IN_PLACE_ONLY = """
cauchy_ copy_ exponential_ fill_ fill_diagonal_ geometric_ log_normal_ normal_ put_ random_ uniform_ zero_
""".split()

_DESCRIBE = """
device dtype element_size get_device is_complex is_conj is_contiguous is_cpu is_cuda is_floating_point is_leaf is_meta
is_mps is_neg is_nested is_nonzero is_quantized is_same_size is_signed is_sparse is_xpu itemsize layout nbytes ndim
ndimension nelement numel dim dim_order requires_grad shape size stride
""".split()

_SHAPE = """
H T adjoint broadcast_to chunk contiguous diag diag_embed diagflat diagonal diagonal_scatter dsplit expand expand_as
flatten flip fliplr flipud gather hsplit index_select mH mT masked_select moveaxis movedim narrow narrow_copy permute
ravel repeat repeat_interleave reshape reshape_as resolve_conj resolve_neg roll rot90 select select_scatter
slice_scatter split split_with_sizes sum_to_size take take_along_dim tensor_split tile unbind unflatten unfold view
view_as vsplit where
""".split()

_CONVERT = """
bfloat16 bool byte cdouble cfloat char clone cpu double float half imag int item long new_empty new_full new_ones
new_tensor new_zeros real short to to_dense to_padded_tensor to_sparse tolist type_as coalesce indices values
""".split()

_COMPUTE = """
all allclose amax amin aminmax angle any argmax argmin argsort argwhere bincount bmm cholesky cholesky_inverse
cholesky_solve conj corrcoef count_nonzero cov cross cummax cummin det diff dist dot equal fmax fmin frexp geqrf ger
hardshrink histc histogram inner inverse isclose isfinite isinf isnan isneginf isposinf isreal istft kron kthvalue
log_softmax logaddexp logaddexp2 logcumsumexp logdet logsumexp lu_solve matmul matrix_exp matrix_power max maximum
mean median min minimum mm mode msort multinomial mv nanmean nanmedian nanquantile nansum nonzero nonzero_static norm
ormqr outer pinverse positive prelu prod qr quantile signbit slogdet softmax sort std stft sum svd topk trace
triangular_solve unique unique_consecutive var vdot
""".split()

TENSOR_ATTRIBUTES = frozenset(
    [*_WITH_IN_PLACE, *(f"{name}_" for name in _WITH_IN_PLACE)]
    + [*_IN_PLACE_ONLY, *_DESCRIBE, *_SHAPE, *_CONVERT, *_COMPUTE]
)
"""Methods and properties of `torch.Tensor` that compute on a tensor or describe it."""

RESULT_FIELDS = frozenset(
    """
    Q R S U V Vh L LU batch_sizes bin_edges eigenvalues eigenvectors eps exponent hist index logabsdet mantissa
    pivots residuals sign singular_values solution sorted_indices tiny unsorted_indices
    """.split()
)
"""Fields of what functions return: `svd(x).U`, `finfo(x.dtype).eps`."""

COLLECTION_METHODS = frozenset(
    {"append", "extend", "insert", "pop", "items", "keys", "values", "get", "update", "count"}
)
"""Methods of Python's lists and dicts."""

ATTRIBUTES = TENSOR_ATTRIBUTES | RESULT_FIELDS | COLLECTION_METHODS
"""All that may follow a dot on anything that isn't a layer."""

DENIED_ATTRIBUTES = frozenset(
    """
    apply apply_ as_subclass as_strided as_strided_ backward co_code co_consts const_data_ptr cr_code cr_frame cuda data
    data_ptr f_back f_builtins f_code f_globals f_locals format format_map from_bytes gi_code gi_frame gi_yieldfrom grad
    grad_fn map_ map2_ module_load names new numpy output_nr pin_memory record_stream register_hook
    register_post_accumulate_grad_hook reinforce rename_ requires_grad_ resize resize_ resize_as_ retain_grad
    retains_grad set_ share_memory_ storage storage_offset storage_type tb_frame tb_next to_mkldnn type untyped_storage
    ag_frame ag_code mro volatile
    """.split()
)
"""Attributes that lead to storage, the autograd engine, NumPy or Python's own objects; no list above may hold one."""

MODULE_API = frozenset(
    """
    T_destination add_module apply bfloat16 buffers call_super_init children compile cpu cuda double dump_patches eval
    extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu load_state_dict modules
    mtia named_buffers named_children named_modules named_parameters parameters register_backward_hook register_buffer
    register_forward_hook register_forward_pre_hook register_full_backward_hook register_full_backward_pre_hook
    register_load_state_dict_post_hook register_load_state_dict_pre_hook register_module register_parameter
    register_state_dict_post_hook register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory
    state_dict to to_empty train training type xpu zero_grad
    """.split()
)
"""`torch.nn.Module`'s own attributes; nothing in a definition can have such a name."""

RESERVED = frozenset({"self", "training"})
"""Names with a meaning of their own in `forward`."""


def spelling_problem(name: object) -> str | None:
    """Why `name` can't be one of Python's that a config may use; one clause, None if it can."""
    if not isinstance(name, str) or not name.isidentifier() or keyword.iskeyword(name):
        return "is not a name that Python could use"
    if unicodedata.normalize("NFKC", name) != name:
        return f"is written with look-alike characters; Python reads it as {unicodedata.normalize('NFKC', name)!r}"
    return "begins with an underscore" if name.startswith("_") else None


def name_problem(name: object, *, attribute: bool = True) -> str | None:
    """Why `name` can't be that of an attribute of a module, or of an input; one clause, None if it can."""
    problem = spelling_problem(name)
    if problem is not None:
        return problem
    if name in RESERVED:
        return "has a meaning of its own in forward"
    if attribute and name in MODULE_API:
        return "is an attribute of every nn.Module"
    return "is a builtin of the forward language" if name in BUILTINS else None
