"""The runs of a page's plan: finished, failed or still to be trained."""

from __future__ import annotations

from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.study.plan import Plan


def run_of(plan: Plan, experiment: Experiment) -> Run:
    """The run of one of a page's experiments, finished or not."""
    return Run(plan.results_dir / "runs" / experiment.name)


def is_done(plan: Plan, experiment: Experiment) -> bool:
    """Whether nothing is left to train: a run that failed would fail again."""
    return run_of(plan, experiment).status in ("finished", "failed")


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
