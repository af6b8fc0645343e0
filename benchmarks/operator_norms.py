"""Norms of matrices and convolutions: limitlib's brackets against numpy's SVD and torch's spectral_norm.

    python benchmarks/operator_norms.py [--repeats 3] [--save]

One process, one thread, float64 on the CPU, processor time; only ratios count. Exit code 1 if a bracket misses the truth or is
wider than its target; a speed is printed, not judged.
"""

# ruff: noqa: E402

import os

for variable in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ[variable] = "1"  # before numpy and torch are imported

import argparse
import sys

import numpy as np
import torch
from scipy.sparse.linalg import LinearOperator, svds
from table import Row, report, seconds

from limitlib.operators import conv_norm, operator_norm

torch.set_num_threads(1)
SIZES = {1024: 0.75, 2048: 0.5}  # side: largest share of the SVD's time
WIDTH = 1e-6


def matrices(n, rng):
    """Gaussian; half of the singular values tied at the top; rank one; zero; and extreme scales of the first."""
    gaussian = rng.standard_normal((n, n))
    left, right = (np.linalg.qr(rng.standard_normal((n, n)))[0] for _ in range(2))
    tied = (left * np.r_[np.ones(n // 2), np.linspace(0, 1, n - n // 2)]) @ right
    return {
        "Gaussian": gaussian,
        "half tied at the top": tied,
        "rank one": np.outer(left[0], right[0]),
        "zero": np.zeros((n, n)),
        "Gaussian x 1e30": gaussian * 1e30,
        "Gaussian x 1e-30": gaussian * 1e-30,
    }


def dense(n, target, repeats):
    kinds = matrices(n, np.random.default_rng(n))
    shares, widths, wrong = {}, {}, []
    for name, A in kinds.items():
        truth = np.linalg.svd(A, compute_uv=False)[0]
        b = operator_norm(A)
        if not b.lower <= truth * (1 + 1e-13) or not truth * (1 - 1e-13) <= b.upper:
            wrong.append(name)
        widths[name] = b.ratio - 1
        theirs = seconds(lambda A=A: np.linalg.svd(A, compute_uv=False), repeats=repeats, cpu=True)
        shares[name] = seconds(lambda A=A: operator_norm(A), repeats=repeats, cpu=True) / theirs
    slowest, widest = max(shares, key=shares.get), max(widths, key=widths.get)
    sound = not wrong and max(widths.values()) <= WIDTH
    met = sound and shares[slowest] <= target
    row = Row(
        f"operator_norm, dense {n} x {n}: {', '.join(kinds)}",
        "numpy.linalg.svd(compute_uv=False): no bracket",
        f"certified relative width <= {WIDTH:g} in <= {target} of the SVD's time, for each of the {len(kinds)}",
        f"Gaussian {shares['Gaussian']:.2f}, slowest ({slowest}) {shares[slowest]:.2f} of its time; "
        f"widest {widths[widest]:.1e}; brackets that miss the SVD's value: {len(wrong)}",
        met,
        "" if met else f"slowest share {shares[slowest]:.2f}, widest {widths[widest]:.1e}, wrong: {wrong}",
    )
    return row, sound, kinds["Gaussian"]


def torch_estimate(weight, iterations=16):
    """What torch.nn.utils.parametrizations.spectral_norm divides a weight by, after so many power iterations."""
    torch.manual_seed(0)
    shape = weight.shape
    layer = torch.nn.Linear(int(np.prod(shape[1:])), shape[0], bias=False, dtype=torch.float64)
    layer.weight.data = torch.tensor(weight).flatten(1)
    layer = torch.nn.utils.parametrizations.spectral_norm(layer, n_power_iterations=1)
    for _ in range(iterations - 15):  # creating the parametrization takes 15 of its own
        layer(torch.zeros(1, layer.in_features, dtype=torch.float64))
    layer.eval()  # reading the weight in training mode would iterate once more
    original = layer.parametrizations.weight.original
    with torch.no_grad():
        return float((original * layer.weight).sum() / layer.weight.square().sum())


def power_iteration(A):
    b = operator_norm(A)
    estimate = torch_estimate(A)
    low = 1 - estimate / b.lower
    return Row(
        f"the same, {len(A)} x {len(A)} Gaussian, as a number",
        "torch parametrizations.spectral_norm, 16 power iterations: an estimate from below, not told",
        "never on the wrong side",
        f"torch {100 * low:.1f} % below our lower end; ours {b.lower:.6f} <= norm <= {b.upper:.6f}",
        estimate <= b.upper,
        "" if estimate <= b.upper else "torch's estimate is above our upper end",
    )


CONVOLUTIONS = {
    "zero padding": dict(padding=1),
    "stride 2": dict(padding=1, stride=2),
    "dilation 2": dict(padding=2, dilation=2),
    "4 groups": dict(padding=1, groups=4),
    "circular": dict(padding=1, padding_mode="circular"),
}


def conv_truth(W, n, how):
    """Largest singular value of torch's convolution by ARPACK, to 1e-10: it comes from below."""
    groups = how.get("groups", 1)
    conv = torch.nn.Conv2d(W.shape[1] * groups, W.shape[0], 3, bias=False, dtype=torch.float64, **how)
    conv.weight.data = torch.tensor(W)
    conv.requires_grad_(False)
    x = torch.zeros(1, W.shape[1] * groups, n, n, dtype=torch.float64, requires_grad=True)
    y = conv(x)

    def forward(v):
        return conv(torch.tensor(np.ravel(v)).reshape(x.shape)).flatten().numpy()

    def back(u):
        return torch.autograd.grad(y, x, torch.tensor(np.ravel(u)).reshape(y.shape), retain_graph=True)[0].flatten().numpy()

    A = LinearOperator((y.numel(), x.numel()), matvec=forward, rmatvec=back, dtype=float)
    ncv, rng = min(40, min(A.shape) - 1), np.random.default_rng(0)
    return float(svds(A, k=1, tol=1e-10, ncv=ncv, return_singular_vectors=False, rng=rng)[0])


def convolutions(repeats):
    rng = np.random.default_rng(64)
    kinds = {"Gaussian": lambda *s: rng.standard_normal(s), "nonnegative": lambda *s: np.abs(rng.standard_normal(s))}
    over, low, flat, grid, times = {}, {}, {}, {}, []
    for kind, draw in kinds.items():
        for name, how in CONVOLUTIONS.items():
            W = draw(64, 64 // how.get("groups", 1), 3, 3)
            b, truth = conv_norm(W, (32, 32), **how), conv_truth(W, 32, how)
            case = f"{kind}, {name}"
            over[case], low[case] = b.upper / truth, b.lower / truth
            if name == "zero padding":
                flat[case] = torch_estimate(W) / truth
                times.append(seconds(lambda W=W, how=how: conv_norm(W, (32, 32), **how), repeats=repeats, cpu=True))
    # The grid of the image itself: an alternating kernel on an odd image has its norm between two frequencies.
    w = np.outer([1, -2, 1], [1, -2, 1]).astype(float)[None, None]
    truth = conv_truth(w, 5, dict(padding=1))
    grid = np.abs(np.fft.fft2(w[0, 0], (5, 5))).max() / truth
    worst = max(over, key=over.get)
    sound = min(over.values()) >= 1 - 1e-9 and max(low.values()) <= 1 + 1e-9 and over[worst] <= 1.01
    shares = ", ".join(f"{v:.2f} ({k.split(',')[0]})" for k, v in flat.items())
    row = Row(
        f"conv_norm, 64-64-3x3 on 32x32: {', '.join(CONVOLUTIONS)}, Gaussian and nonnegative kernels",
        "torch spectral_norm of the flattened kernel; FFT on the grid of the image",
        "never low; <= 1.01 of the truth (ARPACK on torch's convolution)",
        f"upper {min(over.values()):.4f} to {over[worst]:.4f} ({worst}) of the truth, lower >= {min(low.values()):.4f}; torch "
        f"{shares}; FFT on the image's grid {grid:.2f} (second differences, 5 x 5); {max(times):.1f} s for one bracket",
        sound,
        "" if sound else f"worst upper {over[worst]:.4f} of the truth ({worst}), least {min(over.values()):.6f}",
    )
    return row, sound


def small_convolutions():
    rng = np.random.default_rng(3)
    widest = 0.0
    for how in CONVOLUTIONS.values():
        groups = how.get("groups", 1)
        for _ in range(4):
            W = rng.standard_normal((8, 8 // groups, 3, 3))
            widest = max(widest, conv_norm(W, (8, 8), **how).ratio - 1)
    return Row(
        "conv_norm, 8-8-3x3 on 8x8, the same kinds",
        "none",
        "exact to 1e-6",
        f"widest of {4 * len(CONVOLUTIONS)} brackets {widest:.1e}",
        widest <= 1e-6,
        "" if widest <= 1e-6 else "the matrix was not written out",
    ), widest <= 1e-6


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--repeats", type=int, default=3)
    options.add_argument("--save", action="store_true")
    repeats = options.parse_args().repeats
    rows, sound = [], True
    for n, target in SIZES.items():
        row, fine, gaussian = dense(n, target, repeats)
        rows.append(row)
        sound &= fine
        if n == min(SIZES):
            rows.append(power_iteration(gaussian))
    for row, fine in (convolutions(repeats), small_convolutions()):
        rows.append(row)
        sound &= fine
    report("operator_norms", rows, peers=())
    sys.exit(0 if sound else 1)


if __name__ == "__main__":
    main()
