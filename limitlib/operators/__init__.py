"""Linear algebra of one operator: norms of matrices and convolutions, Jacobians of maps, the top curvature of a loss.

Every result says which side of the truth it is on: an attained value is a lower bound, a factorisation certifies an upper one.
"""

from limitlib.operators.convolutions import conv_norm
from limitlib.operators.curvature import Sharpness, sharpness
from limitlib.operators.jacobians import (
    JacobianNorms,
    JacobianRms,
    JacobianSpectrum,
    jacobian,
    jacobian_norm,
    jacobian_rms,
    jacobian_singular_values,
    pair_ratios,
)
from limitlib.operators.matrices import operator_norm

__all__ = [
    "JacobianNorms",
    "JacobianRms",
    "JacobianSpectrum",
    "Sharpness",
    "conv_norm",
    "jacobian",
    "jacobian_norm",
    "jacobian_rms",
    "jacobian_singular_values",
    "operator_norm",
    "pair_ratios",
    "sharpness",
]

for _name in __all__:  # one public address, limitlib.operators, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
