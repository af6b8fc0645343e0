"""The points at which a network is read: token ids from a text, random ids, or states given as an array."""

from __future__ import annotations

import ast
import hashlib
import platform
import sysconfig
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from limitlib.audit.folder import Network

if TYPE_CHECKING:
    from torch import nn


@dataclass(frozen=True)
class Inputs:
    """What the network is run on: integer token ids (points, tokens) or float features (points, ...), and where they come from.

    ``how`` says so in words; ``sha256`` is that of the array's bytes; ``notes`` holds what the report must say.
    """

    values: np.ndarray
    how: str
    sha256: str
    notes: tuple[str, ...] = ()

    @property
    def are_tokens(self) -> bool:
        """Whether the values are token ids."""
        return self.values.dtype.kind == "i"


@lru_cache(maxsize=1)
def docstrings() -> tuple[str, ...]:
    """Docstrings of the modules that lie directly in the running Python's standard library, in order of name.

    They belong to one Python version. Raises FileNotFoundError if the running Python keeps no source beside it.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    found = []
    for file in sorted(folder.glob("*.py")):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            text = ast.get_docstring(ast.parse(file.read_text(encoding="utf-8", errors="replace")))
        if text:
            found.append(text)
    if len(found) < 20:
        raise FileNotFoundError(f"{folder} holds {len(found)} modules with a docstring; give a text of your own")
    return tuple(found)


def prepare(
    network: Network, *, text: str | Sequence[str] | None = None, inputs: np.ndarray | None = None, tokens: int = 64,
    sequences: int = 64, rng: np.random.Generator,
) -> Inputs:  # fmt: skip
    """The inputs of an audit.

    text: one string, cut into pieces of ``tokens`` tokens, or several strings, each cut to its first ``tokens`` (shorter
    ones are left out); without it a network with a tokenizer reads the standard library's docstrings. inputs: token ids
    (integers) or what the network takes (floats, shape (points, ...)), used as they are. A network with neither gets random
    token ids or, if it begins with a linear map, standard normal features. At most ``sequences`` points are kept.
    Raises ValueError naming what does not fit.
    """
    if inputs is not None and text is not None:
        raise ValueError("text and inputs are two answers to one question; give one of them")
    if inputs is not None:
        return _given(network, np.asarray(inputs), sequences)
    if text is not None and network.tokenizer is None:
        raise ValueError(
            "a text needs a tokenizer and this network has none; give token ids or states instead (--input ids.npy)"
        )
    if network.tokenizer is not None:
        try:
            pieces, what = (docstrings(), f"docstrings of Python {platform.python_version()}'s standard library")
        except FileNotFoundError:
            if text is None:
                raise
        if text is not None:
            pieces, what = ((text,), "the text") if isinstance(text, str) else (tuple(text), f"{len(text)} texts")
        return _tokenised(network, pieces, what, isinstance(text, str), tokens, sequences)
    if network.vocabulary:
        ids = rng.integers(0, network.vocabulary, (sequences, tokens))
        note = "token ids are uniformly random, for want of a tokenizer: data-dependent columns say nothing about text"
        return _inputs(ids, f"{sequences} sequences of {tokens} uniformly random token ids", note)
    features = _first_features(network.model)
    if features is None:
        raise ValueError(
            "what this network takes cannot be guessed; give its inputs as an array of shape (points, ...) (--input)"
        )
    shape = (sequences, tokens, features[0]) if features[1] else (sequences, features[0])
    note = "inputs are standard normal: data-dependent columns say nothing about the data the network was made for"
    return _inputs(rng.standard_normal(shape), f"{sequences} standard normal inputs of shape {shape[1:]}", note)


def _inputs(values: np.ndarray, how: str, *notes: str) -> Inputs:
    values = np.ascontiguousarray(values, dtype=np.int64 if values.dtype.kind in "iu" else np.float64)
    return Inputs(values, how, hashlib.sha256(values.tobytes()).hexdigest(), notes)


def _given(network: Network, values: np.ndarray, sequences: int) -> Inputs:
    if values.dtype.kind not in "iuf" or values.ndim < 2 or len(values) < 2:
        raise ValueError(f"inputs must be at least 2 points, numbers of shape (points, ...); got {values.dtype} {values.shape}")
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        raise ValueError("inputs hold NaN or inf; give finite numbers")
    if values.dtype.kind in "iu":
        if values.ndim != 2 or network.vocabulary is None:
            raise ValueError(
                f"integer inputs are token ids, shape (points, tokens), of a network with an embedding; got {values.shape}"
            )
        if values.min() < 0 or values.max() >= network.vocabulary:
            raise ValueError(
                f"inputs hold token ids from {values.min()} to {values.max()}; the vocabulary has {network.vocabulary}"
            )
    kept = values[:sequences]
    return _inputs(kept, f"{len(kept)} given inputs of shape {values.shape[1:]}")


def _tokenised(network: Network, pieces: Sequence[str], what: str, whole: bool, tokens: int, sequences: int) -> Inputs:
    tokenizer = network.tokenizer
    found: list[list[int]] = []
    short = 0
    for piece in pieces:
        if len(found) >= sequences:
            break
        options = {"truncation": True, "max_length": tokens, "return_overflowing_tokens": whole and bool(tokenizer.is_fast)}
        ids = tokenizer(piece, **options)["input_ids"]
        rows = ids if ids and isinstance(ids[0], list) else [ids]
        full = [row for row in rows if len(row) == tokens]
        short += len(rows) - len(full)
        found += full
    found = found[:sequences]
    if len(found) < 2:
        raise ValueError(f"{what} gives {len(found)} sequences of {tokens} tokens; give more text or fewer tokens (--tokens)")
    notes = (f"{short} pieces shorter than {tokens} tokens were left out",) if short else ()
    cut = "consecutive pieces" if whole else "first tokens"
    return _inputs(np.array(found), f"{len(found)} sequences of {tokens} tokens, {cut} of {what}", *notes)


def _first_features(model: nn.Module) -> tuple[int, bool] | None:
    """(width, whether inputs are token matrices) of a network whose first leaf tells it."""
    from torch import nn

    for module in model.modules():
        if isinstance(module, nn.TransformerEncoderLayer):
            if not module.self_attn.batch_first:
                raise ValueError(
                    "the network takes (tokens, points, d); build it with batch_first=True, so that points come first"
                )
            return module.self_attn.embed_dim, True
        if not list(module.children()):
            return (module.in_features, False) if isinstance(module, nn.Linear) else None
    return None
