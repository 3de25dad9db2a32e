"""Makes .venv what the project needs, once: used by the scripts beside it, on the standard library alone.

    python install.py [EXTRA ...]

Nothing happens when .venv is current, which a stamp in it says: a hash of pyproject.toml, constraints.txt, the folder
and the venv's Python, and the extras. The stamp is taken away before anything changes and written last, so that an
installation that was killed is done again; a lock makes a second process wait for the first.
"""

import contextlib
import fcntl
import hashlib
import pathlib
import re
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
VENV = ROOT / ".venv"
PYTHON = VENV / "bin" / "python"
STAMP = VENV / "builder-stamp"
CONSTRAINTS = ROOT / "constraints.txt"
FIRST = ("torch", "hatchling", "editables")
"""Installed before the project: torch so that nothing else picks its version, the others to build the project with."""


class Refused(Exception):
    """Told to the user in a line."""


def say(text):
    print(f"{sys.argv[0]}: {text}", file=sys.stderr, flush=True)


@contextlib.contextmanager
def alone():
    """One installation at a time. The lock is on a file that is there anyway, and a pip that outlives us keeps it."""
    with open(ROOT / "pyproject.toml") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            say("waiting for another installation into .venv")
            fcntl.flock(file, fcntl.LOCK_EX)
        yield file


def python_version():
    """Of the venv's Python; None if it is missing, doesn't start, or has no pip."""
    code = "import importlib.util as u, sys; print(sys.version); sys.exit(not u.find_spec('pip'))"
    try:
        done = subprocess.run([PYTHON, "-c", code], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout


def fingerprint(version):
    parts = (version, str(ROOT), (ROOT / "pyproject.toml").read_text(), CONSTRAINTS.read_text())
    return hashlib.sha256("\0".join(parts).encode()).hexdigest()


def is_current(version, extras):
    if version is None or not (VENV / "bin" / "builder").exists() or not STAMP.exists():
        return False
    known, *present = STAMP.read_text().split()
    return known == fingerprint(version) and set(extras) <= set(present)


def pinned(name):
    found = re.search(rf"^{re.escape(name)}==\S+", CONSTRAINTS.read_text(), re.MULTILINE)
    if found is None:
        raise Refused(f"constraints.txt names no version of {name}")
    return found[0]


def pip(lock, *requirements):
    command = [PYTHON, "-m", "pip", "install", "-qq", "--disable-pip-version-check", "--no-input", "-c", CONSTRAINTS]
    if subprocess.run([*command, *requirements], cwd=ROOT, pass_fds=[lock.fileno()]).returncode:
        raise Refused(f"pip could not install {' '.join(requirements)}; what it said is above")


def make_venv(lock):
    say(f"making .venv with Python {sys.version.split()[0]}")
    command = [sys.executable, "-m", "venv", "--clear", VENV]
    if subprocess.run(command, pass_fds=[lock.fileno()]).returncode:
        raise Refused(f"{sys.executable} could not make .venv; on Debian and Ubuntu its package python3-venv is needed")


def install(lock, extras):
    version = python_version()
    if is_current(version, extras):
        return
    STAMP.unlink(missing_ok=True)
    if version is None:
        make_venv(lock)
    say(f"installing {pinned('torch')} and the rest into .venv; the first time takes minutes")
    pip(lock, *(pinned(name) for name in FIRST))
    pip(lock, "--no-build-isolation", "-e", f".[{','.join(extras)}]" if extras else ".")
    version = python_version()
    if version is None:
        raise Refused(".venv holds no working Python after the installation")
    part = STAMP.with_suffix(".part")
    part.write_text(" ".join([fingerprint(version), *extras]) + "\n")
    part.replace(STAMP)


def main():
    try:
        with alone() as lock:
            install(lock, sys.argv[1:])
    except Refused as error:
        say(str(error))
        return 1
    except OSError as error:
        say(f"cannot write {error.filename or VENV}: {error.strerror}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
