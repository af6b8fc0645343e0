# ---
# jupyter:
#   jupytext:
#     text_representation:
#       extension: .py
#       format_name: percent
#   kernelspec:
#     display_name: Python 3
#     language: python
#     name: python3
# ---

# %% [markdown]
# # Scaling laws, fitted
#
# The runs behind Hoffmann et al.'s figure 4, fitted to the exact optimum of a stated objective; what they determine, how such
# fits go wrong, and how far they may be carried: the runs behind [the chapter](../../book/14-scaling-fits.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import csv
import json
import re
from itertools import product

import numpy as np
from scipy.optimize import minimize
from threadpoolctl import threadpool_limits

from limitlib import companion
from limitlib.companion import PALETTE, direct_label
from limitlib.companion.public_runs import chinchilla, gemstones, over_training
from limitlib.scaling import LeastSquares, LogHuber, Runs, law

quick = dict(starts=30, boot=40, objectives=1, halves=4, every=117, rolling=20, ranks=(0.8,))
full = dict(starts=4500, boot=2000, objectives=4, halves=100, every=1, rolling=40, ranks=tuple(np.linspace(0.4, 0.95, 8)[::4]))
quick["objective"], full["objective"] = LeastSquares("log"), LogHuber(1e-3)
quick["form"], full["form"] = dict(name="power", floor=False), dict(name="chinchilla")  # the smoke run tests the code alone
P = companion.profile(profile, smoke=quick, cpu=full)
_ = threadpool_limits(1)  # small matrices: a second thread would only wait (comes with scikit-learn)

# %%
from limitlib.scaling import BESIROGLU, HOFFMANN_ROUNDED, HOFFMANN_TEX_FULL, ChinchillaLaw, optimal_allocation

# %% [markdown]
# N counts tokens, P parameters, C FLOP; losses in nats per token, read off a figure. Every row is a run of its own.


# %%
def split(p):
    """The exponent a of the optimal size in compute, theorem T9.1."""
    return p["beta"] / (p["alpha"] + p["beta"])


runs = chinchilla()
size, tokens, flops, loss = runs.columns["P"], runs.columns["N"], runs.columns["C"], runs.loss
fit = law("chinchilla").fit(runs, LogHuber(1e-3))
certificate = fit.certificate
companion.record("D1.runs", len(runs), fmt="d")
tags = {"E": "e", "A": "a_amplitude", "B": "b_amplitude", "alpha": "alpha", "beta": "beta"}
for name, value in fit.parameters.items():
    companion.record(f"D2.{tags[name]}", value, fmt=".1f" if name in "AB" else ".4f")
companion.record("D2.a_fit", split(fit.parameters), fmt=".4f")

# %% [markdown]
# ## The certificate (experiment E14.1)
#
# Gradient, exact Hessian, independent starts and the objective once more in extended precision.

# %%
bends = np.array(certificate.hessian_eigenvalues)
companion.record("D1.objective", certificate.value, fmt=".4e")
companion.record("D1.gradient", certificate.gradient_norm, fmt=".0e")
companion.record("D1.decrement", certificate.decrement, fmt=".0e")
companion.record("D1.least_curvature", bends[0], fmt=".2e")
companion.record("D1.curvature_ratio", bends[-1] / bends[0], fmt=".0f")
companion.record("D1.precision_gap", abs(certificate.value_high_precision / certificate.value - 1), fmt=".0e")
companion.record("D1.starts", certificate.starts, fmt="d")
companion.record("D1.share_agreeing", certificate.share_agreeing, fmt=".2f")
companion.record("D1.converged", certificate.converged)
companion.record("D1.within_delta", int(np.sum(np.abs(fit.residuals) <= 1e-3)), fmt="d")
companion.record("D1.rms_residual", np.sqrt(np.mean(fit.residuals**2)), fmt=".4f")

# %% [markdown]
# The same objective at the constants that others published: points of the same space, so none can lie below the optimum.

# %%
refit = ChinchillaLaw(*np.exp([0.59711196, 6.17795598, 7.64273236]), 0.34781303, 0.36585412)  # their notebook's digits
published = {"rounded": HOFFMANN_ROUNDED, "tex": HOFFMANN_TEX_FULL, "table": BESIROGLU, "refit": refit}
for name, other in published.items():
    value = fit.objective_at({k: getattr(other, k) for k in ("E", "A", "B", "alpha", "beta")})
    companion.record(f"D1.excess_{name}", value / fit.value - 1, fmt=".3f")
    bias = np.mean(np.log(loss / other.loss(size, tokens)))
    companion.record(f"D1.bias_{name}", bias, fmt=".4f")
    companion.record(f"D1.a_{name}", other.beta / (other.alpha + other.beta), fmt=".4f")

# %% [markdown]
# ## The published procedure, sum against mean (experiment E14.2)
#
# SciPy's L-BFGS-B with its default tolerances from the published grid of 4500 starts, in the published coordinates. The sum
# is followed from one start in ten, the mean from all.

# %%
X = np.stack([np.ones(len(runs)), np.log(size), np.log(tokens)])


def summed(t, over):
    """Sum of Huber terms over ``over``, and its gradient, in ln A, ln B, ln E, alpha, beta."""
    z = np.stack([t[0] - t[3] * X[1], t[1] - t[4] * X[2], np.full(len(loss), t[2])])
    top = z.max(axis=0)
    share = np.exp(z - top)
    total = share.sum(axis=0)
    r, share = top + np.log(total) - np.log(loss), share / total
    value = np.where(np.abs(r) <= 1e-3, 0.5 * r**2, 1e-3 * (np.abs(r) - 0.5e-3)).sum()
    g = share * np.clip(r, -1e-3, 1e-3)
    return value / over, np.array([*g.sum(axis=1), -g[0] @ X[1], -g[1] @ X[2]]) / over


# %%
half, five = np.arange(0, 2.1, 0.5), np.arange(0, 26, 5)
grid = np.array([(a, b, e, al, be) for al, be, e, a, b in product(half, half, half - 1, five, five)], dtype=float)
grid = grid[np.random.default_rng(seed).permutation(len(grid))]
options = dict(jac=True, method="L-BFGS-B")
many = grid[: P["starts"]]
means = [minimize(summed, start, args=(len(runs),), **options) for start in many]
sums = [minimize(summed, start, args=(1,), **options) for start in many[: max(30, len(many) // 10)]]
excess = {"mean": np.array([m.fun * len(runs) for m in means]) / fit.value - 1}
excess["sum"] = np.array([s.fun for s in sums]) / fit.value - 1

# %%
for name, ends in (("mean", means), ("sum", sums)):
    companion.record(f"D5.starts_{name}", len(ends), fmt="d")
    companion.record(f"D5.within_{name}", np.mean(excess[name] < 0.01), fmt=".4f")
    companion.record(f"D5.arrived_{name}", np.mean(excess[name] < 1e-6), fmt=".3f")
    companion.record(f"D5.median_{name}", np.median(excess[name]), fmt=".1f")
    companion.record(f"D5.steps_{name}", np.median([m.nit for m in ends]), fmt=".0f")

# %%
companion.record("D5.best_sum", excess["sum"].min(), fmt=".0e")
companion.record("D5.best_mean", excess["mean"].min(), fmt=".3f")
lucky = many[int(np.argmin(excess["mean"]))]
nudges = [lucky * (1 + k * 1e-9) for k in range(-10, 11) if k]
nudged = [minimize(summed, start, args=(len(runs),), **options).fun * len(runs) / fit.value - 1 for start in nudges]
for name, value in (("low", min(nudged)), ("median", np.median(nudged)), ("high", max(nudged))):
    companion.record(f"D5.nudged_{name}", value, fmt=".3f")
lowest = [means[k].x for k in np.argsort(excess["mean"])[:10]]
companion.record("D5.a_mean_low", min(t[4] / (t[3] + t[4]) for t in lowest), fmt=".2f")
companion.record("D5.a_mean_high", max(t[4] / (t[3] + t[4]) for t in lowest), fmt=".2f")
companion.record("D5.gradient_share", np.mean(["NORM" in str(m.message) for m in means]), fmt=".2f")
from_hoffmann = np.array([6.0073404, 6.0179186, 0.5267228, 0.33917084, 0.2849083])
for name, over in (("mean", len(runs)), ("sum", 1)):
    end = minimize(summed, from_hoffmann, args=(over,), **options)
    companion.record(f"D5.from_tex_{name}", end.fun * over / fit.value - 1, fmt=".3f")
    companion.record(f"D5.from_tex_moved_{name}", np.abs(end.x - from_hoffmann).max(), fmt=".4f")
    tight = minimize(
        summed, from_hoffmann, args=(over,), options=dict(ftol=1e-15, gtol=1e-10, maxfun=50000, maxiter=50000), **options
    )
    companion.record(f"D5.from_tex_tight_{name}", tight.fun * over / fit.value - 1, fmt=".1e")

# %%
fig, ax = companion.new_figure(height=3.3)
for name, color, dash in (("sum", "blue", "-"), ("mean", "vermillion", "--")):
    ordered = np.sort(np.maximum(excess[name], 1e-12))
    ax.step(ordered, np.arange(1, len(ordered) + 1) / len(ordered), color=PALETTE[color], ls=dash, marker="", where="post")
for name, y, text in (("tex", 0.80, "Hoffmann's constants"), ("refit", 0.62, "Besiroglu's constants")):
    value = fit.objective_at({k: getattr(published[name], k) for k in ("E", "A", "B", "alpha", "beta")}) / fit.value - 1
    ax.axvline(value, color="#888888", lw=1.2, ls=":")
    direct_label(ax, value, y, text, "black", ha="right", xytext=(-5, 0))
direct_label(ax, 3e-11, 0.15, "sum: a few starts arrive,\nand that is enough", "blue")
direct_label(ax, 30, 0.3, "mean:\nnone", "vermillion")
ax.set(xscale="log", xlim=(1e-12, 1e3), ylim=(0, 1))
ax.set_xlabel("objective where L-BFGS-B stopped, relative excess over the optimum")
ax.set_ylabel("share of starts")

# %%
ax.set_title(
    "Divided by the number of runs, the same objective stops the optimiser\n"
    "short of the optimum, from every start that was tried"
)
companion.save_figure(
    fig, "14-scaling-fits-stops", badge="theory",
    alt="Cumulative share of starts against the relative excess of the objective at which SciPy's L-BFGS-B stopped. For the "
    "sum a few per cent of the starts reach the optimum and most stop far above; for the mean none reaches it and nearly all "
    "stop at twenty times the optimum.",
    data={"objective": ["sum"] * len(sums) + ["mean"] * len(means), "excess": [*excess["sum"], *excess["mean"]]},
)  # fmt: skip

# %% [markdown]
# ## The valley (theorem T14.1, experiment E14.3)
#
# Bootstrap over runs, every resample at its own optimum. In the unit of one parameter, ln A and alpha lie on a line; at the
# pivot they are uncorrelated.

# %%
boot = fit.boot(P["boot"], rng=np.random.default_rng(seed), progress=companion.progress)
draws = boot.parameters
a = split(draws)
pivot = {}
for amplitude, exponent, tag in (("A", "alpha", "size"), ("B", "beta", "tokens")):
    log, slope = np.log(draws[amplitude]), draws[exponent]
    covariance = np.cov(log, slope)
    pivot[tag] = covariance[0, 1] / covariance[1, 1]
    term = log - pivot[tag] * slope
    companion.record(f"D2.correlation_{tag}", np.corrcoef(log, slope)[0, 1], fmt=".4f", badge="measured")
    companion.record(f"D2.pivot_{tag}", np.exp(pivot[tag]), fmt=".1e", badge="measured")
    companion.record(f"D2.at_pivot_{tag}", term.std(), fmt=".4f", badge="measured")
    companion.record(f"D2.factor_{tag}", np.exp(log.std()), fmt=".2f", badge="measured")
    low, high = np.quantile(draws[amplitude], [0.025, 0.975])
    companion.record(f"D2.factor95_{tag}", high / low, fmt=".1f", badge="measured")
companion.record("D2.converged_share", np.mean(boot.converged), fmt=".3f", badge="measured")

# %% [markdown]
# The same from the sandwich covariance at the optimum, without resampling; condition numbers; what is determined, in words.

# %%
known = fit.identify()
for pin, tag in zip(known.pivots, ("size", "tokens"), strict=True):
    companion.record(f"D2.sandwich_pivot_{tag}", pin.at, fmt=".1e")
    companion.record(f"D2.sandwich_correlation_{tag}", pin.correlation, fmt=".4f")
    companion.record(f"D2.sandwich_at_pivot_{tag}", pin.term_error, fmt=".4f")
companion.record("D2.condition_raw", known.condition_raw, fmt=".1e")
companion.record("D2.condition_centred", known.condition_centred, fmt=".0f")
companion.record("D2.smallest_size", size.min(), fmt=".1e")
companion.record("D2.fewest_tokens", tokens.min(), fmt=".1e")
for tag, fixed in (("floor", [0]), ("rest", [0, 2, 4])):  # the size term's pivot with ln E, or ln E, ln B and beta, held fixed
    inner = known.covariance
    gain = np.linalg.solve(inner[np.ix_(fixed, fixed)], inner[fixed])
    inner = inner - inner[:, fixed] @ gain
    companion.record(f"D2.pivot_given_{tag}", np.exp(inner[1, 3] / inner[3, 3]), fmt=".1e")

# %%
loss_limit = draws["E"] + draws["A"] * 1e9 ** -draws["alpha"]  # unlimited data at 1e9 parameters
companion.record("D2.limit_sd", loss_limit.std(), fmt=".4f", badge="measured")
companion.record("D2.floor_sd", draws["E"].std(), fmt=".4f", badge="measured")
known.words()

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.5)
left.plot(draws["alpha"], np.log(draws["A"]), ".", color=PALETTE["sky"], ms=2.5, ls="none")
left.plot([fit.parameters["alpha"]], [np.log(fit.parameters["A"])], "o", color=PALETTE["black"])
for other, color, marker, text, dx in (
    (HOFFMANN_TEX_FULL, "vermillion", "s", "Hoffmann", -8),
    (refit, "green", "^", "Besiroglu", -8),
):
    left.plot([other.alpha], [np.log(other.A)], marker, color=PALETTE[color], ls="none", ms=7)
    direct_label(left, other.alpha, np.log(other.A), text, color, ha="right", xytext=(dx, 5))
left.set(xlabel=r"exponent $\alpha$", ylabel=r"$\ln A$, the size term at one parameter")
left.set_title("At one parameter:\na valley")
term = np.log(draws["A"]) - pivot["size"] * draws["alpha"]
right.plot(draws["alpha"], 100 * (np.exp(term - np.median(term)) - 1), ".", color=PALETTE["sky"], ms=2.5, ls="none")
middle = np.log(fit.parameters["A"]) - pivot["size"] * fit.parameters["alpha"]
right.plot([fit.parameters["alpha"]], [100 * (np.exp(middle - np.median(term)) - 1)], "o", color=PALETTE["black"])
right.set(xlabel=r"exponent $\alpha$", ylabel="size term at the pivot, per cent\nabove the median", ylim=(-5, 5))
right.set_title(f"At {np.exp(pivot['size']) / 1e7:.1f}·10⁷ parameters:\nnone")

# %%
companion.save_figure(
    fig, "14-scaling-fits-valley", badge="measured",
    alt="Left: bootstrap estimates of ln A against alpha lie on a narrow line, and the published constants lie near it. Right: "
    "the size term at the pivot, twenty million parameters, against alpha: a cloud without direction, within three per cent.",
    data={"alpha": draws["alpha"], "ln_A": np.log(draws["A"]), "ln_term_at_pivot": term},
)  # fmt: skip

# %% [markdown]
# ## Intervals (experiment E14.4)
#
# By resampling runs, and by profiling the objective; beside them the intervals that Besiroglu et al. print for 240 runs.

# %%
theirs = {"E": (1.769, 1.871), "A": (285, 744), "B": (1042, 5810), "alpha": (0.317, 0.373), "beta": (0.331, 0.415)}
errors = {"E": 0.026, "A": 124.5, "B": 1293.3, "alpha": 0.0154, "beta": 0.0206}
inside = []
for name, (low, high) in theirs.items():
    fmt, tag = ".0f" if name in "AB" else ".3f", tags[name]
    for end, value, profiled in zip(
        ("low", "high"), boot.interval(name), (known.profiles[name].lower, known.profiles[name].upper), strict=True
    ):
        companion.record(f"D2.{tag}_boot_{end}", value, fmt=fmt, badge="measured")
        companion.record(f"D2.{tag}_profile_{end}", profiled, fmt=fmt)
    companion.record(f"D2.{tag}_se", draws[name].std(), fmt=".1f" if name in "AB" else ".4f", badge="measured")
    companion.record(f"D2.{tag}_se_theirs", errors[name], fmt=".1f" if name in "AB" else ".4f", badge="published")
    inside.append(
        low <= fit.parameters[name] <= high and boot.interval(name)[0] <= getattr(refit, name) <= boot.interval(name)[1]
    )

# %%
companion.record("D2.both_inside", sum(inside), fmt="d", badge="measured")
companion.record("D2.shapes_bounded", sum(p.shape == "bounded" for p in known.profiles.values()), fmt="d")
for tag, level in (("low", 0.025), ("high", 0.975)):
    companion.record(f"D2.a_{tag}", np.quantile(a, level), fmt=".3f", badge="measured")
companion.record("D2.a_se", a.std(), fmt=".4f", badge="measured")
companion.record("D2.a_width80", np.subtract(*np.quantile(a, [0.9, 0.1])), fmt=".3f", badge="measured")

# %%
for name, other in (("tex", HOFFMANN_TEX_FULL), ("refit", refit)):
    companion.record(
        f"D1.beta_distance_{name}", (other.beta - fit.parameters["beta"]) / draws["beta"].std(), fmt=".1f", badge="measured"
    )
    companion.record(
        f"D1.a_distance_{name}",
        (other.beta / (other.alpha + other.beta) - split(fit.parameters)) / a.std(),
        fmt=".1f",
        badge="measured",
    )
companion.record("D1.threshold", max(p.threshold for p in known.profiles.values()) / fit.value, fmt=".3f")

# %% [markdown]
# ## The frontier (experiment E14.5)

# %%
budgets = np.logspace(18, 26, 33)
edge = fit.frontier(budgets, boot)
gopher = fit.frontier([5.76e23], boot)
companion.record("D3.ratio_gopher", gopher.ratio[0], fmt=".1f")
companion.record("D3.p_gopher", gopher.P[0], fmt=".2e")
companion.record("D3.n_gopher", gopher.N[0], fmt=".2e")
companion.record("D3.loss_gopher", gopher.loss[0], fmt=".3f")
companion.record("D3.beyond_gopher", gopher.beyond[0], fmt=".0f")
for tag, k in (("low", 0), ("high", 1)):
    companion.record(f"D3.ratio_gopher_{tag}", gopher.ratio_interval[k, 0], fmt=".0f", badge="measured")
    companion.record(f"D3.p_gopher_{tag}", gopher.P_interval[k, 0], fmt=".2e", badge="measured")
    companion.record(f"D3.n_gopher_{tag}", gopher.N_interval[k, 0], fmt=".2e", badge="measured")
    inner = fit.frontier([1e21], boot).ratio_interval[k, 0]
    companion.record(f"D3.ratio_1e21_{tag}", inner, fmt=".0f", badge="measured")
companion.record("D3.ratio_1e21", fit.frontier([1e21]).ratio[0], fmt=".1f")

# %% [markdown]
# One exponent for both terms is one parameter fewer, and a constant number of tokens per parameter.

# %%
tied = law("over-training").fit(runs, LogHuber(1e-3))
companion.record("D3.tied_excess", tied.value / fit.value - 1, fmt=".1e")
companion.record("D3.tied_eta", tied.parameters["eta"], fmt=".4f")
companion.record("D3.tied_ratio", (tied.parameters["B"] / tied.parameters["A"]) ** (1 / tied.parameters["eta"]), fmt=".1f")
for tag, level in (("low", 0.025), ("high", 0.975)):
    companion.record(f"D3.gap_{tag}", np.quantile(draws["alpha"] - draws["beta"], level), fmt=".3f", badge="measured")

# %%
fig, ax = companion.new_figure(height=3.7)
ax.fill_between(budgets, *edge.ratio_interval, color=PALETTE["sky"], alpha=0.35, lw=0)
ax.plot(budgets, edge.ratio, color=PALETTE["black"], marker="", ls="-")
lines = {
    "rounded": ("vermillion", "--", "Hoffmann, rounded"),
    "tex": ("orange", "-.", "Hoffmann, TeX digits"),
    "refit": ("green", ":", "Besiroglu"),
}
for name, (color, dash, text) in lines.items():
    ratio = optimal_allocation(published[name], budgets).tokens_per_param
    ax.plot(budgets, ratio, color=PALETTE[color], ls=dash, marker="")
    direct_label(ax, budgets[-1], ratio[-1], text, color)
direct_label(ax, budgets[-1], edge.ratio[-1], "this fit, 95 % band", "black", xytext=(4, 8))
ax.axhline(20, color="#888888", lw=1, ls="-")
direct_label(ax, 1e28, 20, "20", "#666666", xytext=(0, 7))
ax.axvline(flops.max(), color="#888888", lw=1, ls=":")
direct_label(ax, flops.max(), 7.5, "largest run", "#666666")

# %%
ax.set(xscale="log", yscale="log", xlim=(1e18, 3e28), ylim=(6, 200))
ax.set_xticks([1e18, 1e20, 1e22, 1e24, 1e26])
ax.set_yticks([10, 20, 50, 100, 200], labels=["10", "20", "50", "100", "200"])
ax.minorticks_off()
ax.set_xlabel("training compute C (FLOP)")
ax.set_ylabel("optimal tokens per parameter, N*/P*")
low, high = gopher.ratio_interval[:, 0]
ax.set_title(
    f"At Gopher's budget the runs allow {low:.0f} to {high:.0f} tokens per parameter:\n"
    "20 is among them, what the printed constants of approach 3 give is not"
)
companion.save_figure(
    fig, "14-scaling-fits-frontier", badge="measured",
    alt="Optimal tokens per parameter against compute: the fit is flat near 23 with a 95 per cent band that widens from about "
    "21 to 25 among the runs to 7 to 80 at large budgets; Hoffmann's constants rise out of it, and 20 lies inside it there.",
    data={"flops": budgets, "ratio": edge.ratio, "low": edge.ratio_interval[0], "high": edge.ratio_interval[1]},
)  # fmt: skip

# %% [markdown]
# ## A specification curve (experiment E14.6)
#
# The exponent a over choices that a paper rarely discusses: which runs, which delta, which form. The filters were listed before
# the first of them was fitted.

# %%
ratio = tokens / size
low_rank, high_rank = np.argsort(np.argsort(ratio)), np.argsort(np.argsort(-ratio))
filters = {
    "all runs": np.ones(len(runs), bool),
    "without 6 shortest": low_rank >= 6,
    "without 12 shortest": low_rank >= 12,
    "without 12 longest": high_rank >= 12,
    "above 1e8 parameters": size > 1e8,
    "below 5e9 parameters": size < 5e9,
    "5 to 200 tokens per parameter": (ratio > 5) & (ratio < 200),
    "below 1e21 FLOP": flops < 1e21,
    "below 1e20 FLOP": flops < 1e20,
    "above 1e19 FLOP": flops > 1e19,
}
objectives = {"1e-3": LogHuber(1e-3), "squares": LeastSquares("log"), "1e-4": LogHuber(1e-4), "1e-2": LogHuber(1e-2)}
objectives = dict(list(objectives.items())[: P["objectives"]])

# %%
found = {}
for where, mask in filters.items():
    for how, objective in objectives.items():
        found[where, how] = split(law("chinchilla").fit(runs.select(mask), objective).parameters)
values = np.array(list(found.values()))
companion.record("D3.specifications", len(values), fmt="d")
companion.record("D3.spec_low", values.min(), fmt=".3f")
companion.record("D3.spec_high", values.max(), fmt=".3f")
companion.record("D3.spec_range_in_errors", np.ptp(values) / a.std(), fmt=".1f", badge="measured")
deltas = [found["all runs", how] for how in objectives]
companion.record("D3.spec_delta_range", np.ptp(deltas), fmt=".3f")
named = {"without 6 shortest": "six", "without 12 shortest": "twelve", "below 1e21 FLOP": "below_1e21"}
named |= {"below 1e20 FLOP": "below_1e20", "above 1e19 FLOP": "above_1e19", "below 5e9 parameters": "below_5e9"}
for where, tag in named.items():
    companion.record(f"D3.a_{tag}", found[where, "1e-3"], fmt=".3f")
    companion.record(f"D3.dropped_{tag}", int(np.sum(~filters[where])), fmt="d")

# %% [markdown]
# Is such a move within the sampling error? Random subsets of the same size say how much fewer runs move a. A range of compute
# is also narrower than such a subset, so that its own bootstrap is asked too, and the two disjoint parts are compared. And
# other forms on the same runs: no floor, and Kaplan et al.'s.

# %%
rng = np.random.default_rng(seed)
keep = int(filters["below 1e20 FLOP"].sum())
halves = [np.sort(rng.permutation(len(runs))[:keep]) for _ in range(P["halves"])]
random_a = np.array([split(law("chinchilla").fit(runs.select(h), starts=4).parameters) for h in halves])
companion.record("D3.random_subset_sd", random_a.std(), fmt=".3f", badge="measured")
companion.record(
    "D3.below_1e20_in_subset_sd",
    (found["below 1e20 FLOP", "1e-3"] - random_a.mean()) / random_a.std(),
    fmt=".1f",
    badge="measured",
)

# %%
parts = {"below": flops < 1e20, "from": flops >= 1e20}
part_a, part_se = {}, {}
for tag, mask in parts.items():
    part = law("chinchilla").fit(runs.select(mask), LogHuber(1e-3))
    part_a[tag] = split(part.parameters)
    part_se[tag] = split(part.boot(P["boot"] // 5, rng=np.random.default_rng(seed)).parameters).std()
    companion.record(f"D3.part_{tag}_a", part_a[tag], fmt=".3f")
    companion.record(f"D3.part_{tag}_se", part_se[tag], fmt=".3f", badge="measured")
apart = (part_a["below"] - part_a["from"]) / np.hypot(*part_se.values())
companion.record("D3.parts_in_errors", apart, fmt=".1f", badge="measured")

# %%
bare, kaplan = law("chinchilla", floor=False).fit(runs), law("kaplan").fit(runs)
companion.record("D7.bare_excess", bare.value / fit.value - 1, fmt=".2f")
companion.record("D7.kaplan_excess", kaplan.value / fit.value - 1, fmt=".2f")
companion.record("D7.bare_rms", np.sqrt(np.mean(bare.residuals**2)), fmt=".4f")
companion.record("D7.kaplan_rms", np.sqrt(np.mean(kaplan.residuals**2)), fmt=".4f")
companion.record("D7.bare_a", split(bare.parameters), fmt=".2f")
companion.record("D7.kaplan_a", kaplan.frontier([1e21]).exponent[0], fmt=".2f")
for name in ("alpha_P", "alpha_N"):
    companion.record(f"D7.kaplan_{name.lower()}", kaplan.parameters[name], fmt=".3f")

# %%
order = np.argsort(values)
styles = {
    "all runs": ("black", "o", "all runs"), "FLOP": ("vermillion", "s", "by compute"), "size": ("blue", "^", "by size"),
    "est": ("green", "D", "without the shortest or longest"), "per": ("purple", "v", "by tokens per parameter"),
}  # fmt: skip
kinds = [where.replace("tokens per parameter", "per").replace("parameters", "size") for where, _ in found]
kinds = np.array([next(k for k in styles if k in kind) for kind in kinds])
fig, ax = companion.new_figure(height=3.5)
ax.axhspan(*np.quantile(a, [0.025, 0.975]), color=PALETTE["sky"], alpha=0.35, lw=0)
for kind, (color, marker, text) in styles.items():
    at_rank = np.flatnonzero(kinds[order] == kind)
    ax.plot(at_rank, values[order][at_rank], marker, color=PALETTE[color], ls="none", label=text)
ax.plot([-2], [0.454], "X", color=PALETTE["orange"], ms=8, ls="none")

# %%
direct_label(ax, -2, 0.454, "printed, approach 3", "orange", xytext=(7, -4))
direct_label(ax, len(values), 0.5, "95 % interval\nof all runs", "blue", ha="right", xytext=(0, 0))
ax.set(xlim=(-4, len(values) + 1))
ax.set_xlabel(f"specification, sorted ({len(objectives)} objectives for each filter)")
ax.set_ylabel("exponent a of the optimal size")
ax.legend(loc="lower right", ncol=2, fontsize=8)
ax.set_ylim(0.395, 0.605)

# %%
ax.set_title(
    "Which runs are kept matters more than the standard error:\n"
    "filters on compute move the exponent out of its interval, both ways"
)
companion.save_figure(
    fig, "14-scaling-fits-specification", badge="measured",
    alt="The exponent a for forty specifications, sorted from 0.41 to 0.59. Those with all runs lie inside the 95 per cent "
    "interval, 0.46 to 0.54; filters from below in compute give about 0.41 to 0.43 and filters from above 0.54 to 0.59.",
    data={"filter": [k[0] for k in found], "objective": [k[1] for k in found], "a": values},
)  # fmt: skip

# %% [markdown]
# One run at a time: how far leaving out a single run moves a.

# %%
single = [
    split(law("chinchilla").fit(runs.select(np.arange(len(runs)) != k), starts=4).parameters)
    for k in range(0, len(runs), P["every"])
]
moved = np.abs(np.array(single) - split(fit.parameters))
companion.record("D3.one_run_moves", moved.max(), fmt=".4f")
companion.record("D3.one_run_in_errors", moved.max() / a.std(), fmt=".2f", badge="measured")

# %% [markdown]
# ## Published grids that stopped early (experiment E14.7)
#
# Gemstones: the same form and objective as in the authors' repository, whose best of 4500 starts is printed beside the optimum.

# %%
grids = {
    "hot_3": ("hot", 1e-3, 0.0019816129, 0.29287, 0.71287), "hot_4": ("hot", 1e-4, 0.0002076018, 0.29892, 0.69283),
    "cool_end_3": ("cool_end", 1e-3, 0.0019640865, 0.30027, 0.58024),
    "cool_end_4": ("cool_end", 1e-4, 0.0002059406, 0.29701, 0.69040),
    "long_3": ("hot_100b+", 1e-3, 0.0065925344, 0.25911, 0.59727),
    "slim_4": ("slim_chinchilla", 1e-4, 0.0000133978, 0.27644, 0.47382),
}  # fmt: skip
for tag, (part, delta, value, alpha, beta) in grids.items():
    exact = law("chinchilla").fit(gemstones(part), LogHuber(delta))
    companion.record(f"D5.gem_{tag}_excess", value / exact.value - 1, fmt=".1e")
    companion.record(f"D5.gem_{tag}_a", split(exact.parameters), fmt=".4f")
    companion.record(f"D5.gem_{tag}_a_printed", beta / (alpha + beta), fmt=".4f", badge="published")
    companion.record(f"D5.gem_{tag}_objective", exact.value, fmt=".6e")
    companion.record(f"D5.gem_{tag}_objective_printed", value, fmt=".6e", badge="published")

# %% [markdown]
# ## IsoFLOP profiles without noise (theorem T14.2, experiment E14.8)
#
# Exact losses of three laws along budgets, a parabola through nine sizes; the bias in closed form against a least-squares fit.

# %%
from limitlib.scaling import approach_2, approach_2_bias, vertex_bias, vertex_bias_leading

hot_fit = law("chinchilla").fit(gemstones("hot"), LogHuber(1e-3))
hot = hot_fit.parameters
exact_laws = {
    "refit": refit,
    "tex": HOFFMANN_TEX_FULL,
    "gemstones": ChinchillaLaw(**{k: hot[k] for k in ("E", "A", "B", "alpha", "beta")}),
}
ladder = np.geomspace(1e18, 1e22, 9)
for name, exact in exact_laws.items():
    bias = approach_2_bias(exact, budgets=ladder, half_width_decades=1.0)
    companion.record(f"D6.params_{name}", np.expm1(bias.ln_bias[0]), fmt=".3f")
    companion.record(f"D6.exponent_{name}", abs(bias.a_bias), fmt=".0e")
    drift = approach_2_bias(exact, budgets=ladder, half_width_decades=1.0, centre_offset=np.linspace(-0.5, 0.5, 9))
    companion.record(f"D6.drift_{name}", drift.a_bias, fmt=".4f")

# %%
t = np.linspace(-1, 1, 9) * np.log(10)
best = optimal_allocation(HOFFMANN_TEX_FULL, 1e20)
profile_loss = HOFFMANN_TEX_FULL.loss(best.n_params * np.exp(t), best.n_tokens * np.exp(-t))
bow = np.polyfit(t, profile_loss, 2)
closed = vertex_bias(HOFFMANN_TEX_FULL.alpha, HOFFMANN_TEX_FULL.beta, np.log(10))
companion.record("D6.closed_against_fit", abs(-bow[1] / (2 * bow[0]) - closed), fmt=".0e")

# %% [markdown]
# And approach 2 on the runs themselves, which lie near nine budgets only.

# %%
nominal = [6e18, 1e19, 3e19, 6e19, 1e20, 3e20, 6e20, 1e21, 3e21]
for tolerance, tag in ((0.05, "5"), (0.10, "10")):
    isoflop = approach_2(runs, budgets=nominal, tolerance=tolerance)
    companion.record(f"D3.approach2_a_{tag}", isoflop.params.exponent, fmt=".3f")
    companion.record(f"D3.approach2_se_{tag}", np.sqrt(isoflop.params.covariance[0, 0]), fmt=".3f")
    companion.record(f"D3.approach2_budgets_{tag}", int(np.sum([not p for p in isoflop.table.problem])), fmt="d")

# %%
widths = np.linspace(0.15, 2, 60)
fig, ax = companion.new_figure(height=3.2)
styles = {
    "gemstones": ("blue", "-", "a fit to Gemstones: α = 0.29, β = 0.71"),
    "tex": ("vermillion", "--", "Hoffmann: 0.34, 0.28"),
    "refit": ("green", "-.", "Besiroglu: 0.35, 0.37"),
}
curves = {}
for name, (color, dash, _) in styles.items():
    exact, h = exact_laws[name], widths * np.log(10)
    curves[name] = 100 * np.expm1(vertex_bias(exact.alpha, exact.beta, h))
    ax.plot(widths, curves[name], color=PALETTE[color], ls=dash, marker="")
    leading = 100 * np.expm1(vertex_bias_leading(exact.alpha, exact.beta, h[::6]))
    ax.plot(widths[::6], leading, ".", color=PALETTE[color], ls="none")

# %%
ax.axhline(0, color="#888888", lw=0.8)
for x, y, name in ((0.5, -42, "gemstones"), (1.1, 15, "tex"), (1.1, -9, "refit")):
    direct_label(ax, x, y, styles[name][2], styles[name][0])
ax.set(
    xlim=(0, 2.05),
    xlabel="half width of the profile, decades of P (dots: $(\\alpha-\\beta)M/6$)",
    ylabel="error of the optimal size, per cent",
)
ax.set_title("A parabola misses the optimum of an exact profile, more so the wider it is,\nunless the exponents are equal")
companion.save_figure(
    fig, "14-scaling-fits-isoflop", badge="exact",
    alt="Relative error of the optimal size from a parabola through nine exact losses, against the half width of the profile: "
    "it grows with the square of the width, to a few per cent for similar exponents, to tens of per cent for unequal ones.",
    data={"half_width_decades": widths, **{f"per_cent_{k}": v for k, v in curves.items()}},
)  # fmt: skip

# %% [markdown]
# ## Power law or logarithm (experiment E14.9)
#
# Each form is fitted inside a window of compute and carried to all runs above it.


# %%
def compared(inside, above):
    """Root mean square of ln(predicted / true) inside and above, for five forms."""

    def both(error):
        return [float(np.sqrt(np.mean(error[m] ** 2))) for m in (inside, above)]

    power = [law("chinchilla", floor=f).fit(runs.select(inside), LeastSquares("log")) for f in (True, False)]
    out = {n: both(np.log(p.predict(P=size, N=tokens) / loss)) for n, p in zip(("floor", "bare"), power, strict=True)}
    centred = X[1:] - X[1:, inside].mean(axis=1, keepdims=True)
    for form, design in (("log", X.T), ("bent", np.vstack([X[:1], centred, centred**2]).T)):  # bent: five parameters too
        line = np.linalg.lstsq(design[inside] / loss[inside][:, None], np.ones(inside.sum()), rcond=None)[0]
        out[form] = both(np.log(design @ line / loss))
    product = np.linalg.lstsq(X.T[inside], np.log(loss[inside]), rcond=None)[0]
    out["product"] = both(X.T @ product - np.log(loss))
    return out


# %%
windows = {"1": (1e19, 1e20), "2": (1e19, 1e21), "3": (1e18, 1e21)}
tested = {k: compared((flops >= low) & (flops < high), flops >= high) for k, (low, high) in windows.items()}
for decades, forms in tested.items():
    for form, (within, beyond) in forms.items():
        companion.record(f"D7.{form}_{decades}_within", within, fmt=".4f")
        companion.record(f"D7.{form}_{decades}_beyond", beyond, fmt=".4f")

# %%
for exponent, name, fmt in ((0.34, "one_decade", ".3f"), (0.68, "two_decades", ".3f"), (0.05, "kaplan", ".4f")):
    u = exponent * np.log(10)
    q = u / -np.expm1(-u)
    companion.record(f"D7.bend_{name}", (q - 1 - np.log(q)) / (2 * u), fmt=fmt)  # the proposition on a power law and a line
one = np.abs(np.log10(size) - 8.1) <= 0.05
level = law("power", x="N").fit(runs.select(one), LeastSquares("log"))
straight = np.polyfit(np.log(tokens[one]), loss[one], 1)
companion.record("D7.one_size_runs", int(one.sum()), fmt="d")
companion.record("D7.one_size_decades", np.ptp(np.log10(tokens[one])), fmt=".2f")
companion.record("D7.one_size_power", np.sqrt(np.mean(level.residuals**2)), fmt=".4f")
off = np.log(np.polyval(straight, np.log(tokens[one])) / loss[one])
companion.record("D7.one_size_log", np.sqrt(np.mean(off**2)), fmt=".4f")

# %%
fig, axes = companion.new_figure(1, 2, height=3.7, sharey=True)
labels = {
    "floor": ("E + powers", "blue", "o"), "bare": ("powers, no E", "green", "^"),
    "product": ("product of powers", "purple", "D"), "log": ("linear in logarithms", "vermillion", "s"),
    "bent": ("with their squares", "orange", "v"),
}  # fmt: skip
for ax, k, title in zip(axes, (0, 1), ("Inside the window", "On all larger runs"), strict=True):
    for form, (text, color, marker) in labels.items():
        ax.plot(range(3), [tested[d][form][k] for d in windows], marker=marker, color=PALETTE[color], ls="-", label=text)
    ax.set(yscale="log", xlim=(-0.3, 2.3), xlabel="window, decades of compute")
    ax.set_xticks(range(3), labels=["1", "2", "3"])
    ax.set_title(title)
axes[0].set_yticks([0.005, 0.01, 0.02, 0.05, 0.1], labels=["0.5 %", "1 %", "2 %", "5 %", "10 %"])
axes[0].minorticks_off(), axes[1].minorticks_off()
axes[0].set_ylabel("error of the loss, root mean square")
axes[0].legend(loc="upper left", fontsize=8)
axes[0].set_ylim(0.0035, 0.2)

# %%
fig.suptitle(
    "One decade of compute tells powers with a floor from a line in the logarithms;\n"
    "a parabola in them fits nearly as well inside, and is twice as bad beyond",
    x=0.01, ha="left", fontsize=10, fontweight="bold",
)
companion.save_figure(
    fig, "14-scaling-fits-forms", badge="measured",
    alt="Errors of five forms fitted on one, two and three decades of compute. Inside and beyond the window power laws with "
    "a floor are at half to one per cent, the logarithm and the product of powers at about one to six per cent. With squares "
    "of the logarithms the error is half a per cent inside and one to two per cent beyond.",
    data=[dict(decades=d, form=f, inside=e[0], beyond=e[1]) for d, forms in tested.items() for f, e in forms.items()],
)  # fmt: skip

# %% [markdown]
# ## Published exponents (experiment E14.10)

# %%
with companion.load_dataset("scaling-exponents", "scaling-laws.csv").open(newline="", encoding="utf-8") as stream:
    review = [r for r in csv.DictReader(stream) if r["Paper"].strip()]
kinds = {"Parameters": [], "Data": [], "Compute": []}
for entry in review:
    if entry["Type"].startswith(("Power law", "Bivariate")):
        printed = {entry["Scaling Variable 1"]: entry["Exponent 1"], entry["Scaling Variable 2"]: entry["Exponent 2"]}
        if entry["Scaling Variable 1"] == "Data" and not entry["Exponent 1"]:  # these rows name it b among the constants
            printed["Data"] = (re.findall(r"\bb=([0-9.]+)", entry["Parameter values"]) or [""])[0]
        for variable in kinds:
            kinds[variable] += [float(printed[variable])] if printed.get(variable) else []
companion.record("D8.rows", len(review), fmt="d")
companion.record("D8.papers", len({r["Paper"] for r in review}), fmt="d")
for variable, exponents in kinds.items():
    low, middle, high = np.quantile(exponents, [0.1, 0.5, 0.9])
    for tag, value in (("low", low), ("median", middle), ("high", high)):
        companion.record(f"D8.{variable.lower()}_{tag}", value, fmt=".2f")
    companion.record(f"D8.{variable.lower()}_count", len(exponents), fmt="d")

# %%
fig, ax = companion.new_figure(height=2.6)
for row, (variable, color, marker) in enumerate(
    (("Compute", "green", "^"), ("Data", "vermillion", "s"), ("Parameters", "blue", "o"))
):
    exponents = np.array(kinds[variable])
    shown = np.clip(exponents, 0.01, 2)
    jitter = np.random.default_rng(seed).uniform(-0.22, 0.22, len(shown))
    ax.plot(shown, row + jitter, marker, color=PALETTE[color], ls="none", ms=4, alpha=0.7)
    ax.plot([np.median(shown)] * 2, [row - 0.35, row + 0.35], color=PALETTE["black"], ls="-", marker="")
ax.set(xscale="log", xlim=(0.009, 2.2), ylim=(-0.6, 2.6))
ax.set_yticks(range(3), labels=["compute", "data", "parameters"])
ax.set_xticks([0.01, 0.03, 0.1, 0.3, 1], labels=["≤ 0.01", "0.03", "0.1", "0.3", "1"])
ax.minorticks_off()
ax.set_xlabel("published exponent (bar: median; several rows of one paper are not independent)")

# %%
ax.set_title("Published exponents spread over more than a decade in each variable")
companion.save_figure(
    fig, "14-scaling-fits-exponents", badge="published",
    alt="Exponents of published scaling laws on a logarithmic axis, one row each for compute, data and parameters: each row "
    "spreads over more than one decade, with medians of about 0.2.",
    data={"variable": [k for k, v in kinds.items() for _ in v], "exponent": [e for v in kinds.values() for e in v]},
)  # fmt: skip

# %% [markdown]
# ## Back-tests (experiment E14.11)
#
# Fit below a cut in compute, predict every run above it; the naive interval is a bootstrap by run plus a residual, the
# calibrated one is widened by what smaller cuts inside the fitted part got wrong. Form and objective are those of the fit.
#
# The procedure was developed on simulated tables and on the Chinchilla runs, and frozen before the others were fitted below
# any cut. Its protocol has eight cuts; here are the first and the fifth, for their cost. Pythia: the logarithm of the
# perplexity of LAMBADA's last word, checkpoints from step 1000 on, 2,097,152 tokens each step.

# %%
non_embedding = {
    "70m": 18915328, "160m": 85056000, "410m": 302311424, "1b": 805736448,
    "1.4b": 1208602624, "2.8b": 2517652480, "6.9b": 6444163072, "12b": 11327027200,
}  # fmt: skip
checkpoints = []
for model, count in non_embedding.items():
    for file in sorted((companion.load_dataset("pythia-evals") / f"pythia-{model}-deduped").glob("*.json")):
        step = int(file.stem.split("step")[1])
        perplexity = json.loads(file.read_text())["results"]["lambada_openai"]["ppl"] if step >= 1000 else np.nan
        checkpoints.append({"N": 2097152.0 * step, "P": count, "loss": np.log(perplexity), "run": model, "step": step})
checkpoints = [row for row in checkpoints if row["step"] >= 1000]

# %%
tables = {
    "chinchilla": (runs, "C"),
    "gemstones": (gemstones("cool_end"), "C"),
    "gemstones_hot": (gemstones("hot"), "C"),
    "gemstones_by_size": (gemstones("hot"), "P"),
    "redpajama": (over_training("redpajama"), "C"),
    "pythia": (Runs.from_frame(checkpoints, N="N", P="P", loss="loss", run="run"), "C"),
}

# %%
from limitlib.scaling import backtest

scores = {}
rolling = dict(objective=P["objective"], n_boot=P["rolling"], baselines=(), progress=companion.progress)
for name, (table, by) in tables.items():
    cuts = np.quantile(table.columns[by], P["ranks"], method="lower")
    tested_back = backtest(law(**P["form"]), table, rng=np.random.default_rng(seed), by=by, cuts=cuts, **rolling)
    scores[name] = tested_back.score
    companion.record(f"D4.{name}_first_cut", tested_back.by_cut()[0].coverage, fmt=".2f", badge="measured")
    companion.record(f"D4.{name}_rows", scores[name].rows, fmt="d")
    companion.record(f"D4.{name}_naive", scores[name].naive_coverage, fmt=".2f", badge="measured")
    companion.record(f"D4.{name}_calibrated", scores[name].coverage, fmt=".2f", badge="measured")
    companion.record(f"D4.{name}_width_ratio", scores[name].width_ratio, fmt=".2f", badge="measured")
    companion.record(f"D4.{name}_error", scores[name].median_error, fmt=".4f", badge="measured")

# %%
held_out = [s for name, s in scores.items() if name != "chinchilla"]
companion.record("D4.least_confirmed", min(s.coverage for s in held_out), fmt=".2f", badge="measured")
companion.record("D4.over_covered", sum(s.coverage > 0.95 for s in scores.values()), fmt="d", badge="measured")
companion.record("D4.worst_naive", min(s.naive_coverage for s in scores.values()), fmt=".2f", badge="measured")
companion.record("D4.worst_calibrated", min(s.coverage for s in scores.values()), fmt=".2f", badge="measured")
companion.record(
    "D4.target_met", sum(s.coverage >= 0.85 and s.width_ratio <= 2 for s in scores.values()), fmt="d", badge="measured"
)

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.7, width_ratios=(3, 2))
at = np.arange(len(scores))
for shift, color, marker, text, pick in (
    (-0.1, "vermillion", "s", "naive", "naive_coverage"),
    (0.1, "blue", "o", "calibrated", "coverage"),
):
    left.plot(
        [getattr(s, pick) for s in scores.values()], at + shift, marker, color=PALETTE[color], ls="none", label=text, ms=7
    )
left.axvline(0.95, color=PALETTE["black"], lw=1, ls="--")
names = ["Chinchilla runs*", "Gemstones, cooled", "Gemstones, constant rate", "the same, by size", "over-training", "Pythia"]

# %%
left.set_yticks(at, labels=names)
left.set(xlim=(0, 1.03), ylim=(len(scores) - 0.5, -0.8), xlabel="share of larger runs inside (dashed: 95 %)")
left.legend(loc="lower left")
left.set_title("Coverage beyond the cut")
right.plot([s.width_ratio for s in scores.values()], at, "D", color=PALETTE["green"], ls="none", ms=7)
right.axvline(2, color=PALETTE["black"], lw=1, ls="--")
right.set_yticks(at, labels=[""] * len(scores))
right.set(xscale="log", xlim=(0.8, 20), ylim=(len(scores) - 0.5, -0.8), xlabel="median width over naive")
right.set_xticks([1, 2, 5, 10, 20], labels=["1", "2", "5", "10", "20"])
right.minorticks_off()
right.set_title("Its price")

# %%
price = [s.width_ratio for s in scores.values()]
least = 100 * min(s.naive_coverage for s in scores.values()), 100 * min(s.coverage for s in scores.values())
fig.suptitle(
    f"Naive 95 % intervals cover down to {least[0]:.0f} % of the larger runs,\ncalibrated ones at least {least[1]:.0f} %, "
    f"at {min(price):.1f} to {max(price):.0f} times the width",
    x=0.01, ha="left", fontsize=10, fontweight="bold",
)  # fmt: skip
companion.save_figure(
    fig, "14-scaling-fits-calibration", badge="measured",
    alt="Left: share of held-out larger runs inside nominal 95 per cent intervals on five tables, one of them "
    "cut by compute and by size. The naive intervals cover 95 per cent on over-training alone; most calibrated ones cover "
    "nearly everything. Right: how much wider the calibrated intervals are.",
    data=[dict(table=k, naive=s.naive_coverage, calibrated=s.coverage, ratio=s.width_ratio) for k, s in scores.items()],
)  # fmt: skip

# %% [markdown]
# ## Where it breaks
#
# All runs on one ray: twenty tokens per parameter each time, losses of a known law with 0.3 per cent of noise. A crossed design
# of as many runs, with the same noise. And checkpoints resampled as if they were runs.

# %%
sizes = np.geomspace(6e7, 1.6e10, 48)
noise = np.exp(np.random.default_rng(seed).normal(0, 0.003, 48))
designs = {"ray": 20 * sizes, "crossed": 20 * sizes * np.tile([0.1, 0.5, 2, 10], 12)}
for name, text in designs.items():
    table = Runs.from_arrays(refit.loss(sizes, text) * noise, N=text, P=sizes, run="=row")
    seen = law("chinchilla").fit(table, LogHuber(1e-3))
    known_now = seen.identify()
    least = min(("alpha", "beta"), key=seen.parameters.get)  # on a ray the two terms may change places
    companion.record(f"D2.{name}_least", seen.parameters[least], fmt=".2f", badge="measured")
    companion.record(f"D2.{name}_largest", max(seen.parameters["alpha"], seen.parameters["beta"]), fmt=".3f", badge="measured")
    companion.record(f"D2.{name}_shape", known_now.profiles[least].shape, badge="measured")
    companion.record(f"D2.{name}_condition", known_now.condition_centred, fmt=".1e", badge="measured")
    companion.record(f"D2.{name}_residual", np.sqrt(np.mean(seen.residuals**2)), fmt=".4f", badge="measured")

# %%
for by in ("run", "row"):
    resampled = hot_fit.boot(P["boot"] // 5, by=by, rng=np.random.default_rng(seed)).parameters["alpha"]
    companion.record(f"D4.error_by_{by}", resampled.std(), fmt=".3f", badge="measured")
