"""Named arrays come back as they were, or their file is refused."""

import json
import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks.errors import CheckpointError
from attn_blocks.models.torch_weights import read_checkpoint
from attn_blocks.tensors import check_shapes, load_tensors, save_tensors, tensor_shapes


def test_tensors_come_back_bit_for_bit(tmp_path):
    path = tmp_path / "w.safetensors"
    # A transposed view is not contiguous; its values, not its memory, must be written.
    tensors = {"a": np.arange(6, dtype=np.float32).reshape(2, 3).T, "b": np.float64(0.1).reshape(1)}
    tensors["no axes"] = np.array(3)
    save_tensors(path, tensors, {"epoch": "3"})
    loaded, metadata = load_tensors(path)
    assert metadata == {"epoch": "3"}
    assert loaded.keys() == tensors.keys()
    for name, array in tensors.items():
        assert (loaded[name].dtype, loaded[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(loaded[name], array)


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    path = tmp_path_factory.mktemp("weights") / "w.safetensors"
    arrays = {"a": np.arange(6, dtype=np.float32).reshape(2, 3), "b": np.zeros(4, np.int64)}
    save_tensors(path, arrays, {"epoch": "3"})
    return path.read_bytes()


@settings(max_examples=200)
@given(data=st.data())
def test_damaged_tensor_files_are_refused_in_our_own_words(tmp_path_factory, weights, data):
    content = bytearray(weights)
    for _ in range(data.draw(st.integers(0, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.just(len(content)) | st.integers(0, len(content)))
    path = tmp_path_factory.getbasetemp() / "any.safetensors"
    path.write_bytes(bytes(content[:cut]) + data.draw(st.binary(max_size=8)))
    for read in (load_tensors, tensor_shapes):
        try:
            tensors, metadata = read(path)
        except CheckpointError as error:
            assert str(path) in str(error)
        else:
            assert isinstance(metadata, dict)
            for value in tensors.values():
                assert isinstance(value, np.ndarray | tuple)


@pytest.mark.parametrize("name", ["model.pdparams", "model.pth", "model.pkl", "model"])
def test_pickles_are_refused_and_why(tmp_path, name):
    path = tmp_path / name
    path.write_bytes(b"\x80\x04cposix\nsystem\n(S'touch opened'\ntR.")
    for read in (load_tensors, tensor_shapes):
        with pytest.raises(CheckpointError, match=f"{name} is not .*runs whatever code it holds"):
            read(path)
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_what_does_not_fit_a_model_is_listed():
    def shapes(**sizes):
        return {name: np.zeros(size) for name, size in sizes.items()}

    check_shapes("w.safetensors", shapes(a=(2, 3), b=4), shapes(a=(2, 3), b=4))
    with pytest.raises(CheckpointError) as caught:
        check_shapes("w.safetensors", shapes(a=(2, 3), c=1), shapes(a=(3, 2), b=4))
    assert str(caught.value) == (
        "w.safetensors does not fit its model (misshaped: a is [2, 3], needed [3, 2]; missing: b; "
        "unknown: c)"
    )
    with pytest.raises(CheckpointError, match="and 7 more"):
        check_shapes("w", {}, shapes(**{f"p{i}": 1 for i in range(10)}))


def test_a_truncated_or_foreign_tensor_file_is_named(tmp_path):
    path = tmp_path / "w.safetensors"
    save_tensors(path, {"a": np.zeros(1000, np.float32)}, {})
    whole = path.read_bytes()
    for content in (whole[:-1], whole[:20], b"", b"\x80\x04pickle", json.dumps({}).encode()):
        path.write_bytes(content)
        with pytest.raises(CheckpointError, match="w.safetensors"):
            load_tensors(path)
    with pytest.raises(CheckpointError, match="does not exist"):
        load_tensors(tmp_path / "absent.safetensors")


def one_tensor(kind, content, length):
    header = json.dumps(
        {"w": {"dtype": kind, "shape": [length], "data_offsets": [0, len(content)]}}
    )
    return struct.pack("<Q", len(header)) + header.encode() + content


@pytest.mark.parametrize("kind", ["F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "BF16"])
def test_types_that_numpy_does_not_know_are_refused(tmp_path, kind):
    path = tmp_path / "w.safetensors"
    path.write_bytes(one_tensor(kind, bytes({"F4": 2, "BF16": 8}.get(kind, 4)), 4))
    for read in (load_tensors, read_checkpoint):
        with pytest.raises(CheckpointError, match="w.safetensors is not .* numbers that NumPy"):
            read(path)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("kind", [np.float16, np.float32, np.float64])
def test_weights_that_are_no_numbers_are_refused(tmp_path, kind, value):
    weights = {"a": np.ones(3, kind), "b": np.array([1, value], kind), "n": np.arange(2)}
    save_tensors(tmp_path / "w.safetensors", weights, {})
    np.savez(tmp_path / "w.npz", **weights)
    for read, name in (
        (load_tensors, "w.safetensors"),
        (read_checkpoint, "w.safetensors"),
        (read_checkpoint, "w.npz"),
    ):
        with pytest.raises(CheckpointError, match=f"{name}: b holds NaN or infinity; delete it"):
            read(tmp_path / name)
