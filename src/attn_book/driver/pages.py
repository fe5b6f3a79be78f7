"""The notebooks, executed headless."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import warnings
from collections.abc import Mapping, Sequence
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


def page_task(page: Plan, settings: Mapping[str, Any], language: str = ENGLISH) -> Task:
    """The task of executing a page; ``settings`` may hold the number of ``epochs``."""
    source = NOTEBOOKS / f"{page.page}.ipynb"
    output = in_language(page.results_dir / "notebooks", language) / source.name
    parameters = {
        "profile": page.profile,
        "seeds": list(page.seeds),
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
        "failures": planned.failures(page),
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


@cache
def _package_hashes() -> list[str]:
    return [sha256_of(path) for folder in PACKAGES for path in sorted(folder.rglob("*.py"))]


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
        failures: a line for each of its runs that failed. With any, the page goes on after a cell
            that fails, and says in its place that it was left out.
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
    with speaking(language):
        _run_cells(Path(source), partial, parameters, None if failures else failed)
        notebook = nbformat.read(partial, as_version=4)
        if failures:
            _leave_out_failed_cells(notebook, failures)
    notebook.metadata["attn_blocks"] = {"key": key}
    with atomic_write(target) as stream:
        nbformat.write(notebook, stream)
    partial.unlink()
    failed.unlink(missing_ok=True)


def _run_cells(
    source: Path, partial: Path, parameters: dict[str, Any], failed: Path | None
) -> None:
    """Execute a notebook into ``partial``, which goes to ``failed`` when a cell fails.

    Without such a path it goes on after a cell that fails.
    """
    import papermill

    try:
        papermill.execute_notebook(
            str(source),
            str(partial),
            parameters=parameters,
            kernel_name="python3",
            cwd=str(source.parent),
            progress_bar=False,
            # A kernel warns of its local socket each time, and calls it an error when it is
            # interrupted, as every kernel is before it is ended.
            extra_arguments=["--log-level=CRITICAL"],
            allow_errors=failed is None,
        )
    except papermill.PapermillExecutionError as error:
        if error.ename == "StorageError" or f"[Errno {errno.ENOSPC}]" in error.evalue:
            partial.unlink(missing_ok=True)
            raise StorageError(error.evalue, OSError(errno.ENOSPC, "")) from error
        if failed is not None:
            partial.replace(failed)
            raise WorkerError(str(error)) from error
    except RuntimeError as error:  # "Kernel died", while it started or later
        raise WorkerError(
            f"the notebook's kernel was killed ({error}), most likely because memory ran out; free "
            "some, or ask for fewer at once (JOBS=1), and give the same command again"
        ) from error
    except OSError as error:
        if error.errno in NO_ROOM:
            partial.unlink(missing_ok=True)
            raise storage_error(error, partial) from error
        raise


def _leave_out_failed_cells(notebook: Any, failures: Sequence[str]) -> None:
    """Replace each error by a line that names the failed runs."""
    import nbformat
    from papermill.execute import remove_error_markers

    remove_error_markers(notebook)
    for cell in notebook.cells:
        for output in cell.get("outputs", ()):
            if output["output_type"] == "error":
                text = _("Left out, it needs a run that failed.")
                line = f"{text} {'; '.join(failures)}"
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
