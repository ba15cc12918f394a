"""Adaptive evaluation: what a defense is worth against attackers who know it, and against those who do not."""

from redqubit.adaptive.draws import Scored, score
from redqubit.adaptive.evaluation import Evaluation, Substituted, evaluate_defense
from redqubit.adaptive.expectation import Expectation, converged_draws
from redqubit.adaptive.grid import Averaged, Grid, four_path_grid
from redqubit.adaptive.verdict import Outcome, Verdict, decide

__all__ = [
    "Averaged",
    "Evaluation",
    "Expectation",
    "Grid",
    "Outcome",
    "Scored",
    "Substituted",
    "Verdict",
    "converged_draws",
    "decide",
    "evaluate_defense",
    "four_path_grid",
    "score",
]
