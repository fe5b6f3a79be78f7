"""What the figures of "Looking inside" show: gates, maps, matrices, parameters, predictions."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise

import numpy as np

from attn_book.analysis.explain import SeenImage, Transforms
from attn_book.analysis.explain.probes import CANDIDATES, pair_correlations
from attn_book.analysis.findings.scores import confidence_of
from attn_book.analysis.words import (
    Finding,
    clauses,
    counted,
    listed,
    named,
    place,
    sentences,
    span,
)
from attn_book.language import N_, _, say
from attn_book.records.run import Run

STEADY = 0.01  # between images: a gate that varies by less is nearly a constant
MOVED = 0.05  # from where it began: a gate beyond it has left its start
SA_START = 1 / (1 + math.exp(-1))  # the gates of SA before training

# Gates -------------------------------------------------------------------------------------------


def shown_blocks(gates: Mapping[str, object]) -> list[str]:
    """The last block of each stage, or four evenly chosen ones of a network without stages."""
    last = list({name.split(".")[0]: name for name in gates}.values())
    return last if len(last) > 1 else list(gates)[:: max(1, len(gates) // 4)][:4]


def gates_spread(gates: Mapping[str, np.ndarray]) -> float:
    """The standard deviation between classes of a gate, as the mean over channels."""
    return float(np.stack(list(gates.values())).std(axis=0).mean())


def channel_gates(
    gates: Mapping[str, Mapping[str, np.ndarray]],
    run: Run | None = None,
    blocks: Sequence[str] | None = None,
) -> Finding:
    """How far classes and images differ in their gates, and what of it chance would make.

    Args:
        gates: block -> class -> gate of each channel (``explain.channel_gates_by_class``).
        run: whose gates; its record has them over all validation images, as root mean squares over
            the channels.
        blocks: which blocks the figure shows; None for ``shown_blocks``.
    """
    blocks = blocks or shown_blocks(gates)
    spreads = {block: gates_spread(gates[block]) for block in blocks}
    text = say(
        "Between classes the gates differ by {spreads} (standard deviation over at most {images} "
        "images, mean over channels).",
        spreads=listed(_in_places(spreads, ".3f")),
        images=CANDIDATES,
    )
    recorded = {} if run is None else run.metrics.get("blocks", {})
    factors = {block: recorded.get(block, {}).get("factor") for block in blocks}
    if run is not None and all(factors.values()):
        return Finding.of(sentences([text, _over_all_images(run, factors)]))
    few = _(
        "So few images leave much to chance, and equal means of the classes make no gate a "
        "constant: it may vary within a class."
    )
    return Finding.of(sentences([text, few]))


def _over_all_images(run: Run, factors: Mapping[str, Mapping[str, float]]) -> str:
    """The same from the record, and what chance makes of so few images as the figure has."""
    images = run.record["data"]["validation_images"]
    between, single = ({b: f[name] for b, f in factors.items()} for name in ("classes", "images"))
    number = min(CANDIDATES, images) / len(run.classes)
    chance = [math.sqrt(max(0, single[b] ** 2 - between[b] ** 2) / number) for b in factors]
    text = say(
        "With {number:.1f} images a class, chance alone makes about {chance}. Over all {images:,} "
        "validation images the classes differ by {between}, and single images by {single} (root "
        "mean squares over channels).",
        number=number,
        chance=span(chance, ".3f"),
        images=images,
        between=listed(_in_places(between, ".3f")),
        single=span([*single.values()], ".3f"),
    )
    return sentences([text, _growth(between), _constant(single)])


def _growth(values: Mapping[str, float]) -> str:
    """Between which two blocks that follow each other a value grows the most."""
    steps = {(a, b): values[b] - values[a] for a, b in pairwise(values)}
    if not steps:
        return ""
    first, second = max(steps, key=steps.__getitem__)
    if steps[first, second] <= 0:
        return _("From none of these blocks to the next does the difference between classes grow.")
    return say(
        "The difference between classes grows most from {first} to {second}.",
        first=place(first),
        second=place(second),
    )


def _constant(single: Mapping[str, float]) -> str:
    """The blocks whose gates hardly vary between images."""
    steady = [place(block) for block, value in single.items() if value < STEADY]
    if not steady:
        return say(
            "In none of these blocks are the gates constant: between images they vary by {line} or "
            "more.",
            line=STEADY,
        )
    return say(
        "Nearly constant, with less than {line} between images, are the gates of {places}.",
        line=STEADY,
        places=listed(steady),
    )


def _in_places(values: Mapping[str, float], form: str) -> list[str]:
    return [
        say("{value} in {place}", value=f"{value:{form}}", place=place(block))
        for block, value in values.items()
    ]


def shuffle_gates(channel: np.ndarray, spatial: Mapping[str, np.ndarray]) -> Finding:
    """SA: how far the channel gates have left their start, and what the pixel gates look like.

    Args:
        channel, spatial: ``explain.View.shuffle_gates``.
    """
    text = say(
        "The {number} channel gates go from {low:.3f} to {high:.3f}; {moved} of them lie more than "
        "{line} from the {start:.3f} where training began.",
        number=len(channel),
        low=channel.min(),
        high=channel.max(),
        moved=int((abs(channel - SA_START) > MOVED).sum()),
        line=MOVED,
        start=SA_START,
    )
    maps = maps_over_image(spatial, N_("gate of the second halves"))
    return Finding.of(sentences([text, str(maps)]))


# Maps --------------------------------------------------------------------------------------------


def maps_over_image(maps: Mapping[str, np.ndarray], label: str = N_("gate")) -> Finding:
    """Which of the maps that are shown varies most and which least, and how alike they are.

    By the standard deviation over the image, as ``explain.View`` chooses them.

    Args:
        maps: title -> [h, w].
        label: what they are maps of.
    """
    order = sorted(maps, key=lambda title: -float(maps[title].std()))
    ranges = {
        title: say("{map} ({range})", map=named(title), range=_range(maps[title]))
        for title in order
    }
    text = say("The {label} over the image: {map}.", label=_(label), map=ranges[order[0]])
    if len(maps) > 1:
        text = say(
            "Of the maps shown, the {label} varies most in {most} and least in {least}.",
            label=_(label),
            most=ranges[order[0]],
            least=ranges[order[-1]],
        )
    return Finding.of(sentences([text, _likeness([*maps.values()])]))


def _range(values: np.ndarray) -> str:
    return span([float(values.min()), float(values.max())], ".3g")


def _likeness(maps: Sequence[np.ndarray]) -> str:
    """How far maps show the same places; nothing of maps of different sizes.

    Without regard to sign: one that is bright where another is dark shows the same places.
    """
    if len({values.shape for values in maps}) > 1:
        return ""
    pairs = pair_correlations(np.stack(maps))
    if not pairs.size:
        return ""
    alike = say(
        "Whatever their sign, the maps correlate by {alike:.2f} on average; at 1 all would show "
        "the same places.",
        alike=abs(pairs).mean(),
    )
    opposite = say(
        "In {opposite} of the {pairs} pairs one is bright where the other is dark.",
        opposite=int((pairs < 0).sum()),
        pairs=pairs.size,
    )
    return sentences([alike, opposite])


def query_attention(
    queries: Mapping[tuple[float, float], np.ndarray],
    context: np.ndarray | None = None,
    correlation: float | None = None,
) -> Finding:
    """How far the attention of the marked pixels is from a plain mean, and whether they differ.

    Args:
        queries, context, correlation: as in ``plots.query_attention``.
    """
    maps = [*queries.values()]
    places = len({int(values.argmax()) for values in maps})
    where = N_("all have it at the same place")
    if places > 1:
        where = N_("they have it at {places} different places")
    parts = [
        say(
            "The largest weight of the {number} marked pixels' maps is {times} times that of a "
            "plain mean; {where}.",
            number=len(maps),
            times=span([float(values.max() * values.size) for values in maps], ".1f"),
            where=say(where, places=places),
        )
    ]
    if context is not None:
        parts.append(
            say(
                "In the one map of global context it is {times:.1f} times.",
                times=context.max() * context.size,
            )
        )
    if correlation is not None and math.isfinite(correlation):
        parts.append(
            say(
                "The maps of all pixels correlate by {correlation:.2f} on average; at 1 all would "
                "look at the same places.",
                correlation=correlation,
            )
        )
    return Finding.of(sentences(parts))


def query_correlations(
    trained: Mapping[str, np.ndarray], fresh: Mapping[str, np.ndarray]
) -> Finding:
    """Whether training made the maps of a network's pixels more alike.

    Args:
        trained, fresh: block -> correlation of each image (``explain.query_correlations``).
    """
    after, before = ({b: float(np.mean(each)) for b, each in of.items()} for of in (trained, fresh))
    if not all(map(math.isfinite, [*after.values(), *before.values()])):
        return Finding.of(_("In a block fewer than two maps vary over the image."))
    return Finding.of(
        say(
            "Over these {images} images the maps correlate by {after} after training and by "
            "{before} before it; training made them more alike in {more} of {blocks}. At 1 all "
            "pixels would look at the same places.",
            images=len(next(iter(trained.values()))),
            after=span([*after.values()], ".2f"),
            before=span([*before.values()], ".2f"),
            more=sum(after[block] > before[block] for block in after),
            blocks=counted(len(after), "block"),
        )
    )


def transforms(seen: Transforms) -> Finding:
    """BAT: how far its matrices are from leaving a map as it is, and from a plain mean.

    Args:
        seen: ``explain.View.transforms``.
    """
    rows, columns = (
        [float(np.diag(matrix).mean()) for matrix in matrices]
        for matrices in (seen.rows, seen.columns)
    )
    before, after = ([float(values.std()) for values in maps] for maps in (seen.before, seen.after))
    text = say(
        "On the diagonal stand {rows} in P and {columns} in Q, as means of the {groups} groups: 1 "
        "leaves a map as it is, and {mean:.2f} is what a plain mean has everywhere. The largest "
        "weight is {largest:.2f}. Over the pixels the groups' maps vary by {before} before and "
        "{after} after.",
        rows=span(rows, ".2f"),
        columns=span(columns, ".2f"),
        groups=len(seen.rows),
        mean=1 / seen.rows.shape[-1],
        largest=max(seen.rows.max(), seen.columns.max()),
        before=span(before, ".3g"),
        after=span(after, ".3g"),
    )
    return Finding.of(text)


def walk(steps: Mapping[str, np.ndarray]) -> Finding:
    """What the block does to the magnitude of the features, and the steps between.

    Args:
        steps: ``explain.View.walk``.
    """
    before, after = steps["input"], steps["output"]
    there = before > 0
    text = say(
        "The mean magnitude of the features is {before:.3g} before the block and {after:.3g} "
        "after it.",
        before=before.mean(),
        after=after.mean(),
    )
    change = ""
    if there.any():
        by_pixel = after[there] / before[there] - 1
        change = say(
            "It changes by {whole:+.0%}, and from pixel to pixel by {pixels}.",
            whole=after.mean() / before.mean() - 1,
            pixels=span([float(by_pixel.min()), float(by_pixel.max())], "+.0%"),
        )
    inner = [
        say("{step} {mean:.3g} ({range})", step=named(t), mean=v.mean(), range=_range(v))
        for t, v in steps.items()
        if v.ndim < 3 and t not in ("input", "output")
    ]
    means = say("On the way, on average: {steps}.", steps=listed(inner)) if inner else ""
    return Finding.of(sentences([text, change, means]))


# Parameters, Grad-CAM, predictions ---------------------------------------------------------------


def parameter_spread(
    parameters: Mapping[str, Mapping[str, np.ndarray]], start: Mapping[str, float] | None = None
) -> Finding:
    """How far the blocks' parameters ended from where they began, else where their medians lie.

    Args:
        parameters, start: as in ``plots.parameter_spread``.
    """
    parts = []
    for name, values in parameters.items():
        if start and name in start:
            parts.append(_moved_by_half(name, values, start[name]))
            continue
        medians = [float(np.median(of_block)) for of_block in values.values()]
        template = N_("{parameter}: medians {span}")
        parts.append(say(template, parameter=named(name), span=span(medians, ".3g")))
    return Finding.of(say("{text}.", text=clauses(parts)))


def _moved_by_half(name: str, values: Mapping[str, np.ndarray], start: float) -> str:
    """Whatever the sign: where as many values rose as fell, their median says nothing."""
    moved = {block: float(np.median(abs(of - start))) for block, of in values.items()}
    return say(
        "{parameter}: half of the values lie more than {span} from {start:g}, where they began, "
        "farthest in {place}",
        parameter=named(name),
        span=span([*moved.values()], ".3g"),
        start=start,
        place=place(max(moved, key=lambda block: moved[block])),
    )


def grad_cam(
    evidence: Sequence[SeenImage], runs: Mapping[str, Sequence[Run]] | None = None
) -> Finding:
    """Which class is asked about, how alike the networks' maps are, and who is left out.

    How many images a network gets right says how they were chosen (``explain.grad_cams``), and not
    how good it is.

    Args:
        evidence: ``explain.grad_cams``.
        runs: those that it was asked about.
    """
    first, *others = evidence[0].maps
    titles = [first, *others]
    counts = [
        say("{network} {right}", network=title, right=sum(title in e.right for e in evidence))
        for title in titles
    ]
    parts = [
        say(
            "Each map shows what speaks for the true class, whatever the network takes the image "
            "for. The images are chosen so that as many of the networks as can be are right "
            "({counts} of {images}).",
            images=len(evidence),
            counts=listed(counts),
        )
    ]
    likeness = {title: _mean_likeness(evidence, first, title) for title in others}
    each = [
        say("{network} {right}", network=title, right=f"{alike:.2f}")
        for title, alike in likeness.items()
        if math.isfinite(alike)
    ]
    if each:
        parts.append(
            say(
                "By how much their maps correlate with those of {network}, on average: {each}; at "
                "1 they show the same places.",
                network=first,
                each=listed(each),
            )
        )
    left_out = [title for title, of in (runs or {}).items() if of and title not in titles]
    if left_out:
        parts.append(
            say(
                "Left out, since their weights of this fold are not here: {networks}.",
                networks=listed(left_out),
            )
        )
    return Finding.of(sentences(parts))


def _mean_likeness(evidence: Sequence[SeenImage], one: str, other: str) -> float:
    """The mean correlation of two networks' maps; NaN where they are of different sizes."""
    pairs = [(seen.maps[one], seen.maps[other]) for seen in evidence]
    if any(a.shape != b.shape for a, b in pairs):
        return math.nan
    found = [pair_correlations(np.stack(pair)) for pair in pairs]
    known = np.concatenate(found)  # nothing of a map that is 0 everywhere
    return float(known.mean()) if known.size else math.nan


def prediction_grid(run: Run) -> Finding:
    """How many of all validation images are right, and how sure the network is of either kind.

    Args:
        run: whose recorded logits the figure shows.
    """
    sure, right = confidence_of(run)
    text = say(
        "Of all {images:,} images {wrong:,} are taken for another class; the grid shows right and "
        "wrong ones, half of it each where there are enough.",
        images=len(right),
        wrong=int((~right).sum()),
    )
    kinds = [
        say(template, sure=sure[kind].mean())
        for template, kind in (
            (N_("{sure:.0%} where it is right"), right),
            (N_("{sure:.0%} where it is wrong"), ~right),
        )
        if kind.any()
    ]
    means = say("The mean probability of the answer is {kinds}.", kinds=listed(kinds))
    return Finding.of(sentences([text, means]))
