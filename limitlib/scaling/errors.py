"""What can be wrong with a table of runs, by name; every message says which column, which rows and what to do."""

from __future__ import annotations

from collections.abc import Iterable

#: How many row numbers a message spells out.
SPELLED = 5


class RunsError(ValueError):
    """A table of runs that must not be fitted as it is.

    column: the column in question ("" if none). rows: the offending rows of the source, the first row being 0.
    """

    def __init__(self, message: str, *, column: str = "", rows: Iterable[int] = ()) -> None:
        super().__init__(message)
        self.column = column
        self.rows = tuple(int(r) for r in rows)


class UnreadableTable(RunsError):
    """No table: columns of several lengths, ragged rows, two columns of one name, lines that are no JSON object."""


class UnknownColumn(RunsError, KeyError):
    """A column that the table does not have (also a KeyError)."""

    def __str__(self) -> str:
        return str(self.args[0])  # KeyError would show it quoted


class UnparsableNumber(RunsError):
    """Something that is no number in a column of numbers."""


class UnparsableFlag(RunsError):
    """Something that is neither true nor false in the column ``annealed``."""


class MissingValues(RunsError):
    """Rows with no value, or with NaN or an infinite one."""


class NonPositiveLoss(RunsError):
    """Losses of 0 or below, which have no logarithm."""


class NonPositiveVariable(RunsError):
    """Sizes, tokens, steps or FLOPs of 0 or below where a law takes their logarithm."""


class BadWeight(RunsError):
    """Weights below 0, or all of them 0."""


class MixedTokenizers(RunsError):
    """Losses per token of several tokenizers, which are not comparable."""


class CheckpointsAsRuns(RunsError):
    """Several checkpoints of one run in a table that would count them as independent runs."""


class NoVariation(RunsError):
    """A variable that is the same in every row, so that no law can find its effect."""


class FewerRunsThanParameters(RunsError):
    """More parameters than independent runs to fit them to."""


class BadCondition(RunsError):
    """A condition such as ``"C < 1e21"`` that cannot be understood."""


class EmptyTable(RunsError):
    """No row is left."""


def of_rows(rows: Iterable[int], spelled: int = SPELLED) -> str:
    """Row numbers in words, the first few spelled out.

    >>> of_rows([3]), of_rows(range(10), 2)
    ('row 3', 'rows 0, 1 and 8 more')
    """
    numbers = [int(r) for r in rows]
    shown = ", ".join(str(r) for r in numbers[:spelled])
    more = len(numbers) - spelled
    return f"row{'s' if len(numbers) > 1 else ''} {shown}{f' and {more} more' if more > 0 else ''}"
