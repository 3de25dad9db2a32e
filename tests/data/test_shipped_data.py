import pytest

from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.data.load import load

CONFIGS = sorted((shipped_configs() / "data").glob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_every_shipped_config_loads(path):
    data = load(read_yaml(path).value, 0, Origins())
    assert set(data.splits) == {"train", "val", "test"}
    batch = next(iter(data.loader("train")))
    for name, fact in data.facts.tensors.items():
        assert tuple(batch[name].shape) == (data.batch_size, *fact.shape)
        assert str(batch[name].dtype) == f"torch.{fact.dtype}"


def test_each_of_them_is_there():
    assert {path.stem for path in CONFIGS} >= {"digits", "breast_cancer", "wine", "iris", "diabetes", "topics"}
