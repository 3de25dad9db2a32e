"""Small runs of several kinds, trained once for all tests here."""

import numpy as np
import pytest

from builder.config.saved import dump_yaml
from command_line import one_thread, run

QUICK = ("trainer=cpu", "trainer.max_epochs=1")


def make_fruit(path, count=150):
    rng = np.random.default_rng(0)
    rows = ["weight,red,shape,fruit"]
    for _ in range(count):
        fruit = ["apple", "banana", "cherry"][rng.integers(3)]
        weight = rng.normal({"apple": 150, "banana": 120, "cherry": 8}[fruit], 20)
        shape = "long" if fruit == "banana" and rng.random() < 0.8 else "round"
        rows.append(f"{weight:.1f},{rng.normal():.3f},{shape},{fruit}")
    path.write_text("\n".join(rows) + "\n")


def make_houses(path, count=150):
    rng = np.random.default_rng(1)
    rows = ["area,rooms,town,price"]
    for _ in range(count):
        area, rooms, town = rng.uniform(40, 200), int(rng.integers(1, 7)), ["Oslo", "Rome"][rng.integers(2)]
        rows.append(f"{area:.1f},{rooms},{town},{2000 * area + 9000 * rooms + 50000 * (town == 'Oslo'):.0f}")
    path.write_text("\n".join(rows) + "\n")


def make_pictures(folder, count=12):
    from PIL import Image

    rng = np.random.default_rng(2)
    for place, name in enumerate(("dark", "light")):
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = rng.integers(0, 100, (8, 8, 3)) + 150 * place
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index:02}.png")


@pytest.fixture(autouse=True)
def calm():
    """What is computed by hand here has the bits of commands, which run on one thread."""
    with one_thread():
        yield


@pytest.fixture(scope="session")
def runs(tmp_path_factory):
    """A folder with data and, by name, trains a run in it when it is first asked for."""
    return Runs(tmp_path_factory.mktemp("use"))


class Runs:
    WORDS = {
        "fruit": ("data=table", "data.path=fruit.csv", "data.target=fruit", "model=table", "model.args.hidden=16", "trainer.max_epochs=8"),
        "houses": ("data=table", "data.path=houses.csv", "data.target=price", "model=table", "task=regression", "trainer.max_epochs=8"),
        "pics": ("data=images", "data.path=pics", "model=cnn", "model.args.channels=4", "model.args.depth=1", "data.transforms.eval=[{type: Normalise}]", "data.transforms.train=[{type: Normalise}]"),
        "digits": ("model=mlp", "model.args.hidden=16"),
        "topics": ("experiment=topics_gpt", "model.args.width=16", "model.args.depth=1", "model.args.heads=2", "data.length=16", "data.stride=512"),
        "rebuilt": ("data=digits", "model=autoencoder", "model.args.hidden=[16]", "task=reconstruction"),
        "tags": ("data=sequences", "data.path=tags.txt", "model=lstm_tagger", "task=tagging", "model.args.width=8", "model.args.hidden=8"),
        "arrays": ("data=arrays", "data.path=arrays.npz", "model=mlp", "model.args.hidden=8"),
        "made": ("data=synthetic", "data.num_samples=80", "model=mlp", "model.args.hidden=8"),
        "diabetes": ("experiment=diabetes_mlp", "data.standardise_target=true"),
        "siamese": ("experiment=digits_siamese", "callbacks.pictures.count=2"),
        "averaged": ("model=mlp", "model.args.hidden=16", "callbacks=[default,ema]", "callbacks.ema.decay=0.5"),
    }  # fmt: skip

    def __init__(self, folder):
        from made_files import arrays_of, make_arrays, make_sequences

        self.folder, self.trained = folder, {}
        make_fruit(folder / "fruit.csv")
        make_houses(folder / "houses.csv")
        make_pictures(folder / "pics")
        make_sequences(folder / "tags.txt")
        make_arrays(folder / "arrays.npz", **arrays_of())

    def __getitem__(self, name):
        if name not in self.trained:
            ran = run(self.folder, "train", "-q", *QUICK, *self.WORDS[name], f"name={name}")
            assert ran.code == 0, ran.err
            self.trained[name] = ran.run
        return self.trained[name]

    def with_model(self, name, model, *words):
        """A run of a model of one's own."""
        (self.folder / "configs/model").mkdir(parents=True, exist_ok=True)
        (self.folder / f"configs/model/{name}.yaml").write_text(dump_yaml(model))
        ran = run(self.folder, "train", "-q", *QUICK, f"model={name}", f"name={name}", *words)
        assert ran.code == 0, ran.err
        return ran.run
