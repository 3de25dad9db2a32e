import subprocess
import sys
import warnings
from pathlib import Path

import pytest
from hydra import compose as hydra_compose
from hydra import initialize_config_dir, version
from hydra.core.singleton import Singleton
from omegaconf import OmegaConf
from omegaconf.basecontainer import BaseContainer

from builder.config import folders
from builder.config.compose import blocks, compose, saved_yaml
from builder.errors import ConfigError, UnknownName


def told(*overrides, **options):
    with pytest.raises(ConfigError) as error:
        compose(overrides, **options)
    return str(error.value)


COMPOSITIONS = [
    [],
    ["model=cnn", "optimizer=sgd", "optimizer.lr=1e-2"],
    ["experiment=wine_sgd", "model.args.hidden=8"],
    ["experiment=wine_sgd", "data=digits"],
    ["scheduler=cosine", "+scheduler.eta_min=0.1", "~optimizer.lr", "++model.args.depth=2"],
    ["~logger", "~callbacks.progress", "+model.layers.fc3={type: Linear, out_features: 1}"],
    ["model.args={hidden: 3}", "model.inputs.x=[B, 4]", "model.inputs.x.0=N", "name='a, b'", "seed=0x10"],
    ["+optimizer.betas=[0.9,0.99]", "+notes={a: {b: null}}", "trainer.max_epochs=${seed}"],
    ["logger=[]"],
    ["~scheduler=none"],
    ["~experiment"],
    ["logger=[default]", "experiment=[wine_sgd]"],
    ["+model@model.blocks.Inner=cnn", "+data@task.data=wine"],
    ["optimizer={type: SGD, lr: 0.1}", "logger={csv: {type: X}}", "~callbacks.checkpoint"],
    ["+model.args.widths=[1,2,{a: 'b c'}]", 'name="a: {b}"', "++model.args.hidden=[[1],[]]"],
    ["name=NULL", "callbacks.progress=null", "~optimizer.lr=1e-3"],
    ["name=''", "model.args.hidden=", "optimizer.lr=1e-2"],
]


UNSAID = {"init": [], "init_seed": None, "load": None, "freeze": None, "report": True, "sweep": None}
"""Sections that these configs don't have, and what stands in their place."""


@pytest.mark.parametrize("overrides", COMPOSITIONS)
def test_composes_as_hydra_does(configs, overrides):
    with initialize_config_dir(str(configs), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("train", overrides))
    found = OmegaConf.to_container(compose(overrides).config)
    for section, absent in (("logger", {}), ("hooks", {}), ("scheduler", None), *UNSAID.items()):
        if section not in expected:
            assert found.pop(section) == absent
    if expected["name"] is None:
        assert found.pop("name") and expected.pop("name") is None
    assert found == expected
    assert list(found["model"]) == list(expected["model"])


@pytest.mark.parametrize("group", ["model", "logger", "scheduler", "callbacks", "experiment"])
@pytest.mark.parametrize("before", [[], ["experiment=wine_sgd", "{group}={choice}"]])
def test_null_is_the_choice_of_nothing_as_in_a_defaults_list(configs, write, group, before):
    """Hydra takes `group: null` in a defaults list, and refuses `group=null` on the command line."""
    choice = {"model": "cnn", "scheduler": "cosine", "experiment": "wine_sgd"}.get(group, "default")
    before = [text.format(group=group, choice=choice) for text in before]
    found = compose([*before, f"{group}=null"])
    lines = (configs / "train.yaml").read_text().split("\n")
    start = {"model": "mlp", "scheduler": "none"}.get(group, "null" if group == "experiment" else "default")
    assert f"  - {group}: {start}" in lines or f"  - optional {group}: {start}" in lines
    write("without.yaml", "\n".join(line.replace(f"{group}: {start}", f"{group}: null") for line in lines))
    rest = [text for text in before if not text.startswith(f"{group}=")]
    with initialize_config_dir(str(configs), version_base="1.3"):
        expected = OmegaConf.to_container(hydra_compose("without", rest))
    values = {**found.unresolved, "name": None}
    for section, absent in (("logger", {}), ("hooks", {}), ("scheduler", None), ("callbacks", {}), *UNSAID.items()):
        if section not in expected:
            assert values.pop(section) == absent
    assert values == expected
    assert group not in found.choices


def test_after_null_there_is_nothing_to_change_but_all_to_add(configs):
    assert told("logger=null", "logger.csv.version=1") == (
        "override 'logger.csv.version=1': logger.csv: unknown key\n  expected: nothing: there are no keys here\n"
        "  hint:     write '+logger.csv.version=1' to add it"
    )
    assert compose(["logger=null", "+logger.tb.type=TensorBoardLogger"]).values["logger"] == {
        "tb": {"type": "TensorBoardLogger"}
    }
    assert compose(["logger=null", "logger=default"]).values["logger"] == {"csv": {"type": "CSVLogger"}}


def test_layers_keep_the_order_of_their_files(configs, write):
    write("experiment/more.yaml", "# @package _global_\nmodel: {layers: {fc3: ReLU, act: GELU}}\n")
    assert list(compose(["experiment=more"]).values["model"]["layers"]) == ["fc1", "act", "fc2", "fc3"]


def test_every_value_knows_where_it_was_written(configs):
    composed = compose(
        ["experiment=wine_sgd", "optimizer.lr=0.5", "+model.layers.fc3={type: Linear}", "model.inputs.x=[B, 4]"]
    )
    origins = composed.origins
    assert {
        path: str(origins.of(path))
        for path in [
            ("seed",), ("name",), ("model",), ("model", "args"), ("model", "args", "hidden"), ("model", "args", "classes"),
            ("model", "layers", "fc2", "type"), ("model", "layers", "fc3", "type"), ("model", "inputs", "x", 1), ("data", "batch_size"),
            ("optimizer",), ("optimizer", "lr"), ("optimizer", "momentum"), ("scheduler",), ("trainer", "max_epochs"), ("trainer", "accelerator"),
            ("callbacks", "checkpoint", "monitor"),
        ]
    } == {
        ("seed",): "configs/train.yaml:14",
        ("name",): "default",
        ("model",): "configs/experiment/wine_sgd.yaml:6",
        ("model", "args"): "configs/experiment/wine_sgd.yaml:7",
        ("model", "args", "hidden"): "configs/experiment/wine_sgd.yaml:7",
        ("model", "args", "classes"): "configs/model/mlp.yaml:1",
        ("model", "layers", "fc2", "type"): "configs/model/mlp.yaml:7",
        ("model", "layers", "fc3", "type"): "override '+model.layers.fc3={type: Linear}'",
        ("model", "inputs", "x", 1): "override 'model.inputs.x=[B, 4]'",
        ("data", "batch_size"): "configs/data/wine.yaml:3",
        ("optimizer",): "configs/optimizer/sgd.yaml",
        ("optimizer", "lr"): "override 'optimizer.lr=0.5'",
        ("optimizer", "momentum"): "configs/optimizer/sgd.yaml:3",
        ("scheduler",): "configs/scheduler/none.yaml:2",
        ("trainer", "max_epochs"): "configs/experiment/wine_sgd.yaml:8",
        ("trainer", "accelerator"): "configs/trainer/auto.yaml:1",
        ("callbacks", "checkpoint", "monitor"): "configs/callbacks/default.yaml:3",
    }  # fmt: skip


def test_every_value_has_an_origin_of_its_own(configs):
    composed = compose(["experiment=wine_sgd", "model=cnn", "scheduler=cosine"])

    def walk(value, path):
        if path:
            assert path in composed.origins, path
        for key, item in (
            value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
        ):
            walk(item, (*path, key))

    walk(composed.values, ())


def test_what_was_replaced_leaves_no_origins_behind(configs):
    origins = compose(["model.inputs=null", "~model.layers.fc1"]).origins
    assert ("model", "inputs", "x", 0) not in origins and ("model", "layers", "fc1", "type") not in origins


def test_a_line_of_forward_is_known_in_its_file(configs):
    composed = compose()
    place = composed.origins.of(("model", "forward")).at_text(3)
    assert (str(place), place.column) == ("configs/model/mlp.yaml:12", 3)
    assert composed.values["model"]["forward"].split("\n")[2] == "return fc2(x)"


def test_values_are_resolved_and_config_is_not(configs):
    composed = compose(["scheduler=cosine"])
    assert composed.values["scheduler"]["T_max"] == 20
    assert OmegaConf.to_container(composed.config)["scheduler"]["T_max"] == "${trainer.max_epochs}"
    assert composed.config.scheduler.T_max == 20


def test_an_experiment_wins_over_what_it_changes_and_overrides_over_it(configs):
    values = compose(["experiment=wine_sgd"]).values
    assert (values["data"]["name"], values["optimizer"]["type"], values["trainer"]["max_epochs"]) == ("wine", "SGD", 5)
    assert compose(["experiment=wine_sgd", "trainer.max_epochs=7"]).values["trainer"]["max_epochs"] == 7


def test_the_name_is_the_experiments_or_says_data_and_model(configs):
    assert compose().values["name"] == "digits_mlp"
    assert compose(["experiment=wine_sgd"]).values["name"] == "wine_sgd"
    assert compose(["experiment=wine_sgd", "name=mine"]).values["name"] == "mine"


def test_choices_are_known(configs):
    assert compose(["experiment=wine_sgd", "model=cnn"]).choices == {
        "model": "cnn", "data": "wine", "task": "classification", "optimizer": "sgd", "scheduler": "none", "trainer": "auto",
        "callbacks": "default", "logger": "default", "experiment": "wine_sgd",
    }  # fmt: skip


def test_a_scheduler_of_null_takes_a_schedulers_keys(configs, write):
    write("experiment/step.yaml", "# @package _global_\nscheduler: {type: StepLR, step_size: 3}\n")
    assert compose(["experiment=step"]).values["scheduler"] == {"type": "StepLR", "step_size": 3}
    values = compose(["scheduler.type=StepLR", "scheduler.step_size=2"]).values
    assert values["scheduler"] == {"type": "StepLR", "step_size": 2}


def test_absent_keys_at_the_top_stand_at_their_defaults(tmp_path, monkeypatch):
    (tmp_path / "tiny.yaml").write_text("model: {layers: [ReLU]}\n")
    monkeypatch.setattr(folders, "shipped_configs", lambda: tmp_path / "shipped")
    composed = compose(config_name="tiny", config_dir=tmp_path)
    assert composed.values == {
        "name": "run", "seed": 0, "output_dir": "outputs", "model": {"layers": ["ReLU"]}, "scheduler": None, **UNSAID, "trainer": {},
        "callbacks": {}, "logger": {}, "hooks": {},
    }  # fmt: skip
    assert str(composed.origins.of(("seed",))) == "default"


def test_the_users_folder_comes_before_the_shipped(configs, tmp_path, monkeypatch):
    shipped = tmp_path / "shipped"
    (shipped / "model").mkdir(parents=True)
    (shipped / "train.yaml").write_text("seed: 99\n")
    (shipped / "model" / "mlp.yaml").write_text("layers: [GELU]\n")
    (shipped / "model" / "vit.yaml").write_text("layers: [Tanh]\n")
    assert compose().values["seed"] == 0
    composed = compose(["model=vit"])
    assert composed.values["model"]["layers"] == ["Tanh"]
    assert str(composed.origins.of(("model", "layers"))) == "configs/model/vit.yaml:1"
    assert composed.search_path == (configs, shipped)
    (tmp_path / "elsewhere").mkdir()
    assert compose(config_dir=tmp_path / "elsewhere").values["seed"] == 99


def test_a_folder_isnt_searched_twice(configs, monkeypatch):
    monkeypatch.setattr(folders, "shipped_configs", lambda: configs)
    assert compose(config_dir=Path("configs/../configs")).search_path == (configs,)


def test_files_are_shown_from_the_current_folder_or_whole(configs, tmp_path, monkeypatch):
    assert folders.shown(tmp_path / "configs" / "x.yaml") == "configs/x.yaml"
    monkeypatch.chdir(configs / "model")
    assert folders.shown(tmp_path / "configs" / "x.yaml") == str(tmp_path / "configs" / "x.yaml")
    assert folders.shown(tmp_path / "shipped" / "model" / "x.yaml") == "configs/model/x.yaml"


def test_the_shipped_configs_are_found():
    assert (folders.shipped_configs() / "train.yaml").is_file()


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["model=mpl"],
            "override 'model=mpl': model: no such choice\n  found:    'mpl'\n  expected: one of cnn, mlp\n  did you mean 'mlp'?",
        ),
        (["modle=mlp"], "override 'modle=mlp': modle: unknown key\n  did you mean 'model'?"),
        (
            ["modle/mlp=x"],
            "override 'modle/mlp=x': no such config group\n  found:    'modle/mlp'\n  did you mean 'model'?",
        ),
        (
            ["+model=cnn"],
            "override '+model=cnn': the group 'model' has a choice already\n"
            "  hint:     write 'model=CHOICE' on the command line, 'override /model: CHOICE' in a file",
        ),
        (
            ["scheduler=3"],
            "override 'scheduler=3': scheduler: not a choice of a config group\n  found:    3\n  expected: scheduler=CHOICE\n"
            "  hint:     scheduler=null leaves the group out",
        ),
        (
            ["++model=cnn"],
            "override '++model=cnn': model: not a choice of a config group\n  found:    'cnn'\n  expected: model=CHOICE\n"
            "  hint:     model=null leaves the group out",
        ),
        (["~logger=csv"], "override '~logger=csv': this isn't the group's choice, to leave it out\n  found:    'csv'"),
        (["~block"], "override '~block': block: unknown key\n  expected: one of model, data, task, optimizer, scheduler, trainer, callbacks, logger, name, seed, output_dir"),
        (["model=../data/digits"], "override 'model=../data/digits': model: no such choice\n  found:    '../data/digits'\n  expected: one of cnn, mlp"),
    ],
)  # fmt: skip
def test_choices_that_arent_there_are_told(configs, overrides, said):
    assert told(*overrides) == said


def test_all_faults_of_choices_and_syntax_come_at_once(configs):
    lines = told("model=mpl", "seed=[1", "optimizer=adam", "lr=1,2").split("\n")
    assert [line for line in lines if line.startswith("override")] == [
        "override 'seed=[1': not an override",
        "override 'lr=1,2': several values, where one config takes one",
        "override 'model=mpl': model: no such choice",
        "override 'optimizer=adam': optimizer: no such choice",
    ]


def test_a_missing_config_or_folder_is_told(configs):
    assert (
        told(config_name="trian")
        == "no such config in configs\n  found:    'trian'\n  expected: one of train\n  did you mean 'train'?"
    )
    assert told(config_dir=Path("confgs")) == "no such config folder\n  found:    'confgs'\n  did you mean 'configs'?"


@pytest.mark.parametrize(
    ("name", "text", "overrides", "said"),
    [
        (
            "experiment/e.yaml", "# @package _global_\ndefaults:\n  - override /model: mpl\n", ["experiment=e"],
            "configs/experiment/e.yaml:3: model: no such choice\n  found:    'mpl'\n  expected: one of cnn, mlp\n  did you mean 'mlp'?",
        ),
        (
            "experiment/e.yaml", "# @package _global_\ndefaults:\n  - override /modle: mlp\n", ["experiment=e"],
            "configs/experiment/e.yaml:3: no defaults list has a choice of this group\n  found:    'modle'\n  did you mean 'model'?",
        ),
        (
            "train.yaml", "defaults:\n  - modle: mlp\n  - _self_\n", [],
            "configs/train.yaml:2: no such config group\n  found:    'modle'\n  did you mean 'model'?",
        ),
        ("train.yaml", "defaults:\n  - trian\n", [], "configs/train.yaml:2: no such config\n  found:    'trian'\n  did you mean 'train'?"),
        ("train.yaml", "defaults: {model: mlp}\n", [], "configs/train.yaml:1: defaults: wrong value\n  found:    {'model': 'mlp'}\n  expected: a list"),
        (
            "train.yaml", "defaults:\n  - model: 3\n  - [a]\n", [],
            "configs/train.yaml:2: defaults[0]: not the name of a config\n  found:    {'model': 3}\n  expected: a config, or 'group: choice'\n"
            "configs/train.yaml:3: defaults[1]: not an item of a defaults list\n  found:    ['a']\n  expected: a config, or 'group: choice'",
        ),
        (
            "train.yaml", "defaults:\n  - model: ${now:x}\n", [],
            "configs/train.yaml:2: defaults[0]: the resolver 'now' isn't allowed\n  found:    {'model': '${now:x}'}\n"
            "  expected: a config, or 'group: choice'",
        ),
        ("train.yaml", "- a\n", [], "configs/train.yaml: a config file holds a mapping"),
        ("train.yaml", "defaults:\n  - train\n  - _self_\n", [], "defaults lists that include one another"),
        (
            "trainer/auto.yaml", "accelerator: auto\nlogger: [a\n", [],
            "configs/trainer/auto.yaml:2: the '[' opened on line 2 isn't closed, or a ',' is missing\n  found:    'logger: [a'",
        ),
        (
            "train.yaml", "defaults:\n  - model: mlp\n  - _self_\nmodel: {inputs: {x: {shape: [B]}}}\n", [],
            "configs/train.yaml:4: model.inputs.x: a mapping can't be merged onto a list\n  hint:     it was written at configs/model/mlp.yaml:2; a list takes its place: [{…}]",
        ),
        ("train.yaml", "a: ${now:x}\n", [], "configs/train.yaml:1: a: the resolver 'now' isn't allowed\n  found:    '${now:x}'\n"
         "  expected: ${key.of.the.config}, ${oc.env:NAME}, ${oc.env:NAME,default} or ${oc.select:key,default}"),
    ],
)  # fmt: skip
def test_faults_of_files_are_told_with_their_place(configs, write, name, text, overrides, said):
    write(name, text)
    assert told(*overrides) == said


def test_faults_of_several_files_come_at_once(configs, write):
    write("model/mlp.yaml", "a: 010\n")
    write("data/digits.yaml", "a: 1\na: 2\n")
    found = told()
    assert "configs/model/mlp.yaml:1: a: a number with a leading zero" in found
    assert "configs/data/digits.yaml:2: a: duplicate key" in found


def test_defaults_lists_that_double_are_stopped(configs, write):
    for level in range(40):
        write(f"b{level}.yaml", f"defaults: [b{level + 1}@l, b{level + 1}@r]\n")
    write("b40.yaml", "a: 1\n")
    assert told(config_name="b0") == "defaults lists that include one another"


def test_hydras_own_settings_never_reach_hydra(configs, write):
    write(
        "train.yaml",
        "defaults:\n  - model: mlp\n  - _self_\nhydra:\n  searchpath: [pkg://nothing_to_import, structured://antigravity]\n",
    )
    composed = compose()
    assert "antigravity" not in sys.modules
    assert composed.values["hydra"]["searchpath"]


def test_nothing_of_hydra_is_left_changed(configs):
    base = version.VersionBase.instance()
    before = dict(Singleton._instances), base.version_base, set(BaseContainer._resolvers)
    for _ in range(2):
        compose(["model=cnn"])
        told("model=none_such")
        told("block=x")
    assert (dict(Singleton._instances), base.version_base, set(BaseContainer._resolvers)) == before


def test_no_warning_of_hydras_is_shown(configs, write):
    write("train.yaml", "defaults:\n  - model: mlp\nseed: 3\n")
    with warnings.catch_warnings(record=True) as shown:
        warnings.simplefilter("always")
        assert compose().values["seed"] == 3
    assert shown == []


def test_blocks_are_files_of_the_block_folder(configs, write, tmp_path):
    write("block/Residual.yaml", "args: {channels: required}\n")
    composed = compose()
    library = blocks(composed.search_path)
    assert library.names() == ["Residual", "model/cnn", "model/mlp"]
    assert "Residual" in library and "residual" not in library
    document = library.get("Residual")
    assert document.value == {"args": {"channels": "required"}}
    assert str(document.origins["args", "channels"]) == "configs/block/Residual.yaml:1"
    assert library.get("Residual") is document
    with pytest.raises(UnknownName, match="unknown block 'Residul'; did you mean 'Residual'?"):
        library.get("Residul")


def test_a_block_refers_to_nothing_around_it(configs, write):
    write("block/Odd.yaml", "args: {a: 1}\nlayers:\n  - {type: Linear, out_features: '${args.a}'}\n")
    with pytest.raises(ConfigError) as error:
        blocks(compose().search_path).get("Odd")
    assert str(error.value) == (
        "configs/block/Odd.yaml:3: layers[0].out_features: an interpolation in a block\n  found:    '${args.a}'\n"
        "  hint:     a formula sees the block's own arguments: =channels"
    )


def test_the_room_imports_neither_torch_nor_hydra_before_it_needs_them():
    code = (
        "import sys, builder.config.compose, builder.config.validate\n"
        "assert not {'torch', 'hydra', 'omegaconf', 'pytorch_lightning'} & set(sys.modules)\n"
        "builder.config.compose.compose(['model=mlp'])\n"
        "assert not {'torch', 'pytorch_lightning'} & set(sys.modules)\n"
    )
    root = Path(__file__).parents[2]
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)


def test_secrets_stay_references_in_what_is_saved(configs, monkeypatch):
    monkeypatch.setenv("T_SECRET", "hunter2")
    composed = compose(["name=${oc.env:T_SECRET}"])
    assert composed.values["name"] == "hunter2"
    assert "hunter2" not in saved_yaml(composed)
    assert "name: ${oc.env:T_SECRET}\n" in saved_yaml(composed)


def test_what_is_saved_composes_to_the_same_again(configs, tmp_path):
    odd = [
        "12:30",
        "on",
        "010",
        "1e-3",
        "0x1F",
        "1_000",
        "null",
        "~",
        "",
        "2020-01-01",
        " x ",
        "a\nb",
        "\u2028",
        "é",
        r"\${seed}",
    ]
    composed = compose(
        ["experiment=wine_sgd", "scheduler=cosine", "+data.texts=[]", "+data.numbers=[1e-3,1e-8,1e22,-0.0,3,true,null]"]
    )
    composed.unresolved["data"]["texts"] = odd
    composed.values["data"]["texts"] = [*odd[:-1], "${seed}"]
    text = saved_yaml(composed)
    assert "  forward: |\n    x = act(fc1(x))\n\n    return fc2(x)\n" in text
    run = tmp_path / "run"
    run.mkdir()
    (run / "config.yaml").write_text(text, encoding="utf-8")
    again = compose(config_name="config", config_dir=run)
    assert again.values == composed.values
    assert repr(again.values) == repr(composed.values)
    assert again.unresolved == composed.unresolved
    assert saved_yaml(again) == text
