"""Classification of digits by deep networks with a given gain: experiment E3."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch

from limitlib import corpora
from limitlib.models import ACTIVATIONS, Ensemble, GainMLP, ResidualMLP
from limitlib.operators import jacobian_singular_values, pair_ratios
from limitlib.training.ensembles import double_copy, losses
from limitlib.training.specs import Run, Spec, train


@dataclass(frozen=True)
class DigitsSpec(Spec):
    """Classification of the 8 x 8 digits by deep networks of width 64, one member per (gain, seed): experiment E3.

    model: "plain" (weights gain x orthogonal) or "residual" (branch gain). held: re-project plain weights after every
    step. norm: LayerNorm in residual branches. probes: test points at which the stack's Jacobian is taken.
    """

    gains: tuple[float, ...]
    depth: int
    model: str = "plain"
    activation: str = "tanh"
    held: bool = False
    norm: bool = True
    steps: int = 250
    batch: int = 128
    learning_rate: float = 1e-3
    probes: int = 8
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(depth=1, steps=0, batch=1, probes=2)
        self.need_rates("gains")
        if self.model not in ("plain", "residual"):
            raise ValueError(f"model={self.model!r} is unknown: choose 'plain' or 'residual'")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is unknown: choose one of {', '.join(ACTIVATIONS)}")
        if self.held and self.model != "plain":
            raise ValueError("held=True needs model='plain': only plain weights are held at gain x orthogonal")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is unknown: choose 'float32' or 'float64'")


def probe_stack(net: Ensemble, x: torch.Tensor) -> dict[str, np.ndarray]:
    """log10 of ``chi`` (mean over points), ``local`` and ``pair`` (largest) of every member's stack at x (points, width).

    -inf where the map is constant to the last bit, nan where a diverged member has no Jacobian.
    """
    twin = double_copy(net)
    points = x.double().expand(net.members, *x.shape)
    found = jacobian_singular_values(twin.stack, points)
    with np.errstate(divide="ignore"):
        return {
            "log10_chi": np.log10(found.chi.mean(-1)),
            "log10_local": np.log10(found.lower),
            "log10_pair": np.log10(pair_ratios(twin.stack, points).max(-1)),
        }


@train.register
def train_digits(spec: DigitsSpec, *, device: str = "cpu") -> Run:
    """E3: accuracy and loss after training; chi, ``local`` and pair gain of the stack before and after."""
    started = time.perf_counter()
    dtype = getattr(torch, spec.dtype)
    members = [(gain, seed) for gain in spec.gains for seed in spec.seeds]
    gains, seeds = zip(*members, strict=True)
    common: dict[str, Any] = {"depth": spec.depth, "activation": spec.activation, "dtype": dtype}
    net: Ensemble
    if spec.model == "plain":
        net = GainMLP(gains, seeds, **common)
    else:
        net = ResidualMLP(gains, seeds, norm=spec.norm, **common)
    net.to(device)
    data = corpora.digits()
    x, x_test = (torch.tensor(v, dtype=dtype, device=device) for v in (data.x, data.x_test))
    y, y_test = (torch.tensor(v, device=device) for v in (data.y, data.y_test))
    before = probe_stack(net, x_test[: spec.probes])

    batches = {s: np.random.default_rng([s, 1]).integers(len(y), size=(spec.steps, spec.batch)) for s in spec.seeds}
    order = torch.tensor(np.stack([batches[s] for s in seeds], axis=1), device=device)
    # Adam is elementwise, so the members of an ensemble stay independent.
    optimiser = torch.optim.Adam(net.parameters(), lr=spec.learning_rate, fused=True)
    for chosen in order:
        loss = losses(net(x[chosen]), y[chosen]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if spec.held:
            net.hold()
    after = probe_stack(net, x_test[: spec.probes])
    with torch.no_grad():
        logits = net(x_test)
        accuracy = (logits.argmax(-1) == y_test).double().mean(-1).cpu().numpy()
        train_loss = losses(net(x), y.expand(len(members), -1)).double().cpu().numpy()
        test_loss = losses(logits, y_test.expand(len(members), -1)).double().cpu().numpy()
    rows = tuple(
        {
            "model": spec.model,
            "activation": spec.activation,
            "norm": spec.norm if spec.model == "residual" else False,
            "held": spec.held,
            "depth": spec.depth,
            "gain": gain,
            "seed": seed,
            "accuracy": float(accuracy[m]),
            "train_loss": float(train_loss[m]),
            "test_loss": float(test_loss[m]),
            **{f"{name}_start": float(values[m]) for name, values in before.items()},
            **{f"{name}_end": float(values[m]) for name, values in after.items()},
        }
        for m, (gain, seed) in enumerate(members)
    )
    return Run(spec, rows, (), time.perf_counter() - started, device)
