"""What in a table of runs may be fitted but looks like a mistake."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from scipy.spatial import cKDTree
from scipy.stats import spearmanr

from limitlib.checks import Array
from limitlib.scaling.errors import of_rows
from limitlib.scaling.published import FLOPS_PER_PARAM_TOKEN

if TYPE_CHECKING:
    from limitlib.scaling.runs import Runs

#: The label of a C that was computed from N and P.
COMPUTED = f"{FLOPS_PER_PARAM_TOKEN:g} N P"
#: Values of a trained language model; what lies outside was probably counted in millions or billions, or twice scaled.
USUAL = {"P": (1e4, 1e14), "N": (1e6, 1e16), "C": (1e12, 1e30)}
#: A loss above this is a perplexity, or a model that never trained.
LARGEST_LOSS = 20.0
#: ln of the number of tokens in the largest vocabularies, and of the number of bytes: the loss of a uniform guess.
UNIFORM_GUESS = {"nats/token": np.log(2**18), "nats/byte": np.log(256.0)}
#: Rows are near-duplicates if every column agrees to COLUMNS_AGREE and the loss to LOSS_AGREES, relatively.
COLUMNS_AGREE, LOSS_AGREES = 0.01, 0.001
#: Rank correlation of the loss with compute beyond which the "loss" is rather a score.
RISES = 0.5


def suspicions(runs: Runs) -> tuple[str, ...]:
    """Each as a sentence that begins with its name."""
    return (
        *_about_annealing(runs), *_about_the_loss(runs), *_about_units(runs), *_about_compute(runs), *_about_one_ratio(runs),
        *_about_repeats(runs),
    )  # fmt: skip


def last_of_run(runs: Runs) -> NDArray[np.bool_]:
    """Which rows are the last of their run by K, or else by N, or else by C; every row where there is none of these."""
    progress = next((runs.columns[name] for name in ("K", "N", "C") if name in runs.columns), None)
    if progress is None:
        return np.ones(len(runs), dtype=bool)
    most = np.full(runs.n_runs, -np.inf)
    np.maximum.at(most, runs.run, progress)
    return progress == most[runs.run]


def _about_annealing(runs: Runs) -> Iterator[str]:
    if runs.annealed is not None:
        if hot := int((~runs.annealed).sum()):
            yield (
                f"unannealed: {hot} of {len(runs)} points are not annealed; their losses are above those of finished runs, and "
                "the exponents fitted to them are others"
            )
    elif early := int((~last_of_run(runs)).sum()):
        yield (
            f"unannealed: {early} of {len(runs)} points are not the last of their run, so probably not annealed; say which are "
            "by annealed="
        )


def _about_the_loss(runs: Runs) -> Iterator[str]:
    if not runs.unit.startswith("nats/"):
        return
    cost = next((runs.columns[name] for name in ("C", "N", "P") if name in runs.columns), None)
    if cost is not None and len(runs) >= 5 and np.ptp(cost) > 0 and np.ptp(runs.loss) > 0:
        rank = float(spearmanr(cost, runs.loss)[0])
        if rank > RISES:
            yield (
                f"rising: the loss rises with the size of the run (rank correlation {rank:.2f}); if it is an accuracy or "
                "another score, say unit='=accuracy' and choose a law of scores, such as sigmoid"
            )
    guess = UNIFORM_GUESS.get(runs.unit, np.inf)
    large = np.flatnonzero(runs.loss > LARGEST_LOSS)
    bad = np.flatnonzero((runs.loss > guess) & (runs.loss <= LARGEST_LOSS))
    if large.size:
        yield (
            f"perplexity: the loss is above {LARGEST_LOSS:g} in {_share(runs, large)}, up to {runs.loss.max():.4g}; if it is a "
            "perplexity, say unit='perplexity', which takes its logarithm"
        )
    if bad.size:
        yield (
            f"vocabulary: the loss is above {guess:.3g} {runs.unit}, that of a uniform guess, in {_share(runs, bad)}; check "
            "its unit"
        )


def _about_units(runs: Runs) -> Iterator[str]:
    given = {name: v for name, v in runs.columns.items() if runs.labels.get(name) != COMPUTED}
    for name, (least, most) in USUAL.items():
        if name not in given:
            continue
        values = given[name]
        low, high = np.flatnonzero((values < least) & (values > 0)), np.flatnonzero(values > most)
        if low.size:
            column = runs.labels[name].rsplit(" x ", 1)[0]
            yield (
                f"factor: {name} is below {least:g} in {_share(runs, low)}, down to {values[low].min():.4g}; this looks like "
                f"millions or billions: pass a factor, 1e6 or 1e9, as in {name}=({column!r}, 1e9)"
            )
        if high.size:
            yield (
                f"factor: {name} is above {most:g} in {_share(runs, high)}, up to {values.max():.4g}; check its unit and factor"
            )
    for name in ("N", "K", "C"):
        if name in given and (zero := np.flatnonzero(given[name] == 0)).size:
            yield f"untrained: {name} is 0 in {_share(runs, zero)}; a law in {name} needs where='{name} > 0'"
    usual = all(USUAL[v][0] <= np.median(given[v]) <= USUAL[v][1] for v in ("N", "P") if v in given)  # else that was said
    if {"N", "P"} <= set(given) and usual and (given["N"] < given["P"]).mean() > 0.5:
        yield "swapped: N is below P in most rows; N counts tokens and P parameters here: are the two swapped?"


def _about_compute(runs: Runs) -> Iterator[str]:
    if not {"C", "N", "P"} <= set(runs.columns) or runs.labels.get("C") == COMPUTED:
        return
    ratio = np.log(runs.C[runs.C > 0]) - np.log((FLOPS_PER_PARAM_TOKEN * runs.P * runs.N)[runs.C > 0])
    far = np.flatnonzero(runs.C > 0)[np.abs(ratio) > np.log(2)]
    if far.size:
        yield f"compute: C and {COMPUTED} differ by more than a factor 2 in {_share(runs, far)}; check the units of all three"


def _about_one_ratio(runs: Runs) -> Iterator[str]:
    if len(runs) < 3 or not {"N", "P"} <= set(runs.columns) or (runs.N <= 0).any():
        return
    ratio, sizes = np.log(runs.N / runs.P), np.log(runs.P)
    if np.ptp(sizes) > 0 and np.ptp(ratio) <= 0.05 * np.ptp(sizes):
        yield f"one ratio: N / P is {np.exp(ratio.mean()):.3g} in all rows, so the effects of N and P cannot be told apart"


def _about_repeats(runs: Runs) -> Iterator[str]:
    columns = list(runs.columns.values())
    if runs.n_runs < len(runs):
        clash = same_as_previous([runs.run, *columns])
        if clash.size:
            yield (
                f"conflicting: {_share(runs, clash)} repeat another row of their run in every column with another loss; keep "
                "one of each"
            )
        return
    near = near_duplicates(columns, runs.loss)
    if near.size:
        yield (
            f"near-duplicates: {_share(runs, near)} agree with another to 1 % in every column and 0.1 % in the loss; if they "
            "are one run read twice, it counts twice"
        )


def _share(runs: Runs, found: NDArray[np.int64]) -> str:
    return f"{len(found)} of {len(runs)} rows ({of_rows(runs.rows[found])})"


def same_as_previous(keys: list[NDArray]) -> NDArray[np.int64]:
    """The rows, in order, that equal an earlier row in every key; the first of each group is not among them."""
    order = np.lexsort(keys[::-1])  # stable, so that the first of a group stays first
    same = np.ones(max(len(order) - 1, 0), dtype=bool)
    for key in keys:
        same &= key[order[1:]] == key[order[:-1]]
    return np.sort(order[1:][same])


def near_duplicates(columns: list[Array], loss: Array) -> NDArray[np.int64]:
    """The rows that have another row within the tolerances, relatively where a column is positive."""
    if len(loss) < 2:
        return np.zeros(0, dtype=np.int64)
    scaled = [np.log(loss) / LOSS_AGREES]
    for values in columns:
        positive = (values > 0).all()
        spread = np.ptp(values)
        scaled.append(np.log(values) / COLUMNS_AGREE if positive else values / (COLUMNS_AGREE * spread or 1.0))
    points = np.column_stack(scaled)
    distances, _ = cKDTree(points).query(points, k=2, p=np.inf, distance_upper_bound=1.0)
    return np.flatnonzero(np.isfinite(distances[:, 1]))
