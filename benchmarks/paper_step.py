"""What the paper profile costs: its estimate, and two real training steps of each of its models.

    OMP_NUM_THREADS=1 python benchmarks/paper_step.py [pages ...]

The steps run on the CPU at the models' true shapes; the memory that they need stands beside what
``attn_blocks.estimate`` counts. Writes ``results/paper/estimate.csv``, for the complete data sets,
and ``results/paper/step.csv``; takes half an hour and up to 10 GB of memory.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from common import RESULTS, record, show

from attn_book.analysis import estimate

NO_DATA = {"profile": "paper", "data_dir": os.devnull}  # so that the complete data sets count


def record_estimate(pages: Sequence[str], **told: object) -> None:
    """The estimate of a V100, as ``make estimate`` prints it."""
    works = estimate.works(estimate.plans_without_data(pages, **NO_DATA))
    gpu = estimate.find_gpu("V100")
    *items, reference = estimate.estimates([*works, estimate.published_senet()], gpu)
    rows = estimate.table(items).reset_index().to_dict("records")
    record(
        "estimate",
        rows,
        **told,
        title=f"Estimated on {gpu}",
        about=estimate.HOW,
        finding=f"{estimate.summary(items)} {estimate.reference_line(reference)}",
    )


def record_steps(pages: Sequence[str], **told: object) -> None:
    """Two real steps of each model."""
    rows = []
    for row in estimate.check(pages, **NO_DATA):
        show(row)
        rows.append(row)
    ratios = [float(row["needed_by_counted"]) for row in rows]
    largest = max(rows, key=lambda row: row["peak_mib"])
    record(
        "step",
        rows,
        **told,
        title="One real step of each model on the CPU",
        about="The second of two training steps on random pixels: its loss, the seconds that "
        "passed (other programs lengthen them), the processor's seconds (hardly), the highest "
        "memory of the process; the memory that the steps alone need, measured in a process that "
        "gives freed memory back; and what the estimate counts of it: weights, gradients and "
        "momentum, and what is kept of the batch.",
        finding=f"Every loss is finite. The steps need {min(ratios):.2f} to {max(ratios):.2f} "
        f"times the counted memory; the highest peak is {largest['peak_mib'] / 1024:.1f} GiB, "
        f"for {largest['model']}.",
    )


def main(pages: Sequence[str]) -> None:
    """Make and write both records."""
    told = {
        "command": " ".join(["python benchmarks/paper_step.py", *pages]),
        "threads": int(os.environ["OMP_NUM_THREADS"]),
        "folder": RESULTS / "paper",
    }
    record_estimate(pages, **told)
    record_steps(pages, **told)


if __name__ == "__main__":
    main(sys.argv[1:])
