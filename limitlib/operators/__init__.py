"""Linear algebra of one operator: norms of matrices and convolutions, Jacobians of maps, the top curvature of a loss.

Every result says which side of the truth it is on: an attained value is a lower bound, a factorisation certifies an upper one.
"""

from limitlib.operators.curvature import Sharpness, sharpness
from limitlib.operators.jacobians import JacobianSpectrum, jacobian, jacobian_singular_values, pair_ratios

__all__ = [
    "JacobianSpectrum",
    "Sharpness",
    "jacobian",
    "jacobian_singular_values",
    "pair_ratios",
    "sharpness",
]

for _name in __all__:  # one public address, limitlib.operators, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
