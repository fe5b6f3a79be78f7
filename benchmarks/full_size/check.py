"""Hold the adapter against Paddle: one training step of every network of the book, in float64.

    python benchmarks/full_size/check.py --peer .venv-torch/bin/python [--only srm_resnet50 ...]

Paddle takes the step here, PyTorch the same one in the peer's interpreter, both on the processor:
the same state, images and labels, at small width. Loss, logits, gradients, the state after the step
of the optimiser (weights and running statistics), and the logits in evaluation are compared.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))
sys.path.append(
    str(Path(__file__).resolve().parents[2] / "src")
)  # which the peer has not installed

import common

from attn_blocks.errors import choose
from attn_book.study.experiment import Experiment
from attn_book.study.pages import PAGES
from attn_book.study.recipes import PROFILES

SMALL = PROFILES["smoke"].recipes
RECIPES = {
    "animals10": replace(SMALL["animals10"], width=0.125, stem="imagenet", image_size=64),
    "caltech16": replace(SMALL["caltech16"], width=0.125),
    "cifar10": replace(SMALL["cifar10"], width=0.125, nesterov=True),
}
IMAGES, CLASSES = 4, 10
# Of the largest value of a tensor. What is left is the momentum, which Paddle keeps in float32.
LIMIT = 1e-7
# A gradient that is 0 but for rounding (of a bias before a batch norm) is held to the others' size.
NOTHING = 1e-6


def cases() -> dict[str, Experiment]:
    """Every network of the pages, by its variant; one of several tasks as its first page has it."""
    found: dict[str, Experiment] = {}
    for comparison in (comparison for page in PAGES.values() for comparison in page):
        recipe = RECIPES[comparison.task]
        for entry in comparison.entries:
            made = Experiment(comparison.task, "", entry.model, recipe, 0, entry.options)
            found.setdefault(made.variant, made)
    return found


def step(network, optimizer, cross_entropy: Callable, images, labels) -> dict[str, np.ndarray]:
    """A training step in either framework, dropout off: everything that it computes, by name."""
    for layer in network.sublayers() if hasattr(network, "sublayers") else network.modules():
        if "Dropout" in type(layer).__name__:
            layer.p = 0.0
    network.train()
    found = {"logits": network(images)}
    found["loss"] = cross_entropy(found["logits"], labels)
    found["loss"].backward()
    for name, parameter in network.named_parameters():
        if parameter.grad is not None:
            found[f"gradients/{name}"] = parameter.grad
    optimizer.step()
    found |= {f"state/{name}": value for name, value in network.state_dict().items()}
    network.eval()
    found["evaluation"] = network(images)
    return {name: value.detach().numpy().copy() for name, value in found.items()}


def differences(ours: dict[str, np.ndarray], theirs: dict[str, np.ndarray]) -> dict[str, float]:
    """The largest difference in each group of values, as a share of the tensor's largest value.

    Raises:
        RuntimeError: the two sides do not hold the same tensors.
    """
    if {n: v.shape for n, v in ours.items()} != {n: v.shape for n, v in theirs.items()}:
        odd = sorted(ours.keys() ^ theirs.keys()) or "the same names, other shapes"
        raise RuntimeError(f"the two sides do not hold the same tensors: {odd}")
    worst = {}
    for group in dict.fromkeys(name.partition("/")[0] for name in ours):
        names = [name for name in ours if name.partition("/")[0] == group]
        sizes = {name: float(np.abs(ours[name]).max()) for name in names}
        least = NOTHING * max(sizes.values())
        shares = [
            np.abs(ours[name] - theirs[name]).max() / max(sizes[name], least) for name in names
        ]
        worst[group] = float(np.max(shares))  # unlike max, it passes on what is not a number
    return worst


def paddle_step(experiment: Experiment, path: Path) -> dict[str, np.ndarray]:
    """Paddle's step, from a state away from special values such as 0, which ``path`` keeps."""
    import paddle

    import attn_blocks as ab
    from attn_book.training.build import build_optimizer

    recipe, random = experiment.recipe, np.random.default_rng(0)
    paddle.set_device("cpu")
    paddle.seed(0)
    sizes = (CLASSES, recipe.width, recipe.stem, recipe.image_size)
    network = ab.create_model(experiment.model, *sizes, **experiment.options).to(dtype="float64")
    start = {}
    for name, value in network.state_dict().items():
        start[name] = value.numpy() + 0.02 * random.standard_normal(value.shape)
        if name.endswith("_variance"):  # of 1, an untrained network overflows in evaluation
            start[name] += 3
        value.set_value(start[name])
    start["images"] = random.standard_normal((IMAGES, 3, recipe.image_size, recipe.image_size))
    start["labels"] = random.integers(0, CLASSES, IMAGES)
    np.savez(path, **start)
    images, labels = paddle.to_tensor(start["images"]), paddle.to_tensor(start["labels"])
    optimizer = build_optimizer(network, recipe)
    return step(network, optimizer, paddle.nn.functional.cross_entropy, images, labels)


def torch_step(experiment: dict, start: str, result: str) -> tuple[dict, dict]:
    """PyTorch's step from the state in ``start``, as ``common.serve`` wants it."""
    import loop
    import torch

    torch.set_default_dtype(torch.float64)
    network = loop.build_model(Experiment.from_dict(experiment), CLASSES)
    with np.load(start) as stored:
        state = {name: torch.from_numpy(stored[name]) for name in stored.files}
    images, labels = state.pop("images"), state.pop("labels")
    network.load_state_dict(state)
    optimizer = loop.build_optimizer(network, Experiment.from_dict(experiment).recipe)
    np.savez(result, **step(network, optimizer, loop.F.cross_entropy, images, labels))
    return {}, {}


def main(arguments: Sequence[str] | None = None) -> None:
    if "--serve" in (sys.argv if arguments is None else arguments):
        common.serve(torch_step)
        return
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--peer", type=Path, required=True, metavar="PYTHON", help="with torch")
    parser.add_argument("--only", nargs="+", metavar="NETWORK", help="all by default")
    options = parser.parse_args(arguments)
    known, unequal = cases(), []
    with (
        tempfile.TemporaryDirectory() as folder,
        common.Worker([options.peer, __file__, "--serve"]) as peer,
    ):
        start, result = Path(folder) / "start.npz", Path(folder) / "result.npz"
        for variant in options.only or known:
            experiment = known[choose("network", variant, known)]
            ours = paddle_step(experiment, start)
            peer.build(experiment=experiment.to_dict(), start=str(start), result=str(result))
            with np.load(result) as theirs:
                found = differences(ours, dict(theirs))
            common.show({"network": variant} | {k: f"{v:.0e}" for k, v in found.items()})
            if not all(off <= LIMIT for off in found.values()):  # what is no number is not equal
                unequal.append(variant)
    if unequal:
        raise SystemExit(f"error: differ by more than {LIMIT:g}: {', '.join(unequal)}")


if __name__ == "__main__":
    main()
