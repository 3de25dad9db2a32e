"""Functions and constants that the forward language may name: each stands here because someone decided that it may.

None of them reads or writes files, loads code, changes a setting of torch or the seed, or is written in place of its
argument. Where two namespaces have a name, the first of `NAMESPACES` wins: `sigmoid` is `torch.nn.functional.sigmoid`.
The names of Python's builtins (`sum`, `max`, `abs`, …) are left to Python, as in any module written by hand:
`x.sum()` and `maximum(x, y)` are those of PyTorch.
"""

from __future__ import annotations

from functools import cache
from types import ModuleType

import torch
import torch.nn.functional

from builder.registry import functions

FUNCTIONAL = """
    adaptive_avg_pool1d adaptive_avg_pool2d adaptive_avg_pool3d adaptive_max_pool1d adaptive_max_pool2d
    adaptive_max_pool3d affine_grid alpha_dropout avg_pool1d avg_pool2d avg_pool3d batch_norm bilinear
    binary_cross_entropy binary_cross_entropy_with_logits celu channel_shuffle conv1d conv2d conv3d conv_transpose1d
    conv_transpose2d conv_transpose3d cosine_embedding_loss cosine_similarity cross_entropy ctc_loss dropout dropout1d
    dropout2d dropout3d elu embedding embedding_bag feature_alpha_dropout fold fractional_max_pool2d
    fractional_max_pool3d gaussian_nll_loss gelu glu grid_sample group_norm gumbel_softmax hardshrink hardsigmoid
    hardswish hardtanh hinge_embedding_loss huber_loss instance_norm interpolate kl_div l1_loss layer_norm leaky_relu
    linear linear_cross_entropy local_response_norm log_softmax logsigmoid lp_pool1d lp_pool2d lp_pool3d
    margin_ranking_loss max_pool1d max_pool2d max_pool3d max_unpool1d max_unpool2d max_unpool3d mish mse_loss
    multi_head_attention_forward multi_margin_loss multilabel_margin_loss multilabel_soft_margin_loss nll_loss normalize
    one_hot pad pairwise_distance pdist pixel_shuffle pixel_unshuffle poisson_nll_loss prelu relu relu6 rms_norm rrelu
    scaled_dot_product_attention selu sigmoid silu smooth_l1_loss soft_margin_loss softmax softmin softplus softshrink
    softsign tanh tanhshrink threshold triplet_margin_loss triplet_margin_with_distance_loss unfold
"""

TORCH = """
    absolute acos acosh add addbmm addcdiv addcmul addmm addmv addr adjoint allclose amax amin aminmax angle arange
    arccos arccosh arcsin arcsinh arctan arctan2 arctanh argmax argmin argsort argwhere as_strided as_tensor asin
    asinh atan atan2 atanh atleast_1d atleast_2d atleast_3d autocast baddbmm bartlett_window bernoulli bincount
    bitwise_and bitwise_left_shift bitwise_not bitwise_or bitwise_right_shift bitwise_xor blackman_window block_diag
    bmm broadcast_shapes broadcast_tensors broadcast_to bucketize cartesian_prod cat cdist ceil cholesky
    cholesky_inverse cholesky_solve chunk clamp clip clone column_stack combinations complex
    concat concatenate conj conj_physical copysign corrcoef cos cosh count_nonzero cov cross cummax cummin cumprod
    cumsum cumulative_trapezoid deg2rad det detach diag diag_embed diagflat diagonal diagonal_scatter diff digamma
    dist div divide dot dsplit dstack einsum empty empty_like enable_grad eq equal erf erfc erfinv exp exp2 expm1
    eye finfo fix flatten flip fliplr flipud float_power floor floor_divide fmax fmin fmod frac frexp full full_like
    gather gcd ge gradient greater greater_equal gt hamming_window hann_window heaviside histc histogram hsplit
    hstack hypot i0 igamma igammac iinfo imag index_add index_copy index_fill index_put index_reduce index_select
    inner inverse is_complex is_floating_point is_nonzero is_tensor isclose isfinite isin isinf isnan isneginf
    isposinf isreal istft kaiser_window kron kthvalue lcm ldexp le lerp less less_equal lgamma linspace log log10
    log1p log2 logaddexp logaddexp2 logcumsumexp logdet logical_and logical_not logical_or logical_xor logit
    logspace logsumexp lt lu_solve lu_unpack masked_fill masked_scatter masked_select matmul matrix_exp matrix_power
    maximum mean median meshgrid minimum mm mode moveaxis movedim msort mul multinomial multiply mv mvlgamma
    nan_to_num nanmean nanmedian nanquantile nansum narrow ne neg negative nextafter no_grad nonzero nonzero_static
    norm normal not_equal numel ones ones_like outer pca_lowrank permute pinverse poisson polar polygamma positive
    pow prod promote_types quantile rad2deg rand rand_like randint randint_like randn randn_like randperm ravel real
    reciprocal remainder renorm repeat_interleave reshape result_type roll rot90 rsqrt scatter scatter_add
    scatter_reduce searchsorted segment_reduce select select_scatter sgn sign signbit sin sinc sinh slice_scatter
    slogdet sort split sqrt square squeeze stack std std_mean stft sub subtract svd svd_lowrank swapaxes swapdims t
    take take_along_dim tan tensor tensor_split tensordot tile topk trace transpose trapezoid trapz triangular_solve
    tril tril_indices triu triu_indices true_divide trunc unbind unflatten unique unique_consecutive unravel_index
    unsqueeze vander var var_mean vdot view_as_complex view_as_real vsplit vstack where xlogy zeros zeros_like
"""

LINALG = """
    cholesky_ex eigh eigvals eigvalsh householder_product inv inv_ex ldl_factor ldl_solve lu_factor matrix_norm
    multi_dot pinv solve_triangular svdvals tensorinv tensorsolve vecdot vector_norm
"""

FFT = """
    fft fft2 fftfreq fftn fftshift hfft hfft2 hfftn ifft ifft2 ifftn ifftshift ihfft ihfft2 ihfftn irfft irfft2 irfftn
    rfft rfft2 rfftfreq rfftn
"""

SPECIAL = """
    bessel_j0 bessel_j1 entr erfcx expit gammaln i0e i1 i1e log_ndtr ndtr ndtri xlog1py zeta
"""

NAMESPACES: tuple[tuple[ModuleType, str], ...] = (
    (torch.nn.functional, FUNCTIONAL),
    (torch, TORCH),
    (torch.linalg, LINALG),
    (torch.fft, FFT),
    (torch.special, SPECIAL),
)
"""The namespaces and what is taken from each, in the order in which they are asked."""

CONSTANTS = """
    bfloat16 complex64 complex128 float16 float32 float64 int8 int16 int32 int64 uint8 inf nan pi
"""
"""Values of torch that aren't called: dtypes (`x.to(float32)`, `zeros(3, dtype=int64)`) and numbers.

The dtype of booleans is Python's own `bool`, which torch takes as one.
"""


def constants() -> frozenset[str]:
    """The names among the registered functions whose values aren't called."""
    return _constants(frozenset(functions))


@cache
def _constants(names: frozenset[str]) -> frozenset[str]:
    return frozenset(name for name in names if not callable(functions.get(name)))


for _namespace, _names in (*NAMESPACES, (torch, CONSTANTS)):
    for _name in _names.split():
        # A name that a newer torch has added is absent from an older one.
        if hasattr(_namespace, _name):
            functions.register(_name, getattr(_namespace, _name))
