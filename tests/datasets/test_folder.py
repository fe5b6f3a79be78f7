"""Finding class folders, leaving out what does not belong, and splitting by sorted names."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from attn_blocks import files as storage
from attn_blocks.datasets import DATASETS, find, load, status, status_report
from attn_blocks.datasets.folder import TRAIN, VAL, scan
from attn_blocks.errors import AttnBlocksError, DataError, SettingError

ANIMALS, CALTECH, CIFAR = (DATASETS[name] for name in ("animals10", "caltech16", "cifar10"))


def names(listing, part):
    return [file.name for file in listing.files if file.part == part]


def test_every_fifth_sorted_name_of_a_class_is_validation(data):
    listing = scan(data / "animals10", ANIMALS)
    assert listing.classes == ("dog", "cat")
    assert names(listing, VAL) == ["dog/000.png", "dog/005.png", "cat/000.png", "cat/005.png"]
    assert len(names(listing, TRAIN)) == 16
    assert listing.left_out == ()


def test_every_image_is_validated_in_one_fold(data):
    listing = scan(data / "animals10", ANIMALS)
    folds = [listing.parts(fold) for fold in range(5)]
    assert folds[0] == {file.name: file.part for file in listing.files}
    assert [name for name, part in folds[2].items() if part == VAL] == [
        *("dog/002.png", "dog/007.png", "cat/002.png", "cat/007.png")
    ]
    for file in listing.files:
        assert [parts[file.name] for parts in folds].count(VAL) == 1
    for fold in (5, -1, True, "1"):
        with pytest.raises(SettingError, match="must be a whole number from 0 to 4"):
            listing.parts(fold)


def test_what_comes_split_has_fold_0_alone(tmp_path, class_folder):
    for part in ("train", "test"):
        for name in ("cat", "ship"):
            class_folder(tmp_path / part / name, 3)
    listing = scan(tmp_path, CIFAR)
    assert listing.parts(0) == {file.name: file.part for file in listing.files}
    with pytest.raises(SettingError, match="is split into train/ and test/, so that fold 1"):
        listing.parts(1)


def test_a_class_of_few_images_has_no_image_in_the_last_folds(tmp_path, class_folder):
    class_folder(tmp_path / "cat", 3)
    class_folder(tmp_path / "dog", 9)
    with pytest.raises(DataError, match="class 'cat' has no image in fold 4; each class needs 5"):
        scan(tmp_path, ANIMALS).parts(4)


def test_names_sort_by_code_point(tmp_path, class_folder, picture):
    for name in ("b.png", "B.png", "a10.png", "a9.png", "é.png", "z.png"):
        picture(tmp_path / "dog" / name)
    class_folder(tmp_path / "cat", 2)
    listing = scan(tmp_path, ANIMALS)
    assert [file.name for file in listing.files if file.label == 0] == [
        f"dog/{name}" for name in ("B.png", "a10.png", "a9.png", "b.png", "z.png", "é.png")
    ]


def test_italian_names_are_shown_in_english_and_give_the_same_listing(data, tmp_path):
    (data / "animals10/dog").rename(data / "animals10/Cane")
    (data / "animals10/cat").rename(data / "animals10/gatto")
    listing = scan(data / "animals10", ANIMALS)
    assert listing.classes == ("dog", "cat")
    assert names(listing, VAL)[0] == "dog/000.png"
    assert all(Path(file.path).exists() for file in listing.files)


def test_the_same_class_in_two_languages_is_an_error(data, class_folder):
    class_folder(data / "animals10/cane", 3)
    with pytest.raises(DataError, match="'cane' and 'dog' both hold the class 'dog'"):
        scan(data / "animals10", ANIMALS)


def test_own_train_and_test_folders(tmp_path, class_folder):
    for part, count in (("train", 6), ("test", 3)):
        for name in ("cat", "ship"):
            class_folder(tmp_path / part / name, count)
    listing = scan(tmp_path, CIFAR)
    assert listing.classes == ("cat", "ship")
    assert (listing.count(TRAIN), listing.count(VAL)) == (12, 6)
    assert names(listing, VAL)[0] == "test/cat/000.png"
    for part in ("train", "test"):
        (tmp_path / part / "ship").rename(tmp_path / part / "cavallo")
    listing = scan(tmp_path, ANIMALS)
    assert listing.classes == ("horse", "cat")
    assert (listing.count(TRAIN), listing.count(VAL)) == (12, 6)


def test_cifar_is_used_only_with_its_own_split(tmp_path, class_folder):
    class_folder(tmp_path / "cat", 5)
    class_folder(tmp_path / "ship", 5)
    with pytest.raises(DataError, match="no train/ and test/ folders.*--download"):
        scan(tmp_path, CIFAR)


def test_caltech_takes_the_largest_sixteen_with_ties_by_name(tmp_path, class_folder):
    for number in range(20):
        class_folder(tmp_path / f"c{number:02d}", 4 if number in (3, 7) else 3)
    class_folder(tmp_path / "BACKGROUND_Google", 9)
    class_folder(tmp_path / "Faces_easy", 9)
    listing = scan(tmp_path, CALTECH)
    assert listing.classes == tuple(f"c{number:02d}" for number in range(16))
    (tmp_path / "c19/003.png").write_bytes((tmp_path / "c00/000.png").read_bytes())
    listing = scan(tmp_path, CALTECH)
    assert listing.classes == (*(f"c{number:02d}" for number in range(15)), "c19")


def test_the_published_sizes_of_caltech_101_give_the_sixteen_classes():
    # The largest classes of 101_ObjectCategories; the next sizes are 85 and less.
    from attn_blocks.datasets.folder import _choose

    published = {
        "airplanes": 800,
        "Motorbikes": 798,
        "Faces": 435,
        "Faces_easy": 435,
        "watch": 239,
        "Leopards": 200,
        "bonsai": 128,
        "car_side": 123,
        "ketch": 114,
        "chandelier": 107,
        "hawksbill": 100,
        "grand_piano": 99,
        "brain": 98,
        "butterfly": 91,
        "helicopter": 88,
        "menorah": 87,
        "kangaroo": 86,
        "starfish": 86,
        "trilobite": 86,
        "buddha": 85,
        "BACKGROUND_Google": 467,
    }
    candidates = {
        name: {None: ([None] * count, [])}
        for name, count in published.items()
        if CALTECH.class_of(name)
    }
    assert tuple(_choose(candidates, CALTECH)) == CALTECH.class_names
    capped = [min(published[name], 130) for name in CALTECH.class_names]
    val = sum(-(-count // 5) for count in capped)
    assert (sum(capped), sum(capped) - val, val) == (1771, 1412, 359)


def test_caltech_uses_at_most_130_images_first_by_name(tmp_path):
    for name in ("bonsai", "brain"):
        (tmp_path / name).mkdir()
    for number in range(140):
        (tmp_path / f"bonsai/image_{number:04d}.jpg").touch()
    (tmp_path / "brain/a.jpg").touch()
    (tmp_path / "brain/b.jpg").touch()
    listing = scan(tmp_path, CALTECH)
    bonsai = [file.name for file in listing.files if file.label == 0]
    assert (len(bonsai), bonsai[-1]) == (130, "bonsai/image_0129.jpg")


def test_hidden_files_and_other_files_are_ignored(data):
    dog = data / "animals10/dog"
    for name in (".DS_Store", "._000.png", ".hidden.jpg", "notes.txt", "Thumbs.db", "a.jpg.part"):
        (dog / name).write_text("not an image")
    (data / "animals10/.git").mkdir()
    (data / "animals10/LICENSE").touch()
    listing = scan(data / "animals10", ANIMALS)
    assert len(listing.files) == 20
    assert listing.left_out == ()


def test_nested_images_links_and_other_folders_are_left_out_with_the_reason(
    data, tmp_path, class_folder, picture
):
    folder = data / "animals10"
    outside = picture(tmp_path / "outside.png")
    (folder / "dog/link.png").symlink_to(outside)
    (folder / "dog/copy.png").symlink_to(folder / "dog/000.png")
    picture(folder / "dog/more/puppies/x.png")
    (tmp_path / "far").mkdir()
    (folder / "dog/far").symlink_to(tmp_path / "far")
    os.mkfifo(folder / "cat/pipe.png")
    class_folder(folder / "dragon", 2)
    listing = scan(folder, ANIMALS)
    reasons = {name: (reason, label) for name, reason, label in listing.left_out}
    assert reasons == {
        "dragon": ("a folder that is no class of Animals-10", -1),
        "dog/link.png": ("a link that leads out of the data set", 0),
        "dog/far": ("a link that leads out of the data set", 0),
        "dog/more/puppies/x.png": ("in a folder inside the class folder", 0),
        "cat/pipe.png": ("not a regular file", 1),
    }
    assert "dog/copy.png" in [file.name for file in listing.files]


CIRCLE = "a link that leads back to where it lies"


@pytest.mark.parametrize(
    ("link", "target", "reason"),
    [
        ("dog/loop", "loop", CIRCLE),
        ("dog/loop.png", "loop.png", CIRCLE),
        ("dog/self", ".", CIRCLE),
        ("dog/self.png", ".", CIRCLE),
        ("dog/up", "..", CIRCLE),
        ("dog/again", "../cat", "a link to a folder"),
        ("loop", "loop", CIRCLE),
        ("self", ".", CIRCLE),
    ],
)
def test_links_in_circles_and_to_folders_are_listed_and_cost_no_class_an_image(
    data, link, target, reason
):
    (data / "animals10" / link).symlink_to(target)
    listing = scan(data / "animals10", ANIMALS)
    assert listing.left_out == ((link, reason, -1),)
    assert len(listing.files) == 20
    assert find("animals10", data) == data / "animals10"
    assert "2/10 classes" in status_report(data)


def test_a_link_to_the_data_set_in_it_is_no_class(tmp_path, class_folder):
    for name in ("airplanes", "Motorbikes"):
        class_folder(tmp_path / name, 10)
    (tmp_path / "zoo").symlink_to(".")
    listing = scan(tmp_path, CALTECH)
    assert listing.classes == ("Motorbikes", "airplanes")
    assert listing.left_out == (("zoo", CIRCLE, -1),)


def test_a_class_has_a_name_that_can_be_printed(tmp_path, class_folder):
    odd = os.fsdecode(b"caf\xe9\x1b[2J")
    for name in ("airplanes", odd, "<b>", "$\\foo$"):
        class_folder(tmp_path / name, 5)
    listing = scan(tmp_path, CALTECH)
    shown = "caf\\udce9\\x1b[2J"
    assert listing.classes == ("airplanes", "$\\foo$", "<b>", shown)
    assert {file.name.partition("/")[0] for file in listing.files} == set(listing.classes)
    assert all(Path(file.path).exists() for file in listing.files)


def test_a_class_folder_that_links_out_is_not_followed(data, tmp_path, class_folder):
    class_folder(tmp_path / "elsewhere", 5)
    (data / "animals10/cow").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(DataError, match="'cow'.*no image.*link that leads out"):
        scan(data / "animals10", ANIMALS)


def test_the_data_set_itself_may_be_a_link(data, tmp_path):
    (tmp_path / "other").mkdir()
    (tmp_path / "other/animals10").symlink_to(data / "animals10")
    assert len(scan(tmp_path / "other/animals10", ANIMALS).files) == 20


@pytest.mark.parametrize("kept, message", [((), "no class folder"), (("dog",), "only the class")])
def test_fewer_than_two_classes_is_an_error(data, kept, message):
    for child in (data / "animals10").iterdir():
        if child.name not in kept:
            child.rename(data / child.name)
    with pytest.raises(DataError, match=f"{message}.*data prepare animals10"):
        scan(data / "animals10", ANIMALS)


def test_an_empty_class_is_an_error_that_names_it(data, picture):
    (data / "animals10/cow").mkdir()
    with pytest.raises(DataError, match="class 'cow' has no image for training"):
        scan(data / "animals10", ANIMALS)
    picture(data / "animals10/cow/only.png")
    with pytest.raises(DataError, match="class 'cow' has no image for training"):
        scan(data / "animals10", ANIMALS)


def test_find_knows_the_other_folder_names(data, tmp_path, class_folder):
    assert find("animals10", data) == data / "animals10"
    (data / "animals10").rename(data / "animals4")
    assert find("animals10", data) == data / "animals4"
    # Of two the one with more images, unless it has the data set's own name.
    class_folder(data / "raw-img/cane", 30)
    class_folder(data / "raw-img/gatto", 30)
    assert find("animals10", data) == data / "raw-img"
    class_folder(data / "animals10/dog", 2)
    class_folder(data / "animals10/cat", 2)
    assert find("animals10", data) == data / "animals10"
    for name in ("Faces", "bonsai"):
        class_folder(data / "caltech-101/101_ObjectCategories" / name, 2)
    assert find("caltech16", data) == data / "caltech-101/101_ObjectCategories"
    assert find("cifar10", data) is None
    assert find("shapes", data) == data


@pytest.mark.parametrize("read", [load, find, lambda _, folder: status_report(folder)])
@pytest.mark.parametrize("name", ["animals10", "shapes"])
def test_a_data_folder_that_was_named_and_is_missing_is_an_error(tmp_path, monkeypatch, read, name):
    with pytest.raises(DataError, match="nowhere is no folder.* as was asked for"):
        read(name, tmp_path / "nowhere")
    monkeypatch.setenv("ATTN_BLOCKS_DATA", str(tmp_path / "nowhere"))
    with pytest.raises(DataError, match="nowhere is no folder.* as ATTN_BLOCKS_DATA says"):
        read(name, None)


def test_the_default_data_folder_may_be_missing(tmp_path, monkeypatch):
    monkeypatch.delenv("ATTN_BLOCKS_DATA", raising=False)
    monkeypatch.setattr(storage, "PROJECT", tmp_path)
    monkeypatch.chdir(tmp_path)
    assert find("animals10") is None
    assert find("animals10", tmp_path / "data") is None  # as a worker is told of it
    assert "missing" in status_report()


def test_find_reads_the_environment(data, monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_DATA", str(data))
    assert find("animals10") == data / "animals10"
    with pytest.raises(SettingError, match="unknown data set 'animal10'.*did you mean"):
        find("animal10")


def test_status_tells_what_is_there_and_how_to_get_the_rest(data):
    rows = {row.name: row for row in status(data)}
    animals = rows["animals10"]
    assert (animals.found, animals.classes, animals.class_total) == (True, 2, 10)
    assert (animals.train, animals.val, animals.folder) == (16, 4, data / "animals10")
    assert not rows["cifar10"].found and "--download" in rows["cifar10"].note
    assert rows["shapes"].found and rows["shapes"].train == 2000
    report = status_report(data)
    assert "2/10 classes" in report and "missing" in report and str(data) in report


@pytest.mark.parametrize("read", [load, find, lambda _, folder: status_report(folder)])
@pytest.mark.parametrize("below", [1, 2])
def test_a_data_folder_that_may_not_be_searched_is_named(data, closed, read, below):
    closed(data.parents[below - 1])
    with pytest.raises(DataError, match=r"/data cannot be read: Permission denied; change who"):
        read("animals10", data)


def test_a_data_set_that_may_not_be_searched_is_named(data, closed):
    closed(data / "animals10")
    message = "animals10/train cannot be read: Permission denied; .* or name another folder"
    for read in (find, load):
        with pytest.raises(DataError, match=message):
            read("animals10", data)
    with pytest.raises(DataError, match=message):
        scan(data / "animals10", ANIMALS)
    row = next(row for row in status(data) if row.name == "animals10")
    assert not row.found and "cannot be read" in row.note


def test_status_survives_a_broken_data_set(data):
    (data / "animals10/cow").mkdir()
    row = next(row for row in status(data) if row.name == "animals10")
    assert not row.found and "'cow'" in row.note


names_of_files = st.text(
    st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=20
).filter(lambda name: name not in (".", ".."))


@settings(max_examples=40)
@given(
    st.dictionaries(
        st.one_of(st.sampled_from(["dog", "cane", "CAT", "train", "test"]), names_of_files),
        st.lists(st.one_of(names_of_files, names_of_files.map(lambda name: name + ".jpg"))),
        max_size=4,
    ),
    st.sampled_from([ANIMALS, CALTECH, CIFAR]),
)
def test_any_folder_is_listed_or_refused_in_words(tmp_path_factory, tree, source):
    folder = tmp_path_factory.mktemp("tree")
    for name, files in tree.items():
        (folder / name).mkdir(exist_ok=True)
        for file in files:
            (folder / name / file).touch()
    try:
        listing = scan(folder, source)
    except AttnBlocksError as error:
        assert str(error)
    else:
        assert len(listing.classes) >= 2
        assert all(Path(file.path).is_file() for file in listing.files)
