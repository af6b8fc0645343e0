# %% [markdown]
# # Three limits
# What can $\lim_{N,P,K\to\infty}E(N,P,K)$ mean? Every theorem, path and counterexample of the
# [chapter](../../book/05-three-limits.md), run. $N$ counts samples, $P$ is the size of the model, $K$ counts training
# steps; $E$ is an error.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import numpy as np
from scipy.optimize import brentq
from scipy.special import zeta

from limitlib import companion
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.performance import (
    PowerLawModel,
    iterated_limit,
    least_squares_risk,
    limit_along,
    monotone_envelope,
    ridge_risk,
    simulate_ridge,
)

# %%
P = companion.profile(
    profile,
    smoke=dict(draws=400, wide=60, noise_draws=40, peak=20, cases=100),
    cpu=dict(peak=80, cases=1000),
    gpu=dict(cases=5000),
)
rng = np.random.default_rng(seed)
INF = np.inf


def estimate(found):
    """The number that a judged limit stands for."""
    return getattr(found.limit, "value", found.limit)


# %% [markdown]
# ## Five paths to infinity in a model that is known exactly (E1)
# Mode $j$ has eigenvalue $j^{-3/2}$ and energy $j^{-3/2}$; $P$ modes are kept, $K$ steps of gradient descent with step
# $\frac12$ learn them, $N$ samples with noise variance $\frac14$ disturb them. The model has infinitely many modes. $E$
# is the excess risk: the noise of a fresh sample is not in it. $K=\infty$ and $P=\infty$ mean that this limit is taken
# first, which the closed form allows.

# %%
model = PowerLawModel(1.5, 1.5, eta=0.5, noise=0.25)
N = 4.0 ** np.arange(1, 10)
paths = {
    "over": lambda N: (N, np.floor(N**1.3), INF),
    "equal": lambda N: (N, N, INF),
    "half": lambda N: (N, N // 2, INF),
    "sqrt": lambda N: (N, round(N**0.5), N**0.75),
    "stopped": lambda N: (N, INF, N**0.75),
}
along = {name: limit_along(model.error, path, n=N) for name, path in paths.items()}
for name, found in along.items():
    companion.record(f"C1.path_{name}_16", found.values[1], fmt=".4f", badge="exact")
    companion.record(f"C1.path_{name}_last", found.values[-1], fmt=".4f", badge="exact")
    companion.record(f"C1.limit_{name}", estimate(found), fmt=".4f", badge="theory")
    companion.record(f"C1.status_{name}", found.status, badge="theory")

# %%
fig, ax = new_figure(height=3.9)
looks = {"over": ("vermillion", "s", "-"), "equal": ("purple", "D", (0, (5, 1))), "half": ("orange", "v", ":"),
         "sqrt": ("blue", "o", "-"), "stopped": ("green", "^", "-.")}  # fmt: skip
for name, (color, marker, dash) in looks.items():
    ax.loglog(N, along[name].values, color=PALETTE[color], marker=marker, ls=dash)
for level in (0.25, 0.125):
    ax.plot([3, N[-1]], [level, level], color=PALETTE["black"], ls="--", marker="", lw=0.9, zorder=1)
end = N[-1] * 1.15
direct_label(ax, end, along["over"].values[-1], "$P=N^{1.3}$: to $\\infty$", "vermillion")
direct_label(ax, end, 0.26, "$P=N$: to $\\sigma^2$", "purple")
direct_label(ax, end, 0.14, "$P=N/2$: to $\\sigma^2/2$", "#9a6a00")
direct_label(ax, end, 0.068, "$P=\\infty$, $K=N^{a/2}$:\nto 0", "green")
direct_label(ax, 1500, 0.6, "$P=N^{1/2}$, $K=P^a$: to 0", "blue", xytext=(0, 0))
ax.annotate("", (700, 0.36), (1600, 0.53), arrowprops=dict(arrowstyle="-", color=PALETTE["blue"], lw=0.8))

# %%
ax.set(xlabel="samples $N$ (the other two variables follow the path)", ylabel="excess risk $E$ (no unit)",
       xlim=(3, 1.1e7), ylim=(0.045, 17), title="One model, five paths to infinity, four different answers")  # fmt: skip
ax.set_xticks([10, 100, 1e3, 1e4, 1e5]), ax.minorticks_off()
ax.text(3.3, 9.5, "dashed: $\\sigma^2=0.25$ and $\\sigma^2/2$\n$K=\\infty$ where no $K$ is named", va="center", fontsize=9)
companion.save_figure(
    fig, "05-three-limits-paths", badge="exact",
    alt="Excess risk against the number of samples along five paths, logarithmic axes: with P equal to N to the 1.3 it "
    "grows without bound, with P equal to N it tends to 0.25, with half as many modes to 0.125, with few modes or early "
    "stopping it falls to zero.",
    data={"N": N, **{name: found.values for name, found in along.items()}},
)  # fmt: skip

# %% [markdown]
# ## The order of the limits, all six (E1)
# The two variables that go first are set to infinity in the closed form; the last one is judged along powers of 4. At
# $N=100$ and $K=\infty$ the error is $\sigma^2P/N+\zeta(\frac32,P+1)$. The same numbers for a model that is cut off
# after 20000 modes are recorded beside them: the cut removes $\zeta(\frac32,20001)$ from each.

# %%
last = {
    "npk": lambda K: (INF, INF, K), "pnk": lambda K: (INF, INF, K),
    "nkp": lambda P: (INF, P, INF), "knp": lambda P: (INF, P, INF),
    "pkn": lambda N: (N, INF, INF), "kpn": lambda N: (N, INF, INF),
}  # fmt: skip
orders = {name: limit_along(model.error, path, n=N) for name, path in last.items()}
for name, found in orders.items():
    companion.record(f"C1.order_{name}", estimate(found), fmt=".3f", badge="theory")
for size in (10, 100, 1000, 10_000):
    whole, data_first = model.error(100, size, INF), model.error(INF, size, INF)
    companion.record(f"C1.size_{size}", whole, fmt=".4f")
    companion.record(f"C1.size_{size}_cut", whole - zeta(1.5, 20_001), fmt=".4f")
    companion.record(f"C1.tail_{size}", data_first, fmt=".4f")
searched = {order: iterated_limit(lambda N, P: model.error(N, P), order) for order in (("N", "P"), ("P", "N"))}
companion.record("C1.searched_np", estimate(searched["N", "P"]), fmt=".1e", badge="theory")
companion.record("C1.searched_pn", estimate(searched["P", "N"]), badge="theory")

# %% [markdown]
# ## Theorem T3.4: what decides is $\min(P,K^{1/a})/N$
# The variance is $\sigma^2V/N$, and $V$ lies between two multiples of $\min(P,K^{1/a})$, for $a>\frac12$. The two
# quotients are recorded over random cases, from sums term by term: the lower one must be at least 1, the upper one at
# most 1.

# %%
low, high = [], []
for _ in range(P["cases"]):
    a, eta = 0.5 + 10 ** rng.uniform(-1, 0.5), rng.uniform(0.01, 0.99)
    modes, K = np.floor(10 ** rng.uniform(0, 4)), 10 ** rng.uniform(0, 6)
    V = np.sum(np.expm1(K * np.log1p(-eta * np.arange(1, modes + 1) ** -a)) ** 2)
    fitted = min(modes, K ** (1 / a))
    low.append(V / ((1 - np.exp(-eta)) ** 2 / 2 * fitted))
    high.append(V / ((4 * a - 1) / (2 * a - 1) * fitted))
companion.record("C1.variance_over_lower_bound", min(low), fmt=".2f", badge="theory")
companion.record("C1.variance_over_upper_bound", max(high), fmt=".2f", badge="theory")

# %% [markdown]
# ## Least squares along $p=\gamma n$ (C3.2, E3.1)
# Isotropic Gaussian features, 40 samples, signal 1, noise variance $\frac14$: the exact mean excess risk, and the mean of
# simulated draws with its standard error. At $p=n$ the mean does not exist; there the figure shows the median.

# %%
sizes, n = (5, 20, 30, 60, 120, 400, 2000), 40
drawn = {}
for p in (*sizes, n):
    draws = P["wide"] if p == 2000 else P["draws"]
    drawn[p] = simulate_ridge(np.ones(p), np.full(p, 1 / p), n, noise=0.25, draws=draws, rng=np.random.default_rng([seed, p]))
    if p == n:
        continue
    exact = float(least_squares_risk(n, p, signal=1.0, noise=0.25))
    companion.record(f"K12.ols_p{p}", exact, fmt=".6f")
    companion.record(f"K12.ols_drawn_p{p}", drawn[p].mean, fmt=".4f", badge="measured", seeds=draws)
    z = abs(drawn[p].mean - exact) / drawn[p].standard_error
    companion.record(f"K12.ols_z_p{p}", z, fmt=".2f", badge="measured", seeds=draws)
companion.record("K12.ols_peak_mean", float(least_squares_risk(n, n, noise=0.25)))
companion.record("K12.ols_peak_median", np.median(drawn[n].values), fmt=".2f", badge="measured", seeds=P["draws"])


# %%
def risk(N, P):
    return least_squares_risk(N, P, signal=1.0, noise=0.25)


for name, ray in (("050", (2, 1)), ("080", (5, 4)), ("125", (4, 5)), ("200", (1, 2))):
    found = limit_along(risk, lambda n, ray=ray: (ray[0] * n, ray[1] * n))
    companion.record(f"K12.ray_{name}", estimate(found), fmt=".4f", badge="theory")
companion.record("K12.ols_data_first", estimate(iterated_limit(risk, ("N", "P"))), fmt=".1e", badge="theory")
companion.record("K12.ols_size_first", estimate(iterated_limit(risk, ("P", "N"))), fmt=".6f", badge="theory")
companion.record("K12.ray_100", estimate(limit_along(risk, lambda n: (n, n))), badge="theory")

# %%
fig, ax = new_figure(height=3.7)
gamma = np.concatenate([np.geomspace(0.1, 0.985, 400), [1.0], np.geomspace(1.015, 60, 400)])
with np.errstate(divide="ignore"):
    limit = np.where(gamma < 1, 0.25 * gamma / (1 - gamma), 1 - 1 / gamma + 0.25 / np.abs(gamma - 1))
whole = np.arange(4, 2401)
exact = risk(n, whole)
ax.loglog(gamma, limit, color=PALETTE["black"], ls="--", marker="", lw=1.2)
ax.loglog(whole / n, np.where(np.isfinite(exact), exact, np.nan), color=PALETTE["blue"], ls="-", marker="")
for p in sizes:
    ax.errorbar(p / n, drawn[p].mean, 4 * drawn[p].standard_error, color=PALETTE["vermillion"], marker="o", ms=5, capsize=3)
ax.plot(1, np.median(drawn[n].values), color=PALETTE["purple"], marker="D", ms=7, ls="")
ax.axvline(1, color="#888888", lw=0.9, ls=":")
ax.axhline(1, color="#888888", lw=0.9, ls=":")

# %%
ax.set(xlabel="features per sample, $\\gamma=p/n$", ylabel="mean excess risk $E$ (no unit)", ylim=(0.02, 30))
direct_label(ax, 0.1, 17, "solid: exact, $n=40$", "blue"), direct_label(ax, 0.1, 9.5, "dashed: its limit along $p=\\gamma n$")
direct_label(ax, 0.1, 4.4, f"circles: {P['draws']} draws (last: {P['wide']}),\n$\\pm4$ standard errors", "vermillion")
direct_label(ax, 1.08, np.median(drawn[n].values), "median at $p=n$;\nthe mean is infinite", "purple", va="top")
direct_label(ax, 12, 1.3, "nothing learned: 1")
ax.set_title("Least squares: the limit along $p=\\gamma n$ depends on $\\gamma$,\nand at $\\gamma=1$ there is none")
companion.save_figure(
    fig, "05-three-limits-least-squares", badge="measured",
    alt="Excess risk of least squares against features per sample on logarithmic axes: it rises to a peak without bound "
    "at one feature per sample, falls to about 0.79 and climbs back to 1; simulated means lie on the exact curve.",
    data=[{"series": "exact", "gamma": p / n, "risk": e, "se": 0.0} for p, e in zip(whole.tolist(), exact, strict=True)]
    + [{"series": "limit", "gamma": g, "risk": e, "se": 0.0} for g, e in zip(gamma, limit, strict=True)]
    + [{"series": "drawn", "gamma": p / n, "risk": drawn[p].mean, "se": drawn[p].standard_error} for p in sizes]
    + [{"series": "median", "gamma": 1.0, "risk": np.median(drawn[n].values), "se": 0.0}],
)  # fmt: skip

# %% [markdown]
# ## Two closed-form functions without a limit (C3.1, C3.3, E3.2)
# $P/(N+P)$, and the worst error $(1-P^{-1})^K$ of $K$ gradient steps in $P$ dimensions when the smallest eigenvalue is
# $P^{-1}$. Beside the iterated limits: the gap to the inner limit at some point of the other variable, which T3.1 wants
# to be small everywhere.


# %%
def share(N, P):
    return P / (N + P)


def worst(P, K):
    return (1 - 1 / P) ** K


for name, E, order in (
    ("share_data_first", share, "NP"), ("share_size_first", share, "PN"),
    ("descent_steps_first", worst, "KP"), ("descent_size_first", worst, "PK"),
):  # fmt: skip
    companion.record(f"K12.{name}", estimate(iterated_limit(E, order)), fmt=".6f", badge="theory")
companion.record("K12.descent_10_1e6", worst(10, 1e6), fmt=".0f")
companion.record("K12.descent_1e6_10", worst(1e6, 10), fmt=".6f")
companion.record("K12.descent_diagonal", estimate(limit_along(worst, lambda n: (n, n))), fmt=".6f", badge="theory")
companion.record("K12.share_gap", share(1e3, 1e9), fmt=".6f")
companion.record("K12.descent_gap", worst(1e9, 1e3), fmt=".6f")
powers = 10.0 ** np.arange(10)
companion.record("K12.additive_gap", np.max((1e-3 + 1 / powers) - 1 / powers), fmt=".4f")

# %% [markdown]
# ## One functional, or all of them (C3.4, E3.3)
# The state turns by one radian per block. Its norm is constant, a linear readout swings, and so does the distance to a
# point, which is a 1-Lipschitz functional. The other way round: $(-1)^n/n$ converges, and the accuracy of its sign jumps,
# because accuracy is not continuous.

# %%
depth = np.arange(1000)
states = np.stack([np.cos(depth), np.sin(depth)], axis=1)
norm, readout = np.linalg.norm(states, axis=1), states[:, 0]
distance = np.linalg.norm(states - states[0], axis=1)
margins = (-1.0) ** (depth + 1) / (depth + 1)
accuracy = (margins > 0).astype(float)
companion.record("K11.norm_range", np.ptp(norm), fmt=".1e")
companion.record("K11.readout_range", np.ptp(readout), fmt=".6f")
companion.record("K11.distance_range", np.ptp(distance[500:]), fmt=".4f")
companion.record("K11.state_step", np.linalg.norm(states[-1] - states[-2]), fmt=".6f")
companion.record("K11.margin_last", np.abs(margins[-1]), fmt=".3f")
companion.record("K11.accuracy_range", np.ptp(accuracy[500:]), fmt=".0f")

# %% [markdown]
# ## Labels of pure noise (C3.5, E3.4, F1)
# A least-squares classifier with 20 Gaussian features. In the first task the labels are fair coins, independent of the
# features. In the second they are the sign of one feature, flipped with probability $0.1$. Training and test accuracy,
# means over 40 draws with 1000 fresh test points each.


# %%
def classify(N, signal, rng, features=20, tests=1000):
    """Training and test accuracy of a least-squares classifier on one draw."""
    X = rng.standard_normal((N + tests, features))
    keep = rng.random(N + tests) < 0.9
    y = np.where(keep, 1, -1) * np.sign(X[:, 0]) if signal else rng.choice([-1.0, 1.0], N + tests)
    w = np.linalg.lstsq(X[:N], y[:N], rcond=None)[0]
    right = X @ w * y > 0
    return right[:N].mean(), right[N:].mean()


counts, coin = (100, 300, 1000, 3000, 10_000), np.random.default_rng([seed, 1])
scores = {(signal, N): np.array([classify(N, signal, coin) for _ in range(P["noise_draws"])])
          for signal in (False, True) for N in counts}  # fmt: skip
means = {key: values.mean(axis=0) for key, values in scores.items()}
errors = {key: values.std(axis=0, ddof=1) / np.sqrt(len(values)) for key, values in scores.items()}

# %%
for N_ in (100, 1000, 10_000):
    companion.record(f"K10.noise_accuracy_{N_}", means[False, N_][1], fmt=".3f", badge="measured", seeds=P["noise_draws"])
    companion.record(f"K10.signal_accuracy_{N_}", means[True, N_][1], fmt=".3f", badge="measured", seeds=P["noise_draws"])
companion.record("K10.noise_train_100", means[False, 100][0], fmt=".3f", badge="measured", seeds=P["noise_draws"])
companion.record("K10.noise_train_10000", means[False, 10_000][0], fmt=".3f", badge="measured", seeds=P["noise_draws"])
squared = limit_along(lambda N: 1 + least_squares_risk(N, 20, signal=0.0, noise=1.0), lambda n: (4 * n,))
companion.record("K10.noise_squared_limit", estimate(squared), fmt=".6f", badge="theory")
companion.record("K10.noise_squared_status", squared.status, badge="theory")

# %%
fig, ax = new_figure(height=3.4)
series = {
    (True, 1): ("blue", "o", "-", "labels follow the input: test"),
    (False, 0): ("orange", "v", ":", "labels are coins: training"),
    (False, 1): ("vermillion", "s", "-", "labels are coins: test"),
}
for (signal, part), (color, marker, dash, _) in series.items():
    y, e = ([t[signal, N][part] for N in counts] for t in (means, errors))
    ax.errorbar(counts, y, 4 * np.array(e), color=PALETTE[color], marker=marker, ls=dash, capsize=3)
for level in (0.5, 0.9):
    ax.axhline(level, color=PALETTE["black"], ls="--", lw=0.9, zorder=1)
direct_label(ax, 1000, 0.825, series[True, 1][3], "blue"), direct_label(ax, 330, 0.64, series[False, 0][3], "#9a6a00")
direct_label(ax, 90, 0.465, series[False, 1][3], "vermillion"), direct_label(ax, 90, 0.918, "best possible: 0.9")
direct_label(ax, 2200, 0.475, "limit of the noise task: 0.5")

# %%
ax.set(xscale="log", xlabel="samples $N$", ylabel="accuracy (share of correct labels)", ylim=(0.44, 0.95))
ax.set_title("On labels of pure noise the limit exists too:\naccuracy 0.5, and nothing was learned")
companion.save_figure(
    fig, "05-three-limits-noise", badge="measured",
    alt="Accuracy against the number of samples: with labels that follow the input, test accuracy rises to 0.9; with "
    "labels that are coins it stays at one half for every sample size, while training accuracy falls towards one half.",
    data=[{"labels": "input" if signal else "coins", "N": N, "train": m[0], "test": m[1],
           "train_se": errors[signal, N][0], "test_se": errors[signal, N][1]} for (signal, N), m in means.items()],
)  # fmt: skip

# %% [markdown]
# ## The gallery: C3.1 to C3.5 on one page

# %%
n = np.geomspace(1, 1e6, 60)
panels = [
    ("C3.1: $P/(N+P)$ along three paths", "$N$", "$E$ (no unit)",
     [("$P=N^2$", n, share(n, n**2), "o"), ("$P=N$", n, share(n, n), "s"), ("$P=\\sqrt{N}$", n, share(n, n**0.5), "^")]),
    ("C3.3: $(1-1/P)^K$ along three paths", "$P$", "worst error (no unit)",
     [("$K=\\sqrt{P}$", n, worst(n, n**0.5), "o"), ("$K=P$", n, worst(n, n), "s"), ("$K=P^2$", n, worst(n, n**2), "^")]),
]  # fmt: skip
grown = 20 * 2 ** np.arange(9)
lines = [(f"$p={g:g}\\,n$", grown, risk(grown, g * grown), m) for g, m in ((1.25, "o"), (2, "s"), (0.5, "^"))]
panels.insert(1, ("C3.2: least squares, $p=\\gamma n$", "samples $n$", "excess risk (no unit)", lines))
few, first = depth[:41], depth[:30] + 1
panels.append(("C3.4: a state that turns", "depth (blocks)", "readout (no unit)",
               [("norm", few, norm[:41], "o"), ("first coordinate", few, readout[:41], "^")]))  # fmt: skip
panels.append(("C3.4: a state $(-1)^n/n$ that settles", "$n$", "state; accuracy of its sign",
               [("accuracy", first, accuracy[:30], "o"), ("state", first, margins[:30], "^")]))  # fmt: skip
panels.append(("C3.5: labels that are coins", "samples $N$", "test accuracy",
               [("test accuracy", counts, [means[False, N][1] for N in counts], "s")]))  # fmt: skip

# %%
fig, axes = new_figure(3, 2, height=7.2)
tones = {"o": ("blue", "-"), "s": ("vermillion", "--"), "^": ("green", "-.")}
spots = {0: [(30, 0.9), (3e3, 0.58), (3e3, 0.13)], 1: [(300, 1.34), (300, 0.62), (300, 0.38)], 2: [(2e3, 0.85), (3e3, 0.45),
         (3e3, 0.09)], 3: [(12, 1.25), (10, -1.3)], 4: [(9, 1.13), (8, -0.42)], 5: [(250, 0.53)]}  # fmt: skip
for k, (ax, (title, x, y, curves)) in enumerate(zip(axes.flat, panels, strict=True)):
    for (text, at, values, marker), (u, v) in zip(curves, spots[k], strict=True):
        color, dash = tones[marker]
        every = 10 if len(at) == 60 else 1
        ax.plot(at, values, color=PALETTE[color], marker=marker, ms=3.5, markevery=every, ls=dash, lw=1.2)
        direct_label(ax, u, v, text, color, xytext=(0, 0), fontsize=9)
    ax.set(xlabel=x, ylabel=y, **({"xscale": "log"} if k in (0, 1, 2, 5) else {}))
    ax.set_title(title, fontweight="normal", fontsize=9.5)

# %%
for ax, limits in zip(axes.flat, ((-0.05, 1.1), (0, 1.5), (-0.05, 1.1), (-1.6, 1.5), (-1.15, 1.3), (0.4, 0.6)), strict=True):
    ax.set_ylim(limits)
fig.suptitle("Five counterexamples: the path decides (C3.1 to C3.3),\none functional proves nothing (C3.4), "
             "and noise has a limit (C3.5)", x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "05-three-limits-gallery", badge="measured",
    alt="Six small plots. Three functions tend to different values along different paths; the norm of a turning state is "
    "constant while a coordinate swings; a state tends to zero while its accuracy jumps between 0 and 1; accuracy on "
    "random labels stays at one half.",
    data=[{"panel": title, "series": text, "x": float(u), "value": float(v)}
          for title, _, _, curves in panels for text, at, values, _ in curves for u, v in zip(at, values, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## Theorem T3.2: the best value so far always settles
# Two errors that are not monotone: an infinite model on 100 noisy samples as training goes on, and least squares with 40
# features as data are added. Their envelopes are. On a grid of $N,P,K$ in powers of 2 the number of steps that go up is
# recorded for the raw error and for its envelope.

# %%
steps = 2.0 ** np.arange(0, 25, 0.25)
trained = model.error(100, INF, steps)
data = np.arange(1, 401)
fitted = least_squares_risk(data, 40, signal=1.0, noise=0.25)
stopped, best = monotone_envelope(trained), monotone_envelope(fitted)
companion.record("K10.best_stopped", stopped[-1], fmt=".4f", badge="exact")
companion.record("K10.trained_on", trained[-1], fmt=".1f", badge="exact")
companion.record("K10.trained_out", model.error(100, INF, INF), badge="exact")

# %%
grid = 2.0 ** np.arange(15)
raw = model.error(grid[:, None, None], grid[None, :, None], np.append(2.0 ** np.arange(20), INF))
kept = monotone_envelope(raw)
for name, values in (("raw", raw), ("kept", kept)):
    up = sum(int((np.diff(values, axis=axis) > 1e-9).sum()) for axis in range(3))  # by more than rounding
    companion.record(f"K10.{name}_rises", up, fmt="d", badge="exact")
equal = {name: values[range(15), range(15), -1] for name, values in (("raw", raw), ("kept", kept))}  # P = N, K infinite
for k in (4, 9, 14):
    companion.record(f"K10.raw_equal_{2**k}", equal["raw"][k], fmt=".4f", badge="exact")
    companion.record(f"K10.kept_equal_{2**k}", equal["kept"][k], fmt=".4f", badge="exact")
companion.record("K10.raw_corner", raw[0, 14, -1], fmt=".0f", badge="exact")
companion.record("K10.kept_corner", kept[14, 14, -1], fmt=".4f", badge="exact")
judged = limit_along(lambda k: equal["kept"][k], lambda n: (round(np.log2(n)),), n=grid)
companion.record("K10.kept_status", judged.status, badge="theory")
companion.record("K10.kept_limit", estimate(judged), fmt=".3f", badge="theory")

# %%
fig, (ax, bx) = new_figure(2, 1, height=5.2)
ax.loglog(steps, trained, color=PALETTE["vermillion"], ls="--", marker="")
ax.loglog(steps, stopped, color=PALETTE["blue"], ls="-", marker="", lw=2.4)
direct_label(ax, 2e5, 4.5, "trained on", "vermillion"), direct_label(ax, 2e5, 0.2, "best so far", "blue")
ax.set(xlabel="training steps $K$", ylabel="excess risk $E$", ylim=(0.12, 60))
ax.set_title("infinite model, 100 noisy samples", fontweight="normal")
bx.loglog(data, np.where(np.isfinite(fitted), fitted, np.nan), color=PALETTE["vermillion"], ls="--", marker="")
bx.loglog(data, best, color=PALETTE["blue"], ls="-", marker="", lw=2.4)
direct_label(bx, 45, 6, "all the data", "vermillion"), direct_label(bx, 8, 0.48, "best so far", "blue")
bx.set(xlabel="samples $N$", ylabel="mean excess risk $E$", ylim=(0.02, 20))
bx.set_title("least squares with 40 features", fontweight="normal")
fig.suptitle("Best so far: early stopping and model selection make any error monotone,\nso that its limit exists whatever "
             "was learned", x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip

# %%
companion.save_figure(
    fig, "05-three-limits-envelope", badge="exact",
    alt="Two errors against training steps and against samples: the raw error turns up again in the first plot and has an "
    "infinite peak in the second; the best value so far falls and then stays level in both.",
    data=[{"panel": "steps", "x": x, "raw": r, "best": b} for x, r, b in zip(steps, trained, stopped, strict=True)]
    + [{"panel": "samples", "x": float(x), "raw": r, "best": b} for x, r, b in zip(data, fitted, best, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## Fitting noise exactly (E1)
# Ridgeless regression on labels of pure noise with variance 1, eigenvalues $j^{-a}$. The total risk for $P=\infty$ is the
# deterministic equivalent $1/(1-\frac1N\sum_js_j^2)$ with $s_j=1/(1+\kappa j^a)$ and $\sum_js_j=N$. Sums run over all
# modes: one by one up to $J$, beyond it by the series of $s_j$ in powers of $j^{-a}$.


# %%
def shares(kappa, a, power, J):
    """Sum over all j of s_j^power for power 1 or 2, where kappa J^a > 30."""
    head = np.sum((1 + kappa * np.arange(1.0, J + 1) ** a) ** -power)
    m = np.arange(power, power + 12)
    signs = np.where((m - power) % 2, -1.0, 1.0) * (1 if power == 1 else m - 1)
    return head + np.sum(signs * kappa**-m * zeta(a * m, J + 1))


def tempered(N, a):
    """Total risk of ridgeless regression on noise of variance 1, infinitely many modes: the equivalent."""
    guess = (np.pi / a / np.sin(np.pi / a) / N) ** a
    J = int((60 / guess) ** (1 / a)) + 10
    kappa = np.exp(brentq(lambda t: shares(np.exp(t), a, 1, J) - N, np.log(guess / 2), np.log(guess * 2), xtol=1e-14))
    return 1 / (1 - shares(kappa, a, 2, J) / N)


# %%
samples = 2 ** np.arange(2, 13)
curves = {a: limit_along(tempered, lambda n, a=a: (n, a), n=samples) for a in (1.5, 2.0, 3.0)}
for a, found in curves.items():
    name = f"a{10 * a:.0f}"
    companion.record(f"C1.tempered_{name}_16", found.values[2], fmt=".4f", badge="theory")
    companion.record(f"C1.tempered_{name}_1024", found.values[8], fmt=".4f", badge="theory")
    companion.record(f"C1.tempered_{name}_limit", estimate(found), fmt=".5f", badge="theory")
few_first = limit_along(lambda N: 1 + least_squares_risk(N, 16, signal=0.0, noise=1.0), lambda n: (4 * n,))
companion.record("C1.noise_data_first", estimate(few_first), fmt=".6f", badge="theory")

# %% [markdown]
# The same peak with a target to learn: least squares on the first $P$ of 2000 modes, $N=128$, $\sigma^2=0.1$, energies and
# eigenvalues $j^{-3/2}$. Modes that are left out act as noise. Total risk: exact below $P=N$, the equivalent above.

# %%
values, powers = PowerLawModel(1.5, 1.5).spectrum(2000)
for p in (96, 112, 120, 136, 256, 2000):
    disturbance = 0.1 + powers[p:].sum()
    excess = ridge_risk(values[:p], powers[:p], 128, noise=disturbance).risk if p > 128 else float(
        least_squares_risk(128, p, signal=0.0, noise=disturbance))  # fmt: skip
    companion.record(f"C1.regression_p{p}", disturbance + excess, fmt=".2f", badge="theory" if p > 128 else "exact")

# %%
N_, modes = 64, np.array([4, 16, 32, 48, 96, 128, 256, 1024])
eigenvalues = np.arange(1.0, 20_001) ** -2.0
noise_only = {
    p: simulate_ridge(eigenvalues[:p], np.zeros(p), N_, noise=1.0, draws=P["peak"], rng=np.random.default_rng([seed, 5, p]))
    for p in modes.tolist()
}
theory = {p: 1 + (float(least_squares_risk(N_, p, signal=0.0, noise=1.0)) if p < N_ else
                  ridge_risk(eigenvalues[:p], np.zeros(p), N_, noise=1.0).risk) for p in modes.tolist()}  # fmt: skip
companion.record("C1.noise_p48", theory[48], fmt=".4f", badge="exact")
companion.record("C1.noise_p64", 1 + float(least_squares_risk(N_, N_, signal=0.0, noise=1.0)))
for p in (16, 48, 96, 1024):
    z = abs(noise_only[p].mean + 1 - theory[p]) / noise_only[p].standard_error
    companion.record(f"C1.noise_z_p{p}", z, fmt=".2f", badge="measured", seeds=P["peak"])

# %%
fig, (ax, bx) = new_figure(2, 1, height=5.6)
under, beyond = np.arange(1, 63), np.unique(np.geomspace(66, 20_000, 80).astype(int))
ax.semilogx(under, 1 + least_squares_risk(N_, under, signal=0.0, noise=1.0), color=PALETTE["blue"], ls="-", marker="")
above = [1 + ridge_risk(eigenvalues[:p], np.zeros(p), N_, noise=1.0).risk for p in beyond.tolist()]
ax.semilogx(beyond, above, color=PALETTE["black"], ls="--", marker="")
for p, found in noise_only.items():
    ax.errorbar(p, found.mean + 1, 4 * found.standard_error, color=PALETTE["vermillion"], marker="o", ms=4.5, capsize=3)
ax.axvline(64, color="#888888", ls=":", lw=0.9)
ax.set(xlabel="modes $P$ ($N=64$ samples, $a=2$)", ylabel="total risk / $\\sigma^2$", ylim=(0, 9))
direct_label(ax, 1.2, 1.8, "$N$ first: 1", "blue"), direct_label(ax, 3e3, 2.8, "$P$ first: $a=2$")
direct_label(ax, 84, 8.2, "$P=N$: infinite", "#666666")
direct_label(ax, 1.2, 6.4, f"solid: exact\ndashed: equivalent\ncircles: {P['peak']} draws,\n$\\pm4$ standard errors")

# %%
for (a, found), (color, marker) in zip(curves.items(), (("blue", "o"), ("vermillion", "s"), ("green", "^")), strict=True):
    bx.semilogx(samples, found.values, color=PALETTE[color], marker=marker, ls="-")
    bx.axhline(a, color=PALETTE["black"], ls="--", lw=0.9, zorder=1)
    direct_label(bx, 4300, a - 0.09, f"$a={a:g}$", color, va="top")
bx.set(xlabel="samples $N$ ($P=\\infty$)", ylabel="total risk / $\\sigma^2$", ylim=(0.9, 3.2), xlim=(3.5, 9000))
bx.axhline(1, color="#888888", ls=":", lw=0.9)
direct_label(bx, 4, 1.1, "$N$ first: 1")
fig.suptitle("Noise fitted exactly: $N$ first costs nothing, $P$ first a factor $a$,\n$P=N$ everything", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "05-three-limits-ridgeless", badge="measured",
    alt="Top: total risk on pure noise against the number of modes; it starts at one, has an infinite peak at 64 modes and "
    "levels off at two. Bottom: with infinitely many modes the risk tends to the decay exponent a as samples are added.",
    data=[{"panel": "modes", "a": 2.0, "x": p, "risk": r} for p, r in zip(beyond.tolist(), above, strict=True)]
    + [{"panel": "drawn", "a": 2.0, "x": p, "risk": f.mean + 1} for p, f in noise_only.items()]
    + [{"panel": "samples", "a": a, "x": int(n), "risk": r}
       for a, f in curves.items() for n, r in zip(samples, f.values, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## Break it
# T3.1 without uniformity: the gaps above are 1 for every value of the first variable, and the iterated limits differ.
# T3.2 without monotonicity: along $P=N^{1.3}$ the error grows, although its envelope tends to 0. T3.3 with one functional:
# the norm above. T3.4 without $a>\frac12$: $K^{1/a}/N\to0$ and the error grows all the same if $P$ is large; with
# $P/N\to0$ it falls. Last, the judgement itself: no rule sees beyond its last point.

# %%
slow = PowerLawModel(0.4, 1.5, noise=0.25)
grows = limit_along(slow.error, lambda N: (N, N**4, N**0.2), n=4.0 ** np.arange(2, 9))
falls = limit_along(slow.error, lambda N: (N, round(N**0.5), N**0.2), n=4.0 ** np.arange(2, 9))
companion.record("C1.slow_status", grows.status, badge="theory")
companion.record("C1.slow_last", grows.values[-1], fmt=".3f", badge="exact")
companion.record("C1.slow_repaired", falls.values[-1], fmt=".3f", badge="exact")
fooled = limit_along(lambda n: 1 / n + n / 1e12, lambda n: (n,))
companion.record("C1.fooled_status", fooled.status, badge="theory")
companion.record("C1.fooled_later", 1e-15 + 1e15 / 1e12, fmt=".0f")
