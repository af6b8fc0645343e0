"""The walk along the graph of a network's ``forward``, as torch.fx traces it.

Every node is computed twice: on one random input, which tells shapes and constants, and as a certificate. At the end the
first result is compared with what the module itself computes, so that a trace which lost something is noticed.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np

from limitlib.bounds import round_up
from limitlib.lipschitz.activations import canonical
from limitlib.lipschitz.chains import Entrywise
from limitlib.lipschitz.regions import Array, Region
from limitlib.lipschitz.torch_rules import (
    DROPOUTS,
    FUNCTIONS,
    ISOMETRIES,
    LAYERS,
    LINEAR_MAPS,
    Rule,
    class_name,
    constant_affine,
    entry_of,
    linear_map,
    max_pool,
    multihead,
    numbers,
    softmax,
)
from limitlib.lipschitz.transformers import BLOCKS
from limitlib.lipschitz.walker import UnsupportedLayer, Value, Walker

if TYPE_CHECKING:
    from torch import Tensor, fx, nn


MAX_POOLS = tuple(f"{kind}MaxPool{n}d" for kind in ("", "Adaptive") for n in (1, 2, 3))


def rule_of(module: nn.Module, path: str) -> Rule | None:
    """The rule for a layer, found by the class that gave it its ``forward``; None where the layer must be traced."""
    name = class_name(module)
    if name in BLOCKS:
        return BLOCKS[name]
    if name in LAYERS:
        return LAYERS[name]
    entry = entry_of(module, path)
    if entry is not None:
        return lambda walk, _, at, x: walk.activation(x, at, entry)
    if name in DROPOUTS:
        return dropout
    if name in ("Softmax", "LogSoftmax"):
        return lambda walk, m, at, x: softmax(walk, at, x, -1 if m.dim is None else m.dim, log=name == "LogSoftmax")
    if name in ISOMETRIES or name in LINEAR_MAPS or name in MAX_POOLS:
        return shaped(module, name)
    return None


def dropout(walk: Walker, module: Any, path: str, x: Value) -> Value:
    if module.training and module.p > 0:
        raise UnsupportedLayer(path, "Dropout draws at random in training mode", "call .eval()")
    return x


def shaped(module: nn.Module, name: str) -> Rule:
    """Rules that need the shape of the output."""

    def rule(walk: Walker, m: Any, path: str, x: Value) -> Value:
        try:
            made = run(m, zeros(x.shape))
        except (RuntimeError, ValueError, IndexError) as error:
            shape = f"{path or type(m).__name__}: an input of shape {x.shape} fails here"
            raise ValueError(f"{shape} ({error}); give input_shape= without the batch axis, or tokens=") from error
        if isinstance(made, tuple):
            raise UnsupportedLayer(path, f"{type(m).__name__} returns several values", "use return_indices=False")
        out = tuple(made.shape)
        if name in ("Identity", "Flatten", "Unflatten"):
            return walk.reshape(x, out)
        if name in ISOMETRIES:
            return walk.scatter(x, out)
        return linear_map(walk, m, path, x, out) if name in LINEAR_MAPS else max_pool(walk, m, path, x, out)

    return rule


def zeros(shape: tuple[int, ...]) -> Tensor:
    import torch

    return torch.zeros(shape)


def run(module: Any, x: Tensor) -> Tensor:
    """A layer's output on a plain input in the dtype of its own weights."""
    import torch

    kinds = [t.dtype for t in module.parameters() if t.is_floating_point()]
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return module(x.to(kinds[0]) if kinds else x)


def trace(module: nn.Module, path: str) -> fx.Graph:
    """The graph of the module's forward, with every layer that has a rule as one node."""
    from torch import fx

    # Decided before tracing, which turns weights into symbols. Childless layers of torch without a rule are refused by name.
    leaves = {
        id(m)
        for name, m in module.named_modules()
        if rule_of(m, name) is not None or (type(m).__module__.startswith("torch.nn.modules") and not list(m.children()))
    }

    class Tracer(fx.Tracer):
        def is_leaf_module(self, m: nn.Module, qualified_name: str) -> bool:
            return id(m) in leaves

    try:
        return Tracer().trace(module)
    except UnsupportedLayer:
        raise
    except Exception as error:
        raise UnsupportedLayer(
            path, f"the forward of {type(module).__name__} cannot be traced ({type(error).__name__}: {error})",
            "write it without branches on shapes or values, or bound its parts one by one",
        ) from error  # fmt: skip


def wrapped(module: Any) -> str:
    """What to give instead of a module that only holds or wraps another; empty where nothing is known to help."""
    name = type(module).__name__
    if name in ("DataParallel", "DistributedDataParallel"):
        return "give the module inside it: model.module"
    if name == "OptimizedModule":
        return "give the module before torch.compile: model._orig_mod"
    if name in ("ModuleList", "ModuleDict"):
        return "it has no forward; give a Sequential, or a module that calls its parts"
    return "give the module that was scripted or traced" if hasattr(module, "_c") and hasattr(module, "graph") else ""


def walk_module(walk: Walker, module: nn.Module, path: str, x: Value) -> Value:
    """The certificate of a whole module."""
    if fix := wrapped(module):
        raise UnsupportedLayer(path, f"no rule for {type(module).__name__}", fix)
    no_hooks(module, path)
    rule = rule_of(module, path)
    if rule is not None:
        return rule(walk, module, path, x)
    import torch

    if class_name(module) in dir(torch.nn) and not list(module.children()):
        raise no_rule(module, path)

    graph = trace(module, path)
    layers = dict(module.named_modules())
    no_overwriting(graph, layers, path)
    kinds = [t.dtype for t in module.parameters() if t.is_floating_point()]
    known: dict[Any, Any] = {}  # certificates, for nodes that depend on the input
    plain_values: dict[Any, Any] = {}
    inputs = 0
    probe = torch.randn(x.shape, dtype=kinds[0] if kinds else torch.float32, generator=torch.Generator().manual_seed(0))
    for node in graph.nodes:
        at = f"{path}.{node.target}" if path and node.op == "call_module" else str(node.target)
        if node.op == "placeholder":
            if inputs == 0:
                known[node], plain_values[node] = x, probe.clone()
            elif not node.args:
                raise UnsupportedLayer(
                    path, f"forward takes a second input, {node.target!r}", "wrap it in a module of one input"
                )
            else:
                plain_values[node] = node.args[0]
            inputs += 1
            continue
        if node.op == "get_attr":
            plain_values[node] = attribute(module, node.target)
            continue
        args, kwargs = lookup(plain_values, node.args), lookup(plain_values, node.kwargs)
        if node.op == "output":
            result = node.args[0]
            while isinstance(result, list | tuple) and len(result) == 1:
                result = result[0]
            if hasattr(result, "op"):
                same_values(module, path, probe, plain_values[result])
            if result not in known or not isinstance(known[result], Value):
                if isinstance(result, list | tuple | dict):
                    raise UnsupportedLayer(
                        path, "forward returns several values", "wrap it in a module that returns one tensor"
                    )
                return walk.constant(constant(plain_values[result]))
            return known[result]
        depends = any(n in known for n in node.all_input_nodes)
        a, kw = lookup(known, node.args, plain_values), lookup(known, node.kwargs, plain_values)
        if depends and node.op == "call_module":
            known[node] = call_layer(walk, layers[node.target], at, a, kw)
        try:
            with torch.no_grad(), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                plain_values[node] = evaluate(node, layers, args, kwargs)
        except Exception as error:
            raise ValueError(
                f"{at}: an input of shape {x.shape} fails here ({error}); give input_shape= without the batch axis, or tokens="
            ) from error
        if depends and node.op != "call_module":
            found = call_function(walk, node.target, path, a, kw, plain_values[node])
            if found is not PLAIN:
                known[node] = found
    raise AssertionError("a traced graph ends with its output")


def same_values(module: nn.Module, path: str, x: Tensor, found: Any) -> None:
    """Refuse a trace that does not compute what the module does (Python's ``h += x`` is traced as a sum of its own)."""
    import torch

    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            expected = module(x.clone())
        except Exception as error:
            what = f"forward fails on an input of shape {tuple(x.shape)} ({error})"
            raise ValueError(f"{path or 'the network'}: {what}") from error
    if expected.shape != found.shape or not torch.allclose(expected, found, rtol=1e-3, atol=1e-5, equal_nan=True):
        raise UnsupportedLayer(
            path,
            "the traced graph does not compute what forward does, as after an operation in place (h += x)",
            "write h = h + x",
        )


def no_overwriting(graph: fx.Graph, layers: dict[str, nn.Module], path: str) -> None:
    """Refuse operations in place on memory that is read again later, under its own name or through a view."""
    order = {node: i for i, node in enumerate(graph.nodes)}

    def shares_memory(node: fx.Node) -> bool:
        if node.op == "call_module":
            layer = layers[str(node.target)]
            return class_name(layer) in (*ISOMETRIES, *DROPOUTS) or bool(getattr(layer, "inplace", False))
        name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
        return in_place(node, layers) or name in VIEWS

    for node in graph.nodes:
        if not in_place(node, layers) or not node.all_input_nodes:
            continue
        same, waiting = {node}, [node.args[0]]
        while waiting:
            other = waiting.pop()
            if other in same or not hasattr(other, "users"):
                continue
            same.add(other)
            waiting += [user for user in other.users if shares_memory(user)]
            if shares_memory(other):
                waiting += other.all_input_nodes
        late = [user for other in same - {node} for user in other.users if order[user] > order[node]]
        if any(order[other] < order[node] for other in same) and late:
            at = ".".join(filter(None, (path, str(node.target))))
            raise UnsupportedLayer(at, f"works in place on a value that {late[0].name} reads later", "use inplace=False")


def in_place(node: fx.Node, layers: dict[str, nn.Module]) -> bool:
    """Whether a node overwrites its first argument."""
    if node.op == "call_module":
        return bool(getattr(layers[str(node.target)], "inplace", False))
    if node.op not in ("call_function", "call_method"):
        return False
    name = str(node.target) if node.op == "call_method" else getattr(node.target, "__name__", "")
    asked = node.kwargs.get("inplace") is True or (name in FUNCTIONS and any(a is True for a in node.args[1:]))
    return asked or name in ("iadd", "isub", "imul", "itruediv") or (name.endswith("_") and not name.endswith("__"))


#: Functions whose result may share memory with their argument.
VIEWS = (
    "view", "reshape", "flatten", "unflatten", "transpose", "t", "permute", "squeeze", "unsqueeze", "contiguous", "to", "float",
    "double", "type_as", "expand", "chunk", "split", "getitem", "dropout",
)  # fmt: skip

#: Marks nodes whose result does not depend on the values of the input, such as its shape; and values without a certificate.
PLAIN, OPAQUE = object(), object()


def no_hooks(module: nn.Module, path: str) -> None:
    """Forward hooks may change what a layer computes, and so may a forward put on one instance or a __call__ of its own."""
    for name, m in module.named_modules():
        caller = next(cls for cls in type(m).__mro__ if "__call__" in vars(cls))
        home = caller.__module__.partition(".")[0]
        # torch.fx makes a class for every graph module that it traces; transformers' checkpointing changes no value.
        if "forward" in vars(m) or not (home in ("torch", "transformers") or hasattr(m, "_graph")):
            at = ".".join(filter(None, (path, name)))
            what = "its forward was replaced on the instance" if "forward" in vars(m) else f"{caller.__name__} has a __call__"
            raise UnsupportedLayer(at, what, wrapped(m) or "define forward in the module's class, and nothing else")
        hooks = [h for h in m._forward_pre_hooks.values() if type(h).__name__ not in ("WeightNorm", "SpectralNorm")]
        # transformers records hidden states by hooks of its own, which change nothing.
        if any(not getattr(h, "__module__", "").startswith("transformers.") for h in [*hooks, *m._forward_hooks.values()]):
            at = ".".join(filter(None, (path, name)))
            pruned = any(type(h).__module__ == "torch.nn.utils.prune" for h in hooks)
            fix = "make pruning permanent: torch.nn.utils.prune.remove(layer, 'weight')" if pruned else "remove the hook"
            raise UnsupportedLayer(at, "a forward hook may change what the layer computes", fix)


def attribute(module: Any, target: str) -> Any:
    for part in target.split("."):
        module = getattr(module, part)
    return module


def lookup(values: dict[Any, Any], item: Any, fallback: dict[Any, Any] | None = None) -> Any:
    """The nodes in an argument replaced by their values."""
    from torch import fx

    def find(node: Any) -> Any:
        return values[node] if fallback is None or node in values else fallback[node]

    return fx.map_arg(item, find)


def evaluate(node: fx.Node, layers: dict[str, nn.Module], args: Any, kwargs: Any) -> Any:
    if node.op == "call_module":
        return layers[str(node.target)](*args, **kwargs)
    if node.op == "call_method":
        return getattr(args[0], str(node.target))(*args[1:], **kwargs)
    return node.target(*args, **kwargs)  # type: ignore[operator]


def no_rule(module: nn.Module, path: str) -> UnsupportedLayer:
    return UnsupportedLayer(
        path, f"no rule for {type(module).__name__}", "replace it, or bound it by hand with limitlib.bounds.compose(...)"
    )


def call_layer(walk: Walker, module: nn.Module, path: str, args: Any, kwargs: Any) -> Any:
    rule = rule_of(module, path)
    if rule is None:
        raise no_rule(module, path)
    if class_name(module) == "MultiheadAttention":
        return attend(walk, module, path, args, kwargs), OPAQUE
    if len(args) != 1 or not isinstance(args[0], Value) or any(v is not None for v in kwargs.values()):
        raise UnsupportedLayer(path, f"{type(module).__name__} is called with further arguments", "call it with one value")
    return rule(walk, module, path, args[0])


def attend(walk: Walker, module: Any, path: str, args: Any, kwargs: Any) -> Value:
    given = dict(zip(("query", "key", "value"), args, strict=False)) | kwargs
    query, key, value = (given.get(k) for k in ("query", "key", "value"))
    if query is not key or key is not value or not isinstance(query, Value):
        raise UnsupportedLayer(path, "attention with different queries, keys and values", "use self-attention")
    if kwargs.get("key_padding_mask") is not None or kwargs.get("attn_mask") is not None or len(args) > 3:
        raise UnsupportedLayer(path, "attention with a mask", "drop the mask: the bound holds for full attention only")
    return multihead(walk, module, path, query)


# ---------------------------------------------------------------------------------------------------------- the functions


def pooling(function: Any, args: Any, kwargs: Any) -> nn.Module | None:
    """The layer that does what a pooling function does."""
    from torch import nn
    from torch.nn import functional as F

    for word in ("max_pool", "avg_pool", "adaptive_avg_pool", "adaptive_max_pool"):
        for n in "123":
            if function is getattr(F, f"{word}{n}d"):
                layer = getattr(nn, "".join(part.capitalize() for part in word.split("_")) + f"{n}d")
                return layer(*args[1:], **kwargs)
    return None


def call_function(walk: Walker, function: Any, path: str, args: Any, kwargs: Any, plain: Any) -> Any:
    """The certificate of one function, or of the method of that name."""
    name = function if isinstance(function, str) else getattr(function, "__name__", str(function))
    path = f"{path}.{name}" if path else name
    if name in ("size", "dim", "numel", "is_floating_point") or (
        name == "getattr" and args[1] in ("shape", "dtype", "device", "ndim")
    ):
        return PLAIN
    if any(a is OPAQUE for a in args):
        raise UnsupportedLayer(path, "attention weights are used as values", "use the attention's output only")
    word = name.rstrip("_") if not name.startswith("__") else name
    if (layer := pooling(function, args, kwargs)) is not None:
        rule = rule_of(layer, path)
        assert rule is not None
        return rule(walk, layer, path, args[0])
    if str(getattr(plain, "dtype", "")) in ("torch.float16", "torch.bfloat16"):
        raise UnsupportedLayer(
            path, "a conversion to half precision rounds, which is not continuous", "keep float32 or float64"
        )
    if word in FUNCTION_RULES and getattr(plain, "dtype", None) is not None and not plain.is_floating_point():
        raise UnsupportedLayer(path, f"a conversion to {plain.dtype} jumps, so there is no constant", "keep floating point")
    if word in FUNCTIONS:
        return activation_call(walk, word, path, args, kwargs)
    if word in FUNCTION_RULES:
        return FUNCTION_RULES[word](walk, path, args, kwargs, plain)
    known = ", ".join(sorted({*FUNCTIONS, *FUNCTION_RULES}))
    raise UnsupportedLayer(
        path, f"no rule for the function {name!r}", f"use a layer of torch.nn, or one of {known}"
    )


def activation_call(walk: Walker, name: str, path: str, args: Any, kwargs: Any) -> Value:
    x, rest = args[0], list(args[1:])
    threshold = kwargs.get("threshold", rest[1] if len(rest) > 1 else 20)
    if name == "softplus" and threshold < 20:
        raise UnsupportedLayer(path, f"softplus jumps at threshold={threshold}", "leave threshold at 20")
    params = dict(zip(FUNCTIONS[name], rest, strict=False))
    params |= {k: v for k, v in kwargs.items() if k not in ("inplace", "threshold")}
    return walk.activation(x, path, Entrywise(canonical(name), tuple(sorted(params.items()))))


def constant(c: Any) -> Array | float:
    found = numbers(c) if hasattr(c, "detach") else np.asarray(c, dtype=float)
    assert found is not None
    return found


def add(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any, sign: float = 1.0) -> Value:
    x, y = args[0], args[1]
    sign *= float(kwargs.get("alpha", 1.0))
    if isinstance(x, Value) and isinstance(y, Value):
        if abs(sign) != 1.0:
            y, sign = constant_affine(walk, path, y, sign, None), 1.0
        return walk.add(x, y, sign)
    if isinstance(x, Value):
        return constant_affine(walk, path, x, 1.0, sign * np.asarray(constant(y)))
    return constant_affine(walk, path, y, sign, constant(x))


def subtract(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return add(walk, path, args, kwargs, plain, -1.0)


def multiply(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    x, y = args[0], args[1]
    if isinstance(x, Value) and isinstance(y, Value):
        return walk.multiply(x, y, path)
    return (
        constant_affine(walk, path, x, constant(y), None)
        if isinstance(x, Value)
        else constant_affine(walk, path, y, constant(x), None)
    )


def divide(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    x, y = args[0], args[1]
    if isinstance(y, Value):
        raise UnsupportedLayer(path, "division by a value that depends on the input", "use a normalisation layer of torch.nn")
    return constant_affine(walk, path, x, 1.0 / np.asarray(constant(y)), None, wrong=2.0**-52)


def linear_call(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    given = dict(zip(("input", "weight", "bias"), args, strict=False)) | kwargs
    x, W, b = (given.get(k) for k in ("input", "weight", "bias"))
    if isinstance(W, Value) or isinstance(b, Value):
        raise UnsupportedLayer(path, "a matrix that depends on the input", "use a Linear layer, or nn.MultiheadAttention")
    return walk.affine(x, path, np.asarray(constant(W)), None if b is None else np.asarray(constant(b)))


def matmul(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    x, y = args[0], args[1]
    if isinstance(x, Value) and not isinstance(y, Value) and y.ndim == 2:
        return walk.affine(x, path, np.ascontiguousarray(np.asarray(constant(y)).T), None)
    raise UnsupportedLayer(
        path, "a product of two values, or a constant matrix from the left", "use nn.MultiheadAttention, or a Linear layer"
    )


def reshape(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return walk.reshape(args[0], tuple(plain.shape))


def transpose(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    order = list(range(len(args[0].shape)))
    given = dict(zip(("dim0", "dim1"), args[1:], strict=False)) | kwargs
    i, j = given.get("dim0", -2), given.get("dim1", -1)
    order[i], order[j] = order[j], order[i]
    return walk.permute(args[0], order)


def permute(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    order = args[1:] if len(args) > 2 else args[1] if len(args) == 2 else kwargs["dims"]
    return walk.permute(args[0], list(order) if isinstance(order, list | tuple) else [order])


def concatenate(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    parts = args[0] if args else kwargs["tensors"]
    axis = args[1] if len(args) > 1 else kwargs.get("dim", kwargs.get("axis", 0))
    return walk.concatenate([p if isinstance(p, Value) else walk.constant(constant(p)) for p in parts], axis)


def stack(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    axis = args[1] if len(args) > 1 else kwargs.get("dim", 0)
    parts = []
    for x in args[0]:
        shape = list(x.shape)
        shape.insert(axis % (len(shape) + 1), 1)
        parts.append(walk.reshape(x, tuple(shape)))
    return walk.concatenate(parts, axis)


def split(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> tuple[Value, ...]:
    axis = (args[2] if len(args) > 2 else kwargs.get("dim", 0)) % len(args[0].shape)
    found, start = [], 0
    for piece in plain:
        index = [slice(None)] * len(args[0].shape)
        index[axis] = slice(start, start + piece.shape[axis])
        start += piece.shape[axis]
        found.append(walk.select(args[0], tuple(index), tuple(piece.shape)))
    return tuple(found)


def getitem(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Any:
    x, index = args
    if not isinstance(x, Value):
        return x[index]
    index = tuple(index) if isinstance(index, list | tuple) else (index,)
    if Ellipsis in index:
        i = index.index(Ellipsis)
        index = (*index[:i], *[slice(None)] * (len(x.shape) - len(index) + 1), *index[i + 1 :])
    index = (*index, *[slice(None)] * (len(x.shape) - len(index)))
    if not all(isinstance(i, int | slice) for i in index):
        raise UnsupportedLayer(path, f"indexing with {index!r}", "use slices and whole numbers")
    return walk.select(x, index, tuple(plain.shape))


def reduce(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any, *, mean: bool) -> Value:
    x = args[0]
    n = math.prod(x.shape) // max(1, math.prod(plain.shape))
    power = -1 / walk.p if mean else 1 - 1 / walk.p
    upper = 1.0 if n == 1 or power == 0 else round_up(float(n) ** power, 4)
    return walk.lipschitz_layer(x, upper, Region(tuple(plain.shape)), path)


def mean(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return reduce(walk, path, args, kwargs, plain, mean=True)


def total(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return reduce(walk, path, args, kwargs, plain, mean=False)


def softmax_call(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return softmax(walk, path, args[0], args[1] if len(args) > 1 else kwargs.get("dim", -1))


def log_softmax_call(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return softmax(walk, path, args[0], args[1] if len(args) > 1 else kwargs.get("dim", -1), log=True)


def dropout_call(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    training = args[2] if len(args) > 2 else kwargs.get("training", True)
    p = args[1] if len(args) > 1 else kwargs.get("p", 0.5)
    if training and p > 0:
        raise UnsupportedLayer(path, "dropout draws at random", "pass training=self.training and call .eval()")
    return args[0]


def layer_norm_call(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    names = ("input", "normalized_shape", "weight", "bias", "eps")
    given = dict(zip(names, args, strict=False)) | kwargs
    gain, bias = (None if given.get(k) is None else np.asarray(constant(given[k])) for k in ("weight", "bias"))
    eps = given.get("eps", 1e-5)
    return walk.normalise(
        given["input"], path, kind="LayerNorm", eps=eps, gain=gain, bias=bias, axes=len(given["normalized_shape"])
    )


def identity(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    if tuple(plain.shape) != args[0].shape:
        return walk.reshape(args[0], tuple(plain.shape))
    return args[0]


def negative(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return constant_affine(walk, path, args[0], -1.0, None)


def expand(walk: Walker, path: str, args: Any, kwargs: Any, plain: Any) -> Value:
    return walk.expand(args[0], tuple(plain.shape))


FUNCTION_RULES: dict[str, Callable[..., Any]] = {
    "add": add, "iadd": add, "sub": subtract, "isub": subtract, "mul": multiply, "imul": multiply,
    "truediv": divide, "div": divide, "itruediv": divide, "neg": negative, "matmul": matmul, "mm": matmul,
    "linear": linear_call, "flatten": reshape,
    "reshape": reshape, "view": reshape, "unsqueeze": reshape, "squeeze": reshape, "unflatten": reshape, "transpose": transpose,
    "t": transpose, "permute": permute, "contiguous": identity, "clone": identity, "to": identity, "float": identity,
    "double": identity, "type_as": identity, "cat": concatenate, "concat": concatenate, "stack": stack, "split": split,
    "chunk": split, "getitem": getitem, "mean": mean, "sum": total, "softmax": softmax_call, "log_softmax": log_softmax_call,
    "dropout": dropout_call, "layer_norm": layer_norm_call, "expand": expand,
}  # fmt: skip
