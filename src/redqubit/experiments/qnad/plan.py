"""Which case and attack each table and figure shows, and at which levels of crosstalk."""

from collections.abc import Sequence
from dataclasses import dataclass

from redqubit.errors import UsageError
from redqubit.evasion import FGSM, PGD, EvasionAttack
from redqubit.experiments.qnad.config import CROSSTALK, JUDGED, LOWEST, PARTS, RANDOM, Case, QNADStudy
from redqubit.models import MODELS
from redqubit.models.quantum_products import InjectedCrosstalk, Selection
from redqubit.quantum.multiplication import NAIROBI
from redqubit.registry import unknown

ATTACKS = ("fgsm", "pgd")
NAMES = {"fgsm": "FGSM", "pgd": "PGD"}
NONE, RAW = "none", "offsets left"
VALIDATED, ON_TEST = "crosstalk, chosen on validation", "crosstalk, chosen on the test"
SELECTED: dict[str, Selection] = {CROSSTALK: "gradient", RANDOM: "random", LOWEST: "lowest"}
FIGURES = 4  # of each case: two attacks, by radius and by fraction


@dataclass(frozen=True)
class Level:
    """How the device disturbs a network; without a fraction by its own noise alone."""

    fraction: float = 0.0
    pairs: int = 1
    selection: Selection = "gradient"
    calibrated: bool = True  # whether the offsets of the read-out are subtracted

    def crosstalk(self, ratio: float) -> InjectedCrosstalk | None:
        """Return what disturbs weights."""
        return InjectedCrosstalk(self.fraction, self.pairs, self.selection, ratio) if self.fraction else None


def published_attack(name: str, eps: float) -> EvasionAttack:
    """Return an attack as the paper has it: FGSM, or PGD from the sample itself."""
    return FGSM(eps) if name == "fgsm" else PGD.paper(eps)


def levels(config: QNADStudy) -> list[Level]:
    """Return the levels of crosstalk to choose from."""
    return [Level(fraction, pairs) for pairs in config.pairs for fraction in config.fractions]


def figure(part: str) -> tuple[int, str, str]:
    """Return the place of a figure's case, its attack, and what it goes along: "eps" or "fraction"."""
    n = int(part.removeprefix("figure")) - 3
    return n // FIGURES, ATTACKS[n % FIGURES // 2], ("eps", "fraction")[n % 2]


def in_order(config: QNADStudy, parts: Sequence[str]) -> tuple[str, ...]:
    """Return the tables and figures of the cases that there are, in the order of the paper; all when none is named.

    Raises:
        UsageError: for a figure of a case that the config does not have.
    """
    have = tuple(p for p in PARTS if p == "table1" or figure(p)[0] < len(config.cases))
    for part in parts:
        if part not in have:
            raise UsageError(
                f"Argument `parts` must name figures of {', '.join(c.name for c in config.cases)}, but {part} is of "
                "another network: --preset paper has all three."
            )
    return tuple(part for part in have if not parts or part in parts)


def cases_for(config: QNADStudy, parts: Sequence[str]) -> list[Case]:
    """Return the cases that some parts need."""
    wanted = in_order(config, parts)
    return [
        case for i, case in enumerate(config.cases) if any(part == "table1" or figure(part)[0] == i for part in wanted)
    ]


def data_for(config: QNADStudy, parts: Sequence[str]) -> list[str]:
    """Return the names of the data sets that some parts need."""
    return list(dict.fromkeys(case.source for case in cases_for(config, parts)))


def check(config: QNADStudy) -> None:
    """Raise a `UsageError` for what would break a cell or leave nothing to say."""
    names = [case.name for case in config.cases]
    if not names or len(set(names)) < len(names):
        raise UsageError(f"Argument `cases` must hold cases of different names, but has {', '.join(names) or 'none'}.")
    for name in ("seeds", "fractions", "pairs"):
        values = getattr(config, name)
        if not values or len(set(values)) < len(values):
            raise UsageError(f"Argument `{name}` must hold different values, but is {list(values)}.")
    if not all(0 < fraction <= 1 for fraction in config.fractions):
        raise UsageError(
            f"Argument `fractions` must lie in (0, 1], but is {list(config.fractions)}: 0 is measured anyway."
        )
    for level in levels(config):
        _ = level.crosstalk(config.ratio)
        for qubit in NAIROBI.qubits:
            qubit.kept(level.pairs, config.ratio)
    if config.shots < 1 or min(config.draws, config.judge_draws) < 2:
        raise UsageError(
            "Arguments `shots`, `draws`, `judge_draws` must be 1, 2 and 2 or more, but are "
            f"{config.shots}, {config.draws} and {config.judge_draws}."
        )
    for case in config.cases:
        _check_case(case)


def _check_case(case: Case) -> None:
    _ = MODELS[case.model]
    radii = (*case.eps, case.shown_eps, *case.judged_eps)
    if not case.judged_eps or not set(radii) <= set(case.eps) or not all(0 < eps <= 1 for eps in radii):
        raise UsageError(
            f"Argument `cases` must have radii in (0, 1], the shown and judged ones among them, but {case.name} has "
            f"{', '.join(f'{eps:g}' for eps in radii)}."
        )
    for name in case.judged:
        if name not in JUDGED:
            raise unknown("defense", name, JUDGED)
    for name in ("epochs", "batch_size", "n_validation", "n_test", "n_judged", "steps", "queries"):
        if getattr(case, name) < 1:
            raise UsageError(f"Argument `{name}` must be 1 or more, but is {getattr(case, name)} in {case.name}.")
    if case.n_train < 0 or case.limit < 2:
        raise UsageError(
            f"Arguments `n_train`, `limit` must be 0 and 2 or more, but are {case.n_train} and {case.limit} in "
            f"{case.name}."
        )
