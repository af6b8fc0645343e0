"""Reading a network from disk: a saved torch module, or a local Hugging Face folder. Nothing is downloaded, no code is run.

Pickles run code when they are read, so they are refused unless the caller allows them; code that a folder carries is never
run. Weights keep the dtype they were stored in: each is a number that float64 holds exactly.
"""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from torch import nn

#: Model types that this project's tests read; others that ``transformers`` knows are tried, and the report says so.
FAMILIES = ("gpt2", "llama", "qwen2", "deepseek", "deepseek_v2", "deepseek_v3", "bert")
#: Weights that a checkpoint may lack because no block uses them.
SPARE = ("pooler.",)
#: Attention and experts as plain products: the fused kernels have no second derivative, or no float64.
PLAIN = {"attn_implementation": "eager", "experts_implementation": "eager"}
WHOLE = "a traced file has no blocks left to call one by one: the whole network is one row"
NEED_TRANSFORMERS = "reading a Hugging Face folder needs transformers and safetensors: pip install 'limitlib[audit]'"
PICKLE = (
    "is a pickle, and reading a pickle runs whatever code it holds. If you trust where it comes from, allow it "
    "(--allow-pickle, allow_pickle=True)"
)


class PickleRefused(ValueError):
    """The file would run code when read, and the caller has not allowed that."""


class UnreadableNetwork(ValueError):
    """There is no network to audit at this path: the message says what is there and what would work."""


@dataclass(frozen=True)
class Network:
    """A network as it was read: the module in evaluation mode, its tokenizer if there is one, and how to make a fresh one.

    ``dtype``: of the stored weights. ``vocabulary``: size of the input embedding, or None where inputs are features.
    ``fresh(seed)`` gives the same architecture with random weights, None where that is not known. ``notes``: what the report
    must say about the reading.
    """

    model: nn.Module
    name: str
    family: str
    dtype: str
    parameters: int
    vocabulary: int | None = None
    tokenizer: Any = None
    fresh: Callable[[int], nn.Module] | None = None
    notes: tuple[str, ...] = ()


def load_network(source: str | os.PathLike | nn.Module, *, allow_pickle: bool = False) -> Network:
    """Read a network: a Hugging Face folder, a file saved by torch, or a module that is already in memory.

    Folders need config.json and safetensors weights; files may be TorchScript, a torch.export ``.pt2`` or, with
    ``allow_pickle=True``, a whole module saved by ``torch.save``. Nothing is downloaded and no code in a folder is run.
    Raises FileNotFoundError, :class:`PickleRefused`, :class:`UnreadableNetwork` (what is there, what would work) or
    ImportError (which extra to install).
    """
    from torch import nn

    if isinstance(source, nn.Module):
        return _described(source, type(source).__name__, type(source).__name__, fresh=_reinitialised(source))
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist; give a model folder or a file saved by torch")
    return _read_folder(path, allow_pickle) if path.is_dir() else _read_file(path, allow_pickle)


def _described(model: nn.Module, name: str, family: str, notes: tuple[str, ...] = (), **more: Any) -> Network:
    from torch import nn

    parameters = list(model.parameters())
    floats = sorted({str(p.dtype).removeprefix("torch.") for p in parameters if p.is_floating_point()})
    if model.training and family != "torch.export":  # an exported program has one mode only
        notes += ("the module was in training mode; the audit reads it in evaluation mode",)
    embeddings = [m for m in model.modules() if isinstance(m, nn.Embedding)]
    vocabulary = more.pop("vocabulary", embeddings[0].num_embeddings if embeddings else None)
    count = sum(p.numel() for p in parameters)
    return Network(model, name, family, "+".join(floats) or "none", count, vocabulary, notes=notes, **more)


def _reinitialised(model: nn.Module) -> Callable[[int], nn.Module] | None:
    """A maker of copies with fresh weights, or None unless every parameter belongs to a module that can reset its own."""
    import copy

    import torch

    def resettable(module: nn.Module) -> bool:
        return callable(getattr(module, "reset_parameters", None) or getattr(module, "_reset_parameters", None))

    # A module with a reset of its own (attention's is private) answers for everything below it only if it says so.
    loose = [name for name, m in model.named_modules() if list(m.parameters(recurse=False)) and not resettable(m)]
    if loose or not list(model.parameters()):
        return None

    def fresh(seed: int) -> nn.Module:
        made = copy.deepcopy(model)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            for module in made.modules():
                if resettable(module):
                    (getattr(module, "reset_parameters", None) or module._reset_parameters)()  # type: ignore[operator]
        return made

    return fresh


# ------------------------------------------------------------------------------------------------------------- torch files


def _read_file(path: Path, allow_pickle: bool) -> Network:
    import torch

    if path.suffix == ".safetensors":
        raise UnreadableNetwork(f"{path} holds tensors and no architecture; give the folder that has its config.json too")
    if path.suffix in (".gguf", ".onnx", ".h5", ".keras", ".msgpack", ".npz"):
        raise UnreadableNetwork(f"{path.suffix} files are not read; save the module with torch.export.save as a .pt2 file")
    inside = zipfile.ZipFile(path).namelist() if zipfile.is_zipfile(path) else []
    if path.suffix == ".pt2":
        model = _quietly(lambda: torch.export.load(path).module())
        return _described(model, path.name, "torch.export", (WHOLE,))
    if any("/code/" in name for name in inside):
        model = _quietly(lambda: torch.jit.load(path, map_location="cpu"))
        return _described(model, path.name, "TorchScript", (WHOLE,))
    with path.open("rb") as stream:
        if not inside and stream.read(1) != b"\x80":  # neither of torch's two formats
            raise UnreadableNetwork(f"{path} is not a file saved by torch")
    try:
        held = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError:
        if not allow_pickle:
            message = f"{path} {PICKLE}; or save the module with torch.export.save, or as a Hugging Face folder"
            raise PickleRefused(message) from None
        held = _unpickled(path)
    except (RuntimeError, EOFError, OSError) as error:
        raise UnreadableNetwork(f"{path} is not a file saved by torch ({_first_line(error)})") from None
    if not isinstance(held, torch.nn.Module):
        what = "weights (a state dict)" if isinstance(held, Mapping) else f"a {type(held).__name__}"
        raise UnreadableNetwork(
            f"{path} holds {what} and no architecture; load them into the module and save that: "
            "torch.save(model, path) with --allow-pickle, torch.export.save, or model.save_pretrained for Hugging Face models"
        )
    network = _described(held, path.name, type(held).__name__, fresh=_reinitialised(held))
    return network


def _unpickled(path: Path) -> Any:
    import torch

    try:
        return torch.load(path, map_location="cpu", weights_only=False)
    except (AttributeError, ModuleNotFoundError) as error:
        raise UnreadableNetwork(
            f"{path} needs code that is not importable here ({_first_line(error)}); "
            "run the audit where the module's class can be imported, or save it with torch.export.save"
        ) from None
    except (RuntimeError, EOFError, pickle.UnpicklingError) as error:
        raise UnreadableNetwork(f"{path} is not a file saved by torch ({_first_line(error)})") from None


def _quietly(read: Callable[[], Any]) -> Any:
    """What ``read`` gives, without its deprecation warnings (TorchScript announces its own end at every load)."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return read()


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


# ------------------------------------------------------------------------------------------------- Hugging Face folders


def read_config(folder: Path) -> dict[str, Any]:
    """config.json of a model folder, after refusing what cannot be audited; errors name the fix."""
    file = folder / "config.json"
    if not file.exists():
        held = ", ".join(sorted(p.name for p in folder.iterdir())[:6]) or "nothing"
        raise UnreadableNetwork(f"{folder} has no config.json (it holds {held}); give a folder written by save_pretrained")
    try:
        config = json.loads(file.read_text(encoding="utf-8"))
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise UnreadableNetwork(
            f"{file} is not JSON ({_first_line(error)}); restore it from where the folder came from"
        ) from None
    if not isinstance(config, dict) or not isinstance(config.get("model_type"), str):
        raise UnreadableNetwork(f"{file} names no model_type; give the folder of one model, written by save_pretrained")
    if config.get("quantization_config"):
        raise UnreadableNetwork(
            f"{folder} holds quantised weights; audit the folder before quantisation, or dequantise it first"
        )
    if config.get("is_encoder_decoder"):
        raise UnreadableNetwork(
            f"{config['model_type']} is an encoder-decoder, which is not one chain of blocks; not supported"
        )
    return config


def _weight_files(folder: Path, allow_pickle: bool) -> list[Path]:
    safe, pickled = sorted(folder.glob("*.safetensors")), sorted(folder.glob("pytorch_model*.bin"))
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise UnreadableNetwork(f"{folder} holds an adapter; merge it into its base model (merge_and_unload) and save that")
    if safe:
        index = folder / "model.safetensors.index.json"
        if index.exists():
            wanted = sorted(set(json.loads(index.read_text())["weight_map"].values()))
            absent = [w for w in wanted if not (folder / w).exists()]
            if absent:
                raise UnreadableNetwork(
                    f"{folder} lacks {len(absent)} of {len(wanted)} weight files, e.g. {absent[0]}; fetch them"
                )
            return [folder / w for w in wanted]
        return safe
    if pickled and allow_pickle:
        return pickled
    if pickled:
        raise PickleRefused(f"{pickled[0]} {PICKLE}; or convert the folder with save_pretrained(safe_serialization=True)")
    raise UnreadableNetwork(f"{folder} holds no weights (no *.safetensors file)")


def _read_folder(folder: Path, allow_pickle: bool) -> Network:
    if (folder / "adapter_config.json").exists() and not (folder / "config.json").exists():
        raise UnreadableNetwork(f"{folder} holds an adapter; merge it into its base model (merge_and_unload) and save that")
    config = read_config(folder)
    files = _weight_files(folder, allow_pickle)
    with _offline():
        try:
            import safetensors  # noqa: F401
            import transformers
        except ImportError:
            raise ImportError(NEED_TRANSFORMERS) from None
        kind = config["model_type"]
        if kind == "deepseek":
            model, fresh, notes = _deepseek(config, files)
        elif kind in transformers.CONFIG_MAPPING:
            model, fresh, notes = _known(folder, allow_pickle)
        else:
            carried = " The code that the folder carries is never run." if config.get("auto_map") else ""
            raise UnreadableNetwork(f"transformers {transformers.__version__} has no model type {kind!r}.{carried} "
                                    f"Read and tested here: {', '.join(FAMILIES)}.")  # fmt: skip
        if kind not in FAMILIES:
            notes += (
                f"the tests of this library do not cover the family {kind!r}: compare a block by hand before relying on it",
            )
        tokenizer, said = _tokenizer(folder)
    network = _described(model, _name(folder), kind, (*notes, *said), tokenizer=tokenizer, fresh=fresh,
                         vocabulary=model.get_input_embeddings().num_embeddings)  # type: ignore[operator] # fmt: skip
    if network.dtype in ("bfloat16", "float16"):
        more = f"weights are stored in {network.dtype}; float64 holds each exactly, and every number is computed in float64"
        network = Network(**{**vars(network), "notes": (*network.notes, more)})
    return network


def _name(folder: Path) -> str:
    """What a reader would call the model in this folder: its name in a cache of Hugging Face, or the folder's own."""
    place = folder.resolve()
    for part in (place, *place.parents):
        if part.name.startswith("models--"):
            return part.name.removeprefix("models--").replace("--", "/")
    return f"{place.parent.name}/{place.name}" if place.name == "model" else place.name


def _known(folder: Path, allow_pickle: bool) -> tuple[nn.Module, Callable[[int], nn.Module], tuple[str, ...]]:
    import torch
    import transformers

    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        model, found = transformers.AutoModel.from_pretrained(
            folder, **options, **PLAIN, config=config, dtype="auto", use_safetensors=not allow_pickle or None,
            output_loading_info=True)  # fmt: skip
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        raise UnreadableNetwork(f"{folder} cannot be read: {_first_line(error)}") from None
    absent = sorted(k for k in found["missing_keys"] if not k.startswith(SPARE))
    if absent or found.get("mismatched_keys"):
        what = absent or sorted(str(k) for k in found["mismatched_keys"])
        raise UnreadableNetwork(f"{folder} lacks {len(what)} of the model's weights, e.g. {what[0]}; they would be random. "
                                "Compare config.json with the weights")  # fmt: skip

    def fresh(seed: int) -> nn.Module:
        with torch.random.fork_rng(devices=[]), _offline():
            torch.manual_seed(seed)
            return transformers.AutoModel.from_config(config, **PLAIN)

    return model, fresh, ()


def _deepseek(config: Mapping[str, Any], files: list[Path]) -> tuple[nn.Module, Callable[[int], nn.Module], tuple[str, ...]]:
    from limitlib.audit import deepseek

    if any(f.suffix != ".safetensors" for f in files):
        raise UnreadableNetwork("DeepSeek-MoE folders are read from safetensors files only; convert the *.bin files first")
    try:
        model = deepseek.read(config, files)
    except (KeyError, RuntimeError, ValueError) as error:
        raise UnreadableNetwork(f"this DeepSeek-MoE folder cannot be read: {_first_line(error)}") from None
    note = "DeepSeek-MoE is rebuilt from its published architecture; the code in the folder is not run"
    return model, lambda seed: deepseek.fresh(config, seed), (note,)


def _tokenizer(folder: Path) -> tuple[Any, tuple[str, ...]]:
    import transformers

    names = ("tokenizer.json", "tokenizer.model", "vocab.txt", "vocab.json")
    if not any((folder / n).exists() for n in names):
        return None, ("the folder has no tokenizer",)
    try:
        made = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, ImportError, TypeError) as error:
        return None, (f"the folder's tokenizer cannot be read ({_first_line(error)})",)
    return made, ()


@contextlib.contextmanager
def _offline() -> Iterator[None]:
    """Keep Hugging Face's libraries off the network and silent while they read; restores what it changed."""
    names = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE", "HF_HUB_DISABLE_TELEMETRY")
    before = {n: os.environ.get(n) for n in names}
    os.environ.update(dict.fromkeys(names, "1"))  # read when the libraries are first imported
    try:
        with contextlib.suppress(ImportError):
            from transformers.utils import logging as talk

            level, bars = talk.get_verbosity(), talk.is_progress_bar_enabled()
            talk.set_verbosity_error()
            talk.disable_progress_bar()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        if "transformers" in sys.modules and "level" in locals():
            talk.set_verbosity(level)
            if bars:
                talk.enable_progress_bar()
        for n, value in before.items():
            if value is None:
                os.environ.pop(n, None)
            else:
                os.environ[n] = value
