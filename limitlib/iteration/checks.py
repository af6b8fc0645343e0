"""Arguments that several functions of this package check in the same way."""

from __future__ import annotations

from typing import Any

import numpy as np

EPS = float(np.finfo(float).eps)
EVALUATION = 4  # a computed T x is taken to be off by at most EVALUATION * d * eps * (|x| + |T x|)


def check_count(name: str, value: Any, least: int) -> int:
    """An integer not below ``least``; ValueError otherwise."""
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
        raise ValueError(f"{name} must be an integer >= {least}; got {value!r}")
    return int(value)


def check_start(x0: Any) -> tuple[np.ndarray, bool]:
    """A float64 copy of shape ``(batch, d)``, and whether ``x0`` was one vector ``(d,)``; TypeError or ValueError otherwise."""
    array = np.asarray(x0)
    if not (np.issubdtype(array.dtype, np.floating) or np.issubdtype(array.dtype, np.integer)):
        raise TypeError(f"x0 must be an array of real numbers; got dtype {array.dtype}")
    if array.ndim not in (1, 2) or array.size == 0:
        raise ValueError(f"x0 must have shape (batch, d) or (d,), not empty; got {array.shape}")
    if not np.isfinite(array).all():
        raise ValueError("x0 must be finite; got NaN or inf")
    return np.array(array, dtype=float, ndmin=2), array.ndim == 1
