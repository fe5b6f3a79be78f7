"""Code as a page shows it."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def source(*functions: Callable[..., object]) -> Markdown:
    """The source of functions or methods with syntax colours, for a notebook."""
    texts = [textwrap.dedent(inspect.getsource(function)).rstrip() for function in functions]
    return Markdown("```python\n" + "\n\n".join(texts) + "\n```")
