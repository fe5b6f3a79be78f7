"""Everything that a training holds: network, optimiser, loaders, and how it computes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np
import paddle

from attn_blocks import datasets, models, native
from attn_book.study import own
from attn_book.study.experiment import Experiment, Recipe
from attn_book.training import compute as computing
from attn_book.training.compute import Compute
from attn_book.training.distributed import SINGLE_PROCESS, Group


@dataclass(frozen=True)
class Training:
    """What the loop works on; ``prepare`` makes it.

    Attributes:
        model: the network whose weights are trained, saved and evaluated.
        network: the same as it is called in training: compiled, or one of several processes'.
        optimizer, scaler: momentum, and the loss scaling of float16 (which else does nothing).
        train_loader, validation_loader: batches of images [B, 3, S, S] and labels [B].
        recipe, seed: how it is trained.
        classes: outputs of the network.
        compute, group: device and precision, and the processes that train it together.
    """

    model: paddle.nn.Layer
    network: paddle.nn.Layer
    optimizer: paddle.optimizer.Momentum
    scaler: paddle.amp.GradScaler
    train_loader: datasets.Loader
    validation_loader: datasets.Loader
    recipe: Recipe
    seed: int
    classes: int
    compute: Compute
    group: Group

    def total(self, values: np.ndarray) -> np.ndarray:
        """The sum of ``values`` over all processes; with one process the values themselves."""
        return self.group.total(values)

    @property
    def images_an_epoch(self) -> int:
        """How many training images an epoch sees, in all processes together."""
        loader = self.train_loader
        return min(len(loader) * self.recipe.batch_size, len(loader.images))

    def weights(self) -> dict[str, paddle.Tensor]:
        """The parameters by name, running statistics among them."""
        return dict(self.model.named_parameters())

    def momenta(self) -> dict[str, paddle.Tensor]:
        """The optimiser's mean gradient of each parameter that was trained, by its name."""
        kept = self.optimizer._accumulators["velocity"]
        return {name: kept[p.name] for name, p in self.weights().items() if p.name in kept}

    def seed_epoch(self, epoch: int) -> None:
        """Seed what the network draws in an epoch (dropout)."""
        computing.seed_noise(self.seed, epoch, self.group.rank)


def prepare(
    model: paddle.nn.Layer,
    images: datasets.ImageDataset,
    recipe: Recipe,
    seed: int = 0,
    compute: Compute | None = None,
    group: Group = SINGLE_PROCESS,
) -> Training:
    """Put together what the loop needs to train a network, the book's or any other.

    Args:
        model: images [B, 3, S, S] -> logits [B, classes]; its weights are trained in place.
        images: see ``datasets.load``.
        recipe: how it is trained. Width and stem are of the book's networks and say nothing here.
        seed: of the order of the images, their augmentation and dropout.
        compute: device and precision; None for a GPU where there is one, see ``compute.compute``.
        group: the processes that train it together, this one among them.
    """
    compute = compute or computing.compute()
    train_loader, validation_loader = build_loaders(images, recipe, seed, compute, group)
    model = model if compute.on_gpu else native.accelerate(model)
    optimizer = build_optimizer(model, recipe)  # before several processes change its batch norms
    return Training(
        model=model,
        network=group.network(compute.network(model)),
        optimizer=optimizer,
        scaler=compute.scaler(),
        train_loader=train_loader,
        validation_loader=validation_loader,
        recipe=recipe,
        seed=seed,
        classes=len(images.classes),
        compute=compute,
        group=group,
    )


def build_model(experiment: Experiment, classes: int) -> paddle.nn.Layer:
    """The experiment's model with its initial values, on the fastest operators there are.

    Each parameter's values are drawn by the seed and the parameter's name alone: networks of one
    seed start equal wherever their layers have the same names, whatever else they hold. A layer's
    constructor may set values, but it cannot read them: there are none yet.
    """
    with paddle.LazyGuard():  # leaves parameters empty, but for those that a layer sets itself
        model = models.create_model(
            experiment.model,
            num_classes=classes,
            width=experiment.recipe.width,
            stem=experiment.recipe.stem,
            image_size=experiment.recipe.image_size,
            **own.resolved(experiment.options),
        )
    for name, parameter in model.named_parameters():
        if not parameter._is_initialized():
            digest = hashlib.sha256(f"{experiment.seed} {name}".encode()).digest()
            paddle.seed(int.from_bytes(digest[:4], "big") % 2**31)
            parameter.initialize()
    return native.accelerate(model) if paddle.get_device() == "cpu" else model


# Layers whose parameters shift and scale, and mix nothing.
_NORMS = (
    paddle.nn.BatchNorm2D,
    paddle.nn.GroupNorm,
    paddle.nn.InstanceNorm2D,
    paddle.nn.LayerNorm,
)


def decayed_parameters(model: paddle.nn.Layer, decay: str = "mixing") -> list[str]:
    """The names of the parameters that weight decay acts on.

    Args:
        model: any network.
        decay: "mixing": weights of linear layers, and of convolutions with more than one input
            channel a group. Not biases, norms, depth-wise convolutions, and what a layer of
            another kind holds itself, such as the gains of SRM, SGE and SA: a gain that gets no
            gradient would only shrink. "gains": these too. "all": everything.
    """
    decayed = []
    for prefix, layer in model.named_sublayers(include_self=True):
        for name, parameter in layer.named_parameters(prefix, include_sublayers=False):
            if isinstance(layer, paddle.nn.Linear):
                wanted = parameter is layer.weight
            elif isinstance(layer, paddle.nn.Conv1D | paddle.nn.Conv2D | paddle.nn.Conv3D):
                wanted = parameter is layer.weight and parameter.shape[1] > 1
            else:
                wanted = decay == "gains" and not isinstance(layer, _NORMS)
            # What is not trained (running statistics) is not decayed either.
            if (wanted or decay == "all") and not parameter.stop_gradient:
                decayed.append(name)
    return decayed


def build_optimizer(model: paddle.nn.Layer, recipe: Recipe) -> paddle.optimizer.Momentum:
    """Momentum, with weight decay on ``decayed_parameters``."""
    decayed = set(decayed_parameters(model, recipe.decay))
    trained = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    groups = [
        {"params": [p for name, p in trained.items() if name in decayed]},
        {"params": [p for name, p in trained.items() if name not in decayed]},
    ]
    coefficients = (recipe.weight_decay, 0.0)
    return paddle.optimizer.Momentum(
        learning_rate=recipe.learning_rate,
        momentum=recipe.momentum,
        use_nesterov=recipe.nesterov,
        parameters=[
            {**group, "weight_decay": coefficient}
            for group, coefficient in zip(groups, coefficients, strict=True)
            if group["params"]
        ],
    )


def channel_statistics(dataset: str, recipe: Recipe) -> tuple[Sequence[float], Sequence[float]]:
    """Mean and standard deviation of each channel, as a recipe applies them to a data set."""
    source = datasets.DATASETS[dataset]
    if recipe.reversed_statistics:
        return source.mean[::-1], source.std[::-1]
    return source.mean, source.std


def build_loaders(
    images: datasets.ImageDataset,
    recipe: Recipe,
    seed: int,
    compute: Compute = Compute(),  # noqa: B008 (frozen)
    group: Group = SINGLE_PROCESS,
) -> tuple[datasets.Loader, datasets.Loader]:
    """Loaders of the training images (shuffled) and the validation images.

    A batch of all processes together has the recipe's size, and each has its share.
    """
    mean, std = channel_statistics(images.name, recipe)

    def transform(train: bool) -> datasets.Transform:
        return datasets.create_transform(
            recipe.augmentation,
            recipe.image_size,
            mean,
            std,
            train=train,
            scale=(recipe.smallest_crop, 1.0),
        )

    loader = partial(
        datasets.Loader,
        batch_size=recipe.batch_size // group.size,
        rank=group.rank,
        world_size=group.size,
        workers=compute.loader_threads,
    )
    return (
        loader(
            images.train,
            transform=transform(train=True),
            seed=seed,
            shuffle=True,
            drop_last=recipe.drop_last,
        ),
        loader(images.val, transform=transform(train=False), seed=0, shuffle=False),
    )
