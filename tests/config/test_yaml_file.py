import pytest
import yaml

from builder.config import yaml_file
from builder.config.yaml_file import parse_yaml, read_yaml
from builder.errors import ConfigError, Origin


def faults(text):
    with pytest.raises(ConfigError) as error:
        parse_yaml(text, "f.yaml")
    return str(error.value)


def test_values_are_plain_python():
    text = "a: [1, 1e-3, on, 12:30, null, '010']\nb: {x: true, 3: \"q\\n\"}\nc: &t [1]\nd: *t\n? k\n: v\n"
    value = parse_yaml(text, "f.yaml").value
    assert value == {
        "a": [1, 1e-3, "on", "12:30", None, "010"],
        "b": {"x": True, 3: "q\n"},
        "c": [1],
        "d": [1],
        "k": "v",
    }
    assert value["c"] is not value["d"]


@pytest.mark.parametrize("text", ["", "# nothing\n", "---\n", "\n\n"])
def test_an_empty_file_holds_nothing(text):
    assert parse_yaml(text, "f.yaml").value is None


def test_agrees_with_pyyaml_where_both_schemas_agree():
    text = "a:\n- 1\n- b: 'x y'\n  c: >-\n    folded\n    text\n- \"\\u00e9\"\nd: |+\n  kept\n\ne: {f: [], g: {}}\n"
    assert parse_yaml(text, "f.yaml").value == yaml.safe_load(text)


def test_origins_are_those_of_keys_and_items():
    origins = parse_yaml("a: 1\nb:\n  - x\n  -   c: 2\n  - [3,  4]\n", "f.yaml").origins
    places = {path: (origin.line, origin.column) for path, origin in origins.items()}
    assert places == {
        (): (None, None), ("a",): (1, 1), ("b",): (2, 1), ("b", 0): (3, 5), ("b", 1): (4, 7), ("b", 1, "c"): (4, 7),
        ("b", 2): (5, 5), ("b", 2, 0): (5, 6), ("b", 2, 1): (5, 10),
    }  # fmt: skip
    assert {origin.file for origin in origins.values()} == {"f.yaml"}


TEXTS = """\
plain: some text
quoted:   'q'
anchored: &a  late
block: |  # a comment | with a bar
  first
    second
blank: |-

    third
deep:
  explicit: |2
       spaced
    fourth
  folded: >

    fifth
  tagless: &b
    |
    sixth
list: [one,  "two"]
"""


@pytest.mark.parametrize(
    ("path", "line", "character"),
    [
        (("plain",), 1, "s"), (("quoted",), 1, "q"), (("anchored",), 1, "l"), (("block",), 1, "f"), (("block",), 2, " "),
        (("blank",), 2, "t"), (("deep", "explicit"), 1, " "), (("deep", "explicit"), 2, "f"), (("deep", "tagless"), 1, "s"),
        (("list", 0), 1, "o"), (("list", 1), 1, "t"), (("deep", "folded"), 2, "f"),
    ],
)  # fmt: skip
def test_a_texts_own_lines_are_known(path, line, character):
    document = parse_yaml(TEXTS, "f.yaml")
    place = document.origins[path].at_text(line)
    assert place.line is not None and place.column is not None
    assert TEXTS.split("\n")[place.line - 1][place.column - 1] == character
    value = document.value
    for key in path:
        value = value[key]
    assert value.split("\n")[line - 1].startswith(character)


def test_numbers_have_no_text_place():
    assert parse_yaml("a: 1", "f.yaml").origins["a",] == Origin("f.yaml", 1, 1)


def test_line_numbers_are_right_after_windows_line_ends():
    document = parse_yaml("a: |\r\n  x\r\n  y\r\nb: 1\r\n", "f.yaml")
    assert document.value == {"a": "x\ny\n", "b": 1}
    assert document.origins["b",].line == 4


@pytest.mark.parametrize(
    ("text", "header"),
    [
        ("# @package _global_\na: 1", {"package": "_global_"}),
        ("\n#@package model.encoder\n# more\na: 1", {"package": "model.encoder"}),
        ("# a comment\na: 1\n# @package x", {}),
    ],
)
def test_the_package_header(text, header):
    assert parse_yaml(text, "f.yaml").header == header


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a: 1\nb: {\n", "f.yaml:2: a value is missing here\n  found:    'b: {'"),
        ("a: [1, 2\nb: 3\n", "f.yaml:2: the '[' opened on line 1 isn't closed, or a ',' is missing\n  found:    'b: 3'"),
        ("a:\n\tb: 1\n", "f.yaml:2: a tab indents this line\n  found:    'b: 1'\n  hint:     indent with spaces"),
        (
            "lr: 1: 2\n",
            "f.yaml:1: a ':' where no key can stand\n  found:    'lr: 1: 2'\n"
            "  hint:     quote a text that holds ': '; keys of one mapping begin in one column",
        ),
        (
            "a:\n  b: 1\n c: 2\n",
            "f.yaml:3: this line doesn't fit the mapping begun on line 1\n  found:    'c: 2'\n"
            "  hint:     keys of one mapping begin in one column",
        ),
        ("a: 'x\n\n", "f.yaml:1: the quote opened on line 1 isn't closed\n  found:    \"a: 'x\""),
        ("a: @x\n", "f.yaml:1: a text can't begin with '@'\n  found:    'a: @x'\n  hint:     quote it"),
        ("--- a\n--- b\n", "f.yaml:2: a second document\n  hint:     a file holds one document"),
        ("a: \0", "f.yaml:1: a control character, U+0000"),
        ("a: x\u2028y", 'f.yaml:1: an invisible character, U+2028\n  hint:     in double quotes, write "\\u2028"'),
        ("a: \ud800", 'f.yaml:1: an invisible character, U+D800\n  hint:     in double quotes, write "\\ud800"'),
        ("m:\n  a: 1\n  a: 2\n", "f.yaml:3: m.a: duplicate key\n  hint:     it stands on line 2 already"),
        ("1: a\n'1': b\n", "f.yaml:2: 1: duplicate key\n  hint:     it stands on line 1 already"),
        (
            "a: !!python/object/apply:os.system [ls]\n",
            "f.yaml:1: a: tags aren't allowed\n  found:    '!!python/object/apply:os.system'",
        ),
        (
            "a: !thing x\n",
            "f.yaml:1: a: tags aren't allowed\n  found:    '!thing'\n  hint:     write the value without it; quotes make text",
        ),
        ("a: !u!x y\n", "f.yaml:1: tags aren't allowed\n  found:    'a: !u!x y'"),
        ("a: {}\nb:\n  <<: {c: 1}\n", "f.yaml:3: b: merge keys aren't allowed\n  hint:     write the keys out"),
        ("a: *b\n", "f.yaml:1: a: an alias to nothing\n  found:    '*b'"),
        ("a: &b [*b]\n", "f.yaml:1: a[0]: an alias that holds itself\n  found:    '*b'"),
        (
            "true: 1\n",
            "f.yaml:1: not a key\n  found:    'true'\n  expected: a text or a whole number\n"
            "  hint:     quote it to make it text",
        ),
        ("1.5: 1\n[a]: 2\n", None),
        (
            "a: 010\n",
            "f.yaml:1: a: a number with a leading zero\n  found:    '010'\n"
            "  hint:     write 10 for the number, 0o10 for octal, '010' for text",
        ),
        (
            "# first\n# @package x\na: 1\n",
            "f.yaml:2: '# @package' must be the file's first line, and once",
        ),
        (
            "# @package _group_\na: 1\n",
            "f.yaml:1: not a package\n  found:    '_group_'\n  expected: '_global_', or a dotted path like 'model.encoder'",
        ),
    ],
)  # fmt: skip
def test_what_isnt_yaml_is_told_in_plain_words(text, said):
    found = faults(text)
    assert said is None or found == said


QUOTE = "  hint:     inside {…} and […], a formula with commas, brackets or braces stands in quotes"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "fc: {type: Linear, out_features: =max(a, b)}\n",
            f"f.yaml:1: fc.out_features: a ',' cuts this formula off\n  found:    '=max(a, b)'\n{QUOTE}",
        ),
        ("x: [B, =min(a, f(3, 4)), 2]\n", f"f.yaml:1: x[1]: a ',' cuts this formula off\n  found:    "
         f"'=min(a, f(3, 4))'\n{QUOTE}"),
        ("x: {a: =max([1, 2])}\n", f"f.yaml:1: x.a: a ',' cuts this formula off\n  found:    '=max([1, 2])'\n{QUOTE}"),
        (
            "x: {a: =sizes[0]}\n",
            f"f.yaml:1: the '{{' opened on line 1 isn't closed, or a ',' is missing\n  found:    'x: {{a: =sizes[0]}}'\n"
            f"{QUOTE}",
        ),
    ],
)  # fmt: skip
def test_a_formula_that_flow_style_cuts_off_is_to_be_quoted(text, said):
    assert faults(text) == said


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: =max(b, c)", {"a": "=max(b, c)"}),
        ("a: {b: '=max(b, c)', c: =max(b), d: =2 * (a + b)}", {"a": {"b": "=max(b, c)", "c": "=max(b)",
                                                                     "d": "=2 * (a + b)"}}),
        ("a: [=len('(')]", {"a": ["=len('(')"]}),
        ("a: [b(c, d]", {"a": ["b(c", "d"]}),
    ],
)  # fmt: skip
def test_whole_formulas_and_other_texts_are_read(text, value):
    assert parse_yaml(text, "f.yaml").value == value


def test_all_faults_of_a_file_come_at_once():
    found = faults("a: 010\nb: .nan\na: 2\n<<: {}\nc: !x 1\nd: [\n").split("\n")
    assert [line for line in found if line.startswith("f.yaml")] == [
        "f.yaml:1: a: a number with a leading zero",
        "f.yaml:2: b: not a finite number",
        "f.yaml:3: a: duplicate key",
        "f.yaml:4: merge keys aren't allowed",
        "f.yaml:5: c: tags aren't allowed",
        "f.yaml:6: a value is missing here",
    ]


@pytest.mark.parametrize("key", ["on", "yes", "12:30", "2020-01-01", "nan"])
def test_keys_that_look_like_other_things_are_text(key):
    assert parse_yaml(f"{key}: 1", "f.yaml").value == {key: 1}


@pytest.mark.timeout(60)
def test_a_billion_laughs_are_refused_before_they_are_expanded():
    names = "abcdefghijklmnopqrst"
    lines = ["a: &a [ha, ha, ha, ha, ha, ha, ha, ha, ha]"]
    lines += [f"{b}: &{b} [{', '.join(['*' + a] * 9)}]" for a, b in zip(names, names[1:], strict=False)]
    found = faults("\n".join(lines))
    assert found == "f.yaml:6: f: too many values, aliases expanded\n  expected: at most 100,000 values"


def test_long_texts_cannot_be_multiplied_by_aliases():
    text = f"a: &a '{'x' * 1_000_000}'\nb: [{'*a, ' * 1000}]\n"
    assert faults(text) == "f.yaml:2: b: too many values, aliases expanded\n  expected: at most 100,000 values"


@pytest.mark.parametrize(
    "text", ["[" * 100_000, "- " * 100_000 + "a", "{a: " * 70 + "1" + "}" * 70, "[" * 65 + "]" * 65]
)
def test_deep_nesting_is_refused(text):
    assert faults(text).split("\n")[0] == "f.yaml:1: nested too deeply"


def test_deep_nesting_by_aliases_is_refused():
    lines = ["- &a0 [x]"] + [f"- &a{i} [*a{i - 1}]" for i in range(1, 100)]
    assert faults("\n".join(lines)).startswith("f.yaml:65: nested too deeply, aliases followed")


def test_the_deepest_nesting_allowed_is_read():
    value = parse_yaml("[" * 64 + "]" * 64, "f.yaml").value
    for _ in range(63):
        (value,) = value
    assert value == []


def test_large_files_are_refused(tmp_path):
    path = tmp_path / "large.yaml"
    path.write_bytes(b"#" * (yaml_file.MAX_BYTES + 1))
    with pytest.raises(ConfigError) as error:
        read_yaml(path, "large.yaml")
    assert str(error.value) == "large.yaml: too large a file\n  expected: at most 4,000,000 bytes"


def test_files_are_utf_8_with_or_without_a_mark(tmp_path):
    path = tmp_path / "f.yaml"
    path.write_bytes(b"\xef\xbb\xbfa: \xc3\xa9\n")
    assert read_yaml(path).value == {"a": "é"}
    path.write_bytes(b"a: 1\nb: \xe9\n")
    with pytest.raises(ConfigError) as error:
        read_yaml(path, "f.yaml")
    assert str(error.value) == "f.yaml:2: not UTF-8 text\n  found:    b'\\xe9'"


def test_a_file_that_isnt_there_is_told(tmp_path):
    with pytest.raises(ConfigError) as error:
        read_yaml(tmp_path / "none.yaml", "none.yaml")
    assert str(error.value) == "none.yaml: can't be read: No such file or directory"


@pytest.mark.parametrize("loader", ["SafeLoader", "CSafeLoader"])
def test_both_parsers_of_pyyaml_read_the_same(loader, monkeypatch):
    if not hasattr(yaml, loader):
        pytest.skip("PyYAML without libyaml")
    expected = parse_yaml(TEXTS, "f.yaml")
    monkeypatch.setattr(yaml_file, "_Loader", getattr(yaml, loader))
    assert parse_yaml(TEXTS, "f.yaml") == expected
    assert faults("a: [1, 2\nb: 3\n").startswith("f.yaml:2: the '[' opened on line 1 isn't closed")
