"""What a run folder says."""

import numpy as np
import pytest

from attn_blocks.errors import CheckpointError
from attn_blocks.tensors import save_tensors
from attn_book.records import reading, reproduction
from attn_book.training.build import build_model
from attn_book.training.checkpoint import load_model
from attn_book.training.run import write_history


def test_the_speed_of_a_run_is_that_of_its_median_epoch(run):
    write_history(
        run.folder / "history.csv",
        [
            {**dict.fromkeys(reading.HISTORY_COLUMNS, 0.5), "epoch": i + 1, "seconds": seconds}
            for i, seconds in enumerate((2.0, 2.0, 4.0, 2.0, 40.0))
        ],
    )
    assert run.epoch_seconds == 2.0
    # 5.3 images a second over 50 seconds are 265 images, 53 of them in an epoch.
    assert run.images_per_second == pytest.approx(53 / 2)


def test_a_repeat_on_few_images_may_be_further_off(run):
    def allowed(share, images):
        run.metrics.update(final_val_acc=share, confusion=[[images]])
        return reproduction.tolerance(run)

    assert allowed(0.8, 10_000) == allowed(1.0, 359) == 0.05
    # The variance of the difference of two shares of 0.8, each on 359 images.
    assert (allowed(0.8, 359) / 3) ** 2 == pytest.approx(2 * 0.8 * 0.2 / 359)


def test_weights_of_another_model_are_refused(run):
    tensors = {"w": np.zeros(3)} | {
        name: value.numpy() for name, value in build_model(run.experiment, 2).state_dict().items()
    }
    save_tensors(run.folder / "last.safetensors", tensors, {"epoch": "2"})
    with pytest.raises(
        CheckpointError, match=r"last.safetensors does not fit its model .*unknown: w"
    ):
        load_model(run)
