"""Seeded training runs and resumable sweeps over them.

A *spec* is a frozen description of one ensemble of runs; ``train(spec)`` gives a ``Run`` (plain rows of numbers);
``sweep(specs, store=...)`` keeps every finished run as one file, so that an interrupted sweep goes on where it was.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import json
import math
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from copy import deepcopy
from dataclasses import asdict, dataclass, fields
from functools import partial, singledispatch
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional as F

from limitlib import backends, corpora
from limitlib.models import ACTIVATIONS, CharResidualMLP, Ensemble, GainMLP, ResidualMLP
from limitlib.operators import jacobian_singular_values, pair_ratios, sharpness

Row = dict[str, Any]


# --- specs ---------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Spec:
    """What every spec has: the seeds of its members. Subclasses check their fields when made and raise ValueError."""

    seeds: tuple[int, ...]

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, list):
                object.__setattr__(self, field.name, tuple(value))
        if not self.seeds or any(not isinstance(s, int) or s < 0 for s in self.seeds):
            raise ValueError(f"seeds={self.seeds!r} must be one or more integers >= 0")
        if len(set(self.seeds)) != len(self.seeds):
            raise ValueError(f"seeds={self.seeds!r} repeats a seed; repeated members would count one run twice")

    def need(self, **at_least: float) -> None:
        for name, lowest in at_least.items():
            if not getattr(self, name) >= lowest:
                raise ValueError(f"{name}={getattr(self, name)!r} must be at least {lowest}")

    def need_rates(self, name: str) -> None:
        values = getattr(self, name)
        if not values or not all(math.isfinite(v) and v > 0 for v in values):
            raise ValueError(f"{name}={values!r} must be one or more positive finite numbers")

    @property
    def key(self) -> str:
        """Sixteen hexadecimal digits that change with any field: the name of this spec's file in a store."""
        said = json.dumps({"spec": type(self).__name__, **asdict(self)}, sort_keys=True)
        return hashlib.sha256(said.encode()).hexdigest()[:16]

    @property
    def label(self) -> str:
        """A short name for messages, such as ``DigitsSpec-3f2a...``."""
        return f"{type(self).__name__}-{self.key}"


@dataclass(frozen=True)
class DigitsSpec(Spec):
    """Classification of the 8 x 8 digits by deep networks of width 64, one member per (gain, seed): experiment E3.

    model: "plain" (weights gain x orthogonal) or "residual" (branch gain). held: re-project plain weights after every
    step. norm: LayerNorm in residual branches. probes: test points at which the stack's Jacobian is taken.
    """

    gains: tuple[float, ...]
    depth: int
    model: str = "plain"
    activation: str = "tanh"
    held: bool = False
    norm: bool = True
    steps: int = 250
    batch: int = 128
    learning_rate: float = 1e-3
    probes: int = 8
    dtype: str = "float32"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(depth=1, steps=0, batch=1, probes=2)
        self.need_rates("gains")
        if self.model not in ("plain", "residual"):
            raise ValueError(f"model={self.model!r} is unknown: choose 'plain' or 'residual'")
        if self.activation not in ACTIVATIONS:
            raise ValueError(f"activation={self.activation!r} is unknown: choose one of {', '.join(ACTIVATIONS)}")
        if self.held and self.model != "plain":
            raise ValueError("held=True needs model='plain': only plain weights are held at gain x orthogonal")
        if self.dtype not in ("float32", "float64"):
            raise ValueError(f"dtype={self.dtype!r} is unknown: choose 'float32' or 'float64'")


@dataclass(frozen=True)
class DescentSpec(Spec):
    """Full-batch gradient descent of a 64-hidden-10 tanh network on digits, a member per (rate, seed): experiment E3b.

    Loss: squared distance to the one-hot label, averaged over samples. rates: step sizes eta. every: steps between two
    measurements of the sharpness, each of ``iters`` power iterations from the vector of the one before.
    """

    rates: tuple[float, ...]
    hidden: int = 32
    samples: int = 300
    steps: int = 2000
    every: int = 20
    iters: int = 12

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(hidden=1, samples=1, steps=1, every=1, iters=1)
        self.need_rates("rates")


@dataclass(frozen=True)
class TextSpec(Spec):
    """Next-character prediction on Python source by a pre-LN residual stack of width 96: experiment E3c.

    branch: "scaled" (1/sqrt(depth)) or "unit". Linear warm-up, then linear decay to zero, AdamW.
    probes: test contexts at which the Jacobians of the blocks are taken. evaluation: test windows for the loss.
    """

    depth: int
    branch: str = "scaled"
    steps: int = 700
    batch: int = 256
    learning_rate: float = 3e-3
    warmup: int = 30
    weight_decay: float = 0.01
    probes: int = 8
    evaluation: int = 20_000

    def __post_init__(self) -> None:
        super().__post_init__()
        self.need(depth=1, steps=1, batch=1, warmup=0, probes=2, evaluation=1)
        if self.branch not in ("scaled", "unit"):
            raise ValueError(f"branch={self.branch!r} is unknown: choose 'scaled' or 'unit'")


# --- results -------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """One finished spec: ``rows``, one per member; ``details``, longer tables (per block, per step); wall seconds."""

    spec: Spec
    rows: tuple[Row, ...]
    details: tuple[Row, ...] = ()
    seconds: float = 0.0
    device: str = "cpu"


@dataclass(frozen=True)
class Table:
    """Rows of many runs in the order of their specs; rows need not have the same columns."""

    rows: tuple[Row, ...]
    details: tuple[Row, ...] = ()

    @classmethod
    def from_columns(cls, columns: Mapping[str, Sequence[str]]) -> Table:
        """Rows from columns of text, as a CSV file has them: numbers, True and False become what they say.

        >>> Table.from_columns({"gain": ["0.5"], "held": ["True"], "model": ["plain"]}).rows
        ({'gain': 0.5, 'held': True, 'model': 'plain'},)
        """

        def value(said: str) -> Any:
            if said in ("True", "False"):
                return said == "True"
            with contextlib.suppress(ValueError):
                return int(said)
            with contextlib.suppress(ValueError):
                return float(said)
            return said

        names = list(columns)
        return cls(tuple(dict(zip(names, map(value, row), strict=True)) for row in zip(*columns.values(), strict=True)))

    def where(self, **values: Any) -> Table:
        """The rows (and details) whose columns equal the given values; a row without the column does not match."""

        def fits(row: Mapping[str, Any]) -> bool:
            return all(row.get(k, _ABSENT) == v for k, v in values.items())

        return Table(tuple(filter(fits, self.rows)), tuple(filter(fits, self.details)))

    def column(self, name: str) -> np.ndarray:
        """One column of the rows as an array. Raises KeyError naming the columns if a row lacks it."""
        if any(name not in row for row in self.rows):
            raise KeyError(f"no column {name!r} in every row; there are {sorted(set().union(*self.rows))}")
        return np.array([row[name] for row in self.rows])

    def mean(self, name: str, **values: Any) -> float:
        """Mean of a column over the matching rows. Raises ValueError if none matches."""
        chosen = self.where(**values)
        if not chosen.rows:
            raise ValueError(f"no row has {values}")
        return float(chosen.column(name).mean())

    def sd(self, name: str, **values: Any) -> float:
        """Sample standard deviation of a column over the matching rows (nan for a single row)."""
        found = self.where(**values).column(name)
        return float(found.std(ddof=1)) if len(found) > 1 else math.nan


_ABSENT = object()


# --- training ------------------------------------------------------------------------------------------------------


@singledispatch
def train(spec: Spec, *, device: str = "cpu") -> Run:
    """Train one spec from its seeds; deterministic on one machine, equal across devices to about 1e-3 in a loss.

    spec: a ``DigitsSpec``, ``DescentSpec`` or ``TextSpec``; TypeError for anything else. device: "cpu" or "cuda".
    """
    raise TypeError(f"spec is a {type(spec).__name__}; give a DigitsSpec, a DescentSpec or a TextSpec")


def double_copy(net: Ensemble) -> Ensemble:
    """The same network in float64, where products of a hundred small factors do not underflow."""
    return deepcopy(net).double()


def probe_stack(net: Ensemble, x: torch.Tensor) -> dict[str, np.ndarray]:
    """log10 of ``chi`` (mean over points), ``local`` and ``pair`` (largest) of every member's stack at x (points, width).

    -inf where the map is constant to the last bit, nan where a diverged member has no Jacobian.
    """
    twin = double_copy(net)
    points = x.double().expand(net.members, *x.shape)
    found = jacobian_singular_values(twin.stack, points)
    with np.errstate(divide="ignore"):
        return {
            "log10_chi": np.log10(found.chi.mean(-1)),
            "log10_local": np.log10(found.lower),
            "log10_pair": np.log10(pair_ratios(twin.stack, points).max(-1)),
        }


@train.register
def train_digits(spec: DigitsSpec, *, device: str = "cpu") -> Run:
    """E3: accuracy and loss after training; chi, ``local`` and pair gain of the stack before and after."""
    started = time.perf_counter()
    dtype = getattr(torch, spec.dtype)
    members = [(gain, seed) for gain in spec.gains for seed in spec.seeds]
    gains, seeds = zip(*members, strict=True)
    common: dict[str, Any] = {"depth": spec.depth, "activation": spec.activation, "dtype": dtype}
    net: Ensemble
    if spec.model == "plain":
        net = GainMLP(gains, seeds, **common)
    else:
        net = ResidualMLP(gains, seeds, norm=spec.norm, **common)
    net.to(device)
    data = corpora.digits()
    x, x_test = (torch.tensor(v, dtype=dtype, device=device) for v in (data.x, data.x_test))
    y, y_test = (torch.tensor(v, device=device) for v in (data.y, data.y_test))
    before = probe_stack(net, x_test[: spec.probes])

    batches = {s: np.random.default_rng([s, 1]).integers(len(y), size=(spec.steps, spec.batch)) for s in spec.seeds}
    order = torch.tensor(np.stack([batches[s] for s in seeds], axis=1), device=device)
    # Adam is elementwise, so the members of an ensemble stay independent.
    optimiser = torch.optim.Adam(net.parameters(), lr=spec.learning_rate, fused=True)
    for chosen in order:
        loss = losses(net(x[chosen]), y[chosen]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()
        if spec.held:
            net.hold()
    after = probe_stack(net, x_test[: spec.probes])
    with torch.no_grad():
        logits = net(x_test)
        accuracy = (logits.argmax(-1) == y_test).double().mean(-1).cpu().numpy()
        train_loss = losses(net(x), y.expand(len(members), -1)).double().cpu().numpy()
        test_loss = losses(logits, y_test.expand(len(members), -1)).double().cpu().numpy()
    rows = tuple(
        {
            "model": spec.model,
            "activation": spec.activation,
            "norm": spec.norm if spec.model == "residual" else False,
            "held": spec.held,
            "depth": spec.depth,
            "gain": gain,
            "seed": seed,
            "accuracy": float(accuracy[m]),
            "train_loss": float(train_loss[m]),
            "test_loss": float(test_loss[m]),
            **{f"{name}_start": float(values[m]) for name, values in before.items()},
            **{f"{name}_end": float(values[m]) for name, values in after.items()},
        }
        for m, (gain, seed) in enumerate(members)
    )
    return Run(spec, rows, (), time.perf_counter() - started, device)


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of every member: logits (members, batch, classes), labels (members, batch)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape).mean(-1)


@train.register
def train_descent(spec: DescentSpec, *, device: str = "cpu") -> Run:
    """E3b: eta times sharpness along full-batch gradient descent; details hold the whole course."""
    started = time.perf_counter()
    members = [(rate, seed) for rate in spec.rates for seed in spec.seeds]
    data = corpora.digits()
    x = torch.tensor(data.x[: spec.samples], dtype=torch.float32, device=device).expand(len(members), -1, -1)
    target = F.one_hot(torch.tensor(data.y[: spec.samples]), 10).float().to(device)

    def draw(seed: int) -> list[np.ndarray]:
        rng = np.random.default_rng([seed, 0])
        inputs = x.shape[-1]
        return [
            rng.uniform(-1, 1, (inputs, spec.hidden)) / np.sqrt(inputs),
            rng.uniform(-1, 1, (1, spec.hidden)) / np.sqrt(inputs),
            rng.uniform(-1, 1, (spec.hidden, 10)) / np.sqrt(spec.hidden),
            rng.uniform(-1, 1, (1, 10)) / np.sqrt(spec.hidden),
        ]

    drawn = [draw(seed) for _, seed in members]
    parameters = [torch.tensor(np.stack(p), dtype=torch.float32, device=device) for p in zip(*drawn, strict=True)]
    rate = torch.tensor([r for r, _ in members], dtype=torch.float32, device=device).reshape(-1, 1, 1)

    def loss(p: Sequence[torch.Tensor]) -> torch.Tensor:
        output = torch.baddbmm(p[3], torch.tanh(torch.baddbmm(p[1], x, p[0])), p[2])
        return (output - target).square().sum(-1).mean(-1)

    details: list[Row] = []
    measured = None
    for step in range(spec.steps + 1):
        if step % spec.every == 0:
            start = None if measured is None else measured.vectors
            rng = np.random.default_rng([spec.seeds[0], 2])
            measured = sharpness(loss, parameters, iters=spec.iters * (5 if start is None else 1), rng=rng, start=start)
            with torch.no_grad():
                value = loss(parameters).double().cpu().numpy()
            for m, (eta, seed) in enumerate(members):
                details.append({
                    "rate": eta, "seed": seed, "step": step, "loss": float(value[m]),
                    "sharpness": float(measured.value[m]), "residual": float(measured.residual[m]),
                })  # fmt: skip
        leaves = [p.detach().requires_grad_(True) for p in parameters]
        gradient = torch.autograd.grad(loss(leaves).sum(), leaves)
        parameters = [p.detach() - rate * g for p, g in zip(leaves, gradient, strict=True)]
    rows = []
    for eta, seed in members:
        course = [d for d in details if (d["rate"], d["seed"]) == (eta, seed)]
        tail = [d["rate"] * d["sharpness"] for d in course if d["step"] > 0.75 * spec.steps]
        rows.append({
            "rate": eta, "seed": seed, "start": eta * course[0]["sharpness"], "end": eta * course[-1]["sharpness"],
            "last_quarter": float(np.mean(tail)), "loss": course[-1]["loss"],
            "diverged": not (math.isfinite(course[-1]["loss"]) and course[-1]["loss"] < 1e3),
        })  # fmt: skip
    return Run(spec, tuple(rows), tuple(details), time.perf_counter() - started, device)


@train.register
def train_text(spec: TextSpec, *, device: str = "cpu") -> Run:
    """E3c: test loss, and for every block (details) ``local``, ``rms`` and the relative increment on test contexts."""
    started = time.perf_counter()
    corpus = corpora.python_source()
    net = CharResidualMLP(spec.seeds, vocab=len(corpus.alphabet), depth=spec.depth, branch=spec.branch).to(device)
    codes = torch.tensor(corpus.train, device=device)
    ahead = torch.arange(net.context + 1, device=device)
    starts = [
        np.random.default_rng([s, 1]).integers(len(corpus.train) - net.context, size=(spec.steps, spec.batch))
        for s in spec.seeds
    ]
    order = torch.tensor(np.stack(starts, axis=1), device=device)
    optimiser = torch.optim.AdamW(
        net.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay, fused=True
    )
    for step, chosen in enumerate(order):
        for group in optimiser.param_groups:
            group["lr"] = spec.learning_rate * min((step + 1) / (spec.warmup + 1), 1 - step / spec.steps)
        window = codes[chosen.unsqueeze(-1) + ahead].long()
        loss = losses(net(window[..., :-1]), window[..., -1]).sum()
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        optimiser.step()

    rng = np.random.default_rng([0, 2])
    positions = rng.integers(len(corpus.test) - net.context, size=spec.evaluation)
    contexts, following = (torch.tensor(v, device=device) for v in corpora.windows(corpus.test, net.context, positions))
    total = torch.zeros(net.members, dtype=torch.float64, device=device)
    with torch.no_grad():
        for part, label in zip(contexts.split(2000), following.split(2000), strict=True):
            spread = part.expand(net.members, *part.shape)
            total += losses(net(spread), label.expand(net.members, -1)).double() * len(part)
    test_loss = (total / spec.evaluation).cpu().numpy()

    details = probe_blocks(net, contexts[: spec.probes])
    rows = []
    for m, seed in enumerate(spec.seeds):
        blocks = [d for d in details if d["seed"] == seed]
        local = np.array([d["local"] for d in blocks])
        rows.append({
            "depth": spec.depth, "branch": spec.branch, "steps": spec.steps, "seed": seed, "test_loss": float(test_loss[m]),
            "local_geometric_mean": float(np.exp(np.log(local).mean())), "local_smallest": float(local.min()),
            "local_product": float(local.prod()), "rms_first": blocks[0]["rms"],
            "increments": float(sum(d["increment"] for d in blocks)),
            "stack_local": blocks[0]["stack_local"],
        })  # fmt: skip
    details = [{"branch": spec.branch, **d} for d in details]
    return Run(spec, tuple(rows), tuple(details), time.perf_counter() - started, device)


def probe_blocks(net: CharResidualMLP, contexts: torch.Tensor) -> list[Row]:
    """Per block and member: ``local`` (largest over the points: a LOWER bound on ``sup``), ``rms``, relative increment.

    contexts: codes (points, context). Jacobians are of whole blocks, at the states that the trained network visits.
    """
    twin = double_copy(net)
    assert isinstance(twin, CharResidualMLP)
    with torch.no_grad():
        states = twin.states(twin.embed(contexts.expand(net.members, *contexts.shape)))
    whole = jacobian_singular_values(twin.stack, states[0]).lower
    found = []
    for layer, (before, after) in enumerate(itertools.pairwise(states)):
        spectrum = jacobian_singular_values(partial(twin.block, layer), before)
        step = ((after - before).norm(dim=-1) / before.norm(dim=-1)).mean(-1)
        for m, seed in enumerate(net.seeds):
            found.append({
                "depth": net.depth, "seed": seed, "block": layer + 1, "local": float(spectrum.lower[m]),
                "rms": float(np.sqrt(spectrum.chi[m].mean())), "increment": float(step[m]),
                "stack_local": float(whole[m]),
            })  # fmt: skip
    return found


# --- sweeps --------------------------------------------------------------------------------------------------------

def seal(rows: Sequence[Row], details: Sequence[Row]) -> str:
    """A digest of what was measured, kept beside it: an altered file is not believed."""
    return hashlib.sha256(json.dumps([list(rows), list(details)]).encode()).hexdigest()


def keep(folder: Path, run: Run) -> None:
    """Write a run's file whole or not at all."""
    content = json.dumps(asdict(run) | {"kind": type(run.spec).__name__, "seal": seal(run.rows, run.details)})
    handle, name = tempfile.mkstemp(dir=folder, prefix=".unfinished-")
    try:
        with os.fdopen(handle, "w") as stream:
            stream.write(content)
        os.replace(name, folder / f"{run.spec.label}.json")
    except BaseException:
        Path(name).unlink(missing_ok=True)
        raise


def load(folder: Path, spec: Spec, device: str) -> Run | None:
    """The finished run of ``spec`` in a store, or None if it is absent, damaged, altered, or from another device."""
    try:
        kept = json.loads((folder / f"{spec.label}.json").read_text())
        run = Run(spec, tuple(kept["rows"]), tuple(kept["details"]), kept["seconds"], kept["device"])
        return run if run.device == device and kept["seal"] == seal(run.rows, run.details) else None
    except (FileNotFoundError, json.JSONDecodeError, KeyError, TypeError):
        return None


def attempt(spec: Spec, *, device: str) -> Run | str:
    """``train(spec)``, or in words what went wrong: one bad run must not end a sweep."""
    try:
        return train(spec, device=device)
    except Exception as error:
        return f"{type(error).__name__}: {error}"


class SweepError(RuntimeError):
    """Some runs of a sweep failed; all others are kept in the store. ``failures`` maps a spec's label to what happened."""

    def __init__(self, failures: Mapping[str, str], kept: int) -> None:
        self.failures = dict(failures)
        lines = "; ".join(f"{label}: {why}" for label, why in failures.items())
        total = len(failures) + kept
        super().__init__(f"{len(failures)} of {total} runs failed ({lines}). The other {kept} are kept; run again to retry.")


def sweep(
    specs: Sequence[Spec],
    *,
    store: str | os.PathLike[str],
    backend: str = "serial",
    n_jobs: int | None = None,
    device: str = "cpu",
    attempts: int = 3,
    progress: Callable[[int, int, str], None] | None = None,
) -> Table:
    """Train all specs, taking finished ones from ``store`` (a folder, one file per spec), and return their rows in order.

    backend: "serial"; "loky", ``n_jobs`` processes of this machine (default: its cores); "dask", the workers of the current
    ``distributed.Client``. A file appears whole or not at all. With "loky" a worker that dies loses the run it was on, which is
    tried again up to ``attempts`` times in all; the other workers are not touched. progress(done, total, label) is told of
    every finished run. Raises TypeError or ValueError before anything runs for bad or repeated specs and unknown backends;
    ImportError naming the extra to install; SweepError at the end, naming every run that failed.
    """
    for i, spec in enumerate(specs):
        if not isinstance(spec, Spec):
            kind = type(spec).__name__
            raise TypeError(f"specs[{i}] is a {kind}, not a spec: give a DigitsSpec, a DescentSpec or a TextSpec")
    labels = [spec.label for spec in specs]
    for i, label in enumerate(labels):
        if label in labels[:i]:
            raise ValueError(f"specs[{i}] repeats specs[{labels.index(label)}] ({label}); give each spec once")
    job = partial(attempt, device=device)
    backends.check(backend, n_jobs, attempts)
    folder = Path(store)
    folder.mkdir(parents=True, exist_ok=True)
    finished = {spec: run for spec in specs if (run := load(folder, spec, device))}
    waiting = [spec for spec in specs if spec not in finished]
    if progress and finished:
        progress(len(finished), len(specs), "from the store")
    failures: dict[str, str] = {}
    for i, outcome in backends.run(job, waiting, backend=backend, n_jobs=n_jobs, attempts=attempts):
        spec = waiting[i]
        if isinstance(outcome, Run):
            keep(folder, outcome)
            finished[spec] = outcome
        else:
            failures[spec.label] = outcome if isinstance(outcome, str) else str(outcome)
        if progress:
            progress(len(finished), len(specs), spec.label)
    if failures:
        raise SweepError(failures, len(finished))
    runs = [finished[spec] for spec in specs]
    return Table(
        tuple(row for run in runs for row in run.rows),
        tuple(row for run in runs for row in run.details),
    )
