import pytest

from builder.config.compose import compose
from builder.config.kinds import Field, Names, Section
from builder.config.schema import TOP, top_defaults
from builder.config.trainer_arguments import TRAINER_ARGUMENTS
from builder.config.validate import validate
from builder.errors import ConfigError


def told(*overrides, **options):
    with pytest.raises(ConfigError) as error:
        validate(compose(overrides, **options))
    return str(error.value)


def test_the_test_configs_are_valid(configs):
    validate(compose())
    validate(compose(["experiment=wine_sgd", "model=cnn", "scheduler=cosine", "callbacks.progress=null"]))


@pytest.mark.parametrize(
    ("override", "said"),
    [
        ("trainer.max_epochs=many", "trainer.max_epochs: wrong value\n  found:    'many'\n  expected: -1 or a whole number from 0 on, or null"),
        ("trainer.max_epochs=1.5", "trainer.max_epochs: wrong value\n  found:    1.5\n  expected: -1 or a whole number from 0 on, or null"),
        ("trainer.max_epochs=true", "trainer.max_epochs: wrong value\n  found:    True\n  expected: -1 or a whole number from 0 on, or null"),
        ("+trainer.epochs=3", "trainer.epochs: unknown key\n  did you mean 'min_epochs' or 'max_epochs'?"),
        ("trainer.logger=false", "trainer.logger: can't be given here\n  hint:     loggers stand in the section 'logger'"),
        ("trainer.default_root_dir=x", "trainer.default_root_dir: can't be given here\n  hint:     run folders lie below 'output_dir'"),
        ("trainer.gradient_clip_algorithm=nrom", "trainer.gradient_clip_algorithm: wrong value\n  found:    'nrom'\n  expected: one of norm, value, or null"),
        ("trainer.limit_val_batches=1.5", "trainer.limit_val_batches: wrong value\n  found:    1.5\n"
         "  expected: a whole number from 0 on, or a share from 0.0 to 1.0, or null"),
        ("data.batch_size=0", "data.batch_size: wrong value\n  found:    0\n  expected: a whole number from 1 on"),
        ("data.shuffle=yes", "data.shuffle: wrong value\n  found:    'yes'\n  expected: true or false"),
        ("seed=-1", "seed: wrong value\n  found:    -1\n  expected: a whole number from 0 to 4294967295"),
        ("seed=4294967296", "seed: wrong value\n  found:    4294967296\n  expected: a whole number from 0 to 4294967295"),
        ("optimizer.lr=fast", "optimizer.lr: wrong value\n  found:    'fast'\n  expected: a number from 0 on"),
        ("optimizer.lr=null", "optimizer.lr: null isn't allowed\n  expected: a number from 0 on"),
        ("++task.mode=up", "task.mode: wrong value\n  found:    'up'\n  expected: one of min, max, or null"),
        ("+task.metric.x={type: A}", "task.metric: unknown key\n  did you mean 'metrics'?"),
        ("task.metrics.accuracy=MulticlassAccuracy", "task.metrics.accuracy: wrong value\n  found:    'MulticlassAccuracy'\n  expected: a mapping"),
        ("task.loss=3", "task.loss: wrong value\n  found:    3\n  expected: a mapping, or a text"),
        ("scheduler={type: StepLR, interval: batch}", "scheduler.interval: wrong value\n  found:    'batch'\n  expected: one of epoch, step"),
        ("scheduler={interval: step}", "scheduler.type: missing\n  expected: a text"),
        ("callbacks.checkpoint=yes", "callbacks.checkpoint: wrong value\n  found:    'yes'\n  expected: a mapping, or null"),
        ("+callbacks.early={patience: 3}", "callbacks.early.type: missing\n  expected: a text"),
        ("+hydra.run.dir=x", "hydra.run.dir: can't be given here\n  hint:     Hydra's own settings have no use here; 'output_dir' says where runs lie"),
        ("+sed=3", "sed: unknown key\n  did you mean 'seed'?"),
    ],
)  # fmt: skip
def test_what_isnt_valid_is_told(configs, override, said):
    assert told(override) == f"override '{override}': {said}"


def test_missing_sections_and_keys_are_told(configs, write):
    write("only.yaml", "model: 3\ndata: {type: X}\ntask: {}\noptimizer: null\n")
    assert told(config_name="only") == (
        "configs/only.yaml:1: model: wrong value\n  found:    3\n  expected: a mapping\n"
        "configs/only.yaml:2: data.batch_size: missing\n  expected: a whole number from 1 on\n"
        "configs/only.yaml:3: task.loss: missing\n  expected: an expression, or a registered loss\n"
        "configs/only.yaml:4: optimizer: null isn't allowed\n  expected: a mapping"
    )
    write("only.yaml", "seed: 0\n")
    assert [line for line in told(config_name="only").split("\n") if "missing" in line] == [
        "model: missing", "data: missing", "task: missing", "optimizer: missing",
    ]  # fmt: skip


def test_all_faults_come_at_once_in_the_configs_order(configs):
    lines = told("optimizer.lr=fast", "data.batch_size=0", "+zzz=1", "++trainer.plugins=[]", "seed=x").split("\n")
    assert [line.split(": ")[1] for line in lines if line.startswith("override")] == [
        "seed", "data.batch_size", "optimizer.lr", "trainer.plugins", "zzz",
    ]  # fmt: skip


def test_a_fault_shows_an_interpolation_and_not_the_secret_it_stands_for(configs, monkeypatch):
    monkeypatch.setenv("T_SECRET", "hunter2")
    found = told("seed=${oc.env:T_SECRET}")
    assert "hunter2" not in found and "found:    '${oc.env:T_SECRET}'" in found


def test_values_by_interpolation_are_checked(configs):
    assert "override 'seed=${name}': seed: wrong value" in told("seed=${name}", "name=abc")


def walk(node, path=()):
    yield path, node
    below = node.fields if isinstance(node, Section) else {"*": node.of} if isinstance(node, Names) else {}
    for key, child in below.items():
        if len(path) < 4:
            yield from walk(child, (*path, key))


def test_every_key_of_the_schema_is_described_and_its_default_valid():
    for path, node in walk(TOP):
        if isinstance(node, Field):
            assert bool(node.doc) != bool(node.refused), path
            assert node.required or node.refused or node.default is None or node.kind.accepts(node.default), path
        else:
            assert node.doc, path


def test_defaults_at_the_top():
    assert top_defaults() == {
        "name": None, "seed": 0, "output_dir": "outputs", "report": True, "init": [], "init_seed": None, "load": None, "freeze": None, "scheduler": None, "trainer": {}, "callbacks": {}, "logger": {}, "hooks": {}, "sweep": None,
    }  # fmt: skip


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("devices", ["auto", 1, -1, [0, 1], "0,1", 0]),
        ("max_time", ["00:12:00:00", {"hours": 2}, None]),
        ("val_check_interval", [0.5, 1.0, 100, "00:00:30:00", None]),
        ("deterministic", [True, False, "warn", None]),
        ("fast_dev_run", [True, 3]),
        ("overfit_batches", [0.0, 0.1, 3]),
        ("profiler", ["simple", None]),
        ("gradient_clip_val", [1, 0.5, None]),
    ],
)  # fmt: skip
def test_what_lightning_takes_is_taken(name, values):
    assert all(TRAINER_ARGUMENTS[name].kind.accepts(value) for value in values)
