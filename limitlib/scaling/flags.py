"""What to beware of in a fit, each warning by a name."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limitlib.scaling.fitting import Bootstrap, Fit
from limitlib.scaling.quantities import draws_of, exponent_of, has_allocation, left_out, percent, spread_of, value_of

if TYPE_CHECKING:
    from limitlib.scaling.frontier import FitFrontier
    from limitlib.scaling.profiles import Identifiability

#: Least and largest published exponent with which a cross-entropy falls in parameters P, data N and compute C, and how many
#: there are. From the 137 rows (24 papers) of Epoch AI's table of scaling laws as distributed with Michaud et al. 2023 (MIT;
#: credit Villalobos 2023): rows whose dependent variable is the loss and whose loss begins with "Cross-entropy"; exponent 1
#: belongs to scaling variable 1, exponent 2 to 2. Rows of one paper are not independent, and forms with and without a floor
#: stand side by side, so the range says "seen before", not "right".
PLAUSIBLE = {"P": (0.037, 1.01), "N": (0.095, 0.56), "C": (0.048, 0.19)}
PLAUSIBLE_COUNT = {"P": 22, "N": 9, "C": 11}
PLAUSIBLE_SOURCE = "Epoch AI's table of published scaling laws (Villalobos 2023), as distributed with Michaud et al. 2023"

#: A point lies far out if it is beyond so many times the range of the runs, in logarithms.
FAR = 3.0
#: A share of resamples that is not worth a warning.
RARE = 0.01
#: A term with less than this share of the loss is absent.
ABSENT = 1e-6
#: Fewer agreeing starts than this are worth a warning.
FEW_AGREE = 0.1
#: A score this close to chance says nothing, if the number of its items is not known (relative to 1 - chance).
NEAR_CHANCE = 0.02
#: Runs for each parameter below which a fit is small.
SMALL = 3


@dataclass(frozen=True)
class Flag:
    """A warning: its name, and what it is about."""

    name: str
    text: str


def flags(
    fit: Fit, boot: Bootstrap | None = None, identified: Identifiability | None = None, frontier: FitFrontier | None = None,
    predictions: Sequence[Any] = (), chance: float | None = None, *, hide: bool = False, influence: bool = True,
) -> tuple[Flag, ...]:  # fmt: skip
    """All warnings about a fit; hide: without the values of exponents; influence: refit without each run (needs ``boot``).

    Names: not converged, starts disagree, boundary, bootstrap, not identified, one-sided, implausible exponent, influential
    run, far extrapolation, no optimum, chance, few runs, no spare runs, checkpoints, and those of the table of runs
    (unannealed, near-duplicates, ...).
    """
    return (
        *_table(fit), *_optimum(fit), *_resampled(fit, boot), *_identified(identified, hide), *_plausible(fit, hide),
        *_influence(fit, boot if influence else None, hide), *_far(fit, frontier, predictions), *_chance(fit, chance),
    )  # fmt: skip


def _table(fit: Fit) -> Iterator[Flag]:
    for warning in fit.runs.warnings:
        name, _, text = warning.partition(": ")
        yield Flag(name, text)
    for note in fit.runs.notes:
        if note.startswith("warning: "):
            yield Flag("checkpoints", note.removeprefix("warning: "))
    if fit.runs.n_runs <= fit.law.p:
        yield Flag("no spare runs", f"{fit.runs.n_runs} runs for {fit.law.p} parameters leave nothing to judge the law or its "
                   "errors by: no interval here means anything; add runs, or fit a law with fewer parameters")  # fmt: skip
    elif fit.runs.n_runs < SMALL * fit.law.p:
        yield Flag("few runs", f"{fit.runs.n_runs} runs for {fit.law.p} parameters; intervals of so few are optimistic")


def _optimum(fit: Fit) -> Iterator[Flag]:
    c = fit.certificate
    if not c.converged:
        yield Flag("not converged", "no start reached a certified minimum; the parameters are of the best point found")
    if c.share_agreeing < FEW_AGREE:
        share = f"only {percent(c.share_agreeing)} of {c.starts} starts end at the best optimum"
        yield Flag("starts disagree", f"{share}; there may be a better one")
    for name in c.boundary:
        floor = name == fit.law.floor
        what = "the runs do not show where the loss levels off" if floor else "the runs show no such term"
        yield Flag("boundary", f"{name} = 0 is the optimum: {what}")
    for name in sorted(undetermined(fit)):
        yield Flag("not identified", f"{name} could be anything, since its term is 0")


def vanishing(fit: Fit) -> float:
    """A floor below this share of the smallest loss is none: its optimum lies at 0."""
    return ABSENT * float(fit.runs.loss.min())


def undetermined(fit: Fit) -> frozenset[str]:
    """Exponents of terms that came out as 0."""
    return frozenset(n for k, n in enumerate(fit.law.parameters) if not fit.free[k] and n not in fit.certificate.boundary)


def _resampled(fit: Fit, boot: Bootstrap | None) -> Iterator[Flag]:
    if boot is None:
        return
    floor, total = fit.law.floor, len(boot.f)
    gone = boot.parameters[floor] < vanishing(fit) if floor else np.zeros(total, bool)
    if gone.mean() > RARE and floor not in fit.certificate.boundary:
        many = f"{floor} vanishes in {int(gone.sum())} of {total} resamples"
        yield Flag("boundary", f"{many}: the runs hardly show where the loss levels off")
    if lost := int((~boot.converged & ~gone).sum()):
        yield Flag("bootstrap", f"{lost} of {total} resamples stopped before their optimum")


def _identified(identified: Identifiability | None, hide: bool) -> Iterator[Flag]:
    if identified is None:
        return
    for direction in identified.flat:
        yield Flag("not identified", f"{direction} is not determined by these runs")
    for p in identified.profiles.values():
        if p.shape == "flat":
            yield Flag("not identified", f"{p.name} is not bounded on either side by these runs")
        elif p.shape == "one-sided":
            end = f"at most {p.upper:.4g}" if np.isfinite(p.upper) else f"at least {p.lower:.4g}"
            yield Flag("one-sided", f"{p.name} is bounded on one side only" + ("" if hide else f": {end}"))


def _plausible(fit: Fit, hide: bool) -> Iterator[Flag]:
    if not fit.runs.unit.startswith("nats/"):
        return
    for variable, (least, most) in PLAUSIBLE.items():
        name = exponent_of(fit.law, variable) if variable in fit.law.variables else None
        if name is not None and name not in undetermined(fit) and not least <= fit.parameters[name] <= most:
            value = "" if hide else f" = {fit.parameters[name]:.3g}"
            yield Flag(
                "implausible exponent",
                f"{name}{value}, the exponent of {variable}, is outside of {least:g} to {most:g}, the range of "
                f"{PLAUSIBLE_COUNT[variable]} exponents of {variable} in {PLAUSIBLE_SOURCE}",
            )


def _influence(fit: Fit, boot: Bootstrap | None, hide: bool) -> Iterator[Flag]:
    """Runs whose absence moves an exponent by more than a standard error of the bootstrap."""
    if boot is None:
        return
    loose = undetermined(fit)
    wanted = [n for n in dict.fromkeys(exponent_of(fit.law, v) for v in fit.law.variables) if n and n not in loose]
    wanted += ["a"] * (has_allocation(fit.law) and len(wanted) == 2)
    if not wanted:
        return
    runs, theta, of = left_out(fit)
    for quantity in wanted:
        error = spread_of(boot, quantity)
        if not error > 0:  # one resample, or exact data: no standard error to compare with
            continue
        moved = draws_of(fit, theta, quantity) - value_of(fit, quantity)
        beyond = np.flatnonzero(np.abs(moved) > error)
        if not beyond.size:
            continue
        k = int(beyond[np.argmax(np.abs(moved[beyond]))])
        size = f"{abs(moved[k]) / error:.1f} standard errors" + ("" if hide else f" ({moved[k]:+.3g})")
        more = f"; so do {len(beyond) - 1} others" if len(beyond) > 1 else ""
        tried = "" if len(runs) == of else f" ({len(runs)} of {of} runs were tried)"
        yield Flag("influential run", f"without run {runs[k]}, {quantity} moves by {size}{more}{tried}")


def _far(fit: Fit, frontier: FitFrontier | None, predictions: Sequence[Any]) -> Iterator[Flag]:
    points = [dict(p.at) for p in predictions]
    if frontier is not None:
        points += [{"C": float(c)} for c in frontier.C]
        if frontier.share_without > 0:
            share = f"{percent(frontier.share_without, 1)} of the resamples have no compute-optimal size"
            yield Flag("no optimum", f"{share} and are left out of its intervals")
    worst: dict[str, tuple[float, float]] = {}
    for point in points:
        for name, value in point.items():
            reached = reach(fit.runs.columns, name, value)
            if reached > worst.get(name, (FAR, 0.0))[0]:
                worst[name] = reached, value
    for name, (reached, value) in worst.items():
        low, high = fit.runs.columns[name].min(), fit.runs.columns[name].max()
        yield Flag(
            "far extrapolation",
            f"{name} = {value:.3g} lies {reached:.1f} times the range of the runs away ({low:.3g} to {high:.3g}, in logs), "
            "and no interval here knows the error of the law that far out",
        )


def reach(columns: Mapping[str, NDArray[np.float64]], name: str, value: float) -> float:
    """How far a value lies from the farther end of the runs' range, in units of that range, in logarithms: 1 at the ends."""
    values = columns.get(name)
    if values is None or values.min() <= 0 or value <= 0 or values.min() == values.max():
        return 0.0
    low, high = np.log(values.min()), np.log(values.max())
    return float(max(np.log(value) - low, high - np.log(value)) / (high - low))


def _chance(fit: Fit, chance: float | None) -> Iterator[Flag]:
    if chance is None:
        return
    margin = NEAR_CHANCE * (1 - chance)
    near = np.abs(fit.runs.loss - chance) <= margin
    if near.any():
        count = f"{int(near.sum())} of {len(near)} scores lie within {margin:.3g} of chance, {chance:g}"
        yield Flag("chance", f"{count}; such points carry no information on the law")
