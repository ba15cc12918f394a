"""What a defense changes for an experiment's networks, and what that is worth."""

from dataclasses import dataclass

from redqubit.adaptive import Verdict
from redqubit.statistics import Difference


@dataclass(frozen=True)
class Judged:
    """What a defense changes, accuracy with it minus without, over seeds.

    Attributes:
        clean: On clean samples.
        grey: Under the published attack, made on the network itself.
        adaptive: Under the worst of all attacks.
        verdict: What this says.
    """

    clean: Difference
    grey: Difference
    adaptive: Difference
    verdict: Verdict
