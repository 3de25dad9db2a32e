import numpy as np
import pytest
import torch

from builder.config.origin import Origins
from builder.data.facts import Refusal
from builder.data.huggingface import hugging_face
from builder.data.load import load
from builder.data.loader import WorkerLoader
from made_files import arrays_of, make_huggingface, make_tokenizer


def loaded(path, **section):
    return load({"type": "HuggingFace", "path": path, "batch_size": 8, **section}, 0, Origins())


def refusal(path, **options):
    with pytest.raises(Refusal) as caught:
        hugging_face(path, seed=0, **options)
    return [(error.argument, str(error)) for error in caught.value.errors]


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    return make_huggingface(tmp_path_factory.mktemp("saved"))


def test_a_saved_data_set_is_split_by_class(path):
    data = loaded(path, split={"train": 0.5, "val": 0.5})
    made = arrays_of(40, 2)
    rows = torch.cat([data.sources[split].take(slice(None))["x"] for split in data.splits])
    assert np.array_equal(np.sort(rows.numpy(), 0), np.sort(made["x"].astype(np.float32), 0))
    assert torch.bincount(data.sources["val"].take(slice(None))["target"]).tolist() == [10, 10]
    assert data.facts.values["class_names"] == ["no", "yes"] and data.facts.values["num_features"] == 5
    assert data.notes == ("x of x (numbers)", "target of target (numbers)")


def test_a_saved_dict_of_data_sets_comes_split(tmp_path):
    path = make_huggingface(tmp_path / "dict", split=True)
    data = loaded(path)
    assert (data.facts.values["num_train"], data.facts.values["num_val"], data.facts.values["num_test"]) == (30, 0, 10)
    assert refusal(path, split={"train": 1.0}) == [("split", "the data comes split already")]


def test_by_workers_and_in_memory_the_batches_are_the_same(path):
    kept, made = loaded(path).loader("train"), loaded(path, in_memory=False, num_workers=1).loader("train")
    assert isinstance(made, WorkerLoader) and kept.keep
    for a, b in zip(kept, made, strict=True):
        assert torch.equal(a["x"], b["x"]) and torch.equal(a["target"], b["target"])


def test_pictures_texts_and_names_of_tensors(tmp_path):
    from datasets import Dataset, Features, Image, Value
    from PIL import Image as Picture

    features = Features({"picture": Image(), "said": Value("string"), "n": Value("float32")})
    pictures = [Picture.fromarray(np.full((4, 6, 3), i, dtype=np.uint8)) for i in range(4)]
    columns = {"picture": pictures, "said": ["the fox", "lazy", "dog cat the", ""], "n": [1.5, 2, 3, 4]}
    Dataset.from_dict(columns, features=features).save_to_disk(str(tmp_path / "saved"))
    tokenizer = make_tokenizer(tmp_path / "tokenizer.json")
    columns = {"x": "picture", "ids": "said", "target": "n"}
    loaded_data = loaded(
        str(tmp_path / "saved"), columns=columns, tokenizer=tokenizer, length=2, split={"train": 1.0}, shuffle=False
    )
    (batch,) = loaded_data.loader("train")
    assert batch["x"].shape == (4, 3, 4, 6) and float(batch["x"][3].max()) == pytest.approx(3 / 255)
    assert batch["ids"].tolist() == [[0, 3], [6, 0], [7, 8], [0, 0]]
    assert batch["ids_mask"].tolist() == [[True, True], [True, False], [True, True], [False, False]]
    assert batch["target"].tolist() == [1.5, 2, 3, 4] and loaded_data.facts.values["vocab_size"] == 9
    assert refusal(str(tmp_path / "saved"), columns={"ids": "said", "y": "m"}) == [
        ("tokenizer", "the column 'said' holds texts, which need a tokenizer"),
        (("columns", "y"), "the data has no column 'm'"),
    ]


def test_what_is_no_saved_data_set_is_refused(tmp_path):
    assert refusal(str(tmp_path)) == [("path", "there is no data set in this folder")]
    assert refusal(str(tmp_path / "none")) == [("path", "no such folder")]
    (tmp_path / "dataset_info.json").write_text("{")
    assert refusal(str(tmp_path))[0][1].startswith("the data set can't be read")
