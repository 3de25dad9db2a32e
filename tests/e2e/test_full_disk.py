"""A disk that is full after so many bytes: what was written before stays whole, and there the run goes on later."""

import os
import subprocess

import pytest

from builder.runs.status import read
from builder.training import positions
from command_line import SMALL, run

WORDS = (*SMALL[:-1], "data.batch_size=256", "trainer.max_epochs=2", "callbacks.resume.every_n_steps=2", "report=false")
BACKGROUND = "callbacks.resume.background=true"


@pytest.fixture
def disk(tmp_path):
    """A file system of its own, of 4 MB in memory."""
    folder = tmp_path / "disk"
    folder.mkdir()
    made = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", folder], capture_output=True, text=True)
    if made.returncode:
        pytest.skip(f"no file system can be mounted here: {made.stderr.strip()}")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(disk, left):
    """Leave so many bytes on a disk."""
    free = os.statvfs(disk)
    with open(disk / "ballast", "wb") as file:
        file.write(bytes(free.f_bavail * free.f_frsize - left))


def log(folder):
    return (folder / "metrics.jsonl").read_bytes()


def goes_on(disk, whole, left, *words):
    """Train with so much space, and once there is more go on; whether the disk became full."""
    fill(disk, left)
    folder = disk / f"left_{left}"
    folder.mkdir()
    ran = run(folder, "train", "--quiet", *WORDS, *words)
    (disk / "ballast").unlink()
    if ran.code == 0:
        return False
    assert ran.code == 1 and "No space left on device" in ran.err and "internal error" not in ran.err, ran.err
    found = [path.parent for path in folder.rglob("status.json")]
    if found:
        (folder,) = found
        assert read(folder).state in ("failed", "running"), "the disk may have no room for how it ended"
        assert all(map(positions.is_intact, positions.in_folder(folder / "checkpoints/resume")))
        ran = run(folder.parent, "resume", str(folder))
        assert ran.code == 0, ran.err
        assert log(folder) == log(whole)
    return True


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    ran = run(tmp_path_factory.mktemp("whole"), "train", "--quiet", *WORDS)
    assert ran.code == 0, ran.err
    return ran.run


@pytest.mark.parametrize(
    ("left", "words"), [(160 << 10, ()), (200 << 10, (BACKGROUND,))], ids=["at once", "background"]
)
def test_a_run_on_a_full_disk_fails_and_goes_on_once_there_is_space(disk, whole, left, words):
    assert goes_on(disk, whole, left, *words)


@pytest.mark.slow
@pytest.mark.parametrize("words", [(), (BACKGROUND,)], ids=["at once", "background"])
def test_wherever_the_disk_becomes_full_the_run_goes_on(disk, whole, words):
    full = [goes_on(disk, whole, left << 10, *words) for left in range(8, 600, 24)]
    assert sum(full) > 8 and not full[-1], "with the most space it was never full"
