"""Tiny networks of the true architectures, with random weights, saved as their authors would save them."""

import json

import pytest

DEEPSEEK = {
    "model_type": "deepseek", "vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "moe_intermediate_size": 8,
    "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 5, "num_experts_per_tok": 2,
    "n_shared_experts": 2, "first_k_dense_replace": 1, "moe_layer_freq": 1, "norm_topk_prob": False, "scoring_func": "softmax",
    "max_position_embeddings": 64, "rope_theta": 10000, "rms_norm_eps": 1e-6, "hidden_act": "silu",
    "auto_map": {"AutoModel": "modeling_deepseek.DeepseekModel"},
}  # fmt: skip


@pytest.fixture(autouse=True)
def one_thread():
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(autouse=True)
def no_network(monkeypatch):
    """Whatever asks for the network fails the test."""
    import socket

    def refuse(*args, **kwargs):
        raise AssertionError(f"the network was asked for: {args}")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)


def make(kind):
    """A transformers model of this family, width 16, without saving it."""
    import torch
    import transformers as T

    small = {"vocab_size": 61, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2, "num_attention_heads": 2}
    small |= {"bos_token_id": None, "eos_token_id": None, "pad_token_id": None}
    mixture = {"moe_intermediate_size": 8, "num_key_value_heads": 2, "n_routed_experts": 4, "num_experts_per_tok": 2,
               "n_shared_experts": 1, "kv_lora_rank": 8, "qk_rope_head_dim": 4, "qk_nope_head_dim": 4, "v_head_dim": 4,
               "first_k_dense_replace": 1, "topk_group": 1}  # fmt: skip
    made = {
        "gpt2": lambda: T.GPT2LMHeadModel(T.GPT2Config(vocab_size=61, n_embd=16, n_layer=3, n_head=2, n_positions=32,
                                                       bos_token_id=None, eos_token_id=None)),
        "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**small, num_key_value_heads=1, tie_word_embeddings=True)),
        "qwen2": lambda: T.Qwen2ForCausalLM(T.Qwen2Config(**small, num_key_value_heads=1)),
        "bert": lambda: T.BertModel(T.BertConfig(**small, max_position_embeddings=32)),
        "deepseek_v2": lambda: T.DeepseekV2ForCausalLM(
            T.DeepseekV2Config(**small, **mixture, q_lora_rank=None, n_group=1, topk_method="greedy")),
        "deepseek_v3": lambda: T.DeepseekV3ForCausalLM(T.DeepseekV3Config(**small, **mixture, q_lora_rank=8, n_group=2)),
    }  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return made[kind]().eval()


@pytest.fixture
def saved(tmp_path):
    """``saved(kind, dtype, ...)``: the folder of a tiny model of this family."""

    def save(kind, dtype="float32", **options):
        import torch

        folder = tmp_path / kind
        if kind == "deepseek":
            from safetensors.torch import save_file

            from limitlib.audit import deepseek

            folder.mkdir()
            model = deepseek.fresh(DEEPSEEK, 0).to(getattr(torch, dtype))
            weights = {f"model.{k}": v.contiguous() for k, v in model.state_dict().items()}
            save_file(weights | {"lm_head.weight": torch.zeros(61, 16)}, folder / "model.safetensors")
            (folder / "config.json").write_text(json.dumps(DEEPSEEK))
            (folder / "modeling_deepseek.py").write_text("raise SystemExit('the folder ran its code')")
            return folder
        make(kind).to(getattr(torch, dtype)).save_pretrained(folder, **options)
        return folder

    return save
