"""Search in Chinese, as a Sphinx extension: every character is a word, and every pair of them.

Chinese puts no spaces between words. With pairs whatever is typed is found, 注意力 as well as
注意力机制, and the browser, which has no dictionary, can divide a query as the index was divided.
"""

from __future__ import annotations

import re
from itertools import pairwise

from sphinx.application import Sphinx
from sphinx.search.en import SearchEnglish

from attn_book.language import HAN  # as Python and JavaScript write it

WORDS = re.compile(rf"[{HAN}]+|[^\W{HAN}]+")


class SearchChinese(SearchEnglish):
    """Chinese with English words in between, which are stemmed as on an English site.

    Sphinx's own class for Chinese asks the browser for a stemmer that does not exist.
    """

    lang = "zh"
    js_splitter_code = rf"""
var splitQuery = (query) =>
  (query.match(/[\p{{Letter}}\p{{Number}}_]+/gu) || [])
    .flatMap((words) => words.match(/[{HAN}]+|[^{HAN}]+/gu))
    .flatMap((word) =>
      /^[{HAN}]{{2}}/u.test(word) ? [...word].slice(1).map((next, i) => word[i] + next) : [word]
    );
"""

    def split(self, input: str) -> list[str]:
        """English words, and of Chinese ones all characters and all pairs of neighbours."""
        words = []
        for word in WORDS.findall(input):
            if re.match(f"[{HAN}]", word):
                words += [*word, *map("".join, pairwise(word))]
            else:
                words.append(word)
        return words


def setup(app: Sphinx) -> dict[str, bool]:
    """Search Chinese sites like this."""
    app.add_search_language(SearchChinese)
    return {"parallel_read_safe": True}
