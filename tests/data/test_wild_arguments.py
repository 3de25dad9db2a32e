"""Whatever a config says of a data set, it works or is refused as a wrong config, and never in another way."""

import itertools

import pytest

from builder import registry
from builder.catalog.arguments import parameters_of
from builder.config.fits import without
from builder.config.folders import shipped_configs
from builder.config.origin import Origins
from builder.config.yaml_file import read_yaml
from builder.data.load import load
from builder.errors import ConfigError
from made_files import sections

WILD = [
    5, -1, 0, 1.5, True, None, "", "x", "train", [], [0], [1, "a"], ["x"], {}, {"train": 5}, {"train": "x", 3: []},
    {"x": 1}, {"x": [1]}, {"y": "category", "age": {}}, "\0",
]  # fmt: skip
NAMES = [path.stem for path in sorted((shipped_configs() / "data").glob("*.yaml"))]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    return sections(tmp_path_factory.mktemp("files"))


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("topics", "iris", "wine", "breast_cancer")])
def test_wild_arguments_are_taken_or_refused(name, files):
    shipped = read_yaml(shipped_configs() / "data" / f"{name}.yaml").value
    section = {**without(shipped, ("data",)), "batch_size": 4, **files.get(name, {})}
    arguments = parameters_of(registry.datasets.get(section["type"])).accepts
    outcomes = set()
    for argument, value in itertools.product([*arguments, "transforms"], WILD):
        try:
            load({**section, argument: value}, 0, Origins()).loader("train")
            outcomes.add("taken")
        except ConfigError as error:
            assert all(fault.path[0] == "data" for fault in error.faults)
            outcomes.add("refused")
    assert outcomes == {"taken", "refused"}
