"""The ledger: every claim with its verdict, every recorded number beside what it must be.

Sources: ``data/claims.yml`` (claims), ``data/expected/<notebook>.json`` (what each number must be), ``build/results/`` (what
the last run gave).
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from limitlib.companion.paths import CompanionError

VERDICTS = (
    "proved",
    "proved under added hypotheses",
    "repaired",
    "refuted",
    "empirical: supports",
    "empirical: neutral",
    "empirical: contradicts",
    "cannot be reproduced",
)
#: Fields of a claim; none may be empty once its chapter is written.
FIELDS = ("id", "title", "source", "tag", "statement", "true", "hypotheses", "verdict", "theorem", "figure",
          "experiments", "chapter", "status", "functions", "tests")  # fmt: skip
MAY_LACK = {"figure"}
PLANNED_MAY_LACK = MAY_LACK | {"theorem", "functions", "tests"}


@dataclass(frozen=True)
class Expected:
    """What one number must be: near a value (abs or rel tolerance), above a minimum and/or below a maximum, or a word."""

    key: str
    notebook: str
    experiment: str
    rule: dict[str, Any]
    rival: Any
    profiles: tuple[str, ...]

    def accepts(self, found: Any) -> bool:
        if "equals" in self.rule:
            return type(found) is type(self.rule["equals"]) and found == self.rule["equals"]
        if isinstance(found, (str, bool)) or math.isnan(found):
            return False
        if "value" not in self.rule:
            return self.rule.get("min", -math.inf) <= found <= self.rule.get("max", math.inf)
        value = self.rule["value"]
        if math.isinf(value):
            return found == value
        return abs(found - value) <= self.tolerance()

    def tolerance(self) -> float:
        """The half-width accepted around the value, in the number's own unit."""
        return self.rule["abs"] if "abs" in self.rule else self.rule["rel"] * abs(self.rule["value"])

    def words(self) -> str:
        if "equals" in self.rule:
            return str(self.rule["equals"])
        if "value" in self.rule:
            value, percent = readable(f"{self.rule['value']:.7g}"), "abs" not in self.rule
            width = self.rule["abs"] if not percent else 100 * self.rule["rel"]
            return f"{value} ± {readable(f'{width:g}')}{' %' if percent else ''}" if width else f"{value} exactly"
        edges = {"≥": self.rule.get("min"), "≤": self.rule.get("max")}
        return " and ".join(f"{sign} {readable(f'{edge:g}')}" for sign, edge in edges.items() if edge is not None)

    def just_outside(self) -> list[Any]:
        """Numbers that this rule must reject: a hair beyond each of its edges."""
        if "equals" in self.rule:
            right = self.rule["equals"]
            return [not right] if isinstance(right, bool) else [f"not {right}"]
        if "value" in self.rule:
            value, width = self.rule["value"], self.tolerance()
            if math.isinf(value):
                return [0.0, -value]
            hair = max(abs(value), width, 1e-300) * 1e-9
            return [value - width - hair, value + width + hair]
        edges = {k: self.rule[k] for k in ("min", "max") if k in self.rule}
        return [v + (-1 if k == "min" else 1) * max(abs(v) * 1e-9, 1e-12) for k, v in edges.items()]


@dataclass(frozen=True)
class Row:
    """One number of the ledger: recorded, expected, and whether they agree."""

    key: str
    notebook: str
    measured: Any
    shown: str
    badge: str
    expected: Expected | None
    verdict: str  # "agrees" | "differs" | "not run here" | "not compared" | "no expected value" | "not recorded"

    @property
    def wrong(self) -> bool:
        """Whether this number speaks against what the book says of it."""
        return self.verdict in ("differs", "not recorded")


def load_claims(root: Path) -> dict[str, dict[str, Any]]:
    import yaml

    try:
        claims = yaml.safe_load((root / "data" / "claims.yml").read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise CompanionError(f"data/claims.yml is not valid YAML: {' '.join(str(error).split())}") from error
    if not isinstance(claims, list) or not claims or not all(isinstance(c, dict) and "id" in c for c in claims):
        raise CompanionError("data/claims.yml must be a list of claims, each with an id; restore it with git")
    for claim in claims:
        if "verdict" in claim and claim["verdict"] not in VERDICTS:
            known = ", ".join(VERDICTS)
            raise CompanionError(f"data/claims.yml: {claim['id']} has the verdict {claim['verdict']!r}; choose one of {known}")
    by_id = {c["id"]: c for c in claims}
    if len(by_id) != len(claims):
        twice = [i for i, n in Counter(c["id"] for c in claims).items() if n > 1]
        raise CompanionError(f"data/claims.yml has {', '.join(twice)} twice")
    return by_id


def load_expected(root: Path) -> dict[str, Expected]:
    """Every expected number by key. Raises CompanionError naming a malformed or doubled entry."""
    found: dict[str, Expected] = {}
    for file in sorted((root / "data" / "expected").glob("*.json")):
        for key, entry in read_json(file).items():
            where = f"data/expected/{file.name}: {key}"
            if not isinstance(entry, dict) or "experiment" not in entry:
                raise CompanionError(f"{where} must be an object that names its experiment")
            rule = {k: entry[k] for k in ("value", "abs", "rel", "min", "max", "equals") if k in entry}
            edges = [rule[k] for k in ("value", "abs", "rel", "min", "max") if k in rule]
            numeric = all(isinstance(e, (int, float)) and not isinstance(e, bool) for e in edges)
            if not numeric or not set(rule) - {"value"} or ("value" in rule) != bool({"abs", "rel"} & set(rule)):
                raise CompanionError(f"{where} lacks a rule that can fail: value with abs or rel, min and/or max, or equals")
            if key in found:
                raise CompanionError(f"{where} is expected by {found[key].notebook} too; one key, one number")
            profiles = tuple(entry.get("profiles", ("smoke", "cpu", "gpu")))
            found[key] = Expected(key, file.stem, entry["experiment"], rule, entry.get("rival"), profiles)
    return found


def load_results(build: Path) -> dict[str, dict[str, Any]]:
    return {f.stem: read_json(f) for f in sorted((build / "results").glob("[0-9][0-9]-*.json"))}


def read_json(file: Path) -> dict[str, Any]:
    """An object from a JSON file; CompanionError naming the file if it is damaged."""
    try:
        content = json.loads(file.read_text())
    except ValueError as error:
        raise CompanionError(f"{file} is damaged ({error}); restore it with git, or make it anew with `make run`") from error
    if not isinstance(content, dict):
        raise CompanionError(f"{file} must hold an object; restore it with git, or make it anew with `make run`")
    return content


def shown(entry: dict[str, Any], fmt: str = "") -> str:
    value = entry["value"]
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, str):
        return value
    if math.isinf(value):
        return "∞" if value > 0 else "−∞"
    return readable(format(value, fmt or entry["fmt"]))


def readable(text: str) -> str:
    """``1.5e-07`` as ``1.5·10⁻⁷``; a true minus sign, and none before a zero."""
    mantissa, e, power = text.partition("e")
    if re.fullmatch(r"-0(\.0+)?", mantissa):
        mantissa, text = mantissa[1:], text[1:]
    if not e:
        return text.replace("-", "−")
    raised = str(int(power)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return f"{mantissa.replace('-', '−')}·10{raised}"


def rows(root: Path, build: Path) -> list[Row]:
    """All numbers, recorded or expected, in the order of notebooks and keys."""
    expected, results = load_expected(root), load_results(build)
    table: dict[str, Row] = {}
    for notebook, result in results.items():
        profile = result.get("profile", "cpu")
        for key, entry in result.get("records", {}).items():
            if key in table:
                raise CompanionError(f"{key} is recorded by {table[key].notebook} and by {notebook}; one key, one number")
            rule = expected.get(key)
            if rule is None:
                verdict = "no expected value"
            elif profile not in rule.profiles:
                verdict = "not compared"
            else:
                verdict = "agrees" if rule.accepts(entry["value"]) else "differs"
            table[key] = Row(key, notebook, entry["value"], shown(entry), entry["badge"], rule, verdict)
    for key, rule in expected.items():
        if key not in table:
            absent = rule.notebook not in results or "skipped" in results[rule.notebook]
            table[key] = Row(key, rule.notebook, None, "—", "", rule, "not run here" if absent else "not recorded")
    return sorted(table.values(), key=lambda r: (r.notebook, natural(r.key)))


def natural(key: str) -> tuple:
    claim, _, name = key.partition(".")
    return claim[0], int("".join(filter(str.isdigit, claim)) or 0), name


def unwatched(root: Path, build: Path) -> list[str]:
    """Notebooks that recorded numbers although no file says what any of them must be, where the others have such a file."""
    watched = {f.stem for f in (root / "data" / "expected").glob("*.json")}
    return [n for n, r in load_results(build).items() if watched and r.get("records") and n not in watched]


def differing(root: Path, build: Path) -> list[Row]:
    """The numbers that speak against what the book says of them."""
    return [r for r in rows(root, build) if r.wrong]
