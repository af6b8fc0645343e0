"""Networks of the book, each a whole ensemble: many members (gain, seed) in one batched module.

Every parameter has a leading *member* dimension and members never mix, so training the ensemble with a per-parameter
optimiser trains every member exactly as it would train alone, at the cost of one batched matrix product per layer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

Activation = Callable[[torch.Tensor], torch.Tensor]

#: Activations by name. ``tanh``, ``relu`` and ``abs`` have Lipschitz constant exactly 1; ``gelu`` (erf form) 1.128904.
ACTIVATIONS: dict[str, Activation] = {
    "tanh": torch.tanh,
    "relu": torch.relu,
    "abs": torch.abs,
    "gelu": F.gelu,
}


def activation_named(name: str) -> Activation:
    """The activation called ``name``; ValueError naming the known ones otherwise."""
    if name not in ACTIVATIONS:
        raise ValueError(f"activation={name!r} is unknown: choose one of {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[name]


def orthogonal(rng: np.random.Generator, rows: int, columns: int) -> np.ndarray:
    """A Haar-distributed matrix with orthonormal columns (rows >= columns) or rows, float64, shape (rows, columns).

    >>> Q = orthogonal(np.random.default_rng(0), 5, 5)
    >>> bool(np.allclose(Q.T @ Q, np.eye(5)))
    True
    """
    if rows < columns:
        return orthogonal(rng, columns, rows).T
    Q, R = np.linalg.qr(rng.standard_normal((rows, columns)))
    return Q * np.sign(np.diag(R))


def newton_schulz(W: torch.Tensor, *, iterations: int = 2) -> torch.Tensor:
    """The orthogonal polar factor of square matrices ``W`` (..., d, d), by X <- X (3 I - X'X) / 2.

    Converges when all singular values lie in (0, sqrt(3)), quadratically near 1: an error e becomes about 1.5 e^2.
    The number of iterations is fixed, so that a GPU is never asked for a number; the caller keeps W near the manifold.
    """
    if W.shape[-1] != W.shape[-2]:
        raise ValueError(f"W has shape {tuple(W.shape)}; the last two dimensions must be equal")
    shifted = 1.5 * torch.eye(W.shape[-1], dtype=W.dtype, device=W.device)
    for _ in range(iterations):
        W = W @ (shifted - 0.5 * (W.mT @ W))
    return W


class Ensemble(nn.Module):
    """What all networks share: members by (gain, seed), a readout, and a stack of blocks that can be probed.

    gains, seeds: one per member. A member's weights depend on its seed alone and its gain only rescales them, so two
    members with one seed are a paired comparison. Tensors are float32 unless ``dtype`` says otherwise.
    """

    #: One number per member, shape (members, 1, 1).
    gain: torch.Tensor
    readout: torch.Tensor
    readout_bias: torch.Tensor

    def __init__(
        self, gains: Sequence[float], seeds: Sequence[int], depth: int, width: int, dtype: torch.dtype
    ) -> None:
        super().__init__()
        if len(gains) != len(seeds) or not len(gains):
            raise ValueError(f"gains has {len(gains)} entries and seeds {len(seeds)}; give one of each per member")
        if depth < 1 or width < 1:
            raise ValueError(f"depth={depth} and width={width} must be at least 1")
        if not all(np.isfinite(g) and g > 0 for g in gains):
            raise ValueError(f"gains={tuple(gains)} must be positive and finite")
        self.members, self.depth, self.width, self.dtype = len(gains), depth, width, dtype
        self.final_norm = False
        self.seeds = tuple(int(s) for s in seeds)
        self.register_buffer("gain", torch.tensor(list(gains), dtype=dtype).reshape(-1, 1, 1))

    def draw(self, make: Callable[[np.random.Generator], dict[str, np.ndarray]]) -> None:
        """Make parameters from one generator per member, called once for each distinct seed, stacked over members."""
        drawn = {seed: make(np.random.default_rng([seed, 0])) for seed in set(self.seeds)}
        for name in drawn[self.seeds[0]]:
            stacked = np.stack([drawn[seed][name] for seed in self.seeds])
            self.register_parameter(name, nn.Parameter(torch.tensor(stacked, dtype=self.dtype)))

    def block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """Block ``layer`` applied to states x of shape (members, batch, width)."""
        raise NotImplementedError

    def spread(self, x: torch.Tensor) -> torch.Tensor:
        """x of shape (batch, width) given to every member; (members, batch, width) is left as it is."""
        return x.expand(self.members, *x.shape) if x.ndim == 2 else x

    def stack(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks, without readout: (members, batch, width) to (members, batch, width)."""
        x = self.spread(x)
        for layer in range(self.depth):
            x = self.block(layer, x)
        return x

    def states(self, x: torch.Tensor) -> list[torch.Tensor]:
        """The depth + 1 states x, T_1 x, T_2 T_1 x, ... of the stack."""
        found = [self.spread(x)]
        for layer in range(self.depth):
            found.append(self.block(layer, found[-1]))
        return found

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Logits (members, batch, classes) of inputs (batch, width) or (members, batch, width)."""
        x = self.stack(x)
        if self.final_norm:
            x = F.layer_norm(x, (self.width,))
        return torch.baddbmm(self.readout_bias, x, self.readout)

    @torch.no_grad()
    def hold(self) -> None:
        """Bring held weights back to their constraint; nothing to do for a network without one."""


class GainMLP(Ensemble):
    """Plain deep networks x -> a(W x + b) whose square weights start as gain times an orthogonal matrix.

    With tanh, relu or abs each layer then has Lipschitz constant (``sup``) exactly the gain, at initialisation and, if
    ``hold()`` is called after every optimiser step, throughout training. Inputs have ``width`` features. Biases start
    at zero and are trained. Theorem T2.4; experiment E3.
    """

    weight: torch.Tensor
    bias: torch.Tensor
    activation: Activation

    def __init__(
        self,
        gains: Sequence[float],
        seeds: Sequence[int],
        *,
        depth: int,
        width: int = 64,
        classes: int = 10,
        activation: str = "tanh",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(gains, seeds, depth, width, dtype)
        self.activation = activation_named(activation)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            return {
                "readout": rng.standard_normal((width, classes)) / np.sqrt(width),
                "readout_bias": np.zeros((1, classes)),
                "weight": np.stack([orthogonal(rng, width, width) for _ in range(depth)]),
                "bias": np.zeros((depth, 1, width)),
            }

        self.draw(make)
        self.weight.data *= self.gain.unsqueeze(-1)

    def block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        return self.activation(torch.baddbmm(self.bias[:, layer], x, self.weight[:, layer]))

    def stack(self, x: torch.Tensor) -> torch.Tensor:
        # One unbind instead of an index per layer: its backward writes the gradient of all layers at once.
        x = self.spread(x)
        for W, b in zip(self.weight.unbind(1), self.bias.unbind(1), strict=True):
            x = self.activation(torch.baddbmm(b, x, W))
        return x

    @torch.no_grad()
    def hold(self) -> None:
        """Replace every weight by gain times the nearest orthogonal matrix.

        Two Newton-Schulz iterations: an optimiser step that moves singular values by 3 % leaves them within 1e-5.
        """
        gain = self.gain.unsqueeze(-1)
        self.weight.copy_(gain * newton_schulz(self.weight / gain))


class ResidualMLP(Ensemble):
    """Residual networks x -> x + s W2 a(g W1 norm(x) + b1) + b2, with or without LayerNorm.

    gains: the branch gain g of every member. scale: the branch factor s. norm: pre-LayerNorm (True) or none; affine:
    with a learned diagonal and shift. final_norm: LayerNorm before the readout. Square weights start orthogonal
    (``init="orthogonal"``) or Gaussian with variance 1/width (``init="normal"``). Experiments E3 and E3c.
    """

    inner: torch.Tensor
    inner_bias: torch.Tensor
    outer: torch.Tensor
    outer_bias: torch.Tensor
    diagonal: torch.Tensor
    shift: torch.Tensor
    activation: Activation

    def __init__(
        self,
        gains: Sequence[float],
        seeds: Sequence[int],
        *,
        depth: int,
        width: int = 64,
        classes: int = 10,
        activation: str = "relu",
        norm: bool = True,
        affine: bool = False,
        final_norm: bool = False,
        scale: float = 1.0,
        init: str = "orthogonal",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        super().__init__(gains, seeds, depth, width, dtype)
        if init not in ("orthogonal", "normal"):
            raise ValueError(f"init={init!r} is unknown: choose 'orthogonal' or 'normal'")
        self.activation = activation_named(activation)
        self.norm, self.affine, self.final_norm, self.scale = norm, affine, final_norm, scale

        def square(rng: np.random.Generator) -> np.ndarray:
            if init == "orthogonal":
                return orthogonal(rng, width, width)
            return rng.standard_normal((width, width)) / np.sqrt(width)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            made = {
                "readout": rng.standard_normal((width, classes)) / np.sqrt(width),
                "readout_bias": np.zeros((1, classes)),
                "inner": np.stack([square(rng) for _ in range(depth)]),
                "outer": np.stack([square(rng) for _ in range(depth)]),
                "inner_bias": np.zeros((depth, 1, width)),
                "outer_bias": np.zeros((depth, 1, width)),
            }
            if affine:
                made |= {"diagonal": np.ones((depth, 1, width)), "shift": np.zeros((depth, 1, width))}
            return made | self.extra(rng)

        self.draw(make)

    def extra(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Further parameters of a subclass, drawn after the others."""
        return {}

    def layers(self) -> list[tuple[torch.Tensor, ...]]:
        """Per layer: inner weight and bias, outer weight and bias, and the norm's diagonal and shift if it has them."""
        tensors = [self.inner, self.inner_bias, self.outer, self.outer_bias]
        if self.affine:
            tensors += [self.diagonal, self.shift]
        return list(zip(*(t.unbind(1) for t in tensors), strict=True))

    def apply_layer(self, x: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """One block with the tensors that ``layers`` lists for it."""
        W1, b1, W2, b2, *affine = tensors
        h = F.layer_norm(x, (self.width,)) if self.norm else x
        if affine:
            h = h * affine[0] + affine[1]
        h = self.activation(torch.baddbmm(b1, h * self.gain, W1))
        return x + self.scale * torch.baddbmm(b2, h, W2)

    def block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        return self.apply_layer(x, self.layers()[layer])

    def stack(self, x: torch.Tensor) -> torch.Tensor:
        x = self.spread(x)
        for tensors in self.layers():
            x = self.apply_layer(x, tensors)
        return x

    def states(self, x: torch.Tensor) -> list[torch.Tensor]:
        found = [self.spread(x)]
        for tensors in self.layers():
            found.append(self.apply_layer(found[-1], tensors))
        return found


class CharResidualMLP(ResidualMLP):
    """Next-character predictor: context characters, embedded and concatenated, through a pre-LN residual stack.

    Width is ``context * embedding``. branch: "scaled" multiplies every branch by 1/sqrt(depth), "unit" by 1. Input codes
    have shape (members, batch, context), integers below ``vocab``; logits (members, batch, vocab). Experiment E3c.
    """

    table: torch.Tensor

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        vocab: int,
        depth: int,
        context: int = 12,
        embedding: int = 8,
        branch: str = "scaled",
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if branch not in ("scaled", "unit"):
            raise ValueError(f"branch={branch!r} is unknown: choose 'scaled' (1/sqrt(depth)) or 'unit' (1)")
        if vocab < 2 or context < 1 or embedding < 1:
            raise ValueError(f"vocab={vocab}, context={context}, embedding={embedding}: need at least 2, 1, 1")
        self.vocab, self.context, self.embedding_size = vocab, context, embedding
        super().__init__(
            [1.0] * len(seeds),
            seeds,
            depth=depth,
            width=context * embedding,
            classes=vocab,
            activation="gelu",
            affine=True,
            final_norm=True,
            scale=depth**-0.5 if branch == "scaled" else 1.0,
            init="normal",
            dtype=dtype,
        )

    def extra(self, rng: np.random.Generator) -> dict[str, np.ndarray]:
        return {"table": rng.standard_normal((self.vocab, self.embedding_size))}

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """The stack's input states (members, batch, width) of integer codes (members, batch, context)."""
        offset = self.vocab * torch.arange(self.members, device=codes.device).reshape(-1, 1, 1)
        return F.embedding(codes + offset, self.table.reshape(-1, self.embedding_size)).flatten(2)

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        return super().forward(self.embed(codes))


class Transformer(Ensemble):
    """Causal character language models in the style of GPT-1 or GPT-2, one member per seed. Experiments E4 and E4b.

    norm: "post", x <- LN(x + attention(x)), x <- LN(x + feed-forward(x)), as GPT-1; or "pre", x <- x + attention(LN(x)),
    x <- x + feed-forward(LN(x)) with one more LN before the readout, as GPT-2. Weights start Gaussian with deviation 0.02,
    biases at 0; scaled_init multiplies the projections that write into the stream by 1/sqrt(2 depth) (default: only "pre",
    as GPT-2). Embedding tied to the readout, learned positions, GELU (erf), feed-forward four times as wide, no dropout.

    Codes have shape (members, batch, tokens), integers below ``vocab``, tokens <= ``context``; states (members, batch,
    tokens, width); logits (members, batch, tokens, vocab). Attention is written as a softmax and two products, so that
    derivatives of every order and in both directions exist, which fused attention on a CPU does not give.
    """

    table: torch.Tensor
    positions: torch.Tensor
    attention: torch.Tensor
    attention_bias: torch.Tensor
    projection: torch.Tensor
    projection_bias: torch.Tensor
    inner: torch.Tensor
    inner_bias: torch.Tensor
    outer: torch.Tensor
    outer_bias: torch.Tensor
    diagonal: torch.Tensor
    shift: torch.Tensor
    final_diagonal: torch.Tensor
    final_shift: torch.Tensor
    future: torch.Tensor

    def __init__(
        self,
        seeds: Sequence[int],
        *,
        vocab: int,
        depth: int,
        width: int = 64,
        heads: int = 4,
        norm: str = "pre",
        context: int = 64,
        scaled_init: bool | None = None,
        dtype: torch.dtype = torch.float32,
    ) -> None:
        if norm not in ("pre", "post"):
            raise ValueError(f"norm={norm!r} is unknown: choose 'pre' (GPT-2 style) or 'post' (GPT-1 style)")
        if vocab < 2 or context < 1:
            raise ValueError(f"vocab={vocab}, context={context}: need at least 2 and 1")
        if heads < 1 or width % heads:
            raise ValueError(f"heads={heads} must be at least 1 and divide width={width}")
        super().__init__([1.0] * len(seeds), seeds, depth, width, dtype)
        self.vocab, self.context, self.heads, self.norm = vocab, context, heads, norm
        self.final_norm = norm == "pre"
        self.scaled_init = self.final_norm if scaled_init is None else scaled_init
        writes = 0.02 * ((2 * depth) ** -0.5 if self.scaled_init else 1.0)

        def make(rng: np.random.Generator) -> dict[str, np.ndarray]:
            made = {
                "table": 0.02 * rng.standard_normal((vocab, width)),
                "positions": 0.02 * rng.standard_normal((context, width)),
                "attention": 0.02 * rng.standard_normal((depth, width, 3 * width)),
                "attention_bias": np.zeros((depth, 1, 3 * width)),
                "projection": writes * rng.standard_normal((depth, width, width)),
                "projection_bias": np.zeros((depth, 1, width)),
                "inner": 0.02 * rng.standard_normal((depth, width, 4 * width)),
                "inner_bias": np.zeros((depth, 1, 4 * width)),
                "outer": writes * rng.standard_normal((depth, 4 * width, width)),
                "outer_bias": np.zeros((depth, 1, width)),
                "diagonal": np.ones((depth, 2, 1, width)),
                "shift": np.zeros((depth, 2, 1, width)),
            }
            if self.final_norm:
                made |= {"final_diagonal": np.ones((1, width)), "final_shift": np.zeros((1, width))}
            return made

        self.draw(make)
        self.register_buffer("future", torch.ones(context, context, dtype=torch.bool).triu(1), persistent=False)

    def layers(self) -> list[tuple[torch.Tensor, ...]]:
        """Per layer, what ``apply_layer`` needs; one unbind, so that its backward writes all layers' gradients at once."""
        tensors = (
            self.attention, self.attention_bias, self.projection, self.projection_bias,
            self.inner, self.inner_bias, self.outer, self.outer_bias, self.diagonal, self.shift,
        )  # fmt: skip
        return list(zip(*(t.unbind(1) for t in tensors), strict=True))

    def attend(self, x: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """Multi-head causal self-attention of states (members, batch, tokens, width), projected back to the stream."""
        W, b, projection, projection_bias = tensors
        members, batch, tokens, width = x.shape
        heads = torch.baddbmm(b, x.reshape(members, -1, width), W)
        heads = heads.reshape(members, batch, tokens, 3, self.heads, -1).permute(3, 0, 1, 4, 2, 5)
        query, key, value = heads.unbind(0)
        scores = query @ key.mT * (width // self.heads) ** -0.5
        weights = scores.masked_fill(self.future[:tokens, :tokens], -torch.inf).softmax(-1)
        mixed = (weights @ value).transpose(2, 3).reshape(members, -1, width)
        return torch.baddbmm(projection_bias, mixed, projection).reshape(x.shape)

    def feed(self, x: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """The feed-forward branch, token by token."""
        W1, b1, W2, b2 = tensors
        hidden = F.gelu(torch.baddbmm(b1, x.reshape(len(x), -1, self.width), W1))
        return torch.baddbmm(b2, hidden, W2).reshape(x.shape)

    def normalise(self, x: torch.Tensor, diagonal: torch.Tensor, shift: torch.Tensor) -> torch.Tensor:
        """LayerNorm of every token with the members' own diagonal and shift (members, 1, width)."""
        return F.layer_norm(x, (self.width,)) * diagonal.unsqueeze(1) + shift.unsqueeze(1)

    def apply_layer(self, x: torch.Tensor, tensors: tuple[torch.Tensor, ...]) -> torch.Tensor:
        """One block with the tensors that ``layers`` lists for it."""
        diagonal, shift = tensors[8].unbind(1), tensors[9].unbind(1)
        if self.norm == "pre":
            x = x + self.attend(self.normalise(x, diagonal[0], shift[0]), tensors[:4])
            return x + self.feed(self.normalise(x, diagonal[1], shift[1]), tensors[4:8])
        x = self.normalise(x + self.attend(x, tensors[:4]), diagonal[0], shift[0])
        return self.normalise(x + self.feed(x, tensors[4:8]), diagonal[1], shift[1])

    def block(self, layer: int, x: torch.Tensor) -> torch.Tensor:
        """Block ``layer`` applied to states (members, batch, tokens, width): attention and feed-forward together."""
        return self.apply_layer(x, self.layers()[layer])

    def embed(self, codes: torch.Tensor) -> torch.Tensor:
        """Token plus position embeddings (members, batch, tokens, width): the stack's input."""
        if codes.ndim != 3 or len(codes) != self.members or codes.shape[-1] > self.context:
            expected = f"({self.members}, batch, tokens <= {self.context})"
            raise ValueError(f"codes has shape {tuple(codes.shape)}; give {expected}, one batch per member")
        offset = self.vocab * torch.arange(self.members, device=codes.device).reshape(-1, 1, 1)
        tokens = F.embedding(codes + offset, self.table.reshape(-1, self.width))
        return tokens + self.positions[:, None, : codes.shape[-1]]

    def stack(self, x: torch.Tensor) -> torch.Tensor:
        """All blocks, without embedding, final norm and readout: states to states."""
        for tensors in self.layers():
            x = self.apply_layer(x, tensors)
        return x

    def states(self, codes: torch.Tensor) -> list[torch.Tensor]:
        """The depth + 1 states of the given codes: the embedding, then the output of every block (before a final norm)."""
        found = [self.embed(codes)]
        for tensors in self.layers():
            found.append(self.apply_layer(found[-1], tensors))
        return found

    def forward(self, codes: torch.Tensor) -> torch.Tensor:
        """Logits (members, batch, tokens, vocab) of the next character after every position of the codes."""
        x = self.stack(self.embed(codes))
        if self.final_norm:
            x = self.normalise(x, self.final_diagonal, self.final_shift)
        return (x.flatten(1, 2) @ self.table.mT).reshape(*codes.shape, self.vocab)
