"""Running a network once and keeping what enters and leaves each block, all in float64, without touching the network.

Blocks are replaced, in a copy of everything around them, by recorders that run a float64 copy of the block: one block is held
twice at a time, so a network that fits in memory once can be traced. Modules that compute in float32 on purpose (norms,
softmax, routing in ``transformers``) are made to compute in float64 too.
"""

from __future__ import annotations

import contextlib
import copy
import itertools
import os
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

NARROW = (torch.float32, torch.float16, torch.bfloat16)
DOWN = (torch.Tensor.float, torch.Tensor.half, torch.Tensor.bfloat16)
#: Part of the free memory that float64 copies of blocks may take when several are kept.
KEEP = 0.4


class Float64(TorchFunctionMode):
    """While active, a request for a narrower float gives float64: the network's own casts cannot lose digits."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func in DOWN:
            return args[0].double()
        args = tuple(torch.float64 if isinstance(a, torch.dtype) and a in NARROW else a for a in args)
        kwargs = {k: torch.float64 if isinstance(v, torch.dtype) and v in NARROW else v for k, v in (kwargs or {}).items()}
        return func(*args, **kwargs)


@contextlib.contextmanager
def exactly() -> Iterator[None]:
    """Float64, plain attention (the fused kernels have no second derivative) and no fast paths."""
    fast = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    try:
        with Float64(), torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
            yield
    finally:
        torch.backends.mha.set_fastpath_enabled(fast)


def double(module: nn.Module, device: str = "cpu") -> nn.Module:
    """A float64 copy in evaluation mode that asks for no gradient of its weights."""
    with torch.no_grad(), warnings.catch_warnings():  # TorchScript would record the conversion
        warnings.simplefilter("ignore")  # exported programs warn about torch's own insides when copied
        made = copy.deepcopy(module).to(device=device).double()
    with contextlib.suppress(NotImplementedError):  # exported programs have one mode only
        made.eval()
    for p in made.parameters():
        p.requires_grad_(False)
    return made


@dataclass(frozen=True)
class Visit:
    """One passage through a block. ``entering``, ``leaving``: float64 on the CPU, shape (points, ...).

    ``radii``: for each normalisation layer inside, the smallest norm of a token that entered it, with the points kept apart,
    shape (points,); ``centred`` says for each whether the mean is taken off first. ``args``, ``kwargs``: what else the block
    was called with, in a run of one point, so that it fits any number of them.
    """

    name: str
    block: nn.Module
    entering: torch.Tensor
    leaving: torch.Tensor
    radii: dict[str, torch.Tensor]
    centred: dict[str, bool]
    args: tuple
    kwargs: dict[str, Any]
    key: str | None


@dataclass(frozen=True)
class Trace:
    """The passages through the blocks in order. ``chained``: what leaves a block is what enters the next, every time."""

    visits: tuple[Visit, ...]
    chained: bool


def is_norm(module: nn.Module) -> bool | None:
    """True for layers that divide by the centred norm, False for those that divide by the norm, None for all others."""
    if isinstance(module, nn.LayerNorm) or type(module).__name__.endswith("LayerNorm"):
        return not type(module).__name__.endswith(("T5LayerNorm", "RMSLayerNorm"))
    if isinstance(module, nn.RMSNorm) or type(module).__name__.endswith("RMSNorm"):
        return False
    return None


def _state(output: Any) -> torch.Tensor:
    state = output[0] if isinstance(output, tuple | list) else output
    if not isinstance(state, torch.Tensor):
        raise TypeError(
            f"a block gives a {type(output).__name__}; the audit reads blocks that give a tensor, or a tuple led by one"
        )
    return state


class Recorder(nn.Module):
    """Stands in for a block: runs a float64 copy of it and logs what went in and came out."""

    def __init__(self, name: str, block: nn.Module, log: list, device: str) -> None:
        super().__init__()
        self.__dict__["held"] = (name, block, log, device)  # out of torch's sight: the block itself is not to be converted

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(self.__dict__["held"][1], name)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        name, block, log, device = self.__dict__["held"]
        key = None
        if not (args and isinstance(args[0], torch.Tensor)):
            key = next((k for k, v in kwargs.items() if isinstance(v, torch.Tensor) and v.is_floating_point()), None)
            if key is None:
                raise TypeError(
                    f"block {name} is called without a tensor of states; name blocks that pass states on (--blocks)"
                )
        state = kwargs[key] if key else args[0]
        body = double(block, device)
        radii: dict[str, torch.Tensor] = {}
        centred: dict[str, bool] = {}

        def watch(path: str, middle: bool) -> Callable:
            def hook(module: nn.Module, given: tuple) -> None:
                x = given[0].detach()
                # A layer that normalises the last axis only; others are not covered by a shell of tokens.
                x = x - x.mean(-1, keepdim=True) if middle else x
                smallest = x.norm(dim=-1).reshape(len(x), -1).amin(-1) if len(x) == len(state) else x.norm(dim=-1).amin()
                radii[path] = torch.minimum(radii[path], smallest) if path in radii else smallest
                centred[path] = middle

            return hook

        for path, module in body.named_modules():
            middle = is_norm(module)
            if middle is not None:
                module.register_forward_pre_hook(watch(path, middle))
        output = body(*args, **kwargs)
        rest = {k: v for k, v in kwargs.items() if k != key}
        log.append((name, block, state, _state(output), radii, centred, args if key else args[1:], rest, key))
        return output


def around(model: nn.Module, blocks: Sequence[tuple[str, nn.Module]], log: list, device: str) -> nn.Module:
    """A float64 copy of the model in which recorders stand for the blocks (whose weights are not copied)."""
    stand_ins: dict[int, Any] = {id(block): Recorder(name, block, log, device) for name, block in blocks}
    shell = copy.deepcopy(model, stand_ins)
    return shell.to(device=device).double().eval().requires_grad_(False)


def trace(
    model: nn.Module, blocks: Sequence[tuple[str, nn.Module]], inputs: torch.Tensor, *, device: str = "cpu", batch: int = 32,
    progress: Callable[[int, int, str], None] | None = None, **options: Any,
) -> Trace:  # fmt: skip
    """Run ``model(inputs)`` once with every block recorded; inputs (points, ...): token ids or features.

    ``options`` go to the model's forward. Raises TypeError or ValueError where a block cannot be recorded or is never run.
    """
    log: list = []
    shell = around(model, blocks, log, device)

    def run(part: torch.Tensor) -> list:
        log.clear()
        part = part.to(device)
        if "inputs_embeds" in options:
            shell(**{**options, "inputs_embeds": part.double()})
        else:
            shell(part.double() if part.is_floating_point() else part, **options)
        return list(log)

    with torch.no_grad(), exactly():
        single = run(inputs[:1])
        if not single:
            raise ValueError(
                f"none of the blocks {blocks[0][0]} ... {blocks[-1][0]} ran; name blocks that the forward pass calls"
            )
        parts = []
        for start in range(0, len(inputs), batch):
            if progress:
                progress(start, len(inputs), "forward")
            parts.append(run(inputs[start : start + batch]))
    if any([r[0] for r in part] != [r[0] for r in single] for part in parts):
        raise ValueError("the blocks run in another order for other inputs; the audit reads networks whose path is fixed")
    names: dict[str, int] = {}
    visits: list[Visit] = []
    for i, (name, block, *_, centred, args, kwargs, key) in enumerate(single):
        names[name] = names.get(name, 0) + 1
        shown = name if names[name] == 1 else f"{name}#{names[name]}"
        entering, leaving = (torch.cat([part[i][j] for part in parts]).cpu() for j in (2, 3))
        for part in parts:
            part[i] = (*part[i][:2], None, None, *part[i][4:])  # what was joined is let go
        if visits and torch.equal(visits[-1].leaving, entering):
            entering = visits[-1].leaving  # held once
        radii = {p: torch.cat([torch.atleast_1d(part[i][4][p]) for part in parts]).cpu() for p in single[i][4]}
        visits.append(Visit(shown, block, entering, leaving, radii, centred, args, kwargs, key))
    chained = all(torch.equal(a.leaving, b.entering) for a, b in itertools.pairwise(visits))
    return Trace(tuple(visits), chained)


def block_map(visit: Visit, *, device: str = "cpu") -> Callable[[torch.Tensor], torch.Tensor]:
    """The block as a float64 map of flat states (points, inputs) -> (points, outputs), all else that it is given held fixed."""
    body = double(visit.block, device)
    shape = visit.entering.shape[1:]

    def f(x: torch.Tensor) -> torch.Tensor:
        state = x.reshape(x.shape[0], *shape) if x.ndim > 1 else x.reshape(1, *shape)
        with exactly():
            if visit.key:
                output = body(*visit.args, **visit.kwargs, **{visit.key: state})
            else:
                output = body(state, *visit.args, **visit.kwargs)
        return _state(output).reshape(*x.shape[:-1], -1)

    return f


def chain(maps: Sequence[Callable[[torch.Tensor], torch.Tensor]]) -> Callable[[torch.Tensor], torch.Tensor]:
    """The composition of maps, the first one applied first."""

    def f(x: torch.Tensor) -> torch.Tensor:
        for g in maps:
            x = g(x)
        return x

    return f


def free_memory() -> float:
    """Bytes of memory that are free on this machine, inf where the system does not say."""
    with contextlib.suppress(OSError, ValueError, AttributeError):
        with open("/proc/meminfo") as stream:
            for line in stream:
                if line.startswith("MemAvailable"):
                    return 1024.0 * int(line.split()[1])
        return float(os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"))
    return float("inf")


def copies_fit(blocks: Sequence[nn.Module]) -> bool:
    """Whether float64 copies of all the blocks may be held at once."""
    return sum(8 * p.numel() for b in blocks for p in b.parameters()) <= KEEP * free_memory()
