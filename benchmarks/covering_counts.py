"""Farthest-point order, covering brackets and intrinsic dimension: limitlib beside gudhi, ripser and scikit-dimension.

    python benchmarks/covering_counts.py [--points 20000] [--save]

One process, one thread, processor time; only ratios count. Exit code 1 if an order differs from the plain loop's or a bracket
is wrong; a speed is printed, not judged. A peer that is not installed is left out and named.
"""

# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and the peers are imported

import argparse
import math
import sys
import time
import tracemalloc

import numpy as np
from table import Row, installed, report

from limitlib.covering import covering_number, entropy_profile, greedy_order, intrinsic_dimension

PEERS = ("gudhi", "ripser", "scikit-dimension")
SHARE = {3: 4.0, 64: 1 / 3}  # dimension: largest share of gudhi's time


def plain_loop(x):
    near, order = np.linalg.norm(x - x[0], axis=1), [0]
    for _ in range(len(x) - 1):
        order.append(int(near.argmax()))
        gap = x - x[order[-1]]
        near = np.minimum(near, np.sqrt(np.einsum("ij,ij->i", gap, gap)))
    return order


def same_order(d, points=2000):
    x = np.random.default_rng([d, 1]).normal(size=(points, d))
    return plain_loop(x) == greedy_order(x).indices.tolist()


def spent(job):
    """Processor seconds of one call; the calls here are long."""
    start = time.process_time()
    job()
    return time.process_time() - start


def order_row(d, n):
    x = np.random.default_rng(d).normal(size=(n, d))
    sound = same_order(d)
    tracemalloc.start()
    greedy_order(x, k=n // 10)
    peak = tracemalloc.get_traced_memory()[1] / x.nbytes
    tracemalloc.stop()
    ours = spent(lambda: greedy_order(x))
    if not installed("gudhi"):
        return None, sound
    import gudhi

    listed = x.tolist()
    share = ours / spent(lambda: gudhi.choose_n_farthest_points(points=listed, nb_points=n, starting_point=0))
    words = f"{share:.2f} of gudhi's time; the plain loop's order: {'yes' if sound else 'NO'}; "
    words += f"memory {peak:.1f} times the points"
    if d == 64 and installed("ripser"):
        from ripser import ripser

        part = x[:2000]  # ripser also computes persistence, asked here for degree 0 only
        ratio = spent(lambda: greedy_order(part, k=1000)) / spent(lambda: ripser(part, maxdim=0, n_perm=1000))
        words += f"; 1000 of 2000 points: {ratio:.3f} of ripser's"
    met = sound and share <= SHARE[d]
    return Row(f"greedy_order, {n} Gaussian points in {d} dimensions, all of them", f"gudhi {installed('gudhi')}",
               f"the plain loop's order, at most {SHARE[d]:.2f} of gudhi's time, O(n) memory", words, met,
               "" if met else "gudhi's C++ is faster here; it returns neither indices nor radii"), sound  # fmt: skip


def uniform_ball(n, d, rng):
    x = rng.normal(size=(n, d))
    return x * rng.random((n, 1)) ** (1 / d) / np.linalg.norm(x, axis=1)[:, None]


def profile_row(n):
    rng = np.random.default_rng(5)
    sets = {"ball": uniform_ball(n, 3, rng), "cube": rng.random((n, 3)), "Gaussian": rng.normal(size=(n, 3))}
    widest, took = {}, {}
    for name, x in sets.items():
        start = time.process_time()
        profile = entropy_profile(x, np.geomspace(0.02, 0.8, 20) * np.abs(x).max())
        took[name], widest[name] = time.process_time() - start, profile.ratio
    words = ", ".join(f"{k}: upper/lower at most {widest[k]:.2f} in {took[k]:.0f} s" for k in sets)
    met = max(widest.values()) <= 2 and max(took.values()) < 60  # seconds, not minutes
    why = "" if met else "a bracket is wider than a factor 2, or it took more than a minute"
    return Row(f"entropy_profile, {n} points in 3 dimensions, 20 radii", "none returns a lower end",
               "upper/lower at most 2, in seconds", words, met, why)  # fmt: skip


def exact_row():
    wide, slow, cases = 0, 0.0, 0
    for d in (1, 2, 3, 5, 10, 30):
        rng = np.random.default_rng([d, 6])
        for x in (rng.normal(size=(128, d)), rng.random((128, d)), np.round(5 * rng.random((128, d)))):
            gaps = np.sqrt(((x[:, None] - x) ** 2).sum(axis=2))
            for eps in np.quantile(gaps[gaps > 0], [0.01, 0.05, 0.1, 0.2, 0.35, 0.5, 0.7]):
                start = time.process_time()
                found = covering_number(x, eps)
                slow, cases = max(slow, time.process_time() - start), cases + 1
                wide += not found.is_exact
    why = f"{wide} brackets stayed open" if wide else ""
    return Row(f"covering_number, 128 points in 1 to 30 dimensions, {cases} cases", "none", "exact in every case",
               f"{cases - wide} exact, at most {slow:.1f} s", wide == 0, why)  # fmt: skip


def known_sets(n, rng):
    angle = rng.uniform(0, 2 * np.pi, n)
    yield "circle", 1.0, np.column_stack([np.cos(angle), np.sin(angle)])
    yield "interval", 1.0, rng.random((n, 1))
    x = rng.normal(size=(n, 3))
    yield "sphere", 2.0, x / np.linalg.norm(x, axis=1)[:, None]
    yield "square", 2.0, rng.random((n, 2))
    yield "Gaussian 5 in 20", 5.0, rng.normal(size=(n, 5)) @ rng.normal(size=(5, 20))
    yield "Cantor set", math.log(2, 3), (2 * rng.integers(0, 2, (n, 30)) @ 3.0 ** -np.arange(1, 31))[:, None]
    corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]])
    yield "Sierpinski triangle", math.log2(3), np.einsum(
        "nkc,k->nc", corners[rng.integers(0, 3, (n, 40))], 2.0 ** -np.arange(1, 41)
    )


def theirs_of(x):
    """scikit-dimension's TwoNN, or NaN where it refuses."""
    from skdim.id import TwoNN

    try:
        return float(TwoNN().fit(x).dimension_)
    except Exception:
        return math.nan


def dimension_row(n=1000, samples=60):
    peer = installed("scikit-dimension")
    ours, others, inside = {}, {}, {}
    for seed in range(samples):
        for name, d, x in known_sets(n, np.random.default_rng([seed, 7])):
            found = intrinsic_dimension(x)
            ours.setdefault(name, []).append(found.value / d - 1)
            inside.setdefault(name, []).append(found.low <= d <= found.high)
            if peer:
                others.setdefault(name, []).append(theirs_of(x) / d - 1)
    error = {k: math.sqrt(np.mean(np.square(v))) for k, v in ours.items()}
    cover = {k: np.mean(v) for k, v in inside.items()}
    both = [k for k in error if k in others and np.isfinite(others[k]).all()]
    least = min(cover, key=cover.get)
    words = f"covered {np.mean(list(cover.values())):.0%} of the truths, at worst {cover[least]:.0%} ({least})"
    ratio = 1.0
    if both:
        ratio = max(error[k] / math.sqrt(np.mean(np.square(others[k]))) for k in both)
        refused = ", ".join(k for k in error if k not in both) or "none"
        words += f"; relative error at most {ratio:.2f} of scikit-dimension's; sets that it refuses: {refused}"
    met = cover[least] >= 0.85 and ratio <= 1.1
    job = f"intrinsic_dimension, two_nn, {n} points of 7 known sets, {samples} samples"
    return Row(job, f"scikit-dimension {peer}, no interval",
               "its accuracy (within 10 %); intervals at 95 % that cover (at least 85 % on each set)", words, met,
               "" if met else "see the sets named")  # fmt: skip


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--points", type=int, default=20_000)
    options.add_argument("--save", action="store_true")
    n = options.parse_args().points
    rows, sound = [], True
    for d in SHARE:
        row, fine = order_row(d, n)
        sound &= fine
        rows += [row] if row else []
    rows += [profile_row(n), exact_row(), dimension_row()]
    missing = [p for p in PEERS if not installed(p)]
    if missing:
        print(f"not installed, left out: {', '.join(missing)} (pip install '.[bench]')", file=sys.stderr)
    report("covering_counts", rows, peers=PEERS)
    return 0 if sound else 1


if __name__ == "__main__":
    sys.exit(main())
