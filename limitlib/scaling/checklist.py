"""What a credible fit must state, as a form to be filled in: after Li, Kudugunta and Zettlemoyer 2025 (arXiv 2502.18969).

Their survey of about fifty papers finds that most leave out what is needed to redo a fit. Here the answers that no table of
losses holds are asked for by name, and the exponents of a report are withheld until all are there. "not stated" is an answer:
it is printed as such.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

#: The answer of someone who does not know or does not want to say; printed as it is.
NOT_STATED = "not stated"

#: key -> (part of the checklist, question, an example of an answer)
QUESTIONS = {
    "form_reason": ("form", "Why this form, and which effects does it assume to be separable?",
                    "additive errors of size and data, as Hoffmann et al. 2022"),
    "parameters": ("counting", "Which parameters does P count: total or non-embedding, active or all?", "non-embedding"),
    "flops": ("counting", "How was compute counted: 6 N P, or exactly, with attention and the head?", "6 N P"),
    "tokens": ("counting", "What does N count, and was any data repeated?", "tokens seen, less than one epoch"),
    "tokenizer": ("counting", "Which tokenizer?", "GPT-NeoX, 50k"),
    "training_data": ("training", "Which data were the models trained on?", "C4"),
    "tuning": ("training", "What was tuned at each size: learning rate, batch, warm-up?", "learning rate, at each size"),
    "schedule": ("training", "Which learning-rate schedule, and is every point annealed?", "cosine to 10 %, all annealed"),
    "seeds": ("training", "How many seeds for each point?", "1"),
    "data_points": ("data points", "Final losses or checkpoints? Smoothed?", "final losses, not smoothed"),
    "dropped": ("data points", "Which runs were left out before this table, and why?", "none"),
    "evaluation": ("data points", "On which data is the loss measured?", "held-out C4"),
    "validation": ("validation", "How was the fit checked on larger runs?", "not checked"),
    "availability": ("validation", "Where are the data and the code?", "https://example.org/runs.csv"),
}  # fmt: skip


class ChecklistError(ValueError):
    """A checklist that cannot be used."""


class UnknownQuestion(ChecklistError):
    """An answer to a question that is not on the checklist."""


class IncompleteChecklist(ChecklistError):
    """Questions without an answer; ``missing`` has their names. Exponents are withheld until then."""

    def __init__(self, missing: tuple[str, ...]) -> None:
        self.missing = missing
        asked = "\n".join(f"  {key}: {QUESTIONS[key][1]}" for key in missing)
        super().__init__(
            f"exponents are withheld until the checklist is complete; {len(missing)} of {len(QUESTIONS)} answers are missing:\n"
            f"{asked}\nGive each an answer, Checklist({missing[0]}=..., ...); {NOT_STATED!r} is one, and is printed."
        )


@dataclass(frozen=True, kw_only=True)
class Checklist:
    """Answers in words, one for each question in ``QUESTIONS``; None where nobody answered yet.

    What the table of runs knows (what P counts, the tokenizer, whether points are annealed, compute that was set to 6 N P, a
    back-test) need not be answered again; an answer given here goes before it, unless it is "not stated".

    >>> about = Checklist(parameters="non-embedding", seeds="1")
    >>> len(about.missing({}))
    12
    """

    form_reason: str | None = None
    parameters: str | None = None
    flops: str | None = None
    tokens: str | None = None
    tokenizer: str | None = None
    training_data: str | None = None
    tuning: str | None = None
    schedule: str | None = None
    seeds: str | None = None
    data_points: str | None = None
    dropped: str | None = None
    evaluation: str | None = None
    validation: str | None = None
    availability: str | None = None

    def __post_init__(self) -> None:
        for f in fields(self):
            value = getattr(self, f.name)
            if value is not None and not isinstance(value, str):
                raise TypeError(f"{f.name}={value!r} must be an answer in words; {NOT_STATED!r} is one")

    @classmethod
    def nothing_stated(cls, **answers: str) -> Checklist:
        """Every question that is not answered here has the answer "not stated"."""
        return cls(**{key: NOT_STATED for key in QUESTIONS} | answers)

    @classmethod
    def from_mapping(cls, answers: Mapping[str, Any]) -> Checklist:
        """From names and answers; numbers and booleans become words. Raises UnknownQuestion, ChecklistError."""
        flat: dict[str, str | None] = {}
        for key, value in answers.items():
            if key not in QUESTIONS:
                raise UnknownQuestion(f"the checklist has no question {key!r}; it has: {', '.join(QUESTIONS)}")
            if isinstance(value, bool):
                flat[key] = "yes" if value else "no"
            elif isinstance(value, str | int | float):
                flat[key] = " ".join(str(value).split()) or None
            else:
                raise ChecklistError(f"the answer to {key!r} is no text: {value!r}; write it in quotes")
        return cls(**flat)

    @classmethod
    def from_toml(cls, path: str | Path) -> Checklist:
        """From a file such as :meth:`template` writes. Raises OSError, and ChecklistError naming the file."""
        try:
            return cls.from_mapping(tomllib.loads(Path(path).read_text(encoding="utf-8")))
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise ChecklistError(f'{path} is not TOML, lines like seeds = "1" ({error})') from None
        except ChecklistError as error:
            raise type(error)(f"{path}: {error}") from None

    @staticmethod
    def template(known: Mapping[str, str] | None = None) -> str:
        """TOML with every question as a comment and an empty answer; ``known`` answers are commented out."""
        lines = ["# What a credible fit states, after Li, Kudugunta and Zettlemoyer 2025 (arXiv 2502.18969).",
                 f'# Answer in quotes. "{NOT_STATED}" is an answer, and is printed as such.']  # fmt: skip
        part = ""
        for key, (where, question, example) in QUESTIONS.items():
            if where != part:
                lines += ["", f"# --- {where}"]
                part = where
            if known and key in known:
                lines += [f"# {question} Known from the table: {known[key]}", f'# {key} = ""']
            else:
                lines += [f"# {question} For instance: {example}", f'{key} = ""']
        return "\n".join(lines) + "\n"

    def answers(self, known: Mapping[str, str]) -> dict[str, str]:
        """Every answer there is, by question; ``known``: what the table and the report know."""
        found = {}
        for key in QUESTIONS:
            given = (getattr(self, key) or "").strip()
            if key in known and given in ("", NOT_STATED):
                found[key] = known[key]
            elif given:
                found[key] = given
        return found

    def missing(self, known: Mapping[str, str]) -> tuple[str, ...]:
        """The questions that neither this checklist nor ``known`` answers."""
        return tuple(key for key in QUESTIONS if key not in self.answers(known))
