"""The sdist and the wheel: what they hold, and the wheel at work without a checkout around it."""

import os
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from attn_blocks.files import PROJECT
from attn_book.study.experiment import Experiment
from attn_book.study.recipes import PROFILES
from attn_book.training.build import build_model
from attn_book.training.checkpoint import save_checkpoint

pytestmark = pytest.mark.long

# Only the extra "book" brings them; a stub stands for a package that is not installed.
NOT_INSTALLED = (
    "IPython ipykernel jupyter matplotlib nbformat pandas papermill psutil scipy sklearn visualdl"
)


def built(source, target, kind):
    """The file that setuptools makes of ``source``: kind is "sdist" or "wheel"."""
    code = f"import sys; from setuptools import build_meta; build_meta.build_{kind}(sys.argv[1])"
    command = [sys.executable, "-c", code, str(target)]
    made = subprocess.run(command, cwd=source, capture_output=True, text=True)
    assert made.returncode == 0, made.stderr
    [path] = target.iterdir()
    return path


@pytest.fixture(scope="module")
def tracked():
    """The files of the checkout, without what is ignored."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"]
    listed = subprocess.run(command, cwd=PROJECT, capture_output=True, text=True)
    if listed.returncode:
        pytest.skip("this is no git checkout")
    return {name for name in listed.stdout.split("\0") if name and (PROJECT / name).exists()}


@pytest.fixture(scope="module")
def sdist(tracked, tmp_path_factory):
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("sdist")
    for name in tracked:  # a copy, since building leaves its traces
        (source / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, source / name)
    return built(source, target, "sdist")


@pytest.fixture(scope="module")
def wheel(sdist, tmp_path_factory):
    """Built from the sdist, which therefore lacks nothing."""
    folder, target = tmp_path_factory.mktemp("unpacked"), tmp_path_factory.mktemp("wheel")
    with tarfile.open(sdist) as archive:
        archive.extractall(folder)
    [source] = folder.iterdir()
    return built(source, target, "wheel")


def test_the_sdist_is_the_whole_book(sdist, tracked):
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert tracked - names == set()
    for name in ("constraints.txt", "notebooks/04_sge.ipynb", "book/build.py", "LICENSE"):
        assert name in names


def test_the_wheel_is_the_two_packages_and_their_licences(wheel, tracked):
    with zipfile.ZipFile(wheel) as archive:
        names = set(archive.namelist())
        [about] = [name for name in names if name.endswith("METADATA")]
        metadata = archive.read(about).decode()
    source = {name.removeprefix("src/") for name in tracked if name.startswith("src/")}
    assert {name for name in names if ".dist-info/" not in name} == source
    assert {"attn_blocks/py.typed", "attn_book/py.typed", "attn_blocks/native/conv.cc"} <= names
    folder = about.rpartition("/")[0]
    assert {f"{folder}/licenses/LICENSE", f"{folder}/licenses/LICENSE-text"} <= names
    assert "\nLicense-Expression: Apache-2.0 AND CC-BY-4.0\n" in metadata
    assert "\nAuthor: The attn-blocks authors\n" in metadata
    base = [line for line in metadata.splitlines() if line.startswith("Requires-Dist")]
    base = sorted(line.split()[1].split("<")[0] for line in base if "extra ==" not in line)
    assert base == ["filelock", "numpy", "pillow", "safetensors", "tqdm"]


@pytest.fixture(scope="module")
def bare(wheel, tmp_path_factory):
    """A function that runs Python on the wheel, away from any checkout and without the extras."""
    folder = tmp_path_factory.mktemp("bare")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder / "site")
    (folder / "stubs").mkdir()
    for name in NOT_INSTALLED.split():
        stub = f'raise ModuleNotFoundError("No module named {name!r}", name="{name}")\n'
        (folder / "stubs" / f"{name}.py").write_text(stub)
    path = os.pathsep.join([str(folder / "stubs"), str(folder / "site")])
    ours = ("ATTN_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}

    def run(*arguments, cwd=folder):
        before = {file for file in folder.rglob("*") if file.suffix != ".pyc"}
        answer = subprocess.run(
            [sys.executable, *map(str, arguments)],
            cwd=cwd,
            env=environment | {"PYTHONPATH": path},
            capture_output=True,
            text=True,
        )
        made = {file for file in folder.rglob("*") if file.suffix != ".pyc"} - before
        assert {file for file in made if file.name != "__pycache__"} == set()
        return answer

    return run


def test_the_library_works(bare):
    code = (
        "import attn_blocks as ab, paddle; print(ab.__file__, ab.__version__); "
        "print(*ab.create_attn('se', 64)(paddle.ones([1, 64, 4, 4])).shape)"
    )
    answer = bare("-c", code)
    assert answer.returncode == 0, answer.stderr
    first, second = answer.stdout.splitlines()
    assert "site/attn_blocks/__init__.py 0." in first
    assert second == "1 64 4 4"


def test_data_and_doctor_work(bare):
    answer = bare("-m", "attn_book", "data")
    assert answer.returncode == 0, answer.stderr
    assert "shapes" in answer.stdout
    answer = bare("-m", "attn_book", "doctor")
    assert answer.returncode == 0, answer.stderr
    assert "reproduce, publish and verify-published need a checkout" in answer.stdout


def test_predict_works(bare, tmp_path, write_run):
    recipe = PROFILES["smoke"].recipes["animals10"]
    experiment = Experiment("shapes", "f" * 64, "se_resnet50", recipe, 0)
    write_run(tmp_path, experiment)
    save_checkpoint(tmp_path / "last.safetensors", build_model(experiment, 2), 2)
    Image.new("RGB", (80, 60), "red").save(tmp_path / "red.png")
    answer = bare("-m", "attn_book", "predict", tmp_path / "red.png", "--weights", tmp_path)
    assert answer.returncode == 0, answer.stderr
    image, name, probability = answer.stdout.split("\t")
    assert (Path(image).name, name in "ab") == ("red.png", True)
    assert 0.5 <= float(probability) <= 1
    predicted = answer.stdout  # printed before a picture is drawn, or cannot be
    for more, printed, needs in (
        (["--model", "resnet50"], "", "predict without --weights needs a checkout of the book"),
        (["--weights", tmp_path, "--cam", tmp_path], predicted, "pip install 'attn-blocks[book]'"),
    ):
        answer = bare("-m", "attn_book", "predict", tmp_path / "red.png", *more)
        assert (answer.returncode, answer.stdout) == (2, printed)
        [line] = answer.stderr.splitlines()
        assert needs in line


@pytest.mark.parametrize("command", ["reproduce", "publish", "verify-published", "models"])
def test_what_needs_more_says_so_in_one_sentence_and_writes_nothing(bare, command):
    answer = bare("-m", "attn_book", command)
    assert (answer.returncode, answer.stdout) == (2, "")
    [line] = answer.stderr.splitlines()
    needs = "pip install 'attn-blocks[book]'" if command == "models" else "a checkout of the book"
    assert needs in line


def test_the_first_page_runs_with_the_wheel_alone(wheel, tmp_path):
    """As book/launch.md says it; the packages of the extra "book" are those that are here."""
    site, page = tmp_path / "site", tmp_path / "01_se.ipynb"
    install = ["-m", "pip", "install", "--quiet", "--no-index", "--no-deps", "--target", str(site)]
    ours = ("ATTN_", "PYTHONPATH")
    environment = {k: v for k, v in os.environ.items() if not k.startswith(ours)}
    environment["PYTHONPATH"] = str(site)
    shutil.copy(PROJECT / "notebooks" / page.name, page)
    run = ["-m", "papermill", page.name, page.name, "-p", "profile", "smoke", "-k", "python3"]
    for arguments in ([*install, f"{wheel}[cpu,book]"], [*run, "--no-progress-bar"]):
        command = [sys.executable, *arguments]
        answer = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True
        )
        assert answer.returncode == 0, answer.stderr
    assert "profile smoke · Shapes (10 classes; 40 / 20 images)" in page.read_text("utf-8")
    assert any((tmp_path / "results" / "smoke" / "runs").iterdir())
