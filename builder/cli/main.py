"""The command `builder`: its verbs, and what the shell sees of an error."""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Sequence
from typing import Annotated, Any

import typer

from builder.cli import (
    check,
    doctor,
    evaluate,
    export,
    features,
    import_,
    new,
    predict,
    registry,
    rerun,
    resume,
    runs,
    schema,
    show,
    sweep,
    train,
    weights,
)
from builder.cli.options import Common, ConfigDir, ConfigName, Debug, Imports, Quiet, takes_common
from builder.cli.output import styled
from builder.errors import BuilderError, ConfigError, nearest
from builder.follower import COMMAND

HELP = ("--help", "-h")
STOPPED = {130: "interrupted", 138: "stopped by SIGUSR1", 143: "terminated"}
"""Exit codes of a process that was asked to stop (128 + SIGINT, SIGUSR1, SIGTERM), and how that is said."""

app = typer.Typer(
    help="Neural networks described whole in YAML, built and trained.",
    context_settings={"help_option_names": list(HELP)},
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)
app.command("train")(takes_common(train.train))
app.command("resume")(takes_common(resume.resume))
app.command("rerun")(takes_common(rerun.rerun))
app.add_typer(sweep.app, name="sweep")
app.command("check")(takes_common(check.check))
app.command("doctor")(takes_common(doctor.doctor))
app.add_typer(show.app, name="show")
app.command("evaluate")(takes_common(evaluate.evaluate))
app.command("features")(takes_common(features.features))
app.command("predict")(takes_common(predict.predict))
app.command("registry")(takes_common(registry.registry))
app.command("weights")(takes_common(weights.weights))
app.add_typer(runs.app, name="runs")
app.command("export")(takes_common(export.export))
app.command("import")(takes_common(import_.import_))
app.command("new")(takes_common(new.new))
app.command("schema")(takes_common(schema.schema))


@app.callback(invoke_without_command=True)
def _root(
    context: typer.Context,
    debug: Debug = False,
    quiet: Quiet = False,
    imports: Imports = None,
    config_name: ConfigName = None,
    config_dir: ConfigDir = None,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    context.obj = Common(debug, quiet, tuple(imports or ()), config_name, config_dir)
    if debug:
        _tell_more()
    if version:
        from builder import __version__

        print(f"builder {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        print(context.get_help())


def _tell_more() -> None:
    """Say on standard error what is of interest to those who look for the reason of something."""
    import logging

    handler = logging.StreamHandler()
    handler.setFormatter(logging.Formatter("debug: %(message)s"))
    logger = logging.getLogger("builder")
    logger.handlers = [handler]
    logger.setLevel(logging.DEBUG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command line.

    Args:
        argv: the words after `builder`; those of the process if None.

    Returns:
        The exit code: 0 fine, 1 failure, 2 wrong usage or config, 128 + N after signal N (130: Ctrl-C).
    """
    words = list(sys.argv[1:] if argv is None else argv)
    try:
        COMMAND.set(tuple(words))
        code = _run(words)
        sys.stdout.flush()
    except BrokenPipeError:
        _close_output()
        return 1
    finally:
        if "logging" in sys.modules:  # what `--debug` began ends with its command line
            logger = sys.modules["logging"].getLogger("builder")
            logger.handlers.clear()
            logger.setLevel(sys.modules["logging"].NOTSET)
    return code


def _run(words: list[str]) -> int:
    try:
        command = typer.main.get_command(app)
        if any(word in HELP for word in words):
            print(_help(command, words))
            return 0
        result = command.main(words, prog_name="builder", standalone_mode=False)
        code = result if isinstance(result, int) else 0
    except SystemExit as stop:  # shell completion ends so
        code = stop.code if isinstance(stop.code, int) else 1
    except (KeyboardInterrupt, typer.Abort):
        code = 130
    except BrokenPipeError:
        raise
    except Exception as error:
        code = _tell(error, "--debug" in words)
    if code in STOPPED:
        _print_error(STOPPED[code])
    return code


def _help(command: Any, words: list[str]) -> str:
    """The help of the verb that the words name.

    Parsing them as typer does would import what converts values, which takes longer than all the rest.
    """
    context = typer.Context(command, info_name="builder", help_option_names=list(HELP))
    for word in words:
        if word in getattr(command, "commands", {}):
            command = command.commands[word]
            context = typer.Context(command, info_name=word, parent=context)
    text: str = command.get_help(context)
    return text


def _tell(error: Exception, debug: bool) -> int:
    """Say an error on standard error, and its exit code."""
    code = 2
    if isinstance(error, ConfigError):
        for fault in error.faults:
            _print_error(str(fault))
        if len(error.faults) > 1:
            print(f"{len(error.faults)} errors", file=sys.stderr)
    elif isinstance(error, BuilderError):
        code = error.exit_code
        _print_error(str(error))
    elif hasattr(error, "format_message"):  # a usage error of typer, whichever parser it brings
        _print_error(_usage_message(error))
        return code
    else:
        code = 1
        hint = "" if debug else "; run with --debug for the stack trace"
        _print_error(f"{type(error).__name__}: {error}{hint}", "internal error")
    for note in getattr(error, "__notes__", ()):  # where the run lies, what else went wrong
        print(f"  {note}", file=sys.stderr)
    if debug:
        traceback.print_exception(error)
    return code


def _print_error(message: str, label: str = "error") -> None:
    print(f"{styled(f'{label}:', sys.stderr, fg='red', bold=True)} {message}", file=sys.stderr)


def _usage_message(error: Any) -> str:
    context = getattr(error, "ctx", None)
    option = getattr(error, "option_name", None)
    message: str = error.format_message()
    if option is not None and hasattr(error, "possibilities"):
        known = [name for parameter in context.command.params for name in parameter.opts] if context else []
        near = nearest(option, known)
        message = f"no such option: {option}" + (f"; did you mean {' or '.join(near)}?" if near else "")
    command = context.command_path if context is not None else "builder"
    return f"{message}\n  hint:     {command} --help"


def _close_output() -> None:
    """The reader has gone (`builder registry layer | head`): say nothing more, not at the interpreter's end either."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
