"""Full-batch gradient descent and the sharpness along it: experiment E3b."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch.nn import functional as F

from limitlib import corpora
from limitlib.operators import sharpness
from limitlib.training.specs import Row, Run, Spec, train


@dataclass(frozen=True)
class DescentSpec(Spec):
    """Full-batch gradient descent of a 64-hidden-10 tanh network on digits, a member per (rate, seed): experiment E3b.

    Loss: squared distance to the one-hot label, averaged over samples. rates: step sizes eta. every: steps between two
    measurements of the sharpness, each of ``iters`` power iterations from the vector of the one before.
    """

    rates: tuple[float, ...]
    hidden: int = 32
    samples: int = 300
    steps: int = 2000
    every: int = 20
    iters: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(hidden=1, samples=1, steps=1, every=1, iters=1)
        self.need_rates("rates")


@train.register
def train_descent(spec: DescentSpec, *, device: str = "cpu") -> Run:
    """E3b: eta times sharpness along full-batch gradient descent; details hold the whole course."""
    started = time.perf_counter()
    members = [(rate, seed) for rate in spec.rates for seed in spec.seeds]
    data = corpora.digits()
    x = torch.tensor(data.x[: spec.samples], dtype=torch.float32, device=device).expand(len(members), -1, -1)
    target = F.one_hot(torch.tensor(data.y[: spec.samples]), 10).float().to(device)

    def draw(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, 0])
        inputs = x.shape[-1]
        return [
            rng.uniform(-1, 1, (inputs, spec.hidden)) / np.sqrt(inputs),
            rng.uniform(-1, 1, (1, spec.hidden)) / np.sqrt(inputs),
            rng.uniform(-1, 1, (spec.hidden, 10)) / np.sqrt(spec.hidden),
            rng.uniform(-1, 1, (1, 10)) / np.sqrt(spec.hidden),
        ]

    drawn = [draw(seed) for _, seed in members]
    parameters = [torch.tensor(np.stack(p), dtype=torch.float32, device=device) for p in zip(*drawn, strict=True)]
    rate = torch.tensor([r for r, _ in members], dtype=torch.float32, device=device).reshape(-1, 1, 1)

    def loss(p: Sequence[torch.Tensor]) -> torch.Tensor:
        output = torch.baddbmm(p[3], torch.tanh(torch.baddbmm(p[1], x, p[0])), p[2])
        return (output - target).square().sum(-1).mean(-1)

    details: list[Row] = []
    measured = None
    for step in range(spec.steps + 1):
        if step % spec.every == 0:
            start = None if measured is None else measured.vectors
            rng = np.random.default_rng([spec.seeds[0], 2])
            measured = sharpness(loss, parameters, iters=spec.iters * (5 if start is None else 1), rng=rng, start=start)
            with torch.no_grad():
                value = loss(parameters).double().cpu().numpy()
            for m, (eta, seed) in enumerate(members):
                details.append({
                    "rate": eta, "seed": seed, "step": step, "loss": float(value[m]),
                    "sharpness": float(measured.value[m]), "residual": float(measured.residual[m]),
                })  # fmt: skip
        leaves = [p.detach().requires_grad_(True) for p in parameters]
        gradient = torch.autograd.grad(loss(leaves).sum(), leaves)
        parameters = [p.detach() - rate * g for p, g in zip(leaves, gradient, strict=True)]
    rows = []
    for eta, seed in members:
        course = [d for d in details if (d["rate"], d["seed"]) == (eta, seed)]
        tail = [d["rate"] * d["sharpness"] for d in course if d["step"] > 0.75 * spec.steps]
        rows.append({
            "rate": eta, "seed": seed, "start": eta * course[0]["sharpness"], "end": eta * course[-1]["sharpness"],
            "last_quarter": float(np.mean(tail)), "loss": course[-1]["loss"],
            "diverged": not (math.isfinite(course[-1]["loss"]) and course[-1]["loss"] < 1e3),
        })  # fmt: skip
    return Run(spec, tuple(rows), tuple(details), time.perf_counter() - started, device)
