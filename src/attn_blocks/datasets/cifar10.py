"""CIFAR-10: ten classes of 32 x 32 photographs, 50,000 to train and 10,000 to test."""

from attn_blocks.datasets.source import Source

# Where python -m attn_blocks data prepare --download gets it is Paddle's business:
# the address and checksum are read from paddle.vision.datasets.
SOURCE = Source(
    name="cifar10",
    title="CIFAR-10",
    # In the order of the labels of the original binary files.
    class_names=(
        "airplane",
        "automobile",
        "bird",
        "cat",
        "deer",
        "dog",
        "frog",
        "horse",
        "ship",
        "truck",
    ),
    # The SENet write-up's.
    mean=(0.4914, 0.4822, 0.4465),
    std=(0.2023, 0.1994, 0.2010),
    how_to_get="run python -m attn_blocks data prepare cifar10 --download (163 MB)",
    folders=("cifar10", "CIFAR-10-images"),
    own_split=True,
)
