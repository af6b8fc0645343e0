"""The command line: ``limitlib run | html | ledger | data | audit | fit``.

Exit codes: 0 ok, 1 failed, 2 usage, 130 interrupted.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import shutil
import signal
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from limitlib import __version__
from limitlib.companion import audit_command, fit_command
from limitlib.companion.paths import CompanionError, UsageError

EXAMPLES = """examples:
  limitlib run                        run every notebook whose result is stale, two at a time
  limitlib run 03 --force             run the notebooks whose name begins with 03
  limitlib run 04 -p seed=7           with another value of a parameter
  limitlib run --check                say what is stale and why; run nothing (exit code 1 if something is)
  limitlib ledger --differing         the numbers that are not what they must be
  limitlib data fetch                 download every registered data set into the cache
  limitlib audit FOLDER --html a.html Lipschitz bounds and layer-by-layer measures of a network on this machine
  limitlib fit runs.csv --N tokens --P params    a scaling law of training runs, with evidence and warnings
"""


def say(text: str) -> None:
    print(text, flush=True)


def parameter(text: str) -> tuple[str, Any]:
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise argparse.ArgumentTypeError(f"{text!r} is not NAME=VALUE, like seed=7")
    with contextlib.suppress(ValueError):
        return name, json.loads(value)
    return name, value


def run(options: argparse.Namespace) -> int:
    from limitlib.companion import paths
    from limitlib.companion.runner import Runner, select

    root, build = paths.root(), paths.build()
    runner = Runner(root, build, profile=options.profile, jobs=options.jobs, say=say)
    chosen = select(root, [n for given in options.notebook for n in given.split()])
    parameters = dict(options.parameter)
    if options.check:
        stale = runner.stale(chosen, parameters)
        for source, why in stale.items():
            say(f"  stale  {source.stem}: {'; '.join(why[:5])}")
        say(f"  {len(stale)} of {len(chosen)} notebooks are stale" + ("; make run brings them up to date" if stale else ""))
        return 1 if stale else 0
    code = runner.run(chosen, parameters, force=options.force)
    if code:
        return code
    return report_numbers(root, build, strict=options.strict)


def report_numbers(root: Any, build: Any, *, strict: bool) -> int:
    """Print what differs from its expected value and what was skipped; 1 if the book would say something untrue."""
    from limitlib.companion import ledger

    table = ledger.rows(root, build)
    wrong = [r for r in table if r.wrong]
    for r in wrong:
        must = r.expected.words() if r.expected else ""
        say(f"  {r.verdict:>12}  {r.key} ({r.notebook}): measured {r.shown}, must be {must}")
    unwatched = ledger.unwatched(root, build)
    for name in unwatched:
        say(f"  unwatched     {name}: data/expected/{name}.json is missing, so none of its numbers is held to anything")
    skipped = {n: r["skipped"] for n, r in ledger.load_results(build).items() if "skipped" in r}
    for name, facts in skipped.items():
        say(f"  skipped: data  {name} needs {facts['dataset']}: {facts['how']}")
    agree = sum(r.verdict == "agrees" for r in table)
    say(f"  numbers: {agree} agree, {len(wrong)} do not; notebooks skipped for want of data: {len(skipped)}")
    return 1 if wrong or unwatched or (strict and skipped) else 0


def html(options: argparse.Namespace) -> int:
    """Typeset the pages from scratch, warnings as errors, then check what was built."""
    import subprocess

    from limitlib.companion import ledger, pages, paths
    from limitlib.companion.runner import Runner, notebooks

    root = paths.root()
    ledger.load_claims(root)
    ran = {r.get("profile", "cpu") for r in ledger.load_results(paths.build()).values()}
    profile = options.profile or min(ran or {"cpu"})
    stale = Runner(root, paths.build(), profile=profile, jobs=1, say=say).stale(notebooks(root), {})
    for source, why in stale.items():
        say(f"  stale  {source.stem}: {'; '.join(why[:3])}")
    if stale:
        raise CompanionError("the pages would show numbers of other code than this; `make run` first")
    if report_numbers(root, paths.build(), strict=False):
        raise CompanionError("the pages would show numbers that are not what they must be")
    site, next_site = root / "_build" / "html", root / "_build" / "next"
    shutil.rmtree(next_site, ignore_errors=True)
    book = [str(Path(sys.executable).with_name("jupyter-book")), "build", ".", "--path-output", str(next_site)]
    built = subprocess.run([*book, "--all", "-W", "-n", "--keep-going", "-q"], cwd=root, stdout=subprocess.PIPE, text=True)
    if built.returncode:
        say(built.stdout)
        raise CompanionError("the pages were not built: see the warnings above. The pages built before are still there.")
    found = pages.check(next_site / "_build" / "html")
    for problem in found:
        say(f"  {problem}")
    if found:
        raise CompanionError(f"{len(found)} problems in the new pages, {next_site}. The pages built before are still there.")
    shutil.rmtree(site, ignore_errors=True)
    os.replace(next_site / "_build" / "html", site)
    shutil.rmtree(next_site, ignore_errors=True)
    say(f"  the book: {site / 'index.html'}")
    return 0


def show_ledger(options: argparse.Namespace) -> int:
    from limitlib.companion import ledger, paths

    root, build = paths.root(), paths.build()
    table = ledger.rows(root, build)
    if options.differing:
        table = [r for r in table if r.wrong]
    if options.json:
        say(json.dumps([{**vars(r), "expected": r.expected and r.expected.words()} for r in table], indent=1))
    else:
        for r in table:
            say(f"{r.key:<44} {r.shown:>16}  {r.expected.words() if r.expected else '':<28} {r.verdict}")
    return 1 if any(r.wrong for r in table) else 0


def data(options: argparse.Namespace) -> int:
    from limitlib.companion import datasets

    known = datasets.registry()
    if not known:
        raise CompanionError("data/registry.toml lists no data set; restore it with git")
    names = options.name or list(known)
    unknown = [n for n in names if n not in known]
    if unknown:
        raise UsageError(f"unknown data set {unknown[0]!r}; registered are: {', '.join(known)}")
    failed = 0
    for name in names:
        if options.action == "fetch":
            try:
                say(f"  {name}: {len(datasets.fetch(name, tell=tell_download))} files here and verified")
            except datasets.DataUnavailable as error:
                failed += 1
                say(f"  {error}")
        else:
            entry = known[name]
            where = "here" if datasets.available(name) else "not here"
            origin = f"{entry.repository}@{entry.commit[:10]}"
            say(f"  {name:<20} {where:<9} {len(entry.files):>4} files  {entry.licence:<12} {origin}")
    return 1 if failed else 0


def tell_download(done: int, total: int, what: str) -> None:
    if done == 1 or done == total or done % 25 == 0:
        say(f"  {what} {done}/{total}")


def parser() -> argparse.ArgumentParser:
    shape = argparse.RawDescriptionHelpFormatter
    top = argparse.ArgumentParser(
        prog="limitlib", formatter_class=shape, epilog=EXAMPLES, description="The limit theory of foundation models, executable"
    )
    top.add_argument("--version", action="version", version=f"limitlib {__version__}")
    commands = top.add_subparsers(dest="command", required=True, metavar="run | html | ledger | data | audit | fit")

    one = commands.add_parser("run", help="run the stale notebooks", epilog=EXAMPLES, formatter_class=shape)
    one.add_argument("notebook", nargs="*", help="a name, number or prefix (default: all)")
    one.add_argument("--profile", default="cpu", help="smoke (seconds), cpu (the book; default) or gpu (the full runs)")
    one.add_argument("--jobs", type=int, default=os.cpu_count() or 1, help="notebooks side by side (default: the cores)")
    one.add_argument("-p", "--parameter", type=parameter, action="append", default=[], metavar="NAME=VALUE")
    one.add_argument("--force", action="store_true", help="run them even if nothing changed")
    one.add_argument("--check", action="store_true", help="say what is stale and why; run nothing")
    one.add_argument("--strict", action="store_true", help="a notebook skipped for want of data is a failure")
    one.set_defaults(do=run)

    two = commands.add_parser("html", help="typeset the pages from what the runs left")
    two.add_argument("--profile", default="", help="demand runs of this profile")
    two.set_defaults(do=html)

    three = commands.add_parser("ledger", help="every number beside its expected value")
    three.add_argument("--differing", action="store_true", help="only those that do not agree")
    three.add_argument("--json", action="store_true")
    three.set_defaults(do=show_ledger)

    four = commands.add_parser("data", help="the registered public data sets")
    four.add_argument("action", choices=["list", "fetch"], nargs="?", default="list")
    four.add_argument("name", nargs="*", help="data sets (default: all)")
    four.set_defaults(do=data)

    audit_command.add_to(commands)
    fit_command.add_to(commands)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    options = parser().parse_args(arguments)
    options.words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        return options.do(options)
    except UsageError as error:
        print(f"limitlib {options.command}: {error}", file=sys.stderr)
        return 2
    except (CompanionError, ValueError) as error:
        print(f"limitlib {options.command}: {error}", file=sys.stderr)
        return 1
    except BrokenPipeError:  # whoever read the output, `head` say, has enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:
        hint = "If the build folder can't be written, set LIMITLIB_BUILD to one that can."
        print(f"limitlib {options.command}: {error.strerror}: {error.filename}. {hint}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130


if __name__ == "__main__":
    sys.exit(main())
