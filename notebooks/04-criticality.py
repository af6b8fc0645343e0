# %% [markdown]
# # Criticality
# What is special about a Lipschitz constant of 1: the trichotomy in exact numbers, then gain, depth and training on
# digits and text, for the [chapter](../../book/04-criticality.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import math
import os

import numpy as np
import torch
from scipy.special import zeta

from limitlib import companion, corpora
from limitlib.blocks import linear, plane_rotation
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.iteration import inexact_orbit, infinite_product
from limitlib.operators import jacobian_singular_values
from limitlib.training import DescentSpec, DigitsSpec, Table, TextSpec, sweep

if "get_ipython" not in globals():  # a plain script, as on a machine without Jupyter; the runner passes a parameter
    profile = os.environ.get("LIMITLIB_PROFILE", profile)

# %%
ROOT2 = math.sqrt(2)
TANH, RELU, ABS = (0.7, 0.9, 1.0, 1.1, 1.3, 1.6), (0.9, 1.0, 1.2, ROOT2, 1.6, 1.9), (0.9, 1.0, 1.1)
HELD_RELU, BRANCH = (0.9, 1.0, 1.2, ROOT2, 1.7), (0.3, 1.0, 2.0, 4.0)
P = companion.profile(
    profile,
    smoke=dict(n=1, probes=2, steps=2, held=2, product=10_000, descent=20, text=(3,), evaluation=200, device="cpu"),
    cpu=dict(n=2, probes=8, steps=250, held=150, product=1_000_000, descent=2000, text=(700,), evaluation=20_000),
    gpu=dict(n=5, text=(700, 4000), device="cuda"),
)
seeds = tuple(range(seed, seed + P["n"]))
rng = np.random.default_rng(seed)
full_profile = profile == "gpu"
cores = torch.get_num_threads()
torch.set_num_threads(1)  # many small products: two processes beat two threads

# %% [markdown]
# ## One repeated block: collapse, memory, or neither (T2.4)
# Five blocks and the distance between two runs of each: a contraction, an averaged rotation with a line of fixed
# points, a rotation, a map whose powers all have constant 1, and a map of radius 1.5.

# %%
turn = plane_rotation(1.0)
averaged = np.eye(3)
averaged[1:, 1:] = (np.eye(2) + turn) / 2
critical = lambda x: x / np.sqrt(1 + 2 * x**2)  # noqa: E731
bistable = lambda x: np.tanh(1.5 * x)  # noqa: E731
starts1, starts2 = np.array([[1.0], [-1.0]]), np.array([[0.5, 0], [-0.5, 0]])
starts3 = np.array([[0.5, 0.5, 0.5], [-0.5, 0, 0]])
depths = np.unique(np.geomspace(1, 1001, 80).astype(int)) - 1
separation = {
    name: np.linalg.norm(np.diff(inexact_orbit(lambda i, T=T: T, x, n=depths).x, axis=1)[:, 0], axis=-1)
    for name, T, x in [
        ("contraction", linear(0.9 * turn), starts2),
        ("averaged", linear(averaged), starts3),
        ("rotation", linear(turn), starts2),
        ("power law", critical, starts1),
        ("bistable", bistable, 0.01 * starts1),
    ]
}

# %% [markdown]
# The contraction brings inputs at distance 1 below a readout margin of 0.1 at a depth that the formula of T2.4 gives
# exactly. The fourth block has slope 1 at the origin in every power, and still forgets, as a power of the depth.

# %%
by_layer = np.linalg.norm(np.diff(inexact_orbit(lambda i: linear(0.9 * turn), starts2, n=np.arange(40)).x, axis=1), axis=-1)
companion.record("K7.collapse_layers", int(np.argmax(by_layer < 0.1)), fmt="d")
companion.record("K7.averaged_distance", separation["averaged"][-1], fmt=".6f")
power = inexact_orbit(lambda i: critical, np.array([[1.0], [1e-9]]), n=[1000]).x[0, :, 0]
companion.record("K8.power_law_at_1000", power[0], fmt=".7f")
companion.record("K8.power_law_slope", power[1] / 1e-9, fmt=".9f")
left, right = inexact_orbit(lambda i: bistable, np.array([[-0.01], [0.01]]), n=[1000]).x[0, :, 0]
companion.record("K7.tanh_limit", right, fmt=".7f")
companion.record("K7.tanh_limit_negative", left, fmt=".7f")


def twenty(x):
    for _ in range(20):
        x = torch.tanh(1.5 * x)
    return x


slope = jacobian_singular_values(twenty, torch.zeros(1, 1, dtype=torch.float64)).local[0]
companion.record("K7.tanh_slope_n20", slope, fmt=".4f")

# %% [markdown]
# ## How much contraction a stack can afford (T2.3)
# If the missing amounts $1-\mathrm{Lip}(T_i)$ have a finite sum, the product of the constants stays positive. With
# $i^{-2}$ it tends to one half; with $1/i$ to zero.

# %%
i = np.arange(2.0, P["product"] + 1)
summable = infinite_product(1 - i**-2, tail=1 / i[-1])
companion.record("K7.product_summable", summable.value, fmt=".7f")
companion.record("K7.product_tail", summable.tail_bound, fmt=".1e")
companion.record("K7.product_divergent", infinite_product(1 - 1 / i, tail=math.inf).value, fmt=".1e")
products = {"summable": np.cumprod(1 - i[:10_000] ** -2), "divergent": np.cumprod(1 - 1 / i[:10_000])}

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.3)
styles = {"contraction": ("vermillion", "-."), "averaged": ("blue", "-"), "rotation": ("green", ":"),
          "power law": ("purple", "--"), "bistable": ("orange", (0, (5, 1)))}  # fmt: skip
for name, (color, dash) in styles.items():
    ax.loglog(depths + 1, separation[name], color=PALETTE[color], ls=dash, marker="")
ax.set(xlabel="depth $n$ + 1 (blocks)", ylabel="distance between two runs", ylim=(1e-4, 8),
       title="Lip = 1 may remember,\nturn forever, or forget")  # fmt: skip
direct_label(ax, 1.1, 3.4, "tanh(1.5x), Lip 1.5: kept", "orange"), direct_label(ax, 30, 0.55, "averaged: kept", "blue")
direct_label(ax, 1.05, 0.33, "rotation:\nno limit", "green")
direct_label(ax, 62, 0.019, "$x/\\sqrt{1+2x^2}$:\nforgotten slowly", "purple")
direct_label(ax, 1.2, 4e-3, "0.9 × rotation:\nforgotten fast", "vermillion")
some = np.unique(np.geomspace(1, len(products["summable"]), 60).astype(int)) - 1
for name, color, dash in [("summable", "blue", "-"), ("divergent", "vermillion", "-.")]:
    bx.loglog(i[some], products[name][some], color=PALETTE[color], ls=dash, marker="")
bx.axhline(0.5, color=PALETTE["black"], ls="--", lw=1)
bx.set(xlabel="depth $n$ (blocks)", ylabel="product of the blocks' Lip")
bx.set_title("A summable deficit\nleaves half of the distance")
direct_label(bx, 20, 1.0, "$1-\\mathrm{Lip}=i^{-2}$", "blue"), direct_label(bx, 4, 2e-3, "$1-\\mathrm{Lip}=1/i$", "vermillion")
direct_label(bx, 400, 0.32, "limit 1/2", "black")
columns = {"depth": depths, **{name.replace(" ", "_"): v for name, v in separation.items()}}

# %%
companion.save_figure(
    fig, "04-criticality-trichotomy", badge="exact", data=columns,
    alt="Left: distance between two runs against depth for five blocks. Two blocks with constant 1 keep a distance, one "
    "forgets as a power law, a contraction forgets exponentially, and tanh of 1.5 x separates the runs. Right: products of "
    "Lipschitz constants stay at one half for a summable deficit and go to zero for a harmonic one.",
)  # fmt: skip

# %% [markdown]
# ## A stack that forgets nothing (T2.5, T2.6)
# Residual blocks $x-c\,i^{-2}Q_i^{\top}\tanh(Q_ix)$ with orthogonal $Q_i$ are nonexpansive: every distance ratio after all
# layers stays between the product of the $1-c\,i^{-2}$ and 1, and replacing $c=0.5$ by $0.45$ moves no output by more than
# the sum of the changes. Recorded: the extreme ratios, and the largest movement as a share of that sum.

# %%
turns = np.linalg.qr(rng.standard_normal((200, 8, 8)))[0]
x0 = rng.standard_normal((400, 8))
stack = lambda c: lambda i: lambda x: x - c * i**-2.0 * np.tanh(x @ turns[i - 1].T) @ turns[i - 1]  # noqa: E731
end, other = (inexact_orbit(stack(c), x0, n=[200]).x[0] for c in (0.5, 0.45))
ratio = np.linalg.norm(np.diff(end, axis=0), axis=1) / np.linalg.norm(np.diff(x0, axis=0), axis=1)
companion.record("K7.residual_lowest_ratio", ratio.min(), fmt=".4f")
companion.record("K7.residual_highest_ratio", ratio.max(), fmt=".4f")
changed = np.linalg.norm(end - other, axis=1).max() / (0.05 * math.sqrt(8) * (np.arange(1.0, 201.0) ** -2).sum())
companion.record("K7.stability_share", changed, fmt=".3f")

# %% [markdown]
# ## Gain and depth on digits (E3)
# Plain networks of width 64: every weight starts as gain times an orthogonal matrix, so each layer's `sup` constant is
# the gain exactly. All gains and seeds of one depth train at once, as one batched network. First free weights, then
# weights held at gain times orthogonal after every step. A finished ensemble is kept and never trained twice.


# %%
def digits(activation, gains, depth, **options):
    settings = dict(steps=P["steps"], probes=P["probes"]) | options
    return DigitsSpec(seeds, gains, depth, activation=activation, **settings)


def run(part, specs):
    say = lambda done, total, label: companion.progress(done, total, f"{part}: {label}")  # noqa: E731
    where = dict(backend="loky" if profile == "cpu" and cores > 1 else "serial", n_jobs=cores, device=P["device"])
    table = sweep(specs, store=companion.store(part, specs), progress=say, **where)
    facts = dict(seeds=len(set(table.column("seed"))), profile=profile, text_sha256=corpora.python_source().sha256)
    companion.save_table(f"04-criticality-{part}", table.rows, **facts)
    return table


def measured(name, value, fmt=".3f", runs=P["n"]):
    companion.record(f"C3.{name}", value, fmt=fmt, badge="measured", seeds=runs)


# %%
def headline(fig, text):
    fig.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold")


def committed(part, own):
    """The full run's table and its machine, where the book holds one; else this run's."""
    try:
        if full_profile:
            raise FileNotFoundError("this is the full run")
        columns, facts = companion.load_table(f"04-criticality-{part}")
        return Table.from_columns(columns), f"{facts['device']}, {facts['seeds']} seeds"
    except FileNotFoundError:
        number = len(set(own.column("seed")))
        return own, f"this run, {number} seed{'s' * (number > 1)}"


# %%
fine = {
    "tanh": (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3, 1.45, 1.6),
    "relu": (0.9, 1.0, 1.1, 1.2, 1.3, ROOT2, 1.5, 1.6, 1.7, 1.9),
    "abs": (0.7, 0.8, 0.9, 0.95, 1.0, 1.05, 1.1, 1.2, 1.3),
}
free = [(a, g, L) for L in (4, 16, 32) for a, g in [("tanh", TANH), ("relu", RELU)]]
free += [("tanh", (0.7, 1.1), 64), ("relu", (1.0, 1.2, ROOT2), 64), ("abs", ABS, 4), ("abs", ABS, 64)]
held = [(a, g, L) for L in (16, 32) for a, g in [("tanh", TANH), ("relu", HELD_RELU)]]
quoted = [(*cell, False) for cell in free] + [(*cell, True) for cell in held]
if full_profile:
    free = [(a, g, L) for L in (4, 8, 16, 32, 64, 128) for a, g in fine.items()]
    held = [(a, fine[a], L) for L in (8, 16, 32, 64, 128) for a in ("tanh", "relu")]
specs = [digits(*cell) for cell in free] + [digits(*cell, held=True, steps=P["held"]) for cell in held]
plain = run("plain", specs)
plain_full, plain_machine = committed("plain", plain)

# %% [markdown]
# The accuracies that the chapter's tables quote, and `rms`, `local` and `pair` of whole stacks at the start, as
# logarithms. Dead networks sit at the share of one class; a network whose signal neither dies nor explodes trains.

# %%
for activation, gains, depth, way in quoted:
    for gain in gains:
        accuracy = plain.mean("accuracy", activation=activation, depth=depth, gain=gain, held=way)
        name = f"{'held' if way else 'init'}_{activation}_l{depth}_g{round(100 * gain):03d}"
        measured(name, accuracy)

# %%
for activation, gain in [("tanh", 0.7), ("tanh", 1.1), ("relu", 1.0), ("relu", 1.2), ("relu", ROOT2), ("abs", 1.0)]:
    cell = dict(activation=activation, depth=64, gain=gain, held=False)
    name = f"{activation}_l64_g{round(100 * gain):03d}"
    measured(f"chi_{name}", plain.mean("log10_chi_start", **cell), ".2f")
    measured(f"local_{name}", plain.mean("log10_local_start", **cell), ".2f")
    measured(f"pair_{name}", plain.mean("log10_pair_start", **cell), ".2f")
companion.record("C3.sup_stack_relu_g120", 64 * math.log10(1.2), fmt=".2f")
companion.record("C3.sup_stack_relu_g141", 64 * math.log10(ROOT2), fmt=".2f")


def gap(better, worse, **cell):
    return plain.mean("accuracy", gain=better, **cell) - plain.mean("accuracy", gain=worse, **cell)


apart = [
    np.ptp(plain.where(activation=a, depth=L, gain=g, held=way).column("accuracy")) for a, gs, L, way in quoted for g in gs
]
measured("seeds_apart", max(apart), ".2f")

# %%
contrasts = {
    "held_tanh_contrast": gap(1.1, 0.7, activation="tanh", depth=32, held=True),
    "held_relu_contrast": gap(ROOT2, 1.0, activation="relu", depth=32, held=True),
    "init_tanh_contrast": gap(1.1, 0.7, activation="tanh", depth=64, held=False),
    "init_relu_contrast": gap(ROOT2, 1.0, activation="relu", depth=64, held=False),
    "abs_l64_best": max(plain.mean("accuracy", activation="abs", depth=64, gain=g) for g in ABS),
}
for name, value in contrasts.items():
    measured(name, value)

# %% [markdown]
# Where each reading of Lip equals 1: `sup` of a layer at gain 1; `rms` of the whole stack (log chi = 0) and `local` of the
# whole stack where the measured logarithm, interpolated in the gain, changes sign.


# %%
def crossing(table, column, activation):
    """Depths, and the gain at which the column's mean over seeds changes sign (nan if it does not)."""
    found = {}
    rows = table.where(activation=activation, held=False, model="plain")
    for depth in np.unique(rows.column("depth")):
        at = rows.where(depth=depth)
        gains = np.unique(at.column("gain"))
        height = np.array([at.mean(column, gain=g) for g in gains])
        rising = len(gains) > 2 and np.isfinite(height).all() and height[0] < 0 < height[-1]
        found[int(depth)] = float(np.interp(0, height, gains)) if rising else math.nan
    return np.array(list(found)), np.array(list(found.values()))


for depth, gain in zip(*crossing(plain, "log10_chi_start", "tanh"), strict=True):
    if depth in (4, 32):
        measured(f"tanh_chi_line_l{depth}", gain, ".2f")


# %%
def surface(table, activation):
    """Depths with a full row of gains, gains, and mean accuracy (depths, gains)."""
    rows = table.where(activation=activation, held=False)
    gains = np.unique(rows.column("gain"))
    full = [d for d in np.unique(rows.column("depth")) if len(set(rows.where(depth=d).column("gain"))) == len(gains)]
    return np.array(full), gains, np.array([[rows.mean("accuracy", depth=d, gain=g) for g in gains] for d in full])


# %%
fig, axes = new_figure(1, 3, height=3.7, sharey=True)
shades = dict(cmap="cividis", vmin=0, vmax=1)
drawn, rungs = [], np.unique(plain_full.where(held=False).column("depth"))

# %%
for ax, activation in zip(axes, fine, strict=True):
    depth, gains, accuracy = surface(plain_full, activation)
    edges = np.concatenate([[1.5 * gains[0] - gains[1] / 2], (gains[1:] + gains[:-1]) / 2, [1.5 * gains[-1] - gains[-2] / 2]])
    for d, row in zip(depth, accuracy, strict=True):  # a row per depth that was run, and nothing between
        picture = ax.pcolormesh(edges, np.log2(d) + np.array([-0.5, 0.5]), row[None], **shades)
    own = plain.where(activation=activation, held=False)
    cells = sorted({(r["gain"], r["depth"]) for r in own.rows})
    level = [own.mean("accuracy", gain=g, depth=L) for g, L in cells]
    places = [g for g, _ in cells], [math.log2(L) for _, L in cells]
    ax.scatter(*places, c=level, edgecolor=PALETTE["black"], lw=0.8, s=24, zorder=3, **shades)
    for d, row in zip(depth, accuracy, strict=True):
        drawn += [dict(activation=activation, depth=int(d), gain=g, accuracy=a) for g, a in zip(gains, row, strict=True)]
    lines = {"sup": (np.log2(rungs), np.ones(len(rungs)), "-")}
    for name, column, dash in [("rms", "log10_chi_start", "--"), ("local", "log10_local_start", ":")]:
        L, g = crossing(plain_full, column, activation)
        lines[name] = (np.log2(L), g, dash)
    for height, g, dash in lines.values():
        ax.plot(g, height, color="white", ls="-", marker="", lw=4)
        ax.plot(g, height, color=PALETTE["vermillion"], ls=dash, marker="", lw=2)
    ax.set(xlabel="gain at start", title=activation), ax.grid(False)

# %%
axes[0].set(ylabel="depth (layers, log scale)", yticks=np.log2(rungs), yticklabels=rungs.astype(int))
fig.colorbar(picture, ax=axes, label="test accuracy", shrink=0.9, pad=0.01)
headline(fig, "Deep relu learns near rms = 1 (dashed), not at sup = 1 (solid);\nabs, where all three agree, fails at 64 layers")
fig.supxlabel(f"local = 1 dotted. Rows: {plain_machine}; circles: this run; white: not run", fontsize=8.5, color="#555555")
companion.save_figure(
    fig, "04-criticality-gain-depth", badge="measured", data=drawn,
    alt="Three maps of test accuracy over gain and depth for tanh, relu and abs. The range of gains that train narrows "
    "with depth. Relu networks of 64 layers stay at chance on the line where the sup Lipschitz constant is 1 and learn near "
    "the line where the root mean square gain is 1; abs networks of 64 layers learn at no gain, where all readings agree.",
)  # fmt: skip

# %% [markdown]
# Held gains give the clean ridge: nothing can repair a wrong gain. Bands are one standard deviation over seeds.

# %%
fig, axes = new_figure(1, 2, height=3.4, sharey=True)
drawn = []
for ax, activation, other in zip(axes, ("tanh", "relu"), (None, ROOT2), strict=True):
    rows = plain_full.where(activation=activation, held=True)
    for k, depth in enumerate(np.unique(rows.column("depth"))):
        gains = np.unique(rows.where(depth=depth).column("gain"))
        mean = np.array([rows.mean("accuracy", depth=depth, gain=g) for g in gains])
        band = np.array([rows.sd("accuracy", depth=depth, gain=g) for g in gains])
        (line,) = ax.plot(gains, mean, color=list(PALETTE.values())[k], label=f"{int(depth)} layers")
        ax.fill_between(gains, mean - band, mean + band, color=line.get_color(), alpha=0.2, lw=0)
        cells = zip(gains, mean, band, strict=True)
        drawn += [dict(activation=activation, depth=int(depth), gain=g, accuracy=m, sd=s) for g, m, s in cells]
    ax.axvline(1, color=PALETTE["black"], ls="-", lw=1), direct_label(ax, 1, 0.05, "sup = 1", "black")
    if other:
        ax.axvline(other, color=PALETTE["black"], ls="--", lw=1), direct_label(ax, other, 0.05, "rms = 1", "black")
    ax.set(xlabel="gain of every layer, held (sup)", title=activation)
fig.legend(*ax.get_legend_handles_labels(), loc="outside right center", reverse=True)
axes[0].set(ylabel="test accuracy", ylim=(0, 1.02))
headline(fig, f"With the gain held, 32 relu layers stay near chance at sup = 1\nand learn near rms = 1 ({plain_machine})")

# %%
companion.save_figure(
    fig, "04-criticality-held", badge="measured", data=drawn,
    alt="Test accuracy against the held gain for several depths. Tanh is best at gains between 1 and 1.3. Relu networks "
    "of 32 layers are near chance at gain 1, where the sup constant is 1, and learn at 1.2 and the square root of 2, where the "
    "rms gain is 1; with 16 layers they learn at gain 1 too.",
)  # fmt: skip

# %% [markdown]
# ## Residual branches (E3)
# The same digits, blocks $x+W_2\,\mathrm{relu}(g\,W_1\,\mathrm{LN}\,x)$, with LayerNorm and without it. With it the accuracy
# barely depends on the branch gain; without it there is a cliff, on one side only.

# %%
branches = [(L, BRANCH, True) for L in (16, 48)] + [(48, BRANCH, False)]
if full_profile:
    wide = (0.3, 0.5, 0.7, 1.0, ROOT2, 2.0, 2.8, 4.0)
    branches = [(L, wide, norm) for L in (4, 16, 48, 96) for norm in (True, False)]
residual = run("residual", [digits("relu", g, L, model="residual", norm=norm) for L, g, norm in branches])
residual_full, residual_machine = committed("residual", residual)
for L, norm in [(16, True), (48, True), (48, False)]:
    for gain in BRANCH:
        name = f"{'ln' if norm else 'bare'}_l{L}_g{round(100 * gain):03d}"
        accuracy = residual.mean("accuracy", depth=L, norm=norm, gain=gain)
        measured(name, accuracy)

# %%
for L in (16, 48):
    level = [residual.mean("accuracy", depth=L, norm=True, gain=g) for g in BRANCH]
    spectrum = [residual.mean("log10_local_start", depth=L, norm=True, gain=g) for g in BRANCH]
    measured(f"ln_spread_l{L}", max(level) - min(level))
    measured(f"ln_local_lowest_l{L}", min(spectrum), ".2f")
    measured(f"ln_local_highest_l{L}", max(spectrum), ".2f")
    measured(f"ln_block_lowest_l{L}", 10 ** (min(spectrum) / L))  # the stack's bound as a geometric mean over its blocks
    measured(f"ln_block_highest_l{L}", 10 ** (max(spectrum) / L))
worst = residual.where(depth=48, norm=True).column("train_loss").max()
measured("ln_train_loss_l48", worst, ".1e")
cliff = [residual.mean("accuracy", depth=48, norm=False, gain=g) for g in (0.3, 2.0)]
measured("bare_cliff", cliff[0] - cliff[1])
measured("bare_loss_g200", residual.mean("train_loss", depth=48, norm=False, gain=2.0), ".1e")

# %%
fig, axes = new_figure(1, 2, height=3.3, sharey=True)
drawn, looks = [], {L: dict(color=list(PALETTE.values())[k], marker="os^D"[k]) for k, L in enumerate((4, 16, 48, 96))}
for ax, norm, title in zip(axes, (True, False), ("with LayerNorm: nearly flat", "without: a cliff on one side"), strict=True):
    rows = residual_full.where(norm=norm)
    for depth in np.unique(rows.column("depth")):
        at = rows.where(depth=depth)
        gains = np.unique(at.column("gain"))
        mean, band = (np.array([f("accuracy", gain=g) for g in gains]) for f in (at.mean, at.sd))
        (line,) = ax.semilogx(gains, mean, label=f"{int(depth)} blocks", **looks[int(depth)])
        ax.fill_between(gains, mean - band, mean + band, color=line.get_color(), alpha=0.2, lw=0)
        cells = zip(gains, mean, band, strict=True)
        drawn += [dict(norm=norm, depth=int(depth), gain=g, accuracy=m, sd=s) for g, m, s in cells]
    ax.set(xlabel="branch gain $g$", title=title, xticks=BRANCH, xticklabels=[f"{g:g}" for g in BRANCH]), ax.minorticks_off()
fig.legend(*axes[0].get_legend_handles_labels(), loc="outside right center")
axes[0].set(ylabel="test accuracy", ylim=(0, 1.02))
headline(fig, f"With LayerNorm no branch gain is critical ({residual_machine})")

# %%
companion.save_figure(
    fig, "04-criticality-residual", badge="measured", data=drawn,
    alt="Test accuracy of residual networks against the branch gain from 0.3 to 4. With LayerNorm it declines by a few "
    "hundredths at every depth. Without LayerNorm deep networks fall off a cliff between the gains 0.3 and 2.",
)  # fmt: skip

# %% [markdown]
# ## The training map finds its own edge (E3b)
# Full-batch gradient descent on 300 digits. The step $\theta\mapsto\theta-\eta\nabla L$ has, in the direction of the sharpest
# curvature $\lambda$, slope $1-\eta\lambda$. Power iterations give a Rayleigh quotient, a lower bound on the top eigenvalue.

# %%
rates = (0.02, 0.05, 0.1, 0.2, 0.3, 0.4, 0.6)
if full_profile:
    rates = (0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.35, 0.4, 0.5, 0.6, 0.8, 1.0)
three = tuple(range(seed, seed + max(3, P["n"])))
descent = run("descent", [DescentSpec(three, rates, steps=P["descent"], every=max(1, P["descent"] // 100))])
descent_full, descent_machine = committed("descent", descent)
for rate in (0.02, 0.1, 0.2, 0.3, 0.4, 0.6):
    name = f"eta{round(100 * rate):03d}"
    for column in ("start", "last_quarter"):
        value = descent.mean(column, rate=rate)
        measured(f"edge_{column}_{name}", value, ".2f", len(three))
settled = [descent.where(rate=r).column("last_quarter") for r in (0.2, 0.3, 0.4)]
off = np.abs(np.abs(1 - np.concatenate(settled)) - 1).max()
measured("edge_deviation", off, ".3f", len(three))

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.3)
course = {r: [d for d in descent.details if d["rate"] == r and d["seed"] == seeds[0]] for r in (0.02, 0.1, 0.2, 0.4)}
looks = [("purple", ":"), ("green", "-."), ("blue", "--"), ("vermillion", "-")]
for (rate, points), (color, dash) in zip(course.items(), looks, strict=True):
    step, height = [d["step"] for d in points], [rate * d["sharpness"] for d in points]
    ax.plot(step, height, color=PALETTE[color], ls=dash, marker="")
    direct_label(ax, step[-1], height[-1], f"{rate:g}", color, xytext=(4, {0.4: 8, 0.2: -3, 0.1: -7}.get(rate, 0)))
ax.axhline(2, color=PALETTE["black"], ls="--", lw=1)
ax.set(xlabel=f"step of gradient descent (seed {seeds[0]}; labels: $\\eta$)", ylabel="step size × sharpness",
       ylim=(0, None), xlim=(None, 1.1 * P["descent"]),
       title="Large steps settle near 2,\nfrom above and from below")  # fmt: skip
for k, column in enumerate(("start", "last_quarter")):
    color = ("#888888", PALETTE["blue"])[k]
    bx.plot(descent_full.column("rate"), descent_full.column(column), color=color, ls="", marker="xo"[k])
bx.axhline(2, color=PALETTE["black"], ls="--", lw=1), direct_label(bx, 0.33, 1.7, "slope of step = −1", "black")
bx.set(xlabel=f"step size $\\eta$ ({descent_machine})", ylabel="step size × sharpness", ylim=(0, 5.5),
       title="At the start (×) and in the\nlast quarter (•)")  # fmt: skip
columns = {c: descent_full.column(c) for c in ("rate", "seed", "start", "last_quarter", "loss")}

# %%
companion.save_figure(
    fig, "04-criticality-edge", badge="measured", data=columns,
    alt="Step size times sharpness along gradient descent. For small step sizes it stays below 2; for large ones it moves "
    "to 2 or a little above and stays there, whether it started above or below: the slope of the step in the sharpest "
    "direction settles near minus 1.",
)  # fmt: skip

# %% [markdown]
# ## Depth on text (E3c)
# Next-character prediction on this Python's own library source, by pre-LN residual blocks, with branches scaled by
# $1/\sqrt{L}$ and, as a control, unscaled. For every block: the top singular value at eight contexts (`local`, a lower
# bound on `sup`) and the root mean square (`rms`).

# %%
wanted = [("scaled", L, P["text"][0]) for L in (1, 2, 4, 8, 16)] + [("unit", L, P["text"][0]) for L in (2, 8)]
if full_profile:
    wanted = [(b, L, P["text"][0]) for b in ("scaled", "unit") for L in (1, 2, 4, 8, 16, 32, 64)]
    wanted += [("scaled", L, P["text"][1]) for L in (1, 2, 4, 8, 16, 32, 64)]
tasks = [TextSpec(seeds, L, branch=b, steps=steps, evaluation=P["evaluation"]) for b, L, steps in wanted]
text = run("text", tasks)
text_full, text_machine = committed("text", text)
base = text.where(branch="scaled", steps=P["text"][0])
short = text_full.where(branch="scaled", steps=min(text_full.column("steps")))
for name in ("files", "sha256"):
    value = getattr(corpora.python_source(), name)
    companion.record(f"C3.text_{name}", value if name == "files" else value[:12], fmt="d")

# %%
columns = {"loss": "test_loss", "local": "local_geometric_mean", "smallest": "local_smallest", "rms": "rms_first",
           "product": "local_product", "stack": "stack_local", "increments": "increments"}  # fmt: skip
depth = np.array([1, 2, 4, 8, 16])
mean = {name: np.array([base.mean(c, depth=L) for L in depth]) for name, c in columns.items()}
for name, values in mean.items():
    for L, value in zip(depth, values, strict=True):
        fmt = ".0f" if name == "product" and value > 99 else ".3f"
        if name != "stack":
            measured(f"text_{name}_l{L}", value, fmt)
measured("text_stack_l16", mean["stack"][-1], ".1f")
measured("text_increments_last", mean["increments"][-1] - mean["increments"][-2], ".2f")
measured("text_increments_growth", mean["increments"][-1] / mean["increments"][0], ".2f")
for L in (2, 8):
    for name in ("loss", "local"):
        value = text.mean(columns[name], branch="unit", depth=L, steps=P["text"][0])
        measured(f"text_unit_{name}_l{L}", value)

# %%
unit = [text.mean("test_loss", branch="unit", depth=L, steps=P["text"][0]) for L in (2, 8)]
measured("text_unit_gain", unit[0] - unit[1])
measured("text_gain_l8", mean["loss"][0] - mean["loss"][3])
lowest = min(base.where(depth=L).column("local_smallest").min() for L in (1, 2, 4, 8))
measured("text_smallest_block", lowest)
companion.record("C3.text_local_decreases", bool((np.diff(mean["local"]) < 0).all()), badge="measured")
measured("text_product_growth", mean["product"][-1] / mean["product"][0], ".1f")
rate = -np.polyfit(np.log(depth), np.log(mean["local"] - 1), 1)[0]
measured("text_lip_exponent", rate, ".2f")

# %% [markdown]
# Exponential or power in the depth? Both curves, offset + three constants in all, go exactly through the losses at 1, 2
# and 4 blocks; then they predict 8 and 16. Recorded: how far each prediction is from the measured loss, and for how many
# single seeds there are such curves at all (none if the loss falls no less from 2 to 4 blocks than from 1 to 2).


# %%
def extend(first, depth):
    """Loss at `depth` from those at 1, 2, 4: by offset + b q^L, and by offset + b L^-c (inf where there is none)."""
    one, two, four = first
    fall = (one - two) / (two - four)
    if fall <= 1:
        return dict(exponential=np.full(len(depth), math.inf), power=np.full(len(depth), math.inf))
    q, c = (math.sqrt(1 + 4 / fall) - 1) / 2, math.log2(fall)
    by_q, by_c = (one - two) / (q - q * q), (one - two) / (1 - 2**-c)
    return dict(exponential=one - by_q * (q - q**depth), power=one - by_c * (1 - depth**-c))


miss = {form: np.abs(guess - mean["loss"][3:]) for form, guess in extend(mean["loss"][:3], depth[3:].astype(float)).items()}
for form, values in miss.items():
    for L, value in zip(depth[3:], values, strict=True):
        measured(f"text_{form}_miss_l{L}", value)
first = [[base.mean("test_loss", depth=L, seed=s) for L in (1, 2, 4)] for s in seeds]
measured("text_seeds_with_curves", sum(math.isfinite(extend(f, depth[3:])["power"][0]) for f in first), "d")
companion.record("C3.text_power_wins", bool((miss["power"] < miss["exponential"]).all()), badge="measured")

# %%
fig, axes = new_figure(2, 2, height=5.6)
(ax, bx), (cx, dx) = axes
L = np.unique(short.column("depth"))
level = {name: np.array([short.mean(c, depth=k) for k in L]) for name, c in columns.items()}
ax.plot(short.column("depth"), short.column("test_loss"), color="#999999", ls="", marker=".")
ax.plot(L, level["loss"], color=PALETTE["blue"])
grid = np.geomspace(4, L[-1], 40)
for (form, curve), dash in zip(extend(level["loss"][:3], grid).items(), ("--", ":"), strict=True):
    ax.plot(grid, curve, color=PALETTE["black"], ls=dash, marker="")
    direct_label(ax, grid[-1], curve[-1], form, "black", xytext=(0, 9), ha="right")
others = {"unit": ("unit", min, "^", "purple"), "longer": ("scaled", max, "s", "green")}
for branch, pick, marker, color in others.values():
    rows = text_full.where(branch=branch, steps=pick(text_full.column("steps")))
    if len(set(rows.column("depth"))) > 1 and rows.rows != short.rows:
        k = np.unique(rows.column("depth"))
        ax.plot(k, [rows.mean("test_loss", depth=d) for d in k], color=PALETTE[color], marker=marker, ls="-.")
        words = "unit branches" if branch == "unit" else f"{int(rows.column('steps')[0])} steps"
        direct_label(ax, k[-1], rows.mean("test_loss", depth=k[-1]), words, color, xytext=(-9, -3), ha="right")

# %%
looks = {"local": ("vermillion", "o", "-", "local, mean of blocks"), "smallest": ("orange", "s", "--", "local, smallest block"),
         "rms": ("blue", "^", "-.", "rms, first block")}  # fmt: skip
for name, (color, marker, dash, words) in looks.items():
    bx.loglog(L, level[name], color=PALETTE[color], marker=marker, ls=dash, label=words)
bx.legend(loc="upper right")
bx.axhline(1, color=PALETTE["black"], ls="--", lw=1)
cx.loglog(L, level["product"], color=PALETTE["vermillion"]), cx.loglog(L, level["stack"], color=PALETTE["blue"], marker="s")
direct_label(cx, L[-2], level["product"][-2], "product of blocks", "vermillion", ha="right", xytext=(-6, 6))
direct_label(cx, L[-2], level["stack"][-2], "the whole stack", "blue", ha="center", xytext=(0, 12))
dx.plot(L, level["increments"], color=PALETTE["green"])
ax.set(xscale="log", ylabel="test loss (nats)", title="Loss keeps falling with depth")
bx.set(ylabel="singular value", title="Every block has local Lip above 1", yticks=[1, 2, 4, 8], ylim=(0.9, 12))
cx.set(ylabel="local Lip", title="The product overstates the stack")
dx.set(xscale="log", ylim=(0, None), ylabel="sum of relative increments", title="Increments add up slowly")

# %%
for panel in (ax, bx, cx, dx):
    panel.set(xlabel="blocks $L$", xticks=L, xticklabels=[f"{k:.0f}" for k in L]), panel.minorticks_off()
bx.set_yticks([1, 2, 4, 8], labels=["1", "2", "4", "8"]), bx.yaxis.minorticks_off()
headline(fig, f"Depth helps while every block expands somewhere ({text_machine})")
rows = [dict(depth=int(k), **{name: values[j] for name, values in level.items()}) for j, k in enumerate(L)]
companion.save_figure(
    fig, "04-criticality-text", badge="measured", data=rows,
    alt="Four panels against the number of blocks. Test loss falls steadily. The local Lipschitz constants of the "
    "blocks fall with depth and stay above 1. The product of the block constants grows far above the constant of the whole "
    "stack. The sum of relative increments grows slowly and does not level off.",
)  # fmt: skip

# %% [markdown]
# ## Break it
# Drop a hypothesis of T2.3. *Nonexpansive:* two runs of $\tanh(1.5x)$ above. *The input enters once:* the block
# $z\mapsto\frac12z+\frac12\varphi(x)$ has constant $\frac12$ in $z$, and its limit is $\varphi(x)$, whatever $\varphi$ is.
# Recorded: the error after 20 layers times $2^{20}$, relative to the error at the start, and the number of different
# limits for 10 inputs.


# %%
def inject(target, n):
    """The states after n layers of z/2 + target/2, from z = 0."""
    return inexact_orbit(lambda i: lambda z: (z + target) / 2, np.zeros_like(target), n=n).x


target = ((-1) ** np.arange(10) * np.arange(1.0, 11.0))[:, None]
z = inject(target, [20, 80])
companion.record("K7.injection_error_n20", (np.abs(z[0] - target) / np.abs(target)).max() * 2**20, fmt=".9f")
companion.record("K7.injection_limits", len(np.unique(np.round(z[1], 9))), fmt="d")

# %% [markdown]
# An ability that appears at once, at $\mathrm{Lip}=\frac12$ throughout (F2): tasks $k$ with frequencies $\propto k^{-1.5}$,
# one bit each; the injected $\varphi_P$ knows the first $P$ of them and is silent on the others: there the answer is a coin.
# Recorded for five sizes: the accuracy on task 10, and the exact mass of the unknown tasks.

# %%
bits = rng.choice([-1.0, 1.0], size=(10_000, 1))
for size in (5, 9, 10, 11, 20):
    output = inject(bits if size >= 10 else 0 * bits, [80])[0]
    answer = np.where(np.abs(output) > 0.5, np.sign(output), rng.choice([-1.0, 1.0], size=output.shape))
    companion.record(f"K7.quanta_accuracy_p{size}", np.mean(answer == bits), fmt=".3f", badge="measured")
    companion.record(f"K7.quanta_loss_p{size}", zeta(1.5, size + 1) / zeta(1.5), fmt=".3f")

# %% [markdown]
# What the figures' fields and curves came from, for the captions.

# %%
companion.record("C3.full_machine", plain_machine, badge="measured")
companion.record("C3.full_depth", int(plain_full.column("depth").max()), fmt="d", badge="measured")
for name, gain in [("sup", 1.0), ("rms", ROOT2)]:
    value = plain_full.mean("accuracy", activation="relu", held=False, depth=64, gain=gain)
    companion.record(f"C3.full_relu_at_{name}", value, fmt=".3f", badge="measured")
