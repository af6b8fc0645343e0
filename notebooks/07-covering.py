# %% [markdown]
# # Covering numbers and the sample term
# How many balls cover a class of functions, what that says about $N$ samples, and what it is worth on real data. Every
# count, bound and construction of the [chapter](../../book/07-covering.md), run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import itertools
import math
from functools import lru_cache

import numpy as np
import torch
from scipy import integrate, optimize, special
from scipy.spatial.distance import cdist
from sklearn.datasets import load_digits

from limitlib import companion, covering
from limitlib.companion import PALETTE, direct_label, new_figure

# %%
P = companion.profile(
    profile,
    smoke=dict(profile_points=1_000, radii=3, images=300, paths=50, draws=200, repeats=(24, 16, 8, 4, 3), signs=1000),
    cpu=dict(profile_points=5_000, radii=12, images=1797, paths=3000, draws=2000, repeats=(160, 80, 40, 20, 10), signs=4000),
    gpu=dict(repeats=(640, 320, 160, 80, 40)),
)
rng = np.random.default_rng(seed)
torch.set_num_threads(1)


def ball(n, d):
    """n independent uniform points of the unit ball of R^d."""
    x = rng.standard_normal((n, d))
    return x * (rng.random((n, 1)) ** (1 / d) / np.linalg.norm(x, axis=1)[:, None])


# %% [markdown]
# ## T5.1: the farthest-point order certifies from both sides
# On small sets the exact counts obey $M(2\varepsilon)\le N(\varepsilon)\le M(\varepsilon)$. The first $k$ points of the order
# cover with radius $r_k$; no $k$ balls of a radius below $r_k/2$ do.

# %%
broken = checked = 0
for case, share in itertools.product(range(8), (0.3, 0.6, 1.0)):
    x = rng.standard_normal((40, 1 + case % 4))
    eps = share * np.median(cdist(x, x))
    counts = (covering.covering_number(x, eps), covering.packing_number(x, eps), covering.packing_number(x, 2 * eps))
    balls, packed, packed_twice = (c.lower for c in counts)
    order = covering.greedy_order(x)
    k = 1 + int(np.argmax(order.cover < eps))
    needed = covering.covering_number(x, order.cover[k - 1] / 2 * (1 - 1e-9)).lower
    broken += (packed_twice > balls) + (balls > packed) + (needed < k + 1) + any(c.lower < c.upper for c in counts)
    checked += 3
companion.record("K15.duality_broken", broken, fmt="d")
companion.record("K15.duality_checked", checked, fmt="d")

# %% [markdown]
# ## T5.2: balls (E5.1)
# Farthest-point nets of 20,000 points of the unit ball, between $\varepsilon^{-d}$ and $(1+2/\varepsilon)^d$.

# %%
cloud = {d: ball(20_000, d) for d in (1, 2, 3, 4, 6)}
for d in (1, 2, 3):
    order = covering.greedy_order(cloud[d], k=2000)
    for inverse in (2, 4, 8):
        net = int(np.searchsorted(-order.cover, -1 / inverse)) + 1
        companion.record(f"K15.ball_d{d}_eps{inverse}", net, fmt="d", badge="measured", seeds=1)
for d in (4, 6):
    clouds = (cloud[d], ball(20_000, d), ball(20_000, d))
    nets = [np.searchsorted(-covering.greedy_order(c, k=1000).cover, -0.5) + 1 for c in clouds]
    companion.record(f"K15.ball_d{d}_eps2", np.mean(nets), fmt=".1f", badge="measured", seeds=3)

# %% [markdown]
# ## The bracketed covering profile
# Lower and upper counts over a range of radii: a sample of the ball in $\mathbb R^3$ and 128 of its points, for which the count
# is exact; the digits in $\mathbb R^{64}$ and 128 of them. Centres are points of the sample.

# %%
images, labels = load_digits(return_X_y=True)
pixels = images / 16
radii, scale = np.geomspace(0.08, 1, P["radii"]), np.geomspace(0.7, 4.2, P["radii"])
sets = {"ball, d = 3": (cloud[3][: P["profile_points"]], radii), "128 points, d = 3": (cloud[3][:128], radii),
        "digits": (pixels[: P["images"]], scale), "128 digits": (pixels[:128], scale)}  # fmt: skip
profiles = {}
for step, (name, (points, eps)) in enumerate(sets.items()):
    profiles[name] = covering.entropy_profile(points, eps)
    companion.progress(step + 1, len(sets), name)
both_ends = covering.covering_number(cloud[3][:5000], 0.25)
companion.record("K15.profile_ratio_d3", both_ends.upper / both_ends.lower, fmt=".2f", badge="measured", seeds=1)
companion.record("K15.exact_at_128", bool(profiles["128 points, d = 3"].ratio == 1 == profiles["128 digits"].ratio))
digits_2 = covering.covering_number(pixels, 2.0)
companion.record("K15.digits_lower_2", digits_2.lower, fmt="d")
companion.record("K15.digits_upper_2", digits_2.upper, fmt="d")


# %%
def bracket(ax, name, color, marker):
    """A band between the two ends of each count, with filled markers above and open ones below."""
    found, style = profiles[name], dict(color=PALETTE[color], marker=marker, ls="-", ms=7, lw=1.8)
    ax.fill_between(found.eps, found.lower, found.upper, color=PALETTE[color], alpha=0.25, lw=0)
    ax.loglog(found.eps, found.upper, **style)
    ax.loglog(found.eps, found.lower, mfc="white", mew=1.6, **style)


def exact(ax, name):
    """One line where both ends are the same, the size of the set dotted above it."""
    ax.loglog(profiles[name].eps, profiles[name].upper, color=PALETTE["vermillion"], marker="s", ls="--", ms=7, lw=1.8)
    ax.axhline(128, color=PALETTE["black"], ls=":", lw=1.2)


# %%
BIG = dict(fontsize=12)  # so that it can still be read at half the size
fig, (top, low) = new_figure(2, 1, height=8.2)
top.loglog(radii, (1 + 2 / radii) ** 3, color=PALETTE["black"], ls="-.", marker="", lw=1.3)
top.loglog(radii, radii**-3.0, color=PALETTE["black"], ls="-.", marker="", lw=1.3)
bracket(top, "ball, d = 3", "blue", "o"), exact(top, "128 points, d = 3")
direct_label(top, 0.3, 750, "$(1+2/\\varepsilon)^3$, above any count", **BIG)
direct_label(top, 0.66, 1.45, "$\\varepsilon^{-3}$, below\nthe ball's count", ha="right", **BIG)
direct_label(top, 0.112, 1350, f"{P['profile_points']} points", "blue", rotation=-17, rotation_mode="anchor", **BIG)
direct_label(top, 0.082, 45, "128 of them:\nexact", "vermillion", **BIG)
direct_label(top, 1, 128, "128", ha="right", va="bottom", **BIG)

# %%
bracket(low, "digits", "blue", "o"), exact(low, "128 digits")
direct_label(low, 1.75, 520, f"{P['images']} digits\nfilled: a covering found\nopen: no covering is smaller", "blue", **BIG)
direct_label(low, 0.72, 40, "128 of them:\nexact", "vermillion", **BIG)
direct_label(low, 4.2, 128, "128", ha="right", va="bottom", **BIG)
low.set_xticks([0.7, 1, 2, 4], ["0.7", "1", "2", "4"])
top.set_xticks([0.1, 0.2, 0.5, 1], ["0.1", "0.2", "0.5", "1"])
for ax, name in ((top, "unit ball of $\\mathbb{R}^3$"), (low, "digits in $\\mathbb{R}^{64}$, pixels in [0, 1]")):
    ax.minorticks_off(), ax.tick_params(labelsize=12)
    ax.set_xlabel("radius $\\varepsilon$ (Euclidean distance)", **BIG)
    ax.set_ylabel("number of balls $N(\\varepsilon)$", **BIG)
    ax.set_title(name, fontweight="normal", **BIG)
_ = fig.suptitle("Every count comes with both ends;\nfor 128 points they meet", x=0.01, ha="left", fontsize=13,
                 fontweight="bold")  # fmt: skip

# %%
companion.save_figure(
    fig, "07-covering-profiles", badge="measured",
    alt="Two log-log plots of the number of balls against the radius. Above: for a sample of the unit ball in three dimensions "
    "the band between lower and upper count is narrow; the volumes of T5.2 lie around it; for 128 of the points both counts "
    "agree, and level off at 128. Below: the same for digits; the band is narrow at small and large radii, wider between.",
    data=[{"set": name, "eps": e, "lower": least, "upper": most} for name, p in profiles.items()
          for e, least, most in zip(p.eps, p.lower, p.upper, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## T5.3: Dudley's constant
# $c_0=\int_0^1\sqrt{\ln(1+2/u)}\,du$, by quadrature and by a certified enclosure; the bound itself for $d=10$, $N=10^4$.

# %%
c0 = integrate.quad(lambda u: math.sqrt(math.log1p(2 / u)), 0, 1, epsabs=1e-12)[0]
half = integrate.quad(lambda u: math.sqrt(math.log1p(2 / u)), 0, 0.5, epsabs=1e-12)[0]
enclosed = covering.dudley_integral(lambda u: math.log1p(2 / u), 1.0)
companion.record("K15.c0", c0, fmt=".6f", badge="theory")
companion.record("K15.dudley_constant", 12 * c0, fmt=".4f", badge="theory")
companion.record("K15.dudley_constant_half", 12 * half, fmt=".4f", badge="theory")
companion.record("K15.c0_enclosed", bool(enclosed.low <= c0 <= enclosed.high), badge="theory")
ten = lambda e: covering.covering_bound("parametric", e, d=10, constant=1.0, radius=1.0)  # noqa: E731
formula = 12 * c0 * math.sqrt(10 / 1e4)
for name, bound in (("chaining", covering.chaining_bound), ("chain", covering.best_chain)):
    companion.record(f"K15.{name}_over_formula", bound(ten, 10_000, 1.0)[0] / formula, fmt=".3f", badge="theory")

# %% [markdown]
# ## T5.4: Kolmogorov and Tikhomirov (E5.2)
# Random and extreme 1-Lipschitz paths, each with the centre that the proof gives it. All centres are used, none of the paths is
# further than $\varepsilon$ from its own, and the extreme paths are separated by more than $2\varepsilon$.


# %%
def extreme(eps):
    """The 2^K paths of the lower bound: slopes +-1 on K intervals of equal length; their heights at the knots."""
    k = math.ceil(1 / eps - 1e-12) - 1
    slopes = np.array(list(itertools.product([-1.0, 1.0], repeat=k)))
    return np.linspace(0, 1, k + 1), np.hstack([np.zeros((len(slopes), 1)), np.cumsum(slopes, axis=1) / k])


def random_path():
    """Knots and heights of a path with 20 slopes, most of them clipped to +-1."""
    slopes = np.clip(rng.normal(0, 2, 20), -1, 1)
    return np.linspace(0, 1, 21), np.append(0.0, np.cumsum(slopes) / 20)


def error(knots, heights, eps):
    """The word of the centre and sup |f - centre|, exact: both are linear between the joint knots."""
    word, centre = covering.lipschitz_net(lambda t: np.interp(t, knots, heights), eps)
    t = np.union1d(knots, np.minimum(eps * np.arange(math.ceil(1 / eps) + 1), 1.0))
    return word, np.abs(np.interp(t, knots, heights) - centre(t)).max()


# %%
worst, apart = 0.0, math.inf
for name, eps in (("1_2", 1 / 2), ("1_3", 1 / 3), ("30", 0.3), ("1_4", 1 / 4), ("22", 0.22), ("1_5", 1 / 5)):
    knots, family = extreme(eps)
    tried = [(knots, heights) for heights in family] + [random_path() for _ in range(P["paths"])]
    found = [error(*path, eps) for path in tried]
    worst = max(worst, max(e for _, e in found) / eps)
    apart = min(apart, min(np.abs(a - b).max() for a, b in itertools.combinations(family, 2)) / (2 * eps))
    companion.record(f"K15.kt_centres_{name}", len({word for word, _ in found}), fmt="d")
companion.record("K15.kt_worst", worst, fmt=".9f")
companion.record("K15.kt_separation", apart, fmt=".4f")

# %%
fig, (left, right) = new_figure(1, 2, height=3.1)
fine, grid, pictures = np.linspace(0, 1, 401), np.linspace(0, 1, 21), []
drifts = (np.full(20, 0.6), np.full(20, -0.6), 0.9 * np.cos(2 * np.pi * grid[1:]))
shown = [(grid, np.append(0, np.cumsum(np.clip(d + rng.normal(0, 0.6, 20), -1, 1))) / 20) for d in drifts]
for (t, heights), color, ls in zip(shown, ("blue", "vermillion", "green"), ("-", "-.", (0, (5, 1))), strict=True):
    centre = covering.lipschitz_net(lambda s, t=t, h=heights: np.interp(s, t, h), 0.25)[1](fine)
    left.fill_between(fine, centre - 0.25, centre + 0.25, color=PALETTE[color], alpha=0.12, lw=0)
    left.plot(fine, centre, color=PALETTE[color], ls=":", marker="", lw=2)
    left.plot(t, heights, color=PALETTE[color], ls=ls, marker="")
    pictures.append((np.interp(fine, t, heights), centre))
left.set(xlabel="$t$ (no unit)", ylabel="$f(t)$ and its centre, dotted (no unit)")
_ = left.set_title("$\\varepsilon=1/4$: three paths, their centres", fontweight="normal", fontsize=9)

# %%
eps = 1 / np.linspace(1, 10, 901)
count = np.round(np.exp([covering.covering_bound("lipschitz", e).upper for e in eps])).astype(int)
right.semilogy(1 / eps, count, color=PALETTE["blue"], ls="-", marker="", base=2)
right.plot(np.arange(2, 11), 2.0 ** (np.arange(2, 11) - 1), ls="", marker="o", ms=5, color=PALETTE["vermillion"])
direct_label(right, 1.2, 150, "at $1/\\varepsilon=m$:\n$2^{m-1}$ balls", "vermillion")
right.set(xlabel="$1/\\varepsilon$", ylabel="number of balls $N(\\varepsilon)$ (exact)")
right.set_title("$N(\\varepsilon)=2^{\\lceil1/\\varepsilon\\rceil-1}$", fontweight="normal", fontsize=9)
fig.suptitle("1-Lipschitz paths: each centre is within $\\varepsilon$, and not one can be spared",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "07-covering-paths", badge="exact",
    alt="Left: three random paths on [0, 1], each inside the band of radius 1/4 about its dotted zigzag centre. Right: the "
    "exact number of balls against 1/epsilon, a staircase that doubles after every whole number.",
    data=[{"panel": f"path {j + 1}", "x": x, "path_or_count": f, "centre": c}
          for j, (path, centre) in enumerate(pictures) for x, f, c in zip(fine, path, centre, strict=True)]
    + [{"panel": "count", "x": 1 / e, "path_or_count": float(n), "centre": None} for e, n in zip(eps, count, strict=True)],
)  # fmt: skip

# %% [markdown]
# ## T5.5: composition, and depth (E5.3, E5.4, E5.7)
# The best allocation of one radius to layers of different size, found numerically and in closed form; equal against
# falling deviations; and the entropy of stacks whose blocks are within $i^{-s}$ of the limit block.

# %%
b = np.array([1, 0.5, 0.2, 0.05])
spread = lambda z: np.exp(z) / np.exp(z).sum()  # noqa: E731
found = optimize.minimize(lambda z: np.sum((b / spread(z)) ** 2), np.zeros(4), tol=1e-12)
companion.record("K15.allocation_searched", found.fun, fmt=".6f", badge="theory")
companion.record("K15.allocation", covering.allocate(b, 1.0)[1], fmt=".6f")
layers = np.arange(1.0, 1001)
companion.record("K15.equal_layers", covering.allocate(np.ones(1000), 1.0)[1], fmt=".4g")
companion.record("K15.falling_layers", covering.allocate(layers**-2, 1.0)[1], fmt=".3f")
companion.record("K15.falling_limit", special.zeta(4 / 3) ** 3, fmt=".4f")

# %%
stack = lru_cache(maxsize=None)(covering.stack_entropy)
for name, s, (wide, fine_eps) in (("s2", 2.0, (1e-3, 1e-5)), ("s3", 3.0, (1e-5, 1e-8)), ("s15", 1.5, (0.4, 0.05))):
    slope = math.log(stack(fine_eps, s=s) / stack(wide, s=s)) / math.log(wide / fine_eps)
    companion.record(f"K15.stack_slope_{name}", slope, fmt=".4f", badge="theory")
    share = integrate.quad(lambda u, s=s: math.log1p(2 * (s - 1) * u**-s), 0, 1)[0]
    predicted = share * (2 / ((s - 1) * 1e-6)) ** (1 / (s - 1))
    companion.record(f"K15.stack_constant_{name}", stack(1e-6, s=s) / predicted, fmt=".4f", badge="theory")

# %% [markdown]
# Chaining turns the entropy into a rate in $N$: $N^{-1/2}$ for $s>\frac32$, $N^{-(s-1)}$ below. For additive classes the sum of
# the layers' own complexities, $12c_0\zeta(s)N^{-1/2}$, is smaller: the slow rate belongs to the bound, and perhaps not to the
# stacks.

# %%
samples = np.geomspace(1e4, 1e12, 9)
rates = {}
for name, s in (("s125", 1.25), ("s14", 1.4), ("s15", 1.5), ("s2", 2.0), ("s3", 3.0)):
    rates[s] = np.array([covering.chaining_bound(lambda e, s=s: stack(e, s=s), int(n), special.zeta(s))[0] for n in samples])
    slope = math.log(rates[s][-1] / rates[s][-3]) / math.log(samples[-1] / samples[-3])
    companion.record(f"K15.rate_{name}", slope, fmt=".3f", badge="theory")
additive = 12 * c0 * special.zeta(1.25) / math.sqrt(samples[-1])
companion.record("K15.additive_s125", additive / rates[1.25][-1], fmt=".1e", badge="theory")

# %%
fig, (left, right) = new_figure(1, 2, height=3.5)
styles = {1.25: ("vermillion", "s", "--"), 1.5: ("purple", "D", ":"), 2.0: ("blue", "o", "-"), 3.0: ("green", "^", "-.")}
inverse = np.geomspace(2, 1e5, 12)
for s, (color, marker, ls) in styles.items():
    entropy = np.array([stack(1 / v, s=s) for v in inverse])
    left.loglog(inverse, entropy, color=PALETTE[color], marker=marker, ls=ls)
    right.loglog(samples, rates[s] / rates[s][0], color=PALETTE[color], marker=marker, ls=ls)
for s, at, y in ((1.25, 3, 1e13), (1.5, 15, 5e7), (2.0, 1.2e4, 4e6), (3.0, 800, 2)):
    direct_label(left, at, y, f"$s={s:g}$: {1 / (s - 1):g}", styles[s][0])
for s, at, y, text in (
    (1.25, 3e8, 0.25, "1.25$: $-1/4$"),
    (1.5, 9e9, 0.009, "1.5$:\n$-1/2$, log"),
    (3.0, 2e4, 1e-3, "2, 3$: $-1/2$"),
):
    direct_label(right, at, y, f"$s={text}", styles[s][0])
left.set(xlabel="$1/\\varepsilon$", ylabel="bound of $\\log N(\\varepsilon)$ (nats)")
_ = left.set_title("entropy, with its exponent", fontweight="normal", fontsize=9)

# %%
right.set(xlabel="samples $N$", ylabel="bound of the complexity (share at $10^4$)")
right.set_title("chaining bound, with its slope", fontweight="normal", fontsize=9)
fig.suptitle("Blocks at distance $i^{-s}$: one bound for all depths, of rate $N^{-1/2}$ once $s>3/2$",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "07-covering-stacks", badge="theory",
    alt="Left: metric entropy of stacks of any depth against 1/epsilon, power laws with exponents 4, 2, 1 and one half for s = "
    "1.25, 1.5, 2 and 3. Right: the chaining bound falls like N to the -1/2 for s = 2 and 3, slightly slower for 1.5, and like "
    "N to the -1/4 for 1.25.",
    data=[{"panel": "entropy", "s": s, "x": v, "y": stack(1 / v, s=s)} for s in styles for v in inverse]
    + [{"panel": "rate", "s": s, "x": n, "y": y} for s in styles for n, y in zip(samples, rates[s], strict=True)],
)  # fmt: skip

# %% [markdown]
# ## T5.6: the rate of all 1-Lipschitz functions is that of $W_1$ (E5.5, E5.6)
# On the line, for the uniform law, $\mathbb E\,W_1$ is known exactly for every $N$: de Moivre's mean deviation of a binomial
# variable, integrated. Simulation is compared with it in standard errors.


# %%
def expected_w1(n):
    """E W_1 between the uniform law on [0, 1] and n independent points of it: exact."""
    v = np.arange(1.0, n + 1)
    steps = special.betainc(v + 1, n - v + 2, v / n) - special.betainc(v + 1, n - v + 2, (v - 1) / n)
    return float(np.sum(2 * v * (n - v + 1) / (n * (n + 1) * (n + 2)) * steps))


def w1_to_uniform(u):
    """W_1 between the uniform law and each row of points in [0, 1]: the integral of |F_N - t|, piece by piece."""
    u = np.sort(u, axis=1)
    a = np.arange(u.shape[1]) / u.shape[1]
    e = a + 1 / u.shape[1]
    inside = ((u - a) ** 2 + (e - u) ** 2) / 2
    return np.where((a < u) & (u < e), inside, np.abs(u - (a + e) / 2) / u.shape[1]).sum(axis=1)


# %%
companion.record("K15.w1_constant", math.sqrt(2 / math.pi) * math.pi / 8, fmt=".6f")
for n, draws in ((100, P["draws"]), (1000, P["draws"]), (10_000, P["draws"] // 5)):
    exact = expected_w1(n)
    values = np.concatenate([w1_to_uniform(rng.random((40, n))) for _ in range(draws // 40)])
    z = abs(values.mean() - exact) / (values.std(ddof=1) / math.sqrt(values.size))
    companion.record(f"K15.w1_exact_{n}", math.sqrt(n) * exact, fmt=".6f", badge="theory")
    companion.record(f"K15.w1_seen_{n}", math.sqrt(n) * values.mean(), fmt=".4f", badge="measured", seeds=values.size)
    companion.record(f"K15.w1_z_{n}", z, fmt=".2f", badge="measured", seeds=values.size)

# %% [markdown]
# In $d$ dimensions: two samples of $N$ points and the optimal assignment between them. No $N$ points at all, random or chosen,
# come closer to the uniform law than $\frac d{d+1}(N\omega_d)^{-1/d}$, where $\omega_d$ is the volume of the unit ball. The
# mean distance of two samples is one to two times that of a sample and the law, so the floor holds for it too.

# %%
sizes = np.array([64, 128, 256, 512, 1024])
floor = {d: d / (d + 1) * (sizes * math.pi ** (d / 2) / math.gamma(d / 2 + 1)) ** (-1 / d) for d in (1, 2, 3, 5)}


def assigned(n, d):
    """W_1 between two samples of n points of the unit cube: the optimal assignment."""
    x, y = rng.random((2, n, d))
    if d == 1:
        return np.abs(np.sort(x[:, 0]) - np.sort(y[:, 0])).mean()
    cost = cdist(x, y)
    return cost[optimize.linear_sum_assignment(cost)].mean()


# %%
repeats = {d: [2000 if d == 1 else r for r in P["repeats"]] for d in floor}  # the line is cheap and scatters most
seen = {d: [np.mean([assigned(n, d) for _ in range(r)]) for n, r in zip(sizes, repeats[d], strict=True)] for d in floor}
for d in (3, 5):
    slope = np.polyfit(np.log(sizes), np.log(seen[d]), 1)[0]
    companion.record(f"K15.w1_slope_d{d}", slope, fmt=".3f", badge="measured", seeds=P["repeats"][-1])
    companion.record(f"K15.w1_over_floor_d{d}", min(seen[d] / floor[d]), fmt=".2f", badge="measured", seeds=P["repeats"][-1])
    growth = seen[d][-1] / seen[d][0] * math.sqrt(16)
    companion.record(f"K15.w1_growth_d{d}", growth, fmt=".2f", badge="measured", seeds=P["repeats"][-1])

# %%
fig, ax = new_figure(height=3.6)
for (d, values), color, marker in zip(seen.items(), ("blue", "green", "vermillion", "purple"), "o^sD", strict=True):
    ax.loglog(sizes, values, color=PALETTE[color], marker=marker, ls="-")
    if d > 2:
        ax.loglog(sizes, floor[d], color=PALETTE[color], marker="", ls="--", lw=1.1)
    rate = {1: "$N^{-1/2}$", 2: "$(\\ln N/N)^{1/2}$", 3: "$N^{-1/3}$", 5: "$N^{-1/5}$"}[d]
    direct_label(ax, 1024, values[-1], f"$d={d}$: {rate}", color)
ax.set(xlabel="samples $N$", ylabel="$W_1$ (distance in the cube)", xlim=(58, 2600))
ax.set_xticks(sizes, [str(n) for n in sizes]), ax.minorticks_off()
ax.set_yticks([0.02, 0.05, 0.1, 0.2], ["0.02", "0.05", "0.1", "0.2"]), ax.yaxis.set_minor_formatter("")
ax.set_title("All 1-Lipschitz functions: from three dimensions on,\nthe sample term falls more slowly than $N^{-1/2}$")
companion.save_figure(
    fig, "07-covering-wasserstein", badge="measured",
    alt="Wasserstein distance between two samples against their size on logarithmic axes, in dimensions 1, 2, 3 and 5: the "
    "lines get flatter with the dimension. Dashed below them in dimensions 3 and 5: the floor that no N points can beat.",
    data=[{"d": d, "N": n, "W1": w, "floor": f} for d in seen for n, w, f in zip(sizes, seen[d], floor[d], strict=True)],
)  # fmt: skip

# %% [markdown]
# ## A linear class on the digits (E7)
# $x\mapsto\langle w,x\rangle$ with $\|w\|\le1$; pixels shifted to the range $[-\frac12,\frac12]$, then all divided by the
# largest norm. In the metric of the sample the class is an ellipsoid. Its bracket against three other bounds.

# %%
X = pixels - 0.5
X /= np.linalg.norm(X, axis=1).max()
n, axes_ = len(X), np.linalg.svd(X, compute_uv=False) / math.sqrt(len(X))
for name, eps in (("10", 0.1), ("03", 0.03)):
    exact = covering.covering_bound("linear", eps, X=X, radius=1.0)
    by_sum = min(np.log1p(4 * axes_[:k] / eps).sum() for k in range(1, 64) if axes_[k] <= eps / 2)
    companion.record(f"K15.linear_lower_{name}", exact.lower, fmt=".1f", badge="theory")
    companion.record(f"K15.linear_upper_{name}", exact.upper, fmt=".1f", badge="theory")
    companion.record(f"K15.linear_by_sum_{name}", by_sum, fmt=".1f", badge="theory")
    companion.record(f"K15.linear_parameters_{name}", 64 * math.log1p(2 / eps), fmt=".0f", badge="theory")
    companion.record(f"K15.linear_maurey_{name}", math.ceil(1 / eps**2) * math.log(129), fmt=".0f", badge="theory")

# %% [markdown]
# And its Rademacher complexity: by simulation, by Jensen's inequality, by the best chain of nets, by Dudley's bound.

# %%
ellipsoid = lru_cache(maxsize=None)(lambda e: covering.covering_bound("ellipsoid", e, axes=axes_).upper)
mesh = axes_[0] * np.geomspace(1e-5, 1, 241)
table = np.minimum.accumulate([ellipsoid(e) for e in mesh])


def entropy(e):
    """An upper bound of log N(e): the value at the next smaller radius of the mesh, which N cannot exceed."""
    return float(table[np.searchsorted(mesh, e, side="right") - 1]) if e >= mesh[0] else math.inf if e <= 0 else ellipsoid(e)


simulated = covering.linear_rademacher(X, draws=P["signs"], rng=rng)
jensen = np.linalg.norm(X) / n
dudley = covering.chaining_bound(entropy, n, float(axes_[0]))[0]
chain, nets = covering.best_chain(entropy, n, float(axes_[0]))

# %%
companion.record("K15.rademacher", simulated.value, fmt=".4f", badge="measured", seeds=P["signs"])
companion.record("K15.rademacher_low", simulated.low, fmt=".4f", badge="measured", seeds=P["signs"])
companion.record("K15.rademacher_high", simulated.high, fmt=".4f", badge="measured", seeds=P["signs"])
companion.record("K15.rademacher_share", simulated.value / jensen, fmt=".3f", badge="measured", seeds=P["signs"])
companion.record("K15.jensen", jensen, fmt=".4f", badge="theory")
companion.record("K15.dudley", dudley, fmt=".3f", badge="theory")
companion.record("K15.best_chain", chain, fmt=".3f", badge="theory")
companion.record("K15.dudley_factor", dudley / simulated.value, fmt=".0f", badge="measured", seeds=P["signs"])
companion.record("K15.chain_factor", chain / simulated.value, fmt=".1f", badge="measured", seeds=P["signs"])

# %% [markdown]
# ## Bounds for a trained network
# 64-64-64-10 ReLU networks without biases, full-batch Adam, three seeds and three training sizes; 397 held-out digits.


# %%
def network(s):
    """Two hidden layers of 64 ReLU units, no biases, drawn with seed s."""
    torch.manual_seed(s)
    layers = [torch.nn.Linear(a, b, bias=False) for a, b in ((64, 64), (64, 64), (64, 10))]
    return torch.nn.Sequential(layers[0], torch.nn.ReLU(), layers[1], torch.nn.ReLU(), layers[2])


# %%
def trained(n, s, steps=400):
    """Weights before and after training on n digits; training error, held-out error, margins on the training set, inputs."""
    draw = np.random.default_rng([s, 7])
    order, batches = draw.permutation(len(labels)), draw.integers(n, size=(steps, 64))
    x, y = torch.tensor(pixels[order] - 0.5, dtype=torch.float32), torch.tensor(labels[order])
    net = network(s)
    start = [w.detach().numpy().copy() for w in net.parameters()]
    optimiser = torch.optim.Adam(net.parameters(), lr=3e-3, fused=True)
    for batch in torch.tensor(batches):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x[batch]), y[batch]).backward()
        optimiser.step()
    out, weights = net(x).detach().numpy(), [w.detach().numpy() for w in net.parameters()]
    others = np.where(np.arange(10) == y.numpy()[:, None], -np.inf, out).max(axis=1)
    margins = out[np.arange(len(y)), y.numpy()] - others
    return start, weights, np.mean(margins[:n] <= 0), np.mean(margins[1400:] <= 0), margins[:n], x[:n].numpy()


# %%
rows = []
for n_train, s in itertools.product((100, 400, 1400), range(3)):
    start, weights, error_seen, error_new, margins, x = trained(n_train, s)
    R, size = covering.spectral_complexity(weights, references=start), np.linalg.norm(x)
    tried = [covering.margin_bound(R, data_norm=size, margin=g, n=n_train, width=64, margin_error=float(np.mean(margins < g)))
             for g in np.quantile(margins, np.linspace(0.02, 0.98, 25)) if g > 0]  # fmt: skip
    rows.append({"N": n_train, "seed": s, "train": error_seen, "test": error_new, "gap": error_new - error_seen,
                 "product": covering.spectral_complexity(weights, "product"), "complexity": R,
                 "term": R * size / (np.median(margins) * n_train), "margin_bound": min(tried),
                 "parameters": math.sqrt(32 * 8832 * math.log(2) / (2 * n_train))})  # fmt: skip
    companion.progress(len(rows), 9, "networks")
mean = {(key, size): np.mean([r[key] for r in rows if r["N"] == size]) for key in rows[0] for size in (100, 400, 1400)}

# %%
for size in (100, 400, 1400):
    for key, fmt in (("gap", ".3f"), ("test", ".3f"), ("term", ".1f"), ("margin_bound", ".1f"), ("product", ".0f")):
        companion.record(f"K15.net_{key}_{size}", mean[key, size], fmt=fmt, badge="measured", seeds=3)
    companion.record(f"K15.net_parameters_{size}", mean["parameters", size], fmt=".1f")
least = min(min(r["term"], r["margin_bound"], r["parameters"]) / max(r["gap"], 1e-3) for r in rows)
companion.record("K15.net_least_excess", least, fmt=".0f", badge="measured", seeds=3)
companion.record("K15.net_least_bound", min(min(r["term"], r["margin_bound"], r["parameters"]) for r in rows), fmt=".1f",
                 badge="measured", seeds=3)  # fmt: skip

# %%
of_linear = {"simulated complexity": simulated.value, "Jensen, $\\|X\\|_F/N$": jensen, "best chain": chain, "Dudley": dudley}
of_net = {"true gap": "gap", "margin bound, all constants": "margin_bound", "32 bits per parameter": "parameters",
          "spectral term, no constants": "term"}  # fmt: skip
drawn = [(f"linear class: {text}", "green", [value]) for text, value in of_linear.items()]
for text, key in of_net.items():
    color = "blue" if key == "gap" else "vermillion"
    drawn.append((f"network: {text}", color, [mean[key, size] for size in (100, 400, 1400)]))

# %%
fig, ax = new_figure(height=4.3)
for row, (_, color, values) in enumerate(drawn):
    for value, marker, face in zip(values, "os^", ("white", PALETTE[color], PALETTE[color]), strict=False):
        ax.semilogx(value, row, color=PALETTE[color], marker=marker if len(values) > 1 else "D", ms=7, mfc=face, ls="")
ax.set_xlim(0.01, 200)
ax.axvline(1, color=PALETTE["black"], ls="--", lw=1.2)
direct_label(ax, 1, -0.75, "1 = says nothing", ha="left")
ax.set_yticks(range(len(drawn)), [text for text, _, _ in drawn])
ax.set(xlabel="error or complexity (no unit)\ncircle $N=100$, square $N=400$, triangle $N=1400$", ylim=(len(drawn) - 0.5, -1.2))
_ = fig.suptitle("Digits: every bound for the network exceeds 1,\nand its true gap is near 0.1 or less", x=0.01, ha="left",
                 fontsize=10, fontweight="bold")  # fmt: skip

# %%
companion.save_figure(
    fig, "07-covering-bounds", badge="measured",
    alt="Eight quantities on one logarithmic axis. The simulated complexity of a linear class and Jensen's bound lie near "
    "0.02, the best chain near 0.15, Dudley at 0.4. The true gap of the network lies between 0.02 and 0.2; its margin, "
    "parameter-count and spectral bounds lie between 4 and 100, right of the line 1 where a bound says nothing.",
    data=[{"quantity": text, "N": size if len(values) > 1 else n, "value": value}
          for text, _, values in drawn for size, value in zip((100, 400, 1400), values, strict=False)],
)  # fmt: skip

# %% [markdown]
# ## Intrinsic dimension
# The exponent that a sample shows at its own scale: sets of known dimension, and the digits by three methods. Estimates with
# 95 % intervals, not bounds. What the intervals are worth is counted: 50 independent draws of 500 points of each known set.


# %%
def sphere(n, d):
    x = rng.standard_normal((n, d))
    return x / np.linalg.norm(x, axis=1)[:, None]


def gasket(n):
    corners = np.array([[0, 0], [1, 0], [0.5, math.sqrt(3) / 2]])
    return np.einsum("nkc,k->nc", corners[rng.integers(0, 3, (n, 40))], 2.0 ** -np.arange(1, 41))


known = {"cantor": (math.log(2, 3), lambda n: (2 * rng.integers(0, 2, (n, 30)) @ 3.0 ** -np.arange(1, 31))[:, None]),
         "circle": (1, lambda n: sphere(n, 2)),
         "gasket": (math.log2(3), gasket),
         "sphere": (2, lambda n: sphere(n, 3)), "cube": (3, lambda n: rng.random((n, 3))),
         "gaussian": (5, lambda n: rng.standard_normal((n, 5)) @ rng.standard_normal((5, 20)))}  # fmt: skip

# %%
DRAWS = 50
drawn = {name: (d, [covering.intrinsic_dimension(draw(500)) for _ in range(DRAWS)]) for name, (d, draw) in known.items()}
held = {name: sum(f.low <= d <= f.high for f in found) for name, (d, found) in drawn.items()}
companion.record("K15.dimension_held", sum(held.values()) / (DRAWS * len(held)), fmt=".3f", badge="measured", seeds=DRAWS)
companion.record("K15.dimension_missed", DRAWS * len(held) - sum(held.values()), fmt="d", badge="measured", seeds=DRAWS)
companion.record("K15.dimension_held_worst", min(held.values()), fmt="d", badge="measured", seeds=DRAWS)
for name, (_, found) in drawn.items():
    companion.record(f"K15.dimension_{name}", np.mean([f.value for f in found]), fmt=".2f", badge="measured", seeds=DRAWS)
estimates = {name: (d, found[0]) for name, (d, found) in drawn.items()}  # the first draw, whatever it is
for method in ("two_nn", "mle", "correlation"):
    found = covering.intrinsic_dimension(pixels, method)
    estimates[f"digits, {method}"] = (None, found)
    for end in ("value", "low", "high"):
        companion.record(f"K15.digits_{method}_{end}", getattr(found, end), fmt=".1f")

# %%
fig, ax = new_figure(height=4.1)
names = {"cantor": "Cantor set", "circle": "circle", "gasket": "Sierpinski gasket", "sphere": "sphere in $\mathbb{R}^3$",
         "cube": "cube in $\mathbb{R}^3$", "gaussian": "Gaussian 5-plane in $\mathbb{R}^{20}$",
         "digits, two_nn": "digits, two neighbours",
         "digits, mle": "digits, ten neighbours", "digits, correlation": "digits, correlation"}  # fmt: skip
for row, (name, (truth, found)) in enumerate(estimates.items()):
    color = PALETTE["blue"] if truth else PALETTE["vermillion"]
    ax.plot([found.low, found.high], [row, row], color=color, ls="-", marker="|", ms=9, lw=2)
    ax.plot(found.value, row, color=color, marker="o" if truth else "s", ms=5, ls="")
    if truth:
        ax.plot([truth, truth], [row - 0.42, row + 0.42], color=PALETTE["black"], marker="", ls="-", lw=1.6)
        direct_label(ax, 62, row, f"{held[name]} of {DRAWS} hold", ha="right", xytext=(-6, 0))

# %%
ax.set_yticks(range(len(names)), [names[name] for name in estimates])
ax.set(xscale="log", xlabel="dimension (95 % interval; black line: the truth)", ylim=(len(names) - 0.5, -0.6))
ax.set_xticks([0.5, 1, 2, 3, 5, 10, 20, 64], ["0.5", "1", "2", "3", "5", "10", "20", "64"]), ax.minorticks_off()
ax.axvline(64, color=PALETTE["black"], ls="--", lw=1, zorder=0), ax.set_xlim(0.45, 90)
direct_label(ax, 64, 7, "64 pixels", ha="right", xytext=(-6, 0))
title = "Digits: estimates from 5 to 9 and intervals up to 16, of 64 dimensions;\n"
_ = fig.suptitle(title + "where the truth is known, most intervals hold it", x=0.01, ha="left", fontsize=10, fontweight="bold")

# %%
companion.save_figure(
    fig, "07-covering-dimension", badge="measured",
    alt="Estimated dimension with 95 percent intervals on a logarithmic axis. For the Cantor set, circle, gasket, sphere, cube "
    "and a Gaussian 5-plane the first draw is shown with the share of 50 draws whose interval holds the truth, most of them. "
    "For the digits three methods give between 5 and 9, with long intervals up to 16, far below the 64 pixels.",
    data=[{"set": name, "truth": truth, "estimate": f.value, "low": f.low, "high": f.high, "held": held.get(name)}
          for name, (truth, f) in estimates.items()],
)  # fmt: skip

# %% [markdown]
# ## Where it breaks
# Slope above 1: the path $1.1\,t$ leaves its centre. Distances *at least* $2\varepsilon$ instead of above: two points of
# $\{0,1,2\}$ are packed, one ball covers. $s\le1$: the shifts $x+\sum\theta_i$ with $|\theta_i|\le1/i$ need more balls with
# every layer, without end.

# %%
_, centre = covering.lipschitz_net(lambda t: 1.1 * np.asarray(t), 0.25)
companion.record("K15.steep_escape", (1.1 - float(centre(1.0))) / 0.25, fmt=".2f")
three = [[0.0], [1.0], [2.0]]
companion.record("K15.pack_loose", covering.packing_number(three, 2.0, strict=False).lower, fmt="d")
companion.record("K15.pack_strict", covering.packing_number(three, 2.0).upper, fmt="d")
companion.record("K15.pack_cover", covering.covering_number(three, 1.0).upper, fmt="d")
for depth in (10, 1000, 100_000):
    for name, power in (("harmonic", 1), ("square", 2)):
        width = 2 * np.sum(np.arange(1.0, depth + 1) ** -power)
        count = round(math.exp(covering.covering_bound("interval", 0.5, length=width).upper))
        companion.record(f"K15.balls_{name}_{depth}", count, fmt="d")

# %% [markdown]
# Entropy exponent above 2: in three dimensions $\sqrt N\,W_1$ grows. It is recorded above (`w1_growth_d3`). Blocks that double
# distances: after ten layers, centres that are off by $\varepsilon$ each are off by $1023\,\varepsilon$, not $10\,\varepsilon$.

# %%
state, moved, off = 1.0, 1.0, 2.0**-20
for _ in range(10):
    state, moved = 2 * state, 2 * moved + off
companion.record("K15.doubling_distance", (moved - state) / off, fmt=".0f")

# %% [markdown]
# A cover of a sample is not a cover of the set: of fresh points of the ball, some lie in no ball of a net that covers the
# sample. And a sample runs out: in six dimensions at $\varepsilon=\frac14$ the count follows the size of the sample.

# %%
for d in (2, 6):
    order = covering.greedy_order(cloud[d][:1000], k=200)
    fresh = cdist(ball(20_000, d), cloud[d][order.indices]).min(axis=1)
    companion.record(f"K15.escaped_d{d}", np.mean(fresh > order.cover[-1]), fmt=".3f", badge="measured", seeds=1)
nets = [np.searchsorted(-covering.greedy_order(cloud[6][:m], k=min(m, 9000)).cover, -0.25) + 1 for m in (5_000, 20_000)]
companion.record("K15.saturated_5000", int(nets[0]), fmt="d", badge="measured", seeds=1)
companion.record("K15.saturated_20000", int(nets[1]), fmt="d", badge="measured", seeds=1)
