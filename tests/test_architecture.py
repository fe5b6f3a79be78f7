"""The rooms of the two packages, and that imports go downwards only."""

import ast
from pathlib import Path

import pytest

import attn_blocks
import attn_book

# Each room may import from those before it; files of one room from one another, without a circle.
ROOMS = (
    "attn_blocks",
    "attn_book.study",
    "attn_book.records",
    "attn_book.training",
    "attn_book.analysis",
    "attn_book.driver",
)
ENTRANCES = {"attn_book", "attn_book.__main__"}  # name what the rooms hold; no room imports them


def modules():
    """Every module of both packages: name -> file."""
    found = {}
    for package in (attn_blocks, attn_book):
        root = Path(package.__file__).parent
        for path in sorted(root.rglob("*.py")):
            parts = [package.__name__, *path.relative_to(root).with_suffix("").parts]
            name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
            found[name] = path
    return found


def imports(path, known):
    """The modules of the packages that a file imports, at its top or inside a function."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative imports hide where they lead"
            # "from package import module" names the module, "from module import name" does not.
            named = {f"{node.module}.{alias.name}" for alias in node.names}
            inner = named & known.keys()
            found |= inner | ({node.module} if named - inner else set())
    return found & known.keys()


@pytest.fixture(scope="module")
def graph():
    known = modules()
    return {name: imports(path, known) - {name} for name, path in known.items()}


def room(module):
    return next(room for room in ROOMS if module == room or module.startswith(f"{room}."))


def test_imports_go_downwards_only(graph):
    for module, imported in graph.items():
        if module in ENTRANCES:
            continue
        for other in imported - ENTRANCES:
            assert ROOMS.index(room(other)) <= ROOMS.index(room(module)), f"{module} -> {other}"


def test_there_is_no_circle(graph):
    done, path = set(), []

    def visit(module):
        assert module not in path, " -> ".join([*path, module])
        if module not in done:
            path.append(module)
            for other in sorted(graph[module]):
                visit(other)
            done.add(path.pop())

    for module in graph:
        visit(module)
