"""Certified upper ends for 12 pre-norm blocks of width 768 (GPT-2's shape, random weights) on a stated token shell.

    pip install '.[audit]'
    python benchmarks/audit_speed.py [--save]

One thread, float64 certificates. No other tool bounds such a block, so the peer is the target of 60 seconds on two cores.
"""

# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and torch are imported

import math
import time

import numpy as np
import torch
from table import Row, installed, report
from torch import nn

from limitlib.bounds import Shell
from limitlib.lipschitz import audit, block_map, entering_norms

WIDTH, HEADS, DEPTH, TOKENS, POINTS = 768, 12, 12, 64, 2


def encoder():
    """Plain torch: pre-norm TransformerEncoderLayers."""
    torch.manual_seed(0)
    settings = {"activation": "gelu", "batch_first": True, "norm_first": True}
    return nn.Sequential(*(nn.TransformerEncoderLayer(WIDTH, HEADS, 4 * WIDTH, **settings) for _ in range(DEPTH))).eval()


def gpt2():
    """The model class of the transformers library, weights as it initialises them."""
    from transformers import GPT2Config, GPT2Model

    torch.manual_seed(0)
    return GPT2Model(GPT2Config(n_layer=DEPTH, n_embd=WIDTH, n_head=HEADS)).eval()


def states_of(model, names):
    """What enters each block, and half of the least centred norm that enters a normalisation layer, for random tokens."""
    x = torch.randn(POINTS, TOKENS, WIDTH, dtype=torch.float64)
    states, least = [], math.inf
    for name in names:
        f = block_map(model, name)
        states.append(x)
        least = min(least, *(float(v[1].min()) for v in entering_norms(f, x).values()))
        with torch.no_grad():
            x = f(x)
    return states, least / 2


def main():
    rows = []
    models = {"torch.nn.TransformerEncoderLayer": encoder}
    if installed("transformers"):
        models["GPT2Model of transformers"] = gpt2
    for what, make in models.items():
        model = make()
        names = [f"h.{i}" if what.startswith("GPT2") else str(i) for i in range(DEPTH)]
        states, r = states_of(model, names)
        shell = Shell(r, centred=True)
        start, wall = time.process_time(), time.perf_counter()
        table = audit(model, shell, tokens=TOKENS)
        upper_seconds, wall = time.process_time() - start, time.perf_counter() - wall
        start = time.process_time()
        both = audit(model, shell, states=states, rng=np.random.default_rng(0))
        both_seconds = time.process_time() - start
        valid = all(0 < b.bound.lower <= a.bound.upper < math.inf for a, b in zip(table, both, strict=True))
        low, high = min(b.bound.ratio for b in both), max(b.bound.ratio for b in both)
        rows.append(
            Row(
                f"audit of {DEPTH} pre-norm blocks, width {WIDTH}, {HEADS} heads, {TOKENS} tokens, shell {r:.1f}: {what}",
                "none",
                "upper ends of all blocks in <= 60 s on two cores, certified; lower ends, where asked for, below them",
                f"{upper_seconds:.1f} s of one core for the upper ends ({wall:.1f} s on the clock of a busy machine), "
                f"{both_seconds:.1f} s with lower ends at {POINTS} states too; upper / lower from {low:.1f} to {high:.1f}",
                upper_seconds <= 60 and valid,
                "" if upper_seconds <= 60 and valid else "slower than the target, or an end on the wrong side",
            )
        )
    report("audit_speed", rows, peers=("transformers",))


if __name__ == "__main__":
    main()
