"""Constants of maps and of the blocks of a network: what is exact, what is an upper bound, what was merely attained."""

from limitlib.lipschitz.averaged import ConvexPotentialLayer, averaged_composition, dahlquist_constant, relu
from limitlib.lipschitz.metrics import adapted_distance, adapted_factor, separated_set

__all__ = [
    "ConvexPotentialLayer",
    "adapted_distance",
    "adapted_factor",
    "averaged_composition",
    "dahlquist_constant",
    "relu",
    "separated_set",
]

for _name in __all__:  # one public address, limitlib.lipschitz, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
