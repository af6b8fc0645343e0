"""One case of every form, with options: a law and parameters from which exact losses are made."""

import numpy as np

from limitlib.scaling import LeastSquares, LogHuber, Runs, law

DOMAINS = [f"r{i}" for i in range(5)]
CASES = {
    "power": (law("power"), dict(E=1.7, A=300.0, alpha=0.12)),
    "power, no floor": (law("power", x="N", floor=False), dict(A=30.0, alpha=0.1)),
    "additive": (
        law("additive", variables=("P", "N", "K")),
        dict(E=1.5, A_P=400.0, A_N=900.0, A_K=20.0, a_P=0.34, a_N=0.3, a_K=0.4),
    ),
    "chinchilla": (law("chinchilla"), dict(E=1.69, A=406.4, B=410.7, alpha=0.34, beta=0.28)),
    "chinchilla, no floor": (law("chinchilla", floor=False), dict(A=40.0, B=90.0, alpha=0.2, beta=0.18)),
    "kaplan": (law("kaplan"), dict(P_c=6.4e13, N_c=1.8e13, alpha_P=0.076, alpha_N=0.103)),
    "over-training": (law("over-training"), dict(E=1.8, A=100.0, B=300.0, eta=0.25)),
    "schedule": (law("schedule"), dict(E=1.8, A_P=100.0, A_K=3.0, H=0.2, a_P=0.3, a_K=0.3)),
    "width-depth": (law("width-depth"), dict(E=1.6, A=20.0, B=2.0, D=900.0, alpha=0.6, beta=0.7, gamma=0.35)),
    "critical": (law("critical"), dict(E=1.5, A_N=900.0, A_P=400.0, A_K=20.0, n=0.3, p=0.34, k=0.4)),
    "paper": (law("paper"), dict(E=1.5, A_N=900.0, A_P=2.0, A_K=1.0, lip=0.95, beta=0.9999)),
    "repetition": (law("repetition"), dict(E=1.7, A=400.0, B=900.0, alpha=0.34, beta=0.31, R_star=5.0)),
    "transfer": (law("transfer"), dict(E=1.7, A=400.0, B=900.0, alpha=0.34, beta=0.31, k=2e3, f=0.5, b=0.3)),
    "multilingual": (law("multilingual"), dict(E=1.7, A=400.0, B=900.0, alpha=0.34, beta=0.31, tau=0.2)),
    "multimodal": (
        law("multimodal"),
        dict(E=1.2, A=100.0, B1=300.0, B2=20.0, D=900.0, alpha=0.3, beta1=0.3, beta2=0.2, gamma=0.35),
    ),
    "experts": (law("experts"), dict(a=-0.082, b=-0.108, c=0.009, d=2.5, E_start=1.8, E_max=314.0)),
    "mixing-exponential": (
        law("mixing-exponential", domains=DOMAINS),
        {"E": 1.5} | dict(zip([f"t_{d}" for d in DOMAINS], [0.5, 0.2, -1.0, -3.0, 0.1], strict=True)),
    ),
    "mixing-power": (
        law("mixing-power", domains=DOMAINS),
        {"E": 1.5, "A": 0.2} | dict(zip([f"t_{d}" for d in DOMAINS], [0.5, 0.2, 0.1, 0.3, -0.1], strict=True)),
    ),
    "mixing-pooled": (
        law("mixing-pooled", domains=DOMAINS),
        dict(zip([f"w_{d}" for d in DOMAINS], [0.02, 0.5, 0.05, 0.1, 0.3], strict=True)) | {"gamma": 0.2, "a": 0.6},
    ),
    "mixed": (
        law("mixed", powers="P", exponentials=("nll",), roots="N"),
        dict(E=1.5, A_P=400.0, A_nll=2.0, A_N=900.0, a_P=0.34, q_nll=0.4),
    ),
    "broken": (law("broken", x="C"), dict(E=1.2, A=1e3, c0=0.15, c1=0.2, d1=1e19, f1=0.4)),
    "loss-to-error": (law("loss-to-error"), dict(eps=0.9, k=1.0, gamma=0.8)),
    "sigmoid": (law("sigmoid", x=("nll",)), dict(b=3.0, w_nll=-1.2)),
    "sigmoid, free ends": (
        law("sigmoid", x=("nll", "lr"), floor=None, ceiling=None),
        dict(floor=0.2, ceiling=0.9, b=3.0, w_nll=-1.2, w_lr=0.7),
    ),
}


def between(rng, low, high, n):
    """Evenly in the logarithm."""
    return np.exp(rng.uniform(np.log(low), np.log(high), n))


def columns(law, rng, n):
    """A random design with every column the law needs."""
    P, N = between(rng, 1e7, 1e10, n), between(rng, 1e9, 3e11, n)
    part = N * rng.uniform(0.1, 0.9, n)
    shares = rng.dirichlet(np.ones(5), n)
    every = {
        "P": P, "N": N, "K": between(rng, 1e3, 1e5, n), "C": 6 * P * N, "lr": rng.choice([0.0, 0.1, 0.5, 1.0], n),
        "width": between(rng, 150, 3000, n), "depth": between(rng, 3, 60, n), "unique": N / between(rng, 1, 20, n),
        "N1": part, "N2": N - part, "experts": 2.0 ** rng.integers(0, 10, n), "nll": rng.uniform(1, 4, n),
        **{f"r{i}": shares[:, i] for i in range(5)},
    }  # fmt: skip
    if law.name == "paper":
        every["P"] = rng.integers(1, 60, n).astype(float)
    return {v: every[v] for v in law.variables}


def objective_of(law):
    return LeastSquares("raw") if law.scale == "raw" else LogHuber(1e-3)


def runs_of(law, truth, rng, n, noise=0.0, **more):
    """Runs whose losses are the law's, times e^(noise z) (plus noise z for scores)."""
    given = columns(law, rng, n)
    z = noise * rng.normal(size=n)
    exact = law.predict(truth, **given)
    loss = exact + z if law.scale == "raw" else exact * np.exp(z)
    return Runs.from_arrays(loss, **given, run="=row", **({"unit": "=score"} if law.scale == "raw" else {}), **more)
