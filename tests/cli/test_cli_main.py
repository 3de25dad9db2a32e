import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType

import pytest

import builder
from builder.cli.main import main
from builder.errors import ConfigError, Fault, LayerError, Origin, RunError

ROOT = str(Path(builder.__file__).parents[1])
HELPS = [["--help"], ["-h"], ["train", "--help"], ["check", "-h"], ["show", "--help"], ["show", "config", "--help"],
         ["registry", "--help"], ["--debug", "train", "model=mlp", "--help"]]  # fmt: skip


@dataclass(frozen=True)
class Report:
    """What the pipeline's stand-in answers."""

    run: Path = Path("outputs/digits/2025-01-01_00-00-00_abc")
    state: str = "finished"
    metrics: dict[str, float] | None = None
    epoch: int = 3
    step: int = 60
    seconds: float = 4.2


@pytest.fixture
def pipeline(monkeypatch, tmp_path):
    """A pipeline and a composer that note how they were called; `answer` is returned, or raised."""
    stand_in, composer = ModuleType("builder.pipeline"), ModuleType("builder.config.compose")
    stand_in.calls, stand_in.answer = [], Report(metrics={"val/loss": 0.5, "test/accuracy": 0.97531})

    def answer(*args, **more):
        stand_in.calls.append((*args, more))
        if isinstance(stand_in.answer, BaseException):
            raise stand_in.answer
        return stand_in.answer

    checker = ModuleType("builder.check")
    stand_in.train = checker.check = answer
    stand_in.Followed = type("Followed", (Report,), {})
    composer.compose = lambda overrides=(), **more: (tuple(overrides), more)
    monkeypatch.setitem(sys.modules, "builder.pipeline", stand_in)
    monkeypatch.setitem(sys.modules, "builder.check", checker)
    monkeypatch.setitem(sys.modules, "builder.config.compose", composer)
    monkeypatch.chdir(tmp_path)
    return stand_in


def shell(*words, code="", env=None):
    """Run a command line in a process of its own."""
    environment = {**os.environ, "PYTHONPATH": ROOT, "COLUMNS": "80", **(env or {})}
    text = code or f"import sys; from builder.cli.main import main; sys.exit(main({list(words)!r}))"
    return subprocess.run([sys.executable, "-c", text], capture_output=True, text=True, env=environment, timeout=120)


def test_train_prints_the_metrics_and_on_the_last_line_the_run(pipeline, capsys):
    assert main(["train", "model=mlp", "optimizer.lr=1e-3"]) == 0
    assert capsys.readouterr().out == (
        "finished after 3 epochs, 60 steps, 4.2 s: test/accuracy 0.9753\noutputs/digits/2025-01-01_00-00-00_abc\n"
    )
    composed, options = pipeline.calls[0]
    assert composed == (("model=mlp", "optimizer.lr=1e-3"), {"config_name": "train", "config_dir": None})
    assert options == {"quiet": False}


def test_train_quietly_prints_the_run_only(pipeline, capsys):
    assert main(["train", "--quiet"]) == 0
    assert capsys.readouterr().out == "outputs/digits/2025-01-01_00-00-00_abc\n"
    assert pipeline.calls[0][1] == {"quiet": True}


def test_train_prints_json_and_nothing_else(pipeline, capsys):
    import json

    assert main(["train", "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == {
        "run": "outputs/digits/2025-01-01_00-00-00_abc", "state": "finished", "epoch": 3, "step": 60, "seconds": 4.2,
        "metrics": {"val/loss": 0.5, "test/accuracy": 0.97531},
    }  # fmt: skip
    assert pipeline.calls[0][1] == {"quiet": True}


@pytest.mark.parametrize(("state", "code"), [("finished", 0), ("failed", 1), ("interrupted", 130)])
def test_the_exit_code_is_that_of_how_the_run_ended(pipeline, state, code):
    pipeline.answer = Report(state=state, metrics={})
    assert main(["train"]) == code


@pytest.mark.parametrize(
    "words",
    [
        ["-q", "--debug", "-cn", "other", "-cd", "conf", "train", "a=1"],
        ["train", "-q", "--debug", "-cn", "other", "a=1", "-cd", "conf"],
        ["train", "a=1", "--config-name=other", "--config-dir=conf", "--quiet", "--debug"],
        ["--config-name", "other", "train", "--config-dir", "conf", "a=1", "-q"],
        ["-cn", "first", "train", "-cn", "other", "-cd", "conf", "a=1", "-q"],
    ],
)
def test_common_options_stand_before_or_after_the_verb(pipeline, words):
    assert main(words) == 0
    composed, options = pipeline.calls[0]
    assert composed == (("a=1",), {"config_name": "other", "config_dir": Path("conf")})
    assert options == {"quiet": True}


def test_imports_before_and_after_the_verb_are_all_made(pipeline, monkeypatch):
    import builder.plugins

    seen = []
    monkeypatch.setattr(builder.plugins, "load_plugins", lambda imports, config_dir: seen.append((imports, config_dir)))
    assert main(["--import", "a", "train", "--import", "b", "--import", "c.py", "-cd", "conf"]) == 0
    assert seen == [(("a", "b", "c.py"), Path("conf"))]


def test_override_grammar_passes_through_the_command_line(pipeline):
    words = ["+a.b=1", "~callbacks.x", "++c=[1,2]", "d='x y'", "e=-1", "f={a: 1}"]
    assert main(["train", *words]) == 0
    assert pipeline.calls[0][0][0] == tuple(words)


def test_check_prints_one_line(pipeline, capsys):
    class Summary(Report):
        def __str__(self):
            return "digits: fine"

    pipeline.answer = Summary()
    assert main(["check", "model=mlp"]) == 0
    assert capsys.readouterr().out == "digits: fine\n"


FAULTS = ConfigError(
    Fault(
        "layer Linear has no argument 'out'", ("model", "layers", "fc", "out"), Origin("configs/model/mlp.yaml", 7, 5),
        expected="in_features, out_features", nearest=("out_features",),
    ),
    Fault("must be an integer", ("seed",), Origin(override="seed=x"), "x", hint="seed=3"),
)  # fmt: skip


@pytest.mark.parametrize("verb", ["check", "train"])
def test_a_wrong_config_is_told_fault_by_fault(pipeline, capsys, verb):
    pipeline.answer = FAULTS
    assert main([verb]) == 2
    written = capsys.readouterr()
    assert written.out == ""
    assert written.err == (
        "error: configs/model/mlp.yaml:7: model.layers.fc.out: layer Linear has no argument 'out'\n"
        "  expected: in_features, out_features\n"
        "  did you mean 'out_features'?\n"
        "error: override 'seed=x': seed: must be an integer\n"
        "  found:    'x'\n"
        "  hint:     seed=3\n"
        "2 errors\n"
    )


def test_check_prints_faults_as_json(pipeline, capsys):
    import json

    pipeline.answer = FAULTS
    assert main(["check", "--json"]) == 2
    assert json.loads(capsys.readouterr().out) == {
        "ok": False,
        "faults": [
            {
                "message": "layer Linear has no argument 'out'", "path": "model.layers.fc.out",
                "origin": {"file": "configs/model/mlp.yaml", "line": 7, "column": 5},
                "expected": "in_features, out_features", "nearest": ["out_features"],
            },
            {
                "message": "must be an integer", "path": "seed", "origin": {"override": "seed=x"}, "found": "x",
                "hint": "seed=3",
            },
        ],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("error", "code", "text"),
    [
        (RunError("can't write outputs/x"), 1, "error: can't write outputs/x\n"),
        (LayerError("mlp.yaml:3: bad shapes"), 1, "error: mlp.yaml:3: bad shapes\n"),
        (KeyboardInterrupt(), 130, "error: interrupted\n"),
        (ZeroDivisionError("by zero"), 1,
         "internal error: ZeroDivisionError: by zero; run with --debug for the stack trace\n"),
    ],
)  # fmt: skip
def test_an_error_is_one_message_and_an_exit_code(pipeline, capsys, error, code, text):
    pipeline.answer = error
    assert main(["train"]) == code
    written = capsys.readouterr()
    assert (written.out, written.err) == ("", text)


@pytest.mark.parametrize("words", [["--debug", "train"], ["train", "--debug"]])
@pytest.mark.parametrize("error", [RunError("full"), ZeroDivisionError("by zero")])
def test_debug_shows_the_stack_trace(pipeline, capsys, words, error):
    pipeline.answer = error
    assert main(words) == 1
    told = capsys.readouterr().err
    assert "Traceback (most recent call last)" in told
    assert told.splitlines()[-1].endswith(f"{type(error).__name__}: {error}")


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["train", "--quit"], "no such option: --quit; did you mean --quiet?\n  hint:     builder train --help\n"),
        (["--verison"], "no such option: --verison; did you mean --version?\n  hint:     builder --help\n"),
        (["show", "config", "--orgins"], "no such option: --orgins; did you mean --origins?\n  hint:     builder show config --help\n"),
    ],
)  # fmt: skip
def test_an_unknown_option_is_told_with_the_nearest(capsys, words, text):
    assert main(words) == 2
    assert capsys.readouterr().err == "error: " + text


@pytest.mark.parametrize(("words", "near"), [(["trian"], "train"), (["show", "confg"], "config")])
def test_an_unknown_verb_is_told_with_the_nearest(capsys, words, near):
    assert main(words) == 2
    told = capsys.readouterr().err
    assert told.startswith("error: ") and repr(words[-1]) in told and repr(near) in told


def test_an_option_without_its_value_is_a_usage_error(capsys):
    assert main(["train", "-cn"]) == 2
    assert capsys.readouterr().err.startswith("error: ")


def test_help_lists_every_verb(capsys):
    assert main([]) == 0
    alone = capsys.readouterr().out
    assert main(["--help"]) == 0
    assert capsys.readouterr().out == alone
    assert [line.split()[0] for line in alone.split("Commands:\n")[1].splitlines()] == [
        *("train", "resume", "rerun", "check", "doctor", "evaluate", "features", "predict", "registry", "weights"),
        *("export", "import", "new", "schema", "sweep", "show", "runs"),
    ]


@pytest.mark.parametrize("words", HELPS, ids=" ".join)
def test_help_fits_a_terminal_and_names_the_verb(capsys, monkeypatch, words):
    monkeypatch.setenv("COLUMNS", "80")
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    verb = " ".join(word for word in words if word in ("train", "check", "show", "config", "registry"))
    assert lines[0].startswith(f"Usage: builder {verb}".rstrip())
    assert max(map(len, lines)) <= 80


def test_every_help_is_quick_and_imports_nothing_heavy():
    code = (
        "import sys\nfrom builder.cli.main import main\n"
        f"for words in {HELPS!r}:\n    assert main(words) == 0\n"
        "heavy = {'torch', 'hydra', 'omegaconf', 'pytorch_lightning', 'torchmetrics', 'sklearn', 'numpy', 'rich', 'pydantic'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)\n"
    )
    done = shell(code=code)
    assert done.returncode == 0, done.stderr


def test_the_module_runs_as_the_command_does():
    environment = {**os.environ, "PYTHONPATH": ROOT}
    done = subprocess.run(
        [sys.executable, "-m", "builder", "--version"], capture_output=True, text=True, env=environment
    )
    assert (done.returncode, done.stdout) == (0, f"builder {builder.__version__}\n")


@pytest.mark.parametrize("shell_name", ["bash", "zsh", "fish"])
def test_the_shell_completes_verbs(shell_name):
    env = {"_BUILDER_COMPLETE": f"complete_{shell_name}", "COMP_WORDS": "builder re", "COMP_CWORD": "1",
           "_TYPER_COMPLETE_ARGS": "builder re", "_TYPER_COMPLETE_FISH_ACTION": "get-args"}  # fmt: skip
    assert "registry" in shell(env=env).stdout


def test_completion_is_installed_by_typer(tmp_path):
    (tmp_path / ".bashrc").write_text("")
    env = {"HOME": str(tmp_path), "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"}
    done = shell("--install-completion", "bash", env=env)
    assert done.returncode == 0, done.stderr
    assert "builder" in (tmp_path / ".bashrc").read_text()


def test_errors_are_plain_where_no_terminal_is():
    assert "\x1b" not in shell("registry", "layr").stderr


def test_a_reader_that_goes_away_leaves_no_noise():
    code = "import sys; sys.stdin.read(); from builder.cli.main import main; sys.exit(main(['--help']))"
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": ROOT},
    )  # fmt: skip
    process.stdout.close()
    process.stdin.close()
    assert (process.stderr.read(), process.wait(timeout=60)) == (b"", 1)
    process.stderr.close()
