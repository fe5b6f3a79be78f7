"""The training loop, to be read from top to bottom.

Everything random follows from (seed, epoch), so a training that was stopped goes on from its last
finished epoch to the very numbers it would have reached. Saving and resuming is ``run``'s business,
device and precision ``compute``'s, several processes ``distributed``'s: all of it reaches the loop
in the ``Training`` that ``build.prepare`` makes.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import paddle
import paddle.nn.functional as F

from attn_blocks.errors import TrainingError
from attn_book.training.build import Training

Report = Callable[[int, float, float], None]  # images of a step; mean loss, accuracy so far


@dataclass(frozen=True)
class Epoch:
    """The results of an epoch; ``epoch`` counts from 1, ``lr`` is the rate of its last step.

    Training loss and accuracy are means over the epoch, taken while the weights were moving;
    those of the validation images, and their logits [N, classes] in stored order, are of its end.
    ``seconds`` is the time of the training part.
    """

    epoch: int
    lr: float
    train_loss: float
    train_acc: float
    val_loss: float
    val_acc: float
    seconds: float
    logits: np.ndarray


class Diverged(TrainingError):
    """Loss or weights are no longer numbers; ``where`` holds epoch, step and learning rate."""

    def __init__(self, epoch: int, step: int, rate: float, subject: str = "the loss is") -> None:
        self.where = {"epoch": epoch, "step": step, "learning_rate": rate}
        super().__init__(
            f"{subject} not finite in epoch {epoch}, step {step}, at learning rate {rate:.4g}"
        )


def train(training: Training, done: int = 0, report: Report | None = None) -> Iterator[Epoch]:
    """Train to the recipe's last epoch, yielding each epoch when it is finished.

    Args:
        training: network, optimiser, loaders and recipe; see ``build.prepare``.
        done: how many epochs are finished already.
        report: called after every step.

    Raises:
        Diverged: the loss, a weight or a gradient became infinite or not a number; it names the
            epoch in which that happened.
    """
    steps = len(training.train_loader)
    for epoch in range(done, training.recipe.epochs):
        began = time.perf_counter()
        # Dropout draws from here on, so that a resumed epoch draws the same numbers.
        training.seed_epoch(epoch)
        train_loss, train_acc = train_epoch(training, epoch, report)
        seconds = time.perf_counter() - began
        rate = training.optimizer.get_lr()
        check_finite(training, epoch + 1, steps, rate)
        val_loss, logits = evaluate(training)
        if not math.isfinite(val_loss):
            raise Diverged(epoch + 1, steps, rate)
        val_acc = float((logits.argmax(axis=1) == training.validation_loader.images.labels).mean())
        yield Epoch(
            epoch + 1, rate, train_loss, train_acc, val_loss, val_acc, round(seconds, 3), logits
        )


def train_epoch(
    training: Training, epoch: int, report: Report | None = None
) -> tuple[float, float]:
    """One pass over the training images: (mean loss, accuracy) while the weights were moving."""
    network, optimizer, scaler = training.network, training.optimizer, training.scaler
    loader, compute = training.train_loader, training.compute
    network.train()
    loss_sum, correct, count = 0.0, 0, 0
    for step, (images, labels) in enumerate(compute.batches(loader.epoch(epoch))):
        optimizer.set_lr(training.recipe.rate(epoch, step, len(loader)))
        with compute.autocast():
            scores = network(images)
        loss = F.cross_entropy(scores.astype("float32"), labels)
        scaler.scale(loss).backward()
        scaler.step(optimizer)  # leaves the weights alone where a scaled gradient overflowed
        scaler.update()
        optimizer.clear_grad()

        batch = [float(loss) * len(labels), count_correct(scores, labels), len(labels)]
        batch_loss, batch_correct, batch_count = training.total(np.array(batch)).tolist()
        if not math.isfinite(batch_loss):
            raise Diverged(epoch + 1, step + 1, optimizer.get_lr())
        loss_sum += batch_loss
        correct += int(batch_correct)
        count += int(batch_count)
        if report:
            report(int(batch_count), loss_sum / count, correct / count)
    return loss_sum / count, correct / count


def check_finite(training: Training, epoch: int, step: int, rate: float) -> None:
    """Raise Diverged unless every weight and every gradient of the epoch is finite.

    The loss does not always show it: Paddle's ReLU turns what is not a number into 0 on the CPU.
    A momentum that a gradient once made infinite or not a number stays so, so that it is enough to
    look at the momenta after an epoch.
    """
    for what, tensors in {"weights": training.weights(), "gradients": training.momenta()}.items():
        broken = [name for name, value in tensors.items() if not bool(value.isfinite().all())]
        if broken:
            subject = f"{len(broken)} of {len(tensors)} {what}, {broken[0]} the first, are"
            raise Diverged(epoch, step, rate, subject)


@paddle.no_grad()
def evaluate(training: Training) -> tuple[float, np.ndarray]:
    """Mean loss and logits [N, classes], float32, of the validation images in stored order."""
    training.model.eval()
    loader = training.validation_loader
    loss_sum, logits = 0.0, np.zeros((len(loader.images), training.classes))
    for step, (images, labels) in enumerate(training.compute.batches(loader.epoch(0))):
        if len(labels) == 0:  # a last batch of fewer images than processes
            continue
        with training.compute.autocast():
            scores = training.model(images)
        scores = scores.astype("float32")
        loss_sum += float(F.cross_entropy(scores, labels, reduction="sum"))
        logits[loader.places(step)] = scores.numpy()
    loss = float(training.total(np.array([loss_sum]))[0] / len(logits))
    return loss, training.total(logits).astype("float32")


def count_correct(scores: paddle.Tensor, labels: paddle.Tensor) -> int:
    """How many labels have the highest score."""
    predicted = scores.astype("float32").numpy().argmax(axis=1)  # NumPy has no bfloat16
    return int((predicted == labels.numpy()).sum())
