import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from builder.lang.forward import parse_expression, parse_forward
from builder.lang.guard import TooLong, bounded, needs_guard, spend
from builder.lang.scope import Scope

FUNCTIONS = {"zeros": torch.zeros, "relu": torch.relu}


def both(body):
    """The function of a forward as it is built, and as it is checked."""
    forward = parse_forward(body, Scope(inputs={"x": False}, functions=frozenset(FUNCTIONS)))
    return forward, forward.bind(FUNCTIONS), forward.bind(FUNCTIONS, guarded=True)


SAME = [
    "y = x * 2 + 1\ny *= 3\ny += x\nreturn y",
    "for i in range(4):\n  x = x * i + 2 ** i\nreturn x",
    "y = [x * i for i in range(3) if i % 2 == 0]\ny.extend(y)\ny += [x]\nreturn sum(y)",
    "y = [x, x + 1]\ny[0:1] = [x, x]\nreturn [*y, *y][3]",
    "a, b = x\nreturn a * b",
    "y = {k: v for k, v in zip([1, 2], [x, x * 2])}\nreturn max(y.keys()) * y[2]",
    "for i, row in enumerate(x):\n  if i == 1:\n    return row\nreturn x",
    "y = x.clone()\ny[0] += 1\ny[0, 1] *= 5\nreturn y",
    "return any([v > 3 for v in [1, 2]]) * x + len(list(range(3))) + min(4, 2)",
    "n = 1 << 3\nreturn (x * n) % 3",
    "y = x\ny *= 2\nreturn x",
    "return tuple(reversed(sorted([3, 1, 2])))[0] * x",
]


@pytest.mark.parametrize("body", SAME)
def test_what_is_checked_computes_what_is_built(body):
    _, plain, guarded = both(body)
    x = torch.arange(6.0).view(2, 3)
    with bounded():
        assert torch.equal(guarded(None, x.clone()), plain(None, x.clone()))
    assert torch.equal(guarded(None, x.clone()), plain(None, x.clone()))


@given(
    st.lists(
        st.sampled_from(["n = n * 2", "n = n + 3", "n *= 2", "n = n ** 2", "n = n << 1", "n = n % 97", "n += n"]),
        max_size=6,
    ),
    st.integers(0, 9),
)
@settings(max_examples=100, deadline=None)
def test_numbers_are_the_same(lines, n):
    _, plain, guarded = both("\n".join([f"n = {n}", *lines, "return x * 0 + float(n % 1000)"]))
    x = torch.zeros(1)
    assert torch.equal(guarded(None, x), plain(None, x))


@pytest.mark.parametrize(
    "body",
    [
        "for i in range(10**9):\n  n = i\nreturn x",
        "n = [i for i in range(10**9)]\nreturn x",
        "n = [0] * 10**9\nreturn x",
        "n = [x]\nfor i in range(60):\n  n += n\nreturn x",
        "n = sum(range(10**9))\nreturn x",
        "n = tuple(enumerate(range(10**9)))\nreturn x",
        "n = any([False for i in range(10**4) for j in range(10**4)])\nreturn x",
        "n = x.shape * 10**9\nreturn x",
        "n = 10**10**9\nreturn x",
        "n = 1 << 10**9\nreturn x",
    ],
)
def test_what_goes_on_too_long_is_stopped(body):
    forward, _, guarded = both(body)
    assert needs_guard(forward.function)
    with bounded(100_000), pytest.raises(TooLong):
        guarded(None, torch.zeros(2))


@pytest.mark.parametrize(
    "body",
    [
        "return relu(x)",
        "y = x + x\nreturn relu(y) - x / 2",
        "y = x[:, 0]\nif training:\n  y = y + 1\nreturn y.mean(dim=0)",
    ],
)
def test_most_forwards_need_no_guard(body):
    assert not needs_guard(both(body)[0].function)


def test_expressions_are_guarded_too():
    expression = parse_expression("x * sum([i for i in range(n)])", ["x", "n"], FUNCTIONS)
    guarded = expression.bind(FUNCTIONS, guarded=True)
    with bounded(1000):
        assert guarded({"x": 2, "n": 4}) == expression.bind(FUNCTIONS)({"x": 2, "n": 4}) == 12
        with pytest.raises(TooLong):
            guarded({"x": 2, "n": 10_000})


def test_a_traceback_names_the_line():
    _, _, guarded = both("y = x\nfor i in range(3):\n  y = y @ zeros(7, 7)\nreturn y")
    with pytest.raises(RuntimeError) as error:
        guarded(None, torch.zeros(2, 2))
    lines = [entry.lineno for entry in error.traceback if entry.frame.code.raw is guarded.__code__]
    assert lines == [2]  # counted from 0


def test_steps_are_counted_inside_only():
    spend(10**12)
    with bounded(5):
        spend(5)
        with bounded(3), pytest.raises(TooLong):
            spend(4)
        with pytest.raises(TooLong):
            spend(1)
    spend(10**12)
