from hypothesis import example, given, settings
from hypothesis import strategies as st

from builder.config.saved import dump_yaml
from builder.config.yaml_file import Document, parse_yaml
from builder.errors import ConfigError

PIECES = [
    "a", "b: ", "- ", "? ", ": ", "{", "}", "[", "]", ",", "'", '"', "|", ">", "|2-", "&x ", "*x", "!!str ", "!t ", "<<: ", "#", "# @package p",
    "\n", "\n  ", "\n    ", "\t", "010", "1e3", ".nan", "null", "true", "---\n", "...\n", "%YAML 1.2\n", "\\", "\r\n", "\ufeff", "é", "\x85", "=",
    "@", "`", "~", "???", "${a}",
]  # fmt: skip
yamlish = st.lists(st.sampled_from(PIECES), max_size=40).map("".join)


def read(text):
    try:
        document = parse_yaml(text, "f.yaml")
        assert isinstance(document, Document)
        paths = set(document.origins)
        assert () in paths and all(path[:-1] in paths for path in paths if path)
    except ConfigError as error:
        assert str(error)


@settings(deadline=None, max_examples=200)
@given(st.text())
@example("\ud800")
@example("a: \x00")
@example("? a")
def test_any_text_gives_a_document_or_a_config_error(text):
    read(text)


@settings(deadline=None, max_examples=300)
@given(yamlish)
@example("a: &x |\n")
@example("&x a: *x")
@example("- &x\n- *x")
def test_any_text_made_of_yaml_gives_a_document_or_a_config_error(text):
    read(text)


plain = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63) + 1, 2**63 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text()
    | st.sampled_from(["on", "12:30", "010", "1e-3", "0x1F", "1_000", "<<", "=", "~", "null", "a: b", "- a", "x\ny\n", " x\n", "\n"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5) | st.integers(-9, 9), inner, max_size=4),
    max_leaves=12,
)  # fmt: skip


def unique_keys(value):
    if isinstance(value, dict):
        return len({str(key) for key in value}) == len(value) and all(map(unique_keys, value.values()))
    return not isinstance(value, list) or all(map(unique_keys, value))


@settings(deadline=None, max_examples=80)
@given(plain.filter(unique_keys))
@example({"x": "\u2028"})
@example({"forward": "a\n  b\n\nc\n"})
@example({"<<": 1, "": 2})
def test_what_is_dumped_reads_back_the_same(value):
    again = parse_yaml(dump_yaml(value), "f.yaml").value
    assert again == value
    assert repr(again) == repr(value)
