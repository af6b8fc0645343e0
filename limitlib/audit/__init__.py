"""The audit of a network: what its blocks may do at most, what they do at the data, and what becomes of the states.

``audit_network(folder)`` reads a saved torch module or a local Hugging Face folder and returns a report with one row a block;
``limitlib audit folder`` does the same from the command line.
"""

from limitlib.audit.folder import Network, PickleRefused, UnreadableNetwork, load_network
from limitlib.audit.inputs import Inputs, docstrings, prepare
from limitlib.audit.measure import (
    EntropyProfile,
    angular_cover,
    condensing_profile,
    effective_rank,
    entropy_numbers,
    farthest_point_radii,
    greedy_cover,
    mean_cosine,
    pair_ratios,
    relative_increment,
)
from limitlib.audit.network import AuditInterrupted, audit_network
from limitlib.audit.report import AuditReport, BlockRow, CloudMeasures, ControlRow

__all__ = [
    "AuditInterrupted",
    "AuditReport",
    "BlockRow",
    "CloudMeasures",
    "ControlRow",
    "EntropyProfile",
    "Inputs",
    "Network",
    "PickleRefused",
    "UnreadableNetwork",
    "angular_cover",
    "audit_network",
    "condensing_profile",
    "docstrings",
    "effective_rank",
    "entropy_numbers",
    "farthest_point_radii",
    "greedy_cover",
    "load_network",
    "mean_cosine",
    "pair_ratios",
    "prepare",
    "relative_increment",
]

for _name in __all__:  # one public address, limitlib.audit, in pickles, tracebacks and the documentation
    globals()[_name].__module__ = __name__
