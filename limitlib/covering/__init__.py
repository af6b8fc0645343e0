"""Covering and packing: counts from both sides, the farthest-point order, closed forms, and what entropy bounds.

Entropies are natural logarithms (nats). A count says which convention it follows, and holds its witnesses.
"""

from limitlib.covering.chaining import (
    Interval,
    allocate,
    best_chain,
    chaining_bound,
    dudley_integral,
    linear_rademacher,
    margin_bound,
    spectral_complexity,
    stack_entropy,
)
from limitlib.covering.closed_forms import covering_bound, lipschitz_net
from limitlib.covering.counts import Profile, covering_number, entropy_profile, packing_number
from limitlib.covering.dimension import intrinsic_dimension
from limitlib.covering.greedy import GreedyOrder, greedy_order

__all__ = [
    "GreedyOrder",
    "Interval",
    "Profile",
    "allocate",
    "best_chain",
    "chaining_bound",
    "covering_bound",
    "covering_number",
    "dudley_integral",
    "entropy_profile",
    "greedy_order",
    "intrinsic_dimension",
    "linear_rademacher",
    "lipschitz_net",
    "margin_bound",
    "packing_number",
    "spectral_complexity",
    "stack_entropy",
]

for _name in __all__:  # one public address, limitlib.covering, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
