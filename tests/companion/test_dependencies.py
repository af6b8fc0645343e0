"""The closure sees what a notebook uses, and nothing else."""

import pytest

from limitlib.companion.dependencies import Library, digest

ROOMS = {
    "__init__.py": "from pkg.a import shown\n",
    "a.py": '''"""A room."""
from pkg import b
from pkg.b import helper as h
LIMIT = 3

def shown(x):
    """Says."""
    return h(x) + LIMIT  # a comment

def alone(x):
    return x

def lazy(x):
    from pkg.c import deep
    return deep(x)

def dotted(x):
    return b.other(x)

class Box:
    def method(self):
        return alone(1)
''',
    "b.py": "import numpy as np\n\ndef helper(x):\n    return x\n\ndef other(x):\n    return np.sin(x)\n",
    "c.py": "def deep(x):\n    return x\n\nREGISTRY = {}\nREGISTRY['x'] = deep\n",
    "d.py": "from pkg.c import *\n\ndef starred(x):\n    return deep(x)\n",
}


@pytest.fixture
def pkg(tmp_path):
    folder = tmp_path / "pkg"
    folder.mkdir()
    for name, text in ROOMS.items():
        (folder / name).write_text(text)
    return folder


def uses(pkg, source):
    return set(Library(pkg).closure(source))


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("from pkg.a import alone\nalone(1)", {"pkg.a.alone"}),
        ("from pkg.a import shown\nshown(1)", {"pkg.a.shown", "pkg.a.LIMIT", "pkg.b.helper"}),
        ("from pkg import shown as s\ns(1)", {"pkg.a.shown", "pkg.a.LIMIT", "pkg.b.helper"}),
        ("import pkg.a\npkg.a.dotted(1)", {"pkg.a.dotted", "pkg.b.other"}),
        ("from pkg import a\na.Box()", {"pkg.a.Box", "pkg.a.alone"}),
        ("from pkg.a import lazy\nlazy(1)", {"pkg.a.lazy", "pkg.c.deep", "pkg.c (module level)", "pkg.c.REGISTRY"}),
        ("import numpy\nnumpy.sin(1)", set()),
        ("from pkg.a import alone", set()),
    ],
)
def test_closure(pkg, source, expected):
    assert uses(pkg, source) - {"pkg.c (module level)", "pkg.c.REGISTRY"} == expected - {
        "pkg.c (module level)",
        "pkg.c.REGISTRY",
    }


def test_a_module_as_a_value_counts_whole(pkg):
    assert {"pkg.b.helper", "pkg.b.other"} <= uses(pkg, "from pkg import b\nprint(b)")


def test_a_star_counts_whole(pkg):
    assert "pkg.c.deep" in uses(pkg, "from pkg.d import starred\nstarred(1)")


def test_module_level_work_counts(pkg):
    assert "pkg.c (module level)" in uses(pkg, "from pkg.c import deep\ndeep(1)")


def changed(pkg, file, old, new, source="from pkg.a import shown\nshown(1)"):
    before = Library(pkg).closure(source)
    path = pkg / file
    assert old in path.read_text()
    path.write_text(path.read_text().replace(old, new))
    after = Library(pkg).closure(source)
    return {k for k in {**before, **after} if before.get(k) != after.get(k)}


def test_code_counts_and_words_do_not(pkg):
    assert changed(pkg, "a.py", "LIMIT = 3", "LIMIT = 4") == {"pkg.a.LIMIT"}
    assert changed(pkg, "a.py", "# a comment", "# another") == set()
    assert changed(pkg, "a.py", '"""Says."""', '"""Says more."""') == set()
    assert changed(pkg, "a.py", "def alone(x):\n    return x", "def alone(x):\n    return -x") == set()
    assert changed(pkg, "b.py", "def helper(x):\n    return x", "def helper(x):\n    return -x") == {"pkg.b.helper"}


def test_what_is_registered_with_a_function_is_part_of_it(pkg):
    (pkg / "e.py").write_text(
        "from functools import singledispatch\nfrom pkg.b import helper\n\n"
        "@singledispatch\ndef train(x):\n    raise TypeError\n\n"
        "@train.register\ndef _(x: int):\n    return helper(x)\n\n@train.register(float)\ndef _(x):\n    return 1.0\n"
    )
    assert uses(pkg, "from pkg.e import train\ntrain(1)") == {"pkg.e.train", "pkg.b.helper"}
    assert changed(pkg, "e.py", "return 1.0", "return 2.0", "from pkg.e import train\ntrain(1)") == {"pkg.e.train"}


def test_digest_refuses_what_is_not_there():
    assert len(digest(["limitlib.companion.paths.build"])) == 64
    with pytest.raises(ValueError, match="none of"):
        digest(["limitlib_nowhere.f"])
