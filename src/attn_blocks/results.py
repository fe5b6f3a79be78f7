"""Run folders -> tables, statistics and verdicts.

Results quote the final epoch. The best epoch stands beside it and is called what it is: chosen on
the validation images themselves. Effects are differences of final accuracies in percentage points,
paired over seeds.
"""

from __future__ import annotations

import csv
import io
import math
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from attn_blocks import provenance
from attn_blocks.errors import CheckpointError, SettingError, choose
from attn_blocks.experiment import CLAIMS, PROFILES, REPORTED, TASK_TITLES, Claim, Experiment, Plan
from attn_blocks.files import (
    MADE_AGAIN,
    PROJECT,
    atomic_write,
    fit,
    load_tensors,
    read_json,
    remove_leftovers,
    tensor_shapes,
)

if TYPE_CHECKING:
    import paddle
    from IPython.display import Markdown

PUBLISHED = PROJECT / "book" / "published"
RECORDS = ("experiment.json", "history.csv", "metrics.json")
HISTORY_COLUMNS = ("epoch", "lr", "train_loss", "train_acc", "val_loss", "val_acc", "seconds")
SUMMARY_COLUMNS = (
    "page", "dataset", "classes", "model", "seed", "epochs", "image_size", "params", "macs",
    "final_val_acc", "best_val_acc", "best_epoch", "seconds", "images_per_second", "device",
    "status",
)  # fmt: skip
VERDICT_COLUMNS = (
    "claim", "reported", "paper_delta", "ours_mean", "ours_ci_low", "ours_ci_high", "seeds",
    "verdict",
)  # fmt: skip
FEWEST_SEEDS = 3
PAGE_COLUMNS = 72  # characters of printed text that a page shows side by side
WEIGHTS = ("best.safetensors", "last.safetensors")
# A run that is trained again on another processor or thread count sums in another order and drifts.
ACCURACY_TOLERANCE = 0.05
# What pages and tables read from a run's records.
EXPERIMENT_FIELDS = ("dataset", "fingerprint", "model", "options", "seed", "recipe")
RECORD_PARTS = {
    "data": {
        "title": str, "label": str, "classes": list, "class_total": int, "train_images": int,
        "validation_images": int,
    },
    "compute": {"device": str, "threads": int},
}  # fmt: skip
FINISHED_NUMBERS = (
    "final_val_acc", "best_val_acc", "best_epoch", "params", "macs", "seconds",
    "images_per_second", "peak_memory_mb",
)  # fmt: skip


def read_history(path: str | Path) -> list[dict[str, float]]:
    """The epochs of a ``history.csv``, oldest first; a damaged file raises CheckpointError."""
    path = Path(path)
    try:
        text = path.read_bytes().decode("utf-8")
        header, *lines = csv.reader(io.StringIO(text, newline="")) if text else [()]
        if tuple(header) != HISTORY_COLUMNS:
            raise ValueError(f"its columns are {', '.join(header) or 'missing'}")
        if not text.endswith("\n"):
            raise ValueError("its last line is cut off")
        rows = [_epoch_row(number, line) for number, line in enumerate(lines, start=1)]
    except (OSError, ValueError, csv.Error) as error:
        raise CheckpointError(f"{path} is damaged ({error}); {MADE_AGAIN}") from error
    return [{**row, "epoch": int(row["epoch"])} for row in rows]


def _epoch_row(number: int, line: Sequence[str]) -> dict[str, float]:
    if len(line) != len(HISTORY_COLUMNS):
        raise ValueError(f"epoch {number} has {len(line)} values")
    row = dict(zip(HISTORY_COLUMNS, map(float, line), strict=True))
    if row["epoch"] != number:
        raise ValueError(f"epoch {number} is called {line[0]}")
    # Training ends when its loss is not finite; that of the validation images may pass through it.
    if not all(math.isfinite(value) for name, value in row.items() if name != "val_loss"):
        raise ValueError(f"a value of epoch {number} is not finite")
    return row


def read_metrics(path: str | Path) -> dict[str, Any]:
    """A ``metrics.json``; a damaged one, or one that lacks a part, raises CheckpointError."""
    metrics = read_json(path)
    try:
        if metrics["status"] == "failed":
            if not isinstance(metrics["reason"], str):
                raise ValueError("its reason is no text")
        elif metrics["status"] == "finished":
            for name in FINISHED_NUMBERS:
                if not _is_number(metrics[name]):
                    raise ValueError(f"its {name} is {metrics[name]!r}")
            for name in ("final_val_acc", "best_val_acc"):
                if not 0 <= metrics[name] <= 1:
                    raise ValueError(f"its {name} is {metrics[name]!r}, which is no share")
            datetime.fromisoformat(metrics["finished"])
            _check_confusion(metrics["confusion"])
        else:
            raise ValueError(f"its status is {metrics['status']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_words(error)}); {MADE_AGAIN}") from error
    return metrics


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _check_confusion(confusion: Any) -> None:
    size = len(confusion)
    if not all(len(row) == size for row in confusion):
        raise ValueError("its confusion matrix is not square")
    if not all(type(count) is int and count >= 0 for row in confusion for count in row):
        raise ValueError("its confusion matrix holds something other than counts")
    if not any(map(any, confusion)):
        raise ValueError("its confusion matrix counts no image")


def read_record(path: str | Path) -> dict[str, Any]:
    """An ``experiment.json``; a damaged one, or one that lacks a part, raises CheckpointError."""
    record = read_json(path)
    try:
        _experiment_of(record)
        for part, names in RECORD_PARTS.items():
            for name, kind in names.items():
                if not isinstance(record[part][name], kind):
                    raise ValueError(f"its {part}.{name} is {record[part][name]!r}")
        if not all(isinstance(name, str) for name in record["data"]["classes"]):
            raise ValueError("a class has no name")
        if not isinstance(record["sources"], dict):
            raise ValueError(f"its sources are {record['sources']!r}")
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged ({_words(error)}); {MADE_AGAIN}") from error
    return record


def _experiment_of(record: Mapping[str, Any]) -> Experiment:
    return Experiment.from_dict({name: record[name] for name in EXPERIMENT_FIELDS})


def _words(error: Exception) -> str:
    return f"{error.args[0]!r} is missing" if isinstance(error, KeyError) else str(error)


@dataclass(frozen=True)
class Run:
    """A run folder, read when asked."""

    folder: Path

    @cached_property
    def record(self) -> dict[str, Any]:
        """``experiment.json``: settings, data, device, versions and source hashes."""
        return read_record(self.folder / "experiment.json")

    @cached_property
    def experiment(self) -> Experiment:
        """The experiment that was run."""
        return _experiment_of(self.record)

    @cached_property
    def metrics(self) -> dict[str, Any]:
        """``metrics.json``; its status is "finished" or "failed"."""
        return read_metrics(self.folder / "metrics.json")

    @property
    def status(self) -> str:
        """ "finished", "failed", or "unfinished" while a record is missing or damaged."""
        try:
            status = read_metrics(self.folder / "metrics.json")["status"]
        except (CheckpointError, OSError):
            return "unfinished"
        whole = status == "failed" or all((self.folder / name).exists() for name in RECORDS)
        return status if whole else "unfinished"

    @cached_property
    def history(self) -> dict[str, np.ndarray]:
        """Columns of ``history.csv`` as arrays over the epochs."""
        rows = read_history(self.folder / "history.csv")
        return {name: np.array([row[name] for row in rows]) for name in HISTORY_COLUMNS}

    @property
    def epoch_seconds(self) -> float:
        """Training time of the median epoch: a pause in another does not count."""
        return float(np.median(self.history["seconds"]))

    @property
    def images_per_second(self) -> float:
        """Of training in the median epoch; the metrics hold the mean over all epochs."""
        images_per_epoch = self.metrics["images_per_second"] * self.history["seconds"].mean()
        return float(images_per_epoch / self.epoch_seconds)

    @property
    def has_weights(self) -> bool:
        """Whether trained weights are on this machine, its own or its repeat's."""
        return all((self.trained.folder / name).exists() for name in WEIGHTS)

    @property
    def trained(self) -> Run:
        """Whose weights stand for this run: its own, or where only that has any, its repeat's."""
        mine = all((self.folder / name).exists() for name in WEIGHTS)
        return self if mine or self.repeat.status != "finished" else self.repeat

    @property
    def repeat(self) -> Run:
        """Where the experiment is trained again for the weights that a record came without."""
        return Run(self.folder.parents[1] / "repeats" / "runs" / self.folder.name)

    @property
    def confusion(self) -> np.ndarray:
        """Validation images of the final epoch, [true class, predicted class]."""
        return np.array(self.metrics["confusion"])

    @property
    def classes(self) -> list[str]:
        """Class names, in the order of the labels."""
        return self.record["data"]["classes"]

    def load_model(self, which: str = "last") -> paddle.nn.Layer:
        """The trained model in evaluation mode, with its "last" or its "best" weights.

        They may be those of its repeat, which prints how far that is off if it is not the same.

        Raises:
            CheckpointError: there are no weights, they do not fit the model, or the repeat's final
                accuracy differs by more than ``tolerance``.
        """
        from attn_blocks import train

        choose("checkpoint", which, ("last", "best"))
        trained = self.trained
        if trained is not self and not is_same(self, trained):
            words = f"The weights are of a repeat. {agreement(self, trained)}"
            print(textwrap.fill(words, PAGE_COLUMNS))
        model = train.build_model(self.experiment, len(self.classes))
        path = trained.folder / f"{which}.safetensors"
        tensors, _ = load_tensors(path)
        weights = {k: v for k, v in tensors.items() if not k.startswith(train.OPTIMIZER_PREFIX)}
        fit(path, weights, model.state_dict())
        model.set_state_dict(weights)
        model.eval()
        return model


def is_same(known: Run, ours: Run) -> bool:
    """Whether two runs have the same history, but for the seconds."""
    columns = [column for column in HISTORY_COLUMNS if column != "seconds"]
    return all(np.array_equal(known.history[c], ours.history[c]) for c in columns)


def tolerance(known: Run) -> float:
    """How far the final accuracy may be off in a repeat that sums in another order.

    Training amplifies the rounding until the repeat differs as another seed would. At least
    ``ACCURACY_TOLERANCE``; on few images, three standard deviations of the difference between two
    networks that are equally good.
    """
    share, images = known.metrics["final_val_acc"], known.confusion.sum()
    return max(ACCURACY_TOLERANCE, 3 * math.sqrt(2 * share * (1 - share) / images))


def agreement(known: Run, ours: Run) -> str:
    """Hold a run against the one that is on record under the same name.

    Returns:
        A sentence: identical to the last bit, or how far the final accuracy is off.

    Raises:
        CheckpointError: it is off by more than ``tolerance``.
    """
    if is_same(known, ours):
        return f"{known.folder.name}: identical to the last bit"
    before, after = (run.metrics["final_val_acc"] for run in (known, ours))
    text = f"{known.folder.name}: final accuracy {after:.4f}, its record says {before:.4f}"
    allowed = tolerance(known)
    if abs(after - before) > allowed:
        raise CheckpointError(f"{text}: more than {allowed:.2f} apart")
    return f"{text}, within {allowed:.2f} (not bit for bit: another processor or library)"


def history_behind(folder: Path, metadata: Mapping[str, str]) -> list[dict[str, float]]:
    """The epochs that a run's last checkpoint has behind it.

    Args:
        folder: the run's.
        metadata: of its ``last.safetensors``.

    Raises:
        CheckpointError: the history is damaged or shorter than that, or the best weights are not
            those of its best epoch, so that training cannot go on from there.
    """
    rows = read_history(folder / "history.csv")
    epoch = _epoch_of(folder / "last.safetensors", metadata)
    if not 1 <= epoch <= len(rows):
        raise CheckpointError(
            f"{folder / 'last.safetensors'} is of epoch {epoch}, the history has {len(rows)}"
        )
    best = max(rows[:epoch], key=lambda row: row["val_acc"])["epoch"]
    path = folder / "best.safetensors"
    kept = _weights_epoch(path)
    # Of the epoch that was being saved when the run was stopped: it is made again, to the same.
    if kept not in (best, epoch + 1):
        raise CheckpointError(f"{path} is of epoch {kept}, the best was {best}")
    return rows[:epoch]


def _epoch_of(path: Path, metadata: Mapping[str, str]) -> int:
    try:
        return int(metadata["epoch"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"{path} does not say of which epoch it is; {MADE_AGAIN}") from error


def mend(run: Run) -> list[str]:
    """Remove what an interruption or a bad disk left half-written, so that it is made again.

    To be called by the process that holds the run's lock (``files.hold``).

    Returns:
        A line for each file, that names it and says what is wrong.
    """
    problems = remove_leftovers(run.folder)
    for name, read in READERS.items():
        path = run.folder / name
        try:
            if path.exists():
                read(path)
        except CheckpointError as error:
            problems.append(str(error))
            path.unlink()
    if run.status == "finished":
        disagreement = _disagreement(Run(run.folder))
        if disagreement:
            path = run.folder / "metrics.json"
            problems.append(
                f"{path} does not fit the rest of the run ({disagreement}); {MADE_AGAIN}"
            )
            path.unlink()
    return problems


def _disagreement(run: Run) -> str | None:
    """What the files of a finished run say against one another, each of them whole."""
    if run.experiment.name != run.folder.name:
        return f"its record is that of {run.experiment.name}"
    epochs, accuracy = run.experiment.recipe.epochs, run.history["val_acc"]
    if len(accuracy) != epochs:
        return f"its history has {len(accuracy)} of {epochs} epochs"
    if run.metrics["final_val_acc"] != accuracy[-1]:
        return f"its history ends at accuracy {accuracy[-1]}"
    if len(run.classes) != len(run.confusion):
        return f"its record has {len(run.classes)} classes"
    expected = {"last": epochs, "best": run.metrics["best_epoch"]}
    for which, epoch in expected.items():
        path = run.folder / f"{which}.safetensors"
        if path.exists() and _weights_epoch(path) != epoch:
            return f"{path.name} is not of epoch {epoch}"
    return None


def _weights_epoch(path: Path) -> int:
    return _epoch_of(path, tensor_shapes(path)[1])


# How each file of a run is read, or checked, at the start.
READERS = {
    "experiment.json": read_record,
    "history.csv": read_history,
    "metrics.json": read_metrics,
    "best.safetensors": _weights_epoch,
    "last.safetensors": _weights_epoch,
}


def run_of(plan: Plan, what: Experiment) -> Run:
    """The run of one of a page's experiments, finished or not."""
    return Run(plan.results_dir / "runs" / what.name)


def training_of(plan: Plan, what: Experiment) -> Run:
    """The run that is to be trained: its repeat where only weights are missing, as beside a record.

    A finished record is not trained over: published pages and tables show it.
    """
    run = run_of(plan, what)
    return run.repeat if run.status == "finished" else run


def is_done(plan: Plan, what: Experiment) -> bool:
    """Whether nothing is left to train: finished, with its weights if a page looks into them."""
    run = run_of(plan, what)
    if run.status == "finished":
        return run.has_weights or not plan.needs_weights(what)
    return run.status == "failed"


def take_published(run: Run, published: Path = PUBLISHED) -> bool:
    """Finish a run by the records that were published of it; False if there are none that fit.

    Only profiles that take hours share their runs like this, and only runs of today's code; a
    published run holds no weights. A run that has ended stays as it is, and one that was begun
    here goes on here.
    """
    if run.status != "unfinished" or (run.folder / "last.safetensors").exists():
        return False
    known = _published(run, published)
    profile = run.folder.parents[1].name
    if profile not in PROFILES or not PROFILES[profile].shared or known.status != "finished":
        return False
    if provenance.changed_sources(known.record["sources"]):
        return False
    run.folder.mkdir(parents=True, exist_ok=True)
    for name in RECORDS:  # metrics.json comes last: it is what makes a run finished
        with atomic_write(run.folder / name) as stream:
            stream.write((known.folder / name).read_text(encoding="utf-8"))
    return True


def return_published(run: Run, published: Path = PUBLISHED) -> bool:
    """Undo ``take_published``, so that the run is trained here; False if it was not taken."""
    ours, theirs = (r.folder / "metrics.json" for r in (run, _published(run, published)))
    taken = ours.exists() and theirs.exists() and ours.read_bytes() == theirs.read_bytes()
    if not taken or (run.has_weights and run.trained is run):
        return False
    for name in reversed(RECORDS):
        (run.folder / name).unlink(missing_ok=True)
    return True


def _published(run: Run, published: Path) -> Run:
    return Run(published / run.folder.parents[1].name / "runs" / run.folder.name)


def runs_of(plan: Plan, task: str) -> dict[str, list[Run]]:
    """The finished runs of a page's comparison: model title -> runs in the order of the seeds."""
    runs: dict[str, list[Run]] = {title: [] for title in plan.comparison(task).titles}
    for entry, experiment in plan.comparison(task).experiments:
        run = run_of(plan, experiment)
        if run.status == "finished":
            runs[entry.title].append(run)
    return runs


def failures(plan: Plan) -> list[str]:
    """One line for each run of a page that failed, and why."""
    runs = [run_of(plan, experiment) for experiment in plan.experiments]
    return [f"{run.folder.name}: {run.metrics['reason']}" for run in runs if run.status == "failed"]


# Statistics --------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Effect:
    """A mean over seeds with its 95% t-interval, and the exact sign test's two-sided p.

    With one seed there is no interval (NaN); ``sign_p`` is NaN where no value differs from 0.
    """

    mean: float
    low: float
    high: float
    seeds: int
    sign_p: float


def effect(values: Sequence[float]) -> Effect:
    """Mean, 95% interval (Student's t, n - 1 degrees of freedom) and sign test of ``values``."""
    from scipy import stats  # takes as long to import as Paddle, and training needs none of it

    values = np.asarray(values, dtype=float)
    if values.ndim != 1 or len(values) == 0:
        raise SettingError("an effect needs at least one value, a difference for each seed")
    mean = float(values.mean())
    half = math.nan
    if len(values) > 1:
        error = values.std(ddof=1) / math.sqrt(len(values))
        half = float(stats.t.ppf(0.975, len(values) - 1) * error)
    wins, losses = int((values > 0).sum()), int((values < 0).sum())
    sign_p = float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else math.nan
    return Effect(mean, mean - half, mean + half, len(values), sign_p)


def judge(claim: Claim, found: Effect | None, dataset: str, profile: str = "study") -> str:
    """The verdict on a claim, from the effect that was found for it on ``dataset``.

    * fewer than three seeds, other images than the claim's (the embedded ones stand in for a data
      set that is not there), or settings that cannot test it: ``not tested``;
    * a sign: ``supported`` if the whole interval is above 0, ``contradicted`` if below;
    * a size: ``supported`` if the interval holds the reported number and not 0,
      ``contradicted`` if the reported number is outside;
    * an accuracy to reach: the interval is compared with that accuracy;
    * else ``undecided``.
    """
    if found is None or found.seeds < FEWEST_SEEDS or dataset != claim.task:
        return "not tested"
    if claim.worse is None and profile != "paper":
        return "not tested"
    if claim.by_size:
        if not found.low <= claim.reported <= found.high:
            return "contradicted"
        return "supported" if found.low > 0 else "undecided"
    threshold = claim.target if claim.worse is None else 0.0
    if found.low > threshold:
        return "supported"
    return "contradicted" if found.high < threshold else "undecided"


def claim_effect(claim: Claim, runs: Mapping[str, Sequence[Run]]) -> Effect | None:
    """The effect for a claim, from the seeds that both models finished; None if there is none."""
    accuracy = {
        title: {
            run.experiment.seed: 100 * run.metrics["final_val_acc"] for run in runs.get(title, ())
        }
        for title in (claim.better, claim.worse)
        if title is not None
    }
    better = accuracy[claim.better]
    if claim.worse is None:
        return effect(list(better.values())) if better else None
    worse = accuracy[claim.worse]
    differences = [better[seed] - worse[seed] for seed in sorted(better.keys() & worse.keys())]
    return effect(differences) if differences else None


# Tables ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Verdict:
    """A claim, the effect that our runs show for it, and what that says of the claim."""

    claim: Claim
    effect: Effect | None
    verdict: str
    images: str

    def row(self) -> dict[str, Any]:
        """As a row of ``VERDICT_COLUMNS``; what is not known is empty."""
        found = self.effect
        return {
            "claim": self.claim.text,
            "reported": self.claim.reported,
            "paper_delta": self.claim.paper,
            "ours_mean": found and _rounded(found.mean),
            "ours_ci_low": found and _rounded(found.low),
            "ours_ci_high": found and _rounded(found.high),
            "seeds": found.seeds if found else 0,
            "verdict": self.verdict,
        }

    def sentence(self) -> str:
        """The verdict and the numbers behind it, in words."""
        found, claim = self.effect, self.claim
        if found is None:
            return "No run of ours speaks to it."
        unit = " points" if claim.worse else "%"
        form = "+.2f" if claim.worse else ".2f"
        text = f"Ours: {found.mean:{form}}{unit} over {found.seeds} seed{'s' * (found.seeds > 1)}"
        if found.seeds > 1:
            text += f", 95% interval {_interval(found.low, found.high, form)}"
        if claim.reported is not None:
            text += f"; the write-up reports {claim.reported:{form}}{unit}"
        if claim.paper is not None:
            text += f"; the paper {claim.paper:{form}}{unit} on ImageNet"
        text = f"{text}. Our images: {self.images}."
        if found.seeds < FEWEST_SEEDS:
            return f"{text} A verdict needs at least {FEWEST_SEEDS} seeds."
        return text


def verdicts(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> list[Verdict]:
    """The claims that a page's comparisons can speak to, judged."""
    runs = {c.task: runs_of(plan, c.task) for c in plan.comparisons}
    judged = []
    for claim in claims:
        titles = {claim.better, claim.worse} - {None}
        if claim.task in runs and titles <= runs[claim.task].keys():
            images = plan.comparison(claim.task).images
            found = claim_effect(claim, runs[claim.task])
            verdict = judge(claim, found, images.name, plan.profile)
            judged.append(Verdict(claim, found, verdict, images.label))
    return judged


def verdict_table(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> pd.DataFrame:
    """Reported, the paper's and our difference side by side, with the verdict (points)."""
    rows = []
    for judged in verdicts(plan, claims):
        row, found = judged.row(), judged.effect
        # An accuracy to reach is no difference: it has no sign, and no sign test.
        form = "+.2f" if judged.claim.worse else ".2f"
        sign_p = found and judged.claim.worse and _rounded(found.sign_p)
        rows.append(
            {
                "Claim": row["claim"],
                "Reported": _signed(row["reported"], form),
                "Paper (ImageNet)": _signed(row["paper_delta"]),
                "Ours": _signed(row["ours_mean"], form),
                "on": judged.images.split(" (")[0],
                "95% interval": _interval(row["ours_ci_low"], row["ours_ci_high"], form),
                "Seeds": row["seeds"],
                "Sign test p": _signed(sign_p, ".2f"),
                "Verdict": row["verdict"],
            }
        )
    return pd.DataFrame(rows).set_index("Claim")


def verdict_text(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> Markdown:
    """Each verdict as a sentence, with what stands against a write-up's number said plainly."""
    from IPython.display import Markdown

    lines = [
        f"* **{judged.claim.text}: {judged.verdict}.** {judged.sentence()}"
        for judged in verdicts(plan, claims)
    ]
    lines += [f"* Not counted, because the run failed: {line}" for line in failures(plan)]
    return Markdown("\n".join([*lines, "", f"({plan.provenance})"]))


def accuracy_table(plan: Plan, task: str) -> pd.DataFrame:
    """Each model of a comparison: cost, final accuracy over seeds, best epoch, reported figure."""
    rows = []
    failed = {
        entry.title
        for entry, what in plan.comparison(task).experiments
        if run_of(plan, what).status == "failed"
    }
    for title, runs in runs_of(plan, task).items():
        reported = REPORTED.get((task, title))
        row = {
            "Model": title,
            "Reported": "–" if reported is None else f"{reported:.4f}",
            "Final accuracy": "failed" if title in failed else "not trained",
            "95% interval": "–",
            "Best epoch (chosen on validation)": "–", "Seeds": len(runs),
            "Parameters": "–", "MMACs": "–", "Images/s": "–",
        }  # fmt: skip
        if runs:
            found = effect([run.metrics["final_val_acc"] for run in runs])
            metrics = runs[0].metrics
            row |= {
                "Final accuracy": f"{found.mean:.4f}",
                "95% interval": _interval(found.low, found.high, ".3f"),
                "Best epoch (chosen on validation)": (
                    f"{np.mean([run.metrics['best_val_acc'] for run in runs]):.4f}"
                ),
                "Parameters": f"{metrics['params']:,}",
                "MMACs": f"{metrics['macs'] / 1e6:,.1f}",
                "Images/s": f"{np.median([run.images_per_second for run in runs]):,.0f}",
            }
        rows.append(row)
    return pd.DataFrame(rows).set_index("Model")


def unsupported(plan: Plan, claims: Iterable[Claim] = CLAIMS) -> Markdown:
    """The write-ups' numbers that our runs speak against or cannot confirm, one line each."""
    from IPython.display import Markdown

    judged = [v for v in verdicts(plan, claims) if v.claim.reported is not None]
    if all(v.verdict == "not tested" for v in judged):
        return Markdown(
            f"Nothing was tested here: that takes at least {FEWEST_SEEDS} seeds on the claims' own "
            f"images.\n\n({plan.provenance})"
        )
    lines = [
        f"* **{v.claim.text}** is {v.verdict}. {v.sentence()}"
        for v in judged
        if v.verdict in ("contradicted", "undecided")
    ]
    return Markdown("\n".join([*(lines or ["None."]), "", f"({plan.provenance})"]))


def recipe_table(plan: Plan) -> pd.DataFrame:
    """How each comparison of a page was trained: a column a task, a row a setting."""
    columns = {}
    for comparison in plan.comparisons:
        images, recipe = comparison.images, comparison.recipe
        columns[TASK_TITLES[comparison.task]] = {
            "images": images.title,
            "training / validation images": f"{len(images.train):,} / {len(images.val):,}",
            "classes": f"{len(images.classes)} of {images.class_total}",
            **{name.replace("_", " "): value for name, value in asdict(recipe).items()
               if name not in ("train_images", "validation_images")},
            "seeds": " ".join(map(str, plan.seeds)),
            "device": plan.device,
        }  # fmt: skip
    return pd.DataFrame(columns).rename_axis("setting").astype(str)


def class_report(runs: Sequence[Run]) -> pd.DataFrame:
    """Precision, recall and F1 of each class over the validation images of all ``runs``."""
    from sklearn.metrics import classification_report

    confusion = sum(run.confusion for run in runs)
    labels = np.arange(len(confusion))
    true = np.repeat(labels, confusion.sum(axis=1))
    predicted = np.concatenate([np.repeat(labels, row) for row in confusion])
    report = classification_report(
        true, predicted, labels=labels, target_names=runs[0].classes, output_dict=True,
        zero_division=0,
    )  # fmt: skip
    rows = {name: report[name] for name in [*runs[0].classes, "macro avg"]}
    frame = pd.DataFrame(rows).T[["precision", "recall", "f1-score", "support"]]
    return frame.round(3).astype({"support": int}).rename_axis("class")


def summary_rows(results_dir: Path, pages: Mapping[str, Sequence[str]]) -> list[dict[str, Any]]:
    """One row of ``SUMMARY_COLUMNS`` for every run folder below ``results_dir``.

    Args:
        pages: run name -> the pages that show it.
    """
    rows = []
    for folder in sorted((results_dir / "runs").glob("*/")):
        run = Run(folder)
        if not (folder / "experiment.json").exists():
            continue
        what, metrics = run.experiment, run.metrics if run.status != "unfinished" else {}
        rows.append(
            {
                "page": " ".join(pages.get(folder.name, ())),
                "dataset": what.dataset,
                "classes": len(run.classes),
                "model": what.variant,
                "seed": what.seed,
                "epochs": what.recipe.epochs,
                "image_size": what.recipe.image_size,
                **{name: metrics.get(name, "") for name in SUMMARY_COLUMNS[7:14]},
                "device": run.record["compute"]["device"],
                "status": run.status,
            }
        )
    return rows


def write_csv(path: Path, columns: Sequence[str], rows: Iterable[Mapping[str, Any]]) -> None:
    """Write ``rows`` as CSV, atomically; fields that are not in ``columns`` are left out."""
    text = io.StringIO()
    writer = csv.DictWriter(text, columns, extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    with atomic_write(path) as stream:
        stream.write(text.getvalue())


def reported_history(name: str) -> dict[str, np.ndarray]:
    """A write-up's own numbers, epoch by epoch: columns as arrays.

    Args:
        name: "senet_cifar10", with epoch, train_loss, train_acc, test_loss, test_acc, seconds.
    """
    folder = Path(__file__).parent / "reported"
    choose("reported history", name, sorted(path.stem for path in folder.glob("*.json")))
    columns = read_json(folder / f"{name}.json")
    return {key: np.array(values) for key, values in columns.items() if isinstance(values, list)}


def _rounded(value: float | None, digits: int = 2) -> float | None:
    return None if value is None or math.isnan(value) else round(value, digits)


def _signed(value: float | None, form: str = "+.2f") -> str:
    return "–" if value is None else f"{value:{form}}"


def _interval(low: float | None, high: float | None, form: str = "+.2f") -> str:
    if low is None or high is None or math.isnan(low):
        return "–"
    return f"[{low:{form}}, {high:{form}}]"
