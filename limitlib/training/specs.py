"""What is trained and what comes back: ``Spec``, ``Run``, ``Table``, and ``train``, which every kind of spec registers with."""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from functools import singledispatch
from typing import Any

import numpy as np

Row = dict[str, Any]


@dataclass(frozen=True)
class Spec:
    """What every spec has: the seeds of its members. Subclasses check their fields when made and raise ValueError."""

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if not self.seeds or any(not isinstance(s, int) or s < 0 for s in self.seeds):
            raise ValueError(f"seeds={self.seeds!r} must be one or more integers >= 0")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds!r} repeats a seed; repeated members would count one run twice")

    def need(self, **at_least: float) -> None:
        for name, lowest in at_least.items():
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least {lowest}")

    def need_rates(self, name: str) -> None:
        values = getattr(self, name)
        if not values or not all(math.isfinite(v) and v > 0 for v in values):
            raise ValueError(f"{name}={values!r} must be one or more positive finite numbers")

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that change with any field: the name of this spec's file in a store."""
        said = json.dumps({"spec": type(self).__name__, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A short name for messages, such as ``DigitsSpec-3f2a...``."""
        return f"{type(self).__name__}-{self.key}"


@dataclass(frozen=True)
class Run:
    """One finished spec: ``rows``, one per member; ``details``, longer tables (per block, per step); wall seconds."""

    spec: Spec
    rows: tuple[Row, ...]
    details: tuple[Row, ...] = ()
    seconds: float = 0.0
    device: str = "cpu"


@dataclass(frozen=True)
class Table:
    """Rows of many runs in the order of their specs; rows need not have the same columns."""

    rows: tuple[Row, ...]
    details: tuple[Row, ...] = ()

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[str]]) -> Table:
        """Rows from columns of text, as a CSV file has them: numbers, True and False become what they say.

        >>> Table.from_columns({"gain": ["0.5"], "held": ["True"], "model": ["plain"]}).rows
        ({'gain': 0.5, 'held': True, 'model': 'plain'},)
        """

        def value(said: str) -> Any:
            if said in ("True", "False"):
                return said == "True"
            with contextlib.suppress(ValueError):
                return int(said)
            with contextlib.suppress(ValueError):
                return float(said)
            return said

        names = list(columns)
        return cls(tuple(dict(zip(names, map(value, row), strict=True)) for row in zip(*columns.values(), strict=True)))

    def where(self, **values: Any) -> Table:
        """The rows (and details) whose columns equal the given values; a row without the column does not match."""

        def fits(row: Mapping[str, Any]) -> bool:
            return all(row.get(k, _ABSENT) == v for k, v in values.items())

        return Table(tuple(filter(fits, self.rows)), tuple(filter(fits, self.details)))

    def column(self, name: str) -> np.ndarray:
        """One column of the rows as an array. Raises KeyError naming the columns if a row lacks it."""
        if any(name not in row for row in self.rows):
            raise KeyError(f"no column {name!r} in every row; there are {sorted(set().union(*self.rows))}")
        return np.array([row[name] for row in self.rows])

    def mean(self, name: str, **values: Any) -> float:
        """Mean of a column over the matching rows. Raises ValueError if none matches."""
        chosen = self.where(**values)
        if not chosen.rows:
            raise ValueError(f"no row has {values}")
        return float(chosen.column(name).mean())

    def sd(self, name: str, **values: Any) -> float:
        """Sample standard deviation of a column over the matching rows (nan for a single row)."""
        found = self.where(**values).column(name)
        return float(found.std(ddof=1)) if len(found) > 1 else math.nan


_ABSENT = object()


@singledispatch
def train(spec: Spec, *, device: str = "cpu") -> Run:
    """Train one spec from its seeds; deterministic on one machine, equal across devices to about 1e-3 in a loss.

    spec: a ``DigitsSpec``, ``DescentSpec``, ``TextSpec`` or ``LanguageSpec``; TypeError for anything else. device: "cpu" or
    "cuda".
    """
    raise TypeError(f"spec is a {type(spec).__name__}; give {kinds()}")


def kinds() -> str:
    """The specs that ``train`` knows, for messages."""
    return " or ".join(f"a {kind.__name__}" for kind in train.registry if kind is not object)
