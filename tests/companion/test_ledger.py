"""The rules by which a number agrees, and the proof that each of them can fail."""

import json

import pytest

from limitlib.companion import ledger
from limitlib.companion.ledger import Expected


def rule(**words):
    return Expected("K1.x", "01-x", "E1.1", words, None, ("cpu",))


@pytest.mark.parametrize(
    ("words", "good", "bad"),
    [
        ({"value": 2.0, "abs": 0.1}, [2.0, 2.09, 1.95], [2.2, 0.0, float("nan"), float("inf"), "2.0", True]),
        ({"value": -2.0, "rel": 0.01}, [-2.0, -2.01], [2.0, -2.03]),
        ({"value": 0.0, "abs": 0.0}, [0.0, 0], [1e-300]),
        ({"value": float("inf"), "abs": 0.0}, [float("inf")], [1e308, -float("inf")]),
        ({"min": 1.0}, [1.0, 5, float("inf")], [0.99, float("nan")]),
        ({"max": 1.0}, [1.0, -5], [1.01]),
        ({"min": 0.0, "max": 1.0}, [0.5], [-0.1, 1.1]),
        ({"equals": "converges"}, ["converges"], ["diverges", 1.0]),
        ({"equals": True}, [True], [False, 1, 1.0, "True"]),
    ],
)
def test_rules(words, good, bad):
    checked = rule(**words)
    assert all(checked.accepts(g) for g in good)
    assert not any(checked.accepts(b) for b in bad)
    outside = checked.just_outside()
    assert outside and not any(checked.accepts(o) for o in outside)


@pytest.fixture
def book(tmp_path):
    (tmp_path / "data" / "expected").mkdir(parents=True)
    (tmp_path / "build" / "results").mkdir(parents=True)

    def write(expected, results):
        for name, entries in expected.items():
            (tmp_path / "data" / "expected" / f"{name}.json").write_text(json.dumps(entries))
        for name, entry in results.items():
            (tmp_path / "build" / "results" / f"{name}.json").write_text(json.dumps(entry))
        return {r.key: r for r in ledger.rows(tmp_path, tmp_path / "build")}

    return write


def recorded(value):
    return {"value": value, "fmt": ".3g", "badge": "exact"}


def test_verdicts(book):
    near = {"value": 1.0, "abs": 0.1, "experiment": "E1"}
    first = {"K1.good": near, "K1.bad": near, "K1.lost": near, "K1.small": near | {"profiles": ["cpu"]}}
    found = {"K1.good": 1.05, "K1.bad": 1.2, "K1.small": 9.0, "K1.free": 3.0}
    rows = book(
        {"01-a": first, "02-b": {"K2.x": near}, "03-c": {"K3.x": near}},
        {
            "01-a": {"profile": "smoke", "records": {k: recorded(v) for k, v in found.items()}},
            "03-c": {"skipped": {"dataset": "toy", "how": "make data"}},
        },
    )
    assert {k: r.verdict for k, r in rows.items()} == {
        "K1.good": "agrees", "K1.bad": "differs", "K1.lost": "not recorded", "K1.small": "not compared",
        "K1.free": "no expected value", "K2.x": "not run here", "K3.x": "not run here",
    }  # fmt: skip


def test_one_key_one_number(book):
    with pytest.raises(ledger.CompanionError, match=r"K1.x is recorded by 01-a and by 02-b"):
        book({}, {n: {"records": {"K1.x": recorded(1.0)}} for n in ("01-a", "02-b")})


@pytest.mark.parametrize(
    "entry",
    [
        {"value": 1.0, "experiment": "E"},
        {"experiment": "E"},
        {"value": 1.0, "abs": 0.1},
        {"abs": 0.1, "experiment": "E"},
        {"value": "1", "abs": 0.1, "experiment": "E"},
        3,
    ],
)
def test_a_rule_that_cannot_fail_is_refused(book, entry):
    with pytest.raises(ledger.CompanionError, match=r"01-a.json: K1.x (lacks a rule that can fail|must be an object)"):
        book({"01-a": {"K1.x": entry}}, {})


@pytest.mark.parametrize(
    ("value", "fmt", "text"),
    [
        (1.5e-7, ".2g", "1.5·10⁻⁷"),
        (-0.5, ".1f", "−0.5"),
        (1e30, ".0e", "1·10³⁰"),
        (-1e-9, ".3f", "0.000"),
        (-1e-9, ".0f", "0"),
        (-0.001, ".3f", "−0.001"),
        (float("inf"), ".3g", "∞"),
        (True, "", "yes"),
    ],
)
def test_numbers_are_readable(value, fmt, text):
    assert ledger.shown({"value": value, "fmt": fmt}) == text


def test_damaged_sources_are_named(book, tmp_path):
    book({"01-a": {}}, {"01-a": {"records": {"K1.x": recorded(1.0)}}})
    build = tmp_path / "build"
    (build / "results" / "01-a.json").write_text('{"records": {"K1')
    with pytest.raises(ledger.CompanionError, match=r"01-a.json is damaged .* `make run`"):
        ledger.rows(tmp_path, build)
    claims = tmp_path / "data" / "claims.yml"
    wrong = {"- {id: K1": "not valid YAML", "": "must be a list", "- {id: K1, verdict: reparied}": "'reparied'"}
    for text, told in wrong.items():
        claims.write_text(text)
        with pytest.raises(ledger.CompanionError, match=f"data/claims.yml.*{told}"):
            ledger.load_claims(tmp_path)


def test_numbers_that_nothing_watches_are_told(book, tmp_path):
    results = {n: {"records": {f"K1.{n[-1]}": recorded(1.0)}} for n in ("01-a", "02-b")}
    book({"01-a": {}}, results)
    assert ledger.unwatched(tmp_path, tmp_path / "build") == ["02-b"]
