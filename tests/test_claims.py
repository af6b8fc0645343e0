"""The ledger's sources: no claim lacks anything, nothing dangles, and every tolerance can fail."""

import importlib
import re
from pathlib import Path

import pytest

from limitlib.companion import ledger

ROOT = Path(__file__).parents[1]
CLAIMS = ledger.load_claims(ROOT)
EXPECTED = ledger.load_expected(ROOT)
NOTEBOOKS = {f.stem for f in (ROOT / "notebooks").glob("*.py")}
WRITTEN = [c for c in CLAIMS.values() if c["status"] == "written"]
#: The experiments whose numbers the written chapters owe their readers.
OWED = {f"E1.{n}" for n in range(1, 10)} | {f"E2.{n}" for n in range(1, 10)} | {f"E9.{n}" for n in range(1, 5)}
OWED |= {f"E3.{n}" for n in range(1, 5)} | {f"E4.{n}" for n in range(1, 4)} | {f"E5.{n}" for n in range(1, 8)}
OWED |= {f"E6.{n}" for n in range(1, 13)} | {f"E7.{n}" for n in range(1, 4)}
OWED |= {"E1", "E2", "E3", "E3b", "E3c", "E4b", "E7"}


def test_every_claim_of_the_paper_is_there():
    wanted = {f"K{n}" for n in range(1, 31)} | {f"C{n}" for n in range(1, 7)} | {f"N{n}" for n in range(1, 10)}
    assert wanted <= set(CLAIMS)


@pytest.mark.parametrize("claim", CLAIMS.values(), ids=CLAIMS)
def test_no_field_is_empty(claim):
    assert set(claim) == set(ledger.FIELDS)
    planned = claim["status"] == "planned"
    assert planned or claim["status"] == "written"
    empty = {f for f in ledger.FIELDS if not claim[f]} - (ledger.PLANNED_MAY_LACK if planned else ledger.MAY_LACK)
    assert not empty
    assert claim["verdict"] in ledger.VERDICTS
    assert claim["tag"] in ("as quoted", "reconstructed", "secondary")
    assert re.fullmatch(r"\d\d-[a-z-]+", claim["chapter"])


@pytest.mark.parametrize("claim", WRITTEN, ids=[c["id"] for c in WRITTEN])
def test_nothing_dangles(claim):
    chapter = ROOT / "book" / f"{claim['chapter']}.md"
    assert claim["chapter"] in NOTEBOOKS and chapter.exists()
    assert f":label: {claim['theorem']}\n" in chapter.read_text()
    assert not claim["figure"] or f":name: {claim['figure']}\n" in chapter.read_text()
    assert f"{{claim}} {claim['id']}\n" in chapter.read_text(), "its chapter does not show it"
    for function in claim["functions"]:
        room, _, name = function.rpartition(".")
        assert hasattr(importlib.import_module(room), name), function
    for test in claim["tests"]:
        file, _, name = test.partition("::")
        assert (ROOT / file).exists() and (not name or f"def {name}(" in (ROOT / file).read_text()), test
    assert [k for k in EXPECTED if k.startswith(f"{claim['id']}.")], "no number holds it to anything"


@pytest.mark.parametrize("chapter", sorted(NOTEBOOKS))
def test_a_planned_claim_is_not_yet_written(chapter):
    """A chapter that exists treats its claims: none of them stays *planned*."""
    assert not [c["id"] for c in CLAIMS.values() if c["chapter"] == chapter and c["status"] == "planned"]


@pytest.mark.parametrize("rule", EXPECTED.values(), ids=EXPECTED)
def test_every_tolerance_can_fail(rule):
    assert rule.key.partition(".")[0] in CLAIMS, "a number of no claim"
    assert rule.notebook in NOTEBOOKS
    outside = rule.just_outside()
    assert outside and not any(rule.accepts(o) for o in outside)
    if "value" in rule.rule:
        assert rule.accepts(rule.rule["value"])
        assert rule.tolerance() <= 0.25 * abs(rule.rule["value"]) or rule.rule["value"] == 0 or rule.rival is not None, (
            "so wide a tolerance must at least exclude a named rival"
        )
    if rule.rival is not None:
        assert not rule.accepts(rule.rival), f"the rival {rule.rival} passes"


def test_every_experiment_owed_holds_numbers():
    assert {e for r in EXPECTED.values() for e in r.experiment.split(", ")} >= OWED
