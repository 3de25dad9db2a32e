"""`builder new` writes a project that trains, passes its tests, and has configs that its schema takes."""

import json
import os
import subprocess
import sys

import jsonschema
import pytest

from builder.config.yaml_file import read_yaml
from builder.starter.write import FILES
from command_line import ROOT, run

QUICK = ("trainer=cpu", "trainer.max_epochs=1", "data.batch_size=256", "model.args.width=8")


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    folder = tmp_path_factory.mktemp("place")
    ran = run(folder, "new", "my_project")
    assert (ran.code, ran.err) == (0, "")
    listed = ran.out.split("\n\n")[0].splitlines()
    there = {str(path.relative_to(folder)) for path in (folder / "my_project").rglob("*") if path.is_file()}
    assert set(listed) == {path for path in there if "__pycache__" not in path}
    assert ran.out.endswith("\ncd my_project\nbuilder train experiment=first\n")
    return folder / "my_project"


def test_it_trains_at_once(project):
    ran = run(project, "train", "--quiet", "experiment=first", *QUICK)
    assert (ran.code, ran.err) == (0, "")
    assert json.loads((ran.run / "status.json").read_text())["state"] == "finished"


def test_it_passes_its_tests_at_once(project):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    words = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"]
    done = subprocess.run(words, cwd=project, env=environment, capture_output=True, text=True, timeout=250)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "4 passed" in done.stdout


def test_its_schema_knows_its_layer_and_takes_its_configs(project):
    whole = json.loads((project / "configs/schema.json").read_text())
    assert set(whole["$defs"]["layer.Gate"]["properties"]) >= {"features", "start"}
    for path in (project / "configs").rglob("*.yaml"):
        part = {"$ref": f"#/$defs/file.{path.parent.name}", "$defs": whole["$defs"]}
        jsonschema.Draft202012Validator(part).validate(read_yaml(path).value)
        assert (path.parent / "schema.json").is_file()


@pytest.mark.parametrize(
    ("name", "why"),
    [("2fast", "can't be the name of a project"), ("a b", "letters, digits"), ("torch", "a module is called so"),
     ("full", "full isn't empty: it holds kept.txt"), ("file", "file is a file")],
)  # fmt: skip
def test_a_bad_name_and_a_folder_in_use_are_refused_and_left_alone(name, why, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full/kept.txt").write_text("mine")
    (tmp_path / "file").write_text("mine")
    before = sorted(tmp_path.rglob("*"))
    ran = run(tmp_path, "new", name)
    assert ran.code == 2 and why in ran.err
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_may_be_there(tmp_path):
    (tmp_path / "fine").mkdir()
    assert run(tmp_path, "new", "fine").code == 0


def test_every_file_is_written_as_it_lies_here_but_for_its_name(project):
    for source in FILES.rglob("*.txt"):
        made = (project / str(source.relative_to(FILES)).removesuffix(".txt")).read_text()
        assert made == source.read_text().replace("{{name}}", "my_project")
        assert "{{" not in made
