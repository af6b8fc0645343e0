"""Numbers that know what they are: brackets, counts, estimates, and the domains on which local bounds hold.

A :class:`Bound` carries a lower and an upper end, the norms, the domain, and how much it may be trusted. One-sided
knowledge has a trivial other end (``0`` or ``inf``). "Certified" means outward-rounded float64: every operation here moves
an upper end up and a lower end down by at least its own rounding error.
"""

from __future__ import annotations

import functools
import itertools
import math
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np

KINDS = ("exact", "certified", "probabilistic", "estimate")  # from the most to the least trustworthy
EXACT_WIDTH = 1e-9  # largest relative width of a bracket that may call itself exact


# ---------------------------------------------------------------------------------------------------------------- rounding


def round_up(value: float, ulps: int = 1) -> float:
    """Move a number up by some units in the last place; zero and infinities stay, being exact."""
    return value if value == 0.0 or math.isinf(value) else value + ulps * math.ulp(value)


def round_down(value: float, ulps: int = 1) -> float:
    """Move a number down by some units in the last place; zero and infinities stay, being exact."""
    return value if value == 0.0 or math.isinf(value) else value - ulps * math.ulp(value)


def multiply_up(a: float, b: float) -> float:
    """Upper bound of the product of two nonnegative numbers; zero times infinity is zero (a constant map stays constant)."""
    if a == 0.0 or b == 0.0:
        return 0.0
    return math.nextafter(a * b, math.inf)


def vector_norm(v: np.ndarray, p: float = 2) -> np.ndarray:
    """l_p norm over the last axis, without spurious overflow or underflow.

    Shapes: ``(..., d) -> (...)``. NaN and inf propagate. The value of a row does not depend on the other rows.
    Raises ValueError if ``p < 1``.

    >>> f"{vector_norm(np.array([3e200, 4e200])):.6g}"
    '5e+200'
    """
    check_exponent("p", p)
    if p == math.inf:
        return np.abs(v).max(axis=-1, initial=0.0)
    if p == 1:
        return np.abs(v).sum(axis=-1)
    with np.errstate(over="ignore", under="ignore", invalid="ignore"):
        if p == 2:
            size = np.sqrt(np.einsum("...i,...i->...", v, v))
            if not size.size or (size.min() > 1e-140 and size.max() < 1e140):
                return size
        # By shares of the largest entry, row by row, so that a row keeps the value it would have had alone; the root takes back
        # what a large power makes of the rounding of a share.
        top = np.abs(v).max(axis=-1, initial=0.0)
        unit = np.where((top > 0) & np.isfinite(top), top, 1.0)
        scaled = ((np.abs(v) / unit[..., None]) ** p).sum(axis=-1) ** (1 / p) * unit
        return scaled if p != 2 else np.where((size > 1e-140) & (size < 1e140), size, scaled)


# ----------------------------------------------------------------------------------------------------------------- checks


def check_exponent(name: str, p: Any) -> None:
    """Refuse anything that is not the exponent of an l_p norm (a number >= 1 or inf)."""
    if isinstance(p, bool) or not isinstance(p, int | float | np.integer | np.floating) or not p >= 1:
        raise ValueError(f"{name} must be a norm exponent, a number >= 1 or math.inf; got {p!r}")


def _check_number(name: str, value: Any, *, at_least: float = -math.inf) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        raise TypeError(f"{name} must be a real number; got {value!r}") from None
    if math.isnan(number):
        raise ValueError(f"{name} must not be NaN; fix the computation that produced it")
    if number < at_least:
        raise ValueError(f"{name} must be at least {at_least:g}; got {number!r}")
    return number


# ---------------------------------------------------------------------------------------------------------------- domains


class Domain:
    """A set on which a local bound holds.

    ``inner_radius(x, p)`` is the radius of an l_p ball about ``x`` that certainly lies in the set (negative if ``x`` does not).
    Shapes: points ``(..., d)``, answer ``(...)``.
    """

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        raise NotImplementedError

    def contains(self, x: np.ndarray) -> np.ndarray:
        """Whether the points certainly lie in the set (a point within rounding of the boundary may be refused)."""
        return self.inner_radius(np.asarray(x, dtype=float)) >= 0

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """``n`` points drawn uniformly, shape ``(n, d)``; ValueError where the set is unbounded or names no dimension."""
        raise ValueError(f"domain {self!r} cannot be sampled; name Ball(center, radius) or Box(lo, hi)")

    def __eq__(self, other: object) -> bool:
        if type(self) is not type(other):
            return NotImplemented
        return self._key() == other._key()  # type: ignore[attr-defined]

    def __hash__(self) -> int:
        return hash((type(self), self._key()))

    def _key(self) -> tuple[Any, ...]:
        values = (getattr(self, f.name) for f in fields(self))  # type: ignore[arg-type]
        return tuple(v.tobytes() if isinstance(v, np.ndarray) else v for v in values)


def _frozen_array(name: str, value: Any) -> np.ndarray:
    array = np.array(value, dtype=float) + 0.0  # a copy, with -0.0 turned into 0.0 so that equal points compare equal
    if array.ndim != 1 or array.size == 0 or not np.isfinite(array).all():
        raise ValueError(f"{name} must be a nonempty vector of finite numbers; got an array of shape {array.shape}")
    array.flags.writeable = False
    return array


def _shrink(margin: np.ndarray, scale: np.ndarray | float, d: int) -> np.ndarray:
    """Lower end of a difference of computed norms: the norms carry at most about (d + 4) rounding errors each."""
    return margin - (d + 8) * np.finfo(float).eps * scale


@dataclass(frozen=True, eq=False)
class WholeSpace(Domain):
    """The whole space: a global bound."""

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        return np.full(np.shape(x)[:-1], math.inf)


@dataclass(frozen=True, eq=False)
class Ball(Domain):
    """Closed l_p ball ``|x - center|_p <= radius``.

    >>> Ball([0, 0], 1.0).contains([[0.5, 0.5], [0.9, 0.9]]).tolist()
    [True, False]
    """

    center: np.ndarray
    radius: float
    p: float = 2

    def __post_init__(self) -> None:
        object.__setattr__(self, "center", _frozen_array("center", self.center))
        object.__setattr__(self, "radius", _check_number("radius", self.radius, at_least=0.0))
        check_exponent("p", self.p)

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        check_exponent("p", p)
        d = self.center.size
        distance = vector_norm(x - self.center, self.p)
        room = _shrink(self.radius - distance, self.radius + distance + vector_norm(self.center, self.p), d)
        # The unit l_p ball lies in the l_q ball of radius d^(1/q - 1/p), or 1 if that is smaller.
        stretch = d ** max(0.0, 1 / self.p - 1 / p)
        return np.where(room > 0, room / stretch, room)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        d = self.center.size
        if self.p == math.inf:
            unit = rng.uniform(-1.0, 1.0, (n, d))
        else:
            # Generalised Gaussians over the root of (their p-th power sum + an exponential variable) are uniform in the
            # l_p ball (Barthe, Guedon, Mendelson, Naor 2005).
            power = rng.gamma(1 / self.p, size=(n, d))
            signs = rng.choice([-1.0, 1.0], (n, d))
            unit = signs * (power / (power.sum(axis=1) + rng.exponential(size=n))[:, None]) ** (1 / self.p)
        return self.center + self.radius * unit


@dataclass(frozen=True, eq=False)
class Box(Domain):
    """Closed box ``lo <= x <= hi``, coordinate by coordinate."""

    lo: np.ndarray
    hi: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "lo", _frozen_array("lo", self.lo))
        object.__setattr__(self, "hi", _frozen_array("hi", self.hi))
        if self.lo.shape != self.hi.shape or (self.lo > self.hi).any():
            raise ValueError(f"lo must have the shape of hi and lie below it; got lo={self.lo!r}, hi={self.hi!r}")

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        # Exact subtraction up to one rounding, and |v|_inf <= |v|_p for every p.
        room = np.minimum(x - self.lo, self.hi - x).min(axis=-1)
        return np.where(room > 0, room * (1 - 4 * np.finfo(float).eps), room)

    def sample(self, n: int, rng: np.random.Generator) -> np.ndarray:
        return rng.uniform(self.lo, self.hi, (n, self.lo.size))


@dataclass(frozen=True, eq=False)
class TokenBall(Domain):
    """Token matrices whose every token has Euclidean norm at most ``R``; points have shape ``(..., tokens, d)``."""

    R: float

    def __post_init__(self) -> None:
        object.__setattr__(self, "R", _check_number("R", self.R, at_least=0.0))

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        if np.ndim(x) < 2:
            raise ValueError(f"points of TokenBall must have shape (..., tokens, d); got {np.shape(x)}")
        size = vector_norm(x, 2).max(axis=-1)
        room = _shrink(self.R - size, self.R + size, x.shape[-1])
        stretch = x.shape[-1] ** max(0.0, 1 / 2 - 1 / p)
        return np.where(room > 0, room / stretch, room)


@dataclass(frozen=True, eq=False)
class Shell(Domain):
    """Points whose Euclidean norm lies in ``[r_min, r_max]``: away from 0, normalisation layers have moderate slopes.

    Points have shape ``(..., d)``; for token matrices the condition holds for every token. With ``centred=True`` the norms
    are those of ``x - mean(x)``, which is what LayerNorm divides by (RMSNorm divides by the norm of ``x`` itself). A shell is
    not convex: a bound of the Jacobian on it is a Lipschitz bound only where the map extends to the convex hull with it.
    Raises ValueError unless ``0 <= r_min <= r_max``.

    >>> Shell(2.0, centred=True).contains([[5.0, 5.0], [5.0, 1.0]]).tolist()
    [False, True]
    """

    r_min: float
    r_max: float = math.inf
    centred: bool = False

    def __post_init__(self) -> None:
        object.__setattr__(self, "r_min", _check_number("r_min", self.r_min, at_least=0.0))
        object.__setattr__(self, "r_max", _check_number("r_max", self.r_max, at_least=self.r_min))

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        d = np.shape(x)[-1]
        # Taking the mean off is a projection: it moves no point of a ball by more than the ball's radius.
        size = vector_norm(x - np.mean(x, axis=-1, keepdims=True) if self.centred else x, 2)
        room = _shrink(size - self.r_min, size + self.r_min + self.centred * vector_norm(x, 2), d)
        if self.r_max < math.inf:
            room = np.minimum(room, _shrink(self.r_max - size, self.r_max + size + self.centred * vector_norm(x, 2), d))
        stretch = d ** max(0.0, 1 / 2 - 1 / p)
        return np.where(room > 0, room / stretch, room)


@dataclass(frozen=True, eq=False)
class Product(Domain):
    """Cartesian product of domains, one factor for each block of :func:`parallel`."""

    factors: tuple[Domain, ...]

    def inner_radius(self, x: np.ndarray, p: float = 2) -> np.ndarray:
        raise ValueError("a Product has one point for each factor; ask the factors")


# ----------------------------------------------------------------------------------------------------------------- results


@dataclass(frozen=True)
class Bound:
    """Bracket of a constant: ``lower <= truth <= upper``.

    ``norm = (p, q)`` names the norms of input and output: an exponent, or a word such as ``"rms"``. ``kind`` says what the
    inequalities rest on: ``"exact"`` (both ends agree to rounding), ``"certified"`` (outward-rounded float64),
    ``"probabilistic"`` (true with a probability that ``source`` states) or ``"estimate"`` (neither end is claimed).
    ``witness`` attains the lower end; ``source`` says why the upper end holds. Raises ValueError for NaN, ``lower > upper``,
    an unknown kind or a wide exact bracket.

    >>> b = Bound(1.0, 2.0, source="example")
    >>> b.ratio, b.contains(1.5), b.is_exact
    (2.0, True, False)
    """

    lower: float
    upper: float
    norm: tuple[float | str, float | str] = (2, 2)
    domain: Domain = WholeSpace()
    kind: str = "certified"
    witness: Any = field(default=None, compare=False)
    source: str = ""

    def __post_init__(self) -> None:
        object.__setattr__(self, "lower", _check_number("lower", self.lower))
        object.__setattr__(self, "upper", _check_number("upper", self.upper))
        if self.lower > self.upper:
            raise ValueError(f"lower must not exceed upper; got lower={self.lower!r}, upper={self.upper!r}")
        if self.kind not in KINDS:
            raise ValueError(f"kind must be one of {', '.join(KINDS)}; got {self.kind!r}")
        if not isinstance(self.domain, Domain):
            raise TypeError(f"domain must be a Domain such as WholeSpace() or Ball(center, radius); got {self.domain!r}")
        if not isinstance(self.norm, tuple) or len(self.norm) != 2:
            raise ValueError(f"norm must be a pair (input, output) such as (2, 2); got {self.norm!r}")
        for p in self.norm:
            if not isinstance(p, str):
                check_exponent("norm", p)
        agree = self.lower == self.upper or (
            self.upper - self.lower <= EXACT_WIDTH * max(abs(self.lower), abs(self.upper)) < math.inf
        )
        if self.kind == "exact" and not agree:
            raise ValueError(
                f"kind='exact' needs ends that agree to {EXACT_WIDTH:g}; got lower={self.lower!r}, upper={self.upper!r}; "
                "use kind='certified'"
            )

    @property
    def ratio(self) -> float:
        """``upper / lower``: 1 where the ends agree (also at zero), inf where the lower end is not positive."""
        if self.lower == self.upper:
            return 1.0
        return self.upper / self.lower if self.lower > 0 else math.inf

    @property
    def is_exact(self) -> bool:
        """Whether both ends agree to rounding and are claimed (``kind == "exact"``)."""
        return self.kind == "exact"

    def contains(self, v: float) -> bool:
        """Whether ``lower <= v <= upper``."""
        return self.lower <= v <= self.upper


@dataclass(frozen=True)
class Count:
    """Bracket of an integer, a covering or packing number: ``lower <= truth <= upper``.

    ``centers`` and ``packing`` are the index sets that witness the upper and the lower end; ``convention`` names the definition
    (closed balls, centers in the set or outside). Raises ValueError for a negative or empty bracket.
    """

    lower: int
    upper: int
    centers: Any = field(default=None, compare=False)
    packing: Any = field(default=None, compare=False)
    convention: str = ""

    def __post_init__(self) -> None:
        for name in ("lower", "upper"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | np.integer):
                raise TypeError(f"{name} must be an integer; got {value!r}")
            object.__setattr__(self, name, int(value))
        if not 0 <= self.lower <= self.upper:
            raise ValueError(f"need 0 <= lower <= upper; got lower={self.lower}, upper={self.upper}")

    @property
    def is_exact(self) -> bool:
        """Whether both ends agree."""
        return self.lower == self.upper

    def contains(self, v: float) -> bool:
        """Whether ``lower <= v <= upper``."""
        return self.lower <= v <= self.upper


@dataclass(frozen=True)
class Estimate:
    """A statistical estimate with its interval, never a bound.

    Raises ValueError unless ``low <= value <= high``, and for NaN.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        for name in ("value", "low", "high"):
            object.__setattr__(self, name, _check_number(name, getattr(self, name)))
        if not self.low <= self.value <= self.high:
            raise ValueError(f"need low <= value <= high; got low={self.low}, value={self.value}, high={self.high}")


# --------------------------------------------------------------------------------------------------------------- calculus


def compose(*bs: Bound) -> Bound:
    """Bound of the composition, first argument applied first: the product of the uppers, rounded up.

    The lower end is 0 as soon as two maps are composed, since a lower bound needs a witness of the whole map. The domain is
    that of the first map; where a later map is bounded locally, ``source`` says which inclusion is assumed. Raises ValueError
    if the output norm of a map is not the input norm of the next, or a constant is negative.

    >>> compose(Bound(1, 2), Bound(3, 3, kind="exact")).upper >= 6
    True
    """
    _check_parts("compose", bs)
    if len(bs) == 1:
        return bs[0]
    upper = functools.reduce(multiply_up, (b.upper for b in bs))
    for a, b in itertools.pairwise(bs):
        if a.norm[1] != b.norm[0]:
            raise ValueError(f"norm: output norm {a.norm[1]!r} meets input norm {b.norm[0]!r} of the next map; make them equal")
    local = [repr(b.domain) for b in bs[1:] if b.domain != WholeSpace()]
    source = f"product of {len(bs)} upper bounds" + (f", if inputs stay in {', '.join(local)}" if local else "")
    return Bound(0.0, upper, (bs[0].norm[0], bs[-1].norm[1]), bs[0].domain, _worst(bs), None, source)


def parallel(*bs: Bound) -> Bound:
    """Bound of the block-diagonal map (x_1, x_2, ...) -> (f_1 x_1, f_2 x_2, ...): the larger of the constants.

    Both ends are maxima, so nothing is rounded. Raises ValueError unless all norms are the same ``(p, q)`` with ``p <= q`` (for
    ``p > q`` the maximum is not an upper bound).
    """
    _check_parts("parallel", bs)
    p, q = _common_norm("parallel", bs)
    if isinstance(p, str) or isinstance(q, str):
        if p != q:
            raise ValueError(f"norm: parallel needs equal named norms; got {(p, q)!r}")
    elif p > q:
        raise ValueError(f"norm: the maximum bounds a block-diagonal map only for p <= q; got {(p, q)!r}")
    domains = [b.domain for b in bs]
    domain = WholeSpace() if all(d == WholeSpace() for d in domains) else Product(tuple(domains))
    lower, upper = max(b.lower for b in bs), max(b.upper for b in bs)
    kind = _worst(bs, exact=lower == upper)
    return Bound(lower, upper, (p, q), domain, kind, None, f"maximum over {len(bs)} parallel blocks")


def concat(*bs: Bound) -> Bound:
    """Bound of x -> (f_1 x, f_2 x, ...), outputs side by side: the l_q norm of the constants.

    For q = 2 that is the root of the sum of squares. The lower end is the largest of the lowers. Raises ValueError unless all
    norms and all domains agree and q is a number.
    """
    _check_parts("concat", bs)
    p, q = _common_norm("concat", bs)
    if isinstance(q, str):
        raise ValueError(f"norm: concat needs a numeric output norm; got {q!r}")
    if any(b.domain != bs[0].domain for b in bs):
        raise ValueError(f"domain: concatenated maps share their input, so domains must agree; got {[b.domain for b in bs]!r}")
    if len(bs) == 1:
        return bs[0]
    uppers = [b.upper for b in bs]
    top = max(uppers)
    if q == math.inf or top in (0.0, math.inf):
        upper = top
    else:
        # Each power, sum and root adds at most a few ulps; pow is faithful to within 2.
        upper = round_up(top * math.fsum((u / top) ** q for u in uppers) ** (1 / q), 8 + 4 * math.ceil(q))
    return Bound(max(b.lower for b in bs), upper, (p, q), bs[0].domain, _worst(bs), None, f"l_{q} sum over {len(bs)} outputs")


def residual(b: Bound) -> Bound:
    """Bound of x -> x + f(x): at most ``1 + Lip f``, at least ``|1 - Lip f|`` as far as the bracket knows it.

    Raises ValueError unless input and output norm agree.

    >>> residual(Bound(3, 4)).lower <= 2 <= 5 <= residual(Bound(3, 4)).upper
    True
    """
    _check_parts("residual", (b,))
    if b.norm[0] != b.norm[1]:
        raise ValueError(f"norm: a residual sum needs equal input and output norms; got {b.norm!r}")
    lower = max(0.0, round_down(b.lower - 1.0), round_down(1.0 - b.upper))
    return Bound(lower, round_up(1.0 + b.upper), b.norm, b.domain, _worst((b,)), None, f"1 + upper of the branch ({b.source})")


def _check_parts(name: str, bs: tuple[Bound, ...]) -> None:
    if not bs:
        raise ValueError(f"{name} needs at least one Bound")
    for b in bs:
        if not isinstance(b, Bound):
            raise TypeError(f"{name} combines Bound objects; got {b!r}")
        if b.lower < 0:
            raise ValueError(f"{name} combines Lipschitz constants, which are >= 0; got lower={b.lower!r}")


def _common_norm(name: str, bs: tuple[Bound, ...]) -> tuple[float | str, float | str]:
    if any(b.norm != bs[0].norm for b in bs):
        raise ValueError(f"norm: {name} needs equal norms; got {[b.norm for b in bs]!r}")
    return bs[0].norm


def _worst(bs: tuple[Bound, ...], *, exact: bool = False) -> str:
    """The least trustworthy kind involved; combining widens a bracket, so 'exact' survives only where the caller shows it."""
    worst = max((b.kind for b in bs), key=KINDS.index)
    return "certified" if worst == "exact" and not exact else worst
