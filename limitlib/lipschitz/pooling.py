"""Constants of pooling layers, from the windows that share an entry; and the helpers that all layer rules use."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.bounds import EXACT_WIDTH, Bound, Domain, WholeSpace, multiply_up, round_down, round_up
from limitlib.operators import operator_norm

Array = NDArray[np.float64]
Norm = tuple[float | str, float | str]


def max_pool(
    domain: Domain,
    kernel_size: int | Sequence[int],
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    dilation: int | Sequence[int] = 1,
    input_size: Sequence[int] | None = None,
    ceil_mode: bool = False,
) -> Bound:
    """Window w changes by at most the change of one of its entries, and an entry is in at most m windows: |dy|^2 <= m |dx|^2.

    An input whose only peak is at such an entry attains it. m is a product over the dimensions. Overlapping pooling is no
    contraction: 3 x 3 with stride 1 has constant 3. Kernel, stride, padding, dilation: a number means every dimension (two,
    unless another argument names more or fewer).
    """
    if input_size is None and any(v is not None and not isinstance(v, int | np.integer) for v in (kernel_size, stride)):
        dims = max(len(v) for v in (kernel_size, stride) if isinstance(v, Sequence))
    else:
        dims = 2 if input_size is None else len(sizes_of("input_size", input_size))
    k, pad = sizes_of("kernel_size", kernel_size, dims), sizes_of("padding", padding, dims)
    dil = sizes_of("dilation", dilation, dims)
    s = k if stride is None else sizes_of("stride", stride, dims)
    m = 1
    for i in range(dims):
        n = None if input_size is None else sizes_of("input_size", input_size)[i]
        m *= _windows_sharing_an_entry(k[i], s[i], pad[i], dil[i], n, ceil_mode)
    root = math.sqrt(m)
    exact = math.isqrt(m) ** 2 == m
    attained = isinstance(domain, WholeSpace)
    where = "far from the borders" if input_size is None else f"on inputs of size {tuple(input_size)}"
    lower = (root if exact else round_down(root)) if attained else 0.0
    return bracket(lower, root if exact else round_up(root), domain, f"an entry is in at most {m} windows {where}")


def _windows_sharing_an_entry(k: int, s: int, pad: int, dil: int, n: int | None, ceil_mode: bool) -> int:
    if n is None:  # windows w and places m of the kernel with w s + m dil = j: count the m of one residue class
        return max(sum((m * dil - c) % s == 0 for m in range(k)) for c in range(s))
    members = _windows(k, s, pad, dil, n, ceil_mode)
    counts = np.bincount([j for window in members for j in window], minlength=n)
    return int(counts.max())


def _windows(k: int, s: int, pad: int, dil: int, n: int, ceil_mode: bool) -> list[list[int]]:
    """The entries of every window along one dimension (torch's rules for the number of windows)."""
    if pad > k // 2:
        raise ValueError(f"padding={pad} exceeds half of kernel_size={k}, which pooling does not allow")
    room = n + 2 * pad - dil * (k - 1) - 1
    if room < 0:
        raise ValueError(f"input_size={n} with padding {pad} is smaller than one window of kernel_size={k}, dilation={dil}")
    count = (-(-room // s) if ceil_mode else room // s) + 1
    if ceil_mode and (count - 1) * s >= n + pad:
        count -= 1
    starts = [w * s - pad for w in range(count)]
    return [[j for m in range(k) if 0 <= (j := start + m * dil) < n] for start in starts]


def avg_pool(
    domain: Domain,
    kernel_size: int | Sequence[int],
    input_size: Sequence[int] | None = None,
    stride: int | Sequence[int] | None = None,
    padding: int | Sequence[int] = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> Bound:
    """A linear map, the Kronecker product of one matrix for each dimension, so the product of their norms.

    Without ``input_size``: rows sum to at most 1, columns to at most ceil(k/s)/k (Schur), and long inputs approach that.
    """
    if input_size is None:
        k = sizes_of("kernel_size", kernel_size, 2 if isinstance(kernel_size, int) else None)
        s = k if stride is None else sizes_of("stride", stride, len(k))
        if any(sizes_of("padding", padding, len(k))) and not count_include_pad:
            raise ValueError("input_size is needed with count_include_pad=False and padding; give it")
        upper = math.prod(math.sqrt(-(-a // b) / a) for a, b in zip(k, s, strict=True))
        return bracket(0.0, round_up(upper, 4 * len(k)), domain, "Schur: rows sum to 1, columns to ceil(k/s)/k")
    sizes = sizes_of("input_size", input_size)
    k = sizes_of("kernel_size", kernel_size, len(sizes))
    s = k if stride is None else sizes_of("stride", stride, len(sizes))
    pad = sizes_of("padding", padding, len(sizes))
    factors = []
    for i, n in enumerate(sizes):
        windows = _windows(k[i], s[i], pad[i], 1, n, ceil_mode)
        A = np.zeros((len(windows), n))
        for w, members in enumerate(windows):
            # torch counts the padding, but not what ceil_mode adds beyond it
            counted = min(w * s[i] - pad[i] + k[i], n + pad[i]) - (w * s[i] - pad[i]) if count_include_pad else len(members)
            A[w, members] = 1.0 / max(counted, 1)
        factors.append(A)
    return _linear_product(domain, factors, "average pooling is linear: product of one norm for each dimension")


def adaptive_avg_pool(domain: Domain, output_size: int | Sequence[int], input_size: Sequence[int]) -> Bound:
    """As average pooling; window i runs from floor(i n / m) to ceil((i + 1) n / m)."""
    sizes = sizes_of("input_size", input_size)
    factors = []
    for n, m in zip(sizes, sizes_of("output_size", output_size, len(sizes)), strict=True):
        A = np.zeros((m, n))
        for i in range(m):
            a, b = i * n // m, -(-(i + 1) * n // m)
            A[i, a:b] = 1.0 / (b - a)
        factors.append(A)
    return _linear_product(domain, factors, "adaptive average pooling is linear: product of one norm for each dimension")


def global_avg_pool(domain: Domain, input_size: int | Sequence[int]) -> Bound:
    """The mean of n entries: 1 / sqrt(n)."""
    n = math.prod(sizes_of("input_size", input_size))
    top = 1 / math.sqrt(n)
    return bracket(round_down(top, 2), round_up(top, 2), domain, f"mean of {n} entries")


# -------------------------------------------------------------------------------------------------------------- helpers


def bracket(lower: float, upper: float, domain: Domain, source: str, norm: Norm = (2, 2)) -> Bound:
    exact = lower == upper or upper - lower <= EXACT_WIDTH * upper < math.inf
    return Bound(lower, upper, norm, domain, "exact" if exact else "certified", None, source)


def _linear_product(domain: Domain, factors: list[Array], source: str) -> Bound:
    lower = upper = 1.0
    for A in factors:
        b = operator_norm(A, rtol=1e-9)
        lower, upper = max(0.0, round_down(lower * b.lower)), multiply_up(upper, b.upper)
    # Entries 1/k are rounded once: relative 2^-53 in a matrix without negative entries.
    slack = 1 + 2**-52 * len(factors)
    return bracket(lower / slack, upper * slack, domain, source)


def nonnegative(name: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be one real number; got {value!r}") from None
    if not (number >= 0 and math.isfinite(number)):
        raise ValueError(f"{name}={number} must be finite and not negative")
    return number


def whole_number(name: str, value: Any, default: int) -> int:
    if value is None:
        return default
    if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < 1:
        raise ValueError(f"{name}={value!r} must be a positive integer")
    return int(value)


def sizes_of(name: str, value: Any, dims: int | None = None) -> tuple[int, ...]:
    items = (value,) * (dims or 1) if isinstance(value, int | np.integer) else tuple(value)
    if dims is not None and len(items) != dims:
        raise ValueError(f"{name}={value!r} must be one number or {dims} numbers")
    least = 0 if name == "padding" else 1
    for item in items:
        if isinstance(item, bool) or not isinstance(item, int | np.integer) or item < least:
            raise ValueError(f"{name}={value!r} must hold integers of at least {least}")
    return tuple(int(i) for i in items)
