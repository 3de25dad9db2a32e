import re

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from load_helpers import ORIGINS, Net, refusal

from builder.errors import ConfigError
from builder.weights.collapse import collapse
from builder.weights.entries import Entry, WeightsFile
from builder.weights.keys import apply_rules, clashes, read_rules
from builder.weights.load import read_load
from builder.weights.suggest import suggest


def file_of(shapes):
    entries = {name: Entry(tuple(shape), torch.float32, name) for name, shape in shapes.items()}
    return WeightsFile("a.pt", "made up", entries, lambda key: torch.zeros(shapes[key]))


def applied(rules, shapes):
    read, faults = read_rules(rules, ("load", "rules"), ORIGINS.of)
    assert not faults, faults[0]
    return apply_rules(read, file_of(shapes))


SEGMENT = st.sampled_from(["a", "b", "layer", "0", "1", "10", "weight", "module"])
NAME = st.lists(SEGMENT, min_size=1, max_size=4).map(".".join)
RULE = st.one_of(
    NAME.map(lambda text: {"strip": f"{text}."}),
    NAME.map(lambda text: {"prefix": f"{text}."}),
    st.sampled_from([
        {"rename": r"^a\.(\d+)", "to": r"b.\1"}, {"rename": "layer", "to": "blocks"}, {"rename": r"\.(\w+)$", "to": r".\1_g"},
        {"rename": "(?P<x>[ab])", "to": r"\g<x>\g<x>"},
    ]),
    NAME.map(lambda text: {"drop": f"re:{re.escape(text)}"}),
    SEGMENT.map(lambda text: {"drop": [f"{text}.**"]}),
)  # fmt: skip


def by_hand(rules, names):
    """The rules as one would write them for a dictionary of keys, and the hits of each."""
    now, hits = {name: name for name in names}, []
    for rule in rules:
        count, then = 0, {}
        for key, name in now.items():
            if "strip" in rule:
                hit = name.startswith(rule["strip"])
                new = name[len(rule["strip"]) :] if hit else name
            elif "prefix" in rule:
                hit, new = True, rule["prefix"] + name
            elif "rename" in rule:
                new, hit = re.subn(rule["rename"], rule["to"], name)
            elif isinstance(rule["drop"], list):
                hit = new = None
                hit = name.split(".")[0] == rule["drop"][0].split(".")[0]
            else:
                pattern = rule["drop"].removeprefix("re:")
                starts = [".".join(name.split(".")[:end]) for end in range(1, name.count(".") + 2)]
                hit = any(re.fullmatch(pattern, start) for start in starts)
            count += bool(hit)
            if not ("drop" in rule and hit):
                then[key] = name if "drop" in rule else new
        now = then
        hits.append(count)
    return now, hits


@settings(max_examples=100, deadline=None)
@given(st.lists(RULE, max_size=4), st.lists(NAME, min_size=1, max_size=8, unique=True))
def test_rules_do_what_the_same_loops_over_a_dictionary_do(rules, names):
    renamed, faults = applied(rules, {name: (2,) for name in names})
    expected, hits = by_hand(rules, names)
    assert {tensor.key: tensor.name for tensor in renamed.tensors} == expected
    assert list(renamed.hits) == hits
    assert {fault.path[-1] for fault in faults} == {index for index, count in enumerate(hits) if not count}
    clashing = len(set(expected.values())) < len(expected)
    assert bool(clashes(renamed, (), None)) == clashing


def told(rules, shapes):
    return [str(fault) for fault in applied(rules, shapes)[1]]


def test_a_rule_that_hits_nothing_names_the_keys_that_are_near():
    shapes = {"bert.encoder.weight": (2,), "bert.pooler.weight": (2,)}
    assert told([{"strip": "bret."}, {"rename": "encodr", "to": "x"}, {"drop": ["bert.poler", "bert.encoder"]}], shapes) == [
        "train.yaml:7: load.rules[0]: strip hits no key\n"
        "  found:    'bret.'\n"
        "  did you mean 'bert.'?\n"
        "  hint:     the keys here are 'bert.encoder.weight', 'bert.pooler.weight'",
        "train.yaml:7: load.rules[1]: rename hits no key\n"
        "  found:    'encodr'\n"
        "  did you mean 'encoder'?\n"
        "  hint:     the keys here are 'bert.encoder.weight', 'bert.pooler.weight'",
        "train.yaml:7: load.rules[2]: drop hits no key\n"
        "  found:    'bert.poler'\n"
        "  did you mean 'bert.pooler' or 'bert.encoder' or 'bert.pooler.weight'?\n"
        "  hint:     the keys here are 'bert.encoder.weight', 'bert.pooler.weight'",
    ]  # fmt: skip


def test_only_tensors_of_as_many_dimensions_are_turned():
    shapes = {"a": (2, 3), "b": (4,)}
    renamed, faults = applied([{"transpose": "re:[ab]"}], shapes)
    assert [tensor.shape for tensor in renamed.tensors] == [(3, 2), (4,)]
    assert str(faults[0]) == (
        "train.yaml:7: load.rules[0]: 'b' has 1 dimensions, not 2\n"
        "  found:    [4]\n"
        "  hint:     say the new order by 'dims', or choose tensors of two dimensions"
    )


def test_two_keys_that_become_one_name_are_refused(tmp_path):
    torch.save({"a.weight": torch.ones(1), "b.weight": torch.ones(1)}, tmp_path / "a.pt")
    section = {"path": str(tmp_path / "a.pt"), "rules": [{"rename": "^[ab]", "to": "head"}]}
    assert refusal(Net(), section) == (
        "train.yaml:7: load.rules: the rules give 2 tensors the name 'head.weight'\n"
        "  found:    ['a.weight', 'b.weight']\n"
        "  hint:     drop all but one, or write the rules so that they differ"
    )
    torch.save({f"{tower}.{n}.w": torch.ones(1) for n in range(9) for tower in "ab"}, tmp_path / "a.pt")
    assert refusal(Net(), section) == (
        "train.yaml:7: load.rules: the rules give 9 names to more than one tensor each: head.{0..8}.w\n"
        "  hint:     'a.0.w' and 'b.0.w' are both 'head.0.w'; drop all but one, or write the rules so that they differ"
    )


def test_a_regular_expression_that_would_run_for_ever_is_stopped(monkeypatch):
    monkeypatch.setattr("builder.patterns.SECONDS", 0.05)
    _, (fault,) = applied([{"rename": "^(a|aa)+$", "to": "x"}], {"a" * 60 + "!": (1,)})
    assert "takes too long" in fault.message


BAD = {
    "rules: bert": "load.rules: rules are a list",
    "rules: [bert]": "load.rules[0]: this is no rule",
    "rules: [{stripp: x}]": "load.rules[0]: this is no rule",
    "rules: [{strip: a, prefix: b}]": "load.rules[0]: one rule does one thing, not strip and prefix",
    "rules: [{strip: a, from: b}]": "load.rules[0].from: unknown key 'from' of a rule 'strip'",
    "rules: [{strip: 3}]": "load.rules[0].strip: 'strip' is a text",
    "rules: [{rename: '(', to: x}]": "load.rules[0].rename: 'rename' is no regular expression: missing )",
    "rules: [{rename: '(a)', to: '\\2'}]": "load.rules[0].to: 'to' can't be used: invalid group reference",
    "rules: [{rename: '(a)', to: '\\g<b>'}]": "load.rules[0].to: 'to' can't be used: unknown group",
    "rules: [{rename: a}]": "load.rules[0]: 'rename' needs the text 'to' that it puts there",
    "rules: [{drop: 're:('}]": "load.rules[0].drop: this pattern can't be used: it is no regular expression",
    "rules: [{drop: []}]": "load.rules[0].drop: this is no pattern",
    "rules: [{transpose: a, dims: [0, 2]}]": "load.rules[0].dims: 'dims' can't be used",
    "rules: [{transpose: a, dims: [x]}]": "load.rules[0].dims: 'dims' can't be used",
    "pth: a.pt": "load.pth: unknown key 'pth'",
    "path: 3": "load.path: 'path' is a text",
    "path: ''": "load.path: 'path' can't be used: it is empty",
    "path: run:abc": "load.path: 'path' can't be used: it doesn't say which checkpoint of the run",
    "path: run:abc@../x": "load.path: 'path' can't be used: it doesn't say which checkpoint of the run",
    "into: 3": "load.into: 'into' is a text",
    "weights: emma": "load.weights: 'weights' can't be used",
    "{key: a, weights: ema}": "load.weights: 'key' says already which weights are taken",
    "shape: resise": "load.shape: this is no policy for shapes that differ",
    "shape: {'a..b': skip}": "load.shape.a..b: this pattern can't be used: there is nothing between two dots",
    "shape: {a: {resize: cubic}}": "load.shape.a.resize: 'resize' can't be used",
    "shape: {a: {resize: bicubic, gird: [2, 3]}}": "load.shape.a.gird: unknown key 'gird' of a resize",
    "shape: {a: {resize: bicubic, grid: 4}}": "load.shape.a.grid: 'grid' can't be used",
    "shape: {a: {resize: bicubic, prefix: -1}}": "load.shape.a.prefix: 'prefix' can't be used",
    "shape: {a: {resize: bicubic, channels: mean}}": "load.shape.a.channels: 'channels' can't be used",
    "missing: wran": "load.missing: 'missing' can't be used",
    "missing: {allow: [3]}": "load.missing.allow: this is no pattern",
    "unexpected: {deny: x}": "load.unexpected.deny: unknown key 'deny' of 'unexpected'\n  expected: allow",
    "missing: {alow: [a]}": (
        "load.missing.alow: unknown key 'alow' of 'missing'\n  expected: allow\n  did you mean 'allow'?"
    ),
    "missing: {allow: a, but: b}": "load.missing.but: unknown key 'but' of 'missing'",
    "missing: {}": "load.missing: 'missing' can't be used",
    "path: https://x.y/z.pt": (
        "load.path: 'path' can't be used: addresses aren't fetched; fetch the file, and give its path\n"
        "  found:    'https://x.y/z.pt'"
    ),
    "path: hf://a/b": "load.path: 'path' can't be used: addresses aren't fetched",
    "min_loaded: 90": "load.min_loaded: 'min_loaded' can't be used",
    "min_loaded: true": "load.min_loaded: 'min_loaded' can't be used",
}


@pytest.mark.parametrize("text", BAD)
def test_what_can_be_seen_without_a_file_is_told_before_one_is_opened(text):
    import yaml

    section = {"path": "nowhere.pt", **yaml.safe_load(text)}
    if "pth" in section:
        section["path"] = "nowhere.pt"
    with pytest.raises(ConfigError) as caught:
        read_load(section, ORIGINS)
    assert str(caught.value).startswith(f"train.yaml:7: {BAD[text]}")
    assert len(caught.value.faults) == 1


def test_all_that_is_wrong_is_told_at_once():
    section = [{"path": "a.pt", "rules": [{"strp": "x"}, {"drop": "a..b"}], "shape": "resise"}, {"into": "x"}, 3]
    with pytest.raises(ConfigError) as caught:
        read_load(section, ORIGINS)
    assert [fault.path for fault in caught.value.faults] == [
        ("load", 0, "rules", 0), ("load", 0, "rules", 1, "drop"), ("load", 0, "shape"), ("load", 1), ("load", 2),
    ]  # fmt: skip
    with pytest.raises(ConfigError, match="a path, a mapping with 'path', or a list of such"):
        read_load(3, ORIGINS)


def test_an_unknown_submodule_names_the_nearest(tmp_path):
    section = {"path": str(tmp_path / "a.pt"), "into": "block"}
    assert (
        refusal(Net(), section)
        == "train.yaml:7: load.into: the model has no submodule 'block'\n  did you mean 'blocks' or 'blocks.2' or 'blocks.1'?"
    )


SHAPES = {
    f"layers.{number}.{part}": (number + 2, size) for number in range(4) for part, size in (("fc", 3), ("out", 5))
}
SHAPES |= {"head.weight": (7, 7)}


def suggested(sources, targets=SHAPES):
    found = suggest(sources, targets)
    return None if found is None else str(found)


def test_the_rule_that_would_have_made_keys_fit_is_found():
    assert suggested({f"bert.{name}": shape for name, shape in SHAPES.items()}) == (
        "did you mean rules: [{strip: 'bert.'}]? 9 of 9 keys would match"
    )
    assert suggested({name.replace("layers.", ""): shape for name, shape in SHAPES.items() if name[0] == "l"}) == (
        "did you mean into: layers? 8 of 8 keys would match"
    )
    inner = {name.replace("layers", "m.net"): shape for name, shape in SHAPES.items() if name[0] == "l"}
    assert suggested({**inner, "other": (1,)}) == (
        "did you mean rules: [{strip: 'm.net.'}] and into: layers? 8 of 9 keys would match"
    )
    assert suggested({name.replace("layers", "net.blocks"): shape for name, shape in SHAPES.items()}) == (
        r"did you mean rules: [{rename: '^net\.blocks\.', to: 'layers.'}]? 9 of 9 keys would match"
    )
    two = {f"bert.{name}".replace("layers", "encoder.layer"): shape for name, shape in SHAPES.items()}
    text = suggested({**two, "cls.bias": (99,)})
    assert text.endswith("? 9 of 10 keys would match") and "layers." in text and "strip: 'bert.'" in text
    assert suggested({"a.b": (1,), "c": (2,)}) is None


def test_the_suggestion_can_be_pasted_and_works(tmp_path):
    import yaml
    from load_helpers import loaded

    source = {f"model.encoder.layer.{name}": value for name, value in Net(seed=1).blocks.state_dict().items()}
    source |= {f"model.{name}": value for name, value in Net(seed=1).state_dict().items() if name.startswith("head")}
    torch.save(source, tmp_path / "a.pt")
    section = {"path": str(tmp_path / "a.pt")}
    message = refusal(Net(), section)
    rules = message.split("did you mean rules: ")[1].split("? ")[0]
    loaded(Net(), {**section, "rules": yaml.safe_load(rules)})


def test_suggestions_are_quick_for_large_models():
    import time

    targets = {
        f"blocks.{b}.{part}.{leaf}": (8, 8) for b in range(200) for part in "qkvoupdn" for leaf in ("weight", "bias")
    }
    start = time.perf_counter()
    assert suggest({f"m.h.{name}": shape for name, shape in targets.items()}, targets).matched == len(targets)
    assert time.perf_counter() - start < 20


def naive_expansion(name):
    """The names that a collapsed one stands for."""
    found = re.search(r"\{(\d+)\.\.(\d+)\}", name)
    if not found:
        return [name]
    numbers = range(int(found[1]), int(found[2]) + 1)
    return [each for n in numbers for each in naive_expansion(name[: found.start()] + str(n) + name[found.end() :])]


@settings(max_examples=100, deadline=None)
@given(
    st.lists(
        st.lists(st.sampled_from(["a", "0", "1", "2", "5", "b1"]), min_size=1, max_size=4).map(".".join),
        max_size=20,
        unique=True,
    )
)
def test_collapsed_names_stand_for_just_the_names_they_came_from(names):
    lines = collapse((name, None) for name in names)
    assert sorted(each for line in lines for each in naive_expansion(line.name)) == sorted(names)
    assert [line.count for line in lines] == [len(naive_expansion(line.name)) for line in lines]


def test_names_are_collapsed_in_more_than_one_place_and_only_where_the_rest_is_the_same():
    names = [f"s.{i}.b.{j}.{leaf}" for i in range(3) for j in range(2) for leaf in ("w", "b")]
    assert [line.name for line in collapse((name, None) for name in names)] == [
        "s.{0..2}.b.{0..1}.w",
        "s.{0..2}.b.{0..1}.b",
    ]
    lines = collapse([("a.0", 1), ("a.1", 1), ("a.2", 2), ("a.4", 1), ("a.5", 1)])
    assert [(line.name, line.common) for line in lines] == [("a.{0..1}", 1), ("a.2", 2), ("a.{4..5}", 1)]
