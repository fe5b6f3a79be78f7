"""The training of networks of the book over PyTorch, in step on the same batches."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import adapter
import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader

from attn_blocks import datasets
from attn_blocks.errors import SettingError, TrainingError, choose
from attn_blocks.layers.srm import StyleRecalibration
from attn_blocks.models import create_model
from attn_book.study.experiment import Experiment, Recipe

PRECISIONS = ("bfloat16", "tf32", "float32")
TOGETHER = 512  # validation images that are judged in one go
WARM_UP = 4  # steps before one is captured: kernels are chosen, memory is taken


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


def build_optimizer(
    model: torch.nn.Module, recipe: Recipe, rate: Tensor | None = None
) -> torch.optim.SGD:
    """Momentum, with weight decay on ``decayed_parameters``; its rate may be a tensor to write."""
    decayed = decayed_parameters(model, recipe.decay)
    others = set(model.parameters()) - set(decayed)
    return torch.optim.SGD(
        [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": list(others)}],
        lr=recipe.learning_rate if rate is None else rate,
        momentum=recipe.momentum,
        nesterov=recipe.nesterov,
        fused=True,  # one kernel, which reads the rate where it lies
    )


class Batches(datasets.Loader):
    """The book's batches, each made on its own in a process of ``DataLoader``.

    Batch ``epoch * len(self) + number`` is batch ``number`` of ``epoch``.
    """

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        epoch, number = divmod(index, len(self))
        images, labels = self._batch(epoch, self.order(epoch), number)
        return torch.from_numpy(images), torch.from_numpy(labels)


def build_batches(
    images: datasets.ImageDataset, recipe: Recipe, seed: int
) -> tuple[Batches, datasets.Loader]:
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
        Batches(images.train, recipe.batch_size, transforms[0], **order),
        datasets.Loader(images.val, recipe.batch_size, transforms[1]),
    )


class Network:
    """A network with its optimiser, which takes steps on what lies in ``images`` and ``labels``.

    Args:
        experiment: which network is trained how.
        classes: how many there are.
        images, labels: a full batch, [B, 3, S, S] and [B], on the device; written from outside.
        rate: the learning rate, a tensor of no dimension; written from outside.
        precision: one of ``PRECISIONS``; "bfloat16" is that of its autocast.
    """

    def __init__(
        self,
        experiment: Experiment,
        classes: int,
        images: Tensor,
        labels: Tensor,
        rate: Tensor,
        precision: str,
    ) -> None:
        self.name = experiment.variant
        self.images, self.labels, self.precision = images, labels, precision
        self.model = build_model(experiment, classes).to(images.device)
        self.optimizer = build_optimizer(self.model, experiment.recipe, rate)
        self.totals = torch.zeros(2, dtype=torch.float64, device=images.device)  # loss, right
        self.params = sum(p.numel() for p in self.model.parameters())
        self.graph: torch.cuda.CUDAGraph | None = None
        self.stream = torch.cuda.Stream() if images.is_cuda else None

    def scores(self, images: Tensor) -> Tensor:
        half = self.precision == "bfloat16"
        # Layers make tensors themselves, without naming a device.
        with images.device, torch.autocast(images.device.type, torch.bfloat16, enabled=half):
            return self.model(images).float()

    def step(self, count: int) -> None:
        """Train on the first ``count`` images, which must be all of them where it was captured."""
        if self.graph is not None and count == len(self.labels):
            self.graph.replay()
            return
        labels = self.labels[:count]
        scores = self.scores(self.images[:count])
        loss = F.cross_entropy(scores, labels)
        self.optimizer.zero_grad()
        loss.backward()
        for parameter in self.model.parameters():
            # Of a 1x1 convolution the two can be strided alike in all that matters and yet not
            # equally, which the fused optimiser refuses.
            parameter.grad = parameter.grad.as_strided(parameter.shape, parameter.stride())
        self.optimizer.step()
        right = (scores.argmax(1) == labels).sum()
        self.totals += torch.stack([loss.detach() * count, right])

    def capture(self) -> None:
        """Make a step one CUDA graph; what the steps before it left behind must be replaced."""
        self.stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(self.stream):
            for _ in range(WARM_UP):
                self.step(len(self.labels))
        torch.cuda.synchronize()
        self.optimizer.zero_grad()
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, stream=self.stream):
            self.step(len(self.labels))
        self.graph = graph

    @torch.no_grad()
    def begin(self, seed: int) -> None:
        """Give the network the initial values of a seed, and the optimiser none of the past."""
        adapter.draw(self.model, seed)
        for norm in self.model.modules():
            if isinstance(norm, adapter.BatchNorm2D):
                norm._mean.zero_()
                norm._variance.fill_(1.0)
        for kept in self.optimizer.state.values():
            kept["momentum_buffer"].zero_()

    def state(self) -> dict[str, np.ndarray]:
        """The network's state and the optimiser's momenta, by name."""
        kept = self.optimizer.state
        momenta = {n: kept[p]["momentum_buffer"] for n, p in self.model.named_parameters()}
        return {
            f"{kind}/{name}": value.cpu().numpy()
            for kind, values in (("model", self.model.state_dict()), ("momenta", momenta))
            for name, value in values.items()
        }

    @torch.no_grad()
    def restore(self, state: dict[str, np.ndarray]) -> None:
        """Go on from what ``state`` gave."""
        values = {name: torch.from_numpy(value) for name, value in state.items()}
        self.model.load_state_dict({n: values[f"model/{n}"] for n in self.model.state_dict()})
        for name, parameter in self.model.named_parameters():
            momentum, kept = values[f"momenta/{name}"], self.optimizer.state[parameter]
            kept.setdefault("momentum_buffer", torch.empty_like(parameter)).copy_(momentum)


class Training:
    """Networks that are trained in step: every batch is made once and shown to all of them.

    ``begin`` says from which initial values and on which images.

    Args:
        experiments: equal in all but the model and the weight decay.
        classes: how many there are.
        device: "cuda", where each step of a network is captured once and then replayed, those of
            different networks side by side; or "cpu".
        precision: one of ``PRECISIONS``.
        workers: processes that make batches; 0: they are made when they are asked for.

    Raises:
        SettingError: the experiments cannot be trained in step.
    """

    def __init__(
        self,
        experiments: Sequence[Experiment],
        classes: int,
        device: str,
        precision: str,
        workers: int,
    ) -> None:
        choose("precision", precision, PRECISIONS)
        self.recipe, self.workers = experiments[0].recipe, workers
        shared = [replace(one.recipe, weight_decay=0) for one in experiments]
        if any(recipe != shared[0] for recipe in shared):
            raise SettingError("networks with different recipes cannot be trained in step")
        torch.backends.cudnn.benchmark = True
        torch.backends.cudnn.allow_tf32 = torch.backends.cuda.matmul.allow_tf32 = (
            precision == "tf32"
        )
        size, batch = self.recipe.image_size, self.recipe.batch_size
        self.images = torch.zeros(batch, 3, size, size, device=device)
        self.images = self.images.to(memory_format=torch.channels_last)
        self.labels = torch.zeros(batch, dtype=torch.int64, device=device)
        self.rate = torch.zeros((), device=device)
        self.networks = [
            Network(one, classes, self.images, self.labels, self.rate, precision)
            for one in experiments
        ]
        if device == "cuda":
            for network in self.networks:
                network.capture()
        names = {"device": torch.cuda.get_device_name() if device == "cuda" else "cpu"}
        names["precision"] = precision + " autocast" * (precision == "bfloat16")
        group = [network.name for network in self.networks]
        self.compute = {**names, "torch": torch.__version__, "group": group}

    def begin(self, images: datasets.ImageDataset, seed: int) -> None:
        """Train from the initial values of ``seed``, on ``images``, from the next epoch on."""
        self.seed = seed
        self.batches, validation = build_batches(images, self.recipe, seed)
        shown = [torch.from_numpy(batch) for batch, _ in validation.epoch(0)]
        device = self.images.device
        self.shown = torch.cat(shown).to(device, memory_format=torch.channels_last)
        self.truth = torch.from_numpy(np.asarray(images.val.labels)).to(device)
        for network in self.networks:
            network.begin(seed)

    def epochs(self, first: int = 0) -> Iterator[list[tuple[dict[str, float], np.ndarray]]]:
        """Train from epoch ``first``, counted from 0, to the last, and evaluate after each.

        Yields:
            For each network a row of its record's history, and the scores of the validation images
            [N, classes], float32, in stored order.

        Raises:
            TrainingError: loss or scores are no longer finite.
        """
        steps = len(self.batches)
        order = range(first * steps, self.recipe.epochs * steps)
        how = {"num_workers": self.workers, "pin_memory": self.images.is_cuda}
        batches = iter(DataLoader(self.batches, batch_size=None, sampler=order, **how))
        for epoch in range(first, self.recipe.epochs):
            began = time.perf_counter()
            # Dropout draws from here on, so that a resumed epoch draws the same numbers.
            torch.manual_seed(int(np.random.SeedSequence((self.seed, epoch)).generate_state(1)[0]))
            for network in self.networks:
                network.model.train()
                network.totals.zero_()
            seen = 0
            for step in range(steps):
                rate = self.recipe.rate(epoch, step, steps)
                seen += self._step(*next(batches), rate)
            totals = [(network.totals / seen).tolist() for network in self.networks]
            seconds = round(time.perf_counter() - began, 3)
            yield [
                self._row(epoch, rate, network, *means, seconds)
                for network, means in zip(self.networks, totals, strict=True)
            ]

    def _step(self, images: Tensor, labels: Tensor, rate: float) -> int:
        """Show a batch to every network; how many images it has."""
        count = len(labels)
        self.images[:count].copy_(images, non_blocking=True)
        self.labels[:count].copy_(labels, non_blocking=True)
        self.rate.fill_(rate)
        if not self.images.is_cuda:
            for network in self.networks:
                network.step(count)
            return count
        now = torch.cuda.current_stream()
        for network in self.networks:
            network.stream.wait_stream(now)
            with torch.cuda.stream(network.stream):
                network.step(count)
        for network in self.networks:  # the batch is theirs until all have read it
            now.wait_stream(network.stream)
        return count

    def _row(
        self,
        epoch: int,
        rate: float,
        network: Network,
        train_loss: float,
        train_acc: float,
        seconds: float,
    ) -> tuple[dict[str, float], np.ndarray]:
        scores = self._judge(network)
        val_loss = float(F.cross_entropy(scores, self.truth))
        if not (np.isfinite([train_loss, val_loss]).all() and bool(scores.isfinite().all())):
            raise TrainingError(
                f"{network.name}: epoch {epoch + 1} gives what is not finite, at rate {rate:.4g}"
            )
        right = int((scores.argmax(1) == self.truth).sum())
        row = {"epoch": epoch + 1, "lr": rate, "train_loss": train_loss, "train_acc": train_acc}
        row |= {"val_loss": val_loss, "val_acc": right / len(self.truth), "seconds": seconds}
        return row, scores.cpu().numpy()

    @torch.no_grad()
    def _judge(self, network: Network) -> Tensor:
        network.model.eval()
        return torch.cat([network.scores(images) for images in self.shown.split(TOGETHER)])
