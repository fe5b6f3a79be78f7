"""Every network of the book beside its twin in PyTorch: training and inference, images a second.

    python benchmarks/models.py --peer .venv-torch/bin/python [--rounds 5] [--models resnet50 ...]

Paddle and PyTorch run in two processes that take their steps in turns, each with as many threads
as there are cores, on the same random images: float32, PyTorch eagerly and channels-last. Ratios
above 1 mean that the book's network is the faster one. ResNet-50 is also timed in the modes that
trade something for speed. Writes ``models.csv`` and ``resnet50_modes.csv``.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import common
from common import Worker

import attn_blocks as ab
import attn_book  # noqa: F401  (before paddle: it tunes the process)
from attn_blocks import native

CLASSES = 10
# batch size, image size and options of create_model; networks that are not named: like ResNet-50
CASES = {
    "resnet50": (32, 64, {}),
    "senet_cifar": (128, 32, {"width": 0.25}),
    "sa_inception": (32, 128, {}),
}
WORDS = {
    "title": "Every network beside its twin in PyTorch",
    "about": "Images a second in training and in inference, the book's network beside the same one "
    "in PyTorch (eager, float32, channels-last), in turns on the same processor. A ratio above 1: "
    "the book's is the faster one.",
}
MODE_WORDS = {
    "title": "ResNet-50 in the modes that trade something for speed",
    "about": "Images a second, all modes in turns, and as ratios to Paddle in float32. Bfloat16 "
    "products are a setting of the native operators, off unless asked for; PyTorch's bfloat16 is "
    "its automatic mixed precision. Both multiply with three digits instead of seven.",
}
EQUAL = 0.02  # ratios this close to 1 are called equal


def case(model: str) -> tuple[int, int, dict]:
    return CASES.get(model, CASES["resnet50"])


# Paddle's side -----------------------------------------------------------------------------------


def build(model: str, batch: int, image_size: int, options: dict) -> tuple[common.Steps, dict]:
    """The book's network and its steps, as ``common.serve`` wants them."""
    import paddle

    paddle.set_device("cpu")
    paddle.seed(0)
    network = ab.create_model(model, num_classes=CLASSES, image_size=image_size, **options)
    native.accelerate(network)
    facts = {
        "width": network.settings["width"],
        "threads": int(os.environ.get("OMP_NUM_THREADS", "1")),
    }
    return steps(network, batch, image_size), facts_of(network) | facts


def facts_of(network) -> dict:
    """What a twin is built and checked by: parameters, its blocks' settings, where NL stands."""
    modules = [name for name, _ in network.named_sublayers()]
    return {
        "params": ab.count_params(network),
        "attn": network.settings.get("attn", {}),
        "between": [name for name in modules if re.fullmatch(r"layer\d\.nl\d+", name)],
    }


def steps(network, batch: int, image_size: int) -> dict[str, Callable[[], None]]:
    """Training and inference steps on random images."""
    import paddle
    import paddle.nn.functional as F

    optimiser = paddle.optimizer.Momentum(
        0.01, 0.9, parameters=network.parameters(), weight_decay=1e-4
    )
    images = paddle.randn([batch, 3, image_size, image_size])
    labels = paddle.randint(0, CLASSES, [batch])

    def train() -> None:
        if not network.training:
            network.train()
        loss = F.cross_entropy(network(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.clear_grad()
        float(loss)

    @paddle.no_grad()
    def inference() -> None:
        if network.training:
            network.eval()
        network(images)

    return {"train": train, "inference": inference}


# The comparison ----------------------------------------------------------------------------------


def paddle_side(bfloat16: bool = False) -> Worker:
    environment = os.environ | {"ATTN_BLOCKS_NATIVE_BF16": str(int(bfloat16))}
    return Worker([sys.executable, __file__, "--serve"], environment)


def torch_side(interpreter: Path) -> Worker:
    # As its user would start it: with our number of threads and of large pages, which help it too.
    environment = {k: v for k, v in os.environ.items() if k != "MKL_DEBUG_CPU_TYPE"}
    return Worker([interpreter, common.HERE / "torch_twins.py"], environment)


def build_pair(model: str, ours: Worker, theirs: Worker, **mode: str) -> tuple[dict, dict]:
    """Make a network on both sides; their facts. Stops if the two are not the same network."""
    batch, size, options = case(model)
    own = ours.build(model=model, batch=batch, image_size=size, options=options)
    told = {"attn": own["attn"], "between": own["between"]}
    peer = theirs.build(model=model, batch=batch, image_size=size, **told, **mode)
    common.check_twin(model, own["params"], peer["params"])
    if own["threads"] != peer["threads"]:
        raise RuntimeError(f"{own['threads']} threads against {peer['threads']}")
    return own, peer


def compare(model: str, ours: Worker, theirs: Worker, rounds: int) -> tuple[dict, dict]:
    """A row of ``models.csv``, and the peer's facts."""
    own, peer = build_pair(model, ours, theirs)
    batch, size, _ = case(model)
    row = {
        "model": model,
        "width": own["width"],
        "image_size": size,
        "batch": batch,
        "parameters": own["params"],
    }
    for step in ("train", "inference"):
        seconds = common.in_turns([partial(side.turn, step) for side in (ours, theirs)], rounds)
        row |= {
            step: f"{batch / common.middle(seconds, 0):.1f}",
            f"torch_{step}": f"{batch / common.middle(seconds, 1):.1f}",
            f"{step}_ratio": f"{common.ratio(seconds, above=1, below=0):.2f}",
        }
    return row, peer


def compare_modes(interpreter: Path, rounds: int) -> list[dict]:
    """Rows of ``resnet50_modes.csv``: one a mode, each a process of its own, all in turns."""
    batch, size, options = case("resnet50")
    experiment = {"model": "resnet50", "batch": batch, "image_size": size}
    with ExitStack() as stack:
        sides = {}
        for mode in ("float32", "bfloat16 products"):
            side = sides["Paddle", mode] = stack.enter_context(paddle_side(mode != "float32"))
            side.build(**experiment, options=options)
        for mode in ("eager", "compiled", "bfloat16"):
            side = stack.enter_context(torch_side(interpreter))
            try:
                side.build(**experiment, attn={}, between=[], mode=mode)
            except RuntimeError as error:  # compiling needs a compiler, and more
                print(f"PyTorch {mode} is left out: {error}", file=sys.stderr)
            else:
                sides["PyTorch", mode] = side
        rows = [
            {"framework": framework, "mode": mode, "image_size": size, "batch": batch}
            for framework, mode in sides
        ]
        for step in ("train", "inference"):
            turns = [partial(side.turn, step) for side in sides.values()]
            seconds = common.in_turns(turns, rounds, warm_up=2)
            for number, row in enumerate(rows):
                row[step] = f"{batch / common.middle(seconds, number):.1f}"
                row[f"{step}_ratio"] = f"{common.ratio(seconds, above=0, below=number):.2f}"
        return rows


def slower(rows: Sequence[dict]) -> str:
    """In a sentence, what is slower than PyTorch; within two percent counts as equal."""
    found = []
    for step, word in (("train", "training"), ("inference", "inference")):
        behind = [r for r in rows if float(r[f"{step}_ratio"]) < 1 - EQUAL]
        listed = ", ".join(f"{r['model']} {r[f'{step}_ratio']}" for r in behind)
        found.append(
            f"In {word} {len(behind)} of {len(rows)} are slower than PyTorch"
            + (f": {listed}." if behind else ".")
        )
    return " ".join(found)


def main(arguments: Sequence[str] | None = None) -> None:
    if "--serve" in (sys.argv if arguments is None else arguments):
        common.serve(build)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer",
        type=Path,
        required=True,
        metavar="PYTHON",
        help="an interpreter that has torch and timm",
    )
    parser.add_argument("--rounds", type=int, default=5, help="timed turns a side (%(default)s)")
    parser.add_argument(
        "--models",
        nargs="*",
        choices=ab.list_models(),
        default=ab.list_models(),
        metavar="MODEL",
        help="all by default; none: modes only",
    )
    parser.add_argument("--no-modes", action="store_true", help="leave ResNet-50's modes out")
    parser.add_argument("--results", type=Path, help=common.FOLDERS)
    options = parser.parse_args(arguments)
    print(native.build(), flush=True)
    rows = []
    with paddle_side() as ours, torch_side(options.peer) as theirs:
        for model in options.models:
            row, peer = compare(model, ours, theirs, options.rounds)
            common.show(row)
            rows.append(row)
        if not rows:
            _, peer = build_pair("resnet50", ours, theirs)
    command = f"python benchmarks/models.py --peer PYTHON --rounds {options.rounds}"
    if options.models != ab.list_models():
        command += f" --models {' '.join(options.models)}"
    told = {
        "command": command,
        "threads": peer["threads"],
        "peer": peer["versions"],
        "folder": common.results_folder(options.results, options.models in ([], ab.list_models())),
    }
    if rows:
        print(common.record("models", rows, **told, **WORDS, finding=slower(rows)))
    if not options.no_modes:
        rows = compare_modes(options.peer, options.rounds)
        for row in rows:
            common.show(row)
        print(common.record("resnet50_modes", rows, **told, **MODE_WORDS))


if __name__ == "__main__":
    main()
