"""How sure the networks are, and which confusions a block changes: from the recorded logits."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from attn_book.analysis.findings.compared import NO_RUN, Compared, accuracy, compared, over
from attn_book.analysis.words import Finding, listed
from attn_book.language import _, say
from attn_book.records.logits import probabilities
from attn_book.records.run import Run
from attn_book.study.plan import Plan

BINS = 15


def calibration(plan: Plan, task: str, *titles: str) -> Finding:
    """Confidence against accuracy of each network, and the confusions that change the most.

    Confidence is the probability of the predicted class. The expected calibration error is that of
    Guo et al. (2017): images in ``BINS`` bins of equal width by their confidence, and the mean,
    over the images, of the distance between a bin's accuracy and its confidence.
    """
    found = compared(plan, task, titles)
    shown = [found.plain] if found.plain else []
    lines = [(title, _calibrated(found.of(title))) for title in [*shown, *found.blocks]]
    lines += [
        (say("{one} beside {other}", one=title, other=found.plain), _confusions(found, title))
        for title in found.blocks
        if found.pairs(title)
    ]
    return Finding(tuple(lines))


def _calibrated(runs: Sequence[Run]) -> str:
    if not runs:
        return _(NO_RUN)
    confidence, error = np.mean([_scores(run) for run in runs], axis=0)
    right = accuracy(runs)
    return say(
        "It is right on {right:.1%} of the validation images and gives its answers a probability "
        "of {confidence:.1%} on average{over}: {apart:.1f} points {way}. Its expected calibration "
        "error is {error:.1f} points.",
        right=right,
        confidence=confidence,
        over=over(runs),
        apart=100 * abs(confidence - right),
        way=_("too high") if confidence > right else _("too low"),
        error=100 * error,
    )


def _scores(run: Run) -> tuple[float, float]:
    """(mean confidence, expected calibration error), each from 0 to 1."""
    confidence, right = confidence_of(run)
    return float(confidence.mean()), calibration_error(confidence, right)


def confidence_of(*runs: Run) -> tuple[np.ndarray, np.ndarray]:
    """The probability of each image's predicted class, and whether it is right, over the runs."""
    read = [run.logits for run in runs]
    logits, labels = (np.concatenate(parts) for parts in zip(*read, strict=True))
    return probabilities(logits).max(axis=1), logits.argmax(axis=1) == labels


def calibration_error(confidence: np.ndarray, right: np.ndarray, bins: int = BINS) -> float:
    """Expected calibration error, from 0 to 1.

    Args:
        confidence: of each image, [N], from 0 to 1.
        right: whether the prediction is, [N].
    """
    sure, share, images = by_confidence(confidence, right, bins)
    return float((images * abs(sure - share)).sum() / len(right))


def by_confidence(
    confidence: np.ndarray, right: np.ndarray, bins: int = BINS
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Of each bin of equal width that has images: mean confidence, accuracy, number of images."""
    places = np.minimum((confidence * bins).astype(int), bins - 1)
    images = np.bincount(places, minlength=bins)
    sums = [np.bincount(places, weights=values, minlength=bins) for values in (confidence, right)]
    some = images > 0
    return sums[0][some] / images[some], sums[1][some] / images[some], images[some]


def _confusions(found: Compared, title: str) -> str:
    """The confusions that lose and gain the most images, over the seeds that both have."""
    pairs = found.pairs(title)
    ours, plain = (np.sum([pair[i].confusion for pair in pairs], axis=0) for i in (0, 1))
    if ours.shape != plain.shape:
        return _("The two were trained on different classes.")
    classes, change = pairs[0][0].classes, ours - plain
    np.fill_diagonal(change, 0)
    parts = []
    for word, place in ((_("rarer"), change.argmin()), (_("more frequent"), change.argmax())):
        true, taken = np.unravel_index(place, change.shape)
        if change[true, taken] == 0:
            parts.append(say("no confusion became {word}", word=word))
            continue
        parts.append(
            say(
                "{true} taken for {taken} became {word} ({ours:,} in place of {plain:,} of "
                "{images:,} images)",
                true=classes[true],
                taken=classes[taken],
                word=word,
                ours=ours[true, taken],
                plain=plain[true, taken],
                images=ours[true].sum(),
            )
        )
    return say("Of all confusions these changed most: {confusions}.", confusions=listed(parts))
