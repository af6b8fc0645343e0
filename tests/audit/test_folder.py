"""Reading networks from disk: what is read exactly, what is refused, and that every refusal names the fix."""

import json
import subprocess
import sys

import pytest
import torch
from torch import nn

from limitlib.audit import PickleRefused, UnreadableNetwork, load_network

FAMILIES = ["gpt2", "llama", "qwen2", "bert", "deepseek_v2", "deepseek_v3", "deepseek"]


class Twice(nn.Module):
    """A module whose class lives here: what a pickle refers to."""

    def __init__(self):
        super().__init__()
        self.inner = nn.Linear(3, 3)

    def forward(self, x):
        return self.inner(self.inner(x))


class Bomb:
    """Reading its pickle would write a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def chain():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(4, 4), nn.Tanh(), nn.Linear(4, 4)).eval()


@pytest.mark.parametrize("kind", FAMILIES)
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_families_are_read_with_their_weights_exactly_as_stored(saved, kind, dtype):
    from safetensors.torch import load_file

    folder = saved(kind, dtype)
    network = load_network(folder)
    assert network.family == kind and network.vocabulary == 61 and not network.model.training
    assert network.dtype == dtype
    assert any("bfloat16" in n for n in network.notes) == (dtype == "bfloat16")
    stored = load_file(folder / "model.safetensors")
    key, own = {
        "gpt2": ("transformer.h.1.mlp.c_fc.weight", "h.1.mlp.c_fc.weight"),
        "bert": ("encoder.layer.1.output.dense.weight",) * 2,
    }.get(kind, ("model.layers.1.self_attn.o_proj.weight", "layers.1.self_attn.o_proj.weight"))
    assert torch.equal(network.model.get_parameter(own), stored[key])


def test_sharded_folders_are_read_and_a_missing_shard_is_named(saved):
    folder = saved("qwen2", max_shard_size="10KB")
    shards = sorted(folder.glob("model-*.safetensors"))
    assert len(shards) > 1
    whole = load_network(folder)
    assert whole.parameters == sum(p.numel() for p in whole.model.parameters())
    shards[-1].unlink()
    with pytest.raises(UnreadableNetwork, match=f"lacks 1 of {len(shards)} weight files"):
        load_network(folder)


def test_a_checkpoint_that_lacks_weights_is_refused_and_not_filled_with_random_numbers(saved):
    from safetensors.torch import load_file, save_file

    folder = saved("llama")
    weights = load_file(folder / "model.safetensors")
    del weights["model.layers.1.mlp.down_proj.weight"]
    save_file(weights, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(UnreadableNetwork, match=r"lacks 1 of the model's weights.*down_proj"):
        load_network(folder)


def test_fresh_networks_have_the_architecture_and_other_weights(saved):
    for kind in ("gpt2", "deepseek"):
        network = load_network(saved(kind))
        state = torch.get_rng_state()
        one, again, other = network.fresh(1), network.fresh(1), network.fresh(2)
        assert torch.equal(state, torch.get_rng_state())  # the caller's random numbers are left alone
        names = [n for n, _ in network.model.named_parameters()]
        assert names == [n for n, _ in one.named_parameters()]
        matrix = next(n for n, p in one.named_parameters() if p.ndim == 2)
        assert torch.equal(one.get_parameter(matrix), again.get_parameter(matrix))
        assert not torch.equal(one.get_parameter(matrix), other.get_parameter(matrix))


def test_the_rebuilt_deepseek_moe_is_the_sum_over_the_chosen_experts(saved):
    """Against a plain loop over tokens, from the formulas of the paper (equations 9 to 11 of arXiv 2401.06066)."""
    model = load_network(saved("deepseek")).model.double()
    mixture = model.layers[1].mlp
    hidden = torch.randn(2, 5, 16, dtype=torch.float64, generator=torch.Generator().manual_seed(3))
    found = mixture(hidden)

    def expert(m, u):
        return m.down_proj(nn.functional.silu(m.gate_proj(u)) * m.up_proj(u))

    for b in range(2):
        for t in range(5):
            u = hidden[b, t]
            share = torch.softmax(mixture.gate.weight @ u, dim=0)
            must = expert(mixture.shared_experts, u)
            for i in share.topk(2).indices:
                must = must + share[i] * expert(mixture.experts[i], u)
            assert torch.allclose(found[b, t], must, rtol=1e-12, atol=1e-14)
    assert type(model.layers[0].mlp).__name__ == "LlamaMLP"  # first_k_dense_replace = 1
    assert mixture.shared_experts.gate_proj.out_features == 16  # two shared experts of width 8, side by side


def test_a_deepseek_variant_that_is_not_written_here_is_refused(saved):
    folder = saved("deepseek")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"scoring_func": "sigmoid"}))
    with pytest.raises(UnreadableNetwork, match="scoring_func"):
        load_network(folder)


@pytest.mark.parametrize(
    ("edit", "word"),
    [
        ({"model_type": "nobody-knows", "auto_map": {"AutoModel": "m.M"}}, "never run"),
        ({"quantization_config": {"bits": 4}}, "quantised"),
        ({"is_encoder_decoder": True}, "encoder-decoder"),
        ({"model_type": None}, "model_type"),
        ({"hidden_size": 32}, "cannot be read|lacks"),
    ],
)
def test_folders_that_cannot_be_audited_say_why(saved, edit, word):
    folder = saved("llama")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | edit))
    with pytest.raises(UnreadableNetwork, match=word):
        load_network(folder)


def test_broken_and_incomplete_folders_say_what_is_there(saved, tmp_path):
    folder = saved("llama")
    (folder / "model.safetensors").unlink()
    with pytest.raises(UnreadableNetwork, match="no weights"):
        load_network(folder)
    (folder / "pytorch_model.bin").write_bytes(b"x")
    with pytest.raises(PickleRefused, match="--allow-pickle"):
        load_network(folder)
    (folder / "config.json").write_text("{")
    with pytest.raises(UnreadableNetwork, match="not JSON"):
        load_network(folder)
    (folder / "config.json").unlink()
    with pytest.raises(UnreadableNetwork, match=r"no config\.json"):
        load_network(folder)
    (folder / "adapter_config.json").write_text("{}")
    with pytest.raises(UnreadableNetwork, match="merge"):
        load_network(folder)
    with pytest.raises(FileNotFoundError, match="does not exist"):
        load_network(tmp_path / "nowhere")


def test_pickled_modules_are_refused_unless_allowed(tmp_path):
    file = tmp_path / "net.pt"
    torch.save(Twice(), file)
    with pytest.raises(PickleRefused, match="runs whatever code"):
        load_network(file)
    network = load_network(file, allow_pickle=True)
    assert isinstance(network.model, Twice) and network.vocabulary is None


def test_a_refused_pickle_runs_nothing(tmp_path):
    mark = tmp_path / "mark"
    torch.save({"x": Bomb(mark)}, tmp_path / "bomb.pt")
    with pytest.raises(PickleRefused):
        load_network(tmp_path / "bomb.pt")
    assert not mark.exists()


def test_other_files_say_what_they_hold(tmp_path):
    torch.save(chain().state_dict(), tmp_path / "weights.pt")
    with pytest.raises(UnreadableNetwork, match="state dict"):
        load_network(tmp_path / "weights.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UnreadableNetwork, match="a list"):
        load_network(tmp_path / "list.pt")
    (tmp_path / "noise.pt").write_bytes(b"noise" * 100)
    with pytest.raises(UnreadableNetwork, match="not a file saved by torch"):
        load_network(tmp_path / "noise.pt")
    (tmp_path / "cut.pt").write_bytes(b"\x80\x02" + b"noise" * 100)
    with pytest.raises(UnreadableNetwork, match="not a file saved by torch"):
        load_network(tmp_path / "cut.pt", allow_pickle=True)
    (tmp_path / "net.gguf").write_bytes(b"GGUF")
    with pytest.raises(UnreadableNetwork, match=r"\.pt2"):
        load_network(tmp_path / "net.gguf")
    (tmp_path / "w.safetensors").write_bytes(b"")
    with pytest.raises(UnreadableNetwork, match="no architecture"):
        load_network(tmp_path / "w.safetensors")


def test_modules_without_a_known_first_draw_have_no_control():
    assert load_network(chain()).fresh is not None

    class Loose(nn.Module):
        def __init__(self):
            super().__init__()
            self.w = nn.Parameter(torch.ones(2))

    assert load_network(Loose()).fresh is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_exported_programs_and_torchscript_are_read(tmp_path):
    torch.export.save(torch.export.export(chain(), (torch.ones(2, 4),)), tmp_path / "net.pt2")
    exported = load_network(tmp_path / "net.pt2")
    assert exported.family == "torch.export"
    x = torch.randn(2, 4)
    assert torch.equal(exported.model(x), chain()(x))
    torch.jit.trace(chain(), torch.ones(2, 4)).save(tmp_path / "net.ts")
    assert load_network(tmp_path / "net.ts").family == "TorchScript"


def test_importing_the_audit_loads_neither_torch_nor_transformers():
    code = "import sys, limitlib.audit; print(*sorted(sys.modules))"
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"torch", "transformers", "matplotlib"} & set(found)
