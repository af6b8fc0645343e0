"""What a user types: the command's outputs, its exit codes, and the page it writes."""

import json
import os
import re
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch
from torch import nn

from limitlib.audit import audit_network
from limitlib.companion import audit_page
from limitlib.companion.audit_command import positions, shell
from limitlib.companion.cli import main

QUICK = ["--tokens", "5", "--sequences", "4", "--points", "2", "--control", "1"]


def test_a_folder_gives_a_table_json_and_a_page(saved, tmp_path, capsys):
    out, page = tmp_path / "out.json", tmp_path / "page.html"
    folder = saved("gpt2")
    assert main(["audit", str(folder), *QUICK, "--json", str(out), "--html", str(page)]) == 0
    said = capsys.readouterr()
    assert "h.2" in said.out and "lower bound" not in said.out and "half of the smallest norm" in said.out
    assert "measuring h.0" in said.err and "fresh weights 1/1" in said.err
    made = json.loads(out.read_text())
    assert made["complete"] and len(made["rows"]) == 3 and made["settings"]["points"] == 2
    assert "Audit of gpt2" in page.read_text()
    assert main(["audit", str(folder), *QUICK, "--json", "-", "--no-bounds", "--blocks", "1"]) == 0
    assert [r["block"] for r in json.loads(capsys.readouterr().out)["rows"]] == ["h.1"]


def test_the_page_asks_for_nothing_and_every_figure_has_words_and_data(saved, parsed):
    report = audit_network(saved("gpt2"), tokens=5, sequences=4, points=2, control=1)
    text = audit_page.page(report)
    page = parsed(text)
    for tag, attrs in page.tags:
        assert tag not in ("script", "link", "iframe", "img")
        for key in ("src", "href", "xlink:href", "srcset"):
            assert attrs.get(key, "#").startswith("#"), (tag, attrs)
    assert not re.search(r"url\((?!#)", text) and "@import" not in text and "http-equiv" in text
    figures = page.all("figure")
    drawings = page.all("svg")
    assert len(figures) == len(drawings) == 4
    assert all(d["role"] == "img" and len(d["aria-label"]) > 40 for d in drawings)
    assert len(page.all("table")) == 5  # one for each figure's data, and the rows
    ids = [a["id"] for _, a in page.tags if "id" in a]
    assert len(ids) == len(set(ids))
    used = {a["xlink:href"][1:] for a in page.all("use")} | set(re.findall(r"url\(#([^)]+)\)", text))
    assert used <= set(ids)
    words = " ".join(page.words)
    assert report.domain in words and "prefers-color-scheme:dark" in text and 'name="viewport"' in text
    for kind in ("lower bound", "upper bound", "estimate", "rounded down"):
        assert kind in words
    for row in report.rows:
        assert row.name in words and row.sup.source[:40] in words


def test_the_page_escapes_what_it_is_given():
    report = audit_network(nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3)).eval(), control=0, points=1)
    report.network["name"] = "<script>alert(1)</script>"
    text = audit_page.page(report)
    assert "<script>" not in text and "&lt;script&gt;" in text


def test_an_unfinished_report_says_so_on_its_page(saved, parsed):
    from limitlib.audit import AuditInterrupted

    def stop(done, total, what):
        if what == "measuring h.1":
            raise KeyboardInterrupt

    with pytest.raises(AuditInterrupted) as caught:
        audit_network(saved("gpt2"), tokens=5, sequences=4, points=2, control=1, progress=stop)
    text = audit_page.page(caught.value.report)
    assert "Incomplete." in text and "h.0" in text and "h.2" not in "".join(parsed(text).words)


def test_a_page_without_rows_is_still_a_page():
    from limitlib.audit import AuditReport

    facts = {"name": "x", "family": "x", "parameters": 1, "dtype": "float32"}
    report = AuditReport(facts, {"how": "y", "sha256": "0" * 64}, {"points": 1, "control": 0, "seed": 0}, "", None, (), False)
    assert "No block was finished" in audit_page.page(report)


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (["nowhere"], 2, "does not exist"),
        (["{folder}", "--text", "nowhere.txt"], 2, "does not exist"),
        (["{folder}", "--json", "no/such/folder/a.json"], 2, "make it first"),
        (["{folder}", "--text", "a", "--input", "b"], 2, "one of them"),
        (["{folder}", "--tokens", "0"], 1, "tokens"),
        (["{folder}", "--blocks", "7"], 1, "positions from 0 to 2"),
        (["{folder}", "--device", "quantum"], 2, "--device"),
        (["{pickle}"], 1, "--allow-pickle"),
    ],
)
def test_mistakes_get_words_and_codes(saved, tmp_path, capsys, words, code, said):
    torch.save(nn.Sequential(nn.Linear(3, 3)), tmp_path / "net.pt")
    folder = saved("gpt2") if "{folder}" in words[0] else ""
    words = [w.format(folder=folder, pickle=tmp_path / "net.pt") for w in words]
    capsys.readouterr()
    assert main(["audit", *words]) == code
    error = capsys.readouterr().err.splitlines()[-1]
    assert error.startswith("limitlib audit: ") and said in error


def test_states_from_a_file_and_an_allowed_pickle(tmp_path, capsys):
    torch.manual_seed(0)
    torch.save(nn.Sequential(*(nn.Sequential(nn.Linear(4, 4), nn.ReLU()) for _ in range(3))), tmp_path / "net.pt")
    np.save(tmp_path / "states.npy", np.random.default_rng(0).standard_normal((6, 4)))
    words = ["audit", str(tmp_path / "net.pt"), "--allow-pickle", "--input", str(tmp_path / "states.npy"), "--points", "2"]
    assert main([*words, "--control", "0", "--shell", "none"]) == 0
    assert "6 given inputs" in capsys.readouterr().out
    np.save(tmp_path / "states.npy", np.array([{}], dtype=object), allow_pickle=True)
    assert main(words) == 2
    assert "not an array" in capsys.readouterr().err


def test_words_of_options():
    assert positions("0-2,5") == [0, 1, 2, 5] and shell("auto") == "auto" and shell("none") is None and shell("1.5") == 1.5
    for parse, wrong in ((positions, "3-1"), (positions, "a"), (shell, "-1"), (shell, "nan"), (shell, "inf")):
        with pytest.raises(Exception, match="is not a"):
            parse(wrong)


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_ctrl_c_keeps_what_was_finished(saved, tmp_path):
    """A real interruption of a real process: exit code 130, a JSON with the finished rows, marked incomplete."""
    out = tmp_path / "out.json"
    words = ["audit", str(saved("gpt2")), "--tokens", "16", "--control", "500", "--json", str(out)]
    # A background shell hands down an ignored SIGINT; a user's terminal does not.
    running = subprocess.Popen([sys.executable, "-m", "limitlib", *words], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                               text=True, env={**os.environ, "OMP_NUM_THREADS": "1"},
                               preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL))  # fmt: skip
    deadline = time.monotonic() + 60
    for line in running.stderr:
        if "fresh weights 1/" in line or time.monotonic() > deadline:
            running.send_signal(signal.SIGINT)
            break
    said, error = running.communicate(timeout=60)
    assert running.returncode == 130, error
    made = json.loads(out.read_text())
    assert made["complete"] is False and len(made["rows"]) == 3 and "interrupted" in error and "h.2" in said


def test_a_file_that_cannot_be_written_is_refused_before_the_work(tmp_path):
    from limitlib.companion.paths import UsageError
    from limitlib.companion.terminal import writable

    writable(tmp_path / "out.json")
    with pytest.raises(UsageError, match="it is a folder"):
        writable(tmp_path)
    with pytest.raises(UsageError, match="cannot write"):
        writable(tmp_path / "absent" / "out.json")
