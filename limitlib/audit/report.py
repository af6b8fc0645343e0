"""What an audit found: one row for each block, as Python values, as JSON and as a table; every column says what it is."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limitlib.audit.measure import EntropyProfile
from limitlib.bounds import Bound, Count

SCHEMA = "limitlib.audit/1"

#: Every measured quantity: (label, kind, meaning). The keys are those of a row in the JSON.
COLUMNS = {
    "sup_upper": ("sup \N{LESS-THAN OR EQUAL TO}", "upper bound",
                  "certified: the block's Lipschitz constant on the stated domain is at most this; inf if nothing is proved"),
    "sup_lower": ("sup \N{GREATER-THAN OR EQUAL TO}", "lower bound",
                  "largest local value at points inside the domain: the block's Lipschitz constant is at least this"),
    "share_of_log": ("share", "of the upper bounds", "log(sup_upper) over the sum of these logs, if none is inf or negative"),
    "local": ("local", "lower bound", "top singular value of the Jacobian of the whole token matrix, attained, at each point"),
    "rms": ("rms", "estimate", "root of the mean squared singular value of that Jacobian, from random probes, at each point"),
    "pair_median": ("pair median", "lower bound", "median of |T x - T y| / |x - y| over all pairs of points (token matrices)"),
    "pair_max": ("pair max", "lower bound", "largest such ratio"),
    "gain_over_control": ("local / fresh", "estimate", "mean local value over that of the same block with fresh weights"),
    "cumulative": ("cumulative", "lower bound", "top singular value of the Jacobian from the first block through this one"),
    "product": ("product", "estimate", "running product of the local values along the same trajectory"),
    "product_over_cumulative": ("product / cumulative", "estimate", "by how much the product overstates the composed map"),
    "effective_rank": ("eff. rank", "measured", "exponential of the entropy of the covariance spectrum of leaving states"),
    "mean_cosine": ("cosine", "measured", "mean cosine over all pairs of states that leave"),
    "angular_cover_lower": ("cover \N{GREATER-THAN OR EQUAL TO}", "lower bound",
                            "balls of chord radius 0.5 needed to cover their directions, by a packing"),
    "angular_cover_upper": ("cover \N{LESS-THAN OR EQUAL TO}", "upper bound",
                            "the same, by a greedy cover"),
    "increment": ("increment", "measured", "mean of |T x - x| / |x| over the states"),
}  # fmt: skip


@dataclass(frozen=True)
class CloudMeasures:
    """A cloud of states: effective rank, mean cosine, bracket of the angular cover; nan or None where it has none."""

    states: int
    effective_rank: float
    mean_cosine: float
    cover: Count | None


@dataclass(frozen=True)
class ControlRow:
    """The same block with fresh weights, at the same inputs: a mean over seeds, with the sample deviation of each."""

    seeds: int
    local: float
    local_sd: float
    rms: float
    rms_sd: float
    product: float
    effective_rank: float
    mean_cosine: float


@dataclass(frozen=True)
class BlockRow:
    """One block. Numbers that belong to single points are tuples over the points; see ``COLUMNS`` for what each is."""

    name: str
    local: tuple[float, ...]
    rms: tuple[float, ...]
    local_residual: tuple[float, ...]
    rms_error: tuple[float, ...]
    pair_median: float
    pair_max: float
    cloud: CloudMeasures
    increment: float | None
    condensing: EntropyProfile | None
    cumulative: tuple[float, ...] | None
    product: tuple[float, ...] | None
    radii: dict[str, float]
    seconds: float
    sup: Bound | None = None
    share_of_log: float | None = None
    control: ControlRow | None = None
    notes: tuple[str, ...] = ()

    @property
    def gain_over_control(self) -> float | None:
        """Mean local value over that of the fresh networks; None without a control."""
        return float(np.mean(self.local)) / self.control.local if self.control else None

    @property
    def product_over_cumulative(self) -> float | None:
        """Median over the points of the product of local values over the top singular value of the composed map."""
        if self.cumulative is None or self.product is None:
            return None
        alive = np.array(self.cumulative) > 0  # a dead map has no direction that the product could overstate
        ratios = np.array(self.product)[alive] / np.array(self.cumulative)[alive]
        return float(np.median(ratios)) if ratios.size else None


@dataclass(frozen=True)
class AuditReport:
    """What :func:`audit_network` found. ``complete`` is False after an interruption: then some rows or columns are missing.

    ``network``, ``inputs``, ``settings`` and ``domain`` say in words what was read, at which points, how, and on which set
    the bounds hold; ``start`` measures the states that enter the first block.
    """

    network: dict[str, Any]
    inputs: dict[str, Any]
    settings: dict[str, Any]
    domain: str
    start: CloudMeasures | None
    rows: tuple[BlockRow, ...]
    complete: bool = True
    notes: tuple[str, ...] = ()
    methods: tuple[str, ...] = field(default=())

    def json(self) -> dict[str, Any]:
        """A JSON value. Keys: ``schema``, ``complete``, ``network``, ``inputs``, ``settings``, ``domain``, ``columns`` (label,
        kind and meaning of every key of a row), ``start``, ``rows``, ``methods``, ``notes``.

        A row holds ``block``, the keys of ``columns`` (``local``, ``rms``, ``cumulative`` and ``product`` as lists over the
        points), ``sup_kind``, ``sup_shells`` (normalisation layer -> r_min,
        centred; empty for the whole space), ``sup_source``, ``local_residual`` (|J'J v - |Jv|^2 v| / |Jv|, 0 at a singular
        value), ``rms_error`` (one standard error), ``control``,
        ``condensing`` (k, lower, upper), ``norm_radii`` (smallest norm that entered each normalisation layer), ``seconds``,
        ``notes``. An infinite number is the string ``"inf"``; what was not computed is null, with the reason in the notes.
        """
        return {
            "schema": SCHEMA,
            "complete": self.complete,
            "network": plain(self.network),
            "inputs": plain(self.inputs),
            "settings": plain(self.settings),
            "domain": self.domain,
            "columns": {k: {"label": a, "kind": b, "meaning": c} for k, (a, b, c) in COLUMNS.items()},
            "start": _cloud_json(self.start),
            "rows": [_row_json(r) for r in self.rows],
            "methods": list(self.methods),
            "notes": list(self.notes),
        }

    def save_json(self, path: str | Path) -> None:
        """Write :meth:`json` to a file, in UTF-8, without NaN or infinity literals."""
        Path(path).write_text(self.dumps(), encoding="utf-8")

    def dumps(self) -> str:
        """The JSON as text."""
        return json.dumps(self.json(), indent=1, allow_nan=False, ensure_ascii=False) + "\n"

    def table(self) -> str:
        """The rows as aligned text; means over the points for ``local`` and ``rms``, medians for ``cumulative``."""
        head, body = self.cells()
        widths = [max(len(r[i]) for r in [head, *body]) for i in range(len(head))]
        lines = ["  ".join(c.ljust(w) if i == 0 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths, strict=True)))
                 for r in [head, *body]]  # fmt: skip
        return "\n".join(line.rstrip() for line in lines)

    def cells(self) -> tuple[list[str], list[list[str]]]:
        """Head and rows of the table as text; a column that no row has is left out."""
        columns: dict[str, list[str]] = {"block": [r.name for r in self.rows]}
        for key in COLUMNS:
            values = [_summary(_value(r, key), key) for r in self.rows]
            if any(v is not None for v in values):
                columns[COLUMNS[key][0]] = [short(v) for v in values]
        return list(columns), [list(r) for r in zip(*columns.values(), strict=True)]


def _value(row: BlockRow, key: str) -> Any:
    if key in ("sup_upper", "sup_lower"):
        return getattr(row.sup, key.removeprefix("sup_")) if row.sup else None
    if key.startswith("angular_cover"):
        return getattr(row.cloud.cover, key.removeprefix("angular_cover_")) if row.cloud.cover else None
    if key in ("effective_rank", "mean_cosine"):
        return getattr(row.cloud, key)
    return getattr(row, key)


def _summary(value: Any, key: str) -> float | None:
    if isinstance(value, tuple):
        return float(np.median(value) if key in ("cumulative", "product") else np.mean(value))
    return value


def short(value: float | None) -> str:
    """A number for a reader: three significant digits, whole numbers whole, a dash for what is not there.

    >>> short(0.01234), short(35123.0), short(3.2e9), short(None)
    ('0.0123', '35,100', '3.2e+09', '-')
    """
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return "-"
    if isinstance(value, int | np.integer):
        return f"{value:,}"
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if 1e3 <= abs(rounded) < 1e6 else f"{rounded:.3g}"


def plain(value: Any) -> Any:
    """JSON values from Python and NumPy ones: nan to None, infinities to strings, tuples and arrays to lists."""
    if isinstance(value, dict):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, np.ndarray | list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, bool | str) or value is None:
        return value
    if isinstance(value, int | np.integer):
        return int(value)
    number = float(value)
    return None if math.isnan(number) else ("inf" if number > 0 else "-inf") if math.isinf(number) else number


def _cloud_json(cloud: CloudMeasures | None) -> dict[str, Any] | None:
    if cloud is None:
        return None
    ends = (cloud.cover.lower, cloud.cover.upper) if cloud.cover else (None, None)
    return plain({"states": cloud.states, "effective_rank": cloud.effective_rank, "mean_cosine": cloud.mean_cosine,
                  "angular_cover_lower": ends[0], "angular_cover_upper": ends[1]})  # fmt: skip


def _shells(sup: Bound | None) -> dict[str, Any] | None:
    if sup is None:
        return None
    return {path: {"r_min": s.r_min, "centred": s.centred} for path, s in getattr(sup.domain, "shells", {}).items()}


def _row_json(row: BlockRow) -> dict[str, Any]:
    sup, control, profile = row.sup, row.control, row.condensing
    return plain(
        {
            "block": row.name,
            **{key: _value(row, key) for key in COLUMNS},
            "states": row.cloud.states,
            "local_residual": row.local_residual,
            "rms_error": row.rms_error,
            "sup_kind": sup.kind if sup else None,
            "sup_shells": _shells(sup),
            "sup_source": sup.source if sup else None,
            "control": None if control is None else {
                "seeds": control.seeds, "local": control.local, "local_sd": control.local_sd, "rms": control.rms,
                "rms_sd": control.rms_sd, "product": control.product, "effective_rank": control.effective_rank,
                "mean_cosine": control.mean_cosine},
            "condensing": None if profile is None else {"k": profile.k, "lower": profile.lower, "upper": profile.upper},
            "norm_radii": row.radii,
            "seconds": row.seconds,
            "notes": row.notes,
        }
    )  # fmt: skip
