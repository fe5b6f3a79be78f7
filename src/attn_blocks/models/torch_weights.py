"""Weights from the papers' own PyTorch code.

A PyTorch state is ``{name: array}``. Names are translated in two steps: the module part of a name
by the table of the block it belongs to (``RENAMES``), the last part by what it means
(``running_var`` -> ``_variance``). Nothing is loaded unless every name and shape fits.

The state of a whole ResNet may come from these repositories, which all name the backbone as
torchvision does: hyunjaelee410/style-based-recalibration-module (block ``rclb``),
implus/PytorchInsight (``se``, ``sge``), moskomule/senet.pytorch (``se``), wofmanaf/SA-Net
(``sa``) and BA-Transform/BAT-Image-Classification (``se_block``, ``nl<i>`` after block i).
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import paddle
from paddle import nn

from attn_blocks.errors import CheckpointError
from attn_blocks.files import DELETE_IT, check_finite, load_tensors
from attn_blocks.layers.bat import BATransform, BilinearAttnTransform
from attn_blocks.layers.gc import GlobalContext
from attn_blocks.layers.ge import GatherExcite
from attn_blocks.layers.nl import NonLocal
from attn_blocks.layers.se import SqueezeExcite

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
        r"(g|phi)\.0": r"\1",  # AlexHex7
        r"W(\.0)?": "z",
        r"W\.1": "norm",
        r"concat_project\.0": "concat",
        r"(g|theta|phi)\.conv": r"\1",  # GCNet
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
}
LEAVES = {"running_mean": "_mean", "running_var": "_variance"}
PICKLES = (".pth", ".pt", ".pkl", ".pickle", ".bin", ".ckpt", ".tar", ".pdparams", ".pdopt")


def load_torch_state_dict(layer: nn.Layer, state: Mapping[str, np.ndarray]) -> None:
    """Load the state of the papers' PyTorch code into a block or a whole model, strictly.

    Args:
        layer: a block of ``attn_blocks.layers``, ``BATransform``, or a model that holds blocks.
        state: {PyTorch name: NumPy array}. A linear weight [out, in] is transposed where Paddle
            has a linear layer and taken as [out, in, 1, 1] where there is a 1x1 convolution.
            ``num_batches_tracked`` of a batch norm is ignored: Paddle has no such counter. The
            prefix ``module.``, which DataParallel puts before every name, is dropped.

    Raises:
        CheckpointError: names that are unknown, missing or given twice, and arrays of another
            shape or without numbers: all of them in one message. The layer is then unchanged.
    """
    targets = layer.state_dict()
    linear = {
        f"{path}.weight" if path else "weight"
        for path, sub in layer.named_sublayers(include_self=True)
        if isinstance(sub, nn.Linear)
    }
    found: dict[str, tuple[str, np.ndarray]] = {}
    problems: list[str] = []
    for torch_name, value in _without_module_prefix(state).items():
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
        listing = "\n  ".join(problems)
        raise CheckpointError(
            f"the state does not fit {type(layer).__name__}, nothing was loaded:\n  {listing}"
        )
    for name, (_, array) in found.items():
        target = targets[name]
        tensor = paddle.to_tensor(np.ascontiguousarray(array).reshape(target.shape))
        target.set_value(tensor.astype(target.dtype))


def load_torch_checkpoint(model: nn.Layer, path: str | os.PathLike) -> None:
    """Load a ``.safetensors`` or ``.npz`` file with a PyTorch state into ``model``, strictly.

    Made for the ResNet-50 with se, srm, sge, sa, nl or bat of the repositories named above; any
    layer that ``load_torch_state_dict`` takes will do. Pickles are refused.

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


def _without_module_prefix(state: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    prefix = "module."
    if state and all(name.startswith(prefix) for name in state):
        return {name.removeprefix(prefix): value for name, value in state.items()}
    return dict(state)


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
