"""The training of one network of the book over PyTorch; runs where PyTorch is."""

from __future__ import annotations

import time

import adapter
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from attn_blocks import datasets
from attn_blocks.errors import TrainingError, choose
from attn_blocks.layers.srm import StyleRecalibration
from attn_blocks.models import create_model
from attn_book.study.experiment import Experiment, Recipe


def build_model(experiment: Experiment, classes: int) -> torch.nn.Module:
    """The experiment's network with its initial values, the weights in channels-last order."""
    recipe, options = experiment.recipe, experiment.options
    sizes = (classes, recipe.width, recipe.stem, recipe.image_size)
    model = adapter.draw(create_model(experiment.model, *sizes, **options), experiment.seed)
    return model.to(memory_format=torch.channels_last)


def decayed_parameters(model: torch.nn.Module, decay: str) -> list[Tensor]:
    """What weight decay acts on: "mixing" as in the book; "all" is all but SRM's block.

    The authors of SRM leave its block out, and so do the records at full width.
    """
    choose("decay at full size", decay, ("mixing", "all"))
    if decay == "mixing":
        layers = [m for m in model.modules() if isinstance(m, (adapter.Conv2D, adapter.Linear))]
        return [layer.weight for layer in layers if layer.weight.shape[1] > 1]
    blocks = [m for m in model.modules() if isinstance(m, StyleRecalibration)]
    without = {p for block in blocks for p in block.parameters()}
    return [p for p in model.parameters() if p not in without]


def build_optimizer(model: torch.nn.Module, recipe: Recipe) -> torch.optim.SGD:
    """Momentum, with weight decay on ``decayed_parameters``."""
    decayed = decayed_parameters(model, recipe.decay)
    others = set(model.parameters()) - set(decayed)
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": list(others)}],
        lr=recipe.learning_rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
    )


def build_loaders(
    images: datasets.ImageDataset, recipe: Recipe, seed: int
) -> tuple[datasets.Loader, datasets.Loader]:
    """The batches that the book trains on, with the same seed, and those it evaluates on."""
    source = datasets.DATASETS[images.name]
    step = -1 if recipe.reversed_statistics else 1
    crop = (recipe.augmentation, recipe.image_size, source.mean[::step], source.std[::step])
    transforms = [
        datasets.create_transform(*crop, train=train, scale=(recipe.smallest_crop, 1.0))
        for train in (True, False)
    ]
    order = {"seed": seed, "shuffle": True, "drop_last": recipe.drop_last}
    return (
        datasets.Loader(images.train, recipe.batch_size, transforms[0], **order),
        datasets.Loader(images.val, recipe.batch_size, transforms[1]),
    )


class Training:
    """A network, its optimiser and its batches.

    Args:
        experiment: which network is trained how.
        images: see ``datasets.load``.
        device: "cuda", in bfloat16 autocast, or "cpu", in float32.
    """

    def __init__(self, experiment: Experiment, images: datasets.ImageDataset, device: str) -> None:
        self.seed, self.recipe, self.device = experiment.seed, experiment.recipe, device
        torch.set_default_device(device)  # for tensors that the layers make themselves
        torch.backends.cudnn.benchmark = True
        self.model = build_model(experiment, len(images.classes)).to(device)
        self.optimizer = build_optimizer(self.model, self.recipe)
        self.train_loader, self.validation_loader = build_loaders(images, self.recipe, self.seed)
        self.compute = {
            "device": torch.cuda.get_device_name() if device == "cuda" else "cpu",
            "torch": torch.__version__,
            "precision": "bfloat16 autocast" if device == "cuda" else "float32",
        }
        self.params = sum(p.numel() for p in self.model.parameters())

    def _scores(self, images: Tensor) -> Tensor:
        images = images.to(self.device, memory_format=torch.channels_last)
        with torch.autocast(self.device, torch.bfloat16, enabled=self.device == "cuda"):
            return self.model(images).float()

    def epoch(self, epoch: int) -> tuple[dict[str, float], np.ndarray]:
        """Train for epoch ``epoch``, counted from 0, and evaluate.

        Returns:
            A row of the record's history, and the scores of the validation images [N, classes],
            float32, in stored order.

        Raises:
            TrainingError: loss or scores are no longer finite.
        """
        began = time.perf_counter()
        # Dropout draws from here on, so that a resumed epoch draws the same numbers.
        torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
        self.model.train()
        totals = torch.zeros(2, dtype=torch.float64)  # loss, images classified right
        seen, steps = 0, len(self.train_loader)
        for step, batch in enumerate(self.train_loader.epoch(epoch)):
            images, labels = map(torch.from_numpy, batch)
            labels = labels.to(self.device)
            rate = self.recipe.rate(epoch, step, steps)
            for group in self.optimizer.param_groups:
                group["lr"] = rate
            scores = self._scores(images)
            loss = F.cross_entropy(scores, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            right = (scores.argmax(1) == labels).sum()
            totals += torch.stack([loss.detach() * len(labels), right])
            seen += len(labels)
        train_loss, train_acc = (totals / seen).tolist()
        seconds = time.perf_counter() - began
        val_loss, scores = self._evaluate()
        if not (np.isfinite([train_loss, val_loss]).all() and np.isfinite(scores).all()):
            raise TrainingError(f"epoch {epoch + 1} gives what is not finite, at rate {rate:.4g}")
        right = scores.argmax(axis=1) == self.validation_loader.images.labels
        row = {"epoch": epoch + 1, "lr": rate, "train_loss": train_loss, "train_acc": train_acc}
        row |= {"val_loss": val_loss, "val_acc": float(right.mean()), "seconds": round(seconds, 3)}
        return row, scores

    @torch.no_grad()
    def _evaluate(self) -> tuple[float, np.ndarray]:
        self.model.eval()
        batches = self.validation_loader.epoch(0)
        scores = torch.cat([self._scores(torch.from_numpy(images)) for images, _ in batches]).cpu()
        labels = torch.from_numpy(np.asarray(self.validation_loader.images.labels))
        return float(F.cross_entropy(scores, labels)), scores.numpy()

    def state(self) -> dict[str, np.ndarray]:
        """The network's state and the optimiser's momenta, by name."""
        kept = self.optimizer.state
        momenta = {n: kept[p]["momentum_buffer"] for n, p in self.model.named_parameters()}
        return {
            f"{kind}/{name}": value.cpu().numpy()
            for kind, values in (("model", self.model.state_dict()), ("momenta", momenta))
            for name, value in values.items()
        }

    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what ``state`` gave."""
        values = {name: torch.from_numpy(value).to(self.device) for name, value in state.items()}
        self.model.load_state_dict({n: values[f"model/{n}"] for n in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            self.optimizer.state[parameter]["momentum_buffer"] = values[f"momenta/{name}"]
