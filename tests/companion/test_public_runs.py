"""Readers of the public tables: sizes, traps, units. What is not on this machine is skipped."""

import numpy as np
import pytest

from limitlib.companion import datasets, public_runs


def needs(name):
    return pytest.mark.skipif(not datasets.available(name), reason=f"{name} is not on this machine")


@needs("chinchilla-runs")
def test_chinchilla_letters_are_ours():
    runs = public_runs.chinchilla()
    assert len(runs) == runs.n_runs == 234
    assert np.allclose(6 * runs.N * runs.P / runs.C, 1, atol=1e-3) and np.all(runs.P < runs.N)


@needs("gemstones")
def test_gemstones_have_runs_rates_and_areas():
    rows = {part: len(public_runs.gemstones(part)) for part in public_runs.GEMSTONES}
    assert rows == {"hot": 220, "hot_100b+": 770, "hot_120b+_only": 528, "hot_sampled_like_chinchilla": 24, "cool_begin": 199,
                    "cool_end": 199, "lr_ablation_hot": 200, "slim_chinchilla": 28}  # fmt: skip
    hot, cold, half = (public_runs.gemstones(p) for p in ("hot", "cool_end", "lr_ablation_hot"))
    assert (hot.n_runs, cold.n_runs, half.n_runs) == (22, 20, 20)
    assert set(hot["rate"]) == {1.0} and set(cold["rate"]) == {0.0} and set(half["rate"]) == {0.5}
    assert np.array_equal(hot["area"], hot.K) and np.array_equal(half["area"], half.K / 2)
    assert np.allclose(cold["area"], cold.K * (10 / 11 + 0.5 / 11)) and cold.annealed.all() and not hot.annealed.any()
    assert len(public_runs.gemstones("hot", where="tokens < 5.5e10")) == 110
    with pytest.raises(ValueError, match=r"part='cold' must be one of hot, "):
        public_runs.gemstones("cold")


@needs("routed-lm")
def test_routed_rows_without_a_loss_are_left_out_and_last_ones_are_last():
    runs = public_runs.routed()
    assert len(runs) == 5799 - 223 - 8 and runs.n_runs == 223 and runs.K.min() > 0
    last = public_runs.routed(router="Dense", last=True, where="k == 1 and routing_frequency == 0.5")
    assert len(last) == last.n_runs == 8 and last.K.min() >= 248000 and set(last["experts"]) == {1.0}


@needs("over-training")
def test_over_training_reads_the_c4_loss_and_the_seventeen_tasks():
    sizes = {name: len(public_runs.over_training(name)) for name in public_runs.OVER_TRAINING}
    assert sizes == {"c4": 34, "redpajama": 35, "refinedweb": 35} and len(public_runs.SEVENTEEN_TASKS) == 17
    runs = public_runs.over_training()
    assert np.allclose(runs.N / runs.P, runs["multiplier"], rtol=0.01)
    large = runs.where("P > 5e9")
    assert large.loss[0] == pytest.approx(2.4250, abs=5e-4) and large["error"][0] == pytest.approx(0.4716, abs=5e-5)
    with pytest.raises(ValueError, match="trained_on='pile'"):
        public_runs.over_training("pile")


@needs("data-mixing")
def test_mixtures_are_joined_by_index_and_sum_to_one():
    sizes = {key: len(public_runs.mixtures(*key).losses) for key in public_runs.MIXTURES}
    assert sizes == {("1m", "train"): 512, ("1m", "test"): 256, ("60m", "test"): 256, ("1B", "test"): 64}
    mixtures = public_runs.mixtures()
    assert mixtures.shares.shape == (512, 17) and mixtures.losses.shape == (512, 13)
    assert np.allclose(mixtures.shares.sum(axis=1), 1)
    runs = mixtures.runs("arxiv", rows=np.arange(10))
    assert len(runs) == 10 and set(runs.columns) == set(mixtures.domains)
    assert np.array_equal(runs.loss, mixtures.losses[:10, 0])
    with pytest.raises(ValueError, match="target='europarl'"):
        mixtures.runs("europarl")
    with pytest.raises(ValueError, match=r"\('1B', 'train'\)"):
        public_runs.mixtures("1B", "train")
