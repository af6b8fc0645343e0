# %% [markdown]
# # Rates at criticality
# At Lipschitz constant 1 no exponential rate is available. What replaces it: every rate, witness and closed form of the
# [chapter](../../book/08-critical-rates.md), run.

# %% tags=["parameters"]
profile = "cpu"
seed = 0

# %%
import math

import numpy as np
from scipy.special import gamma
from sklearn.datasets import load_digits

from limitlib import companion
from limitlib.companion import PALETTE, direct_label, new_figure
from limitlib.iteration import iterate, residual_bound, rotation_residual, shift_residual
from limitlib.performance import PowerLawMass, PowerLawModel, SpectralMeasure

# %%
P = companion.profile(profile, smoke=dict(maps=20, angles=100_000), cpu=dict(maps=100, angles=200_000), gpu=dict())
rng = np.random.default_rng(seed)


def log_slope(error, low, high):
    """Slope -d ln E / d ln K between two numbers of steps."""
    return -np.log(error(high) / error(low)) / np.log(high / low)


def decades_only(*panels):
    """Ticks at whole powers of ten, none between: quicker to draw and to read."""
    for panel in panels:
        panel.minorticks_off()


# %% [markdown]
# ## Averaged iterations: the worst rotation (E6.1)
# $T=\frac12(I+R_\theta)=\cos\frac\theta2\,R_{\theta/2}$. The largest $\|T^nx-T^{n+1}x\|/\|x\|$ over a grid of angles,
# against the closed form and the Hilbert bound, which is $1/\sqrt{n+1}$ for this residual.

# %%
angles = np.geomspace(1e-3, np.pi, P["angles"])
worst = {n: (np.sin(angles / 2) * np.cos(angles / 2) ** n).max() for n in (1, 10, 100, 1000)}
for n, value in worst.items():
    companion.record(f"K17.rotation_worst_{n}", value, fmt=".7f", badge="theory")
    assert value <= rotation_residual(n).residual / 2 * (1 + 1e-12)
share = 2 * worst[1000] / residual_bound("krasnoselskii_mann", 1000, distance=1.0)
companion.record("K17.rotation_share", share, fmt=".4f", badge="theory")
single = 2 * np.sin(0.05) * np.cos(0.05) ** np.arange(10_001.0)
companion.record("K17.single_rotation", 100 * single[-1], fmt=".2e")

# %% [markdown]
# How many steps for a residual of $10^{-3}$ on the worst rotation? A bisection in the closed forms.


# %%
def first(residual, level, high=10**9):
    """Least n with residual(n) <= level, for a decreasing residual."""
    low = 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if residual(middle) <= level else (middle, high)
    return high


companion.record("K17.km_steps", first(lambda n: rotation_residual(n).residual, 1e-3), fmt=",d")
companion.record("K17.halpern_steps", first(lambda n: rotation_residual(n, method="halpern").residual, 1e-3), fmt=",d")

# %% [markdown]
# Other maps: $R=Q\,(2P_C-I)$ with random boxes $C\ni0$ and orthogonal $Q$, not linear, fixed point 0. The largest share
# of the Hilbert bound that any of them uses up in 1000 steps.

# %%
d, maps = 8, P["maps"]
Q = np.linalg.qr(rng.standard_normal((maps, d, d)))[0]
low, high = -rng.exponential(0.3, (maps, d)), rng.exponential(0.3, (maps, d))
x0 = rng.standard_normal((maps, d))


def reflect(x, gain=1.0):
    """gain R, with R = Q (2 P_C - I) for every map of the batch: nonexpansive for gain 1."""
    return gain * np.einsum("mij,mj->mi", Q, 2 * np.clip(x, low, high) - x)


def averaged(x, steps):
    """Residuals |x_n - R x_n| / |x_0| of the averaged iteration, shape (steps + 1, maps)."""
    kept, size = [], np.linalg.norm(x, axis=1)
    for _ in range(steps + 1):
        y = reflect(x)
        kept.append(np.linalg.norm(x - y, axis=1) / size)
        x = (x + y) / 2
    return np.array(kept)


# %%
residuals = averaged(x0, 1000)
bounds = np.array([residual_bound("krasnoselskii_mann", n, distance=1.0) for n in range(1001)])
companion.record("K17.random_share", (residuals / bounds[:, None])[1:].max(), fmt=".3f", badge="measured", seeds=1)
rotations = rotation_residual(np.arange(1001)).residual
companion.record(
    "K17.random_over_rotation", (residuals.max(axis=1) / rotations)[1:].max(), fmt=".3f", badge="measured", seeds=1
)

# %% [markdown]
# ## The right shift on $\ell^1$ (E6.2)
# $x_n$ is the binomial distribution. Its residual is $1/\sqrt2$ of the bound with the diameter 2. The closed form is
# checked against 2000 steps of the shift itself.

# %%
halves = shift_residual(10_000)
companion.record("K17.shift_half", halves, fmt=".7f")
for name, a in (("half", 0.5), ("fifth", 0.2)):
    bound = residual_bound("krasnoselskii_mann", 10_000, diameter=2.0, relaxation=a)
    companion.record(f"K17.shift_share_{name}", shift_residual(10_000, relaxation=a) / bound, fmt=".5f")
x, seen = np.eye(1, 2002)[0], []
for _ in range(2001):
    seen.append(np.abs(x - np.roll(x, 1)).sum())
    x = (x + np.roll(x, 1)) / 2
companion.record("K17.shift_run_error", np.abs(seen - shift_residual(np.arange(2001))).max(), fmt=".1e")

# %% [markdown]
# ## Halpern: the input is mixed in again at every step (E6.3)
# $x_n=\frac1{n+1}x_0+\frac n{n+1}Rx_{n-1}$ for 4000 rotations, and for the angles $\pi/(k+1)$ where theory puts the
# worst case. Complex numbers stand for the plane.

# %%
turns = np.exp(1j * np.concatenate([np.pi / np.arange(1, 202), np.linspace(0.001, np.pi, 4000)]))
x, scaled = np.ones_like(turns), []
for n in range(201):
    scaled.append((abs(x - turns * x) * (n + 1) / 2).max())
    x = (1 + (n + 1) * turns * x) / (n + 2)
companion.record("K17.halpern_largest", max(scaled[1:]), fmt=".9f", badge="theory")
companion.record("K17.halpern_broken_by", max(scaled) - 1, fmt=".1e", badge="theory")

# %% [markdown]
# The proof's quantity $U_k=k(k+1)\|g_k\|^2+(k+1)\langle g_k,x_k-x_0\rangle$, $g=\frac12(I-R)$, must not rise. It is
# followed on the random maps above, and on the same maps times 1.02, which are not nonexpansive.


# %%
def lyapunov(gain, steps=300):
    """Largest rise of U_k along the Halpern iteration of the random maps, relative to |x_0|^2."""
    x, kept, size = x0, [], (x0**2).sum(axis=1)
    for k in range(steps):
        g = (x - reflect(x, gain)) / 2
        kept.append((k * (k + 1) * (g**2).sum(axis=1) + (k + 1) * (g * (x - x0)).sum(axis=1)) / size)
        x = (x0 + (k + 1) * (x - 2 * g)) / (k + 2)
    return np.diff(kept, axis=0).max()


companion.record("K17.lyapunov_rise", lyapunov(1.0), fmt=".1e", badge="measured", seeds=1)
companion.record("K17.lyapunov_rise_expanding", lyapunov(1.02), fmt=".1f", badge="measured", seeds=1)

# %%
n = np.unique(np.geomspace(1, 10_000, 200).astype(int))
hilbert = np.array([residual_bound("krasnoselskii_mann", k, distance=1.0) for k in n.tolist()])
normed = np.array([residual_bound("krasnoselskii_mann", k, diameter=2.0) for k in n.tolist()])
curves = {
    "hilbert_bound": (hilbert, "black", "--"), "averaged_worst_rotation": (rotation_residual(n).residual, "blue", "-"),
    "normed_bound": (normed, "black", ":"), "shift": (shift_residual(n), "green", "-."),
    "halpern_worst": (rotation_residual(n, method="halpern").residual, "vermillion", "-"),
    "one_rotation": (single[n], "purple", (0, (5, 1))),
}  # fmt: skip

# %%
fig, ax = new_figure(height=4.0)
for values, color, dash in curves.values():
    ax.loglog(n, values, color=PALETTE[color], ls=dash, marker="")
ax.plot(n[::25], curves["halpern_worst"][0][::25], color=PALETTE["vermillion"], marker="s", ls="")
ax.plot(n[::25], curves["averaged_worst_rotation"][0][::25], color=PALETTE["blue"], marker="o", ls="")
entries = {"dotted: bound in normed spaces": "black", "dashed: bound in Hilbert space": "black",
           "dash-dot: averaged, shift on $\\ell^1$": "green", "circles: averaged, worst rotation": "blue",
           "long dashes: averaged, one rotation": "purple", "squares: Halpern, worst = bound": "vermillion"}  # fmt: skip
for i, (text, color) in enumerate(entries.items()):
    direct_label(ax, 1.0, 1.1e-2 * 0.46**i, text, color)
ax.set(xlabel="steps $n$", ylabel="residual $\\|x_n-Rx_n\\|$, starting at distance 1", ylim=(1e-4, 3), xlim=(0.9, 1.4e4))
decades_only(ax)
ax.set_title("Averaging settles like $n^{-1/2}$ in the worst case, mixing the input in again like $n^{-1}$")
companion.save_figure(
    fig, "08-critical-rates-methods", badge="theory",
    alt="Residual against steps on logarithmic axes: the worst averaged rotation and the shift fall like one over root n "
    "below their bounds, the worst Halpern residual falls like one over n on its bound, one single averaged rotation "
    "falls exponentially.",
    data={"n": n, **{name: values for name, (values, _, _) in curves.items()}},
)  # fmt: skip

# %% [markdown]
# ## Self-adjoint maps (T6.2)
# $\|T^n(I-T)^s\|$ for a spectrum of a million points in $[0,1]$, against $(s/(n+s))^s(n/(n+s))^n$.

# %%
spectrum = np.linspace(0, 1, 1_000_001)
shares = []
for steps, s in ((10, 1.0), (100, 0.5), (1000, 2.0), (300, 1.0)):
    bound = (s / (steps + s)) ** s * (steps / (steps + s)) ** steps
    shares.append((spectrum**steps * (1 - spectrum) ** s).max() / bound)
companion.record("K17.self_adjoint_share", min(shares), fmt=".7f", badge="theory")
companion.record("K17.self_adjoint_10", (spectrum**10 * (1 - spectrum)).max(), fmt=".5f", badge="theory")

# %% [markdown]
# ## The distance to the limit: as slow as you like
# Seven modes whose squared distance stays above $\frac1{8(1+\log_2(1+K))}$ for all $K$ up to $10^{18}$: the construction
# of the chapter. Its residual obeys T6.2 all the while.

# %%
until = 2.0 ** (2.0 ** np.arange(1, 8) - 1) - 1
slow = SpectralMeasure(atoms=-np.expm1(-np.log(2) / until), weights=2.0 ** -np.arange(1, 8))
K = np.concatenate([[0.0], np.geomspace(1, 1e18, 2000)])
companion.record("K17.slow_error", slow.error(1e12), fmt=".5f")
companion.record("K17.slow_margin", (slow.error(K) * 8 * (1 + np.log2(1 + K))).min(), fmt=".2f")
step = np.sqrt((slow.weights * slow.atoms**2) @ np.exp(2e12 * np.log1p(-slow.atoms)))
companion.record("K17.slow_residual", 1e12 * step, fmt=".1e")

# %% [markdown]
# ## Power law if and only if spectral mass (T6.3)
# Measures on $[0,1]$ with $\nu([0,u])=u^\kappa$: the error is $\kappa B(\kappa,2K+1)$ exactly.

# %%
KAPPAS = {"025": 0.25, "05": 0.5, "1": 1.0, "2": 2.0}
pure = {name: SpectralMeasure(parts=[PowerLawMass(kappa)]) for name, kappa in KAPPAS.items()}
back = []
for name, nu in pure.items():
    companion.record(f"K16.error_k{name}", nu.error(1000), fmt=".6g")
    slope = log_slope(nu.error, 1e5, 1e6)
    companion.record(f"K16.slope_k{name}", slope, fmt=".5f", badge="theory")
    steep = log_slope(nu.error, 1e11, 1e12)
    constant = nu.error(1e12) * 2e12**steep / gamma(steep + 1)
    back.append(abs(constant * 1e-6**steep / nu.mass(1e-6) - 1))
companion.record("K16.mass_back", max(back), fmt=".1e", badge="theory")

# %% [markdown]
# A gap of 0.01; an atom of mass 0.1 at criticality; a logarithm; a mixture that a finite window misreads; and mass
# $\approx e^{-1/(4u)}$, which has neither a gap nor a power law: with $t=-\ln(1-u)=1/(2Z^2)$, $Z$ standard normal, the
# error is $e^{-\sqrt{2K}}$ exactly.

# %%
z = (np.arange(6000) + 0.5) * 2e-3
normal = np.exp(-(z**2) / 2)
kinds = {
    "critical": pure["05"],
    "gap": SpectralMeasure(parts=[PowerLawMass(0.5, gap=0.01)]),
    "atom": SpectralMeasure(parts=[PowerLawMass(0.5, 0.9)], atoms=[0.0], weights=[0.1]),
    "log": SpectralMeasure(parts=[PowerLawMass(0.5, log=True)]),
    "stretched": SpectralMeasure(atoms=-np.expm1(-1 / (2 * z**2)), weights=normal / normal.sum()),
}
mixed = SpectralMeasure(parts=[PowerLawMass(0.25, 1e-3), PowerLawMass(1.0)])

# %%
gap = kinds["gap"]
companion.record("K16.gap_error", gap.error(1000), fmt=".3e")
companion.record("K16.gap_rate", np.log(gap.error(1000) / gap.error(2000)) / 1000, fmt=".5f")
companion.record("K16.gap_bare_rate", gap.law().rate, fmt=".5f")
companion.record("K16.atom_limit", kinds["atom"].error(1e12), fmt=".6f")
companion.record("K16.slope_log", log_slope(kinds["log"].error, 1e5, 1e6), fmt=".4f")
companion.record("K16.slope_mixed_early", log_slope(mixed.error, 10, 100), fmt=".3f")
companion.record("K16.slope_mixed_late", log_slope(mixed.error, 1e11, 1e12), fmt=".3f")
companion.record("K16.stretched", kinds["stretched"].error(50), fmt=".4e", badge="theory")

# %%
looks = {"critical": ("blue", "-", "solid: $\\kappa=1/2$"), "gap": ("vermillion", "--", "dashed: gap 0.01"),
         "atom": ("green", "-.", "dash-dot: atom at 0"), "log": ("purple", (0, (5, 1)), "long dashes: logarithm"),
         "stretched": ("black", ":", "dotted: no power law")}  # fmt: skip
fig, axes = new_figure(2, 2, height=5.6)
(ax, bx), (cx, dx) = axes
u, K = np.geomspace(1e-5, 1, 300), np.geomspace(1, 1e5, 251)
short = np.linspace(0, 600, 121)
middle = np.sqrt(K[1:] * K[:-1])
for name, (color, dash, _) in looks.items():
    nu, look = kinds[name], dict(color=PALETTE[color], ls=dash, marker="")
    ax.loglog(u, np.maximum(nu.mass(u), 1e-12), **look)
    bx.loglog(K, np.maximum(nu.error(K), 1e-300), **look)
    cx.semilogy(short, nu.error(short), **look)
    with np.errstate(divide="ignore", invalid="ignore"):
        dx.semilogx(middle, -np.diff(np.log(nu.error(K))) / np.diff(np.log(K)), **look)

# %%
for y, (color, _, label) in zip((2e-4, 3e-5, 4e-6, 6e-7, 8e-8), looks.values(), strict=True):
    direct_label(bx, 8e2, y, label, color)
ax.set(xlabel="distance $u$ from criticality (no unit)", ylabel="spectral mass $\\nu([0,u])$", ylim=(1e-4, 1.5))
bx.set(xlabel="steps $K$", ylabel="error $E(K)$", ylim=(3e-9, 1.5), xlim=(0.6, 4e5))
cx.set(xlabel="steps $K$ (linear axis)", ylabel="error $E(K)$", ylim=(1e-8, 1.5))
dx.set(xlabel="steps $K$", ylabel="local slope $-d\\ln E/d\\ln K$", ylim=(-0.05, 2.05))
dx.axhline(0.5, color="#888888", lw=0.8)
decades_only(ax, bx, dx)
titles = ("mass near 0", "error, both axes logarithmic", "error, steps on a linear axis", "local slope")
for panel, title in zip(axes.flat, titles, strict=True):
    panel.set_title(title, fontweight="normal", fontsize=9)
fig.suptitle("The mass near criticality decides: power law, exponential, a floor,\nor something between",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "08-critical-rates-mass", badge="exact",
    alt="Four panels. Spectral mass near zero for five measures, and their errors: the power-law mass gives a straight line "
    "on logarithmic axes and a flat local slope one half, the gap gives a straight line with linear steps, the atom a "
    "floor, the logarithm a slowly varying slope, and the stretched one bends on both.",
    data=[{"measure": name, "K": k, "error": e} for name, nu in kinds.items() for k, e in zip(K, nu.error(K), strict=True)],
)  # fmt: skip

# %% [markdown]
# ## The model with power-law spectrum, and the crossover at fixed size (E6.4, E6.5)
# The diagonal model: $\eta=\frac12$, eigenvalues $j^{-a}$, energies $j^{-b}$, $\kappa=(b-1)/a$. Asymptotic constants
# against exact sums.

# %%
model = PowerLawModel(1.5, 2.0)
leading = lambda m, K: m.prefactors().steps * K ** -m.exponents().steps  # noqa: E731
for K in (100, 1000, 10_000):
    companion.record(f"K16.prefactor_{K}", model.error(K=K) / leading(model, K), fmt=".5f")
models = [PowerLawModel(a, b) for a, b in ((1, 1.5), (1.5, 2), (2, 2), (0.951, 1.3478))]
off = [abs(m.error(K=10_000) / leading(m, 10_000) - 1) for m in models]
companion.record("K16.prefactor_worst", max(off), fmt=".1e")
for K in (1000, 100_000):
    sizes = np.rint(np.array([0.3, 1, 3, 10]) * K ** (1 / 1.5))
    scaled = model.error(P=sizes, K=K) * K ** (1 / 1.5)
    companion.record(f"K16.collapse_{K}", np.abs(scaled / model.scaling_function(sizes / K ** (1 / 1.5)) - 1).max(), fmt=".1e")

# %% [markdown]
# At fixed size $P$ the map $I-\eta A$ has the contraction factor $\beta=1-\eta P^{-a}<1$. What the $P$ modes leave after
# $K$ steps, without the floor of the missing modes: a power law before $K^*=P^a/(2\eta)$, an exponential after it.

# %%
model, widths = PowerLawModel(1.5, 1.5), (16, 256, 4096, 65536)


def modes(size):
    """Spectral measure of the modes that a model of this size keeps."""
    values, energies = model.spectrum(size)
    return SpectralMeasure(atoms=model.eta * values, weights=energies)


kept = {size: modes(size) for size in widths}
for size, nu in kept.items():
    companion.record(f"K16.crossover_slope_{size}", log_slope(nu.error, 50.0, 200.0), fmt=".3f")
    if size <= 4096:
        late = 10 * float(model.crossover(size))
        rate = np.log(nu.error(late) / nu.error(2 * late)) / late
        companion.record(f"K16.crossover_rate_{size}", rate / nu.law().rate, fmt=".4f")
        companion.record(f"K16.crossover_gap_{size}", nu.law().gap, fmt=".2e")

# %%
fig, (ax, bx) = new_figure(2, 1, height=5.6)
K = np.geomspace(1, 3e7, 120)
middle = np.sqrt(K[1:] * K[:-1])
styles = {16: ("vermillion", "--"), 256: ("green", "-."), 4096: ("blue", "-"), 65536: ("purple", (0, (5, 1)))}
rows = {"K": K, "infinite": model.error(K=K)}
ax.loglog(K, rows["infinite"], color=PALETTE["black"], ls=":", marker="")
for size, (color, dash) in styles.items():
    rows[f"P{size}"] = values = kept[size].error(K)
    end, reach = float(model.crossover(size)), values > 1e-250
    ax.loglog(K[reach], values[reach], color=PALETTE[color], ls=dash, marker="")
    ax.plot(end, kept[size].error(end), color=PALETTE[color], marker="o", ls="", ms=6)
    slope = -np.diff(np.log(np.where(reach, values, np.nan))) / np.diff(np.log(K))
    bx.loglog(middle / end, slope, color=PALETTE[color], ls=dash, marker="")

# %%
for x, y, size in ((3, 1.3e-3, 16), (330, 1.3e-3, 256), (2.2e4, 1.3e-3, 4096), (6e5, 0.0013, 65536)):
    direct_label(ax, x, y, f"$P={size}$", styles[size][0], ha="left")
direct_label(ax, 1.2e6, 0.06, "$P=\\infty$", "black")
ax.set(xlabel="steps $K$  (dots: $K^*=P^a/(2\\eta)$)", ylabel="error of the modes kept", ylim=(5e-4, 3.5))
bx.axhline(1 / 3, color="#888888", lw=1)
bx.plot([0.3, 30], [0.3, 30], color=PALETTE["black"], ls=":", marker="", lw=1.2)
direct_label(bx, 1.5e-6, 0.45, "power law: slope 1/3"), direct_label(bx, 0.55, 12, "exponential:\nslope $K/K^*$", ha="right")
bx.set(xlabel="steps over crossover $K/K^*$ (no unit)", ylabel="local slope $-d\\ln E/d\\ln K$")
bx.set(xscale="log", yscale="log", ylim=(0.15, 40), xlim=(1e-6, 40))
decades_only(ax, bx)
fig.suptitle("At fixed size a power law ends in an exponential; the larger the model, the later",
             x=0.01, ha="left", fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "08-critical-rates-crossover", badge="exact",
    alt="Top: error of the modes kept against steps for four sizes, following the infinite model's straight line and bending "
    "down at the crossover, later for larger sizes. Bottom: local slope against steps over crossover, near one third "
    "before it and proportional to the steps after it.",
    data=rows,
)  # fmt: skip

# %% [markdown]
# ## Nonlinear critical points (T6.6, E6.12)
# One fixed point with derivative 1. Orbits of $x/\sqrt{1+2x^2}$ (cubic, pitchfork), $x/(1+x)$ (quadratic,
# transcritical) and $\tanh$ (cubic).


# %%
def orbit(f, x, steps):
    """x_0, ..., x_steps of x_n = f(x_(n-1)) on the line."""
    kept = [x]
    for _ in range(steps):
        kept.append(x := f(x))
    return np.array(kept)


points = {
    "pitchfork": (lambda x: x / (1 + 2 * x * x) ** 0.5, lambda n: (2 * n) ** -0.5),
    "transcritical": (lambda x: x / (1 + x), lambda n: 1 / n),
    "tanh": (math.tanh, lambda n: (2 * n / 3) ** -0.5),
}
orbits = {name: orbit(f, 1.0, 1000 if name != "tanh" else 1_000_000) for name, (f, _) in points.items()}
companion.record("K16.pitchfork", orbits["pitchfork"][1000], fmt=".6f")
companion.record("K16.transcritical", orbits["transcritical"][1000], fmt=".6f")
companion.record("K16.tanh_ratio", orbits["tanh"][-1] / points["tanh"][1](1e6), fmt=".6f", badge="theory")

# %%
fig, ax = new_figure(height=3.6)
n = np.unique(np.geomspace(1, 1000, 80).astype(int))
styles = {"tanh": ("green", "-."), "pitchfork": ("blue", "-"), "transcritical": ("vermillion", (0, (5, 1)))}
for name, (color, dash) in styles.items():
    ax.loglog(n, orbits[name][n], color=PALETTE[color], ls=dash, marker="")
    ax.loglog(n, points[name][1](n.astype(float)), color=PALETTE["black"], ls="--", marker="", lw=0.9)
ax.loglog(n, 0.9**n, color=PALETTE["purple"], ls=":", marker="")
direct_label(ax, 90, 0.19, "$\\tanh x$: $(2n/3)^{-1/2}$", "green")
direct_label(ax, 52, 0.031, "$x/\\sqrt{1+2x^2}$: $(2n)^{-1/2}$", "blue")
direct_label(ax, 120, 0.013, "$x/(1+x)$: $n^{-1}$", "vermillion")
direct_label(ax, 64, 2e-3, "$0.9\\,x$: exponential", "purple")
ax.set(xlabel="steps $n$", ylabel="state $x_n$ from $x_0=1$ (no unit)", ylim=(5e-4, 1.6))
decades_only(ax)
ax.set_title("With derivative 1 at the fixed point, the order of contact sets the exponent")
companion.save_figure(
    fig, "08-critical-rates-nonlinear", badge="exact",
    alt="State against steps on logarithmic axes: the two cubic maps approach their dashed lines of slope minus one half, "
    "the quadratic map its line of slope minus one, a linear contraction falls off exponentially.",
    data={"n": n, **{name: values[n] for name, values in orbits.items()}, "contraction": 0.9**n},
)  # fmt: skip

# %% [markdown]
# ## A real operator: digits
# Full-batch gradient descent for least squares, with the step $\eta=1/\lambda_{\max}$, on 1000 images and 10 label
# columns. The residual on these images is $(I-A)^Kr_0$, $A$ the normalised Gram matrix. Infinite width: the kernel of
# random ReLU features (arc-cosine); finite width: 32, 128 and 512 such features. Training error, not test error.

# %%
images, labels = load_digits(return_X_y=True)


def digits(number):
    """Unit input vectors (centred pixels), label columns of total energy 1, and the normalised kernel matrix."""
    X = images[:number] / 16.0
    X -= X.mean(axis=0)
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    Y = np.eye(10)[labels[:number]] - 0.1
    cosine = np.clip(X @ X.T, -1, 1)
    gram = (np.sqrt(1 - cosine**2) + (np.pi - np.arccos(cosine)) * cosine) / np.pi
    return X, Y / np.linalg.norm(Y), gram / np.linalg.eigvalsh(gram)[-1]


X, Y, gram = digits(1000)
infinite = SpectralMeasure.of_matrix(gram, Y)

# %%
residual, off = Y.copy(), 0.0
for k in range(301):
    off = max(off, abs((residual**2).sum() / infinite.error(k) - 1))
    residual = residual - gram @ residual
companion.record("K16.digits_formula", off, fmt=".1e", badge="theory")
finite = {}
for width in (32, 128, 512):
    features = np.maximum(X @ rng.standard_normal((64, width)), 0)
    basis, singular, _ = np.linalg.svd(features, full_matrices=False)
    energy = ((basis.T @ Y) ** 2).sum(axis=1)
    finite[width] = SpectralMeasure(atoms=(singular / singular[0]) ** 2, weights=energy), max(0.0, 1 - energy.sum())
    rate, late = finite[width][0].law().rate, 100 / finite[width][0].law().gap
    seen = np.log(finite[width][0].error(late) / finite[width][0].error(2 * late)) / late
    companion.record(f"K16.digits_rate_{width}", seen / rate, fmt=".4f", badge="measured", seeds=1)
companion.record("K16.digits_floor_32", finite[32][1], fmt=".2f", badge="measured", seeds=1)

# %% [markdown]
# T6.3 reads the exponent off the mass. Here it is read over one decade of $u$ around $1/(2K)$ and compared with the slope
# of the error over one decade of $K$.

# %%
root = np.sqrt(10)


def exponents(nu, K):
    """Over one decade: slope of the error around K, exponent of the mass around u = 1/(2K)."""
    return log_slope(nu.error, K / root, K * root), np.log10(nu.mass(root / (2 * K)) / nu.mass(1 / (2 * root * K)))


steps = np.geomspace(3, 1e4, 140)
error_slopes, mass_slopes = exponents(infinite, steps)
for K in (50, 500, 5000):
    for key, value in zip(("slope", "mass_slope"), exponents(infinite, K), strict=True):
        companion.record(f"K16.digits_{key}_{K}", value, fmt=".2f", badge="theory")

# %%
end = 1 / (2 * infinite.law().gap)  # 1000 images leave a gap too
apart = mass_slopes - error_slopes
companion.record("K16.digits_crossover", end, fmt=",.0f", badge="theory")
inside = (steps >= 10) & (steps <= end / 30)
companion.record("K16.digits_disagreement", np.abs(apart[inside]).max(), fmt=".2f", badge="theory")
companion.record("K16.digits_disagreement_planned", np.abs(apart[steps >= 10]).max(), fmt=".2f", badge="theory")
error_slope, mass_slope = exponents(infinite, end / 5)
companion.record("K16.digits_disagreement_late", mass_slope - error_slope, fmt=".2f", badge="theory")
_, targets, smaller = digits(500)
half = SpectralMeasure.of_matrix(smaller, targets)
for K in (50, 500):
    companion.record(f"K16.digits_slope_{K}_half", exponents(half, K)[0], fmt=".2f", badge="theory")

# %%
fig, (ax, bx) = new_figure(2, 1, height=5.6)
K = np.geomspace(1, 3e5, 200)
ax.loglog(K, infinite.error(K), color=PALETTE["blue"], ls="-", marker="")
rows = {"K": K, "infinite": infinite.error(K)}
for width, color, dash in ((32, "vermillion", "--"), (128, "green", "-."), (512, "purple", (0, (5, 1)))):
    nu = finite[width][0]
    rows[f"width{width}"] = nu.error(K)
    ax.loglog(K, nu.error(K), color=PALETTE[color], ls=dash, marker="")
    stop = 1 / (2 * nu.law().gap)
    ax.plot(stop, nu.error(stop), color=PALETTE[color], marker="o", ls="", ms=6)
bx.semilogx(steps, error_slopes, color=PALETTE["blue"], ls="-", marker="")
bx.semilogx(steps, mass_slopes, color=PALETTE["black"], ls="--", marker="")
ax.plot(end, infinite.error(end), color=PALETTE["blue"], marker="o", ls="", ms=6)
_ = bx.axvline(end / 30, color="#888888", lw=1.2, ls=":")

# %%
direct_label(ax, 3e3, 0.06, "infinite width", "blue"), direct_label(ax, 1.2, 1.4e-4, "dots: $K^*=1/(2u_{\\min})$", "black")
for x, y, width, color in ((5, 1.2e-2, 32, "vermillion"), (1e3, 8e-3, 128, "green"), (6e4, 1.2e-3, 512, "purple")):
    direct_label(ax, x, y, f"width {width}", color)
ax.set(xlabel="steps $K$", ylabel="training error above its floor", ylim=(5e-5, 1.5), xlim=(0.8, 4e5))
direct_label(bx, 1.2, 1.08, "solid: slope of the error", "blue")
direct_label(bx, 1.2, 0.95, "dashed: exponent of the mass at $u=1/(2K)$")
direct_label(bx, end / 30, 0.12, "dotted: $K^*/30$")
bx.set(xlabel="steps $K$", ylabel="local exponent (no unit)", ylim=(0, 1.2), xlim=(0.8, 4e5))
decades_only(ax, bx)
fig.suptitle("On digits the mass predicts the slope far from the end of the spectrum, not near it;\n"
             "no single exponent holds, and the end is exponential", x=0.01, ha="left",
             fontsize=10, fontweight="bold")  # fmt: skip
companion.save_figure(
    fig, "08-critical-rates-digits", badge="measured",
    alt="Top: training error against steps for kernels of infinite and finite width, bending slowly and then falling "
    "steeply, sooner for smaller widths. Bottom: local slope of the error and the exponent of the spectral mass, which "
    "agree far from the end of the spectrum, part before it is reached, and both drift.",
    data=rows,
)  # fmt: skip

# %% [markdown]
# ## Break it
# *Nonexpansive* dropped: $R$ turns by 0.1 and expands by 1.01. *Averaging* dropped: the rotation itself.
# *Self-adjoint* dropped in T6.2: averaged rotations, and a nilpotent block about $\frac12$ whose only eigenvalue is far
# from 1.

# %%
turn = np.array([[np.cos(0.1), -np.sin(0.1)], [np.sin(0.1), np.cos(0.1)]])
run, start = dict(max_iter=2000, rtol=0, atol=0), np.array([1.0, 0.0])
expanding = iterate(lambda x: 1.01 * turn @ x, start, method="krasnoselskii_mann", **run)
bound = residual_bound("krasnoselskii_mann", 2000, distance=1.0)
companion.record("K17.expanding_over_bound", expanding.residual / bound, fmt=",.0f", badge="theory")
companion.record("K17.unaveraged_residual", iterate(lambda x: turn @ x, start, **run).residual, fmt=".5f", badge="theory")
n = 64
bound = (n / (n + 1)) ** n / (n + 1)
T = (np.eye(256) + np.eye(256, k=-1)) / 2
block = np.linalg.norm(np.linalg.matrix_power(T, n) @ (np.eye(256) - T), 2)
companion.record("K17.nilpotent_over_self_adjoint", block / bound, fmt=".1f", badge="theory")
companion.record("K17.rotation_over_self_adjoint", rotation_residual(n).residual / 2 / bound, fmt=".1f")

# %% [markdown]
# The *gap* closed: an exponential fitted on $100\le K\le1000$ and read at $K=10^4$. The control has a gap. And the *sign*
# in T6.6: $x+x^3$ leaves instead of coming.

# %%
K = np.geomspace(100, 1000, 20)
gapped = SpectralMeasure(atoms=[0.001, 0.5], weights=[0.5, 0.5])
for name, nu in (("fit_decades", pure["05"]), ("fit_decades_gap", gapped)):
    rate, level = np.polyfit(K, np.log(nu.error(K)), 1)
    decades = abs(np.log10(nu.error(1e4)) - (level + rate * 1e4) / np.log(10))
    companion.record(f"K16.{name}", decades, fmt=".2f", badge="theory")
leaving = orbit(lambda x: min(x + x**3, 2.0), 0.1, 60)
companion.record("K16.growth_steps", int(np.argmax(leaving >= 1)), fmt="d")
