"""What must be right before the numbers mean anything, and what they do not show."""

from collections.abc import Sequence

from redqubit.experiments.qnad import published
from redqubit.experiments.qnad.config import JUDGED, PRESETS, Case, QNADStudy
from redqubit.experiments.qnad.plan import ATTACKS, NONE
from redqubit.experiments.qnad.table import WITH, Table, gain, mean_of
from redqubit.experiments.seeds import points, sign
from redqubit.result import Flag

NEAR = 0.01  # clean accuracy may miss the published one by this much


def flags(table: Table, cases: Sequence[Case]) -> tuple[Flag, ...]:
    """Return the trust checks."""
    return (
        *(_learns(table, case) for case in cases),
        *(flag for case in cases for flag in _converged(table, case)),
        *(flag for case in cases for flag in _masked(table, case)),
    )


def _learns(table: Table, case: Case) -> Flag:
    """Return whether the network is as good as the published one, or has learnt at all where none is published."""
    ours = mean_of(table.accuracy(case, NONE, ATTACKS[0], case.shown_eps, clean=True)).value
    theirs = published.CLEAN.get(case.name)
    evidence: dict[str, float | int | str | None] = {"clean accuracy": ours, "published": theirs}
    if theirs is None:
        enough = ours > 2 / table.n_classes(case)
        text = "enough to attack" if enough else "too little to attack"
        return Flag(
            "accuracy",
            "ok" if enough else "warning",
            f"The network gets {100 * ours:.1f} % of clean pictures right, {text}.",
            evidence,
            case.name,
        )
    missed = theirs - ours > NEAR
    return Flag(
        "accuracy",
        "warning" if missed else "ok",
        f"The network gets {100 * ours:.1f} % of clean pictures right, published {100 * theirs:.1f} %"
        + (": another network, whose numbers do not compare." if missed else "."),
        evidence,
        case.name,
    )


def _converged(table: Table, case: Case) -> list[Flag]:
    """Return whether the attacks through the noise average enough draws."""
    every = [
        r
        for defense in JUDGED
        for eps in case.judged_eps
        for r in table.by_seed("eot_converged", case, defense=defense, eps=eps).values()
    ]
    if not every:
        return []
    open_ = sum(not r.value for r in every)
    return [
        Flag(
            "eot",
            "warning" if open_ else "ok",
            f"{open_} of {len(every)} attacks through the noise reached the limit of {case.limit} draws"
            + (": more might be stronger." if open_ else "."),
            {"at the limit": open_, "attacks": len(every)},
            case.name,
        )
    ]


def _masked(table: Table, case: Case) -> list[Flag]:
    """Return where queries leave less than gradients do: gradients that mislead."""
    out = []
    for defense in JUDGED:
        for eps in case.judged_eps:
            d = gain(table.path(case, defense, eps, "square with", WITH), table.path(case, defense, eps, WITH, WITH))
            if d is not None:
                masked = sign(d) < 0
                out.append(
                    Flag(
                        "gradient-masking",
                        "warning" if masked else "ok",
                        f"Queries leave {points(d)} against PGD with EOT" + (": gradients mislead." if masked else "."),
                        {"difference": d.value},
                        f"{case.name} / {defense} / {eps:.3g}",
                    )
                )
    return out


def limits(config: QNADStudy, table: Table) -> tuple[str, ...]:
    """Return what this run does not show."""
    names = {case.name for case in config.cases}
    out = [
        "Intervals are over seeds, which draw pictures, weights, order and noise anew.",
        "How a product becomes a circuit, and how crosstalk acts on it, is left open by the paper and chosen here; "
        "another choice is another device. Figures are those of a snapshot of ibm_nairobi, which is retired.",
        "The device is simulated by the exact mean and variance of each sum of products, drawn from a normal "
        "distribution; noise that drifts or is shared by products is not in it.",
        "Networks are trained without noise, as in the paper.",
    ]
    if absent := [name for name in published.CLEAN if name not in names]:
        out.append(f"Not run: {', '.join(absent)}. With its data at hand: --preset paper.")
    for case in config.cases:
        if case.name in published.CLEAN and case not in PRESETS["paper"].cases:
            trained = [int(r.value) for r in table.by_seed("n_train", case).values()]
            out.append(
                f"{case.name} is reduced: {f'{min(trained):,} training pictures, ' if trained else ''}{case.epochs} "
                f"epochs, {case.n_test} attacked pictures, {case.n_judged} of them by adaptive attacks with "
                f"{case.steps} steps."
            )
    return tuple(out)
