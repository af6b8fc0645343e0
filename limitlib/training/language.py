"""Small character language models in the style of GPT-1 and GPT-2, and what their layers do: experiments E4 and E4b."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch

from limitlib import corpora
from limitlib.audit.measure import angular_cover, effective_rank, mean_cosine, relative_increment
from limitlib.models import Transformer
from limitlib.operators import jacobian_norm, jacobian_rms
from limitlib.training.ensembles import double_copy, losses
from limitlib.training.specs import Row, Run, Spec, train


@dataclass(frozen=True)
class LanguageSpec(Spec):
    """Next-character prediction on Python source by a :class:`~limitlib.models.Transformer`: experiments E4 and E4b.

    norm: "post" (GPT-1 style) or "pre" (GPT-2 style); scaled_init: None for the style's own. AdamW (0.9, 0.98), linear
    warm-up, cosine to a tenth of the rate, gradients clipped at norm 1 for each member alone. evaluation: test windows for
    the loss. windows: test windows whose tokens are the cloud of states that the layers' shape is measured on, before and
    after training; probes: how many of them get Jacobians, of the whole window, with ``iters`` iterations. With windows=0
    nothing is measured but the loss.
    """

    depth: int
    norm: str = "pre"
    width: int = 64
    heads: int = 4
    context: int = 64
    batch: int = 16
    steps: int = 200
    learning_rate: float = 1e-3
    warmup: int = 20
    weight_decay: float = 0.01
    scaled_init: bool | None = None
    evaluation: int = 256
    windows: int = 8
    probes: int = 4
    iters: int = 20

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(depth=1, width=1, heads=1, context=1, batch=1, steps=0, warmup=0, evaluation=1, windows=0, probes=0, iters=1)
        if self.norm not in ("pre", "post"):
            raise ValueError(f"norm={self.norm!r} is unknown: choose 'pre' (GPT-2 style) or 'post' (GPT-1 style)")
        if self.width % self.heads:
            raise ValueError(f"heads={self.heads} must divide width={self.width}")
        if not (math.isfinite(self.learning_rate) and self.learning_rate > 0):
            raise ValueError(f"learning_rate={self.learning_rate!r} must be positive and finite")
        if self.probes > self.windows:
            raise ValueError(f"probes={self.probes} must not exceed windows={self.windows}: probes are some of the windows")


def learning_rate(spec: LanguageSpec, step: int) -> float:
    """The rate of step 0, 1, ...: linear over ``warmup`` steps, then a cosine to a tenth at the last step."""
    if step < spec.warmup:
        return spec.learning_rate * (step + 1) / spec.warmup
    share = (step - spec.warmup) / max(1, spec.steps - 1 - spec.warmup)
    return spec.learning_rate * (0.1 + 0.45 * (1 + math.cos(math.pi * share)))


@torch.no_grad()
def clip_members(net: Transformer, largest: float = 1.0) -> torch.Tensor:
    """Scale every member's gradient down to norm ``largest`` if it is longer; returns the norms before, (members,)."""
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    norms = torch.stack([g.flatten(1).square().sum(1) for g in gradients]).sum(0).sqrt()
    scale = (largest / norms).clamp(max=1.0)
    for g in gradients:
        g.mul_(scale.reshape(-1, *[1] * (g.ndim - 1)))
    return norms


@train.register
def train_language(spec: LanguageSpec, *, device: str = "cpu") -> Run:
    """E4: test loss of every member; E4b: details for every layer, at initialisation and after training."""
    started = time.perf_counter()
    corpus = corpora.python_source()
    net = Transformer(
        spec.seeds, vocab=len(corpus.alphabet), depth=spec.depth, width=spec.width, heads=spec.heads, norm=spec.norm,
        context=spec.context, scaled_init=spec.scaled_init,
    ).to(device)  # fmt: skip
    positions = np.random.default_rng([0, 2]).integers(len(corpus.test) - spec.context, size=spec.evaluation + spec.windows)
    unseen = torch.tensor(corpus.test[positions[:, None] + np.arange(spec.context + 1)].astype(np.int64), device=device)
    judged, watched = unseen.split([spec.evaluation, spec.windows])
    details = measure_layers(net, spec, watched, stage="start")

    codes = torch.tensor(corpus.train, device=device)
    ahead = torch.arange(spec.context + 1, device=device)
    starts = [
        np.random.default_rng([s, 1]).integers(len(corpus.train) - spec.context, size=(spec.steps, spec.batch))
        for s in spec.seeds
    ]
    order = torch.tensor(np.stack(starts, axis=1), device=device)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=spec.learning_rate, betas=(0.9, 0.98), weight_decay=spec.weight_decay, fused=True
    )
    for step, chosen in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = learning_rate(spec, step)
        window = codes[chosen.unsqueeze(-1) + ahead].long()
        loss = losses(net(window[..., :-1]).flatten(1, 2), window[..., 1:].flatten(1)).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        clip_members(net)
        optimiser.step()

    details += measure_layers(net, spec, watched, stage="trained")
    rows = tuple(
        {
            "norm": spec.norm, "depth": spec.depth, "steps": spec.steps, "learning_rate": spec.learning_rate,
            "warmup": spec.warmup, "scaled_init": net.scaled_init, "seed": seed, "test_loss": float(loss),
            "parameters": sum(p[0].numel() for p in net.parameters()),
        }
        for seed, loss in zip(spec.seeds, window_losses(net, judged), strict=True)
    )  # fmt: skip
    return Run(spec, rows, tuple(details), time.perf_counter() - started, device)


@torch.no_grad()
def window_losses(net: Transformer, windows: torch.Tensor) -> np.ndarray:
    """Mean cross-entropy in nats of every member over windows (n, context + 1) of codes, all positions counted."""
    total = torch.zeros(net.members, dtype=torch.float64, device=windows.device)
    for part in windows.split(64):
        spread = part.expand(net.members, *part.shape)
        total += losses(net(spread[..., :-1]).flatten(1, 2), spread[..., 1:].flatten(1)).double() * len(part)
    return (total / len(windows)).cpu().numpy()


def measure_layers(net: Transformer, spec: LanguageSpec, windows: torch.Tensor, *, stage: str) -> list[Row]:
    """A row for every layer (0: the embedding) and member: the shape of its token states, and the gains of its block.

    Shape, exact for these tokens: effective rank, mean cosine, ``cover`` (greedy angular cover at 0.5, an upper bound on the
    smallest one) and ``packing`` (its lower bound), the mean length of a state, the relative increment. Gains, at the first
    ``probes`` windows, whole windows as points, in float64: ``local`` of the block (``local_mean``: its mean over the points)
    and ``cumulative`` of the stack up to here, the largest attained (LOWER bounds on ``sup``); ``rms`` of the block, the mean
    over the points of an estimate from random directions.
    """
    if not len(windows):
        return []
    twin = double_copy(net).requires_grad_(False)
    with torch.no_grad():
        states = twin.states(windows[:, :-1].expand(net.members, -1, -1))
    gains = block_gains(twin, [x[:, : spec.probes] for x in states], spec.iters) if spec.probes else {}
    found = []
    for layer, x in enumerate(states):
        for m, seed in enumerate(net.seeds):
            cloud = x[m].flatten(0, 1).cpu().numpy()
            row: Row = {"norm": spec.norm, "depth": spec.depth, "stage": stage, "seed": seed, "layer": layer}
            row |= {"token_norm": math.nan, "effective_rank": math.nan, "mean_cosine": math.nan, "cover": -1, "packing": -1}
            if np.isfinite(cloud).all():  # a diverged member keeps its place, without a shape
                cover = angular_cover(cloud, 0.5)
                row |= {
                    "token_norm": float(np.linalg.norm(cloud, axis=1).mean()), "effective_rank": effective_rank(cloud),
                    "mean_cosine": mean_cosine(cloud), "cover": cover.upper, "packing": cover.lower,
                }  # fmt: skip
                if layer:
                    row["increment"] = relative_increment(states[layer - 1][m].flatten(0, 1).cpu().numpy(), cloud)
            if layer:
                row |= {name: float(values[layer - 1, m]) for name, values in gains.items()}
            found.append(row)
    return found


def block_gains(net: Transformer, states: list[torch.Tensor], iters: int) -> dict[str, np.ndarray]:
    """Gains of all blocks at given states (members, points, tokens, width), a point a whole token matrix: (depth, members)."""

    def run(first: int, last: int, x: torch.Tensor) -> torch.Tensor:
        for layer in range(first, last):
            x = net.block(layer, x)
        return x

    rng = np.random.default_rng([0, 3])
    found: dict[str, list[np.ndarray]] = {"local": [], "local_mean": [], "rms": [], "cumulative": []}
    for layer in range(net.depth):
        block, stack = partial(run, layer, layer + 1), partial(run, 0, layer + 1)
        norms = jacobian_norm(block, states[layer], iters=iters, rng=rng, point_dims=2)
        whole = jacobian_norm(stack, states[0], iters=iters, rng=rng, point_dims=2) if layer else norms
        found["local"].append(norms.lower.max(1))
        found["local_mean"].append(norms.lower.mean(1))
        found["rms"].append(jacobian_rms(block, states[layer], probes=4, rng=rng, point_dims=2).value.mean(1))
        found["cumulative"].append(whole.lower.max(1))
    return {name: np.array(values) for name, values in found.items()}
