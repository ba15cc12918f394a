"""What a defense is worth, in a word."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Literal

from redqubit.statistics import FEW, Difference

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
        only blocks: an attack that does not know the defense fares worse, by more than the clean cost, and adaptive is
                     not > 0, or less than that where what is left is no better than naming the commonest class
        hurts:       adaptive < 0, or clean < 0 and no larger gain in return
        unclear:     none of these: nothing, or less than so many samples show

    A few seeds that happen to agree to the last digit show nothing.

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
    clean, adaptive, *unaware = map(_cautious, (clean, adaptive, *unaware))
    best = max(unaware, key=lambda d: (d.low > 0, d.value))
    gains = (
        f"Gains in points: against who knows it {_points(adaptive)}, who does not {_points(best)}, on clean samples "
        f"{_points(clean)}" + ("" if above_chance else "; what is left is chance")
    )
    if adaptive.low > 0 and above_chance:
        return Verdict("helps", f"{gains}.")
    if (adaptive.low <= 0 or adaptive.high < best.low) and best.low > 0 and -clean.value < best.value:
        worse = "; who knows it fares better than without it" if adaptive.high < 0 else ""
        return Verdict("only blocks an attacker who does not know it", f"{gains}{worse}.")
    if adaptive.high < 0 or (clean.high < 0 and (adaptive.value <= -clean.value or not above_chance)):
        return Verdict("hurts", f"{gains}.")
    return Verdict("unclear", f"{gains}.")


def _cautious(d: Difference) -> Difference:
    """Return a difference whose interval holds 0 where a few pairs merely happen to agree."""
    agreed = d.method == "constant" and d.n < FEW
    return replace(d, low=min(d.low, 0.0), high=max(d.high, 0.0)) if agreed else d


def _points(d: Difference) -> str:
    return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"
