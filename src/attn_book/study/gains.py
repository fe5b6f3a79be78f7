"""What the blocks gain on ImageNet, as others published it, and where each number was read.

A gain depends on the baseline and on the training, so that no number stands here without both, and
none that was only heard of: a block without a number that could be read is in ``UNKNOWN``. The
table is a part of ``book/sources.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType

from attn_book.language import N_
from attn_book.study.pages import BAT, GC, GE, NL, SA, SE, SGE, SRM


@dataclass(frozen=True)
class Gain:
    """Points of top-1 accuracy that a block adds to ResNet-50 on ImageNet, single crop.

    Attributes:
        block: title of the network with the block.
        points: the gain.
        source: who says so and where, short enough to stand beside the number.
        url: where it was read.
        baseline: top-1 accuracy of the plain network beside it, in percent; None where the source
            prints the gain alone.
        recipe: how both were trained, as far as the source says.
        is_own: whether the block's own authors say so. Others' numbers are listed, and stand
            nowhere else.
    """

    block: str
    points: float
    source: str
    url: str
    baseline: float | None
    recipe: str
    is_own: bool = True

    @property
    def text(self) -> str:
        """The number, and who says so."""
        return f"{self.points:+.2f} ({self.source})"


_SE_THREAD = "https://github.com/hujie-frank/SENet/issues/65"
_INSIGHT = "https://github.com/implus/PytorchInsight/blob/2864528f8b83f52c3df76f7c3804aa468b91e5cf/README.md"
_INSIGHT_RECIPE = N_(
    "one for all: 100 epochs, rate 0.1 divided by 10 every 30, decay 1e-4, batch 256"
)

# The first of a block's own authors is the one that is printed beside our numbers.
GAINS: tuple[Gain, ...] = (
    Gain(
        SE.title,
        1.51,
        "SE paper, table 2",
        _SE_THREAD,
        75.20,
        N_("the authors' own baseline; batch 1,024, rate 0.6"),
    ),
    Gain(
        SE.title,
        1.02,
        "SE paper, tables 10 and 13",
        _SE_THREAD,
        76.70,
        N_("another schedule than table 2's, say the authors"),
    ),
    Gain(SE.title, 0.80, "SGE authors' README", _INSIGHT, 76.384, _INSIGHT_RECIPE, is_own=False),
    Gain(SGE.title, 1.20, "SGE authors' README", _INSIGHT, 76.384, _INSIGHT_RECIPE),
    Gain(
        SA.title,
        1.34,
        "SA paper, abstract",
        "https://arxiv.org/abs/2102.00240",
        None,
        N_('not in the abstract, which says "more than 1.34%"'),
    ),
)

# Blocks of which no gain could be read, with what could be.
UNKNOWN: Mapping[str, str] = MappingProxyType(
    {
        GE.title: N_(
            "The official repository prints no accuracy, and the paper's tables could not be read."
        ),
        SRM.title: N_(
            "The official repository shows its table as a picture alone, and the paper's "
            "could not be read."
        ),
        NL.title: N_(
            "The official repository is about video: on Kinetics its five blocks bring "
            "ResNet-50 from 72.0 to 73.9. It prints nothing on ImageNet."
        ),
        GC.title: N_(
            "The official repository is about detection. By its issues 10 and 22, the "
            "paper's networks on ImageNet are a trained ResNet-50, trained on with the block; "
            "their accuracies could not be read. The placement is another as well: inside the "
            "bottlenecks, and not at five places between them."
        ),
        BAT.title: N_(
            "The official repository prints 78.3 with the block and no baseline beside it."
        ),
    }
)


def published_gain(block: str) -> Gain | None:
    """The gain that a block's own authors publish; None for a block of ``UNKNOWN``."""
    return next((gain for gain in GAINS if gain.block == block and gain.is_own), None)
