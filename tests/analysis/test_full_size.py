"""The numbers of the networks at full width: by hand, and on their records."""

import numpy as np
import pytest

from attn_book.analysis import full_size


def test_a_standard_error_is_that_of_the_images_on_which_two_networks_differ():
    right = np.array([True] * 6 + [False] * 4)
    baseline = np.array([True] * 3 + [False] * 6 + [True])
    # 3 won and 1 lost of 10: of +1, -1 and 0 the variance is (4 - 2 * 2 / 10) / 10.
    assert full_size.standard_error(right, baseline) == pytest.approx(100 * (3.6 / 10 / 10) ** 0.5)
    assert full_size.standard_error(right, right) == 0


def test_gains_after_the_last_epoch_are_the_gains():
    found = full_size.Found()
    (last,) = {len(one.history) for one in found.records if one.task == full_size.ANIMALS}
    after = found.gains_after([1, last])
    assert after.keys() == found.blocks.keys() and len(after) == 8
    for title, (_, gain) in after.items():
        assert gain == pytest.approx(found.gain(full_size.ANIMALS, title))
    first = [
        100 * (a.accuracies[0] - b.accuracies[0])
        for a, b in zip(found.all_of("SE-ResNet-50"), found.plain, strict=True)
    ]
    assert after["SE-ResNet-50"][0] == pytest.approx(np.mean(first))
