"""What all tests share."""

import os

# Tests run side by side, one core each; set before anything imports Paddle.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ["ATTN_BLOCKS_RESULTS"] = os.devnull  # a test that forgets its own folder must fail

import pytest

import attn_blocks  # noqa: F401  (before paddle)
from attn_blocks import datasets


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A data folder without real images, with the embedded ones drawn once."""
    folder = tmp_path_factory.mktemp("data")
    datasets.load("shapes", folder, short_side=64)
    return folder
