"""A block that does next to nothing: nobody may find it better than none."""

from paddle import nn


class NextToNothing(nn.Layer):
    """y = 1.001 * x, whatever the channels."""

    def __init__(self, channels):
        super().__init__()

    def forward(self, x):
        return x * 1.001
