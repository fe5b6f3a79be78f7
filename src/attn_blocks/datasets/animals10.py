"""Animals-10: ten animals photographed, 26,179 images from an image search."""

from attn_blocks.datasets.source import Source

# The public original carries Italian names; the order of the labels is theirs, sorted.
ITALIAN = {
    "cane": "dog",
    "cavallo": "horse",
    "elefante": "elephant",
    "farfalla": "butterfly",
    "gallina": "chicken",
    "gatto": "cat",
    "mucca": "cow",
    "pecora": "sheep",
    "ragno": "spider",
    "scoiattolo": "squirrel",
}

SOURCE = Source(
    name="animals10",
    title="Animals-10",
    class_names=tuple(ITALIAN.values()),
    # The write-ups state none; these are ImageNet's, customary for photographs.
    mean=(0.485, 0.456, 0.406),
    std=(0.229, 0.224, 0.225),
    advice=(
        "download alessiocorrado99/animals10 from Kaggle (a free account is needed; on the "
        "command line: kaggle datasets download alessiocorrado99/animals10), then run "
        "attn-book data prepare animals10 animals10.zip"
    ),
    folders=("animals10", "animals10/raw-img", "animals4", "raw-img"),
    translations=ITALIAN,
)
