"""The verbs and their options: what scripts of users rely on. A change here is one for the changelog."""

import typer

from builder.cli.main import app

COMMON = {"--debug", "--quiet", "-q", "--import", "--config-name", "-cn", "--config-dir", "-cd"}
VERBS = {
    "train": {"--json", "--multirun", "-m"},
    "resume": {"--json", "--inexact"},
    "check": {"--json"},
    "registry": {"--json"},
    "show config": {"--json", "--origins"},
    "show model": {"--json", "--batch", "--depth"},
    "show select": {"--json"},
    "rerun": {"--json", "--check"},
    "runs list": {"--json", "--csv", "--where", "--sort", "--reverse", "-r", "--columns", "--limit", "-n"},
    "runs compare": {"--json", "--output", "-o"},
    "runs report": {"--output", "-o"},
    "runs rm": {"--yes", "-y"},
    "doctor": {"--json"},
    "show diff": {"--json", "--exit-code"},
    "show graph": {"--output", "-o", "--depth"},
    "evaluate": {"--json", "--split", "--data", "--checkpoint", "--weights", "--device", "--output", "-o", "--seed"},
    "features": {
        "--select",
        "-s",
        "--output",
        "-o",
        "--data",
        "--input",
        "-i",
        "--pool",
        "--project",
        "--checkpoint",
        "--weights",
        "--device",
        "--batch-size",
        "--seed",
    },
    "predict": {
        "--input",
        "-i",
        "--output",
        "-o",
        "--checkpoint",
        "--weights",
        "--device",
        "--proba",
        "--strict",
        "--batch-size",
        "--keep",
        "--input-format",
        "--output-format",
        "--tokens",
        "--seed",
    },
    "sweep start": {"--json"},
    "sweep resume": {"--json"},
    "sweep report": {"--json"},
    "sweep join": {"--json", "--study"},
    "weights": {"--json", "--all", "--key", "--ema"},
    "export": {"--json", "--to", "--output", "-o", "--checkpoint", "--weights", "--dynamic", "--rows", "--opset"},
    "import": {"--output", "-o", "--args", "--input", "--weights"},
    "new": set(),
    "schema": {"--output", "-o"},
}


def verbs(group, prefix=""):
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from verbs(command, f"{prefix}{name} ")
        else:
            yield f"{prefix}{name}", {option for item in command.params for option in item.opts if option[0] == "-"}


def test_every_verb_takes_these_options():
    found = dict(verbs(typer.main.get_command(app)))
    for verb, own in VERBS.items():
        assert found[verb] >= COMMON | own, verb
    for verb, options in found.items():
        assert options >= COMMON, f"{verb} lacks {COMMON - options}"
