"""What the error of a trained predictor is made of: an exact split into four terms."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from limitlib.checks import function, real, returned


@dataclass(frozen=True)
class Decomposition:
    """The excess risk R(f) - R* of a trained predictor f as a sum of four terms; exact, whatever the risks. T4.1.

    optimisation: R_S(f) - R_S(h_S), at least 0. sample: [R(f) - R_S(f)] + [R_S(h_S) - R(h)]; its second bracket is at most 0 in
    the mean over samples, not on every sample. architecture: R(h) - R(h_inf). approximation: R(h_inf) - R*.
    selection: that second bracket alone, the one that pointwise versions of the inequality forget.
    """

    optimisation: float
    architecture: float
    sample: float
    approximation: float
    selection: float

    @property
    def generalisation(self) -> float:
        """The other half of the sample term, R(f) - R_S(f), alone: the one that pointwise versions keep."""
        return self.sample - self.selection

    @property
    def excess(self) -> float:
        """The sum of the four terms, R(f) - R*."""
        return self.optimisation + self.architecture + self.sample + self.approximation


def decompose(
    risk: Callable[[Any], float],
    empirical_risk: Callable[[Any], float],
    *,
    trained: Any,
    minimiser: Any,
    best: Any,
    limit: Any = None,
    optimal_risk: float = 0.0,
) -> Decomposition:
    """Split the excess risk of ``trained`` into optimisation, architecture, sample and approximation.

    risk, empirical_risk: functions of a predictor. minimiser: the empirical minimiser in the class, best: the risk minimiser
    in the class, limit: the best predictor of the infinite architecture (default: ``best``, so that the architecture term is
    0). Raises ValueError if ``minimiser`` or ``best`` is beaten by ``trained`` on its own criterion, since it is then no
    minimiser, and for a risk that is NaN or infinite; TypeError for one that is no real number. Theorem T4.1.
    """
    function("risk", risk)
    function("empirical_risk", empirical_risk)
    reached, fitted = returned("risk(trained)", risk(trained)), returned("empirical_risk(trained)", empirical_risk(trained))
    least, top = returned("empirical_risk(minimiser)", empirical_risk(minimiser)), returned("risk(best)", risk(best))
    roof = top if limit is None else returned("risk(limit)", risk(limit))
    gap, optimal_risk = reached - fitted, real("optimal_risk", optimal_risk)
    if fitted < least:
        raise ValueError(f"minimiser has the empirical risk {least!r}, trained has {fitted!r}: give the empirical minimiser")
    if reached < top or returned("risk(minimiser)", risk(minimiser)) < top:
        raise ValueError(f"best has the risk {top!r}, and another predictor of the class has less: give the risk minimiser")
    selection = least - top
    return Decomposition(fitted - least, top - roof, gap + selection, roof - optimal_risk, selection)
