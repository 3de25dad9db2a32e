"""Where nobody chooses a model or a task, the file of the data says which, or leaves it open until the data is read."""

import pytest

from builder.config import defaults_list, filling
from builder.config.compose import compose, refitted
from builder.errors import ConfigError

OPEN = {"model: mlp": "model: null", "task: classification": "task: null"}


@pytest.fixture
def open_configs(configs, write):
    text = (configs / "train.yaml").read_text()
    for choice, null in OPEN.items():
        text = text.replace(choice, null)
    write("train.yaml", text)
    fits = "fits: {model: mlp, task: classification}\n"
    write("data/wine.yaml", (configs / "data/wine.yaml").read_text() + fits)
    return configs


def told(*overrides):
    with pytest.raises(ConfigError) as error:
        compose(overrides)
    return str(error.value)


def test_what_the_file_of_the_data_states_is_taken(open_configs):
    composed = compose(["data=wine", "model.args.hidden=8"])
    assert (composed.choices["model"], composed.choices["task"]) == ("mlp", "classification")
    assert composed.values["model"]["args"]["hidden"] == 8 and composed.values["name"] == "wine_mlp"
    assert composed.values["callbacks"]["checkpoint"]["monitor"] == "val/accuracy"
    assert "fits" not in composed.values["data"] and composed.open == ()
    chosen = compose(["data=wine", "model=mlp", "task=classification", "model.args.hidden=8"])
    assert composed.values == chosen.values


@pytest.mark.parametrize(
    ("overrides", "model"),
    [(["model=cnn"], "cnn"), (["experiment=wine_sgd"], "mlp"), (["model=cnn", "model=null"], "mlp")],
)
def test_what_somebody_chooses_wins(open_configs, overrides, model):
    assert compose(["data=wine", *overrides]).choices["model"] == model


@pytest.mark.parametrize("override", ["data.name=iris", "data.type=Table"])
def test_what_a_file_states_is_of_its_own_data_set(open_configs, override):
    assert compose(["data=wine", override]).open == ("model", "task")
    assert compose(["data=wine", "data.name=wine", "data.batch_size=3"]).open == ()


def test_what_no_file_states_stays_open_with_all_that_concerns_it(open_configs):
    composed = compose(["model.args.hidden=8", "task.monitor=val/loss", "seed=3"])
    assert composed.open == ("model", "task") and composed.values["data"]["name"] == "digits"
    assert "model" not in composed.values and composed.values["seed"] == 3
    fitted = refitted(composed, {"model": "mlp", "task": "classification"})
    assert fitted.open == () and fitted.overrides == composed.overrides
    assert fitted.values["model"]["args"]["hidden"] == 8 and fitted.values["task"]["monitor"] == "val/loss"
    with pytest.raises(ConfigError, match="did you mean 'hidden'"):
        refitted(compose(["model.args.hiden=8"]), {"model": "mlp", "task": "classification"})


def test_a_config_that_chooses_itself_is_left_alone(configs, write):
    write("data/wine.yaml", (configs / "data/wine.yaml").read_text() + "fits: {model: cnn}\n")
    composed = compose(["data=wine"])
    assert composed.choices["model"] == "mlp" and composed.fits == {} and "fits" not in composed.values["data"]


def test_wrong_statements_are_told_with_their_lines(open_configs, write):
    wine = (open_configs / "data/wine.yaml").read_text().split("fits")[0]
    write("data/wine.yaml", wine + "fits: {modle: mlp, task: classificaton}\n")
    assert told("data=wine") == (
        "configs/data/wine.yaml:4: data.fits.modle: unknown key\n  expected: model | task\n  did you mean 'model'?\n"
        "configs/data/wine.yaml:4: data.fits.task: no such choice\n  found:    'classificaton'\n"
        "  expected: one of classification\n  did you mean 'classification'?"
    )
    write("data/wine.yaml", wine + "fits: mlp\n")
    assert "configs/data/wine.yaml:4: data.fits: wrong value" in told("data=wine")


OVERRIDES = [
    [], ["data=wine", "seed=3"], ["data=wine", "model=cnn"], ["data=wine", "task=null"], ["data=wine", "~optimizer"],
    ["data=wine", "experiment=wine_sgd"], ["data=wine", "model=null", "model.args.hidden=8"],
]  # fmt: skip
"""What leaves both groups open, one, or none."""


def outcome(overrides):
    try:
        composed = compose(overrides)
    except ConfigError as error:
        return str(error)
    return composed.unresolved, composed.choices, composed.fits, {path: composed.origins.of(path) for path in PLACES}


PLACES = [("model",), ("model", "args", "hidden"), ("task",), ("task", "loss"), ("data", "name"), ("seed",)]


def packaged(write, configs):
    write("task/classification.yaml", "# @package _global_\nseed: 9\ntask: {loss: mse}\n")


def with_defaults(write, configs):
    (configs / "task/other.yaml").write_text((configs / "task/classification.yaml").read_text())
    write("task/classification.yaml", "defaults: [other]\n")


def referred_to(write, configs):
    text = (configs / "train.yaml").read_text()
    write("train.yaml", text.replace("task: null", "task: null\n  - optional /trainer/of_${task}@extra: one"))


def named_twice(write, configs):
    text = (configs / "train.yaml").read_text()
    write("train.yaml", text.replace("task: null", "task: null\n  - task@also: null"))


def wrong(write, configs):
    write("task/classification.yaml", "loss: !!python/name:os.system\n")


@pytest.mark.parametrize("overrides", OVERRIDES, ids=" ".join)
@pytest.mark.parametrize(
    "changes",
    [None, packaged, with_defaults, referred_to, named_twice, wrong],
    ids=lambda each: getattr(each, "__name__", "as_it_is"),
)
def test_filled_in_groups_are_what_a_walk_through_the_lists_finds(
    open_configs, write, monkeypatch, changes, overrides
):  # fmt: skip
    if changes is not None:
        changes(write, open_configs)
    filled = outcome(overrides)
    monkeypatch.setattr(filling, "filled", lambda *arguments: None)
    assert filled == outcome(overrides)


def test_groups_are_filled_in_without_a_second_walk(open_configs, monkeypatch):
    walks = []
    walk = defaults_list.create_defaults_list
    monkeypatch.setattr(defaults_list, "create_defaults_list", lambda *args: walks.append(args) or walk(*args))
    assert compose(["data=wine"]).open == () and len(walks) == 1
