"""What a page's records show, in sentences with their numbers.

Each function takes a page's plan, a task of it and, where not all networks of the task are meant,
the titles of those that are. Everything is read from records: no sentence here outlives the runs
that it is about, and what no record holds is said to be missing.
"""

from attn_book.analysis.findings.blocks import frozen, learned
from attn_book.analysis.findings.budget import cost_finding
from attn_book.analysis.findings.course import curve
from attn_book.analysis.findings.scores import calibration
from attn_book.analysis.findings.whole import in_words

__all__ = ["calibration", "cost_finding", "curve", "frozen", "in_words", "learned"]
