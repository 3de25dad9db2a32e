"""Every public name of the namespaces that the catalog draws from is registered, or left out for a stated reason."""

import importlib
import inspect
import re

import pytest
import torch
import torch.nn.functional
from torch.nn import init, modules
from torch.nn.utils import parametrizations
from torch.optim import lr_scheduler

from builder import registry
from builder.catalog import functions, initialisers, layers, losses, metrics, optimizers, schedulers
from builder.catalog.signatures import doc_line, signature_of, signature_text

# Reason → what is left out of the functions for it: names, or patterns of names (full match).
REFUSED_FUNCTIONAL = {
    "machinery of the module": """
        Callable DType Optional ScalingType SwizzleType Tensor assert_int_or_pair boolean_dispatch
        handle_torch_function has_torch_function.*
    """,
    "in place of its argument; `inplace=True` or a tensor's own method says so": r"\w+_",
    "another function returns the indices too": r"\w+_with_indices",
    "deprecated; interpolate": "upsample upsample_bilinear upsample_nearest",
    "low-level": "conv_tbc grouped_mm native_channel_shuffle scaled_grouped_mm scaled_mm",
}

REFUSED_TORCH = {
    "a class": r"[A-Z]\w* classproperty device dtype layout memory_format qscheme thread_safe_generator",
    "a builtin of Python has the name": "abs all any max min range round sum",
    "in place of its argument": r"\w+_",
    "copies what the function without the suffix views": r"\w+_copy",
    "a setting, or the state of one": r"""
        set_\w+ (?!get_default)get_\w+ get_default\w+ is_\w*(enabled|warn_only|available)\w* are_\w+ use_\w+ init_num_threads initial_seed
        manual_seed seed autocast_\w+ clear_\w+ compiled_\w+ inference_mode is_anomaly\w+ profiler_\w+ prepare_\w+
    """,
    "reads, writes or runs code": r"""
        load save from_file frombuffer from_numpy from_dlpack to_dlpack asarray compile fork wait import_ir_\w+ parse_\w+
        merge_type_\w+ unify_type_list typename
    """,
    "takes a function": "cond vmap while_loop",
    "a kernel of one backend or one other function": r"""
        (batch_norm|cudnn|fbgemm|miopen|mkldnn|native|quantized|unsafe)_\w+ affine_grid_generator constant_pad_nd
        convolution feature_dropout frobenius_norm fused_moving_avg_obs_fake_quant grid_sampler\w* gru gru_cell hash_tensor
        lstm lstm_cell max_pool1d_with_indices norm_except_dim nuclear_norm rnn_\w+ slice_inverse split_with_sizes
        clamp_max clamp_min conv_tbc as_strided_scatter empty_permuted empty_strided rsub scalar_tensor binomial fill put histogramdd
        dequantize int_repr resolve_conj resolve_neg
    """,
    "quantised tensors": r"choose_qparams_optimized empty_quantized fake_quantize_\w+ q_\w+ quantize_\w+",
    "sparse tensors": r"dsmm hsmm hspmm saddmm smm sparse_\w+ spmm sspaddmm",
    "symbolic sizes": r"sym_\w+",
    "deprecated or removed": "chain_matmul eig ger lstsq lu matrix_rank qr row_stack solve symeig",
    "LAPACK's own form": "geqrf lobpcg orgqr ormqr",
    "asks about a tensor what no forward needs": """
        can_cast get_device is_conj is_distributed is_inference is_neg is_same_size is_signed is_storage
    """,
}

REFUSED_LINALG = {
    "an exception": "LinAlgError",
    "a function of torch has the name and means another thing": "cond eig lstsq lu matrix_rank qr solve",
    "another function with its checks off": "ldl_factor_ex lu_factor_ex solve_ex",
}

REFUSED_FFT = {"a class": "Tensor"}

REFUSED_SPECIAL = {
    "a class": "Tensor",
    "a builtin of Python has the name": "round",
    "alias": "gammainc gammaincc multigammaln psi",
    "rare": r"""
        airy_ai bessel_y\d chebyshev_\w+ hermite_\w+ laguerre_\w+ legendre_\w+ modified_bessel_\w+
        scaled_modified_bessel_\w+ shifted_\w+ spherical_\w+
    """,
}

KINDS = ("layer", "function", "initialiser", "loss", "metric", "optimizer", "scheduler")


def undecided(namespace, refused):
    patterns = [pattern for names in refused.values() for pattern in names.split()]
    return [
        name
        for name in dir(namespace)
        if not name.startswith("_")
        and callable(getattr(namespace, name))
        and name not in registry.functions
        and not any(re.fullmatch(pattern, name) for pattern in patterns)
    ]


@pytest.mark.parametrize(
    ("namespace", "refused"),
    [
        (torch.nn.functional, REFUSED_FUNCTIONAL),
        (torch, REFUSED_TORCH),
        (torch.linalg, REFUSED_LINALG),
        (torch.fft, REFUSED_FFT),
        (torch.special, REFUSED_SPECIAL),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_every_public_function_is_registered_or_refused(namespace, refused):
    assert undecided(namespace, refused) == []


def test_every_function_stands_for_that_of_its_namespace():
    for namespace, names in functions.NAMESPACES:
        for name in names.split():
            assert registry.functions.get(name) is getattr(namespace, name), name


def test_no_function_is_named_twice():
    names = [name for _, listed in functions.NAMESPACES for name in listed.split()] + functions.CONSTANTS.split()
    assert sorted(names) == sorted(set(names))


def test_pytorch_functional_wins_over_torch():
    for name in ("sigmoid", "tanh", "softmax", "dropout", "layer_norm", "relu"):
        assert registry.functions.get(name) is getattr(torch.nn.functional, name)


@pytest.mark.parametrize(
    "name",
    ["load", "save", "compile", "from_file", "frombuffer", "set_default_dtype", "manual_seed", "vmap", "fork", "asarray",
     "handle_torch_function", "boolean_dispatch", "importlib", "warnings", "np", "torch", "math"],
)  # fmt: skip
def test_what_reaches_outside_the_computation_is_no_function(name):
    assert name not in registry.functions


def test_no_function_is_a_module_or_hides_a_builtin_of_the_language():
    from builder.lang.names import BUILTINS

    assert not [name for name in registry.functions if inspect.ismodule(registry.functions.get(name))]
    assert not [name for name in registry.functions if name in BUILTINS]


def test_every_context_of_the_language_is_a_function():
    from builder.lang.names import CONTEXTS

    assert [name for name in CONTEXTS if name not in registry.functions] == []


def test_dtypes_and_numbers_are_constants():
    assert registry.functions.get("float32") is torch.float32
    assert registry.functions.get("inf") == float("inf")
    assert functions.constants() == set(functions.CONSTANTS.split())


def test_every_public_module_class_is_a_layer_or_excluded():
    missing = [name for name in modules.__all__ if name not in registry.layers and not name.startswith(layers.LAZY)]
    assert sorted(missing) == sorted(layers.EXCLUDED)
    for name in set(registry.layers) - set(layers.PARAMETRIZED):
        assert registry.layers.get(name) is getattr(torch.nn, name)
        assert issubclass(registry.layers.get(name), torch.nn.Module)


def test_every_parametrization_is_a_layer_unless_it_does_not_run_without_values():
    assert sorted({*layers.PARAMETRIZED, "orthogonal"}) == sorted(parametrizations.__all__)
    with torch.device("meta"), pytest.raises(TypeError):  # when this fails, `orthogonal` can be a layer
        parametrizations.orthogonal(torch.nn.Linear(8, 4))(torch.empty(2, 8))


def test_every_lazy_module_has_a_layer_that_does_the_same():
    lazy = [name for name in modules.__all__ if name.startswith(layers.LAZY)]
    assert lazy and all(name.removeprefix(layers.LAZY) in registry.layers for name in lazy)


def test_every_initialiser_of_torch_is_registered_or_excluded():
    public = [
        name
        for name, value in vars(init).items()
        if not name.startswith("_") and inspect.isfunction(value) and value.__module__ == init.__name__
    ]
    assert sorted(name for name in public if name not in registry.initialisers) == sorted(initialisers.EXCLUDED)
    assert all(registry.initialisers.get(name) is getattr(init, name) for name in initialisers.NAMES)


def test_every_loss_class_is_registered_or_excluded():
    named = [name for name in modules.__all__ if name.endswith("Loss")]
    assert sorted(name for name in named if name not in registry.losses) == sorted(losses.EXCLUDED)
    assert all(registry.losses.get(name) is getattr(torch.nn, name) for name in registry.losses)


def test_every_optimizer_class_is_registered_or_excluded():
    classes = {
        name
        for name, value in vars(torch.optim).items()
        if isinstance(value, type) and issubclass(value, torch.optim.Optimizer)
    }
    assert classes - set(registry.optimizers.names()) == set(optimizers.EXCLUDED)


def test_every_scheduler_class_is_registered_or_excluded():
    assert set(lr_scheduler.__all__) - set(registry.schedulers.names()) == set(schedulers.EXCLUDED)


def test_every_metric_class_is_registered_or_excluded():
    public = {name for namespace in metrics.NAMESPACES for name in namespace.__all__}
    assert public - set(registry.metrics.names()) == public & set(metrics.EXCLUDED)
    assert {"Metric", "MetricCollection"} <= public


def test_metrics_are_those_of_their_namespaces():
    from torchmetrics import Metric, classification, text

    assert registry.metrics.get("MulticlassAccuracy") is classification.MulticlassAccuracy
    assert registry.metrics.get("Perplexity") is text.Perplexity
    assert all(
        issubclass(registry.metrics.get(name), Metric) or name in classification.__all__ for name in registry.metrics
    )


@pytest.mark.parametrize("kind", KINDS)
def test_every_entry_says_its_arguments_and_its_purpose(kind):
    entries = registry.registries[kind]
    silent = [name for name in entries if signature_text(entries.get(name)) == "(…)" or not doc_line(entries.get(name))]
    assert silent == []


@pytest.mark.parametrize("kind", ["layer", "initialiser", "loss", "optimizer", "scheduler"])
def test_every_entry_that_a_config_gives_arguments_to_has_a_signature(kind):
    entries = registry.registries[kind]
    for name in entries:
        signature_of(entries.get(name))


def test_reasons_are_stated_for_names_that_exist():
    sources = {
        layers: modules, initialisers: init, losses: modules, optimizers: torch.optim, schedulers: lr_scheduler,
    }  # fmt: skip
    for catalog, namespace in sources.items():
        assert [name for name in catalog.EXCLUDED if not hasattr(namespace, name)] == [], catalog.__name__


def test_looking_up_an_optimizer_imports_no_metrics():
    import subprocess
    import sys
    from pathlib import Path

    root = str(Path(importlib.import_module("builder").__file__).parents[1])
    code = (
        f"import sys; sys.path.insert(0, {root!r}); from builder.registry import optimizers, layers; "
        "optimizers.get('SGD'); layers.get('Linear'); assert 'torchmetrics' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True)
