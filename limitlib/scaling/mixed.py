"""Additive laws in which each variable has the form of one's choice: a power, an exponential, or the fixed power -1/2.

They take a law such as beta^K + Lip^P + N^-1/2 apart: which of its terms is it that fails?
"""

from __future__ import annotations

from collections.abc import Sequence

from limitlib.scaling.laws import AdditiveLaw, Law, Parameter, Term


def mixed(*, powers: Sequence[str] = (), exponentials: Sequence[str] = (), roots: Sequence[str] = ()) -> Law:
    """E + sum A_v v^-a_v over ``powers`` + sum A_v q_v^v over ``exponentials`` + sum A_v v^-1/2 over ``roots``.

    Each argument lists columns (a string of one-letter names will do). Every amplitude is positive; exponents a_v are real, the
    bases q_v positive. Raises ValueError if no column is named, or one twice.
    """
    named = [*powers, *exponentials, *roots]
    if not named or len(set(named)) != len(named):
        raise ValueError(f"powers, exponentials and roots name the columns {named}; name at least one, and none twice")
    specs, terms, words, rates = [Parameter("E", "log")], [Term("E")], ["E"], []
    for v in powers:
        specs.append(Parameter(f"A_{v}", "log", ((f"a_{v}", f"ln {v}", 1.0),)))
        terms.append(Term(f"A_{v}", ((f"ln {v}", f"a_{v}", -1.0),)))
        rates.append(Parameter(f"a_{v}"))
        words.append(f"A_{v} {v}^-a_{v}")
    for v in exponentials:
        specs.append(Parameter(f"A_{v}", "log", ((f"q_{v}", v, -1.0),)))
        terms.append(Term(f"A_{v}", ((v, f"q_{v}", 1.0),)))
        rates.append(Parameter(f"q_{v}", "log"))
        words.append(f"A_{v} q_{v}^{v}")
    for v in roots:
        specs.append(Parameter(f"A_{v}", "log", ((0.5, f"ln {v}", 1.0),)))
        terms.append(Term(f"A_{v}", ((f"ln {v}", 0.5, -1.0),)))
        words.append(f"A_{v} {v}^-1/2")
    return AdditiveLaw("mixed", "L = " + " + ".join(words), tuple(named), (*specs, *rates), "E", "", "", tuple(terms))
