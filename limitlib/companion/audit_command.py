"""The command ``limitlib audit``: a network on this machine, block by block, as a table, JSON and a page."""

from __future__ import annotations

import argparse
import math
import sys
from pathlib import Path
from typing import Any

import numpy as np

from limitlib.companion.paths import CompanionError, UsageError, write_atomic
from limitlib.companion.terminal import Teller, places, seed

DESCRIPTION = """Read a network from disk and say, block by block, what it may do at most and what it does at the data.

FOLDER is a local Hugging Face folder (config.json and safetensors; nothing is downloaded and no code in it is run) or a file
saved by torch: a torch.export .pt2, TorchScript, or a whole module (a pickle: only with --allow-pickle).
The table goes to the output, progress to the error stream. Exit codes: 0 done, 1 failed, 2 usage, 130 interrupted (the rows
that were finished are printed and written)."""
EXAMPLES = """examples:
  limitlib audit ./all-MiniLM-L6-v2 --tokens 24 --sequences 95 --html minilm.html
  limitlib audit ./gpt2 --text essay.txt --json gpt2.json --blocks 0-5
  limitlib audit encoder.pt --allow-pickle --input states.npy --shell 2.0
"""


def add_to(commands: Any) -> None:
    """Declare the command."""
    one = commands.add_parser(
        "audit", help="Lipschitz bounds and layer-by-layer measures of a network on this machine", description=DESCRIPTION,
        epilog=EXAMPLES, formatter_class=argparse.RawDescriptionHelpFormatter,
    )  # fmt: skip
    one.add_argument("network", metavar="FOLDER_OR_FILE", help="a Hugging Face folder, or a file saved by torch")
    one.add_argument("--text", metavar="FILE", help="a text file (default: the standard library's docstrings)")
    one.add_argument("--input", metavar="FILE.npy", help="token ids (points, tokens) or states (points, ...) instead of text")
    one.add_argument("--tokens", type=int, default=64, help="tokens in a sequence (default 64)")
    one.add_argument("--sequences", type=int, default=64, help="at most so many sequences (default 64)")
    one.add_argument("--points", type=int, default=8, help="sequences at which Jacobians are taken (default 8)")
    one.add_argument(
        "--shell", type=shell, default="auto", metavar="R_MIN",
        help="upper bounds hold where every token entering a normalisation layer has at least this norm: a radius, "
        "auto (half of the smallest observed; default) or none (the whole space)",
    )  # fmt: skip
    one.add_argument(
        "--blocks", type=positions, metavar="0-5", help="positions of the blocks, like 0-5 or 0,3,11 (default: all)"
    )
    one.add_argument("--control", type=int, default=3, help="fresh networks to compare with (default 3; 0 for none)")
    one.add_argument("--no-bounds", action="store_true", help="measure only; no upper bounds")
    one.add_argument("--no-cumulative", action="store_true", help="leave out the composed maps, the slowest column")
    one.add_argument("--json", metavar="OUT.json", help="write everything as JSON (- for the output, instead of the table)")
    one.add_argument("--html", metavar="OUT.html", help="write a page that needs no network")
    one.add_argument("--allow-pickle", action="store_true", help="read pickles, which run the code they hold")
    one.add_argument("--device", default="cpu", help="where Jacobians are computed: cpu (default), cuda")
    one.add_argument("--seed", type=seed, default=0, help="a whole number >= 0 (default 0)")
    one.set_defaults(do=audit)


def shell(text: str) -> float | str | None:
    """A radius, "auto", or None for the whole space."""
    if text in ("auto", "none"):
        return None if text == "none" else "auto"
    try:
        radius = float(text)
    except ValueError:
        radius = math.nan
    if not 0 <= radius < math.inf:
        raise argparse.ArgumentTypeError(f"{text!r} is not a radius >= 0, auto or none")
    return radius


def positions(text: str) -> list[int]:
    """Positions from words like 0-5 or 0,3,7-9."""
    found: list[int] = []
    for part in text.split(","):
        first, dash, last = part.partition("-")
        if not first.isdigit() or (dash and not last.isdigit()) or (dash and int(last) < int(first)):
            raise argparse.ArgumentTypeError(f"{text!r} is not a list of block positions, like 0-5 or 0,3,11")
        found += range(int(first), int(last if dash else first) + 1)
    return found


def audit(options: argparse.Namespace) -> int:
    """Run the audit; write what was asked for, whole or, after an interruption, as far as it came."""
    places(options.json, options.html)
    if options.text and options.input:
        raise UsageError("--text and --input are two answers to one question; give one of them")
    if not Path(options.network).exists():
        raise UsageError(f"{options.network} does not exist; give a model folder or a file saved by torch")
    text, states = read_inputs(options)
    try:
        import torch

        from limitlib.audit import AuditInterrupted, audit_network
    except ImportError as error:
        raise CompanionError(f"the audit needs torch ({error}): pip install 'limitlib[audit]'") from None
    if options.device != "cpu" and not torch.cuda.is_available():
        raise UsageError(f"--device {options.device}: this machine has no such device; leave the option out to use the CPU")
    teller, code = Teller(), 0
    try:
        report = audit_network(
            options.network, text=text, inputs=states, tokens=options.tokens, sequences=options.sequences,
            points=options.points, shell=options.shell, blocks=options.blocks, control=options.control, seed=options.seed,
            bounds=not options.no_bounds, cumulative=not options.no_cumulative, allow_pickle=options.allow_pickle,
            device=options.device, progress=teller,
        )  # fmt: skip
    except AuditInterrupted as stopped:
        report, code = stopped.report, 130
    except ImportError as error:
        raise CompanionError(str(error)) from None
    finally:
        teller.close()
    if options.json and options.json != "-":
        write_atomic(Path(options.json), report.dumps())
    if options.html:
        from limitlib.companion import audit_page

        write_atomic(Path(options.html), audit_page.page(report))
    print(report.dumps() if options.json == "-" else words(report), flush=True)
    if code:
        print(f"interrupted: {len(report.rows)} of {len(report.settings['blocks'])} rows were finished", file=sys.stderr)
    return code


def read_inputs(options: argparse.Namespace) -> tuple[str | None, np.ndarray | None]:
    """The text or the array that the options name; UsageError if it cannot be read."""
    try:
        if options.text:
            return Path(options.text).read_text(encoding="utf-8"), None
        if options.input:
            return None, np.load(options.input, allow_pickle=False)
    except FileNotFoundError as error:
        raise UsageError(f"{error.filename} does not exist") from None
    except OSError as error:
        raise UsageError(f"cannot read {error.filename} ({error.strerror}); name a file") from None
    except UnicodeDecodeError:
        raise UsageError(f"{options.text} is not UTF-8 text") from None
    except (ValueError, EOFError) as error:
        raise UsageError(f"{options.input} is not an array written by numpy.save ({error})") from None
    return None, None


def words(report: Any) -> str:
    """The table with what it stands on."""
    n = report.network
    lines = [
        f"{n['name']} ({n['family']}, {n['parameters']:,} parameters, stored as {n['dtype']})",
        f"at {report.inputs['how']}",
        f"upper bounds on {report.domain}",
        "",
        report.table(),
        "",
    ]
    lines += [f"note: {note}" for note in report.notes]
    lines += [f"{row.name}: {note}" for row in report.rows for note in row.notes]
    return "\n".join(lines)
