# %% [markdown]
# # The limit architecture
# When do infinitely many blocks have a limit? Every counterexample, bound and construction of the
# [chapter](../../book/03-limit-architecture.md), run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
from dataclasses import replace

import numpy as np
from scipy.linalg import block_diag
from scipy.special import zeta

from limitlib import blocks, companion
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.iteration import inexact_orbit, infinite_product, residual_bound

# %%
P = companion.profile(
    profile,
    smoke=dict(starts=50, layers=1_500, walk=4_000, slow=20_000, draws=2),
    cpu=dict(starts=500, layers=20_000, walk=200_000, slow=1_000_000, draws=48),
    gpu=dict(draws=192),
)
rng = np.random.default_rng(seed)


def run(stack, x0, n, **known):
    """The states S_0 x, ..., S_n x of one run, shape (n + 1, d)."""
    return inexact_orbit(stack, np.asarray(x0, dtype=float), n=np.arange(n + 1), **known).x


# %% [markdown]
# ## Not sufficient: (i) and (ii) hold with every distance 0, and there is no limit (C2.1)
# Repeat one rotation, one reflection, one translation. The step between consecutive depths stays constant; it is
# recorded for a rotation by one radian, against $2\sin\frac12$.

# %%
turn = blocks.linear(blocks.plane_rotation(1.0))
rotated = run(lambda i: turn, [1.0, 0.0], 1000)
steps = np.linalg.norm(np.diff(rotated, axis=0), axis=1)
flipped = run(lambda i: blocks.linear([[-1.0]]), [1.0], 1000)
moved = run(lambda i: blocks.linear([[1.0]], 1.0), [0.0], 1000)

companion.record("K8.rotation_step", steps[-1], fmt=".7f")
companion.record("K8.rotation_step_spread", np.ptp(steps), fmt=".1e")
companion.record("K5.translation_at_1000", moved[-1, 0], fmt=".0f")

# %% [markdown]
# ## Not necessary: there is a limit, and (i) or (ii) fails (C2.2)
# (a) Alternating shifts: the distances to the only possible $T=I$ have no finite sum. (b) A constant first block makes
# all later ones irrelevant, if they are evaluated as written; multiplied out, they double a rounding error 59 times.
# (c) Alternating projections approach no single operator.

# %%
i = np.arange(1.0, 1_000_001.0)
companion.record("K6.alternating_limit", np.sum((-1) ** i / i), fmt=".7f")
companion.record("K6.distance_sum", np.sum(1 / i), fmt=".6f")

c = np.array([0.3, -0.2])
constant_first = lambda i: lambda x: c + (2 * (-1) ** i * (x - c) if i > 1 else 0 * x)  # noqa: E731
swapped = run(constant_first, [5.0, 7.0], 60)
multiplied_out = lambda i: lambda x: 2 * (-1) ** i * x + (c - 2 * (-1) ** i * c) if i > 1 else c + 0 * x  # noqa: E731
unstable = run(multiplied_out, [5.0, 7.0], 60)
companion.record("K6.constant_first_error", np.abs(swapped[1:] - c).max(), fmt=".1g")
companion.record("K6.multiplied_out_error", np.abs(unstable[-1] - c).max(), fmt=".1f", badge="theory")

u, v = np.array([1.0, 0.0]), np.array([np.cos(0.4), np.sin(0.4)])
onto_u, onto_v = blocks.linear(np.outer(u, u)), blocks.linear(np.outer(v, v))
projected = run(lambda i: onto_u if i % 2 else onto_v, [0.8, 0.6], 80)
exact = 0.8 * np.cos(0.4) ** np.arange(1, 80, 2)
companion.record("K6.projection_error", np.abs(np.linalg.norm(projected[2::2], axis=1) - exact).max(), fmt=".1e")

# %% [markdown]
# Expanding blocks may have a limit: $(1+i^{-2})I$ has Lipschitz constant above 1 for every $i$. And halving blocks that
# alternate between two maps have the limit 0 without any limit operator $T$.

# %%
growing = run(lambda i: blocks.linear([[1 + i**-2.0]]), [1.0], 60)
growth = infinite_product(1 + i**-2.0, tail=1 / i[-1])
companion.record("C2.growing_product", growth.value, fmt=".5f")
companion.record("C2.growing_tail", growth.tail_bound, fmt=".1e")
half, half_turn = blocks.linear(0.5 * np.eye(2)), blocks.linear(0.5 * blocks.plane_rotation(1.0))
halved = run(lambda i: half if i % 2 else half_turn, [1.0, 0.0], 60)
companion.record("C2.halving_norm_60", np.linalg.norm(halved[-1]), fmt=".2e")

# %%
shifted = 1 + np.concatenate([[0.0], np.cumsum((-1) ** i / i)])
panels = {
    "rotation by 1": (rotated[:61, 0], None),
    "reflection $x\\mapsto-x$": (flipped[:61, 0], None),
    "translation by 1": (moved[:61, 0], None),
    "shifts $(-1)^i/i$: (ii) fails": (shifted[:61], 1 - np.log(2)),
    "$(1+i^{-2})\\,I$: (i) fails": (growing[:61, 0], np.sinh(np.pi) / np.pi),
    "two projections: no $T$ in (ii)": (np.linalg.norm(projected[:61], axis=1), 0.0),
}
quantities = ("first coordinate", "state", "state", "state", "state", "norm of the state")

# %%
fig, axes = new_figure(2, 3, height=4.3)
for ax, (name, (values, limit)), quantity in zip(axes.flat, panels.items(), quantities, strict=True):
    color, marker = ("vermillion", "o") if limit is None else ("blue", "s")
    ax.plot(values, color=PALETTE[color], marker=marker, ms=2.4, lw=0.8, ls="-")
    if limit is not None:
        ax.axhline(limit, color=PALETTE["black"], ls="--", lw=1.1)
    ax.set_title(name, fontsize=9, fontweight="normal")
    ax.set(xlabel="depth $n$ (blocks)", ylabel=quantity)
fig.suptitle("The quoted condition fails in both directions: (i), (ii) and no limit (top);\n"
             "a limit (dashed) without (i) or (ii) (bottom)", x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "03-limit-architecture-gallery", badge="exact",
    alt="Six plots of the state against depth. Top, both quoted conditions hold: a rotation and a reflection swing for "
    "ever, a translation grows without bound. Bottom, a condition fails: alternating shifts, growing blocks and "
    "alternating projections all settle on their dashed limits.",
    data=[{"panel": name, "depth": n, "value": v} for name, (values, _) in panels.items() for n, v in enumerate(values)],
)  # fmt: skip

# %% [markdown]
# ## Which blocks settle? Five maps, three sizes of perturbation
# Blocks $T_ix=Ax+\varepsilon_iu$ in dimension 32. The rotation $R$ turns 16 planes by equally spaced angles, so nothing
# here is random; the averaged map contracts too, by $\cos\frac\pi{64}$. What comes out is the largest distance
# $\|S_nx-S_{4000}x\|$ over the second half of the depth: small means settled.

# %%
depth, angles = 4000, (np.arange(16) + 0.5) * np.pi / 16
R, eye = block_diag(*map(blocks.plane_rotation, angles)), np.eye(32)
x0, u = np.tile([1.0, 0.0], 16) / 4, np.tile([0.0, 1.0], 16) / 4
maps = {"contractive": 0.9 * R, "averaged": (eye + R) / 2, "identity": eye, "rotation": R, "expansive": 1.01 * R}
perturbations = {"none": lambda i: 0.0, "square": lambda i: i**-2.0, "harmonic": lambda i: 1 / i}
swing, last = {}, {}
for name, A in maps.items():
    for size, eps in perturbations.items():
        x = run(lambda i, A=A, eps=eps: blocks.linear(A, eps(i) * u), x0, depth)
        swing[name, size] = np.linalg.norm(x[depth // 2 :] - x[-1], axis=1).max()
        last[name, size] = x[-1]
        companion.record(f"K5.swing_{name}_{size}", swing[name, size], fmt=".2e", badge="theory")
ordered = all(swing["contractive", s] < swing["averaged", s] < swing["rotation", s] for s in perturbations)
companion.record("K5.swing_ordered", ordered, badge="theory")

# %% [markdown]
# Exact anchors: the identity adds the perturbations up; a contraction by $q$ follows them at the distance
# $\varepsilon_n/(1-q)$.

# %%
added = {size: (last["identity", size] - x0) @ u for size in perturbations}
companion.record("K5.identity_square_sum", added["square"], fmt=".5f")
companion.record("K5.identity_square_tail_times_n", (np.pi**2 / 6 - added["square"]) * depth, fmt=".5f")
companion.record("K5.identity_harmonic_sum", added["harmonic"], fmt=".5f")
followed = run(lambda i: blocks.linear([[0.9]], i**-2.0), [0.0], depth)[:, 0]
for n in (200, 1000, 4000):
    companion.record(f"K5.contraction_ratio_{n}", followed[n] * n**2 * (1 - 0.9), fmt=".4f")

# %%
table = np.array([[swing[name, size] for size in perturbations] for name in maps])
shade = np.log10(np.clip(table, 1e-8, 10))
fig, ax = new_figure(height=3.3)
ax.imshow(shade, cmap="cividis", aspect="auto")
for (row, col), value in np.ndenumerate(table):
    text = "0" if value == 0 else f"{value:.2f}" if 0.01 <= value < 10 else f"{value:.1e}"
    ax.text(col, row, text, ha="center", va="center", color="black" if shade[row, col] > -4 else "white")
for row, text in enumerate(("yes, always", "yes, slowly", "only if summable", "never", "never")):
    ax.text(2.58, row, text, va="center")
ax.text(2.58, -0.68, "limit?", va="center", fontweight="bold")
ax.set_xticks(range(3), ["$\\varepsilon_i=0$", "$\\varepsilon_i=i^{-2}$", "$\\varepsilon_i=i^{-1}$"])

# %%
ax.set_yticks(range(5), ["contractive $0.9R$", "averaged $(I+R)/2$", "identity $I$", "rotation $R$", "expansive $1.01R$"])
ax.set(xlim=(-0.5, 3.35), xlabel="size of the perturbation of block $i$; in each cell: the remaining oscillation (no unit)")
fig.suptitle("Without perturbation convergent orbits decide;\nwith it, the identity also needs a finite sum", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
ax.grid(False), ax.spines[:].set_visible(False)
companion.save_figure(
    fig, "03-limit-architecture-orbits", badge="theory",
    alt="A table of five maps by three perturbation sizes, shaded by the remaining oscillation: contractive blocks always "
    "settle, averaged ones settle slowly, the identity settles only under a summable perturbation, rotations and "
    "expansions never.",
    data=[{"map": name, "perturbation": size, "oscillation": value} for (name, size), value in swing.items()],
)  # fmt: skip

# %% [markdown]
# ## Theorem T2.1: the tail bound against the truth (E2.2)
# $T$ keeps the first coordinate and averages a rotation by 1 on the other two. Block $i$ is off by at most $i^{-3/2}$,
# in a direction that jumps with the state, so no block is continuous. The perturbation stops after the last layer: then
# $S_\infty$ is exactly $T^\infty S_N$. A second stack is pushed along the fixed points, which attains the bound.

# %%
A = block_diag(1.0, (np.eye(2) + blocks.plane_rotation(1.0)) / 2)
T, T_limit = blocks.linear(A), blocks.linear(np.diag([1.0, 0.0, 0.0]))
N = P["layers"]
marks = np.unique(np.concatenate([[0], np.geomspace(1, 1000, 25).astype(int), [10, 100, 1000, N]]))
starts = rng.uniform(-1, 1, (P["starts"], 3))


def jumpy(i):
    """T plus a vector of length i^(-3/2) whose signs jump with the state."""
    return lambda x: T(x) + i**-1.5 / np.sqrt(3) * np.where(np.sin(1e3 * x + i) >= 0, 1.0, -1.0)

# %%
def along(i):
    """T plus i^(-3/2) along its fixed points: the worst case."""
    return lambda x: T(x) + i**-1.5 * np.array([1.0, 0.0, 0.0])


def drift(stack):
    """|S_oo x - T^oo S_m x| for each m in marks and each start, S_oo = T^oo S_N; and the certified bounds of it."""
    known = dict(reference=T, errors=(lambda i: i**-1.5, zeta(1.5, N + 1) * (1 + 1e-12)))
    orbit = inexact_orbit(stack, starts, n=marks, **known)
    kept = T_limit(orbit.x)
    return np.linalg.norm(kept[-1] - kept, axis=-1), orbit.tail_bound


# %%
(jumpy_drift, bound), (along_drift, _) = drift(jumpy), drift(along)
drifts = {"jumpy": jumpy_drift, "along": along_drift}
spent = bound - bound[-1]  # the part of the bound that the N layers can use up
broken = max((values.max(axis=1) - spent)[:-1].max() for values in drifts.values())
companion.record("K5.bound_broken_by", broken, fmt=".1e", badge="theory")
companion.record("K5.tightness", (drifts["along"].min(axis=1)[:-1] / spent[:-1]).min(), fmt=".9f", badge="theory")
for m in (0, 10, 100, 1000):
    at = np.flatnonzero(marks == m)[0]
    companion.record(f"K5.tail_m{m}", bound[at], fmt=".4g", badge="theory")
    companion.record(f"K5.drift_m{m}", drifts["jumpy"][at].max(), fmt=".2g", badge="measured", seeds=1)

# %%
fig, ax = new_figure(height=3.4)
shown = marks[:-1] + 1
low, high = drifts["jumpy"].min(axis=1)[:-1], drifts["jumpy"].max(axis=1)[:-1]
ax.loglog(shown, bound[:-1], color=PALETTE["black"], ls="--", marker="")
ax.loglog(shown, spent[:-1], color=PALETTE["black"], ls=":", marker="", lw=1.1)
ax.loglog(shown, drifts["along"].max(axis=1)[:-1], color=PALETTE["vermillion"], ls="", marker="s", ms=4)
ax.loglog(shown, high, color=PALETTE["blue"], ls="-", marker="o", ms=3)
ax.fill_between(shown, np.maximum(low, 1e-9), high, color=PALETTE["blue"], alpha=0.15, lw=0)
direct_label(ax, 2.2, 3.4, "dashed: tail bound $\\zeta(3/2,\\,m+1)$; dotted: its sum up to the last layer", "black")
direct_label(ax, 16, 0.85, "worst stack: pushed along Fix $T$", "vermillion")
direct_label(ax, 12, 2e-3, f"directions that jump, {len(starts)} starts\n(line: the largest, band: all)", "blue")
ax.set(xlabel="$m+1$ (layers kept, plus one)", ylabel="distance $\\|S_\\infty x-T^\\infty S_mx\\|$", ylim=(1e-5, 8),
       title="The tail bound of T2.1 is never broken, and one stack attains it")  # fmt: skip
companion.save_figure(
    fig, "03-limit-architecture-tail", badge="theory",
    alt="Distance between the full stack and the stack cut after m layers, against m on logarithmic axes: jumping "
    "perturbations stay below the dashed tail bound, the stack pushed along the fixed points uses up all of it.",
    data={"m": marks[:-1], "bound": bound[:-1], "bound_to_last_layer": spent[:-1],
          "attained": drifts["along"].max(axis=1)[:-1], "jumpy_min": low, "jumpy_max": high},
)  # fmt: skip

# %% [markdown]
# ## Theorem T2.2(B): two fixed points, so summability is necessary (E2.5)
# $T$ is the projection on the unit disc; the walk runs between two of its fixed points, one unit apart. Under
# $\varepsilon_i=1/i$ the run goes to and fro for ever; under $i^{-2}$ the same construction settles.


# %%
def disc(x):
    return x / np.maximum(1.0, np.linalg.norm(x, axis=-1, keepdims=True))


layers, late = np.arange(1.0, P["walk"] + 1), P["walk"] // 100
p, q, walks = np.array([-0.5, 0.0]), np.array([0.5, 0.0]), {}
for size, power in (("harmonic", 1.0), ("square", 2.0)):
    walk = blocks.segment_walk(disc, disc, p, q, layers**-power)
    allowed = (layers**-power + 1e-14, np.inf)  # checked at every block; 1e-14 for rounding
    walks[size] = run(walk, p, P["walk"], reference=disc, errors=allowed)[:, 0]
    companion.record(f"K6.walk_{size}_range", np.ptp(walks[size][late:]), fmt=".6f", badge="theory")
companion.record("K6.walk_harmonic_low", walks["harmonic"][late:].min(), fmt=".5f", badge="theory")
companion.record("K6.walk_harmonic_high", walks["harmonic"][late:].max(), fmt=".5f", badge="theory")

# %%
fig, axes = new_figure(1, 2, height=3.0, sharey=True)
n = np.unique(np.geomspace(1, P["walk"], 3000).astype(int))
for ax, size, color, text in zip(
    axes, walks, ("vermillion", "blue"), ("1/i$: to and fro for ever", "i^{-2}$: settled"), strict=True
):
    ax.semilogx(n, walks[size][n], color=PALETTE[color], ls="-", marker="")
    for y, name in ((-0.5, "p"), (0.5, "q")):
        ax.axhline(y, color=PALETTE["black"], ls="--", lw=0.9)
        direct_label(ax, 1.0, 1.16 * y, f"fixed point ${name}$")
    ax.set_title("$\\varepsilon_i=" + text, fontweight="normal")
    ax.set_xlabel("depth $n$ (blocks)")
axes[0].set(ylabel="first coordinate of $S_np$ (no unit)", ylim=(-0.68, 0.68))
fig.suptitle("Two fixed points: perturbations without finite sum carry the run between them",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "03-limit-architecture-walk", badge="theory",
    alt="First coordinate of the state against depth on a logarithmic axis: with perturbations 1/i it swings between the "
    "two fixed points without end, with 1/i squared it stops.",
    data={"depth": n, "harmonic": walks["harmonic"][n], "square": walks["square"][n]},
)  # fmt: skip

# %% [markdown]
# ## Theorem T2.2(C): one fixed point, so $\varepsilon_i\to0$ is enough (E2.6)
# Two maps of the line with the only fixed point 0: a contraction, and one with Lipschitz constant 1. Both series
# diverge; both runs tend to 0, at the distance where the pull of $T$ balances the perturbation.


# %%
def follow(T, errors, x):
    """The states x_1, ..., x_n of x_i = T(x_{i-1}) + eps_i on the line."""
    kept = []
    for error in errors.tolist():
        x = T(x) + error
        kept.append(x)
    return np.array(kept)


errors = {"contraction": 1 / np.arange(1.0, 100_001), "cubic": 1 / np.log(np.arange(3.0, P["slow"] + 3))}
runs = {"contraction": follow(lambda x: 0.7 * x, errors["contraction"], 0.0),
        "cubic": follow(lambda x: x / (1 + 2 * x * x) ** 0.5, errors["cubic"], 1.0)}  # fmt: skip
ratios = {name: runs[name] / errors[name] ** power for name, power in (("contraction", 1.0), ("cubic", 1 / 3))}
companion.record("K6.contraction_times_n", ratios["contraction"][-1], fmt=".5f", badge="theory")
companion.record("K6.cube_root_ratio", ratios["cubic"][-1], fmt=".3f", badge="theory")
companion.record("K6.cube_root_state", runs["cubic"][-1], fmt=".3f", badge="theory")

# %%
fig, axes = new_figure(1, 2, height=2.9)
titles = ("$Tx=0.7\\,x$,  $\\varepsilon_i=1/i$", "$Tx=x/\\sqrt{1+2x^2}$,  $\\varepsilon_i=1/\\ln(i+2)$")
for ax, name, limit, label, title in zip(
    axes, ratios, (1 / 0.3, 1.0), ("$n\\,x_n$", "$x_n/\\varepsilon_n^{1/3}$"), titles, strict=True
):
    n = np.unique(np.geomspace(1, len(ratios[name]), 300).astype(int))
    ax.semilogx(n, ratios[name][n - 1], color=PALETTE["blue"], ls="-", marker="")
    ax.axhline(limit, color=PALETTE["black"], ls="--", lw=1.1)
    ax.set(xlabel="depth $n$ (blocks)", ylabel=f"{label}  (no unit)", ylim=(0, None))
    ax.set_title(title, fontweight="normal")
direct_label(axes[0], 200, 2.9, "predicted: $1/(1-0.7)$"), direct_label(axes[1], 30, 0.9, "predicted: 1 (slowly)")
fig.suptitle("One fixed point: the run tends to it although the perturbations have no finite sum",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "03-limit-architecture-one-point", badge="theory",
    alt="State divided by its predicted size against depth: for the contraction the ratio reaches its dashed limit 10/3, "
    "for the map of Lipschitz constant 1 it falls slowly towards 1.",
    data=[{"map": name, "depth": n, "ratio": values[n - 1]} for name, values in ratios.items()
          for n in np.unique(np.geomspace(1, len(values), 300).astype(int)).tolist()],
)  # fmt: skip

# %% [markdown]
# ## Theorem T2.2(D): no second fixed point, but the spectrum reaches 1 (E2.7)
# A diagonal operator whose eigenvalues tend to 1. Stage $k$ pushes along axis $k$ until the perturbations $1/i$ sum to
# 1, then waits until the norm is at most 1/5. Every peak is at least 1/2. The control has the same pushes and a
# spectral gap.

# %%
stages = blocks.spectral_stages(lambda i: 1 / i, 6, rest=0.2)
gapped = replace(stages, factors=np.minimum(stages.factors, stages.factors[2]))
norms = {
    name: np.linalg.norm(run(stack, np.zeros(6), len(stages.pushes)), axis=1)
    for name, stack in (("reaches 1", stages), ("gap", gapped))
}
peaks, troughs = norms["reaches 1"][stages.peaks], norms["reaches 1"][stages.troughs]
for k in range(6):
    companion.record(f"K6.stage_{k + 1}_length", stages.lengths[k], fmt="d", badge="theory")
    companion.record(f"K6.stage_{k + 1}_peak", peaks[k], fmt=".2f", badge="theory")
companion.record("K6.stage_lowest_peak", peaks.min(), fmt=".3f", badge="theory")
companion.record("K6.stage_highest_trough", troughs.max(), fmt=".3f", badge="theory")
companion.record("K6.gap_last_peak", norms["gap"][stages.peaks[-1]], fmt=".4f", badge="theory")

# %%
fig, ax = new_figure(height=3.2)
n = np.unique(np.concatenate([np.geomspace(1, len(stages.pushes), 2000).astype(int), stages.peaks, stages.troughs]))
ax.semilogx(n, norms["reaches 1"][n], color=PALETTE["vermillion"], ls="-", marker="")
ax.semilogx(n, norms["gap"][n], color=PALETTE["blue"], ls="-.", marker="")
ax.plot(stages.peaks, peaks, color=PALETTE["vermillion"], marker="^", ls="", ms=6)
ax.plot(stages.troughs, troughs, color=PALETTE["vermillion"], marker="v", ls="", ms=6)
for y, text in ((0.5, "every peak\nat least 1/2"), (0.25, "every trough\nat most 1/4")):
    ax.axhline(y, color=PALETTE["black"], ls="--", lw=0.9)
    direct_label(ax, 3.6e4, y + 0.075, text)
direct_label(ax, 3.6e4, 0.08, "same pushes,\nspectral gap", "blue")
ax.set(xlabel="depth $n$ (blocks)", ylabel="norm of the state $S_n0$ (no unit)", ylim=(0, 1.08), xlim=(0.8, 2.6e5))
ax.set_title("One fixed point is not enough when the spectrum reaches 1:\nperturbations $1/i$ keep the run swinging")
companion.save_figure(
    fig, "03-limit-architecture-stages", badge="theory",
    alt="Norm of the state against depth on a logarithmic axis: six peaks above one half and six troughs below one "
    "quarter; with a spectral gap the later peaks shrink to nothing.",
    data={"depth": n, "spectrum_reaches_1": norms["reaches 1"][n], "spectral_gap": norms["gap"][n]},
)  # fmt: skip

# %% [markdown]
# ## Random blocks: a finite sum of squares is enough
# T2.2 speaks of every sequence within the distances. Independent zero-mean increments $\frac12i^{-p}f_i(x)$,
# $f_i(x)=\tanh(W_ix)$ with Gaussian $W_i$, cancel. What is still to come after depth $n$ of 1000 is recorded as a root
# mean square over draws, for $p=1$ and $p=\frac12$; the dashed theory follows the mean square of the state, layer by
# layer. That it comes to 0 at depth 1000 is no limit: at $p=\frac12$ the mean square of the state is unbounded.

# %%
nodes, weights = np.polynomial.hermite_e.hermegauss(60)


def expected_square(q, d=32):
    """E |tanh(Wx)|^2 for |x|^2 = q and W with independent entries of variance 1/d."""
    return d * weights @ np.tanh(np.sqrt(q / d) * nodes) ** 2 / np.sqrt(2 * np.pi)


def mean_squares(scales):
    """The mean square of every increment, when the state's square is taken at its mean."""
    q, out = 1.0, []
    for scale in scales:
        out.append(scale**2 * expected_square(q))
        q += out[-1]
    return np.array(out)

# %%
def random_stack(scales, draws, d=32):
    """States (depth + 1, draws, d) of x + scale_i tanh(W_i x), independent Gaussian W_i, from unit vectors."""
    x = rng.standard_normal((draws, d))
    x /= np.linalg.norm(x, axis=1, keepdims=True)
    kept = [x]
    for scale in scales:
        W = rng.standard_normal((draws, d, d)) / np.sqrt(d)
        x = x + scale * np.tanh((W @ x[..., None])[..., 0])
        kept.append(x)
    return np.array(kept)


# %%
rest, rest_theory = {}, {}
for name, power in (("p1", 1.0), ("p05", 0.5)):
    scales = 0.5 * i[:1000] ** -power
    x = random_stack(scales, P["draws"])
    rest[name] = np.sqrt((np.linalg.norm(x - x[-1], axis=-1) ** 2).mean(axis=1))[:-1]
    rest_theory[name] = np.sqrt(np.cumsum(mean_squares(scales)[::-1])[::-1])
    for n in (10, 50, 100, 500):
        companion.record(f"C2.random_{name}_rest_{n}", rest[name][n], fmt=".3f", badge="measured", seeds=P["draws"])

# %% [markdown]
# ## How strongly to scale a residual block: $x+L^{-s}f_i(x)$
# The same random blocks, $L$ of them. At $s=1$ they average out, at $s=\frac12$ they leave a random limit, at $s=0$ the
# state grows like $\sqrt L$. The numbers are root mean squares over draws; the figure shows medians and deciles.

# %%
numbers, sizes = np.array([16, 64, 256, 1024]), {}
for name, s in (("s1", 1.0), ("s05", 0.5), ("s0", 0.0)):
    for L in numbers:
        x = random_stack(np.full(L, float(L) ** -s), P["draws"])[-1]
        sizes[name, L] = np.linalg.norm(x, axis=1)
        root = np.sqrt((sizes[name, L] ** 2).mean())
        companion.record(f"C2.residual_{name}_{L}", root, fmt=".3f", badge="measured", seeds=P["draws"])
size_theory = {
    (name, L): np.sqrt(1 + mean_squares(np.full(L, float(L) ** -s)).sum())
    for name, s in (("s1", 1.0), ("s05", 0.5), ("s0", 0.0)) for L in numbers
}  # fmt: skip

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.2)
n = np.unique(np.geomspace(1, 900, 60).astype(int))
lines = (("p1", "blue", "$p=1$: settles", 0.03), ("p05", "vermillion", "$p=1/2$: no mean-square limit", 3.3))
for name, color, label, y in lines:
    ax.loglog(n, rest[name][n], color=PALETTE[color], ls="-", marker="")
    ax.loglog(n, rest_theory[name][n], color=PALETTE["black"], ls="--", marker="", lw=1.1)
    direct_label(ax, 1.1, y, label, color)
ax.set(xlabel="depth $n$ (blocks)", ylabel="rms distance to depth 1000", ylim=(5e-3, 5))
ax.set_title("increments $\\frac{1}{2}i^{-p}f_i(x)$", fontweight="normal")
lines = (("s1", "blue", "o", "$s=1$", -13), ("s05", "green", "^", "$s=1/2$", 13), ("s0", "vermillion", "s", "$s=0$", 13))
for name, color, marker, label, dy in lines:
    deciles = np.array([np.quantile(sizes[name, L], (0.1, 0.5, 0.9)) for L in numbers]).T
    bx.fill_between(numbers, deciles[0], deciles[2], color=PALETTE[color], alpha=0.2, lw=0)
    bx.loglog(numbers, deciles[1], color=PALETTE[color], marker=marker, ls="-")
    bx.loglog(numbers, [size_theory[name, L] for L in numbers], color=PALETTE["black"], ls="--", marker="", lw=1.1)
    direct_label(bx, 64, deciles[1][1], label, color, xytext=(0, dy), ha="center")

# %%
bx.set_xticks(numbers, numbers.astype(str)), bx.minorticks_off()
bx.set(xlabel="number of blocks $L$", ylabel="norm of the state (no unit)", ylim=(0.5, 400))
bx.set_title("$L$ residual blocks of scale $L^{-s}$", fontweight="normal")
fig.suptitle("Random blocks cancel: a finite sum of squares is enough", x=0.01, ha="left", fontsize=10, fontweight="bold")
companion.save_figure(
    fig, "03-limit-architecture-random", badge="measured",
    alt="Left: the distance still to go falls like one over root n for p equal 1 and stays of order one for p equal one "
    "half. Right: the norm after L residual blocks tends to 1 for scale 1/L, stays near 1.5 for one over root L, and "
    "grows without scaling.",
    data=[{"series": name, "x": m, "measured": rest[name][m], "theory": rest_theory[name][m]}
          for name in rest for m in n.tolist()]
    + [{"series": name, "x": int(L), "measured": np.median(norms), "theory": size_theory[name, L]}
       for (name, L), norms in sizes.items()],
)  # fmt: skip

# %% [markdown]
# ## The rate of averaged blocks, and a false alarm
# For averaged rotations the worst residual $\|x_n-Rx_n\|$ over all angles has a closed form. It lies below the bound
# with the diameter (2) of the disc, and *above* the same expression with the distance to the fixed point (1), which is
# no theorem.

# %%
n = np.unique(np.concatenate([np.geomspace(1, 1000, 60).astype(int), [10, 100, 1000]]))
angles = np.geomspace(1e-3, np.pi, 20_001)
worst = np.array([(2 * np.sin(angles / 2) * np.cos(angles / 2) ** k).max() for k in n])
closed = 2 * np.sqrt(1 / (n + 1)) * (n / (n + 1)) ** (n / 2)
companion.record("C2.averaged_closed_error", np.abs(worst / closed - 1).max(), fmt=".1e", badge="theory")
expressions = {
    "diameter": np.array([residual_bound("krasnoselskii_mann", k, diameter=2.0) for k in n.tolist()]),
    "hilbert": np.array([residual_bound("krasnoselskii_mann", k, distance=1.0) for k in n.tolist()]),
    "distance": 1 / np.sqrt(np.pi * n / 4),  # the slip: a distance where the theorem has a diameter
}
for k in (10, 100, 1000):
    at = np.flatnonzero(n == k)[0]
    companion.record(f"C2.averaged_worst_{k}", worst[at], fmt=".4f", badge="theory")
    companion.record(f"C2.averaged_bound_{k}", expressions["diameter"][at], fmt=".4f", badge="theory")
    companion.record(
        f"C2.false_alarm_percent_{k}", 100 * (worst[at] / expressions["distance"][at] - 1), fmt=".1f", badge="theory"
    )

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.2)
styles = {"diameter": ("black", "--"), "distance": ("vermillion", ":"), "hilbert": ("green", "-.")}
for name, (color, dash) in styles.items():
    ax.loglog(n, expressions[name], color=PALETTE[color], ls=dash, marker="")
    bx.semilogx(n, worst / expressions[name], color=PALETTE[color], ls=dash, marker="", lw=2)
ax.loglog(n, worst, color=PALETTE["blue"], ls="-", marker="")
(
    direct_label(ax, 1.1, 0.085, "solid: worst angle", "blue"),
    direct_label(ax, 1.1, 0.055, "dotted: distance for diameter", "vermillion"),
)
direct_label(ax, 40, 0.75, "bound, diameter 2", "black"), direct_label(ax, 1.1, 0.035, "dash-dot: Hilbert bound", "green")
bx.axhline(1, color="#888888", lw=1, ls="-")

# %%
direct_label(bx, 1.3, 1.2, "distance for diameter: broken", "vermillion"), direct_label(bx, 1.3, 0.8, "Hilbert bound", "green")
direct_label(bx, 12, 0.42, "bound with the diameter", "black")
ax.set(xlabel="depth $n$ (blocks)", ylabel="residual $\\|x_n-Rx_n\\|$", ylim=(0.025, 3))
bx.set(xlabel="depth $n$ (blocks)", ylabel="worst residual / expression (no unit)", ylim=(0, 1.4))
fig.suptitle("Averaged rotations obey the bound;\nthe distance in place of the diameter raises a false alarm", x=0.01,
             ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "03-limit-architecture-rate", badge="theory",
    alt="Worst residual of averaged rotations against depth: it falls like one over root n, below the bound with the "
    "diameter, and up to seven and a half percent above the same expression with the distance to the fixed point.",
    data={"n": n, "worst": worst, **{name: np.asarray(values) for name, values in expressions.items()}},
)  # fmt: skip

# %% [markdown]
# ## Break it
# Drop *convergent orbits* from T2.1: for a rotation without any perturbation the formula gives the bound 0, and the
# truth is a constant step. Drop *summability* in T2.2(B): the walk above settles under $i^{-2}$ and swings under $1/i$.
# Drop the *second fixed point*: the same $1/i$ does no harm to a contraction, whose late range is recorded.

# %%
unlawful = inexact_orbit(lambda i: turn, np.array([1.0, 0.0]), n=1000, reference=turn, errors=(np.zeros(1000), 0.0))
companion.record("K5.rotation_formula", unlawful.tail_bound, fmt=".1g")
companion.record("K5.rotation_excess", steps[-1] - unlawful.tail_bound, fmt=".7f")
harmless = follow(lambda x: 0.7 * x, 1 / layers, -0.5)[late - 1 :]
companion.record("K6.contraction_harmonic_range", np.ptp(harmless), fmt=".1e", badge="theory")
