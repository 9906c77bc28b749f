"""Finished evaluations: reading what one wrote, and holding two of them against each other."""

from shared.evaluations.comparing import EvaluationComparison, FigureDifference, compare_evaluations
from shared.evaluations.reading import StoredEvaluation, read_evaluation

__all__ = ["EvaluationComparison", "FigureDifference", "StoredEvaluation", "compare_evaluations", "read_evaluation"]
