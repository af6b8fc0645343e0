"""The words of ``limitlib fit``: columns with factors, laws with options, objectives; and messages in those words."""

from __future__ import annotations

import argparse
import math
import re
from typing import Any

from limitlib.companion.paths import UsageError

#: Arguments of the library that are options of the command.
ARGUMENTS = "N|P|K|C|loss|run|weight|tokenizer|annealed|counting|unit|where|format|by|holdout"


def column(text: str) -> str | tuple[str, float]:
    """A column, perhaps with a factor after the last *: tokens_b*1e9."""
    name, star, factor = text.rpartition("*")
    if not star:
        return text
    try:
        value = float(factor)
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r}: {factor!r} is no factor; write COLUMN*1e9") from None
    if not name or not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a column and a positive factor, like tokens_b*1e9")
    return name, value


def extra(text: str) -> tuple[str, str | tuple[str, float]]:
    """NAME=COLUMN, or COLUMN alone under its own name."""
    name, equals, there = text.partition("=")
    return (name, column(there)) if equals else (text, text)


def positive(text: str) -> float:
    """A number above 0."""
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number above 0, like 1e24")
    return value


def assignment(text: str) -> dict[str, float]:
    """P=7e9,N=1e12 as numbers by name."""
    found = {}
    for part in text.split(","):
        name, equals, value = part.partition("=")
        if not equals or not name.strip():
            raise argparse.ArgumentTypeError(f"{text!r} is not a point, like P=7e9,N=1e12")
        found[name.strip()] = positive(value)
    return found


def objective_of(text: str) -> Any:
    """huber:DELTA, ls (least squares of ln loss) or ls-raw."""
    from limitlib.scaling import LeastSquares, LogHuber

    name, _, delta = text.partition(":")
    if name in ("ls", "ls-raw") and not delta:
        return LeastSquares("raw" if name == "ls-raw" else "log")
    if name == "huber":
        return LogHuber(positive(delta)) if delta else LogHuber()
    raise argparse.ArgumentTypeError(f"{text!r} is none of huber:DELTA, ls, ls-raw")


def law_of(text: str, option: str = "--law") -> Any:
    """A law from words such as power:x=C,floor=no, given by that option; UsageError naming the laws or options there are."""
    from limitlib.scaling import law

    name, _, words = text.partition(":")
    options: dict[str, Any] = {}
    for word in filter(None, words.split(",")):
        key, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"{option} {text}: {word!r} is no option; write NAME:option=value, like power:x=C,floor=no")
        options[key.strip()] = _value(value.strip())
    try:
        return law(name, **options)
    except TypeError as error:
        raise UsageError(f"{option} {text}: {str(error).partition('() ')[2] or error}") from None
    except ValueError as error:
        raise UsageError(f"{option} {text}: {error}") from None


def _value(text: str) -> Any:
    known = {"yes": True, "true": True, "no": False, "false": False, "none": None}
    if text.lower() in known:
        return known[text.lower()]
    if "+" in text and not re.fullmatch(r"[-+.\deE]+", text):
        return tuple(text.split("+"))
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def typed(text: str) -> str:
    """A message of the library with its arguments as the command has them: run='name' becomes --run name."""
    text = re.sub(r"\bdrop_nan=True\b", "--drop-nan", text)
    text = re.sub(rf"(?<![-\w])({ARGUMENTS})=\('([^']+)', ([^)\s]+)\)", r"--\1 '\2*\3'", text)
    text = re.sub(rf"(?<![-\w])({ARGUMENTS})='([\w./+-]+|=\w+)'", r"--\1 \2", text)
    text = re.sub(rf"(?<![-\w])({ARGUMENTS})=('[^']*'|\"[^\"]*\"|True|False)", r"--\1 \2", text)
    return re.sub(rf"(?<![-\w])({ARGUMENTS})=(?=[\s,;.)]|$)", r"--\1", text)
