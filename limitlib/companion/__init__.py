"""What the book needs and the kernel does not: records, figures, data, the runner and the ledger.

A notebook says ``from limitlib import companion`` and calls ``companion.record``, ``companion.save_figure``,
``companion.load_dataset``, ``companion.profile``. Nothing in the kernel imports this package.
"""

from limitlib.companion.datasets import DataUnavailable, load_dataset
from limitlib.companion.figures import PALETTE, direct_label, new_figure, save_figure
from limitlib.companion.notebook import load_table, profile, progress, record, save_table, store

__all__ = [
    "PALETTE",
    "DataUnavailable",
    "direct_label",
    "load_dataset",
    "load_table",
    "new_figure",
    "profile",
    "progress",
    "record",
    "save_figure",
    "save_table",
    "store",
]
