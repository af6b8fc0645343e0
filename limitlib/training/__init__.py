"""Seeded training runs and resumable sweeps over them.

A *spec* is a frozen description of one ensemble of runs; ``train(spec)`` gives a ``Run`` (plain rows of numbers);
``sweep(specs, store=...)`` keeps every finished run as one file, so that an interrupted sweep goes on where it was.

Each kind of spec lives in one room with its training: a notebook that names a spec depends on that room alone.
"""

from limitlib.training.descent import DescentSpec
from limitlib.training.digits import DigitsSpec
from limitlib.training.language import LanguageSpec
from limitlib.training.specs import Run, Spec, Table, train
from limitlib.training.sweeps import SweepError, sweep
from limitlib.training.text import TextSpec

__all__ = [
    "DescentSpec",
    "DigitsSpec",
    "LanguageSpec",
    "Run",
    "Spec",
    "SweepError",
    "Table",
    "TextSpec",
    "sweep",
    "train",
]

for _name in __all__:  # one public address, limitlib.training, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
