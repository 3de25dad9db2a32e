import json
import textwrap

import numpy as np
import polars as pl
import pytest
import torch

from builder.config.origin import Origins
from builder.data.apply import apply
from builder.data.facts import Refusal
from builder.data.load import load
from builder.data.table import table
from builder.errors import ConfigError, Origin
from made_files import make_csv


@pytest.fixture
def path(tmp_path):
    return make_csv(tmp_path / "my.csv")


def of(path, text):
    path.write_text(textwrap.dedent(text).lstrip())
    return str(path)


def refusal(*args, **options):
    with pytest.raises(Refusal) as caught:
        table(*args, seed=0, **options)
    return [(error.argument, str(error)) for error in caught.value.errors]


def test_columns_are_taken_for_what_their_values_say_and_that_is_told(path):
    data = table(path, "y", seed=0)
    assert data.notes == [
        "target y: one of 2 classes: no, yes",
        "numbers: age, when (days), weight",
        "categories: island (3), sex (2), part (3)",
        "left out: id (120 different texts in 120 rows)",
        "missing: age 8, sex 37; the mean stands for numbers, index 0 for categories",
    ]
    assert data.values["feature_names"] == ["age", "when", "weight"]
    assert (data.values["category_names"], data.values["category_sizes"]) == (["island", "sex", "part"], [4, 3, 4])
    assert data.values["class_names"] == ["no", "yes"] and data.fits == {"model": "table", "task": "classification"}


def test_numbers_are_standardised_by_the_train_rows_and_gaps_filled_with_their_mean(path):
    data = table(path, "y", split="part", seed=0)
    frame = pl.read_csv(path)
    ages = frame["age"].to_numpy()
    train = frame["part"].to_numpy() == "train"
    known = ages[train & ~np.isnan(ages)]
    filled = np.where(np.isnan(ages), known.mean(), ages)
    expected = (filled - filled[train].mean()) / filled[train].std()
    for split in ("train", "val", "test"):
        rows = frame["part"].to_numpy() == split
        np.testing.assert_allclose(data.splits[split]["x"][:, 0].numpy(), expected[rows], rtol=1e-5, atol=1e-6)


def test_categories_are_indices_of_those_in_the_train_split_and_0_is_for_all_others(tmp_path):
    rows = "\n".join(["a,1,train", "b,2,train", "a,0,train", "c,1,val", ",2,val", "b,0,test"])
    path = of(tmp_path / "t.csv", "letter,y,part\n" + rows)
    data = table(path, "y", split="part", seed=0, columns={"letter": "category"})
    assert data.splits["train"]["categories"][:, 0].tolist() == [1, 2, 1]
    assert data.splits["val"]["categories"][:, 0].tolist() == [0, 0]
    assert data.splits["test"]["categories"][:, 0].tolist() == [2]
    assert data.values["category_sizes"] == [3] and data.values["num_features"] == 0


def test_onehot_puts_categories_into_x(tmp_path):
    path = of(tmp_path / "t.csv", "letter,y,part\na,1,train\nb,2,train\nc,1,val\na,2,val")
    data = table(path, "y", split="part", encode="onehot", seed=0)
    assert data.splits["train"]["x"].tolist() == [[1, 0], [0, 1]]
    assert data.splits["val"]["x"].tolist() == [[0, 0], [1, 0]]
    assert data.values["feature_names"] == ["letter=a", "letter=b"]
    assert data.splits["train"]["categories"].shape == (2, 0) and data.fits["model"] == "mlp"


GAPS = "a,b,y,part\n1,1,0,train\n,2,1,train\n5,3,0,train\n9,4,1,train\n,5,0,val\n"


@pytest.mark.parametrize(
    ("policy", "train", "val"),
    [
        ("mean", [[1, 1], [5, 2], [5, 3], [9, 4]], [[5, 5]]),
        ("median", [[1, 1], [5, 2], [5, 3], [9, 4]], [[5, 5]]),
        ("zero", [[1, 1], [0, 2], [5, 3], [9, 4]], [[0, 5]]),
        ("flag", [[1, 0, 1], [5, 1, 2], [5, 0, 3], [9, 0, 4]], [[5, 1, 5]]),
        ("drop", [[1, 1], [5, 3], [9, 4]], None),
    ],
)
def test_each_policy_for_missing_numbers(tmp_path, policy, train, val):
    path = of(tmp_path / "t.csv", GAPS)
    data = table(path, "y", split="part", missing=policy, standardise=False, seed=0)
    assert data.splits["train"]["x"].tolist() == train
    assert (data.splits["val"]["x"].tolist() if val else data.splits.get("val")) == val


def test_the_policy_error_names_the_lines(tmp_path):
    path = of(tmp_path / "t.csv", GAPS)
    assert refusal(path, "y", missing="error", split="part") == [
        ("missing", "the column 'a' lacks a value in line 3 and 1 more")
    ]


@pytest.mark.parametrize(
    ("values", "kind", "classes"),
    [
        (["yes", "no"] * 10, "classification", ["no", "yes"]),
        (["10", "9", "2"] * 10, "classification", ["2", "9", "10"]),
        (["true", "false"] * 10, "classification", ["false", "true"]),
        (["1.0", "0.0"] * 10, "classification", ["0", "1"]),
        ([str(i) for i in range(30)], "regression", None),
        (["1.5", "2.5"] * 10, "regression", None),
    ],
)
def test_a_target_is_a_class_or_a_number_by_its_values(tmp_path, values, kind, classes):
    path = of(tmp_path / "t.csv", "x,y\n" + "\n".join(f"{i % 7}.5,{y}" for i, y in enumerate(values)))
    data = table(path, "y", seed=0)
    assert data.values["task"] == kind and data.values.get("class_names") == classes
    assert data.splits["train"]["target"].dtype == (torch.int64 if classes else torch.float32)
    assert data.values["num_outputs"] == len(classes or [1])


def test_what_the_target_and_a_column_are_can_be_said(tmp_path):
    path = of(tmp_path / "t.csv", "zip,y\n" + "\n".join(f"{i % 3},{i % 4}" for i in range(40)))
    data = table(path, "y", target_type="number", columns={"zip": "category"}, standardise_target=False, seed=0)
    assert sorted(set(data.splits["train"]["target"].tolist())) == [0.0, 1.0, 2.0, 3.0]
    assert data.values["category_sizes"] == [4]


def test_a_target_that_is_a_number_leads_back_to_its_unit(path):
    data = table(path, "weight", split="part", seed=0)
    target = data.splits["test"]["target"] * data.values["target_std"] + data.values["target_mean"]
    frame = pl.read_csv(path).filter(pl.col("part") == "test")
    np.testing.assert_allclose(target.numpy(), frame["weight"].to_numpy(), rtol=1e-4)


def test_parquet_gives_the_same_as_csv(path, tmp_path):
    pl.read_csv(path, try_parse_dates=True, null_values=[""]).write_parquet(tmp_path / "my.parquet")
    first, second = table(path, "y", seed=3), table(str(tmp_path / "my.parquet"), "y", seed=3)
    for split, tensors in first.splits.items():
        assert all(torch.equal(tensors[name], second.splits[split][name]) for name in tensors)


def test_a_file_for_each_split(path, tmp_path):
    frame = pl.read_csv(path)
    for part in ("train", "val"):
        frame.filter(pl.col("part") == part).drop("part").write_csv(tmp_path / f"{part}.csv")
    paths = {part: str(tmp_path / f"{part}.csv") for part in ("train", "val")}
    data = table(paths, "y", seed=0)
    whole = table(path, "y", split="part", seed=0)
    assert set(data.splits) == {"train", "val"}
    for part in paths:
        assert torch.equal(data.splits[part]["x"], whole.splits[part]["x"])
    assert refusal({"train": paths["train"], "valid": paths["val"]}, "y", split={"train": 1.0}) == [
        (("path", "valid"), "no split"), ("split", "the files say already which rows are train, val and test"),
    ]  # fmt: skip


def test_rows_of_a_group_stay_together(tmp_path):
    path = of(tmp_path / "t.csv", "who,x,y\n" + "\n".join(f"p{i // 4},{i}.5,{i % 2}" for i in range(80)))
    data = table(path, "y", groups="who", standardise=False, seed=1)
    groups = [{int(x) // 4 for x in tensors["x"][:, 0]} for tensors in data.splits.values()]
    assert sum(map(len, groups)) == 20 and len(set.union(*groups)) == 20
    assert data.values["feature_names"] == ["x"]


def test_new_rows_are_brought_into_the_form_trained_on(path, tmp_path):
    data = table(path, "y", split="part", seed=0)
    state = json.loads(json.dumps(data.state))
    batch = apply(state, path)
    parts = pl.read_csv(path)["part"].to_numpy()
    for split, tensors in data.splits.items():
        for name, tensor in tensors.items():
            assert torch.equal(batch[name][torch.from_numpy(parts == split)], tensor)
    new = of(tmp_path / "new.csv", "age,island,sex,when,weight\n40,Atlantis,m,2024-01-01,12\n")
    batch = apply(state, new)
    assert batch["categories"].tolist() == [[0, 2]] and set(batch) == {"x", "categories"}


def test_new_rows_that_lack_a_column_are_refused(path, tmp_path):
    state = table(path, "y", split="part", seed=0).state
    new = of(tmp_path / "new.csv", "agee,island,sex,when,weight\n40,Dream,m,2024-01-01,12\n")
    with pytest.raises(Refusal, match="there is no column 'age'") as caught:
        apply(state, new)
    assert caught.value.errors[0].nearest == ("agee",)


def message(section, tmp_path):
    origins = Origins({("data",): Origin("data.yaml", 1), ("data", "path"): Origin("data.yaml", 3)})
    with pytest.raises(ConfigError) as caught:
        load({"type": "Table", "batch_size": 4, **section}, 0, origins)
    return str(caught.value).replace(str(tmp_path), "DIR")


def test_all_wrong_names_of_columns_are_told_at_once(path, tmp_path):
    section = {"path": path, "target": "yy", "groups": "idd", "columns": {"agee": "number", "sex": "categori"}}
    expected = "id, age, island, sex, when, part, y, weight"
    assert (
        message(section, tmp_path)
        == textwrap.dedent(f"""
        data.yaml:1: data.groups: the table has no column 'idd'
          expected: {expected}
          did you mean 'id'?
        data.yaml:1: data.target: the table has no column 'yy'
          expected: {expected}
          did you mean 'y'?
        data.yaml:1: data.columns.agee: the table has no column 'agee'
          expected: {expected}
          did you mean 'age'?
        data.yaml:1: data.columns.sex: no kind of column
          found:    'categori'
          expected: number | category | ignore
          did you mean 'category'?
    """).strip()
    )


def test_a_missing_file_is_told_with_the_nearest(path, tmp_path):
    assert message({"path": path.replace("my.csv", "mine.csv"), "target": "y"}, tmp_path) == (
        "data.yaml:3: data.path: no such file\n  found:    'DIR/mine.csv'\n  did you mean 'DIR/my.csv'?"
    )


def test_bad_rows_are_told_by_their_lines(tmp_path):
    text = 'a,b,y\n1,"x\ny",0\n1,2\n\n1,2,3,4\n1,2,1\n'
    assert message({"path": of(tmp_path / "t.csv", text), "target": "y"}, tmp_path) == (
        "data.yaml:3: data.path: line 4 has 2 fields, the header 3\n  found:    '1,2'\n"
        "data.yaml:3: data.path: line 6 has 4 fields, the header 3\n  found:    '1,2,3,4'"
    )


@pytest.mark.parametrize(
    ("text", "options", "expected"),
    [
        ("a,b,a\n1,2,3\n", {}, [("path", "two columns are called 'a'")]),
        ("1,2,3\n1,2,3\n", {}, [("path", "the first line holds numbers where the columns' names should be")]),
        ("a;y\n1;2\n", {}, [("separator", "the first line has one column only with the separator ','")]),
        ("", {}, [("path", "the file is empty")]),
        ("a,y\n", {}, [("path", "the table has no rows")]),
        ("a,y\n1,2\n3,\n", {}, [("target", "the target 'y' lacks a value in line 3")]),
        ("a,y\n1,x\n2,x\n", {}, [("target", "the target 'y' is always the same")]),
        ("a,y\nx,1\n3,2\n", {"columns": {"a": "number"}}, [(("columns", "a"), "the column 'a' holds no number in line 2")]),
        ("a,y\ninf,1\n3,2\n", {}, [(("columns", "a"), "the column 'a' isn't finite in line 2")]),
        ("y\n1\n2\n", {}, [("columns", "no column is left for the model to see (there are none)")]),
        ("a,y\n1,0\n2,1\n", {"columns": {"y": "number"}}, [(("columns", "y"), "this column is the target, not a feature")]),
    ],
)  # fmt: skip
def test_tables_that_can_not_be_used_are_refused(tmp_path, text, options, expected):
    path = tmp_path / "t.csv"
    path.write_text(text)
    found = refusal(str(path), "y", **options)
    assert [(argument[0] if len(argument) == 1 else argument, told) for argument, told in found] == expected


def test_a_target_of_too_many_classes_is_refused(path):
    assert refusal(path, "id") == [
        ("target", "the target 'id' has 120 different values in 120 rows: too many for classes")
    ]


def test_a_file_in_another_encoding_is_told_by_its_line(tmp_path):
    (tmp_path / "t.csv").write_bytes("a,y\nx,1\nMünchen,2\n".encode("latin1"))
    ((_, told),) = refusal(str(tmp_path / "t.csv"), "y")
    assert told.startswith("line 3 isn't UTF-8 text")


def test_a_column_that_says_the_split_says_it_for_every_row(tmp_path):
    path = of(tmp_path / "t.csv", "x,y,part\n1.5,0,train\n2.5,1,valid\n")
    with pytest.raises(Refusal, match="the column 'part' doesn't say for every sample which split it is in") as caught:
        table(path, "y", split="part", seed=0)
    assert caught.value.errors[0].nearest == ("val",)


def test_a_missing_package_is_told_with_the_extra(path, monkeypatch):
    import sys

    from builder.errors import MissingExtra

    monkeypatch.setitem(sys.modules, "polars", None)
    with pytest.raises(MissingExtra) as caught:
        load({"type": "Table", "path": path, "target": "y", "batch_size": 4}, 0, Origins())
    assert str(caught.value) == "a table needs the package 'polars': pip install 'builder[table]'"
