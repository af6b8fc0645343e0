"""Linear attention with the weights that make every layer one step of gradient descent on the context (von Oswald et al.)."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn

from limitlib.checks import count, flag, real


class LinearAttention(nn.Module):
    """``depth`` layers of one linear-attention head with a residual connection and no softmax, float64, nothing to train.

    A context of n tokens (x_i, y_i) and queries (x_q, 0) stand in one sequence; all attend to the context. With
    W_Q = W_K = diag(I, 0), W_V = diag(0, -1) and the output (eta / n) I a layer maps y to y - (eta/n) sum_j y_j <x_j, x>: one
    step of gradient descent, from 0, on half the mean square error of the context. After k layers a context token carries its
    residual y_i - <w_k, x_i> and a query carries -<w_k, x_q>, exactly. Theorem T6.7.

    dim: the number d of input features. eta: the step; the layers are nonexpansive in y iff eta <= :meth:`largest_step`, and
    a larger one is allowed, because it has to fail. softmax: weights softmax_j <x_j, x> in place of <x_j, x> / n: a negative
    control, which is no gradient descent.
    """

    query_weight: torch.Tensor
    key_weight: torch.Tensor
    value_weight: torch.Tensor

    def __init__(self, dim: int, depth: int, *, eta: float, softmax: bool = False) -> None:
        super().__init__()
        self.dim, self.depth = count("dim", dim, 1), count("depth", depth, 0)
        self.eta, self.softmax = real("eta", eta, least=0, exclusive=True), flag("softmax", softmax)
        inputs = torch.diag(torch.tensor([1.0] * self.dim + [0.0], dtype=torch.float64))
        self.register_buffer("query_weight", inputs)
        self.register_buffer("key_weight", inputs.clone())
        self.register_buffer("value_weight", inputs - torch.eye(self.dim + 1, dtype=torch.float64))

    def layer(self, tokens: torch.Tensor, context: int) -> torch.Tensor:
        """One layer as written: tokens (..., context + queries, d + 1), the context first, to tokens of the same shape."""
        if not isinstance(tokens, torch.Tensor) or tokens.dtype != torch.float64 or tokens.ndim < 2:
            raise TypeError("tokens must be a float64 tensor of at least 2 dimensions")
        context = count("context", context, 1, "it counts tokens")
        if tokens.shape[-1] != self.dim + 1 or not 1 <= context <= tokens.shape[-2]:
            raise ValueError(
                f"tokens has shape {tuple(tokens.shape)} and context={context}; give (..., tokens, {self.dim + 1}) and 1 <= "
                f"context <= tokens"
            )
        seen = tokens[..., :context, :]
        weights = self._weights(tokens @ self.query_weight, seen @ self.key_weight)
        return tokens + weights @ (seen @ self.value_weight)

    def _weights(self, queries: torch.Tensor, keys: torch.Tensor) -> torch.Tensor:
        scores = queries @ keys.mT
        return self.eta * (scores.softmax(-1) if self.softmax else scores / keys.shape[-2])

    @torch.no_grad()
    def predictions(
        self, X: torch.Tensor, y: torch.Tensor, query: torch.Tensor, depths: Sequence[int] | None = None
    ) -> torch.Tensor:
        """Predictions at the queries after each of the given numbers of layers (default: ``depth``), increasing order.

        X: (n, d), one context for all tasks, or (tasks, n, d). y: (tasks, n). query: (q, d) or (tasks, q, d). All float64.
        Result: (depths, tasks, q). The layers never change an x, so the attention weights are computed once; otherwise this is
        :meth:`layer`, applied again and again. Raises ValueError for shapes that don't fit, TypeError for other dtypes.
        """
        if depths is not None and not hasattr(depths, "__iter__"):
            raise TypeError(f"depths={depths!r} must be a list of numbers of layers, such as [{depths!r}]")
        wanted = [self.depth] if depths is None else [count("depths", k, 0, "it holds numbers of layers") for k in depths]
        if wanted != sorted(set(wanted)) or not wanted or wanted[0] < 0 or wanted[-1] > self.depth:
            raise ValueError(f"depths={depths!r} must increase from at least 0 to at most depth={self.depth}")
        for name, tensor, dims in (("X", X, (2, 3)), ("y", y, (2,)), ("query", query, (2, 3))):
            if not isinstance(tensor, torch.Tensor) or tensor.dtype != torch.float64:
                raise TypeError(f"{name} must be a float64 tensor")
            if tensor.ndim not in dims or not tensor.numel():
                wanted_dims = " or ".join(map(str, dims))
                raise ValueError(f"{name} has shape {tuple(tensor.shape)}; give {wanted_dims} dimensions, none empty")
            if not tensor.isfinite().all():
                raise ValueError(f"{name} must be finite; it holds NaN or inf")
        n, tasks = X.shape[-2], len(y)
        fits = X.shape[-1] == query.shape[-1] == self.dim and y.shape[1] == n
        if not fits or any(t.ndim == 3 and len(t) != tasks for t in (X, query)):
            raise ValueError(
                f"X {tuple(X.shape)}, y {tuple(y.shape)} and query {tuple(query.shape)} don't fit; give (tasks, n, {self.dim}) "
                f"or (n, {self.dim}), (tasks, n), and (tasks, q, {self.dim}) or (q, {self.dim})"
            )
        shared = X.ndim == query.ndim == 2
        if not shared:
            X, query = (t.expand(tasks, *t.shape[-2:]) for t in (X, query))
        step = self._weights(torch.cat([X, query], dim=-2), X)
        # The last feature of the tokens, as a column per task; W_V takes it with a minus sign.
        state = torch.cat([y, y.new_zeros(tasks, query.shape[-2])], dim=1)
        state = state.T.contiguous() if shared else state.unsqueeze(-1)
        found, done = [], 0
        for k in wanted:
            for _ in range(done, k):
                state = state - step @ state[..., :n, :]
            done = k
            found.append(-(state[n:].T if shared else state[:, n:, 0]))
        return torch.stack(found)

    def forward(self, X: torch.Tensor, y: torch.Tensor, query: torch.Tensor) -> torch.Tensor:
        """Predictions (tasks, q) at the queries after all layers; arguments as in :meth:`predictions`."""
        return self.predictions(X, y, query)[0]

    @staticmethod
    def largest_step(X: torch.Tensor) -> float:
        """2 / l_max of X'X / n for one context X (n, d): above it the layers expand and the loss grows without bound."""
        if not isinstance(X, torch.Tensor) or X.is_complex():
            raise TypeError(f"X must be a tensor of real numbers; got {type(X).__name__}: give torch.as_tensor(X)")
        if not X.isfinite().all():
            raise ValueError("X must be finite; it holds NaN or inf")
        if X.ndim != 2 or not X.numel():
            raise ValueError(f"X has shape {tuple(X.shape)}; give one context (n, d)")
        largest = float(torch.linalg.matrix_norm(X.double(), ord=2)) ** 2 / X.shape[0]
        return 2 / largest if largest else math.inf
