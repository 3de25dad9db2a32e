import pytest

from builder.config.fits import without
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.data.load import load
from made_files import sections

CONFIGS = sorted((shipped_configs() / "data").glob("*.yaml"))
ALONE = {"digits", "breast_cancer", "wine", "iris", "diabetes", "topics", "synthetic"}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sections(tmp_path_factory.mktemp("files"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path, files):
    data = load(
        {**without(read_yaml(path).value, ("data",)), "batch_size": 8, **files.get(path.stem, {})}, 0, Origins()
    )
    assert set(data.splits) == {"train", "val", "test"}
    batch = next(iter(data.loader("train")))
    assert data.facts.tensors.keys() == batch.keys()
    for name, fact in data.facts.tensors.items():
        assert tuple(batch[name].shape) == (data.batch_size, *fact.shape)
        assert str(batch[name].dtype) == f"torch.{fact.dtype}"


def test_each_of_them_is_there_and_the_files_of_each_are_made(files):
    assert {path.stem for path in CONFIGS} == ALONE | files.keys()
