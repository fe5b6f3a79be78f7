"""Code as a page shows it."""

from __future__ import annotations

import ast
import inspect
import textwrap
from collections.abc import Callable

from IPython.display import Markdown


def source(*things: type | Callable[..., object]) -> Markdown:
    """The source of functions, methods and classes with syntax colours, for a notebook.

    A class comes without its own docstring, which the programming interface prints: beside the
    prose of a page its code is what is read. Its methods keep theirs.
    """
    return Markdown("```python\n" + "\n\n".join(map(_text, things)) + "\n```")


def _text(thing: type | Callable[..., object]) -> str:
    text = textwrap.dedent(inspect.getsource(thing)).rstrip()
    defined = ast.parse(text).body[0]
    if not isinstance(defined, ast.ClassDef) or ast.get_docstring(defined) is None:
        return text
    docstring, lines = defined.body[0], text.splitlines()
    rest = "\n".join(lines[docstring.end_lineno :])
    return "\n".join([*lines[: docstring.lineno - 1], rest.lstrip("\n")])
