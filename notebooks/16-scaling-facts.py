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
# # Scaling-law facts
#
# Published constants, the compute-optimal allocation in closed form, and what a public note makes of them: the runs behind
# [the chapter](../../book/16-scaling-facts.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import numpy as np

from limitlib import companion
from limitlib.scaling import (
    ChinchillaLaw,
    allocation_constants,
    dense_family_error,
    exponential_decade_ratios,
    lifetime_flops,
    numeric_allocation,
    optimal_allocation,
    to_pf_days,
    training_flops,
)

P = companion.profile(profile, smoke=dict(points=40, budgets=3), cpu=dict(points=400, budgets=19))

# %%
from limitlib.scaling import (
    BESIROGLU,
    BROWN_COMPUTE,
    HOFFMANN_ROUNDED,
    HOFFMANN_TEX,
    HOFFMANN_TEX_FULL,
    KAPLAN_COMPUTE_MIN,
    KAPLAN_COMPUTE_NAIVE,
    KAPLAN_D,
    KAPLAN_JOINT,
    KAPLAN_N,
    MUENNIGHOFF,
)

LAWS = {"rounded": HOFFMANN_ROUNDED, "tex": HOFFMANN_TEX, "besiroglu": BESIROGLU}
GOPHER = 5.76e23  # FLOPs, as Hoffmann et al. print it
MODELS = {"gpt3": (175e9, 300e9), "chinchilla": (70e9, 1.4e12), "gopher": (280e9, 300e9)}

# %% [markdown]
# ## The frontier in closed form (theorem T9.1, experiment E9.1)
#
# Three sets of published constants, one formula. The first two sets are the same fit, printed with two digits and with four.

# %%
for name, law in LAWS.items():
    c, at = allocation_constants(law), optimal_allocation(law, GOPHER)
    companion.record(f"K26.g_{name}", c.G, fmt=".5f")
    companion.record(f"K26.a_{name}", c.a, fmt=".4f")
    companion.record(f"K26.b_{name}", c.b, fmt=".4f")
    companion.record(f"K26.exponent_{name}", c.loss_exponent, fmt=".5f")
    companion.record(f"K26.n_opt_{name}", at.n_params, fmt=".3e")
    companion.record(f"K26.d_opt_{name}", at.n_tokens, fmt=".3e")
    companion.record(f"K26.ratio_{name}", at.tokens_per_param, fmt=".2f")
    companion.record(f"K26.ratio_1e21_{name}", optimal_allocation(law, 1e21).tokens_per_param, fmt=".1f")
    companion.record(f"K26.ratio_1e25_{name}", optimal_allocation(law, 1e25).tokens_per_param, fmt=".1f")
    companion.record(f"K26.decade_{name}", 10**c.ratio_exponent, fmt=".4f")

# %%
companion.record("K26.ratio_tex_full", optimal_allocation(HOFFMANN_TEX_FULL, GOPHER).tokens_per_param, fmt=".2f")
refit = ChinchillaLaw(*np.exp([0.59711196, 6.17795598, 7.64273236]), 0.34781303, 0.36585412)  # their notebook's digits
companion.record("K26.ratio_besiroglu_full", optimal_allocation(refit, GOPHER).tokens_per_param, fmt=".2f")
companion.record("K26.e_shift_besiroglu", BESIROGLU.E - refit.E, fmt=".4f", badge="published")
companion.record("K26.ratio_muennighoff", optimal_allocation(MUENNIGHOFF, GOPHER).tokens_per_param, fmt=".2f")
companion.record("K26.log_budget", np.log(GOPHER / 6), fmt=".1f")

# %% [markdown]
# Certify: a search along the constraint, which knows neither the stationarity condition nor the formula, finds the same split
# at every budget (experiment E9.2).

# %%
budgets = np.logspace(18, 27, P["budgets"])
n_gaps, l_gaps = [], []
for law in LAWS.values():
    for budget in budgets:
        exact, searched = optimal_allocation(law, budget), numeric_allocation(law, budget)
        n_gaps.append(abs(searched.n_params / exact.n_params - 1))
        l_gaps.append(abs(searched.loss - exact.loss))
companion.record("K26.numeric_n_gap", max(n_gaps), fmt=".1e", badge="theory")
companion.record("K26.numeric_l_gap", max(l_gaps), fmt=".1e", badge="theory")

# %% [markdown]
# Why two rounded exponents move the answer so far: the logarithm of the ratio moves with each exponent in proportion to
# $\ln(C/6)$, which is large. The derivatives are taken by central differences.


# %%
def log_ratio(alpha, beta):
    law = ChinchillaLaw(HOFFMANN_TEX.E, HOFFMANN_TEX.A, HOFFMANN_TEX.B, alpha, beta)
    return np.log(optimal_allocation(law, GOPHER).tokens_per_param)


a0, b0, h = HOFFMANN_TEX.alpha, HOFFMANN_TEX.beta, 1e-5
by_alpha = (log_ratio(a0 + h, b0) - log_ratio(a0 - h, b0)) / (2 * h)
by_beta = (log_ratio(a0, b0 + h) - log_ratio(a0, b0 - h)) / (2 * h)
companion.record("K26.leverage_alpha", by_alpha, fmt=".1f", badge="theory")
companion.record("K26.leverage_beta", by_beta, fmt=".1f", badge="theory")
rounding = by_alpha * (0.34 - a0) + by_beta * (0.28 - b0)
companion.record("K26.rounding_factor", np.exp(rounding), fmt=".2f", badge="theory")

# %% [markdown]
# What the paper itself prints, against both readings of its constants: its allocation for the Gopher budget, its exponent $a$,
# its tables of tokens for given sizes. The printed projections side with the unrounded digits.

# %%
TABLE_3 = {4e8: 8.0e9, 1e9: 20.2e9, 1e10: 205.1e9, 67e9: 1.5e12, 175e9: 3.7e12, 280e9: 5.9e12, 1e12: 21.2e12}
TABLE_A3 = {4e8: 9.2e9, 1e9: 27.1e9, 1e10: 410.1e9, 67e9: 4.1e12, 175e9: 12.0e12, 280e9: 20.1e12, 1e12: 94.1e12}
companion.record("K26.n_gopher_printed", 40e9, fmt=".1e", badge="published")
for approach, a in {1: 0.50, 2: 0.49, 3: 0.46}.items():
    companion.record(f"K26.a_approach{approach}", a, fmt=".2f", badge="published")
companion.record("K26.ratio_67b_approach1", TABLE_3[67e9] / 67e9, fmt=".1f", badge="published")
companion.record("K26.ratio_67b_approach3", TABLE_A3[67e9] / 67e9, fmt=".1f", badge="published")
for name in ("rounded", "tex"):
    c = allocation_constants(LAWS[name])
    budget = 6 * (67e9 / c.G) ** (1 / c.a)  # the budget whose optimal size is 67e9
    ratio = optimal_allocation(LAWS[name], budget).tokens_per_param
    companion.record(f"K26.ratio_67b_{name}", ratio, fmt=".1f")
companion.record("K26.table_a3_gap", TABLE_A3[67e9] / 67e9 / ratio - 1, fmt=".2f")  # against the TeX digits, the last

# %%
flops = np.logspace(18, 27, P["points"])
curves = {name: optimal_allocation(law, flops).tokens_per_param for name, law in LAWS.items()}
fig, ax = companion.new_figure(height=3.7)
styles = {"rounded": ("vermillion", "-"), "tex": ("blue", (0, (5, 1.5))), "besiroglu": ("green", "-.")}
for name, (color, dash) in styles.items():
    ax.plot(flops, curves[name], color=companion.PALETTE[color], linestyle=dash, marker="")
ax.axhline(20, color=companion.PALETTE["black"], linestyle="--", linewidth=1.1, marker="")
ax.axvline(GOPHER, color="#8a8a8a", linestyle=":", linewidth=1.0, marker="")
for table, marker, color in ((TABLE_3, "o", "black"), (TABLE_A3, "D", "blue")):
    n = np.array(list(table))
    d = np.array(list(table.values()))
    ax.plot(training_flops(n, d), d / n, marker, mfc="white", color=companion.PALETTE[color], linestyle="none")

# %%
companion.direct_label(ax, 1.5e20, 78, "Hoffmann, rounded digits", "vermillion")
companion.direct_label(ax, 2e24, 42, "Hoffmann, TeX digits;\ndiamonds: their table A3", "blue")
companion.direct_label(ax, 2e25, 14, "Besiroglu", "green")
companion.direct_label(ax, 1.2e18, 16.3, "dashes: 20 to 1;  circles: Hoffmann, table 3", "black")
companion.direct_label(ax, GOPHER, 205, "Gopher's budget", "#5a5a5a")
ax.set(xscale="log", yscale="log", xlim=(1e18, 1e27), ylim=(12, 240))
ax.set_yticks([15, 20, 30, 50, 100, 200], labels=["15", "20", "30", "50", "100", "200"])
ax.minorticks_off()

# %%
ax.set_xlabel("training compute C (FLOPs)")
ax.set_ylabel("optimal tokens per parameter D*/N*")
tex, rounded = (optimal_allocation(LAWS[name], GOPHER).tokens_per_param for name in ("tex", "rounded"))
ax.set_title(
    "None of these three fits makes 20 to 1 a constant;\n"
    f"rounding two exponents moves the optimum from {tex:.0f} to {rounded:.0f}"
)
companion.save_figure(
    fig,
    "16-scaling-facts-ratio",
    alt="Optimal tokens per parameter against training compute for three published sets of constants: the ratio rises "
    f"with compute for both readings of Hoffmann's constants, {tex:.0f} and {rounded:.0f} at Gopher's budget, and falls "
    "slowly, near 20, for the refit of Besiroglu and others; none of the three is constant.",
    data={"flops": flops.tolist(), **{f"tokens_per_param_{k}": v.tolist() for k, v in curves.items()}},
    badge="exact",
)

# %% [markdown]
# ## Predicted losses (experiments E9.3, E9.4)
#
# What each published law says of three models whose sizes are public, beside what the note reports as predicted and actual.

# %%
predicted = {m: {name: law.loss(*nd) for name, law in LAWS.items()} for m, nd in MODELS.items()}
for model, losses in predicted.items():
    for name, loss in losses.items():
        companion.record(f"K27.{model}_{name}", loss, fmt=".4f")
gpt3 = training_flops(*MODELS["gpt3"])
companion.record("K27.flops_gpt3", gpt3, fmt=".3g")
companion.record("K27.pf_days_gpt3", to_pf_days(gpt3), fmt=".1f")
companion.record("K27.flops_chinchilla", training_flops(*MODELS["chinchilla"]), fmt=".3g")
companion.record("K27.flops_gopher_printed", GOPHER, fmt=".3g", badge="published")
predicted["gpt3"]["kaplan_joint"] = KAPLAN_JOINT.loss(*MODELS["gpt3"])
predicted["gpt3"]["brown"] = BROWN_COMPUTE.loss(pf_days=3640)
companion.record("N5.kaplan_joint", predicted["gpt3"]["kaplan_joint"], fmt=".3f")
companion.record("N5.brown_fit", predicted["gpt3"]["brown"], fmt=".3f")

# %%
NOTE = {"gpt3": 2.57, "chinchilla": 1.89}
for key, model in (("N5", "gpt3"), ("N6", "chinchilla")):
    companion.record(f"{key}.claimed", NOTE[model], fmt=".2f", badge="published")
    companion.record(f"{key}.nearest_gap", min(abs(v - NOTE[model]) for v in predicted[model].values()), fmt=".3f")
companion.record("N5.brown_one_pf_day", BROWN_COMPUTE.loss(pf_days=1.0), fmt=".2f")

# %%
fig, ax = companion.new_figure(height=3.4)
marks = {
    "rounded": ("Hoffmann, rounded", "vermillion", "o"),
    "tex": ("Hoffmann, TeX digits", "blue", "s"),
    "besiroglu": ("Besiroglu", "green", "^"),
    "kaplan_joint": ("Kaplan, joint law", "purple", "D"),
    "brown": ("Brown, compute fit", "orange", "v"),
}
rows = {"gpt3": ("GPT-3", 2.0), "chinchilla": ("Chinchilla", 1.0), "gopher": ("Gopher", 0.0)}
for i, (name, (label, color, marker)) in enumerate(marks.items()):
    own = [m for m in rows if name in predicted[m]]
    y = [rows[m][1] + 0.26 - 0.13 * i for m in own]
    x = [predicted[m][name] for m in own]
    ax.plot(x, y, marker, color=companion.PALETTE[color], label=label, linestyle="none", markersize=6)

# %%
x, y = list(NOTE.values()), [rows[m][1] for m in NOTE]
ax.plot(x, y, "X", color=companion.PALETTE["black"], markersize=9, linestyle="none", label="the note: predicted = actual")
ax.set_yticks([v for _, v in rows.values()], labels=[label for label, _ in rows.values()])
ax.set(xlim=(1.6, 2.65), ylim=(-0.5, 2.5))

# %%
ax.set_xlabel("loss (nats per token; each law on its own text and tokenizer)")
ax.set_ylabel("model")
ax.legend(loc="lower right")
ax.set_title("None of these laws gives GPT-3 a loss of 2.57:\nthat number is the prefactor of a fit in compute")
points = [(m, k, v) for m, losses in predicted.items() for k, v in losses.items()] + [(m, "note", v) for m, v in NOTE.items()]
companion.save_figure(
    fig,
    "16-scaling-facts-losses",
    alt="Losses that published fits predict for GPT-3, Chinchilla and Gopher: all lie near or below 2 nats per token, "
    "while the note reports 2.57 for GPT-3, far above every prediction, and 1.89 for Chinchilla, just below all of them.",
    data={c: [p[i] for p in points] for i, c in enumerate(("model", "law", "loss_nats_per_token"))},
    badge="exact",
)

# %% [markdown]
# ## Exponential against power law (theorem T9.2)
#
# Calibrated on one decade, an exponential in the size predicts for the second decade a factor that no fitted power law shows.

# %%
alpha = HOFFMANN_ROUNDED.alpha
first, second = exponential_decade_ratios(10**-alpha, 2)
companion.record("K16.first_decade", first, fmt=".4f")
companion.record("K16.second_decade", second, fmt=".2e")
companion.record("K16.kaplan_second_decade", exponential_decade_ratios(10**-KAPLAN_N.exponent, 2)[1], fmt=".3f")
companion.record("K16.decades_hoffmann", np.log10(16e9 / 70e6), fmt=".1f", badge="published")
companion.record("K16.decades_kaplan", np.log10(1.5e9 / 768), fmt=".1f", badge="published")
for power in (2, 4, 6):  # the rate q(P) of an exponential q^P that equals P^-alpha at P = 10^power
    size = 10.0**power
    companion.record(f"C4.rate_gap_1e{power}", -np.expm1(-alpha * np.log(size) / size), fmt=".2e")

# %%
multiple = np.logspace(0, 3, P["points"])
power_law, exponential = multiple**-alpha, first ** ((multiple - 1) / 9)
fig, ax = companion.new_figure(height=3.5)
ax.plot(multiple, power_law, color=companion.PALETTE["blue"], marker="", linestyle="-")
ax.plot(multiple, exponential, color=companion.PALETTE["vermillion"], marker="", linestyle=(0, (5, 1.5)))
ax.plot([1, 10], [1, first], "o", color=companion.PALETTE["black"], linestyle="none")
ax.plot([100, 100], [100**-alpha, first * second], "s", mfc="white", color=companion.PALETTE["black"], linestyle="none")

# %%
companion.direct_label(ax, 60, 0.42, r"power law, $P^{-0.34}$", "blue")
companion.direct_label(ax, 33, 4e-3, "exponential through\nthe same two points", "vermillion", ha="right", xytext=(-6, 0))
companion.direct_label(ax, 1.15, 0.25, "calibrated on\nthis decade (dots)", "black")
companion.direct_label(ax, 100, first * second, "  one decade on (squares)", "black")
ax.set(xscale="log", yscale="log", xlim=(0.9, 1000), ylim=(3e-6, 2))

# %%
ax.set_xlabel("size P, in multiples of the smallest")
ax.set_ylabel("reducible loss, relative to the smallest")
ax.set_title("One decade cannot tell the two apart by its ends;\nat the end of the next one they are a factor of 1000 apart")
companion.save_figure(
    fig,
    "16-scaling-facts-decades",
    alt="Reducible loss against size on logarithmic axes: a power law and an exponential agree at both ends of the first "
    "decade; at the end of the second one the exponential lies about a thousand times lower, and it then leaves the picture.",
    data={"multiple": multiple.tolist(), "power_law": power_law.tolist(), "exponential": exponential.tolist()},
    badge="exact",
)

# %%
companion.record("K16.separation", 10**-alpha / second, fmt=".0f")

# %% [markdown]
# ## The note's other rows (errata N1 to N4, N7 to N9)
#
# Each erratum as a number: what the note's statement gives, and what is true. The note's own law is split under the note's
# own constraint $ND=C$, which is $6ND=6C$.

# %%
companion.record("N1.claimed", 0.057, fmt=".3f", badge="published")
companion.record("N1.kaplan_naive", KAPLAN_COMPUTE_NAIVE.exponent, fmt=".3f", badge="published")
companion.record("N1.kaplan_min", KAPLAN_COMPUTE_MIN.exponent, fmt=".3f", badge="published")
companion.record("N1.hoffmann", allocation_constants(HOFFMANN_ROUNDED).loss_exponent, fmt=".3f")
companion.record("N1.besiroglu", allocation_constants(BESIROGLU).loss_exponent, fmt=".3f")
n, d = MODELS["gpt3"]
note_sum = ChinchillaLaw(0.0, KAPLAN_N.scale**0.076, KAPLAN_D.scale**0.095, 0.076, 0.095)
companion.record("N2.sum_gpt3", note_sum.loss(n, d), fmt=".3f")
companion.record("N2.joint_gpt3", KAPLAN_JOINT.loss(n, d), fmt=".3f")
with_compute = note_sum.loss(n, d) + KAPLAN_COMPUTE_NAIVE.loss(pf_days=to_pf_days(gpt3))
companion.record("N3.sum_with_compute", with_compute, fmt=".3f")

# %% [markdown]
# A product law has no floor in any one factor, and along a budget it is monotone: no allocation is best in the interior.

# %%
grow = 1e6
product_fall = grow ** -(0.076 + 0.057)  # N^-0.076 C^-0.057 with C = 6ND, tokens fixed
joint_fall = KAPLAN_JOINT.loss(grow * n, d) / KAPLAN_JOINT.loss(n, d)
companion.record("N3.product_fall", product_fall, fmt=".3f")
companion.record("N3.joint_fall", joint_fall, fmt=".3f")
along = np.logspace(9, 13, P["points"])
product_loss = along**-0.076 * (GOPHER / 6 / along) ** -0.095
companion.record("N3.product_interior_optimum", bool(0 < np.argmin(product_loss) < along.size - 1))
companion.record("N4.claimed", 20, fmt=".0f", badge="published")
for tag, budget in (("1e21", 1e21), ("gopher", GOPHER), ("1e25", 1e25)):
    companion.record(f"N4.own_law_{tag}", optimal_allocation(note_sum, 6 * budget).tokens_per_param, fmt=".1f")
no_six = optimal_allocation(HOFFMANN_ROUNDED, 6 * GOPHER).tokens_per_param
companion.record("N4.ratio_without_six", no_six, fmt=".1f")

# %% [markdown]
# A row without published sizes can be given any value in a wide range; a smaller exponent needs more data, not less; a dense
# family can approximate slower than every power.

# %%
box = [BESIROGLU.loss(size, text) for size in (1e11, 1e13) for text in (1e12, 1e14)]
companion.record("N7.lowest", min(box), fmt=".2f")
companion.record("N7.highest", max(box), fmt=".2f")
companion.record("N8.data_factor_kaplan", 2 ** (1 / KAPLAN_D.exponent), fmt=".0f")
companion.record("N8.data_factor_half", 2 ** (1 / 0.5), fmt=".0f")
h = 1e-4
for power in (2, 8, 16):  # minus the slope of ln(error) in ln(N), by a central difference
    around = dense_family_error(10.0**power * np.exp([-h, h]))
    companion.record(f"N9.local_exponent_1e{power}", np.log(around[0] / around[1]) / (2 * h), fmt=".4f")

# %% [markdown]
# ## Where it breaks
#
# Drop $\alpha \ne \beta$ and the ratio is constant; keep it and the ratio drifts, at the rate that theorem T9.1 states.

# %%
gaps = (-0.06, -0.02, 0.0, 0.02, 0.06)
drifts = {}
for gap in gaps:
    law = ChinchillaLaw(1.69, 406.4, 410.7, 0.31 + gap / 2, 0.31 - gap / 2)
    ratio = optimal_allocation(law, flops).tokens_per_param
    drifts[gap] = ratio / ratio[0]
companion.record("K26.drift_apart", drifts[0.06][-1], fmt=".2f")

# %% [markdown]
# The constant of the case of equal exponents is $(B/A)^{1/\alpha}$. The search, which does not know it, is held to it at
# every budget; the last two numbers say what $B/A$ would have to be for 20 to 1, and what Hoffmann's fit has.

# %%
equal = ChinchillaLaw(1.69, 406.4, 410.7, 0.31, 0.31)
held = np.array([numeric_allocation(equal, budget).tokens_per_param for budget in budgets])
companion.record("K26.drift_equal", np.max(np.abs(held / (equal.B / equal.A) ** (1 / 0.31) - 1)), fmt=".1e", badge="theory")
companion.record("K26.b_over_a_twenty", 20**HOFFMANN_ROUNDED.alpha, fmt=".2f")
companion.record("K26.b_over_a_hoffmann", HOFFMANN_ROUNDED.B / HOFFMANN_ROUNDED.A, fmt=".2f")

# %% [markdown]
# Change the constraint and the formula no longer applies: a model that is also to serve M tokens costs $6ND + 2NM$.

# %%
served = np.logspace(11, 13.5, max(12, P["points"] // 8))
best = [numeric_allocation(BESIROGLU, GOPHER, inference_tokens=m).tokens_per_param for m in served]
closed = optimal_allocation(BESIROGLU, GOPHER)
at = numeric_allocation(BESIROGLU, GOPHER, inference_tokens=1e13)
spent = lifetime_flops(closed.n_params, closed.n_tokens, inference_tokens=1e13)
companion.record("K26.serving_overspend", spent / GOPHER, fmt=".2f")
companion.record("K26.serving_ratio", at.tokens_per_param, fmt=".0f", badge="theory")
companion.record("K26.serving_n_ratio", at.n_params / closed.n_params, fmt=".3f", badge="theory")
keep = closed.tokens_per_param  # the closed-form shape, shrunk until 6 keep N^2 + 2 N M fits the budget
n_kept = (np.sqrt(1e26 + 6 * keep * GOPHER) - 1e13) / (6 * keep)
gap = BESIROGLU.loss(n_kept, keep * n_kept) - at.loss
companion.record("K26.serving_loss_gap", gap, fmt=".4f", badge="theory")

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.5)
colors = ("blue", "blue", "black", "vermillion", "vermillion")
for (gap, drift), color, dash in zip(drifts.items(), colors, ("-.", "--", "-", "--", "-."), strict=True):
    left.plot(flops, drift, color=companion.PALETTE[color], linestyle=dash, marker="")
    companion.direct_label(left, flops[-1], drift[-1], rf"${gap:+.2f}$" if gap else "$0$", color)
left.set(xscale="log", yscale="log", xlim=(1e18, 2e29))
left.set_xticks([1e18, 1e21, 1e24, 1e27])
left.set_yticks([0.2, 0.5, 1, 2, 5], labels=["0.2", "0.5", "1", "2", "5"])
left.minorticks_off()
left.set_xlabel("training compute C (FLOPs)")
left.set_ylabel("D*/N* relative to 1e18 FLOPs")
left.set_title("Only $\\alpha = \\beta$ holds the ratio\n(labels: $\\alpha - \\beta$)")
right.plot(served, best, color=companion.PALETTE["green"], marker="", linestyle="-")
right.axhline(closed.tokens_per_param, color=companion.PALETTE["black"], linestyle="--", marker="")

# %%
companion.direct_label(right, 1.1e11, 15.3, "closed form (T9.1)", "black")
companion.direct_label(right, 8e12, 135, "search", "green", ha="right", xytext=(-6, 0))
right.set(xscale="log", yscale="log", xlim=(1e11, served[-1]), ylim=(12, 700))
right.set_yticks([20, 50, 100, 200, 500], labels=["20", "50", "100", "200", "500"])
right.minorticks_off()
right.set_xlabel("tokens to serve M")
right.set_ylabel("optimal tokens per parameter")
right.set_title("Serving moves the optimum;\nthe closed form stays")

# %%
companion.save_figure(
    fig,
    "16-scaling-facts-breaks",
    alt="Left: over nine decades of compute the optimal ratio of tokens to parameters stays constant for equal exponents and "
    "drifts up or down for unequal ones. Right: with serving in the budget the best ratio rises far above the closed form.",
    data={
        "panel": ["drift"] * (len(gaps) * flops.size) + ["serving"] * served.size,
        "alpha_minus_beta": [g for g in gaps for _ in flops] + [""] * served.size,
        "x": [float(x) for _ in gaps for x in flops] + served.tolist(),
        "y": [float(v) for g in gaps for v in drifts[g]] + [float(v) for v in best],
    },
    badge="theory",
)
