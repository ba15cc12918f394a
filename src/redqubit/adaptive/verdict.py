"""What a defense is worth, in a word."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from redqubit.statistics import Difference

Outcome = Literal["helps", "only blocks an attacker who does not know it", "hurts", "unclear"]


@dataclass(frozen=True)
class Verdict:
    """What a defense is worth, and why.

    Attributes:
        outcome: In a word.
        reason: One sentence: absolute gains in points with their intervals, and the clean cost.
    """

    outcome: Outcome
    reason: str


def decide(
    *, clean: Difference, unaware: Sequence[Difference], adaptive: Difference, above_chance: bool = True
) -> Verdict:
    """Judge a defense by what it changes, accuracy with it minus accuracy without.

    In this order, where an interval that excludes 0 decides:

        helps:       adaptive > 0, and what is left is better than naming the commonest class
        only blocks: adaptive is not > 0, but an attack that does not know the defense fares worse, by more than the
                     clean cost
        hurts:       adaptive < 0, or clean < 0 and no larger gain in return
        unclear:     none of these: nothing, or less than so many samples show

    Args:
        clean: On clean samples.
        unaware: Under attacks that do not know it: made on the undefended model, or without averaging its noise.
        adaptive: Under the worst, sample by sample, of all attacks.
        above_chance: Whether the defended model's accuracy under those lies above the share of the commonest class.

    Example:
        >>> gain, none = Difference(0.3, 0.2, 0.4, 100, ""), Difference(0.0, -0.1, 0.1, 100, "")
        >>> decide(clean=none, unaware=[gain], adaptive=none).outcome
        'only blocks an attacker who does not know it'
    """
    best = max(unaware, key=lambda d: (d.low > 0, d.value))
    parts = f"against who knows it {_points(adaptive)}, who does not {_points(best)}, on clean samples {_points(clean)}"
    if adaptive.low > 0 and above_chance:
        return Verdict("helps", f"Gains in points: {parts}.")
    if adaptive.low <= 0 < best.low and best.value > -clean.value:
        worse = "; who knows it fares better than without it" if adaptive.high < 0 else ""
        return Verdict("only blocks an attacker who does not know it", f"Gains in points: {parts}{worse}.")
    if adaptive.high < 0 or (clean.high < 0 and (adaptive.value <= -clean.value or not above_chance)):
        return Verdict("hurts", f"Gains in points: {parts}.")
    chance = "" if above_chance else "; what is left is chance"
    return Verdict("unclear", f"Gains in points: {parts}{chance}.")


def _points(d: Difference) -> str:
    return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
