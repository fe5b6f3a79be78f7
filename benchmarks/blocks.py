"""What each attention block adds to a training step of ResNet-50, in Paddle and in PyTorch.

    python benchmarks/blocks.py [--peer .venv-torch/bin/python] [--rounds 15] [--blocks se ...]

A process holds the plain network and the one with blocks, and steps through them in turns; what is
compared is the added share of the plain step, each framework's against its own plain network. A
ratio below 1 means that the block costs less in the book. PyTorch runs twice, channels-last (where
its plain network is faster) and in its default layout. Steps run on one thread, as the book's jobs
do, and are counted in seconds of processor time, which other programs disturb least.

The memory of a non-local block on maps of 56x56 is measured too, beside that of its largest matrix,
the pairs of pixels. Writes ``blocks.csv`` and ``nl_memory.csv``.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path

import common
from common import Worker

# The networks of the quick profile, and full-width ones on images of 64 pixels.
CASES = {
    "quick": {"width": 0.25, "stem": "small", "image_size": 56, "batch": 64},
    "full": {"width": 1.0, "stem": "imagenet", "image_size": 64, "batch": 16},
}
LAYOUTS = {"torch": "eager", "torch_contiguous": "contiguous"}  # columns: mode of torch_twins
NL_SHAPE = (4, 64, 56, 56)
WORDS = {
    "title": "What each block adds to a training step",
    "about": "ResNet-50 without and with the block in turns, on one thread, in time of the "
    "processor; what the block adds is given as a share of the plain step, for each framework of "
    "its own. PyTorch (eager, float32) is measured channels-last and in its default, contiguous "
    "layout. A ratio below 1: the block adds less in the book.",
}
MEMORY_WORDS = {
    "title": "The memory of a non-local block",
    "about": "The peak of one block, forward and backward, in a process of its own, beside the "
    "matrix of all pairs of pixels; subsampling pools the keys first. The book's setting is to "
    "keep freed memory, which costs the gaps between tensors; returned is the system's own way.",
}
NL_KEYS = {None: 56 * 56, "input": 28 * 28, "projections": 28 * 28}  # by the setting ``subsample``


# The workers' side -------------------------------------------------------------------------------


def build_paddle(block: str, **case: object) -> tuple[common.Steps, dict]:
    """Training steps of plain ResNet-50 and of the one with ``block``."""
    import models  # before paddle
    import paddle

    import attn_blocks as ab
    from attn_blocks import native

    paddle.set_device("cpu")
    if block == "nl memory":
        layer = ab.create_attn("nl", NL_SHAPE[1], subsample=case["subsample"])
        return {}, {"bytes": _paddle_peak(layer)}
    size, batch = case["image_size"], case.pop("batch")
    steps, facts = {}, {}
    for name in ("resnet50", f"{block}_resnet50"):
        paddle.seed(0)
        network = native.accelerate(ab.create_model(name, num_classes=10, **case))
        steps[name] = models.steps(network, batch, size)["train"]
        facts[name] = models.facts_of(network)
    return steps, {"networks": facts}


def build_torch(
    block: str,
    networks: Mapping[str, Mapping] | None = None,
    width: float = 1.0,
    stem: str = "imagenet",
    image_size: int = 64,
    batch: int = 16,
) -> tuple[common.Steps, dict]:
    """The same steps of the twins, in each layout; ``networks`` are the facts of Paddle's side."""
    import torch
    import torch_twins

    told = {"versions": common.versions(), "threads": torch.get_num_threads()}
    if block == "nl memory":
        layer = torch_twins.NonLocalAttn(NL_SHAPE[1], rd_ratio=1 / 2)
        return {}, {**told, "bytes": _torch_peak(layer)}
    steps: dict[str, Callable[[], None]] = {}
    for name, facts in networks.items():
        for column, mode in LAYOUTS.items():
            torch.manual_seed(0)
            twin = torch_twins.create(name, facts["attn"], facts["between"], width, stem)
            params = sum(parameter.numel() for parameter in twin.parameters())
            common.check_twin(name, facts["params"], params)
            steps[f"{name} {column}"] = torch_twins.steps(twin, batch, image_size, mode)["train"]
    return steps, told


def peak_memory(step: Callable[[], object]) -> int:
    """Bytes by which the process grows at most while ``step`` runs (Linux)."""
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _status("VmRSS")
    step()
    return _status("VmHWM") - before


def _status(field: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(field))


def _paddle_peak(layer) -> int:
    import paddle

    def step(side: int) -> None:
        x = paddle.randn([*NL_SHAPE[:2], side, side])
        x.stop_gradient = False
        layer(x).sum().backward()

    step(8)  # kernels are loaded
    return peak_memory(partial(step, NL_SHAPE[2]))


def _torch_peak(layer) -> int:
    import torch

    def step(side: int) -> None:
        layer(torch.randn(*NL_SHAPE[:2], side, side, requires_grad=True)).sum().backward()

    step(8)
    return peak_memory(partial(step, NL_SHAPE[2]))


# The comparison ----------------------------------------------------------------------------------


def worker(framework: str, interpreter: Path | str, **environment: str) -> Worker:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    return Worker([interpreter, __file__, "--serve", framework], environment)


def compare(
    block: str, case: Mapping[str, object], ours: Worker, theirs: Worker | None, rounds: int
) -> dict:
    """A row of ``blocks.csv``."""
    plain, added = "resnet50", f"{block}_resnet50"
    networks = ours.build(block=block, **case)["networks"]
    turns = [partial(ours.turn, name) for name in (plain, added)]
    columns = [""]
    if theirs:
        theirs.build(block=block, networks=networks, **case)
        columns += [f"{column}_" for column in LAYOUTS]
        turns += [partial(theirs.turn, f"{n} {c}") for c in LAYOUTS for n in (plain, added)]
    seconds = common.in_turns(turns, rounds)
    row = {"block": block, **{key: case[key] for key in ("width", "image_size", "batch")}}
    row["images_per_second"] = f"{case['batch'] / common.middle(seconds, 1):.1f}"
    shares = []
    for number, column in enumerate(columns):
        share = common.ratio(seconds, above=2 * number + 1, below=2 * number) - 1
        shares.append(share)
        row[f"{column}plain_ms"] = f"{1000 * common.middle(seconds, 2 * number):.0f}"
        row[f"{column}added_ms"] = f"{1000 * share * common.middle(seconds, 2 * number):.1f}"
        row[f"{column}added_percent"] = f"{100 * share:.1f}"
        if number:
            row[f"{column}ratio"] = f"{shares[0] / share:.2f}"
    return row


def nl_memory(peer: Path | None) -> tuple[list[dict], dict]:
    """Rows of ``nl_memory.csv``, forward and backward of one block each, and the peer's versions.

    Every one has a process of its own, since memory that is freed is not always given back. The
    book's setting is to keep it, which costs what gaps between the tensors cost; therefore Paddle
    is measured with the system's own way as well.
    """
    system = {"ATTN_BLOCKS_TUNE": "0"}
    cases = [("paddle", sys.executable, key, memory) for key in NL_KEYS for memory in ({}, system)]
    if peer:
        cases.append(("torch", peer, None, {}))
    rows, told = [], {}
    for framework, interpreter, subsample, environment in cases:
        is_kept = framework == "paddle" and not environment
        keyword = {"subsample": subsample} if framework == "paddle" else {}
        with worker(framework, interpreter, **environment) as side:
            told = side.build(block="nl memory", **keyword)
        pairs = NL_SHAPE[0] * NL_SHAPE[2] * NL_SHAPE[3] * NL_KEYS[subsample] * 4
        rows.append(
            {
                "framework": framework,
                "map": "x".join(map(str, NL_SHAPE)),
                "subsample": subsample or "none",
                "freed_memory": "kept" if is_kept else "returned",
                "pairs_mb": f"{pairs / 1e6:.0f}",
                "peak_mb": f"{told['bytes'] / 1e6:.0f}",
                "peak_by_pairs": f"{told['bytes'] / pairs:.2f}",
            }
        )
        common.show(rows[-1])
    return rows, told.get("versions")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument(
        "--peer", type=Path, metavar="PYTHON", help="an interpreter that has torch and timm"
    )
    parser.add_argument("--rounds", type=int, default=15, help="timed turns a side (%(default)s)")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=["quick"], help="%(default)s")
    parser.add_argument("--blocks", nargs="*", metavar="BLOCK", help="all by default")
    parser.add_argument("--results", type=Path, help=common.FOLDERS)
    options = parser.parse_args()

    from attn_blocks import list_attns, native

    print(native.build(), flush=True)
    blocks = list_attns() if options.blocks is None else options.blocks
    command = f"python benchmarks/blocks.py --rounds {options.rounds}"
    command += " --peer PYTHON" if options.peer else ""
    command += f" --cases {' '.join(options.cases)}"
    command += "" if options.blocks is None else f" --blocks {' '.join(blocks)}"
    is_whole = options.peer and options.blocks is None and "quick" in options.cases
    folder = common.results_folder(options.results, bool(is_whole))
    told = {"command": command, "threads": 1, "folder": folder}
    memory, told["peer"] = nl_memory(options.peer)
    print(common.record("nl_memory", memory, **told, **MEMORY_WORDS))
    rows = []
    with ExitStack() as stack:
        ours = stack.enter_context(worker("paddle", sys.executable))
        theirs = stack.enter_context(worker("torch", options.peer)) if options.peer else None
        for case in options.cases:
            for block in blocks:
                rows.append(compare(block, CASES[case], ours, theirs, options.rounds))
                common.show(rows[-1])
    if rows:
        print(common.record("blocks", rows, **told, **WORDS))


if __name__ == "__main__":
    if "--serve" in sys.argv:
        build = {"paddle": build_paddle, "torch": build_torch}[sys.argv[-1]]
        common.serve(build, clock=time.process_time)
    else:
        main()
