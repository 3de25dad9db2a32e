import itertools
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import patterns
from builder.errors import UsageError

SEGMENTS = st.sampled_from(["a", "b", "ab", "aa", "0", "1", "12", "fc"])
NAMES = st.lists(SEGMENTS, min_size=1, max_size=5).map(".".join)
GLOBS = st.lists(
    st.sampled_from(["a", "ab", "*", "**", "a*", "*b", "?", "[0-1]", "[!0-1]", "1?", "fc"]), min_size=1, max_size=4
).map(".".join)


def naive_segment(glob, text):
    """One segment by hand, character by character."""
    if not glob:
        return not text
    if glob[0] == "*":
        return any(naive_segment(glob[1:], text[start:]) for start in range(len(text) + 1))
    if glob[0] == "[":
        end = glob.index("]")
        inside, rest = glob[1:end], glob[end + 1 :]
        refused = inside.startswith("!")
        first, last = inside.lstrip("!").split("-")
        return bool(text) and (first <= text[0] <= last) is not refused and naive_segment(rest, text[1:])
    return bool(text) and (glob[0] in ("?", text[0])) and naive_segment(glob[1:], text[1:])


def naive(glob, name):
    """A list of segments against a list of segments."""
    if not glob:
        return not name
    if glob[0] == "**":
        return any(naive(glob[1:], name[start:]) for start in range(len(name) + 1))
    return bool(name) and naive_segment(glob[0], name[0]) and naive(glob[1:], name[1:])


@given(GLOBS, NAMES)
def test_a_glob_fits_the_names_that_a_matcher_written_by_hand_finds(glob, name):
    assert patterns.fits(glob, name) == naive(glob.split("."), name.split("."))


@given(GLOBS, NAMES)
def test_a_pattern_covers_a_name_if_it_fits_it_or_an_ancestor(glob, name):
    segments = name.split(".")
    expected = any(naive(glob.split("."), segments[:end]) for end in range(1, len(segments) + 1))
    assert patterns.covers(glob, name) == expected


@pytest.mark.parametrize(
    ("glob", "name", "expected"),
    [
        ("*", "fc", True),
        ("*", "fc.weight", False),
        ("**", "fc.weight", True),
        ("**", "", True),
        ("*", "", False),
        ("encoder.**", "encoder", True),
        ("**.weight", "weight", True),
        ("layer*", "layer1", True),
        ("layer*", "layer1.0", False),
        ("a.**.b", "a.b", True),
        ("a.**.b", "a.x.y.b", True),
        ("a+b", "a+b", True),
        ("a+b", "aab", False),
        (r"[\d]", "1", False),
        ("[]", "[]", True),
        ("re:a.*", "a.b.c", True),
        ("re:a", "a.b", False),
        (r"re:blocks\.\d+", "blocks.12", True),
    ],
)
def test_what_globs_and_regular_expressions_mean(glob, name, expected):
    assert patterns.fits(glob, name) is expected


@pytest.mark.parametrize(
    ("pattern", "said"),
    [
        ("", "it is empty"),
        ("re:", "it is empty"),
        ("re:(", "it is no regular expression: missing )"),
        ("a..b", "there is nothing between two dots, or before or after one"),
        (".a", "there is nothing between two dots, or before or after one"),
        ("a**", "'**' stands alone between dots"),
        ("[3-0]", "what stands in its [ ] can't be read: bad character range"),
        ("encoder.**", None),
        ("[", None),
        ("re:a|b", None),
    ],
)
def test_what_is_wrong_with_a_pattern(pattern, said):
    assert patterns.problem(pattern) == said


@given(st.text(alphabet="ab.*?[]!-^\\&~|(){}+0123re:", max_size=12), NAMES)
def test_any_text_is_a_pattern_or_has_a_problem(text, name):
    if patterns.problem(text) is None:
        assert patterns.fits(text, name) in (True, False)


def test_a_pattern_that_would_run_for_years_is_given_up(monkeypatch):
    monkeypatch.setattr(patterns, "SECONDS", 0.05)
    start = time.monotonic()
    with pytest.raises(UsageError, match="takes too long to match 'a{60}b'; write it more simply"):
        patterns.fits(r"re:(a?){60}a{60}c|((a|aa|aaa)+b?)+c", "a" * 60 + "b")
    assert time.monotonic() - start < 20


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("encodr", ("encoder",)),
        ("encodr.**", ("encoder",)),
        ("encoder.layer", ("encoder.layers",)),
        ("**.wieght", ("weight",)),
        ("zzz", ()),
    ],
)
def test_near_names_of_a_pattern_that_fits_none(pattern, expected):
    names = ["encoder", "encoder.layers", *(f"encoder.layers.{i}.weight" for i in range(3)), "head.weight", "head.bias"]
    assert patterns.near(pattern, names)[: len(expected)] == expected
    assert expected or not patterns.near(pattern, names)


def test_patterns_are_quick_on_many_names():
    names = [".".join(parts) for parts in itertools.product("abcdefgh", repeat=4)]
    found = [name for name in names if patterns.covers("a.**.h", name)]
    assert len(found) == sum(name.startswith("a.") and "h" in name.split(".")[1:] for name in names)
