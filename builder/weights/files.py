"""Opens files of weights. What a file is follows from its content, whatever its name ends in."""

from __future__ import annotations

import pathlib
import pickletools
from collections.abc import Callable, Collection

from builder.errors import nearest, printable
from builder.weights.entries import DAMAGED_ZIP, Entry, WeightsError, WeightsFile, unwrapped
from builder.weights.formats import open_npz, open_safetensors
from builder.weights.mapped import Members, members_of
from builder.weights.pickled import LEGACY, WAY_OUT, open_pickled
from builder.weights.sharded import INDEX, open_sharded

__all__ = ["Entry", "WeightsError", "WeightsFile", "open_weights"]

WRAPPERS = ("module.", "_orig_mod.")
"""What DataParallel, DistributedDataParallel and AveragedModel, and torch.compile, put before all names."""

LIGHTNING_MODEL, LIGHTNING_LOSS = "model.", "criterion."
"""What a LightningModule puts before the names of its model, and of what its loss holds."""

WHOLE = ("model.safetensors", "pytorch_model.bin")
"""What a folder's only file of weights is called."""

SUFFIXES = (".safetensors", ".pt", ".pth", ".bin", ".ckpt", ".npz")
"""How names of files of weights end; what a file is follows from its content."""

STRANGERS = {
    b"\x89HDF": ("an HDF5 file, as Keras writes them", "save it as .npz or safetensors where it comes from"),
    b"GGUF": ("a GGUF file", "take the safetensors that it was made from"),
    b"\x93NUMPY": ("one NumPy array without a name", "save it by numpy.savez(path, name=array)"),
    b"version https://git-lfs": ("a pointer of Git LFS, not the file itself", "run 'git lfs pull' where it lies"),
    b"<": ("a web page or another text, not weights", "fetch the file itself"),
}
"""How files begin that are often taken for weights, what they are, and the way out."""


def open_weights(
    path: pathlib.Path | str, *, key: str | None = None, weights: str = "raw", keep: Collection[str] = ()
) -> WeightsFile:
    """Open a file of weights, or a folder with one, without reading the tensors.

    Args:
        path: a file of torch.save, safetensors, `.npz`, an index of shards, a checkpoint, or a folder.
        key: where the state dict lies in a file of torch.save, dotted; None: where checkpoints have it.
        weights: `raw`, `ema` for the moving average beside them, or `tested` for the one of both that Lightning tests.
        keep: prefixes that aren't taken off, of `module.`, `_orig_mod.` and `model.` (of Lightning).

    Raises:
        WeightsError: it can't be read, isn't weights, or needs more than tensors.
    """
    path = pathlib.Path(path)
    file = _open_folder(path, key, weights) if path.is_dir() else _open_file(path, key, weights)
    if not file.entries:
        raise WeightsError(f"{file.path} holds no tensors")
    return _as_saved(file, keep)


def _as_saved(file: WeightsFile, keep: Collection[str]) -> WeightsFile:
    """A file with the names that the model's own state dict had."""
    prefixes = [prefix for prefix in WRAPPERS if prefix not in keep]
    if "Lightning" in file.format and LIGHTNING_MODEL not in keep:
        loss = [name for name in file.entries if name.startswith(LIGHTNING_LOSS)]
        others = [name for name in file.entries if name not in loss]
        if others and all(name.startswith(LIGHTNING_MODEL) for name in others):
            prefixes.append(LIGHTNING_MODEL)
            file = file.only(others).noting(f"left out, being the loss's: {', '.join(loss)}") if loss else file
    return unwrapped(file, prefixes)


def _open_folder(folder: pathlib.Path, key: str | None, weights: str) -> WeightsFile:
    if (folder / ".metadata").is_file() and list(folder.glob("*.distcp")):
        raise WeightsError(
            f"{folder} is a distributed checkpoint",
            "turn it into one file by torch.distributed.checkpoint.format_utils.dcp_to_torch_save",
        )
    found = [path for path in sorted(folder.glob(f"*{INDEX}")) if path.is_file()]
    found = found or [folder / name for name in WHOLE if (folder / name).is_file()]
    found = found or [path for path in sorted(folder.glob("*.safetensors")) if path.is_file()]
    if len(found) == 1:
        return _noting_others(folder, _open_file(found[0], key, weights))
    if not found:
        expected = f"*{INDEX}, {', '.join(WHOLE)} or *.safetensors"
        raise WeightsError(f"{folder} is a folder without weights", f"give the file, or a folder with {expected}")
    names = ", ".join(path.name for path in found)
    raise WeightsError(f"{folder} holds several sets of weights: {names}", f"say which: {found[0]}")


def _noting_others(folder: pathlib.Path, file: WeightsFile) -> WeightsFile:
    """A file that was taken from a folder, with a note of what else there may be weights."""
    others = [path for path in sorted(folder.iterdir()) if path.suffix in SUFFIXES and path not in file.files]
    names = printable(", ".join(path.name for path in others))
    return file.noting(f"{file.path.name} was taken; the folder also has {names}") if others else file


def _open_file(path: pathlib.Path, key: str | None, weights: str) -> WeightsFile:
    head = _head(path)
    members = _members(path, head)
    if _is_torch(path, head, members):
        return open_pickled(path, key, weights, members)
    opener = _tensors_only(head, members)
    if opener is None:
        raise _unknown(path, head)
    file = opener(path)
    if key is not None:
        raise WeightsError(f"{path} is {file.format}, in which there is no {key!r} to choose", "leave 'key' out")
    if weights == "ema":
        raise WeightsError(f"{path} is {file.format}, which doesn't tell EMA weights from raw ones")
    return file


def _head(path: pathlib.Path, length: int = 64) -> bytes:
    try:
        with open(path, "rb") as file:
            head = file.read(length)
    except FileNotFoundError:
        raise WeightsError(f"there is no file {path}", _near(path)) from None
    except OSError as error:
        raise WeightsError(f"cannot read {path}: {error.strerror or error}") from error
    if not head:
        raise WeightsError(f"{path} is empty")
    return head


def _near(path: pathlib.Path) -> str | None:
    try:
        near = nearest(path.name, (each.name for each in path.parent.iterdir()))
    except OSError:
        return f"there is no folder {path.parent} either" if not path.parent.exists() else None
    return f"did you mean {' or '.join(str(path.parent / name) for name in near)}?" if near else None


def _is_torch(path: pathlib.Path, head: bytes, names: Collection[str]) -> bool:
    """Whether torch.save wrote a file; PyTorch's archives of programs are refused here."""
    if head.startswith(LEGACY):
        return True
    if any("/code/" in name or name.endswith("constants.pkl") for name in names):
        raise WeightsError(
            f"{path} is not opened: it is a TorchScript archive, a program",
            "where the file comes from, save its state dict: torch.save(torch.jit.load(path).state_dict(), new_path)",
        )
    # A zip that was cut off has no list of its members, and torch says so best.
    return head.startswith(b"PK") and (not names or any(name.endswith("data.pkl") for name in names))


def _members(path: pathlib.Path, head: bytes) -> Members:
    """The list of a zip file's members; empty for other files, and for damaged ones."""
    if not head.startswith(b"PK"):
        return {}
    try:
        return members_of(path)
    except (OSError, *DAMAGED_ZIP):
        return {}


def _tensors_only(head: bytes, names: Collection[str]) -> Callable[[pathlib.Path], WeightsFile] | None:
    if names and all(name.endswith(".npy") for name in names):
        return open_npz
    if head[8:9] == b"{" and int.from_bytes(head[:8], "little") < 1 << 40:
        return open_safetensors
    if head.lstrip().startswith(b"{"):
        return lambda index: open_sharded(index, lambda shard: _open_file(shard, None, "raw"))
    return None


def _unknown(path: pathlib.Path, head: bytes) -> WeightsError:
    for start, (what, hint) in STRANGERS.items():
        if head.startswith(start):
            return WeightsError(f"{path} is {what}", hint)
    if head[0] == 0x80:
        wanted = _globals(path)
        needs = f" that needs {', '.join(wanted[:5])}" if wanted else ""
        return WeightsError(f"{path} is not opened: it is a pickle{needs}, which may run code", WAY_OUT)
    formats = "a file of torch.save, safetensors, .npz, or an index of shards"
    return WeightsError(f"{path} isn't weights in a format that is known here", f"known are {formats}")


def _globals(path: pathlib.Path) -> list[str]:
    """The Python objects that a pickle asks for, found without running it."""
    found: dict[str, None] = {}
    texts: list[str] = []
    try:
        for opcode, argument, _ in pickletools.genops(path.read_bytes()[: 1 << 20]):
            if opcode.name == "GLOBAL":
                found[str(argument).replace(" ", ".")] = None
            elif opcode.name == "STACK_GLOBAL" and len(texts) > 1:
                found[".".join(texts[-2:])] = None
            elif isinstance(argument, str):
                texts.append(argument)
    except Exception:  # a damaged pickle may end in any of them
        pass
    return list(found)
