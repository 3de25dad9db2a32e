"""CSV files as they come: what is read of them, what is told, and that the hints help."""

import shlex

import pytest

from builder.runs.status import status
from command_line import run

ROWS = [(round((i * 37 % 101) / 10 - 5, 1), "grün" if i % 3 else "blau", "ja" if i * 37 % 101 > 50 else "nein") for i in range(90)]  # fmt: skip


def table(folder, header, form, encoding="utf-8", end="\n"):
    lines = [header, *(form(number, text, answer, index) for index, (number, text, answer) in enumerate(ROWS))]
    (folder / "my.csv").write_text(end.join(lines) + end, encoding=encoding, newline="")


def check(folder, *words, target="y"):
    return run(folder, "check", "data=table", "data.path=my.csv", f"data.target={target}", *words)


def notes(ran):
    assert ran.code == 0, ran.err
    return [line.removeprefix("note: ") for line in ran.err.splitlines()]


def followed(folder, ran, target="y"):
    """The same command again, with the override that the hint shows, as a shell reads it."""
    (hint,) = [line for line in ran.err.splitlines() if "hint:" in line]
    (override,) = shlex.split(hint[hint.index('"') :])
    words = [] if override.startswith("data.target=") else [f"data.target={target}"]
    return run(folder, "check", "data=table", "data.path=my.csv", *words, override)


def test_a_mark_at_the_start_of_the_file_is_no_part_of_a_name(tmp_path):
    table(tmp_path, "größe,farbe,y", lambda a, b, y, _: f"{a},{b},{y}", "utf-8-sig", "\r\n")
    assert notes(check(tmp_path))[:3] == [
        "target y: one of 2 classes: ja, nein",
        "numbers: größe",
        "categories: farbe (2)",
    ]


def test_fields_in_quotes_hold_commas_and_lines(tmp_path):
    table(tmp_path, "a,text,y", lambda a, b, y, _: f'{a},"one, ""two""\nand {b}",{y}')
    assert notes(check(tmp_path))[:3] == ["target y: one of 2 classes: ja, nein", "numbers: a", "categories: text (2)"]


def test_empty_columns_and_dates(tmp_path):
    table(tmp_path, "a,empty,day,y", lambda a, b, y, i: f"{a},,2024-{i % 12 + 1:02d}-{i % 28 + 1:02d},{a * 2.5:.2f}")
    assert notes(check(tmp_path))[:3] == ["target y: a number", "numbers: a, day (days)", "left out: empty (empty)"]


@pytest.mark.parametrize("mark", [";", "\t"])
def test_another_separator_is_told_and_the_hint_helps(mark, tmp_path):
    table(tmp_path, f"a{mark}b{mark}y", lambda a, b, y, _: f"{a}{mark}{b}{mark}{y}")
    ran = check(tmp_path)
    assert ran.code == 2 and "data.separator: the first line has one column only with the separator ','" in ran.err
    assert notes(followed(tmp_path, ran))[1:3] == ["numbers: a", "categories: b (2)"]


def test_names_of_other_alphabets_need_quotes_as_the_hint_says(tmp_path):
    table(tmp_path, "名前,б,цель", lambda a, b, y, _: f"{a},{b},{'😀' if y == 'ja' else 'нет'}")
    ran = check(tmp_path, target="цель")
    assert ran.code == 2 and "override 'data.target=цель': not an override" in ran.err
    assert notes(followed(tmp_path, ran))[0] == "target цель: one of 2 classes: нет, 😀"


def test_numbers_that_are_written_otherwise_are_told_apart_from_texts(tmp_path):
    table(tmp_path, "a;b;y", lambda a, b, y, _: f"{str(a).replace('.', ',')};{b};{y}")
    told = "left out: a (numbers with a decimal comma, as -5,0: only those with a point are read)"
    assert told in notes(check(tmp_path, "data.separator=';'"))
    ran = check(tmp_path, "data.separator=';'", target="a")
    assert ran.code == 2 and "hint:     numbers with a decimal comma" in ran.err


def test_a_word_among_numbers_is_named_and_can_be_said_to_be_missing(tmp_path):
    table(tmp_path, "a,b,y", lambda a, b, y, i: f"{a if i % 30 else 'unknown'},{b},{y}")
    assert "left out: a (numbers but for unknown: see data.missing_values)" in notes(check(tmp_path))
    found = notes(check(tmp_path, "data.missing_values=['', unknown]"))
    assert "numbers: a" in found and "missing: a 3; the mean stands for numbers, index 0 for categories" in found


def test_blanks_around_a_name_are_shown(tmp_path):
    table(tmp_path, " a , b , y ", lambda a, b, y, _: f" {a} , {b} , {y} ")
    ran = check(tmp_path)
    assert ran.code == 2 and "expected: ' a ', ' b ', ' y '\n  did you mean ' y '?" in ran.err
    assert notes(check(tmp_path, target="' y '"))[1] == "numbers:  a "


def test_an_index_that_pandas_wrote_is_no_feature(tmp_path):
    pandas = pytest.importorskip("pandas")
    frame = pandas.DataFrame(ROWS, columns=["a", "b", "y"]).astype({"b": "category"})
    frame = frame[frame.a > -4.5].sample(frac=1, random_state=0)
    frame.to_csv(tmp_path / "my.csv")
    assert "left out: '' (an index, as pandas writes it)" in notes(check(tmp_path))
    pandas.read_csv(tmp_path / "my.csv").to_csv(tmp_path / "my.csv", index=False)
    assert "left out: Unnamed: 0 (an index, as pandas writes it)" in notes(check(tmp_path))
    pytest.importorskip("pyarrow")
    frame.to_parquet(tmp_path / "my.parquet")
    found = notes(check(tmp_path, "data.path=my.parquet"))
    assert found[1:4] == [
        "numbers: a",
        "categories: b (2)",
        "left out: __index_level_0__ (an index, as pandas writes it)",
    ]


def test_what_can_not_be_learnt_is_refused(tmp_path):
    table(tmp_path, "a,b,y", lambda a, b, y, _: f"{a},{b},always")
    ran = check(tmp_path)
    assert ran.code == 2 and "data.target: the target 'y' is always the same\n  found:    'always'" in ran.err


def test_an_untidy_file_is_trained_and_predicted_from(tmp_path):
    table(tmp_path, "größe,leer,farbe,y", lambda a, b, y, _: f'{a},,"{b}\n",{y}', "utf-8-sig", "\r\n")
    words = ("data=table", "data.path=my.csv", "data.target=y", "trainer=cpu", "trainer.max_epochs=8", "report=false")
    ran = run(tmp_path, "train", "--quiet", *words)
    assert ran.code == 0 and status(ran.run).metrics["test/accuracy"] > 0.8
    told = run(tmp_path, "predict", str(ran.run), "--input", "my.csv", "--output", "answers.csv")
    assert told.code == 0, told.err
    assert len((tmp_path / "answers.csv").read_text().splitlines()) == 91
