"""What the site shows: records and executed pages, copied out of the results and checked."""

from __future__ import annotations

import base64
import io
import os
import re
import shutil
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import nbformat
import numpy as np
from PIL import Image

from attn_blocks.errors import CheckpointError, DataError, choose
from attn_blocks.files import (
    PROJECT,
    atomic_folder,
    folder_lock,
    need_checkout,
    recover_folder,
    write_bytes,
    write_json,
)
from attn_blocks.tensors import load_tensors, save_tensors
from attn_book.driver import measured
from attn_book.driver.executed import digests, notebook_problems, read_page
from attn_book.driver.summary import write_summary
from attn_book.driver.verify import problems_of, task_of, why_unfit
from attn_book.language import ENGLISH, LANGUAGES, in_language, language, speaking
from attn_book.records import attention, faults, near_copies
from attn_book.records.logits import LARGEST
from attn_book.records.published import PUBLISHED, WEIGHTS_FOLDER, PublishError, weights_of
from attn_book.records.reading import RECORDS
from attn_book.records.recorded import ended_runs, finished_runs, recorded_plans
from attn_book.records.reproduction import is_same
from attn_book.records.run import Run
from attn_book.records.seal import SUMS, broken_seals, seal
from attn_book.study.pages import GUIDES, PAGES
from attn_book.study.plan import RESULTS, Plan, results_folder
from attn_book.study.recipes import PROFILES
from attn_book.training.checkpoint import OPTIMIZER_PREFIX

KEPT_OF_CELLS = ("tags", "mystnb", "jupyter")  # what is folded, and the words on the fold
LARGEST_NETWORK = 5_000_000  # parameters of a network whose weights are published


def publish(
    profile: str,
    results_dir: str | Path | None = None,
    published: Path = PUBLISHED,
    data_dir: str | Path | None = None,
) -> list[str]:
    """Add a profile's finished runs and executed pages to what is published.

    Runs that were published before stay, so that several machines can add to one study. A run is
    left out when its semantics have changed since, when it follows another recipe than the
    profile's, or when newer runs of its comparison are on other images. A page is left out while it
    is not executed, or one of its runs is missing.

    Args:
        profile: a name of ``PROFILES``.
        results_dir: see ``study.plan.results_folder``.
        published: the folder that holds the published profiles.
        data_dir: see ``datasets.data_folder``; what is measured on the images is measured once.

    Returns:
        A line for each thing that was left out, with the reason.

    Raises:
        PublishError: there is nothing to publish, the folder that was named has no results, what is
            published is not as it was, or what was put together does not pass ``check``; what was
            published before is left as it was.
        SettingError: the packages are installed outside a checkout, which has the folder.
    """
    if published == PUBLISHED:
        need_checkout("publish")
    source = results_folder(results_dir) / choose("profile", profile, PROFILES)
    made = (path for name in ("runs", "notebooks") for path in (source / name).glob("*"))
    named = results_dir is not None or os.environ.get(RESULTS)
    if named and not any(made):
        raise PublishError(f"{source} holds no results; run: make reproduce-all PROFILE={profile}")
    # Two at once would each add to what was there before, and the last one would win.
    with folder_lock(published.parent, ".publish.lock"):
        target = published / profile
        left = recover_folder(target)
        notes = [f"{space} was left by an interrupted publish; it is removed" for space in left]
        return notes + _publish(target, source, data_dir)


def _publish(target: Path, source: Path, data_dir: str | Path | None) -> list[str]:
    profile = target.name
    _check_seals(target)
    with atomic_folder(target) as staging:
        notes = _copy_runs([target, source], staging)
        if not finished_runs(staging):
            raise PublishError(
                "\n".join(
                    [
                        *notes,
                        f"no finished run of the profile {profile} in {source}; "
                        f"run: make reproduce-all PROFILE={profile}",
                    ]
                )
            )
        _publish_weights([target, source], staging)
        notes += _measure(target, staging, data_dir)
        plans = recorded_plans(staging)
        write_summary(staging, list(plans.values()))
        for chosen in LANGUAGES:
            for page in (*PAGES, *GUIDES):
                with speaking(chosen):
                    notes += _copy_notebook(page, plans.get(page), [source, target], staging)
        seal(staging)
        problems = problems_of(staging)
        if problems:
            raise PublishError("\n".join(problems))
    return list(dict.fromkeys(notes))


def _check_seals(target: Path) -> None:
    """Refuse to publish on top of what was changed: it would be sealed with the rest."""
    if (target / SUMS).exists() and (broken := broken_seals(target)):
        raise PublishError(
            f"{target} is not as it was published: {'; '.join(broken)}; restore it (git checkout), "
            f"or, if that is meant, remove {SUMS} in it and publish again"
        )


def _copy_runs(sources: Sequence[Path], staging: Path) -> list[str]:
    """Copy the records of all runs that can be shown, from later sources over earlier ones.

    A later run with the same numbers changes nothing: pages were executed on the earlier record. A
    run that diverged is a result as any other, and no later one takes its place.
    """
    notes: list[str] = []
    chosen: dict[str, Run] = {}
    for run in (run for source in sources for run in ended_runs(source).values()):
        reason = why_unfit(run, staging.name)
        known = chosen.get(run.folder.name)
        if reason:
            notes.append(f"left out {run.folder.name}: {reason}")
        elif known is None or not (known.diverged or run.diverged or is_same(known, run)):
            chosen[run.folder.name] = run
    newest = {}
    finished = [run for run in chosen.values() if run.status == "finished"]
    for run in sorted(finished, key=lambda run: run.metrics["finished"]):
        newest[task_of(run, staging.name)] = run
    for name, run in chosen.items():
        shown = newest.get(task_of(run, staging.name), run)
        if run.experiment.fingerprint != shown.experiment.fingerprint:
            label = shown.record["data"]["label"]
            notes.append(f"left out {name}: newer runs of its comparison are on {label}")
            continue
        (staging / "runs" / name).mkdir(parents=True)
        for record in RECORDS:
            if (run.folder / record).exists():  # one that diverged has no logits
                shutil.copyfile(run.folder / record, staging / "runs" / name / record)
    return notes


def _publish_weights(sources: Sequence[Path], staging: Path) -> None:
    """Keep the weights of the first seed's networks that are small enough, in float16.

    Pages look into the networks of the record itself then, and nobody has to train to read.
    """
    settings = PROFILES[staging.name]
    for run in finished_runs(staging).values() if settings.shared else ():
        small = run.metrics["params"] < LARGEST_NETWORK
        if run.experiment.seed != settings.seeds[0] or not small:
            continue
        target = staging / WEIGHTS_FOLDER / f"{run.folder.name}.safetensors"
        for source in sources:
            trained = Run(source / "runs" / run.folder.name)
            known = source / WEIGHTS_FOLDER / target.name
            if trained.status != "finished" or not is_same(run, trained):
                continue  # weights of another training
            if known.exists():
                write_bytes(target, known.read_bytes())
            elif trained.has_weights:
                save_tensors(target, half_precision(trained), {"run": run.folder.name})


def _measure(target: Path, staging: Path, data_dir: str | Path | None) -> list[str]:
    """Keep what is measured on published networks and on their images; measure what is not there.

    That takes weights, images, and some minutes.
    """
    found = []
    plain = faults.subject(staging) if PROFILES[staging.name].shared else None
    if plain is not None and weights_of(plain, staging.parent) is not None:
        found.append((faults, partial(measured.faults_of, plain, staging.parent, data_dir)))
    if attention.subjects(staging):
        found.append((attention, partial(measured.attention_in, staging, data_dir)))
    if near_copies.tasks(staging):
        found.append((near_copies, partial(measured.copies_in, staging, data_dir)))
    notes = []
    for records, measure in found:
        if (target / records.FILE).exists():
            write_bytes(staging / records.FILE, (target / records.FILE).read_bytes())
            if not records.problems(staging):
                continue
            (staging / records.FILE).unlink()  # of networks or images that are others since
        try:
            write_json(staging / records.FILE, measure())
        except DataError as error:
            notes.append(f"left out {records.FILE}: {error}")
    return notes


def half_precision(run: Run) -> dict[str, np.ndarray]:
    """A run's last weights in float16, without the optimiser's state."""
    tensors, _ = load_tensors(run.folder / "last.safetensors")
    return {
        name: np.clip(value, -LARGEST, LARGEST).astype(np.float16)
        for name, value in tensors.items()
        if not name.startswith(OPTIMIZER_PREFIX)
    }


def _copy_notebook(
    page: str, plan: Plan | None, sources: Sequence[Path], staging: Path
) -> list[str]:
    """Copy a page from the first source whose execution shows the published runs, if it has any.

    It is the page in today's language; in another than English it need not be there.

    Returns:
        Why a page was left out, or why an earlier execution of it stays.
    """
    reasons: list[str] = []
    spoken = language()
    wanted = plan is not None or page in GUIDES
    for path in [in_language(source / "notebooks", spoken) / f"{page}.ipynb" for source in sources]:
        if not path.exists():
            continue
        try:
            notebook = read_page(path)
        except CheckpointError as error:
            reasons.append(str(error))
            continue
        with_todays_prose(notebook, read_page(PROJECT / "notebooks" / path.name))
        executed = notebook.metadata.get("papermill", {}).get("end_time")
        if executed and wanted:
            notebook = cleaned(notebook)
            runs = digests(plan) if plan else {}
            notebook.metadata["attn_blocks"] = {"executed": executed, "runs": runs}
        problems = notebook_problems(page, notebook, plan)
        if not problems:
            target = in_language(staging / "notebooks", spoken) / path.name
            target.parent.mkdir(parents=True, exist_ok=True)
            nbformat.write(notebook, target)
            return [f"page {page} stays as it was: {reason}" for reason in reasons]
        reasons += problems
    if not reasons and wanted and spoken == ENGLISH:
        reasons = [f"it is not executed; run: make reproduce-{page} PROFILE={staging.name}"]
    name = page if spoken == ENGLISH else f"{page} in {spoken}"
    return [f"left out page {name}: {reason}" for reason in reasons]


def with_todays_prose(executed: nbformat.NotebookNode, today: nbformat.NotebookNode) -> None:
    """Give an executed page the prose of today's notebook, where its code has not changed since.

    Prose is no result: it is read beside the outputs as it stands today.
    """
    cells = [
        cell
        for cell in executed.cells
        if "injected-parameters" not in cell.metadata.get("tags", [])
    ]
    code, wanted = (
        [cell.source if cell.cell_type == "code" else None for cell in of]
        for of in (cells, today.cells)
    )
    for cell, now in zip(cells, today.cells, strict=True) if code == wanted else ():
        cell.source = now.source


def cleaned(notebook: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """An executed notebook without what belongs to the machine that ran it.

    Removed are warnings and progress bars (stderr), papermill's and the kernel's notes, the folders
    among the parameters, and plain text beside a richer form of the same output. Figures are stored
    in 256 colours, which look the same in a third of the size.
    """
    notebook = nbformat.from_dict(notebook)
    kept = ("kernelspec", "language_info")
    notebook.metadata = {k: v for k, v in notebook.metadata.items() if k in kept}
    for cell in notebook.cells:
        tags = cell.metadata.get("tags", [])
        cell.metadata = {k: v for k, v in cell.metadata.items() if k in KEPT_OF_CELLS and v}
        if "injected-parameters" in tags:
            lines = cell.source.splitlines()
            cell.source = "\n".join(line for line in lines if not re.match(r"\w+_dir\b", line))
        if cell.cell_type == "code":
            cell.outputs = [o for o in cell.outputs if o.get("name") != "stderr"]
        for data in (output.data for output in cell.get("outputs", ()) if "data" in output):
            if len(data) > 1:
                data.pop("text/plain", None)
            if "image/png" in data:
                data["image/png"] = _packed(data["image/png"])
    return notebook


def _packed(png: str) -> str:
    """A figure in the 256 colours that suit it best: a third of the size, and looks the same."""
    stream = io.BytesIO()
    with Image.open(io.BytesIO(base64.b64decode(png))) as image:
        image.convert("RGB").quantize(256).save(stream, "PNG", optimize=True)
    return min(png, base64.b64encode(stream.getvalue()).decode(), key=len)
