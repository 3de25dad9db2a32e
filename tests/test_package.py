import os
import pathlib
import subprocess
import sys
import zipfile

import pytest

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


def test_the_installed_package_finds_its_configs_from_an_empty_folder(wheel, tmp_path):
    site, empty = tmp_path / "site", tmp_path / "empty"
    empty.mkdir()
    zipfile.ZipFile(wheel).extractall(site)
    done = subprocess.run(
        [sys.executable, "-m", "builder", "show", "config", "--origins"],
        cwd=empty,
        env={**os.environ, "PYTHONPATH": str(site), "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert "configs/train.yaml:" in done.stdout
    assert str(ROOT) not in done.stdout
    assert list(empty.iterdir()) == []
