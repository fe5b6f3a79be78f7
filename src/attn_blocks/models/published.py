"""The book's networks beside the figures of the papers' own code."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import paddle

from attn_blocks.models import create_model
from attn_blocks.models.counting import count_macs, count_params


@dataclass(frozen=True)
class Row:
    """A network, and what others report of it.

    ``reference_params`` and ``reference_gmac`` (multiply-accumulates of convolutions, linear
    layers and matrix products) come from running ``code``, those of torchvision's networks other
    than ResNet-50 from its documentation. ``published`` is what is printed in the place that it
    names, where GFLOPs mean multiply-accumulates, often with element-wise ones.
    """

    name: str
    reference_params: int | None
    reference_gmac: float | None
    code: str
    published: str = ""
    options: dict[str, Any] = field(default_factory=dict)
    num_classes: int = 1000
    image_size: int = 224


TORCHVISION = "torchvision"
INSIGHT = "implus/PytorchInsight"
SRM = "hyunjaelee410/style-based-recalibration-module"
BAT = "BA-Transform/BAT-Image-Classification"
GC = "torchvision + xvjiarui/GCNet's ContextBlock"
GE = "hujie-frank/GENet's prototxt, counted by hand"

ROWS = (
    Row("resnet50", 25_557_032, 4.089, TORCHVISION, "25.56M, 4.122 GFLOPs (PytorchInsight README)"),
    Row("se_resnet50", 28_088_024, 4.092, INSIGHT, "28.09M, 4.130 GFLOPs (PytorchInsight README)"),
    Row("se_resnet50", 28_071_976, 4.092, "moskomule/senet.pytorch", options={"bias": False}),
    Row("ge_resnet50", 31_121_704, 4.095, SRM),
    Row("ge_resnet50", 25_557_032, None, GE, options={"variant": "theta_minus"}),
    Row("ge_resnet50", 31_106_600, None, GE, options={"conv_bias": False}),
    Row("ge_resnet50", 33_637_592, None, GE, options={"variant": "theta_plus"}),
    Row("srm_resnet50", 25_617_448, 4.089, SRM),
    Row("sge_resnet50", 25_559_080, 4.089, INSIGHT, "25.56M, 4.127 GFLOPs (PytorchInsight README)"),
    Row("sa_resnet50", 25_557_740, 4.089, "wofmanaf/SA-Net", "25.56M (SA-Net README)"),
    Row("nl_resnet50", 32_915_496, 6.892, BAT),
    Row("gc_resnet50", 26_024_749, 4.092, GC),
    Row("gc_resnet50", 27_403_309, 4.094, GC, options={"ratio": 1 / 4}),
    Row("gc_resnet50", 29_241_389, 4.096, GC, options={"ratio": 1 / 2}),
    Row("gc_resnet50", 28_078_773, 4.098, GC, options={"placement": "inside_c3_c5"}),
    Row(
        "gc_resnet50", 35_557_941, 4.105, GC, options={"placement": "inside_c3_c5", "ratio": 1 / 4}
    ),
    Row("gc_resnet50", 28_105_032, 4.103, GC, options={"placement": "inside"}),
    Row("bat_resnet50", 30_234_220, 5.407, BAT, "30.2M, 5.4 GFLOPs (BAT README)"),
    Row("bat_se_resnet50", 32_765_212, 5.410, BAT),
    Row("resnet18", 11_689_512, 1.81, TORCHVISION),
    Row("resnet34", 21_797_672, 3.66, TORCHVISION),
    Row("resnet101", 44_549_160, 7.80, TORCHVISION, "44.55M, 7.849 GFLOPs (PytorchInsight README)"),
    Row("bat_resnet101", None, None, BAT, "49.2M, 9.2 GFLOPs (BAT README)"),
    Row("vgg19", 143_667_240, 19.63, TORCHVISION),
    Row("mobilenet_v2", 3_504_872, 0.30, TORCHVISION),
    Row("senet_cifar", 2_708_106, 2.767, "JYPark09/SENet-PyTorch", num_classes=10, image_size=32),
    Row("sa_inception", 1_559_600, None, "the write-up", num_classes=16, image_size=256),
)


def table() -> list[dict[str, object]]:
    """One row a network: what is counted here, beside what its authors' code has.

    Returns:
        Dicts of ``model``, ``options`` (text), ``classes``, ``image_size``, ``params``,
        ``reference_params``, ``gmac``, ``reference_gmac``, ``code`` (where the reference figures
        come from) and ``published``; a figure that nobody gives is None.
    """
    rows = []
    for row in ROWS:
        with paddle.LazyGuard():  # the weights are only counted: no memory, no random numbers
            model = create_model(
                row.name, row.num_classes, image_size=row.image_size, **row.options
            )
        macs = count_macs(model, (3, row.image_size, row.image_size))
        rows.append(
            {
                "model": row.name,
                "options": ", ".join(f"{key}={value}" for key, value in row.options.items()),
                "classes": row.num_classes,
                "image_size": row.image_size,
                "params": count_params(model),
                "reference_params": row.reference_params,
                "gmac": round(macs / 1e9, 3),
                "reference_gmac": row.reference_gmac,
                "code": row.code,
                "published": row.published,
            }
        )
    return rows
