"""Which definitions of ``limitlib`` a notebook really uses, found by reading the code, never by running it.

A notebook is stale when a function it uses has changed, and only then: the closure is taken over top-level definitions
(functions, classes, constants), not over files. Comments, docstrings and layout do not count. Where the reading can't tell
(a module handed around as a value, ``from room import *``), the whole module counts.
"""

from __future__ import annotations

import ast
import hashlib
import re
from collections.abc import Iterable, Iterator
from functools import lru_cache
from pathlib import Path

from limitlib.companion.paths import CompanionError

PACKAGE = Path(__file__).resolve().parents[1]
DOTTED = re.compile(rf"{PACKAGE.name}(\.\w+)+")
DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)


def parse(source: str, name: str) -> ast.Module:
    try:
        return ast.parse(source, name)
    except SyntaxError as error:
        raise CompanionError(f"{name}:{error.lineno}: {error.msg}: {(error.text or '').strip()}") from error


class Room:
    """One module: its top-level bindings, its imports, and what it does besides binding names."""

    def __init__(self, name: str, file: Path) -> None:
        tree = parse(file.read_text(), str(file))
        self.name = name
        self.is_package = file.name == "__init__.py"
        self.imports: dict[str, str] = {}
        self.stars: list[str] = []
        self.bindings: dict[str, list[ast.stmt]] = {}
        self.other: list[ast.stmt] = []
        for statement in tree.body:
            self.read(statement)

    def read(self, statement: ast.stmt) -> None:
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            self.stars += imported(statement, self.name, self.is_package, self.imports)
            return
        if isinstance(statement, DEFINITIONS):
            self.bindings.setdefault(statement.name, []).append(statement)
            for registry in filter(None, map(registered_with, statement.decorator_list)):
                if registry in self.imports:  # another room's registry: importing this room changes it
                    self.other.append(statement)
                else:
                    self.bindings.setdefault(registry, []).append(statement)
            return
        if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant):
            return
        names = list(bound_names(statement))
        for inner in ast.walk(statement):
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                self.stars += imported(inner, self.name, self.is_package, self.imports)
                names.append("")
        for bound in names:
            if bound:
                self.bindings.setdefault(bound, []).append(statement)
        if not names:
            self.other.append(statement)


def registered_with(decorator: ast.expr) -> str | None:
    """``train`` for ``@train.register``: a registry calls what is registered with it, so that is part of it."""
    call = decorator.func if isinstance(decorator, ast.Call) else decorator
    return call.value.id if isinstance(call, ast.Attribute) and isinstance(call.value, ast.Name) else None


def bound_names(statement: ast.stmt) -> Iterator[str]:
    for node in ast.walk(statement):
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, DEFINITIONS):
            yield node.name


def imported(node: ast.Import | ast.ImportFrom, room: str, is_package: bool, into: dict[str, str]) -> list[str]:
    """Add the names an import binds to ``into``; return the modules it imports everything from."""
    if isinstance(node, ast.Import):
        for alias in node.names:
            into[alias.asname or alias.name.split(".")[0]] = alias.name if alias.asname else alias.name.split(".")[0]
        return []
    source = node.module or ""
    if node.level:
        base = room.split(".")[: len(room.split(".")) - node.level + (1 if is_package else 0)]
        source = ".".join([*base, *([source] if source else [])])
    stars = [source for alias in node.names if alias.name == "*"]
    into.update({a.asname or a.name: f"{source}.{a.name}" for a in node.names if a.name != "*"})
    return stars


class References(ast.NodeVisitor):
    """Dotted names that a piece of code mentions, resolved through imports."""

    def __init__(self, imports: dict[str, str]) -> None:
        self.imports = imports
        self.found: set[str] = set()

    def visit_Attribute(self, node: ast.Attribute) -> None:
        parts, base = [node.attr], node.value
        while isinstance(base, ast.Attribute):
            parts.append(base.attr)
            base = base.value
        if isinstance(base, ast.Name):
            self.found.add(".".join([self.imports.get(base.id, base.id), *reversed(parts)]))
        else:
            self.visit(base)

    def visit_Name(self, node: ast.Name) -> None:
        self.found.add(self.imports.get(node.id, node.id))

    def visit_Constant(self, node: ast.Constant) -> None:
        if isinstance(node.value, str) and DOTTED.fullmatch(node.value):
            self.found.add(node.value)


def references(nodes: Iterable[ast.AST], room: str, is_package: bool, imports: dict[str, str]) -> set[str]:
    local = dict(imports)
    nodes = list(nodes)
    found: set[str] = set()
    for node in nodes:
        for inner in ast.walk(node):
            if isinstance(inner, (ast.Import, ast.ImportFrom)):
                found |= {f"{star}.*" for star in imported(inner, room, is_package, local)}
    visitor = References(local)
    for node in nodes:
        visitor.visit(node)
    return found | visitor.found


class WithoutDocstrings(ast.NodeTransformer):
    def generic_visit(self, node: ast.AST) -> ast.AST:
        super().generic_visit(node)
        body = getattr(node, "body", None)
        if isinstance(node, DEFINITIONS) and body and isinstance(body[0], ast.Expr):
            first = body[0].value
            if isinstance(first, ast.Constant) and isinstance(first.value, str):
                node.body = body[1:] or [ast.Pass()]
        return node


def fingerprint(nodes: list[ast.stmt]) -> str:
    bare = [ast.dump(WithoutDocstrings().visit(ast.parse(ast.unparse(n)))) for n in nodes]
    return hashlib.sha256("\n".join(bare).encode()).hexdigest()


class Library:
    """The package as it stands on disk now."""

    def __init__(self, package: Path = PACKAGE) -> None:
        self.package = package
        self.rooms: dict[str, Room | None] = {}

    def room(self, dotted: str) -> Room | None:
        if dotted not in self.rooms:
            inside = dotted.split(".")[1:]
            plain = self.package.joinpath(*inside).with_suffix(".py") if inside else None
            package = self.package.joinpath(*inside, "__init__.py")
            file = plain if plain and plain.exists() else package
            known = dotted.split(".")[0] == self.package.name and file.exists()
            self.rooms[dotted] = Room(dotted, file) if known else None
        return self.rooms[dotted]

    def locate(self, dotted: str) -> tuple[Room, str | None] | None:
        """The room that a dotted name lies in and the binding it names there (None: the room itself)."""
        parts = dotted.split(".")
        for cut in range(len(parts), 0, -1):
            room = self.room(".".join(parts[:cut]))
            if room:
                return room, parts[cut] if cut < len(parts) else None
        return None

    def closure(self, source: str | Path) -> dict[str, str]:
        """``{"limitlib.iteration.iterate": sha256, ...}`` for everything that a file, or a piece of source code, uses.

        Raises CompanionError naming file and line where the source is no Python.
        """
        try:
            text, name = (source.read_text(), str(source)) if isinstance(source, Path) else (source, "<source>")
        except UnicodeDecodeError as error:
            raise CompanionError(f"{source} is not UTF-8 text: {error}") from error
        tree = parse(text, name)
        return self.reach(references(tree.body, "__main__", False, {}))

    def reach(self, names: Iterable[str]) -> dict[str, str]:
        todo = [n for n in names if n.split(".")[0] == self.package.name]
        seen: set[tuple[str, str]] = set()
        prints: dict[str, str] = {}
        while todo:
            at = self.locate(todo.pop())
            if at is None:
                continue
            room, binding = at
            if binding is None or binding == "*" or not (binding in room.bindings or binding in room.imports):
                # the whole room: handed around as a value, starred, or an attribute that this reading can't place
                if (room.name, "*") not in seen:
                    seen.add((room.name, "*"))
                    todo += [f"{room.name}.{b}" for b in [*room.bindings, *room.imports]]
                continue
            if (room.name, binding) in seen:
                continue
            seen.add((room.name, binding))
            if binding in room.imports and binding not in room.bindings:
                todo.append(room.imports[binding])
                continue
            nodes = room.bindings[binding]
            prints[f"{room.name}.{binding}"] = fingerprint(nodes)
            mentioned = references([*nodes, *room.other], room.name, room.is_package, room.imports)
            todo += [f"{room.name}.{n}" for n in mentioned if n.split(".")[0] in room.bindings]
            todo += [n for n in mentioned if n.split(".")[0] == self.package.name]
            todo += [f"{star}.*" for star in room.stars]
            if room.other:
                prints[f"{room.name} (module level)"] = fingerprint(room.other)
        return dict(sorted(prints.items()))


@lru_cache(maxsize=1)
def library() -> Library:
    return Library()


def digest(names: Iterable[str]) -> str:
    """One sha256 over the closure of the named definitions, as the code stands now."""
    prints = library().reach(list(names))
    if not prints:
        raise ValueError(f"none of {list(names)} is a definition of {PACKAGE.name}")
    return hashlib.sha256(repr(prints).encode()).hexdigest()
