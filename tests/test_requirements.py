"""Whatever the project imports is named in pyproject.toml, not left to come with something else."""

import ast
import json
import re
import sys
from importlib import metadata

from attn_blocks.files import PROJECT
from attn_book.driver import doctor

# The peers of `make bench PEER=torch` and the recordings of PyTorch have their own environment.
ELSEWHERE = {"torch", "torchvision", "timm"}

PACKAGES = {"PIL": "pillow", "paddle": "paddlepaddle", "sklearn": "scikit-learn"}


def imported(code):
    for node in ast.walk(ast.parse(code)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and not node.level:
            yield node.module


def code_of(path):
    if path.suffix == ".py":
        return path.read_text(encoding="utf-8")
    cells = json.loads(path.read_text(encoding="utf-8"))["cells"]
    return "\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code")


def normal(name):
    return re.sub(r"[-_.]+", "-", name).lower()


def test_every_import_is_declared():
    files = [
        path
        for folder in ("src", "tests", "book", "benchmarks")
        for path in (PROJECT / folder).rglob("*.py")
    ]
    own = {path.parent.name if path.stem == "__init__" else path.stem for path in files}
    files += (PROJECT / "notebooks").glob("*.ipynb")
    modules = {name.split(".")[0] for path in files for name in imported(code_of(path))}
    modules -= own | ELSEWHERE | set(sys.stdlib_module_names)
    declared = {
        normal(re.match(r"[\w.-]+", requirement)[0])
        for requirement in metadata.requires("attn-blocks")
    }
    assert {"numpy", "paddle", "PIL"} <= modules
    assert {normal(PACKAGES.get(module, module)) for module in modules} <= declared


def test_every_make_target_that_is_named_exists():
    texts = ("README.md", "README.zh.md", "CONTRIBUTING.md", "data/README.md")
    places = [PROJECT / name for name in texts]
    for folder, ending in (("src", "py"), ("book", "py"), ("notebooks", "ipynb")):
        places += (PROJECT / folder).rglob(f"*.{ending}")
    places += (PROJECT / "book").glob("*.md")
    named = {
        target
        for path in places
        for target in re.findall(
            r"(?:run: |with: |`|\n)make ([a-z][\w-]*)", path.read_text(encoding="utf-8")
        )
    }
    makefile = (PROJECT / "Makefile").read_text(encoding="utf-8")
    targets = re.findall(r"^([a-z][\w%-]*):(?!=)", makefile, re.MULTILINE)
    patterns = [target.replace("%", r"[\w-]*") for target in targets]
    assert {"publish", "reproduce-all", "verify-published"} <= named
    assert [n for n in named if not any(re.fullmatch(p, n) for p in patterns)] == []


def test_every_place_names_the_same_versions_of_python():
    def text(name):
        return (PROJECT / name).read_text(encoding="utf-8")

    minors = [10, 11, 12, 13]
    project, makefile = text("pyproject.toml"), text("Makefile")
    assert f'requires-python = ">=3.{minors[0]},<3.{minors[-1] + 1}"' in project
    assert re.findall(r"Python :: 3\.(\d+)", project) == [str(minor) for minor in minors]
    assert f"(3, {minors[0]}) <= sys.version_info < (3, {minors[-1] + 1})" in makefile
    checked = re.search(r"check-lock-,(.*?)\)", makefile)[1].split()
    assert sorted({int(version.split(".")[1]) for version in checked}) == minors
    assert ((3, minors[0]), (3, minors[-1])) == doctor.PYTHONS
    named = ", ".join(f'"3.{minor}"' for minor in minors)
    assert f"python: [{named}]" in text(".github/workflows/tests.yml")
    for page in ("README.md", "environment.yml"):
        assert f"3.{minors[0]} to 3.{minors[-1]}" in text(page)
    assert f"3.{minors[0]} 至 3.{minors[-1]}" in text("README.zh.md")


def test_every_place_names_the_same_version():
    version = metadata.version("attn-blocks")
    citation = (PROJECT / "CITATION.cff").read_text(encoding="utf-8")
    assert re.search(r"^version: (.+)$", citation, re.MULTILINE)[1] == version
    for page in ("README.md", "README.zh.md", "book/launch.md"):
        named = re.findall(r"attn_blocks-([\d.]+)-", (PROJECT / page).read_text(encoding="utf-8"))
        assert {*named} == {version}, page
