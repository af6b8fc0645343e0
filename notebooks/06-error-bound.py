# %% [markdown]
# # The error bound and its tension with Lip = 1
# What an error is made of, when the bound $\beta^K+\mathrm{Lip}(T)^P+N^{-1/2}$ is a theorem, and why it excludes the
# critical condition in a plain stack. Every statement of the [chapter](../../book/06-error-bound.md), run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
from dataclasses import asdict
from math import inf, log, sqrt

import numpy as np
from scipy.spatial.distance import pdist
from scipy.special import expit, log_softmax, zeta
from scipy.stats import binom
from threadpoolctl import threadpool_limits

from limitlib import blocks, companion, corpora
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.covering import dudley_integral
from limitlib.operators import operator_norm
from limitlib.performance import collapse_depth, decompose, injected_bound, pl_bound, untied_entropy

# %%
P = companion.profile(
    profile,
    smoke=dict(draws=200, seeds=1, steps=60, retrained=(1, 30)),
    cpu=dict(draws=400, seeds=3, steps=100, retrained=(1, 2, 4, 8, 16, 30)),
    gpu=dict(seeds=5),
)
rng = np.random.default_rng(seed)
_ = threadpool_limits(1)  # small matrices: a second thread would only wait (comes with scikit-learn)

# %% [markdown]
# ## The tension (T4.2)
# A plain stack: $0.9$, $0.99$ or $1$ times a rotation, repeated. Two inputs at distance 1 with the labels $\pm1$. The
# readout may have slope 10 at most, so it separates them fully only at a distance of at least $0.2$. The best readout
# is written down and evaluated on the states; its risk is the mean absolute error, and a constant has risk 1.

# %%
depths = np.unique(np.geomspace(1, 1000, 60).astype(int))
depths = np.unique(np.concatenate([[0, 22, 50, 300, 1000], depths]))

# %%
def states(q, depth, start):
    """The states of q times a rotation by one radian, layer by layer, shape (depth + 1, 2)."""
    kept, turn = [np.asarray(start, dtype=float)], q * blocks.plane_rotation(1.0)
    for _ in range(depth):
        kept.append(turn @ kept[-1])
    return np.array(kept)


def least_risk(x, y, slope=10.0):
    """Mean absolute error, labels +1 and -1, of the best affine readout of slope at most ``slope``, per depth."""
    apart = np.linalg.norm(x - y, axis=1, keepdims=True)
    w = (x - y) / np.maximum(apart, 1e-300) * np.minimum(slope, 2 / np.maximum(apart, 1e-300))
    b = -np.sum(w * (x + y), axis=1) / 2
    return (abs(np.sum(w * x, 1) + b - 1) + abs(np.sum(w * y, 1) + b + 1)) / 2

# %%
tension = {}
for name, q in (("q90", 0.9), ("q99", 0.99), ("q1", 1.0)):
    x, y = states(q, 1000, [0.8, 0.6])[depths], states(q, 1000, [-0.2, 0.6])[depths]
    tension[q] = {"distance": np.linalg.norm(x - y, axis=1), "risk": least_risk(x, y), "term": q**depths.astype(float)}
    for n in (50, 300):
        at = np.flatnonzero(depths == n)[0]
        companion.record(f"K14.distance_{name}_p{n}", tension[q]["distance"][at], fmt=".3g", badge="theory")
        companion.record(f"K14.least_risk_{name}_p{n}", tension[q]["risk"][at], fmt=".3f", badge="theory")
separation = max(abs(t["distance"] / t["term"] - 1).max() for t in tension.values())
companion.record("K14.distance_over_term_error", separation, fmt=".1e", badge="theory")
lower = max((1 - 5 * t["term"] - t["risk"]).max() for t in tension.values())
companion.record("K14.risk_below_its_bound", lower, fmt=".1e", badge="theory")

# %%
fig, axes = new_figure(2, 1, height=5.0, sharex=True)
shown = depths[1:]
for t, color, marker in zip(tension.values(), ("vermillion", "blue", "green"), "os^", strict=True):
    axes[0].semilogx(shown, t["term"][1:], color=PALETTE["black"], ls="--", marker="", lw=1.2)
    axes[0].plot(shown[::3], t["distance"][1::3], color=PALETTE[color], ls="", marker=marker)
    axes[1].plot(shown, t["risk"][1:], color=PALETTE[color], ls="-", marker=marker, markevery=3)
for x, y, q, color in ((16, 0.28, 0.9, "vermillion"), (160, 0.28, 0.99, "blue"), (160, 0.92, 1, "green")):
    direct_label(axes[0], x, y, f"factor {q:g}", color)
direct_label(axes[0], 1.0, 0.12, "dashed: depth term $\\mathrm{Lip}(T)^P$\nmarkers: distance of two inputs")
for x, y, q, color in ((4.2, 0.55, 0.9, "vermillion"), (55, 0.55, 0.99, "blue"), (330, 0.09, 1, "green")):
    direct_label(axes[1], x, y, f"factor {q:g}", color)
axes[1].axhline(1, color=PALETTE["black"], ls=":", lw=1.1)
direct_label(axes[1], 1.0, 1.06, "risk of a constant")

# %%
axes[0].set(ylabel="term and distance (no unit)", ylim=(-0.04, 1.1))
axes[0].minorticks_off(), axes[1].minorticks_off()
axes[1].set(xlabel="depth $P$ (blocks)", ylabel="least risk (absolute error)", ylim=(-0.06, 1.16), xlim=(0.9, 1100))
axes[0].set_title("The depth term of the bound is the distance that the stack keeps")
axes[1].set_title("Where the term vanishes, the best readout is a constant")
rows = [{"factor": q, "depth": n, "term": t["term"][k], "distance": t["distance"][k], "least_risk": t["risk"][k]}
        for q, t in tension.items() for k, n in enumerate(depths.tolist())]  # fmt: skip
companion.save_figure(
    fig, "06-error-bound-tension", badge="theory", data=rows,
    alt="Two panels against depth on a logarithmic axis. Top: distance of two inputs lies on the dashed depth term, which "
    "falls to zero for factors 0.9 and 0.99 and stays at one for factor 1. Bottom: the least risk rises to that of a "
    "constant where the term vanishes, and stays at zero for factor 1.",
)  # fmt: skip

# %% [markdown]
# A margin makes the same statement a depth (F4): at factor $0.9$, distance 1 and margin $0.1$ nothing is left after
# $\ln10/\ln(1/0.9)$ layers.

# %%
apart = np.linalg.norm(states(0.9, 60, [0.8, 0.6]) - states(0.9, 60, [-0.2, 0.6]), axis=1)
companion.record("K14.collapse_depth", collapse_depth(1.0, 0.1, 0.9), fmt=".2f")
companion.record("K14.collapse_layers", int(np.argmax(apart < 0.1)), fmt="d", badge="theory")

# %% [markdown]
# ## Sample by sample the inequality fails (S1, E4.1)
# One hypothesis, loss Bernoulli(0.3), $n$ samples. The three-term inequality says $R_S\le R$. How often is it false?

# %%
for n in (10, 100, 1000, 10_000):
    companion.record(f"S1.violation_n{n}", binom.sf(round(0.3 * n), n, 0.3), fmt=".6f" if n == 100 else ".4f")
observed = rng.binomial(100, 0.3, 100_000) / 100
parts = [decompose(lambda _: 0.3, lambda _, r=r: r, trained=0, minimiser=0, best=0) for r in observed]
fails = np.mean([p.excess > p.optimisation + p.architecture + p.approximation + p.generalisation + 1e-12 for p in parts])
companion.record("S1.violation_frequency", fails, fmt=".4f", badge="measured", seeds=1)
error = sqrt(fails * (1 - fails) / len(observed))
companion.record("S1.violation_z", abs(fails - binom.sf(30, 100, 0.3)) / error, fmt=".2f", badge="measured")
mean_z = abs(np.mean([p.selection for p in parts])) / sqrt(0.21 / 100 / len(parts))
companion.record("S1.third_bracket_z", mean_z, fmt=".2f", badge="measured")

# %% [markdown]
# ## A problem in which every constant is known
# Inputs $x\in\{\pm1\}^5/\sqrt5$, labels from a logistic model. The network is $z\mapsto qz+(1-q)\langle\theta,x\rangle$,
# repeated $P$ times from 0, with output $z$; the loss is the logistic loss plus a ridge $\frac\lambda2\|\theta\|^2$.
# There are 64 pairs $(x,y)$, so risks are finite sums, and a sample of any size is 64 counts.

# %%
Q, RIDGE = 0.8, 0.1
cube = (2.0 * ((np.arange(32)[:, None] >> np.arange(5)) & 1) - 1) / sqrt(5)
signed = np.concatenate([cube, -cube])  # y x for each pair
truth = expit(signed @ np.array([3.0, -2.0, 1.5, -1.0, 0.5])) / 32  # the probability of each pair
RADIUS = sqrt(2 * log(2) / RIDGE)  # no iterate leaves this ball: its ridge is at most the loss ln 2 of the start
known = dict(
    q=Q, beta=1 - RIDGE / (0.25 + RIDGE), initial_gap=log(2), loss_lipschitz=1.0, readout_lipschitz=1.0,
    state_bound=RADIUS, parameter_lipschitz=1 + RIDGE * RADIUS, radius=RADIUS, dimension=5,
)  # fmt: skip


def criterion(theta, weights, depth):
    """Risk with ridge of parameters (..., 5) under weights (..., 64) on the pairs, at a depth."""
    f = (1 - Q**depth) * theta @ signed.T
    return np.sum(weights * np.logaddexp(0, -f), axis=-1) + RIDGE / 2 * np.sum(theta**2, axis=-1)


# %%
def slope(theta, weights, depth):
    """Gradient of ``criterion``."""
    a = 1 - Q**depth
    return RIDGE * theta - a * (weights * expit(-a * theta @ signed.T)) @ signed


def descend(weights, depth, steps):
    """Parameters after each number of gradient steps of size 1/L from 0, for every row of weights."""
    theta, kept = np.zeros((*weights.shape[:-1], 5)), {}
    for k in range(max(steps) + 1):
        if k in steps:
            kept[k] = theta
        theta = theta - slope(theta, weights, depth) / (0.25 + RIDGE)
    return kept

# %%
def minimise(weights, depth):
    """The minimiser of ``criterion`` by Newton's method; its gradient is checked."""
    a, theta = 1 - Q**depth, np.zeros((*weights.shape[:-1], 5))
    for _ in range(20):
        p = expit(a * theta @ signed.T)
        hessian = np.einsum("...c,ci,cj->...ij", weights * a * a * p * (1 - p), signed, signed) + RIDGE * np.eye(5)
        theta = theta - np.linalg.solve(hessian, slope(theta, weights, depth)[..., None])[..., 0]
    assert abs(slope(theta, weights, depth)).max() < 1e-12
    return theta


# %% [markdown]
# ### Four brackets (T4.1)
# 300 samples of size 100, depth 6, two gradient steps. The brackets add up on every sample; the third one is negative in
# the mean and positive on many samples, and on those the three-term inequality is false.

# %%
limit = minimise(truth, inf)
best = minimise(truth, 6)
samples = rng.multinomial(100, truth, 300) / 100
trained, minimisers = descend(samples, 6, {2})[2], minimise(samples, 6)
split = [
    decompose(
        lambda h: criterion(h[0], truth, h[1]), lambda h, s=s: criterion(h[0], s, h[1]),
        trained=(a, 6), minimiser=(m, 6), best=(best, 6), limit=(limit, inf), optimal_risk=criterion(limit, truth, inf),
    )
    for s, a, m in zip(samples, trained, minimisers, strict=True)
]  # fmt: skip
brackets = {name: np.array([getattr(s, name) for s in split])
            for name in ("generalisation", "optimisation", "selection", "architecture")}  # fmt: skip
excess = criterion(trained, truth, 6) - criterion(limit, truth, inf)
companion.record("K13.identity_error", abs(sum(brackets.values()) - excess).max(), fmt=".1e", badge="theory")
companion.record("K13.worst_violation", brackets["selection"].max(), fmt=".3f", badge="measured", seeds=1)

# %% [markdown]
# The mean of the third bracket is that of $R_S(h_S)-R_S(h)$, which is never positive; for large $N$ it is
# $-\mathrm{tr}(H^{-1}C)/(2N)$, $H$ the Hessian and $C$ the covariance of the gradient at the best parameters.

# %%
many = rng.multinomial(1000, truth, 2000) / 1000
chosen = criterion(minimise(many, 6), many, 6) - criterion(best, many, 6)
companion.record("K13.third_bracket_times_n", 1000 * chosen.mean(), fmt=".3f", badge="measured", seeds=1)
companion.record("K13.fit_beats_best_by", -chosen.max(), fmt=".1e", badge="measured", seeds=1)
small = rng.multinomial(100, truth, 4000) / 100
third = criterion(minimise(small, 6), small, 6) - criterion(best, truth, 6)
companion.record("K13.pointwise_violated", np.mean(third > 0), fmt=".3f", badge="measured", seeds=1)

# %%
fig, axes = new_figure(2, 1, height=5.4)
order, looks = np.argsort(brackets["selection"]), dict(zip(brackets, ("blue", "orange", "vermillion", "green"), strict=True))
for (name, values), ls, marker in zip(brackets.items(), ("-", "-.", "--", ":"), "ods^", strict=True):
    axes[0].plot(values[order], color=PALETTE[looks[name]], ls=ls, marker=marker, markevery=30, lw=1.2)
direct_label(axes[0], 12, 0.044, "first: $R(\\hat f)-R_S(\\hat f)$", looks["generalisation"])
direct_label(axes[0], 60, -0.027, "third: $R_S(h_S)-R(h)$", looks["selection"])
direct_label(axes[0], 180, 0.029, "fourth: architecture", looks["architecture"])
direct_label(axes[0], 12, -0.004, "second: optimisation", looks["optimisation"])
axes[0].axhline(0, color=PALETTE["black"], lw=0.8, ls="-")
axes[0].set(xlabel="sample (ordered by the third bracket)", ylabel="bracket (nats)", ylim=(-0.042, 0.053))
bins = np.linspace(-0.04, 0.04, 33)
for side, color, hatch in ((brackets["selection"] <= 0, "blue", ""), (brackets["selection"] > 0, "vermillion", "///")):
    axes[1].hist(brackets["selection"][side], bins, color=PALETTE[color], alpha=0.6, hatch=hatch, edgecolor="white")

# %%
direct_label(axes[1], -0.038, 24, "three terms\nare enough", "blue")
direct_label(axes[1], 0.024, 24, "three terms\nare too few", "vermillion")
axes[1].set(xlabel="third bracket (nats)", ylabel="samples (count)")
axes[0].set_title("The third bracket has either sign, and the first one mirrors it")
axes[1].set_title("On a large share of the samples the three-term inequality is false")
companion.save_figure(
    fig, "06-error-bound-brackets", badge="measured",
    alt="Top: four brackets over three hundred samples ordered by the third one, which runs from negative to positive while "
    "the first runs the other way; optimisation and architecture are small and positive. Bottom: histogram of the third "
    "bracket, with a large part above zero, where the three-term inequality fails.",
    data={name: values[order] for name, values in brackets.items()},
)  # fmt: skip

# %% [markdown]
# ### The right side of T4.3, evaluated, beside the measured excess risk
# Three sweeps: over steps, over depth, over samples, the other two arguments large. Samples of size $10^{12}$ cost
# nothing here, since a sample is 64 counts.

# %%
def mean_excess(N, depth, steps):
    """Mean over the draws of R(theta_K at depth P) - R(best infinite depth), for each K of ``steps``."""
    weights = rng.multinomial(N, truth, P["draws"]) / N
    return {k: float(np.mean(criterion(theta, truth, depth)) - criterion(limit, truth, inf))
            for k, theta in descend(weights, depth, set(steps)).items()}  # fmt: skip


big, steps = 10**12, (0, 1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40)
sizes, levels = (1, 2, 3, 5, 8, 12, 16, 20, 25, 30, 40), (30, 100, 1000, 10**4, 10**5, 10**6, 10**7, 10**8)
table = [{"sweep": "K", "N": big, "P": 100, "K": k, "excess": v} for k, v in mean_excess(big, 100, steps).items()]
table += [{"sweep": "P", "N": big, "P": p, "K": 200, "excess": mean_excess(big, p, [200])[200]} for p in sizes]
table += [{"sweep": "N", "N": n, "P": 100, "K": 200, "excess": mean_excess(n, 100, [200])[200]} for n in levels]
for row in table:
    bound = injected_bound(N=row["N"], P=row["P"], K=row["K"], **known)
    row |= {"bound": bound.total, **asdict(bound)}
worst = max(row["excess"] / row["bound"] for row in table)
companion.record("K14.bound_worst_ratio", worst, fmt=".2f", badge="measured", seeds=1)

# %%
at = {(row["sweep"], row[row["sweep"]]): row for row in table}
for sweep, value in (("K", 8), ("P", 8), ("N", 1000), ("N", 10**6)):
    row = at[sweep, value]
    name = f"{sweep.lower()}{value}"
    companion.record(f"K14.bound_{name}", row["bound"], fmt=".3g", badge="theory")
    companion.record(f"K14.excess_{name}", row["excess"], fmt=".2g", badge="measured", seeds=1)
    companion.record(f"K14.looseness_{name}", row["bound"] / row["excess"], fmt=".0f", badge="measured", seeds=1)
companion.record("K14.beta", known["beta"], fmt=".4f")
needed = (injected_bound(N=1, P=inf, K=inf, **known).sample / log(2)) ** 2
companion.record("K14.samples_before_it_says_anything", needed, fmt=".3g")
companion.record("K14.depth_rate", (at["P", 40]["excess"] / at["P", 30]["excess"]) ** 0.1, fmt=".3f", badge="measured", seeds=1)
large = [row for row in table if row["sweep"] == "N" and row["N"] >= 10**4]
power = np.polyfit(np.log([row["N"] for row in large]), np.log([row["excess"] for row in large]), 1)[0]
companion.record("K14.sample_power", power, fmt=".3f", badge="measured", seeds=1)

# %%
for term, key in (("optimisation", ("K", 0)), ("architecture", ("P", 1)), ("sample", ("N", 10**6))):
    row = at[key]
    others = row["bound"] - row[term]
    companion.record(f"K14.without_{term}", row["excess"] / others, fmt=".3g", badge="measured", seeds=1)

# %%
fig, axes = new_figure(3, 1, height=7.2)
words = {"K": "gradient steps $K$", "P": "depth $P$ (blocks)", "N": "samples $N$"}
for ax, sweep, term in zip(axes, words, ("optimisation", "architecture", "sample"), strict=True):
    part = [row for row in table if row["sweep"] == sweep]
    where = [row[sweep] for row in part]
    ax.plot(where, [row["bound"] for row in part], color=PALETTE["black"], ls="--", marker="")
    ax.plot(where, [row[term] for row in part], color=PALETTE["vermillion"], ls=":", marker="")
    ax.plot(where, [row["excess"] for row in part], color=PALETTE["blue"], ls="-", marker="o")
    ax.set(yscale="log", xlabel=words[sweep], ylabel="excess risk (nats)", xscale="log" if sweep == "N" else "linear")
    ax.minorticks_off()
    ax.set_title(f"{term} term: the other two arguments are large", fontweight="normal")
direct_label(axes[0], 20, 0.03, "bound (dashed), its term (dotted)", "black")
direct_label(axes[0], 2, 1e-8, "measured", "blue"), direct_label(axes[1], 2, 5e-3, "measured", "blue")
direct_label(axes[2], 60, 2e-5, "measured", "blue")
_ = fig.suptitle("Every constant known: the bound of T4.3 is never violated, and far from tight in $N$", x=0.01, ha="left",
                 fontsize=10, fontweight="bold")  # fmt: skip

# %%
companion.save_figure(
    fig, "06-error-bound-evaluated", badge="measured", data=table,
    alt="Three panels, excess risk on a logarithmic axis against steps, depth and samples: the measured excess risk stays "
    "below the dashed bound everywhere; in the panel over samples the bound is larger by several orders of magnitude.",
)  # fmt: skip

# %% [markdown]
# ## Gradient steps under the Polyak-Łojasiewicz condition (T4.4, E4.2)
# Least squares with 30 equations and 10 unknowns, 200 steps of size $1/L$; also with rank 6, where the minimiser is not
# unique and the smallest *nonzero* curvature counts. Then with a constant that is too large: the mean curvature.

# %%
def least_squares(A, b, steps):
    """Gaps f(x_k) - min f of f = |Ax - b|^2 / (2 n) under steps 1/L from 0, and the nonzero curvatures."""
    n, x = len(b), np.zeros(A.shape[1])
    curvature = np.linalg.svd(A, compute_uv=False) ** 2 / n
    curvature = curvature[curvature > 1e-10]
    target, gaps = np.linalg.lstsq(A, b, rcond=None)[0], []
    for _ in range(steps + 1):
        gaps.append(np.sum((A @ (x - target)) ** 2) / (2 * n))
        x = x - A.T @ (A @ (x - target)) / n / curvature[0]
    return np.array(gaps), curvature

# %%
draw = np.random.default_rng(1)
A, b = draw.standard_normal((30, 10)), draw.standard_normal(30)
low_rank = draw.standard_normal((30, 6)) @ draw.standard_normal((6, 10)) / sqrt(6)
k, curves = np.arange(201), {}
for name, matrix in (("full", A), ("rank6", low_rank)):
    gaps, curvature = least_squares(matrix, b, 200)
    bound = pl_bound(gaps[0], mu=curvature[-1], L=curvature[0], K=k)
    curves[name] = gaps, bound, pl_bound(gaps[0], mu=curvature.mean(), L=curvature[0], K=k)
    companion.record(f"K14.pl_largest_ratio_{name}", (gaps / bound)[1:].max(), fmt=".3f", badge="theory")

# %%
gaps, bound, false_bound = curves["full"]
companion.record("K14.pl_overstated_ratio", gaps[100] / false_bound[100], fmt=".2g", badge="theory")
companion.record("K14.pl_overstated_first_step", int(np.argmax(gaps > false_bound)), fmt="d", badge="theory")
widths = np.unique(np.geomspace(2, 10_000, 60).astype(int))
moving = (1 - 1 / widths) ** 100  # C3.3: after 100 steps the slowest direction keeps this share
companion.record("K14.moving_beta_error", (1 - 1 / 1000) ** 100, fmt=".4f")
companion.record("K14.fixed_beta_claims", 0.9**100, fmt=".2g")
companion.record("K14.beta_ratio", (1 - 1 / 1000) ** 100 / 0.9**100, fmt=".3g")
companion.record("K14.beta_along_p", (1 - 1e-6) ** 10**6, fmt=".4f")

# %%
fig, axes = new_figure(2, 1, height=5.2)
axes[0].semilogy(k, bound, color=PALETTE["black"], ls="--", marker="")
axes[0].plot(k, false_bound, color=PALETTE["vermillion"], ls=":", marker="")
axes[0].plot(k, gaps, color=PALETTE["blue"], ls="-", marker="o", markevery=15)
direct_label(axes[0], 60, 0.03, "PL bound, smallest curvature"), direct_label(axes[0], 84, 3e-7, "measured", "blue")
direct_label(axes[0], 1, 1e-12, "mean curvature:\nno bound", "vermillion")
axes[0].set(xlabel="gradient steps $K$", ylabel="gap $f(x_K)-\\min f$ (no unit)", ylim=(1e-16, 3))
axes[1].loglog(widths, moving, color=PALETTE["blue"], ls="-", marker="o", markevery=6)
axes[1].axhline(0.9**100, color=PALETTE["vermillion"], ls=":")
direct_label(axes[1], 30, 3e-4, "what $\\beta$ read off at $P=10$ promises", "vermillion")
direct_label(axes[1], 150, 0.12, "true worst share of the distance, $\\mu=1/P$", "blue")
axes[1].set(xlabel="size $P$ (parameters)", ylabel="share after 100 steps (no unit)", ylim=(5e-6, 2))
axes[0].minorticks_off(), axes[1].minorticks_off()
axes[0].set_title("The PL bound holds with the smallest curvature, not with the mean one")
_ = axes[1].set_title("A factor $\\beta$ that depends on $P$ makes no bound for all $P$")

# %%
companion.save_figure(
    fig, "06-error-bound-pl", badge="theory",
    alt="Top: the training gap of least squares falls below the dashed PL bound, and crosses the dotted line drawn with the "
    "mean curvature. Bottom: with curvature 1/P the share of the distance that is left after a hundred steps rises to one with "
    "the size, far above what the factor read off at size 10 promises.",
    data=[{"panel": "least squares", "x": i, "value": gaps[i], "bound": bound[i], "false_bound": false_bound[i]} for i in k]
    + [{"panel": "moving beta", "x": int(w), "value": v, "bound": v, "false_bound": 0.9**100}
       for w, v in zip(widths, moving, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## Input injection: a half of every error per layer, and any limit (C4.5, E4.3)
# $T_x(z)=\frac12z+\frac12\varphi(x)$ has $\mathrm{Lip}_z=\frac12$ and the limit $\varphi(x)$, whatever $\varphi$ is.

# %%
def injected(phi, depth, z=0.0):
    """The states of z -> z/2 + phi/2 from z, stacked along a first axis of length depth + 1."""
    kept = [z + 0 * phi]
    for _ in range(depth):
        kept.append(0.5 * kept[-1] + 0.5 * phi)
    return np.array(kept)


phi = np.sign(np.sin(40 * np.linspace(0, 1, 101)))
error = abs(injected(phi, 20, z=3.0) - phi)
constant = error * 2.0 ** np.arange(21)[:, None] / error[0]
companion.record("K14.injection_constant_error", abs(constant - 1).max(), fmt=".2g", badge="theory")

# %% [markdown]
# F2: tasks $k=1,2,\dots$ occur with probability proportional to $k^{-3/2}$; the label of an input of task $k$ is a parity of
# its bits. A model of size $P$ holds the first $P$ parities, $\varphi_P(x)=\pm1$ on tasks up to $P$ and 0 beyond. The stack
# has 60 blocks with $\mathrm{Lip}_z=\frac12$ at every size. Loss in bits, $-\log_2\frac{1+yz}2$; a tie is half right.

# %%
tasks, subsets = np.arange(1, 201), np.random.default_rng(5).integers(0, 2, (200, 16))


def solve(size, inputs=64):
    """Accuracy and loss in bits on each of 200 tasks, of an injected stack that holds ``size`` parities."""
    bits = rng.integers(0, 2, (200, inputs, 16))
    label = 1.0 - 2 * (np.einsum("tib,tb->ti", bits, subsets) % 2)
    z = injected(np.where(tasks[:, None] <= size, label, 0.0), 60)[-1]
    right = np.where(z == 0, 0.5, np.sign(z) == label)
    return right.mean(axis=1), -np.log2((1 + label * z) / 2).mean(axis=1)

# %%
share, rest = tasks**-1.5 / zeta(1.5), zeta(1.5, 201) / zeta(1.5)
quanta = []
for size in range(1, 41):
    right, bits = solve(size)
    quanta.append({"size": size, "task10": right[9], "loss": share @ bits + rest})  # beyond task 200: one bit each
for size in (5, 9, 10, 11, 20):
    companion.record(f"K14.quanta_accuracy_p{size}", quanta[size - 1]["task10"], fmt=".1f", badge="theory")
    companion.record(f"K14.quanta_loss_p{size}", quanta[size - 1]["loss"], fmt=".3f", badge="theory")

# %%
fig, ax = new_figure(height=3.3)
size = [row["size"] for row in quanta]
ax.plot(size, [row["task10"] for row in quanta], color=PALETTE["vermillion"], ls="-", marker="s", drawstyle="steps-post")
ax.plot(size, [row["loss"] for row in quanta], color=PALETTE["blue"], ls="--", marker="o")
direct_label(ax, 13, 0.93, "accuracy on task 10", "vermillion")
direct_label(ax, 13, 0.31, "mean loss over all tasks (bits)", "blue")
direct_label(ax, 13, 0.72, "$\\mathrm{Lip}_z=1/2$ at every size")
ax.set(xlabel="size $P$ (parities held)", ylabel="accuracy; loss (bits)", ylim=(0, 1.08))
ax.set_title("An ability appears at size 10 although every block has $\\mathrm{Lip}_z=1/2$")
companion.save_figure(
    fig, "06-error-bound-quanta", badge="theory", data=quanta,
    alt="Accuracy on task 10 jumps from one half to one at size 10 while the mean loss over all tasks falls smoothly; the "
    "Lipschitz constant of every block in its state is one half throughout.",
)  # fmt: skip

# %% [markdown]
# The other reading: carry the input along. In the norm $\max(\|z\|,\ell\|x\|/(1-q))$ the plain block
# $(z,x)\mapsto(T(z,x),x)$ is nonexpansive, with constant exactly 1. Sampled here for $T=0.8\,z+\tanh(3x)$, $\ell=3$.

# %%
pairs = rng.standard_normal((2, 100_000, 2)) * np.geomspace(0.01, 10, 100_000)[:, None]
(z, x), (w, y) = pairs[0].T, pairs[1].T
after = np.maximum(abs(0.8 * (z - w) + np.tanh(3 * x) - np.tanh(3 * y)), 15 * abs(x - y))
ratio = after / np.maximum(abs(z - w), 15 * abs(x - y))
companion.record("K14.extended_largest_ratio", ratio.max(), fmt=".6f", badge="theory")

# %% [markdown]
# ## Digits: an injected network against a plain stack with the same factor
# Width 32, ReLU, weights held at norm $0.8$ and certified afterwards. Injected: $z\mapsto\mathrm{relu}(Wz+Ux+b)$ from 0,
# trained at depth 12. Plain: $z\mapsto\mathrm{relu}(Wz+a)$ from $\mathrm{relu}(Ux+b)$, trained at depth 3. Then the
# depth is changed without training.

# %%
data, F, width = corpora.digits(), 0.8, 32
x, y, x_test, y_test = data.x, data.y, data.x_test, data.y_test


def layers(net, x, depth, kind):
    """States after 0, 1, ..., ``depth`` blocks, each of shape (inputs, width)."""
    u = x @ net["U"].T + net["b"]
    kept = [0 * u if kind == "injected" else np.maximum(u, 0)]
    for _ in range(depth):
        kept.append(np.maximum(kept[-1] @ net["W"].T + (u if kind == "injected" else net["a"]), 0))
    return kept


def stack(net, x, depth, kind):
    """State after ``depth`` blocks."""
    return layers(net, x, depth, kind)[-1]

# %%
def gradient(net, depth, kind):
    """Gradient of the training cross-entropy, by the chain rule through the blocks."""
    z = layers(net, x, depth, kind)
    error = (np.exp(log_softmax(z[-1] @ net["V"].T, axis=1)) - np.eye(10)[y]) / len(y)
    slope = {name: np.zeros_like(value) for name, value in net.items()} | {"V": error.T @ z[-1]}
    back, into_u = error @ net["V"], 0.0
    for before, after in zip(z[-2::-1], z[:0:-1], strict=True):
        back = back * (after > 0)
        slope["W"] += back.T @ before
        slope["a"] += back.sum(0) * (kind == "plain")
        into_u = into_u + back * (kind == "injected")
        back = back @ net["W"]
    into_u = into_u + back * (z[0] > 0)  # the encoder of a plain stack; the injected one starts at 0
    return slope | {"U": into_u.T @ x, "b": into_u.sum(0)}

# %%
def fresh(seed):
    """Untrained parameters."""
    draw = np.random.default_rng(seed).standard_normal
    return {"U": draw((width, 64)) / 8, "W": F * np.linalg.qr(draw((width, width)))[0],
            "V": draw((10, width)) / sqrt(width), "b": np.zeros(width), "a": np.zeros(width)}  # fmt: skip


def train(seed, depth, kind, cap=inf):
    """Full-batch Adam steps; W kept at norm F, the readout V at norm ``cap`` at most; W certified at the end."""
    net, mean, square = fresh(seed), {}, {}
    for k in range(1, P["steps"] + 1):
        for name, g in gradient(net, depth, kind).items():
            mean[name] = 0.9 * mean.get(name, 0) + 0.1 * g
            square[name] = 0.999 * square.get(name, 0) + 0.001 * g**2
            net[name] -= 0.02 * mean[name] / (1 - 0.9**k) / (np.sqrt(square[name] / (1 - 0.999**k)) + 1e-8)
        net["W"] *= F / np.linalg.norm(net["W"], 2)
        net["V"] *= min(1.0, cap / np.linalg.norm(net["V"], 2))
    net["W"] *= F / operator_norm(net["W"]).upper * (1 - 1e-12)
    return net

# %%
def judge(net, z):
    """Test loss (nats) and accuracy, from the last states of the test inputs."""
    scores = log_softmax(z @ net["V"].T, axis=1)
    return -np.mean(scores[np.arange(len(y_test)), y_test]), np.mean(scores.argmax(1) == y_test)

# %% [markdown]
# The certified bound: $|R(f_P)-R(f_\infty)|\le\sqrt2\,\|V\|\,q^P\max_x\|g_1(x)\|/(1-q)$, with $q$ and $\|V\|$ certified upper
# ends. $\sqrt2$ is the Lipschitz constant of the cross-entropy in the logits. Depth 300 stands for the fixed point.

# %%
rows = []
for s in range(P["seeds"]):
    net = train(s, 12, "injected")
    q, V = operator_norm(net["W"]).upper, operator_norm(net["V"]).upper
    z = layers(net, x_test, 300, "injected")
    first, (loss, accuracy) = np.linalg.norm(z[1], axis=1).max(), judge(net, z[300])
    for depth in range(1, 31):
        now = judge(net, z[depth])
        rows.append({"kind": "injected", "seed": s, "depth": depth, "accuracy": now[1], "change": abs(now[0] - loss),
                     "bound": sqrt(2) * V * first / (1 - q) * q**depth, "accuracy_inf": accuracy, "norm": q})  # fmt: skip
    companion.progress(s + 1, 2 * P["seeds"], "digits")

# %%
deep = [r for r in rows if r["depth"] >= 10]
companion.record("K14.digits_norm", max(r["norm"] for r in rows), fmt=".3f", badge="measured", seeds=P["seeds"])
companion.record("K14.digits_worst_ratio", max(r["change"] / r["bound"] for r in rows), fmt=".1e", badge="measured",
                 seeds=P["seeds"])  # fmt: skip
companion.record("K14.digits_bound_p1", max(r["bound"] for r in rows if r["depth"] == 1), fmt=".0f", badge="measured",
                 seeds=P["seeds"])  # fmt: skip
companion.record("K14.digits_bound_p30", max(r["bound"] for r in rows if r["depth"] == 30), fmt=".2f", badge="measured",
                 seeds=P["seeds"])  # fmt: skip
companion.record("K14.digits_change_p30", max(r["change"] for r in rows if r["depth"] == 30), fmt=".1e", badge="measured",
                 seeds=P["seeds"])  # fmt: skip
companion.record("K14.digits_lowest_accuracy", min(r["accuracy"] for r in deep), fmt=".3f", badge="measured", seeds=P["seeds"])
kept = max(abs(r["accuracy"] - r["accuracy_inf"]) for r in deep)
companion.record("K14.digits_accuracy_moves", kept, fmt=".2g", badge="measured", seeds=P["seeds"])

# %% [markdown]
# The plain stack: all states lie within $q^PR$ of the fixed point $p$, $R=\max_x\|e(x)-p\|$. Once $\sqrt2\|V\|q^PR$ is below
# the margin of the two largest logits at $p$, every input gets the same class. That depth is computed before looking.

# %%
plain, common = [], np.bincount(data.y_test).max() / len(data.y_test)
for s in range(P["seeds"]):
    net = train(s, 3, "plain")
    q, V = operator_norm(net["W"]).upper, operator_norm(net["V"]).upper
    p = stack(net, x_test[:1], 3000, "plain")
    radius = np.linalg.norm(stack(net, x_test, 0, "plain") - p, axis=1).max()
    top = np.sort((p @ net["V"].T)[0])
    limit_depth = collapse_depth(radius, (top[-1] - top[-2]) / (sqrt(2) * V), q)
    z = layers(net, x_test, max(80, int(limit_depth) + 1), "plain")
    for depth in range(1, len(z)):
        spread = np.linalg.norm(z[depth] - p, axis=1).max()
        plain.append({"kind": "plain", "seed": s, "depth": depth, "accuracy": judge(net, z[depth])[1],
                      "change": spread, "bound": radius * q**depth, "limit": limit_depth, "norm": q})  # fmt: skip
    companion.progress(P["seeds"] + s + 1, 2 * P["seeds"], "digits")

# %%
companion.record("K14.plain_worst_ratio", max(r["change"] / r["bound"] for r in plain), fmt=".2f", badge="measured",
                 seeds=P["seeds"])  # fmt: skip
trained_at = [r["accuracy"] for r in plain if r["depth"] == 3]
shallow = [judge(net, stack(net, x_test, 5, "plain"))[1] for net in (train(s, 5, "plain") for s in range(P["seeds"]))]
companion.record("K14.plain_trained_p5", min(shallow), fmt=".2f", badge="measured", seeds=P["seeds"])
companion.record("K14.plain_trained_accuracy", min(trained_at), fmt=".2f", badge="measured", seeds=P["seeds"])
companion.record("K14.plain_computed_depth", max(r["limit"] for r in plain), fmt=".1f", badge="measured", seeds=P["seeds"])
beyond = [r["accuracy"] for r in plain if r["depth"] > r["limit"]]
companion.record("K14.plain_accuracy_beyond", max(beyond), fmt=".3f", badge="measured", seeds=P["seeds"])
soon = max(r["accuracy"] for r in plain if r["depth"] == 12)
companion.record("K14.plain_accuracy_p12", soon, fmt=".3f", badge="measured", seeds=P["seeds"])
companion.record("K14.commonest_class", common, fmt=".3f")

# %% [markdown]
# Does training at the larger depth help? By T4.2 (c) the loss of a plain stack is at least that of the best constant less
# $\sqrt2\,\|V\|\,q^P\,\mathrm{diam}\,e(X)$. Plain stacks are trained anew at each depth, readout norm at most 5.

# %%
frequency = np.bincount(data.y_test) / len(data.y_test)
constant_loss, retrained = -float(frequency @ np.log(frequency)), []
for depth in P["retrained"]:
    net = train(0, depth, "plain", cap=5.0)
    z = layers(net, x_test, depth, "plain")
    span = pdist(z[0]).max()
    V, q = operator_norm(net["V"]).upper, operator_norm(net["W"]).upper
    loss, accuracy = judge(net, z[-1])
    floor = constant_loss - sqrt(2) * V * q**depth * span
    retrained.append({"depth": depth, "loss": loss, "accuracy": accuracy, "floor": floor})
companion.record("K14.constant_loss", constant_loss, fmt=".4f", badge="theory")
under = max(r["floor"] - r["loss"] for r in retrained)
companion.record("K14.retrained_below_floor", under, fmt=".2f", badge="measured", seeds=1)
for name in ("loss", "floor", "accuracy"):
    companion.record(f"K14.retrained_{name}_p30", retrained[-1][name], fmt=".2f", badge="measured", seeds=1)

# %%
fig, axes = new_figure(2, 1, height=5.6)
n = np.arange(1, 31)
for s in range(P["seeds"]):
    mine, other = [[r for r in part if r["seed"] == s and r["depth"] <= 60] for part in (rows, plain)]
    axes[0].semilogy(n, [r["bound"] for r in mine], color=PALETTE["black"], ls="--", marker="", lw=1)
    axes[0].plot(n, [max(r["change"], 1e-12) for r in mine], color=PALETTE["blue"], ls="-", marker="o", ms=3, lw=1)
    axes[1].plot(n, [r["accuracy"] for r in mine], color=PALETTE["blue"], ls="-", marker="o", ms=3, lw=1)
    kept = [r["accuracy"] for r in other][2:60]
    axes[1].plot(range(3, 61), kept, color=PALETTE["vermillion"], ls="-.", marker="s", ms=3, lw=1)
    axes[1].axvline(other[0]["limit"], color=PALETTE["vermillion"], ls=":", lw=1.2)
for r in retrained:
    axes[1].plot(r["depth"], r["accuracy"], color=PALETTE["black"], marker="D", ls="", ms=6)
axes[1].axhline(common, color=PALETTE["black"], ls="--", lw=0.9)
direct_label(axes[0], 12, 600, "certified bound, $0.8^P$"), direct_label(axes[0], 16, 3e-3, "measured", "blue")
direct_label(axes[1], 36, 0.97, "injected, trained at depth 12", "blue")
direct_label(axes[1], 5, 0.75, "plain, trained at depth 3", "vermillion")
direct_label(axes[1], 6, 0.5, "diamonds: plain,\ntrained at that depth")
direct_label(axes[1], 36, 0.2, "dashed: share of the commonest class")

# %%
lowest = max(r["limit"] for r in plain)
direct_label(axes[1], lowest, 0.6, "beyond the dotted lines:\none class, certified", "vermillion")
axes[0].set(xlabel="depth $P$ (blocks)", ylabel="$|R(f_P)-R(f_\\infty)|$ (nats)", ylim=(1e-9, 1e4))
axes[0].minorticks_off()
axes[1].set(xlabel="depth $P$ (blocks)", ylabel="test accuracy", ylim=(0, 1.05), xlim=(0, 62))
axes[0].set_title("Injected: the loss settles, far below the certified bound")
axes[1].set_title("Same factor 0.8: injection keeps the accuracy, a plain stack loses it")
columns = ("kind", "seed", "depth", "accuracy", "change", "bound")
companion.save_figure(
    fig, "06-error-bound-digits", badge="measured",
    alt="Top: difference of the test loss between depth P and the fixed point, below the dashed certified bound at all depths "
    "from 1 to 30. Bottom: test accuracy against depth; the injected network stays high, the plain stack falls to chance soon "
    "after its training depth, and retraining at large depth does not help.",
    data=[{c: r[c] for c in columns} for r in rows + plain]
    + [dict(zip(columns, ("retrained", 0, r["depth"], r["accuracy"], r["loss"], r["floor"]), strict=True)) for r in retrained],
)  # fmt: skip

# %% [markdown]
# ## Where it breaks
# **$q=1$.** The kernel refuses, and rightly: $z\mapsto z+\varphi$ has no limit, its state grows with the depth.

# %%
try:
    injected_bound(N=100, P=10, K=10, **{**known, "q": 1.0})
    refused = False
except ValueError as error:
    refused = "at q = 1" in str(error)
companion.record("K14.q_one_refused", refused)
state, kept = 0.0, []
for _ in range(100):
    state = 1.0 * state + 1.0
    kept.append(state)
companion.record("K14.q_one_growth", kept[99] / kept[0], fmt=".0f")

# %% [markdown]
# **Weight tying dropped.** With $P$ layers of their own parameters, counting parameters multiplies the sample term by
# $\sqrt P$. That is the price of this argument, not always of the network: a finer count, which covers a layer the more
# coarsely the farther it is from the output, has a bound that does not grow. Blocks $T_\theta(z,x)$ that are
# 1-Lipschitz in $\theta$, contract by $q=\frac12$, five parameters, radius 1.

# %%
blocks_known = dict(q=0.5, dimension=5, parameter_lipschitz=1.0, radius=1.0)


def finer(depth, N=1.0):
    """UPPER bound of twice the Rademacher complexity by Dudley's integral of the finer count."""
    entropy = lambda eps: untied_entropy(eps, depth=depth, **blocks_known)  # noqa: E731
    return 24 / sqrt(N) * dudley_integral(entropy, 2.0, n=2000).high  # the states lie within 1/(1 - q) = 2 of one of them


layers = np.unique(np.geomspace(1, 10_000, 9).astype(int))
general = dict(N=1, P=inf, K=inf, beta=0.5, initial_gap=0.0, loss_lipschitz=1.0, readout_lipschitz=1.0, state_bound=0.0)
size = dict(q=0.5, dimension=5, parameter_lipschitz=2.0, radius=1.0)  # Lambda = 1/(1 - q)
tied = injected_bound(**general, **size).sample
counted = np.array([injected_bound(**general, **size, copies=int(n)).sample for n in layers]) / tied
fine = np.array([finer(int(n)) for n in layers]) / tied
companion.record("K14.untied_counted_p100", injected_bound(**general, **size, copies=100).sample / tied, fmt=".4g")
companion.record("K14.untied_finer_limit", finer(inf) / tied, fmt=".2f", badge="theory")
closed = 48 * sqrt(2 * 5) / ((1 - 0.5**0.25) * sqrt((1 - sqrt(0.5)) * 0.5)) / tied  # T4.3b in closed form, twice, N = 1
companion.record("K14.untied_closed_form", closed, fmt=".3g", badge="theory")
companion.record("K14.untied_crossover", (finer(inf) / tied) ** 2, fmt=".0f", badge="theory")

# %% [markdown]
# In one class the truth is known. For $z\mapsto\frac12z+\langle\theta_i,x\rangle$ with $\|\theta_i\|\le1$ and the loss
# $-yz$, the largest deviation $\sup(R-R_S)$ is $2(1-2^{-P})\,\|\bar m-m\|$, $m=\mathbb E\,yx$ and $\bar m$ its sample mean.

# %%
centre = truth @ signed
deviation = np.linalg.norm(rng.multinomial(100, truth, 4000) / 100 @ signed - centre, axis=1).mean()
linear = 2 * (1 - 0.5 ** layers.astype(float)) * deviation
companion.record("K14.untied_truth_p100", (1 - 0.5**100) / (1 - 0.5), fmt=".4g")
companion.record("K14.untied_truth_times_root_n", deviation * 10, fmt=".2f", badge="measured", seeds=1)
fig, ax = new_figure(height=3.4)
ax.loglog(layers, counted, color=PALETTE["vermillion"], ls="-", marker="s")
ax.plot(layers, fine, color=PALETTE["blue"], ls="-.", marker="o")
ax.plot(layers, np.ones(len(layers)), color=PALETTE["black"], ls="--", marker="")
ax.plot(layers, linear * 10 / tied, color=PALETTE["green"], ls=":", marker="^")
direct_label(ax, 6, 30, "counting parameters: $\\sqrt{P}$", "vermillion")
direct_label(ax, 100, 0.62, "tied weights"), direct_label(ax, 500, fine[-1] * 1.7, "finer count", "blue")
direct_label(ax, 30, 0.022, "true value in a linear class", "green")

# %%
ax.set(xlabel="depth $P$ (untied blocks)", ylabel="sample term (tied bound = 1)", ylim=(0.005, 200))
ax.minorticks_off()
ax.set_title("Untied weights: counting parameters costs $\\sqrt{P}$, a finer count does not")
companion.save_figure(
    fig, "06-error-bound-untied", badge="theory",
    alt="Sample term against depth on logarithmic axes: counting parameters grows like the root of the depth, the finer count "
    "levels off, and the true value in a linear class stays constant and far below both.",
    data={"depth": layers, "counting": counted, "finer": fine, "linear_truth": linear * 10 / tied},
)  # fmt: skip
