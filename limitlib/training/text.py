"""Next-character prediction by residual stacks of growing depth: experiment E3c."""

from __future__ import annotations

import itertools
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from limitlib import corpora
from limitlib.models import CharResidualMLP
from limitlib.operators import jacobian_singular_values
from limitlib.training.ensembles import double_copy, losses
from limitlib.training.specs import Row, Run, Spec, train


@dataclass(frozen=True)
class TextSpec(Spec):
    """Next-character prediction on Python source by a pre-LN residual stack of width 96: experiment E3c.

    branch: "scaled" (1/sqrt(depth)) or "unit". Linear warm-up, then linear decay to zero, AdamW.
    probes: test contexts at which the Jacobians of the blocks are taken. evaluation: test windows for the loss.
    """

    depth: int
    branch: str = "scaled"
    steps: int = 700
    batch: int = 256
    learning_rate: float = 3e-3
    warmup: int = 30
    weight_decay: float = 0.01
    probes: int = 8
    evaluation: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(depth=1, steps=1, batch=1, warmup=0, probes=2, evaluation=1)
        if self.branch not in ("scaled", "unit"):
            raise ValueError(f"branch={self.branch!r} is unknown: choose 'scaled' or 'unit'")


@train.register
def train_text(spec: TextSpec, *, device: str = "cpu") -> Run:
    """E3c: test loss, and for every block (details) ``local``, ``rms`` and the relative increment on test contexts."""
    started = time.perf_counter()
    corpus = corpora.python_source()
    net = CharResidualMLP(spec.seeds, vocab=len(corpus.alphabet), depth=spec.depth, branch=spec.branch).to(device)
    codes = torch.tensor(corpus.train, device=device)
    ahead = torch.arange(net.context + 1, device=device)
    starts = [
        np.random.default_rng([s, 1]).integers(len(corpus.train) - net.context, size=(spec.steps, spec.batch))
        for s in spec.seeds
    ]
    order = torch.tensor(np.stack(starts, axis=1), device=device)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
    )
    for step, chosen in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = spec.learning_rate * min((step + 1) / (spec.warmup + 1), 1 - step / spec.steps)
        window = codes[chosen.unsqueeze(-1) + ahead].long()
        loss = losses(net(window[..., :-1]), window[..., -1]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    rng = np.random.default_rng([0, 2])
    positions = rng.integers(len(corpus.test) - net.context, size=spec.evaluation)
    contexts, following = (torch.tensor(v, device=device) for v in corpora.windows(corpus.test, net.context, positions))
    total = torch.zeros(net.members, dtype=torch.float64, device=device)
    with torch.no_grad():
        for part, label in zip(contexts.split(2000), following.split(2000), strict=True):
            spread = part.expand(net.members, *part.shape)
            total += losses(net(spread), label.expand(net.members, -1)).double() * len(part)
    test_loss = (total / spec.evaluation).cpu().numpy()

    details = probe_blocks(net, contexts[: spec.probes])
    rows = []
    for m, seed in enumerate(spec.seeds):
        blocks = [d for d in details if d["seed"] == seed]
        local = np.array([d["local"] for d in blocks])
        rows.append({
            "depth": spec.depth, "branch": spec.branch, "steps": spec.steps, "seed": seed, "test_loss": float(test_loss[m]),
            "local_geometric_mean": float(np.exp(np.log(local).mean())), "local_smallest": float(local.min()),
            "local_product": float(local.prod()), "rms_first": blocks[0]["rms"],
            "increments": float(sum(d["increment"] for d in blocks)),
            "stack_local": blocks[0]["stack_local"],
        })  # fmt: skip
    details = [{"branch": spec.branch, **d} for d in details]
    return Run(spec, tuple(rows), tuple(details), time.perf_counter() - started, device)


def probe_blocks(net: CharResidualMLP, contexts: torch.Tensor) -> list[Row]:
    """Per block and member: ``local`` (largest over the points: a LOWER bound on ``sup``), ``rms``, relative increment.

    contexts: codes (points, context). Jacobians are of whole blocks, at the states that the trained network visits.
    """
    twin = double_copy(net)
    with torch.no_grad():
        states = twin.states(twin.embed(contexts.expand(net.members, *contexts.shape)))
    whole = jacobian_singular_values(twin.stack, states[0]).lower
    found = []
    for layer, (before, after) in enumerate(itertools.pairwise(states)):
        spectrum = jacobian_singular_values(partial(twin.block, layer), before)
        step = ((after - before).norm(dim=-1) / before.norm(dim=-1)).mean(-1)
        for m, seed in enumerate(net.seeds):
            found.append({
                "depth": net.depth, "seed": seed, "block": layer + 1, "local": float(spectrum.lower[m]),
                "rms": float(np.sqrt(spectrum.chi[m].mean())), "increment": float(step[m]),
                "stack_local": float(whole[m]),
            })  # fmt: skip
    return found
