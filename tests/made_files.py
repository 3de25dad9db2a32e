"""Real files of every kind that a data set reads, small, and the sections of a config that read them."""

import csv
import random

import numpy as np
from PIL import Image


def make_csv(path, rows=120, separator=","):
    """Columns: id, age (with gaps), island, sex (with gaps), when, part, y (yes or no), weight (a number)."""
    draw = random.Random(0)
    with open(path, "w", newline="") as file:
        writer = csv.writer(file, delimiter=separator)
        writer.writerow(["id", "age", "island", "sex", "when", "part", "y", "weight"])
        for i in range(rows):
            age, island = round(draw.gauss(40, 9), 1), draw.choice(["Dream", "Biscoe", "Torgersen"])
            label = "yes" if age + 10 * (island == "Dream") > 43 else "no"
            part = "test" if i % 5 == 0 else "val" if i % 5 == 1 else "train"
            sex = draw.choice(["m", "f", ""])
            shown_age = "" if i % 17 == 0 else age
            writer.writerow([f"P{i}", shown_age, island, sex, f"2024-01-{i % 28 + 1:02d}", part, label, age / 3])
    return str(path)


def make_images(folder, classes=("cat", "dog"), count=10, size=(12, 8), kind="png"):
    """Pictures in a folder for each class, of size (width, height), red for the first class, blue for the second."""
    for label, name in enumerate(classes):
        (folder / name).mkdir(parents=True)
        for i in range(count):
            pixels = np.full((size[1], size[0], 3), 10 * i, dtype=np.uint8)
            pixels[..., 0 if label == 0 else 2] = 255
            Image.fromarray(pixels).save(folder / name / f"{i:02d}.{kind}")
    return str(folder)


def arrays_of(count=60, classes=3):
    generator = np.random.default_rng(0)
    target = np.arange(count) % classes
    x = generator.normal(size=(count, 5)) + target[:, None]
    return {"x": x, "target": target}


def make_arrays(path, **arrays):
    np.savez(path, **(arrays or arrays_of()))
    return str(path)


def make_text(path, repeats=60):
    path.write_text("the quick brown fox jumps over the lazy dog\n" * repeats, encoding="utf-8")
    return str(path)


def make_tokenizer(path):
    from tokenizers import Tokenizer, models, pre_tokenizers

    words = "the quick brown fox jumps over lazy dog [UNK]".split()
    tokenizer = Tokenizer(models.WordLevel({word: i for i, word in enumerate(words)}, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(path))
    return str(path)


def make_sequences(path, sentences=30):
    words = {"Anna": "PER", "Paris": "LOC", "sees": "O", "walks": "O", "to": "O"}
    draw = random.Random(0)
    lines = ["-DOCSTART- -X- O", ""]
    for _ in range(sentences):
        for word in draw.sample(list(words), draw.randint(2, 5)):
            lines.append(f"{word} NN {words[word]}")
        lines.append("")
    path.write_text("\n".join(lines))
    return str(path)


def make_huggingface(folder, split=False):
    from datasets import ClassLabel, Dataset, Features, List, Value

    features = Features({"x": List(Value("float64")), "target": ClassLabel(names=["no", "yes"])})
    made = arrays_of(40, 2)
    data = Dataset.from_dict({"x": made["x"].tolist(), "target": made["target"].tolist()}, features=features)
    (data.train_test_split(test_size=10, seed=0) if split else data).save_to_disk(str(folder))
    return str(folder)


def sections(folder):
    """For each shipped config that reads files, what it has to be told."""
    return {
        "table": {"path": make_csv(folder / "my.csv"), "target": "y"},
        "images": {"path": make_images(folder / "pictures")},
        "arrays": {"path": make_arrays(folder / "my.npz")},
        "text": {"path": make_text(folder / "my.txt"), "length": 16},
        "sequences": {"path": make_sequences(folder / "my.conll")},
        "huggingface": {"path": make_huggingface(folder / "saved")},
    }
