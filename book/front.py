"""The front page and the READMEs: what was found, in a sentence, a figure and a table."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path

from headline import TASK, columns_in_words, headline, reported_beside, steps_origin
from lessons import full_size
from matplotlib.figure import Figure
from published_results import (
    count,
    decided,
    decided_by,
    foremost,
    judged_claims,
    under_way,
    widest,
)
from texts import banner, origin, table

from attn_blocks.errors import SettingError
from attn_blocks.files import atomic_write
from attn_book.analysis import plots
from attn_book.analysis.evidence import on_record
from attn_book.analysis.judgement import (
    HERE,
    IS_BETTER,
    IS_WORSE,
    OPEN,
    OUTCOMES,
    UNDER,
    WITHIN,
    Verdict,
)
from attn_book.analysis.words import block_of, clauses, counted, joined, listed, plain, sentences
from attn_book.language import N_, _, say
from attn_book.records import planned
from attn_book.study.claims import PRIMARY
from attn_book.study.pages import RESNET
from attn_book.study.plan import Plan

README_START, README_END = "<!-- results: made by make book -->", "<!-- end of results -->"
SAID = {
    IS_BETTER: N_("{number} made it better ({blocks})"),
    IS_WORSE: N_("{number} made it worse ({blocks})"),
    WITHIN: N_("{number} stayed within 1.5 points of it ({blocks})"),
    OPEN: N_("{number} cannot be told from it by these runs ({blocks})"),
}
assert set(SAID) <= set(OUTCOMES)
README_PICTURE = "book/static/gains{}.png"  # beside the README, with its language's suffix


def write_front(plans: dict[str, dict[str, Plan]], records: Path) -> None:
    """Write ``front.md``: the answer, its figure and its table.

    Until there is a study, figure and table are those of the networks at full width.
    """
    pages, found = foremost(plans), full_size.Found()
    plan, wide = subject(pages), gains_of(found)
    image = records / "figures" / f"{plan.page}_front.png"
    sources = [plain(wide_origin(found))]
    if is_study(plan):
        figure, rows = picture(plan, wide), headline(plan, wide)
        plots.save(figure, f"{plan.provenance}\n{wide_origin(found)}", image)
        words, sources = str(figure.get_label()), [origin(plan), *sources, *steps_origin(rows)]
    else:
        lesson = full_size.animals(found)
        plots.save(lesson.figure, wide_origin(found), image)
        words, rows = lesson.alt, reported_beside(plan, wide)
    coming = [line for line in map(under_way, plans.values()) if line]
    if coming:
        coming.append(_("{doc}`All results <results>` has what was found so far."))
    width = "{doc}`" + _("At the published width") + " <full_size>`"
    text = [
        sentences([answer(pages), at_full_size_in_words(width, found)]),
        ":::::{container} answer",
        f"```{{image}} records/figures/{image.name}\n:alt: {json.dumps(words)}\n```",
        table(rows, ".results .wide"),
        ":::::",
        columns_in_words(plan, rows, "{doc}`" + _("the sources") + " <sources>`"),
        banner("\n\n".join(sources)),
        sentences([count(pages), decided_by("{doc}`" + _("The protocol") + " <protocol>`")]),
        decided(pages),
        sentences(coming),
    ]
    (records / "front.md").write_text("\n\n".join(filter(None, text)) + "\n", encoding="utf-8")


def write_readme(pages: dict[str, Plan], path: Path) -> None:
    """Put the front page's answer, figure and table between the README's result markers.

    Of a profile that tests nothing it shows no number: its gains come with the seed.
    """
    before, start, rest = path.read_text(encoding="utf-8").partition(README_START)
    _old, end, after = rest.partition(README_END)
    if not (start and end):
        raise SettingError(
            f"{path} has not both lines between which results are put; write them again: "
            f"{README_START} and {README_END}"
        )
    plan, found = subject(pages), full_size.Found()
    wide = gains_of(found)
    width = "[" + _("At the published width") + "](book/published/full_size/README.md)"
    shown = [sentences([answer(pages), at_full_size_in_words(width, found)])]
    if is_study(plan):
        figure = picture(plan, wide)
        image = README_PICTURE.format("".join(path.suffixes[:-1]))
        with atomic_write(path.parent / image, "wb") as stream:
            figure.savefig(stream, format="png", dpi=110, metadata={"Software": None})
        rows = headline(plan, wide)
        origins = [origin(plan), wide_origin(found), *steps_origin(rows)]
        shown += [
            f"![{figure.get_label()}]({image})",
            rows.to_markdown(disable_numparse=True),
            columns_in_words(plan, rows, "[" + _("the sources") + "](book/sources.md)"),
            say("Points of validation accuracy; {origin}.", origin=clauses(origins)),
        ]
    protocol = "[" + _("The protocol") + "](book/protocol.md)"
    claims = sentences([count(pages), decided_by(protocol)])
    shown += [claims, decided(pages), under_way(pages) or ""]
    with atomic_write(path) as stream:
        stream.write("\n\n".join([before + start, *filter(None, shown), end + after]))


def subject(pages: dict[str, Plan]) -> Plan:
    """The comparison that the front page shows, by itself."""
    tasks = widest(pages)
    task = TASK if TASK in tasks else next(iter(tasks))
    return tasks[task].alone(task)


def answer(pages: dict[str, Plan]) -> str:
    """What was found, in a sentence: outcomes once the blocks' family is complete, else none."""
    plan = subject(pages)
    blocks = [v for v in judged_claims(pages) if v.claim.family == PRIMARY]
    if not any(verdict.is_decided for verdict in blocks):
        return not_answered(plan)
    parts = []
    lost = [verdict for verdict in blocks if verdict.value is None]
    constant = [verdict for verdict in blocks if verdict.constant]
    for word in (IS_BETTER, IS_WORSE, WITHIN, OPEN):
        names = [_named(v) for v in blocks if v.word == word and v not in (*lost, *constant)]
        if names:
            several = joined(names) if word == OPEN else clauses(names)  # OPEN has no additions
            parts.append(say(SAID[word], number=len(names), blocks=several))
    for did, others in (
        (N_("{number} did the same to every image ({blocks})"), constant),
        (N_("{number} never finished ({blocks})"), lost),
    ):
        if others:
            names = joined(block_of(v.claim.better) for v in others)
            parts.append(say(did, number=len(others), blocks=names))
    return say(
        "**Trained exactly alike on {images} ({scope}), of {number} attention blocks added to "
        "{network}, {outcomes}.**",
        images=plan.comparisons[0].images.title,
        scope=scope(plan),
        number=len(blocks),
        network=RESNET.title,
        outcomes=listed(parts),
    )


def not_answered(plan: Plan) -> str:
    """How far the runs are that decide; of a profile that decides nothing, that it does not."""
    if plan.profile != "study":
        return say(
            "**Not answered yet:** published so far are {runs} of the profile {profile}, and only "
            "the study's test a claim.",
            runs=counted(len(plan.experiments), "run"),
            profile=plan.profile,
        )
    evidence = on_record(plan)[plan.comparisons[0].task]
    return say(
        "**Not answered yet:** of the {runs} that decide, of {networks} networks on {images} "
        "({scope}), {done} are done; until all are, there are means and no verdicts.",
        runs=counted(sum(map(len, evidence.wanted.values())), "run"),
        networks=len(evidence.wanted),
        done=evidence.ended,
        images=plan.comparisons[0].images.title,
        scope=scope(plan),
    )


def scope(plan: Plan) -> str:
    """What an answer is about: classes, size of the images, width of the networks."""
    images, recipe = plan.comparisons[0].images, plan.comparisons[0].recipe
    width = {
        1.0: N_("networks of the published width"),
        0.5: N_("networks of half the published width"),
        0.25: N_("networks of a quarter of the published width"),
    }.get(recipe.width, N_("networks of {width:g} of the published width"))
    return say(
        "{classes} of {total} classes, {pixels} pixels, {width}",
        classes=len(images.classes),
        total=images.class_total,
        pixels=recipe.image_size,
        width=say(width, width=recipe.width),
    )


def _named(verdict: Verdict) -> str:
    """A block with what its outcome adds: "SE, on these images"."""
    added = (_(words) for words in (UNDER, HERE) if words in verdict.outcome)
    return block_of(verdict.claim.better) + "".join(added)


def gains_of(found: full_size.Found) -> dict[str, float]:
    """Title -> points above ResNet-50 at the published width, the best first."""
    return {title: found.gain(TASK, title) for title in found.blocks}


def wide_origin(found: full_size.Found) -> str:
    """Where the numbers at the published width are from, in one line."""
    one = found.plain[0]
    return say(
        "full width · seeds {seeds} · {pixels} px, {epochs} epochs, a recipe of its own · {device} "
        "· PyTorch {version}",
        seeds=joined(map(str, found.animals)),
        pixels=one.recipe["image_size"],
        epochs=one.recipe["epochs"],
        device=one.compute["device"],
        version=one.compute["torch"],
    )


def at_full_size_in_words(opening: str, found: full_size.Found) -> str:
    """The gains at the published width, in a sentence that opens with a link to their page."""
    gains = say(
        "{opening}, the networks with a block, each trained {trainings} times on a GPU, ended on "
        "average this many points above (+) or below (-) {network}: {gains}.",
        opening=opening,
        trainings=len(found.plain),
        network=RESNET.title,
        gains=joined(f"{block_of(t)} {gain:+.1f}" for t, gain in gains_of(found).items()),
    )
    return sentences([gains, _("There SRM's block alone was spared weight decay.")])


def is_study(plan: Plan) -> bool:
    """Whether a plan's profile is large enough to say anything about a paper."""
    return plan.profile in ("study", "paper")


def picture(plan: Plan, wide: Mapping[str, float]) -> Figure:
    """What each block adds to ResNet-50; the accuracies where there is no ResNet-50."""
    task = plan.comparisons[0].task
    if task == TASK and len(plan.comparison(task).experiments) > 1:
        return plots.gains_at_both_widths(plan, wide)
    return plots.validation_curves(planned.runs_of(plan, task))
