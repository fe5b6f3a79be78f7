"""Weights from the papers' own PyTorch code.

A PyTorch state is ``{name: array}``. Names are translated in two steps: the module part of a name
by the table of the block it belongs to (``RENAMES``), the last part by what it means
(``running_var`` -> ``_variance``). Nothing is loaded unless every name and shape fits.

The state of a whole ResNet may come from these repositories, which all name the backbone as
torchvision does: hyunjaelee410/style-based-recalibration-module (block ``rclb``),
implus/PytorchInsight (``se``, ``sge``), moskomule/senet.pytorch (``se``), wofmanaf/SA-Net
(``sa``) and BA-Transform/BAT-Image-Classification (``se_block``, ``nl<i>`` after block i). That of
the small SENet may come from JYPark09/SENet-PyTorch.
"""

from __future__ import annotations

import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import paddle
from paddle import nn

from attn_blocks.errors import CheckpointError
from attn_blocks.files import DELETE_IT
from attn_blocks.layers.base import ATTNS
from attn_blocks.layers.bat import BATransform, BilinearAttnTransform
from attn_blocks.layers.gc import GlobalContext
from attn_blocks.layers.ge import GatherExcite
from attn_blocks.layers.nl import NonLocal
from attn_blocks.layers.se import SqueezeExcite
from attn_blocks.models.resnet import DEPTHS, BasicBlock, Bottleneck
from attn_blocks.models.senet_cifar import SENetCifar
from attn_blocks.tensors import check_finite, load_tensors

# For each block: module path in some PyTorch code (a regular expression) -> path in this package.
# A path that no pattern matches is the same on both sides.
RENAMES: dict[type[nn.Layer], dict[str, str]] = {
    SqueezeExcite: {
        r"(fc|excitation)\.0": "fc1",  # moskomule, SRM, PytorchInsight, JYPark09 | BAT repository
        r"(fc|excitation)\.2": "fc2",
    },
    GatherExcite: {
        r"gather": "gather_layers.conv1",  # official prototxt, as transcribed
        r"gather_bn": "gather_layers.norm1",
        r"down": "fc1",
        r"up": "fc2",
        r"conv\.0": "gather_layers.conv1",  # SRM repository
        r"conv\.1": "gather_layers.norm1",
        r"gather\.((conv|norm)\d+)": r"gather_layers.\1",  # timm
        r"mlp\.(fc[12])": r"\1",
    },
    NonLocal: {
        r"t": "theta",  # BAT repository, timm
        r"p": "phi",
        r"bn": "norm",  # BAT repository, Caffe2 as transcribed
        r"out": "z",
        r"(g|phi)\.0(\.conv)?": r"\1",  # pooled: AlexHex7, and mmcv with .conv
        r"W(\.0)?": "z",
        r"W\.1": "norm",
        r"concat_project\.(0|conv)": "concat",
        r"(g|theta|phi)\.conv": r"\1",  # GCNet, mmcv
        r"conv_out\.conv": "z",
        r"conv_out\.bn": "norm",
    },
    GlobalContext: {
        r"channel_(add|mul)_conv\.0": r"f_\1.conv1",  # GCNet
        r"channel_(add|mul)_conv\.1": r"f_\1.norm",
        r"channel_(add|mul)_conv\.3": r"f_\1.conv2",
        r"conv_attn": "conv_mask",  # timm
        r"mlp_add\.fc([12])": r"f_add.conv\1",
        r"mlp_add\.norm": "f_add.norm",
        r"mlp_scale\.fc([12])": r"f_mul.conv\1",
        r"mlp_scale\.norm": "f_mul.norm",
    },
    BATransform: {
        r"(conv[12])\.0": r"\1.conv",
        r"(conv[12])\.1": r"\1.bn",
    },
    BilinearAttnTransform: {
        r"(conv[12])\.0": r"\1.conv",
        r"(conv[12])\.1": r"\1.bn",
        r"(?:batransform|ba)\.(conv[12])(?:\.0|\.conv)": r"transform.\1.conv",
        r"(?:batransform|ba)\.(conv[12])(?:\.1|\.bn)": r"transform.\1.bn",
        r"(?:batransform|ba)\.(conv_[pq])": r"transform.\1",
    },
    SENetCifar: {
        r"conv_block\.0": "conv1",
        r"conv_block\.1": "bn1",
        r"res_blocks\.(\d+)\.conv_lower\.0": r"blocks.\1.conv1",
        r"res_blocks\.(\d+)\.conv_lower\.1": r"blocks.\1.bn1",
        r"res_blocks\.(\d+)\.conv_upper\.0": r"blocks.\1.conv2",
        r"res_blocks\.(\d+)\.conv_upper\.1": r"blocks.\1.bn2",
        r"res_blocks\.(\d+)\.se_block\.fc\.0": r"blocks.\1.attn.fc1",
        r"res_blocks\.(\d+)\.se_block\.fc\.2": r"blocks.\1.attn.fc2",
        r"out_conv\.0": "conv2",
        r"out_conv\.1": "bn2",
    },
}
LEAVES = {"running_mean": "_mean", "running_var": "_variance"}
# Put before every name: by DataParallel, and by torch.compile.
PREFIXES = ("module.", "_orig_mod.")
SHOWN = 20  # problems in an error
# What an error says of a state: its blocks, and its first layer here and in the small SENet's code.
ATTN_NAMES = {
    "se": r"rclb\.fc|se|se_block",
    "ge": r"rclb\.conv",
    "srm": r"rclb\.bn",
    "sge": "sge",
    "sa": "sa",
    "nl": r"nl\d+\.[tpz]",
    "bat": r"nl\d+\.batransform",
}
FIRST_LAYERS = ("conv1.weight", "conv_block.0.weight")
PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt", ".tar", ".pdparams", ".pdopt")


def load_torch_state_dict(layer: nn.Layer, state: Mapping[str, np.ndarray]) -> None:
    """Load the state of the papers' PyTorch code into a block or a whole model, strictly.

    Args:
        layer: a block of ``attn_blocks.layers``, ``BATransform``, or a model that holds blocks.
        state: {PyTorch name: NumPy array}. A linear weight [out, in] is transposed where Paddle
            has a linear layer and taken as [out, in, 1, 1] where there is a 1x1 convolution.
            ``num_batches_tracked`` of a batch norm is ignored: Paddle has no such counter. The
            prefixes ``module.`` and ``_orig_mod.``, if all names have them, are dropped.

    Raises:
        CheckpointError: names that are unknown, missing or given twice, and arrays of another
            shape or without numbers. The first line says what the state looks like and what was
            expected, the others list what does not fit. The layer is then unchanged.
    """
    state = _without_prefixes(state)
    targets = layer.state_dict()
    linear = {
        f"{path}.weight" if path else "weight"
        for path, sub in layer.named_sublayers(include_self=True)
        if isinstance(sub, nn.Linear)
    }
    found: dict[str, tuple[str, np.ndarray]] = {}
    problems: list[str] = []
    for torch_name, value in state.items():
        name = _translate(layer, torch_name)
        counter = name.removesuffix("num_batches_tracked")
        if counter != name and f"{counter}_mean" in targets:
            continue
        if name not in targets:
            problems.append(f"unknown: {torch_name}")
        elif name in found:
            problems.append(f"given twice: {found[name][0]} and {torch_name}")
        else:
            array = np.asarray(value)
            found[name] = (torch_name, array.T if name in linear else array)
    problems += [f"missing: {_with_torch_leaf(name)}" for name in targets if name not in found]
    for name, (torch_name, array) in found.items():
        target = list(targets[name].shape)
        if array.dtype.kind not in "fiu":
            problems.append(f"not numbers: {torch_name} is of type {array.dtype}")
        elif _trimmed(array.shape) != _trimmed(target):
            shown = target[::-1] if name in linear else target
            given = array.shape[::-1] if name in linear else array.shape
            problems.append(f"misshaped: {torch_name} is {list(given)}, needed {list(shown)}")
    if problems:
        raise CheckpointError(_misfit(layer, state, problems))
    # All are converted before the first is set, by way of types that Paddle has for certain.
    tensors = {}
    for name, (_, array) in found.items():
        kind = np.float64 if array.dtype.kind == "f" else np.int64
        values = np.ascontiguousarray(array, kind).reshape(targets[name].shape)
        tensors[name] = paddle.to_tensor(values).astype(targets[name].dtype)
    for name, tensor in tensors.items():
        targets[name].set_value(tensor)


def load_torch_checkpoint(model: nn.Layer, path: str | os.PathLike) -> None:
    """Load a ``.safetensors`` or ``.npz`` file with a PyTorch state into ``model``, strictly.

    Made for the ResNet-50 with se, ge, srm, sge, sa, nl or bat of the repositories named above;
    any layer that ``load_torch_state_dict`` takes will do. Pickles are refused.

    Raises:
        CheckpointError: the file is absent, damaged, a pickle or of another kind, or its state
            does not fit the model.
    """
    load_torch_state_dict(model, read_checkpoint(path))


def read_checkpoint(path: str | os.PathLike) -> dict[str, np.ndarray]:
    """Read ``{name: array}`` from a ``.safetensors`` or ``.npz`` file; never runs code from it.

    Raises:
        CheckpointError: see ``load_torch_checkpoint``; also for NaN, infinity, and types that
            NumPy does not know, such as bfloat16 and float8.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix in PICKLES:
        raise CheckpointError(
            f"{path}: a {suffix} file is a pickle, and loading a pickle runs whatever code it "
            "holds, so it is refused. Where you trust it and have PyTorch, convert it once: "
            "state = torch.load(path, map_location='cpu', weights_only=True); "
            "state = state.get('state_dict', state); "
            "numpy.savez('weights.npz', **{name: t.numpy() for name, t in state.items()})"
        )
    if suffix not in (".safetensors", ".npz"):
        raise CheckpointError(f"{path}: expected a .safetensors or .npz file")
    if not path.is_file():
        raise CheckpointError(f"{path} does not exist")
    if suffix == ".npz":
        try:
            with np.load(path, allow_pickle=False) as archive:
                arrays = {name: archive[name] for name in archive.files}
        except (
            Exception
        ) as error:  # a damaged archive can raise anything, from zlib's to MemoryError
            raise CheckpointError(f"{path} is not an .npz of plain arrays ({error})") from error
        check_finite(path, arrays)
        return arrays
    return load_tensors(path, DELETE_IT)[0]


def _without_prefixes(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    for prefix in PREFIXES:
        if state and all(name.startswith(prefix) for name in state):
            return _without_prefixes({name[len(prefix) :]: value for name, value in state.items()})
    return dict(state)


def _misfit(layer: nn.Layer, state: Mapping[str, np.ndarray], problems: list[str]) -> str:
    """What the state is and why it does not fit, in a line; then what does not, in more lines."""
    attns = [
        name for name, kind in ATTNS.items() if any(isinstance(s, kind) for s in layer.sublayers())
    ]
    given, needed = _looks_like(state, _attns_of(state)), _looks_like(layer.state_dict(), attns)
    kinds = Counter(problem.partition(":")[0] for problem in problems)
    why = ", ".join(f"{number} {kind}" for kind, number in kinds.items())
    if given != needed:
        wanted = f", needed is {needed}" if needed else ""
        why = f"it looks like {given or 'none of these networks'}{wanted} ({why})"
    more = len(problems) - SHOWN
    lines = [*problems[:SHOWN], *([f"and {more} more"] if more > 0 else [])]
    first = f"the state does not fit {type(layer).__name__}, nothing was loaded: {why}"
    return "\n  ".join([first, *lines])


def _attns_of(state: Iterable[str]) -> list[str]:
    """The blocks in a state under the names of the repositories."""
    return [
        attn
        for attn, pattern in ATTN_NAMES.items()
        if any(re.search(rf"\.({pattern})\.", name) for name in state)
    ]


def _looks_like(state: Mapping[str, Any], attns: Iterable[str]) -> str | None:
    """What network a state is of, by its names and shapes; None for what is no network."""
    first = next((state[name] for name in FIRST_LAYERS if name in state), None)
    if first is None or "fc.bias" not in state:
        return None
    blocks = {m.groups() for name in state if (m := re.match(r"layer([1-4])\.(\d+)\.", name))}
    network = "the small SENet"
    if blocks:
        repeats = tuple(sum(stage == number for stage, _ in blocks) for number in "1234")
        kind = Bottleneck if "layer1.0.conv3.weight" in state else BasicBlock
        depths = [d for d, made in DEPTHS.items() if (made.block, made.repeats) == (kind, repeats)]
        network = f"a ResNet-{depths[0]}" if depths else f"a ResNet of {repeats} blocks"
    return (
        f"{network} with {' and '.join(sorted(attns)) or 'no block'}, a first layer of "
        f"{list(np.shape(first))} and {np.size(state['fc.bias'])} classes"
    )


def _translate(layer: nn.Layer, torch_name: str) -> str:
    """The name in this package; for a model the block's own table applies below its path."""
    path, _, leaf = torch_name.rpartition(".")
    block_path, block = "", layer
    if not _renames(layer):
        block_path, block, path = _find_block(layer, path)
    for pattern, replacement in _renames(block).items():
        match = re.fullmatch(pattern, path)
        if match:
            path = match.expand(replacement)
            break
    return ".".join(part for part in (block_path, path, LEAVES.get(leaf, leaf)) if part)


def _renames(layer: nn.Layer) -> dict[str, str]:
    """The table of the layer's class, or of the one that it is made of."""
    return next((table for kind, table in RENAMES.items() if isinstance(layer, kind)), {})


def _find_block(model: nn.Layer, path: str) -> tuple[str, nn.Layer, str]:
    """Split a module path of a ResNet into the block's path here, the block and the rest."""
    match = re.fullmatch(r"(layer\d+\.\d+)\.(?:rclb|se|sge|sa|se_block)(?:\.(.+))?", path)
    if match:
        block_path, rest = f"{match[1]}.attn", match[2] or ""
    else:
        match = re.fullmatch(r"(layer\d+\.nl\d+)(?:\.(.+))?", path)
        if not match:
            return "", model, path
        block_path, rest = match[1], match[2] or ""
    blocks = dict(model.named_sublayers())
    return (block_path, blocks[block_path], rest) if block_path in blocks else ("", model, path)


def _trimmed(shape: Iterable[int]) -> list[int]:
    """The shape without trailing axes of length one: [out, in] is [out, in, 1, 1]."""
    shape = list(shape)
    while shape and shape[-1] == 1:
        shape.pop()
    return shape


def _with_torch_leaf(name: str) -> str:
    for torch_leaf, leaf in LEAVES.items():
        if name.endswith(leaf):
            return name.removesuffix(leaf) + torch_leaf
    return name
