"""The forms of scaling laws that the literature uses, by name: ``law("chinchilla")``, ``law("critical", variables="NPK")``.

Letters: N data (tokens), P parameters, K steps, C FLOPs, as columns of the runs. Exponents are named as their papers do where
that is possible. In every additive form each term is positive; an irreducible loss E may come out as 0, at the boundary.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations, product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from limitlib import checks
from limitlib.scaling import jets
from limitlib.scaling.jets import Jet
from limitlib.scaling.laws import EXPONENTS, FAINT, AdditiveLaw, FormulaLaw, Law, Parameter, Term, amplitudes_of
from limitlib.scaling.mixed import mixed
from limitlib.scaling.pooled import check_domains, mixing_pooled, shares_of

Array = NDArray[np.float64]
Jets = Mapping[str, Jet]
Table = Mapping[str, Array]

E_TERM = Term("E")


def law(name: str, **options: Any) -> Law:
    """A form of scaling law by name, ready to be fitted.

    - ``power`` (x="C", floor=True): E + A x^-alpha;
    - ``additive`` (variables=("P", "N"), floor=True): E + one power for each variable;
    - ``chinchilla`` (floor=True): E + A P^-alpha + B N^-beta; ``over-training``: the same with one exponent eta;
    - ``kaplan``: [(P_c/P)^(alpha_P/alpha_N) + N_c/N]^alpha_N;
    - ``schedule`` (variables=("P", "K"), rate="lr"): powers + H lr, lr = learning rate over its maximum, 0 when annealed;
    - ``width-depth`` (data="N"): E + A width^-alpha + B depth^-beta + D N^-gamma;
    - ``critical`` (variables="NPK"): the form K^-k + P^-p + N^-n of theorem T6.4;
    - ``paper`` (variables="NPK"): A_K beta^K + A_P lip^P + A_N N^-1/2;
    - ``repetition`` (Muennighoff et al. 2023), ``transfer`` (Hernandez et al. 2021), ``multilingual``: effective data;
    - ``multimodal``: data terms of two modalities and a joint one (after Aghajanyan et al. 2023);
    - ``experts``: mixtures of experts (Clark et al. 2022);
    - ``mixing-exponential``, ``mixing-power`` (domains=[...]): data-mixing laws (Ye et al. 2024);
    - ``mixing-pooled`` (domains=[...], saturating=True): (sum_j w_j r_j^a)^-gamma;
    - ``mixed`` (powers=(), exponentials=(), roots=()): E + a power, an exponential or a power -1/2 of each column;
    - ``broken`` (x="C", breaks=1): smoothly broken power law (Caballero et al. 2023);
    - ``loss-to-error`` (x="nll"), ``sigmoid`` (x=("nll",), floor=0, ceiling=1): downstream scores, raw scale.

    Raises ValueError listing the names for an unknown one, TypeError for an option that the form does not have.
    """
    checks.word("name", name, FORMS)
    form = FORMS[name]
    takes = list(inspect.signature(form).parameters)
    for key in options:
        if key not in takes:
            raise TypeError(f"the law {name!r} has no option {key!r}; it has {', '.join(takes) or 'none'}")
    if name != "sigmoid" and "floor" in options:  # of a sigmoid it is a score
        checks.flag("floor", options["floor"])
    x = options.get("x", "x")
    if not (x.isidentifier() if isinstance(x, str) else name == "sigmoid"):  # a sigmoid may be in several
        raise ValueError(f"x={x!r} must be the name of a column, of letters, digits and _")
    return form(**options)


def powers(name: str, formula: str, variables: Mapping[str, tuple[str, str]], *, floor: bool, source: str = "") -> AdditiveLaw:
    """E + one power for each variable: variables maps a column to its amplitude and exponent."""
    specs = [Parameter("E", "log")] if floor else []
    specs += [Parameter(a, "log", ((e, f"ln {v}", 1.0),)) for v, (a, e) in variables.items()]
    specs += [Parameter(e) for e in dict.fromkeys(e for _, e in variables.values())]
    terms = tuple(Term(a, ((f"ln {v}", e, -1.0),)) for v, (a, e) in variables.items())
    return AdditiveLaw(
        name, formula, tuple(variables), tuple(specs), "E" if floor else None, "", source,
        (E_TERM, *terms) if floor else terms,
    )  # fmt: skip


def power(x: str = "C", *, floor: bool = True) -> Law:
    return powers("power", f"L = {'E + ' if floor else ''}A {x}^-alpha", {x: ("A", "alpha")}, floor=floor)


def additive(variables: Sequence[str] = ("P", "N"), *, floor: bool = True) -> Law:
    if not variables or len(set(variables)) != len(variables):
        raise ValueError(f"variables={variables!r} must be distinct column names, like ('P', 'N', 'K')")
    formula = "L = " + " + ".join([*(["E"] if floor else []), *(f"A_{v} {v}^-a_{v}" for v in variables)])
    return powers("additive", formula, {v: (f"A_{v}", f"a_{v}") for v in variables}, floor=floor)


def chinchilla(*, floor: bool = True) -> Law:
    formula = f"L = {'E + ' if floor else ''}A P^-alpha + B N^-beta"
    variables = {"P": ("A", "alpha"), "N": ("B", "beta")}
    return powers("chinchilla", formula, variables, floor=floor, source="Hoffmann et al. 2022, approach 3")


def over_training() -> Law:
    variables = {"P": ("A", "eta"), "N": ("B", "eta")}
    return powers("over-training", "L = E + A P^-eta + B N^-eta", variables, floor=True, source="Gadre et al. 2024")


def critical(variables: str | Sequence[str] = "NPK", *, floor: bool = True) -> Law:
    names = {"N": ("A_N", "n"), "P": ("A_P", "p"), "K": ("A_K", "k")}
    wrong = [v for v in variables if v not in names]
    if wrong or not variables:
        raise ValueError(f"variables={variables!r} must be letters among N, P, K")
    formula = "L = " + " + ".join([*(["E"] if floor else []), *(f"{names[v][0]} {v}^-{names[v][1]}" for v in variables)])
    chosen = {v: names[v] for v in variables}
    return powers("critical", formula, chosen, floor=floor, source="Shu et al. 2026 at Lip(T) = 1; theorem T6.4")


def paper(variables: str | Sequence[str] = "NPK", *, floor: bool = True) -> Law:
    wrong = [v for v in variables if v not in "NPK"]
    if wrong or not variables:
        raise ValueError(f"variables={variables!r} must be letters among N, P, K")
    specs, terms, words = [], [], []
    if floor:
        specs, terms, words = [Parameter("E", "log")], [E_TERM], ["E"]
    rates = []
    for v in variables:
        if v == "N":
            specs.append(Parameter("A_N", "log", ((0.5, "ln N", 1.0),)))
            terms.append(Term("A_N", (("ln N", 0.5, -1.0),)))
            words.append("A_N N^-1/2")
        else:
            rate = {"P": "lip", "K": "beta"}[v]
            specs.append(Parameter(f"A_{v}", "log", ((rate, v, -1.0),)))
            terms.append(Term(f"A_{v}", ((v, rate, 1.0),)))
            rates.append(Parameter(rate, "log"))
            words.append(f"A_{v} {rate}^{v}")
    return AdditiveLaw(
        "paper", "L = " + " + ".join(words), tuple(variables), (*specs, *rates), "E" if floor else None, "",
        "the bound beta^K + Lip(T)^P + N^-1/2 as reported of Shu et al. 2026, with free constants", tuple(terms),
    )  # fmt: skip


def schedule(variables: Sequence[str] = ("P", "K"), *, rate: str = "lr") -> Law:
    base = powers("", "", {v: (f"A_{v}", f"a_{v}") for v in variables}, floor=True)
    formula = "L = E + " + " + ".join(f"A_{v} {v}^-a_{v}" for v in variables) + f" + H {rate}"
    specs = (*base.specs[: 1 + len(variables)], Parameter("H", "log"), *base.specs[1 + len(variables) :])
    terms = (*base.terms, Term("H", ((f"ln {rate}", 1.0, 1.0),)))
    return ScheduleLaw("schedule", formula, (*variables, rate), specs, "E", "", "", terms)


class ScheduleLaw(AdditiveLaw):
    """The learning rate may be 0 (a finished run): its term is then absent."""

    def table(self, columns: Mapping[str, Any]) -> dict[str, Array]:
        rate = self.variables[-1]
        if rate not in columns:
            raise ValueError(f"the law {self.name!r} needs {rate}=...: the learning rate over its maximum, from 0 to 1")
        values = np.atleast_1d(checks.at_least(rate, columns[rate], 0.0))
        table = super().table({**columns, rate: np.where(values > 0, values, 1.0)})
        table[f"ln {rate}"] = np.where(values > 0, table[f"ln {rate}"], -1e3)
        return table

    def means(self, table: Table) -> dict[str, float]:
        """The rate is not centred: it lies between 0 and 1, and the mean of a logarithm of 0 would say nothing."""
        return {**super().means(table), f"ln {self.variables[-1]}": 0.0}


def width_depth(*, data: str | None = "N") -> Law:
    variables = {"width": ("A", "alpha"), "depth": ("B", "beta")}
    formula = "L = E + A width^-alpha + B depth^-beta"
    if data:
        variables[data] = ("D", "gamma")
        formula += f" + D {data}^-gamma"
    return powers("width-depth", formula, variables, floor=True)


def kaplan() -> Law:
    """ln L = alpha_N LSE(a - r ln P, d - ln N) with r = alpha_P / alpha_N."""

    def formula(p: Jets, x: Table) -> Jet:
        exponent = jets.exp(p["alpha_N"])
        size = (p["P_c"] - x["ln P"]) * jets.exp(p["alpha_P"] - p["alpha_N"])
        return exponent * jets.log_sum_exp([size, p["N_c"] - x["ln N"]])

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        found, typical = [], float(np.exp(np.mean(np.log(loss))))
        for exponent in np.geomspace(0.03, 1.0, 14):
            here = []
            for ratio in np.geomspace(0.2, 3.0, 14):
                basis = np.exp(np.stack([-ratio * table["ln P"], -table["ln N"]]))[None]
                # relative errors of L^(1/alpha) are those of L over alpha
                amplitude, cost = amplitudes_of(basis, (loss / typical) ** (1 / exponent), weight)
                a, d = np.log(np.maximum(amplitude[0, 0], 1e-12)) + np.log(typical) / exponent
                here.append((cost[0, 0] * exponent**2, a / ratio, d, np.log(ratio * exponent), np.log(exponent)))
            found += sorted(here)[:4]
        return np.array(sorted(found))[:, 1:]

    specs = (
        Parameter("P_c", "log", ((1.0, "ln P", 1.0),)), Parameter("N_c", "log", ((1.0, "ln N", 1.0),)),
        Parameter("alpha_P", "log"), Parameter("alpha_N", "log"),
    )  # fmt: skip
    return FormulaLaw(
        "kaplan", "L = [(P_c/P)^(alpha_P/alpha_N) + N_c/N]^alpha_N", ("P", "N"), specs, None, "",
        "Kaplan et al. 2020, equation 1.5", formula, starter, ("ln P", "ln N"), ("ln P", "ln N"),
    )  # fmt: skip


#: Where nested forms are centred (effective data is not linear in the features): 1e8 parameters, 1e9 tokens.
AT_SIZE, AT_DATA = float(np.log(1e8)), float(np.log(1e9))


def nested(
    name: str, formula: str, variables: tuple[str, ...], specs: Sequence[Parameter], source: str,
    effective: Callable[[Jets, Table], Jet], shapes: Mapping[str, Array],
) -> FormulaLaw:  # fmt: skip
    """L = E + A P^-alpha + B D^-beta, where D is an effective amount of data; shapes: starting grid of its own parameters."""

    def expression(p: Jets, x: Table) -> Jet:
        data = effective(p, x) - AT_DATA
        return jets.log_sum_exp([p["E"], p["A"] - (x["ln P"] - AT_SIZE) * p["alpha"], p["B"] - data * p["beta"]])

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        names = [s.name for s in specs]
        size = table["ln P"] - AT_SIZE
        bases, points = [], []
        for shape in product(*shapes.values()):
            known = dict(zip(names, jets.variables(np.array([shape], dtype=float), derivatives=False), strict=True))
            data = np.broadcast_to(effective(known, table).value[0] - AT_DATA, size.shape)
            for alpha in EXPONENTS[1::2]:
                for beta in EXPONENTS[1::2]:
                    bases.append(np.stack([np.ones_like(size), np.exp(-alpha * size), np.exp(-beta * data)]))
                    points.append((alpha, beta, *shape))
        amplitude, cost = amplitudes_of(np.stack(bases), loss, weight)
        order = np.argsort(cost[:, 0], kind="stable")[:120]
        logs = np.log(np.maximum(amplitude[order, 0], FAINT * loss.mean()))
        return np.concatenate([logs, np.array(points)[order]], axis=1)

    base = (
        Parameter("E", "log"),
        Parameter("A", "log", (("alpha", AT_SIZE, 1.0),)),
        Parameter("B", "log", (("beta", AT_DATA, 1.0),)),
        Parameter("alpha"),
        Parameter("beta"),
    )
    needs = tuple(f"ln {v}" for v in variables)
    return FormulaLaw(name, formula, variables, (*base, *specs), "E", "", source, expression, starter, needs)


def repetition() -> Law:
    """Effective data that saturates as unique tokens are repeated; column ``unique``: unique tokens, at most N."""

    def effective(p: Jets, x: Table) -> Jet:
        repeats = np.maximum(np.expm1(x["ln N"] - x["ln unique"]), 0.0)
        r = p["R_star"]
        return jets.log(1.0 - jets.exp(r) * jets.expm1(-(repeats * jets.exp(-r)))) + x["ln unique"]

    return nested(
        "repetition", "L = E + A P^-alpha + B D^-beta, D = U + U R_star (1 - exp(-(N/U - 1)/R_star)), U = unique tokens",
        ("P", "N", "unique"), [Parameter("R_star", "log")], "Muennighoff et al. 2023, the data term", effective,
        {"R_star": np.log(np.geomspace(0.5, 60.0, 9))},
    )  # fmt: skip


def transfer() -> Law:
    """Fine-tuning data N and what pre-training adds to it, k N^f P^b (Hernandez et al. 2021) in an additive law."""

    def effective(p: Jets, x: Table) -> Jet:
        return jets.log_sum_exp([x["ln N"], p["k"] + (x["ln N"] - AT_DATA) * p["f"] + (x["ln P"] - AT_SIZE) * p["b"]])

    k = Parameter("k", "log", (("f", AT_DATA, -1.0), ("b", AT_SIZE, -1.0)))
    return nested(
        "transfer", "L = E + A P^-alpha + B (N + k N^f P^b)^-beta, N = fine-tuning tokens", ("P", "N"),
        [k, Parameter("f"), Parameter("b")], "after Hernandez et al. 2021", effective,
        {"k": AT_DATA + np.linspace(-4.0, 4.0, 5), "f": np.array([0.1, 0.3, 0.6]), "b": np.array([0.1, 0.4, 0.8])},
    )  # fmt: skip


def multilingual() -> Law:
    """Tokens N of one language and N2 of another, of which each is worth tau tokens of the first."""

    def effective(p: Jets, x: Table) -> Jet:
        return jets.log_sum_exp([x["ln N"], p["tau"] + x["ln N2"]])

    return nested(
        "multilingual", "L = E + A P^-alpha + B (N + tau N2)^-beta", ("P", "N", "N2"), [Parameter("tau", "log")],
        "the additive form with linear transfer between languages", effective, {"tau": np.log(np.geomspace(0.003, 1.0, 9))},
    )  # fmt: skip


def multimodal() -> Law:
    """Two modalities with their own data terms, and a joint term in all the data N = N1 + N2."""
    variables = {"P": ("A", "alpha"), "N1": ("B1", "beta1"), "N2": ("B2", "beta2"), "N": ("D", "gamma")}
    formula = "L = E + A P^-alpha + B1 N1^-beta1 + B2 N2^-beta2 + D N^-gamma, N = N1 + N2"
    return powers("multimodal", formula, variables, floor=True, source="additive, after Aghajanyan et al. 2023")


def experts() -> Law:
    """ln L = a ln P + b ln E^ + c ln P ln E^ + d with E^ saturating between E_start and E_max."""

    def saturated(count: Array, start: Jet, top: Jet) -> Jet:
        """ln E^; 1/E^ = 1/(E - 1 + 1/(1/start - 1/top)) + 1/top."""
        gap = jets.inverse(jets.exp(-start) - jets.exp(-top))
        return -jets.log(jets.inverse(gap + (count - 1.0)) + jets.exp(-top))

    def formula(p: Jets, x: Table) -> Jet:
        spread = saturated(x["experts"], p["E_start"], p["E_start"] + jets.exp(p["E_max"]))
        size = x["ln P"]
        return p["d"] + size * p["a"] + spread * (p["b"] + size * p["c"])

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        found, root = [], np.sqrt(weight)
        for start in np.log([1.01, 1.3, 2.0, 4.0, 8.0]):
            for top in np.log([50.0, 150.0, 500.0, 2000.0]):
                gap = 1.0 / (np.exp(-start) - np.exp(-top))
                spread = -np.log(1.0 / (gap + table["experts"] - 1.0) + np.exp(-top))
                size = table["ln P"]
                design = np.stack([size, spread, size * spread, np.ones_like(size)], axis=1)
                answer, *_ = np.linalg.lstsq(design * root[:, None], np.log(loss) * root, rcond=None)
                cost = float(np.sum((root * (np.log(loss) - design @ answer)) ** 2))
                found.append((cost, *answer, start, np.log(top - start)))
        return np.array(sorted(found))[:20, 1:]

    specs = tuple(Parameter(n) for n in ("a", "b", "c", "d")) + (Parameter("E_start", "log"), Parameter("E_max", "log"))
    return ExpertsLaw(
        "experts", "ln L = a ln P + b ln E^ + c ln P ln E^ + d, 1/E^ = 1/(E - 1 + 1/(1/E_start - 1/E_max)) + 1/E_max",
        ("P", "experts"), specs, None, "", "Clark et al. 2022", formula, starter, ("ln P", "experts"), ("ln P",),
    )  # fmt: skip


class ExpertsLaw(FormulaLaw):
    """Centring ln P moves b and d; internally E_max is ln ln(E_max / E_start), so that it stays above E_start."""

    def natural(self, theta: Array, means: Mapping[str, float]) -> dict[str, Array]:
        found, at = super().natural(theta, means), means["ln P"]
        with np.errstate(over="ignore"):
            top = found["E_start"] * np.exp(found["E_max"])
        return {**found, "b": found["b"] - at * found["c"], "d": found["d"] - at * found["a"], "E_max": top}

    def internal(self, parameters: Mapping[str, float], means: Mapping[str, float]) -> Array:
        at = means["ln P"]
        if not 0 < parameters["E_start"] < parameters["E_max"]:
            start, top = parameters["E_start"], parameters["E_max"]
            raise ValueError(f"E_max={top!r} must be above E_start={start!r}, and both positive")
        moved = {
            "b": parameters["b"] + at * parameters["c"],
            "d": parameters["d"] + at * parameters["a"],
            "E_max": float(np.log(parameters["E_max"] / parameters["E_start"])),
        }
        return super().internal({**parameters, **moved}, means)


GAUGE = "shares sum to 1, so k exp(t.r) determines only the sums ln k + t_j; k = 1 here"


@dataclass(frozen=True, eq=False)
class MixingLaw(AdditiveLaw):
    """Shares of a mixture: nonnegative, normalised row by row; ``offset`` is added before logarithms are taken."""

    offset: float | None = None

    def table(self, columns: Mapping[str, Any]) -> dict[str, Array]:
        shares = shares_of(self.name, self.variables, columns)
        if self.offset is None:
            return dict(zip(self.variables, shares, strict=True))
        return {f"ln {v}": np.log(s + self.offset) for v, s in zip(self.variables, shares, strict=True)}


def mixing(domains: Sequence[str], kind: str, offset: float | None) -> Law:
    check_domains(domains)
    names = [f"t_{d}" for d in domains]
    if offset is None:
        formula = "L = E + exp(sum_j t_j r_j), r = shares that sum to 1"
        term = Term(None, tuple((d, t, 1.0) for d, t in zip(domains, names, strict=True)))
        specs = (Parameter("E", "log"), *(Parameter(t) for t in names))
    else:
        checks.real("offset", offset, least=0.0, exclusive=True)
        formula = f"L = E + A prod_j (r_j + {offset:g})^-t_j, r = shares that sum to 1"
        term = Term("A", tuple((f"ln {d}", t, -1.0) for d, t in zip(domains, names, strict=True)))
        amplitude = Parameter("A", "log", tuple((t, f"ln {d}", 1.0) for d, t in zip(domains, names, strict=True)))
        specs = (Parameter("E", "log"), amplitude, *(Parameter(t) for t in names))
    gauge, source = GAUGE if offset is None else "", "Ye et al. 2024"
    return MixingLaw(f"mixing-{kind}", formula, tuple(domains), specs, "E", gauge, source, (E_TERM, term), offset)


def mixing_exponential(domains: Sequence[str]) -> Law:
    """c + k exp(sum t_j r_j) with the gauge fixed by k = 1: shares sum to 1, so only the sums ln k + t_j are determined."""
    return mixing(domains, "exponential", None)


def mixing_power(domains: Sequence[str], *, offset: float = 0.01) -> Law:
    """A product of powers of shares; since many shares are exactly 0, ``offset`` is added to each."""
    return mixing(domains, "power", offset)


def broken(x: str = "C", *, breaks: int = 1, floor: bool = True) -> Law:
    """A power law whose exponent changes smoothly at each break: after Caballero et al. 2023."""
    checks.count("breaks", breaks, 1)

    def formula(p: Jets, t: Table) -> Jet:
        value = p["A"] - t[f"ln {x}"] * p["c0"]
        for i in range(1, breaks + 1):
            past = (t[f"ln {x}"] - p[f"d{i}"]) * jets.exp(-p[f"f{i}"])
            value = value - p[f"c{i}"] * jets.exp(p[f"f{i}"]) * jets.softplus(past)
        return jets.log_sum_exp([p["E"], value]) if floor else value

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        found, feature, root = [], table[f"ln {x}"], np.sqrt(weight)
        places = np.quantile(feature, np.linspace(0.1, 0.9, 7))
        for level in ((1e-4, 0.5, 0.8, 0.95) if floor else (0.0,)):
            target = np.log(loss - level * loss.min()) if floor else np.log(loss)
            for where in combinations(places, breaks):
                for width in (0.05, 0.3, 1.0):
                    bends = [-width * np.logaddexp(0.0, (feature - d) / width) for d in where]
                    design = np.stack([np.ones_like(feature), -feature, *bends], axis=1)
                    answer, *_ = np.linalg.lstsq(design * root[:, None], target * root, rcond=1e-10)
                    floor_at = [np.log(level * loss.min())] if floor else []
                    shape = [v for d, c in zip(where, answer[2:], strict=True) for v in (c, d, np.log(width))]
                    cost = float(np.sum((root * (target - design @ answer)) ** 2))
                    found.append((cost, *floor_at, answer[0], answer[1], *shape))
        return np.array(sorted(found))[:40, 1:]

    specs = [Parameter("E", "log")] if floor else []
    specs += [Parameter("A", "log", (("c0", f"ln {x}", 1.0),)), Parameter("c0")]
    for i in range(1, breaks + 1):
        specs += [Parameter(f"c{i}"), Parameter(f"d{i}", "log", ((1.0, f"ln {x}", 1.0),)), Parameter(f"f{i}", "log")]
    words = f"L = {'E + ' if floor else ''}A {x}^-c0 prod_i (1 + ({x}/d_i)^(1/f_i))^(-c_i f_i)"
    return FormulaLaw(
        "broken", words, (x,), tuple(specs), "E" if floor else None, "", "Caballero et al. 2023", formula, starter,
        (f"ln {x}",), (f"ln {x}",),
    )  # fmt: skip


def loss_to_error(x: str = "nll") -> Law:
    """Error of a task against the loss of the model: eps - k exp(-gamma x); fit it with ``LeastSquares(scale="raw")``."""

    def formula(p: Jets, t: Table) -> Jet:
        return p["eps"] - jets.exp(p["k"] - t[x] * p["gamma"])

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        found, root = [], np.sqrt(weight)
        for rate in np.geomspace(0.02, 20.0, 40):
            design = np.stack([np.ones_like(loss), -np.exp(-rate * table[x])], axis=1)
            answer, *_ = np.linalg.lstsq(design * root[:, None], loss * root, rcond=None)
            cost = float(np.sum((root * (loss - design @ answer)) ** 2))
            found.append((cost, answer[0], np.log(max(answer[1], 1e-6)), rate))
        return np.array(sorted(found))[:12, 1:]

    specs = (Parameter("eps"), Parameter("k", "log", (("gamma", x, 1.0),)), Parameter("gamma"))
    return FormulaLaw(
        "loss-to-error", f"error = eps - k exp(-gamma {x})", (x,), specs, None, "", "Gadre et al. 2024", formula, starter,
        (x,), (x,), "raw",
    )  # fmt: skip


def sigmoid(x: Sequence[str] = ("nll",), *, floor: float | None = 0.0, ceiling: float | None = 1.0) -> Law:
    """score = floor + (ceiling - floor) / (1 + exp(-(b + w.x))); None for an end that is fitted, between 0 and 1."""
    names = (x,) if isinstance(x, str) else tuple(x)
    for name, end in (("floor", floor), ("ceiling", ceiling)):
        if end is not None and not 0 <= checks.real(name, end) <= 1:
            raise ValueError(f"{name}={end!r} must lie between 0 and 1, or be None to be fitted")
    free = [n for n, v in (("floor", floor), ("ceiling", ceiling)) if v is None]

    def formula(p: Jets, t: Table) -> Jet:
        inner = p["b"]
        for name in names:
            inner = inner + t[name] * p[f"w_{name}"]
        rise = jets.logistic(inner)
        low = jets.logistic(p["floor"]) if floor is None else floor
        high = jets.logistic(p["ceiling"]) if ceiling is None else ceiling
        return rise * (high - low) + low

    def starter(law: FormulaLaw, table: Table, loss: Array, weight: Array) -> Array:
        found, root = [], np.sqrt(weight)
        design = np.stack([np.ones_like(loss), *(table[n] for n in names)], axis=1)
        lows = (0.02, 0.2, 0.4) if floor is None else (floor,)
        highs = (0.6, 0.8, 0.98) if ceiling is None else (ceiling,)
        for low, high in product(lows, highs):
            for shrink in (0.02, 0.1, 0.3):
                if high - low < 0.05:
                    continue
                q = np.clip((loss - low) / (high - low), shrink, 1 - shrink)
                answer, *_ = np.linalg.lstsq(design * root[:, None], np.log(q / (1 - q)) * root, rcond=1e-10)
                ends = [np.log(v / (1 - v)) for v, end in ((low, floor), (high, ceiling)) if end is None]
                for steep in (1.0, 2.0, 4.0):
                    found.append([*ends, *(steep * answer)])
        return np.array(found)

    specs = [Parameter(n, "logit") for n in free]
    specs += [Parameter("b", "real", tuple((f"w_{n}", n, -1.0) for n in names)), *(Parameter(f"w_{n}") for n in names)]
    ends = f"{'floor' if floor is None else f'{floor:g}'} + ({'ceiling' if ceiling is None else f'{ceiling:g}'} - floor)"
    return FormulaLaw(
        "sigmoid", f"score = {ends} / (1 + exp(-(b + w.x))), x = {', '.join(names)}", names, tuple(specs), None, "", "",
        formula, starter, names, names, "raw",
    )  # fmt: skip


FORMS: dict[str, Callable[..., Law]] = {
    "power": power,
    "additive": additive,
    "chinchilla": chinchilla,
    "kaplan": kaplan,
    "over-training": over_training,
    "schedule": schedule,
    "width-depth": width_depth,
    "critical": critical,
    "paper": paper,
    "repetition": repetition,
    "transfer": transfer,
    "multilingual": multilingual,
    "multimodal": multimodal,
    "experts": experts,
    "mixing-exponential": mixing_exponential,
    "mixing-power": mixing_power,
    "mixing-pooled": mixing_pooled,
    "mixed": mixed,
    "broken": broken,
    "loss-to-error": loss_to_error,
    "sigmoid": sigmoid,
}
