"""The audit of one network: every block's constants on a stated domain, its gains at the data, and what it does to the states.

The work is done block by block, and a finished block is a finished row: an interruption loses the block in hand, no more.
"""

from __future__ import annotations

import math
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.audit import measure
from limitlib.audit.folder import Network, load_network
from limitlib.audit.inputs import Inputs, prepare
from limitlib.audit.report import AuditReport, BlockRow, CloudMeasures, ControlRow
from limitlib.bounds import Bound, Domain, Shell, WholeSpace

if TYPE_CHECKING:
    import torch
    from torch import nn

    from limitlib.audit.trace import Trace, Visit
    from limitlib.operators import JacobianNorms, JacobianRms

Progress = Callable[[int, int, str], None]
#: At most this many states enter a cover or an entropy number, which cost as much as their number times the cover's.
CLOUD = 2000
#: Chord radius of the angular cover.
COVER_RADIUS = 0.5
#: "auto" takes this part of the smallest norm observed, so that the points lie well inside the shell.
AUTO_SHELL = 0.5


class AuditInterrupted(KeyboardInterrupt):
    """The audit was interrupted; ``report`` holds every row that was finished."""

    def __init__(self, report: AuditReport) -> None:
        super().__init__("the audit was interrupted")
        self.report = report


@dataclass
class _Work:
    """What is known so far; a report can be made of it at any time."""

    network: dict[str, Any]
    inputs: dict[str, Any]
    settings: dict[str, Any]
    domain: str
    start: CloudMeasures | None
    rows: list[BlockRow]
    notes: list[str]
    methods: tuple[str, ...]

    def report(self, complete: bool) -> AuditReport:
        return AuditReport(self.network, self.inputs, self.settings, self.domain, self.start, tuple(self.rows), complete,
                           tuple(dict.fromkeys(self.notes)), self.methods)  # fmt: skip


def audit_network(
    network: str | os.PathLike | nn.Module | Network, *, text: str | Sequence[str] | None = None,
    inputs: np.ndarray | None = None, tokens: int = 64, sequences: int = 64, points: int = 8,
    shell: float | str | None = "auto", blocks: Sequence[int] | None = None, control: int = 3, seed: int = 0,
    bounds: bool = True, cumulative: bool = True, iters: int = 30, probes: int = 8, balls: int = 32,
    allow_pickle: bool = False, device: str = "cpu", progress: Progress | None = None,
) -> AuditReport:  # fmt: skip
    """Measure and bound every block of a network.

    network: a folder or file (:func:`load_network`), a torch module or a :class:`Network`; it is not modified.
    text, inputs, tokens, sequences: where the states come from (:func:`limitlib.audit.prepare`). points: at how many of them
    Jacobians are taken (the first ones). shell: the domain of the upper bounds, for networks with normalisation layers: the
    set of inputs for which every token that enters a normalisation layer of the block has norm (less its mean, where the
    layer takes it off) at least this; "auto" is half of the smallest observed at the layer; None is the whole space.
    blocks: positions of the blocks to audit. control: how many fresh networks to compare with. bounds, cumulative: whether to
    compute the upper bounds and the composed maps. iters, probes: steps of the singular value iteration, random vectors for
    rms. balls: entropy numbers e_1, ..., e_balls of the condensing profile. progress: called as (done, total, what).
    Everything is computed in float64. The same seed on the same machine gives the same report.

    Returns an :class:`AuditReport`. Raises ValueError, TypeError or FileNotFoundError naming what to change;
    :class:`AuditInterrupted`, carrying the finished rows, on Ctrl-C.
    """
    for name, value, least in (
        ("tokens", tokens, 1), ("sequences", sequences, 2), ("points", points, 1), ("control", control, 0), ("iters", iters, 1),
        ("probes", probes, 2), ("balls", balls, 1),
    ):  # fmt: skip
        if isinstance(value, bool) or not isinstance(value, int | np.integer) or value < least:
            raise ValueError(f"{name} must be an integer >= {least}; got {value!r}")
    if not (shell is None or shell == "auto" or (isinstance(shell, int | float) and 0 <= shell < math.inf)):
        raise ValueError(f'shell must be a radius >= 0, "auto" or None; got {shell!r}')
    tell = progress or (lambda done, total, what: None)
    from limitlib.audit import trace as tracing

    tell(0, 1, "reading the network")
    read = network if isinstance(network, Network) else load_network(network, allow_pickle=allow_pickle)
    _check_weights(read.model)
    given = prepare(read, text=text, inputs=inputs, tokens=tokens, sequences=sequences, rng=_rng(seed, 0))
    chosen = choose_blocks(read.model, blocks)
    taken = min(points, len(given.values))
    settings = {"tokens": tokens, "sequences": len(given.values), "points": taken, "shell": shell, "control": control,
                "seed": seed, "iters": iters, "probes": probes, "balls": balls, "cover_radius": COVER_RADIUS, "device": device,
                "blocks": [name for name, _ in chosen]}  # fmt: skip
    facts = {"name": read.name, "family": read.family, "dtype": read.dtype, "parameters": read.parameters}
    where = {"how": given.how, "sha256": given.sha256, "shape": list(given.values.shape), "tokens": given.are_tokens}
    work = _Work(facts, where, settings, "", None, [], [*read.notes, *given.notes], _methods(iters, probes))
    try:
        seen = run(read, chosen, given, device=device, progress=lambda i, n, what: tell(i, n, f"{what} pass, sequences"))
        if not seen.chained and len(seen.visits) > 1:
            work.notes.append("something lies between the blocks (the output of one is not the input of the next): "
                              "no composed map, no product")  # fmt: skip
        work.start = _cloud(seen.visits[0].entering, work.notes)
        domains = shells(seen, shell)
        work.domain = describe_domain(seen, shell)
        composed = cumulative and seen.chained
        if composed and not tracing.copies_fit([v.block for v in seen.visits]):
            composed = False
            work.notes.append("the float64 copies of all blocks do not fit in memory together: no composed map")
        _measure(work, seen, taken, seed, iters, probes, balls, composed, device, tell)
        if bounds:
            _bound(work, read.model, seen, domains, tell)
        _control(work, read, chosen, given, taken, seed, iters, probes, device, tell)
    except KeyboardInterrupt:
        work.notes.append("interrupted: rows or columns are missing")
        raise AuditInterrupted(work.report(complete=False)) from None
    return work.report(complete=True)


def _rng(seed: int, *path: int) -> np.random.Generator:
    return np.random.default_rng([seed, *path])


def _methods(iters: int, probes: int) -> tuple[str, ...]:
    return (
        "every number is computed in float64; stored weights in a narrower type are converted, which is exact",
        f"local: at most {iters} steps of an iteration for the top singular value; the value kept is attained by a direction, "
        "rounded down",
        f"rms: {probes} random probes at each point; an estimate with the standard error rms_error",
        "pairs, ranks, cosines: of the finite set of states, in float64; covers by a greedy rule (above) and a packing (below)",
        "sup: layer rules composed, outward-rounded; the row's source names them",
    )


def _check_weights(model: nn.Module) -> None:
    import torch

    for name, p in model.named_parameters():
        if p.is_floating_point() and not torch.isfinite(p).all():
            raise ValueError(f"weights {name} hold NaN or inf; the checkpoint is damaged or its training diverged")


def choose_blocks(model: nn.Module, positions: Sequence[int] | None = None) -> list[tuple[str, nn.Module]]:
    """The blocks of a network with their paths, or those at the given positions; ValueError for one that is not there."""
    from limitlib.lipschitz import find_blocks

    found = [("", model)] if is_traced(model) else find_blocks(model)
    if positions is None:
        return found
    beyond = [i for i in positions if not 0 <= i < len(found)]
    if beyond or not positions:
        raise ValueError(f"blocks must be positions from 0 to {len(found) - 1}; got {beyond or 'none'}")
    return [found[i] for i in sorted(set(positions))]


def is_traced(model: nn.Module) -> bool:
    """Whether a network is a recording of operations (TorchScript, torch.export) instead of layers."""
    import torch

    return isinstance(model, torch.jit.ScriptModule | torch.fx.GraphModule)


def run(
    network: Network,
    blocks: Sequence[tuple[str, nn.Module]],
    given: Inputs,
    *,
    device: str = "cpu",
    progress: Progress | None = None,
) -> Trace:
    """Run the network on the inputs with these blocks recorded: what enters and leaves each, float64."""
    import torch

    from limitlib.audit import trace as tracing

    values = torch.from_numpy(given.values)
    options: dict[str, Any] = {}
    if hasattr(network.model, "config") and hasattr(network.model, "get_input_embeddings"):  # a model of transformers
        config = network.model.config
        options = {"use_cache": False} if getattr(config, "use_cache", None) is not None else {}
        limit = getattr(config, "max_position_embeddings", None)
        if limit is not None and given.values.shape[1] > limit:
            raise ValueError(f"the network reads at most {limit} tokens; got {given.values.shape[1]} (--tokens)")
        if not given.are_tokens:
            options["inputs_embeds"] = None
    try:
        return tracing.trace(network.model, blocks, values, device=device, progress=progress, **options)
    except (RuntimeError, IndexError, TypeError, AttributeError, NotImplementedError) as error:
        what = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise ValueError(
            f"the network cannot be run on inputs of shape {tuple(given.values.shape)}: {what} (--input gives it other inputs)"
        ) from error


def shells(seen: Trace, shell: float | str | None) -> dict[str, Shell]:
    """Path of every normalisation layer inside a block -> the shell that its tokens lie in; empty for the whole space."""
    if shell is None:
        return {}
    found: dict[str, Shell] = {}
    for visit in seen.visits:
        for path, radii in visit.radii.items():
            full = ".".join(p for p in (visit.name.partition("#")[0], path) if p)
            radius = AUTO_SHELL * float(radii.min()) if shell == "auto" else float(shell)
            if full in found:  # a block that runs twice: the smaller shell holds both
                radius = min(radius, found[full].r_min)
            found[full] = Shell(radius, centred=visit.centred[path])
    return found


def describe_domain(seen: Trace, shell: float | str | None) -> str:
    """The domain of the upper bounds in words."""
    if not any(v.radii for v in seen.visits):
        return "the whole space of states that enter the block (no normalisation layer inside the blocks)"
    if shell is None:
        return "the whole space of states that enter the block"
    size = "half of the smallest norm observed at that layer" if shell == "auto" else f"{float(shell):g}"
    return (
        "states for which every token that enters a normalisation layer of the block has norm at least r_min "
        f"(LayerNorm: after its mean is taken off), r_min = {size}; where the block before ends with a normalisation layer "
        "(BERT), only tokens that this layer can put out"
    )


# --------------------------------------------------------------------------------------------------------------- measuring


def _cloud_of(state: torch.Tensor) -> np.ndarray:
    """States as points: tokens where there are tokens, otherwise whole inputs."""
    array = state.numpy()
    return array.reshape(-1, array.shape[-1]) if array.ndim == 3 else array.reshape(len(array), -1)


def _thinned(cloud: np.ndarray) -> np.ndarray:
    """At most CLOUD of the points, evenly spread over their order."""
    return cloud if len(cloud) <= CLOUD else cloud[np.linspace(0, len(cloud) - 1, CLOUD).round().astype(int)]


def _cloud(state: torch.Tensor, notes: list[str]) -> CloudMeasures:
    cloud = _cloud_of(state)
    thin = _thinned(cloud)
    if len(thin) < len(cloud):
        notes.append(f"covers and entropy numbers use {len(thin)} of the {len(cloud)} states, evenly spread")
    spread = bool(np.ptp(cloud, axis=0).max() > 0)
    turned = bool((np.abs(cloud).max(1) > 0).all())
    if not turned:
        notes.append("some states are zero and have no direction: no cosine and no angular cover there")
    return CloudMeasures(
        len(cloud),
        measure.effective_rank(cloud) if spread else math.nan,
        measure.mean_cosine(cloud) if turned else math.nan,
        measure.angular_cover(thin, COVER_RADIUS) if turned else None,
    )


def _measure(
    work: _Work,
    seen: Trace,
    points: int,
    seed: int,
    iters: int,
    probes: int,
    balls: int,
    composed: bool,
    device: str,
    tell: Progress,
) -> None:
    from limitlib.audit import trace as tracing

    maps: list[Callable[[torch.Tensor], torch.Tensor]] = []
    product = np.ones(points)
    for i, visit in enumerate(seen.visits):
        began = time.perf_counter()
        tell(i, len(seen.visits), f"measuring {visit.name or 'the network'}")
        f = tracing.block_map(visit, device=device)
        check_map(visit, f, points)
        norms, rms = gains(f, visit.entering[:points], iters, probes, _rng(seed, 1, i), device)
        local = norms.lower
        product = product * local
        along = None
        if composed:
            maps.append(f)
            start = seen.visits[0].entering[:points]
            along = local if i == 0 else top_singular_values(tracing.chain(maps), start, iters, _rng(seed, 2, i), device).lower
        before, after = _cloud_of(visit.entering), _cloud_of(visit.leaving)
        ratios = measure.pair_ratios(visit.entering.flatten(1).numpy(), visit.leaving.flatten(1).numpy())
        same = before.shape == after.shape and bool((np.abs(before).max(1) > 0).all())
        profile = measure.condensing_profile(_thinned(before), _thinned(after), balls) if len(before) == len(after) else None
        work.rows.append(
            BlockRow(
                name=visit.name or "network", local=tuple(local.tolist()), local_residual=tuple(norms.residual.tolist()),
                rms=tuple(rms.value.tolist()), rms_error=tuple(rms.standard_error.tolist()),
                pair_median=float(np.median(ratios)), pair_max=float(ratios.max()), cloud=_cloud(visit.leaving, work.notes),
                increment=measure.relative_increment(before, after) if same else None, condensing=profile,
                cumulative=None if along is None else tuple(along.tolist()),
                product=tuple(product.tolist()) if seen.chained else None,
                radii={p: float(r.min()) for p, r in visit.radii.items()},
                seconds=round(time.perf_counter() - began, 2),
            )
        )  # fmt: skip


def check_map(visit: Visit, f: Callable[[torch.Tensor], torch.Tensor], points: int) -> None:
    """Demand that the block, called alone, gives what it gave inside the network; RuntimeError otherwise."""
    import torch

    some = min(2, points)
    with torch.no_grad():
        found = f(visit.entering[:some].flatten(1)).cpu()
    must = visit.leaving[:some].flatten(1)
    if not torch.allclose(found, must, rtol=1e-9, atol=1e-9 * float(must.abs().max())):
        raise RuntimeError(
            f"block {visit.name} called alone gives other values than inside the network (its other arguments depend on the "
            "inputs); audit fewer blocks (--blocks) or report the architecture"
        )


def top_singular_values(
    f: Callable[[torch.Tensor], torch.Tensor], states: torch.Tensor, iters: int, rng: np.random.Generator, device: str
) -> JacobianNorms:
    """Attained lower bounds of the top singular value of the Jacobian of a flat map at each state."""
    from limitlib.operators import jacobian_norm

    return jacobian_norm(f, states.flatten(1).to(device), iters=iters, rng=rng)


def gains(
    f: Callable[[torch.Tensor], torch.Tensor],
    states: torch.Tensor,
    iters: int,
    probes: int,
    rng: np.random.Generator,
    device: str,
) -> tuple[JacobianNorms, JacobianRms]:
    """``local`` and ``rms`` at each state."""
    from limitlib.operators import jacobian_rms

    local = top_singular_values(f, states, iters, rng, device)
    return local, jacobian_rms(f, states.flatten(1).to(device), probes=probes, rng=rng)


def _bound(work: _Work, model: nn.Module, seen: Trace, domains: dict[str, Shell], tell: Progress) -> None:
    """Give every row its bracket on the domain: the rules' upper end, and the local values inside the domain as lower end."""
    from limitlib.lipschitz import NormShells

    uppers = upper_bounds(model, seen, domains, tell)
    for i, (row, visit) in enumerate(zip(work.rows, seen.visits, strict=True)):
        name = visit.name.partition("#")[0]
        upper, notes = uppers[name], row.notes
        inside = [x for j, x in enumerate(row.local) if _inside(visit, domains, name, j)]
        if not inside:
            notes += ("no point lies inside the domain: the lower end of sup is 0",)
        lower = max(inside, default=0.0)
        if lower > upper.upper:
            raise RuntimeError(f"block {row.name}: the attained value {lower!r} exceeds the bound {upper.upper!r}; report this")
        kind = upper.kind if lower == upper.upper else "certified" if upper.kind == "exact" else upper.kind
        source = upper.source.replace("; lower end: no states given", "")
        source += f"; lower end: local values at {len(inside)} of {len(row.local)} points"
        own = {p: s for p, s in domains.items() if not name or p.startswith(f"{name}.")}
        sup = Bound(lower, upper.upper, upper.norm, NormShells(own) if own else upper.domain, kind, None, source)
        work.rows[i] = replace(row, sup=sup, notes=notes)
    logs = [math.log(r.sup.upper) if r.sup and 0 < r.sup.upper < math.inf else -1.0 for r in work.rows]
    if min(logs) >= 0 and sum(logs) > 0:
        work.rows[:] = [replace(r, share_of_log=x / sum(logs)) for r, x in zip(work.rows, logs, strict=True)]


def upper_bounds(model: nn.Module, seen: Trace, domains: dict[str, Shell], tell: Progress) -> dict[str, Bound]:
    """Path of each block -> its certified upper end; inf with the reason where a block holds a layer without a rule."""
    import copy

    import torch

    from limitlib.lipschitz import NormShells, UnsupportedLayer, audit, lipschitz

    if is_traced(model):
        why = "no finite bound: a traced file records operations, and the rules are for layers; audit the module itself"
        return {v.name: Bound(0.0, math.inf, source=why) for v in seen.visits}
    if any(t.dtype in (torch.float16, torch.bfloat16) for t in [*model.parameters(), *model.buffers()]):
        model = copy.deepcopy(model).float()  # exact: float32 holds every narrower number
    if any(m.training for m in model.modules()):
        model = copy.deepcopy(model).eval()
    state = seen.visits[0].entering
    tokens = state.shape[1] if state.ndim == 3 else None
    domain: Domain | dict[str, Domain] = dict(domains) or WholeSpace()
    try:
        found = audit(model, domain, tokens=tokens, progress=lambda i, n, what: tell(i, n, f"bounding, done with {what}"))
        return {b.name: b.bound for b in found}
    except (UnsupportedLayer, ValueError):
        pass  # one block without a rule says nothing about the others: each is tried alone, from the shape that enters it
    alone: dict[str, Bound] = {}
    for i, visit in enumerate(seen.visits):
        name = visit.name.partition("#")[0]
        tell(i, len(seen.visits), f"bounding {name}")
        prefix = f"{name}." if name else ""
        shells = {p.removeprefix(prefix): s for p, s in domains.items() if p.startswith(prefix)}
        block = dict(model.named_modules())[name]
        where = NormShells(shells) if shells else WholeSpace()
        try:
            alone[name] = lipschitz(block, where, tokens=tokens, input_shape=tuple(visit.entering.shape[1:]))
        except (UnsupportedLayer, ValueError) as error:
            alone[name] = Bound(0.0, math.inf, (2, 2), where, "certified", None, f"no finite bound: {error}")
    return alone


def _inside(visit: Visit, domains: dict[str, Shell], name: str, point: int) -> bool:
    """Whether a point lies inside the domain with a margin: every token that enters a normalisation layer is far enough out."""
    return all(float(r[point]) > domains[".".join(p for p in (name, path) if p)].r_min * (1 + 1e-9)
               for path, r in visit.radii.items() if domains)  # fmt: skip


def _control(
    work: _Work, network: Network, chosen: Sequence[tuple[str, nn.Module]], given: Inputs, points: int, seed: int, iters: int,
    probes: int, device: str, tell: Progress,
) -> None:  # fmt: skip
    """The same measures for fresh weights, seed by seed; the rows get means over the seeds finished."""
    from limitlib.audit import trace as tracing

    wanted = work.settings["control"]
    if not wanted:
        return
    if network.fresh is None:
        work.notes.append("no control: how this architecture draws its first weights is not known")
        return
    names = {name for name, _ in chosen}
    locals_, rmss, ranks, cosines = [], [], [], []
    for s in range(wanted):
        model = network.fresh(seed * 1000 + s)
        blocks = [(n, m) for n, m in choose_blocks(model) if n in names]
        seen = run(replace(network, model=model), blocks, given, device=device)
        one = []
        for i, visit in enumerate(seen.visits):
            tell(s * len(seen.visits) + i, wanted * len(seen.visits), f"fresh weights {s + 1}/{wanted}, {visit.name}")
            f = tracing.block_map(visit, device=device)
            norms, rms = gains(f, visit.entering[:points], iters, probes, _rng(seed, 3, s, i), device)
            cloud = _cloud_of(visit.leaving)
            one.append((norms.lower.mean(), rms.value.mean(), measure.effective_rank(cloud), measure.mean_cosine(cloud)))
        table = np.array(one)
        locals_.append(table[:, 0])
        rmss.append(table[:, 1])
        ranks.append(table[:, 2])
        cosines.append(table[:, 3])
        _give_control(work, np.array(locals_), np.array(rmss), np.array(ranks), np.array(cosines))


def _give_control(work: _Work, local: np.ndarray, rms: np.ndarray, rank: np.ndarray, cosine: np.ndarray) -> None:
    seeds = len(local)
    spread = (lambda x: x.std(0, ddof=1)) if seeds > 1 else (lambda x: np.full(x.shape[1], math.nan))
    product = np.cumprod(local, axis=1).mean(0)
    for i, row in enumerate(work.rows):
        numbers = (local.mean(0), spread(local), rms.mean(0), spread(rms), product, rank.mean(0), cosine.mean(0))
        made = ControlRow(seeds, *(float(n[i]) for n in numbers))
        work.rows[i] = replace(row, control=made)
