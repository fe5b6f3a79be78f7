"""One published run trained again, and compared."""

from __future__ import annotations

import os
import random
import tempfile
from pathlib import Path
from typing import Any

from attn_blocks.errors import choose
from attn_book.driver.processes import Task, Worker
from attn_book.records.published import PUBLISHED, PublishError
from attn_book.records.recorded import finished_runs
from attn_book.records.reproduction import check_reproduction
from attn_book.records.run import Run, folders_in

LONGEST_RETRAINING = 15 * 60


def retrain(name: str | None = None, published: Path = PUBLISHED, data_dir: Any = None) -> str:
    """Train a published run again, in a process with its number of threads, and compare.

    Args:
        name: the run's name; None for one that took at most 15 minutes, at random.
        published: the folder that holds the published profiles.
        data_dir: see ``datasets.data_folder``.

    Returns:
        A sentence: identical to the last bit, or how far the final accuracy is off.

    Raises:
        PublishError: there is no such run, or the training failed.
        CheckpointError: the final accuracy differs by more than ``reproduction.tolerance``.
    """
    runs: dict[str, Run] = {}
    for folder in folders_in(published):
        runs |= finished_runs(folder)
    if name is None:
        short = [n for n, run in runs.items() if run.metrics["seconds"] <= LONGEST_RETRAINING]
        if not short:
            raise PublishError("no published run is short enough to be trained again")
        name = random.choice(short)
    known = runs[choose("published run", name, runs)]
    compute = known.record["compute"]
    with tempfile.TemporaryDirectory() as temporary:
        request = {
            "experiment": known.experiment.to_dict(),
            "results_dir": temporary,
            "data_dir": data_dir and str(data_dir),
            "device": compute["device"],
        }
        environment = os.environ | {"OMP_NUM_THREADS": str(compute["threads"])}
        folder = Path(temporary)
        task = Task(name, "train", request, folder, ".claim", None, lambda: False)
        _, error = Worker(task, environment).result()
        ours = Run(folder / "runs" / name)
        if error or ours.status != "finished":
            reason = error or ours.metrics["reason"]
            raise PublishError(f"{name} could not be trained again: {reason}")
        return check_reproduction(known, ours)
