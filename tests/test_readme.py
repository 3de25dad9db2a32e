"""The README is true: every command in it runs, every file in it is written and used, every output in it is real.

It is played from top to bottom in one empty folder, as a reader would. Blocks are told apart by their language:

- `yaml` and `python` that begin with `# PATH` (after `# @package`) are files, written there; a model among them is built and run.
- `python` with `>>>` is run, and gives what it shows.
- `console` holds commands after `$`, and what they print; `…` stands for anything, on a line of its own for any lines.
- `sh` holds commands only. Those of `scripts/` would make a venv in this checkout: their own tests run them with
  stand-ins, and here their arguments are checked; what they train is shortened.
"""

import contextlib
import doctest
import os
import re
import shlex
from dataclasses import dataclass

import pytest
import torch
import yaml

import builder
from builder.config.folders import shipped_configs
from builder.lang.formula import parse_formula
from command_line import ROOT, finish, run, start
from made_files import make_csv

TEXT = (ROOT / "README.md").read_text(encoding="utf-8")
SHORT = ("trainer=cpu", "trainer.max_epochs=1")
SIZES = {"B": 2, "T": 7}


@dataclass(frozen=True)
class Block:
    language: str
    text: str
    line: int

    @property
    def file(self):
        found = re.match(r"(?:# @package \S+\n)?# (\S+\.(?:yaml|py))\n", self.text)
        return found[1] if found else None


BLOCKS = [
    Block(found[1], found[2], TEXT[: found.start()].count("\n") + 1)
    for found in re.finditer(r"^```(\w*)\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)
]


def commands(block):
    """The commands of a block, each with the output that is shown for it."""
    if block.language == "sh":
        return [(line, None) for line in block.text.splitlines() if line]
    parts = re.split(r"^\$ (.*)\n", block.text, flags=re.MULTILINE)
    assert parts[0] == "", f"README.md:{block.line}: output before a command"
    return list(zip(parts[1::2], parts[2::2], strict=True))


def pattern(shown):
    """What an output has to match: `…` is anything on a line, or any lines."""
    lines = [
        r"(?:.*\n)*?" if line == "…" else re.escape(line).replace("…", ".*?") + r"\n" for line in shown.splitlines()
    ]
    return re.compile("".join(lines))


class Player:
    """Plays the README, and notes what isn't as it says."""

    def __init__(self, folder):
        self.folder, self.wrong, self.seen = folder, [], {}
        self.globals = {}

    def play(self, block):
        if block.file is not None:
            path = self.folder / block.file
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(block.text, encoding="utf-8")
        elif block.language == "python":
            self.python(block)
        else:
            for command, shown in commands(block):
                self.command(block, command, shown)

    def python(self, block):
        test = doctest.DocTestParser().get_doctest(block.text, self.globals, "README", "README.md", block.line)
        told = []
        with contextlib.chdir(self.folder):
            doctest.DocTestRunner(verbose=False).run(test, out=told.append, clear_globs=False)
        self.globals = test.globs
        self.wrong += ["".join(told)] if told else []

    def command(self, block, command, shown):
        words = shlex.split(command)
        self.seen.setdefault(words[0], []).append(words[1:])
        if words[0].startswith("scripts/"):
            assert os.access(ROOT / words[0], os.X_OK), words[0]
            return
        assert words[0] == "builder", f"README.md:{block.line}: {command}"
        if shown is None and words[1] == "train":
            words += SHORT
        alone = words[1] == "doctor"  # which looks at all classes, those too that other tests registered
        ran = finish(start(self.folder, *words[1:]), self.folder) if alone else run(self.folder, *words[1:])
        if shown is None and ran.code != 0:
            self.wrong.append(f"README.md:{block.line}: $ {command}\n{ran.err}")
        if shown is not None and not pattern(shown).fullmatch(ran.err + ran.out):
            self.wrong.append(f"README.md:{block.line}: $ {command}\nshows\n{shown}\nprints\n{ran.err}{ran.out}")


@pytest.fixture(scope="module")
def played(tmp_path_factory):
    player = Player(tmp_path_factory.mktemp("readme"))
    make_csv(player.folder / "my.csv")  # the reader's own
    for block in BLOCKS:
        player.play(block)
    return player


def test_every_command_runs_and_every_output_is_real(played):
    assert not played.wrong, "\n\n".join(played.wrong)


def test_every_block_is_of_a_known_kind():
    for block in BLOCKS:
        assert block.language in ("yaml", "python", "console", "sh"), f"README.md:{block.line}"
        assert block.language != "yaml" or block.file, f"README.md:{block.line}: a YAML block without its file"
        assert block.language != "python" or block.file or ">>>" in block.text, f"README.md:{block.line}"


MODELS = [block.file for block in BLOCKS if block.language == "yaml" and "/" not in block.file]


def example(dims, model):
    def size(dim):
        if isinstance(dim, str) and dim.startswith("="):
            return parse_formula(dim[1:]).evaluate(model.__dict__)
        return SIZES.get(dim, 16) if isinstance(dim, str) else dim

    return tuple(map(size, dims))


def inputs_of(path, model):
    """A random tensor for each input that the file declares, whether it is optional or not."""
    for declared in yaml.safe_load(path.read_text())["inputs"].values():
        dims, kind = (declared["shape"], declared["dtype"]) if isinstance(declared, dict) else (declared, "float32")
        shape = example(dims, model)
        yield torch.randint(50, shape) if kind == "int64" else torch.randn(shape)


@pytest.mark.parametrize("file", MODELS)
def test_every_model_builds_runs_and_learns(played, file):
    model = builder.build(played.folder / file)
    inputs = list(inputs_of(played.folder / file, model))
    for mode in (True, False):
        output = model.train(mode)(*inputs)
        parts = list(output.values()) if isinstance(output, dict) else [output] if torch.is_tensor(output) else output
        assert all(torch.isfinite(part).all() for part in parts)
        sum(part.sum() for part in parts).backward()


def built(played, file, **args):
    return builder.build(played.folder / file, **args)


def test_the_examples_of_the_language_do_what_the_text_says(played):
    pyramid = built(played, "pyramid.yaml", depth=2)
    assert [layer.out_features for layer in pyramid.body] == [64, 32]
    assert (pyramid.last, pyramid.out.in_features, pyramid.out.out_features) == (16, 32, 16)
    captioned = built(played, "captioned.yaml")
    image, ids = torch.randn(2, 3, 16, 16), torch.randint(100, (2, 5))
    assert not torch.equal(captioned(image), captioned(image, ids))
    layers = built(played, "layers.yaml")
    assert layers.extra is None and built(played, "layers.yaml", deep=True).extra.out_features == 16
    assert [round(layer.p, 1) for layer in layers.copies] == [0.1, 0.2, 0.3]
    assert {name: part.shape for name, part in layers(torch.randn(2, 16)).items()} == {"a": (2, 2), "b": (2, 3)}
    assert {"named.fc.weight", "numbered.0.weight", "gate.fc.weight", "heads.a.bias"} <= set(layers.state_dict())
    blocks = built(played, "blocks.yaml")
    assert blocks.two.second.conv.out_channels == 32 and type(blocks.one).__name__ == "Twice"
    assert [type(part.act).__name__ for part in (blocks.one, blocks.two)] == ["ReLU", "GELU"]


def test_the_examples_of_tensors_do_what_the_text_says(played):
    cosine = built(played, "cosine.yaml")
    assert cosine.mean.eq(0).all() and cosine.steps.tolist() == list(range(12))
    assert cosine.shift is None and built(played, "cosine.yaml", bias=True).shift.shape == (5,)
    assert {*cosine.state_dict()} == {"weight", "scale", "mean"}
    x = torch.randn(4, 12)
    cosine(x)
    assert torch.equal(cosine.mean, 0.1 * x.mean(0))
    tied = built(played, "tied.yaml")
    assert tied.head.weight is tied.embed.weight
    logits, last = built(played, "reader.yaml")(torch.randint(50, (2, 7)))
    assert (logits.shape, last.shape) == ((2, 7, 50), (2, 32))


def test_what_the_scripts_are_given_is_right(played, tmp_path):
    assert [[], ["experiment=digits_mlp", "trainer.max_epochs=2"]] == played.seen["scripts/train"]
    for words in played.seen["scripts/train"]:
        assert run(tmp_path, "check", *words).code == 0
    assert [] in played.seen["scripts/test"]


def test_the_tables_name_configs_and_files_that_exist(played):
    for groups, shipped in re.findall(r"^\| ((?:`\w+/`(?:, )?)+) \|.*\| (.*) \|$", TEXT, re.MULTILINE):
        folders = [shipped_configs() / group for group in re.findall(r"`(\w+)/`", groups)]
        named = re.findall(r"`(\w+)`", shipped)
        there = {path.stem for folder in folders for path in folder.glob("*.yaml")}
        assert named and set(named) <= there, groups
        assert "…" in shipped or set(named) == there, f"{groups}: {there - set(named)} aren't named"
    assert "| file | holds |" in TEXT
    table = TEXT.split("| file | holds |")[1].split("\n\n")[0]
    for path in next((played.folder / "outputs/digits_mine").iterdir()).rglob("*"):
        numbered = path.parent.name == "resume" and re.fullmatch(r"\d{12}-[0-9a-f]{32}\.ckpt", path.name)
        assert (
            numbered or path.is_dir() or path.name.startswith("events.") or path.name in table or path.name[0] == "."
        ), path


def test_all_kinds_of_component_that_can_be_registered_are_named():
    (sentence,) = re.findall(r"^`register` has (.*)\.$", TEXT, re.MULTILINE)
    assert re.findall(r"`(\w+)`", sentence) == list(vars(builder.register))


def test_links_lead_somewhere():
    for target in re.findall(r"\]\(([^)#]+)\)", TEXT):
        assert target.startswith("https://") or (ROOT / target).exists(), target
