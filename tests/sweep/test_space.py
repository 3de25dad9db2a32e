"""Search spaces: what Hydra's grammar says, and in which order a grid takes its points."""

import itertools

import pytest
from hydra.core.override_parser.overrides_parser import OverridesParser
from hypothesis import given
from hypothesis import strategies as st

from builder.config.folders import shipped_configs
from builder.errors import ConfigError, Origin
from builder.sweep.settings import Source, read_settings
from builder.sweep.space import Choices, Numbers, corners, overrides_of, points, read_axis
from builder.sweep.values import written

FOLDERS = (shipped_configs(),)


def axis(key, text):
    return read_axis(key, text, Origin(override=f"{key}={text}"), FOLDERS)


@pytest.mark.parametrize(
    ("key", "text", "texts"),
    [
        ("optimizer.lr", "1e-2,1e-3", ("0.01", "0.001")),
        ("optimizer.lr", "choice(0.1, 0.2)", ("0.1", "0.2")),
        ("seed", "range(0, 3)", ("0", "1", "2")),
        ("optimizer.lr", "range(0.1, 0.4, 0.1)", ("0.1", "0.2", "0.3")),
        ("seed", "range(3, 0, -1)", ("3", "2", "1")),
        ("seed", "sort(3, 1, 2)", ("1", "2", "3")),
        ("model", "glob([m*,v*], exclude=vae)", ("mlp", "multitask", "vit")),
        ("data.name", "'a b',null,true", ("'a b'", "null", "true")),
        ("optimizer.betas", "[0.9,0.99],[0.8,0.9]", ("[0.9,0.99]", "[0.8,0.9]")),
        ("optimizer.lr", "0.1", ("0.1",)),
    ],
)
def test_listed_values_are_those_that_hydra_lists(key, text, texts):
    assert axis(key, text).choices().texts == texts


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("interval(1e-4, 0.1)", Numbers(1e-4, 0.1)),
        ("tag(log, interval(1e-4, 0.1))", Numbers(1e-4, 0.1, log=True)),
        ("int(interval(2, 9))", Numbers(2, 9, whole=True)),
        ("tag(log, int(interval(1, 100)))", Numbers(1, 100, log=True, whole=True)),
        ("tag(log, range(1, 101))", Numbers(1, 100, log=True, step=1, whole=True)),
    ],
)
def test_intervals_keep_their_scale(text, numbers):
    assert axis("optimizer.lr", text).values == numbers


def test_a_shuffled_choice_is_the_same_each_time_and_holds_the_same():
    first = axis("seed", "shuffle(range(0, 20))").choices().texts
    assert first == axis("seed", "shuffle(range(0, 20))").choices().texts
    assert sorted(first, key=int) == list(map(str, range(20))) != list(first)


@pytest.mark.parametrize(
    ("key", "text", "said"),
    [
        ("seed", "interval(2, 1)", "an empty interval"),
        ("seed", "tag(lgo, interval(1, 2))", "did you mean 'log'?"),
        ("seed", "tag(log, interval(0, 1))", "a log scale begins above 0"),
        ("seed", "tag(log, choice(1, 2))", "a choice has no scale"),
        ("seed", "range(1, 1)", "an empty range"),
        ("seed", "1,1", "stands here twice"),
        ("modle", "glob(*)", "did you mean 'model'?"),
        ("model", "glob(zz*)", "no config of the group 'model' fits"),
        ("seed", "choice(1", "not a search space"),
    ],
)
def test_what_cannot_be_varied_is_refused(key, text, said):
    with pytest.raises(ConfigError) as caught:
        axis(key, text)
    assert said in str(caught.value) and f"override '{key}={text}'" in str(caught.value)


@given(st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(st.characters(min_codepoint=32, max_codepoint=126)).filter(lambda text: not text.endswith("\\")),
    lambda inner: st.lists(inner, max_size=3), max_leaves=5,
))  # fmt: skip
def test_a_written_value_reads_back_the_same(value):
    parsed = OverridesParser.create().parse_override(f"key={written(value)}").value()
    assert repr(parsed) == repr(value)


def test_a_grid_is_walked_as_hydra_walks_it():
    words = ["model=mlp,cnn", "optimizer.lr=1e-2,1e-3,1e-4", "seed=range(0,2)"]
    axes = read_settings(words, Source()).axes
    by_hydra = itertools.product(
        *(OverridesParser.create().parse_override(word).sweep_string_iterator() for word in words)
    )
    found = [overrides_of(axes, point) for point in points(axes)]
    assert [tuple(word.partition("=")[2] for word in words) for words in found] == [
        tuple(written(float(text)) if "e" in text else text for text in texts) for texts in map(list, by_hydra)
    ]


def write(folder, text):
    (folder / "configs/sweep").mkdir(parents=True)
    (folder / "configs/sweep/mine.yaml").write_text("# A sweep.\n" + text)


CONDITIONAL = """
space:
  model: [mlp, cnn]
  optimizer.lr: choice(0.1, 0.01)
  model.args.channels: {over: 'choice(8, 16)', when: {model: cnn}}
  model.args.hidden: {over: 'interval(8, 16)', when: {model: mlp, optimizer.lr: 0.1}}
"""


def test_an_axis_exists_only_where_its_condition_holds(tmp_path, monkeypatch):
    write(tmp_path, CONDITIONAL.replace("interval(8, 16)", "choice(4, 5)"))
    monkeypatch.chdir(tmp_path)
    axes = read_settings(["sweep=mine"], Source()).axes
    assert [" ".join(overrides_of(axes, point)) for point in points(axes)] == [
        "model=mlp optimizer.lr=0.1 model.args.hidden=4",
        "model=mlp optimizer.lr=0.1 model.args.hidden=5",
        "model=mlp optimizer.lr=0.01",
        "model=cnn optimizer.lr=0.1 model.args.channels=8",
        "model=cnn optimizer.lr=0.1 model.args.channels=16",
        "model=cnn optimizer.lr=0.01 model.args.channels=8",
        "model=cnn optimizer.lr=0.01 model.args.channels=16",
    ]


def test_a_value_on_the_command_line_settles_an_axis_and_its_conditions(tmp_path, monkeypatch):
    write(tmp_path, CONDITIONAL)
    monkeypatch.chdir(tmp_path)
    axes = read_settings(["sweep=mine", "model=cnn"], Source()).axes
    assert [one.name for one in axes] == ["optimizer.lr", "model.args.channels"]
    assert len(list(points(axes))) == 4


def test_every_corner_of_a_conditional_space_is_tried(tmp_path, monkeypatch):
    write(tmp_path, CONDITIONAL)
    monkeypatch.chdir(tmp_path)
    axes = read_settings(["sweep=mine", "sweep.trials=3"], Source()).axes
    tried = {word for point in corners(axes, 0, 0) for word in overrides_of(axes, point)}
    assert tried >= {"model.args.hidden=8.0", "model.args.hidden=16.0", "model.args.channels=16", "optimizer.lr=0.01"}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("space: {seed: {oer: '1,2'}}", "did you mean 'over'?"),
        ("space: {seed: {over: '1,2', when: {modle: mlp}}, model: 'mlp,cnn'}", "did you mean 'model'?"),
        ("space: {seed: {over: '1,2', when: {model: mpl}}, model: 'mlp,cnn'}", "did you mean 'mlp'?"),
        (
            "space: {seed: {over: '1,2', when: {model: mlp}}, model: {over: 'mlp,cnn', when: {seed: 1}}}",
            "depend on each other",
        ),
        ("space: {seed: '1,2'}\ntirals: 3", "did you mean 'trials'?"),
        ("trials: 3", "nothing is varied"),
        ("space: {seed: 'interval(0, 1)'}", "say how many: sweep.trials=40"),
        ("space: {seed: 'interval(0, 1)'}\ntrials: 2\nsampler: grid", "a grid has no intervals"),
        ("space: {seed: '1,2'}\nsampler: tep", "did you mean 'tpe'?"),
        ("space: {seed: '1,2'}\npruner: {type: median, n_startup: 3}", "did you mean 'n_startup_trials'?"),
        ("space: {seed: '1,2'}\npruner: median\nobjectives: [val/loss min, params min]", "can't be pruned"),
        ("space: {seed: '1,2'}\nobjectives: val/loss", "'NAME min' or 'NAME max'"),
        ("space: {seed: '1,2'}\nseeds: [1, 1]", "different whole numbers"),
    ],
)
def test_a_wrong_section_is_refused_with_what_was_meant(text, said, tmp_path, monkeypatch):
    write(tmp_path, text)
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        read_settings(["sweep=mine"], Source())
    assert said in str(caught.value)


def test_a_key_that_is_given_twice_is_refused():
    with pytest.raises(ConfigError, match="said twice"):
        read_settings(["seed=1", "seed=1,2"], Source())


def test_seeds_and_folds_are_trainings_of_one_trial():
    settings = read_settings(["optimizer.lr=0.1,0.2", "sweep.seeds=2", "sweep.folds=2"], Source())
    assert settings.trials == 2
    assert settings.replicates == tuple(
        (f"seed={seed}", "data.num_folds=2", f"data.fold={fold}") for seed in (0, 1) for fold in (0, 1)
    )


def test_distinct_values_that_are_equal_keep_apart():
    assert axis("key", "1,true,1.0").values == Choices(("1", "true", "1.0"), ("1", "true", "1.0"))
