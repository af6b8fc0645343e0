"""Iterating operators: fixed points with honest certificates, inexact orbits, infinite products, tight rates, finite width.

A small residual ``|T x - x|`` says nothing about the distance to a fixed point, nor that one exists. A distance is certified
only from a contraction factor that the caller has proved. Everything else is reported in words, in the status of each item.
"""

from limitlib.iteration.fixed_points import FixedPoint, History, Rate, iterate
from limitlib.iteration.orbits import Orbit, inexact_orbit, perturbed_error, residual_bound
from limitlib.iteration.products import ProductLimit, asymptotic_lipschitz_radius, infinite_product
from limitlib.iteration.truncation import (
    TruncatedOrbit,
    rank_one_truncation_error,
    residual_truncation_bound,
    truncated_orbit,
    truncation_bound,
)
from limitlib.iteration.witnesses import WorstRotation, rotation_residual, shift_residual

__all__ = [
    "FixedPoint",
    "History",
    "Orbit",
    "ProductLimit",
    "Rate",
    "TruncatedOrbit",
    "WorstRotation",
    "asymptotic_lipschitz_radius",
    "inexact_orbit",
    "infinite_product",
    "iterate",
    "perturbed_error",
    "rank_one_truncation_error",
    "residual_bound",
    "residual_truncation_bound",
    "rotation_residual",
    "shift_residual",
    "truncated_orbit",
    "truncation_bound",
]

for _name in __all__:  # one public address, limitlib.iteration, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
