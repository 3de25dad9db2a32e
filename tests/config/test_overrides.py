import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from builder.config.compose import Composed, compose
from builder.errors import ConfigError


def told(*overrides):
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    return str(error.value)


@pytest.mark.parametrize(
    ("override", "path", "value"),
    [
        ("trainer.precision=16-mixed", ("trainer", "precision"), "16-mixed"),
        ("optimizer.weight_decay=0.1", ("optimizer", "weight_decay"), 0.1),
        ("optimizer.foreach.deep=1", ("optimizer", "foreach", "deep"), 1),
        ("model.layers.fc2.bias=false", ("model", "layers", "fc2", "bias"), False),
        ("model.init=[]", ("model", "init"), []),
        ("data.split={train: 0.8}", ("data", "split", "train"), 0.8),
        ("task.metrics.accuracy.average=micro", ("task", "metrics", "accuracy", "average"), "micro"),
        ("task.prediction=output.logits", ("task", "prediction"), "output.logits"),
        ("callbacks.progress=null", ("callbacks", "progress"), None),
        ("callbacks.checkpoint.save_top_k=3", ("callbacks", "checkpoint", "save_top_k"), 3),
        ("scheduler={type: StepLR, step_size: 2}", ("scheduler", "step_size"), 2),
        ("description=a note", ("description",), "a note"),
        ("model.inputs.x.1=8", ("model", "inputs", "x", 1), 8),
        ("optimizer.lr=1e-4", ("optimizer", "lr"), 1e-4),
        ("name=on", ("name",), "on"),
        ("name=12:30", ("name",), "12:30"),
        ("name='x=1, y'", ("name",), "x=1, y"),
    ],
)
def test_keys_that_are_there_or_that_the_schema_knows_need_no_plus(configs, override, path, value):
    composed = compose([override])
    found = composed.values
    for key in path:
        found = found[key]
    assert found == value and type(found) is type(value)
    assert str(composed.origins.of(path)) == f"override '{override}'"


@pytest.mark.parametrize(
    ("override", "said"),
    [
        (
            "model.args.hiden=3",
            "model.args.hiden: unknown key\n  did you mean 'hidden'?\n  hint:     write '+model.args.hiden=3' to add it",
        ),
        ("optimzer.lr=1", "optimzer: unknown key\n  did you mean 'optimizer'?"),
        ("trainer.max_epoch=3", "trainer.max_epoch: unknown key\n  did you mean 'max_epochs' or 'min_epochs' or 'max_steps'?"),
        ("scheduler.T_max=3", "scheduler.T_max: unknown key\n  expected: one of type, interval, frequency, monitor"),
        (
            "callbacks.chekpoint.mode=min",
            "callbacks.chekpoint: unknown key\n  did you mean 'checkpoint'?\n  hint:     write '+callbacks.chekpoint.mode=min' to add it",
        ),
        (
            "model.layers.fc3=ReLU",
            "model.layers.fc3: unknown key\n  did you mean 'fc2' or 'fc1'?\n  hint:     write '+model.layers.fc3=ReLU' to add it",
        ),
        (
            "model.args={hiden: 3}",
            "model.args.hiden: unknown key\n  did you mean 'hidden'?\n  hint:     write '+model.args={hiden: 3}' to add it",
        ),
        (
            "model.layers.act.layers.0=ReLU",
            "model.layers.act: a text stands here\n  found:    'ReLU'\n  expected: a mapping, to hold 'layers.0'\n"
            "  hint:     give it whole: model.layers.act={type: ReLU, …}",
        ),
        (
            "task.loss.reduction=sum",
            "task.loss: a text stands here\n  found:    'cross_entropy(output, target)'\n  expected: a mapping, to hold 'reduction'\n"
            "  hint:     give it whole: task.loss={type: …, reduction: …}",
        ),
        (
            "callbacks.checkpoint.monitor.x=1",
            "callbacks.checkpoint.monitor: an interpolation stands here\n  found:    '${task.monitor}'\n  expected: a mapping, to hold 'x'",
        ),
        ("model.inputs.x.7=N", "model.inputs.x: no such item\n  found:    '7'\n  expected: an index from 0 to 1"),
        ("+seed=3", "seed: there already\n  hint:     write 'seed=3' to change it"),
        ("~model.args.hiden", "model.args.hiden: unknown key\n  did you mean 'hidden'?"),
        ("~model.inputs.x.0", "model.inputs.x[0]: an item of a list can't be removed\n  hint:     give the whole list anew"),
        ("~seed=3", "seed: another value stands here\n  found:    0\n  expected: 3, to be removed"),
        ("~seed.x", "seed.x: unknown key\n  expected: nothing: there are no keys here"),
        ("seed=1,2", "several values, where one config takes one\n  hint:     a list is written key=[1,2], a text in quotes: key='1,2'; `train -m` and `sweep` train with each"),
        ("seed=choice(1,2)", "several values, where one config takes one\n  hint:     a list is written key=[1,2], a text in quotes: key='1,2'; `train -m` and `sweep` train with each"),
        (
            "seed",
            "not an override\n  expected: key=value, group=choice, +key=value, ++key=value or ~key",
        ),
        (
            "name=a=b",
            "not an override\n  found:    '=b'\n  expected: key=value, group=choice, +key=value, ++key=value or ~key\n"
            "  hint:     quote a value that holds special characters, and all of it for the shell: \"name='a=b'\"",
        ),
        ("name=[1", "not an override\n  found:    '[1'\n  expected: key=value, group=choice, +key=value, ++key=value or ~key"),
        (
            "name=f(1)",
            "not an override: Unknown function 'f'\n  expected: key=value, group=choice, +key=value, ++key=value or ~key",
        ),
        ("=3", "not an override\n  expected: key=value, group=choice, +key=value, ++key=value or ~key"),
        ("seed=nan", "not a finite number\n  hint:     a config holds finite numbers that fit 64 bits"),
        ("seed=1e999", "not a finite number\n  hint:     a config holds finite numbers that fit 64 bits"),
        ("seed=99999999999999999999", "too large a number\n  hint:     a config holds finite numbers that fit 64 bits"),
        ("name={true: 1}", "not a key\n  found:    True\n  expected: a text or a whole number"),
        (
            "hydra/launcher=x",
            "hydra/launcher: can't be given here\n  hint:     Hydra's own settings have no use here; 'output_dir' says where runs lie",
        ),
        (
            "hydra.run.dir=x",
            "hydra.run.dir: can't be given here\n  hint:     Hydra's own settings have no use here; 'output_dir' says where runs lie",
        ),
        (
            '"a.b"=3',
            "not an override\n  found:    '\"a.b\"=3'\n  expected: key=value, group=choice, +key=value, ++key=value or ~key\n"
            "  hint:     quote a value that holds special characters, and all of it for the shell: \"key='a: b'\"",
        ),
        (
            "model@model:other=mlp",
            "not an override: missing EQUAL at ':'\n  expected: key=value, group=choice, +key=value, ++key=value or ~key",
        ),
        (
            "block=Residual", "no defaults list has a choice of this group\n  found:    'block'\n  hint:     write '+block=CHOICE' to add one"
        ),
        ("model@foo=mlp", "no defaults list has a choice of this group\n  found:    'model@foo'\n  did you mean 'model'?"),
    ],
)  # fmt: skip
def test_what_an_override_does_wrong_is_told(configs, write, override, said):
    if override.startswith("block"):
        write("block/Residual.yaml", "args: {}\n")
    assert told(override) == f"override '{override}': {said}"


@pytest.mark.parametrize(
    ("override", "act"),
    [
        ("model.layers.act.inplace=true", {"type": "ReLU", "inplace": True}),
        ("+model.layers.act.inplace=true", {"type": "ReLU", "inplace": True}),
        ("++model.layers.act.inplace=true", {"type": "ReLU", "inplace": True}),
        ("model.layers.act.args.inplace=true", {"type": "ReLU", "args": {"inplace": True}}),
        ("model.layers.act={inplace: true}", {"type": "ReLU", "inplace": True}),
        ("model={layers: {act: {inplace: true}}}", {"type": "ReLU", "inplace": True}),
        ("model.layers.act.type=GELU", {"type": "GELU"}),
        ("model.layers.act={type: LeakyReLU, negative_slope: 0.2}", {"type": "LeakyReLU", "negative_slope": 0.2}),
        ("model.layers.act.when=false", {"type": "ReLU", "when": False}),
        ("model.layers.act={layers: [GELU]}", {"layers": ["GELU"]}),
        ("model.layers.act={}", {"type": "ReLU"}),
        ("model.layers.act=GELU", "GELU"),
    ],
)
def test_a_layer_that_is_only_a_name_can_be_given_arguments(configs, override, act):
    composed = compose([override])
    assert composed.values["model"]["layers"]["act"] == act
    if isinstance(act, dict) and act.get("type") == "ReLU":
        assert str(composed.origins.of(("model", "layers", "act", "type"))) == "configs/model/mlp.yaml:5"
    for key in act if isinstance(act, dict) and "inplace" in act else []:
        where = "configs/model/mlp.yaml:5" if key == "type" else f"override '{override}'"
        assert str(composed.origins.of(("model", "layers", "act", key))) == where


def test_names_are_written_out_wherever_layers_stand(configs, write):
    write(
        "model/cnn.yaml",
        """\
blocks: {B: {layers: [ReLU, ReLU]}}
layers:
  - Tanh
  - {type: Sequential, repeat: 2, layer: GELU}
""",
    )
    write("experiment/e.yaml", "# @package _global_\nmodel: {blocks: {B: {layers: [ELU]}}}\n")
    overrides = ["model=cnn", "experiment=e", "model.layers.0.unused=true", "model.layers.1.layer.approximate=tanh"]
    model = compose([*overrides, "model.blocks.B.layers.0.alpha=2"]).values["model"]
    assert model["blocks"]["B"]["layers"] == [{"type": "ELU", "alpha": 2}]
    assert model["layers"][0] == {"type": "Tanh", "unused": True}
    assert model["layers"][1]["layer"] == {"type": "GELU", "approximate": "tanh"}


def test_files_reach_into_names_as_overrides_do(configs, write):
    write("experiment/e.yaml", "# @package _global_\nmodel: {layers: {act: {inplace: true}}}\n")
    composed = compose(["experiment=e"])
    assert composed.values["model"]["layers"]["act"] == {"type": "ReLU", "inplace": True}
    assert str(composed.origins.of(("model", "layers", "act", "inplace"))) == "configs/experiment/e.yaml:2"


def test_all_faults_of_keys_come_at_once(configs):
    lines = told("foo=1", "model.args.hiden=3", "seed=4", "~logger.cvs").split("\n")
    assert [line.split(": ")[1] for line in lines if line.startswith("override")] == [
        "foo",
        "model.args.hiden",
        "logger.cvs",
    ]


def test_later_overrides_build_on_earlier_ones(configs):
    values = compose(
        ["scheduler.type=StepLR", "scheduler.gamma=0.5", "+model.args.a={}", "+model.args.a.b=1", "~model.args.a.b"]
    ).values
    assert values["scheduler"] == {"type": "StepLR", "gamma": 0.5}
    assert values["model"]["args"]["a"] == {}


def test_a_whole_number_names_a_key_that_is_one(configs, write):
    write("callbacks/default.yaml", "accumulate: {type: GradientAccumulationScheduler, scheduling: {0: 1, 4: 2}}\n")
    composed = compose(["callbacks.accumulate.scheduling.4=8", "logger={}"])
    assert composed.values["callbacks"]["accumulate"]["scheduling"] == {0: 1, 4: 8}


def test_a_value_can_be_asked_for(configs):
    assert told("optimizer.lr=???") == (
        "override 'optimizer.lr=???': optimizer.lr: a required value is missing\n  hint:     give it as optimizer.lr=VALUE"
    )


def test_long_and_deep_overrides_are_refused(configs):
    assert "too long an override" in told("name=" + "x" * 20_000)
    assert "nested too deeply" in told("name=" + "[" * 80 + "]" * 80)


PIECES = ["model", "seed", "name", ".", "=", "+", "~", "@", "/", "args", "hidden", "0", "1", "{", "}", "[", "]", ",", ":", "'", '"', "$", "${", "(", ")",
          "range", "int", "null", "true", " ", "???", "a", "\\", "é", "\n", "nan", "mlp", "..", "layers", "fc1"]  # fmt: skip


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(st.sampled_from(PIECES), max_size=9).map("".join) | st.text(max_size=12), max_size=2))
def test_any_overrides_give_a_config_or_a_config_error(configs, overrides):
    try:
        assert isinstance(compose(overrides), Composed)
    except ConfigError as error:
        assert str(error)
