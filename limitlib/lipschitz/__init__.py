"""Constants of maps and of the blocks of a network: what is exact, what is an upper bound, what was merely attained."""

from limitlib.lipschitz.activations import slope_range, value_range
from limitlib.lipschitz.ascent import Pair, ascent_lower
from limitlib.lipschitz.attention import attention_bound
from limitlib.lipschitz.averaged import ConvexPotentialLayer, averaged_composition, dahlquist_constant, relu
from limitlib.lipschitz.feedforward import gated_mlp_bound, mlp_bound
from limitlib.lipschitz.layers import layer_bound
from limitlib.lipschitz.metrics import adapted_distance, adapted_factor, separated_set
from limitlib.lipschitz.modules import BlockBound, audit, lipschitz
from limitlib.lipschitz.regions import NormShells
from limitlib.lipschitz.relu_regions import LinearRegion, relu_exact
from limitlib.lipschitz.semidefinite import Multipliers, sdp_upper
from limitlib.lipschitz.stacks import block_map, entering_norms, find_blocks
from limitlib.lipschitz.walker import UnsupportedLayer

__all__ = [
    "BlockBound",
    "ConvexPotentialLayer",
    "LinearRegion",
    "Multipliers",
    "NormShells",
    "Pair",
    "UnsupportedLayer",
    "adapted_distance",
    "adapted_factor",
    "ascent_lower",
    "attention_bound",
    "audit",
    "averaged_composition",
    "block_map",
    "dahlquist_constant",
    "entering_norms",
    "find_blocks",
    "gated_mlp_bound",
    "layer_bound",
    "lipschitz",
    "mlp_bound",
    "relu",
    "relu_exact",
    "sdp_upper",
    "separated_set",
    "slope_range",
    "value_range",
]

for _name in __all__:  # one public address, limitlib.lipschitz, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
