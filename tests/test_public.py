import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import builder
import builder.errors
import builder.registry

ROOT = Path(builder.__file__).parents[1]


def test_the_public_names_are_these():
    assert builder.__all__ == ["BuilderError", "ConfigError", "__version__", "build", "load", "register"]


@pytest.mark.parametrize("name", builder.__all__)
def test_every_public_name_resolves(name):
    assert getattr(builder, name) is not None
    assert name in dir(builder)


def test_public_names_are_those_of_their_homes():
    from builder.model.build import build

    assert builder.build is build
    assert builder.register is builder.registry.register
    assert builder.ConfigError is builder.errors.ConfigError


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="module 'builder' has no attribute 'nothing'"):
        builder.nothing  # noqa: B018


def test_the_version_is_that_of_the_package():
    assert builder.__version__ == tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]


@pytest.mark.parametrize("statement", ["import builder", "from builder import register, ConfigError"])
def test_importing_the_package_loads_no_torch(statement):
    code = f"import sys; sys.path.insert(0, {str(ROOT)!r}); {statement}; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)
