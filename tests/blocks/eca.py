"""Efficient channel attention (Wang et al., CVPR 2020, https://arxiv.org/abs/1910.03151)."""

import math

from paddle import nn


class ECA(nn.Layer):
    """y = x * sigmoid(conv over neighbouring channels of the mean map); [N, C, H, W].

    The kernel is that of the authors' code: (log2 C + 1) / 2 rounded down, and one more if even.
    """

    def __init__(self, channels):
        super().__init__()
        size = int(abs((math.log2(channels) + 1) / 2))
        size += 1 - size % 2
        self.conv = nn.Conv1D(1, 1, size, padding=size // 2, bias_attr=False)

    def forward(self, x):
        means = x.mean([2, 3]).unsqueeze(1)  # [N, 1, C]
        gates = nn.functional.sigmoid(self.conv(means))
        return x * gates.transpose([0, 2, 1]).unsqueeze(3)
