"""``attn-book predict``: what a run's weights see in images, and where."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import paddle

from attn_blocks import datasets
from attn_blocks.datasets.decode import decode_files
from attn_blocks.device import select_device
from attn_blocks.errors import CheckpointError, DataError, SettingError, choose
from attn_blocks.files import need_checkout
from attn_blocks.models import list_models
from attn_book.records.published import PUBLISHED, weights_of
from attn_book.records.recorded import entry_of, finished_runs
from attn_book.records.run import WEIGHTS, Run
from attn_book.study.pages import OVERVIEW, PAGES, title_of
from attn_book.study.plan import images_in_words
from attn_book.study.recipes import PROFILES
from attn_book.training.build import channel_statistics
from attn_book.training.checkpoint import load_model

BATCH = 32
MODEL = "resnet50"  # whose published weights are taken where neither weights nor a model are named


def predict(
    images: Sequence[str | Path], weights: str | Path, top: int = 1
) -> dict[str, list[tuple[str, float]]]:
    """Classify images as the run's validation images were: decoded, cropped and scaled alike.

    Args:
        images: files in any format that ``datasets`` reads.
        weights: a run's folder, of which the last weights are taken, or a weights file in it; the
            folder's ``experiment.json`` says what network they belong to, and its classes.
        top: how many classes are given for an image, the likeliest first.

    Returns:
        Image -> classes with their probability, the network's softmax, in [0, 1].

    Raises:
        CheckpointError: no weights, or weights that do not fit the network.
        DataError: an image that cannot be read.
        SettingError: ``top`` is below 1.
    """
    if top < 1:
        raise SettingError(f"top is {top}; at least one class is shown")
    run, which = _run_of(Path(weights))
    select_device()
    model = load_model(run, which)
    pixels = _pixels([str(image) for image in images], run)
    parts = []
    with paddle.no_grad():
        for start in range(0, len(pixels), BATCH):
            logits = model(paddle.to_tensor(pixels[start : start + BATCH]))
            parts.append(paddle.nn.functional.softmax(logits).numpy())
    found = {}
    for image, probabilities in zip(images, np.concatenate(parts), strict=True):
        best = np.argsort(-probabilities, kind="stable")[:top]
        found[str(image)] = [(run.classes[label], float(probabilities[label])) for label in best]
    return found


def draw_cams(
    images: Sequence[str | Path], weights: str | Path, folder: str | Path
) -> dict[str, Path]:
    """Draw Grad-CAM of each image's likeliest class into ``<folder>/<image's name>-cam.png``.

    Args:
        images, weights: as in ``predict``.
        folder: made if it is missing; a file that is there is never replaced.

    Returns:
        Image -> its picture.

    Raises:
        CheckpointError, DataError: as in ``predict``.
        SettingError: a picture would take the place of a file, or of another one.
        StorageError: the folder cannot be written.
    """
    # Here, since it loads matplotlib, which predicting does not need.
    from attn_book.analysis import explain, plots

    targets = _targets(images, Path(folder))
    run, which = _run_of(Path(weights))
    select_device()
    model = load_model(run, which)
    title = title_of(run.experiment)
    for target, inputs in zip(targets, _pixels([str(image) for image in images], run), strict=True):
        (shares,) = explain.predict(model, inputs[None])
        label = int(shares.argmax())
        (values,) = explain.grad_cam(model, inputs[None], [label])
        (picture,) = explain.pictures(run.experiment.dataset, inputs[None], run.experiment.recipe)
        name, share = run.classes[label], float(shares[label])
        seen = explain.SeenImage(picture, name, {title: values}, {title: share})
        plots.save(plots.grad_cam([seen]), provenance(run), target)
    return dict(zip(map(str, images), targets, strict=True))


def _targets(images: Sequence[str | Path], folder: Path) -> list[Path]:
    """Where the pictures go; an error where one would replace another or a file."""
    targets = [folder / f"{Path(image).stem}-cam.png" for image in images]
    for target, count in Counter(targets).items():
        if count > 1:
            raise SettingError(f"{count} images would be drawn to {target}; draw them one by one")
        if target.exists():
            raise SettingError(f"{target} is there already; remove it or name another folder")
    return targets


def published_run(model: str = MODEL, published: Path = PUBLISHED) -> Run:
    """The run of a network of the book whose weights are published.

    Of several, one of the profile that says most (paper, study, quick, smoke), and of that one on
    the task that comes first on the page of all comparisons.

    Raises:
        CheckpointError: none are published; with the networks that have some.
        SettingError: no such network; or the packages are installed without what is published.
    """
    if published == PUBLISHED:
        need_checkout("predict without --weights")
    found: dict[str, Run] = {}
    for profile in reversed(list(PROFILES)):
        runs = finished_runs(published / profile).values()
        there = [run for run in runs if weights_of(run, published)]
        for comparison in PAGES[OVERVIEW]:
            for entry in comparison.entries:
                for run in there:
                    if entry_of(comparison, run.experiment, profile) is entry:
                        found.setdefault(entry.model, run)
    if model not in found:
        choose("model", model, list_models())
        raise CheckpointError(
            f"no weights of {model} are published; published are those of: "
            f"{', '.join(sorted(found)) or 'no network'}. To make some: make reproduce-all "
            "PROFILE=quick, and then --weights results/quick/runs/<run> in place of --model"
        )
    return found[model]


def provenance(run: Run) -> str:
    """Network, profile, data, size of the images and the network, fold, seed and device."""
    recipe, profile = run.experiment.recipe, run.folder.parents[1].name
    parts = [
        title_of(run.experiment),
        f"profile {profile}" if profile in PROFILES else "",
        images_in_words(run.record["data"]["label"], recipe.image_size, recipe.width),
        f"fold {run.experiment.fold}, seed {run.experiment.seed}",
        run.record["compute"]["device"],
    ]
    return " · ".join(filter(None, parts))


def _run_of(weights: Path) -> tuple[Run, str]:
    """The run that weights belong to, and which of its weights they are."""
    weights = weights.absolute()
    folder, name = (weights, WEIGHTS[1]) if weights.is_dir() else (weights.parent, weights.name)
    if name not in WEIGHTS or not (folder / "experiment.json").exists():
        raise CheckpointError(
            f"{weights} is no run's folder, and no {' or '.join(WEIGHTS)} in one; beside the "
            "weights must lie the run's experiment.json, which says what network they belong to"
        )
    return Run(folder), Path(name).stem


def _pixels(images: Sequence[str], run: Run) -> np.ndarray:
    """The images as the network takes them, float32 [N, 3, S, S]."""
    recipe = run.experiment.recipe
    decoded = list(decode_files(images, recipe.stored_side))
    unread = [
        f"{image}: {outcome.reason}"
        for image, outcome in zip(images, decoded, strict=True)
        if outcome.pixels is None
    ]
    if unread:
        raise DataError("; ".join(unread))
    transform = datasets.create_transform(
        recipe.augmentation,
        recipe.image_size,
        *channel_statistics(run.experiment.dataset, recipe),
        train=False,
    )
    whole = [outcome.pixels for outcome in decoded if outcome.pixels is not None]
    ends = np.cumsum([image.size for image in whole])
    stored = datasets.Images(
        pixels=np.concatenate([image.ravel() for image in whole]),
        offsets=ends - [image.size for image in whole],
        sizes=np.array([image.shape[:2] for image in whole]),
        labels=np.zeros(len(whole), dtype=np.int64),  # not known, and not used
    )
    return transform(stored, np.arange(len(whole)), np.random.default_rng(0))
