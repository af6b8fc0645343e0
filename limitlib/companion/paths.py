"""Where things lie: the checkout, the build folder, and files that appear whole or not at all."""

from __future__ import annotations

import contextlib
import os
import tempfile
from pathlib import Path


class CompanionError(Exception):
    """A failure that the reader can mend: the message says what happened and what to type."""


class UsageError(CompanionError):
    """The command's own words are off: exit code 2."""


def root() -> Path:
    """The checkout that holds ``notebooks/``, ``book/`` and ``data/`` (or ``LIMITLIB_ROOT``)."""
    here = Path(os.environ.get("LIMITLIB_ROOT", Path(__file__).resolve().parents[2]))
    if not (here / "data" / "claims.yml").exists():
        raise CompanionError(
            f"{here} is not a checkout of the book (no data/claims.yml there). "
            "Run this inside the checkout, or set LIMITLIB_ROOT to it."
        )
    return here


def build() -> Path:
    """The folder of everything that runs produce: ``build/`` of the checkout, or ``LIMITLIB_BUILD``."""
    return Path(os.environ.get("LIMITLIB_BUILD") or root() / "build")


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write ``content`` so that ``path`` holds either all of it or what it held before.

    Raises CompanionError when the disk is full or refuses, leaving no partial file behind.
    """
    data = content.encode() if isinstance(content, str) else content
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as stream:
            stream.write(data)
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(name, 0o644)
        os.replace(name, path)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise CompanionError(
            f"cannot write {path}: {error.strerror}. Nothing was half-written; free some space and run again."
        ) from error
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(name)
        raise
