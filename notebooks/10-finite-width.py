# %% [markdown]
# # What finite width realises, and what it cannot
# An infinite-dimensional stack is cut to width $P$. When does the cut stack stay close to it, and up to which depth? Every
# bound, counterexample and repair of the [chapter](../../book/10-finite-width.md), run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import math

import numpy as np
import torch
from scipy.special import gammainc, gammaln, zeta

from limitlib import companion, corpora
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.iteration import rank_one_truncation_error, residual_truncation_bound, truncated_orbit, truncation_bound
from limitlib.models import ResidualMLP
from limitlib.operators import operator_norm

# %%
P = companion.profile(
    profile,
    smoke=dict(draws=4, columns=100_000, nets=1),
    cpu=dict(draws=40, columns=1_000_000, nets=3),
    gpu=dict(draws=200, nets=5),
)
streams = [np.random.default_rng([seed, part]) for part in range(5)]  # one per section: no profile changes another's draw
torch.set_num_threads(1)  # many small products
depths = np.unique(np.geomspace(1, 1e5, 300).astype(int))


def tail_of(width):
    """tau_P(u) for the unit vector u with u_j proportional to 1/j, in infinite dimension."""
    return np.sqrt(zeta(2, np.asarray(width) + 1.0) / zeta(2))


def headline(fig, text):
    fig.suptitle(text, x=0.01, ha="left", fontsize=10, fontweight="bold")


# %% [markdown]
# ## The counterexample: a projection onto one direction (C7.2, E7.1)
# $T=uu^{\top}$ keeps $u$ for ever. Cut to width $P$ its eigenvalue is $1-\tau^2<1$, and depth erases everything. The closed
# form is recorded after 1 block and at the depths nearest to $\tau^{-2}$ and to $10\,\tau^{-2}$; a direct iteration on a
# finite $u$ confirms it.

# %%
widths = np.array([10, 100, 1000])
for width in widths:
    tau = tail_of(width)
    edge, late = int(np.round(tau**-2)), int(np.round(10 * tau**-2))
    errors = rank_one_truncation_error(tau, [1, edge, late])
    companion.record(f"K21.rank_p{width}_tau", tau, fmt=".5f")
    companion.record(f"K21.rank_p{width}_depth", edge, fmt=",d")
    companion.record(f"K21.rank_p{width}_late_depth", late, fmt=",d")
    first = ".5f" if width == 1000 else ".4f"
    for name, value, fmt in zip(("one", "edge", "late"), errors, (first, ".4f", ".5f"), strict=True):
        companion.record(f"K21.rank_p{width}_{name}", value, fmt=fmt)

# %%
u = 1 / np.arange(1.0, 2001)
u /= np.linalg.norm(u)
run = truncated_orbit(lambda i: lambda x: (x @ u) * u, u, 100, n=2000)
formula = rank_one_truncation_error(np.linalg.norm(u[100:]), np.arange(2001))
companion.record("K21.rank_direct", np.abs(run.error - formula).max(), fmt=".1e")
top = 1 / np.arange(1.0, 101) / np.sqrt(zeta(2))
companion.record("K21.rank_p100_radius", np.linalg.eigvalsh(np.outer(top, top))[-1], fmt=".6f")
companion.record("K21.order_depth_first", rank_one_truncation_error(tail_of(1000), 10**9), fmt=".6f")
companion.record("K21.order_width_first", rank_one_truncation_error(tail_of(10**8), 1000), fmt=".1e")

# %% [markdown]
# A second example, for an isometry: the bilateral shift, cut to the coordinates $-P,\dots,P$, is nilpotent. What starts in
# the middle is gone at step $P+1$.

# %%
half = 50
window = np.abs(np.arange(-200, 201)) <= half
pulse = np.zeros(401)
pulse[200] = 1.0
moved = truncated_orbit(lambda i: lambda x: np.roll(x, 1), pulse, np.eye(401)[:, window], n=100)
mass = np.linalg.norm(moved.truncated, axis=1) ** 2
companion.record("K21.shift_mass_inside", mass[half], fmt=".0f")
companion.record("K21.shift_mass_outside", mass[half + 1], fmt=".0f")
cut_shift = np.linalg.matrix_power(np.eye(2 * half + 1, k=-1), 2 * half + 1)
companion.record("K21.shift_power", np.abs(cut_shift).max(), fmt=".0f")

# %%
fig, (ax, bx, cx) = new_figure(3, 1, height=9.0)
for width, color, dash in zip(widths, ("vermillion", "blue", "green"), ("-", "--", "-."), strict=True):
    tau = tail_of(width)
    ax.semilogx(depths, rank_one_truncation_error(tau, depths), color=PALETTE[color], ls=dash, marker="")
    edge = int(np.round(tau**-2))
    ax.plot(edge, rank_one_truncation_error(tau, edge), color=PALETTE[color], marker="o", ms=7, ls="")
    direct_label(ax, edge * 0.38, 0.42, f"$P={width}$", color, ha="right")
direct_label(ax, 1.2, 0.75, "dots: depth $\\tau^{-2}$,\nerror near $1-1/e$")
ax.set(xlabel="depth $n$ (blocks)", ylabel="error (no unit, $\\|u\\|=1$)", ylim=(0, 1.05))
_ = ax.set_title("Rank-one projection: every width fails, at depth $\\tau^{-2}$")

# %%
bx.plot(mass, color=PALETTE["blue"], marker="", ls="-", drawstyle="steps-post")
direct_label(bx, half + 1.5, 0.6, "cut to $-50,\\dots,50$:\nall is lost at step 51", "blue")
bx.axhline(1, color=PALETTE["black"], ls="--", lw=1)
direct_label(bx, 62, 0.92, "dashed: the shift itself")
bx.set(xlabel="steps $n$", ylabel="mass $\\|y_n\\|^2$ (no unit)", ylim=(-0.05, 1.08))
_ = bx.set_title("Bilateral shift: an isometry becomes nilpotent")

# %%
grid_p, grid_n = np.geomspace(3, 1e4, 120).astype(int), np.unique(np.geomspace(1, 1e5, 160).astype(int))
picture = rank_one_truncation_error(tail_of(grid_p)[None, :], grid_n[:, None])
mesh = cx.pcolormesh(grid_p, grid_n, picture, cmap="cividis", vmin=0, vmax=1, rasterized=True)
cx.plot(grid_p, tail_of(grid_p) ** -2, color="white", ls="--", lw=2, marker="")
cx.text(60, 22, "dashed: depth $\\tau^{-2}$", color="white", fontsize=9, rotation=22)
cx.text(4, 2.2e4, "first depth, then width: 0 is left", color="black", fontsize=9)
cx.text(350, 2.2, "first width, then depth:\n$u$ is kept", color="white", fontsize=9)
cx.set(xscale="log", yscale="log", xlabel="width $P$ (coordinates)", ylabel="depth $n$ (blocks)", ylim=(1, 1e5))
_ = cx.set_title("The two limits disagree: error of the rank-one truncation")

# %%
cx.grid(False), fig.colorbar(mesh, ax=cx, label="error (no unit)")
headline(fig, "Truncation moves a critical system off criticality, and depth then erases it")
companion.save_figure(
    fig, "10-finite-width-gallery", badge="exact",
    alt="Top: the error of the truncated rank-one projection rises from the tail to 1 around the depth one over tau squared, "
    "for widths 10, 100 and 1000. Middle: the truncated shift loses all mass at step 51. Bottom: map of the error over "
    "width and depth; it is small below the line n equal one over tau squared and 1 above it.",
    data=[{"width": int(p), "depth": int(n), "error": e} for n, row in zip(grid_n, picture, strict=True)
          for p, e in zip(grid_p[::6], row[::6], strict=True)]
    + [{"width": 2 * half + 1, "depth": n, "error": e} for n, e in enumerate(moved.error)],
)  # fmt: skip

# %% [markdown]
# ## Fixed depth: the bound of T7.1 (E7.2)
# For a nonexpansive block the errors add up like the sides of right angles: error$^2\le\sum_k\tau_P(T^kx)^2$. A permutation
# of coordinates attains it. Chain $k$ of the coordinates below is kept except at step $k$.

# %%
links = np.arange(7 * 8).reshape(7, 8)
order = np.empty(links.size, dtype=int)
for chain in links:
    order[np.roll(chain, -1)] = chain
outside = links[np.arange(7), np.arange(7)]
basis = np.eye(links.size)[:, np.setdiff1d(np.arange(links.size), outside)]
start = np.zeros(links.size)
start[links[:, 0]] = 1.0
run = truncated_orbit(lambda i: lambda x: x[order], start, basis, n=6)
companion.record("K21.attained_ratio", run.error[-1] / truncation_bound(run.tails)[-1], fmt=".6f")
plain_sum = truncation_bound(run.tails, orthogonal=False)[-1]
companion.record("K21.attained_share_of_sum", run.error[-1] / plain_sum, fmt=".4f")

# %% [markdown]
# A nonlinear block: $Tx=x-W^{\top}\mathrm{relu}(Wx+b)$ in $\mathbb R^{400}$ with $\|W\|^2\le2$, certified. The columns of $W$
# shrink like $j^{-0.7}$, so that a finite width can hold most of a state.

# %%
rng = streams[0]
size = np.arange(1.0, 401)
W = rng.standard_normal((400, 400)) * size**-0.7
W *= 1.4 / operator_norm(W).upper
companion.record("K21.relu_norm", operator_norm(W).upper, fmt=".4f", badge="measured", seeds=1)
b = -W @ (rng.standard_normal(400) / size)  # so that a point of moderate size is fixed
relu_block = lambda x: x - np.maximum(x @ W.T + b, 0) @ W  # noqa: E731
x0 = rng.standard_normal(400) / size
relu_runs = {width: truncated_orbit(lambda i: relu_block, x0, width, n=200) for width in (20, 60, 150)}
excess = -math.inf
for width, run in relu_runs.items():
    root, total = truncation_bound(run.tails)[-1], truncation_bound(run.tails, orthogonal=False)[-1]
    excess = max(excess, (run.error - truncation_bound(run.tails)).max())
    for name, value in (("error", run.error[-1]), ("root", root), ("sum", total), ("looseness", root / run.error[-1])):
        companion.record(f"K21.relu_p{width}_{name}", value, fmt=".3g", badge="measured", seeds=1)

# %%
companion.record("K21.relu_excess", excess, fmt=".1e", badge="measured", seeds=1)
final = [run.error[-1] for run in relu_runs.values()]
companion.record("K21.relu_decreasing", bool(np.all(np.diff(final) < 0)), badge="measured", seeds=1)
for name, s in (("s05", 0.5), ("s1", 1.0)):
    for n in (10, 100, 1000):
        wide = math.ceil(round((10 * math.sqrt(n + 1)) ** (1 / s), 9))
        companion.record(f"K21.width_root_{name}_n{n}", wide, fmt=",d")
        companion.record(f"K21.width_sum_{name}_n{n}", math.ceil(round((10 * (n + 1)) ** (1 / s), 9)), fmt=",d")

# %% [markdown]
# ## A contraction: uniform in depth, until the factor tends to 1
# $T=q\,uu^{\top}$ at width 100. The largest error over all depths stays below $\tau/\sqrt{1-q^2}$, which is useless long
# before $q=1$.

# %%
every = np.arange(0, 200_001)
contraction = {}
for name, q in (("090", 0.9), ("099", 0.99), ("0999", 0.999), ("09999", 0.9999)):
    contraction[q] = q**every * rank_one_truncation_error(tail_of(100), every)
    companion.record(f"K21.contraction_{name}_error", contraction[q].max(), fmt=".4f")
    companion.record(f"K21.contraction_{name}_bound", tail_of(100) / math.sqrt(1 - q * q), fmt=".4f")

# %% [markdown]
# ## Truncations that commute: uniform in depth, but not relative to what is left (T7.3)
# $T=\mathrm{diag}(1-\frac12j^{-3/2})$, energies $j^{-2}$, cut to the first $P$ coordinates. The error never exceeds the tail of
# the input. Divided by the norm of the state, which itself falls, it follows the incomplete gamma function of
# $n/n^*$ with $n^*=(P+\frac12)^{3/2}$: beyond that depth the cut stack has nothing left of the right size.

# %%
j = np.arange(1.0, P["columns"] + 1)
rest = zeta(2, j[-1] + 1)  # modes beyond, which have not moved yet at these depths


def diagonal(width, n):
    """Error of the cut stack and norm of the state after n blocks."""
    energy = np.exp(-2 * np.log(j) + 2 * n * np.log1p(-0.5 * j**-1.5))
    return math.sqrt(energy[width:].sum() + rest), math.sqrt(energy.sum() + rest)


crossover = 400.5**1.5
for name, share in (("01", 0.1), ("1", 1), ("10", 10)):
    error, norm = diagonal(400, round(share * crossover))
    companion.record(f"K21.commuting_relative_{name}", error / norm, fmt=".4f", badge="theory")

# %%
shares = np.geomspace(1e-3, 50, 40)
commuting = np.array([diagonal(400, round(share * crossover)) for share in shares])
companion.record("K21.commuting_excess", (commuting[:, 0] - math.sqrt(zeta(2, 401))).max(), fmt=".1e", badge="theory")

# %% [markdown]
# ## Summable residual stacks: uniform in depth (T7.4, E7.3)
# Sixty blocks $x+i^{-2}U_i\tanh(V_i^{\top}x)$ of rank 20 in $\mathbb R^{1000}$, with orthonormal columns whose coordinates
# decay. The constants of the branches are certified by the norms of $U_i$ and $V_i$.

# %%
rng = streams[1]
decay = np.arange(1.0, 1001)[:, None] ** -0.8
frames = [[np.linalg.qr(rng.standard_normal((1000, 20)) * decay)[0] for _ in range(2)] for _ in range(60)]
lipschitz = np.array([i**-2.0 * operator_norm(U).upper * operator_norm(V).upper for i, (U, V) in enumerate(frames, 1)])


def branches(power):
    """Blocks x + i^(-power) U_i tanh(V_i' x)."""
    return lambda i: lambda x: x + i**-power * np.tanh(x @ frames[i - 1][1]) @ frames[i - 1][0].T


x1 = rng.standard_normal(1000) * decay[:, 0]
residual_runs = {width: truncated_orbit(branches(2.0), x1, width, n=60) for width in (10, 50, 200, 500, 900)}
residual_bounds = {
    width: residual_truncation_bound(run.tails[0], run.increment_tails, lipschitz) for width, run in residual_runs.items()
}

# %%
ends = {width: run.error[-1] for width, run in residual_runs.items()}
for width in ends:
    companion.record(f"K21.residual_p{width}_error", ends[width], fmt=".3g", badge="measured", seeds=1)
    companion.record(f"K21.residual_p{width}_bound", residual_bounds[width][-1], fmt=".3g", badge="measured", seeds=1)
excess = max((run.error - residual_bounds[width]).max() for width, run in residual_runs.items())
companion.record("K21.residual_excess", excess, fmt=".1e", badge="measured", seeds=1)
companion.record("K21.residual_decreasing", bool(np.all(np.diff(list(ends.values())) < 0)), badge="measured", seeds=1)
growth = max(run.error.max() / run.error[-1] for run in residual_runs.values())
companion.record("K21.residual_depth_ratio", growth, fmt=".4f", badge="measured", seeds=1)
looseness = max(residual_bounds[width][-1] / ends[width] for width in ends)
companion.record("K21.residual_looseness", looseness, fmt=".2g", badge="measured", seeds=1)
factor = max(residual_bounds[w][-1] / (run.tails[0] + run.increment_tails.sum()) for w, run in residual_runs.items())
companion.record("K21.residual_factor", factor, fmt=".2f", badge="measured", seeds=1)

# %% [markdown]
# Is summability needed? Blocks $(1-h_i)I+h_iuu^{\top}$ have $\mathrm{Lip}(T_i-I)=h_i$ and fix $u$. Cut to width 10 they keep
# the share $\prod(1-h_i\tau^2)$ of it: for $h_i=i^{-2}$ it tends to $\sin(\pi\tau)/(\pi\tau)$, for $1/i$ and for constant
# steps to 0.

# %%
i = np.arange(1.0, 1_000_001)
tau = float(tail_of(10))
share = math.sin(math.pi * tau) / (math.pi * tau)
companion.record("K21.steps_square_limit", math.hypot(tau, math.sqrt(1 - tau**2) * (1 - share)), fmt=".4f")
steps = {"square": i**-2, "harmonic": 1 / i, "constant": np.full(i.size, 0.5)}
marks = np.unique(np.geomspace(1, 1e6, 200).astype(int))
step_errors = {name: rank_one_truncation_error(tau, marks, steps=h) for name, h in steps.items()}
companion.record("K21.steps_square", step_errors["square"][-1], fmt=".4f")
companion.record("K21.steps_harmonic", step_errors["harmonic"][-1], fmt=".4f")
companion.record("K21.steps_constant", rank_one_truncation_error(tau, 100, steps=0.5), fmt=".4f")

# %%
fig, axes = new_figure(2, 2, height=6.0)
(ax, bx), (cx, dx) = axes
ax.loglog(grid_p, rank_one_truncation_error(tail_of(grid_p), 100), color=PALETTE["blue"], marker="", ls="-")
ax.loglog(grid_p, np.sqrt(101) * tail_of(grid_p), color=PALETTE["black"], marker="", ls="--")
ax.loglog(grid_p, 101 * tail_of(grid_p), color=PALETTE["black"], marker="", ls=":", lw=1.2)
direct_label(ax, 12, 0.028, "solid: error of $uu^{\\top}$\ndashed: $\\sqrt{n+1}\\,\\tau$\ndotted: $(n+1)\\,\\tau$")
ax.set(xlabel="width $P$ (coordinates)", ylabel="error (no unit)", title="Fixed depth 100: falls with width")
looks = zip(("blue", "green", "orange", "vermillion"), ("-", "-.", ":", (0, (5, 1))), strict=True)
for (q, values), (color, dash) in zip(contraction.items(), looks, strict=True):
    bx.loglog(depths, values[depths], color=PALETTE[color], marker="", ls=dash)
    at = {0.9: (1.1, 0.018), 0.99: (17, 0.03), 0.999: (85, 0.25), 0.9999: (5, 0.9)}[q]
    direct_label(bx, *at, f"$q={q}$", color)
bx.axhline(tail_of(100) / math.sqrt(1 - 0.81), color=PALETTE["black"], ls="--", lw=1)
direct_label(bx, 1.1, 0.25, "bound, 0.9")
_ = bx.set(
    xlabel="depth $n$ (blocks)", ylabel="error at $P=100$ (no unit)", ylim=(1e-3, 1.5), title="Contraction: until $q$ nears 1"
)

# %%
cx.loglog(shares * crossover, commuting[:, 0], color=PALETTE["blue"], marker="", ls="-")
cx.axhline(math.sqrt(zeta(2, 401)), color=PALETTE["black"], ls="--", lw=1)
cx.loglog(shares * crossover, commuting[:, 0] / commuting[:, 1], color=PALETTE["vermillion"], marker="", ls="-.")
cx.axvline(crossover, color="#777777", ls=":", lw=1.2)
direct_label(cx, 9, 0.022, "dashed: tail of the input\nsolid: error"), direct_label(cx, crossover * 1.1, 0.2, "$n^*$")
direct_label(cx, 9, 0.48, "error / norm", "vermillion")
cx.set(
    xlabel="depth $n$ (blocks)", ylabel="error at $P=400$ (no unit)", ylim=(5e-3, 2), title="Commuting: never above the tail"
)
for name, color, dash, at in (("constant", "vermillion", "-.", (1.1, 0.72)), ("harmonic", "orange", ":", (2e3, 0.36)),
                              ("square", "blue", "-", (30, 0.195))):  # fmt: skip
    dx.semilogx(marks, step_errors[name], color=PALETTE[color], ls=dash, marker="")
    direct_label(dx, *at, {"constant": "$h_i=1/2$", "harmonic": "$h_i=1/i$", "square": "$h_i=i^{-2}$"}[name], color)
dx.axhline(math.hypot(tau, math.sqrt(1 - tau**2) * (1 - share)), color=PALETTE["black"], ls="--", lw=1)
dx.set(
    xlabel="depth $n$ (blocks)", ylabel="error at $P=10$ (no unit)", ylim=(0, 1.05), title="Residual: while $\\sum h_i<\\infty$"
)
headline(fig, "Four cases in which finite width follows depth, and what ends each")

# %%
companion.save_figure(
    fig, "10-finite-width-cases", badge="exact",
    alt="Four plots. Fixed depth: the error of the rank-one truncation falls with width below root of n plus one times tau. "
    "Contraction: small at all depths for q 0.9, near 1 for q 0.9999. Commuting: the error stays below the tail of the "
    "input, but relative to the state it rises to 1. Residual: constant for summable steps, growing to 1 otherwise.",
    data=[{"case": "fixed depth 100", "x": int(p), "error": e}
          for p, e in zip(grid_p, rank_one_truncation_error(tail_of(grid_p), 100), strict=True)]
    + [{"case": f"contraction {q}", "x": int(n), "error": e[n]} for q, e in contraction.items() for n in depths]
    + [{"case": "commuting", "x": s * crossover, "error": e} for s, e in zip(shares, commuting[:, 0], strict=True)]
    + [{"case": "commuting, relative", "x": s * crossover, "error": e / m} for s, (e, m) in zip(shares, commuting, strict=True)]
    + [{"case": f"residual {name}", "x": int(n), "error": e} for name in steps
       for n, e in zip(marks, step_errors[name], strict=True)],
)  # fmt: skip

# %%
fig, (ax, bx) = new_figure(2, 1, height=6.4)
for (width, run), color, dash in zip(relu_runs.items(), ("vermillion", "blue", "green"), ("-", "-.", (0, (5, 1))), strict=True):
    n = np.arange(1, 201)
    ax.loglog(n, run.error[1:], color=PALETTE[color], ls=dash, marker="")
    ax.loglog(n, truncation_bound(run.tails)[1:], color=PALETTE[color], ls="--", marker="", lw=1)
    ax.loglog(n, truncation_bound(run.tails, orthogonal=False)[1:], color=PALETTE[color], ls=":", marker="", lw=1)
    direct_label(ax, 200, run.error[-1] * {20: 1.2, 60: 0.95, 150: 1.0}[width], f"$P={width}$", color)
ax.set(xlabel="depth $n$ (blocks)", ylabel="error (no unit)", xlim=(1, 420))
ax.set_title("Nonexpansive ReLU block in $\\mathbb{R}^{400}$: error (bold), root of squares (dashed), sum (dotted)", fontsize=9)
at = np.array(list(residual_runs))
bx.loglog(at, list(ends.values()), color=PALETTE["blue"], marker="o", ls="-")
bx.loglog(at, [v[-1] for v in residual_bounds.values()], color=PALETTE["black"], marker="s", ls="--")
direct_label(bx, 12, ends[10] * 0.48, "error after 60 blocks", "blue")
direct_label(bx, 60, residual_bounds[50][-1] * 1.35, "bound of T7.4, at every depth")
bx.set(xlabel="width $P$ (coordinates)", ylabel="error (no unit)")
_ = bx.set_title("Summable residual stack in $\\mathbb{R}^{1000}$: the bound falls with the width", fontsize=9)

# %%
headline(fig, "Both bounds hold in every run; the squares of the tails add up more slowly")
companion.save_figure(
    fig, "10-finite-width-bounds", badge="measured",
    alt="Top: error of the truncated ReLU block against depth for three widths, below the root of the sum of squared tails, "
    "which is far below their sum. Bottom: error and bound of the residual stack against width; both fall, the bound is "
    "above the error by less than one order of magnitude.",
    data=[{"case": f"relu P={width}", "x": n, "error": run.error[n], "bound": truncation_bound(run.tails)[n]}
          for width, run in relu_runs.items() for n in range(201)]
    + [{"case": "residual, 60 blocks", "x": w, "error": ends[w], "bound": residual_bounds[w][-1]} for w in ends],
)  # fmt: skip

# %% [markdown]
# ## Fixed points decide (T7.5, E7.5)
# For a self-adjoint critical block the cut stack stays close at every depth exactly if the truncations contain the fixed
# points. First a critical block *without* fixed points, in a basis that does not commute with it: the lazy walk
# $\frac12x_j+\frac14(x_{j-1}+x_{j+1})$ on all integers, cut to $|j|\le P$. Largest error over all depths, start in the middle.


# %%
def walk_error(width, n):
    """|T_P^n e_0 - T^n e_0| for depths n: binomials for the walk on the line, sines for the cut one."""
    place, mode = np.arange(-width, width + 1), np.arange(1, 2 * width + 2)
    angle = mode * math.pi / (2 * width + 2)
    sines = np.sin(np.outer(angle, place + width + 1)) * np.sin(mode * math.pi / 2)[:, None] / (width + 1)
    cut = np.exp(2 * n[:, None] * np.log(np.cos(angle / 2))) @ sines
    near = np.abs(place) <= n[:, None]
    logs = gammaln(2 * n + 1)[:, None] - gammaln(np.where(near, n[:, None] + place, 0) + 1)
    logs = logs - gammaln(np.where(near, n[:, None] - place, 0) + 1) - 2 * n[:, None] * math.log(2)
    line = np.where(near, np.exp(logs), 0.0)
    whole = np.exp(gammaln(4 * n + 1) - 2 * gammaln(2 * n + 1) - 4 * n * math.log(2))
    return np.sqrt(np.maximum(whole + (cut**2 - 2 * cut * line).sum(axis=1), 0.0))


walk = {}
for width in (10, 20, 40, 80):
    n = np.unique((np.geomspace(0.02, 60, 400) * (width + 1) ** 2).astype(int))
    walk[width] = n, walk_error(width, n)
    companion.record(f"K21.walk_p{width}", walk[width][1].max(), fmt=".4f", badge="theory")

# %% [markdown]
# Then random critical blocks *with* a fixed point: eigenvalue 1 at a random $v$ with coordinates of order $1/j$, all others at
# most $\frac12$, other eigenvectors random. At every width $1-\tau^2\le\rho(T_P)\le1-\frac12\tau^2$, so half of the mass is
# lost at a depth between $\frac{\ln2}2\tau^{-2}$ and $\ln2\,\tau^{-2}$, up to a correction by the first cut.

# %%
rng = streams[2]
d, slack, rates, halves = 300, -math.inf, [], []
for _ in range(P["draws"]):
    v = rng.standard_normal(d) / np.arange(1.0, d + 1)
    Q = np.linalg.qr(np.column_stack([v, rng.standard_normal((d, d - 1))]))[0]
    T = (Q * np.concatenate([[1.0], rng.uniform(0, 0.5, d - 1)])) @ Q.T
    for width in (10, 30, 100):
        lost = np.sum(Q[width:, 0] ** 2)
        values, vectors = np.linalg.eigh(T[:width, :width])
        slack = max(slack, 1 - lost - values[-1], values[-1] - 1 + 0.5 * lost)
        rates.append((lost, (1 - values[-1]) / lost))
        n = np.arange(0, int(1 + 1 / lost))
        kept = values[None, :] ** (2 * n[:, None]) @ (vectors.T @ Q[:width, 0]) ** 2
        halves.append((lost, np.argmax(kept <= 0.5)))

# %%
rates, halves = np.array(rates), np.array(halves)
companion.record("K21.random_excess", slack, fmt=".1e", badge="measured", seeds=P["draws"])
companion.record("K21.random_rate_low", rates[:, 1].min(), fmt=".3f", badge="measured", seeds=P["draws"])
companion.record("K21.random_rate_high", rates[:, 1].max(), fmt=".3f", badge="measured", seeds=P["draws"])
room = np.maximum(math.log(2) + np.log1p(-halves[:, 0]), 0)  # 0 where the cut itself takes half
earliest = np.ceil(-room / (2 * np.log1p(-halves[:, 0])))
latest = np.ceil(-room / (2 * np.log1p(-0.5 * halves[:, 0])))
outside_by = np.maximum(earliest - halves[:, 1], halves[:, 1] - latest).max()
companion.record("K21.random_half_outside", outside_by, fmt=".0f", badge="measured", seeds=P["draws"])
held = np.linalg.qr(np.column_stack([Q[:, 0], np.eye(d)[:, :10]]))[0]
kept_point = truncated_orbit(lambda i: lambda x: x @ T, Q[:, 0], held, n=2000)
companion.record("K21.random_held_error", kept_point.error.max(), fmt=".1e", badge="measured", seeds=1)

# %%
fig, (ax, bx) = new_figure(2, 1, height=6.2)
for (width, (n, error)), color, dash in zip(walk.items(), ("vermillion", "orange", "blue", "green"), ("-", "-.", ":", "--"),
                                            strict=True):  # fmt: skip
    ax.loglog(n, np.maximum(error, 1e-4), color=PALETTE[color], ls=dash, marker="")
    direct_label(ax, n[np.argmax(error > 0.0025)], 0.0025, f"$P={width}$", color)
ax.set(xlabel="depth $n$ (blocks)", ylabel="error (no unit)", ylim=(8e-4, 0.2), xlim=(10, 5e5))
ax.set_title("No fixed point: the lazy walk, critical, in a basis that does not commute", fontsize=9)
by_loss = np.argsort(halves[:, 0])
bx.loglog(halves[:, 0], np.maximum(halves[:, 1], 0.8), color=PALETTE["blue"], marker="o", ls="", ms=3.5)
for end in (earliest, latest):
    bx.loglog(halves[by_loss, 0], np.maximum(end[by_loss], 0.8), color=PALETTE["black"], ls="--", marker="")
direct_label(bx, 0.012, 150, "dashed: the two ends proved")
bx.set(xlabel="lost part $\\tau^2$ of the fixed direction (no unit)", ylabel="depth of half loss (blocks)")
bx.set_title(f"A fixed point outside the truncation: {P['draws']} random critical blocks, 3 widths", fontsize=9)
headline(fig, "Self-adjoint: criticality does no harm, a fixed point outside the width does")

# %%
companion.save_figure(
    fig, "10-finite-width-fixed-points", badge="measured",
    alt="Top: error of the truncated lazy walk against depth for four widths: each curve has one maximum, which falls with "
    "the width, and then decreases. Bottom: depth at which half of the mass is lost against tau squared for random "
    "critical operators: all points lie between two proved lines proportional to one over tau squared.",
    data=[{"case": f"walk P={width}", "x": int(k), "value": e} for width, (n, error) in walk.items()
          for k, e in zip(n, error, strict=True)]
    + [{"case": "random: half lost", "x": a, "value": c} for a, c in halves],
)  # fmt: skip

# %% [markdown]
# ## A system of its own (T7.6, E7.4)
# Take $u_P=\Pi_Pu/\|\Pi_Pu\|$ and $T'_P=u_Pu_P^{\top}$: width $P$ again, critical again, and off by exactly $\tau$ in operator
# norm at every depth $n\ge1$. Checked by a certified norm in $\mathbb R^{400}$.

# %%
u = 1 / np.arange(1.0, 401)
u /= np.linalg.norm(u)
gaps = []
for width in (10, 50, 200):
    tuned = np.where(np.arange(400) < width, u, 0.0)
    tuned /= np.linalg.norm(tuned)
    norm = operator_norm(np.outer(tuned, tuned) - np.outer(u, u))
    gaps += [abs(end - np.linalg.norm(u[width:])) for end in (norm.lower, norm.upper)]
companion.record("K21.retuned_norm_gap", max(gaps), fmt=".1e", badge="theory")
wide = 1 / np.arange(1.0, 100_001) / math.sqrt(zeta(2))  # its later coordinates enter through the tail
cut = wide[:100] / np.linalg.norm(wide[:100])
after = cut * (cut @ wide[:100])  # T' to any power n >= 1, applied to u
late = math.sqrt(np.sum((after - wide[:100]) ** 2) + zeta(2, 101) / zeta(2))
companion.record("K21.retuned_late", late, fmt=".5f")

# %% [markdown]
# The same repair for a whole block with a gap: $T'_P=Q_P+(\Pi_P-Q_P)R(\Pi_P-Q_P)$, $Q_P$ the projection onto $\Pi_P$ of the
# fixed space, $R=T-Q$. Here three fixed directions and a remainder of norm $\frac12$, in $\mathbb R^{300}$.

# %%
rng = streams[3]
V = np.linalg.qr(rng.standard_normal((d, 3)) / np.arange(1.0, d + 1)[:, None])[0]
frame = np.linalg.qr(np.column_stack([V, rng.standard_normal((d, d - 3))]))[0]
R = (frame[:, 3:] * rng.uniform(0, 0.5, d - 3)) @ frame[:, 3:].T
x2 = rng.standard_normal(d) / np.arange(1.0, d + 1)
fixed_part = V @ (V.T @ x2)
deep = np.unique(np.r_[0:101, np.geomspace(101, 1e6, 120).astype(int)])  # after 100 blocks R is gone


def iterates(A, x):
    """A^n x for the depths above, A symmetric, by its eigenvectors: ``(depths, d)``."""
    values, vectors = np.linalg.eigh(A)
    return (values ** deep[:, None] * (vectors.T @ x)) @ vectors.T


# %%
states, left = iterates(V @ V.T + R, x2), iterates(R, x2 - fixed_part)
repaired, plain, over = {}, {}, -math.inf
for width in (10, 30, 100):
    Pi = np.diag((np.arange(d) < width).astype(float))
    B = np.linalg.qr(Pi @ V)[0]
    inner = Pi - B @ B.T
    repaired[width] = np.linalg.norm(iterates(B @ B.T + inner @ R @ inner, Pi @ x2) - states, axis=1)
    plain[width] = np.linalg.norm(iterates(Pi @ (V @ V.T + R) @ Pi, Pi @ x2) - states, axis=1)
    tails = np.linalg.norm(left - left @ inner, axis=1)
    bound = np.linalg.norm(V[width:], 2) * np.linalg.norm(x2) + tails.max() / math.sqrt(0.75)
    over = max(over, repaired[width].max() - bound)

# %%
companion.record("K21.retuned_excess", over, fmt=".1e", badge="measured", seeds=1)
companion.record("K21.retuned_gap_error", repaired[100].max(), fmt=".3f", badge="measured", seeds=1)
lost = plain[100][-1] / np.linalg.norm(fixed_part)
companion.record("K21.retuned_gap_lost", lost, fmt=".6f", badge="measured", seeds=1)
fig, (ax, bx) = new_figure(1, 2, height=3.4)
for width, color, dash in zip((10, 100), ("vermillion", "blue"), ("-", "-."), strict=True):
    ax.loglog(depths, rank_one_truncation_error(tail_of(width), depths), color=PALETTE[color], ls=dash, marker="")
    ax.axhline(tail_of(width), color=PALETTE[color], ls="--", lw=1.3)
    direct_label(ax, 1.5e3, tail_of(width) * 0.85, f"retuned, $P={width}$", color)
direct_label(ax, 5e3, 0.84, "plain", "black")
ax.set(xlabel="depth $n$ (blocks)", ylabel="error (no unit)", ylim=(0.04, 1.3), title="Rank one, $uu^{\\top}$")
for width, color, dash in zip((10, 100), ("vermillion", "blue"), ("-", "-."), strict=True):
    bx.loglog(deep[1:], plain[width][1:], color=PALETTE[color], ls=dash, marker="")
    bx.loglog(deep[1:], repaired[width][1:], color=PALETTE[color], ls="--", marker="")
    direct_label(bx, 1.5e3, repaired[width][-1] * 0.84, f"retuned, $P={width}$", color)
direct_label(bx, 1.5e4, np.linalg.norm(fixed_part) * 1.12, "plain", "black")

# %%
bx.set(xlabel="depth $n$ (blocks)", ylabel="error (no unit)", title="Three fixed directions")
bx.set_ylim(0.6 * repaired[100][-1], 1.4 * plain[10].max())
bx.set_yticks([0.05, 0.1, 0.2, 0.4], ["0.05", "0.1", "0.2", "0.4"]), bx.set_yticks([], minor=True)
headline(fig, "A system of width $P$ of its own can be critical: retuned (dashed) holds where plain fails")
companion.save_figure(
    fig, "10-finite-width-retuned", badge="measured",
    alt="Two plots of error against depth. The plain truncation (solid or dash-dotted) rises to the size of the state; the "
    "retuned one (dashed) stays at its tail for all depths, for widths 10 and 100.",
    data=[{"case": "rank one", "width": w, "depth": int(n), "plain": e, "retuned": tail_of(w)}
          for w in (10, 100) for n, e in zip(depths, rank_one_truncation_error(tail_of(w), depths), strict=True)]
    + [{"case": "gap", "width": w, "depth": int(n), "plain": a, "retuned": b}
       for w in plain for n, a, b in zip(deep, plain[w], repaired[w], strict=True)],
)  # fmt: skip

# %% [markdown]
# ## The depth budget
# How deep may a stack of width $P$ be for an error of at most 0.2? For the rank-one projection about $0.22\,\tau^{-2}$ blocks;
# the theorem promises $(0.2/\tau)^2-1$. For the diagonal block the relative error reaches 0.2 at a fixed share of $n^*$. For a
# summable residual stack the budget is unlimited once the width suffices for one depth.

# %%
budget_p = np.unique(np.geomspace(20, 1e4, 40).astype(int))
t = tail_of(budget_p)
allowed = np.sqrt(np.maximum(0.04 - t**2, 0) / (1 - t**2))
rank_one = np.floor(np.log1p(-allowed) / np.log1p(-(t**2)))
promised = np.maximum((0.2 / t) ** 2 - 1, 0)
share = np.interp(0.04, gammainc(2 / 3, np.geomspace(1e-4, 1, 4000)), np.geomspace(1e-4, 1, 4000))
diagonal_depth = share * (budget_p + 0.5) ** 1.5
companion.record("K21.budget_share", share, fmt=".4f", badge="theory")
check = diagonal(400, round(share * crossover))
companion.record("K21.budget_relative", check[0] / check[1], fmt=".3f", badge="theory")
companion.record("K21.budget_factor", rank_one[-1] / promised[-1], fmt=".1f", badge="theory")
companion.record("K21.budget_promise_kept", bool(np.all(rank_one >= np.floor(promised))), badge="theory")
few = tail_of(np.arange(1, 100))
at_limit = np.hypot(few, np.sqrt(1 - few**2) * (1 - np.sinc(few)))  # C7.4 with steps i^-2, at infinite depth
companion.record("K21.budget_width_retuned", 1 + np.argmax(few <= 0.2), fmt="d", badge="theory")
companion.record("K21.budget_width_summable", 1 + np.argmax(at_limit <= 0.2), fmt="d", badge="theory")

# %%
fig, ax = new_figure(height=3.8)
ax.loglog(budget_p, np.maximum(rank_one, 0.5), color=PALETTE["vermillion"], ls="-", marker="")
ax.loglog(budget_p, np.maximum(promised, 0.5), color=PALETTE["black"], ls="--", marker="")
ax.loglog(budget_p, diagonal_depth, color=PALETTE["blue"], ls="-.", marker="")
ax.fill_between(budget_p, 3e5, 1e6, color=PALETTE["green"], alpha=0.25, lw=0, hatch="//")
direct_label(ax, 24, 5.2e5, "retuned, or residual with steps $i^{-2}$: no limit", "black")
direct_label(ax, 9500, 1.9e4, "diagonal, relative error: like $P^{3/2}$", "blue", ha="right")
direct_label(ax, 21, 40, "rank one: near $0.22\\,\\tau^{-2}$", "vermillion")
direct_label(ax, 500, 11, "dashed: promised by T7.1 to any\nnonexpansive block with these tails")
ax.set(xlabel="width $P$ (coordinates)", ylabel="usable depth (blocks)", ylim=(0.7, 1e6))
ax.set_title("For an error of 0.2 the usable depth grows like $P$, like $P^{3/2}$, or without limit")
companion.save_figure(
    fig, "10-finite-width-budget", badge="theory",
    alt="Usable depth against width on logarithmic axes: proportional to the width for the rank-one projection and for the "
    "promise of the theorem, to the power three halves for the diagonal block, and without limit for summable residual or "
    "retuned stacks.",
    data={"width": budget_p, "rank_one": rank_one, "promised": promised, "diagonal_relative": diagonal_depth},
)  # fmt: skip

# %% [markdown]
# ## A trained network, measured
# No theorem covers this one. A residual network of width 64 and 8 blocks learns the digits; then every block is cut to the
# leading $P$ principal directions of its hidden states. Relative error of the last state, and test accuracy.


# %%
def trained(seeds, steps=120):
    """An ensemble of residual networks after Adam on the digits, float64."""
    data = corpora.digits()
    net = ResidualMLP((1.0,) * len(seeds), seeds, depth=8, dtype=torch.float64)
    x, y = torch.tensor(data.x), torch.tensor(data.y)
    optimiser = torch.optim.Adam(net.parameters(), lr=1e-3)
    batches = np.random.default_rng([seed, 1]).integers(len(y), size=(steps, 128))
    for chosen in batches:
        logits = net(x[chosen])
        loss = sum(torch.nn.functional.cross_entropy(member, y[chosen]) for member in logits)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
    return net, x, torch.tensor(data.x_test), torch.tensor(data.y_test)


# %%
@torch.no_grad()
def directions(net, x):
    """Principal directions of all hidden states of the training digits, leading first, per member (members, 64, 64)."""
    states = [net.spread(x)]
    for layer in range(net.depth):
        states.append(net.block(layer, states[-1]))
    stacked = torch.cat(states, dim=1)
    return torch.linalg.eigh(stacked.mT @ stacked)[1].flip(-1)


# %%
@torch.no_grad()
def cut_network(net, axes, test, labels, width):
    """Relative error of the last state and accuracy, per member, of the network cut to its leading directions."""
    project = axes[:, :, :width] @ axes[:, :, :width].mT
    full, low = net.spread(test), net.spread(test) @ project
    for layer in range(net.depth):
        full, low = net.block(layer, full), net.block(layer, low) @ project
    logits = low @ net.readout + net.readout_bias
    error = ((low - full).norm(dim=-1) / full.norm(dim=-1)).mean(-1)
    return error.numpy(), (logits.argmax(-1) == labels).double().mean(-1).numpy()


# %%
network, digits_x, test, labels = trained(tuple(range(seed, seed + P["nets"])))
principal = directions(network, digits_x)
network_widths = (4, 8, 16, 24, 32, 48, 64)
seen = {width: cut_network(network, principal, test, labels, width) for width in network_widths}
for width in (8, 16, 32, 64):
    for name, values in zip(("error", "accuracy"), seen[width], strict=True):
        companion.record(f"K21.network_p{width}_{name}", values.mean(), fmt=".2g" if width == 64 and name == "error" else ".3f",
                         badge="measured", seeds=P["nets"])  # fmt: skip

# %%
fig, (ax, bx) = new_figure(1, 2, height=3.0)
for panel, which, color, marker in ((ax, 0, "blue", "o"), (bx, 1, "vermillion", "s")):
    values = np.array([seen[width][which] for width in network_widths])
    panel.plot(network_widths, values.mean(axis=1), color=PALETTE[color], marker=marker, ls="-")
    panel.fill_between(network_widths, values.min(axis=1), values.max(axis=1), color=PALETTE[color], alpha=0.2, lw=0)
    panel.set(xlabel="width $P$ (principal directions)", ylim=(0, 1.05))
ax.set(ylabel="relative error of the last state"), bx.set(ylabel="test accuracy")
headline(fig, "Cut to half of its width, a trained network keeps most classes but not its state")

# %%
companion.save_figure(
    fig, "10-finite-width-network", badge="measured",
    alt="Left: relative error of the last hidden state falls as more principal directions are kept and is zero at the full "
    "width 64. Right: test accuracy rises with the width kept.",
    data=[{"width": w, "member": m, "error": e, "accuracy": a}
          for w, (errors, accuracies) in seen.items() for m, (e, a) in enumerate(zip(errors, accuracies, strict=True))],
)  # fmt: skip

# %% [markdown]
# ## Break it
# Drop *nonexpansive*: an orthogonal matrix times 1.5 breaks the bound of T7.1. Drop *summability*: the branches of E7.3 at
# constant size let the error grow with depth; at size $1/i$ these random ones hardly do. Drop *commuting*: the rank-one
# projection exceeds the tail of its input by a factor. The contraction factor tending to 1 and the steps $1/i$ that do lose
# everything are recorded above. How much a random draw exceeds its bound or grows, no theorem says: the limits in the ledger
# come from thirty other seeds.

# %%
rng = streams[4]
stretch = 1.5 * np.linalg.qr(rng.standard_normal((60, 60)))[0]
x3 = rng.standard_normal(60) / np.arange(1.0, 61)
stretched = truncated_orbit(lambda i: lambda x: x @ stretch, x3, 50, n=20)
companion.record("K21.broken_expansive", stretched.error[-1] / truncation_bound(stretched.tails)[-1], fmt=".2f",
                 badge="measured", seeds=1)  # fmt: skip
for name, power in (("square", 2.0), ("harmonic", 1.0), ("constant", 0.0)):
    run = truncated_orbit(branches(power), x1, 200, n=60)
    companion.record(f"K21.broken_growth_{name}", run.error[-1] / run.error[5], fmt=".2f", badge="measured", seeds=1)
companion.record("K21.broken_commuting", rank_one_truncation_error(tail_of(100), 1650) / tail_of(100), fmt=".2f")
