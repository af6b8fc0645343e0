"""Scaling laws: published constants and the allocation they imply, and fits to tables of runs.

In a table of runs N counts data (tokens), P parameters, K steps and C FLOPs, the letters of E(N, P, K). The classes of
published laws name their arguments in full (``n_params``, ``n_tokens``), since the literature writes N for parameters.
"""

from limitlib.scaling.calibration import (
    Interval,
    calibrated_interval,
)
from limitlib.scaling.checklist import NOT_STATED, Checklist, ChecklistError, IncompleteChecklist, UnknownQuestion
from limitlib.scaling.comparison import Comparison, SpecCurve, compare, spec_curve
from limitlib.scaling.errors import (
    BadCondition,
    BadWeight,
    CheckpointsAsRuns,
    EmptyTable,
    FewerRunsThanParameters,
    MissingValues,
    MixedTokenizers,
    NonPositiveLoss,
    NonPositiveVariable,
    NoVariation,
    RunsError,
    UnknownColumn,
    UnparsableFlag,
    UnparsableNumber,
    UnreadableTable,
)
from limitlib.scaling.fitting import (
    Bootstrap,
    Certificate,
    Fit,
    fit,
)
from limitlib.scaling.forms import (
    FORMS,
    law,
)
from limitlib.scaling.frontier import (
    FitFrontier,
)
from limitlib.scaling.holdout import (
    Backtest,
    HeldOut,
    Score,
    backtest,
)
from limitlib.scaling.isoflop import (
    approach_1,
    approach_2,
    lower_hull,
)
from limitlib.scaling.isoflop_bias import (
    Approach1Bias,
    Approach2Bias,
    Extrapolation,
    approach_1_bias,
    approach_2_bias,
    vertex_bias,
    vertex_bias_leading,
    wasted_compute,
)
from limitlib.scaling.laws import (
    Law,
)
from limitlib.scaling.objectives import (
    LeastSquares,
    LogHuber,
    Weighted,
)
from limitlib.scaling.profiles import (
    Identifiability,
    Pivot,
    Profile,
)
from limitlib.scaling.published import (
    BESIROGLU,
    BROWN_COMPUTE,
    FLOPS_PER_PARAM_TOKEN,
    HOFFMANN_ROUNDED,
    HOFFMANN_TEX,
    HOFFMANN_TEX_FULL,
    INFERENCE_FLOPS_PER_PARAM_TOKEN,
    KAPLAN_COMPUTE_MIN,
    KAPLAN_COMPUTE_NAIVE,
    KAPLAN_D,
    KAPLAN_JOINT,
    KAPLAN_N,
    MUENNIGHOFF,
    PF_DAY,
    Allocation,
    AllocationConstants,
    ChinchillaLaw,
    KaplanJointLaw,
    SinglePowerLaw,
    allocation_constants,
    dense_family_error,
    exponential_decade_ratios,
    from_pf_days,
    lifetime_flops,
    numeric_allocation,
    optimal_allocation,
    to_pf_days,
    training_flops,
)
from limitlib.scaling.quantities import Influence, influence
from limitlib.scaling.reporting import Flag, Prediction, Report, report
from limitlib.scaling.runs import (
    Runs,
)
from limitlib.scaling.sources import (
    Source,
)
from limitlib.scaling.split_lines import (
    AllocationFit,
    Envelope,
    FrontierLine,
    Profiles,
)

__all__ = [
    "BESIROGLU",
    "BROWN_COMPUTE",
    "FLOPS_PER_PARAM_TOKEN",
    "FORMS",
    "HOFFMANN_ROUNDED",
    "HOFFMANN_TEX",
    "HOFFMANN_TEX_FULL",
    "INFERENCE_FLOPS_PER_PARAM_TOKEN",
    "KAPLAN_COMPUTE_MIN",
    "KAPLAN_COMPUTE_NAIVE",
    "KAPLAN_D",
    "KAPLAN_JOINT",
    "KAPLAN_N",
    "MUENNIGHOFF",
    "NOT_STATED",
    "PF_DAY",
    "Allocation",
    "AllocationConstants",
    "AllocationFit",
    "Approach1Bias",
    "Approach2Bias",
    "Backtest",
    "BadCondition",
    "BadWeight",
    "Bootstrap",
    "Certificate",
    "Checklist",
    "ChecklistError",
    "CheckpointsAsRuns",
    "ChinchillaLaw",
    "Comparison",
    "EmptyTable",
    "Envelope",
    "Extrapolation",
    "FewerRunsThanParameters",
    "Fit",
    "FitFrontier",
    "Flag",
    "FrontierLine",
    "HeldOut",
    "Identifiability",
    "IncompleteChecklist",
    "Influence",
    "Interval",
    "KaplanJointLaw",
    "Law",
    "LeastSquares",
    "LogHuber",
    "MissingValues",
    "MixedTokenizers",
    "NoVariation",
    "NonPositiveLoss",
    "NonPositiveVariable",
    "Pivot",
    "Prediction",
    "Profile",
    "Profiles",
    "Report",
    "Runs",
    "RunsError",
    "Score",
    "SinglePowerLaw",
    "Source",
    "SpecCurve",
    "UnknownColumn",
    "UnknownQuestion",
    "UnparsableFlag",
    "UnparsableNumber",
    "UnreadableTable",
    "Weighted",
    "allocation_constants",
    "approach_1",
    "approach_1_bias",
    "approach_2",
    "approach_2_bias",
    "backtest",
    "calibrated_interval",
    "compare",
    "dense_family_error",
    "exponential_decade_ratios",
    "fit",
    "from_pf_days",
    "influence",
    "law",
    "lifetime_flops",
    "lower_hull",
    "numeric_allocation",
    "optimal_allocation",
    "report",
    "spec_curve",
    "to_pf_days",
    "training_flops",
    "vertex_bias",
    "vertex_bias_leading",
    "wasted_compute",
]
