"""The JSON Schema takes every shipped config and refuses wrong ones, and an editor finds it beside each file."""

import copy
import functools
import json

import jsonschema
import pytest
import yaml

from builder.catalog.arguments import parameters_of
from builder.config.compose import compose
from builder.config.folders import blocks, search_path, shipped_configs
from builder.config.schema import TOP
from builder.config.yaml_file import parse_yaml, read_yaml
from builder.registry import registries
from builder.schema.components import USES
from builder.schema.document import FILE, MODELINE, groups, schema
from builder.schema.versions import versions
from command_line import finish, run, start

SHIPPED = shipped_configs()
FILES = sorted(SHIPPED.rglob("*.yaml"))


@functools.cache
def whole():
    return schema(blocks(search_path()).names(), versions())


@functools.cache
def validator(name=None):
    found = whole() if name is None else {"$ref": f"#/$defs/{name}", "$defs": whole()["$defs"]}
    return jsonschema.Draft202012Validator(found)


def refusals(values, name=None):
    """Where a validator refuses a config, and why, the innermost reasons."""

    def leaves(error):
        return [leaf for inner in error.context for leaf in leaves(inner)] or [error]

    errors = [leaf for error in validator(name).iter_errors(values) for leaf in leaves(error)]
    return [(list(error.absolute_path), error.message[:200]) for error in errors]


def test_it_is_a_schema_of_2020_12():
    jsonschema.Draft202012Validator.check_schema(whole())
    assert whole()["$schema"] == "https://json-schema.org/draft/2020-12/schema"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(SHIPPED)))
def test_every_shipped_file_is_valid_by_its_group(path):
    name = None if path.parent == SHIPPED else f"file.{path.parent.name}"
    assert refusals(read_yaml(path).value, name) == []
    assert path.read_text().splitlines()[-1] == MODELINE


CHOICES = [(path.parent.name, path.stem) for path in FILES if path.parent != SHIPPED and path.parent.name != "block"]
TOLD = {  # what the command line has to say
    "data": {"table": ["data.path=x.csv", "data.target=y"], "*": ["data.path=x"]},
}
OPEN = {"model": "model=mlp", "task": "task=classification"}


@pytest.mark.parametrize(("group", "name"), CHOICES, ids="/".join)
def test_every_composed_config_is_valid(group, name):
    known = TOLD.get(group, {})
    told = known.get(name, known.get("*", []) if "path" in read_yaml(SHIPPED / group / f"{name}.yaml").value or name in (
        "arrays", "huggingface", "images", "sequences", "text") else [])  # fmt: skip
    words = [f"{group}={name}", *(f"+{word}" for word in told)]
    composed = compose([*words, *(OPEN[part] for part in compose(words).open)])
    assert refusals(composed.values) == []
    assert refusals(composed.unresolved) == []


@functools.cache
def plain():
    return compose([]).values


# A change of the default config, as YAML that stands at a path. The builder refuses each, and so must the schema.
WRONG = {
    "an unknown section": ("modle", "{}"),
    "a negative seed": ("seed", "-1"),
    "a seed that is text": ("seed", "zero"),
    "hydra's own settings": ("hydra", "{}"),
    "an unknown optimiser": ("optimizer.type", "AdmaW"),
    "an unknown argument of an optimiser": ("optimizer.mometum", "0.9"),
    "a rate that is text": ("optimizer.lr", "fast"),
    "a mistyped argument of an optimiser": ("optimizer.amsgrad", "3"),
    "groups without selectors": ("optimizer.groups", "[{lr: 0.1}]"),
    "a decay above one": ("optimizer.layer_decay", "1.5"),
    "an unknown key of the trainer": ("trainer.max_epoch", "3"),
    "a number of epochs that is text": ("trainer.max_epochs", "many"),
    "loggers in the trainer": ("trainer.logger", "true"),
    "an unknown precision": ("trainer.precision", "17"),
    "a batch of nothing": ("data.batch_size", "0"),
    "an unknown data set": ("data.type", "SklearnDatasets"),
    "an unknown argument of a data set": ("data.standardize", "true"),
    "a transform that isn't there": ("data.transforms", "{train: [Flop]}"),
    "transforms of another list": ("data.transforms", "{test: [Flip]}"),
    "a mode that is neither": ("task.mode", "up"),
    "an unknown metric": ("task.metrics.accuracy.type", "MulticlassAccurracy"),
    "an unknown argument of a metric": ("task.metrics.accuracy.clases", "3"),
    "a mistyped argument of a metric": ("task.metrics.accuracy.top_k", "most"),
    "a metric without what it needs": ("task.metrics.accuracy", "{type: MinkowskiDistance}"),
    "a loss that isn't there": ("task.loss", "{type: CrossEntropy}"),
    "an unknown callback": ("callbacks.best.type", "ModelCheckpoints"),
    "an unknown argument of a callback": ("callbacks.best.file", "best"),
    "a logger without a type": ("logger.csv", "{}"),
    "a scheduler without a type": ("scheduler", "{interval: step}"),
    "an unknown interval": ("scheduler", "{type: StepLR, step_size: 1, interval: batch}"),
    "a scheduler without its step": ("scheduler", "{type: StepLR}"),
    "weights without a path": ("load", "{into: stem}"),
    "an unknown rule for names": ("load", "{path: x.pt, rules: [{renmae: a, to: b}]}"),
    "an unknown policy": ("load", "{path: x.pt, missing: ignore}"),
    "a mode of frozen layers": ("freeze", "{select: stem, mode: evil}"),
    "frozen until nothing": ("freeze", "{select: stem, until: {epochs: 3}}"),
    "an unknown key of a model": ("model.layer", "{}"),
    "an unknown argument of a layer": ("model.layers.fc.out_feature", "3"),
    "a layer without what it needs": ("model.layers.fc", "{type: Linear}"),
    "a mistyped argument of a layer": ("model.layers.fc.bias", "[1]"),
    "a size that is text": ("model.layers.fc.out_features", "ten"),
    "three sizes of a kernel": ("model.layers.stem.kernel_size", "[3, 3, 3]"),
    "a container with an argument": ("model.layers.trunk.width", "3"),
    "a container with both": ("model.layers.trunk.layers", "[ReLU]"),
    "a layer that says nothing": ("model.layers.fc", "{}"),
    "a layer with an unknown key": ("model.layers.fc", "{layers: {a: ReLU}, forwards: return a(x)}"),
    "a forward that isn't text": ("model.forward", "[x]"),
    "an unknown dtype": ("model.inputs", "{x: {shape: [B, 1], dtype: float31}}"),
    "an input with an unknown key": ("model.inputs", "{x: {size: [B, 1]}}"),
    "a parameter without a beginning": ("model.parameters", "{scale: {shape: [1]}}"),
    "an unknown initialiser": ("model.parameters", "{scale: {shape: [1], init: nromal_}}"),
    "an unknown argument of an initialiser": ("init", "[{weight: {type: normal_, stdev: 1}}]"),
    "a rule with an unknown initialiser": ("init", "[{select: fc, weight: zeroes_}]"),
    "an unknown key of a selector": ("init", "[{select: {typ: Linear}, weight: zeros_}]"),
}  # fmt: skip


def changed(place, text):
    values = copy.deepcopy(plain())
    inside = values
    *path, key = place.split(".")
    for step in path:
        inside = inside[step]
    inside[key] = parse_yaml(text, "changed").value
    return values


@pytest.mark.parametrize("case", WRONG)
def test_what_the_builder_refuses_it_refuses_too(case, tmp_path):
    values = changed(*WRONG[case])
    (tmp_path / "wrong").mkdir()
    (tmp_path / "wrong" / "config.yaml").write_text(yaml.safe_dump(values, sort_keys=False))
    ran = run(tmp_path, "check", "-cd", "wrong", "-cn", "config")
    assert ran.code == 2, ran.err
    assert refusals(values) != []


def test_a_formula_or_an_interpolation_may_stand_for_any_value():
    for place, text in (
        ("model.layers.fc.out_features", "=data.num_classes"), ("model.layers.fc.bias", "=1 < 2"),
        ("seed", "${oc.env:SEED}"), ("optimizer.lr", "${task.lr}"), ("trainer.max_epochs", "${n}"),
        ("task.mode", "${mode}"), ("model.layers.stem.kernel_size", "[=3, =3]"),
        ("scheduler", "{type: StepLR, step_size: =steps_per_epoch // 2}"),
    ):  # fmt: skip
        assert refusals(changed(place, text)) == [], place


def argument(kind, name, key):
    defs = whole()["$defs"]
    said = defs[f"{kind}.{name}"]["properties"][key]
    return defs[said["$ref"].removeprefix("#/$defs/")] if "$ref" in said else said


HOMES = ("builder", "pytorch_lightning", "torch", "torchmetrics")


def test_every_component_has_each_of_its_arguments_with_a_line_on_what_it_is():
    missing = []
    for kind, uses in USES.items():
        for name in registries[kind]:
            target = registries[kind].get(name)
            if getattr(target, "__module__", "").partition(".")[0] not in HOMES:
                continue  # another test's own
            parameters = parameters_of(target)
            for key in parameters.accepts if parameters is not None else ():
                if key not in (*uses.withheld, *uses.own) and not argument(kind, name, key).get("description"):
                    missing.append(f"{kind}.{name}.{key}")
    assert missing == []


def test_defaults_are_those_of_the_registered_objects():
    import torch

    assert argument("layer", "Conv2d", "stride")["default"] == 1
    assert argument("layer", "Conv2d", "bias")["default"] is True
    betas = torch.optim.AdamW([torch.zeros(1)]).defaults["betas"]
    assert tuple(argument("optimizer", "AdamW", "betas")["default"]) == betas
    assert whole()["$defs"]["section.seed"]["default"] == 0


def test_every_section_of_a_config_is_in_it():
    assert set(whole()["$defs"]["config"]["properties"]) == set(TOP.fields)
    assert {path.name for path in SHIPPED.iterdir() if path.is_dir()} <= set(groups())


def test_the_shipped_schema_is_current(tmp_path):
    """After a change of what can be configured: `builder schema -o configs`. In a process without tests' own entries."""
    saved = json.loads((SHIPPED / FILE).read_text())
    if saved["$comment"] != whole()["$comment"]:
        pytest.skip(f"made with others than here: {saved['$comment']}")
    for path in SHIPPED.rglob(FILE):
        (tmp_path / "out" / path.relative_to(SHIPPED)).parent.mkdir(parents=True, exist_ok=True)
    ran = finish(start(tmp_path, "schema", "-o", "out"), tmp_path)
    assert ran.code == 0, ran.err
    made = {path.relative_to(tmp_path / "out"): path for path in (tmp_path / "out").rglob(FILE)}
    assert made.keys() == {path.relative_to(SHIPPED) for path in SHIPPED.rglob(FILE)}
    for name, path in made.items():
        assert path.read_text() == (SHIPPED / name).read_text(), name


def test_a_users_layer_is_in_the_schema_of_their_configs(tmp_path):
    (tmp_path / "layers.py").write_text(
        "import builder, torch\n@builder.register.layer\nclass Gauge(torch.nn.Identity):\n"
        '    """Shows.\n\n    Args:\n        unit: what is counted in.\n    """\n\n'
        "    def __init__(self, unit: int = 3):\n        super().__init__()\n"
    )
    (tmp_path / "configs" / "model").mkdir(parents=True)
    ran = run(tmp_path, "schema", "-o", "configs", "--import", "layers.py")
    assert (ran.code, ran.out.split()) == (0, ["configs/schema.json", "configs/model/schema.json"])
    mine = json.loads((tmp_path / "configs/schema.json").read_text())
    assert mine["$defs"]["layer.Gauge"]["properties"]["unit"]["description"] == "what is counted in"
    below = json.loads((tmp_path / "configs/model/schema.json").read_text())
    assert below["$ref"] == "../schema.json#/$defs/file.model"


def test_one_group_alone_and_what_the_verb_refuses(tmp_path):
    ran = run(tmp_path, "schema", "model", "-o", "model.json")
    found = json.loads((tmp_path / "model.json").read_text())
    assert ran.code == 0 and found["$ref"] == "#/$defs/file.model"
    assert not list(jsonschema.Draft202012Validator(found).iter_errors(read_yaml(SHIPPED / "model/cnn.yaml").value))
    ran = run(tmp_path, "schema", "modle")
    assert ran.code == 2 and "no config group 'modle'; did you mean 'model'?" in ran.err
    (tmp_path / "configs").mkdir()
    ran = run(tmp_path, "schema", "model", "-o", "configs")
    assert ran.code == 2 and "is a folder" in ran.err
