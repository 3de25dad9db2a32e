import contextlib
import itertools
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time
import tomllib
from importlib import metadata

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = pathlib.Path(__file__).parent.parent
FAKE_PYTHON = """#!/bin/bash
home=$(cd "$(dirname "$0")/../.." && pwd)
case "$1 $2" in
  "-c "*) echo 3.11.0 ;;
  "-m pip")
    echo "begin" >> "$home/log"
    [ ! -e "$home/slow" ] || sleep "$(cat "$home/slow")"
    while [ -e "$home/hold" ]; do sleep 0.05; done
    echo "pip ${*:3}" >> "$home/log"
    [ ! -e "$home/pip-fails" ] || exit 1 ;;
  *) printf '<%s>' "$@"; echo " in $PWD" ;;
esac
"""
FAKE_BUILDER = """#!/bin/bash
printf '<%s>' "$@"; echo " in $PWD"
"""
FIRST = "pip install -qq --disable-pip-version-check --no-input -c {0}/constraints.txt torch==2.13.0 hatchling==1.2 editables==0.5"
SECOND = "pip install -qq --disable-pip-version-check --no-input -c {0}/constraints.txt --no-build-isolation -e ."


@pytest.fixture
def project(tmp_path):
    """A checkout in a folder with a space, whose .venv holds stand-ins that write down how they are called."""
    home = tmp_path / "my project"
    shutil.copytree(ROOT / "scripts", home / "scripts", ignore=shutil.ignore_patterns("__pycache__"))
    (home / "pyproject.toml").write_text("[project]\n")
    (home / "constraints.txt").write_text("torch==2.13.0\nhatchling==1.2\neditables==0.5\n")
    (home / ".venv" / "bin").mkdir(parents=True)
    for name, text in (("python", FAKE_PYTHON), ("builder", FAKE_BUILDER)):
        path = home / ".venv" / "bin" / name
        path.write_text(text)
        path.chmod(0o755)
    return home


def started(project, script, *args, cwd=None, **variables):
    environment = {**os.environ, "PYTHON": sys.executable, **variables}
    return subprocess.Popen(
        [project / "scripts" / script, *args],
        cwd=cwd or project,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


def run(project, script, *args, **how):
    process = started(project, script, *args, **how)
    out, err = process.communicate(timeout=60)
    return process.returncode, out, err


def children(parent):
    found = []
    for path in pathlib.Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it has ended meanwhile
            stat = path.read_text()
            if int(stat[stat.rindex(")") + 2 :].split()[1]) == parent:
                found.append(int(path.parent.name))
    return found


def pip_calls(project):
    log = project / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    log.unlink(missing_ok=True)
    return [line for line in lines if line.startswith("pip")]


def test_train_installs_torch_first_then_the_project_then_hands_over(project):
    code, out, err = run(project, "train", "trainer.max_epochs=2", "name=two words", "x='$HOME'")
    assert (code, out) == (0, f"<train><trainer.max_epochs=2><name=two words><x='$HOME'> in {project}\n")
    assert err == (
        "scripts/install.py: installing torch==2.13.0 and the rest into .venv; the first time takes minutes\n"
    )
    assert pip_calls(project) == [FIRST.format(project), SECOND.format(project)]


def test_a_current_venv_is_left_alone(project):
    run(project, "train")
    pip_calls(project)
    assert run(project, "train") == (0, f"<train> in {project}\n", "")
    assert pip_calls(project) == []


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt"])
def test_a_changed_requirement_installs_again(project, name):
    run(project, "train")
    pip_calls(project)
    with open(project / name, "a") as file:
        file.write("# changed\n")
    run(project, "train")
    assert len(pip_calls(project)) == 2


def test_a_moved_checkout_installs_again(project):
    run(project, "train")
    moved = project.rename(project.with_name("moved"))
    pip_calls(moved)
    run(moved, "train")
    assert len(pip_calls(moved)) == 2


def test_test_adds_its_extras_and_train_keeps_them(project):
    run(project, "train")
    pip_calls(project)
    code, out, _ = run(project, "test", "-k", "forward or back")
    assert (code, out) == (0, f"<-m><pytest><-k><forward or back> in {project}\n")
    assert pip_calls(project)[1] == SECOND.format(project) + "[test,dev]"
    run(project, "train")
    assert pip_calls(project) == []


def test_the_whole_suite_runs_in_two_processes(project):
    assert run(project, "test")[1] == f"<-m><pytest><-n><2> in {project}\n"


def test_another_folder_is_said_and_left(project, tmp_path):
    code, out, err = run(project, "train", cwd=tmp_path)
    assert (code, out) == (0, f"<train> in {project}\n")
    assert err.splitlines()[0] == f"scripts/train: working in {project}"


def test_a_failed_installation_is_told_and_done_again(project):
    (project / "pip-fails").touch()
    code, out, err = run(project, "train")
    assert (code, out) == (1, "")
    assert err.splitlines()[-1] == (
        "scripts/install.py: pip could not install torch==2.13.0 hatchling==1.2 editables==0.5; what it said is above"
    )
    (project / "pip-fails").unlink()
    pip_calls(project)
    assert run(project, "train")[0] == 0
    assert len(pip_calls(project)) == 2


def test_a_killed_installation_is_done_again(project):
    run(project, "train")
    with open(project / "pyproject.toml", "a") as file:
        file.write("# changed\n")
    pip_calls(project)
    (project / "slow").write_text("60")
    process = started(project, "train")
    while not (project / "log").exists():
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    (project / "slow").unlink()
    with open(project / "pyproject.toml", "w") as file:
        file.write("[project]\n")  # as it was when the installation was last whole
    pip_calls(project)
    assert run(project, "train")[0] == 0
    assert len(pip_calls(project)) == 2


def test_two_at_once_install_once(project):
    (project / "slow").write_text("0.5")
    first, second = started(project, "train", "a=1"), started(project, "train", "b=1")
    outputs = [process.communicate(timeout=60) for process in (first, second)]
    assert [process.returncode for process in (first, second)] == [0, 0]
    assert [out for out, _ in outputs] == [f"<train><a=1> in {project}\n", f"<train><b=1> in {project}\n"]
    assert len(pip_calls(project)) == 2
    assert "scripts/install.py: waiting for another installation into .venv\n" in {err for _, err in outputs}


def test_a_pip_that_outlives_its_script_keeps_others_out(project):
    (project / "hold").touch()
    first = started(project, "train")
    while not (project / "log").exists():
        time.sleep(0.02)
    for pid in [*children(first.pid), first.pid]:  # the scripts, not the pip that they began
        os.kill(pid, signal.SIGKILL)
    second = started(project, "train")
    assert second.stderr.readline() == "scripts/install.py: waiting for another installation into .venv\n"
    assert second.poll() is None
    (project / "hold").unlink()
    first.communicate()
    _, err = second.communicate(timeout=60)
    assert second.returncode == 0, err
    assert len(pip_calls(project)) == 3


def test_without_a_python_that_fits_it_says_so(project, tmp_path):
    tools = tmp_path / "tools"
    tools.mkdir()
    for name in ("bash", "env", "dirname", "basename"):
        (tools / name).symlink_to(shutil.which(name))
    old = tools / "python3"
    old.write_text("#!/bin/bash\nexit 1\n")
    old.chmod(0o755)
    code, out, err = run(project, "train", PYTHON="", PATH=str(tools))
    assert (code, out) == (1, "")
    assert err == (
        "scripts/train: no Python from 3.11 to 3.14 found on the path; "
        "install one, or name it: PYTHON=/path/to/python scripts/train\n"
    )
    (tools / "python3").unlink()
    (tools / "python3.12").symlink_to(sys.executable)
    assert run(project, "train", PYTHON="", PATH=str(tools) + ":/usr/bin:/bin")[0] == 0


def test_a_named_python_that_does_not_fit_is_refused(project):
    code, _, err = run(project, "train", PYTHON="/no/such/python")
    assert (code, err) == (1, "scripts/train: $PYTHON (/no/such/python) is not a Python from 3.11 to 3.14\n")


def test_a_missing_or_broken_venv_is_made_anew(project):
    shutil.rmtree(project / ".venv" / "bin")
    code, _, err = run(project, "train", PIP_NO_INDEX="1", PIP_FIND_LINKS="")
    lines = err.splitlines()
    assert code == 1
    assert lines[0] == f"scripts/install.py: making .venv with Python {sys.version.split()[0]}"
    assert lines[-1].startswith("scripts/install.py: pip could not install torch==2.13.0 ")
    assert (project / ".venv" / "bin" / "pip").exists()
    assert not (project / ".venv" / "builder-stamp").exists()


def test_the_scripts_can_be_run_and_name_no_package_index():
    for name in ("scripts/train", "scripts/test", ".ci/run"):
        assert os.access(ROOT / name, os.X_OK), name
        assert subprocess.run(["bash", "-n", ROOT / name]).returncode == 0
    for path in [*(ROOT / "scripts").rglob("*"), ROOT / "constraints.txt", ROOT / ".ci" / "run"]:
        if path.is_file() and "__pycache__" not in path.parts:
            assert not {word for word in ("index-url", "://", "find-links") if word in path.read_text()}, path


def test_every_package_that_the_project_brings_is_pinned():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().splitlines() if "==" in line)
    pins = {canonicalize_name(name): version for name, version in pins.items()}
    todo = [*project["project"]["dependencies"], *project["build-system"]["requires"]]
    todo += itertools.chain(*project["project"]["optional-dependencies"].values())
    seen = {"setuptools"}  # torch wants any; a virtual environment brings its own
    for requirement in map(Requirement, todo):  # grows while it is read
        name = canonicalize_name(requirement.name)
        assert name in pins or name in seen, requirement
        assert name in seen or requirement.specifier.contains(pins[name]), f"{requirement}, pinned {pins[name]}"
        if name not in seen:
            seen.add(name)
            with contextlib.suppress(metadata.PackageNotFoundError):
                needed = map(Requirement, metadata.requires(name) or [])
                todo += [str(one) for one in needed if one.marker is None or one.marker.evaluate({"extra": ""})]
