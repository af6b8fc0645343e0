"""Constants of ReLU networks: limitlib against enumeration, LipSDP by cvxpy, ECLipsE, auto_LiRPA and torchlip.

    pip install '.[bench]'
    python benchmarks/network_constants.py [--save]

One process, one thread, float64 on the CPU, processor time; only ratios count. auto_LiRPA 0.7.1 is on GitHub only. A peer
that is not installed gives a row that says so. Exit code 1 if a bound is on the wrong side; a speed is printed, not judged.
"""

# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and torch are imported

import argparse
import contextlib
import io
import itertools
import logging
import math
import sys
import time
import warnings

import numpy as np
import torch
from scipy.optimize import linprog
from table import Row, installed, report

from limitlib.bounds import Ball, Box, WholeSpace
from limitlib.lipschitz import ascent_lower, relu_exact, sdp_upper
from limitlib.lipschitz.semidefinite import certify, chain_problem

torch.set_num_threads(1)
warnings.simplefilter("ignore")
logging.disable()
PEERS = ("cvxpy", "clarabel", "scs", "eclipse-nn", "auto-LiRPA", "deel-torchlip")
WRONG = []  # bounds on the wrong side


def network(rng, sizes):
    weights = [rng.standard_normal((o, i)) / math.sqrt(i) for i, o in itertools.pairwise(sizes)]
    return weights, [0.5 * rng.standard_normal(o) for o in sizes[1:]]


def module(weights, biases):
    layers = []
    for W, b in zip(weights, biases, strict=True):
        layer = torch.nn.Linear(W.shape[1], W.shape[0], dtype=torch.float64)
        layer.weight.data, layer.bias.data = torch.tensor(W), torch.tensor(b)
        layers += [layer, torch.nn.ReLU()]
    return torch.nn.Sequential(*layers[:-1])


def timed(job):
    start = time.process_time()
    return job(), time.process_time() - start


def check(claim, what):
    if not claim:
        WRONG.append(what)


# --------------------------------------------------------------------------------------------------------- exact constants


def enumerate_regions(weights, biases, half):
    """Largest Jacobian norm over all regions that meet a cube, by one linear program a cell."""
    d, best = weights[0].shape[1], 0.0

    def width(G, h):
        G, h = np.array(G), np.array(h)
        scale = np.linalg.norm(G, axis=1)
        A = np.column_stack([-G / scale[:, None], np.ones(len(G))])
        return -linprog([*np.zeros(d), -1.0], A_ub=A, b_ub=h / scale, bounds=[(-half, half)] * d + [(None, 1)]).fun

    def layer(k, A, c, G, h):
        nonlocal best
        Z, z = weights[k] @ A, weights[k] @ c + biases[k]
        if k == len(weights) - 1:
            best = max(best, np.linalg.norm(Z, 2))
            return

        def neuron(i, G, h, on):
            if i == len(Z):
                on = np.array(on)
                layer(k + 1, np.where(on[:, None], Z, 0), np.where(on, z, 0), G, h)
            elif not Z[i].any():
                neuron(i + 1, G, h, [*on, z[i] > 0])
            else:
                for sign in (1, -1):
                    if width([*G, sign * Z[i]], [*h, sign * z[i]]) > 1e-9:
                        neuron(i + 1, [*G, sign * Z[i]], [*h, sign * z[i]], [*on, sign > 0])

        neuron(0, G, h, [])

    layer(0, np.eye(d), np.zeros(d), [], [])
    return best


def exact_rows():
    errors, ratios = [], []
    for seed, sizes in enumerate([[2, 20, 3], [3, 12, 2], [2, 8, 8, 1], [3, 6, 6, 2], [2, 6, 6, 6, 2]]):
        weights, biases = network(np.random.default_rng(seed), sizes)
        truth, theirs = timed(lambda w=weights, b=biases: enumerate_regions(w, b, 1.0))
        d = sizes[0]
        bound, ours = timed(lambda w=weights, b=biases, d=d: relu_exact(w, b, Box(-np.ones(d), np.ones(d))))
        errors.append(max(abs(bound.lower / truth - 1), abs(bound.upper / truth - 1)))
        ratios.append(theirs / ours)
        check(bound.lower <= truth * (1 + 1e-9) and truth * (1 - 1e-9) <= bound.upper, f"relu_exact, {sizes}")
    first = Row(
        "relu_exact on a cube, 12 to 20 hidden neurons in 1 to 3 layers",
        "enumeration of all regions with scipy's linprog",
        "both ends equal to it within 1e-9",
        f"largest relative difference {max(errors):.1e}; enumeration takes {min(ratios):.0f} to {max(ratios):.0f} times "
        "as long",
        max(errors) <= 1e-9,
        "see the difference",
    )
    widths, exact, rng = [], 0, np.random.default_rng(20)
    for k in range(60):
        hidden = [[20], [10, 10], [7, 7, 6]][k % 3]
        weights, biases = network(rng, [int(rng.integers(2, 11)), *hidden, int(rng.integers(1, 6))])
        d = weights[0].shape[1]
        domain = [WholeSpace(), Ball(np.zeros(d), 1.0), Box(-np.ones(d), np.ones(d)), WholeSpace()][k % 4]
        bound = relu_exact(weights, biases, domain, max_seconds=1.0)
        widths.append(bound.ratio - 1)
        exact += bound.is_exact
    good = float(np.mean(np.array(widths) <= 0.05))
    second = Row(
        "relu_exact stopped after 1 s, 20 hidden neurons, 2 to 10 inputs, global and local",
        "none gives an anytime bracket",
        "upper / lower <= 1.05 on 95 % of 60 networks",
        f"{100 * good:.0f} % within 5 %, {exact} of 60 exact, worst ratio {1 + max(widths):.3f}",
        good >= 0.95,
        "wall-clock time on a shared machine, or networks whose regions need more cells",
    )
    return [first, second]


# ------------------------------------------------------------------------------------------------------ semidefinite bounds


def by_cvxpy(problem, solver):
    """LipSDP-Neuron as a model of cvxpy: the bound that the solver's multipliers prove, and the one that it reports."""
    import cvxpy as cp

    P, Q = problem.factors
    n, d = problem.C.shape[1], problem.inputs
    rho, multipliers = cp.Variable(nonneg=True), cp.Variable(len(P), nonneg=True)
    half = P.T @ cp.diag(multipliers) @ Q
    top = np.diag(np.r_[np.ones(d), np.zeros(n - d)])
    M = rho * top + 0.5 * (half + half.T) - problem.O.T @ problem.O
    model = cp.Problem(cp.Minimize(rho), [0.5 * (M + M.T) >> 0])
    model.solve(solver=solver)
    values = np.maximum(multipliers.value, 0.0)
    proved = min(certify(problem, float(rho.value) * (1 + s), values * (1 + s / 2)) for s in (0, 1e-7, 1e-5, 1e-3, 1e-2))
    return math.sqrt(proved), math.sqrt(max(float(rho.value), 0.0))


def semidefinite_rows():
    job = "sdp_upper against LipSDP-Neuron, 2 to 13 layers"
    if not installed("cvxpy"):
        return [Row(job, "cvxpy", "within 0.2 % of the optimum", "not measured", False, "cvxpy is not installed")]
    shapes = [[2, 20, 1], [10, 20, 3], [4, 10, 10, 1], [20, 40, 40, 2], [10, 60, 60, 5], [8, *[16] * 12, 1], [50, 100, 10]]
    worst, claims, times, gains = 0.0, [], {"CLARABEL": [], "SCS": []}, []
    for seed, sizes in enumerate(shapes):
        weights, _ = network(np.random.default_rng(seed), sizes)
        oriented = [w.T for w in reversed(weights)] if sizes[0] > sizes[-1] else weights
        problem = chain_problem(oriented, (0.0, 1.0))
        ours, seconds = timed(lambda w=weights: sdp_upper(w))
        proved = {}
        for solver in times:
            (bound, reported), theirs = timed(lambda p=problem, s=solver: by_cvxpy(p, s))
            proved[solver] = bound
            times[solver].append((problem.C.shape[1], theirs / seconds))
            claims.append(reported / ours.upper)
        worst = max(worst, ours.upper / min(proved.values()))
        gains.append(min(proved.values()) / ours.upper)
    text = "; ".join(
        f"{name.title()} takes " + ", ".join(f"{r:.0f}x (order {n})" for n, r in ratios) for name, ratios in times.items()
    )
    rows = [
        Row(
            job,
            "cvxpy with Clarabel and SCS; what their multipliers prove",
            "within 0.2 % of the optimum, 5 % on the deep one",
            f"{100 * (worst - 1):.4f} % above the best of the two at most; that one is up to {max(gains):.4f} of ours; what "
            f"SCS and Clarabel report is {min(claims):.4f} to {max(claims):.4f} of our certified value",
            worst <= 1.002,
            "see the difference",
        ),
        Row(
            "time of sdp_upper once the order of the inequality passes 100",
            "cvxpy with SCS and Clarabel, compilation included",
            "10 times as fast as SCS",
            text,
            all(r >= 10 for n, r in times["SCS"] if n > 100),
            "see the ratios",
        ),
    ]
    return [*rows, eclipse_row()]


def eclipse_row():
    job = "sdp_upper against ECLipsE and ECLipsE-Fast"
    if not installed("eclipse-nn"):
        return Row(job, "eclipse-nn 0.1.7", "never above either", "not measured", False, "eclipse-nn is not installed")
    from eclipse_nn.LipConstEstimator import LipConstEstimator

    ratios, speed = {"ECLipsE": [], "ECLipsE_Fast": []}, []
    for seed, sizes in enumerate([[4, 10, 10, 1], [10, 30, 30, 5], [8, *[16] * 6, 3], [20, 60, 40, 20, 2]]):
        weights, _ = network(np.random.default_rng(seed), sizes)
        ours, seconds = timed(lambda w=weights: sdp_upper(w))
        for method, found in ratios.items():
            silent = io.StringIO()
            with contextlib.redirect_stdout(silent):
                estimator = LipConstEstimator(weights=[torch.tensor(w) for w in weights])
                theirs, peer = timed(lambda e=estimator, m=method: float(e.estimate(m)))
            found.append(theirs / ours.upper)
            if method == "ECLipsE":
                speed.append(peer / seconds)
    return Row(
        job,
        "eclipse-nn " + installed("eclipse-nn"),
        "never above either",
        f"ECLipsE is {min(ratios['ECLipsE']):.2f} to {max(ratios['ECLipsE']):.2f} times ours and takes {min(speed):.0f} to "
        f"{max(speed):.0f} times as long; ECLipsE-Fast is {min(ratios['ECLipsE_Fast']):.2f} to "
        f"{max(ratios['ECLipsE_Fast']):.2f} times ours",
        min(map(min, ratios.values())) >= 1 - 1e-9,
        "see the ratios",
    )


# ------------------------------------------------------------------------------------------------------------ local bounds


def lirpa_upper(net, center, half, outputs):
    """auto_LiRPA's linf constant on a box, as its own example computes it."""
    from auto_LiRPA import BoundedModule, BoundedTensor
    from auto_LiRPA.jacobian import GradNorm, JacobianOP
    from auto_LiRPA.perturbations import PerturbationLpNorm

    class Wrapper(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.model, self.size = net, GradNorm(norm=1)

        def forward(self, x, mask):
            return self.size(JacobianOP.apply(self.model(x).matmul(mask), x))

    net = net.float()  # it knows float32 only; the weights were rounded to it before
    mask = torch.zeros(outputs, 1)
    mask[0, 0] = 1
    x0 = torch.tensor(center, dtype=torch.float32)[None]
    wrapped = BoundedModule(Wrapper(), (BoundedTensor(x0), mask), device="cpu")
    x, found = BoundedTensor(x0, PerturbationLpNorm(norm=np.inf, eps=half)), []
    for i in range(outputs):
        mask.zero_()
        mask[i, 0] = 1
        found.append(float(wrapped.compute_jacobian_bounds((x, mask), bound_lower=False)[1].detach().max()))
    return max(found)


def local_row():
    job = "local linf constant on a box, 16 to 20 hidden neurons, half-widths 0.1 to 1"
    rng, theirs, ours, constant = np.random.default_rng(3), [], [], True
    dead = relu_exact([np.eye(2), np.ones((1, 2))], [[-3.0, -3.0], [0.0]], Box([-1, -1], [1, 1]), norm=(math.inf, math.inf))
    constant &= dead.upper == 0
    for k in range(24):
        sizes = [int(rng.integers(2, 7)), *[[20], [8, 8], [6, 6, 6]][k % 3], int(rng.integers(1, 4))]
        weights, biases = ([np.float32(v).astype(float) for v in vs] for vs in network(rng, sizes))
        center, half = 0.5 * rng.standard_normal(sizes[0]), [0.1, 0.3, 1.0][k // 3 % 3]
        norm = (math.inf, math.inf)
        long = relu_exact(weights, biases, Box(center - half, center + half), norm=norm, max_seconds=20.0)
        short = relu_exact(weights, biases, Box(center - half, center + half), norm=norm, max_seconds=1.0)
        check(short.upper >= long.lower, f"relu_exact on a box, {sizes}")
        ours.append(short.upper / long.lower)
        if lirpa_present():
            with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
                theirs.append(lirpa_upper(module(weights, biases), center, half, sizes[-1]) / long.lower)
    peer = f"median {np.median(theirs):.3f}, worst {max(theirs):.3f}" if theirs else "not installed"
    met = np.median(ours) <= 1.05 and constant and bool(theirs)
    return Row(
        job,
        "auto_LiRPA " + lirpa_present(),
        "upper / exact: median <= 1.05; exactly 0 where the network is constant",
        f"median {np.median(ours):.6f}, worst {max(ours):.6f} in 1 s, constant network exactly {dead.upper:g}; "
        f"auto_LiRPA {peer}",
        met,
        "auto_LiRPA is not installed" if not theirs else "see the ratios",
    )


def lirpa_present():
    try:
        import auto_LiRPA
    except ImportError:
        return ""
    return auto_LiRPA.__version__


def ascent_row():
    job = "ascent_lower on 30 ReLU networks with 16 to 20 hidden neurons"
    rng, jobs = np.random.default_rng(5), []
    for k in range(30):
        sizes = [int(rng.integers(2, 7)), *[[16], [8, 8], [20], [6, 6, 6]][rng.integers(4)], int(rng.integers(1, 4))]
        weights, biases = network(rng, sizes)
        d = sizes[0]
        domain = [WholeSpace(), Ball(np.zeros(d), 1.0), Box(-np.ones(d), np.ones(d))][k % 3]
        exact = relu_exact(weights, biases, domain, max_seconds=20.0)
        jobs.append((module(weights, biases), domain, d, exact))

    def search(f, domain, d, k):
        return ascent_lower(f, domain, rng=np.random.default_rng(k), shape=d).lower

    found, seconds = timed(lambda: [search(f, domain, d, k) for k, (f, domain, d, _) in enumerate(jobs)])
    blind, blind_seconds = timed(
        lambda: [search(lambda x, f=f: f(x), domain, d, k) for k, (f, domain, d, _) in enumerate(jobs)]
    )
    ratios = np.array([low / e.lower for low, (*_, e) in zip(found, jobs, strict=True)])
    blinds = np.array([low / e.lower for low, (*_, e) in zip(blind, jobs, strict=True)])
    for low, (*_, e) in zip([*found, *blind], [*jobs, *jobs], strict=True):
        check(low <= e.upper, "ascent_lower above the exact constant")
    peer = "not installed"
    if installed("deel-torchlip"):
        from deel.torchlip.utils import evaluate_lip_const

        theirs = []
        for k, (f, domain, d, e) in enumerate(jobs):
            draw = np.random.default_rng(k)
            points = draw.standard_normal((1000, d)) if domain == WholeSpace() else domain.sample(1000, draw)
            with contextlib.redirect_stdout(io.StringIO()):
                theirs.append(float(evaluate_lip_const(f, torch.tensor(points))) / e.lower)
        theirs = np.array(theirs)
        peer = f"{100 * np.mean(theirs >= 0.99):.0f} % at 0.99 or more, worst {theirs.min():.2f}, from 1000 points each"
    share = float(np.mean(ratios >= 0.99))
    return Row(
        job,
        f"torchlip {installed('deel-torchlip') or ''} evaluate_lip_const",
        ">= 0.99 of the exact constant on 95 %, never above it, 2 s in all",
        f"{100 * share:.0f} % at 0.99 or more, worst {ratios.min():.3f}, {seconds:.1f} s; as black boxes "
        f"{100 * np.mean(blinds >= 0.99):.0f} %, worst {blinds.min():.2f}, {blind_seconds:.1f} s; torchlip {peer}",
        share >= 0.95 and seconds <= 2.0 and peer != "not installed",
        "see the share and the seconds; a walk from region to region can stop at a local maximum",
    )


def main():
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_known_args()
    rows = [*exact_rows(), *semidefinite_rows(), local_row(), ascent_row()]
    report("network_constants", rows, peers=PEERS)
    if WRONG:
        print("\nwrong side: " + "; ".join(WRONG))
    return 1 if WRONG else 0


if __name__ == "__main__":
    sys.exit(main())
