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
from threadpoolctl import threadpool_limits

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
_ = threadpool_limits(1)  # small matrices: a second thread would only wait (comes with scikit-learn)
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
def large(*axes):
    """Type that can still be read where the figure is as wide as a phone."""
    for ax in axes:
        ax.tick_params(labelsize=10.5), ax.minorticks_off()
        ax.xaxis.label.set_size(11), ax.yaxis.label.set_size(11)


def label(*where, **options):
    """A direct label in the same type."""
    direct_label(*where, **{"fontsize": 10.5, **options})


# %%
fig, ax = new_figure(height=5.2)
looks = {"over": ("vermillion", "s", "-"), "equal": ("purple", "D", (0, (5, 1))), "half": ("orange", "v", ":"),
         "sqrt": ("blue", "o", "-"), "stopped": ("green", "^", "-.")}  # fmt: skip
far = 4.0 ** np.arange(1, 13)  # drawn beyond the judged range, so that the eye sees who has settled
curve = {name: np.array([float(model.error(*paths[name](n))) for n in far]) for name in looks}
for name, (color, marker, dash) in looks.items():
    ax.loglog(far, curve[name], color=PALETTE[color], marker=marker, ls=dash, lw=2.2, ms=6.5)
for level, name in ((0.25, "$\\sigma^2=1/4$"), (0.125, "$\\sigma^2/2$")):
    ax.plot([1.2, far[-1]], [level, level], color=PALETTE["black"], ls="--", marker="", lw=1, zorder=1)
    label(ax, 1.0, level * 0.87, name, va="top")

# %%
end = far[-1] * 1.15
label(ax, 4e3, 11, "$P=N^{1.3}$: to $\\infty$", "vermillion", ha="right", fontsize=12)
label(ax, end, 0.255, "$P=N$: to $\\sigma^2$", "#a04d7c", fontsize=12)
label(ax, end, 0.125, "$P=N/2$: to $\\sigma^2/2$", "#9a6a00", fontsize=12)
label(ax, end, 0.041, "$P=\\sqrt{N}$, $K=P^a$: to 0", "blue", fontsize=12)
label(ax, end, 0.023, "$P=\\infty$, $K=N^{a/2}$: to 0", "green", fontsize=12)
ax.set(xlabel="samples $N$ (size $P$ and steps $K$ follow the path)", ylabel="excess risk $E$ (no unit)",
       xlim=(1, 4e10), ylim=(0.014, 60))  # fmt: skip
ax.set_xticks([1e1, 1e3, 1e5, 1e7]), large(ax)
ax.set_title("One model, five paths to infinity, four different answers", fontsize=12)
label(ax, 1.3, 0.021, "$K=\\infty$ where no $K$ is named")
companion.save_figure(
    fig, "05-three-limits-paths", badge="exact",
    alt="Excess risk against the number of samples along five paths, logarithmic axes: with P equal to N to the 1.3 it "
    "grows without bound, with P equal to N it tends to 0.25, with half as many modes to 0.125, with few modes or early "
    "stopping it falls to zero.",
    data={"N": far, **curve},
)  # fmt: skip

# %% [markdown]
# ## The order of the limits, all six (E1)
# The two variables that go first are set to infinity in the closed form; the last one is judged along powers of 4. At
# $N=100$ and $K=\infty$ the error is $\sigma^2P/N+\zeta(\frac32,P+1)$. The same numbers for a model that is cut off
# after 20,000 modes are recorded beside them: the cut removes $\zeta(\frac32,20001)$ from each.

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
gamma = np.concatenate([1 - np.geomspace(0.9, 0.015, 60), [1.0], 1 + np.geomspace(0.015, 59, 80)])
with np.errstate(divide="ignore"):
    limit = np.where(gamma < 1, 0.25 * gamma / (1 - gamma), 1 - 1 / gamma + 0.25 / np.abs(gamma - 1))
whole = np.unique(np.append(np.arange(4, 80), np.geomspace(80, 2400, 60).astype(int)))
exact = risk(n, whole)
ax.loglog(gamma, limit, color=PALETTE["black"], ls="--", marker="", lw=1.2)
ax.loglog(whole / n, np.where(np.isfinite(exact), exact, np.nan), color=PALETTE["blue"], ls="-", marker="")
for p in sizes:
    ax.errorbar(p / n, drawn[p].mean, 4 * drawn[p].standard_error, color=PALETTE["vermillion"], marker="o", ms=5, capsize=3)
ax.plot(1, np.median(drawn[n].values), color=PALETTE["purple"], marker="D", ms=7, ls="")
ax.axvline(1, color="#888888", lw=0.9, ls=":")
_ = ax.axhline(1, color="#888888", lw=0.9, ls=":")

# %%
ax.set(xlabel="features per sample, $\\gamma=p/n$", ylabel="mean excess risk $E$ (no unit)", ylim=(0.02, 30)), large(ax)
label(ax, 1.7, 0.33, "solid: exact, $n=40$", "blue"), label(ax, 1.7, 0.165, "dashed: its limit along $p=\\gamma n$")
label(ax, 1.7, 0.062, f"circles: {P['draws']} draws (last: {P['wide']}),\n$\\pm4$ standard errors", "vermillion")
label(ax, 1.08, np.median(drawn[n].values), "median at $p=n$;\nthe mean is infinite", "#a04d7c", va="top")
label(ax, 12, 1.3, "nothing learned: 1")
ax.set_title("Least squares: the limit along $p=\\gamma n$ depends on $\\gamma$,\nand at $\\gamma=1$ the mean is infinite")
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


def additive(N, P):
    return 1 / N + 1 / P


# %%
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
companion.record("K12.additive_gap", np.max(np.abs(additive(1e3, powers) - additive(INF, powers))), fmt=".4f")

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
label(ax, 1000, 0.825, series[True, 1][3], "blue"), label(ax, 330, 0.64, series[False, 0][3], "#9a6a00")
label(ax, 90, 0.465, series[False, 1][3], "vermillion"), label(ax, 90, 0.918, "best possible: 0.9")
label(ax, 2200, 0.475, "limit of the noise task: 0.5")

# %%
ax.set(xscale="log", xlabel="samples $N$", ylabel="accuracy (share of correct labels)", ylim=(0.44, 0.95)), large(ax)
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
n, grown = 10.0 ** np.arange(7), 20 * 4 ** np.arange(5)
few, first = depth[:25], depth[:20] + 1
roots = ((0.5, "\\sqrt{%s}", "^"), (1, "%s", "s"), (2, "%s^2", "o"))
panels = [
    ("C3.1: $P/(N+P)$", "samples $N$", "$E$ (no unit)", [(f"$P={w % 'N'}$", n, share(n, n**q), m) for q, w, m in roots]),
    ("C3.2: least squares", "samples $n$", "excess risk (no unit)",
     [(f"$p={g:g}\\,n$", grown, risk(grown, g * grown), m) for g, m in ((0.5, "^"), (2, "s"), (1.25, "o"))]),
    ("C3.3: $(1-1/P)^K$", "size $P$", "worst error (no unit)", [(f"$K={w % 'P'}$", n, worst(n, n**q), m) for q, w, m in roots]),
    ("C3.4: a state that turns", "depth (blocks)", "readout (no unit)",
     [("norm", few, norm[:25], "o"), ("first coordinate", few, readout[:25], "^")]),
    ("C3.4: $(-1)^n/n$ settles", "$n$ (blocks)", "value (no unit)",
     [("accuracy of its sign", first, accuracy[:20], "o"), ("state", first, margins[:20], "^")]),
    ("C3.5: labels are coins", "samples $N$", "test accuracy (share)",
     [("mean $\\pm4$ standard errors", counts, [means[False, N][1] for N in counts], "s")]),
]  # fmt: skip

# %%
fig, axes = new_figure(3, 2, height=9.0)
tones = {"o": ("blue", "-"), "s": ("vermillion", "--"), "^": ("green", "-.")}
spots = [[(300, 0.16), (300, 0.57), (300, 0.88)], [(150, 0.13), (150, 0.63), (150, 1.34)],
         [(300, 0.84), (300, 0.45), (300, 0.09)], [(7, 1.3), (3, -1.4)], [(3, 1.2), (8, -0.42)], [(130, 0.535)]]  # fmt: skip
for ax, (title, x, y, curves), places in zip(axes.flat, panels, spots, strict=True):
    for (text, at, values, marker), (u, v) in zip(curves, places, strict=True):
        color, dash = tones[marker]
        ax.plot(at, values, color=PALETTE[color], marker=marker, ms=5, ls=dash, lw=1.5)
        label(ax, u, v, text, color, xytext=(0, 0), fontsize=11)
    ax.set(xlabel=x, ylabel=y, xscale="log" if x.startswith(("samples", "size")) else "linear")
    ax.set_title(title, fontweight="normal", fontsize=11.5), large(ax)
_ = axes[2, 1].errorbar(counts, [means[False, N][1] for N in counts], [4 * errors[False, N][1] for N in counts],
                        color=PALETTE["vermillion"], ls="", marker="", capsize=4)  # fmt: skip

# %%
for ax, limits in zip(axes.flat, ((-0.05, 1.1), (0, 1.5), (-0.05, 1.1), (-1.7, 1.6), (-1.15, 1.4), (0.44, 0.56)), strict=True):
    ax.set_ylim(limits)
for ax in (axes[0, 0], axes[1, 0]):
    ax.set_xticks([1, 1e2, 1e4, 1e6])
fig.suptitle("Five counterexamples: the path decides (C3.1 to C3.3),\none functional proves nothing (C3.4), "
             "and noise has a limit (C3.5)", x=0.01, ha="left", fontsize=11.5, fontweight="bold")  # fmt: skip
spread = {("C3.5: labels are coins", N): errors[False, N][1] for N in counts}
companion.save_figure(
    fig, "05-three-limits-gallery", badge="measured",
    alt="Six small plots. Three functions tend to different values along different paths; the norm of a turning state is "
    "constant while a coordinate swings; a state tends to zero while its accuracy jumps between 0 and 1; accuracy on "
    "random labels stays at one half, within four standard errors.",
    data=[{"panel": title, "series": text, "x": float(u), "value": float(v), "se": spread.get((title, u), 0.0)}
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
label(ax, 2e5, 4.5, "trained on", "vermillion"), label(ax, 2e5, 0.2, "best so far", "blue")
ax.set(xlabel="training steps $K$", ylabel="excess risk $E$ (no unit)", ylim=(0.12, 60))
ax.set_title("infinite model, 100 noisy samples", fontweight="normal")
bx.loglog(data, np.where(np.isfinite(fitted), fitted, np.nan), color=PALETTE["vermillion"], ls="--", marker="")
bx.loglog(data, best, color=PALETTE["blue"], ls="-", marker="", lw=2.4)
label(bx, 45, 6, "all the data", "vermillion"), label(bx, 8, 0.48, "best so far", "blue")
bx.set(xlabel="samples $N$", ylabel="excess risk $E$ (no unit)", ylim=(0.02, 20)), large(ax, bx)
bx.set_title("least squares with 40 features", fontweight="normal")
_ = fig.suptitle("Best so far: choosing the best steps, or the best number of samples, makes any\nerror monotone; "
                 "its limit then exists whatever was learned", x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip

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
under, beyond = np.arange(1, 63), np.unique(np.geomspace(66, 20_000, 40).astype(int))
ax.semilogx(under, 1 + least_squares_risk(N_, under, signal=0.0, noise=1.0), color=PALETTE["blue"], ls="-", marker="")
above = [1 + ridge_risk(eigenvalues[:p], np.zeros(p), N_, noise=1.0).risk for p in beyond.tolist()]
ax.semilogx(beyond, above, color=PALETTE["black"], ls="--", marker="")
for p, found in noise_only.items():
    ax.errorbar(p, found.mean + 1, 4 * found.standard_error, color=PALETTE["vermillion"], marker="o", ms=4.5, capsize=3)
ax.axvline(64, color="#888888", ls=":", lw=0.9)
ax.set(xlabel="modes $P$ ($N=64$ samples, $a=2$)", ylabel="total risk / $\\sigma^2$", ylim=(0, 9))
label(ax, 1.2, 1.8, "$N$ first: 1", "blue"), label(ax, 3e3, 2.8, "$P$ first: $a=2$")
label(ax, 84, 8.2, "$P=N$: infinite", "#555555")
label(ax, 1.2, 6.4, f"solid: exact\ndashed: equivalent\ncircles: {P['peak']} draws,\n$\\pm4$ standard errors")

# %%
for (a, found), marker in zip(curves.items(), ("o", "s", "^"), strict=True):
    color, dash = tones[marker]
    bx.semilogx(samples, found.values, color=PALETTE[color], marker=marker, ls=dash)
    bx.axhline(a, color=PALETTE["black"], ls="--", lw=0.9, zorder=1)
    label(bx, 4300, a - 0.09, f"$a={a:g}$", color, va="top")
bx.set(xlabel="samples $N$ ($P=\\infty$)", ylabel="total risk / $\\sigma^2$", ylim=(0.9, 3.2), xlim=(3.5, 9000))
bx.axhline(1, color="#888888", ls=":", lw=0.9)
label(bx, 4, 1.1, "$N$ first: 1"), large(ax, bx)
fig.suptitle("Noise fitted exactly: $N$ first costs nothing, $P$ first a factor $a$,\n$P=N$ everything", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "05-three-limits-ridgeless", badge="measured",
    alt="Top: total risk on pure noise against the number of modes; it starts at one, has an infinite peak at 64 modes and "
    "levels off at two. Bottom: with infinitely many modes the risk tends to the decay exponent a as samples are added.",
    data=[{"panel": "modes", "a": 2.0, "x": p, "risk": r, "se": 0.0} for p, r in zip(beyond.tolist(), above, strict=True)]
    + [{"panel": "drawn", "a": 2.0, "x": p, "risk": f.mean + 1, "se": f.standard_error} for p, f in noise_only.items()]
    + [{"panel": "samples", "a": a, "x": int(n), "risk": r, "se": 0.0}
       for a, f in curves.items() for n, r in zip(samples, f.values, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## Break it
# T3.1 without uniformity: the gaps above come close to 1 at every value of the first variable; the iterated limits differ.
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


# %%
def turns(n):
    """It falls for a long time, and then it does not."""
    return 1 / n + n / 1e12


seen = {
    "fooled": turns,
    "swing": lambda n: np.sin(np.log(n) / 2),
    "slow_log": lambda n: 1 / np.log(n),
}
for name, E in seen.items():
    companion.record(f"C1.{name}_status", limit_along(E, lambda n: (n,)).status, badge="theory")
companion.record("C1.fooled_later", turns(1e15), fmt=".0f")
companion.record("C1.swing_last", seen["swing"](2.0**14), fmt=".3f")
companion.record("C1.swing_later", seen["swing"](2.0**22), fmt=".3f")
