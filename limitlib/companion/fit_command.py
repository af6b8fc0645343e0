"""The command ``limitlib fit``: a scaling law fitted to a table of runs, with its evidence, as a table, JSON and a page."""

from __future__ import annotations

import argparse
import importlib
import json
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from limitlib import __version__
from limitlib.companion.fit_words import assignment, column, extra, law_of, objective_of, positive, typed
from limitlib.companion.paths import CompanionError, UsageError, write_atomic
from limitlib.companion.terminal import Teller, places, seed

DESCRIPTION = """Fit a scaling law to a table of training runs: the exact optimum of a stated objective with the evidence that
it is one, intervals, what the runs determine and what they do not, compute-optimal sizes, and warnings by name.

FILE is CSV (comma, semicolon or tab), JSON lines or Parquet, one row a run (or a checkpoint, with --run). Letters: N tokens,
P parameters, K steps or tokens seen, C FLOP. Exponents are printed beside a complete checklist only (--about FILE.toml;
--about-template writes one to fill in; "not stated" is an answer). The table goes to the output, progress to the error stream.
Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted (what was computed is printed and written)."""
EXAMPLES = """examples:
  limitlib fit runs.csv --N tokens --P params --loss loss
  limitlib fit runs.csv --N tokens_b*1e9 --P params_m*1e6 --where "tokens_b > 1" --budget 1e24 --html fit.html
  limitlib fit runs.csv --N tokens --P params --about-template > about.toml     fill it in, then:
  limitlib fit runs.csv --N tokens --P params --about about.toml --compare --backtest --json fit.json
  limitlib fit panel.jsonl --P params --K step --run name --law additive:variables=P+K --annealed decayed
  limitlib fit evals.parquet --extra nll=val_loss --loss accuracy --unit =accuracy --law sigmoid:floor=0.25 \\
      --objective ls-raw --chance 0.25
laws (options after a colon): power:x=C  additive:variables=P+N+K  chinchilla  over-training  kaplan  critical:variables=NPK
  paper:variables=NP  schedule  width-depth  repetition  transfer  multilingual  multimodal  experts  broken:x=C,breaks=1
  mixing-exponential:domains=a+b+c  mixing-power:domains=a+b+c  loss-to-error:x=nll  sigmoid:x=nll
"""
#: Rows up to which the bootstrap runs without being asked for, and profiles and calibrated predictions are made.
MODERATE = 5000
#: Rows beyond which profiles are left out.
PROFILED = 20_000
RESAMPLES = 1000
#: Laws that --compare puts beside the fitted one where the table has their columns.
RIVALS = ("chinchilla", "over-training", "kaplan", "power:x=C", "chinchilla:floor=no")
#: What to type, by the name of an error of the table of runs.
HINTS = {
    "MissingValues": "--drop-nan leaves such rows out and notes them",
    "NoVariation": "--law power:x=C fits E + A C^-alpha",
    "FewerRunsThanParameters": "--law power:x=C has 3 parameters, --law over-training 4",
}


def add_to(commands: Any) -> None:
    """Declare the command."""
    one = commands.add_parser(
        "fit", help="a scaling law fitted to a table of training runs, with its evidence", description=DESCRIPTION,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("file", metavar="FILE", nargs="?", help="CSV, JSON lines or Parquet, also gzipped")
    table = one.add_argument_group("the table: a COLUMN may carry a factor, tokens_b*1e9")
    for letter, what in (("N", "tokens"), ("P", "parameters"), ("K", "steps, or tokens seen"), ("C", "FLOP (default: 6 N P)")):
        table.add_argument(f"--{letter}", type=column, metavar="COLUMN", help=what)
    table.add_argument("--loss", type=column, default="loss", metavar="COLUMN", help="default: loss")
    table.add_argument("--extra", type=extra, action="append", default=[], metavar="NAME=COLUMN",
                       help="what else the law needs: width=d_model")  # fmt: skip
    table.add_argument("--run", metavar="COLUMN", help="which run a row belongs to; =row if each row is one")
    table.add_argument("--weight", metavar="COLUMN", help="weights >= 0")
    table.add_argument("--tokenizer", metavar="COLUMN", help="or =NAME for all rows")
    table.add_argument("--annealed", metavar="COLUMN", help="whether the learning rate had decayed; or true or false")
    table.add_argument("--counting", metavar="WORDS", help="what P counts: total, non-embedding, ...")
    table.add_argument("--unit", default="nats/token", metavar="UNIT",
                       help="of the loss: nats/token (default), bits/token, perplexity, nats/byte, =other")  # fmt: skip
    table.add_argument("--where", metavar="CONDITION", help="rows to keep: \"C < 1e21 and split == 'test'\"")
    table.add_argument("--drop-nan", action="store_true", help="leave out rows with missing values, and note them")
    table.add_argument("--format", choices=("csv", "jsonl", "parquet"), help="default: by the file's name")
    law = one.add_argument_group("the law")
    law.add_argument("--law", default="chinchilla", metavar="NAME[:OPTIONS]", help="default: chinchilla; the list stands below")
    law.add_argument("--objective", default="huber:1e-3", type=objective_of, metavar="huber:DELTA|ls|ls-raw",
                     help="of ln loss (ls-raw: of the loss itself); default: huber:1e-3")  # fmt: skip
    ask = one.add_argument_group("what to compute")
    ask.add_argument("--boot", type=seed, metavar="N",
                     help=f"resamples of the runs (default {RESAMPLES}; 0 beyond {MODERATE} rows)")  # fmt: skip
    ask.add_argument("--level", type=float, default=0.95, help="of intervals (default 0.95)")
    ask.add_argument("--budget", type=positive, action="append", default=[], metavar="FLOP",
                     help="compute-optimal size there; repeatable")  # fmt: skip
    ask.add_argument("--predict", type=assignment, action="append", default=[], metavar="P=7e9,N=1e12",
                     help="loss there; repeatable")  # fmt: skip
    ask.add_argument("--compare", nargs="*", metavar="LAW",
                     help="other laws, by held-out score (default: those that the columns allow)")  # fmt: skip
    ask.add_argument("--holdout", default="0.2", metavar="SHARE|CONDITION",
                     help="what --compare holds out (default: the 0.2 of the runs with the largest C)")  # fmt: skip
    ask.add_argument("--backtest", nargs="*", type=positive, metavar="BUDGET",
                     help="fit below each budget, score above (default: eight budgets)")  # fmt: skip
    ask.add_argument("--by", metavar="NAME", help="column along which to extrapolate (default: C, else the law's first)")
    ask.add_argument("--choices", action="store_true",
                     help="the answer over filters, objectives and forms (specification curve)")  # fmt: skip
    ask.add_argument("--chance", type=float, metavar="SCORE", help="of guessing, for laws of downstream scores")
    ask.add_argument("--seed", type=seed, default=0, help="of resampling (default 0)")
    out = one.add_argument_group("the report")
    out.add_argument("--about", metavar="FILE.toml", help="answers of the checklist; without them exponents are withheld")
    out.add_argument("--about-template", action="store_true", help="print a checklist to fill in, and stop")
    out.add_argument("--json", metavar="OUT.json", help="write everything as JSON (- for the output, instead of the table)")
    out.add_argument("--html", metavar="OUT.html", help="write a page that needs no network")
    one.set_defaults(do=fit)


@dataclass
class Stages:
    """Steps that may be interrupted: what was finished stays, the rest is left out and named."""

    teller: Teller
    lost: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)
    stopped: bool = False

    def do(self, what: str, step: Callable[[], Any]) -> Any:
        """The step's result; None if it was interrupted, or failed with a reason that is kept."""
        if self.stopped:
            self.lost.append(what)
            return None
        self.teller(0, 1, what)
        try:
            return step()
        except KeyboardInterrupt:
            self.stopped = True
            self.lost.append(what)
        except (ValueError, ImportError) as error:
            self.failed.append(f"no {what}: {typed(str(error))}")
        return None


def fit(options: argparse.Namespace) -> int:
    """Read, fit, and write what was asked for; after an interruption as far as it came."""
    from limitlib.scaling import Checklist, ChecklistError, report

    if options.about_template:
        return template(options)
    for option in ("json", "html"):
        if getattr(options, option) == "":
            raise UsageError(f"--{option} '' names no file")
    places(options.json, options.html)
    if options.file is None:
        raise UsageError("name the table of runs first: limitlib fit runs.csv --N tokens --P params")
    if not 0 < options.level < 1:
        raise UsageError(f"--level {options.level:g} must lie between 0 and 1")
    if options.html:
        try:  # now, not after the work: one that is there may still be broken
            importlib.import_module("matplotlib")
        except ImportError as error:
            why = f"the page needs matplotlib ({error}): pip install 'limitlib[fit]' (the table and --json do without)"
            raise CompanionError(why) from None
    try:
        about = Checklist.from_toml(options.about) if options.about else None
    except (OSError, ChecklistError) as error:
        why = f"cannot read {options.about}: {error.strerror}" if isinstance(error, OSError) else str(error)
        raise UsageError(f"--about: {why}") from None
    law = law_of(options.law)
    for words in options.compare or ():
        law_of(words, "--compare")
    if options.chance is not None and not 0 <= options.chance < 1:
        raise UsageError(f"--chance {options.chance:g} must be a share from 0 to below 1, like 0.25")
    if number(options.holdout) and not 0 < float(options.holdout) < 1:
        raise UsageError(f"--holdout {options.holdout} must lie between 0 and 1, or be a condition such as 'C > 1e21'")
    points(options, law)
    if options.budget and set(law.variables) != {"P", "N"}:
        raise UsageError(f"--budget needs a law in P and N alone; {law.name} is in {', '.join(law.variables)}")
    teller = Teller()
    stages = Stages(teller)
    try:
        teller(0, 1, f"reading {options.file}")
        runs = read(options, law)
        if options.by and options.by not in runs.columns:
            raise UsageError(f"--by {options.by}: the runs have no such column; choose one of {', '.join(runs.columns)}")
        teller(0, 1, f"fitting {law.name} to {len(runs)} rows")
        fitted = named(lambda: law.fit(runs, options.objective))
        parts, notes = compute(options, stages, fitted)
        made: dict[str, Any] = {"level": options.level, "chance": options.chance, **parts}
        ready = about is not None and not about.missing(known(fitted, parts))
        profiled = len(runs) <= PROFILED
        if not profiled:
            notes.append(f"no profile intervals: {len(runs)} rows are more than {PROFILED}, and each profile refits them often")

        def write(slow: bool) -> Any:
            return report(
                fitted, about, exponents=ready, identify=slow and profiled, influence=slow, **made,
                notes=[*notes, *stages.failed, *([f"interrupted before: {', '.join(stages.lost)}"] if stages.lost else [])],
                progress=teller,
            )  # fmt: skip

        found = stages.do("profiles and influence", lambda: write(True)) or write(False)
    finally:
        teller.close()
    complete = not stages.lost
    if options.json and options.json != "-":
        write_atomic(Path(options.json), dumped(found, complete))
    if options.html:
        from limitlib.companion import fit_page

        write_atomic(Path(options.html), fit_page.page(found, complete=complete, withheld=how_to(options, found)))
    print(dumped(found, complete) if options.json == "-" else typed(found.table()), end="", flush=True)
    if found.withheld:
        print(f"\n{how_to(options, found)}", file=sys.stderr if options.json == "-" else sys.stdout, flush=True)
    if not complete:
        print(f"interrupted: {', '.join(stages.lost)} not done", file=sys.stderr)
    return 0 if complete else 130


def named(step: Callable[[], Any]) -> Any:
    """The errors of the table of runs as one line: the error's name, what is wrong, what to type."""
    from limitlib.scaling import BadCondition, RunsError, UnknownColumn

    try:
        return step()
    except RunsError as error:
        kind = UsageError if isinstance(error, UnknownColumn | BadCondition) else CompanionError
        name = type(error).__name__
        hint = f" ({HINTS[name]})" if name in HINTS and "--drop-nan" not in typed(str(error)) else ""
        raise kind(f"{name}: {typed(str(error))}{hint}") from None


def read(options: argparse.Namespace, law: Any) -> Any:
    """The table, with the columns that the options name."""
    from limitlib.scaling import Runs

    given = {k: getattr(options, k) for k in ("N", "P", "K", "C")}
    annealed = {"true": True, "false": False}.get(str(options.annealed).lower(), options.annealed)
    extras = dict(options.extra)
    file = Path(options.file)
    if not file.exists():
        raise UsageError(f"{file} does not exist; give a CSV, JSON lines or Parquet file")
    if file.is_dir():
        raise UsageError(f"{file} is a folder; name a CSV, JSON lines or Parquet file in it")
    needed = [v for v in law.variables if v not in extras and not (v == "C" and options.N and options.P)]
    absent, unnamed = [v for v in needed if given.get(v, "") is None], [v for v in needed if v not in given]
    if absent or unnamed:
        words = [f"--{v} COLUMN" for v in absent] + [f"--extra {v}=COLUMN" for v in unnamed]
        raise UsageError(f"the law {law.name} ({law.formula}) needs {', '.join(words)}{offered(options)}")
    try:
        return named(lambda: Runs.read(
            file, format=options.format, loss=options.loss, run=options.run, weight=options.weight, tokenizer=options.tokenizer,
            annealed=annealed, counting=options.counting, unit=options.unit, where=options.where, extra=extras or None,
            drop_nan=options.drop_nan, **given,
        ))  # fmt: skip
    except ImportError as error:
        raise CompanionError(f"{file} cannot be read ({error}): pip install 'limitlib[fit]'") from None
    except ValueError as error:
        raise UsageError(typed(str(error)).replace("path=", "")) from None
    except OSError as error:
        raise CompanionError(f"cannot read {file}: {error.strerror or error}") from None


def offered(options: argparse.Namespace) -> str:
    """The columns of the file, in words, if they can be read."""
    from limitlib.scaling import sources

    try:
        table, _ = sources.read(Path(options.file), options.format)
    except (ValueError, OSError, ImportError):
        return ""
    return f"; {options.file} has the columns {', '.join(str(c) for c in table)}"


def compute(options: argparse.Namespace, stages: Stages, fitted: Any) -> tuple[dict[str, Any], list[str]]:
    """Everything but the fit itself, as far as it was asked for and not interrupted; and notes on what was not done."""
    from limitlib.scaling import compare, spec_curve

    runs, law, teller = fitted.runs, fitted.law, stages.teller
    rng = np.random.default_rng(options.seed)
    parts: dict[str, Any] = {}
    notes: list[str] = [f"limitlib {__version__}, seed {options.seed}"]
    resamples = options.boot
    if resamples is None:
        resamples = RESAMPLES if len(runs) <= MODERATE else 0
        if not resamples:
            notes.append(f"no bootstrap: {len(runs)} rows are more than {MODERATE}; ask for it by --boot 100")
    boot = None
    if resamples:
        boot = parts["boot"] = stages.do("bootstrap", lambda: fitted.boot(resamples, rng=rng, progress=teller))
    if set(law.variables) == {"P", "N"}:
        budgets = options.budget or [float(k * runs.C.max()) for k in (1, 10, 100)]
        parts["frontier"] = stages.do("frontier", lambda: fitted.frontier(budgets, boot, level=options.level))
    if options.predict:
        parts["predictions"] = stages.do("predictions", lambda: predictions(options, fitted, rng, teller)) or ()
    by = options.by or ("C" if "C" in runs.columns else law.variables[0])
    if options.compare is not None:
        laws = rivals_of(options, law, runs)
        share = float(options.holdout) if number(options.holdout) else options.holdout
        parts["comparison"] = stages.do("comparison", lambda: compare(
            laws, runs, objective=options.objective, holdout=share, by=by, rng=rng, level=options.level, progress=teller,
        ))  # fmt: skip
    if options.backtest is not None:
        draws = min(200, max(20, resamples or 200))
        parts["backtest"] = stages.do("back-test", lambda: fitted.backtest(
            rng=rng, by=by, cuts=options.backtest or None, level=options.level, n_boot=draws, progress=teller,
        ))  # fmt: skip
    if options.choices:
        parts["specifications"] = stages.do("specification curve", lambda: spec_curve(
            runs, rng=rng, progress=teller, **choices(fitted, by),
        ))  # fmt: skip
    return parts, notes


def predictions(options: argparse.Namespace, fitted: Any, rng: np.random.Generator, teller: Teller) -> tuple[Any, ...]:
    """Losses at the points asked for, with calibrated intervals where the table is of moderate size."""
    from limitlib.scaling import Prediction, calibrated_interval

    found = []
    by = options.by or ("C" if "C" in fitted.runs.columns else fitted.law.variables[0])
    for point in points(options, fitted.law):
        loss = float(fitted.predict(**{v: point[v] for v in fitted.law.variables}))
        if len(fitted.runs) > MODERATE or by not in point:
            found.append(Prediction(point, loss))
            continue
        sure = calibrated_interval(fitted, point, rng=rng, level=options.level, by=by, progress=teller)
        method = f"calibrated on {sure.inner_splits} inner splits" if sure.inner_splits else "not calibrated"
        found.append(Prediction(point, loss, (float(sure.lower[0]), float(sure.upper[0])), method, options.level))
    return tuple(found)


def points(options: argparse.Namespace, law: Any) -> list[dict[str, float]]:
    """The points of --predict, with C = 6 N P where it is not given."""
    wanted = [dict(point) for point in options.predict]
    for point in wanted:
        if "C" not in point and {"N", "P"} <= set(point):
            point["C"] = 6 * point["N"] * point["P"]
        missing = [v for v in law.variables if v not in point]
        strange = [v for v in point if v not in (*law.variables, "C", options.by)]
        if strange and not missing:
            raise UsageError(f"--predict has {', '.join(strange)}: {law.name} is in {', '.join(law.variables)}")
        if missing:
            raise UsageError(f"--predict lacks {', '.join(missing)}: {law.name} is in {', '.join(law.variables)}")
    return wanted


def rivals_of(options: argparse.Namespace, law: Any, runs: Any) -> dict[str, Any]:
    """The fitted law and the others by the words that name them: those given, or those whose columns are here."""
    found = {options.law: law}
    for words in options.compare or RIVALS:
        one = law_of(words)
        if options.compare or set(one.variables) <= set(runs.columns):
            found.setdefault(words, one)
    formulas = [one.formula for one in found.values()]
    return {k: one for i, (k, one) in enumerate(found.items()) if formulas.index(one.formula) == i}


def choices(fitted: Any, by: str) -> dict[str, Any]:
    """Filters, objectives and forms of the specification curve: without the ends of the budgets, four objectives, two forms."""
    from limitlib.scaling import LeastSquares
    from limitlib.scaling.quantities import exponent_of, has_allocation

    law, runs = fitted.law, fitted.runs
    low, high = np.quantile(runs[by], [0.1, 0.9])
    filters = {"all rows": None, f"without the lowest {by}": f"{by} >= {low:.6g}",
               f"without the highest {by}": f"{by} <= {high:.6g}"}  # fmt: skip
    exponents = [n for v in law.variables if (n := exponent_of(law, v))]
    allocates = has_allocation(law) and len(set(exponents)) == 2  # one exponent for both: a is 1/2 whatever the runs say
    quantity = "a" if allocates else exponents[0] if exponents else law.parameters[-1]
    rivals = [law_of("kaplan")] if allocates and law.name != "kaplan" else []
    deltas = [fitted.objective, 1e-2, 1e-4, LeastSquares()]
    return {"filters": filters, "deltas": deltas, "forms": [law, *rivals], "quantity": quantity}


def number(text: str) -> bool:
    try:
        float(text)
    except ValueError:
        return False
    return True


def known(fitted: Any, parts: dict[str, Any]) -> dict[str, str]:
    from limitlib.scaling.reporting import known_answers

    return known_answers(fitted, parts.get("backtest"), parts.get("comparison"))


def template(options: argparse.Namespace) -> int:
    """Print the checklist to fill in; what the table answers is commented out, if there is a table."""
    from limitlib.scaling import Checklist

    answers: dict[str, str] = {}
    if options.file is not None and any((options.N, options.P, options.K, options.C, options.extra)):
        runs = read(options, law_of(options.law))
        answers = {"parameters": runs.counting} if runs.counting else {}
        if runs.labels.get("C") == "6 N P":
            answers["flops"] = "6 N P"
        if runs.tokenizers:
            answers["tokenizer"] = ", ".join(runs.tokenizers)
    print(Checklist.template(answers), end="")
    return 0


def how_to(options: argparse.Namespace, found: Any) -> str:
    """What to type to see the exponents."""
    if not found.withheld:
        return ""
    words = [w for w in options.words if not w.startswith("--about")]
    if options.about:
        words = [w for w in words if w != options.about]
        return (f"Exponents are withheld: {options.about} lacks {', '.join(found.missing)}. Answer there ('not stated' is an "
                f"answer), then:\n  {shlex.join(['limitlib', *words, '--about', options.about])}")  # fmt: skip
    return ("Exponents are withheld until the checklist is filled in ('not stated' is an answer); sizes at several budgets\n"
            "imply the exponent a all the same. To see them:\n"
            f"  {shlex.join(['limitlib', *words, '--about-template'])} > about.toml\n"
            f"  {shlex.join(['limitlib', *words, '--about', 'about.toml'])}")  # fmt: skip


def dumped(found: Any, complete: bool) -> str:
    return json.dumps({"complete": complete, "version": __version__, **found.to_dict()}, indent=1, allow_nan=False) + "\n"
