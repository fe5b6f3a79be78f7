"""Controls, budgets and width: what the study trains beside the nine, by fold and without outcome.

``book/protocol.md`` never pools them with the nine. Each network is held against the one that
differs from it in nothing but the control or the block, on the folds that both have.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pandas as pd

from attn_book.analysis.evidence import Evidence, of_folder
from attn_book.analysis.tables import DASH
from attn_book.analysis.words import block_of, clauses, joined, listed, phrases
from attn_book.language import N_, _, say
from attn_book.study.design import AGAINST, EXTRA, HALF_THE_EPOCHS, TWICE_THE_EPOCHS
from attn_book.study.pages import NINE, RESNET, SE, SRM, Entry

# The names of ``design.EXTRA``, in the order of the protocol.
PARTS: Mapping[str, str] = MappingProxyType(
    {
        "controls": N_("Controls"),
        "half_the_epochs": N_("Half the epochs"),
        "twice_the_epochs": N_("Twice the epochs"),
        "wider": N_("Half the published width"),
    }
)


def evidence(folder: Path, part: str) -> Evidence:
    """The runs of a part, with those of the nine that it is held against.

    Args:
        folder: the profile's results or published folder; its name is the profile's.
        part: one of ``PARTS``.
    """
    (comparison,) = EXTRA[part]
    pairs = ((AGAINST.get(entry.title, entry), entry) for entry in comparison.entries)
    entries = {entry.title: entry for pair in pairs for entry in pair}
    return of_folder(folder, replace(comparison, entries=tuple(entries.values())))


def is_trained(found: Evidence, part: str) -> bool:
    """Whether any run of the part itself has ended, finished or diverged."""
    (comparison,) = EXTRA[part]
    return any(found.runs[e.title] or found.diverged[e.title] for e in comparison.entries)


def table(found: Evidence, against: Mapping[str, Entry] = AGAINST) -> pd.DataFrame:
    """Each network's accuracy by fold, and below it how many points it is above the other one.

    Args:
        found: such as that of one part, see ``evidence``.
        against: title -> the network that it is held against, if it is.
    """
    rows = []
    for title in found.wanted:
        shares = {seed: points / 100 for seed, points in found.accuracies[title].items()}
        rows.append(_row(in_words(title), found, shares, ".4f", title))
        if title in against:
            other = against[title].title
            gains = found.gains(title, other)
            label = say("points above {network}", network=in_words(other))
            rows.append(_row(label, found, gains, "+.2f", title, other))
    return pd.DataFrame(rows).set_index(_("Network"))


def _row(
    label: str, found: Evidence, values: Mapping[int, float], form: str, *titles: str
) -> dict[str, str]:
    shown = {fold: f"{value:{form}}" for fold, value in values.items()}
    folds = found.wanted[titles[0]]
    return {
        _("Network"): label,
        **{say("Fold {fold}", fold=fold): shown.get(fold, DASH) for fold in folds},
        _("Mean"): f"{np.mean([*values.values()]):{form}}" if values else DASH,
        _("Runs"): found.progress(*titles),
    }


def by_length(folder: Path) -> str:
    """What SE and SRM add to ResNet-50 after half, all and twice the epochs, in a sentence.

    On the folds that all lengths have; nothing while there is one length alone.

    Args:
        folder: as in ``evidence``.
    """
    arms = HALF_THE_EPOCHS.entries, (RESNET, SE, SRM), TWICE_THE_EPOCHS.entries
    found = of_folder(folder, replace(NINE, entries=tuple(chain(*arms))))
    plain, *blocks = zip(*arms, strict=True)  # the entries of one network, a length each
    told = []
    for block, entries in zip((SE, SRM), blocks, strict=True):
        pairs = [(entry.title, p.title) for entry, p in zip(entries, plain, strict=True)]
        trained = [pair for pair in pairs if found.shared(*pair)]
        folds = found.shared(*chain(*trained)) if len(trained) > 1 else []
        if folds:
            one, several = (
                N_("{block} {each} epochs (fold {on})"),
                N_("{block} {each} epochs (folds {on})"),
            )
            each = listed(_after(found, pair, folds) for pair in trained)
            on = joined(map(str, folds))
            template = several if len(folds) > 1 else one
            told.append(say(template, block=block_of(block.title), each=each, on=on))
    if not told:
        return ""
    return say(
        "Points above {network}, trained as long and on the same folds: {each}.",
        network=RESNET.title,
        each=clauses(told),
    )


def _after(found: Evidence, pair: tuple[str, str], folds: Sequence[int]) -> str:
    gains, epochs = found.gains(*pair), found.runs[pair[0]][folds[0]].experiment.recipe.epochs
    mean = np.mean([gains[fold] for fold in folds])
    return say("{points:+.2f} after {epochs}", points=mean, epochs=epochs)


def in_words(title: str) -> str:
    """A network's title in today's language: "SE-ResNet-50, half width"."""
    network, *how = title.split(", ")
    return phrases([network, *map(_, how)])
