"""The code a run was started from: commit, branch, and what differs from it. None wherever git can't tell."""

from __future__ import annotations

import os
import pathlib
import subprocess
import tempfile
from dataclasses import dataclass
from typing import Any

PATCH_LIMIT = 10 * 2**20
"""Bytes above which a patch is left out, whole: a part of a patch is of no use."""
_NAMES = 100
_SECONDS = 20.0


@dataclass(frozen=True, slots=True)
class Repository:
    """State of the repository that a folder lies in.

    `patch` turns `commit` into the working tree (`git apply`), for tracked files only; it is None when nothing differs
    or when it is over the limit. Untracked files are named, never copied: what nobody gave to git may hold secrets.
    """

    commit: str | None
    branch: str | None
    dirty: bool
    untracked: tuple[str, ...]
    patch: bytes | None = None
    patch_left_out: str | None = None

    def facts(self) -> dict[str, Any]:
        """All but the patch, for environment.json."""
        facts: dict[str, Any] = {"commit": self.commit, "branch": self.branch, "dirty": self.dirty}
        if self.untracked:
            facts["untracked"] = list(self.untracked[:_NAMES])
            facts["untracked_count"] = len(self.untracked)
        if self.patch_left_out is not None:
            facts["patch_left_out"] = self.patch_left_out
        return facts


def repository(folder: pathlib.Path | None = None, patch_limit: int = PATCH_LIMIT) -> Repository | None:
    """The state of the repository around `folder` (the current one); None without git or outside a repository."""
    top = _text(folder, "rev-parse", "--show-toplevel")
    if not top:
        return None
    root = pathlib.Path(top)
    commit = commit_of(root)
    changed, untracked = _changes(root)
    patch, left_out = patch_of(root, patch_limit) if commit and changed else (None, None)
    return Repository(commit, _text(root, "symbolic-ref", "--short", "HEAD"), changed, untracked, patch, left_out)


def commit_of(folder: pathlib.Path | None = None) -> str | None:
    """The commit checked out in `folder`; None without git, outside a repository or before the first commit."""
    return _text(folder, "rev-parse", "--verify", "--quiet", "HEAD") or None


def patch_of(folder: pathlib.Path, limit: int = PATCH_LIMIT) -> tuple[bytes | None, str | None]:
    """What the tracked files differ by from the commit, staged or not, or why that was left out.

    Returns:
        `(patch, None)`, `(None, reason)`, or `(None, None)` when nothing differs.
    """
    patch = _git(folder, "diff", "HEAD", "--binary", "--no-color", "--no-ext-diff", "--no-textconv", limit=limit + 1)
    if patch is None:
        return None, "git diff failed"
    if len(patch) > limit:
        return None, f"larger than {limit} bytes"
    return patch or None, None


def _changes(root: pathlib.Path) -> tuple[bool, tuple[str, ...]]:
    """Whether tracked files differ from the commit, and the names of those that git doesn't know and doesn't ignore."""
    output = _git(root, "status", "--porcelain", "-z", "--untracked-files=normal", "--no-renames") or b""
    entries = [entry for entry in output.decode(errors="replace").split("\0") if entry]
    untracked = tuple(entry[3:] for entry in entries if entry.startswith("?? "))
    return len(untracked) < len(entries), untracked


def _text(folder: pathlib.Path | None, *command: str) -> str | None:
    output = _git(folder, *command)
    return None if output is None else output.decode(errors="replace").strip()


def _git(folder: pathlib.Path | None, *command: str, limit: int = PATCH_LIMIT) -> bytes | None:
    """At most `limit` bytes of what git prints; None if there is no git, or it fails or hangs.

    Hooks that a repository may name (fsmonitor) are not run, and its index is not touched.
    """
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}
    with tempfile.TemporaryFile() as output:
        try:
            done = subprocess.run(
                ["git", "-c", "core.fsmonitor=false", *command],
                cwd=folder,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.DEVNULL,
                timeout=_SECONDS,
                check=False,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        output.seek(0)
        return output.read(limit) if done.returncode == 0 else None
