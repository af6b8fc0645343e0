"""Tables of training runs whose columns have units, with everything that was dropped, computed or assumed written down.

N counts data (tokens), P parameters, K steps or tokens seen, C FLOPs; the loss is in nats per token unless ``unit`` says
otherwise. What must not be fitted raises an error with a name (:mod:`limitlib.scaling.errors`); what may be fitted but is
suspicious stands in ``warnings``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields, replace
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from limitlib.checks import Array, count
from limitlib.scaling import assembly, sources
from limitlib.scaling.conditions import holds
from limitlib.scaling.errors import (
    EmptyTable,
    FewerRunsThanParameters,
    NonPositiveVariable,
    NoVariation,
    UnknownColumn,
    of_rows,
)
from limitlib.scaling.sources import Source
from limitlib.scaling.suspicions import suspicions

#: Natural units of the four variables.
UNITS = {"N": "tokens", "P": "parameters", "K": "steps, or tokens seen", "C": "FLOP"}


@dataclass(frozen=True, eq=False, repr=False)
class Runs:
    """A table of n rows from several runs; made by ``from_frame``, ``from_arrays`` or ``read``, never by hand.

    columns: name -> float64 (n,); N, P, K, C and any extra column. loss: float64 (n,), positive. run: int64 (n,), which of
    ``run_names`` the row belongs to. weight: float64 (n,). rows: int64 (n,), the row of the source, the first being 0.
    unit: of the loss. counting: what P counts, or None. tokenizers: as far as told. annealed: bool (n,), or None if not
    told. labels: how each column was named in the source. notes: each thing that was dropped, computed or assumed.
    source: the file and its sha256, or None. Every array is read-only.

    >>> runs = Runs.from_arrays([3.0, 2.5, 2.2], N=[1e9, 2e9, 4e9], P=[1e8, 1e8, 2e8])
    >>> runs
    Runs(3 rows of 3 runs: N, P, C; loss 2.2 to 3 nats/token)
    >>> runs.where("C > 1e18").n_runs
    2
    """

    columns: Mapping[str, Array]
    loss: Array
    run: NDArray[np.int64]
    run_names: tuple[str, ...]
    weight: Array
    rows: NDArray[np.int64]
    unit: str
    counting: str | None
    tokenizers: tuple[str, ...]
    annealed: NDArray[np.bool_] | None
    labels: Mapping[str, str]
    notes: tuple[str, ...]
    source: Source | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", MappingProxyType({k: _frozen(v) for k, v in self.columns.items()}))
        object.__setattr__(self, "labels", MappingProxyType(dict(self.labels)))
        for name in ("loss", "run", "weight", "rows", "annealed"):
            if getattr(self, name) is not None:
                object.__setattr__(self, name, _frozen(getattr(self, name)))

    def __reduce__(self) -> Any:
        state = {f.name: getattr(self, f.name) for f in fields(self)}
        return _rebuilt, (state | {"columns": dict(self.columns), "labels": dict(self.labels)},)

    # ----------------------------------------------------------------------------------------------------- making a table

    @classmethod
    def from_frame(
        cls,
        frame: Any,
        *,
        N: assembly.Column | None = None,
        P: assembly.Column | None = None,
        K: assembly.Column | None = None,
        C: assembly.Column | None = None,
        loss: assembly.Column = "loss",
        run: str | None = None,
        weight: str | None = None,
        tokenizer: str | None = None,
        annealed: str | bool | None = None,
        counting: str | None = None,
        unit: str = "nats/token",
        extra: Mapping[str, assembly.Column] | Iterable[str] | None = None,
        where: str | None = None,
        drop_nan: bool = False,
        source: Source | None = None,
    ) -> Runs:
        """The runs in a data frame, a mapping of sequences, or a list of row mappings.

        N, P, K, C, loss: the name of the source's column, or (name, factor) where the source counts in other units:
        ``N=("tokens_b", 1e9)``. At least one of N, P, K, C or extra; C missing beside N and P becomes 6 N P (noted).
        extra: further columns of numbers, {"name here": "name there"} or a list of names.
        run: the column that tells runs apart, needed wherever a run has several rows; ``"=row"`` says that every row is a
        run of its own. weight: column of nonnegative weights.
        tokenizer: column with its name, or ``"=gpt2"`` for one and the same. annealed: column of true and false, or True or
        False for all rows. counting: what P counts, in words, e.g. "non-embedding".
        unit: of the loss; "nats/token"; "bits/..." is converted to nats and "perplexity" to its logarithm (noted);
        "nats/byte", "nats/character" and "nats/word" are kept; ``"=top-1 error"`` is any other, taken as it is.
        where: which rows to keep, :meth:`where`; it may use the source's other columns too: "C < 1e21 and split == 'test'".
        drop_nan: drop rows with missing values instead of raising MissingValues; their numbers are noted.
        Rows that repeat another in all used columns (and in a column for the seed, if there is one) are dropped and noted,
        unless there is a weight column. source: the file, as :meth:`read` fills it in.

        Raises UnknownColumn, UnparsableNumber, UnparsableFlag, MissingValues, NonPositiveLoss (a loss of 0 or below),
        NonPositiveVariable (P at 0 or below, N, K or C below 0), BadWeight, MixedTokenizers, CheckpointsAsRuns (K without
        run, or a column such as run_name that repeats and is not named), BadCondition, EmptyTable, UnreadableTable: all
        ValueErrors that name column, rows and fix. TypeError for arguments of a wrong type.
        """
        return cls(
            **assembly.assemble(
                sources.of_frame(frame), variables=dict(N=N, P=P, K=K, C=C), loss=loss, run=run, weight=weight,
                tokenizer=tokenizer, annealed=annealed, counting=counting, unit=unit, extra=extra, where=where,
                drop_nan=drop_nan,
            ), source=source,
        )  # fmt: skip

    @classmethod
    def from_arrays(
        cls,
        loss: ArrayLike,
        *,
        N: ArrayLike | None = None,
        P: ArrayLike | None = None,
        K: ArrayLike | None = None,
        C: ArrayLike | None = None,
        run: Any = None,
        weight: ArrayLike | None = None,
        tokenizer: Any = None,
        annealed: Any = None,
        counting: str | None = None,
        unit: str = "nats/token",
        where: str | None = None,
        drop_nan: bool = False,
        **extra: ArrayLike,
    ) -> Runs:
        """The runs in arrays of shape (n,), one a row; every further keyword is an extra column. As :meth:`from_frame`.

        run: names or numbers, one a row, or ``"=row"``. tokenizer: names, one a row, or ``"=gpt2"``. annealed: bool (n,), or
        True or False for all rows.
        """
        given = {"N": N, "P": P, "K": K, "C": C, "weight": weight, **extra}
        frame: dict[str, Any] = {name: np.asanyarray(values) for name, values in given.items() if values is not None}
        frame["loss"] = np.asanyarray(loss)
        named: dict[str, Any] = {name: name for name in ("N", "P", "K", "C", "weight") if given[name] is not None}
        for name, values in (("run", run), ("tokenizer", tokenizer), ("annealed", annealed)):
            if isinstance(values, str | bool):
                named[name] = values
            elif values is not None:
                frame[name], named[name] = values, name
        return cls.from_frame(
            frame, counting=counting, unit=unit, where=where, drop_nan=drop_nan, extra=list(extra), **named
        )

    @classmethod
    def read(cls, path: str | Path, *, format: str | None = None, **named: Any) -> Runs:
        """The runs in a CSV (comma, semicolon or tab), JSON lines or Parquet file, also packed with gzip.

        format: "csv", "jsonl" or "parquet"; None goes by the file's name. named: the arguments of :meth:`from_frame`, and its
        errors; OSError if the file cannot be read, ImportError for Parquet without pyarrow.
        """
        table, source = sources.read(path, format)
        return cls.from_frame(table.columns, **named, source=source)

    # ---------------------------------------------------------------------------------------------------- looking into it

    def __len__(self) -> int:
        return len(self.loss)

    def __getitem__(self, name: str) -> Array:
        """The column of that name, or ``"loss"``; UnknownColumn (a KeyError) if there is none."""
        if isinstance(name, str) and name == "loss":
            return self.loss
        if name not in self.columns:
            raise UnknownColumn(
                f"these runs have no column {name!r}, only {', '.join(self.columns)} and loss; name it when reading: "
                + (f"{name}='name of its column'" if name in UNITS else f"extra={{{name!r}: 'name of its column'}}"),
                column=str(name),
            )
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name == "loss" or name in self.columns

    def __repr__(self) -> str:
        ends = f"{self.loss.min():.4g} to {self.loss.max():.4g}"
        runs = f"{len(self)} rows of {self.n_runs} runs"
        return f"Runs({runs}: {', '.join(self.columns)}; loss {ends} {self.unit})"

    @property
    def n_runs(self) -> int:
        """How many runs have rows here."""
        return len(self.run_names)

    @property
    def N(self) -> Array:
        """Data, in tokens."""
        return self["N"]

    @property
    def P(self) -> Array:
        """Parameters."""
        return self["P"]

    @property
    def K(self) -> Array:
        """Steps or tokens seen, whichever the source counts."""
        return self["K"]

    @property
    def C(self) -> Array:
        """Training compute in FLOPs."""
        return self["C"]

    @cached_property
    def warnings(self) -> tuple[str, ...]:
        """What may be fitted but is suspicious, each with a name before its colon.

        unannealed, rising (the "loss" is a score), perplexity,
        vocabulary (a loss above a uniform guess), factor, untrained, swapped, compute, one ratio,
        conflicting (two losses at one point of a run), near-duplicates.
        """
        return suspicions(self)

    def summary(self) -> dict[str, Any]:
        """Rows, runs and, for the loss and every column, its least and largest value in natural units; for JSON."""
        told: dict[str, Any] = {"rows": len(self), "runs": self.n_runs}
        for name, values in {"loss": self.loss, **self.columns}.items():
            least, most = float(values.min()), float(values.max())
            told[name] = {"least": least, "most": most, "distinct": len(np.unique(values))}
            if least > 0:
                told[name]["decades"] = float(np.log10(most) - np.log10(least))
            unit = self.unit if name == "loss" else UNITS.get(name)
            if unit:
                told[name]["unit"] = unit
        return told

    # ------------------------------------------------------------------------------------------------- parts, requirements

    def select(self, mask: ArrayLike) -> Runs:
        """The rows where ``mask`` (bool, (n,)) is true, or the rows with these numbers (int, each once), in that order (noted).

        Runs without rows are dropped from ``run_names``. Raises ValueError for a wrong shape, for row numbers that are out of
        range or given twice (repeat a run by its weight), EmptyTable if no row is left.
        """
        chosen = np.asarray(mask)
        if chosen.dtype.kind == "b" and chosen.shape == self.loss.shape:
            chosen = np.flatnonzero(chosen)
        elif chosen.dtype.kind not in "iu" or chosen.ndim != 1:
            raise ValueError(f"mask must be bool of shape {self.loss.shape}, or a vector of row numbers; got {chosen.dtype} "
                             f"of shape {chosen.shape}")  # fmt: skip
        elif chosen.size and not 0 <= chosen.min() <= chosen.max() < len(self):
            raise ValueError(f"mask has row numbers outside 0..{len(self) - 1}")
        elif len(np.unique(chosen)) < len(chosen):
            raise ValueError("mask has a row twice; to count a run twice, give it twice the weight")
        if not chosen.size:
            raise EmptyTable(f"mask keeps none of the {len(self)} rows; choose more")
        return self._part(chosen, f"select: {len(chosen)} of {len(self)} rows kept")

    def _part(self, chosen: NDArray[np.int64], note: str) -> Runs:
        codes, kept = sources.codes_of(self.run[chosen].tolist())
        return replace(
            self,
            columns={name: values[chosen] for name, values in self.columns.items()},
            loss=self.loss[chosen], run=codes, run_names=tuple(self.run_names[k] for k in kept), weight=self.weight[chosen],
            rows=self.rows[chosen], annealed=None if self.annealed is None else self.annealed[chosen],
            notes=(*self.notes, note),
        )  # fmt: skip

    def where(self, condition: str) -> Runs:
        """The rows that meet a condition such as ``"C < 1e21 and P >= 1e8"`` (noted).

        Names: the columns, loss, weight, annealed, run (``run == 'a'``); with numbers, quoted words, comparisons,
        ``+ - * / **``, and, or, not, brackets. Raises BadCondition naming the token that is not understood, UnknownColumn,
        EmptyTable.
        """

        def column(name: str) -> NDArray[Any]:
            if name == "run":
                return np.array(self.run_names, dtype=object)[self.run]
            if name == "annealed" and self.annealed is None:
                raise UnknownColumn("where: it was not told which points are annealed; say it by annealed= when reading")
            if name in ("weight", "annealed"):
                return np.asarray(getattr(self, name))
            return self[name]

        mask = holds(condition, column, len(self))
        if not mask.any():
            raise EmptyTable(f"where={condition!r} keeps none of the {len(self)} rows; their ranges: {self._ranges()}")
        return self._part(np.flatnonzero(mask), f"where {condition}: {mask.sum()} of {len(self)} rows kept")

    def _ranges(self) -> str:
        return ", ".join(f"{k} {v.min():.3g} to {v.max():.3g}" for k, v in {**self.columns, "loss": self.loss}.items())

    def require(self, variables: Iterable[str], *, parameters: int = 1) -> dict[str, Array]:
        """The columns a law needs, name -> (n,), after checking that it can be fitted to them.

        variables: names of columns; parameters: how many numbers the law fits. Raises UnknownColumn for a column that is not
        here, NonPositiveVariable for N, P, K or C of 0, NoVariation for a column with one value,
        FewerRunsThanParameters where there are fewer runs (not rows) than parameters.
        """
        parameters = count("parameters", parameters, 1)
        found = {name: self[name] for name in ([variables] if isinstance(variables, str) else variables)}
        for name, values in found.items():
            untrained = np.flatnonzero(values <= 0) if name in UNITS else ()
            if len(untrained):
                rows = self.rows[untrained]
                raise NonPositiveVariable(
                    f"{name}{self._label(name)} is 0 in {of_rows(rows)}, which has no power law; leave them out: "
                    f"where='{name} > 0'", column=name, rows=rows,
                )  # fmt: skip
            if (values == values[0]).all():
                raise NoVariation(
                    f"{name}{self._label(name)} is {values[0]:g} in all {len(self)} rows, so that its effect cannot be told "
                    "from "
                    f"a constant; add runs with another {name}, or choose a law without it", column=name,
                )  # fmt: skip
        if self.n_runs < parameters:
            rows_too = f" ({len(self)} rows, but rows of one run are not independent)" if len(self) > self.n_runs else ""
            raise FewerRunsThanParameters(
                f"{self.n_runs} runs{rows_too} cannot determine {parameters} parameters; add runs or fit a law with fewer"
            )
        return found

    def _label(self, name: str) -> str:
        label = self.labels.get(name, name)
        return "" if label == name else f" (column {label})"


def _frozen(values: NDArray[Any]) -> NDArray[Any]:
    """A contiguous copy nobody can write to; the array itself where it is one."""
    if values.flags.writeable or not values.flags.c_contiguous:
        values = np.array(values, order="C")
        values.flags.writeable = False
    return values


def _rebuilt(state: dict[str, Any]) -> Runs:
    return Runs(**state)
