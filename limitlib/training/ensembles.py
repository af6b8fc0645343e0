"""What the training of any ensemble needs: a loss for every member, and a copy in float64 to measure on."""

from __future__ import annotations

from copy import deepcopy
from typing import TypeVar

import torch
from torch.nn import functional as F

from limitlib.models import Ensemble

Network = TypeVar("Network", bound=Ensemble)


def double_copy(net: Network) -> Network:
    """The same network in float64, where products of a hundred small factors do not underflow."""
    return deepcopy(net).double()


def losses(logits: torch.Tensor, labels: torch.Tensor) -> torch.Tensor:
    """Mean cross-entropy in nats of every member: logits (members, batch, classes), labels (members, batch)."""
    return F.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none").reshape(labels.shape).mean(-1)
