"""The public tables of runs, each read into :class:`~limitlib.scaling.Runs` with its traps taken care of.

Letters as in the kernel: N tokens of data, P parameters, K steps or tokens seen, losses in nats per token. Each reader finds
its files through :func:`~limitlib.companion.load_dataset`, so that a missing data set is a DataUnavailable and a wrong
one a DataCorrupted.
"""

from __future__ import annotations

import csv
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from limitlib.checks import Array
from limitlib.companion.datasets import load_dataset
from limitlib.scaling import Runs

#: The parts of ``gemstones`` that are tables of losses.
GEMSTONES = ("hot", "hot_100b+", "hot_120b+_only", "hot_sampled_like_chinchilla", "cool_begin", "cool_end",
             "lr_ablation_hot", "slim_chinchilla")  # fmt: skip
#: The tasks of Gadre et al.'s average top-1 error.
SEVENTEEN_TASKS = (
    "bigbench_operators", "pubmed_qa_labeled", "hellaswag_zeroshot", "boolq", "arc_easy", "coqa", "bigbench_dyck_languages",
    "lambada_openai", "bigbench_novel_concepts", "winograd", "bigbench_cs_algorithms", "commonsense_qa", "bigbench_qa_wikidata",
    "hellaswag", "copa", "squad", "piqa",
)  # fmt: skip
#: Pre-training sets of ``over-training`` by the names that its files use.
OVER_TRAINING = {"c4": "c4_original", "redpajama": "rpj", "refinedweb": "rw_original"}
MIXTURES = {("1m", "train"): "train", ("1m", "test"): "test", ("60m", "test"): "test", ("1B", "test"): "test"}


def chinchilla(*, where: str | None = None) -> Runs:
    """234 runs behind figure 4 of Hoffmann et al. (2022), read off the figure: N tokens, P parameters, C FLOP.

    The source calls tokens D and parameters N. Every row is a run of its own.
    """
    return Runs.read(load_dataset("chinchilla-runs", "df.csv"), N="D", P="N", C="C", run="=row", where=where)


def gemstones(part: str = "hot", *, where: str | None = None) -> Runs:
    """One table of the Gemstones (McLeish et al. 2025): N = K = tokens seen, P parameters, extra columns width and depth.

    part: one of ``GEMSTONES``; ``"hot"`` has 22 runs of constant learning rate, ``"cool_end"`` the ends of 10 % cool-downs of
    20 of them, ``"lr_ablation_hot"`` the same 20 at half the rate. The extra column ``rate`` is the learning rate at the row,
    in units of the hot one (1, 0 or 0.5), and ``area`` the sum of the rate over the tokens so far: K for hot rows, K/2 at half
    the rate; for ends of a cool-down K (10/11 + 1/22), which takes the decay as linear (its shape is not in the table).
    ``"slim_chinchilla"`` has neither runs nor shapes: every row is a run, P and N alone.
    Raises ValueError for an unknown part.
    """
    if part not in GEMSTONES:
        raise ValueError(f"part={part!r} must be one of {', '.join(GEMSTONES)}")
    file = load_dataset("gemstones", f"wandb_df_for_fitting_{part}.jsonl")
    if part == "slim_chinchilla":
        return Runs.read(file, N="tokens", P="params_active_precise", loss="final_loss", run="=row", where=where)
    rows = [json.loads(line) for line in file.read_text().splitlines() if line.strip()]
    rate, share = {"cool_end": (0.0, 10 / 11 + 1 / 22), "lr_ablation_hot": (0.5, 0.5)}.get(part, (1.0, 1.0))
    for row in rows:
        row |= {"rate": rate, "area": share * row["tokens"]}
    return Runs.from_frame(
        rows, N="tokens", K="tokens", P="params_active_precise", loss="final_loss", run="run_name", annealed=part == "cool_end",
        extra=["width", "depth", "rate", "area"], where=where,
    )  # fmt: skip


def routed(*, router: str | None = None, last: bool = False, where: str | None = None) -> Runs:
    """Dense and routed models of Clark et al. (2022): K steps, P parameters that one token sees, extra column experts.

    router: "Dense", "Hash", "S-Base" or "RL-R" (None: all). last: only the last checkpoint of each run. where: as in
    :meth:`Runs.from_frame`, by the source's columns too (routing_frequency, k, seed, flop_increase, num_experts).
    Left out: untrained rows (step 0), the 8 rows without validation loss.
    """
    conditions = ["step > 0"] + ([f"router_type == '{router}'"] if router else []) + ([f"({where})"] if where else [])
    runs = Runs.read(
        load_dataset("routed-lm", "curves.csv.gz"), K="step", P="dense_parameter_count", loss="loss_validation", run="hyper_id",
        extra={"experts": "num_experts", "total": "total_parameter_count", "seed": "seed"}, where=" and ".join(conditions),
        drop_nan=True,
    )  # fmt: skip
    if not last:
        return runs
    ends = np.zeros(runs.n_runs)
    np.maximum.at(ends, runs.run, runs.K)
    return runs.select(ends[runs.run] == runs.K)


def over_training(trained_on: str = "redpajama", *, where: str | None = None) -> Runs:
    """Models of Gadre et al. (2024) by the set they were trained on: N tokens, P parameters, C4 validation loss.

    trained_on: one of ``OVER_TRAINING``. Extra columns: multiplier (M = 20 x the nominal Chinchilla multiplier) and error (mean
    top-1 error of the 17 tasks, in [0, 1]). where: by the columns of the result. Raises ValueError for an unknown set.
    """
    if trained_on not in OVER_TRAINING:
        raise ValueError(f"trained_on={trained_on!r} must be one of {', '.join(OVER_TRAINING)}")
    folder = load_dataset("over-training")
    rows = [over_trained(file) for file in sorted((folder / "models").glob(f"{OVER_TRAINING[trained_on]}-*.json"))]
    runs = Runs.from_frame(rows, N="N", P="P", loss="loss", run="name", extra=["multiplier", "error"])
    return runs if where is None else runs.where(where)


def over_trained(file: Path) -> dict[str, Any]:
    """One model of ``over-training``: its size, tokens, C4 validation loss and error."""
    model = json.loads(file.read_text())
    told = model["hyperparameters"]
    (loss,) = (r["loss"] for r in model["results"] if "c4_val" in r["val_data"][0])
    scores = json.loads((file.parents[1] / "evals" / f"evaluation_{file.stem}_heavy.json").read_text())["eval_metrics"]["icl"]
    return {
        "name": model["name"], "P": told["params"], "N": told["tokens"], "loss": loss,
        "multiplier": 20 * told["chinchilla_multiplier"], "error": 1 - float(np.mean([scores[t] for t in SEVENTEEN_TASKS])),
    }  # fmt: skip


@dataclass(frozen=True)
class Mixtures:
    """Models trained on mixtures of the Pile's domains: shares (n, 17), each row summing to one, losses (n, 13)."""

    domains: tuple[str, ...]
    targets: tuple[str, ...]
    shares: Array
    losses: Array

    def runs(self, target: str, rows: Any = None) -> Runs:
        """The table of one target domain: a column of shares per domain; every row is a run. rows: which ones (None: all)."""
        if target not in self.targets:
            raise ValueError(f"target={target!r} must be one of {', '.join(self.targets)}")
        kept = slice(None) if rows is None else rows
        shares = {d: self.shares[kept, j] for j, d in enumerate(self.domains)}
        table = {**shares, "loss": self.losses[kept, self.targets.index(target)]}
        return Runs.from_frame(table, run="=row", extra=self.domains)

    def columns(self) -> dict[str, Array]:
        """The shares by the name of their domain, for :meth:`Law.predict`."""
        return {d: self.shares[:, j] for j, d in enumerate(self.domains)}


def mixtures(size: str = "1m", split: str = "train") -> Mixtures:
    """Losses of RegMix (Liu et al. 2025) on 13 domains after training on a mixture of 17.

    (size, split): ("1m", "train") 512 models, ("1m", "test") and ("60m", "test") 256 each on the same mixtures, ("1B", "test")
    64. Mixtures and losses are joined by their index; shares, rounded to 0.001 at the source, are divided by their sum.
    Raises ValueError for another pair.
    """
    if (size, split) not in MIXTURES:
        raise ValueError(f"(size, split)={(size, split)!r} must be one of {', '.join(map(str, MIXTURES))}")
    domains, shares = by_index(load_dataset("data-mixing", f"{split}_mixture_{size}.csv"))
    targets, losses = by_index(load_dataset("data-mixing", f"{split}_pile_loss_{size}.csv"))
    both = sorted(shares.keys() & losses.keys())
    rows = np.array([shares[i] for i in both])
    return Mixtures(
        tuple(d.removeprefix("train_the_pile_") for d in domains),
        tuple(t.removeprefix("metric/the_pile_").removesuffix("_val_loss") for t in targets),
        rows / rows.sum(axis=1, keepdims=True), np.array([losses[i] for i in both]),
    )  # fmt: skip


def by_index(file: Path) -> tuple[list[str], dict[int, list[float]]]:
    """The names of a table's columns and its rows by their index."""
    with file.open(newline="") as stream:
        head, *rows = csv.reader(stream)
    return head[1:], {int(row[0]): [float(v) for v in row[1:]] for row in rows if row}
