"""Any text gives a value or the error of its language: never another exception, never a hang."""

import math
import types
import warnings

from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from lang_helpers import CALLABLES, CONSTANTS, FUNCTIONS

from builder.errors import ConfigError
from builder.lang.formula import LangError, parse_formula
from builder.lang.forward import LayerName, Scope, parse_expression, parse_forward
from builder.lang.names import ATTRIBUTES, BUILTINS

SCOPE = Scope(
    inputs={"x": False, "mask": True}, args={"width"}, parameters={"scale"}, buffers={"mean_"},
    functions=CALLABLES, constants=CONSTANTS,
    layers={
        "conv": LayerName(opaque=True, unused=True),
        "block": LayerName(children={"fc": LayerName(opaque=True)}, tensors={"gain"}, unused=True),
        "trunk": LayerName("ModuleList", {"0": LayerName(), "1": LayerName(opaque=True)}, unused=True),
        "deep": LayerName("Sequential", element=LayerName("ModuleDict", {"a": LayerName()}), unused=True),
        "heads": LayerName("ModuleDict", {"a": LayerName(opaque=True), "b": LayerName("ModuleList")}, unused=True),
        "gains": LayerName("ParameterList", unused=True),
    },
)  # fmt: skip

WORDS = st.sampled_from(
    """x mask width scale mean_ conv block trunk deep heads gains y z _ self training relu cat no_grad float32 len range zip
    enumerate reversed list dict sum max int float items values keys append pop shape T data weight fc gain a __class__
    _x if elif else for in while and or not is None True lambda def class import from return yield await async with as
    del global pass break continue try except match case : , . ( ) [ ] { } = == != < > + - * / // % ** @ & | ^ ~ << >> += @=
    := -> ; 0 1 2 -1 3.5 1e400 1j 10**9 99999999999999999999999 'a' "b" b'c' f'{x}' '%s' ... \\ # \t ` ! ? $ é ｄata""".split()
)
TOKENS = st.lists(st.one_of(WORDS, WORDS, st.sampled_from(["\n", "\n  ", "\n    ", " "])), max_size=60).map(" ".join)

NAMES = st.sampled_from("x mask width scale mean_ conv block trunk deep heads gains y z training".split())


def _grown(inner):
    """Expressions made of smaller ones, right and wrong alike."""
    two = st.tuples(inner, inner)
    return st.one_of(
        two.map(lambda p: f"({p[0]} + {p[1]})"), two.map(lambda p: f"{p[0]}[{p[1]}]"), two.map(lambda p: f"{p[0]}({p[1]})"),
        two.map(lambda p: f"({p[0]}, {p[1]})"), two.map(lambda p: f"({p[0]} if {p[1]} else y)"), two.map(lambda p: f"[{p[0]} for y in {p[1]}]"),
        two.map(lambda p: f"{{{p[0]}: {p[1]}}}"), inner.map(lambda p: f"relu({p})"), inner.map(lambda p: f"{p}[1:]"), inner.map(lambda p: f"list({p})"),
        two.map(lambda p: f"zip({p[0]}, {p[1]})"), inner.map(lambda p: f"enumerate({p})"), inner.map(lambda p: f"{p}.items()"), inner.map(lambda p: f"{p}.values()"),
        st.tuples(inner, st.sampled_from(["shape", "fc", "weight", "gain", "data", "T", "a"])).map(lambda p: f"{p[0]}.{p[1]}"), inner.map(lambda p: f"(y, *{p})"),
        two.map(lambda p: f"({p[0]} and not {p[1]})"), two.map(lambda p: f"({p[0]} is not {p[1]})"), two.map(lambda p: f"({p[0]} in {p[1]})"),
    )  # fmt: skip


EXPRESSIONS = st.recursive(
    st.one_of(NAMES, st.sampled_from(["0", "1", "-1", "'a'", "None", "2.5"])), _grown, max_leaves=12
)
TARGETS = st.sampled_from(["y", "z", "y, z", "(y, *z)", "mean_", "x", "y[0]", "conv", "_"])
STATEMENTS = st.recursive(
    st.one_of(
        st.tuples(TARGETS, EXPRESSIONS).map(lambda p: f"{p[0]} = {p[1]}"), st.tuples(TARGETS, EXPRESSIONS).map(lambda p: f"{p[0]} += {p[1]}"),
        EXPRESSIONS.map(lambda e: f"return {e}"), st.sampled_from(["break", "continue", "pass"]), EXPRESSIONS,
    ),
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map("\n".join),
        st.tuples(EXPRESSIONS, inner, inner).map(lambda p: f"if {p[0]}:\n{_in(p[1])}\nelse:\n{_in(p[2])}"),
        st.tuples(TARGETS, EXPRESSIONS, inner).map(lambda p: f"for {p[0]} in {p[1]}:\n{_in(p[2])}"),
        inner.map(lambda p: f"with no_grad():\n{_in(p)}"),
    ),
    max_leaves=8,
)  # fmt: skip

FEW = settings(
    max_examples=120, deadline=3000, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)


def _in(block):
    return "\n".join(f"  {line}" for line in block.splitlines())


def _codes(code):
    yield code
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _codes(constant)


def check_forward(text):
    try:
        forward = parse_forward(text, SCOPE)
    except ConfigError as error:
        assert str(error)
        return
    parts = {name for reference in forward.references for name in reference.path}
    own = {*SCOPE.owned(), "training", "fc", "gain", "a", "type", "items", "keys", "values"}
    allowed = {*ATTRIBUTES, *BUILTINS, *forward.functions, *own, *parts}
    for code in _codes(forward.code):
        assert set(code.co_names) <= allowed and not [name for name in code.co_names if name.startswith("_")]
    assert set(forward.bind(FUNCTIONS).__globals__) == {"__builtins__", *forward.functions, *forward.builtins}
    assert forward.to_source().startswith("def forward(self, x, mask=None):")
    assert len(forward.source_lines()) > 0


def check_formula(text):
    try:
        value = parse_formula(text).evaluate(
            {"x": 3, "y": [1, 2], "width": 4, "conv": {"a": 1, "data": {"shape": (2,)}}}
        )
    except LangError as error:
        assert error.message and error.line >= 1 and error.column >= 1
        return
    _plain(value)


def _plain(value):
    if isinstance(value, list | tuple):
        assert len(value) <= 100_000
        for item in value:
            _plain(item)
    elif isinstance(value, dict):
        for key, item in value.items():
            _plain((key, item))
    else:
        assert value is None or type(value) in (int, float, bool, str)
        assert not isinstance(value, float) or math.isnan(value) or value == value


def check_expression(text):
    try:
        expression = parse_expression(text, ["x", "mask", "y"], CALLABLES, mappings=["y"], constants=CONSTANTS)
    except ConfigError as error:
        assert str(error)
        return
    for code in _codes(expression.code):
        assert not [name for name in code.co_names if name.startswith("_")]
    expression.bind(FUNCTIONS)


@FEW
@given(st.one_of(st.text(), TOKENS, STATEMENTS, st.text(st.sampled_from("x ()[]{}.,:=+-*\n'\"\\#f01j_@"))))
@example("x\x00")
@example("\ud800")
def test_any_text_is_a_forward_or_is_refused(text):
    check_forward(text)


@FEW
@given(STATEMENTS, EXPRESSIONS)
def test_programs_of_right_syntax_are_a_forward_or_are_refused(body, result):
    check_forward(f"y = z = relu(x, mask)\n{body}\nreturn {result}")


@FEW
@given(st.one_of(st.text(), TOKENS, EXPRESSIONS, st.text(st.sampled_from("xy 019.()[]{},:+-*/%<>=!'\"j_"))))
@example("9**9**9")
def test_any_text_is_a_formula_or_is_refused(text):
    check_formula(text)


FORMULAS = st.recursive(
    st.sampled_from(["x", "y", "width", "0", "1", "2", "-3", "2.5", "7", "True", "None", "'ab'", "[]", "data.n"]),
    lambda inner: st.one_of(
        st.tuples(inner, st.sampled_from("+ - * / // % < <= == != > in and or".split()), inner).map(lambda p: f"({' '.join(p)})"),
        st.tuples(inner, inner, inner).map(lambda p: f"({p[0]} if {p[1]} else {p[2]})"), inner.map(lambda p: f"(-{p})"), inner.map(lambda p: f"(not {p})"),
        inner.map(lambda p: f"({p}) ** 2"), st.tuples(inner, inner).map(lambda p: f"[{p[0]}, {p[1]}]"), st.tuples(inner, inner).map(lambda p: f"({p[0]}, {p[1]})"),
        st.tuples(inner, inner).map(lambda p: f"({p[0]})[{p[1]}]"), inner.map(lambda p: f"({p})[1:]"), st.tuples(inner, inner).map(lambda p: f"[{p[0]} for x in {p[1]}]"),
        st.tuples(st.sampled_from(["min", "max", "sum", "len", "abs", "round", "int", "float"]), inner).map(lambda p: f"{p[0]}({p[1]})"),
    ),
    max_leaves=10,
)  # fmt: skip


class Facts(dict):
    n = 10


@FEW
@given(FORMULAS)
def test_a_formula_that_has_a_value_has_pythons(text):
    names = {"x": 3, "y": [1, 2], "width": 4, "data": Facts(n=10)}
    try:
        value = parse_formula(text).evaluate(names)
    except LangError:
        return
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = eval(text, dict(names))
    assert repr(value) == repr(expected)


@FEW
@given(st.one_of(st.text(), TOKENS, EXPRESSIONS))
def test_any_text_is_an_expression_or_is_refused(text):
    check_expression(text)
