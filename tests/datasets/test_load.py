"""load(): decoded once, the same afterwards, and clear words for what is wrong with the data."""

from __future__ import annotations

import os
import shutil
import warnings

import numpy as np
import pytest
from PIL import Image

from attn_blocks import datasets
from attn_blocks.datasets import cache as caches
from attn_blocks.datasets import collect as collecting
from attn_blocks.datasets import load
from attn_blocks.errors import DataError, SettingError


@pytest.fixture
def count_decoded(monkeypatch):
    """How many files have been decoded since the test began."""
    decoded = []
    original = collecting.decode_files

    def counting(paths, short_side):
        decoded.extend(paths)
        return original(paths, short_side)

    monkeypatch.setattr(collecting, "decode_files", counting)
    return lambda: len(decoded)


@pytest.fixture
def large(tmp_path, class_folder):
    """A data set with enough images that losing one of a class is within the 1%."""
    class_folder(tmp_path / "data/animals10/dog", 101)
    class_folder(tmp_path / "data/animals10/cat", 101, seed=500)
    return tmp_path / "data"


def test_images_labels_and_parts(data):
    loaded = load("animals10", data)
    assert loaded.label == "Animals-10 (2 of 10 classes; 16 / 4 images)"
    assert (loaded.classes, loaded.class_total) == (("dog", "cat"), 10)
    assert loaded.train.labels.tolist() == [0] * 8 + [1] * 8
    assert loaded.val.labels.tolist() == [0, 0, 1, 1]
    assert loaded.left_out == () and loaded.duplicates == ()
    second = np.asarray(Image.open(data / "animals10/dog/001.png"))
    assert np.array_equal(loaded.train[0], second)
    assert np.array_equal(loaded.val[3], np.asarray(Image.open(data / "animals10/cat/005.png")))


def test_folds_share_a_cache_and_a_fingerprint(data, count_decoded):
    folds = [load("animals10", data, fold=fold) for fold in range(5)]
    assert count_decoded() == 20
    assert len({fold.fingerprint for fold in folds}) == 1
    third = np.asarray(Image.open(data / "animals10/dog/007.png"))
    assert np.array_equal(folds[2].val[1], third)
    for fold in folds:
        assert (len(fold.train), len(fold.val)) == (16, 4)
    validated = [image.tobytes() for fold in folds for image in (fold.val[i] for i in range(4))]
    assert len(set(validated)) == 20
    with pytest.raises(SettingError, match="Shapes comes split"):
        load("shapes", data, fold=1)


def test_images_are_read_only_views(data):
    train = load("animals10", data).train
    assert np.shares_memory(train[0], train.pixels)
    with pytest.raises(ValueError, match="read-only"):
        train[0][0, 0, 0] = 1


def test_the_short_side_is_scaled_down(data):
    loaded = load("animals10", data, short_side=8)
    assert loaded.train[0].shape == (8, 12, 3)
    assert loaded.fingerprint == load("animals10", data).fingerprint


def test_the_second_start_decodes_nothing(data, count_decoded):
    first = load("animals10", data)
    assert count_decoded() == 20
    second = load("animals10", data)
    assert count_decoded() == 20
    assert second.fingerprint == first.fingerprint
    assert np.array_equal(second.train.pixels, first.train.pixels)


def test_the_second_start_reads_no_image_file(data, monkeypatch):
    load("animals10", data)
    monkeypatch.setattr(collecting, "sha256_of", lambda path: pytest.fail(f"{path} is read"))
    load("animals10", data)


def test_touched_files_are_hashed_again_but_not_decoded(data, count_decoded):
    load("animals10", data)
    os.utime(data / "animals10/dog/003.png", (1, 1))
    load("animals10", data)
    assert count_decoded() == 20


def test_a_lost_or_damaged_manifest_costs_time_only(data, count_decoded):
    fingerprint = load("animals10", data).fingerprint
    (manifest,) = (data / ".cache").glob("*.manifest.json")
    for content in ("{", '[["a"]]', "[1]", "null"):
        manifest.write_text(content)
        assert load("animals10", data).fingerprint == fingerprint
    manifest.unlink()
    assert load("animals10", data).fingerprint == fingerprint
    assert count_decoded() == 20


def test_changed_content_is_decoded_and_changes_the_fingerprint(data, picture):
    before = load("animals10", data)
    picture(data / "animals10/dog/001.png", seed=999)
    after = load("animals10", data)
    assert after.fingerprint != before.fingerprint
    assert not np.array_equal(after.train[0], before.train[0])


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "dog/003.png").unlink(),
        lambda folder: (folder / "dog/003.png").rename(folder / "dog/zzz.png"),
        lambda folder: shutil.copy(folder / "dog/003.png", folder / "dog/more.png"),
    ],
)
def test_the_fingerprint_covers_names_and_number(data, change):
    before = load("animals10", data).fingerprint
    change(data / "animals10")
    assert load("animals10", data).fingerprint != before


def test_the_fingerprint_is_the_same_elsewhere_and_in_italian(data, tmp_path):
    before = load("animals10", data).fingerprint
    shutil.copytree(data / "animals10", tmp_path / "elsewhere/raw-img")
    (tmp_path / "elsewhere/raw-img/dog").rename(tmp_path / "elsewhere/raw-img/cane")
    assert load("animals10", tmp_path / "elsewhere").fingerprint == before


def test_caps_take_an_equal_share_of_each_class(large):
    full = load("animals10", large)
    capped = load("animals10", large, train_images=21, val_images=10)
    assert np.bincount(capped.train.labels).tolist() == [11, 10]
    assert np.bincount(capped.val.labels).tolist() == [5, 5]
    assert capped.fingerprint != full.fingerprint
    assert (
        capped.fingerprint == load("animals10", large, train_images=21, val_images=10).fingerprint
    )
    smaller = load("animals10", large, train_images=10)
    assert set(smaller.train.offsets) < set(capped.train.offsets)
    assert not np.array_equal(smaller.train.offsets, full.train.offsets[:10]), "not shuffled"
    assert len(load("animals10", large, train_images=10**6).train) == len(full.train)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"train_images": 1}, "train_images is 1"),
        ({"val_images": 0}, "val_images is 0"),
        ({"short_side": 0}, "short_side is 0"),
    ],
)
def test_numbers_that_cannot_work(data, arguments, message):
    with pytest.raises(SettingError, match=message):
        load("animals10", data, **arguments)


def test_a_data_folder_that_is_not_utf_8(data, tmp_path, monkeypatch):
    odd = tmp_path / os.fsdecode(b"caf\xe9")
    data.rename(odd)
    assert len(load("animals10", odd).train) == 16
    [report] = (odd / ".cache").glob("*.report.txt")
    assert f"{tmp_path}/caf\\udce9/animals10" in report.read_text(encoding="utf-8")


def test_missing_data_says_what_was_looked_for_and_how_to_get_it(tmp_path):
    with pytest.raises(DataError) as caught:
        load("animals10", tmp_path)
    for part in (str(tmp_path), "raw-img", "dog (cane)", "kaggle", "data prepare animals10"):
        assert part in str(caught.value)
    with pytest.raises(DataError, match=r"train/ and test/.*--download"):
        load("cifar10", tmp_path)
    with pytest.raises(SettingError, match="unknown data set 'mnist'"):
        load("mnist", tmp_path)


def test_damaged_images_are_left_out_named_and_reported(large):
    (large / "animals10/dog/007.png").write_bytes(b"")
    for _ in range(2):
        with pytest.warns(
            UserWarning, match=r"1 of 202 images left out: 'dog/007.png' \(the file is"
        ):
            loaded = load("animals10", large)
        assert loaded.left_out == (("dog/007.png", "the file is empty"),)
        assert len(loaded.train) + len(loaded.val) == 201
    (report,) = (large / ".cache").glob("*.report.txt")
    assert "'dog/007.png': the file is empty" in report.read_text()


def test_leaving_an_image_out_does_not_move_others_across_the_split(large):
    before = load("animals10", large)
    (large / "animals10/dog/000.png").write_bytes(b"junk")
    with pytest.warns(UserWarning, match="left out"):
        after = load("animals10", large)
    assert len(after.train) == len(before.train) and len(after.val) == len(before.val) - 1


def test_more_than_one_percent_of_a_class_is_an_error(large):
    for number in (7, 8):
        (large / f"animals10/dog/{number:03d}.png").write_text("text as an image")
    for _ in range(2):
        with pytest.raises(DataError) as caught:
            load("animals10", large)
        for part in (
            "class 'dog' loses 2 of 101 images",
            "'dog/007.png'",
            "data prepare animals10",
        ):
            assert part in str(caught.value)
    # Once they are gone, it works again.
    for number in (7, 8):
        (large / f"animals10/dog/{number:03d}.png").unlink()
    assert len(load("animals10", large).train) > 0


def test_when_no_image_decodes(data):
    for path in (data / "animals10").rglob("*.png"):
        path.write_bytes(b"junk")
    with pytest.raises(DataError, match="loses 10 of 10 images"):
        load("animals10", data)


def test_links_out_and_nested_images_count_as_lost(large, tmp_path, picture):
    (large / "animals10/dog/link.png").symlink_to(picture(tmp_path / "outside.png"))
    with pytest.warns(UserWarning, match="a link that leads out"):
        assert load("animals10", large).left_out[0][0] == "dog/link.png"
    picture(large / "animals10/dog/nested/one.png")
    with pytest.raises(DataError, match="loses 2 of 103 images"):
        load("animals10", large)


@pytest.mark.parametrize("name", ["with space.png", "ünï-鸡.png", "line\nbreak.png", "'\"%s.png"])
def test_odd_names_are_read_and_reported(large, name):
    shutil.copy(large / "animals10/dog/001.png", large / "animals10/dog" / name)
    assert load("animals10", large).left_out == ()
    (large / "animals10/dog" / name).write_bytes(b"")
    with pytest.warns(UserWarning, match="left out"):
        loaded = load("animals10", large)
    assert loaded.left_out == ((f"dog/{name}", "the file is empty"),)
    assert all(
        len(report.read_text().splitlines()) < 6
        for report in (large / ".cache").glob("*.report.txt")
    )


def test_a_name_that_is_no_unicode(large):
    folder = os.fsencode(large / "animals10/dog")
    shutil.copy(large / "animals10/dog/001.png", folder + b"/\xff\xfe.png")
    assert len(load("animals10", large).train) == 161
    assert len(load("animals10", large).train) == 161


def test_conversions_are_listed_in_the_report(large):
    Image.new("RGBA", (8, 8), (0, 0, 0, 0)).save(large / "animals10/dog/007.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load("animals10", large)
    (report,) = (large / ".cache").glob("*.report.txt")
    assert "'dog/007.png': transparent: composited on white" in report.read_text()


def test_duplicates_across_the_split_are_found_and_kept(data):
    shutil.copy(data / "animals10/dog/003.png", data / "animals10/cat/005.png")
    shutil.copy(data / "animals10/dog/001.png", data / "animals10/dog/002.png")
    loaded = load("animals10", data)
    assert loaded.duplicates == (("dog/003.png", "cat/005.png"),)
    assert (len(loaded.train), len(loaded.val)) == (16, 4)
    (report,) = (data / ".cache").glob("*.report.txt")
    assert "'cat/005.png': the same as 'dog/003.png'" in report.read_text()
    written = report.stat().st_mtime_ns
    load("animals10", data)
    assert report.stat().st_mtime_ns == written  # it says the same


def test_other_classes_than_the_rules_are_named(tmp_path, class_folder):
    for name in ("bonsai", "brain", "starfish"):
        class_folder(tmp_path / "caltech16" / name, 5)
    with pytest.warns(UserWarning, match="starfish are not among the 16"):
        assert load("caltech16", tmp_path).classes == ("bonsai", "brain", "starfish")


def test_the_cache_goes_where_it_is_told(data, tmp_path, monkeypatch):
    load("animals10", data, cache_dir=tmp_path / "argument")
    assert list((tmp_path / "argument").glob("animals10-s64-*/pixels.u8"))
    monkeypatch.setenv("ATTN_BLOCKS_CACHE", str(tmp_path / "environment"))
    load("animals10", data)
    assert list((tmp_path / "environment").glob("animals10-s64-*"))
    assert not (data / ".cache").exists()


def test_a_read_only_data_folder_works_with_the_users_cache(data, tmp_path, monkeypatch):
    # The superuser may write anywhere: a file in the place of the cache folder refuses everyone.
    (data / ".cache").touch()
    assert len(load("animals10", data).train) == 16
    assert list((tmp_path / "user-cache/attn_blocks").glob("animals10-s64-*"))


def test_a_read_only_disk_works_with_the_users_cache(small_disk, class_folder, tmp_path):
    folder, remount = small_disk
    for number, name in enumerate(("dog", "cat")):
        class_folder(folder / "animals10" / name, 10, seed=100 * number)
    remount("ro")
    assert len(load("animals10", folder).train) == 16
    assert list((tmp_path / "user-cache/attn_blocks").glob("animals10-s64-*"))
    assert {path.name for path in folder.iterdir()} == {"animals10"}


def test_a_full_disk_is_explained_and_the_same_call_goes_on(small_disk, data):
    cache, remount = small_disk
    remount("size=16k")
    with pytest.raises(DataError, match=r"no room left in .*need about .* MB are free"):
        load("animals10", data, cache_dir=cache)
    assert not [path for path in cache.iterdir() if path.is_dir()]
    remount("size=1m")
    assert len(load("animals10", data, cache_dir=cache).train) == 16


def test_a_cache_folder_that_cannot_be_written_is_an_error(data, tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(DataError, match="cannot be written.*ATTN_BLOCKS_CACHE"):
        load("animals10", data, cache_dir=tmp_path / "file/cache")


@pytest.mark.parametrize("name", ["animals10", "shapes"])
def test_a_cache_folder_that_may_not_be_searched_is_an_error(data, tmp_path, closed, name):
    closed(tmp_path / "cache")
    with pytest.raises(DataError, match="cannot be read: Permission.*set ATTN_BLOCKS_CACHE to"):
        load(name, data, cache_dir=tmp_path / "cache/mine")


def test_registry():
    assert datasets.list_datasets() == ["animals10", "caltech16", "cifar10", "shapes"]
    for name, source in datasets.DATASETS.items():
        assert name == source.name and len(set(source.class_names)) == len(source.class_names)
        assert source.how_to_get and len(source.mean) == len(source.std) == 3


def test_format_is_part_of_the_key(data, monkeypatch, count_decoded):
    load("animals10", data)
    monkeypatch.setattr(caches, "FORMAT", caches.FORMAT + 1)
    load("animals10", data)
    assert count_decoded() == 40


real = pytest.mark.skipif(
    not os.environ.get("ATTN_BLOCKS_DATA"),
    reason="the real images are checked where $ATTN_BLOCKS_DATA leads to them",
)


@real
@pytest.mark.parametrize(
    "name, classes, train, val",
    [("animals10", 4, 9013, 2256), ("caltech16", 16, 1412, 359), ("cifar10", 10, 50000, 10000)],
)
def test_real_images(name, classes, train, val):
    row = next(row for row in datasets.status() if row.name == name)
    if row.classes != classes:
        pytest.skip(f"$ATTN_BLOCKS_DATA holds {row.classes} of the {classes} classes of {name}")
    assert (row.train, row.val) == (train, val)
