"""The registry is complete and true; a download is verified; a wrong file is never used."""

import hashlib
import http.server
import os
import re
import threading
from pathlib import Path

import pytest

from limitlib import companion
from limitlib.companion import datasets

GOOD = b"a,b\n1,2\n"


@pytest.fixture
def server(tmp_path):
    """A real HTTP server on this machine."""
    folder = tmp_path / "served"
    folder.mkdir()
    (folder / "x=1.csv").write_bytes(GOOD)

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *a, **k):
            super().__init__(*a, directory=str(folder), **k)

        def log_message(self, *_):
            pass

    web = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Quiet)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{web.server_port}"
    web.shutdown()
    web.server_close()


@pytest.fixture(autouse=True)
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("LIMITLIB_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIMITLIB_BUILD", str(tmp_path / "build"))


def file(address, content=GOOD):
    return datasets.File("d/x=1.csv", hashlib.sha256(content).hexdigest(), address)


def test_download_is_verified_and_cached(server, tmp_path):
    got = datasets.download("toy", file(f"{server}/x%3D1.csv"))
    assert got.read_bytes() == GOOD and got == tmp_path / "cache" / "toy" / "d" / "x=1.csv"
    assert datasets.local("toy", file("http://127.0.0.1:9/")) == got


def test_a_wrong_download_is_an_error_and_is_not_kept(server, tmp_path):
    with pytest.raises(datasets.DataCorrupted, match="something else than the registered file"):
        datasets.download("toy", file(f"{server}/x%3D1.csv", b"other"))
    assert not (tmp_path / "cache" / "toy" / "d" / "x=1.csv").exists()


@pytest.mark.parametrize("address", ["http://127.0.0.1:9/x", "{server}/nothing-here"])
def test_no_answer_is_data_unavailable(server, address):
    with pytest.raises(datasets.DataUnavailable, match=r"toy: d/x=1.csv is neither .* `make data`"):
        datasets.download("toy", file(address.format(server=server)))


def test_unknown_names_are_listed():
    with pytest.raises(ValueError, match=r"unknown data set 'chinchila'; registered are: .*chinchilla-runs"):
        companion.load_dataset("chinchila")
    with pytest.raises(ValueError, match=r"has no file 'x.csv'; it has: df.csv"):
        companion.load_dataset("chinchilla-runs", "x.csv")


def test_registry_is_complete():
    known = datasets.registry()
    assert len(known) == 8
    licences = {"Apache-2.0", "MIT", "CC BY 4.0"}
    for entry in known.values():
        assert entry.licence in licences, entry.name
        assert re.fullmatch(r"[0-9a-f]{40}", entry.commit), f"{entry.name}: not a fixed commit"
        assert entry.files and all(re.fullmatch(r"[0-9a-f]{64}", f.sha256) for f in entry.files.values())
        bib = (Path(__file__).parents[2] / "book" / "references.bib").read_text()
        assert f"{{{entry.citation}," in bib, f"{entry.name}: {entry.citation} is not in the bibliography"


def test_the_mirror_is_what_was_registered():
    """Every file of the mirror, where there is one (the gate has it), against its registered checksum."""
    mirror = os.environ.get("LIMITLIB_DATA")
    for name in datasets.registry() if mirror else []:
        assert companion.load_dataset(name).is_dir()
