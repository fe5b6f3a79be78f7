"""What describes a data set before any of its files is opened."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from attn_blocks.files import command_line, printable


@dataclass(frozen=True)
class Source:
    """One data set.

    Attributes:
        name, title: for the command line, and for people.
        class_names: every class of the complete set, by label.
        mean, std: of the red, green and blue channel, pixels scaled to [0, 1].
        advice: one sentence for people who do not have it; see ``how_to_get``.
        folders: where it may lie below the data folder, first choice first.
        translations: other names of the class folders, to the class name.
        other_classes: folders beyond ``class_names`` are classes too, and the largest are used.
        excluded: folders that are no class.
        max_per_class: images used of each class, first by name; None for all.
        own_split: the set comes as ``train/`` and ``test/`` and is used only so.
    """

    name: str
    title: str
    class_names: tuple[str, ...]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    advice: str
    folders: tuple[str, ...] = ()
    translations: Mapping[str, str] = field(default_factory=dict)
    other_classes: bool = False
    excluded: tuple[str, ...] = ()
    max_per_class: int | None = None
    own_split: bool = False

    @property
    def how_to_get(self) -> str:
        """The advice, with the command line called as it can be typed here."""
        return self.advice.replace("attn-book", command_line())

    @property
    def class_list(self) -> str:
        """The classes for people, each with its other name: ``dog (cane), horse (cavallo)``."""
        others = {name: f" ({other})" for other, name in self.translations.items()}
        return ", ".join(name + others.get(name, "") for name in self.class_names)

    def class_of(self, folder: str) -> str | None:
        """The class that a folder of this name holds, or None; its name can be printed."""
        lower = folder.lower()
        for name in self.class_names:
            if lower == name.lower():
                return name
        if lower in self.translations:
            return self.translations[lower]
        if self.other_classes and folder not in self.excluded:
            return printable(folder)
        return None
