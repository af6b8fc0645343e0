"""limitlib.training.language: members keep to themselves, the schedule is what it says, layers are measured from below."""

import itertools
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from limitlib.audit.measure import angular_cover, effective_rank, mean_cosine
from limitlib.models import Transformer
from limitlib.operators import jacobian_singular_values
from limitlib.training import LanguageSpec, Table, train
from limitlib.training.language import block_gains, clip_members, learning_rate, measure_layers, window_losses

TINY = LanguageSpec((0, 1), 2, width=8, heads=2, context=6, batch=4, steps=3, evaluation=16, windows=3, probes=2)


def tiny_net(seeds=(0, 1), norm="pre", shake=1.0):
    net = Transformer(seeds, vocab=11, depth=3, width=8, heads=2, norm=norm, context=5, dtype=torch.float64)
    rng = np.random.default_rng(1)
    for p in net.parameters():
        p.data += shake * 0.3 * torch.tensor(rng.standard_normal(p.shape))
    return net.requires_grad_(False)


# --- one run


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_a_member_trained_in_an_ensemble_equals_it_trained_alone(norm):
    spec = replace(TINY, norm=norm, learning_rate=1e-2, warmup=1)
    together, alone = train(spec), train(replace(spec, seeds=(1,)))
    assert together.rows[1]["test_loss"] == pytest.approx(alone.rows[0]["test_loss"], rel=1e-5)
    assert together.rows[0]["test_loss"] != pytest.approx(alone.rows[0]["test_loss"], rel=1e-5)
    theirs = [d for d in together.details if d["seed"] == 1 and d["stage"] == "trained"]
    ours = [d for d in alone.details if d["stage"] == "trained"]
    for a, b in zip(theirs, ours, strict=True):
        assert a.keys() == b.keys()
        assert a["token_norm"] == pytest.approx(b["token_norm"], rel=1e-4)
        if "local" in a:
            assert a["local"] == pytest.approx(b["local"], rel=2e-2)  # each within the search's 1e-3 of the top, and training


def test_training_is_deterministic_and_learns():
    spec = replace(TINY, width=16, context=16, batch=16, steps=60, learning_rate=1e-2, windows=0, probes=0)
    first = train(spec)
    assert first.rows == train(spec).rows and first.details == ()
    untrained = train(replace(spec, steps=0))
    for before, after in zip(untrained.rows, first.rows, strict=True):
        assert before["test_loss"] == pytest.approx(math.log(97), abs=0.05)  # small logits: every character alike
        assert after["test_loss"] < before["test_loss"] - 1


def test_without_steps_the_layers_are_as_they_started():
    details = train(replace(TINY, steps=0)).details
    at = {stage: [{**d, "stage": ""} for d in details if d["stage"] == stage] for stage in ("start", "trained")}
    assert at["start"] == at["trained"] and [(d["layer"], d["seed"]) for d in at["start"]] == [
        (layer, seed) for layer in range(3) for seed in (0, 1)
    ]


# --- the optimiser


def test_the_rate_warms_up_and_falls_to_a_tenth():
    spec = replace(TINY, steps=121, warmup=20, learning_rate=2.0)
    rates = [learning_rate(spec, step) for step in range(121)]
    assert rates[0] == pytest.approx(0.1) and rates[19] == pytest.approx(2.0) == rates[20]
    assert rates[70] == pytest.approx(1.1) and rates[-1] == pytest.approx(0.2)
    assert all(a > b for a, b in itertools.pairwise(rates[20:]))
    assert learning_rate(replace(spec, warmup=0), 0) == pytest.approx(2.0)
    assert learning_rate(replace(spec, steps=20), 19) == pytest.approx(2.0)  # nothing but warm-up


def with_gradients(sizes):
    net = Transformer(range(len(sizes)), vocab=11, depth=1, width=8, heads=2, context=5)
    rng = np.random.default_rng(0)
    for p in net.parameters():
        p.grad = torch.tensor(rng.standard_normal(p.shape), dtype=torch.float32)
        p.grad *= torch.tensor(sizes).reshape(-1, *[1] * (p.ndim - 1))
    return net


def test_gradients_are_clipped_for_each_member_alone():
    net, alone = with_gradients([1e3, 1e-4, 0.0]), with_gradients([1e3])
    small = [p.grad[1].clone() for p in net.parameters()]
    norms = clip_members(net)
    total = torch.stack([p.grad.flatten(1).square().sum(1) for p in net.parameters()]).sum(0).sqrt()
    assert total[0].item() == pytest.approx(1, rel=1e-5) and norms[0] > 1e3
    assert all(torch.equal(p.grad[1], g) for p, g in zip(net.parameters(), small, strict=True)) and norms[1] < 1
    assert total[2] == 0 and torch.isfinite(total).all()
    # The rule of PyTorch, which knows no members, agrees for one member and mixes several.
    for p in alone.parameters():
        p.grad = 1e3 * torch.ones_like(p.grad)
    twin = with_gradients([1.0])
    for p in twin.parameters():
        p.grad = 1e3 * torch.ones_like(p.grad)
    clip_members(alone)
    torch.nn.utils.clip_grad_norm_(twin.parameters(), 1.0)
    assert all(torch.allclose(p.grad, q.grad) for p, q in zip(alone.parameters(), twin.parameters(), strict=True))
    mixed = with_gradients([1e3, 1e-4])
    torch.nn.utils.clip_grad_norm_(mixed.parameters(), 1.0)
    assert not any(torch.allclose(p.grad[1], g) for p, g in zip(mixed.parameters(), small, strict=True))


def test_the_test_loss_is_the_mean_over_all_positions():
    net = tiny_net()
    windows = torch.tensor(np.random.default_rng(2).integers(11, size=(70, 6)))  # more than one part
    found = window_losses(net, windows)
    for m in range(2):
        chance = net(windows[:, :-1].expand(2, -1, -1))[m].log_softmax(-1)
        expected = -chance.gather(-1, windows[:, 1:, None]).mean()
        assert found[m] == pytest.approx(expected.item(), rel=1e-12)


# --- what the layers do


@pytest.mark.parametrize("norm", ["pre", "post"])
def test_gains_are_lower_bounds_and_close_to_the_jacobians_written_out(norm):
    net = tiny_net(norm=norm)
    windows = torch.tensor(np.random.default_rng(3).integers(11, size=(2, 2, 5)))
    states = net.states(windows)
    gains = block_gains(net, states, 39)  # 40 dimensions: one step short of writing the Jacobian out
    flat = lambda f: lambda x: f(x.unflatten(-1, (5, 8))).flatten(2)  # noqa: E731
    product = np.ones(2)
    for layer in range(3):
        truth = jacobian_singular_values(flat(lambda x, k=layer: net.block(k, x)), states[layer].flatten(2))
        assert (gains["local"][layer] <= truth.lower).all() and (gains["local"][layer] >= 0.99 * truth.lower).all()
        assert (gains["local_mean"][layer] <= truth.local.mean(1)).all()
        assert gains["rms"][layer] == pytest.approx(truth.rms.mean(1), rel=0.3)  # four probes of forty dimensions

        def stack(x, last=layer):
            for k in range(last + 1):
                x = net.block(k, x)
            return x

        whole = jacobian_singular_values(flat(stack), states[0].flatten(2)).lower
        assert (gains["cumulative"][layer] <= whole).all() and (gains["cumulative"][layer] >= 0.99 * whole).all()
        product = product * truth.lower
        assert (gains["cumulative"][layer] <= product).all()


def test_shapes_are_those_of_all_tokens_of_one_member():
    net, spec = tiny_net(), replace(TINY, depth=3, context=5)
    windows = torch.tensor(np.random.default_rng(4).integers(11, size=(3, 6)))
    table = Table(tuple(measure_layers(net, spec, windows, stage="start")))
    states = net.states(windows[:, :-1].expand(2, -1, -1))
    for layer in range(4):
        for m in range(2):
            (row,) = table.where(layer=layer, seed=m).rows
            cloud = states[layer][m].reshape(15, 8).numpy()
            assert row["effective_rank"] == pytest.approx(effective_rank(cloud))
            assert row["mean_cosine"] == pytest.approx(mean_cosine(cloud))
            assert (row["packing"], row["cover"]) == (angular_cover(cloud).lower, angular_cover(cloud).upper)
            assert ("increment" in row) == ("local" in row) == (layer > 0)
    step = (states[1][0] - states[0][0]).norm(dim=-1) / states[0][0].norm(dim=-1)
    assert table.where(layer=1, seed=0).rows[0]["increment"] == pytest.approx(step.mean().item())


def test_a_diverged_member_keeps_its_place_without_a_shape():
    net = tiny_net()
    net.outer.data[1, 0] = math.inf
    windows = torch.tensor(np.random.default_rng(4).integers(11, size=(3, 6)))
    rows = measure_layers(net, replace(TINY, depth=3, context=5), windows, stage="trained")
    assert len(rows) == 8 and all(row["cover"] > 0 for row in rows if row["seed"] == 0)
    lost = next(row for row in rows if row["seed"] == 1 and row["layer"] == 1)
    assert lost["cover"] == -1 and math.isnan(lost["effective_rank"]) and math.isnan(lost["local"])


def test_at_the_start_a_post_norm_stack_hands_its_states_on_and_its_first_block_stretches():
    """LN of embeddings with deviation 0.02 multiplies by about 1 / (0.02 sqrt 2); later blocks have nearly unit gain."""
    spec = LanguageSpec((0,), 3, norm="post", steps=0, evaluation=1, windows=2, probes=1)
    first, second, third = (d for d in train(spec).details if d["stage"] == "start" and d["layer"])
    assert first["local"] > 0.8 / (0.02 * math.sqrt(2)) and first["rms"] == pytest.approx(1 / (0.02 * math.sqrt(2)), rel=0.1)
    for later in (second, third):
        assert 0.9 < later["local"] < 1.1 and later["increment"] < 0.1


# --- specs


@pytest.mark.parametrize("change, message", [
    (dict(norm="none"), "norm='none'"),
    (dict(heads=3), "heads=3 must divide width=8"),
    (dict(depth=0), "depth=0"),
    (dict(learning_rate=0.0), "learning_rate=0.0"),
    (dict(learning_rate=math.nan), "learning_rate=nan"),
    (dict(probes=4), "probes=4 must not exceed windows=3"),
    (dict(evaluation=0), "evaluation=0"),
    (dict(seeds=(1, 1)), "repeats a seed"),
])  # fmt: skip
def test_a_bad_spec_is_refused_by_name(change, message):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **change)


def test_the_style_decides_the_initialisation_unless_told():
    spec = replace(TINY, steps=0, windows=0, probes=0)
    style = {norm: train(replace(spec, norm=norm)).rows[0]["scaled_init"] for norm in ("pre", "post")}
    assert style == {"pre": True, "post": False}
    assert train(replace(spec, norm="post", scaled_init=True)).rows[0]["scaled_init"] is True
