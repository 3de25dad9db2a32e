import importlib.metadata
import sys
from pathlib import Path

import pytest

from builder.errors import BuilderError, ConfigError
from builder.plugins import load_plugins
from builder.registry import registries

OWN = "from builder.registry import register\n\n@register.{kind}('{name}')\ndef own(x):\n    return x\n"


@pytest.fixture(autouse=True)
def clean():
    modules, path = set(sys.modules), list(sys.path)
    entries = {kind: dict(registry._entries) for kind, registry in registries.items()}
    yield
    for name in set(sys.modules) - modules:
        if getattr(sys.modules[name], "__file__", None) and "builder" not in name and "torch" not in name:
            del sys.modules[name]
    sys.path[:] = path
    for kind, registry in registries.items():
        for name in set(registry._entries) - set(entries[kind]):
            if name.startswith("own_"):
                del registry._entries[name]


def registered(kind="loss"):
    return {name for name in registries[kind]._entries if name.startswith("own_")}


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def refusal(*args, **more):
    with pytest.raises(BuilderError) as told:
        load_plugins(*args, **more)
    return str(told.value), told.value.exit_code


def test_without_anything_nothing_is_imported(tmp_path):
    assert load_plugins(cwd=tmp_path) == ()


def test_a_module_is_found_in_the_current_directory(tmp_path):
    write(tmp_path / "plug_layers.py", OWN.format(kind="loss", name="own_a"))
    assert load_plugins(["plug_layers"], cwd=tmp_path) == ("plug_layers",)
    assert registered() == {"own_a"}


def test_a_module_of_a_package_is_found(tmp_path):
    write(tmp_path / "plug_pack/__init__.py", "")
    write(tmp_path / "plug_pack/inner.py", OWN.format(kind="loss", name="own_b"))
    load_plugins(["plug_pack.inner"], cwd=tmp_path)
    assert registered() == {"own_b"}


def test_a_file_is_found_and_imports_its_neighbours(tmp_path):
    write(tmp_path / "code/plug_helper.py", "NAME = 'own_c'\n")
    text = "from plug_helper import NAME\n" + OWN.format(kind="loss", name="x").replace("'x'", "NAME")
    write(tmp_path / "code/plug_file.py", text)
    load_plugins(["code/plug_file.py"], cwd=tmp_path)
    assert registered() == {"own_c"}


def test_importing_twice_is_fine(tmp_path):
    write(tmp_path / "plug_twice.py", OWN.format(kind="loss", name="own_d"))
    load_plugins(["plug_twice", "plug_twice.py"], cwd=tmp_path)
    load_plugins(["plug_twice"], cwd=tmp_path)
    assert registered() == {"own_d"}


def test_a_users_module_goes_before_an_installed_one_of_the_same_name(tmp_path):
    assert importlib.util.find_spec("this") is not None and "this" not in sys.modules
    write(tmp_path / "this.py", OWN.format(kind="loss", name="own_e"))
    load_plugins(["this"], cwd=tmp_path)
    assert registered() == {"own_e"}


def test_a_name_that_an_imported_module_has_is_refused(tmp_path):
    file = write(tmp_path / "pathlib.py", "")
    message, code = refusal(["pathlib"], cwd=tmp_path)
    assert code == 1
    assert message == (
        f"--import pathlib: {file} can't be imported, since the module 'pathlib' is already that of "
        f"{sys.modules['pathlib'].__file__}\n  hint:     give the file another name"
    )


def test_the_project_file_beside_the_configs_names_modules(tmp_path):
    write(tmp_path / "project/pyproject.toml", '[tool.builder]\nimports = ["plug_project", "src/plug_other.py"]\n')
    write(tmp_path / "project/plug_project.py", OWN.format(kind="loss", name="own_f"))
    write(tmp_path / "project/src/plug_other.py", OWN.format(kind="loss", name="own_g"))
    assert load_plugins(config_dir=tmp_path / "project" / "configs", cwd=tmp_path) == (
        "plug_project",
        "src/plug_other.py",
    )
    assert registered() == {"own_f", "own_g"}


def test_the_project_file_of_the_current_directory_is_read_without_a_configs_folder(tmp_path):
    write(tmp_path / "pyproject.toml", '[tool.builder]\nimports = ["plug_here"]\n')
    write(tmp_path / "plug_here.py", OWN.format(kind="loss", name="own_h"))
    load_plugins(cwd=tmp_path)
    assert registered() == {"own_h"}


def test_a_project_file_without_a_section_is_fine(tmp_path):
    write(tmp_path / "pyproject.toml", '[project]\nname = "builder-user"\n')
    assert load_plugins(cwd=tmp_path) == ()


def test_an_installed_package_names_its_modules(tmp_path, monkeypatch):
    write(tmp_path / "plug_installed.py", OWN.format(kind="loss", name="own_i"))
    info = tmp_path / "plug_dist-1.0.dist-info"
    write(info / "METADATA", "Metadata-Version: 2.1\nName: plug-dist\nVersion: 1.0\n")
    write(info / "entry_points.txt", "[builder.plugins]\nown = plug_installed\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert load_plugins(cwd=tmp_path / "elsewhere") == ("plug_installed",)
    assert registered() == {"own_i"}
    write(info / "entry_points.txt", "[builder.plugins]\nown = plug_absent\n")
    message, code = refusal(cwd=tmp_path / "elsewhere")
    assert (message, code) == ("entry point 'own' of package 'plug-dist': there is no module 'plug_absent'", 2)


def test_a_module_that_does_not_exist_is_told_with_near_files(tmp_path):
    write(tmp_path / "my_layers.py", "")
    write(tmp_path / "my_layer/__init__.py", "")
    message, code = refusal(["my_layrs"], cwd=tmp_path)
    assert code == 2
    assert message == (
        f"--import my_layrs: there is no module 'my_layrs' in {tmp_path}\n  did you mean 'my_layer' or 'my_layers.py'?"
    )


def test_a_file_that_does_not_exist_is_told_with_near_files(tmp_path):
    write(tmp_path / "code/my_layers.py", "")
    message, code = refusal(["code/my_layer.py"], cwd=tmp_path)
    assert code == 2
    assert message == (
        f"--import code/my_layer.py: there is no file 'code/my_layer.py' in {tmp_path}\n"
        "  did you mean 'code/my_layers.py'?"
    )


@pytest.mark.parametrize(
    ("text", "error", "line"),
    [
        ("x = 1\ny = z\n", "NameError: name 'z' is not defined", 2),
        ("def broken(:\n", "SyntaxError: invalid syntax (plug_bad.py, line 1)", 1),
        ("\n\nimport absent_package\n", "ModuleNotFoundError: No module named 'absent_package'", 3),
        ("import json\n\njson.loads('{')\n", "JSONDecodeError: Expecting property name enclosed in double quotes: line 1 column 2 (char 1)", 3),
        ("import sys\nsys.exit(3)\n", "SystemExit: 3", 2),
        (OWN.format(kind="loss", name="own_j") + OWN.format(kind="loss", name="own_j"),
         "DuplicateName: loss 'own_j' is registered twice: by plug_bad.own and by plug_bad.own", 8),
    ],
)  # fmt: skip
@pytest.mark.parametrize("name", ["plug_bad", "plug_bad.py"])
def test_a_module_that_fails_is_told_with_its_line(tmp_path, text, error, line, name):
    file = write(tmp_path / "plug_bad.py", text)
    message, code = refusal([name], cwd=tmp_path)
    assert code == 1
    assert message == f"--import {name}: importing {name!r} failed: {error}\n  at:       {file}:{line}"
    assert "plug_bad" not in sys.modules


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("[tool.builder]\nimport = ['a']\n",
         "{file}: tool.builder.import: unknown key 'import'\n  expected: imports\n  did you mean 'imports'?"),
        ("[tool.builder]\nimports = 'a'\n",
         "{file}: tool.builder.imports: wrong type\n  found:    'a'\n  expected: a list of module names or paths of .py files"),
        ("[tool]\nbuilder = 3\n", "{file}: tool.builder: must be a table\n  found:    3"),
        ("[tool.builder\n", "{file}: no valid TOML: Expected ']' at the end of a table declaration (at line 1, column 14)"),
    ],
)  # fmt: skip
def test_a_wrong_project_file_is_told(tmp_path, text, told):
    file = write(tmp_path / "pyproject.toml", text)
    with pytest.raises(ConfigError) as error:
        load_plugins(cwd=tmp_path)
    assert str(error.value) == told.format(file=file)


def test_a_config_cannot_import_anything(tmp_path):
    write(tmp_path / "configs/train.yaml", "imports: [plug_config]\n_target_: plug_config.own\n")
    write(tmp_path / "plug_config.py", OWN.format(kind="loss", name="own_k"))
    load_plugins(config_dir=tmp_path / "configs", cwd=tmp_path)
    assert "plug_config" not in sys.modules and registered() == set()
