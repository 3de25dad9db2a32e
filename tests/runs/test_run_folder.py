import datetime
import errno
import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import textwrap

import pytest

from builder import durable
from builder.errors import ConfigError, RunError
from builder.runs import folder
from builder.runs.environment import environment
from builder.runs.folder import Run, open_run
from builder.runs.status import reached, status

WHAT = {"config_yaml": "seed: 1\n", "overrides": ["seed=1", "model=mlp"], "environment": {"host": "here"}}


def opened(output_dir, name="digits", **changes):
    return open_run(output_dir, name, **{**WHAT, **changes})


def in_another_process(code, *args):
    """Start Python on `code` and wait for the line that it prints when it is where the test wants it."""
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(code), *map(str, args)], stdout=subprocess.PIPE, text=True
    )
    return process, process.stdout.readline().strip()


HOLD = """
    import sys, time
    from builder.runs.folder import open_run
    run = open_run(sys.argv[1], "digits", config_yaml="", overrides=[], environment={})
    print(run.path, flush=True)
    time.sleep(60)
"""


def failing(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_an_opened_run_holds_what_says_what_it_is(tmp_path):
    run = opened(tmp_path / "outputs", patch=b"diff\n")
    assert re.fullmatch(r"\d{4}-\d\d-\d\d_\d\d-\d\d-\d\d_[0-9a-f]{8}", run.path.name)
    assert run.path.parent == tmp_path / "outputs" / "digits"
    files = {path.name: path.read_text() for path in run.path.iterdir() if path.name not in (".lock", "status.json")}
    assert files == {
        "config.yaml": "seed: 1\n",
        "overrides.txt": "seed=1\nmodel=mlp\n",
        "environment.json": '{\n  "host": "here"\n}\n',
        "git.patch": "diff\n",
    }
    run.seal("failed")


def test_a_clean_tree_leaves_no_patch(tmp_path):
    with opened(tmp_path) as run:
        assert not (run.path / "git.patch").exists()
        run.seal("finished")


def test_an_open_run_says_that_it_is_running_where_and_since_when(tmp_path):
    run = opened(tmp_path, command=["builder", "train"])
    written = json.loads((run.path / "status.json").read_text())
    started = datetime.datetime.fromisoformat(written["started"])
    assert (written["state"], written["pid"], written["command"]) == ("running", os.getpid(), ["builder", "train"])
    assert started.utcoffset() == datetime.timedelta(0)
    assert abs((datetime.datetime.now(datetime.UTC) - started).total_seconds()) < 60
    assert status(run.path).state == "running"
    run.seal("failed")


def test_a_sealed_run_keeps_its_end_and_its_result(tmp_path):
    run = opened(tmp_path)
    run.seal("finished", epoch=2, step=30, metrics={"test/accuracy": 0.98, "test/loss": float("nan")}, seconds=1.5)
    read = status(run.path)
    assert (read.state, read.epoch, read.step, read.seconds, read.reason) == ("finished", 2, 30, 1.5, None)
    assert read.metrics == {"test/accuracy": 0.98, "test/loss": "nan"}
    assert read.ended >= read.started


def test_a_run_is_sealed_once(tmp_path):
    run = opened(tmp_path)
    run.seal("interrupted", reason="because")
    with pytest.raises(AssertionError, match="sealed already, as interrupted"):
        run.seal("finished")
    assert status(run.path).state == "interrupted"


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (KeyboardInterrupt(), "interrupted", "interrupted (Ctrl-C)"),
        (SystemExit(130), "interrupted", "interrupted (Ctrl-C)"),
        (SystemExit(143), "interrupted", "terminated"),
        (SystemExit(3), "failed", "SystemExit: 3"),
        (ValueError("bad shape\nsecond line"), "failed", "ValueError: bad shape"),
        (RunError("no room"), "failed", "no room"),
        (ZeroDivisionError(), "failed", "ZeroDivisionError"),
        (ValueError("x" * 2000), "failed", "ValueError: " + "x" * 487 + "…"),
    ],
)
def test_an_exception_seals_the_run_and_goes_on(tmp_path, error, state, reason):
    with pytest.raises(type(error)) as raised, opened(tmp_path) as run:
        raise error
    assert raised.value is error
    assert (status(run.path).state, status(run.path).reason) == (state, reason)


def test_the_place_that_was_reached_is_sealed_however_the_run_ends(tmp_path):
    with pytest.raises(KeyboardInterrupt), opened(tmp_path) as run:
        run.reach(1, 20)
        run.reach(2, 30)
        raise KeyboardInterrupt
    assert (status(run.path).epoch, status(run.path).step) == (2, 30)


def test_a_block_that_just_ends_is_not_a_finished_run(tmp_path):
    with opened(tmp_path) as run:
        pass
    assert (status(run.path).state, status(run.path).reason) == ("failed", "it ended without a result")


def test_a_sealed_run_stays_as_sealed_when_an_exception_follows(tmp_path):
    with pytest.raises(ValueError, match="after"), opened(tmp_path) as run:
        run.seal("finished", step=5)
        raise ValueError("after")
    assert (status(run.path).state, status(run.path).step) == ("finished", 5)


def test_runs_of_one_second_have_folders_of_their_own(tmp_path):
    runs = [opened(tmp_path) for _ in range(20)]
    assert len({run.path for run in runs}) == 20
    for run in runs:
        run.seal("failed")


def test_a_name_that_is_taken_is_tried_no_second_time(tmp_path, monkeypatch):
    class Stopped(datetime.datetime):
        @classmethod
        def now(cls, tz=None):
            return cls(2026, 1, 2, 3, 4, 5, tzinfo=tz)

    monkeypatch.setattr(folder, "datetime", Stopped)
    monkeypatch.setattr(folder.time, "time_ns", lambda: 7)
    first, second = opened(tmp_path), opened(tmp_path)
    assert first.path != second.path
    assert {run.path.name[:20] for run in (first, second)} == {"2026-01-02_03-04-05_"}
    first.seal("failed")
    second.seal("failed")


def test_a_killed_run_is_told_from_a_running_one(tmp_path):
    process, path = in_another_process(HOLD, tmp_path)
    assert status(path).state == "running"
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert json.loads((pathlib.Path(path) / "status.json").read_text())["state"] == "running"
    assert (status(path).state, status(path).reason) == ("killed", "its process ended without sealing it")


def test_a_killed_run_is_recognised_before_its_parent_has_collected_it(tmp_path):
    process, path = in_another_process(HOLD, tmp_path)
    process.send_signal(signal.SIGKILL)
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert status(path).state == "killed"
    process.wait()
    process.stdout.close()


@pytest.mark.skipif(not pathlib.Path("/proc/self/stat").exists(), reason="needs /proc")
@pytest.mark.parametrize("change", [{"ticks": 1}, {"boot": "an earlier one"}])
def test_a_process_number_used_again_is_not_taken_for_the_run(tmp_path, change):
    run = opened(tmp_path)
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **change}))
    assert status(run.path).state == "killed"
    run.seal("failed")


def test_a_run_of_another_machine_is_believed(tmp_path):
    run = opened(tmp_path)
    path = run.path / "status.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "host": "elsewhere", "pid": 2**22 + 1}))
    assert status(run.path).state == "running"
    run.seal("failed")


TRY = """
    import pathlib, sys
    from builder.errors import RunError
    from builder.runs.lock import Lock
    try:
        Lock(pathlib.Path(sys.argv[1]))
        print("free")
    except RunError as error:
        print(error)
"""


def asked(path):
    process, answer = in_another_process(TRY, path)
    process.communicate()
    return answer


def test_a_second_process_is_refused_until_the_run_is_sealed(tmp_path):
    run = opened(tmp_path)
    assert status(run.path).state == "running"  # looking at a run must not drop the lock
    assert asked(run.path) == f"{run.path} is in use by another process"
    run.seal("finished")
    assert asked(run.path) == "free"


def test_the_lock_is_free_at_once_after_a_kill(tmp_path):
    process, path = in_another_process(HOLD, tmp_path)
    assert asked(path).endswith("is in use by another process")
    process.send_signal(signal.SIGKILL)
    process.wait()
    process.stdout.close()
    assert asked(path) == "free"


def test_an_orphaned_child_does_not_keep_the_lock(tmp_path):
    code = """
        import os, sys, time
        from builder.runs.folder import open_run
        run = open_run(sys.argv[1], "digits", config_yaml="", overrides=[], environment={})
        child = os.fork()
        if child:
            print(run.path, child, flush=True)
        time.sleep(60)
    """
    process, answer = in_another_process(code, tmp_path)
    path, child = answer.rsplit(" ", 1)
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        assert asked(path) == "free"
    finally:
        os.kill(int(child), signal.SIGKILL)
        process.stdout.close()


def test_the_same_process_is_refused_too(tmp_path):
    run = opened(tmp_path)
    with pytest.raises(RunError, match="is in use by this process"):
        Run(run.path, [])
    assert asked(run.path).endswith("is in use by another process")
    run.seal("failed")


def test_an_output_dir_that_is_a_file_is_told(tmp_path):
    (tmp_path / "outputs").write_text("")
    with pytest.raises(RunError) as raised:
        opened(tmp_path / "outputs")
    assert str(raised.value) == f"cannot open a run in {tmp_path}/outputs/digits: Not a directory"
    assert raised.value.exit_code == 1


@pytest.mark.skipif(not pathlib.Path("/proc/self").exists(), reason="needs a folder that no one may write to")
def test_an_output_dir_that_cannot_be_written_is_told():
    with pytest.raises(RunError, match="^cannot open a run in /proc/outputs/digits: "):
        opened("/proc/outputs")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_disk_that_fails_while_opening_leaves_no_run(tmp_path, monkeypatch, call):
    (tmp_path / "digits").mkdir()
    monkeypatch.setattr(folder.durable, "sync_folder", lambda path: None)
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(RunError, match="cannot write .*status.json: No space left on device"):
        opened(tmp_path)
    monkeypatch.undo()
    assert list((tmp_path / "digits").iterdir()) == []


def test_a_disk_that_fails_later_while_opening_frees_the_lock(tmp_path, monkeypatch):
    real, locked = durable.write_bytes, []

    def write(path, data):
        if path.name == "environment.json":
            locked.append(path.parent)
            failing()
        real(path, data)

    monkeypatch.setattr(durable, "write_bytes", write)
    with pytest.raises(OSError, match="No space"):
        opened(tmp_path)
    assert not locked[0].exists()
    locked[0].mkdir()
    assert asked(locked[0]) == "free"


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_failed_write_leaves_the_old_file_whole_and_nothing_beside_it(tmp_path, monkeypatch, call):
    path = tmp_path / "model.py"
    durable.write_text(path, "old")
    monkeypatch.setattr(os, call, failing)
    with pytest.raises(RunError) as raised:
        durable.write_text(path, "new")
    assert str(raised.value) == f"cannot write {path}: No space left on device"
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_synced_before_it_has_its_name_and_its_folder_after(tmp_path, monkeypatch):
    calls, fsync, replace = [], os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda old, new: (calls.append("rename"), replace(old, new)))
    durable.write_text(tmp_path / "a", "text")
    assert calls == [str(tmp_path / f".a.{os.getpid()}.tmp"), "rename", str(tmp_path)]


def test_a_run_that_cannot_be_sealed_is_never_a_finished_one(tmp_path, monkeypatch):
    with pytest.raises(RunError, match="cannot write .*: No space left on device") as raised, opened(tmp_path) as run:
        monkeypatch.setattr(os, "replace", failing)
        run.seal("finished")
    monkeypatch.undo()
    assert status(run.path).state == "running"  # and, once this process is gone, killed
    assert raised.value.__notes__ == [
        f"and the run folder could not be sealed: cannot write {run.path}/status.json: No space left on device"
    ]
    assert asked(run.path) == "free"


def test_a_result_that_cannot_be_read_back_makes_the_run_a_failed_one(tmp_path, monkeypatch):
    real = durable.write_bytes

    def write(path, data):
        if path.name == "manifest.json":
            raise RunError("cannot write manifest.json: Input/output error")
        real(path, data)

    monkeypatch.setattr(durable, "write_bytes", write)
    with pytest.raises(RunError), opened(tmp_path) as run:
        run.seal("finished", step=3)
    assert (status(run.path).state, status(run.path).step) == ("failed", 3)
    assert status(run.path).reason == "cannot write manifest.json: Input/output error"


def test_the_manifest_names_config_and_checkpoints_by_size_and_hash(tmp_path):
    run = opened(tmp_path)
    run.write_bytes("checkpoints/best.ckpt", b"weights")
    run.write_bytes("checkpoints/.half.ckpt.tmp", b"wei")
    run.seal("finished")
    files = json.loads((run.path / "manifest.json").read_text())["files"]
    assert list(files) == ["config.yaml", "checkpoints/best.ckpt"]
    assert files["checkpoints/best.ckpt"] == {
        "sha256": "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c",
        "bytes": 7,
    }


def test_files_are_written_into_folders_of_the_run(tmp_path):
    with opened(tmp_path) as run:
        path = run.write_json("reports/load.json", {"at": tmp_path, "lr": [float("inf"), 0.1], 3: None})
        assert path == run.path / "reports" / "load.json"
        assert json.loads(path.read_text()) == {"at": str(tmp_path), "lr": ["inf", 0.1], "3": None}
        for outside in ("../x", "/x", ""):
            with pytest.raises(AssertionError, match="outside the run folder"):
                run.write_text(outside, "")
        run.seal("finished")


def test_bytes_of_a_command_line_that_are_no_text_are_written_escaped(tmp_path):
    run = opened(tmp_path, overrides=["name=\udcff"], command=["train", "\udcff"])
    assert (run.path / "overrides.txt").read_text() == "name=\\udcff\n"
    run.seal("failed")
    assert status(run.path).command == ["train", "\udcff"]


@pytest.mark.parametrize("name", ["", ".", "..", ".hidden", "a/b", "a\\b", "a\nb", " a", "x" * 201, "\udcff"])
def test_a_name_that_cannot_name_a_folder_is_refused(tmp_path, name):
    with pytest.raises(ConfigError):
        opened(tmp_path / "outputs", name)
    assert not (tmp_path / "outputs").exists()


def test_the_refusal_of_a_name_says_what_was_expected(tmp_path):
    with pytest.raises(ConfigError) as raised:
        opened(tmp_path, "a/b")
    assert str(raised.value) == (
        "name: this can't name a run folder\n"
        "  found:    'a/b'\n"
        "  expected: a folder name: no / or \\, no leading dot, at most 200 bytes"
    )


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "{}", '"x"', '{"state": "finished"}', '{"state": "done", "started": ""}']
)
def test_a_damaged_status_is_told(tmp_path, text):
    (tmp_path / "status.json").write_text(text)
    with pytest.raises(RunError) as raised:
        status(tmp_path)
    assert str(raised.value) == f"cannot read {tmp_path}/status.json: it is damaged"


def test_a_folder_without_status_is_not_a_run(tmp_path):
    with pytest.raises(RunError, match="is not a run folder: it holds no status.json$"):
        status(tmp_path)


def test_no_file_of_a_run_holds_an_environment_variable(tmp_path, monkeypatch):
    monkeypatch.setenv("SERVICE_TOKEN", "hunter2-of-the-test")
    with pytest.raises(ValueError, match="bad"), opened(tmp_path, environment=environment({"device": "cpu"})) as run:
        raise ValueError("bad")
    written = {path.name: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert {"environment.json", "status.json", "config.yaml"} <= written.keys()
    assert [name for name, data in written.items() if b"hunter2" in data or b"SERVICE_TOKEN" in data] == []


def test_the_room_imports_without_torch():
    code = "import sys, builder.runs.find, builder.runs.folder, builder.runs.environment; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "False\n"


@pytest.mark.parametrize(
    ("log", "expected"),
    [
        ("", (None, None)),
        ('{"step": 9, "train/loss_step": 1.0, "epoch": 0}\n', (0, 10)),
        ('{"step": 9, "train/loss": 1.0, "epoch": 0}\n{"step": 10, "lr": 0.1, "epoch": 1}\n', (1, 11)),
        ('{"step": 9, "train/loss": 1.0, "epoch": 0}\n{"step": 10, "test/loss": 1.0, "epoch": 1}\n', (1, 10)),
        ('{"step": 9, "train/loss": 1.0, "epoch": 0}\n{"step": 19, "train/lo', (1, 10)),
        ("damaged\n", (None, None)),
    ],
)
def test_how_far_a_killed_run_came_is_read_from_its_log(tmp_path, log, expected):
    (tmp_path / "metrics.jsonl").write_text(log)
    assert reached(tmp_path / "metrics.jsonl") == expected
    assert reached(tmp_path / "none.jsonl") == (None, None)


def test_of_a_long_log_only_the_end_is_read(tmp_path):
    rows = [f'{{"step": {step}, "train/loss_step": 1.0, "epoch": {step // 100}}}\n' for step in range(5000)]
    (tmp_path / "metrics.jsonl").write_text("".join(rows))
    assert reached(tmp_path / "metrics.jsonl") == (49, 5000)
