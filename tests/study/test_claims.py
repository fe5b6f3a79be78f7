"""What the write-ups report."""

import pytest

from attn_blocks.errors import SettingError
from attn_book.study import claims


def test_reported_history_is_the_write_ups():
    history = claims.reported_history("senet_cifar10")
    assert list(history["epoch"]) == list(range(1, 41))
    assert history["test_acc"][-1] == 0.8721
    assert (history["test_acc"].max(), history["test_acc"].argmax() + 1) == (0.8805, 38)
    assert all(len(column) == 40 for column in history.values())
    with pytest.raises(SettingError, match="senet_cifar10"):
        claims.reported_history("senet")
