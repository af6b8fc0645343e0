"""The report of a fit: what it rests on, what it says, what to beware of; exponents only beside a complete checklist."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from limitlib import checks
from limitlib.scaling.checklist import NOT_STATED, QUESTIONS, Checklist, IncompleteChecklist
from limitlib.scaling.comparison import Comparison, SpecCurve, aligned
from limitlib.scaling.fitting import Bootstrap, Fit
from limitlib.scaling.flags import Flag, flags, undetermined, vanishing
from limitlib.scaling.objectives import Weighted
from limitlib.scaling.quantities import has_allocation, percent, value_of

if TYPE_CHECKING:
    from limitlib.scaling.frontier import FitFrontier
    from limitlib.scaling.profiles import Identifiability

Array = NDArray[np.float64]

#: How the optimum is found, for the checklist.
OPTIMISER = (
    "variable projection on a grid of exponents, then Newton with exact Hessians and a majorising step, from several starts; "
    "no bounds but positive amplitudes, no tolerance to tune"
)


@dataclass(frozen=True)
class Quality:
    """How closely the law follows its own rows; residuals are of ln loss (``unit``), or of the loss on the raw scale."""

    unit: str
    median: float
    rms: float
    largest: float
    largest_row: int
    explained: float


@dataclass(frozen=True)
class Prediction:
    """A loss at a point, with an interval if there is one. method: how the interval was made. kind: an estimate."""

    at: Mapping[str, float]
    loss: float
    interval: tuple[float, float] | None = None
    method: str = ""
    level: float = 0.95
    kind: str = "estimate"


@dataclass(frozen=True, eq=False)
class Report:
    """A fit with everything that a reader must know; made by :func:`report`. kind: estimates.

    withheld: exponents and amplitudes are left out of ``table`` and ``to_dict``; answers: to the questions of the checklist,
    missing: questions without one; facts: what the fit knows of itself; flags: warnings by name.
    """

    fit: Fit
    answers: Mapping[str, str]
    missing: tuple[str, ...]
    facts: Mapping[str, str]
    flags: tuple[Flag, ...]
    quality: Quality
    withheld: bool
    level: float = 0.95
    boot: Bootstrap | None = None
    identified: Identifiability | None = None
    frontier: FitFrontier | None = None
    predictions: tuple[Prediction, ...] = ()
    backtest: Any = None
    comparison: Comparison | None = None
    specifications: SpecCurve | None = None
    notes: tuple[str, ...] = ()
    kind: str = "estimate"

    @cached_property
    def parameters(self) -> tuple[dict[str, Any], ...]:
        """One entry a parameter: value, standard error, bootstrap and profile interval; None where withheld or undetermined."""
        found: list[dict[str, Any]] = []
        loose = undetermined(self.fit)
        for name, value in self.fit.parameters.items():
            shown = not self.withheld or name == self.fit.law.floor
            entry: dict[str, Any] = {"name": name, "value": value if shown else None}
            if name in loose:  # its term is 0, so that it could be anything
                found.append({"name": name, "value": None, "shape": "not determined"})
                continue
            if self.boot is not None:
                low, high = self.boot.interval(name, self.level)
                low = 0.0 if name == self.fit.law.floor and low < vanishing(self.fit) else low
                entry["bootstrap"] = (low, high) if shown else None
            if self.identified is not None:
                profile = self.identified.profiles[name]
                known = shown and profile.shape != "at the boundary"
                entry["profile"] = (profile.lower, profile.upper) if known else None
                entry["shape"] = profile.shape
                coordinate = name if name in self.identified.standard_errors else f"ln {name}"
                error = self.identified.standard_errors.get(coordinate)
                entry["standard_error"] = {"of": coordinate, "value": error} if shown and error is not None else None
            found.append(entry)
        if has_allocation(self.fit.law) and not loose:
            a: dict[str, Any] = {"name": "a", "value": None if self.withheld else value_of(self.fit)}
            if self.boot is not None and not self.withheld:
                from limitlib.scaling.fitting import quantiles
                from limitlib.scaling.quantities import draws_of

                a["bootstrap"] = quantiles(draws_of(self.fit, self.boot.theta), self.level)
            found.append(a)
        return tuple(found)

    @property
    def findings(self) -> tuple[str, ...]:
        """What the runs determine, in words; without values where those are withheld."""
        if self.identified is None:
            return ()
        said = self.identified.words()
        if not self.withheld:
            return said
        return tuple(s.split(":")[0] + "." if "bounded on one side" in s else s for s in said)

    def lines(self) -> list[tuple[str, list[str]]]:
        """The report as titled groups of lines."""
        f, c = self.fit, self.fit.certificate
        sound = "positive: a minimum" if c.hessian_eigenvalues and c.hessian_eigenvalues[0] > 0 else "not positive"
        least = f"{c.hessian_eigenvalues[0]:.2g} ({sound})" if c.hessian_eigenvalues else "none, nothing is free"
        parts = [("Runs", [f"{k}: {v}" for k, v in self.facts.items() if k in ("source", "rows", "ranges")]),
                 ("Optimum", [
                     f"objective {c.value:.10g}, {f.objective.describe()}",
                     f"the same in extended precision {c.value_high_precision:.10g}",
                     f"gradient {c.gradient_norm:.1e}, least eigenvalue of the scaled Hessian {least}",
                     f"{percent(c.share_agreeing)} of {c.starts} independent starts end there"
                     + (f"; {percent(c.unfinished)} were given up above it" if c.unfinished else ""),
                 ])]  # fmt: skip
        parts.append(("Parameters", self._parameter_lines()))
        if self.findings:
            parts.append(("What the runs determine", list(self.findings)))
        q = self.quality
        parts.append(("Fit quality", [
            f"residuals of {q.unit}: median {self._size(q.median)}, root mean square {self._size(q.rms)}, largest "
            f"{self._size(q.largest)} (row {q.largest_row}); {percent(q.explained, 2)} of the variance explained",
        ]))  # fmt: skip
        if self.frontier is not None:
            parts.append((f"Compute-optimal frontier ({self.frontier.method})", self._frontier_lines()))
        if self.predictions:
            parts.append(("Predictions", self._prediction_lines()))
        if self.backtest is not None:
            parts.append(("Back-test: fitted below a budget, scored above", self._backtest_lines()))
        if self.comparison is not None:
            parts.append(("Other laws", [*self.comparison.table().splitlines(), *self.comparison.words().splitlines()]))
        if self.specifications is not None and not self.withheld:
            parts.append(("Other choices", [self.specifications.words(), *self.specifications.table().splitlines()]))
        parts.append(("Warnings", [f"{g.name}: {g.text}" for g in self.flags] or ["none"]))
        parts.append(("Notes", [*(n for n in self.fit.runs.notes if not n.startswith("warning: ")), *self.notes]))
        told = [f"{key}: {self.answers[key]}" for key in QUESTIONS if key in self.answers]
        told += [f"{key}: no answer yet" for key in self.missing]
        parts.append(("Checklist", [*told, *(f"{k}: {v}" for k, v in self.facts.items())]))
        return [(title, lines) for title, lines in parts if lines]

    def table(self) -> str:
        """The report as text."""
        head = f"{self.fit.law.name}: {self.fit.law.formula}"
        body = "\n\n".join(f"{title}\n" + "\n".join(indented(line) for line in lines) for title, lines in self.lines())
        return f"{head}\n\n{body}\n"

    def to_dict(self) -> dict[str, Any]:
        """For JSON: numbers, None where something is withheld or unknown, "inf" where nothing bounds it."""
        law, c = self.fit.law, self.fit.certificate
        found: dict[str, Any] = {
            "law": {"name": law.name, "formula": law.formula, "source": law.source, "gauge": law.gauge},
            "withheld": self.withheld, "kind": self.kind, "level": self.level, "parameters": list(self.parameters),
            "certificate": {**vars(c)}, "quality": vars(self.quality), "flags": [vars(g) for g in self.flags],
            "findings": list(self.findings), "facts": dict(self.facts), "checklist": dict(self.answers),
            "missing": list(self.missing),
            "predictions": [vars(p) for p in self.predictions], "runs": self.fit.runs.summary(),
            "notes": [*self.fit.runs.notes, *self.notes],
        }  # fmt: skip
        if self.boot is not None:
            found["bootstrap"] = {"resamples": len(self.boot.f), "runs": self.boot.clusters,
                                  "converged": float(self.boot.converged.mean())}  # fmt: skip
        if self.frontier is not None:
            found["frontier"] = {k: v for k, v in vars(self.frontier).items() if not (self.withheld and "exponent" in k)}
        if self.backtest is not None:
            found["backtest"] = self.backtest.summary()
        if self.comparison is not None:
            found["comparison"] = self.comparison.to_dict()
        if self.specifications is not None and not self.withheld:
            found["specifications"] = self.specifications.to_dict()
        return dict(plain(found))

    def dumps(self) -> str:
        """JSON text."""
        return json.dumps(self.to_dict(), indent=1, allow_nan=False)

    # -------------------------------------------------------------------------------------------------------------- pieces

    def _size(self, value: float) -> str:
        return f"{100 * value:.3g} %" if self.quality.unit == "ln loss" else f"{value:.3g}"

    def _parameter_lines(self) -> list[str]:
        sure = percent(self.level)
        rows = [["", "value", f"{sure} bootstrap", f"{sure} profile", "shape", "standard error"]]
        for entry in self.parameters:
            if entry["value"] is None:
                word = "-" if entry.get("shape") == "not determined" else "withheld"
                rows.append([entry["name"], word, "", "", entry.get("shape", ""), ""])
                continue
            error = entry.get("standard_error")
            rows.append([
                entry["name"], f"{entry['value']:.5g}", ends(entry.get("bootstrap")), ends(entry.get("profile")),
                entry.get("shape", ""), f"{error['value']:.2g} of {error['of']}" if error else "",
            ])  # fmt: skip
        keep = [k for k in range(len(rows[0])) if k < 2 or any(r[k] for r in rows[1:])]
        lines = aligned([[r[k] for k in keep] for r in rows]).splitlines()
        if any(entry["name"] == "a" for entry in self.parameters):
            lines.append("a: the compute-optimal size grows as C^a under C = 6 N P")
        if self.withheld:
            lines.append(f"{len(self.missing)} answers of the checklist are missing: {', '.join(self.missing)}")
        return lines

    def _frontier_lines(self) -> list[str]:
        f = self.frontier
        assert f is not None
        rows = [["budget C", "times largest", "P*", "N*", "N*/P*", "loss"]]
        for k in range(len(f.C)):
            ratio = f"{f.ratio[k]:.3g}"
            loss = f"{f.loss[k]:.4f}"
            size, data = f"{f.P[k]:.3g}", f"{f.N[k]:.3g}"
            if f.P_interval is not None and f.N_interval is not None:
                assert f.ratio_interval is not None and f.loss_interval is not None
                size, data = f"{size} ({ends(f.P_interval[:, k], 3)})", f"{data} ({ends(f.N_interval[:, k], 3)})"
                ratio, loss = f"{ratio} ({ends(f.ratio_interval[:, k], 3)})", f"{loss} ({ends(f.loss_interval[:, k], 5)})"
            rows.append([f"{f.C[k]:.3g}", f"{f.beyond[k]:.3g}", size, data, ratio, loss])
        said = aligned(rows).splitlines()
        if f.P_interval is not None:
            said.append(f"in brackets: {percent(f.level)} bootstrap intervals; the error of the law itself is not in them")
        return said

    def _prediction_lines(self) -> list[str]:
        rows = [["at", "loss", "interval", ""]]
        for p in self.predictions:
            at = ", ".join(f"{k}={v:.3g}" for k, v in p.at.items())
            interval = "" if p.interval is None else f"{p.interval[0]:.4f} to {p.interval[1]:.4f} ({percent(p.level)})"
            rows.append([at, f"{p.loss:.4f}", interval, p.method])
        keep = [k for k in range(4) if k < 2 or any(r[k] for r in rows[1:])]
        return aligned([[r[k] for k in keep] for r in rows]).splitlines()

    def _backtest_lines(self) -> list[str]:
        b = self.backtest
        sure = percent(b.level)
        rows = [["", "median error", "rms error", f"in {sure} calibrated", f"in {sure} naive", "width", "naive width"]]
        for name, s in b.scores.items():
            rows.append([name, percent(s.median_error, 2), percent(s.rms_error, 2), percent(s.coverage),
                         percent(s.naive_coverage), percent(s.width, 2), percent(s.naive_width, 2)])  # fmt: skip
        where = ", ".join(f"{c:.3g}" for c in b.cuts)
        return [*aligned(rows).splitlines(), f"{len(b.cuts)} cuts in {b.by}: {where}", *b.notes]


def report(
    fit: Fit, checklist: Checklist | None = None, *, exponents: bool = True, boot: Bootstrap | None = None,
    identify: bool = True, influence: bool = True, frontier: FitFrontier | None = None, predictions: Sequence[Prediction] = (),
    backtest: Any = None, comparison: Comparison | None = None, specifications: SpecCurve | None = None,
    chance: float | None = None, level: float = 0.95, notes: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> Report:  # fmt: skip
    """Put a fit together with its evidence, its checklist and its warnings.

    checklist: the answers that only the author of the runs has. With ``exponents=False`` none is needed, and the report leaves
    out every exponent and amplitude. boot, frontier, predictions, backtest, comparison, specifications: what was computed of
    this fit; a back-test or comparison answers the question ``validation``. identify: profile intervals and flat directions
    (slow beyond some 20,000 rows). influence: refit without each run, and compare with the standard error of ``boot``.
    chance: the score of guessing, for laws of downstream scores.

    Raises IncompleteChecklist, listing what is missing, if exponents are asked for and an answer is.
    """
    if not isinstance(fit, Fit):
        raise TypeError(f"fit={fit!r} must be a fit, law('chinchilla').fit(runs)")
    if checklist is not None and not isinstance(checklist, Checklist):
        raise TypeError(f"checklist={checklist!r} must be a Checklist(parameters='non-embedding', ...)")
    checks.flag("exponents", exponents)
    about = Checklist() if checklist is None else checklist
    known = known_answers(fit, backtest, comparison)
    missing = about.missing(known)
    if exponents and missing:
        raise IncompleteChecklist(missing)
    if progress and identify:
        progress(0, 1, "profiles")
    spare = fit.runs.n_runs > fit.law.p  # without, profiles and standard errors would come out as 0
    identified = fit.identify(level=level) if identify and spare else None
    if progress and influence and boot is not None:
        progress(0, 1, "leaving out one run after the other")
    raised = flags(fit, boot, identified, frontier, predictions, chance, hide=not exponents, influence=influence)
    return Report(
        fit, about.answers(known), missing, facts_of(fit), raised, quality_of(fit), not exponents, level, boot, identified,
        frontier, tuple(predictions), backtest, comparison, specifications, tuple(notes),
    )  # fmt: skip


def known_answers(fit: Fit, backtest: Any = None, comparison: Comparison | None = None) -> dict[str, str]:
    """Answers of the checklist that the table or the computation gives."""
    runs, known = fit.runs, {}
    if runs.counting:
        known["parameters"] = runs.counting
    if runs.labels.get("C") == "6 N P":
        known["flops"] = "6 N P"
    if runs.tokenizers:
        known["tokenizer"] = ", ".join(runs.tokenizers)
    if runs.annealed is not None:
        share = float(np.mean(runs.annealed))
        known["schedule"] = "every point is annealed" if share == 1 else f"{percent(share)} of the points are annealed"
    if backtest is not None:
        s = backtest.score
        cuts = f"rolling back-test, {len(backtest.cuts)} cuts in {backtest.by}"
        covered = f"{percent(s.coverage)} of held-out rows in {percent(backtest.level)} intervals"
        known["validation"] = f"{cuts}: median error {percent(s.median_error, 2)}, {covered}"
    elif comparison is not None:
        own = next((e for e in comparison.entries if e.law.formula == fit.law.formula), comparison.best)
        size = f"{comparison.score} error {own.score:.3g} of {comparison.unit} by {own.name}"
        best = f"; the best of {len(comparison.entries)} laws is {comparison.best.name}"
        known["validation"] = f"held out: {comparison.split}; {size}{best}"
    return known


def facts_of(fit: Fit) -> dict[str, str]:
    """The parts of the checklist that a fit knows of itself."""
    runs, law, c = fit.runs, fit.law, fit.certificate
    ranges = [f"{k} {v.min():.3g} to {v.max():.3g}" for k, v in {**runs.columns, "loss": runs.loss}.items()]
    weights = "none" if (np.asarray(runs.weight) == 1).all() else "a column of the table"
    if isinstance(fit.objective, Weighted):
        weights = fit.objective.describe().partition("weighted by ")[2]
    optimum = "certified minimum" if c.converged else "NOT certified"
    found = {
        "form": f"{law.formula}; fitted: {', '.join(law.parameters)}" + f" ({law.source})" * bool(law.source),
        "rows": f"{len(runs)} of {runs.n_runs} runs",
        "ranges": f"{', '.join(ranges)} {runs.unit}",
        "objective": fit.objective.describe(),
        "reduction": "sum over rows",
        "weights": weights,
        "optimiser": OPTIMISER,
        "optimum": f"{optimum}: gradient {c.gradient_norm:.1e}, {percent(c.share_agreeing)} of {c.starts} starts agree",
    }  # fmt: skip
    if runs.source is not None:
        found = {"source": f"{runs.source.file}, sha256 {runs.source.sha256}"} | found
    if law.gauge:
        found["gauge"] = law.gauge
    return found


def quality_of(fit: Fit) -> Quality:
    """Residuals of a fit on its own rows."""
    residuals = fit.residuals
    size, weight = np.abs(residuals), np.asarray(fit.runs.weight)
    log = fit.problem.objective.scale == "log"
    y = np.log(fit.runs.loss) if log else fit.runs.loss
    total = float(weight @ (y - np.average(y, weights=weight)) ** 2)
    rest = float(weight @ residuals**2)
    worst = int(np.argmax(size))
    return Quality(
        "ln loss" if log else "loss", float(np.median(size)), float(np.sqrt(rest / weight.sum())), float(size[worst]),
        int(fit.runs.rows[worst]), 1 - rest / total if total > 0 else float("nan"),
    )  # fmt: skip


def indented(line: str) -> str:
    """A line of a table as it is, a sentence wrapped."""
    if "  " in line.strip():
        return f"  {line}"
    return "\n".join(textwrap.wrap(line, 112, initial_indent="  ", subsequent_indent="    ", break_on_hyphens=False))


def ends(interval: Any, digits: int = 4) -> str:
    """An interval in words; nothing where an end is not known."""
    return "" if interval is None or np.isnan(interval).any() else f"{interval[0]:.{digits}g} to {interval[1]:.{digits}g}"


def plain(value: Any) -> Any:
    """For JSON: arrays become lists, nan None, infinities the words "inf" and "-inf"."""
    if isinstance(value, Mapping):
        return {str(k): plain(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [plain(v) for v in value]
    if isinstance(value, np.ndarray):
        return [plain(v) for v in value.tolist()]
    if isinstance(value, bool | np.bool_):
        return bool(value)
    if isinstance(value, int | np.integer):
        return int(value)
    if isinstance(value, float | np.floating):
        return float(value) if np.isfinite(value) else None if np.isnan(value) else str(float(value))
    return value


__all__ = ["NOT_STATED", "Checklist", "Flag", "IncompleteChecklist", "Prediction", "Quality", "Report", "report"]
