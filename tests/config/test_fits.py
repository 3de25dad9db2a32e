"""Where nobody chooses a model or a task, the file of the data says which, or leaves it open until the data is read."""

import pytest

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
