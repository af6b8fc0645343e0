"""Public data: registered with address, checksum and licence; mirrored, cached or downloaded; never committed.

``data/registry.toml`` names every file of every data set at a fixed commit of its public repository. A file is looked for
in the folder ``LIMITLIB_DATA`` (laid out ``<data set>/<file>``), then in the cache (``LIMITLIB_CACHE``, or the user's cache
folder), then downloaded. Wherever it comes from, its sha256 must be the registered one.
"""

from __future__ import annotations

import hashlib
import os
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from limitlib.companion import notebook, paths
from limitlib.companion.paths import CompanionError

#: Seconds without an answer after which the network counts as absent.
PATIENCE = 20


class DataUnavailable(CompanionError):
    """The data set is registered but not here, and the network did not give it. The notebook is marked *skipped: data*."""


class DataCorrupted(CompanionError):
    """A file is there and is not what was registered. Always an error."""


@dataclass(frozen=True)
class File:
    path: str
    sha256: str
    address: str


@dataclass(frozen=True)
class Dataset:
    """One registered data set: where it comes from, under which licence, whom to cite, and its files."""

    name: str
    title: str
    repository: str
    commit: str
    licence: str
    citation: str
    notes: str
    files: dict[str, File]


def registry() -> dict[str, Dataset]:
    """All registered data sets by name."""
    try:
        tables = tomllib.loads((paths.root() / "data" / "registry.toml").read_text())
    except (OSError, ValueError) as error:
        raise CompanionError(f"data/registry.toml can't be read: {error}; restore it with git") from error
    try:
        return {name: dataset(name, table) for name, table in tables.items()}
    except (KeyError, TypeError) as error:
        raise CompanionError(f"data/registry.toml: an entry lacks {error}; restore it with git") from error


def dataset(name: str, table: dict) -> Dataset:
    base = f"https://raw.githubusercontent.com/{table['repository']}/{table['commit']}/"
    files = {p: File(p, f["sha256"], base + quote(f["upstream"])) for p, f in table["files"].items()}
    facts = {k: table[k] for k in ("title", "repository", "commit", "licence", "citation", "notes")}
    return Dataset(name=name, files=files, **facts)


def registered(name: str) -> Dataset:
    known = registry()
    if name not in known:
        raise ValueError(f"unknown data set {name!r}; registered are: {', '.join(known)}")
    return known[name]


def cache() -> Path:
    import pooch

    return Path(os.environ.get("LIMITLIB_CACHE") or pooch.os_cache("limitlib"))


def places(name: str, file: File) -> list[Path]:
    """Where a file may lie on this machine, in the order of trust."""
    mirror = os.environ.get("LIMITLIB_DATA")
    if mirror and not Path(mirror).is_dir():
        raise CompanionError(f"LIMITLIB_DATA={mirror} is not a folder; unset it or point it at a mirror of the data sets")
    return [*([Path(mirror) / name / file.path] if mirror else []), cache() / name / file.path]


def verified(path: Path, file: File) -> Path:
    found = hashlib.sha256(path.read_bytes()).hexdigest()
    if found != file.sha256:
        raise DataCorrupted(
            f"{path} is not the registered file: its sha256 is {found}, registered is {file.sha256}. "
            f"Restore it, or move it away: a fresh copy is then fetched from {file.address}."
        )
    return path


def local(name: str, file: File) -> Path | None:
    """The verified local copy, if there is one. Raises DataCorrupted if there is a wrong one."""
    return next((verified(p, file) for p in places(name, file) if p.is_file()), None)


def download(name: str, file: File) -> Path:
    import pooch
    import requests

    target = cache() / name / file.path
    pooch.get_logger().setLevel("ERROR")
    try:
        pooch.retrieve(
            file.address, known_hash=f"sha256:{file.sha256}", path=target.parent, fname=target.name,
            downloader=pooch.HTTPDownloader(timeout=PATIENCE),
        )  # fmt: skip
    except requests.RequestException as error:
        raise DataUnavailable(
            f"{name}: {file.path} is neither in LIMITLIB_DATA ({os.environ.get('LIMITLIB_DATA') or 'not set'}) nor in the "
            f"cache ({cache()}), and {file.address} did not answer ({type(error).__name__}). With a network, `make data` "
            "fetches it; or set LIMITLIB_DATA to a folder that has it."
        ) from error
    except ValueError as error:
        raise DataCorrupted(f"{file.address} gave something else than the registered file: {error}") from error
    except OSError as error:
        raise CompanionError(f"cannot keep {target}: {error.strerror}. Free some space, or set LIMITLIB_CACHE.") from error
    return target


def fetch(name: str, *, tell: Callable[[int, int, str], None] = notebook.progress) -> list[Path]:
    """Every file of a data set, downloading what is not here; ``tell(done, total, what)`` hears of each download."""
    files = list(registered(name).files.values())
    found = []
    for number, file in enumerate(files, 1):
        here = local(name, file)
        if here is None:
            tell(number, len(files), f"downloading {name}")
            here = download(name, file)
        found.append(here)
    return found


def load_dataset(name: str, file: str | None = None) -> Path:
    """The path of a registered file, or of the data set's folder, each file verified.

    name: as in ``data/registry.toml``, e.g. ``"chinchilla-runs"``. file: e.g. ``"df.csv"``; None for the whole folder.
    Raises ValueError for an unknown name or file, DataUnavailable if it is neither here nor to be downloaded (the runner
    then marks the notebook *skipped: data*), DataCorrupted for a wrong checksum.
    """
    entry = registered(name)
    notebook.update("inputs", name, {"commit": entry.commit})
    if file is None:
        found = fetch(name)
        first = next(iter(entry.files))
        folder = found[0].parents[len(Path(first).parts) - 1]
        if any(folder not in f.parents for f in found):
            raise CompanionError(f"{name} lies partly in LIMITLIB_DATA and partly in the cache; complete one of them")
        return folder
    if file not in entry.files:
        raise ValueError(f"data set {name!r} has no file {file!r}; it has: {', '.join(list(entry.files)[:12])}")
    return local(name, entry.files[file]) or download(name, entry.files[file])


def available(name: str) -> bool:
    """Whether every file of a data set is on this machine (not asking the network)."""
    entry = registry().get(name)
    return entry is not None and all(any(p.is_file() for p in places(name, f)) for f in entry.files.values())


def digest(name: str) -> str:
    """One sha256 for a data set as registered."""
    entry = registry().get(name)
    if entry is None:
        return "absent"
    return hashlib.sha256("".join(f"{p}{f.sha256}" for p, f in sorted(entry.files.items())).encode()).hexdigest()
