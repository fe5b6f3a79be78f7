"""A finished run, made up."""

from dataclasses import replace

import pytest

from attn_book.records import run as records_run
from attn_book.study.experiment import Experiment
from attn_book.study.recipes import PROFILES


@pytest.fixture
def run(tmp_path, write_run):
    """A run with all its files, nothing wrong with it."""
    recipe = replace(PROFILES["smoke"].recipes["animals10"], epochs=2)
    experiment = Experiment("shapes", "0" * 64, "resnet18", recipe, seed=1)
    found = records_run.Run(tmp_path / "runs" / experiment.name)
    write_run(found.folder, experiment, weights=True)
    return found
