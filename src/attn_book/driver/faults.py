"""The published plain network, evaluated wrongly: measured, and measured again to check it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from attn_blocks.errors import CheckpointError, DataError
from attn_blocks.files import read_json
from attn_book.analysis.faults import measure
from attn_book.analysis.words import counted
from attn_book.records import faults
from attn_book.records.published import PUBLISHED, PublishError
from attn_book.records.run import Run
from attn_book.study.plan import load_images
from attn_book.training import compute as computing
from attn_book.training.checkpoint import load_model


def measured(run: Run, published: Path, data_dir: str | Path | None = None) -> dict[str, Any]:
    """The contents of ``faults.json`` for a network whose weights are published; minutes.

    Args:
        run: see ``records.faults.subject``.
        published: the folder that holds the published profiles.
        data_dir: see ``datasets.data_folder``.

    Raises:
        DataError: the images that it was validated on are not here.
    """
    experiment = run.experiment
    images = load_images(experiment.dataset, experiment.recipe, data_dir, experiment.fold)
    if images.fingerprint != experiment.fingerprint:
        raise DataError(
            f"the images of {images.title} are others than those of {run.folder.name}; name the "
            "folder that holds them with ATTN_BLOCKS_DATA"
        )
    # As the study computes, on any machine: on the processor, in float32.
    compute = computing.compute("cpu")
    right = measure(load_model(run, published=published), images, experiment.recipe, compute)
    return faults.record_of(run, right)


def check_again(published: Path = PUBLISHED, data_dir: str | Path | None = None) -> list[str]:
    """Measure every ``faults.json`` again; a sentence for each.

    Raises:
        PublishError: there is none, or it is not about what is published.
        CheckpointError: counts differ by more than rounding explains.
        DataError: the images are not here.
    """
    folders = [path.parent for path in sorted(published.glob(f"*/{faults.FILE}"))]
    if not folders:
        raise PublishError(f"no {faults.FILE} is published yet; make publish makes it")
    sentences = []
    for folder in folders:
        run, known = faults.subject(folder), read_json(folder / faults.FILE)
        if run is None or faults.problems(folder):
            raise PublishError("; ".join(faults.problems(folder)))
        ours = measured(run, published, data_dir)
        off = {t: abs(n - known["right"][t]) for t, n in ours["right"].items()}
        title = max(off, key=lambda title: off[title])
        if off[title] > faults.ROUNDING * ours["images"]:
            raise CheckpointError(
                f"{folder.name}/{faults.FILE}: {title}: {ours['right'][title]} images are right, "
                f"its record says {known['right'][title]}"
            )
        most = counted(off[title], "image")
        sentences.append(f"{run.folder.name}: evaluated wrongly again, at most {most} off")
    return sentences
