"""The data flow of each block, as data; ``drawing`` draws it.

The shapes on the arrows are of one image: C channels, H rows and W columns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from types import MappingProxyType

from matplotlib.figure import Figure

from attn_blocks.errors import choose
from attn_blocks.layers import ATTNS, list_attns
from attn_book.analysis.drawing import Arrow, Diagram, Node, draw
from attn_book.language import N_


def learnt(x: float, y: float, text: str, width: float = 1.2) -> Node:
    """A box with parameters."""
    return Node(x, y, "learnt", text, width)


def fixed(x: float, y: float, text: str, width: float = 1.2) -> Node:
    """A box without."""
    return Node(x, y, "fixed", text, width)


def optional(node: Node) -> Node:
    """The same node, dashed."""
    return replace(node, optional=True)


def trunk(end: float, symbol: str, fork: float = 0.75) -> dict[str, Node]:
    """What all blocks share: x, a fork after it, the symbol where the branch comes back, and y."""
    return {
        "x": Node(0, 0, "word", "x"),
        "fork": Node(fork, 0, "fork"),
        "join": Node(end, 0, "symbol", symbol),
        "y": Node(end + 1.15, 0, "word", "y"),
    }


# Thin spaces keep the shapes short enough for the arrows.
def shape(*sizes: str) -> str:
    """Sizes as an arrow carries them: ``C × H × W``."""
    return "\u2009×\u2009".join(sizes)


CHW, C11, HW, HWHW = shape("C", "H", "W"), shape("C", "1", "1"), shape("H", "W"), shape("HW", "HW")
ROW = 0.95  # from the trunk down to the branch

DIAGRAMS: Mapping[str, Diagram] = MappingProxyType(
    {
        "se": Diagram(
            N_("Squeeze-and-Excitation: one gate for each channel"),
            {
                **trunk(7.9, "×"),
                "pool": fixed(1.8, ROW, "squeeze: mean\nover H × W", 1.3),
                "fc1": learnt(3.65, ROW, "1×1 conv,\nReLU", 0.95),
                "fc2": learnt(5.4, ROW, "1×1 conv", 0.95),
                "sigmoid": fixed(6.95, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "pool", route="down"),
                Arrow("pool", "fc1", C11),
                Arrow("fc1", "fc2", shape("C/r", "1", "1")),
                Arrow("fc2", "sigmoid", C11),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
        ),
        "ge": Diagram(
            N_("Gather-Excite: a gate from what is gathered over the map"),
            {
                **trunk(7.9, "×"),
                "gather": learnt(1.9, ROW, "gather: depth-wise\nH × W conv, BN", 1.5),
                "mlp": optional(learnt(4.2, ROW, "1×1 conv, ReLU,\n1×1 conv", 1.4)),
                "resize": optional(fixed(5.75, ROW, "stretch\nto H × W", 0.9)),
                "sigmoid": fixed(6.95, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "gather", route="down"),
                Arrow("gather", "mlp", C11),
                Arrow("mlp", "resize"),
                Arrow("resize", "sigmoid"),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
            N_(
                "Shown: θ at the global extent, as in the networks. Dashed, not in it: θ⁺ adds "
                "ReLU and the two\nconvolutions; extents of 2, 4 and 8 gather to a smaller map and "
                "stretch it. θ⁻ gathers by the mean."
            ),
        ),
        "srm": Diagram(
            N_("Style-based Recalibration: a gate from each channel's mean and deviation"),
            {
                **trunk(7.9, "×"),
                "style": fixed(1.8, ROW, "mean μ and\ndeviation σ", 1.1),
                "cfc": learnt(3.45, ROW, "w₁ μ + w₂ σ,\nper channel", 1.1),
                "bn": learnt(5.2, ROW, "batch norm", 1.0),
                "sigmoid": fixed(6.85, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "style", route="down"),
                Arrow("style", "cfc", shape("C", "2")),
                Arrow("cfc", "bn", C11),
                Arrow("bn", "sigmoid", C11),
                Arrow("sigmoid", "join", C11, "across"),
                Arrow("join", "y", CHW),
            ),
        ),
        "sge": Diagram(
            N_("Spatial Group-wise Enhance: a gate for each pixel of a group"),
            {
                **trunk(8.2, "×"),
                "mean": fixed(1.75, ROW, "mean over\nH × W", 1.0),
                "tap": Node(3.15, 0, "fork"),
                "dot": Node(3.15, ROW, "symbol", "·"),
                "normal": fixed(4.4, ROW, "normalise\nover H × W", 1.05),
                "affine": learnt(6.0, ROW, "scale γ,\nshift β", 0.85),
                "sigmoid": fixed(7.25, ROW, "sigmoid", 0.8),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "tap", shape("m", "H", "W")),
                Arrow("tap", "join"),
                Arrow("fork", "mean", route="down"),
                Arrow("mean", "dot", shape("m", "1", "1"), at=0.45),
                Arrow("tap", "dot", shape("m", "H", "W")),
                Arrow("dot", "normal", HW),
                Arrow("normal", "affine", HW),
                Arrow("affine", "sigmoid"),
                Arrow("sigmoid", "join", HW, "across"),
                Arrow("join", "y", shape("m", "H", "W")),
            ),
            N_(
                "One of the G groups, of m = C/G channels; each has its own γ and β.\n"
                "The dot is the inner product at every pixel."
            ),
        ),
        "sa": Diagram(
            N_("Shuffle Attention: half of a group's channels is gated by channel, half by pixel"),
            {
                "x": Node(0, 0.95, "word", "x"),
                "split": fixed(1.3, 0.95, "G groups,\neach halved", 1.0),
                "fork0": Node(1.3, 0, "fork"),
                "fork1": Node(1.3, 1.9, "fork"),
                "tap0": Node(2.15, 0, "fork"),
                "tap1": Node(2.15, 1.9, "fork"),
                "pool": fixed(3.0, 0.62, "mean over\nH × W", 0.95),
                "affine0": learnt(4.7, 0.62, "scale w,\nshift b", 0.8),
                "sigmoid0": fixed(5.75, 0.62, "sigmoid", 0.75),
                "join0": Node(6.5, 0, "symbol", "×"),
                "norm": learnt(3.0, 1.28, "norm over\nH × W", 0.95),
                "affine1": learnt(4.7, 1.28, "scale w,\nshift b", 0.8),
                "sigmoid1": fixed(5.75, 1.28, "sigmoid", 0.75),
                "join1": Node(6.5, 1.9, "symbol", "×"),
                "join": fixed(7.35, 0.95, "concatenate,\nshuffle", 1.1),
                "y": Node(8.85, 0.95, "word", "y"),
            },
            (
                Arrow("x", "split", CHW, at=0.45),
                Arrow("split", "fork0"),
                Arrow("split", "fork1"),
                Arrow("fork0", "tap0"),
                Arrow("fork1", "tap1"),
                Arrow("tap0", "join0", shape("m", "H", "W")),
                Arrow("tap1", "join1", shape("m", "H", "W"), below=True),
                Arrow("tap0", "pool", route="down"),
                Arrow("pool", "affine0", shape("m", "1", "1")),
                Arrow("affine0", "sigmoid0"),
                Arrow("sigmoid0", "join0", route="across"),
                Arrow("tap1", "norm", route="down"),
                Arrow("norm", "affine1", shape("m", "H", "W")),
                Arrow("affine1", "sigmoid1"),
                Arrow("sigmoid1", "join1", route="across"),
                Arrow("join0", "join", route="across"),
                Arrow("join1", "join", route="across"),
                Arrow("join", "y", CHW),
            ),
            N_("Each half of a group has m = C/2G channels. All groups share the parameters."),
        ),
        "nl": Diagram(
            N_("Non-local: every pixel takes in a weighted mean over all pixels"),
            {
                **trunk(8.1, "+", fork=0.55),
                "theta": learnt(1.55, 0.7, "θ: 1×1 conv", 1.1),
                "phi": learnt(1.55, 1.4, "φ: 1×1 conv", 1.1),
                "g": learnt(1.55, 2.1, "g: 1×1 conv", 1.1),
                "pairs": Node(3.15, 0.7, "symbol", "@"),
                "softmax": fixed(4.6, 0.7, "softmax over\nthe keys", 1.1),
                "mix": Node(6.05, 0.7, "symbol", "@"),
                "z": learnt(7.1, 0.7, "z: 1×1 conv,\nbatch norm", 1.15),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "theta", route="down"),
                Arrow("fork", "phi", route="down"),
                Arrow("fork", "g", route="down"),
                Arrow("theta", "pairs", shape("HW", "C/2")),
                Arrow("phi", "pairs", shape("C/2", "HW"), "across"),
                Arrow("pairs", "softmax", HWHW),
                Arrow("softmax", "mix", HWHW),
                Arrow("g", "mix", shape("HW", "C/2"), "across"),
                Arrow("mix", "z"),
                Arrow("z", "join", CHW, "across"),
                Arrow("join", "y", CHW),
            ),
            N_("@ is the matrix product. The softmax takes θ · φ divided by the root of C/2."),
        ),
        "gc": Diagram(
            N_("Global context: one weighted mean over all pixels, added to every pixel"),
            {
                **trunk(8.3, "+", fork=0.55),
                "mask": learnt(1.5, 1.55, "1×1 conv\nto 1 channel", 1.1),
                "softmax": fixed(3.05, 1.55, "softmax over\nthe pixels", 1.1),
                "tap": Node(4.0, 0, "fork"),
                "sum": Node(4.0, 0.8, "symbol", "@"),
                "conv1": learnt(5.45, 0.8, "1×1 conv, layer\nnorm, ReLU", 1.25),
                "conv2": learnt(7.4, 0.8, "1×1 conv", 0.9),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "tap", CHW),
                Arrow("tap", "join"),
                Arrow("fork", "mask", route="down"),
                Arrow("mask", "softmax"),
                Arrow("softmax", "sum", shape("HW", "1"), "across"),
                Arrow("tap", "sum", shape("C", "HW")),
                Arrow("sum", "conv1", C11),
                Arrow("conv1", "conv2", shape("C/16", "1", "1")),
                Arrow("conv2", "join", C11, "across", below=True),
                Arrow("join", "y", CHW),
            ),
            N_("@ is the matrix product."),
        ),
        "bat": Diagram(
            N_(
                "Bilinear attentional transform: rows and columns are mixed by the image's own "
                "P and Q"
            ),
            {
                **trunk(8.3, "+", fork=0.35),
                "conv1": learnt(1.05, 0.75, "1×1 conv,\nBN, ReLU", 0.9),
                "tap": Node(1.75, 0.75, "fork"),
                "P": Node(5.1, 0.75, "symbol", "@"),
                "Q": Node(6.15, 0.75, "symbol", "@"),
                "conv2": learnt(7.2, 0.75, "2 × (1×1 conv, BN,\nReLU); dropout", 1.5),
                "maps": learnt(1.75, 1.6, "1×1 conv to k\nmaps, BN, ReLU", 1.3),
                "rows": fixed(3.55, 1.6, "max-pool\nto s × 1", 0.85),
                "columns": fixed(3.55, 2.35, "max-pool\nto 1 × s", 0.85),
                "p": learnt(5.1, 1.6, "s×1 conv, sigmoid,\nrows sum to 1", 1.5),
                "q": learnt(5.1, 2.35, "1×s conv, sigmoid,\ncolumns sum to 1", 1.5),
            },
            (
                Arrow("x", "fork"),
                Arrow("fork", "join", CHW),
                Arrow("fork", "conv1", route="down"),
                Arrow("conv1", "tap"),
                Arrow("tap", "P", shape("C/2", "H", "W")),
                Arrow("tap", "maps"),
                Arrow("maps", "rows", shape("k", "H", "W")),
                Arrow("maps", "columns", route="down"),
                Arrow("rows", "p"),
                Arrow("columns", "q"),
                Arrow("p", "P", "P: " + shape("k", "s", "s")),
                Arrow("q", "Q", "Q: " + shape("k", "s", "s"), "across"),
                Arrow("P", "Q"),
                Arrow("Q", "conv2"),
                Arrow("conv2", "join", route="across"),
                Arrow("join", "y", CHW),
            ),
            N_(
                "@ is the matrix product: P mixes the s rows of blocks, Q the s columns of "
                "blocks,\nin each of k groups of channels."
            ),
        ),
    }
)


def block_diagram(name: str) -> Figure:
    """The data flow of a block, as its layer's code has it with the default settings.

    Args:
        name: one of ``list_attns()``; a block without an entry in ``DIAGRAMS`` is one box.

    Raises:
        SettingError: no such block.
    """
    choose("attention block", name, list_attns())
    return draw(DIAGRAMS.get(name) or plain_diagram(ATTNS[name].__name__))


def plain_diagram(title: str) -> Diagram:
    """A block of which nothing is known but that its output has its input's shape."""
    nodes = {
        "x": Node(0, 0, "word", "x"),
        "block": learnt(2.4, 0, title, width=0.5 + 0.09 * len(title)),
        "y": Node(4.8, 0, "word", "y"),
    }
    return Diagram(title, nodes, (Arrow("x", "block", CHW), Arrow("block", "y", CHW)))
