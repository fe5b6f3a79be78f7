"""Training speed with the native convolution over that with Paddle's own, in one process.

Both models take their steps in turns, so that whatever else the machine does meets both. Prints
CSV; the ratio is the median over pairs of neighbouring steps.

    python benchmarks/convolution.py [--steps 6] [--models resnet50 ...]
"""

from __future__ import annotations

import argparse
import csv
import os
import sys
import time
from collections.abc import Callable
from statistics import median

import attn_blocks as ab
from attn_blocks import native, runtime

# model name: arguments of create_model, batch size, image size
CASES = {
    "resnet50": ("resnet50", {"stem": "imagenet"}, 32, 64),
    "resnet18": ("resnet18", {"stem": "imagenet"}, 32, 64),
    "resnet50-width0.25": ("resnet50", {"stem": "small", "width": 0.25}, 64, 56),
    "resnet18-cifar-width0.25": ("resnet18", {"stem": "cifar", "width": 0.25}, 128, 32),
}


def training_step(case: str, accelerated: bool) -> Callable[[], None]:
    """A function that trains the model of ``case`` for one step on random images."""
    import paddle

    name, options, batch, size = CASES[case]
    paddle.seed(0)
    model = ab.create_model(name, num_classes=10, image_size=size, **options)
    if accelerated:
        native.accelerate(model)
    optimiser = paddle.optimizer.Momentum(0.01, 0.9, parameters=model.parameters())
    images, labels = paddle.randn([batch, 3, size, size]), paddle.randint(0, 10, [batch])

    def step() -> None:
        loss = paddle.nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimiser.step()
        optimiser.clear_grad()
        float(loss)

    return step


def seconds(step: Callable[[], None]) -> float:
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def measure(case: str, steps: int) -> dict[str, object]:
    own, fast = training_step(case, False), training_step(case, True)
    for _ in range(2):  # allocation, and oneDNN's kernels
        own(), fast()
    pairs = [(seconds(own), seconds(fast)) for _ in range(steps)]
    batch, size = CASES[case][2:]
    return {
        "model": case,
        "batch": batch,
        "image_size": size,
        "threads": os.environ.get("OMP_NUM_THREADS", "1"),
        "paddle_images_per_second": f"{batch / median(a for a, _ in pairs):.1f}",
        "native_images_per_second": f"{batch / median(b for _, b in pairs):.1f}",
        "ratio": f"{median(a / b for a, b in pairs):.2f}",
        "native": native.describe()["library"],
        "maths": native.describe()["maths"],
        "processor": runtime.processor()["name"],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=6, help="timed steps a model (6)")
    parser.add_argument("--models", nargs="+", choices=CASES, default=list(CASES))
    arguments = parser.parse_args()
    if not native.available():
        sys.exit(native.build())
    writer = None
    for case in arguments.models:
        row = measure(case, arguments.steps)
        if writer is None:
            writer = csv.DictWriter(sys.stdout, row)
            writer.writeheader()
        writer.writerow(row)
        sys.stdout.flush()


if __name__ == "__main__":
    main()
