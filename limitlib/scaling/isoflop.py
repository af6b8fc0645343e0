"""Approaches 1 and 2 of Hoffmann et al. 2022 (arXiv 2203.15556): the compute-optimal split, from curves and from profiles.

Both return two power laws in compute, of the parameters (exponent a) and of the tokens (exponent b), with intervals that say
how they were made. Neither is unbiased even without noise: ``limitlib.scaling.isoflop_bias`` has the exact bias on a known law.

Columns as in a table of runs: C (FLOP), P (parameters), N (tokens), loss (nats per token), run (which rows belong together)
and, if known, annealed. They come as a mapping of arrays or as any object with ``.columns``, ``.loss`` and ``.run``. In a panel
of checkpoints the tokens seen so far count: ``tokens="K"`` reads them from column K.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy import stats

from limitlib.checks import above, count, generator, real, real_array, word
from limitlib.scaling.split_lines import (
    AllocationFit,
    Array,
    Envelope,
    FrontierLine,
    Panel,
    Profiles,
    between,
    line_weights,
    read_panel,
    scatter_error,
)

#: The reasons for which ``approach_2`` leaves a budget out; the empty string says that it is used.
PROBLEMS = ("", "too few sizes", "not convex", "minimum at the edge")


# ---------------------------------------------------------------- approach 1


def approach_1(
    runs: Any,
    *,
    tokens: str = "N",
    envelope: str = "curves",
    budgets: int = 1500,
    flops: tuple[float, float] | None = None,
    boot: int = 0,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> AllocationFit:
    """The lower envelope of training curves, loss against compute, and power laws through its winners; an estimate.

    runs, tokens: see the module. Rows of one run are its checkpoints (each needs at least two for ``envelope="curves"``).

    - ``envelope="curves"`` (Hoffmann et al. 2022, 3.1): every curve is interpolated linearly in (ln C, loss), never beyond its
      ends; at ``budgets`` values of C, equally spaced in ln C over ``flops`` (default: what the curves cover) the run of least
      loss wins.
    - ``envelope="hull"`` (McLeish et al. 2025, arXiv 2502.06857): the vertices of the lower convex hull of the points (ln C,
      ln loss), up to the least loss; budgets is not used. Its vertices are few and depend on how densely the curves are
      sampled, so that thinning the checkpoints alone moves the exponent.

    Least squares of ln P and ln N on ln C through the winners gives a and b. Neighbouring budgets share their winner, so the
    residuals say nothing about the error: without ``boot`` the intervals are NaN. ``boot`` > 0 resamples whole runs with the
    generator ``rng`` and takes quantiles; resamples whose envelope has one size only are dropped and counted in the notes;
    resampled envelopes have fewer runs to choose from and a minimum is not a smooth function of the runs, so these intervals
    are rough.

    *What it does not know.* A checkpoint before the end of its schedule is unannealed: its loss is higher than that of a run
    planned for that budget, by an amount that depends on the schedule, and the envelope compares such losses. With finitely
    many sizes the exponent is too small even on exact curves, by the factor 1 - 1/m^2 for m whole geometric steps
    (:func:`limitlib.scaling.approach_1_bias`). Where the smallest or largest size wins, the optimum may lie
    beyond the sizes trained; the notes say how often.

    Raises ValueError or TypeError for bad columns, a word that is not known, or an envelope with one size only.
    """
    word("envelope", envelope, ("curves", "hull"))
    confidence = between("confidence", confidence, 1.0)
    panel = read_panel(runs, tokens=tokens)
    notes = list(panel.notes)
    n_runs = int(panel.run.max()) + 1
    if panel.unannealed is None and n_runs < panel.C.size:
        notes.append("checkpoints are read as finished runs: losses before the end of a schedule are unannealed and too high")
    elif panel.unannealed:
        notes.append(f"{panel.unannealed} of {panel.C.size} rows are unannealed: their loss is too high for a finished run")
    pick = _picker(panel, envelope, count("budgets", budgets, 3), flops)
    table = pick(np.arange(n_runs))
    if not _has_line(table):
        raise ValueError("one size wins at all budgets: no exponent can be read off; train more sizes or change flops")
    x, y = np.log(table.budget), np.log(np.stack([table.n_params, table.n_tokens]))
    fitted = line_weights(x) @ y.T
    ends = float(np.mean((table.n_params == panel.P.min()) | (table.n_params == panel.P.max())))
    if ends > 0:
        notes.append(f"the smallest or largest size wins at {ends:.0%} of the points: the optimum may lie beyond the sizes")
    notes.append(f"{np.unique(table.run).size} of {n_runs} runs are on the envelope")
    draws = None
    if boot:
        source = generator(rng)
        found = []
        for _ in range(count("boot", boot, 2)):
            some = pick(np.unique(source.integers(n_runs, size=n_runs)))
            if _has_line(some):
                shift = x.mean() - np.log(some.budget).mean()
                slope, level = line_weights(np.log(some.budget)) @ np.log(np.stack([some.n_params, some.n_tokens])).T
                found.append(np.stack([slope, level + slope * shift]))  # level at the common centre
        if len(found) < 2:
            raise ValueError("nearly every resample of the runs has one size on its envelope; train more sizes")
        notes.append(f"bootstrap over runs: {len(found)} of {boot} resamples usable")
        draws = np.asarray(found)
    lines = [
        FrontierLine(
            exponent=float(fitted[0, j]),
            level=float(fitted[1, j]),
            centre=float(x.mean()),
            covariance=np.full((2, 2), np.nan) if draws is None else np.cov(draws[:, :, j].T),
            quantile=float(stats.norm.ppf((1 + confidence) / 2)),
            scatter_se=float("nan"),
            confidence=confidence,
            draws=None if draws is None else draws[:, :, j],
        )
        for j in range(2)
    ]
    by = "none: neighbouring budgets are dependent" if draws is None else "bootstrap over runs"
    return AllocationFit(f"approach 1, {envelope}", lines[0], lines[1], table, by, tuple(notes))


def _has_line(table: Envelope) -> bool:
    return np.unique(table.n_params).size > 1 and np.unique(table.budget).size > 1


def _picker(
    panel: Panel, envelope: str, budgets: int, flops: tuple[float, float] | None
) -> Callable[[NDArray[np.int64]], Envelope]:
    """The function that gives the envelope of a chosen set of runs; what does not depend on the choice is computed once."""
    if envelope == "curves":
        alone = int((np.bincount(panel.run) < 2).sum())
        if alone:
            raise ValueError(f"{alone} of {panel.run.max() + 1} runs have one checkpoint only; use envelope='hull'")
        curves = _curves(panel, _budget_grid(panel, budgets, flops))
        return lambda chosen: _winners(curves, chosen)
    keep = np.ones(panel.C.size, dtype=bool)
    if flops is not None:
        low, high = _flops_range(flops)
        keep = np.clip(panel.C, low, high) == panel.C
    return lambda chosen: _hull_points(panel, keep & np.isin(panel.run, chosen))


def _flops_range(flops: tuple[float, float]) -> tuple[float, float]:
    pair = above("flops", flops, 0.0)
    if pair.shape != (2,) or not pair[0] < pair[1] < np.inf:
        raise ValueError(f"flops={flops!r} must be an increasing pair of finite budgets")
    return float(pair[0]), float(pair[1])


def _budget_grid(panel: Panel, budgets: int, flops: tuple[float, float] | None) -> Array:
    low, high = (float(panel.C.min()), float(panel.C.max())) if flops is None else _flops_range(flops)
    if low < panel.C.min() or high > panel.C.max():
        raise ValueError(f"flops={flops!r} leaves what the curves cover, {panel.C.min():.3g} to {panel.C.max():.3g} FLOPs")
    return np.geomspace(low, high, budgets)


def _curves(panel: Panel, grid: Array) -> tuple[Array, Array, Array, Array]:
    """The grid, loss (runs, grid; inf where a curve does not reach), ln tokens (the same shape) and parameters (runs,)."""
    x, n_runs = np.log(grid), int(panel.run.max()) + 1
    loss, ln_tokens, params = np.full((n_runs, x.size), np.inf), np.zeros((n_runs, x.size)), np.zeros(n_runs)
    for r in range(n_runs):
        rows = np.flatnonzero(panel.run == r)
        rows = rows[np.argsort(panel.C[rows], kind="stable")]
        if np.unique(panel.P[rows]).size > 1:
            raise ValueError(f"run {r} has several sizes P; a run is one model, so name runs apart")
        ln_c, params[r] = np.log(panel.C[rows]), panel.P[rows[0]]
        inside = (x >= ln_c[0] - 1e-12) & (x <= ln_c[-1] + 1e-12)  # the grid's ends are rounded powers
        loss[r, inside] = np.interp(x[inside], ln_c, panel.loss[rows])
        ln_tokens[r, inside] = np.interp(x[inside], ln_c, np.log(panel.N[rows]))
    return grid, loss, ln_tokens, params


def _winners(curves: tuple[Array, Array, Array, Array], chosen: NDArray[np.int64]) -> Envelope:
    grid, loss, ln_tokens, params = curves
    local = np.argmin(loss[chosen], axis=0)
    at = np.arange(grid.size)
    run = chosen[local]
    seen = np.isfinite(loss[run, at])  # budgets that some chosen curve reaches
    run, at = run[seen], at[seen]
    return Envelope(grid[at], run, params[run], np.exp(ln_tokens[run, at]), loss[run, at])


def _hull_points(panel: Panel, keep: NDArray[np.bool_]) -> Envelope:
    rows = np.flatnonzero(keep)
    vertices = rows[lower_hull(np.log(panel.C[rows]), np.log(panel.loss[rows]))] if rows.size else rows
    return Envelope(panel.C[vertices], panel.run[vertices], panel.P[vertices], panel.N[vertices], panel.loss[vertices])


def lower_hull(x: ArrayLike, y: ArrayLike) -> NDArray[np.int64]:
    """Indices of the vertices of the lower convex hull of points, from the least x to the least y; exact up to rounding.

    x, y: shape (n,). One pass over the points in order of x (Andrew's monotone chain). Points on an edge are no vertices.

    >>> lower_hull([0, 1, 2, 3, 4], [4, 3, 1, 1.5, 0.9]).tolist()
    [0, 2, 4]
    """
    px, py = np.ravel(real_array("x", x)), np.ravel(real_array("y", y))
    if px.size != py.size or px.size == 0:
        raise ValueError(f"x and y have {px.size} and {py.size} values; give equally many, at least one")
    hull: list[int] = []
    for i in np.lexsort((py, px)):
        if hull and px[hull[-1]] == px[i]:
            continue  # a higher point at the same x
        while len(hull) > 1:
            p, q = hull[-2], hull[-1]
            if (px[q] - px[p]) * (py[i] - py[p]) > (py[q] - py[p]) * (px[i] - px[p]):
                break
            hull.pop()
        hull.append(int(i))
    return np.asarray(hull[: int(np.argmin(py[hull])) + 1], dtype=np.int64)


# ---------------------------------------------------------------- approach 2


def approach_2(
    runs: Any,
    *,
    tokens: str = "N",
    budgets: ArrayLike | None = None,
    tolerance: float = 0.05,
    degree: int = 2,
    window: float | None = None,
    weights: ArrayLike | None = None,
    noise: str = "pooled",
    boot: int = 0,
    rng: np.random.Generator | None = None,
    confidence: float = 0.95,
) -> AllocationFit:
    """IsoFLOP profiles: at each budget a parabola of the loss in ln P, then power laws through the minima; an estimate.

    runs, tokens: see the module; one row is one run of a profile. budgets: FLOPs; a row belongs to the nearest within
    ``tolerance`` (relative), other rows are left out and counted. Without budgets rows whose C follow each other within
    ``tolerance`` form one, at their geometric mean. degree: of the polynomial, 2 to 4; above 2 the minimum is the deepest
    local one between the sizes used. window: half width in decades of P around the run of least loss; rows outside are not
    used (this choice looks at the noise). weights: inverse variances, one a row. noise: "pooled" (one variance of the loss
    for all budgets) or "each".

    A budget whose profile has too few sizes, is not convex, or has its minimum outside the sizes used is left out, and named
    in ``table.problem`` (one of ``PROBLEMS``) and in the notes; that is a selection, and no interval accounts for it. Tokens
    at the minimum come from a line of ln N on ln P.

    *Errors.* The minimum t solves p'(t) = 0, so its standard error is that of p'(t) over p''(t) (delta method, linear in the
    noise); they are propagated through the line, with Student quantiles at Satterthwaite's degrees of freedom.
    ``scatter_se`` comes from the residuals of the line instead; a note says if it is larger than the profiles' noise explains
    (F ratio at 1 %), and then the propagated interval is too short. With ``boot`` the interval is by resampling runs with
    ``rng`` (within a budget if no run has rows in two); a resampled profile without an inner minimum drops out, and the notes
    count it. With five to ten runs a profile the interval is rough.

    *Bias.* No interval here contains the bias of the parabola itself: on a centred grid of half width h (natural logarithm) it
    is about (alpha - beta) h^2 / 10 in ln P, and it moves the exponent when the grids' offset drifts with the budget
    (:func:`limitlib.scaling.approach_2_bias`).

    Raises ValueError when fewer than two budgets are usable, naming the problems, or for arguments out of range.
    """
    confidence = between("confidence", confidence, 1.0)
    panel = read_panel(runs, weights, tokens)
    degree = count("degree", degree, 2)
    if degree > 4:
        raise ValueError(f"degree={degree} must be at most 4: profiles have few sizes")
    word("noise", noise, ("pooled", "each"))
    tolerance = real("tolerance", tolerance, least=0.0)
    if window is not None:
        window = real("window", window, least=0.0, exclusive=True)
    notes = list(panel.notes)
    level, member = _budgets(panel.C, budgets, tolerance)
    if (member < 0).any():
        notes.append(f"{int((member < 0).sum())} rows lie at no budget within {tolerance:.0%} and are left out")
    home, times = np.unique(np.stack([panel.run, member])[:, member >= 0], axis=1, return_counts=True)
    if home.size and times.max() > 1:
        notes.append("some run has several rows at one budget: they count as independent, which they are not")
    fits = [_profile(panel, np.flatnonzero(member == i), degree, window) for i in range(level.size)]
    spread = np.abs(np.log(panel.C[member >= 0] / level[member[member >= 0]])).max(initial=0.0)
    if spread > 0.01:
        notes.append(f"rows lie up to {np.expm1(spread):.0%} off their budget: part of their loss differs for that reason")
    for problem, which in [(p, [v for v, f in zip(level, fits, strict=True) if f.problem == p]) for p in PROBLEMS[1:]]:
        if which:
            notes.append(f"left out, {problem}: {', '.join(f'{v:.3g}' for v in which)} FLOPs")
    ends = [f"{v:.3g}" for v, f in zip(level, fits, strict=True) if f.best_at_end]
    if ends:
        notes.append(f"the run of least loss has the smallest or largest size at {', '.join(ends)} FLOPs")
    used = [i for i, fit in enumerate(fits) if not fit.problem]
    if len(used) < 2:
        named = "; ".join(f"{v:.3g}: {f.problem or 'usable'}" for v, f in zip(level, fits, strict=True))
        raise ValueError(f"fewer than two budgets have an inner minimum ({named}); give wider profiles or other budgets")
    good = [fits[i] for i in used]
    x = np.log(level[used])
    y = np.array([[f.t, f.ln_tokens] for f in good])
    dof = np.array([f.dof for f in good], dtype=float)
    if noise == "pooled":
        total = dof.sum()
        s2 = np.full(len(good), sum(f.rss for f in good) / total if total else np.nan)
    else:
        s2 = np.array([f.rss / f.dof if f.dof else np.nan for f in good])
    se = np.sqrt(s2 * np.array([f.unit_variance for f in good]))
    if np.isnan(se).any():
        notes.append("no standard error: a profile has as many points as coefficients")
    rows = line_weights(x)
    fitted = rows @ y
    draws = None
    if boot:
        draws, usable = _resample(panel, good, degree, x, count("boot", boot, 2), generator(rng))
        notes.append(f"bootstrap over runs: {len(draws)} of {boot} lines; {usable:.1%} of the profiles have an inner minimum")
    lines = []
    for j in range(2):
        scale = np.ones(len(good)) if j == 0 else np.array([abs(f.tokens_line[0] / f.scale[1]) for f in good])
        cov = (rows * (se * scale) ** 2) @ rows.T
        parts = (rows[0] * se * scale) ** 2
        # Satterthwaite; with one pooled variance the degrees of freedom simply add up.
        nu = dof.sum() if noise == "pooled" else parts.sum() ** 2 / np.sum(parts**2 / np.maximum(dof, 1.0))
        scatter = scatter_error(x, y[:, j])
        if j == 0 and x.size > 2 and nu > 0 and stats.f.sf(scatter**2 / cov[0, 0], x.size - 2, nu) < 0.01:
            notes.append("the minima scatter more about the line than the noise of the profiles explains: see scatter_se")
        lines.append(
            FrontierLine(
                exponent=float(fitted[0, j]),
                level=float(fitted[1, j]),
                centre=float(x.mean()),
                covariance=cov if draws is None else np.cov(draws[:, :, j].T),
                quantile=float(stats.t.ppf((1 + confidence) / 2, nu)) if np.isfinite(nu) and nu > 0 else float("nan"),
                scatter_se=scatter,
                confidence=confidence,
                draws=None if draws is None else draws[:, :, j],
            )
        )
    table = _profiles(level, fits, used, se)
    by = "bootstrap over runs" if boot else f"propagated, {noise} noise"
    return AllocationFit(f"approach 2, degree {degree}", lines[0], lines[1], table, by, tuple(notes))


@dataclass(frozen=True)
class _Fit:
    """One profile: rows used, minimum t = ln P, and what its error needs."""

    rows: NDArray[np.int64]
    problem: str
    t: float = float("nan")
    ln_tokens: float = float("nan")
    loss: float = float("nan")
    curvature: float = float("nan")
    unit_variance: float = float("nan")  # of t, for noise variance 1
    rss: float = 0.0
    dof: int = 0
    tokens_line: tuple[float, float] = (float("nan"), float("nan"))  # slope in u, level
    scale: tuple[float, float] = (float("nan"), float("nan"))  # ln P = scale[0] + scale[1] u
    best_at_end: bool = False


def _budgets(C: Array, budgets: ArrayLike | None, tolerance: float) -> tuple[Array, NDArray[np.int64]]:
    """Budgets in FLOPs, increasing, and for every row the index of its own, -1 for none."""
    ln_c = np.log(C)
    if budgets is None:
        order = np.argsort(ln_c, kind="stable")
        first = np.concatenate([[0], np.cumsum(np.diff(ln_c[order]) > np.log1p(tolerance))])
        member = np.empty(C.size, dtype=np.int64)
        member[order] = first
        sums = np.bincount(member, ln_c)
        return np.exp(sums / np.bincount(member)), member
    level = np.unique(above("budgets", budgets, 0.0))
    distance = np.abs(ln_c[:, None] - np.log(level))
    nearest = np.argmin(distance, axis=1)
    far = distance[np.arange(C.size), nearest] > np.log1p(tolerance) + 1e-12
    return level, np.where(far, -1, nearest)


def _minimum(coefficients: Array, low: float, high: float) -> tuple[float, str]:
    """The deepest local minimum of a polynomial (increasing powers) in [low, high], or the name of the problem."""
    p = np.polynomial.Polynomial(coefficients)
    roots = p.deriv().roots()
    real_roots = np.real(roots[np.abs(np.imag(roots)) <= 1e-9 * (1.0 + np.abs(roots))])
    minima = real_roots[p.deriv(2)(real_roots) > 0]
    if minima.size == 0:
        return float("nan"), "not convex"
    minima = minima[(minima >= low) & (minima <= high)]
    if minima.size == 0:
        return float("nan"), "minimum at the edge"
    return float(minima[np.argmin(p(minima))]), ""


def _profile(panel: Panel, rows: NDArray[np.int64], degree: int, window: float | None) -> _Fit:
    if window is not None and rows.size:
        best = panel.P[rows[np.argmin(panel.loss[rows])]]
        rows = rows[np.abs(np.log10(panel.P[rows] / best)) <= window]
    ln_p, loss = np.log(panel.P[rows]), panel.loss[rows]
    if np.unique(ln_p).size < degree + 1:
        return _Fit(rows, "too few sizes")
    middle, half = (ln_p.max() + ln_p.min()) / 2, (ln_p.max() - ln_p.min()) / 2
    u = (ln_p - middle) / half  # in [-1, 1]: well conditioned
    root_w = np.ones(rows.size) if panel.weight is None else np.sqrt(panel.weight[rows])
    X = np.vander(u, degree + 1, increasing=True)
    q, r = np.linalg.qr(X * root_w[:, None])
    # The mean is taken off first, so that E costs no digits of the curvature.
    base = float(loss.mean())
    coefficients = np.linalg.solve(r, q.T @ ((loss - base) * root_w))
    at, problem = _minimum(coefficients, -1.0, 1.0)
    residual = (loss - base - X @ coefficients) * root_w
    if problem:
        return _Fit(rows, problem)
    p = np.polynomial.Polynomial(coefficients)
    gradient = np.array([k * at ** (k - 1) if k else 0.0 for k in range(degree + 1)])
    inverse = np.linalg.solve(r.T, gradient)
    slope, level = np.polyfit(u, np.log(panel.N[rows]), 1)
    winner = panel.P[rows[np.argmin(loss)]]
    return _Fit(
        rows=rows,
        problem="",
        t=float(middle + half * at),
        ln_tokens=float(level + slope * at),
        loss=base + float(p(at)),
        curvature=float(p.deriv(2)(at)) / half**2,
        unit_variance=float(inverse @ inverse) * (half / float(p.deriv(2)(at))) ** 2,
        rss=float(residual @ residual),
        dof=rows.size - degree - 1,
        tokens_line=(float(slope), float(level)),
        scale=(float(middle), float(half)),
        best_at_end=bool(winner in (panel.P[rows].min(), panel.P[rows].max())),
    )


def _profiles(level: Array, fits: list[_Fit], used: list[int], se: Array) -> Profiles:
    errors = np.full(level.size, np.nan)
    errors[used] = se
    return Profiles(
        budget=level,
        points=np.array([f.rows.size for f in fits]),
        n_params=np.exp([f.t for f in fits]),
        n_tokens=np.exp([f.ln_tokens for f in fits]),
        loss=np.array([f.loss for f in fits]),
        ln_params_se=errors,
        curvature=np.array([f.curvature for f in fits]),
        problem=tuple(f.problem for f in fits),
    )


def _resample(
    panel: Panel, good: list[_Fit], degree: int, x: Array, boot: int, rng: np.random.Generator
) -> tuple[Array, float]:
    """Lines (n, 2, 2) through resampled minima, and the share of profiles that have one.

    Axis 1: exponent, level; axis 2: parameters, tokens.
    """
    homes = [np.unique(panel.run[f.rows]) for f in good]
    everyone = np.unique(np.concatenate(homes))
    alone = everyone.size == sum(h.size for h in homes)
    shared = None if alone else rng.multinomial(everyone.size, _even(everyone.size), boot)
    minima = np.full((boot, len(good), 2), np.nan)
    for i, (fit, runs) in enumerate(zip(good, homes, strict=True)):
        if shared is None:
            times = rng.multinomial(runs.size, _even(runs.size), boot)
        else:
            times = shared[:, np.searchsorted(everyone, runs)]
        weight = times[:, np.searchsorted(runs, panel.run[fit.rows])].astype(float)
        at = _resampled_minima(panel, fit, degree, weight)
        minima[:, i, 0] = fit.scale[0] + fit.scale[1] * at
        minima[:, i, 1] = fit.tokens_line[1] + fit.tokens_line[0] * at
    seen = np.isfinite(minima[:, :, 0])
    minima = minima[seen.sum(axis=1) > 1]
    if len(minima) < 2:
        raise ValueError("nearly no resample keeps two budgets with an inner minimum; train more runs for each budget")
    kept = np.isfinite(minima[:, :, 0])
    n = kept.sum(axis=1)
    mean_x = np.where(kept, x, 0.0).sum(axis=1) / n
    d = np.where(kept, x - mean_x[:, None], 0.0)
    y = np.where(kept[:, :, None], minima, 0.0)
    slope = np.einsum("bk,bkj->bj", d, y) / np.sum(d * d, axis=1)[:, None]
    level = y.sum(axis=1) / n[:, None] + slope * (x.mean() - mean_x)[:, None]
    return np.stack([slope, level], axis=1), float(seen.mean())


def _even(n: int) -> Array:
    return np.full(n, 1.0 / n)


def _resampled_minima(panel: Panel, fit: _Fit, degree: int, weight: Array) -> Array:
    """Minimum in u of the profile refitted with each row of ``weight`` (boot, rows); NaN where there is no inner minimum."""
    ln_p, loss = np.log(panel.P[fit.rows]), panel.loss[fit.rows]
    X = np.vander((ln_p - fit.scale[0]) / fit.scale[1], degree + 1, increasing=True)
    sizes = np.unique(ln_p, return_inverse=True)[1]
    distinct = np.stack([weight[:, sizes == s].any(axis=1) for s in range(sizes.max() + 1)]).sum(axis=0)
    weight = weight if panel.weight is None else weight * panel.weight[fit.rows]
    solvable = distinct > degree
    w = weight[solvable]
    gram = np.einsum("bn,ni,nj->bij", w, X, X)
    moment = np.einsum("bn,ni,n->bi", w, X, loss - loss.mean())
    coefficients = np.linalg.solve(gram, moment[..., None])[..., 0]
    at = np.full(weight.shape[0], np.nan)
    if degree == 2:
        convex = coefficients[:, 2] > 0
        vertex = np.full(convex.size, np.nan)
        vertex[convex] = -coefficients[convex, 1] / (2.0 * coefficients[convex, 2])
        at[solvable] = np.where(np.abs(vertex) <= 1.0, vertex, np.nan)
    else:
        at[solvable] = [_minimum(c, -1.0, 1.0)[0] for c in coefficients]
    return at
