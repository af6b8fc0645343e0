"""The performance function E(N, P, K): N samples, size P, K steps. Limits, what an error is made of, and solvable models.

E is always an error: smaller is better. N, P and K are the paper's letters (data, size, steps).
"""

from limitlib.performance.decomposition import Decomposition, decompose
from limitlib.performance.error_bound import ErrorBound, collapse_depth, injected_bound, pl_bound, untied_entropy
from limitlib.performance.limits import PathLimit, iterated_limit, judge, limit_along, monotone_envelope
from limitlib.performance.power_law import Exponents, Frontier, PowerLawModel, Prefactors, variance_constant
from limitlib.performance.regression import (
    Equivalent,
    least_squares_risk,
    one_pass_sgd_risk,
    random_features_risk,
    ridge_risk,
    sgd_step_limit,
    why_least_squares_infinite,
    why_sgd_diverges,
)
from limitlib.performance.simulation import (
    Simulated,
    gradient_descent_risk,
    simulate_one_pass_sgd,
    simulate_ridge,
    simulate_sequence_model,
)
from limitlib.performance.spectral import DecayLaw, PowerLawMass, SpectralMeasure

__all__ = [
    "DecayLaw",
    "Decomposition",
    "Equivalent",
    "ErrorBound",
    "Exponents",
    "Frontier",
    "PathLimit",
    "PowerLawMass",
    "PowerLawModel",
    "Prefactors",
    "Simulated",
    "SpectralMeasure",
    "collapse_depth",
    "decompose",
    "gradient_descent_risk",
    "injected_bound",
    "iterated_limit",
    "judge",
    "least_squares_risk",
    "limit_along",
    "monotone_envelope",
    "one_pass_sgd_risk",
    "pl_bound",
    "random_features_risk",
    "ridge_risk",
    "sgd_step_limit",
    "simulate_one_pass_sgd",
    "simulate_ridge",
    "simulate_sequence_model",
    "untied_entropy",
    "variance_constant",
    "why_least_squares_infinite",
    "why_sgd_diverges",
]

for _name in __all__:  # one public address, limitlib.performance, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
