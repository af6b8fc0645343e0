"""Rules for torch's own layers and functions, and the walk along a traced graph.

A rule takes the walker, the layer, its path and the value that enters, and returns the value that leaves.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.bounds import round_up
from limitlib.lipschitz.activations import canonical
from limitlib.lipschitz.chains import Entrywise
from limitlib.lipschitz.layers import layer_bound
from limitlib.lipschitz.regions import EPS, Array, Region, frobenius
from limitlib.lipschitz.walker import UnsupportedLayer, Value, Walker, plain
from limitlib.operators import conv_norm

if TYPE_CHECKING:
    from torch import Tensor, nn

Rule = Callable[[Walker, Any, str, Value], Value]

#: A linear layer is written out as a matrix up to this many entries; larger ones are bounded as convolutions or averages.
MATERIALISE = 2**18

#: torch's activation modules and functions: the name of the activation, and the attributes that are its parameters.
ACTIVATIONS: dict[str, tuple[str, tuple[str, ...]]] = {
    "CELU": ("celu", ("alpha",)),
    "ELU": ("elu", ("alpha",)),
    "GELU": ("gelu", ("approximate",)),
    "Hardsigmoid": ("hardsigmoid", ()),
    "Hardswish": ("hardswish", ()),
    "Hardtanh": ("hardtanh", ("min_val", "max_val")),
    "LeakyReLU": ("leaky_relu", ("negative_slope",)),
    "LogSigmoid": ("logsigmoid", ()),
    "Mish": ("mish", ()),
    "ReLU": ("relu", ()),
    "ReLU6": ("relu6", ()),
    "SELU": ("selu", ()),
    "SiLU": ("silu", ()),
    "Sigmoid": ("sigmoid", ()),
    "Softplus": ("softplus", ("beta",)),
    "Softshrink": ("softshrink", ("lambd",)),
    "Softsign": ("softsign", ()),
    "Tanh": ("tanh", ()),
    "Tanhshrink": ("tanhshrink", ()),
    # transformers
    "NewGELUActivation": ("gelu_tanh", ()),
    "FastGELUActivation": ("gelu_tanh", ()),
    "GELUTanh": ("gelu_tanh", ()),
    "GELUActivation": ("gelu", ()),
    "SiLUActivation": ("silu", ()),
    "QuickGELUActivation": ("quick_gelu", ()),
    "LinearActivation": ("identity", ()),
}
#: Functions of an entrywise activation by their name, with the parameters in the order of their positions.
FUNCTIONS: dict[str, tuple[str, ...]] = {
    "celu": ("alpha",),
    "elu": ("alpha",),
    "gelu": (),
    "hardsigmoid": (),
    "hardswish": (),
    "hardtanh": ("min_val", "max_val"),
    "leaky_relu": ("negative_slope",),
    "logsigmoid": (),
    "mish": (),
    "relu": (),
    "relu_": (),
    "relu6": (),
    "selu": (),
    "silu": (),
    "sigmoid": (),
    "softplus": ("beta",),
    "softshrink": ("lambd",),
    "softsign": (),
    "tanh": (),
    "tanhshrink": (),
    "abs": (),
    "sin": (),
}
#: Layers that only move or copy numbers without repetition; all are run as they are to learn the new shape.
ISOMETRIES = ("Identity", "Flatten", "Unflatten", "PixelShuffle", "PixelUnshuffle", "ChannelShuffle")
DROPOUTS = ("Dropout", "Dropout1d", "Dropout2d", "Dropout3d", "AlphaDropout", "FeatureAlphaDropout")
LINEAR_MAPS = (
    "Conv1d", "Conv2d", "Conv3d", "ConvTranspose1d", "ConvTranspose2d", "ConvTranspose3d",
    "AvgPool1d", "AvgPool2d", "AvgPool3d",
    "AdaptiveAvgPool1d", "AdaptiveAvgPool2d", "AdaptiveAvgPool3d", "Upsample",
    "_ConstantPadNd", "_ReflectionPadNd", "_ReplicationPadNd", "_CircularPadNd",
)  # fmt: skip


def numbers(tensor: Tensor | None, path: str = "") -> Array | None:
    """A tensor's numbers as float64, which holds float32 exactly; None stays None."""
    if tensor is None:
        return None
    array = tensor.detach().cpu().double().numpy()
    if not np.isfinite(array).all():
        raise ValueError(f"{path}: the weights hold NaN or inf; load a sound checkpoint")
    return array


def weight_of(module: nn.Module, path: str) -> Array:
    """The weight with which the layer computes, also where a hook makes it from others (the old weight_norm)."""
    weight: Any = module.weight
    if not hasattr(weight, "detach"):  # dynamically quantised layers keep a method under this name
        raise UnsupportedLayer(path, f"{type(module).__name__} keeps no weight tensor", "use the network before quantisation")
    hook: Any
    for hook in module._forward_pre_hooks.values():
        if type(hook).__name__ == "WeightNorm":
            weight = hook.compute_weight(module)
        elif type(hook).__name__ == "SpectralNorm":
            weight = hook.compute_weight(module, do_power_iteration=False)
        else:
            raise UnsupportedLayer(path, "a forward pre-hook may change what the layer computes", "remove the hook")
    found = numbers(weight, f"{path}.weight")  # type: ignore[arg-type]
    assert found is not None
    return found


def class_name(module: nn.Module) -> str:
    """Name of the nearest class, from the module's own upwards, that gave the module its ``forward``.

    Rules are found by this name, so a class from elsewhere keeps its module in it: somebody's own GELU is not torch's.
    """
    for cls in type(module).__mro__:
        if "forward" in vars(cls):
            known = cls.__module__.partition(".")[0] in ("torch", "transformers", "limitlib")
            return cls.__name__ if known else f"{cls.__module__}.{cls.__name__}"
    return type(module).__name__


def entry_of(module: Any, path: str) -> Entrywise | None:
    """The entrywise activation that a module or function stands for, or None."""
    if not hasattr(module, "forward"):
        name = getattr(module, "__name__", "")
        return Entrywise(canonical(name)) if name in FUNCTIONS else None
    name = class_name(module)
    if name == "PReLU":
        slopes = np.atleast_1d(numbers(module.weight, path))  # type: ignore[arg-type]
        return Entrywise("leaky_relu", (("negative_slope", float(slopes[0])),)) if slopes.size == 1 else None
    if name == "RReLU":
        return Entrywise("leaky_relu", (("negative_slope", (module.lower + module.upper) / 2),))
    if name == "Softplus" and name in ACTIVATIONS and module.threshold < 20:
        return None
    if name == "Threshold" or name not in ACTIVATIONS:
        return None
    word, attributes = ACTIVATIONS[name]
    return Entrywise(word, tuple((a, getattr(module, a)) for a in attributes))


# -------------------------------------------------------------------------------------------------------------- the layers


def linear(walk: Walker, module: Any, path: str, x: Value) -> Value:
    if class_name(module) != "Linear":  # an adapter shows the weight of the layer that it wraps as its own
        what = f"{type(module).__name__} where a Linear is expected"
        raise UnsupportedLayer(path, what, "load the model without adapters or quantisation")
    return walk.affine(x, path, weight_of(module, path), numbers(module.bias, f"{path}.bias"))


def linear_map(walk: Walker, module: Any, path: str, x: Value, out: tuple[int, ...]) -> Value:
    """Convolutions, averages, paddings: written out as a matrix where that is small, else bounded."""
    name = class_name(module)
    size = math.prod(x.shape) * math.prod(out)
    if hasattr(module, "weight"):
        weight_of(module, path)
    if size <= MATERIALISE:
        W, b = materialised(module, x.shape, out)
        # The unit vectors leave one term in every sum, so entries are exact, but for the division in averages.
        exact = name.startswith(("Conv", "_"))
        made = walk.affine(x, path, W, b, flat=True, wrong=0.0 if exact else 8 * EPS * frobenius(W))
        return walk.reshape(made, out)
    spatial = len(out) - 2 if len(out) > 2 else 1
    inside, outside = x.shape[-spatial:], out[-spatial:]
    if name.startswith("Conv"):
        upper = convolution_norm(walk, module, path, weight_of(module, path), inside, outside)
    elif name.startswith(("AvgPool", "AdaptiveAvgPool")):
        upper = average_norm(walk, module, path, name, inside, outside)
    elif name == "_ConstantPadNd":
        upper = 1.0
    else:
        raise UnsupportedLayer(path, f"{name} on inputs of {math.prod(x.shape)} numbers", "use smaller inputs, or zero padding")
    return walk.lipschitz_layer(x, upper, Region(out), path)


def materialised(module: Any, shape: tuple[int, ...], out: tuple[int, ...]) -> tuple[Array, Array]:
    """Matrix and shift of an affine layer, by its images of 0 and of the unit vectors in float64."""
    import torch

    tensors = {name: t.detach().cpu().double() for name, t in [*module.named_parameters(), *module.named_buffers()]}
    kept = module.__dict__.get("weight")  # what the hook of the old weight_norm overwrites

    def run(batch: Tensor, tensors: dict[str, Tensor]) -> Tensor:
        with torch.no_grad():
            return torch.func.functional_call(module, tensors, (batch,))

    n = math.prod(shape)
    units = torch.eye(n, dtype=torch.float64)
    try:
        shift = run(torch.zeros(shape, dtype=torch.float64), tensors).reshape(-1)
        if "bias" in tensors:
            tensors["bias"] = torch.zeros_like(tensors["bias"])
        if shape[0] == 1:
            images = run(units.reshape(n, *shape[1:]), tensors).reshape(n, -1)
        else:
            images = torch.stack([run(u.reshape(shape), tensors).reshape(-1) for u in units])
    finally:
        if kept is not None:
            module.__dict__["weight"] = kept
    return images.T.contiguous().numpy(), shift.numpy().copy()


def convolution_norm(
    walk: Walker, module: Any, path: str, W: Array, inside: tuple[int, ...], outside: tuple[int, ...]
) -> float:
    """Norm of a large convolution in the walker's norm."""
    transposed = class_name(module).startswith("ConvTranspose")
    if not transposed and type(module)._conv_forward.__module__.partition(".")[0] != "torch":
        raise UnsupportedLayer(path, f"{type(module).__name__} overrides _conv_forward", "use torch's own convolution")
    if module.padding_mode not in ("zeros", "circular"):
        raise UnsupportedLayer(path, f"padding_mode={module.padding_mode!r}", "use 'zeros' or 'circular', or smaller inputs")
    if walk.p == 2:
        return conv_norm(
            W, outside if transposed else inside, stride=module.stride, padding=module.padding,
            padding_mode=module.padding_mode, dilation=module.dilation, groups=module.groups,
        ).upper  # fmt: skip
    axes = tuple(range(2, W.ndim))
    size = np.abs(W).sum(axis=axes)  # (out, in / groups), or (in, out / groups) if transposed
    per_output = (walk.p == math.inf) != transposed
    if not per_output and module.groups > 1:
        size = size.reshape(module.groups, -1, size.shape[1])
        return round_up(float(size.sum(axis=1).max()), 16 + W.size // 64)
    return round_up(float(size.sum(axis=1 if per_output else 0).max()), 16 + W.size // 64)


def average_norm(walk: Walker, module: Any, path: str, name: str, inside: tuple[int, ...], outside: tuple[int, ...]) -> float:
    if walk.p == math.inf:
        return 1.0
    if walk.p != 2:
        raise UnsupportedLayer(path, f"average pooling in the norm {walk.p}", "use norm=(2, 2) or (inf, inf)")
    if name.startswith("Adaptive"):
        return layer_bound("adaptive_avg_pool", output_size=outside, input_size=inside).upper
    if getattr(module, "divisor_override", None):
        raise UnsupportedLayer(path, "AvgPool with divisor_override", "drop divisor_override and scale by a Linear or a number")
    return layer_bound(
        "avg_pool", kernel_size=module.kernel_size, stride=module.stride, padding=module.padding, input_size=inside,
        ceil_mode=module.ceil_mode, count_include_pad=module.count_include_pad,
    ).upper  # fmt: skip


def batch_norm(walk: Walker, module: Any, path: str, x: Value) -> Value:
    if module.training or module.running_var is None:
        raise UnsupportedLayer(path, "BatchNorm with the statistics of the batch", "call .eval() and keep running statistics")
    var, mean = numbers(module.running_var, f"{path}.running_var"), numbers(module.running_mean, f"{path}.running_mean")
    assert var is not None and mean is not None
    gain = np.ones_like(var) if module.weight is None else weight_of(module, path)
    scale = gain / np.sqrt(var + module.eps)
    shift = -mean * scale + (0.0 if module.bias is None else numbers(module.bias, f"{path}.bias"))
    channels = [1] * len(x.shape)
    channels[1 if len(x.shape) > 1 else 0] = len(var)
    return constant_affine(walk, path, x, scale.reshape(channels), shift.reshape(channels), wrong=4 * EPS)


def constant_affine(
    walk: Walker, path: str, x: Value, g: Array | float, b: Array | float | None, *, wrong: float = 0.0
) -> Value:
    """x -> g * x + b for constants of any shape that broadcasts to the value's; g has relative error ``wrong``."""
    g, b = np.asarray(g, dtype=float), None if b is None else np.asarray(b, dtype=float)
    grown = np.broadcast_shapes(x.shape, g.shape, () if b is None else b.shape)
    if grown != x.shape:
        x = walk.expand(x, tuple(grown))

    def along_rows(c: Array | None) -> bool:
        return c is None or c.size == 1 or (c.shape[-1:] == (c.size,) and c.size == x.shape[-1])

    if not (along_rows(g) and along_rows(b)):
        x = walk.flat(x)
        g = np.broadcast_to(g, x.shape).ravel() if g.size > 1 else g
        b = None if b is None else np.broadcast_to(b, x.shape).ravel()
    return walk.scale(
        x, path, g.reshape(-1) if g.size > 1 else g.reshape(()), None if b is None else b.reshape(-1), wrong=wrong
    )


def layer_norm(walk: Walker, module: Any, path: str, x: Value) -> Value:
    if class_name(module) not in ("LayerNorm", "RMSNorm"):
        what = f"{type(module).__name__} where a LayerNorm is expected"
        raise UnsupportedLayer(path, what, "use nn.LayerNorm or nn.RMSNorm")
    axes = len(module.normalized_shape)
    gain = None if module.weight is None else weight_of(module, path)
    bias = numbers(getattr(module, "bias", None), f"{path}.bias")
    kind = "LayerNorm" if class_name(module) == "LayerNorm" else "RMSNorm"
    eps = module.eps
    if eps is None:
        import torch

        eps = torch.finfo(module.weight.dtype if module.weight is not None else torch.float32).eps
    return walk.normalise(x, path, kind=kind, eps=float(eps), gain=gain, bias=bias, axes=axes)


def channel_norm(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """GroupNorm and InstanceNorm: layer norms of groups of channels over all places, side by side."""
    if walk.p != 2:
        raise UnsupportedLayer(path, f"{class_name(module)} in the norm {walk.p}", "use norm=(2, 2)")
    if getattr(module, "track_running_stats", False):
        raise UnsupportedLayer(path, "InstanceNorm with running statistics", "use BatchNorm, or track_running_stats=False")
    channels = x.shape[1]
    groups = getattr(module, "num_groups", channels)
    gain = None if module.weight is None else weight_of(module, path)
    d = math.prod(x.shape[1:]) // groups
    # On a shell the norms are those of one group's entries.
    upper = layer_bound("layer_norm", domain=walk.shell_at(path), eps=module.eps, d=d).upper
    y = walk.lipschitz_layer(x, upper, Region(x.shape, round_up(math.sqrt(d), 4)), path)
    if gain is None and module.bias is None:
        return y
    shape = [1, channels] + [1] * (len(x.shape) - 2)
    g = np.ones(channels) if gain is None else gain
    b = numbers(module.bias, f"{path}.bias")
    return constant_affine(walk, path, y, g.reshape(shape), None if b is None else b.reshape(shape))


def max_pool(walk: Walker, module: Any, path: str, x: Value, out: tuple[int, ...]) -> Value:
    name = class_name(module)
    adaptive = name.startswith("Adaptive")
    spatial = int(name[-2])
    inside = x.shape[-spatial:]
    if walk.p == math.inf:
        upper = 1.0
    elif adaptive:
        if all(n % m == 0 for n, m in zip(inside, out[-spatial:], strict=True)):
            upper = 1.0
        else:
            upper = 2 ** (spatial / walk.p) * (1 + 4 * EPS)  # neighbouring adaptive windows share at most one row or column
    else:
        upper = layer_bound(
            "max_pool", kernel_size=module.kernel_size, stride=module.stride, padding=module.padding,
            dilation=module.dilation, input_size=inside, ceil_mode=module.ceil_mode,
        ).upper  # fmt: skip
        if walk.p == 1:
            upper = round_up(upper * upper, 4)  # the number of windows itself
    made = walk.lipschitz_layer(x, upper, Region(out), path)
    source = walk.settle(x).chain.region
    if source.box is not None:
        import torch

        lo, hi = (module(torch.from_numpy(np.ascontiguousarray(v))).numpy() for v in source.box)
        return plain(made.upper, Region(out, box=(lo, hi)))
    return made


def softmax(walk: Walker, path: str, x: Value, axis: int, *, log: bool = False) -> Value:
    if walk.p != 2:
        raise UnsupportedLayer(path, f"softmax in the norm {walk.p}", "use norm=(2, 2)")
    n = x.shape[axis]
    upper = layer_bound("log_softmax", d=n).upper if log else layer_bound("softmax", d=n).upper
    box = None if log else (np.zeros(x.shape), np.ones(x.shape))
    known = 1.0 if not log and axis % len(x.shape) == len(x.shape) - 1 else math.inf
    return walk.lipschitz_layer(x, upper, Region(x.shape, known, box), path)


def embedding(walk: Walker, module: Any, path: str, x: Value) -> Value:
    raise UnsupportedLayer(
        path, "an Embedding takes indices, and a map of indices has no Lipschitz constant",
        "bound the network after it; limitlib.lipschitz.layer_bound('embedding', weight=...) bounds the table itself",
    )  # fmt: skip


def multihead(walk: Walker, module: Any, path: str, x: Value, *, causal: bool = False) -> Value:
    d = module.embed_dim
    if module.bias_k is not None or module.bias_v is not None or module.add_zero_attn:
        raise UnsupportedLayer(path, "attention with bias_k, bias_v or add_zero_attn", "drop these options")
    if module.in_proj_weight is None:
        raise UnsupportedLayer(
            path, "attention with kdim or vdim of its own", "use self-attention with kdim = vdim = embed_dim"
        )
    W = numbers(module.in_proj_weight, f"{path}.in_proj_weight")
    b = numbers(module.in_proj_bias, f"{path}.in_proj_bias")
    assert W is not None
    parts = [(W[i * d : (i + 1) * d], None if b is None else b[i * d : (i + 1) * d]) for i in range(3)]
    out = weight_of(module.out_proj, f"{path}.out_proj"), numbers(module.out_proj.bias, f"{path}.out_proj.bias")
    return walk.attention(x, path, q=parts[0], k=parts[1], v=parts[2], o=out, heads=module.num_heads, causal=causal)


def encoder_layer(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """nn.TransformerEncoderLayer without masks, norms first or last."""
    at = f"{path}." if path else ""
    entry = entry_of(module.activation, f"{at}activation")
    if entry is None:
        raise UnsupportedLayer(
            f"{at}activation", f"{module.activation!r} is no known activation", "use nn.GELU(), nn.ReLU() or 'gelu'"
        )

    def attend(h: Value) -> Value:
        return multihead(walk, module.self_attn, f"{at}self_attn", h)

    def feed(h: Value) -> Value:
        h = walk.activation(linear(walk, module.linear1, f"{at}linear1", h), f"{at}activation", entry)
        return linear(walk, module.linear2, f"{at}linear2", h)

    def norm1(h: Value) -> Value:
        return layer_norm(walk, module.norm1, f"{at}norm1", h)

    def norm2(h: Value) -> Value:
        return layer_norm(walk, module.norm2, f"{at}norm2", h)

    if module.norm_first:
        x = walk.add(x, attend(norm1(x)))
        return walk.add(x, feed(norm2(x)))
    x = norm1(walk.add(x, attend(x)))
    return norm2(walk.add(x, feed(x)))


def encoder(walk: Walker, module: Any, path: str, x: Value) -> Value:
    at = f"{path}." if path else ""
    for i, layer in enumerate(module.layers):
        x = encoder_layer(walk, layer, f"{at}layers.{i}", x)
    return x if module.norm is None else layer_norm(walk, module.norm, f"{at}norm", x)


def ensemble(walk: Walker, module: Any, path: str, x: Value) -> Value:
    """The perceptrons of :mod:`limitlib.models`, one member: matrices are stored (in, out) with a member axis in front."""
    if module.members != 1:
        raise UnsupportedLayer(path, f"an ensemble of {module.members} members", "build it with one gain and one seed")
    at = f"{path}." if path else ""
    entry = entry_of(module.activation, f"{at}activation")
    assert entry is not None

    def matrix(name: str, layer: int | None = None) -> tuple[Array, Array]:
        W, b = (
            getattr(module, name)[0],
            getattr(module, {"readout": "readout_bias", "weight": "bias"}.get(name, f"{name}_bias"))[0],
        )
        W, b = (W, b) if layer is None else (W[layer], b[layer])
        made = numbers(W, f"{at}{name}"), numbers(b, f"{at}{name}")
        assert made[0] is not None and made[1] is not None
        return np.ascontiguousarray(made[0].T), made[1].reshape(-1)

    for i in range(module.depth):
        if hasattr(module, "weight"):
            x = walk.activation(walk.affine(x, f"{at}block {i}", *matrix("weight", i)), f"{at}block {i}", entry)
            continue
        h = x
        if module.norm:
            gain, bias = (
                (numbers(getattr(module, n)[0, i].reshape(-1)) for n in ("diagonal", "shift"))
                if module.affine
                else (None, None)
            )
            h = walk.normalise(h, f"{at}block {i}", kind="LayerNorm", eps=1e-5, gain=gain, bias=bias)
        h = walk.scale(h, f"{at}block {i}", float(module.gain))
        h = walk.activation(walk.affine(h, f"{at}block {i}", *matrix("inner", i)), f"{at}block {i}", entry)
        h = walk.scale(walk.affine(h, f"{at}block {i}", *matrix("outer", i)), f"{at}block {i}", float(module.scale))
        x = walk.add(x, h)
    if module.final_norm:
        x = walk.normalise(x, f"{at}final_norm", kind="LayerNorm", eps=1e-5, gain=None, bias=None)
    return walk.affine(x, f"{at}readout", *matrix("readout"))


LAYERS: dict[str, Rule] = {
    "Ensemble": ensemble,
    "Linear": linear,
    "BatchNorm1d": batch_norm,
    "BatchNorm2d": batch_norm,
    "BatchNorm3d": batch_norm,
    "_BatchNorm": batch_norm,
    "LayerNorm": layer_norm,
    "RMSNorm": layer_norm,
    "GroupNorm": channel_norm,
    "_InstanceNorm": channel_norm,
    "Embedding": embedding,
    "MultiheadAttention": multihead,
    "TransformerEncoderLayer": encoder_layer,
    "TransformerEncoder": encoder,
}
