"""Words in figures: today's language where a font has its letters, else English."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache

import matplotlib.pyplot as plt
from matplotlib import font_manager

from attn_book.language import ENGLISH, language, speaking

LATIN = "DejaVu Sans"  # matplotlib's own, for all letters that it has
# Fonts with Chinese letters that systems bring, in place of the package's Noto Sans SC.
INSTALLED = (
    "Noto Sans SC",
    "Noto Sans CJK SC",
    "Source Han Sans SC",
    "WenQuanYi Micro Hei",
    "PingFang SC",
    "Microsoft YaHei",
)


@contextmanager
def lettering() -> Iterator[None]:
    """Letter what is drawn inside in today's language, or in English without a font for it."""
    if language() == ENGLISH:
        yield
        return
    family = chinese_font()
    fonts = {"font.family": [LATIN, family]} if family else {}
    with speaking(language() if family else ENGLISH), plt.rc_context(fonts):
        yield


@cache
def chinese_font() -> str | None:
    """The family of a font with Chinese letters; None, and a line in the log, without one."""
    try:
        from pylopdf_fonts_zh_cn import sans_path
    except ImportError:
        known = {font.name for font in font_manager.fontManager.ttflist}
        found = next((name for name in INSTALLED if name in known), None)
        if found is None:
            logging.getLogger(__name__).warning(
                "No font with Chinese letters, so figures are lettered in English; "
                "pip install pylopdf-fonts-zh-cn brings one"
            )
        return found
    font_manager.fontManager.addfont(sans_path())
    return font_manager.FontProperties(fname=sans_path()).get_name()
