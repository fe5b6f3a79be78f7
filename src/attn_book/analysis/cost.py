"""What a block costs: parameters, multiply-adds, memory, and step times measured here."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping

import numpy as np
import paddle
import paddle.nn.functional as F
import pandas as pd
from paddle import nn

from attn_blocks import device, models
from attn_book.analysis.findings.compared import plain_of
from attn_book.analysis.words import span
from attn_book.language import N_, _
from attn_book.study.plan import Plan
from attn_book.training import build

# Columns of ``table``.
STEP = N_("Training step")
ROUNDS = N_("Middle half of the rounds")
SECONDS = 4.0  # after which no further round of measurements begins
FEWEST_ROUNDS, MOST_ROUNDS = 3, 15


def table(plan: Plan, task: str) -> pd.DataFrame:
    """The models of a comparison and what each costs beside the plain network.

    The plain network is the first one without an attention block. Times are measured in training
    mode (forward and backward, no optimiser step) and in evaluation mode, on a batch of the
    recipe's size, all models in turn so that a slow moment of the machine hits all alike; a ratio
    is the median over the rounds of the model's time by the plain network's. A smaller batch would
    make blocks look dearer than they are in training: what each of their many small operations
    costs whatever the batch would weigh more.

    Returns:
        A row a model: Parameters, Extra parameters (%), MMACs (of one image), Extra MACs (%),
        Training step (times the plain network's), its Middle half of the rounds (how far a busy
        machine scatters it), and Inference (times the plain network's).
    """
    comparison, networks = plan.comparison(task), _networks(plan, task)
    plain = plain_of({entry.title: entry for entry, _ in comparison.experiments})
    plain = plain or next(iter(networks))
    side, batch = comparison.recipe.image_size, comparison.recipe.batch_size
    params = {title: models.count_params(model) for title, model in networks.items()}
    macs = {title: models.count_macs(model, (3, side, side)) for title, model in networks.items()}

    rounds = FEWEST_ROUNDS if plan.profile == "smoke" else MOST_ROUNDS
    classes = len(comparison.images.classes)
    training, inference = _measure(networks, side, batch, classes, rounds)
    frame = pd.DataFrame(
        {
            _("Parameters"): {title: f"{value:,}" for title, value in params.items()},
            _("Extra parameters (%)"): _percent(params, plain),
            "MMACs": {title: round(value / 1e6, 1) for title, value in macs.items()},
            _("Extra MACs (%)"): _percent(macs, plain),
            _(STEP): ratios(training, plain),
            _(ROUNDS): middle_halves(training, plain),
            _("Inference"): ratios(inference, plain),
        }
    )
    return frame.rename_axis(_("Model"))


def image_seconds(plan: Plan, task: str) -> dict[str, tuple[float, float]]:
    """Title -> seconds of a training image and of a validation image, measured as in ``table``."""
    networks, rounds, comparison = _networks(plan, task), FEWEST_ROUNDS, plan.comparison(task)
    side, batch = comparison.recipe.image_size, comparison.recipe.batch_size
    measured = _measure(networks, side, batch, len(comparison.images.classes), rounds)
    training, inference = ({t: float(np.median(s)) / batch for t, s in m.items()} for m in measured)
    return {title: (training[title], inference[title]) for title in networks}


def _networks(plan: Plan, task: str) -> dict[str, nn.Layer]:
    """The networks of a comparison by their titles, on the plan's device."""
    comparison = plan.comparison(task)
    device.select_device(plan.device)
    return {
        entry.title: build.build_model(experiment, len(comparison.images.classes))
        for entry, experiment in comparison.experiments
        if experiment.seed == plan.seeds[0]
    }


def _percent(values: Mapping[str, int], plain: str) -> dict[str, float]:
    return {t: round(100 * (value / values[plain] - 1), 2) for t, value in values.items()}


def ratios(seconds: Mapping[str, list[float]], plain: str) -> dict[str, float]:
    """The median over the rounds of each time by the plain network's time in that round."""
    base = np.array(seconds[plain])
    return {title: round(float(np.median(s / base)), 2) for title, s in seconds.items()}


def middle_halves(seconds: Mapping[str, list[float]], plain: str) -> dict[str, str]:
    """Between which ratios half of the rounds lie, a quarter of them below and a quarter above."""
    base = np.array(seconds[plain])
    halves = {t: np.quantile(s / base, (0.25, 0.75)).tolist() for t, s in seconds.items()}
    return {title: span(half, ".2f") for title, half in halves.items()}


def interleaved(
    steps: Mapping[str, Callable[[], None]], rounds: int, limit: float = SECONDS
) -> dict[str, list[float]]:
    """Seconds of each step in each round; every round runs all of them once, in turn.

    Args:
        rounds: how many rounds are wanted; after ``limit`` seconds only the fewest are made.
    """
    seconds: dict[str, list[float]] = {title: [] for title in steps}
    for step in steps.values():  # the first run allocates memory and chooses kernels
        step()
    start = time.perf_counter()
    for done in range(rounds):
        if done >= FEWEST_ROUNDS and time.perf_counter() - start > limit:
            break
        for title, step in steps.items():
            begin = time.perf_counter()
            step()
            seconds[title].append(time.perf_counter() - begin)
    return seconds


def _wait() -> None:
    """Until a GPU has done what was asked of it; a CPU already has."""
    if paddle.device.get_device() != "cpu":
        paddle.device.synchronize()


def _measure(
    networks: Mapping[str, nn.Layer], side: int, batch: int, classes: int, rounds: int
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    rng = np.random.default_rng(0)
    images = paddle.to_tensor(rng.normal(size=(batch, 3, side, side)).astype("float32"))
    labels = paddle.to_tensor(np.arange(batch) % classes)

    def training_step(model: nn.Layer) -> Callable[[], None]:
        def step() -> None:
            F.cross_entropy(model(images), labels).backward()
            model.clear_gradients()
            _wait()

        return step

    def inference_step(model: nn.Layer) -> Callable[[], None]:
        def step() -> None:
            with paddle.no_grad():
                model(images)
            _wait()

        return step

    for model in networks.values():
        model.train()
    training = {title: training_step(model) for title, model in networks.items()}
    training_seconds = interleaved(training, rounds, SECONDS * 2 / 3)
    for model in networks.values():
        model.eval()
    inference = {title: inference_step(model) for title, model in networks.items()}
    return training_seconds, interleaved(inference, rounds, SECONDS / 3)


def kept_bytes(model: nn.Layer, side: int, batch: int = 2) -> int:
    """Bytes that a forward pass in training mode keeps of each image for the backward pass.

    Paddle shows every tensor that it saves for a gradient. One that several operations save
    counts once, parameters not at all.
    """
    sizes: dict[int, int] = {}
    alive = []  # holds their memory, so that no later tensor can take the place of an earlier one

    def save(tensor: paddle.Tensor) -> None:
        alive.append(tensor.detach())  # the tensor itself Paddle 2.6 would free too early
        size = int(np.prod(tensor.shape)) * tensor.element_size()
        sizes[tensor.data_ptr()] = max(size, sizes.get(tensor.data_ptr(), 0))

    model.train()
    images = paddle.randn([batch, 3, side, side])
    with paddle.autograd.saved_tensors_hooks(save, lambda _: None):  # no backward pass will ask
        F.cross_entropy(model(images), paddle.zeros([batch], dtype="int64"))
    alive.clear()  # the hooks outlive this function
    weights = {parameter.data_ptr() for parameter in model.parameters()}
    return sum(size for place, size in sizes.items() if place not in weights) // batch
