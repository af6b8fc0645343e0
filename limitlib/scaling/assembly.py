"""From a raw table to the fields of :class:`limitlib.scaling.runs.Runs`: columns found, parsed, checked, units settled."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from keyword import iskeyword
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.checks import Array, flag, real
from limitlib.scaling import sources
from limitlib.scaling.conditions import holds
from limitlib.scaling.errors import (
    BadWeight,
    CheckpointsAsRuns,
    EmptyTable,
    MissingValues,
    MixedTokenizers,
    NonPositiveLoss,
    NonPositiveVariable,
    UnparsableFlag,
    UnparsableNumber,
    of_rows,
)
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN
from limitlib.scaling.sources import Table
from limitlib.scaling.suspicions import COMPUTED, same_as_previous

#: The name of a source column, or the name and the factor that turns its values into tokens, parameters, steps, FLOPs, nats.
Column = str | tuple[str, float]

EACH_ROW = "=row"
PER = ("token", "byte", "character", "word")
VARIABLES = ("N", "P", "K", "C")
#: Names with a meaning of their own in conditions and arguments.
TAKEN = frozenset({*VARIABLES, "loss", "run", "weight", "annealed", "tokenizer"})
#: Columns that tell runs apart, if they are called so (letters only, lower case); and columns that may.
RUN_COLUMNS = frozenset({"run", "runs", "runname", "runid", "name", "hyperid", "wandbid", "trialid"})
MODEL_COLUMNS = frozenset({"model", "models", "modelname", "modelid", "experiment", "trial", "size"})
TOKENIZER_COLUMNS = frozenset({"tokenizer", "tokeniser", "tokenizername", "tokenisername"})
VOCABULARY_COLUMNS = frozenset({"vocab", "vocabsize", "vocabulary", "vocabularysize", "nvocab"})
#: How many row numbers a note spells out.
NOTED_ROWS = 40
#: Rows per setting from which a table without a run column looks like checkpoints.
MANY_PER_SETTING = 5


@dataclass
class Draft:
    """The table while it is put together; ``rows`` are the source's rows that are still in, all else has every row.

    values: canonical columns; strange: where they hold no number; origins: their names in the source. hot: whether a row is
    annealed; hot_strange: where that is not told. runs: the names of the runs.
    """

    table: Table
    rows: NDArray[np.int64]
    values: dict[str, Array] = field(default_factory=dict)
    strange: dict[str, NDArray[np.bool_]] = field(default_factory=dict)
    origins: dict[str, str] = field(default_factory=dict)
    labels: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    hot: NDArray[np.bool_] | None = None
    hot_strange: NDArray[np.bool_] | None = None
    runs: list[str | None] | None = None

    def kept(self, name: str) -> Array:
        return self.values[name][self.rows]

    def codes(self, texts: list[str | None]) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
        """Of the texts of the rows that are still in."""
        return sources.codes_of([texts[i] for i in self.rows])

    def text(self, argument: str, column: str) -> list[str | None]:
        """A column of the source as text."""
        if column not in self.table:
            raise self.table.unknown(argument, column)
        return sources.texts(self.table[column])

    def column(self, name: str) -> str:
        """How a message names a column: N (column 'tokens')."""
        origin = self.origins.get(name, name)
        return name if origin == name else f"{name} (column {origin!r})"


def assemble(
    table: Table,
    *,
    variables: Mapping[str, Column | None],
    loss: Column,
    run: str | None,
    weight: str | None,
    tokenizer: str | None,
    annealed: str | bool | None,
    counting: str | None,
    unit: str,
    extra: Mapping[str, Column] | Iterable[str] | None,
    where: str | None,
    drop_nan: bool,
) -> dict[str, Any]:
    """The fields of a table of runs, ``source`` excepted; arguments and errors as in ``Runs.from_frame``."""
    drop_nan = flag("drop_nan", drop_nan)
    for argument, value in (("run", run), ("weight", weight), ("tokenizer", tokenizer), ("counting", counting)):
        if value is not None and not isinstance(value, str):
            raise TypeError(f"{argument}={value!r} must be {'words' if argument == 'counting' else 'the name of a column'}")
    kept_unit = unit_of(unit)
    further = extras_of(extra)
    given = {name: column for name, column in variables.items() if column is not None}
    if not given and not further:
        raise ValueError(
            "none of N, P, K, C and extra is given; name at least one column, for instance N='...'. There are: "
            f"{', '.join(table)}"
        )
    if table.length == 0:
        raise EmptyTable("the table has no rows; give at least one")
    draft = Draft(table, np.arange(table.length))
    for name, column in {**given, **further, "loss": loss}.items():
        take(draft, name, column)
    if weight is not None:
        take(draft, "weight", weight)
    if run is not None and run != EACH_ROW:
        draft.runs, draft.labels["run"] = draft.text("run", run), run
    take_annealed(draft, annealed)
    convert_loss(draft, unit)
    if "N" in given and "P" in given and "C" not in given:
        compute_flops(draft)
    if where is not None:
        keep_where(draft, where)
    for name in draft.values:
        check_numbers(draft, name, draft.rows)
    check_flags(draft, draft.rows)
    drop_missing(draft, drop_nan)
    check_signs(draft)
    tokenizers = tokenizers_of(draft, tokenizer, kept_unit)
    columns = [n for n in (*VARIABLES, *further) if n in draft.values]
    drop_repeats(draft, [*columns, "loss"])
    check_independence(draft, run, [n for n in ("P", *further) if n in draft.values])
    if draft.runs is None:
        codes, run_names = np.arange(len(draft.rows)), tuple(str(r) for r in draft.rows)
    else:
        codes, run_names = draft.codes(draft.runs)
    if "P" in given and counting is None:
        draft.notes.append("counting: not told which parameters P counts; say it, for instance counting='non-embedding'")
    if draft.hot is None:
        draft.notes.append("annealed: not told whether the points are annealed; say it by annealed=")
    return dict(
        columns={n: draft.kept(n) for n in columns}, loss=draft.kept("loss"), run=codes, run_names=run_names,
        weight=draft.kept("weight") if weight is not None else np.ones(len(draft.rows)), rows=draft.rows, unit=kept_unit,
        counting=counting, tokenizers=tokenizers, annealed=None if draft.hot is None else draft.hot[draft.rows],
        labels=draft.labels, notes=tuple(draft.notes),
    )  # fmt: skip


# ------------------------------------------------------------------------------------------------------------- taking columns


def unit_of(unit: str) -> str:
    """The unit that losses given in ``unit`` are kept in. TypeError for no string, ValueError for an unknown unit."""
    if not isinstance(unit, str):
        raise TypeError(f"unit={unit!r} must be a unit such as 'nats/token'")
    amount, _, per = unit.partition("/")
    if amount in ("nats", "bits") and per in PER:
        return f"nats/{per}"
    if unit == "perplexity":
        return "nats/token"
    if unit.startswith("=") and unit[1:].strip():
        return unit[1:].strip()
    raise ValueError(
        f"unit={unit!r} is unknown: choose nats or bits per {', '.join(PER)}, such as 'nats/token', or 'perplexity'; any other "
        f"quantity begins with =, such as '=top-1 error'"
    )


def convert_loss(draft: Draft, unit: str) -> None:
    loss = draft.values["loss"]
    if unit.startswith("bits/"):
        draft.values["loss"] = loss * np.log(2.0)
        draft.notes.append(f"loss converted from {unit} to {unit_of(unit)}: times ln 2")
    elif unit == "perplexity":
        logarithm = np.log(loss, out=loss.copy(), where=loss > 0)  # what has none stays as it is, for the check of signs
        draft.values["loss"] = logarithm
        draft.notes.append("loss converted from perplexity to nats/token: its natural logarithm")


def compute_flops(draft: Draft) -> None:
    with np.errstate(over="ignore"):
        draft.values["C"] = FLOPS_PER_PARAM_TOKEN * draft.values["N"] * draft.values["P"]
    draft.labels["C"] = draft.origins["C"] = COMPUTED
    draft.strange["C"] = np.zeros(draft.table.length, dtype=bool)
    draft.notes.append(f"C computed: {COMPUTED}, which leaves out attention over the context")


def extras_of(extra: Mapping[str, Column] | Iterable[str] | None) -> dict[str, Column]:
    if extra is None:
        return {}
    if isinstance(extra, str):
        extra = [extra]
    named = dict(extra) if isinstance(extra, Mapping) else {name: name for name in extra}
    for name in named:
        if not isinstance(name, str) or not name.isidentifier() or iskeyword(name) or name in TAKEN:
            raise ValueError(
                f"extra: {name!r} cannot be the name of a column here; give another, made of letters, digits and _: "
                f"extra={{'name': {named[name]!r}}}"
            )
    return named


def take(draft: Draft, name: str, column: Column) -> None:
    """Parse a column of numbers into the draft; what is no number is only marked, since its row may be left out."""
    factor = 1.0
    if isinstance(column, tuple) and len(column) == 2 and isinstance(column[0], str):
        column, factor = column[0], real(f"{name}: the factor", column[1], least=0, exclusive=True)
    if not isinstance(column, str):
        raise TypeError(f"{name}={column!r} must be the name of a column, or (name, factor) such as ('tokens_b', 1e9)")
    if column not in draft.table:
        raise draft.table.unknown(name, column)
    values, strange = sources.numbers(draft.table[column])
    with np.errstate(over="ignore"):
        draft.values[name], draft.strange[name] = values * factor, strange
    draft.origins[name], draft.labels[name] = column, column if factor == 1.0 else f"{column} x {factor:g}"
    if factor != 1.0:
        draft.notes.append(f"{name} is {factor:g} times the column {column!r}")


def take_annealed(draft: Draft, annealed: str | bool | None) -> None:
    length = draft.table.length
    if annealed is None:
        return
    if isinstance(annealed, bool | np.bool_):
        draft.notes.append(f"annealed: {bool(annealed)} for all rows, as said")
        draft.hot, draft.hot_strange = np.full(length, annealed, dtype=bool), np.zeros(length, dtype=bool)
    elif isinstance(annealed, str):
        draft.hot, draft.hot_strange = sources.flags(draft.text("annealed", annealed))
        draft.labels["annealed"] = draft.origins["annealed"] = annealed
    else:
        raise TypeError(f"annealed={annealed!r} must be the name of a column, True or False")


# ---------------------------------------------------------------------------------------------------------- rows that stay


def keep_where(draft: Draft, where: str) -> None:
    """Keep the rows that meet the condition; names are those of this table first, then the source's."""
    told: list[str] = []

    def numbers(values: Array, column: str) -> Array:
        if (empty := np.flatnonzero(np.isnan(values))).size:
            told.append(f"where: {of_rows(empty, NOTED_ROWS)} without {column} cannot meet a comparison with it")
        return values

    def column(name: str) -> NDArray[Any]:
        if name in draft.values:
            check_numbers(draft, name, np.arange(draft.table.length))
            if draft.origins[name] != name and name in draft.table:
                told.append(f"where: {name} means {draft.column(name)}, not the source's column {name!r}")
            return numbers(draft.values[name], draft.column(name))
        if name == "annealed" and draft.hot is not None:
            check_flags(draft, np.arange(draft.table.length))
            return draft.hot
        if name == "run" and draft.runs is not None:
            return np.array([r or "" for r in draft.runs], dtype=object)
        if name not in draft.table:
            raise draft.table.unknown("where", name, beside=draft.values)
        raw = draft.table[name]
        if isinstance(raw, np.ndarray) and raw.dtype.kind == "b":
            return raw
        values, strange = sources.numbers(raw)
        return np.array([t or "" for t in sources.texts(raw)], dtype=object) if strange.any() else numbers(values, name)

    draft.rows = np.flatnonzero(holds(where, column, draft.table.length))
    draft.notes += [*dict.fromkeys(told), f"where {where}: {len(draft.rows)} of {draft.table.length} rows kept"]
    if not len(draft.rows):
        raise EmptyTable(f"where={where!r} keeps none of the {draft.table.length} rows; check its names and units")


def check_numbers(draft: Draft, name: str, rows: NDArray[np.int64]) -> None:
    bad = rows[draft.strange[name][rows]]
    if bad.size:
        if isinstance(nested := draft.table[draft.origins[name]][bad[0]], Mapping):
            raise UnparsableNumber(
                f"{draft.column(name)} holds objects ({', '.join(map(str, nested))}) in {of_rows(bad)}; give each of "
                "their values a column of its own, for instance by pandas.json_normalize", column=name, rows=bad,
            )  # fmt: skip
        raise UnparsableNumber(
            f"{draft.column(name)} holds no number in {of_rows(bad)}: {shown(draft, name, bad)}; write plain numbers such as "
            "1.3e9, with a decimal point, without units, letters or thousands separators", column=name, rows=bad,
        )  # fmt: skip


def shown(draft: Draft, name: str, rows: NDArray[np.int64]) -> str:
    """The first values of the source's column in those rows."""
    values = [draft.table[draft.origins[name]][i] for i in rows[:3]]
    return ", ".join(repr(v.item() if isinstance(v, np.generic) else v) for v in values)


def check_flags(draft: Draft, rows: NDArray[np.int64]) -> None:
    if draft.hot_strange is not None and (bad := rows[draft.hot_strange[rows]]).size:
        raise UnparsableFlag(
            f"{draft.column('annealed')} must be true or false, not {shown(draft, 'annealed', bad)} in {of_rows(bad)}; fill "
            "them in, or say annealed=True or False for all rows", column="annealed", rows=bad,
        )  # fmt: skip


def drop_missing(draft: Draft, drop_nan: bool) -> None:
    lacking = {draft.column(name): draft.rows[~np.isfinite(draft.kept(name))] for name in draft.values}
    if draft.labels.get("C") == COMPUTED:  # lacks a value where N or P does; what is left has overflowed
        of_both = [lacking[draft.column(name)] for name in ("N", "P")]
        lacking[draft.column("C")] = np.setdiff1d(lacking[draft.column("C")], np.concatenate(of_both))
    if draft.runs is not None:
        lacking[f"run (column {draft.labels['run']!r})"] = np.array([i for i in draft.rows if draft.runs[i] is None], dtype=int)
    lacking = {column: rows for column, rows in lacking.items() if rows.size}
    if not lacking:
        return
    every = np.unique(np.concatenate(list(lacking.values())))
    if not drop_nan:
        told = "; ".join(f"{column} in {of_rows(rows)}" for column, rows in lacking.items())
        raise MissingValues(
            f"no finite value: {told} (of {draft.table.length} rows, the first being 0); fill them in, leave them out by "
            f"where=, or say drop_nan=True, which drops {len(every)} and notes them",
            column=next(iter(lacking)).split()[0], rows=every,
        )  # fmt: skip
    draft.notes += [f"dropped, no finite {column}: {of_rows(rows, NOTED_ROWS)}" for column, rows in lacking.items()]
    draft.rows = np.setdiff1d(draft.rows, every)
    if not len(draft.rows):
        raise EmptyTable(f"every row lacks a value ({', '.join(lacking)}); fill them in", rows=every)


def check_signs(draft: Draft) -> None:
    """Positive losses and P; N, K and C may be 0 (untrained), until a law needs their logarithm."""
    for name in ("loss", *VARIABLES):
        if name not in draft.values:
            continue
        values, positive = draft.kept(name), name in ("loss", "P")
        bad = draft.rows[values <= 0 if positive else values < 0]
        if bad.size:
            kind = NonPositiveLoss if name == "loss" else NonPositiveVariable
            why = "a loss has a logarithm only above 0" if name == "loss" else "give counts, not logarithms or differences"
            raise kind(
                f"{draft.column(name)} must be {'positive' if positive else 'at least 0'}, not {shown(draft, name, bad)} in "
                f"{of_rows(bad)}: {why}; correct them, or leave them out by where='{name} > 0'", column=name, rows=bad,
            )  # fmt: skip
    if "weight" in draft.values:
        weight = draft.kept("weight")
        if (weight < 0).any() or not weight.any():
            bad = draft.rows[weight < 0]
            told = f"{shown(draft, 'weight', bad)} in {of_rows(bad)}" if bad.size else "all are"
            raise BadWeight(
                f"{draft.column('weight')} must be at least 0 and not all 0, but {told}; a weight is how much a row counts",
                column="weight", rows=bad,
            )  # fmt: skip


def drop_repeats(draft: Draft, columns: list[str]) -> None:
    """Drop rows that repeat an earlier one in everything that is used, unless a seed, a run or a weight tells them apart."""
    if "weight" in draft.values:
        return
    keys: list[NDArray] = [draft.kept(name) for name in columns]
    if draft.runs is not None:
        keys.append(draft.codes(draft.runs)[0])
    if draft.hot is not None:
        keys.append(draft.hot[draft.rows])
    telling = [name for name in draft.table if "seed" in name.casefold() or bare(name) in RUN_COLUMNS]
    keys += [draft.codes(sources.texts(draft.table[name]))[0] for name in telling]
    repeated = same_as_previous(keys)
    if repeated.size:
        draft.notes.append(
            f"dropped, repeating an earlier row in every used column: {of_rows(draft.rows[repeated], NOTED_ROWS)} (a column "
            "with the "
            "seed would keep them)"
        )
        draft.rows = np.delete(draft.rows, repeated)


# ----------------------------------------------------------------------------------------------- rows that belong together


def bare(name: str) -> str:
    """A column's name in lower case, letters only."""
    return re.sub("[^a-z]", "", name.casefold())


def tokenizers_of(draft: Draft, tokenizer: str | None, unit: str) -> tuple[str, ...]:
    """The tokenizers of the rows that stay; MixedTokenizers if losses per token of several would be fitted together."""
    if tokenizer is not None and tokenizer.startswith("="):
        return (tokenizer[1:].strip(),)
    if tokenizer is not None and tokenizer not in draft.table:
        error = draft.table.unknown("tokenizer", tokenizer)
        raise type(error)(f"{error}. To name the tokenizer of all rows, write tokenizer='={tokenizer}'")
    column = tokenizer or next((name for name in draft.table if bare(name) in TOKENIZER_COLUMNS), None)
    if column is None:
        for name in draft.table:
            if bare(name) in VOCABULARY_COLUMNS and len(found := draft.codes(draft.text("", name))[1]) > 1:
                draft.notes.append(
                    f"column {name!r} has {len(found)} values: are there several tokenizers? Their losses per token do not "
                    "compare"
                )
        return ()
    draft.labels["tokenizer"] = column
    codes, names = draft.codes(draft.text("tokenizer", column))
    told = tuple(str(n) for n in names if n is not None)
    if len(names) > 1 and unit.endswith("/token"):
        first = draft.rows[np.unique(codes, return_index=True)[1]]
        each = ", ".join(f"{n or 'none'} (from row {r})" for n, r in list(zip(names, first, strict=True))[:4])
        raise MixedTokenizers(
            f"column {column!r} has {len(names)} tokenizers: {each}; losses per token of several do not compare. Make one "
            f"table of each: where=\"{column} == {told[0]!r}\", or give losses per byte, unit='nats/byte'",
            column=column, rows=first,
        )  # fmt: skip
    if len(names) > 1:
        draft.notes.append(f"{len(names)} tokenizers (column {column!r}): losses in {unit} compare, numbers of tokens do not")
    return told


def check_independence(draft: Draft, run: str | None, setting: list[str]) -> None:
    """CheckpointsAsRuns where rows share a run that nobody named; otherwise a note says what was assumed.

    setting: the columns that stay the same while a run goes on.
    """
    if run is not None:
        if run == EACH_ROW:
            draft.notes.append(f"run: each of the {len(draft.rows)} rows is a run of its own, as said")
        return
    fix = f"run={EACH_ROW!r} if each row is a run that was trained on its own"
    used = set(draft.origins.values())
    suspects = {name: bare(name) for name in draft.table if bare(name) in RUN_COLUMNS | MODEL_COLUMNS and name not in used}
    if "K" in draft.values:
        keys = [draft.kept(name) for name in setting] or [np.zeros(len(draft.rows))]
        growing = np.setdiff1d(same_as_previous(keys), same_as_previous([*keys, draft.kept("K")]))
        if growing.size:
            rows = draft.rows[growing]
            named = next(iter(suspects), None)
            raise CheckpointsAsRuns(
                f"{draft.column('K')} grows while {' and '.join(setting) or 'nothing else'} stays the same ({of_rows(rows)}): "
                "checkpoints of one run are not independent runs. Name the column that tells runs apart, "
                f"run={named or 'run_name'!r}, or say {fix}", column="K", rows=rows,
            )  # fmt: skip
    for name, kind in suspects.items():
        shared = same_as_previous([draft.codes(draft.text("run", name))[0]])
        if not shared.size:
            continue
        if kind in RUN_COLUMNS:
            rows = draft.rows[shared]
            raise CheckpointsAsRuns(
                f"column {name!r} has one value for several rows ({of_rows(rows)}), so they look like one run, and rows of "
                f"one run are not independent; say run={name!r}, or {fix}", column=name, rows=rows,
            )  # fmt: skip
        draft.notes.append(f"column {name!r} has one value for several rows; if it names runs, say run={name!r}")
    draft.notes.append(f"run: not told, so each of the {len(draft.rows)} rows counts as a run of its own")
    keys = [draft.kept(name) for name in setting]
    if keys and "N" in draft.values and (shared := same_as_previous(keys)).size:
        settings = len(draft.rows) - len(shared)
        many = len(draft.rows) >= MANY_PER_SETTING * settings
        draft.notes.append(
            f"{'warning: ' if many else ''}{len(draft.rows)} rows have {settings} values of {' and '.join(setting)}; if rows "
            "that share them are checkpoints of one run, name it: run="
        )
