"""Train every model of the paper profile for two steps at its true shapes, and record what it took.

Memory that a step needs stands beside what ``attn_blocks.estimate`` counts on the model. Writes
``benchmarks/results/paper_step.csv``; takes some 10 minutes and up to 8 GB of memory.

    OMP_NUM_THREADS=1 python benchmarks/paper_step.py [pages ...]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence

from common import record, show

from attn_blocks import estimate


def main(pages: Sequence[str]) -> None:
    rows = []
    for row in estimate.check(pages, profile="paper"):
        show(row)
        rows.append(row)
    command = " ".join(["python benchmarks/paper_step.py", *pages])
    print(record("paper_step", rows, command, int(os.environ["OMP_NUM_THREADS"])))


if __name__ == "__main__":
    main(sys.argv[1:])
