"""Networks of the book: batched ensembles of them in ``ensembles``, and linear attention that descends in its context."""

from limitlib.models.ensembles import (
    ACTIVATIONS,
    Activation,
    CharResidualMLP,
    Ensemble,
    GainMLP,
    ResidualMLP,
    Transformer,
    activation_named,
    newton_schulz,
    orthogonal,
)
from limitlib.models.linear_attention import LinearAttention

__all__ = [
    "ACTIVATIONS",
    "Activation",
    "CharResidualMLP",
    "Ensemble",
    "GainMLP",
    "LinearAttention",
    "ResidualMLP",
    "Transformer",
    "activation_named",
    "newton_schulz",
    "orthogonal",
]

for _item in (CharResidualMLP, Ensemble, GainMLP, LinearAttention, ResidualMLP, Transformer, activation_named,
              newton_schulz, orthogonal):  # fmt: skip
    _item.__module__ = __name__  # one public address, limitlib.models, in pickles, tracebacks and the documentation
