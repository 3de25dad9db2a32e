import json
import os
import platform
import subprocess
from importlib import metadata

import pytest

from builder.runs import git
from builder.runs.environment import environment, packages


def run_git(folder, *command):
    settings = (
        "-c",
        "user.name=A",
        "-c",
        "user.email=a@b.c",
        "-c",
        "commit.gpgsign=false",
        "-c",
        "init.defaultBranch=main",
    )
    return subprocess.run(["git", *settings, *command], cwd=folder, check=True, capture_output=True, text=True).stdout


@pytest.fixture
def repo(tmp_path):
    run_git(tmp_path, "init")
    (tmp_path / "a.py").write_text("x = 1\n")
    (tmp_path / ".gitignore").write_text("ignored\n")
    run_git(tmp_path, "add", ".")
    run_git(tmp_path, "commit", "-m", "first")
    return tmp_path


def test_a_clean_repository_has_a_commit_and_no_patch(repo):
    (repo / "ignored").write_text("x")
    found = git.repository(repo)
    assert found == git.Repository(run_git(repo, "rev-parse", "HEAD").strip(), "main", False, ())


def test_the_patch_turns_the_commit_into_the_tree(repo, tmp_path_factory):
    (repo / "a.py").write_text("x = 2\n")
    (repo / "new.bin").write_bytes(bytes(range(256)))
    run_git(repo, "add", "new.bin")
    found = git.repository(repo / ".")
    assert found.dirty
    clone = tmp_path_factory.mktemp("clone")
    run_git(clone, "clone", str(repo), ".")
    (clone / "git.patch").write_bytes(found.patch)
    run_git(clone, "apply", "git.patch")
    assert (clone / "a.py").read_text() == "x = 2\n"
    assert (clone / "new.bin").read_bytes() == bytes(range(256))


def test_an_untracked_file_is_named_and_not_copied(repo):
    (repo / "secrets.env").write_text("TOKEN=hunter2\n")
    (repo / "a.py").write_text("x = 2\n")
    found = git.repository(repo)
    assert found.untracked == ("secrets.env",)
    assert b"x = 2" in found.patch
    assert b"hunter2" not in found.patch
    assert found.facts()["untracked"] == ["secrets.env"]


def test_only_untracked_files_leave_the_tree_clean(repo):
    (repo / "notes.txt").write_text("")
    found = git.repository(repo)
    assert (found.dirty, found.patch, found.untracked) == (False, None, ("notes.txt",))


def test_a_patch_over_the_limit_is_left_out_whole_and_said(repo):
    (repo / "a.py").write_text("x" * 5000)
    found = git.repository(repo, patch_limit=1000)
    assert found.patch is None
    assert found.facts()["patch_left_out"] == "larger than 1000 bytes"


def test_a_folder_below_the_top_gives_the_whole_patch(repo):
    (repo / "a.py").write_text("x = 2\n")
    (repo / "sub").mkdir()
    assert b"a.py" in git.repository(repo / "sub").patch


def test_a_repository_without_commit_has_none(tmp_path):
    run_git(tmp_path, "init")
    (tmp_path / "a").write_text("")
    run_git(tmp_path, "add", "a")
    found = git.repository(tmp_path)
    assert (found.commit, found.dirty, found.patch) == (None, True, None)


def test_a_folder_outside_a_repository_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert git.repository(tmp_path) is None
    assert git.commit_of(tmp_path) is None


def test_a_machine_without_git_has_none(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git.repository() is None


def test_a_program_named_by_the_repository_is_not_run(repo):
    for key in ("diff.external", "core.fsmonitor"):
        run_git(repo, "config", key, f"touch {repo}/ran; true")
    (repo / "a.py").write_text("x = 2\n")
    assert b"x = 2" in git.repository(repo).patch
    assert not (repo / "ran").exists()


def test_the_environment_says_what_the_run_ran_on(repo):
    found = environment({"torch": {"version": "2"}}, repository=git.repository(repo), command=["builder", "train"])
    assert found["python"] == {"version": platform.python_version(), "implementation": "CPython"}
    assert found["cpu"]["count"] == os.cpu_count()
    assert 1 <= found["cpu"]["usable"] <= found["cpu"]["count"]
    assert found["memory_bytes"] > 2**28
    assert found["git"]["branch"] == "main"
    assert (found["command"], found["torch"]) == (["builder", "train"], {"version": "2"})
    assert json.loads(json.dumps(found)) == found


def test_without_a_repository_git_is_null():
    assert environment()["git"] is None


def test_facts_are_not_given_twice():
    with pytest.raises(AssertionError, match="facts given twice: \\['python'\\]"):
        environment({"python": "3"})


def test_packages_are_those_that_a_distribution_requires():
    found = packages("hydra-core")
    assert found["omegaconf"] == metadata.version("omegaconf")
    assert found["hydra-core"] == metadata.version("hydra-core")
    assert "torch" not in found


def test_packages_of_what_is_not_installed_are_none():
    assert packages("no-such-distribution") == {}
