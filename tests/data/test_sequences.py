import json
import textwrap

import pytest
import torch

from builder.data.apply import apply
from builder.data.facts import Refusal
from builder.data.sequences import sequences
from made_files import make_sequences

SENTENCES = """
    -DOCSTART- -X- O

    Anna NN PER
    sees VB O
    Paris NN LOC

    Paris NN LOC

"""


def of(path, text=SENTENCES):
    path.write_text(textwrap.dedent(text).strip("\n") + "\n")
    return str(path)


def refusal(path, **options):
    with pytest.raises(Refusal) as caught:
        sequences(path, seed=0, **options)
    return [(error.argument, str(error)) for error in caught.value.errors]


def test_sentences_are_padded_and_the_padding_is_ignored(tmp_path):
    data = sequences(of(tmp_path / "a.conll"), split={"train": 1.0}, seed=0)
    train = data.splits["train"]
    # Anna 2, Paris 3, sees 4; tags LOC 0, O 1, PER 2
    assert train["ids"].tolist() == [[2, 4, 3], [3, 0, 0]]
    assert train["target"].tolist() == [[2, 1, 0], [0, -100, -100]]
    assert train["mask"].tolist() == [[True] * 3, [True, False, False]] and train["lengths"].tolist() == [3, 1]
    assert (data.values["vocab_size"], data.values["num_classes"], data.values["length"]) == (5, 3, 3)
    assert data.values["class_names"] == ["LOC", "O", "PER"]


def test_tokens_that_the_train_split_does_not_have_are_unknown(tmp_path):
    paths = {"train": of(tmp_path / "a.conll"), "val": of(tmp_path / "b.conll", "Bob NN PER\nsees VB O\n")}
    data = sequences(paths, seed=0)
    assert data.splits["val"]["ids"][0].tolist() == [1, 4, 0]
    data = sequences(paths, seed=0, min_count=2)
    assert data.splits["train"]["ids"].tolist() == [[1, 1, 2], [2, 0, 0]]


def test_long_sentences_are_cut_and_that_is_told(tmp_path):
    data = sequences(of(tmp_path / "a.conll"), split={"train": 1.0}, length=2, seed=0)
    assert data.splits["train"]["ids"].tolist() == [[2, 4], [3, 0]]
    assert data.notes == ["3 tokens and 3 tags; the longest sentence has 3", "1 sentences are cut to 2 tokens"]


def test_columns_separator_comments_and_case_can_be_said(tmp_path):
    path = of(tmp_path / "a.tsv", "# a note\nPER\tAnna Maria\nO\tsees\n\nO\tSEES\n")
    data = sequences(
        path, token_column=1, tag_column=0, separator="\t", comment="#", lower=True, split={"train": 1.0}, seed=0
    )
    assert data.splits["train"]["ids"].tolist() == [[2, 3], [3, 0]]
    assert data.state["tokens"] == ["anna maria", "sees"]


def test_one_file_is_split_by_the_seed(tmp_path):
    path = make_sequences(tmp_path / "a.conll", 40)
    first, second, other = (sequences(path, seed=seed) for seed in (1, 1, 2))
    assert torch.equal(first.splits["val"]["ids"], second.splits["val"]["ids"])
    assert sum(len(part["ids"]) for part in first.splits.values()) == 40
    assert (
        len(first.splits["test"]["ids"]) == 6 and first.splits["test"]["ids"].shape == other.splits["test"]["ids"].shape
    )


def test_new_sentences_are_brought_into_the_form_trained_on(tmp_path):
    data = sequences(of(tmp_path / "a.conll"), split={"train": 1.0}, seed=0)
    batch = apply(json.loads(json.dumps(data.state)), [["Paris", "sees", "Bob"], ["Anna"]])
    assert batch["ids"].tolist() == [[3, 4, 1], [2, 0, 0]] and batch["lengths"].tolist() == [3, 1]
    assert set(batch) == {"ids", "mask", "lengths"}


def test_bad_lines_are_told_by_their_numbers(tmp_path):
    text = "Anna NN PER\nsees\nParis NN LOC\n\nwalks\n"
    assert refusal(of(tmp_path / "a.conll", text)) == [
        (("path",), "line 2 has too few columns"), (("path",), "line 5 has too few columns")
    ]  # fmt: skip
    ((_, told), *_, (_, more)) = refusal(of(tmp_path / "b.conll", "Anna PER\n" + "word\n" * 9))
    assert told == "line 2 has too few columns" and more == "4 more lines have too few columns"


def test_a_column_that_no_line_has_is_told_as_such(tmp_path):
    assert refusal(of(tmp_path / "a.conll"), tag_column=7) == [
        ("tag_column", "no line has columns enough for tokens in 0 and tags in 7")
    ]


def test_what_can_not_be_used_is_refused(tmp_path):
    path = of(tmp_path / "a.conll")
    (tmp_path / "latin.conll").write_bytes("Anna PER\nMünchen LOC\n".encode("latin1"))
    assert refusal(str(tmp_path / "latin.conll"))[0][1].startswith("line 2 isn't UTF-8 text")
    assert refusal(str(tmp_path / "b.conll")) == [(("path",), "no such file")]
    assert refusal(of(tmp_path / "c.conll", "\n\n")) == [(("path",), "there are no sentences in it")]
    assert refusal(of(tmp_path / "d.conll", "a O\nb O\n"), split={"train": 1.0}) == [
        ("tag_column", "all tokens have the tag 'O'")
    ]
    assert refusal({"trian": path}) == [(("path", "trian"), "no split"), ("path", "there is no file for train")]
    assert refusal(path, tag_column=0, length=0) == [
        ("tag_column", "tokens and tags can't be one column"), ("length", "length must be at least 1")
    ]  # fmt: skip
