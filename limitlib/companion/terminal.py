"""What the commands share: progress, words of options, and the refusal to begin what cannot be written down."""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from pathlib import Path

from limitlib.companion.paths import UsageError


class Teller:
    """Progress on the error stream: one line rewritten on a terminal, a line for each step elsewhere."""

    def __init__(self) -> None:
        self.began = time.monotonic()
        self.last = ""

    def __call__(self, done: int, total: int, what: str) -> None:
        line = f"  {time.monotonic() - self.began:6.1f} s  {what}" + (f"  {done}/{total}" if total > 1 else "")
        if sys.stderr.isatty():
            print(f"\r\x1b[K{line[:110]}", end="", file=sys.stderr, flush=True)
        elif what != self.last:
            print(line, file=sys.stderr, flush=True)
        self.last = what

    def close(self) -> None:
        if self.last and sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


def seed(text: str) -> int:
    """A whole number >= 0."""
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a whole number >= 0")
    return int(text)


def places(*given: str | None) -> None:
    """UsageError now, not after the work, where an output file has no folder or cannot be written; "-" is the output."""
    for name in given:
        if not name or name == "-":
            continue
        if not Path(name).resolve().parent.is_dir():
            raise UsageError(f"the folder of {name} does not exist; make it first")
        writable(Path(name))


def writable(path: Path) -> None:
    """UsageError now, not after the work, where a file cannot be written."""
    try:
        if path.is_dir():
            raise IsADirectoryError(21, "it is a folder")
        with tempfile.TemporaryFile(dir=path.resolve().parent):
            pass
    except OSError as error:
        raise UsageError(f"cannot write {path} ({error.strerror}); name a file in a folder that you may write to") from None
