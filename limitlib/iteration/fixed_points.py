"""Fixed-point iteration of a batch, item by item, with certificates where a contraction factor is proved."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from limitlib.bounds import Bound, Domain, WholeSpace, check_exponent, vector_norm
from limitlib.iteration.checks import EPS, EVALUATION, check_count, check_start
from limitlib.iteration.methods import LAWS, Picard, Relaxation, choose

BUFFER = 2**17  # numbers kept between two residual checks: 1 MiB stays in a second-level cache
HISTORY_ROWS = 512
STALL = 0.999  # the best residual of the second half must beat that of the first half by this factor


@dataclass(frozen=True)
class Rate:
    """How fast the residual was seen to fall (estimates), and which law is known for the method.

    ``factor`` is the geometric mean of the residual ratios over the second half of the run, ``order`` the exponent s of n^-s
    through the same two residuals; ``distance`` is the secant estimate of the distance to a fixed point, never a bound. NaN
    where the run is too short to tell.
    """

    factor: np.ndarray
    order: np.ndarray
    distance: np.ndarray
    law: str


@dataclass(frozen=True)
class History:
    """Residuals ``|T x_n - x_n|`` at the recorded steps n, shape ``(len(steps), batch)``; NaN after an item has stopped.

    Long runs keep every second, fourth, ... step, so that memory is bounded.
    """

    steps: np.ndarray
    residuals: np.ndarray


@dataclass(frozen=True)
class FixedPoint:
    """Result of :func:`iterate`: for each item a point, its attained residual, and what is known about it.

    ``residual`` is ``|T x - x|`` at the returned ``x``, a measured value. ``error_bound`` is a certified upper bound of the
    distance from ``x`` to the fixed point, inf for an item where it had to be withheld, None where no factor was given.
    ``rate`` and ``history`` are observations. ``n_iter`` is the number of steps from ``x0`` to ``x``. ``status`` says in words
    how the item ended and why there is or is not a bound.
    """

    x: np.ndarray
    residual: np.ndarray
    error_bound: np.ndarray | None
    rate: Rate
    status: np.ndarray
    n_iter: np.ndarray
    history: History

    @property
    def converged(self) -> np.ndarray:
        """Whether the residual met the tolerance (which alone proves nothing about a fixed point)."""
        return np.array([s.startswith("converged") for s in np.ravel(self.status)]).reshape(np.shape(self.status))


def iterate(
    T: Callable[..., Any],
    x0: np.ndarray,
    *,
    method: str = "picard",
    contraction: float | Bound | None = None,
    norm: float = 2,
    rtol: float = 1e-8,
    atol: float = 1e-12,
    max_iter: int = 10_000,
    relaxation: Relaxation = None,
    memory: int | None = None,
    ridge: float | None = None,
    args: tuple = (),
) -> FixedPoint:
    """Iterate ``T`` from ``x0`` until ``|T x - x| <= atol + rtol |x|``, every item of the batch stopping on its own.

    Shapes: ``x0`` is ``(batch, d)``, or ``(d,)`` for one item (then ``T`` sees ``(d,)`` and results are scalars). ``T`` maps a
    batch to a batch, row by row, and sees only the items that still run. Data that belong to the items go into ``args``,
    arrays of leading length ``batch`` that are cut in the same way: ``T(x, *args)``. Residuals are checked a few steps at a
    time, so ``T`` may be evaluated up to an eighth beyond the last step that counts; no result depends on that, nor on which
    other items are in the batch.

    Methods: ``picard`` x <- Tx; ``krasnoselskii_mann`` x <- (1-a)x + aTx with ``relaxation`` a in [0, 1], a number (default
    1/2) or a function of the step 1, 2, ...; ``halpern`` x <- x0/(n+2) + (n+1)/(n+2) Tx; ``anderson`` type II with ``memory``
    columns (default 10), relative Tikhonov ``ridge`` (1e-12) and mixing ``relaxation`` (1), restarted for an item whose
    residual grows tenfold.

    ``contraction`` is a factor q in [0, 1), in the l_``norm`` norm, for which the caller vouches, or a
    :class:`~limitlib.bounds.Bound` that is exact or certified with upper end below 1. It gives the Banach bound
    ``|x - x*| <= |T x - x| / (1 - q)``: an upper bound, rounded outward, which takes the evaluation of T to be off by at most
    ``4 d eps (|x| + |T x|)`` (eps of the type that T returns). For a local Bound the ball of that radius about x must lie in
    the domain, and then the fixed point is proved to exist there. Where that fails, or where two evaluations contradict q
    beyond rounding, the bound is inf and the status says so.

    Never raises because a run fails: a status starts with ``converged``, ``reached max_iter``, ``stalled`` or ``diverged``
    (then the last finite iterate is kept). ValueError or TypeError for bad arguments. Sources: Banach; T6.1 for the rates.

    >>> import numpy as np
    >>> fp = iterate(lambda x: 0.5 * x + 1.0, np.zeros(1), contraction=0.5)
    >>> bool(abs(fp.x[0] - 2) <= fp.error_bound <= 1e-6)
    True
    """
    start, single = check_start(x0)
    if not callable(T):
        raise TypeError(f"T must be callable, batch -> batch; got {T!r}")
    check_exponent("norm", norm)
    for name, tolerance in (("rtol", rtol), ("atol", atol)):
        if not 0 <= tolerance < math.inf:
            raise ValueError(f"{name} must be a finite number >= 0; got {tolerance!r}")
    max_iter = check_count("max_iter", max_iter, 1)
    extra = tuple(_item_array(i, a, len(start), single) for i, a in enumerate(args))
    q, domain, refusal = _contraction_factor(contraction, norm, start)
    rule = choose(method, start, relaxation, memory, ridge)
    run = _Run(start, max_iter, norm, q, atol, rtol)
    block = _Block(start, rule.longest_block, shared=isinstance(rule, Picard))

    def evaluate(x: np.ndarray) -> np.ndarray:
        x = x.view()
        x.flags.writeable = False  # a map that worked in place would make every residual zero
        image = np.asarray(T(x[0], *(a[0] for a in extra)) if single else T(x, *extra))
        if image.shape != x.shape[single:]:
            raise ValueError(f"T must keep the shape {x.shape[single:]} of its argument; it returned {image.shape}")
        if image.dtype != np.float64:
            run.note_type(image.dtype)
        return image

    active = np.arange(len(start))
    n = 0  # the step whose iterate is evaluated next
    with np.errstate(over="ignore", invalid="ignore", divide="ignore"):  # what is not finite ends up in the status
        while active.size:
            length = min(max(1, n // 8), block.longest, max_iter + 1 - n)
            X, Y, F = block.slots(length)
            for j in range(1, length + 1):
                Y[j] = evaluate(X[j])
                np.subtract(Y[j], X[j], out=F[j])
                rule.step(X[j], Y[j], F[j], n + j - 1, X[j + 1])
            keep = run.digest(active, X[:-1], Y, F, n, shared=block.shared)
            n += length
            block.advance(length, keep)
            if keep is not None:
                active = active[keep]
                extra = tuple(a[keep] for a in extra)
                rule.keep(keep)

    return run.result(method, domain, refusal, start, single)


class _Block:
    """Buffers for a few steps. Slot 0 holds the step before; ``Y[j] = T X[j]``, ``F[j] = Y[j] - X[j]``, X[j+1] comes next.

    Picard's next iterate is the image itself, so X and Y are then two views of one buffer, shifted by one slot.
    """

    def __init__(self, start: np.ndarray, longest: int, *, shared: bool) -> None:
        self.rows, self.d = start.shape
        self.shared = shared
        self.longest = min(longest, max(1, BUFFER // start.size))
        size = (self.longest + 2) * start.size
        self.x_memory, self.f_memory = np.empty(size), np.empty(size)
        self.y_memory = self.x_memory if shared else np.empty(size)
        X, Y, F = self.slots(self.longest)
        X[0] = Y[0] = F[0] = math.nan  # there is no step before the first
        X[1] = start

    def slots(self, length: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """X of ``length + 2`` slots, Y and F of ``length + 1``; where a slot lies depends on its index and the rows only."""
        shape = (length + 2, self.rows, self.d)
        X, Y, F = (m[: math.prod(shape)].reshape(shape) for m in (self.x_memory, self.y_memory, self.f_memory))
        return X, Y[1:] if self.shared else Y[:-1], F[:-1]

    def advance(self, length: int, keep: np.ndarray | None) -> None:
        """Move the last step to slot 0 and the next iterate to slot 1, dropping the items that stopped."""
        X, Y, F = self.slots(length)
        latest = [X[length], Y[length], F[length], X[length + 1]]
        latest = [a.copy() if keep is None else a[keep] for a in latest]
        self.rows = len(latest[0])
        X, Y, F = self.slots(self.longest)
        X[0], Y[0], F[0], X[1] = latest


class _Run:
    """What has been seen of every item: here residuals are judged and results collected."""

    def __init__(self, start: np.ndarray, max_iter: int, p: float, q: float | None, atol: float, rtol: float) -> None:
        batch, self.d = start.shape
        self.max_iter, self.p, self.q, self.atol, self.rtol = max_iter, p, q, atol, rtol
        self.eps = EPS
        self.x, self.middle_x = start.copy(), start.copy()
        self.residual, self.tolerance, self.distance = (np.full(batch, math.nan) for _ in range(3))
        self.best = np.full((2, batch), math.inf)  # smallest residual in the first and in the second half of max_iter steps
        self.n_iter = np.zeros(batch, dtype=int)
        self.refuting = np.zeros(batch)  # largest observed |Tx - Ty| / |x - y| that contradicts q
        self.stride, self.rows = 1, 0
        self.history = np.full((max(16, min(HISTORY_ROWS, 2**22 // batch)), batch), math.nan)

    def note_type(self, dtype: np.dtype) -> None:
        if dtype.kind not in "iuf":
            raise TypeError(f"T must return real numbers; it returned dtype {dtype}")
        if dtype.kind == "f":
            self.eps = max(self.eps, float(np.finfo(dtype).eps))

    def digest(
        self, active: np.ndarray, X: np.ndarray, Y: np.ndarray, F: np.ndarray, n: int, *, shared: bool
    ) -> np.ndarray | None:
        """Judge slots 1.. (steps n, n+1, ...) and store the items that end; the mask of the others, None if none ended."""
        sizes = vector_norm(F, self.p)
        r = sizes[1:]
        length = len(r)
        limit = self.atol + self.rtol * vector_norm(X[1:], self.p) if self.rtol else np.full_like(r, self.atol)
        stop = (r <= limit) | ~np.isfinite(r)
        ended = stop.any(axis=0)
        some = bool(ended.any())
        last = np.where(ended, stop.argmax(axis=0), length - 1) if some else np.full(ended.shape, length - 1)
        if self.q is not None:
            if shared:  # Picard: the image of a step is the next step
                steps, images = sizes[:-1], r
            else:
                steps, images = vector_norm(X[1:] - X[:-1], self.p), vector_norm(Y[1:] - Y[:-1], self.p)
            self._check_factor(active, X, Y, steps, images, np.arange(length)[:, None] <= last)
        self._watch(active, X, r, n)
        self._record(active, r, last, n)
        if n + length > self.max_iter:
            ended, some = np.ones_like(ended), True
        if not some:
            return None
        column = np.flatnonzero(ended)
        row = last[column]
        latest = (X[row + 1, column], F[row + 1, column])
        before = (X[row, column], F[row, column])
        self._store(active[column], n + row, r[row, column], limit[row, column], latest, before)
        return ~ended

    def _check_factor(
        self, active: np.ndarray, X: np.ndarray, Y: np.ndarray, steps: np.ndarray, images: np.ndarray, counts: np.ndarray
    ) -> None:
        """Two evaluations contradict q if |Tx - Ty| > q |x - y| by more than the evaluation error of both."""
        if not ((images > self.q * steps) & counts).any():
            return
        size = vector_norm(X, self.p) + vector_norm(Y, self.p)
        margin = EVALUATION * self.d * self.eps * (size[1:] + size[:-1])
        sure = (images > self.q * steps * (1 + 8 * EPS) + margin) & counts
        if sure.any():
            seen = np.where(sure, images / steps, 0.0).max(axis=0)
            self.refuting[active] = np.maximum(self.refuting[active], seen)

    def _watch(self, active: np.ndarray, X: np.ndarray, r: np.ndarray, n: int) -> None:
        """Best residual of each half of the longest possible run, and the iterate between them."""
        middle = self.max_iter // 2
        cut = min(max(0, middle + 1 - n), len(r))
        for half, rows in enumerate((r[:cut], r[cut:])):
            if len(rows):
                self.best[half, active] = np.minimum(self.best[half, active], rows.min(axis=0))
        if n <= middle < n + len(r):
            self.middle_x[active] = X[1 + middle - n]

    def _record(self, active: np.ndarray, r: np.ndarray, last: np.ndarray, n: int) -> None:
        rows = np.arange(-n % self.stride, len(r), self.stride)
        if self.rows + len(rows) > len(self.history):
            thinned = self.history[: self.rows : 2].copy()
            self.history[:] = math.nan
            self.history[: len(thinned)] = thinned
            self.rows, self.stride = len(thinned), 2 * self.stride
            rows = np.arange(-n % self.stride, len(r), self.stride)
        self.history[self.rows : self.rows + len(rows), active] = np.where(rows[:, None] <= last, r[rows], math.nan)
        self.rows += len(rows)

    def _store(
        self, items: np.ndarray, n: np.ndarray, r: np.ndarray, limit: np.ndarray,
        latest: tuple[np.ndarray, np.ndarray], before: tuple[np.ndarray, np.ndarray],
    ) -> None:  # fmt: skip
        (x, f), (x_before, f_before) = latest, before
        # Secant estimate of the distance: residual over the slope of x -> Tx - x along the last step.
        slope = vector_norm(f - f_before, self.p) / vector_norm(x - x_before, self.p)
        lost = ~np.isfinite(x).all(axis=-1)  # only an extrapolating method leaves the finite numbers before T does
        self.x[items] = np.where(lost[:, None], x_before, x)
        self.n_iter[items] = n - lost
        self.residual[items] = np.where(np.isfinite(r), r, math.inf)
        self.distance[items] = np.where(np.isfinite(r), r / slope, math.nan)
        self.tolerance[items] = limit

    def result(self, method: str, domain: Domain, refusal: str | None, start: np.ndarray, single: bool) -> FixedPoint:
        steps, history = self.stride * np.arange(self.rows), self.history[: self.rows]
        items = np.arange(len(start))
        row = np.searchsorted(steps, self.n_iter / 2, side="right") - 1
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            fall = np.log(self.residual / history[row, items])
            fall[~np.isfinite(self.residual) | (self.n_iter == 0)] = math.nan
            factor, order = np.exp(fall / (self.n_iter - steps[row])), -fall / np.log((self.n_iter + 1) / (steps[row] + 1))
            bound, withheld = self._certify(domain, refusal)
            status = np.empty(len(start), dtype=object)
            for i in items.tolist():
                status[i] = self._words(i, method, start[i], order[i], bound, withheld[i])
        pick: Callable[[np.ndarray], Any] = (lambda a: a[0]) if single else (lambda a: a)
        return FixedPoint(
            pick(self.x),
            pick(self.residual),
            None if bound is None else pick(bound),
            Rate(pick(factor), pick(order), pick(self.distance), LAWS[method]),
            pick(status),
            pick(self.n_iter),
            History(steps, history[:, 0] if single else history),
        )

    def _certify(self, domain: Domain, refusal: str | None) -> tuple[np.ndarray | None, list[str]]:
        """Banach error bounds rounded outward, and for each item why its bound is withheld ("" if it is not)."""
        batch = len(self.x)
        if refusal is not None:
            return np.full(batch, math.inf), [refusal] * batch
        if self.q is None:
            return None, ["no contraction factor was given"] * batch
        evaluation = EVALUATION * self.d * self.eps * (2 * vector_norm(self.x, self.p) + self.residual)
        radius = (self.residual * (1 + (self.d + 8) * EPS) + evaluation) / (1 - self.q) * (1 + 8 * EPS)
        withheld = [""] * batch
        for i in np.flatnonzero(radius > domain.inner_radius(self.x, self.p)):
            withheld[i] = f"the ball of radius {radius[i]:.1e} about x is not inside the domain of the given Bound"
        for i in np.flatnonzero(~np.isfinite(radius)):
            withheld[i] = "the residual is not finite"
        for i in np.flatnonzero(self.refuting):
            withheld[i] = f"the contraction factor {self.q:.6g} is refuted by an observed ratio {self.refuting[i]:.6g}"
        return np.where([not w for w in withheld], radius, math.inf), withheld

    def _words(self, i: int, method: str, x0: np.ndarray, order: float, bound: np.ndarray | None, withheld: str) -> str:
        certified = bound is not None and not withheld
        if bound is not None and certified:
            tail = f"; error bound {bound[i]:.1e}"
        else:
            tail = f"; no error bound: {withheld}"
            if not math.isnan(self.distance[i]):
                tail += f"; secant estimate of the distance {self.distance[i]:.1e} (not a bound)"
        r, limit = self.residual[i], self.tolerance[i]
        if not math.isfinite(r):
            return f"diverged: T is not finite after step {self.n_iter[i]}; last finite iterate kept" + tail
        if r <= limit:
            return f"converged: residual {r:.1e} <= tolerance {limit:.1e}" + tail

        x, middle = self.x[i], self.middle_x[i]
        first_half, second_half, whole = vector_norm(np.array([middle - x0, x - middle, x - x0]), self.p).tolist()
        growth = whole / first_half if first_half > 0 else math.inf
        if self.best[1, i] > STALL * self.best[0, i]:
            if growth > 1.5 and second_half > 10 * r:
                head = (
                    f"stalled: the iterates escape (the distance from x0 grew {growth:.2f}-fold in the second half) while the "
                    f"residual stays at {r:.1e}; no fixed point found"
                )
            else:
                head = f"stalled: residual {r:.1e} does not decrease (no fixed point found, or an isometry such as a rotation)"
            return head + tail
        head = f"reached max_iter={self.max_iter}: residual {r:.1e} still decreases, tolerance {limit:.1e}"
        if method in ("picard", "krasnoselskii_mann") and not certified and order < 1.05 and growth > 1.02:
            head += (
                f"; it falls like n^-{order:.2f}, too slowly to be summed, and the distance from x0 grew {growth:.2f}-fold in "
                "the second half: the iterates may escape to infinity"
            )
        return head + tail


def _item_array(i: int, value: Any, batch: int, single: bool) -> np.ndarray:
    array = np.asarray(value)
    if single:
        return array[None]
    if array.ndim == 0 or len(array) != batch:
        raise ValueError(f"args[{i}] must have leading length {batch}, one entry for each item; got shape {array.shape}")
    return array


def _contraction_factor(
    contraction: float | Bound | None, norm: float, start: np.ndarray
) -> tuple[float | None, Domain, str | None]:
    """The factor that may be used, the domain where it holds, and why a given Bound cannot be used."""
    if contraction is None:
        return None, WholeSpace(), None
    if isinstance(contraction, Bound):
        if contraction.norm != (norm, norm):
            raise ValueError(f"contraction must be a Bound in norms {(norm, norm)!r}; got {contraction.norm!r}; change norm")
        try:
            fits = contraction.domain.inner_radius(start, norm).shape == start.shape[:1]
        except ValueError:
            fits = False
        if not fits:
            d = start.shape[1]
            raise ValueError(f"contraction must have a domain of vectors of length {d}; got {contraction.domain!r}")
        if contraction.kind not in ("exact", "certified"):
            return None, contraction.domain, f"the given Bound is of kind {contraction.kind}, not certified"
        if contraction.upper >= 1:
            return None, contraction.domain, f"the upper end {contraction.upper:.6g} of the given Bound is not below 1"
        return contraction.upper, contraction.domain, None
    if isinstance(contraction, bool) or not isinstance(contraction, int | float | np.integer | np.floating):
        raise TypeError(f"contraction must be a number in [0, 1) or a Bound; got {contraction!r}")
    if not 0 <= contraction < 1:
        raise ValueError(f"contraction must lie in [0, 1); got {contraction!r}; leave it out where T does not contract")
    return float(contraction), WholeSpace(), None
