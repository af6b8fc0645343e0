"""Coverings and packings of large finite sets: good ones from above, certified lower bounds from below.

Nothing here is exact. A covering that is returned covers, and a lower bound holds, whatever the search behind it was; every
search is deterministic.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.spatial import cKDTree

from limitlib.covering.greedy import TREE_DIMENSION, GreedyOrder, distances

Array = NDArray[np.float64]
Index = NDArray[np.intp]

ENTRIES = 3_000_000  # near pairs that a table of a greedy covering holds; beyond it only a part of the points are centres
WEIGHTS = 2_000_000  # the same for the table of the fractional packing, which is multiplied with hundreds of times
ROUNDS, PICKS = 20, 10_000  # of the iterated greedy covering: most rounds, and about how many picks in all of them
FEW = 150  # centres; up to here they are moved about, too
STEPS, CHECK = 320, 40  # of the fractional packing: iterations, and after how many the whole set is looked at


def near_pairs(x: Array, y: Array, radius: float, p: float) -> sparse.csr_array:
    """Incidence (len(x), len(y)) of pairs at distance at most ``radius``, decided by direct differences."""
    if x.shape[1] <= TREE_DIMENSION:
        reach = radius * (1 + 1e-12)
        found = cKDTree(x).sparse_distance_matrix(cKDTree(y), reach, p=p, output_type="ndarray")
        row, column = found["i"], found["j"]
        doubt = np.flatnonzero(np.abs(found["v"] - radius) <= 1e-11 * radius)
        keep = found["v"] <= radius
        for k in doubt:
            keep[k] = distances(x[row[k] : row[k] + 1], y[column[k]], p)[0] <= radius
        row, column = row[keep], column[keep]
    else:
        parts = [np.flatnonzero(distances(y, point, p) <= radius) for point in x]
        row, column = np.repeat(np.arange(len(x)), [len(q) for q in parts]), np.concatenate(parts)
    return sparse.csr_array((np.ones(len(row), dtype=np.int8), (row, column)), shape=(len(x), len(y)))


def _share(x: Array, radius: float, p: float) -> float:
    """Rough share of all pairs that are near, from some points; it only decides how many points a table holds."""
    some = x[:: max(1, len(x) // 64)]
    return float(np.mean([(distances(x, point, p) <= radius).mean() for point in some]))


# ---------------------------------------------------------------------------------------------------------- from above


def best_cover(x: Array, radius: float, p: float, order: GreedyOrder, *, enough: int) -> Index:
    """Indices of a covering, the smallest found by one search after the other; stops as soon as it has ``enough`` or fewer.

    The order's front; the greedy set cover; the same, iterated; then, of up to FEW centres, all moved about.
    """
    front = order.indices[: int(np.searchsorted(-order.cover, -radius)) + 1]  # the first so many points of the order cover
    if len(front) <= enough:
        return front
    share = _share(x, radius, p)
    rows = min(len(x), max(4 * int(np.sum(order.radii > radius)), int(ENTRIES / max(share * len(x), 1.0))))
    candidates = order.indices[:rows]
    table = near_pairs(x[candidates], x, radius, p)
    found = greedy_cover(table)
    if len(found) > enough:
        found = _iterated_cover(table, found)
    best = min(candidates[found], front, key=len)
    for start in (candidates[found], front):
        if enough < len(best) and len(start) <= FEW:
            best = min(best, _moved(x, radius, p, start, order), key=len)
    return best


def greedy_cover(table: sparse.csr_array, start: Index | None = None) -> Index:
    """Rows of a 0-1 table that meet every column: those of ``start``, then always the largest gain."""
    columns = table.T.tocsr()
    gain = np.diff(table.indptr).astype(np.int64)
    open_ = np.ones(table.shape[1], dtype=bool)
    chosen: list[int] = []
    given = [] if start is None else start.tolist()
    while len(chosen) < len(given) or open_.any():
        best = given[len(chosen)] if len(chosen) < len(given) else int(gain.argmax())
        mine = table.indices[table.indptr[best] : table.indptr[best + 1]]
        new = mine[open_[mine]]
        chosen.append(best)
        open_[new] = False
        if new.size:
            touched = np.concatenate([columns.indices[columns.indptr[c] : columns.indptr[c + 1]] for c in new])
            np.subtract.at(gain, touched, 1)
    return np.array(chosen, dtype=np.intp)


def _iterated_cover(table: sparse.csr_array, cover: Index) -> Index:
    """Drop the rows that are not needed, then half of the others, those alone with few columns first; complete greedily."""
    rng = np.random.default_rng(0)
    best = _needed(table, cover)
    for _ in range(min(ROUNDS, PICKS // len(best)) if len(best) > 3 else 0):
        rows = table[best]
        alone = np.asarray(rows.sum(axis=0)).ravel() == 1
        score = (rows @ alone) * (1 + 0.5 * rng.random(len(best)))
        kept = best[np.argsort(-score, kind="stable")[: len(best) // 2]]
        other = _needed(table, greedy_cover(table, kept))
        best = other if len(other) <= len(best) else best
    return best


def _needed(table: sparse.csr_array, cover: Index) -> Index:
    rows = table[cover]
    count = np.asarray(rows.sum(axis=0, dtype=np.int64)).ravel()
    keep = np.ones(len(cover), dtype=bool)
    for i in range(len(cover)):
        mine = rows.indices[rows.indptr[i] : rows.indptr[i + 1]]
        if count[mine].min() > 1:
            keep[i] = False
            count[mine] -= 1
    return cover[keep]


def _moved(x: Array, radius: float, p: float, cover: Index, order: GreedyOrder) -> Index:
    """Take one centre away and move the others towards the middle of their points, as long as the set stays covered."""
    tree, within = cKDTree(x), radius * (1 - 1e-12)  # strictly inside, since a tree's distances differ by rounding
    core = x[order.indices[: max(500, 60 * len(cover))]]  # looked at first; what it overlooks is added
    best, tried = cover, 0
    while len(best) > 1 and tried < min(3, len(best)):
        crowd = np.bincount(cKDTree(x[best]).query(core, p=p)[1], minlength=len(best))
        centres = np.delete(best, np.argsort(crowd, kind="stable")[tried])
        for _ in range(15):
            far, whose = cKDTree(x[centres]).query(core, p=p)
            if far.max() > within:
                centres = tree.query(_middles(core, whose, p), p=p)[1]
                continue
            far = cKDTree(x[centres]).query(x, p=p)[0]
            if far.max() <= within:
                best, tried = centres, -1
                break
            core = np.concatenate([core, x[np.argsort(-far)[:50]]])
        tried += 1
    return np.unique(best)


def _middles(x: Array, whose: Index, p: float) -> Array:
    """About the centre of the smallest ball around each group of points: from the mean, ever smaller steps to the farthest."""
    by_group = np.argsort(whose, kind="stable")
    x, whose = x[by_group], whose[by_group]
    starts = np.flatnonzero(np.diff(whose, prepend=-1))
    sizes = np.diff(np.append(starts, len(x)))
    group = np.repeat(np.arange(len(starts)), sizes)
    middle = np.add.reduceat(x, starts, axis=0) / sizes[:, None]
    for step in range(2, 14):
        gap = distances(x - middle[group], np.zeros(x.shape[1]), p)
        farthest = np.flatnonzero(gap == np.maximum.reduceat(gap, starts)[group])
        farthest = farthest[np.unique(group[farthest], return_index=True)[1]]
        middle += (x[farthest] - middle) / step
    return middle


# ---------------------------------------------------------------------------------------------------------- from below


def greedy_packing(x: Array, edge: float, p: float, order: GreedyOrder) -> Index:
    """Points at pairwise distances above ``edge``: the front of the order, or a maximal packing if that is larger."""
    front = order.indices[: int(np.sum(order.radii > edge))]
    free = np.ones(len(x), dtype=bool)
    tree = cKDTree(x) if x.shape[1] <= TREE_DIMENSION else None
    chosen = []
    # Along a line through the set, so that points are packed from one end to the other.
    for i in np.argsort(x @ _principal(x), kind="stable"):
        if free[i]:
            chosen.append(int(i))
            near = np.arange(len(x)) if tree is None else np.array(tree.query_ball_point(x[i], edge * (1 + 1e-12), p=p))
            free[near[distances(x[near], x[i], p) <= edge]] = False
    return np.array(chosen, dtype=np.intp) if len(chosen) > len(front) else front


def _principal(x: Array) -> Array:
    centred = x - x.mean(axis=0)
    return np.linalg.svd(centred[:: max(1, len(x) // 2000)], full_matrices=False)[2][0]


def fractional_packing(x: Array, radius: float, p: float, order: GreedyOrder, *, enough: int) -> int:
    """Weights on points such that no ball holds more than 1: their sum, rounded up, is a lower bound of the covering number.

    The dual of the linear program of coverings, by the primal-dual hybrid gradient method (Chambolle and Pock 2011). Only
    the order's front carries weight and at first only some balls are held to 1, so that the tables stay small; what counts
    in the end are the loads of all balls about points of x. Stops when the bound reaches ``enough``.
    """
    n, share = len(x), _share(x, radius, p)
    rows = min(n, max(256, int(np.sqrt(WEIGHTS / max(share, 1.0 / n) / 4))))
    points_of = near_pairs(x, x[order.indices[:rows]], radius, p).astype(float)  # balls: rows; points with weight: columns
    held = np.sort(order.indices[: min(n, 4 * rows)])
    weight, price = np.full(rows, 1 / np.diff(points_of.indptr).max()), np.zeros(len(held))
    best = 0.0
    for _ in range(STEPS // CHECK):
        inside = points_of[held]
        outside = inside.T.tocsr()
        step, rise = 1 / np.maximum(np.diff(outside.indptr), 1), 1 / np.maximum(np.diff(inside.indptr), 1)
        mean = np.zeros(rows)
        for _ in range(CHECK):
            last = weight
            weight = np.maximum(0.0, last + step * (1 - outside @ price))
            price = np.maximum(0.0, price + rise * (inside @ (2 * weight - last) - 1))
            mean += weight / CHECK
        load = points_of @ mean
        # The division makes the weights feasible up to rounding; the margin pays for it.
        best = max(best, float(mean.sum() / load.max()) * (1 - 1e-9))
        if np.ceil(best - 1e-9) >= enough:
            break
        heavy = np.setdiff1d(np.argsort(-load)[: max(rows // 2, 64)], held)
        heavy = heavy[load[heavy] > 1.02]
        held, price = np.append(held, heavy), np.append(price, np.zeros(len(heavy)))
    return int(np.ceil(best - 1e-9))
