# %% [markdown]
# # The power-law spectrum: closed forms in N, P and K
# One model in which the error is known exactly in data, size and steps: its power laws, its crossover, its compute
# frontier, and where each of them ends. Everything that the [chapter](../../book/09-power-law-spectrum.md) says, run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import numpy as np
import torch
from scipy.optimize import least_squares, minimize_scalar

from limitlib import companion
from limitlib import performance as pf
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.models import LinearAttention
from limitlib.performance import PowerLawModel

# %%
S = companion.profile(
    profile,
    smoke=dict(draws=20, ols=100, sgd=[100], ridgeless=[32, 64, 128], depth=1024, tasks=8),
    cpu=dict(draws=40, ols=400, sgd=[100, 1000, 3000], ridgeless=[32, 64, 128, 256, 512], depth=2048, tasks=64),
    gpu=dict(draws=160, ols=1600),
)
INF = np.inf
MODEL, NOISY = PowerLawModel(1.5, 2.0), PowerLawModel(1.5, 2.0, noise=1.0)
PAIRS = [(1.0, 1.5), (1.5, 2.0), (2.0, 2.0), (0.951, 1.3478)]


def name(a, b):
    return f"{round(10 * a)}_{round(10 * b)}"


def slope(x, y):
    """Slope of log y against log x by least squares."""
    return np.polyfit(np.log(x), np.log(y), 1)[0]

# %% [markdown]
# ## T6.4 (1): a power law in steps, with its constant (E6.4)
# Exact error of an infinite model over $A_KK^{-\kappa}$. Of four pairs $(a,b)$ the ratio that is farthest from 1.

# %%
for K in (100, 1000, 10_000):
    models = [PowerLawModel(a, b) for a, b in PAIRS]
    ratios = [float(m.error(K=K)) / (m.prefactors().steps * K ** -m.exponents().steps) for m in models]
    companion.record(f"K18.steps_ratio_{K}", max(ratios, key=lambda r: abs(r - 1)), fmt=".5f", badge="theory")
companion.record("K18.steps_prefactor", MODEL.prefactors().steps, fmt=".4f")

# %% [markdown]
# ## T6.4 (3): one curve for all sizes (E6.5)
# The same error for many sizes, $E\,K^\kappa$ against $x=P/K^{1/a}$. The limit curve is $\Phi$; the additive law is at most
# twice too large, and $\Phi$ is lowest against it near $x=1$.

# %%
Phi, constant = MODEL.scaling_function, MODEL.prefactors().steps


def collapsed(P, K):
    return P / K ** (1 / MODEL.a), MODEL.error(P=P, K=K) * K ** MODEL.exponents().steps


for K in (1e3, 1e4, 1e5):
    x, y = collapsed(np.rint(np.array([0.3, 1, 3, 10]) * K ** (1 / MODEL.a)), K)
    companion.record(f"K18.collapse_worst_{K:.0f}", np.abs(y / Phi(x) - 1).max(), fmt=".2g", badge="theory")
flat = PowerLawModel(1.0, 1.5)
ratio = lambda t: float(flat.scaling_function(np.exp(t)) / (flat.prefactors().steps + 2 * np.exp(-t / 2)))  # noqa: E731
least = minimize_scalar(ratio, bounds=(-2, 2), method="bounded", options=dict(xatol=1e-9))
companion.record("K18.additive_ratio_min", least.fun, fmt=".4f", badge="theory")
companion.record("K18.additive_factor", 1 / least.fun, fmt=".2f", badge="theory")
companion.record("K18.additive_ratio_at", np.exp(least.x), fmt=".2f", badge="theory")

# %%
sizes, rows = [8, 32, 128, 512, 2048, 8192], []
for P in sizes:
    K = np.geomspace((P / 30) ** MODEL.a, (P / 0.1) ** MODEL.a, 25)
    x, y = collapsed(P, np.maximum(K, 1.0))
    rows += [{"P": P, "K": float(k), "x": float(u), "E_K_kappa": float(v)} for k, u, v in zip(K, x, y, strict=True) if k >= 1]
grid = np.geomspace(0.1, 30, 200)
additive = constant + grid ** (1 - MODEL.b) / (MODEL.b - 1)

# %%
fig, axes = new_figure(2, 1, height=6.8)
axes[1].fill_between(grid, additive / 2, additive, color=PALETTE["sky"], alpha=0.25, lw=0)
for P, color, marker in zip(sizes, ("blue", "vermillion", "green", "purple", "orange", "sky"), "os^DvP", strict=True):
    some = [r for r in rows if r["P"] == P]
    errors = [r["E_K_kappa"] * r["K"] ** -MODEL.exponents().steps for r in some]
    axes[0].loglog([r["K"] for r in some], errors, color=PALETTE[color], marker=marker, lw=0.8, ms=4)
    direct_label(axes[0], some[-1]["K"] * 1.5, errors[-1], f"$P={P}$")
    axes[1].loglog([r["x"] for r in some], [r["E_K_kappa"] for r in some], color=PALETTE[color], marker=marker, ls="", ms=4)
wide = np.geomspace(1, 1e7, 50)
axes[0].loglog(wide, constant * wide ** -MODEL.exponents().steps, color=PALETTE["black"], ls="--", marker="", lw=1.4)
_ = axes[1].loglog(grid, Phi(grid), color=PALETTE["black"], ls="--", marker="", lw=1.8)

# %%
direct_label(axes[0], 1.3, 2e-3, "dashed: the law of steps,\n$A_KK^{-\\kappa}$")
direct_label(axes[1], 0.1, 0.85, "shaded: between half of the\nadditive law and all of it")
direct_label(axes[1], 3.2, 0.6, "dashed: $\\Phi(x)$")
axes[0].set(xlabel="steps $K$", ylabel="error $E$ (no unit)", xlim=(0.7, 1e10))
axes[1].set(xlabel="$x=P/K^{1/a}$ (size over modes reached; no unit)", ylabel="$E\\cdot K^{\\kappa}$ (no unit)")
axes[0].set_title("as they are: six curves", fontweight="normal")
axes[1].set_title("rescaled: one curve", fontweight="normal")
fig.suptitle("All sizes fall on one curve; the smallest sizes\nand runs of very few steps leave it", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-collapse", badge="theory",
    alt="Above, error against steps for six model sizes from 8 to 8192: six curves that leave a dashed power law one after the "
    "other. Below, error times K to the kappa against size over K to the 1/a: the same points lie on one dashed curve.",
    data=rows,
)  # fmt: skip

# %% [markdown]
# ## T6.4 (4): at $\eta K=P^a$ the power law turns into an exponential (E1)
# What is left of the modes kept, over the floor of the modes left out, at $\eta K=P^a$ and four times later; and the rate of
# the exponential for $P=16$. At $K=n_*(P)$ exactly, what is left of the modes kept over the error of the infinite model.

# %%
steep = PowerLawModel(1.5, 1.5)
floor = lambda P: steep.error(P=P)  # noqa: E731
for P in (16, 64, 256):
    for times in (1, 4):
        left = steep.error(P=P, K=times * P**steep.a / steep.eta) - floor(P)
        companion.record(f"K18.crossover_{P}_{times}", left / floor(P), fmt=".2g", badge="theory")
window = pf.gradient_descent_risk(*steep.spectrum(16), [600, 1800], eta=steep.eta)  # without the floor, which would drown it
companion.record("K18.rate_measured", np.log(window[0] / window[1]) / 1200, fmt=".5f", badge="theory")
companion.record("K18.rate_asymptotic", -2 * np.log1p(-steep.eta * 16**-steep.a), fmt=".5f")
turn, P = float(steep.crossover(10_000)), 10_000
share = float((steep.error(P=P, K=turn) - floor(P)) / steep.error(K=turn))
companion.record("K18.crossover_share", share, fmt=".4f", badge="theory")

# %%
fig, axes = new_figure(2, 1, height=6.4)
scaled, rows = np.geomspace(2e-4, 20, 160), []
styles = zip((16, 64, 256, 1024), ("blue", "vermillion", "green", "purple"), ("-", "--", "-.", ":"), "os^D", strict=True)
for P, color, dash, marker in styles:
    turn = float(steep.crossover(P))
    K = scaled[scaled * turn >= 1] * turn
    whole = steep.error(P=P, K=K)
    excess = whole / floor(P) - 1
    axes[0].loglog(K, whole, color=PALETTE[color], ls=dash, marker="")
    axes[0].plot(turn, steep.error(P=P, K=turn), color=PALETTE[color], marker=marker, ms=7, ls="")
    direct_label(axes[0], K[-1] * 1.3, whole[-1], f"$P={P}$")
    late = 0.5 * turn <= K
    axes[1].semilogy(K[late] / turn, excess[late], color=PALETTE[color], ls=dash, marker=marker, markevery=6, ms=4,
                     label=f"$P={P}$")  # fmt: skip
    rows += [{"P": P, "K": k, "error": e, "excess_over_floor": x} for k, e, x in zip(K, whole, excess, strict=True)]

# %%
K = np.geomspace(1, 1e6, 50)
law = steep.prefactors().steps * K ** -steep.exponents().steps
axes[0].loglog(K, law, color=PALETTE["black"], ls=(0, (1, 1)), marker="", lw=1.3)
direct_label(axes[0], 2, 0.16, "fine dots: the law $A_KK^{-1/3}$\nmarkers: $K=n_*(P)$")
axes[0].set(xlabel="steps $K$", ylabel="error $E$ (no unit)", xlim=(0.8, 2e7), ylim=(0.015, 3))
axes[1].set(xlabel="$K/n_*(P)$ (steps over the crossover, linear axis)", ylabel="(error $-$ floor) / floor (no unit)",
            ylim=(1e-8, 1), xlim=(0, 16))  # fmt: skip
axes[1].legend(loc="upper right")
fig.suptitle("One size after the other leaves the power law near its own $n_*(P)$;\nthen what is left decays exponentially "
             "(straight lines below)", x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-crossover", badge="theory",
    alt="Above, error against steps for four sizes: each follows one power law and bends to its floor near its marked "
    "crossover. Below, what is left over the floor against steps in units of the crossover: nearly one line, exponential.",
    data=rows,
)  # fmt: skip

# %% [markdown]
# ## T6.4 (5): a gap turns the power law into an exponential
# Shrinking every mode by one more factor $1-\delta$ per step multiplies the error by $(1-\delta)^{2K}$. Run step by step on
# 400 modes for $\delta=10^{-3}$, beside the closed form without a gap; then the slope in $K$ over the decade from $10^3$.

# %%
delta, (lam, energy) = 1e-3, MODEL.spectrum(400)
left, worst = np.sqrt(energy), 0.0
beyond = float(MODEL.error(P=400))
for k in range(1, 2001):
    left = (1 - delta) * (1 - MODEL.eta * lam) * left
    if k in (10, 100, 1000, 2000):
        exact = (1 - delta) ** (2 * k) * (float(MODEL.error(P=400, K=k)) - beyond)
        worst = max(worst, abs(left @ left / exact - 1))
companion.record("K18.gap_identity_error", worst, fmt=".1g", badge="theory")
gapped = [(1 - delta) ** (2 * k) * float(MODEL.error(K=k)) for k in (1e3, 1e4)]
companion.record("K18.gap_slope", np.log10(gapped[1] / gapped[0]), fmt=".2f", badge="theory")

# %% [markdown]
# ## T6.4 (6): the price of noise, and when to stop (E6.8, E6.9, E6.10)
# Variance of $K$ steps against its constant $V_a$; its second term at $a=1$ and $a=2$; the best number of steps for
# $N=10^6$ and the error there; the effective dimension of a ridge penalty.

# %%
K = 1e7
for a in (0.8, 1, 1.5, 2, 3):
    noisy, silent = PowerLawModel(a, 2.0, noise=1.0), PowerLawModel(a, 2.0)
    scale = (silent.eta * K) ** (1 / a)
    variance = float(noisy.error(N=1.0, K=K) - silent.error(K=K))
    companion.record(f"K18.variance_a{str(a).replace('.', '')}", variance / scale + 0.5 / scale, fmt=".4f", badge="theory")
for a in (1, 2):
    noisy, silent, k = PowerLawModel(a, 2.0, noise=1.0), PowerLawModel(a, 2.0), 1e6
    offset = float(noisy.error(N=1.0, K=k) - silent.error(K=k)) - pf.variance_constant(a) * (silent.eta * k) ** (1 / a)
    companion.record(f"K18.variance_offset_a{a}", offset, fmt=".3f", badge="theory")

# %%
N = np.geomspace(1e2, 1e6, 9)
stop = NOISY.stopping_time(N)
best = NOISY.error(N=N, K=stop)
companion.record("K18.stop_steps", stop[-1], fmt=".0f", badge="theory")
companion.record("K18.stop_error_scaled", best[-1] * 1e3, fmt=".4f", badge="theory")
companion.record("K18.stop_slope", slope(N, best), fmt=".4f", badge="theory")
for a in (1.5, 2, 3):
    found = (float(PowerLawModel(a, 2.0).effective_dimension(1e-6)) + 0.5) * 1e-6 ** (1 / a)
    companion.record(f"K18.effective_dimension_{str(a).replace('.', '')}", found, fmt=".5f", badge="theory")

# %% [markdown]
# ## The three-term law, uniformly in N, P and K
# Error with stopping at $\min(K,N^{a/b})$ over $K^{-\kappa}+P^{-(b-1)}+N^{-(b-1)/b}$ on 3 x 4 x 5 points. Then the same
# without stopping: the ratio leaves every bound.

# %%
data, size, steps = np.meshgrid([1e2, 1e4, 1e6], [10.0, 1e2, 1e3, 1e4], [10.0, 1e2, 1e3, 1e4, 1e5], indexing="ij")
law = steps ** (-2 / 3) + 1 / size + data**-0.5
stopped = NOISY.error(data, size, np.minimum(steps, data**0.75)) / law
unstopped = NOISY.error(data, size, steps) / law
companion.record("K18.law_ratio_min", stopped.min(), fmt=".3f", badge="theory")
companion.record("K18.law_ratio_max", stopped.max(), fmt=".3f", badge="theory")
companion.record("K18.unstopped_factor", unstopped.max(), fmt=".0f", badge="theory")
late = np.geomspace(1e6, 1e8, 9)
companion.record("K18.unstopped_slope", slope(late, NOISY.error(N=100, K=late)), fmt=".3f", badge="theory")

# %%
fig, axes = new_figure(3, 1, height=7.6)
x, cut = np.geomspace(10, 1e5, 60), [1e2, 1e4, 1e6]
wide = np.geomspace(10, 1e7, 80)
panels = [
    ("samples $N$, stopped in time", wide, [NOISY.error(N=wide, P=p, K=NOISY.stopping_time(wide)) for p in (10, 100, 10_000)],
     -0.5, ("$P=10$", "$P=100$", "$P=10^4$")),
    ("size $P$ (modes kept)", np.unique(np.rint(x)), [MODEL.error(P=np.unique(np.rint(x)), K=k) for k in cut],
     -1.0, ("$K=10^2$", "$K=10^4$", "$K=10^6$")),
    ("steps $K$, no noise", wide, [MODEL.error(P=p, K=wide) for p in (10, 100, 10_000)],
     -2 / 3, ("$P=10$", "$P=100$", "$P=10^4$")),
]  # fmt: skip
fronts = (1.5857, 1.0, constant)

# %%
rows = []
for ax, (label, axis, curves, exponent, names), front in zip(axes, panels, fronts, strict=True):
    ax.loglog(axis, front * axis**exponent, color=PALETTE["black"], ls="--", marker="", lw=1.2)
    for curve, text, color, marker in zip(curves, names, ("blue", "vermillion", "green"), "os^", strict=True):
        ax.loglog(axis, curve, color=PALETTE[color], ls="-", marker=marker, markevery=8, ms=4, label=text)
        rows += [{"panel": label, "curve": text, "x": u, "error": v} for u, v in zip(axis, curve, strict=True)]
    ax.legend(loc="upper right", ncols=3)
    ax.set(xlabel=label, ylabel="error $E$ (no unit)", ylim=(curves[-1].min() / 3, 9))
for ax, text in zip(axes, ("N^{-1/2}", "P^{-1}", "K^{-2/3}"), strict=True):
    ax.set_title(f"dashed: the law ${text}$", fontweight="normal")
fig.suptitle("In each variable a power law, until another variable becomes the bottleneck", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-laws", badge="theory",
    alt="Error against samples, size and steps in three panels on logarithmic axes: every curve follows its dashed power law "
    "and then flattens at the level that another variable sets.",
    data=rows,
)  # fmt: skip

# %% [markdown]
# ## The slopes of E1
# Slopes over finite ranges against the exponents, which are asymptotic: size, steps, samples without noise (ridgeless
# equivalent on a long spectrum), and the frontier.

# %%
budgets = np.geomspace(1e4, 1e8, 17)
for a, b in ((1.5, 1.5), (2.0, 2.0), (1.5, 2.5)):
    m, n = PowerLawModel(a, b), name(a, b)
    P, K = 2.0 ** np.arange(6, 11), 2.0 ** np.arange(7, 13)
    companion.record(f"K18.slope_p_{n}", slope(P, m.error(P=P)), fmt=".3f", badge="theory")
    companion.record(f"K18.slope_k_{n}", slope(K, m.error(K=K)), fmt=".3f", badge="theory")
    front = m.frontier(budgets)
    companion.record(f"K19.slope_error_{n}", slope(budgets, front.error), fmt=".3f", badge="theory")
    companion.record(f"K19.slope_size_{n}", slope(budgets, front.P), fmt=".3f", badge="theory")
N = 2.0 ** np.arange(6, 11)
for a, b in ((1.5, 1.5), (1.5, 2.5), (1.2, 4.0)):
    spectrum = PowerLawModel(a, b).spectrum(200_000)
    risks = [pf.ridge_risk(*spectrum, n).risk for n in N]
    companion.record(f"K18.slope_n_{name(a, b)}", slope(N, risks), fmt=".3f", badge="theory")

# %% [markdown]
# ## T6.5: the frontier sits on the crossover (E6.6)
# Best size for every budget $C=PK$: slopes of $P_*$ and $E_*$, the place $x_*$ on the scaling function, measured and as the
# minimiser, and the steps over the crossover $P_*^a/(2\eta)$. A scan of all sizes checks the minimum.

# %%
fronts = {}
for a, b in ((1.5, 2.0), (1.0, 1.5)):
    m, n = PowerLawModel(a, b), name(a, b)
    power = m.exponents().compute
    target = lambda t, m=m, power=power: float(m.scaling_function(np.exp(t))) * np.exp(t * power)  # noqa: E731
    best = minimize_scalar(target, bounds=(-2, 2), method="bounded", options=dict(xatol=1e-9))
    fronts[a, b] = front = m.frontier(budgets)
    companion.record(f"K19.x_star_{n}", np.exp(best.x), fmt=".4f", badge="theory")
    companion.record(f"K19.x_measured_{n}", front.P[-1] / front.K[-1] ** (1 / a), fmt=".3f", badge="theory")
    companion.record(f"K19.frontier_size_{n}", slope(budgets, front.P), fmt=".4f", badge="theory")
    companion.record(f"K19.frontier_error_{n}", slope(budgets, front.error), fmt=".4f", badge="theory")
    companion.record(f"K19.crossover_{n}", front.K[-1] / m.crossover(front.P[-1]), fmt=".3f", badge="theory")
    companion.record(f"K19.error_constant_{n}", front.error[-1] * budgets[-1] ** power, fmt=".4f", badge="theory")

# %%
small = np.array([10.0, 300.0, 4321.0, 54321.0])
scan = [MODEL.error(P=(P := np.arange(1.0, c + 1)), K=c / P).min() for c in small]
companion.record("K19.frontier_gap", np.abs(MODEL.frontier(small).error / scan - 1).max(), fmt=".1g", badge="theory")

# %%
fig, axes = new_figure(2, 1, height=5.4)
C = np.geomspace(1e2, 1e10, 33)
front = MODEL.frontier(C)
for values, color, marker, text in ((front.P, "blue", "o", "size $P_*$"), (front.K, "vermillion", "s", "steps $K_*$"),
                                    (front.error, "green", "^", "error $E_*$")):  # fmt: skip
    axes[0].loglog(C, values, color=PALETTE[color], marker=marker, ls="-", markevery=4)
    direct_label(axes[0], C[-1], values[-1], text, color)
x_star = 1.2027452456553407
for values in (x_star**0.6 * C**0.4, x_star**-0.6 * C**0.6, float(Phi(x_star)) * x_star**0.4 * C**-0.4):
    axes[0].loglog(C, values, color=PALETTE["black"], ls="--", marker="", lw=1.0)
for (a, b), color, marker, dash in (((1.5, 2.0), "blue", "o", "-"), ((1.0, 1.5), "vermillion", "s", "-.")):
    m = PowerLawModel(a, b)
    f = m.frontier(C)
    axes[1].semilogx(C, f.P**a / f.K, color=PALETTE[color], marker=marker, ls=dash, markevery=2, label=f"$a={a:g},\\ b={b:g}$")

# %%
for x, color in ((1.2027452456553407**1.5, "blue"), (1.1319511460591858, "vermillion")):
    axes[1].axhline(x, color=PALETTE["black"], ls="--", lw=1.0)
    direct_label(axes[1], 1.4e10, x + (0.1 if color == "blue" else -0.1), f"$x_*^a={x:.3f}$", color)
axes[0].set(ylabel="value (no unit)", xlabel="compute $C=PK$ (modes times steps)", xlim=(60, 4e11))
axes[1].set(ylabel="$P_*^a/K_*$ (no unit)", xlabel="compute $C=PK$ (modes times steps)", xlim=(60, 4e11), ylim=(0, 1.8))
axes[0].set_title("$a=1.5,\\ b=2$; dashed: $C^{2/5}$, $C^{3/5}$ and $C^{-2/5}$ with their constants", fontweight="normal")
axes[1].legend(loc="lower right")
fig.suptitle("The compute-optimal size stays at the finite-size crossover:\n$P_*^a/K_*$ tends to a constant",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-frontier", badge="theory",
    alt="Above: best size, steps and error against compute, each on its dashed power law. Below: best size to the power a over "
    "best steps, which settles at the predicted constants 1.319 and 1.132 for two pairs of exponents.",
    data={"C": C, "P": front.P, "K": front.K, "error": front.error, "P_a_over_K": front.P**1.5 / front.K},
)  # fmt: skip

# %% [markdown]
# ## Additive fits are biased at the crossover (E6.7, E6)
# Least squares in the logarithm of the error, on the model itself, without any noise. First $AP^{-p}+BK^{-k}$ on a grid whose
# true exponents are both one half. Then power laws and exponentials, each with a floor, trained on small sizes.


# %%
def fit(P, K, E, form, *, floor, train=None):
    """Exponents or rates of A f(P) + B g(K) (+ floor), best of several starts; and the predictions on the whole grid."""
    P, K, starts = P[:, None], K[None, :], np.random.default_rng(seed)
    rows = np.ones(E.shape, dtype=bool) if train is None else train
    decay = (lambda t, v: v ** -np.exp(t)) if form == "power" else (lambda t, v: np.exp(-np.exp(t) * v))

    def predict(t):
        return np.exp(t[0]) * decay(t[2], P) + np.exp(t[1]) * decay(t[3], K) + (np.exp(t[4]) if floor else 0.0)

    slow, fast = (-1.5, 0.5) if form == "power" else (-7, -1)
    low, high = (-1, -1, slow, slow, -5), (1, 1, fast, fast, -1)
    residual = lambda t: (np.log(predict(t)) - np.log(E))[rows]  # noqa: E731
    begins = starts.uniform(low, high, (6, 5))[:, : 5 if floor else 4]
    found = [least_squares(residual, b, bounds=(-30, 8), xtol=1e-10, ftol=1e-10) for b in begins]
    best = min(found, key=lambda r: r.cost).x
    return np.exp(best[2:4]), predict(best)


# %%
P, K = np.rint(np.geomspace(31, 1e4, 8)), np.geomspace(1e2, 1e5, 8)
truth = flat.error(P=P[:, None], K=K)
(p, k), fitted = fit(P, K, truth, "power", floor=False)
companion.record("K18.additive_fit_p", p, fmt=".3f", badge="theory")
companion.record("K18.additive_fit_k", k, fmt=".3f", badge="theory")
P2, K2 = 2.0 ** np.arange(2, 11), 2.0 ** np.arange(4, 14)
train = (P2[:, None] <= 128) & (K2 <= 1024)
for a, b in ((1.5, 1.5), (1.5, 2.0), (2.0, 1.5)):
    E = PowerLawModel(a, b).error(P=P2[:, None], K=K2)
    for form in ("power", "paper"):
        off = np.log(fit(P2, K2, E, form, floor=True, train=train)[1] / E)[~train]
        companion.record(f"K18.heldout_{form}_{name(a, b)}", np.sqrt(np.mean(off**2)), fmt=".3f", badge="theory")

# %%
fig, ax = new_figure(height=3.6)
x, front = np.geomspace(1e-3, 1e3, 300), flat.prefactors().steps
ax.semilogx(x, flat.scaling_function(x) / (front + 2 * x**-0.5), color=PALETTE["black"], ls="--", marker="")
points = {"x": (P[:, None] / K).ravel(), "true_law": (truth / (front * K**-0.5 + 2 * P[:, None] ** -0.5)).ravel(),
          "fitted": (truth / fitted).ravel()}  # fmt: skip
ax.semilogx(points["x"], points["true_law"], color=PALETTE["blue"], marker="o", ls="", ms=4)
ax.semilogx(points["x"], points["fitted"], color=PALETTE["vermillion"], marker="s", ls="", ms=4, mfc="none")
for y in (0.5, 1.0):
    ax.axhline(y, color=PALETTE["black"], lw=0.8)
direct_label(ax, 1.5e-3, 0.55, "the theorem's bounds: 1/2 and 1")
direct_label(ax, 7, 0.6, "circles: true exponents and constants\ndashed: $\\Phi$ over that law", "blue")
direct_label(ax, 3e-4, 1.24, f"squares: a fit, exponents {p:.3f}\nand {k:.3f}; truth 0.5 and 0.5", "vermillion")

# %%
ax.set(xlabel="$x=P/K^{1/a}$ (no unit)", ylabel="exact error / additive law (no unit)", ylim=(0.4, 1.35))
ax.set_title(f"An additive law is too large by up to the factor {1 / least.fun:.2f},\n"
             "and a fit of it pays with the exponent of the steps")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-additive", badge="theory",
    alt="Exact error over an additive law against size over the crossover. With the true exponents the ratio dips to 0.60 near "
    "one; a least-squares fit scatters around one instead, at the price of a wrong exponent 0.652 in the steps.",
    data=points,
)  # fmt: skip

# %% [markdown]
# ## A dictionary of published exponents
# Published exponents of size and data, read as $p=b-1$ and $k=(b-1)/a$, and what the model would then say. An illustration:
# nothing here tests the model on those runs.

# %%
for source, p, k in (("kaplan", 0.076, 0.095), ("hoffmann", 0.34, 0.28), ("besiroglu", 0.3478, 0.3658)):
    reading = PowerLawModel(p / k, 1 + p).exponents()
    companion.record(f"K18.dictionary_{source}_a", p / k, fmt=".3f")
    companion.record(f"K18.dictionary_{source}_data", reading.data, fmt=".4f")
    companion.record(f"K18.dictionary_{source}_compute", reading.compute, fmt=".4f")

# %% [markdown]
# ## Theory against simulation (E1)
# Four kinds of linear regression and the sequence model: theory and simulation, apart by fewer than four standard errors.
# At $P=N$ the mean of least squares does not exist, so no mean is drawn there; random features at $P=N$ have heavy tails
# and are left out of the comparison.

# %%
checks = {}


def compare(kind, theory, simulated, **where):
    checks.setdefault(kind, []).append(dict(kind=kind, theory=float(theory), mean=simulated.mean, se=simulated.standard_error,
                                            z=simulated.z(float(theory)), **where))  # fmt: skip


def draw(*parts):
    return np.random.default_rng([seed, *parts])


# %%
for P in (5, 20, 30, 60, 120, 400):
    values = np.ones(P)
    sim = pf.simulate_ridge(values, values / P, 40, noise=0.25, draws=S["ols"], rng=draw(1, P))
    compare("ols", pf.least_squares_risk(40, P, noise=0.25), sim, x=P)
    if P in (5, 60, 400):
        companion.record(f"K18.ols_{P}", pf.least_squares_risk(40, P, noise=0.25), fmt=".4f")

again = pf.simulate_ridge(np.ones(60), np.ones(60) / 60, 40, noise=0.25, draws=4 * S["ols"], rng=draw(6))
again_z = abs(again.z(float(pf.least_squares_risk(40, 60, noise=0.25))))
companion.record("K18.ols_again_z", again_z, fmt=".1f", badge="measured", seeds=1)

# %%
spectrum = PowerLawModel(1.5, 1.5).spectrum(2000)
for N in (32, 64, 128, 256, 512):
    risk = pf.ridge_risk(*spectrum, N).risk
    companion.record(f"K18.ridgeless_{N}", risk, fmt=".4f", badge="theory")
    if N in S["ridgeless"]:
        compare("ridgeless", risk, pf.simulate_ridge(*spectrum, N, draws=S["draws"] // 2, rng=draw(2, N)), x=N)
for N, P in ((64, 256), (256, 64), (512, 128), (128, 128)):
    risk = pf.random_features_risk(*spectrum, N, P, ridge=1e-3, noise=0.1).risk
    companion.record(f"K18.features_{N}_{P}", risk + 0.1, fmt=".4f", badge="theory")
    if N != P:
        sim = pf.simulate_ridge(*spectrum, N, features=P, ridge=1e-3, noise=0.1, draws=S["draws"] // 2, rng=draw(3, N))
        compare("features", risk, sim, x=f"{N}, {P}")

# %%
for K in (100, 1000, 3000):
    risk = pf.one_pass_sgd_risk(*spectrum, K, eta=0.1, noise=0.1, P=256)
    companion.record(f"K18.sgd_{K}", float(risk) + 0.1, fmt=".4f", badge="theory")
    if K in S["sgd"]:
        sim = pf.simulate_one_pass_sgd(*spectrum, K, eta=0.1, noise=0.1, P=256, draws=16, rng=draw(4, K))
        compare("sgd", risk, sim, x=K)
without = []
for N, P, K in ((10, 20, 5), (30, 100, 60), (5, 300, 300), (1000, 7, 900)):
    sim = pf.simulate_sequence_model(NOISY, N, P, K, draws=10 * S["draws"], rng=draw(5, N))
    compare("sequence", NOISY.error(N, P, K), sim, x=f"{N}, {P}, {K}")
    without.append(abs(sim.z(float(MODEL.error(N, P, K)))))
companion.record("K18.wrong_noise_z", min(without), fmt=".1f", badge="measured")
for kind, found in checks.items():
    companion.record(f"K18.{kind}_z", max(abs(c["z"]) for c in found), fmt=".1f", badge="measured", seeds=1)
companion.record("K18.pole_is_infinite", bool(np.isinf(pf.least_squares_risk(40, 40, noise=0.25))))
companion.record("K18.sgd_limit", pf.sgd_step_limit(spectrum[0], P=256), fmt=".4f")

# %%
fig, axes = new_figure(2, 2, height=5.6)
dense = np.r_[np.arange(1, 39), np.arange(42, 500)]
k, n = np.unique(np.geomspace(10, 3000, 40).astype(int)), np.geomspace(32, 512, 20)
curves = {
    "ols": (dense, pf.least_squares_risk(40, dense, noise=0.25), "features $P$ (samples $N=40$)", "least squares"),
    "ridgeless": (n, [pf.ridge_risk(*spectrum, v).risk for v in n], "samples $N$", "ridgeless regression"),
    "sgd": (k, pf.one_pass_sgd_risk(*spectrum, k, eta=0.1, noise=0.1, P=256), "steps $K$", "one-pass SGD"),
}
for ax, (kind, (x, y, label, title)) in zip((axes[0, 0], axes[0, 1], axes[1, 1]), curves.items(), strict=True):
    ax.loglog(x[:38] if kind == "ols" else x, y[:38] if kind == "ols" else y, color=PALETTE["black"], ls="--", marker="")
    if kind == "ols":
        ax.loglog(x[38:], y[38:], color=PALETTE["black"], ls="--", marker="")
    got = checks[kind]
    points = ([c["x"] for c in got], [c["mean"] for c in got])
    ax.errorbar(*points, yerr=[2 * c["se"] for c in got], color=PALETTE["blue"], marker="o", ls="", capsize=3)
    ax.set_title(title, fontweight="normal")
    ax.set(xlabel=label, ylabel="excess risk (no unit)")

# %%
axes[0, 1].minorticks_off(), axes[0, 1].set_xticks(S["ridgeless"], S["ridgeless"])
axes[0, 1].set_yticks([0.1, 0.2, 0.4], [0.1, 0.2, 0.4])
axes[1, 1].minorticks_off(), axes[1, 1].set_yticks([0.2, 0.4, 0.8, 1.6], [0.2, 0.4, 0.8, 1.6])
got, ax = checks["features"], axes[1, 0]
ax.plot(range(len(got)), [c["theory"] for c in got], color=PALETTE["black"], marker="_", ms=22, mew=2, ls="")
points = (range(len(got)), [c["mean"] for c in got])
ax.errorbar(*points, yerr=[2 * c["se"] for c in got], color=PALETTE["blue"], marker="o", ls="", capsize=3)
ax.set_xticks(range(len(got)), [f"({c['x']})" for c in got])
ax.set(xlabel="(samples $N$, features $P$)", ylabel="excess risk (no unit)", ylim=(0.3, 0.75), xlim=(-0.5, 2.5))
ax.set_title("random features, ridge $10^{-3}$", fontweight="normal")
fig.suptitle("Theory (dashed, bars) and simulation (circles, two standard errors) agree\nin all four regressions",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "09-power-law-spectrum-regression",
    alt="Four panels of excess risk: least squares with a pole where size equals samples, ridgeless regression, random "
    "features and one-pass stochastic gradient descent. The simulated means lie on the theory within their error bars.",
    data=[c for kind in ("ols", "ridgeless", "features", "sgd", "sequence") for c in checks[kind]],
)  # fmt: skip

# %% [markdown]
# ## T6.7: a deep linear transformer realises the law (E6.11, E10.8)
# First the identity, on Gaussian contexts: six layers are six steps of gradient descent. Then a context whose covariance is
# exactly diagonal with $j^{-a}$, $a=1$, $d=256$, and tasks with $w_j^2\lambda_j=j^{-3/2}$ of random signs.

# %%
rng, worst = np.random.default_rng(seed), {1: 0.0, 6: 0.0}
for _ in range(20):
    X, y, query = (torch.tensor(rng.standard_normal(s)) for s in ((20, 4), (1, 20), (3, 4)))
    w = np.zeros(4)
    for step in range(1, 7):
        w = w - 0.3 / 20 * X.numpy().T @ (X.numpy() @ w - y.numpy()[0])
        if step in worst:
            off = LinearAttention(4, step, eta=0.3)(X, y, query).numpy()[0] - query.numpy() @ w
            worst[step] = max(worst[step], np.abs(off).max())
companion.record("K20.one_step_error", worst[1], fmt=".1g", badge="theory")
companion.record("K20.steps_error", worst[6], fmt=".1g", badge="theory")

# %%
d, j = 256, np.arange(1.0, 257)
X = torch.tensor(np.sqrt(d) * np.diag(j**-0.5))
weights = j**-0.25 * rng.choice([-1.0, 1.0], (S["tasks"], d))
truth = torch.tensor(weights) @ X.T
depths = [k for k in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048) if k <= S["depth"]]
closed = {n: float(np.sum(j**-1.5 * (1 - 0.5 / j) ** (2 * n))) for n in depths}


def in_context_loss(net, depths):
    """Mean square error over the queries, for each depth and task."""
    return ((net.predictions(X, truth, X, depths) - truth) ** 2).mean(-1).numpy()


loss = in_context_loss(LinearAttention(d, S["depth"], eta=0.5), depths)
mean = dict(zip(depths, loss.mean(1), strict=True))
error = max(np.abs(loss[i] / closed[n] - 1).max() for i, n in enumerate(depths))
companion.record("K20.attention_error", error, fmt=".1g", badge="theory")

# %%
for n in (16, 128, 512):
    companion.record(f"K20.loss_{n}", mean[n], fmt=".4g", badge="theory")
companion.record("K20.slope_early", np.log(mean[64] / mean[16]) / np.log(4), fmt=".3f", badge="theory")
companion.record("K20.rate_late", np.log(mean[512] / mean[1024]) / 512, fmt=".5f", badge="theory")
companion.record("K20.rate_last_mode", -2 * np.log1p(-0.5 / d), fmt=".5f")
limit = LinearAttention.largest_step(X)
companion.record("K20.largest_step", limit, fmt=".3f")

# %% [markdown]
# Where it breaks: softmax in place of the linear scores, and a step above $2/\lambda_{\max}$.

# %%
soft = in_context_loss(LinearAttention(d, 512, eta=0.5, softmax=True), [n for n in depths if n <= 512]).mean(1)
companion.record("K20.softmax_ratio", soft[-1] / closed[512], fmt=".2g", badge="theory")
large = in_context_loss(LinearAttention(d, 128, eta=1.05 * limit), [n for n in depths if n <= 128]).mean(1)
companion.record("K20.large_step_loss", large[-1], fmt=".1e", badge="theory")

# %%
fig, ax = new_figure(height=4.0)
n = np.unique(np.geomspace(1, S["depth"], 120).astype(int))
exact = [np.sum(j**-1.5 * (1 - 0.5 / j) ** (2 * k)) for k in n]
ax.loglog(n, exact, color=PALETTE["black"], ls="--", marker="", lw=1.8)
ax.loglog(depths, [mean[k] for k in depths], color=PALETTE["blue"], marker="o", ls="", ms=6)
ax.loglog(depths[: len(soft)], soft, color=PALETTE["green"], marker="^", ls="-.", lw=1.2)
ax.loglog(depths[: len(large)], large, color=PALETTE["vermillion"], marker="s", ls=":", lw=1.2)
ax.axvline(256, color=PALETTE["black"], lw=0.8)
direct_label(ax, 262, 4.0, "crossover\n$d^a/(2\\eta)=256$")
direct_label(ax, 1.3, 0.004, "circles: linear attention\ndashed: the closed form", "blue")
direct_label(ax, 0.95, 0.05, "softmax attention", "green")
direct_label(ax, 14, 8.0, "$\\eta=1.05\\cdot2/\\lambda_{\\max}$", "vermillion")

# %%
ax.set(xlabel="layers $n$", ylabel="in-context loss (no unit)", ylim=(1e-6, 60))
ax.set_title("Layers of linear attention follow the closed form: a power law in depth,\nthen an exponential")
companion.save_figure(
    fig, "09-power-law-spectrum-attention", badge="theory",
    alt="In-context loss against the number of layers on logarithmic axes: linear attention lies on the dashed closed form, a "
    "power law up to 256 layers and a sharp fall beyond; softmax attention follows another curve, too large a step diverges.",
    data={"layers": depths, "linear_attention": [mean[k] for k in depths], "closed_form": [closed[k] for k in depths]},
)  # fmt: skip
