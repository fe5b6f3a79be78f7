"""Training speed with the native operators over that with Paddle's own, in one process.

Both models take their steps in turns, so that whatever else the machine does meets both; the ratio
is the median over the rounds. Writes ``operators.csv``.

    python benchmarks/operators.py [--rounds 5] [--models resnet50 ...]
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import common

import attn_blocks as ab
import attn_book  # noqa: F401  (before paddle: it tunes the process)
from attn_blocks import native

# model name: arguments of create_model, batch size, image size
CASES = {
    "resnet50": ("resnet50", {"stem": "imagenet"}, 32, 64),
    "resnet18": ("resnet18", {"stem": "imagenet"}, 32, 64),
    "resnet50-width0.25": ("resnet50", {"stem": "small", "width": 0.25}, 64, 56),
    "resnet18-cifar-width0.25": ("resnet18", {"stem": "cifar", "width": 0.25}, 128, 32),
}


def training_step(case: str, accelerated: bool) -> Callable[[], None]:
    """A function that trains the model of ``case`` for one step on random images."""
    import models
    import paddle

    name, options, batch, size = CASES[case]
    paddle.set_device("cpu")
    paddle.seed(0)
    model = ab.create_model(name, num_classes=10, image_size=size, **options)
    if accelerated:
        native.accelerate(model)
    return models.steps(model, batch, size)["train"]


def measure(case: str, rounds: int) -> dict[str, object]:
    own, fast = training_step(case, False), training_step(case, True)
    turns = [partial(common.turn, step, 0.3) for step in (own, fast)]
    seconds = common.in_turns(turns, rounds, warm_up=2)  # allocation, and oneDNN's kernels
    batch, size = CASES[case][2:]
    return {
        "model": case,
        "image_size": size,
        "batch": batch,
        "paddle": f"{batch / common.middle(seconds, 0):.1f}",
        "native": f"{batch / common.middle(seconds, 1):.1f}",
        "ratio": f"{common.ratio(seconds, above=0, below=1):.2f}",
    }


def main(arguments: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=5, help="timed turns a side (%(default)s)")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    parser.add_argument("--results", type=Path, help=common.FOLDERS)
    options = parser.parse_args(arguments)
    if not native.available():
        sys.exit(native.build())
    rows = []
    for case in options.models:
        rows.append(measure(case, options.rounds))
        common.show(rows[-1])
    command = f"python benchmarks/operators.py --rounds {options.rounds}"
    is_whole = options.models == list(CASES)
    if not is_whole:
        command += f" --models {' '.join(options.models)}"
    threads = int(os.environ.get("OMP_NUM_THREADS", "1"))
    words = {
        "title": "The native operators beside Paddle's own",
        "about": "Convolution, batch norm, ReLU and addition. Training, images a second, of the "
        "same network with the one and the other; everything else is equal.",
    }
    folder = common.results_folder(options.results, is_whole)
    print(common.record("operators", rows, command, threads, folder=folder, **words))


if __name__ == "__main__":
    main()
