"""Users' own Python modules, imported so that what they register can be named in configs.

Only the command line, the pyproject.toml of a project and installed packages can name a module; a config never can.
"""

from __future__ import annotations

import importlib
import importlib.util
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib.machinery import PathFinder
from pathlib import Path
from types import ModuleType

from builder.errors import BuilderError, ConfigError, Fault, Origin, nearest

GROUP = "builder.plugins"
"""The entry-point group in which an installed package names its modules of layers."""

imported: set[str] = set()
"""What was imported in this process so far, as it was named."""


class PluginNotFound(BuilderError):
    """A module that should be imported doesn't exist."""

    exit_code = 2


class PluginFailed(BuilderError):
    """A module of the user's raised while it was imported."""


@dataclass(frozen=True, slots=True)
class Request:
    """A module to import: its name or the path of its file, the folder it is looked for in, and who asks for it."""

    name: str
    folder: Path
    asked_by: str

    @property
    def is_file(self) -> bool:
        """Whether a file is named rather than a module."""
        return self.name.endswith(".py") or "/" in self.name or "\\" in self.name


def load_plugins(
    imports: Sequence[str] = (), *, config_dir: Path | None = None, cwd: Path | None = None
) -> tuple[str, ...]:
    """Import the users' modules: those of installed packages, of the pyproject.toml beside the configs, and `imports`.

    Args:
        imports: module names importable from `cwd`, or paths of .py files.
        config_dir: the configs folder in use, if it isn't `cwd/configs`; the pyproject.toml beside it is read.
        cwd: the current directory, if it isn't the process's.

    Returns:
        What was imported, as it was named.

    Raises:
        PluginNotFound: a module doesn't exist.
        PluginFailed: a module raised.
        ConfigError: `[tool.builder]` of the pyproject.toml is wrong.
    """
    here = (cwd or Path.cwd()).resolve()
    beside = (here / config_dir).resolve().parent if config_dir is not None else here
    installed = tuple(_load_installed())
    requests = [*_project_requests(beside / "pyproject.toml")]
    requests += [Request(name, here, f"--import {name}") for name in imports]
    for request in requests:
        _load(request)
    loaded = installed + tuple(request.name for request in requests)
    imported.update(loaded)
    return loaded


def _load_installed() -> Iterator[str]:
    from importlib.metadata import entry_points

    for entry in entry_points(group=GROUP):
        package = entry.dist.name if entry.dist is not None else "?"
        request = Request(entry.value, Path(), f"entry point {entry.name!r} of package {package!r}")
        try:
            _guarded(entry.load, request)
        except ModuleNotFoundError:
            raise PluginNotFound(f"{request.asked_by}: there is no module {entry.module!r}") from None
        yield entry.value


def _project_requests(pyproject: Path) -> list[Request]:
    """What `[tool.builder] imports` of a pyproject.toml asks for."""
    if not pyproject.is_file():
        return []
    text = pyproject.read_text(encoding="utf-8")
    if "builder" not in text:
        return []
    import tomllib

    try:
        section = tomllib.loads(text).get("tool", {}).get("builder", {})
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(Fault(f"no valid TOML: {error}", origin=Origin(str(pyproject)))) from None
    names = _checked_imports(section, Origin(str(pyproject)))
    return [Request(name, pyproject.parent, f"[tool.builder] of {pyproject}") for name in names]


def _checked_imports(section: object, origin: Origin) -> list[str]:
    path: tuple[str, ...] = ("tool", "builder")
    if not isinstance(section, dict):
        raise ConfigError(Fault("must be a table", path, origin, section))
    unknown = [
        Fault(f"unknown key {key!r}", (*path, key), origin, expected="imports", nearest=nearest(key, ["imports"]))
        for key in section
        if key != "imports"
    ]
    if unknown:
        raise ConfigError(*unknown)
    names = section.get("imports", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        expected = "a list of module names or paths of .py files"
        raise ConfigError(Fault("wrong type", (*path, "imports"), origin, names, expected))
    return names


def _load(request: Request) -> None:
    _see(request.folder)
    if request.is_file:
        _load_file(request)
    else:
        _load_module(request)


def _load_file(request: Request) -> None:
    file = (request.folder / request.name).resolve()
    if not file.is_file():
        raise PluginNotFound(_not_found(request, sorted(file.parent.glob("*.py")), request.name))
    _see(file.parent)
    spec = importlib.util.spec_from_file_location(file.stem, file)
    if spec is None:
        raise PluginNotFound(f"{request.asked_by}: {request.name} is no Python file")
    _load_spec(spec, request)


def _load_module(request: Request) -> None:
    """Import by name; a module of the user's folder goes before an installed one of the same name."""
    top = request.name.partition(".")[0]
    spec = PathFinder.find_spec(top, [str(request.folder)])
    if spec is not None and spec.origin is not None:
        _load_spec(spec, request)
    try:
        _guarded(lambda: importlib.import_module(request.name), request)
    except ModuleNotFoundError:
        parent = request.folder.joinpath(*request.name.split(".")[:-1])
        near = [*parent.glob("*.py"), *(folder.parent for folder in parent.glob("*/__init__.py"))]
        raise PluginNotFound(_not_found(request, sorted(near), request.name.rpartition(".")[2])) from None


def _load_spec(spec: importlib.machinery.ModuleSpec, request: Request) -> None:
    known = sys.modules.get(spec.name)
    if known is not None:
        if _same_file(known, spec.origin):
            return
        where = getattr(known, "__file__", None) or "the Python in use"
        raise PluginFailed(
            f"{request.asked_by}: {spec.origin} can't be imported, since the module {spec.name!r} is already "
            f"that of {where}\n  hint:     give the file another name"
        )
    loader = spec.loader
    assert loader is not None, "a spec with a file has a loader"
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    try:
        _guarded(lambda: loader.exec_module(module), request)
    except BaseException:
        del sys.modules[spec.name]
        raise


def _same_file(module: ModuleType, origin: str | None) -> bool:
    file = getattr(module, "__file__", None)
    return file is not None and origin is not None and Path(file).resolve() == Path(origin).resolve()


def _see(folder: Path) -> None:
    """Let modules of a folder import each other, and worker processes find them; installed packages go first."""
    if str(folder) not in sys.path:
        sys.path.append(str(folder))


def _guarded(load: Callable[[], object], request: Request) -> None:
    """Run an import; whatever it raises becomes one error that names the line of the user's file.

    Raises:
        ModuleNotFoundError: the module asked for doesn't exist.
        PluginFailed: anything else went wrong.
    """
    try:
        load()
    except ModuleNotFoundError as error:
        if error.name is not None and f"{request.name}.".startswith(f"{error.name}."):
            raise
        raise PluginFailed(_failed(request, error)) from error
    except (Exception, SystemExit) as error:  # a user's module may raise anything
        raise PluginFailed(_failed(request, error)) from error


def _failed(request: Request, error: BaseException) -> str:
    lines = [f"{request.asked_by}: importing {request.name!r} failed: {type(error).__name__}: {error}"]
    place = _place(error, request)
    if place:
        lines.append(f"  at:       {place}")
    return "\n".join(lines)


def _place(error: BaseException, request: Request) -> str:
    """The line at which an import failed: that of a syntax error, else the innermost of the user's own files."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    folder = (request.folder / request.name).resolve().parent if request.is_file else request.folder
    builders = (str(Path(__file__).parent), "<frozen", importlib.__file__ or "<frozen")
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith(builders)]
    users = [frame for frame in frames if Path(frame.filename).is_relative_to(folder)]
    own = [frame for frame in users if "site-packages" not in frame.filename] or users or frames
    return f"{own[-1].filename}:{own[-1].lineno}" if own else ""


def _not_found(request: Request, files: Sequence[Path], name: str) -> str:
    text = f"{request.asked_by}: there is no {'file' if request.is_file else 'module'} {request.name!r}"
    near = nearest(Path(name).stem, [file.stem for file in files])
    shown = [_relative(file, request.folder) for file in files if file.stem in near]
    return f"{text} in {request.folder}" + (f"\n  did you mean {' or '.join(map(repr, shown))}?" if shown else "")


def _relative(file: Path, folder: Path) -> str:
    return str(file.relative_to(folder) if file.is_relative_to(folder) else file)
