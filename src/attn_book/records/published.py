"""Published records in place of training, which would take hours."""

from __future__ import annotations

from pathlib import Path

from attn_blocks.errors import AttnBlocksError
from attn_blocks.files import PROJECT, write_bytes
from attn_book.records.reading import RECORDS
from attn_book.records.repair import move_aside
from attn_book.records.run import WEIGHTS, Run
from attn_book.records.seal import SUMS, broken_seals
from attn_book.records.semantics import changed_parts
from attn_book.study.recipes import PROFILES

PUBLISHED = PROJECT / "book" / "published"
WEIGHTS_FOLDER = "weights"  # the folder of a profile that holds them


class PublishError(AttnBlocksError):
    """Results that cannot be published, or published results that are wrong."""


def is_published(run: Run, published: Path = PUBLISHED) -> bool:
    """Whether a run's records are published."""
    return _published(run, published).folder.exists()


def import_published_record(run: Run, published: Path = PUBLISHED) -> bool:
    """Copy a run's published records into its folder; False if there are none that can be used.

    Only profiles that take hours share their runs like this, and only runs of today's semantics. A
    run that was started here is resumed here, and one that diverged here stays as it is. A finished
    one without weights, such as an import of what was published before, is moved aside.

    Raises:
        PublishError: its published records are not as they were published.
    """
    if run.diverged or any((run.folder / name).exists() for name in WEIGHTS):
        return False
    if run.status == "finished" and _is_taken(run, published):
        return False
    known = _published(run, published)
    profile = run.folder.parents[1].name
    if profile not in PROFILES or not PROFILES[profile].shared or not known.folder.exists():
        return False
    _check_seal(known)
    if not known.has_ended or changed_parts(known.record["semantics"], known.experiment):
        return False
    if run.status == "finished":
        move_aside(run)
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in RECORDS:  # metrics.json comes last: it is what makes a run finished
        if (known.folder / name).exists():  # a run that diverged has no logits
            write_bytes(run.folder / name, (known.folder / name).read_bytes())
    return True


def _check_seal(known: Run) -> None:
    """Refuse to take a record that was changed or damaged since it was published."""
    profile = known.folder.parents[1]
    below = known.folder.relative_to(profile).as_posix()
    if (profile / SUMS).exists() and (broken := broken_seals(profile, f"{below}/")):
        raise PublishError(
            f"{profile}: {'; '.join(broken)}; put it back: git checkout -- {known.folder}"
        )


def is_done(run: Run, published: Path = PUBLISHED) -> bool:
    """Whether nothing is left to train: it is finished, or diverged, which it would again.

    A run that was trained here and has lost its weights is not done: pages look into them.
    """
    if run.status == "finished":
        return run.has_weights or _is_taken(run, published)
    return run.diverged


def return_published(run: Run, published: Path = PUBLISHED) -> bool:
    """Undo ``import_published_record``, so that the run is trained here; False if unused."""
    if run.has_weights or not _is_taken(run, published):
        return False
    for name in reversed(RECORDS):
        (run.folder / name).unlink(missing_ok=True)
    return True


def _is_taken(run: Run, published: Path) -> bool:
    """Whether a run's record is the published one."""
    ours, theirs = (r.folder / "metrics.json" for r in (run, _published(run, published)))
    return ours.exists() and theirs.exists() and ours.read_bytes() == theirs.read_bytes()


def weights_of(run: Run, published: Path = PUBLISHED) -> Path | None:
    """The file of a run's published weights, float16; None where they are not published."""
    profile = run.folder.parents[1].name
    path = published / profile / WEIGHTS_FOLDER / f"{run.folder.name}.safetensors"
    return path if path.exists() else None


def _published(run: Run, published: Path) -> Run:
    return Run(published / run.folder.parents[1].name / "runs" / run.folder.name)
