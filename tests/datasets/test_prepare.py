"""What people have, in the layouts in the wild, becomes the layout of the data folder."""

from __future__ import annotations

import io
import pickle
import shutil
import tarfile
import zipfile
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from attn_blocks.datasets import animals10, caltech16, cifar10, load, prepare
from attn_blocks.errors import DataError, SettingError
from attn_blocks.files import folder_lock

ENGLISH, ITALIAN = tuple(animals10.ITALIAN.values()), tuple(animals10.ITALIAN)
COUNT = 5


@pytest.fixture
def animals(tmp_path, class_folder):
    """A function that makes a tree of class folders of the given names."""

    def make(*path: str, names=ENGLISH) -> Path:
        for number, name in enumerate(names):
            class_folder(tmp_path.joinpath("source", *path, name), COUNT, seed=100 * number)
        return tmp_path / "source"

    return make


def packed(tree: Path, kind: str) -> Path:
    return Path(shutil.make_archive(str(tree.parent / "packed"), kind, tree))


def layout(folder: Path) -> dict[str, int]:
    """Number of files below each class folder."""
    return {
        str(child.relative_to(folder)): sum(path.is_file() for path in child.iterdir())
        for child in sorted(folder.rglob("*"))
        if child.is_dir() and not any(path.is_dir() for path in child.iterdir())
    }


COMPLETE = dict.fromkeys(sorted(ENGLISH), COUNT)


@pytest.mark.parametrize("path", [(), ("raw-img",), ("animals",), ("a", "b", "archive", "raw-img")])
@pytest.mark.parametrize("names", [ENGLISH, ITALIAN])
@pytest.mark.parametrize("kind", [None, "zip", "tar", "gztar"])
def test_animals_10_in_every_layout(animals, tmp_path, path, names, kind):
    source = animals(*path, names=names)
    folder = prepare.prepare("animals10", packed(source, kind) if kind else source, tmp_path / "d")
    assert folder == tmp_path / "d/animals10"
    assert layout(folder) == COMPLETE
    assert load("animals10", tmp_path / "d").classes == ENGLISH
    leftovers = {path.name for path in (tmp_path / "d").iterdir()}
    assert leftovers <= {"animals10", ".animals10.lock", ".cache"}
    assert source.is_dir(), "the source stays"


def test_the_same_images_from_any_layout_are_the_same_data_set(animals, tmp_path):
    source = animals("raw-img", names=ITALIAN)
    prepare.prepare("animals10", source, tmp_path / "one")
    shutil.copytree(source / "raw-img", tmp_path / "two/raw-img")
    one, two = (load("animals10", tmp_path / name) for name in ("one", "two"))
    assert one.fingerprint == two.fingerprint


def test_train_and_test_folders_are_kept(animals, tmp_path):
    animals("animals", "train")
    source = animals("animals", "test")
    prepare.prepare("animals10", source, tmp_path / "d")
    assert set(layout(tmp_path / "d/animals10")) == {
        f"{part}/{name}" for part in ("train", "test") for name in ENGLISH
    }


def test_what_else_is_in_the_source_is_left_there(animals, tmp_path):
    source = animals("raw-img")
    (source / "translate.py").write_text("raise SystemExit")
    (source / "raw-img/dog/.DS_Store").touch()
    (source / "__MACOSX/raw-img/dog").mkdir(parents=True)
    (source / "__MACOSX/raw-img/dog/._000.png").touch()
    (source / "raw-img/dog/out.png").symlink_to("/etc/hostname")
    for number in range(200):
        shutil.copy(source / "raw-img/dog/000.png", source / f"raw-img/dog/more{number}.png")
    folder = prepare.prepare("animals10", source, tmp_path / "d")
    assert layout(folder) == {**COMPLETE, "dog": COUNT + 200}
    assert not list(folder.rglob("translate.py")) and not list(folder.rglob("out.png"))


def caltech_tree(tmp_path: Path, class_folder) -> Path:
    folder = tmp_path / "caltech-101/101_ObjectCategories"
    for number in range(18):
        class_folder(folder / f"class{number:02d}", 3 if number < 17 else 2, seed=10 * number)
    class_folder(folder / "BACKGROUND_Google", 6)
    class_folder(folder / "Faces_easy", 6)
    (folder / "BACKGROUND_Google/tmp").touch()
    return folder


@pytest.mark.parametrize("form", ["folder", "parent", "tar.gz", "nested", "nested folder"])
def test_caltech_in_every_form(tmp_path, class_folder, form):
    folder = source = caltech_tree(tmp_path, class_folder)
    if form == "parent":
        source = folder.parent
    elif form != "folder":
        packed_folder = tmp_path / "zip/caltech-101"
        packed_folder.mkdir(parents=True)
        source = packed_folder / "101_ObjectCategories.tar.gz"
        with tarfile.open(source, "w:gz") as opened:
            opened.add(folder, "101_ObjectCategories")
        # The annotations have folders of the same names, without images.
        with tarfile.open(packed_folder / "Annotations.tar", "w") as opened:
            info = tarfile.TarInfo("Annotations/class00/annotation_0001.mat")
            opened.addfile(info, io.BytesIO())
        if form == "nested folder":
            source = packed_folder
        elif form == "nested":
            (tmp_path / "zip/__MACOSX").mkdir()
            (tmp_path / "zip/__MACOSX/._101_ObjectCategories.tar.gz").write_bytes(b"\0\5\26\7")
            source = packed(tmp_path / "zip", "zip")
    found = prepare.prepare("caltech16", source, tmp_path / "d")
    assert layout(found) == {f"class{number:02d}": 3 for number in range(16)}


def test_caltech_is_known_by_two_of_its_classes(tmp_path, class_folder):
    for name in (*caltech16.SOURCE.class_names, "starfish"):
        class_folder(tmp_path / "whatever" / name, 2 if name == "starfish" else 3)
    found = prepare.prepare("caltech16", tmp_path / "whatever", tmp_path / "d")
    assert tuple(layout(found)) == caltech16.SOURCE.class_names
    with pytest.raises(DataError, match="does not hold Caltech-101"):
        prepare.prepare("caltech16", tmp_path / "d/../whatever/bonsai", tmp_path / "e")


def batch(number: int, protocol: int = 2, changes: Mapping = MappingProxyType({})) -> bytes:
    """One of CIFAR-10's files, as Python 2 pickled it: byte strings for keys."""
    pixels = np.random.default_rng(number).integers(0, 256, (20, 3072), dtype=np.uint8)
    return pickle.dumps(
        {b"data": pixels, b"labels": list(range(10)) * 2, **changes}, protocol=protocol
    )


def cifar_archive(path: Path, **replaced: bytes) -> Path:
    with tarfile.open(path, "w:gz") as opened:
        for number, name in enumerate(cifar10.BATCHES):
            content = replaced.get(name, batch(number))
            info = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            info.size = len(content)
            opened.addfile(info, io.BytesIO(content))
        opened.addfile(tarfile.TarInfo("cifar-10-batches-py/batches.meta"))
    return path


def test_the_original_cifar_10(tmp_path):
    prepare.prepare("cifar10", cifar_archive(tmp_path / "cifar.tar.gz"), tmp_path / "d")
    loaded = load("cifar10", tmp_path / "d")
    assert loaded.label == "CIFAR-10 (10 classes; 100 / 20 images)"
    assert loaded.classes == cifar10.SOURCE.class_names
    # Every pixel is kept: the third image of the test batch is the first of class "bird".
    original = np.random.default_rng(5).integers(0, 256, (20, 3072), dtype=np.uint8)
    bird = loaded.val[int(np.flatnonzero(loaded.val.labels == 2)[0])]
    assert np.array_equal(bird, original[2].reshape(3, 32, 32).transpose(1, 2, 0))
    assert layout(tmp_path / "d/cifar10")["train/bird"] == 10


@pytest.mark.parametrize("protocol", range(5))
def test_arrays_of_every_pickle_protocol_are_read(tmp_path, protocol):
    for name in cifar10.BATCHES:
        (tmp_path / name).write_bytes(batch(0, protocol))
    assert len(list(cifar10.read_batches(tmp_path))) == 6


def test_python_2_pickles_are_read(tmp_path):
    # As Python 2 wrote them: strings without an encoding, the dtype's code among them.
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR"
        b"(I1\n(I1\nI3072\ntcnumpy\ndtype\n(S'u1'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI0\ntb"
        b"I00\nS'" + b"A" * 3072 + b"'\ntb"
    )
    content = b"(dS'data'\n" + array + b"sS'labels'\n(lI3\nas."
    for name in cifar10.BATCHES:
        (tmp_path / name).write_bytes(content)
    _, pixels, labels = next(cifar10.read_batches(tmp_path))
    assert pixels.shape == (1, 32, 32, 3) and (pixels == 65).all() and labels.tolist() == [3]


class Evil:
    def __init__(self, *call):
        self.call = call

    def __reduce__(self):
        return self.call


@pytest.mark.parametrize(
    "payload",
    [
        Evil(exec, ("open('owned', 'w')",)),
        Evil(Path.touch, (Path("owned"),)),
        Evil(np.fromfile, ("/etc/passwd",)),
        Evil(np.dtype, ("O",)),
        np.array([Evil(exec, ("open('owned', 'w')",))], dtype=object),
        np.zeros(3, dtype="U5"),
        Evil(np.ndarray, ((10**6,),)),
    ],
)
@pytest.mark.parametrize("protocol", [2, 5])
def test_pickles_of_anything_but_arrays_are_refused(tmp_path, monkeypatch, payload, protocol):
    monkeypatch.chdir(tmp_path)
    content = batch(0, protocol, {"other": payload})
    archive = cifar_archive(tmp_path / "cifar.tar.gz", data_batch_2=content)
    with pytest.raises(DataError, match="data_batch_2 is not an original CIFAR-10 batch"):
        prepare.prepare("cifar10", archive, tmp_path / "d")
    assert not Path("owned").exists() and not (tmp_path / "d/cifar10").exists()


RECONSTRUCT = np.zeros(0).__reduce__()[0]
UINT8 = 3, "|", None, None, None, -1, -1, 0


def forged(state=UINT8, content=bytes(20 * 3072), by_columns=False):
    """Pixels, pickled with a state of one's own for the array or its type."""
    kind = Evil(np.dtype, ("u1", False, True), state)
    state = 1, (20, 3072), kind, by_columns, content
    return {b"data": Evil(RECONSTRUCT, (np.ndarray, (0,), b"b"), state)}


@pytest.mark.parametrize(
    "changes",
    [
        forged((3, "|", None, None, None, -1, -1, 63)),  # the flags of objects
        forged((3, "|", None, ("a",), {"a": (np.dtype("u1"), 0)}, 1, 1, 0)),
        forged((3, "|", (np.dtype("u1"), (1,)), None, None, -1, -1, 0)),
        forged(content=[b"1"] * (20 * 3072)),
        forged(content=bytes(20 * 3072 - 1)),
    ],
)
def test_arrays_of_another_state_than_plain_pixels_are_refused(tmp_path, changes):
    for name in cifar10.BATCHES:
        (tmp_path / name).write_bytes(batch(0, changes=changes))
    with pytest.raises(DataError, match="data_batch_1 is not an original CIFAR-10 batch"):
        next(cifar10.read_batches(tmp_path))


def test_arrays_stored_by_columns_are_read(tmp_path):
    expected = np.random.default_rng(0).integers(0, 256, (20, 3072), dtype=np.uint8)
    for name in cifar10.BATCHES:
        changes = forged(content=expected.T.tobytes(), by_columns=True)
        (tmp_path / name).write_bytes(batch(0, changes=changes))
    _, pixels, _ = next(cifar10.read_batches(tmp_path))
    assert np.array_equal(pixels.transpose(0, 3, 1, 2).reshape(20, 3072), expected)


@pytest.mark.parametrize(
    "changes",
    [
        {b"data": np.zeros((20, 3071), np.uint8)},
        {b"data": np.zeros((20, 3072), np.int16)},
        {b"data": np.zeros((0, 3072), np.uint8), b"labels": []},
        {b"labels": [10] * 20},
        {b"labels": [0] * 19},
        {b"labels": ["cat"] * 20},
        {b"labels": None},
    ],
)
def test_batches_that_are_not_cifar_10(tmp_path, changes):
    archive = cifar_archive(tmp_path / "c.tar.gz", test_batch=batch(0, changes=changes))
    with pytest.raises(DataError, match="test_batch is not an original CIFAR-10 batch"):
        prepare.prepare("cifar10", archive, tmp_path / "d")


def test_a_missing_batch_is_named(tmp_path):
    (tmp_path / "batches").mkdir()
    (tmp_path / "batches/data_batch_1").write_bytes(batch(0))
    with pytest.raises(DataError, match="lacks data_batch_2, .*test_batch"):
        prepare.prepare("cifar10", tmp_path / "batches", tmp_path / "d")


@settings(max_examples=150)
@given(st.data())
def test_any_damage_to_a_pickle_is_refused_or_harmless(tmp_path_factory, data):
    folder = tmp_path_factory.mktemp("batches")
    content = bytearray(
        pickle.dumps(
            {b"data": np.zeros((1, 3072), np.uint8), b"labels": [1]},
            protocol=data.draw(st.sampled_from([0, 2, 4])),
        )
    )
    heads = [place for place in range(len(content)) if not 400 < place < len(content) - 200]
    for place in data.draw(st.lists(st.sampled_from(heads), min_size=1, max_size=5)):
        content[place] = data.draw(st.integers(0, 255))
    for name in cifar10.BATCHES:
        (folder / name).write_bytes(content)
    try:
        list(cifar10.read_batches(folder))
    except DataError as error:
        assert "is not an original CIFAR-10 batch" in str(error)


def test_cifar_10_as_folders_of_images(tmp_path, class_folder):
    for part in ("train", "test"):
        for number, name in enumerate(cifar10.SOURCE.class_names):
            class_folder(tmp_path / "CIFAR-10-images-master" / part / name, 2, seed=number)
    archive = packed(tmp_path / "CIFAR-10-images-master", "zip")
    prepare.prepare("cifar10", archive, tmp_path / "d")
    assert len(layout(tmp_path / "d/cifar10")) == 20
    assert load("cifar10", tmp_path / "d").label == "CIFAR-10 (10 classes; 20 / 20 images)"


def test_flat_folders_are_no_cifar_10(tmp_path, class_folder):
    class_folder(tmp_path / "source/cat", 2)
    class_folder(tmp_path / "source/dog", 2)
    with pytest.raises(DataError, match=r"below train/ and test/.*found 'cat', 'dog'.*--download"):
        prepare.prepare("cifar10", tmp_path / "source", tmp_path / "d")


def test_a_folder_that_is_there_is_replaced_only_when_asked(animals, tmp_path):
    source = animals()
    prepare.prepare("animals10", source, tmp_path / "d")
    shutil.rmtree(source / "dog")
    with pytest.raises(DataError, match="is there already; add --replace"):
        prepare.prepare("animals10", source, tmp_path / "d")
    assert layout(tmp_path / "d/animals10") == COMPLETE
    prepare.prepare("animals10", source, tmp_path / "d", replace=True)
    assert "dog" not in layout(tmp_path / "d/animals10")


def test_a_failed_replacement_keeps_what_was_there(animals, tmp_path):
    source = animals()
    prepare.prepare("animals10", source, tmp_path / "d")
    (source / "dog/000.png").write_bytes(b"junk")
    with pytest.raises(DataError, match="class 'dog' loses 1 of 5 images"):
        prepare.prepare("animals10", source, tmp_path / "d", replace=True)
    assert layout(tmp_path / "d/animals10") == COMPLETE
    assert {path.name for path in (tmp_path / "d").iterdir()} == {"animals10", ".animals10.lock"}


def test_a_data_set_may_be_its_own_source(animals, tmp_path):
    animals(names=ITALIAN)
    shutil.move(tmp_path / "source", tmp_path / "d/animals10")
    prepare.prepare("animals10", tmp_path / "d/animals10", tmp_path / "d", replace=True)
    assert layout(tmp_path / "d/animals10") == COMPLETE


def test_a_source_in_the_folder_that_it_would_replace_is_kept(animals, tmp_path):
    archive = packed(animals(), "zip")
    (tmp_path / "d/animals10").mkdir(parents=True)
    inside = shutil.move(archive, tmp_path / "d/animals10/animals10.zip")
    for replace in (False, True):
        with pytest.raises(DataError, match="lies in .*animals10.zip deleted.* move it out"):
            prepare.prepare("animals10", inside, tmp_path / "d", replace=replace)
    assert zipfile.is_zipfile(inside)


@pytest.mark.parametrize("source", ["d", "d/animals10"])
def test_an_archive_below_a_source_is_not_replaced_by_what_it_holds(animals, tmp_path, source):
    archive = packed(animals(), "zip")
    (tmp_path / "d/animals10").mkdir(parents=True)
    inside = shutil.move(archive, tmp_path / "d/animals10/animals10.zip")
    with pytest.raises(DataError, match="animals10.zip lies in .* deleted with it; move it out"):
        prepare.prepare("animals10", tmp_path / source, tmp_path / "d", replace=True)
    assert zipfile.is_zipfile(inside) and layout(tmp_path / "d") == {"animals10": 1}


def test_a_file_in_the_place_of_the_folder_is_kept(animals, tmp_path):
    (tmp_path / "d").mkdir()
    (tmp_path / "d/animals10").write_text("notes")
    for replace in (False, True):
        with pytest.raises(DataError, match="animals10 is a file, and .* goes there; move it"):
            prepare.prepare("animals10", animals(), tmp_path / "d", replace=replace)
    assert (tmp_path / "d/animals10").read_text() == "notes"


def test_archives_are_unpacked_up_to_the_one_that_holds_the_data_set(animals, tmp_path):
    packed(animals(), "zip").rename(tmp_path / "source/a.zip")
    for name in ENGLISH:
        shutil.rmtree(tmp_path / "source" / name)
    (tmp_path / "source/b.zip").write_text("damaged")
    prepare.prepare("animals10", tmp_path / "source", tmp_path / "d")
    assert layout(tmp_path / "d/animals10") == COMPLETE


@pytest.fixture
def useless(tmp_path):
    """A folder of archives that hold nothing, may not be unpacked, or are damaged."""
    folder = tmp_path / "downloads"
    folder.mkdir()
    (folder / "a.zip").write_text("damaged")
    with tarfile.open(folder / "b.tar", "w") as opened:
        info = tarfile.TarInfo("current")
        info.type, info.linkname = tarfile.SYMTYPE, "elsewhere"
        opened.addfile(info)
    with zipfile.ZipFile(folder / "c.zip", "w") as opened:
        opened.writestr("holiday.png", "")
    return folder


def test_archives_of_other_things_are_passed_over(useless, animals, tmp_path, capfd):
    packed(animals(), "zip").rename(useless / "d.zip")
    prepare.prepare("animals10", useless, tmp_path / "d")
    assert layout(tmp_path / "d/animals10") == COMPLETE
    said = capfd.readouterr().err
    assert "passed over:" in said and "a.zip is damaged" in said and "c.zip" not in said


def test_archives_that_could_not_be_searched_are_named(useless, tmp_path):
    with pytest.raises(DataError) as caught:
        prepare.prepare("animals10", useless, tmp_path / "d")
    for text in (
        "does not hold Animals-10",
        "found 'a.zip', 'b.tar', 'c.zip', 'holiday.png'; not searched: ",
        "a.zip is damaged or not a zip or tar file",
        "b.tar: the entry 'current' is a link or device",
    ):
        assert text in str(caught.value)


def test_an_archive_that_held_nothing_takes_no_room(useless, tmp_path, monkeypatch):
    trees, unpack = [], prepare.unpack

    def watched(archive, tree, keep):
        trees.append(sorted(path.name for path in tree.parent.rglob("*")))
        unpack(archive, tree, keep)

    monkeypatch.setattr(prepare, "unpack", watched)
    with pytest.raises(DataError, match="does not hold"):
        prepare.prepare("animals10", useless, tmp_path / "d")
    (useless / "c.zip").rename(useless / "0.zip")
    with pytest.raises(DataError, match="does not hold"):
        prepare.prepare("animals10", useless, tmp_path / "d")
    assert trees == [["animals10", "nested"]] * 6


def test_one_process_at_a_time_prepares_a_data_set(animals, tmp_path):
    source = animals()
    with (
        folder_lock(tmp_path / "d", ".animals10.lock"),
        pytest.raises(DataError, match="another process is preparing .*d/animals10; wait until"),
    ):
        prepare.prepare("animals10", source, tmp_path / "d")
    prepare.prepare("animals10", source, tmp_path / "d")
    assert layout(tmp_path / "d/animals10") == COMPLETE


def test_a_killed_call_is_cleared_and_what_it_moved_comes_back(animals, tmp_path, capfd):
    source = animals()
    prepare.prepare("animals10", source, tmp_path / "d")
    (tmp_path / "user-cache").mkdir()
    # Killed between the two renames: the old folder is in the workspace, nothing in its place.
    (tmp_path / "d/.animals10.x.tmp").mkdir()
    (tmp_path / "d/animals10").rename(tmp_path / "d/.animals10.x.tmp/old")
    with pytest.raises(DataError, match="does not hold"):
        prepare.prepare("animals10", tmp_path / "user-cache", tmp_path / "d", replace=True)
    assert ".animals10.x.tmp was left by an interrupted run" in capfd.readouterr().err
    assert layout(tmp_path / "d/animals10") == COMPLETE
    assert not (tmp_path / "d/.animals10.x.tmp").exists()


def test_one_broken_image_in_a_large_class_is_told(animals, tmp_path, capfd):
    source = animals()
    for number in range(200):
        shutil.copy(source / "cat/001.png", source / f"cat/more{number}.png")
    (source / "cat/more7.png").write_bytes(b"")
    prepare.prepare("animals10", source, tmp_path / "d")
    assert "not usable: 'cat/more7.png': the file is empty" in capfd.readouterr().err


def test_a_source_that_holds_something_else(tmp_path, picture):
    picture(tmp_path / "source/holiday.png")
    with pytest.raises(DataError) as caught:
        prepare.prepare("animals10", tmp_path / "source", tmp_path / "d")
    for text in ("does not hold Animals-10", "dog (cane)", "found 'holiday.png'", "kaggle"):
        assert text in str(caught.value)
    with pytest.raises(DataError, match=r"nowhere.zip does not exist"):
        prepare.prepare("animals10", tmp_path / "nowhere.zip", tmp_path / "d")
    (tmp_path / "page.zip").write_text("<html>Please log in</html>")
    with pytest.raises(DataError, match="page.zip is damaged or not a zip or tar file"):
        prepare.prepare("animals10", tmp_path / "page.zip", tmp_path / "d")


@pytest.mark.parametrize("name", ["animals10", "cifar10"])
def test_a_source_that_may_not_be_searched_is_named(animals, tmp_path, closed, name):
    animals("inside")
    closed(tmp_path / "source")
    for source in ("source", "source/inside"):
        with pytest.raises(DataError, match=f"{source}.* cannot be read: Permission denied; chang"):
            prepare.prepare(name, tmp_path / source, tmp_path / "d")


@pytest.mark.parametrize("source", [None, ""])
def test_a_missing_source_is_named_with_how_to_get_it(tmp_path, monkeypatch, source):
    monkeypatch.chdir(tmp_path)  # what "" would be taken for
    with pytest.raises(SettingError, match="SOURCE is missing: the folder.*kaggle datasets"):
        prepare.prepare("animals10", source, tmp_path / "d")
    assert not (tmp_path / "d").exists()


def test_the_home_of_nobody_is_no_source(tmp_path):
    with pytest.raises(SettingError, match="SOURCE cannot be '~nobody-of-this-name/a.zip'"):
        prepare.prepare("animals10", "~nobody-of-this-name/a.zip", tmp_path / "d")


def test_an_unsafe_archive_changes_nothing(tmp_path):
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as opened:
        opened.writestr("raw-img/cane/../../../../evil.png", "x")
    with pytest.raises(DataError, match="leads out of the folder"):
        prepare.prepare("animals10", tmp_path / "a.zip", tmp_path / "d")
    assert not list(tmp_path.rglob("evil.png"))


def test_no_room(animals, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(prepare.shutil, "copyfile", full)
    with pytest.raises(DataError, match="could not be prepared in .*: no room left"):
        prepare.prepare("animals10", animals(), tmp_path / "d")
    assert not (tmp_path / "d/animals10").exists()


@pytest.mark.parametrize(
    "call", [lambda: prepare.prepare("shapes", "."), lambda: prepare.download("shapes")]
)
def test_shapes_need_no_preparation(call):
    with pytest.raises(SettingError, match="drawn when it is first used"):
        call()


def test_kaggle_is_by_hand(tmp_path):
    with pytest.raises(DataError, match="kaggle datasets download"):
        prepare.download("animals10", tmp_path)
    with pytest.raises(SettingError, match="unknown data set 'animal'"):
        prepare.download("animal", tmp_path)


def test_addresses_and_checksums(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(prepare, "fetch", lambda *arguments: asked.append(arguments) or Path())
    prepare.download("caltech16", tmp_path)
    assert asked[-1][1:3] == (tmp_path / "downloads/caltech-101.zip", caltech16.MD5)
    pytest.importorskip("paddle.vision.datasets")
    prepare.download("cifar10", tmp_path)
    address, target, md5, _ = asked[-1]
    assert address.startswith("https://") and target.name == "cifar-10-python.tar.gz"
    assert md5 == "c58f30108f718f92721af3b95e74349a"


def test_png_files_are_what_pillow_reads(tmp_path):
    prepare.prepare("cifar10", cifar_archive(tmp_path / "c.tar.gz"), tmp_path / "d")
    image = Image.open(tmp_path / "d/cifar10/train/cat/0000.png")
    assert (image.size, image.mode, image.format) == ((32, 32), "RGB", "PNG")
