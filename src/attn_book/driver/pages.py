"""The notebooks, executed headless."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import re
import sys
import tempfile
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

from attn_blocks.errors import AttnBlocksError, StorageError
from attn_blocks.files import (
    NO_ROOM,
    PROJECT,
    atomic_write,
    read_json,
    remove_leftovers,
    set_aside,
    sha256_of,
    storage_error,
)
from attn_book.analysis import reference
from attn_book.analysis.evidence import ended_of_study
from attn_book.driver.processes import PACKAGES, Task, WorkerError
from attn_book.language import ENGLISH, _, catalogue_path, in_language, speaking
from attn_book.records import planned
from attn_book.study.plan import Plan
from attn_book.study.recipes import PROFILES

NOTEBOOKS = PROJECT / "notebooks"
START_TIMEOUT = 300  # seconds; a kernel starts late on a machine that trains
# What a cell raises that looks for a run which is not there, or for what such a cell did not make.
MISSING = ("IndexError", "KeyError", "NameError", "SettingError", "TypeError", "ValueError")


def page_task(page: Plan, settings: Mapping[str, Any], language: str = ENGLISH) -> Task:
    """The task of executing a page; ``settings`` may hold ``seeds`` and ``epochs``."""
    source = NOTEBOOKS / f"{page.page}.ipynb"
    output = in_language(page.results_dir / "notebooks", language) / source.name
    parameters = {
        "profile": page.profile,
        # Where none were asked for, each comparison has its own.
        "seeds": None if settings.get("seeds") is None else list(page.seeds),
        "data_dir": str(page.data_dir),
        "results_dir": str(page.results_dir.parent),
        "device": page.device,
        "epochs": settings.get("epochs"),
    }
    if not page.comparisons:  # a guide, which trains nothing
        parameters = {}
    # A page compares its block with the recordings of the paper's code where there are any.
    recordings = str(bool(os.environ.get(reference.VARIABLE)))
    digest = [sha256_of(source), json.dumps(parameters), recordings, *_package_hashes()]
    if language != ENGLISH:
        digest += [language, sha256_of(catalogue_path(language))]
    shown = [planned.run_of(page, experiment) for experiment in page.experiments]
    if page.comparisons and PROFILES[page.profile].folds:  # outcomes are those of whole families
        shown += ended_of_study(page)
    for run in shown:
        metrics = run.folder / "metrics.json"
        digest.append(sha256_of(metrics) if metrics.exists() else run.folder.name)
    key = hashlib.sha256("\n".join(digest).encode()).hexdigest()[:16]
    request = {
        "source": str(source),
        "output": str(output),
        "parameters": parameters,
        "key": key,
        "failures": planned.failures(page) if _lacks_a_network(page) else [],
        "language": language,
    }
    return Task(
        page.page,
        "page",
        request,
        output.parent,
        f".{page.page}.lock",
        None,
        lambda: _key_of(output) == key,
    )


def _lacks_a_network(page: Plan) -> bool:
    """Whether no run of a network is finished, so that cells which look into it fail."""
    return not all(all(planned.runs_of(page, c.task).values()) for c in page.comparisons)


@cache
def _package_hashes() -> list[str]:
    """Of the code and of what it quotes, such as the reported histories."""
    files = [path for folder in PACKAGES for path in sorted(folder.rglob("*.*"))]
    return [sha256_of(path) for path in files if path.suffix in (".py", ".json")]


def _key_of(executed: Path) -> str | None:
    """The key of an executed page; None if the page is missing or damaged."""
    try:
        return read_json(executed)["metadata"]["attn_blocks"]["key"]
    except (AttnBlocksError, OSError, KeyError, TypeError):
        return None


def execute_page(
    source: str,
    output: str,
    parameters: dict[str, Any],
    key: str,
    failures: Sequence[str] = (),
    language: str = ENGLISH,
) -> None:
    """Execute one notebook, in a worker whose driver holds the page's lock.

    Args:
        source, output: the notebook, and the path of the executed one.
        parameters: values for its parameters cell.
        key: what ``_key_of`` is to find in the executed page.
        failures: a line for each of its runs that failed, where a network has no other. With any,
            the page goes on after a cell that lacks such a run, and says in its place that it was
            left out.
        language: what its outputs speak.

    Raises:
        WorkerError: a cell failed; the page as far as it went is kept as ``<page>.failed.ipynb``.
            Or its kernel was killed.
        StorageError: the disk is full.
    """
    import nbformat

    target = Path(output)
    for problem in set_aside_damaged_page(target):
        warnings.warn(problem, stacklevel=2)
    partial = target.with_name(f".{target.stem}.partial.ipynb")
    failed = target.with_name(f"{target.stem}.failed.ipynb")
    with speaking(language), _own_jupyter():
        _run_cells(Path(source), partial, failed, parameters, failures)
        notebook = nbformat.read(partial, as_version=4)
        if failures:
            _leave_out_failed_cells(notebook, failures)
    notebook.metadata["attn_blocks"] = {"key": key}
    with atomic_write(target) as stream:
        nbformat.write(notebook, stream)
    partial.unlink()
    failed.unlink(missing_ok=True)


@contextmanager
def _own_jupyter() -> Iterator[None]:
    """This environment's kernel, without the user's own kernels, profiles and startup files."""
    before = dict(os.environ)
    with tempfile.TemporaryDirectory() as folder:
        os.environ["JUPYTER_PATH"] = str(Path(sys.prefix, "share", "jupyter"))
        os.environ["IPYTHONDIR"] = os.environ["JUPYTER_RUNTIME_DIR"] = folder
        os.environ.pop("PYTHONSTARTUP", None)
        try:
            yield
        finally:
            os.environ.clear()
            os.environ.update(before)


def _run_cells(
    source: Path,
    partial: Path,
    failed: Path,
    parameters: dict[str, Any],
    failures: Sequence[str],
) -> None:
    """Execute a notebook into ``partial``, which goes to ``failed`` when ``execute_page`` fails."""
    import papermill

    # Papermill fills parameters into paths.
    paths = [str(path).replace("{", "{{").replace("}", "}}") for path in (source, partial)]
    try:
        papermill.execute_notebook(
            *paths,
            parameters=parameters,
            kernel_name="python3",
            cwd=str(source.parent),
            progress_bar=False,
            start_timeout=START_TIMEOUT,
            # A kernel warns of its local socket each time, and calls it an error when it is
            # interrupted, as every kernel is before it is ended.
            extra_arguments=["--log-level=CRITICAL"],
            allow_errors=bool(failures),
        )
    except papermill.PapermillExecutionError as error:
        _check_errors(error, partial, failed, failures)
    except RuntimeError as error:
        if "Kernel died" not in str(error):  # while it started or later
            raise
        raise WorkerError(
            f"the notebook's kernel was killed ({error}), most likely because memory ran out; free "
            "some, or ask for fewer at once (JOBS=1), and give the same command again"
        ) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            partial.unlink(missing_ok=True)
            raise storage_error(error, partial) from error
        raise


def _check_errors(last: Exception, partial: Path, failed: Path, failures: Sequence[str]) -> None:
    """Pass over a page's errors if all of them are of cells that lack a run which failed.

    Args:
        last: papermill's, which is of the last cell that failed.
    """
    import nbformat

    errors = [
        output
        for cell in nbformat.read(partial, as_version=4).cells
        for output in cell.get("outputs", ())
        if output["output_type"] == "error"
    ]
    for error in errors:
        number = re.search(r"\[Errno (\d+)\]", error.evalue)
        code = int(number[1]) if number else 0
        if error.ename == "StorageError" or code in NO_ROOM:
            partial.unlink(missing_ok=True)
            raise StorageError(error.evalue, OSError(code or errno.ENOSPC, "")) from last
    others = [error for error in errors if error.ename not in MISSING]
    if others or not failures or not errors:
        partial.replace(failed)
        said = [f"{error.ename}: {error.evalue}" for error in others if failures]
        raise WorkerError("\n".join(said) or str(last)) from last


def _leave_out_failed_cells(notebook: Any, failures: Sequence[str]) -> None:
    """Replace each error by a line that names the failed runs, and says what was missing."""
    import nbformat
    from papermill.execute import remove_error_markers

    remove_error_markers(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                text = _("Left out, it needs a run that failed.")
                said = f"{output.ename}: {output.evalue}".strip().splitlines()[-1]
                line = f"{text} {'; '.join(failures)} ({said})"
                cell.outputs = [nbformat.v4.new_output("stream", text=f"{line}\n")]
                break


def set_aside_damaged_page(output: Path) -> list[str]:
    """Remove what an interrupted execution left, and set a damaged page aside; a line for each."""
    page, notebooks = output.stem, output.parent
    # Beside the notebooks and divided as they are, see ``in_language``.
    root = next(folder for folder in output.parents if folder.name == "notebooks")
    figures = root.parent / "figures" / notebooks.relative_to(root)
    problems = remove_leftovers(notebooks, f".{page}.*.ipynb")
    problems += remove_leftovers(notebooks, f".{page}.*.tmp")
    problems += remove_leftovers(figures, f".{page}_*.tmp")
    if output.exists():
        try:
            read_json(output)
        except AttnBlocksError as error:
            problems.append(str(error))
            set_aside(output)
    return problems
