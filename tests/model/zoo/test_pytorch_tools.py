"""PyTorch's tools take every shipped model as they take a hand-written one."""

import copy
import pickle
import subprocess
import sys
import warnings

import pytest
import torch
from torch import nn
from zoo_cases import CASES, flat, same_outputs, same_state


@pytest.fixture(scope="module")
def zoo():
    """All shipped models in eval mode with an example each."""
    models = {}
    for name, case in CASES.items():
        torch.manual_seed(7)
        models[name] = case.build(name).eval(), case.make()
    return models


@pytest.fixture(params=CASES)
def name(request):
    return request.param


@pytest.fixture
def model(zoo, name):
    return zoo[name][0]


@pytest.fixture
def inputs(zoo, name):
    return zoo[name][1]


def test_deepcopy_and_pickle_keep_bits_and_class(model, inputs):
    want = model(*inputs)
    for other in (copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
        assert type(other) is type(model)
        same_state(other, model)
        same_outputs(other(*inputs), want)
        assert {id(p) for p in other.parameters()}.isdisjoint(id(p) for p in model.parameters())
        assert len(list(other.parameters())) == len(list(model.parameters()))  # ties are kept


def test_saved_modules_are_loaded_in_a_fresh_process(zoo, tmp_path):
    saved = {name: (model, inputs, flat(model(*inputs))) for name, (model, inputs) in zoo.items()}
    torch.save(saved, tmp_path / "zoo.pt")
    code = """
import sys, torch
torch.set_num_threads(1)
for name, (model, inputs, want) in torch.load(sys.argv[1], weights_only=False).items():
    got = model(*inputs)
    got = list(got.values()) if isinstance(got, dict) else [got]
    assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True)), name
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "zoo.pt")], check=True)


def test_apply_reaches_every_module_and_zeroes_its_parameters(model):
    seen = []

    def zero(module):
        seen.append(module)
        for parameter in module.parameters(recurse=False):
            nn.init.zeros_(parameter)

    other = copy.deepcopy(model)
    assert other.apply(zero) is other
    assert set(seen) == set(other.modules())
    assert all(not parameter.any() for parameter in other.parameters())


def test_a_replica_runs_with_other_tensors_in_place_of_the_parameters(model, inputs):
    """What `DataParallel` does: shallow copies of the modules, their tensors replaced by those of a device."""
    want = model(*inputs)
    replicas = {module: module._replicate_for_data_parallel() for module in model.modules()}
    for module, replica in replicas.items():
        for key, child in module._modules.items():
            replica._modules[key] = replicas.get(child)
        for key, parameter in module._parameters.items():
            setattr(replica, key, None if parameter is None else parameter.detach().clone())
        for key, buffer in module._buffers.items():
            replica._buffers[key] = buffer
    replica = replicas[model]
    assert type(replica) is type(model) and not list(replica.parameters())
    same_outputs(replica(*inputs), want)


def test_to_moves_every_floating_tensor_to_another_dtype(model, inputs):
    other = copy.deepcopy(model).to(torch.float64)
    tensors = [*other.parameters(), *other.buffers()]
    assert all(tensor.dtype == torch.float64 for tensor in tensors if tensor.is_floating_point())
    outputs = flat(other(*(x.double() if x.is_floating_point() else x for x in inputs)))
    for got, want in zip(outputs, flat(model(*inputs)), strict=True):
        assert got.dtype == torch.float64
        torch.testing.assert_close(got.float(), want, rtol=1e-3, atol=1e-4)
    assert all(tensor.isfinite().all() for tensor in flat(copy.deepcopy(model).bfloat16()(
        *(x.bfloat16() if x.is_floating_point() else x for x in inputs)
    )))  # fmt: skip


@pytest.mark.slow
def test_compile_takes_the_whole_graph(model, inputs):
    torch._dynamo.reset()
    # Dynamo refuses recurrent layers unless it is told otherwise.
    with torch._dynamo.config.patch(allow_rnn=True):
        outputs = torch.compile(model, fullgraph=True, backend="aot_eager")(*inputs)
    for got, want in zip(flat(outputs), flat(model(*inputs)), strict=True):
        torch.testing.assert_close(got, want)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:The tensor attributes self.lstm._flat_weights:UserWarning")
def test_export_takes_any_batch(model, inputs):
    batch = torch.export.Dim("batch", min=2, max=64)
    exported = torch.export.export(model, inputs, dynamic_shapes=tuple({0: batch} for _ in inputs))
    more = tuple(torch.cat([x, x]) for x in inputs)
    for got, want in zip(flat(exported.module()(*more)), flat(model(*more)), strict=True):
        torch.testing.assert_close(got, want)


def test_fx_traces_what_has_no_loop_over_data(name, model, inputs):
    optional = {"bert": {"attention_mask": None, "token_type_ids": None}}.get(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        traced = torch.fx.symbolic_trace(model, concrete_args=optional)
    same_outputs(traced(*inputs), model(*inputs))
    assert {name for name, _ in traced.named_parameters()} == {name for name, _ in model.named_parameters()}
