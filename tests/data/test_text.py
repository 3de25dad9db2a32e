import json
from pathlib import Path

import pytest
import torch

from builder.config.origin import Origins
from builder.data.apply import apply
from builder.data.facts import Refusal
from builder.data.load import load
from builder.data.text import text
from made_files import make_text, make_tokenizer


@pytest.fixture
def path(tmp_path):
    return make_text(tmp_path / "my.txt")


def refusal(path, **options):
    with pytest.raises(Refusal) as caught:
        text(path, **options)
    return [(error.argument, str(error)) for error in caught.value.errors]


def test_characters_lead_back_to_the_text(path):
    data = text(path, length=20)
    known = data.values["characters"]
    batch = data.splits["train"].take(slice(0, 2))
    read = Path(path).read_text()
    assert "".join(known[i] for i in batch["ids"].flatten()) == read[:40]
    assert "".join(known[i] for i in batch["target"].flatten()) == read[1:41]
    assert batch["ids"].dtype == torch.int64 and data.values["vocab_size"] == len(set(read))
    assert data.notes == [f"{len(read):,} characters, 28 different ones known"]


def test_bytes_are_those_of_utf_8(tmp_path):
    (tmp_path / "t.txt").write_text("héllo wörld " * 20, encoding="utf-8")
    batch = text(str(tmp_path / "t.txt"), level="bytes", length=8).splits["train"].take(slice(0, 1))
    assert bytes(batch["ids"][0].tolist()) == ("héllo w").encode()


def test_tokens_are_those_of_the_tokenizer(path, tmp_path):
    data = text(path, level="tokens", tokenizer=make_tokenizer(tmp_path / "tokenizer.json"), length=9)
    batch = data.splits["train"].take(slice(0, 1))
    assert batch["ids"].tolist() == [[0, 1, 2, 3, 4, 5, 0, 6, 7]] and data.values["vocab_size"] == 9


def test_files_are_read_one_after_the_other(tmp_path):
    for name, letters in (("b", "bb"), ("a", "aa")):
        (tmp_path / f"{name}.txt").write_text(letters)
    for given in (str(tmp_path), [str(tmp_path / "a.txt"), str(tmp_path / "b.txt")]):
        data = text(given, length=3, split={"train": 1.0})
        batch = data.splits["train"].take(slice(0, 1))
        assert [data.values["characters"][i] for i in (*batch["ids"][0], batch["target"][0, -1])] == list("aa\n\n")


def test_windows_are_small_in_memory_and_overlap_for_nothing(path):
    source = text(path, length=100, stride=1).splits["train"]
    assert source.tensors["ids"].untyped_storage().nbytes() == 4 * len(Path(path).read_text())


def test_a_loader_gives_indices(path):
    data = load({"type": "Text", "path": path, "length": 16, "batch_size": 4}, 0, Origins())
    batch = next(iter(data.loader("train")))
    assert batch["ids"].dtype == batch["target"].dtype == torch.int64
    assert data.facts.tensors["ids"].dtype == "int64" and torch.equal(batch["ids"][:, 1:], batch["target"][:, :-1])


def test_new_text_is_brought_into_the_form_trained_on(path, tmp_path):
    for options in (
        {},
        {"level": "bytes"},
        {"level": "tokens", "tokenizer": make_tokenizer(tmp_path / "tokenizer.json")},
    ):
        data = text(path, length=4, split={"train": 1.0}, **options)
        ids = apply(json.loads(json.dumps(data.state)), "the quick brown fox jumps")["ids"][0]
        assert ids[:4].tolist() == data.splits["train"].take(slice(0, 1))["ids"][0].tolist()
    with pytest.raises(Refusal, match="the model wasn't trained on this character"):
        apply(text(path).state, "Ä")


def test_what_can_not_be_read_is_refused(path, tmp_path):
    (tmp_path / "latin.txt").write_bytes("a\nü".encode("latin1"))
    (tmp_path / "empty.txt").touch()
    (tmp_path / "broken.json").write_text("{}")
    (tmp_path / "folder").mkdir()
    assert refusal(str(tmp_path / "latin.txt"))[0][1].startswith("line 2 isn't UTF-8 text")
    assert refusal(str(tmp_path / "empty.txt")) == [("path", "there is no text in it")]
    assert refusal(str(tmp_path / "folder")) == [("path", "there are no .txt files in this folder")]
    assert refusal([path, "no.txt", "none.txt"]) == [(("path",), "no such file")] * 2
    assert refusal(path, level="tokens") == [("tokenizer", "tokens need a tokenizer")]
    assert refusal(path, tokenizer="t.json") == [("tokenizer", "characters need no tokenizer")]
    broken = refusal(path, level="tokens", tokenizer=str(tmp_path / "broken.json"))
    assert broken[0][0] == "tokenizer" and broken[0][1].startswith("no tokenizer can be read")
    assert refusal(path, length=0, stride=0) == [
        ("length", "length must be at least 1"),
        ("stride", "stride must be at least 1"),
    ]
