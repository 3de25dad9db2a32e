import pickle

import pytest

from builder.errors import Origin
from builder.lang.formula import LangError, parse_formula


def value(text, **names):
    return parse_formula(text).evaluate(names)


@pytest.mark.parametrize(
    "text",
    [
        "1 + 2 * 3 - 4 / 5 // 1 % 7", "2 ** 10", "-3 ** 2", "+1.5", "not 0", "1 < 2 <= 2 != 3", "1 == 1.0", "3 in [1, 2, 3]",
        "'a' not in ('b', 'c')", "None is None", "[1][0] is not None", "True and 0 or 'x'", "1 if 0 else 2", "(1, 'a', None)", "[1, [2, 3]]",
        "{'a': 1, 'b': [2]}", "[1, 2, 3][1]", "[1, 2, 3][-2:]", "'abc'[::-1]", "{'a': {'b': 2}}['a']['b']", "[i * i for i in range(5) if i % 2]",
        "[(i, j) for i in range(3) for j in range(i)]", "sum(i for i in range(10))", "[a + b for a, b in [(1, 2), (3, 4)]]", "min(3, 1, 2)",
        "max([3, 1, 2])", "round(2.567, 1)", "round(2.5)", "abs(-3)", "int(7 / 2)", "float('1e-3')", "int('12')", "len('abc') + len([1])",
        "'a' + 'b'", "[1] * 3 + [2]", "(1,) + (2,)", "[c for c in 'abc']", "[_ for _ in range(2)]", "2 ** -1", "range(3)[1]", "1_000", "0x10", "1 ** 10 ** 9",
    ],
)  # fmt: skip
def test_a_formula_gives_what_python_gives(text):
    expected = eval(text)
    result = value(text)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sqrt(16)", 4.0),
        ("ceil(1.2)", 2),
        ("floor(-1.2)", -2),
        ("log2(8)", 3.0),
        ("log(1)", 0.0),
        ("exp(0)", 1.0),
        ("range(1, 4)", [1, 2, 3]),
        ("log(8, 2)", 3.0),
    ],
)
def test_functions_of_formulas(text, expected):
    assert value(text) == expected


def test_names_and_facts():
    formula = parse_formula(" width * 2 + data.num_classes - sum(w for w in widths) + data.shape[0]")
    assert formula.names == {"width", "data", "widths"}
    assert formula.dotted == {"width", "widths", "data.num_classes", "data.shape"}
    assert formula.evaluate({"width": 8, "widths": [1, 2], "data": {"num_classes": 10, "shape": (3, 4)}}) == 26
    assert parse_formula("data['n'] + data.n").dotted == {"data", "data.n"}


def test_args_may_be_called_like_functions():
    assert value("max(max, min)", max=3, min=5) == 5


def test_a_branch_not_taken_is_not_worked_out():
    assert value("1 if n else 1 / 0", n=1) == 1
    assert value("n or 1 / 0", n=1) == 1


def test_a_comprehensions_names_end_with_it():
    assert value("[i for i in range(3)] + [i]", i=7) == [0, 1, 2, 7]


def test_a_formula_is_equal_by_text_and_can_be_pickled():
    formula = parse_formula("a + 1")
    assert formula == parse_formula("a + 1") and hash(formula) == hash(parse_formula("a + 1"))
    assert pickle.loads(pickle.dumps(formula)).evaluate({"a": 1}) == 2


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 / (n - 4)", "division by zero"), ("5 % 0", "division by zero"), ("0 ** -1", "division by zero"), ("widht", "unknown name 'widht'"),
        ("data.num_clases", "'data' has no 'num_clases'"), ("n.real", "'n' is the number 4 and has no 'real'"), ("data.a.b", "'data' has no 'a'"),
        ("'a' + 1", "a text + the number 1 can't be worked out"), ("'%s' % 1", "a text % the number 1 can't be worked out"), ("[1] + (2,)", "a list + a tuple can't be worked out"),
        ("-'a'", "a text has no sign"), ("[1][3]", "list index out of range"), ("{'a': 1}['b']", "no key 'b'"), ("sqrt(-1)", "sqrt(-1) can't be worked out: math domain error"),
        ("(-8) ** 0.5", "a negative number has no such power"), ("sum(['a'])", "sum(a list) can't be worked out: a text is not a number"), ("1 < 'a'", "'<' not supported between instances of 'int' and 'str'"),
        ("min([])", "min(a list) can't be worked out: min() iterable argument is empty"), ("[i for i in 3]", "the number 3 can't be looped over"), ("floor(1e400)", "floor(inf) can't be worked out: cannot convert float infinity to integer"),
        ("[a for a, b in [(1, 2, 3)]]", "a tuple can't be unpacked into 2 names"), ("n[0]", "the number 4 has no items"), ("{[1]: 2}", "unhashable type: 'list'"), ("max", "unknown name 'max'"),
    ],
)  # fmt: skip
def test_a_formula_that_cant_be_worked_out_says_why(text, message):
    try:
        value(text, n=4, width=8, data={"num_classes": 3})
    except LangError as error:
        assert error.message.split(" arg is an empty")[0].split(" iterable")[0] in (
            message,
            message.split(" iterable")[0],
        )
    else:
        pytest.fail("it was worked out")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 +", "not Python: invalid syntax"), ("", "not Python: invalid syntax"), ("a = 1", "not Python: invalid syntax"), ("lambda: 1", "lambda is not part of a formula"),
        ("__import__('os')", "unknown function '__import__'"), ("_x", "the name '_x' begins with an underscore"), ("data.__class__", "the name '__class__' begins with an underscore"),
        ("'a'.format(1)", "only functions can be called"), ("(1).real", "attribute 'real' is not part of a formula"), ("sqroot(2)", "unknown function 'sqroot'"), ("round(2.5, ndigits=1)", "round takes no arguments by name"),
        ("min(*a)", "this starred is not part of a formula"), ("f'{a}'", "an f-string is not part of a formula"), ("{1, 2}", "a set is not part of a formula"), ("{**a}", "'**' is not part of a formula"),
        ("(a := 1)", ":= is not part of a formula"), ("1 @ 2", "this matmult is not part of a formula"), ("1 << 2", "this lshift is not part of a formula"), ("b'a'", "a bytes constant is not part of the language"),
        ("1j", "a complex number is not part of a formula"), ("...", "'...' is not part of a formula"), ("a is 1", "'is' is only for None"), ("[_x for _x in a]", "a name is expected after `for`"),
        ("{a: 1 for a in b}", "this dictcomp is not part of a formula"), ("(yield)", "yield is not part of a formula"), ("9" * 5000, None), ("a\0", None), ("(" * 50, "brackets are nested deeper than 40 levels"),
        ("1" + "+1" * 2000, "the code is nested deeper than 100 levels"), ("-" * 3000 + "1", None), ("1" * 5000, "the text is longer than 4096 characters"), ("2 ** 70 + 99999999999999999999999", "an integer constant is larger than 2**64"), ("a[0].b", "attribute 'b' is not part of a formula"),
        ("~1", "this invert is not part of a formula"), ("[x async for x in y]", None), ("a if b", None), ("eval('1')", "unknown function 'eval'"), ("range(3).__class__", "attribute '__class__' is not part of a formula"),
    ],
)  # fmt: skip
def test_what_is_no_formula_is_refused_when_read(text, message):
    with pytest.raises(LangError) as caught:
        parse_formula(text)
    assert message is None or caught.value.message == message


@pytest.mark.parametrize(
    "text",
    [
        "9 ** 9 ** 9", "2 ** 5000", "2 ** 4000 * 2 ** 4000", "'a' * 10 ** 9", "[0] * 10 ** 6", "10 ** 9 * (0,)", "range(10 ** 9)", "range(10 ** 30)",
        "[i for i in range(100000) for j in range(100000)]", "[[[i for i in range(1000)] for j in range(1000)] for k in range(1000)]", "sum([j for j in range(99999)] + [1, 2, 3])",
        "[0 for i in range(1000) for j in range(1000)]", "round(12345, -10 ** 9)", "round(12345, -(10 ** 6))", "len([0] * 90000) + len([0] * 90000)",
        "[0 for " + " for ".join(f"a{i} in [1, 2]" for i in range(60)) + "]",
        "[1 for " + " for ".join(f"a{i + 1} in [[a{i}, a{i}]]" for i in range(60)) + "]",
        "{'a': [0] * 60000, 'b': [0] * 60000}", "(0.5 * 2 == 1) * [0] * 90000 * 90000", "[[0] * 50000 for i in range(50000)]",
    ],
)  # fmt: skip
@pytest.mark.timeout(5)
def test_a_formula_can_neither_hang_nor_fill_memory(text):
    with pytest.raises(LangError):
        value(text, a0=1)


def test_a_deep_value_of_a_name_is_counted():
    deep = [1]
    for _ in range(60):
        deep = [deep, deep]
    for text in ("a == a", "[a]", "len(a)", "a + a"):
        with pytest.raises(LangError):
            value(text, a=deep)


def test_the_fault_of_a_formula_points_into_its_text():
    with pytest.raises(LangError) as caught:
        value("  2 * depht", depth=3)
    fault = caught.value.fault("=  2 * depht", Origin("a.yaml", 4, 3, text_line=4, text_indent=9), ("model", "width"))
    assert (fault.origin.line, fault.origin.column) == (4, 17)
    assert str(fault) == (
        "a.yaml:4: model.width: unknown name 'depht'\n  found:    '=  2 * depht'\n  did you mean 'depth'?"
    )
