"""The solvable model E(N, P, K): closed forms against truncated sums, and the compute frontier against a scan of all sizes.

    python benchmarks/power_law_model.py [--repeats 3] [--save]

One process, one thread, float64 on the CPU, processor time. Exit code 1 if a value is wrong; a speed is printed, not judged.
"""

# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy is imported

import argparse
import sys

import numpy as np
from table import Row, report, seconds

from limitlib.performance import PowerLawModel

MODES = 100_000  # where the naive sum is cut


def naive(model, N, P, K):
    """Every sum term by term, cut at MODES: what one writes first."""
    j = np.arange(1.0, MODES + 1)
    log_rate, energy = np.log1p(-model.eta * j**-model.a), j**-model.b
    found = []
    for n, p, k in zip(N, P, K, strict=True):
        kept = int(min(p, MODES))
        left = np.exp(k * log_rate[:kept])
        bias = np.sum(energy[:kept] * left**2) + np.sum(energy[kept:])
        found.append(bias + model.noise / n * np.sum((1 - left) ** 2))
    return np.array(found)


def errors(points, repeats):
    """error() at random points beside the cut sum, extrapolated from 200 of them."""
    rng = np.random.default_rng(0)
    model = PowerLawModel(1.5, 2.0, noise=1.0)
    N, K = 10 ** rng.uniform(0, 9, points), 10 ** rng.uniform(0, 9, points)
    P = np.floor(10 ** rng.uniform(0, 9, points))
    ours = seconds(lambda: model.error(N, P, K), repeats=repeats, cpu=True)
    some = slice(0, 200)
    theirs = seconds(lambda: naive(model, N[some], P[some], K[some]), repeats=repeats, cpu=True) / 200 * points
    closed = model.error(N[some], P[some], K[some])
    off = np.abs(naive(model, N[some], P[some], K[some]) / closed - 1)
    small = np.flatnonzero(P <= MODES)[:200]  # here the sum needs no cut, except for the energy beyond MODES
    rest = float(model.error(P=MODES))
    exact = naive(model, N[small], P[small], K[small]) + rest
    worst = float(np.abs(model.error(N[small], P[small], K[small]) / exact - 1).max())
    sound = worst < 1e-9
    fast = ours <= 5.0 * points / 1e6
    return Row(
        f"PowerLawModel.error at {points:,} random (N, P, K), each over nine decades",
        f"sums term by term, cut at {MODES:,} modes (200 points, extrapolated)",
        "relative error below 1e-9, at most 5 s for a million points",
        f"{ours:.2f} s against {theirs:.0f} s, {theirs / ours:.0f} times as fast; ours within {worst:.1e} of the whole sum; "
        f"the cut sum off by {np.median(off):.1e} in the median and {off.max():.1e} at worst",
        sound and fast,
        "" if sound and fast else f"worst relative error {worst:.1e}, {ours:.1f} s",
    ), sound  # fmt: skip


def frontier(budgets, repeats):
    """frontier() for a thousand budgets beside trying every whole size, for budgets up to 10^6 where that is possible."""
    model = PowerLawModel(1.5, 2.0)
    C = np.geomspace(10, 1e12, budgets)
    ours = seconds(lambda: model.frontier(C), repeats=repeats, cpu=True)
    some = np.geomspace(10, 1e6, 12)

    def scan():
        return np.array([model.error(P=(sizes := np.arange(1.0, np.floor(c) + 1)), K=c / sizes).min() for c in some])

    theirs = seconds(scan, repeats=1, cpu=True) / len(some)
    gap = float(np.abs(model.frontier(some).error / scan() - 1).max())
    sound = gap < 1e-12
    return Row(
        f"PowerLawModel.frontier for {budgets:,} budgets from 10 to 10^12",
        "all whole sizes, one by one, for 12 budgets up to 10^6",
        "the same minimum to 1e-12, in seconds",
        f"{ours:.2f} s, {1e3 * ours / budgets:.2f} ms a budget against {1e3 * theirs:.0f} ms for a scan up to 10^6 (mean "
        f"of 12): {theirs / (ours / budgets):.0f} times as fast; minima agree to {gap:.1e}",
        sound and ours < 5.0,
        "" if sound and ours < 5.0 else f"minima differ by {gap:.1e}, {ours:.1f} s",
    ), sound  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--points", type=int, default=1_000_000)
    options.add_argument("--save", action="store_true")
    asked = options.parse_args()
    found = [errors(asked.points, asked.repeats), frontier(1000, asked.repeats)]
    report("power_law_model", [row for row, _ in found], peers=())
    sys.exit(0 if all(sound for _, sound in found) else 1)


if __name__ == "__main__":
    main()
