import time

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from builder.config import interpolation
from builder.config.interpolation import resolve
from builder.config.origin import Origins
from builder.errors import ConfigError, Origin

CONFIGS = [
    {"a": 1, "b": "${a}", "c": "x${a}y${b}", "d": {"e": "${.f}", "f": [1, "${..g}"], "g": "${..a}", "h": "${d.f[0]} ${d.f.1}"}, "i": "${d}"},
    {"a": r"\${b}", "b": r"\\${c}", "c": 1.5e-7, "d": r"x\\\${c} ${c}", "e": "$ {a} $x", "f": "abc\\"},
    {"a": "${oc.env:T_SECRET}", "b": "${oc.env:T_NONE,3}", "c": "${oc.env:T_NONE, null}", "d": "${oc.env:T_NONE,'a, b'}", "e": "${oc.env:T_NONE,http://x/y z}"},
    {"a": "${oc.select:b,3}", "c": "${oc.select:zz,0.5}", "d": "${oc.select:zz,abc}", "e": "${oc.select:zz,'3'}", "f": "${oc.select:a}", "g": "${oc.select:zz}"},
    {"g": None, "h": "${g}", "i": "${g}${g}", "j": True, "k": "${j}!"},
    {"a-b": {"1x": 5}, "x": "${a-b}", "y": "${ a-b.1x }"},
    {"a": "${b.c}", "b": "${d}", "d": {"c": {"e": "${f}"}}, "f": 3, "g": "line ${f}\nline ${f}\n"},
    {"code": "x = '\\n'\nreturn {a: 1}[a]", "n": "${code}"},
]  # fmt: skip


@pytest.mark.parametrize("config", CONFIGS)
def test_resolves_as_omegaconf_does(config, monkeypatch):
    monkeypatch.setenv("T_SECRET", "${oc.env:HOME} x")
    expected = OmegaConf.to_container(OmegaConf.create(config), resolve=True)
    assert resolve(config, Origins()) == expected


@pytest.mark.parametrize(
    ("config", "said"),
    [
        ({"a": "${b}", "b": "${a}"}, "a: an interpolation that leads back to itself\n  found:    '${b}'"),
        ({"a": {"b": "${a}"}}, "a.b: an interpolation that leads back to itself\n  found:    '${a}'"),
        (
            {"task": {"monitor": "x"}, "c": "${task.monitr}"},
            "c: no such key: task.monitr\n  found:    '${task.monitr}'\n  did you mean 'task.monitor'?",
        ),
        ({"a": {"x": 1}, "c": "${a.x.y}"}, "c: no such key: a.x.y\n  found:    '${a.x.y}'"),
        ({"a": "???", "b": "${a}"}, "a: a required value is missing\n  hint:     give it as a=VALUE"),
        (
            {"a": "${oc.env:T_NONE}"},
            "a: the environment variable T_NONE isn't set\n  found:    '${oc.env:T_NONE}'\n"
            "  hint:     set it, or write ${oc.env:T_NONE,default}",
        ),
        ({"a": "${...x}"}, "a: an interpolation that leads out of the config\n  found:    '${...x}'"),
        ({"a": "${b}!", "b": [1]}, "a: a mapping or list inside a text\n  found:    '${b}!'"),
        ({"a": "${oc.select:b,010}"}, "a: a number with a leading zero\n  found:    '${oc.select:b,010}'\n  hint:     quote the default"),
    ],
)  # fmt: skip
def test_what_leads_nowhere_is_told(config, said):
    with pytest.raises(ConfigError) as error:
        resolve(config, Origins())
    assert str(error.value) == said


def test_a_fault_names_where_the_interpolation_was_written():
    with pytest.raises(ConfigError) as error:
        resolve({"a": {"b": "${c}"}}, Origins({("a", "b"): Origin("f.yaml", 3)}))
    assert str(error.value) == "f.yaml:3: a.b: no such key: c\n  found:    '${c}'"


@pytest.mark.parametrize(
    "text",
    ["${hydra:choices.model}", "${now:%Y}", "${oc.decode:1}", "${oc.create:[1]}", "${oc.dict.keys:a}", "${oc.deprecated:a}", "${mine:1}", "${:a}",
     "${a.${b}}", "${oc.env:${b}}", "${${b}:a}", "${", "${}", "${a", "x${a b}", "${oc.env:}", "${oc.env:A,B,C}", "${oc.env:A,[1]}"],
)  # fmt: skip
def test_other_resolvers_and_nested_forms_are_refused_and_never_run(text):
    ran = []
    OmegaConf.register_new_resolver("mine", ran.append, replace=True)
    try:
        with pytest.raises(ConfigError) as error:
            resolve({"a": 1, "b": "a", "c": text}, Origins())
    finally:
        OmegaConf.clear_resolver("mine")
    assert len(error.value.faults) == 1 and error.value.faults[0].found == text
    assert ran == []


def to(index):
    return "${a" + str(index) + "}"


@pytest.mark.parametrize(
    "config",
    [
        {"a0": "x" * 8} | {f"a{i}": f"{to(i - 1)}{to(i - 1)}" for i in range(1, 31)},
        {"a0": ""} | {f"a{i}": f"{to(i - 1)}{to(i - 1)}" for i in range(1, 31)},
        {"a0": ["x"]} | {f"a{i}": [to(i - 1), to(i - 1)] for i in range(1, 31)},
        {"a0": {"x": 1}} | {f"a{i}": {"l": to(i - 1), "r": to(i - 1)} for i in range(1, 31)},
        {f"a{i}": to(i + 1) for i in range(5000)},
        {"big": ["x"] * 50_000, "all": ["${big}"] * 1000},
    ],
)
def test_expansion_is_bounded(config, monkeypatch):
    monkeypatch.setattr(interpolation, "MAX_EXPANDED", 20_000)  # a fifth of what it is
    started = time.process_time()
    try:
        resolve(config, Origins())
    except ConfigError as error:
        assert "expand to too much" in str(error) or "lead on too far" in str(error)
    assert time.process_time() - started < 2


texts = st.lists(
    st.sampled_from(["${", "}", "a", "b.c", ".", "..", "oc.env:", "oc.select:", "T_NONE", ",", "'", "\\", " ", "$", "{", "[", "]", "0", "null"]),
    max_size=10,
).map("".join)  # fmt: skip


@settings(deadline=None, max_examples=120)
@given(st.fixed_dictionaries({"a": texts, "b": st.fixed_dictionaries({"c": texts, "d": st.lists(texts, max_size=2)})}))
def test_what_resolves_resolves_as_omegaconf_does(config):
    try:
        values = resolve(config, Origins())
    except ConfigError:
        return
    assert values == OmegaConf.to_container(OmegaConf.create(config), resolve=True)
