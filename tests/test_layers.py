"""Which room may use which; and what importing the library loads."""

import ast
import importlib
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "limitlib"
ROOMS = sorted(p for p in PACKAGE.rglob("*.py"))
HEAVY = {"torch", "matplotlib", "pandas", "sklearn", "joblib", "yaml"}
HEAVY |= {"IPython", "ipykernel", "papermill", "jupytext", "nbformat"}
#: What a kernel room may import of the kernel, beside the argument checks; a room that is not named may use any kernel room.
MAY_USE = {
    "bounds": set(),
    "checks": set(),
    "operators": {"bounds"},
    "lipschitz": {"bounds", "operators"},
    "iteration": {"bounds", "operators"},
    "covering": {"bounds", "operators"},
    "scaling": {"bounds"},
}


def imports(file):
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{a.name}" for a in node.names)
        elif isinstance(node, ast.Import):
            yield from (a.name for a in node.names)


@pytest.mark.parametrize("file", [f for f in ROOMS if "companion" not in f.parts], ids=lambda f: f.stem)
def test_the_kernel_knows_no_companion_and_respects_the_order_of_rooms(file):
    if file.name == "__main__.py":
        return
    used = {i.split(".")[1] for i in imports(file) if i.startswith("limitlib.")}
    room = file.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert "companion" not in used
    assert used <= MAY_USE.get(room, used) | {room, "checks"}


def loaded_by(code):
    report = f"import sys; {code}; print(*sorted({{m.split('.')[0] for m in sys.modules}}))"
    done = subprocess.run([sys.executable, "-c", report], capture_output=True, text=True, check=True)
    return set(done.stdout.split())


@pytest.mark.parametrize(
    "code",
    ["import limitlib", "import limitlib.bounds, limitlib.iteration, limitlib.scaling", "from limitlib import companion",
     "from limitlib.companion.cli import main"],
)  # fmt: skip
def test_importing_loads_neither_torch_nor_jupyter(code):
    assert not loaded_by(code) & HEAVY


@pytest.mark.parametrize("file", ROOMS, ids=lambda f: f.stem)
def test_rooms_stay_small(file):
    assert len(file.read_text().splitlines()) <= 600


@pytest.mark.parametrize("file", [f for f in ROOMS if f.name == "__init__.py"], ids=lambda f: f.parent.name)
def test_what_a_package_lists_it_has(file):
    name = ".".join(file.relative_to(PACKAGE.parent).parent.parts)
    package = importlib.import_module(name)
    assert [n for n in getattr(package, "__all__", []) if not hasattr(package, n)] == []
