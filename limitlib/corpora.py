"""Data that needs no network: scikit-learn's digits, and the running Python's own standard library as text."""

from __future__ import annotations

import hashlib
import platform
import sysconfig
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

#: Newline and the printable ASCII characters, then one place for every other character.
ALPHABET = "\n" + "".join(chr(c) for c in range(32, 127)) + "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Corpus:
    """Characters as integers into ``alphabet`` (uint8), split by file; ``sha256`` is that of train and test together.

    The text belongs to one Python version (``python``): another version gives another hash and slightly other losses.
    """

    train: np.ndarray
    test: np.ndarray
    alphabet: str
    sha256: str
    files: int
    python: str


def encode(text: str) -> np.ndarray:
    """Codes (uint8) of a text; tabs become four spaces, characters outside the alphabet its last place.

    >>> encode("a\\n").tolist()
    [66, 0]
    """
    points = np.frombuffer(text.replace("\t", "    ").encode("utf-32-le"), np.uint32)
    codes = np.full(points.shape, len(ALPHABET) - 1, np.uint8)
    printable = (points >= 32) & (points < 127)
    codes[printable] = points[printable] - 31
    codes[points == ord("\n")] = 0
    return codes


@lru_cache(maxsize=1)
def python_source() -> Corpus:
    """The modules that lie directly in the standard library's folder, in order of name; every tenth file is test text.

    Raises FileNotFoundError if the running Python keeps no source beside it.
    """
    folder = Path(sysconfig.get_paths()["stdlib"])
    files = sorted(p for p in folder.glob("*.py") if not p.name.startswith("_sysconfigdata"))
    if len(files) < 20:
        raise FileNotFoundError(f"{folder} holds {len(files)} modules; use a Python that keeps its library's source there")
    codes = [encode(p.read_text(encoding="utf-8", errors="replace")) for p in files]
    train = np.concatenate([c for i, c in enumerate(codes) if i % 10 != 9])
    test = np.concatenate([c for i, c in enumerate(codes) if i % 10 == 9])
    digest = hashlib.sha256(train.tobytes() + b"|" + test.tobytes()).hexdigest()
    return Corpus(train, test, ALPHABET, digest, len(files), platform.python_version())


def windows(codes: np.ndarray, context: int, starts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Contexts (..., context) and the next character (...) at the given starts, as int64.

    Raises ValueError if a window would leave the text.
    """
    if starts.size and (starts.min() < 0 or starts.max() + context >= len(codes)):
        last = len(codes) - context - 1
        raise ValueError(f"starts must lie in [0, {last}] for context={context} and {len(codes)} codes")
    found = codes[starts[..., None] + np.arange(context + 1)].astype(np.int64)
    return found[..., :-1], found[..., -1]


@dataclass(frozen=True)
class Digits:
    """Scikit-learn's 8 x 8 digits: float64 features (n, 64), integer labels; standardised with training statistics."""

    x: np.ndarray
    y: np.ndarray
    x_test: np.ndarray
    y_test: np.ndarray


@lru_cache(maxsize=1)
def digits() -> Digits:
    """The digits, 1347 for training and 450 for testing, by one fixed permutation.

    Raises ImportError naming the extra to install if scikit-learn is missing.
    """
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise ImportError("the digits come with scikit-learn: pip install 'limitlib[book]'") from error
    x, y = load_digits(return_X_y=True)
    order = np.random.default_rng(0).permutation(len(y))
    train, test = order[:1347], order[1347:]
    mean, deviation = x[train].mean(0), x[train].std(0)
    x = (x - mean) / np.where(deviation > 0, deviation, 1.0)
    return Digits(x[train], y[train], x[test], y[test])
