import importlib.metadata
import json
import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

from command_line import SMALL, run

ROOT = pathlib.Path(__file__).parent.parent


def tree(folder, pattern):
    return {path.relative_to(folder).as_posix() for path in folder.rglob(pattern)}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "hatchling", "build", "-t", "wheel", "-d", folder]
    subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
    return next(folder.glob("*.whl"))


def test_the_wheel_holds_the_package_and_the_configs_and_nothing_else(wheel):
    names = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}
    modules = {f"builder/{name}" for name in tree(ROOT / "builder", "*.py")}
    configs = {f"builder/configs/{name}" for name in tree(ROOT / "configs", "*.yaml")}
    assert "builder/configs/train.yaml" in configs
    assert {name for name in names if name.endswith((".py", ".yaml"))} == modules | configs


@pytest.fixture(scope="module")
def site(wheel, tmp_path_factory):
    """The wheel unpacked, as an installation does it; what it needs is what the tests run with."""
    folder = tmp_path_factory.mktemp("site")
    zipfile.ZipFile(wheel).extractall(folder)
    return folder


def elsewhere(site, folder, *words):
    """Run the installed console script's function in `folder`, with no checkout in sight."""
    code = (
        "import sys, builder; from builder.cli.main import main; "
        f"assert builder.__file__.startswith({str(site)!r}), builder.__file__; "
        f"sys.path = [path for path in sys.path if path not in ({str(ROOT)!r}, '')]; sys.exit(main(sys.argv[1:]))"
    )
    return subprocess.run(
        [sys.executable, "-c", code, *words],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1", "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=200,
    )


def test_the_wheel_installs_the_command(site):
    (entry,) = importlib.metadata.Distribution.at(next(site.glob("*.dist-info"))).entry_points
    assert (entry.group, entry.name, entry.value) == ("console_scripts", "builder", "builder.cli.main:main")


def test_the_installed_package_finds_its_configs_from_an_empty_folder(site, tmp_path):
    done = elsewhere(site, tmp_path, "show", "config", "--origins")
    assert (done.returncode, done.stderr) == (0, "")
    assert "configs/train.yaml:" in done.stdout
    assert str(ROOT) not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_configs_folder_in_the_current_directory_comes_first(site, tmp_path):
    (tmp_path / "configs/data").mkdir(parents=True)
    (tmp_path / "configs/data/digits.yaml").write_text("type: SklearnDataset\nname: digits\nbatch_size: 7\n")
    (tmp_path / "configs/model").mkdir()
    (tmp_path / "configs/model/own.yaml").write_text("layers: [Flatten, {type: Linear, out_features: 10}]\n")
    done = elsewhere(site, tmp_path, "show", "config", "--json", "model=own")
    assert (done.returncode, done.stderr) == (0, "note: taken, since it suits the data: task=classification\n")
    config = json.loads(done.stdout)
    assert config["data"] == {"type": "SklearnDataset", "name": "digits", "batch_size": 7}
    assert config["optimizer"]["type"] == "AdamW", "the other groups are still the shipped ones"


def test_the_installed_package_trains_from_an_empty_folder_to_the_same_bits(site, tmp_path):
    empty, here = tmp_path / "empty", tmp_path / "here"
    for folder in (empty, here):
        folder.mkdir()
    done = elsewhere(site, empty, "train", *SMALL, "trainer.max_epochs=1")
    assert (done.returncode, done.stderr.count("rror")) == (0, 0), done.stderr
    assert [path.name for path in empty.iterdir()] == ["outputs"]
    theirs = empty / done.stdout.splitlines()[-1]
    ours = run(here, "train", *SMALL, "trainer.max_epochs=1")
    for name in ("metrics.csv", "model.yaml", "config.yaml"):
        assert (theirs / name).read_bytes() == (ours.run / name).read_bytes(), name
    environment = json.loads((theirs / "environment.json").read_text())
    assert environment["packages"]["builder"] and environment["packages"]["torch"] and environment["git"] is None
