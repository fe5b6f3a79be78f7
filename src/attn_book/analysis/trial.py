"""A block of the reader's own beside the plain network, on drawn images and in two epochs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pandas as pd
from paddle import nn

from attn_blocks.models import count_params
from attn_book.language import _, say
from attn_book.study.experiment import Experiment
from attn_book.study.plan import Plan, load_images
from attn_book.study.recipes import PROFILES
from attn_book.training.build import build_model, prepare
from attn_book.training.compute import compute
from attn_book.training.loop import train


def try_out(
    plan: Plan,
    *blocks: str | Callable[[int], nn.Layer],
    placement: str | None = None,
    epochs: int = 2,
    seed: int = 0,
) -> pd.DataFrame:
    """Train ResNet-18 without a block and with each of ``blocks``, all alike: a row for each.

    Two epochs of one seed on 1,000 drawn images show that a block computes and that gradients reach
    it. Which network is better they do not show.

    Args:
        plan: the page, for its device and data folder; with profile smoke there are 40 images.
        blocks: what ``create_model`` takes for ``attn``: a class or a function of the channel
            count, or the name of a registered block.
        placement: where in the network they stand, see ``create_model``.
        epochs: passes over the images.
        seed: of initial values, order and augmentation.
    """
    profile, count = ("smoke", 40) if plan.profile == "smoke" else ("quick", 1000)
    recipe = PROFILES[profile].recipes["animals10"]
    recipe = replace(recipe, epochs=epochs, batch_size=16, train_images=count)
    images = load_images("shapes", recipe, plan.data_dir)
    rows = {}
    for block in (None, *blocks):
        options = {} if block is None else {"attn": block, "placement": placement}
        experiment = Experiment(images.name, images.fingerprint, "resnet18", recipe, seed, options)
        # What the networks have in common starts equal.
        network = build_model(experiment, len(images.classes))
        history = list(train(prepare(network, images, recipe, seed, compute(plan.device))))
        title = _("no block") if block is None else getattr(block, "__name__", str(block))
        rows[title] = {
            _("parameters"): f"{count_params(network):,}",
            **{
                say("loss, epoch {epoch}", epoch=each.epoch): f"{each.train_loss:.3f}"
                for each in history
            },
            _("validation accuracy"): f"{history[-1].val_acc:.3f}",
        }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("ResNet-18")
