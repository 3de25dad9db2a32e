import sys

import pytest

from builder.errors import UsageError
from builder.runs import record
from builder.runs.record import ABSENT
from builder.runs.table import as_json, chosen, lasted, records_in, shown, usual_columns
from made_runs import make_run

opened = []
listening = False


def _hook(event, arguments):
    if listening and event == "open":
        opened.append(str(arguments[0]))


sys.addaudithook(_hook)


@pytest.fixture
def outputs(tmp_path, monkeypatch):
    root = tmp_path / "outputs"
    make_run(root, "one", "2026-01-01_00-00-00_aaaaaaaa", lr=0.1, loss=0.5, seed=1)
    make_run(root, "one", "2026-01-03_00-00-00_bbbbbbbb", lr=0.001, loss=0.2, seed=2)
    make_run(root, "two", "2026-01-02_00-00-00_cccccccc", lr="1e-2", loss=None, state="failed", reason="it broke")
    monkeypatch.chdir(tmp_path)
    return root


def names(records):
    return [one.path.name[-8] for one in records]


def test_runs_come_newest_first_wherever_they_lie(outputs):
    assert names(records_in([])) == ["b", "c", "a"]
    assert names(records_in(["outputs"])) == ["b", "c", "a"]
    assert names(records_in(["one"])) == names(records_in(["outputs/one"])) == ["b", "a"]
    assert names(records_in(["outputs/two", "outputs/one/2026-01-01_00-00-00_aaaaaaaa", "two"])) == ["c", "a"]
    assert names(records_in([str(outputs)])) == ["b", "c", "a"]


def test_no_runs_are_none_and_an_unknown_folder_is_refused_with_the_nearest(outputs, monkeypatch, tmp_path):
    with pytest.raises(
        UsageError, match="no folder 'onee', and no experiment of that name in outputs; did you mean 'one'"
    ):
        records_in(["onee"])
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path / "empty")
    assert records_in([]) == []


def test_a_value_is_a_fact_a_metric_or_a_key_of_the_config(outputs):
    newest = records_in([])[0]
    assert [newest.value(name) for name in ("name", "state", "host", "seconds")] == [
        "one",
        "finished",
        "elsewhere",
        12.5,
    ]
    assert newest.value("val/loss") == 0.2
    assert [newest.value(name) for name in ("optimizer.lr", "seed", "model.layers.act")] == [0.001, 2, "ReLU"]
    assert newest.value("callbacks.best.monitor") == "val/loss"  # what it refers to
    assert newest.value("optimizer.momentum") is newest.value("nothing") is ABSENT


@pytest.mark.parametrize(
    ("condition", "fitting"),
    [
        ("optimizer.lr < 0.05", ["b", "c"]),
        ("optimizer.lr<0.05 and val/loss<0.3", ["b"]),
        ("val/loss > 0", ["b", "a"]),  # one without a value doesn't fit
        ("state == 'failed'", ["c"]),
        ("state in ['failed', 'finished'] and not (seed == 1)", ["b", "c"]),
        ("started > '2026-01-02'", ["b", "c"]),
        ("name == 'one' and test/loss / 2 > 0.2", ["a"]),
        ("scheduler == null", ["b", "c", "a"]),
        ("max(seed, 1) == 2", ["b"]),
        ("'optimizer.lr = 3' != name", ["b", "c", "a"]),  # a text is left as it is
        ("model.layers.fc.type == \"Linear\"", ["b", "c", "a"]),
    ],
)  # fmt: skip
def test_conditions(outputs, condition, fitting):
    assert names(chosen(records_in([]), where=[condition])) == fitting


def test_all_of_several_conditions_hold(outputs):
    assert names(chosen(records_in([]), where=["seed > 0", "seed < 2"])) == ["a"]


@pytest.mark.parametrize(
    ("condition", "said"),
    [
        ("optimizer.lr = 0.1", "'=' compares nothing; write '=='"),
        ("optimizer.rl < 0.1", "no run has 'optimizer.rl'; did you mean 'optimizer.lr'"),
        ("val/los < 0.1", "no run has 'val/los'; did you mean 'val/loss'"),
        ("sate == 1", "no run has 'sate'; did you mean 'state'"),
        ("name < 3", "can't be worked out|not supported"),
        ("seed <", "--where 'seed <': "),
        ("__import__('os')", "begins with an underscore|unknown function"),
        ("seed.__class__ == 1", "no run has 'seed.__class__'"),
        ("open('x')", "unknown function|only functions"),
    ],
)
def test_wrong_conditions_are_refused(outputs, condition, said):
    with pytest.raises(UsageError, match=said):
        chosen(records_in([]), where=[condition])


def test_sorting_puts_runs_without_a_value_last_in_both_directions(outputs):
    found = records_in([])
    assert names(chosen(found, sort="val/loss")) == ["b", "a", "c"]
    assert names(chosen(found, sort="val/loss", reverse=True)) == ["a", "b", "c"]
    assert names(chosen(found, sort="optimizer.lr", limit=2)) == ["b", "c"]
    assert names(chosen(found, reverse=True, limit=1)) == ["a"]
    with pytest.raises(UsageError, match="--sort 'optimizer.l': no run has 'optimizer.l'; did you mean 'optimizer.lr'"):
        chosen(found, sort="optimizer.l")


def test_damaged_runs_are_rows_too(outputs):
    (outputs / "one" / "2026-01-01_00-00-00_aaaaaaaa" / "status.json").write_text("{")
    (outputs / "one" / "2026-01-03_00-00-00_bbbbbbbb" / "config.yaml").write_text("optimizer: {lr: [")
    found = {one.path.name[-8]: one for one in records_in([])}
    assert found["a"].value("state") == "damaged"
    assert "it is damaged" in found["a"].value("reason")
    assert found["b"].value("optimizer.lr") is ABSENT
    assert found["c"].value("optimizer.lr") == 0.01


def test_usual_columns_are_what_is_monitored_and_its_test(outputs):
    assert usual_columns(records_in([])) == ["val/loss", "test/loss"]


def test_json_holds_all_facts_and_metrics_or_what_is_asked_for(outputs):
    newest, failed, _ = records_in([])
    assert as_json(newest)["metrics"] == {"val/loss": 0.2, "test/loss": 0.2 * 1.1}
    assert as_json(newest, ["optimizer.lr"]) == {"folder": str(newest.path), "optimizer.lr": 0.001}
    assert as_json(failed, ["val/loss"])["val/loss"] is None


def test_each_file_of_many_runs_is_read_once_and_only_small_ones(tmp_path, monkeypatch):
    """Thousands of folders are read in a blink as long as this holds."""
    global listening
    count = 300
    for index in range(count):
        folder = make_run(
            tmp_path, f"exp{index % 7}", f"2026-01-01_00-00-00_{index:08x}", lr=0.1 + index % 3, seed=index
        )
        (folder / "checkpoints").mkdir()
        (folder / "checkpoints" / "last.ckpt").write_bytes(b"x")
        (folder / "metrics.csv").write_text("step\n")
    parsed = []
    monkeypatch.setattr(
        record, "parse_yaml", lambda text, shown, real=record.parse_yaml: parsed.append(text) or real(text, shown)
    )
    record._parsed.cache_clear()
    opened.clear()
    listening = True
    try:
        found = chosen(records_in([str(tmp_path)]), where=["optimizer.lr < 1"], sort="val/loss")
        usual_columns(found)
    finally:
        listening = False
    assert len(found) == count / 3
    inside = [path for path in opened if path.startswith(str(tmp_path)) and path.rsplit("/", 1)[-1] != ""]
    files = [path for path in inside if path.endswith((".json", ".yaml", ".ckpt", ".csv"))]
    assert {path.rsplit("/", 1)[-1] for path in files} == {"status.json", "config.yaml"}
    assert len(files) == len(set(files)) <= 2 * count
    assert len(parsed) <= 4  # three optimisers, and a task: equal sections are read once


@pytest.mark.parametrize(("seconds", "text"), [(9.84, "9.8 s"), (185, "3 min 5 s"), (7620, "2 h 7 min"), (59.99, "1 min 0 s"), (3599.9, "1 h 0 min"), (3600, "1 h 0 min")])  # fmt: skip
def test_durations(seconds, text):
    assert lasted(seconds) == text


def test_values_are_shown_short():
    assert [shown("", value) for value in (None, ABSENT, True, 0.123456, [1, 2], "a\nb")] == [
        "",
        "",
        "true",
        "0.1235",
        "[1, 2]",
        "a b",
    ]
