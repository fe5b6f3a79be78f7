"""A block of the reader's own: found, and named by what its file says."""

from pathlib import Path

import paddle
import pytest

from attn_blocks.errors import SettingError, TrainingError
from attn_book.study import own
from attn_book.study.experiment import Experiment
from attn_book.study.pages import title_of
from attn_book.study.recipes import PROFILES
from attn_book.training.build import build_model

ECA = Path(__file__).parents[1] / "blocks" / "eca.py"
RECIPE = PROFILES["smoke"].recipes["animals10"]
HEAD = "import paddle\nfrom paddle import nn\n"
LAYER = (
    HEAD + "class Mine(nn.Layer):\n    def __init__(self, channels):\n        super().__init__()\n"
)
FORWARD = LAYER + "    def forward(self, x):\n        "


@pytest.fixture
def block(tmp_path):
    """A function that writes a file and finds ``Mine`` in it."""

    def write(text):
        (tmp_path / "mine.py").write_text(text)
        return own.find("mine.py:Mine", tmp_path)

    return write


def experiment(option, **options):
    return Experiment("shapes", "f" * 64, "resnet50", RECIPE, 0, {"attn": option, **options})


def test_what_the_file_says_names_the_run(block):
    first = block(FORWARD + "return x * 2\n")
    again = block(FORWARD + "return x * 2\n")
    edited = block(FORWARD + "return x * 3\n")
    assert first.option == again.option == f"mine.py:Mine@{first.digest[:16]}"
    names = {experiment(found.option).name for found in (first, again, edited)}
    assert len(names) == 2
    assert all(set(":@/").isdisjoint(name) for name in names)
    assert title_of(experiment(first.option)) == "Mine (own)"


def test_the_text_that_was_hashed_is_the_one_that_is_run(block, tmp_path):
    found = block(FORWARD + "return x * 2\n")
    (tmp_path / "mine.py").write_text("1 / 0")
    assert float(found.load()(8)(paddle.ones([1]))) == 2


def test_a_network_of_a_record_runs_no_file_unless_its_folder_is_named(block, monkeypatch):
    found = block(FORWARD + "return x * 2\n")
    monkeypatch.delenv(own.FOLDER, raising=False)
    with pytest.raises(SettingError, match="name the folder of its file with ATTN_BLOCKS_OWN="):
        build_model(experiment(found.option), 10)
    monkeypatch.setenv(own.FOLDER, str(found.folder))
    network = build_model(experiment(found.option, placement="between"), 10)
    assert type(network.layer2.nl1).__name__ == "Mine"
    assert isinstance(network.layer1[0].attn, paddle.nn.Identity)
    (found.folder / "mine.py").write_text(FORWARD + "return x * 3\n")
    with pytest.raises(TrainingError, match=r"mine\.py was edited since"):
        build_model(experiment(found.option), 10)


def test_a_module_is_found_beside_the_installed_ones(tmp_path, monkeypatch):
    (tmp_path / "only_here.py").write_text(FORWARD + "return x\n")
    found = own.find("only_here:Mine", tmp_path)
    assert found.path == tmp_path / "only_here.py"
    monkeypatch.setenv(own.FOLDER, str(tmp_path))
    assert type(build_model(experiment(found.option), 10).layer1[0].attn).__name__ == "Mine"


@pytest.mark.parametrize(
    ("spec", "problem"),
    [
        ("eca.py", "'eca.py' names no block; give a Python file and a name in it"),
        ("eca.py:a b", "names no block"),
        ("missing.py:ECA", r"missing\.py cannot be read \(No such file or directory\)"),
        ("missing:ECA", "there is no module 'missing' with a file of its own"),
        ("no.package:ECA", "the module no.package cannot be found: ModuleNotFoundError"),
    ],
)
def test_what_cannot_be_found_is_named(spec, problem):
    with pytest.raises(SettingError, match=problem):
        own.find(spec, ECA.parent)
