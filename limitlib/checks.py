"""Arguments that the functions of several rooms check in the same way: errors name the argument, the value and the fix."""

from __future__ import annotations

import math
from collections.abc import Iterable
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def real_array(name: str, value: Any, *, nan: bool = False) -> Array:
    """``value`` as float64; TypeError for anything but real numbers, ValueError for NaN unless ``nan`` allows it."""
    try:
        given = np.asarray(value)
    except ValueError:
        raise ValueError(f"{name} must be an array, but its rows differ in length; make them equally long") from None
    strange = given.dtype.kind == "O" and any(v is None or isinstance(v, str) for v in given.flat)
    if given.dtype.kind not in "iufO" or strange:
        raise TypeError(f"{name}={value!r} must hold real numbers")
    try:
        array = given.astype(float)
    except (TypeError, ValueError, OverflowError):
        raise TypeError(f"{name}={value!r} must hold real numbers") from None
    if not nan and np.isnan(array).any():
        raise ValueError(f"{name} must not be NaN; got {value!r}")
    return array


def at_least(name: str, value: Any, low: float, why: str = "") -> Array:
    """As :func:`real_array`, every element at least ``low``; ValueError naming the first that is not."""
    array = real_array(name, value)
    if (array < low).any():
        raise ValueError(f"{name} must be at least {low:g}{why and ': '}{why}; got {array[array < low].flat[0]:g}")
    return array


def above(name: str, value: Any, low: float, why: str = "") -> Array:
    """As :func:`real_array`, every element above ``low``; ValueError naming the first that is not."""
    array = real_array(name, value)
    if (array <= low).any():
        edge = "positive" if low == 0 else f"above {low:g}"
        raise ValueError(f"{name} must be {edge}{why and ': '}{why}; got {array[array <= low].flat[0]:g}")
    return array


def real(name: str, value: Any, *, least: float = -np.inf, exclusive: bool = False, finite: bool = True) -> float:
    """One real number, at least ``least`` (above it if ``exclusive``), not NaN, not infinite unless ``finite`` is False.

    TypeError or ValueError otherwise.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name}={value!r} must be a real number")
    try:
        number = float(value)
    except OverflowError:
        raise ValueError(f"{name} is above the largest float, 1.8e308; give a smaller number") from None
    if np.isnan(number) or (finite and np.isinf(number)):
        raise ValueError(f"{name}={value!r} must be {'finite' if finite else 'a number'}")
    if number < least or (exclusive and number == least):
        need = ("positive" if least == 0 else f"above {least:g}") if exclusive else f"at least {least:g}"
        raise ValueError(f"{name}={value!r} must be {need}")
    return number


def returned(name: str, value: Any, *, finite: bool = True) -> float:
    """The number that a caller's function returned, named by ``name``; an array or tensor of one element counts as its element.

    TypeError for anything but one real number, ValueError for NaN, and for an infinite value unless ``finite`` is False.
    """
    single = getattr(value, "shape", None) is not None and math.prod(value.shape) == 1 and hasattr(value, "item")
    return real(name, value.item() if single else value, finite=finite)


def function(name: str, value: Any) -> None:
    """TypeError naming the argument unless ``value`` can be called."""
    if not callable(value):
        raise TypeError(f"{name}={value!r} must be a function")


def count(name: str, value: Any, least: int, why: str = "") -> int:
    """A whole number not below ``least`` (a float without a fraction will do); TypeError or ValueError otherwise."""
    number = real(name, value)
    if number != int(number):
        raise ValueError(f"{name}={value!r} must be a whole number{why and ': '}{why}")
    if number < least:
        raise ValueError(f"{name}={value!r} must be at least {least}{why and ': '}{why}")
    return int(number)


def generator(rng: Any) -> np.random.Generator:
    """``rng`` itself if it is a generator; TypeError saying how to make one otherwise."""
    if not isinstance(rng, np.random.Generator):
        raise TypeError(f"rng={rng!r} must be a numpy Generator, for instance numpy.random.default_rng(0)")
    return rng


def word(name: str, value: Any, known: Iterable[str]) -> str:
    """``value`` if it is one of the words ``known``; TypeError for no string, ValueError listing the words otherwise."""
    words = tuple(known)
    if not isinstance(value, str):
        raise TypeError(f"{name}={value!r} must be one of the words {', '.join(words)}")
    if value not in words:
        raise ValueError(f"{name}={value!r} is unknown: choose one of {', '.join(words)}")
    return value


def flag(name: str, value: Any) -> bool:
    """``value`` as a bool; TypeError for anything but True and False."""
    if not isinstance(value, bool | np.bool_):
        raise TypeError(f"{name}={value!r} must be True or False")
    return bool(value)
