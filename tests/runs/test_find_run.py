import time

import pytest

from builder.errors import UsageError
from builder.runs.find import find_run, runs_in
from builder.runs.folder import open_run
from command_line import run

NAMES = [
    "digits/2026-01-02_03-04-05_ab12cd34",
    "digits/2026-01-02_03-04-06_ab99ef00",
    "topics/2025-12-31_00-00-00_7700aa11",
]


@pytest.fixture
def outputs(tmp_path):
    for name in NAMES:
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "status.json").write_text("{}")
    (tmp_path / "digits" / "2026-01-02_03-04-07_half0000").mkdir()
    (tmp_path / "notes.txt").write_text("")
    (tmp_path / ".hidden").mkdir()
    return tmp_path


def test_runs_are_listed_oldest_first_and_only_runs(outputs):
    assert runs_in(outputs) == [outputs / NAMES[2], outputs / NAMES[0], outputs / NAMES[1]]


def test_no_output_dir_means_no_runs(tmp_path):
    assert runs_in(tmp_path / "outputs") == []


@pytest.mark.parametrize(
    "name",
    ["ab12cd34", "ab12", "2026-01-02_03-04-05_ab12cd34", "2026-01-02_03-04-05", "digits/2026-01-02_03-04-05_ab12cd34"],
)
def test_a_run_is_found_by_its_name_or_the_beginning_of_it(outputs, name):
    assert find_run(name, outputs) == outputs / NAMES[0]


def test_a_run_is_found_by_its_folder(outputs, monkeypatch):
    assert find_run(str(outputs / NAMES[1]), "elsewhere") == outputs / NAMES[1]


def test_a_whole_name_wins_over_the_beginning_of_another(outputs):
    other = outputs / "digits" / "2026-01-02_03-04-08_ab12cd3"
    other.mkdir()
    (other / "status.json").write_text("{}")
    assert find_run("ab12cd3", outputs) == other


def test_a_beginning_that_two_runs_share_is_refused(outputs):
    with pytest.raises(UsageError) as raised:
        find_run("ab", outputs)
    assert str(raised.value) == f"2 runs fit 'ab':\n  {outputs / NAMES[0]}\n  {outputs / NAMES[1]}"
    assert raised.value.exit_code == 2


def test_an_unknown_run_is_refused_with_the_nearest(outputs):
    with pytest.raises(UsageError) as raised:
        find_run("ab12cd35", outputs)
    assert str(raised.value) == f"no run 'ab12cd35' in {outputs}; did you mean 'ab12cd34'?"


@pytest.mark.parametrize(("name", "said"), [("", "3 runs fit '':\n  {0}/topics"), ("zzz", "no run 'zzz' in {0}")])
def test_a_name_like_none_is_refused_without_a_guess(outputs, name, said):
    with pytest.raises(UsageError) as raised:
        find_run(name, outputs)
    assert str(raised.value).startswith(said.format(outputs))
    assert "did you mean" not in str(raised.value)


def test_an_empty_output_dir_is_said(tmp_path):
    with pytest.raises(UsageError, match=r"^no run 'ab': there are no runs in .*outputs$"):
        find_run("ab", tmp_path / "outputs")


def test_a_folder_that_is_no_run_is_refused(outputs):
    with pytest.raises(UsageError, match="is not a run folder: it holds no status.json$"):
        find_run(str(outputs / "digits"), outputs)


@pytest.fixture
def sealed(tmp_path):
    """Runs of an experiment, sealed in order: finished, finished, failed; and one of another that failed."""
    runs = []
    for name, ending in (("digits", "finished"), ("digits", "finished"), ("digits", "failed"), ("topics", "failed")):
        with open_run(tmp_path, name, config_yaml="", overrides=[], environment={}) as made:
            made.seal(ending, reason=None if ending == "finished" else "no luck")
        runs.append(made.path.rename(made.path.with_name(f"2026-01-0{len(runs) + 1}_00-00-00_00000000")))
    return runs


def test_the_latest_of_an_experiment_is_its_newest_finished_run(sealed, tmp_path, monkeypatch):
    assert find_run("digits/latest", tmp_path) == sealed[1]
    assert find_run(str(tmp_path / "digits" / "latest"), "elsewhere") == sealed[1]
    monkeypatch.chdir(tmp_path.parent)
    assert find_run(f"{tmp_path.name}/digits/latest", "elsewhere").resolve() == sealed[1]


def test_the_latest_to_go_on_with_is_the_newest_in_any_state(sealed, tmp_path, monkeypatch):
    assert find_run("digits/latest", tmp_path, finished=False) == sealed[2]
    assert find_run("topics/latest", tmp_path, finished=False) == sealed[3]
    asked = []
    monkeypatch.setattr("builder.resume.resume", lambda folder, *words, **options: asked.append(folder) or 1 / 0)
    (tmp_path / "outputs").symlink_to(tmp_path)
    assert run(tmp_path, "resume", "topics/latest").code == 1
    assert [folder.parts[-2:] for folder in asked] == [sealed[3].parts[-2:]]


def test_the_latest_of_runs_that_began_in_one_second_is_the_one_that_began_last(tmp_path):
    runs = []
    for ending in "fe0a":  # names in no order of time
        with open_run(tmp_path, "digits", config_yaml="", overrides=[], environment={}) as run:
            run.seal("finished")
        runs.append(run.path.rename(run.path.with_name(f"2026-01-01_00-00-00_{ending}0000000")))
        time.sleep(0.005)
    assert find_run("digits/latest", tmp_path) == runs[-1]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("topics/latest", "no run 'topics/latest': none of the runs in {root}/topics is finished"),
        (
            "digit/latest",
            "no run 'digit/latest': nothing of that name was trained into {root} yet; did you mean 'digits/latest'?",
        ),
        ("latest", "no run 'latest': nothing of that name was trained into {root} yet"),
        ("digits/latst", "no run 'digits/latst' in {root}; did you mean 'digits/latest' or 'topics/latest'?"),
    ],
)
def test_an_experiment_without_a_finished_run_has_no_latest(sealed, tmp_path, name, said):
    with pytest.raises(UsageError) as raised:
        find_run(name, tmp_path)
    assert str(raised.value) == said.format(root=tmp_path)
