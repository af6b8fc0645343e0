"""Tables as users have them: data frames, mappings, rows, CSV, JSON lines and Parquet files, read column by column."""

from __future__ import annotations

import csv
import difflib
import gzip
import hashlib
import io
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib.checks import Array, word
from limitlib.scaling.errors import UnknownColumn, UnreadableTable

#: Words that stand for "no value" in a column of numbers, whatever their case.
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "<na>", "null", "none"})
TRUE, FALSE = frozenset({"true", "yes", "1", "1.0"}), frozenset({"false", "no", "0", "0.0"})
FORMATS = {"csv": (".csv", ".tsv", ".txt"), "jsonl": (".jsonl", ".ndjson"), "parquet": (".parquet", ".pq")}


@dataclass(frozen=True)
class Source:
    """The file a table was read from: its name and the sha256 of its bytes as they lay there."""

    file: str
    sha256: str


@dataclass(frozen=True)
class Table:
    """Raw columns of one length, by name."""

    columns: Mapping[str, Any]
    length: int

    def __getitem__(self, name: str) -> Any:
        return self.columns[name]

    def __contains__(self, name: object) -> bool:
        return name in self.columns

    def __iter__(self) -> Iterator[str]:
        return iter(self.columns)

    def unknown(self, argument: str, name: str, *, beside: Iterable[str] = ()) -> UnknownColumn:
        """The error for a column that is not there, with the name that comes closest. beside: further names that are known."""
        names = {str(c).casefold(): str(c) for c in (*self.columns, *beside)}
        near = difflib.get_close_matches(name.casefold(), names, 1)
        meant = f"did you mean {names[near[0]]!r}? There are: " if near else "there are: "
        return UnknownColumn(f"{argument}={name!r}: there is no such column; {meant}{', '.join(names.values())}")


def of_frame(frame: Any) -> Table:
    """A data frame (anything with ``columns`` and ``frame[name]``), a mapping of sequences or a sequence of row mappings.

    Raises TypeError for anything else, UnreadableTable for columns that differ in length or have the same name.
    """
    if isinstance(frame, Mapping):
        columns = {str(k): np.asanyarray(v) if hasattr(v, "__array__") else v for k, v in frame.items()}
    elif hasattr(frame, "columns") and hasattr(frame, "__getitem__"):
        names = [str(c) for c in frame.columns]
        if len(set(names)) < len(names):
            twice = next(n for n in names if names.count(n) > 1)
            raise UnreadableTable(f"frame has two columns named {twice!r}; rename one of them", column=twice)
        columns = {str(c): np.asanyarray(frame[c]) for c in frame.columns}
    elif isinstance(frame, Sequence) and not isinstance(frame, str) and all(isinstance(row, Mapping) for row in frame):
        columns = of_rows_of_values(frame)
    else:
        raise TypeError(
            f"frame of type {type(frame).__name__} must be a data frame, a mapping of column names to sequences, or a list of "
            "mappings, one a row"
        )
    lengths = {}
    for name, values in columns.items():
        sequence = isinstance(values, Sequence) and not isinstance(values, str)
        if getattr(values, "ndim", 1 if sequence else 0) != 1:
            raise UnreadableTable(f"column {name!r} must be a sequence of values, one a row", column=name)
        lengths[name] = len(values)
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {n}" for name, n in lengths.items())
        raise UnreadableTable(f"frame has columns of several lengths: {told}; give each as many values as there are rows")
    return Table(columns, next(iter(lengths.values()), 0))


def of_rows_of_values(rows: Sequence[Mapping[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(str(key) for row in rows for key in row)
    return {name: [row.get(name) for row in rows] for name in names}


def read(path: str | Path, format: str | None = None) -> tuple[Table, Source]:
    """The table in a file, and the file's name and sha256. format: "csv", "jsonl" or "parquet"; None goes by the name.

    A name that ends in .gz is unpacked. Raises OSError if the file cannot be read, ValueError for a name that does not
    tell the format, UnreadableTable for ragged rows, ImportError for Parquet without pyarrow.
    """
    path = Path(path)
    suffixes = [s.lower() for s in path.suffixes]
    packed = suffixes[-1:] == [".gz"]
    ending = (suffixes[:-1] if packed else suffixes)[-1:]
    if format is None:
        format = next((f for f, endings in FORMATS.items() if ending and ending[0] in endings), None)
        if format is None:
            raise ValueError(f"path={str(path)!r} does not tell its format; give format='csv', 'jsonl' or 'parquet'")
    word("format", format, FORMATS)
    stored = path.read_bytes()
    source = Source(path.name, hashlib.sha256(stored).hexdigest())
    try:
        data = gzip.decompress(stored) if packed else stored
        if format == "parquet":
            return of_parquet(data, path.name), source
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        what = f"{path.name} is no {format} file that can be read: no text in UTF-8 ({error.reason} at byte {error.start})"
        raise UnreadableTable(f"{what}; save it as UTF-8") from None
    except (gzip.BadGzipFile, EOFError) as error:
        raise UnreadableTable(f"{path.name} is no {format} file that can be read: {error}; check how it was saved") from None
    return (of_csv if format == "csv" else of_json_lines)(text, path.name), source


def of_csv(text: str, file: str) -> Table:
    """Comma, semicolon or tab apart, whichever its first line has most of; blank lines are skipped."""
    lines = io.StringIO(text, newline="")
    first = next((line for line in lines if line.strip()), "")
    lines.seek(0)
    separator = max(",;\t", key=first.count)
    reader = csv.reader(lines, delimiter=separator)
    header: list[str] = []
    rows: list[list[str]] = []
    try:
        for row in reader:
            if not header:
                header = [name.strip() for name in row]
            elif len(row) == len(header):
                rows.append(row)
            elif row:
                raise UnreadableTable(
                    f"{file}, line {reader.line_num}: {len(row)} values for the {len(header)} columns of the first line; "
                    "complete the line, or quote the value that has a separator in it",
                    rows=[len(rows)],
                )
    except csv.Error as error:
        raise UnreadableTable(f"{file}, line {reader.line_num}: {error}; check how it was saved") from None
    if not header:
        raise UnreadableTable(f"{file} is empty; it needs a first line with the names of the columns")
    named = [name for name in header if name]
    if len(set(named)) < len(named):
        twice = next(n for n in named if named.count(n) > 1)
        raise UnreadableTable(f"{file} has two columns named {twice!r}; rename one of them", column=twice)
    columns = list(zip(*rows, strict=True)) if rows else [()] * len(header)
    return Table({name: column for name, column in zip(header, columns, strict=True) if name}, len(rows))


def of_json_lines(text: str, file: str) -> Table:
    """One JSON object a line; a key that a line lacks is a missing value; blank lines are skipped."""
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            raise UnreadableTable(f"{file}, line {number}: no JSON ({error}); each line must be one object") from None
        if not isinstance(row, dict):
            raise UnreadableTable(f"{file}, line {number}: must be a JSON object, one row; got {line.strip()[:40]}")
        rows.append(row)
    return Table(of_rows_of_values(rows), len(rows))


def of_parquet(data: bytes, file: str) -> Table:
    try:
        from pyarrow import ArrowInvalid, BufferReader
        from pyarrow.parquet import read_table
    except ImportError:
        raise ImportError(
            f"reading {file} needs pyarrow, which is not installed: pip install pyarrow, or save the table as CSV"
        ) from None
    try:
        table = read_table(BufferReader(data))
    except ArrowInvalid as error:
        raise UnreadableTable(f"{file} is no Parquet file that can be read: {error}") from None
    return of_frame({name: table[name].to_numpy() for name in table.column_names})


def is_missing(value: Any) -> bool:
    """None, NaN, pandas' NA, or an empty or blank string."""
    if isinstance(value, str):
        return not value.strip()
    return value is None or type(value).__name__ in ("NAType", "NaTType") or (isinstance(value, float) and math.isnan(value))


def items(values: Any) -> list[Any]:
    return values.tolist() if isinstance(values, np.ndarray) else list(values)


def numbers(values: Any) -> tuple[Array, NDArray[np.bool_]]:
    """The column as float64, NaN where there is no value; and which of its rows hold something that is no number."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "iuf":
        found = values.astype(np.float64)
        return np.asarray(np.ma.filled(found, np.nan)), np.zeros(len(values), dtype=bool)  # a masked value is missing
    if isinstance(values, np.ndarray) and values.dtype.kind in "cmM":
        return np.full(len(values), np.nan), np.ones(len(values), dtype=bool)  # dates as lists would pass for nanoseconds
    given = items(values)
    if not set(map(type, given)) & {bool, np.bool_}:  # float(True) would be 1
        try:
            return np.fromiter(map(float, given), np.float64, len(given)), np.zeros(len(given), dtype=bool)
        except (TypeError, ValueError, OverflowError):
            pass  # some row is missing or no number: one by one, to say which
    found, bad = np.full(len(given), np.nan), np.zeros(len(given), dtype=bool)
    for i, value in enumerate(given):
        if is_missing(value) or (isinstance(value, str) and value.strip().casefold() in MISSING):
            continue
        try:
            bad[i] = isinstance(value, bool | np.bool_)
            found[i] = math.nan if bad[i] else float(value)
        except (TypeError, ValueError, OverflowError):
            bad[i] = True
    return found, bad


def texts(values: Any) -> list[str | None]:
    """The column as text, None where there is no value."""
    return [(v.strip() or None) if type(v) is str else None if is_missing(v) else str(v).strip() for v in items(values)]


def flags(values: Any) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    """The column as true or false (also yes, no, 1 and 0); and which of its rows hold something else."""
    words = [str(v).strip().casefold() for v in items(values)]
    return np.array([w in TRUE for w in words], dtype=bool), np.array([w not in TRUE | FALSE for w in words], dtype=bool)


def codes_of(values: Iterable[Any]) -> tuple[NDArray[np.int64], tuple[Any, ...]]:
    """Whole numbers 0, 1, ... for the values in order of appearance, and the values they stand for.

    >>> codes_of(["b", "a", "b"])
    (array([0, 1, 0]), ('b', 'a'))
    """
    known: dict[Any, int] = {}
    codes = np.array([known.setdefault(v, len(known)) for v in values], dtype=np.int64)
    return codes, tuple(known)
