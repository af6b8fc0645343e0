# %% [markdown]
# # Lipschitz operators: which number is intrinsic
# The Lipschitz constant of a map depends on the norm; its asymptotic radius does not, and this notebook computes both.
# The statements and proofs are in the [chapter](../../book/01-lipschitz.md).

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import numpy as np

from limitlib import companion
from limitlib.bounds import WholeSpace
from limitlib.companion import PALETTE, direct_label
from limitlib.iteration import asymptotic_lipschitz_radius
from limitlib.lipschitz import (
    ConvexPotentialLayer,
    adapted_distance,
    adapted_factor,
    averaged_composition,
    dahlquist_constant,
    separated_set,
)

# %%
P = companion.profile(
    profile,
    smoke=dict(samples=2_000, norms=2_000, grid=121, circle=20_011, cloud=300),
    cpu=dict(samples=100_000, norms=4_000, grid=721, circle=101_761, cloud=700),
)
rng = np.random.default_rng(seed)

# %% [markdown]
# ## One matrix, three norms (E1.1, theorem T1.1)
# A norm $x\mapsto\|Sx\|_2$ gives the matrix $A$ the operator norm $\|SAS^{-1}\|_2$. Three choices of $S$ follow: the
# plain Euclidean norm, one that stretches the first axis, and one that shrinks it. What comes out: three very different
# Lipschitz constants, and roots $\|A^n\|^{1/n}$ that all tend to the spectral radius.

# %%
A = np.array([[0.9, 5.0], [0.0, 0.8]])
scales = {"plain": 1.0, "similar": 5.0, "adapted": 0.01}
steps = np.arange(1, 1001)


def in_norm(scale):
    """The matrix of A in the coordinates Sx, S = diag(scale, 1): its Euclidean norm is the operator norm for |Sx|."""
    S = np.diag([scale, 1.0])
    return S @ A @ np.linalg.inv(S)

# %%
def root_norms(B):
    """|B^n|^(1/n) for n = 1, ..., 1000."""
    power, roots = np.eye(2), []
    for n in steps:
        power = B @ power
        roots.append(np.linalg.norm(power, 2) ** (1 / n))
    return np.array(roots)


roots = {name: root_norms(in_norm(scale)) for name, scale in scales.items()}

# %% [markdown]
# The last root in each norm is an upper bound of the radius, because the radius is the infimum of all roots. The kernel
# brackets the radius from both sides. It also tries the norm of a computed eigenbasis, which is adapted to the matrix.

# %%
radius = asymptotic_lipschitz_radius(A, WholeSpace(), n=1000, rng=rng)
for name in scales:
    companion.record(f"K1.lip_{name}", roots[name][0])
    companion.record(f"K1.radius_{name}", roots[name][-1])
companion.record("K1.radius_lower", radius.lower)
companion.record("K1.radius_upper", radius.upper)

# %% [markdown]
# The figure shows the first root, which is the Lipschitz constant itself, and how the memory of the norm fades with
# $n$.

# %%
fig, ax = companion.new_figure(height=3.3)
looks = {"plain": ("blue", "o"), "similar": ("vermillion", "s"), "adapted": ("green", "^")}
for name, (colour, marker) in looks.items():
    ax.loglog(steps, roots[name], color=PALETTE[colour], marker=marker, ls="-", markevery=[0, 2, 9, 31, 99, 315, 999])
direct_label(ax, 1, roots["similar"][0], f"first axis × 5: Lip(T) = {roots['similar'][0]:.3g}", "vermillion", xytext=(14, 2))
direct_label(ax, 1, 1.2, f"Euclidean norm: Lip(T) = {roots['plain'][0]:.3g}", "blue", xytext=(-2, 0))
direct_label(ax, 1, 0.72, f"first axis × 0.01: Lip(T) = {roots['adapted'][0]:.3g}", "green", xytext=(-2, 0))
direct_label(ax, 1000, 0.72, "spectral radius 0.9", xytext=(0, 0), ha="right")
ax.axhline(0.9, color=PALETTE["black"], ls="--", marker="", lw=1.2)
ax.set(xlabel="number of repetitions n", ylabel=r"$\mathrm{Lip}(T^n)^{1/n}$ (no unit)", ylim=(0.6, 40), xlim=(0.85, 1300))
ax.set_yticks([0.9, 2, 5, 10, 20], ["0.9", "2", "5", "10", "20"], minor=False)
ax.yaxis.minorticks_off()
ax.set_title("The Lipschitz constant belongs to the norm, the radius to the map")
alt = "Three curves of Lip(T^n)^(1/n) start at 25, 5.1 and 0.91, one for each norm, and all tend to the dashed line at 0.9."
companion.save_figure(fig, "01-lipschitz-radius", alt=alt, data={"n": steps, **roots}, badge="exact")

# %% [markdown]
# ## The Jordan block: radius one is not nonexpansive (theorem T1.3)
# All powers of $\begin{pmatrix}1&1\\0&1\end{pmatrix}$ have radius one, and their norms grow like $n$. No
# Lipschitz-equivalent metric makes this map nonexpansive.

# %%
J100, J1000 = (np.linalg.norm(np.linalg.matrix_power([[1.0, 1.0], [0.0, 1.0]], n), 2) for n in (100, 1000))
companion.record("K1.jordan_norm_100", J100, fmt=".2f")
companion.record("K1.jordan_root_1000", J1000 ** (1 / 1000))

# %% [markdown]
# ## Remetrisation, and why a norm is not enough (E1.2, theorem T1.2, counterexample C1.2)
# The map below is piecewise linear on the plane. Its third power is constant. At $(0, 2)$ its derivative has the
# eigenvalues $\pm2$.


# %%
def T(points):
    x, y = points[:, 0], points[:, 1]
    f = 2 * np.sign(y) * np.maximum(np.abs(y) - 1, 0)
    g = 2 * np.clip(x, -0.5, 0.5)
    return np.column_stack([f, g])


cloud = rng.uniform(-5, 5, (P["samples"], 2))
companion.record("K2.cube_range", float(np.abs(T(T(T(cloud)))).max()))
derivative = np.column_stack([(T(np.array([[0, 2]]) + h) - T(np.array([[0, 2]]) - h))[0] / 2e-3 for h in 1e-3 * np.eye(2)])
eigenvalues = np.sort(np.linalg.eigvals(derivative).real)
companion.record("K2.eigenvalue_low", eigenvalues[0])
companion.record("K2.eigenvalue_high", eigenvalues[1])

# %% [markdown]
# The adapted distance $d_r(x,y)=\|x-y\|+r^{-1}\|Tx-Ty\|+r^{-2}\|T^2x-T^2y\|$ has only three terms, since $T^3$ is
# constant. We look for the worst pair: random pairs, and pairs on the vertical axis where both steep pieces are met in
# turn. The worst pair attains the factor of the theorem.

# %%
r = 0.1
start = cloud[: len(cloud) // 2], cloud[len(cloud) // 2 : 2 * (len(cloud) // 2)]
heights = rng.uniform(1, 1.25, (2, 1000))
vertical = [np.column_stack([np.zeros(1000), h]) for h in heights]
d_r = adapted_distance(T, r, terms=3)
ratios = [d_r(T(x), T(y)) / d_r(x, y) for x, y in (start, vertical)]
companion.record("K2.metric_factor", max(q.max() for q in ratios), fmt=".7f")
companion.record("K2.metric_factor_theory", adapted_factor(r, [1, 2, 4]), fmt=".7f", badge="theory")
companion.record("K2.metric_factor_random", ratios[0].max(), badge="measured")

# %% [markdown]
# No norm can do this. For norms $x\mapsto\|Sx\|_2$ the constant is the largest of four matrix norms, one for each
# linear piece. It never falls below two, whatever $S$ is, and the best of many random $S$ comes close to two. The figure
# shows the first four hundred.

# %%
pieces = [np.array([[0.0, a], [b, 0.0]]) for a in (0, 2) for b in (0, 2)]
angle, stretch = rng.uniform(0, np.pi, P["norms"]), 10 ** rng.uniform(-2, 2, P["norms"])
S = np.array([[np.cos(angle), np.sin(angle)], [-stretch * np.sin(angle), stretch * np.cos(angle)]]).transpose(2, 0, 1)
in_norms = np.max([np.linalg.norm(S @ D @ np.linalg.inv(S), 2, axis=(1, 2)) for D in pieces], axis=0)
companion.record("K2.best_norm", in_norms.min(), badge="measured")

# %%
images = [rng.uniform(-3, 3, (P["cloud"], 2))]
for _ in range(3):
    images.append(T(images[-1]))
rows = [{"panel": "orbit", "n": n, "x": x, "y": y} for n, image in enumerate(images) for x, y in image]
rows += [{"panel": "norm", "n": None, "x": a, "y": b} for a, b in zip(stretch[:400], in_norms[:400], strict=True)]
rows += [{"panel": "adapted distance", "n": None, "x": None, "y": adapted_factor(r, [1, 2, 4])}]
alt = """Left: a square cloud of points is mapped to a horizontal band, then to a vertical segment, then to the
origin. Right: the Lipschitz constant of the same map is at least 2 in every one of the random norms, and 0.0998 in
the adapted distance."""

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.5)
looks = (("start", "sky", "o", 5, -2.9, 3.35), ("T", "blue", "^", 9, 3.1, 1.4), ("T²", "vermillion", "s", 14, -0.75, 0.45))
for image, (text, colour, marker, size, x, y) in zip(images, (*looks, ("T³ = 0", "black", "X", 60, 0.35, 0.0)), strict=True):
    left.scatter(*image.T, s=size, color=PALETTE[colour], marker=marker, lw=0, zorder=2.5)
    direct_label(left, x, y, text, colour, xytext=(0, 0), fontweight="bold")
left.set(xlabel="first coordinate", ylabel="second coordinate", xlim=(-4.4, 4.4), ylim=(-3.7, 3.7), aspect="equal")
left.set_title("Three steps and all is gone")
right.loglog(stretch[:400], in_norms[:400], ls="", marker="o", ms=3, color=PALETTE["vermillion"])
right.axhline(2, color=PALETTE["black"], ls="--", marker="", lw=1.2)
right.axhline(adapted_factor(r, [1, 2, 4]), color=PALETTE["blue"], ls="-", marker="", lw=1.6)
direct_label(right, 0.012, 2, "eigenvalue 2: floor of every norm", "black", xytext=(0, -8))
direct_label(right, 0.012, 0.1, "adapted distance, r = 0.1", "blue", xytext=(0, 9))
direct_label(right, 0.012, 300, "norms ‖Sx‖, random S", "vermillion", xytext=(0, 0))
right.set(xlabel="ratio of the two stretches in S", ylabel="Lipschitz constant of T (no unit)", ylim=(0.05, 600))
right.set_title("A metric contracts, no norm does")
companion.save_figure(fig, "01-lipschitz-metric-not-norm", alt=alt, data=rows, badge="exact")

# %% [markdown]
# For a linear map the adapted distance does come from a norm. The matrix $A$ of the first section becomes a contraction
# in it. A dense circle of directions stands for the supremum, and the factor of the theorem bounds it from above.

# %%
rate, terms = 0.95, 900
turn = np.linspace(0, np.pi, P["grid"])
directions = np.column_stack([np.cos(turn), np.sin(turn)])
d_linear = adapted_distance(lambda x: x @ A.T, rate, terms)
zero = np.zeros_like(directions)
factors = d_linear(directions @ A.T, zero) / d_linear(directions, zero)
companion.record("K2.linear_factor", float(factors.max()), badge="theory")
companion.record("K2.linear_factor_theory", adapted_factor(rate, [1, *(roots["plain"] ** steps)[: terms - 1]]), badge="theory")

# %% [markdown]
# ### Break: a metric that is only topologically equivalent
# The map $x\mapsto x/\sqrt{1+2x^2}$ has radius one. In the distance $|\varphi(x)-\varphi(y)|$,
# $\varphi(x)=\mathrm{sign}(x)\,e^{-1/(2x^2)}$, it is a strict contraction. The distance induces the same topology and
# is not Lipschitz-equivalent: the invariance of the radius needs that word.


# %%
def slow(x):
    return x / np.sqrt(1 + 2 * x**2)


def phi(x):
    return np.sign(x) * np.exp(-1 / (2 * x**2))


x, y = rng.uniform(0.3, 4, (2, P["samples"])) * rng.choice([-1, 1], (2, P["samples"]))
kept = np.abs(phi(x) - phi(y)) > 1e-6
contraction = (np.abs(phi(slow(x)) - phi(slow(y))) / np.abs(phi(x) - phi(y)))[kept]
companion.record("K2.topological_low", contraction.min(), fmt=".6f")
companion.record("K2.topological_high", contraction.max(), fmt=".6f")
h = 1e-6
slope = h
for _ in range(1000):
    slope = slow(slope)
companion.record("K2.topological_root", (slope / h) ** (1 / 1000), fmt=".6f")

# %% [markdown]
# ## The Dahlquist constant (E1.3, theorem T1.4)
# The difference quotient $(\|I+hA\|-1)/h$ falls to the largest eigenvalue of the symmetric part as $h$ falls. It never
# goes below.

# %%
B = rng.standard_normal((5, 5))
mu = dahlquist_constant(B)
h = 10.0 ** -np.arange(7)
quotient = np.array([(np.linalg.norm(np.eye(5) + s * B, 2) - 1) / s for s in h])
companion.record("K9.dahlquist_gap", float(abs(quotient[-1] - mu)), badge="measured")
falling = np.all(np.diff(quotient) < 0) and quotient[-1] >= mu - 1e-9
companion.record("K9.dahlquist_monotone", falling, badge="measured")
companion.record("K9.dahlquist_gap_first", float(quotient[0] - mu), badge="measured")

# %% [markdown]
# ## Residual steps (E1.4 to E1.6, theorem T1.5)
# A convex potential layer $x-hW^\top\sigma(Wx+b)$ with gain $c=h\|W\|^2$. Random pairs give a lower bound of its
# Lipschitz constant. Two directed pairs attain it: one where all units are off (slope one), one along the top singular
# direction where all are on.

# %%
d = 8
W, b = rng.standard_normal((d, d)), rng.standard_normal(d)
top = np.linalg.svd(W)[2][0]
on, off = (np.linalg.solve(W, level - b) for level in (10.0, -10.0))
pair_x = rng.standard_normal((P["samples"], d)) * 3
pair_y = pair_x + rng.standard_normal((P["samples"], d)) * 10 ** rng.uniform(-3, 1, (P["samples"], 1))


def layer(c):
    return ConvexPotentialLayer(W, b, c / np.linalg.norm(W, 2) ** 2)

# %%
def ratio(T, x, y):
    return float(np.max(np.linalg.norm(T(x) - T(y), axis=-1) / np.linalg.norm(x - y, axis=-1)))


directed = np.array([on, off]), np.array([on, off]) + 0.5 * top / np.linalg.norm(W, 2)
gains = {"05": 0.5, "1": 1.0, "19": 1.9, "2": 2.0, "22": 2.2}
random_pairs = {k: ratio(layer(c), pair_x, pair_y) for k, c in gains.items()}
lipschitz = {k: max(random_pairs[k], ratio(layer(c), *directed)) for k, c in gains.items()}
for k in gains:
    companion.record(f"K9.layer_lip_c{k}", lipschitz[k], fmt=".4f")
companion.record("K9.layer_random_c22", random_pairs["22"], fmt=".4f", badge="measured")

# %% [markdown]
# For $c<2$ the layer is averaged with $\alpha=c/2$. The largest violation of the averaged inequality over all pairs is
# rounding, and the control with a constant ten per cent smaller is violated.


# %%
def averaged_defect(T, alpha, x, y):
    """Largest |Tx-Ty|^2 - |x-y|^2 + (1-a)/a |(x-Tx)-(y-Ty)|^2, in units of |x-y|^2: at most 0 iff T is a-averaged there."""
    step, image = x - y, T(x) - T(y)
    size = (step**2).sum(-1)
    return float(np.max(((image**2).sum(-1) + (1 - alpha) / alpha * ((step - image) ** 2).sum(-1)) / size - 1))


x, y = (np.concatenate(pair) for pair in zip((pair_x, pair_y), directed, strict=True))
defects = [averaged_defect(layer(c), layer(c).averagedness, x, y) for c in (0.5, 1.0, 1.9)]
companion.record("K9.averaged_defect", max(defects), fmt=".1g")
companion.record("K9.averaged_control", averaged_defect(layer(1.0), 0.45, x, y))

# %% [markdown]
# ### Break: monotone is not enough (E1.5)
# The rotation generator $J$ has Dahlquist constant zero. Its explicit step expands for every positive $h$.

# %%
J = np.array([[0.0, -1.0], [1.0, 0.0]])
companion.record("K9.rotation_mu", dahlquist_constant(J))
for key, h in (("01", 0.1), ("05", 0.5), ("1", 1.0)):
    companion.record(f"K9.rotation_step_{key}", np.linalg.norm(np.eye(2) + h * J, 2), fmt=".6f")

# %%
steps_h, sweep = np.linspace(0, 2.4, 97), np.linspace(0.2, 3, 29)
fields = {"rotation J": J, "gradient step, L = 1": -np.diag([1.0, 0.2]), "J − ½ I": J - 0.5 * np.eye(2)}
curves = {k: [np.linalg.norm(np.eye(2) + h * F, 2) for h in steps_h] for k, F in fields.items()}
layers = {"upper": [layer(c).upper for c in sweep]}
layers["random pairs"] = [ratio(layer(c), pair_x, pair_y) for c in sweep]
layers["attained"] = [max(ratio(layer(c), *directed), q) for c, q in zip(sweep, layers["random pairs"], strict=True)]
rows = [{"panel": "step", "x": x, "curve": k, "value": v} for k in curves for x, v in zip(steps_h, curves[k], strict=True)]
rows += [{"panel": "layer", "x": x, "curve": k, "value": v} for k in layers for x, v in zip(sweep, layers[k], strict=True)]
alt = """Left: the norm of I + hF exceeds one at every step h for the rotation generator; it is at most one up to h =
2 for a gradient, and up to h = 0.8 for J minus half the identity. Right: the Lipschitz constant of this convex
potential layer is one up to gain 2 and the gain minus one beyond; directed pairs attain it, random pairs stay below."""

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.4)
looks = (("vermillion", "s", 0.3, 1.68), ("blue", "o", 1.05, 0.58), ("green", "^", 1.75, 1.48))
for (text, curve), (colour, marker, x, y) in zip(curves.items(), looks, strict=True):
    left.plot(steps_h, curve, color=PALETTE[colour], marker=marker, ls="-", markevery=16)
    direct_label(left, x, y, text, colour, xytext=(0, 0))
left.axhline(1, color=PALETTE["black"], ls="--", marker="", lw=1.2)
left.set(xlabel="step h (no unit)", ylabel=r"$\|I+hF\|$ (no unit)", ylim=(0.4, 2.7), xlim=(0, 2.45))
left.set_title("Monotone is not enough: the\nrotation expands at every step")
right.plot(sweep, layers["upper"], color=PALETTE["black"], ls="--", marker="", lw=1.4, zorder=4)
right.plot(sweep, layers["attained"], color=PALETTE["blue"], ls="", marker="o")
right.plot(sweep, layers["random pairs"], color=PALETTE["vermillion"], ls="-", marker="s", ms=3.5)
direct_label(right, 2.1, 1.8, "upper bound\nmax(1, c − 1)", "black", xytext=(-8, 0), ha="right")
direct_label(right, 0.2, 1.0, "attained by directed pairs", "blue", xytext=(0, 9))
direct_label(right, 2.15, 0.9, "random pairs", "vermillion", xytext=(0, 0))
right.set(xlabel=r"gain $c=h\,\|W\|^2$ (no unit)", ylabel="Lipschitz constant (no unit)", ylim=(0.6, 2.1))
right.set_title("This convex potential layer is\nnonexpansive exactly up to c = 2")
companion.save_figure(fig, "01-lipschitz-residual-step", alt=alt, data=rows, badge="exact")

# %% [markdown]
# Products of averaged maps (E1.6). In the plane a rotation average is multiplication by $z=1-\alpha+\alpha
# e^{i\theta}$, and the smallest averagedness constant of multiplication by $z$ is $|1-z|^2/(2\,\mathrm{Re}(1-z))$. The
# grid over two angles stays below the known constant; small angles in the worst proportion approach it.

# %%
alpha, beta = 0.3, 0.6


def averagedness(theta, eta):
    z = (1 - alpha + alpha * np.exp(1j * theta)) * (1 - beta + beta * np.exp(1j * eta))
    return np.abs(1 - z) ** 2 / (2 * np.real(1 - z))


grid = np.linspace(-np.pi, np.pi, P["grid"] + 1)[1:] + 1e-9
companion.record("K9.averaged_grid", float(averagedness(grid[:, None], grid).max()), fmt=".6f", badge="theory")
worst = np.linalg.solve([[alpha, alpha * beta], [alpha * beta, beta]], [alpha, beta])
companion.record("K9.averaged_limit", float(averagedness(*(1e-3 * worst))), fmt=".6f")
companion.record("K9.averaged_theory", averaged_composition(alpha, beta), fmt=".6f", badge="theory")

# %% [markdown]
# ## No chaos at radius one (E1.7, theorem T1.7)
# Count points whose orbits become more than one tenth apart within $n$ steps, on a circle of length one. For the
# rotation, an isometry, the count cannot change; its row checks the counter. In oblique coordinates the same rotation has
# a Lipschitz constant well above one, and its count rises at first but stays bounded. The doubling map has radius two.

# %%
points = np.arange(P["circle"])
times = np.arange(1, 7)
golden = (np.sqrt(5) - 1) / 2


def around(a, b):
    gap = np.abs(a - b) % 1
    return np.minimum(gap, 1 - gap)


def flat(a, b):
    return np.hypot(*np.moveaxis(a - b, -1, 0))


turns = np.array([(points / len(points) + k * golden) % 1 for k in range(6)])
oblique = np.stack([np.cos(2 * np.pi * turns), np.sin(2 * np.pi * turns) / 4], axis=-1) / (2 * np.pi)
doubled = np.array([points * 2**k % len(points) / len(points) for k in range(6)])
orbits = {"rotation": (turns, around), "oblique": (oblique, flat), "doubling": (doubled, around)}
counts = {name: [len(separated_set(o[:n], 0.1, distance)) for n in times] for name, (o, distance) in orbits.items()}

# %% [markdown]
# The exact count of the doubling map is $10\cdot2^{n-1}-1$: neighbours must be more than $0.1\cdot2^{-(n-1)}$ apart,
# and a circle of length one has room for one fewer than the quotient. The growth rate is the mean slope between the first
# and the last count.

# %%
cos, sin = np.cos(2 * np.pi * golden), np.sin(2 * np.pi * golden)
oblique_lip = np.linalg.norm([[cos, -4 * sin], [sin / 4, cos]], 2)
companion.record("K3.rotation_first", counts["rotation"][0])
companion.record("K3.rotation_last", counts["rotation"][-1])
companion.record("K3.oblique_lip", oblique_lip)
companion.record("K3.oblique_first", counts["oblique"][0])
companion.record("K3.oblique_last", counts["oblique"][-1])
companion.record("K3.doubling_last", counts["doubling"][-1])
for name in ("rotation", "doubling"):
    companion.record(f"K3.{name}_growth", np.log(counts[name][-1] / counts[name][0]) / (times[-1] - times[0]), fmt=".3f")

# %%
fig, ax = companion.new_figure(height=3.2)
for name, colour, marker in (("doubling", "vermillion", "s"), ("rotation", "blue", "o"), ("oblique", "green", "^")):
    ax.semilogy(times, counts[name], color=PALETTE[colour], marker=marker, ls="" if name == "doubling" else "-")
doubling = 10 * 2 ** (times - 1) - 1
ax.semilogy(times, doubling, color=PALETTE["black"], ls="--", marker="", lw=1.2)
direct_label(ax, 4, 79, "doubling map: Lip = ρ = 2", "vermillion", xytext=(-8, 8), ha="right")
direct_label(ax, 5, 159, r"$10\cdot2^{n-1}-1$, slope ln 2", "black", xytext=(8, -6))
direct_label(ax, 3, 9, "rotation: Lip = ρ = 1", "blue", xytext=(0, 9))
direct_label(ax, 3, 9, f"rotation in oblique coordinates: ρ = 1, Lip = {oblique_lip:.3g}", "green", xytext=(0, -10))
ax.set(xlabel="number of steps n", ylabel="points more than 0.1 apart\nwithin n steps", ylim=(3.5, 600), xlim=(0.8, 6.6))
ax.set_title("Orbits can multiply only when the radius exceeds one")
alt = f"""The number of distinguishable orbits stays at {counts["rotation"][-1]} for the rotation, rises from
{counts["oblique"][0]} to {counts["oblique"][-1]} for the rotation in oblique coordinates, and doubles with every step for the
doubling map."""
companion.save_figure(fig, "01-lipschitz-entropy", alt=alt, data={"n": times, **counts, "exact": doubling}, badge="exact")

# %% [markdown]
# ## Layers of a transformer (E1.8, theorem T1.8)
# Self-attention on the three scalar tokens $(0,t,-t)$: the derivative of the first output in the first input, by
# central differences, against the closed form $1/3+2t^2/3$. Then LayerNorm: its steepest slope at distance $q$ (root
# mean square) from the constant vectors.


# %%
def attention(tokens):
    """Dot-product self-attention with unit weights on tokens of shape (count, width)."""
    scores = tokens @ tokens.T
    weights = np.exp(scores - scores.max(axis=1, keepdims=True))
    return weights @ tokens / weights.sum(axis=1, keepdims=True)


def attention_slope(t):
    """Derivative of the first output in the first input at the scalar tokens (0, t, -t), by central differences."""
    tokens, h = np.array([[0.0], [t], [-t]]), 1e-4 / t
    step = np.array([[h], [0.0], [0.0]])
    return (attention(tokens + step) - attention(tokens - step))[0, 0] / (2 * h)


for t in (1, 3, 10, 30):
    companion.record(f"K9.attention_t{t}", attention_slope(float(t)), fmt=".2f", badge="theory")

# %%
eps = 1e-5


def layer_norm(x):
    centred = x - x.mean(axis=-1, keepdims=True)
    return centred / np.sqrt((centred**2).mean(axis=-1, keepdims=True) + eps)


def norm_slope(q, size=8):
    """Steepest slope at root mean square q from the constant vectors: across the deviation, by central differences."""
    deviation, across = np.zeros(size), np.zeros(size)
    deviation[:2], across[2:4] = (q * np.sqrt(size / 2), -q * np.sqrt(size / 2)), (1e-7, -1e-7)
    step = layer_norm(1 + deviation + across) - layer_norm(1 + deviation - across)
    return np.linalg.norm(step) / (2 * np.linalg.norm(across))


companion.record("K9.layernorm_slope", norm_slope(0.0), fmt=".2f", badge="theory")
companion.record("K9.layernorm_slope_unit", norm_slope(1.0), badge="theory")

# %% [markdown]
# In a pre-normalised block $x+\mathrm{Attn}(\mathrm{LN}(x))$ attention sees only the bounded output of LayerNorm. The
# constant of the block is finite, and still far above one: moving all tokens together near a constant vector shows it.

# %%
together = np.zeros((3, 8))
together[:, :2] = 1e-7, -1e-7
ahead, behind = (x + attention(layer_norm(x)) for x in (1 + together, 1 - together))
slope = np.linalg.norm(ahead - behind) / (2 * np.linalg.norm(together))
companion.record("K9.pre_norm_slope", slope, fmt=".2f", badge="theory")

# %%
t, q = np.geomspace(0.3, 100, 14), np.geomspace(1e-4, 10, 20)
slopes, norm_slopes = [attention_slope(size) for size in t], [norm_slope(distance) for distance in q]
closed, norm_closed = 1 / 3 + 2 * t**2 / 3, 1 / np.sqrt(q**2 + eps)
rows = [{"layer": "attention", "x": x, "slope": y, "theory": z} for x, y, z in zip(t, slopes, closed, strict=True)]
rows += [{"layer": "layernorm", "x": x, "slope": y, "theory": z} for x, y, z in zip(q, norm_slopes, norm_closed, strict=True)]
alt = """Left: the slope of self-attention grows like two thirds of the squared token size and passes one at size one.
Right: the steepest slope of LayerNorm is 316 at constant vectors and falls like one over the distance from them."""

# %%
fig, (left, right) = companion.new_figure(1, 2, height=3.2)
for ax, x, y, theory, colour, marker in (
    (left, t, slopes, closed, "vermillion", "s"),
    (right, q, norm_slopes, norm_closed, "blue", "o"),
):
    ax.loglog(x, theory, color=PALETTE["black"], ls="--", marker="", lw=1.2)
    ax.loglog(x, y, color=PALETTE[colour], ls="", marker=marker)
    ax.axhline(1, color=PALETTE["black"], ls=":", marker="", lw=1.2)
direct_label(left, 10, 67, r"$\frac{1}{3}+\frac{2}{3}t^2$", "black", xytext=(-10, 10), ha="right", fontsize=10)
direct_label(left, 100, 1, "nonexpansive: at most 1", "black", xytext=(0, -8), ha="right")
left.set(xlabel="token size t (no unit)", ylabel="slope of the first output (no unit)")
left.set_title("Attention has no global\nLipschitz constant")
direct_label(right, 1e-4, 316.2, r"$1/\sqrt{\varepsilon}$ at constant vectors", "blue", xytext=(4, 12))
right.set(xlabel="distance q from constant vectors (rms)", ylabel="steepest slope (no unit)", ylim=(0.06, 900))
right.set_title("LayerNorm is steepest near\nconstant vectors")
companion.save_figure(fig, "01-lipschitz-attention", alt=alt, data=rows, badge="theory")

# %% [markdown]
# ## What a finite network can say about condensing (E1.9, theorem T1.6)
# Cover a cloud with $k$ balls centred at its own points, chosen greedily, and look at the radius; then take the images
# of the points and of the same centres. A layer $\tanh\circ W$ with $\|W\|=1$ cannot increase the radius. The map
# $x\mapsto10x$ is condensing by definition, as every continuous map on $\mathbb R^d$ is, and multiplies the radius by
# ten; that row checks the routine. For a wide Gaussian $W$ with $\|W\|=1$ the entries of $Wx$ have standard deviation one
# half, so the layer should shrink typical distances to about $\sqrt{\mathbb E\tanh^2(g/2)}\approx0.42$ of themselves.


# %%
def greedy_radii(points, maps, k):
    """Covering radii of the first 1..k greedy centres of the points, and of the same centres under each map."""
    images = [points, *(f(points) for f in maps)]
    nearest = [np.full(len(points), np.inf) for _ in images]
    centre, radii = 0, []
    for _ in range(k):
        for near, image in zip(nearest, images, strict=True):
            np.minimum(near, np.linalg.norm(image - image[centre], axis=1), out=near)
        centre = int(np.argmax(nearest[0]))
        radii.append([near.max() for near in nearest])
    return np.array(radii).T


V = rng.standard_normal((16, 16))
V /= np.linalg.norm(V, 2)
before, after, tenfold = greedy_radii(rng.standard_normal((2000, 16)), [lambda x: np.tanh(x @ V.T), lambda x: 10 * x], 200)
for k in (10, 30, 100):
    companion.record(f"K4.ratio_k{k}", after[k - 1] / before[k - 1], fmt=".3f", badge="measured")
companion.record("K4.ratio_worst", float(np.max(after / before)), badge="measured")
companion.record("K4.ratio_tenfold", float(np.max(tenfold / before)))

# %%
fig, ax = companion.new_figure(height=3.1)
k = np.arange(1, 201)
for radii, colour, marker, text in (
    (tenfold, "vermillion", "s", "after x → 10x (condensing too)"),
    (before, "black", "o", "before"),
    (after, "blue", "^", "after tanh∘W, ‖W‖ = 1"),
):
    ax.loglog(k, radii, color=PALETTE[colour], marker=marker, ls="-", markevery=[0, 2, 9, 29, 99, 199])
    direct_label(ax, 10, radii[9], text, colour, xytext=(6, 9))
ax.set(xlabel="number of balls k", ylabel="covering radius (no unit)", ylim=(0.8, 160))
ax.set_title("On a finite-dimensional space every continuous map is condensing;\nonly the radii at finite k carry information")
alt = """Covering radius against number of balls: the layer tanh of W lowers it at every k, the map ten times x raises
it tenfold at every k, yet both are condensing in the sense of the definition."""
data = {"k": k, "before": before, "after_tanh": after, "after_tenfold": tenfold}
companion.save_figure(fig, "01-lipschitz-condensing", alt=alt, data=data, badge="measured")
