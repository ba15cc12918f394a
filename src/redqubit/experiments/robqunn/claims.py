"""The paper's claims, each put to a paired test over draws, and the trust checks."""

from collections.abc import Sequence
from typing import Literal

import numpy as np

from redqubit.experiments.robqunn.config import ENTANGLED, MODELS, QUANTUM, RobQuNN
from redqubit.experiments.robqunn.panels import panels
from redqubit.experiments.robqunn.table import Table, paired, points
from redqubit.result import Finding, Flag, Result, Summary
from redqubit.statistics import Difference

Status = Literal["holds", "fails", "unclear", "info"]


def summarise(config: RobQuNN, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = Table(results)
    probe = config.probe_eps
    reduced = "" if config.data == "mnist" and config.n_train >= 60_000 else ", reduced"
    return Summary(
        title="RobQuNNs: does entanglement make a quanvolution robust?",
        subtitle=(
            f"Independent replication on {config.data}{reduced}: {config.n_train:,} training and {config.n_test:,} "
            f"test samples, {config.draws} draws of all random angles and kernels, every comparison paired over draws"
        ),
        findings=tuple(_findings(config, table)),
        panels=tuple(panels(config, table)),
        flags=tuple(_flags(config, table)),
        source="El Maouaki et al., RobQuNNs, arXiv 2407.03875 (2024)",
        cost={"draws": config.draws, "models": config.draws * len(MODELS)},
        limits=(
            "The paper gives no tables, angles, seeds, eps grid, sample sizes or attack steps, so no number of its "
            "figures can be compared with ours one to one; what it leaves open is a field of the configuration.",
            f"PGD and MIM see the first {config.n_iterative:,} test samples, the gradient-free attack "
            f"{config.n_square:,}; intervals over draws cover the randomness of angles and kernels, on one data set.",
            f"Controls are measured at eps {probe:g} only.",
        ),
    )


def _status(d: Difference) -> Status:
    """Tell whether a claimed gain d > 0 is borne out."""
    return "holds" if d.low > 0 else "fails" if d.high < 0 else "unclear"


def _findings(config: RobQuNN, table: Table) -> list[Finding]:
    gap32, gap64 = (max(table.draws("feature_difference", dtype=t)) for t in ("float32", "float64"))
    out = [
        Finding(
            "In the circuit as printed, the entanglement pattern matters.",
            "fails",
            "none, linear, star and full compute one and the same function: ZZ comes last, is diagonal and commutes "
            f"with the read-out. Largest difference of any feature over {config.draws} draws: {gap32:.1e} in float32, "
            f"{gap64:.1e} in float64. The cosine formula of one pixel per channel, without a qubit, gives the same.",
            "the architectures differ, ZZ full is the most robust",
        )
    ]
    grids = {"FGSM": config.eps, "PGD": config.iterative_eps, "MIM": config.iterative_eps}
    full = {a: paired(table.area("full", a.lower(), e), table.area("none", a.lower(), e)) for a, e in grids.items()}
    statuses = {_status(d) for d in full.values()}
    out.append(
        Finding(
            "With ZZ before Rot, full entanglement is more robust than none.",
            statuses.pop() if len(statuses) == 1 else "unclear",
            "mean robust accuracy over the eps grid, full minus none: "
            + "; ".join(f"{a} {points(d)}" for a, d in full.items()),
            "ZZ full performed best",
        )
    )
    others = [table.area(m, "fgsm", config.eps) for m in ENTANGLED]
    rest = [float(v) for v in np.mean(others, 0)]
    gap = paired(rest, table.area("random", "fgsm", config.eps))
    out.append(
        Finding(
            "The random architecture is the least robust of the five (FGSM, against the mean of the others).",
            _status(gap),
            f"others minus random: {points(gap)}",
            "Random was the least robust",
        )
    )
    out += [_against_cnn(config, table), _strongest(config, table), _explained(config, table)]
    out += _transfer(config, table)
    return out


def _against_cnn(config: RobQuNN, table: Table) -> Finding:
    gains: dict[float, Difference] = {}
    for e in config.eps:
        full, cnn = (table.draws("robust_accuracy", m, attack="fgsm", eps=e) for m in ("full", "CNN frozen"))
        gains[e] = paired(full, cnn)
    best = max(gains, key=lambda e: gains[e].value)
    a, b = (float(np.mean(table.draws("robust_accuracy", m, attack="fgsm", eps=best))) for m in ("full", "CNN frozen"))
    trained = paired(
        table.draws("robust_accuracy", "full", attack="fgsm", eps=best),
        table.draws("robust_accuracy", "CNN trained", attack="fgsm", eps=best),
    )
    d = gains[best]
    whole = paired(table.area("full", "fgsm", config.eps), table.area("CNN frozen", "fgsm", config.eps))
    return Finding(
        "The QuNN (full, ZZ first) is more robust than the paper's baseline, a CNN with a frozen random convolution.",
        _status(whole),
        f"mean over eps under FGSM: {points(whole)}; largest gain, at eps {best:g} (chosen after the fact): "
        f"{points(d)}, {a:.1%} against {b:.1%}"
        + (f", a ratio of {a / b:.2f}" if b > 0 else "")
        + f"; against a CNN that is trained: {points(trained)}",
        'up to 60 % higher robustness, "particularly at low levels of perturbation"',
    )


def _strongest(config: RobQuNN, table: Table) -> Finding:
    e, grid = config.probe_eps, config.iterative_eps
    gain = paired(table.area("full", "pgd_random_start", grid), table.area("CNN frozen", "pgd_random_start", grid))
    no_start = paired(table.area("full", "pgd", grid), table.area("CNN frozen", "pgd", grid))
    square = {m: float(np.mean(table.draws("robust_accuracy", m, attack="square", eps=e))) for m in MODELS}
    masked = {m: float(np.mean(table.draws("robust_accuracy", m, attack="pgd_square_samples", eps=e))) for m in MODELS}
    beaten = [f"{m} ({masked[m]:.1%} to {square[m]:.1%})" for m in MODELS if square[m] < masked[m]]
    return Finding(
        "The same claim under PGD with a random start.",
        _status(gain),
        f"mean over eps, full minus frozen CNN: {points(gain)}; with PGD from x itself {points(no_start)}. "
        f"Gradient-free Square leaves less than PGD from x itself at eps {e:g} on: {', '.join(beaten) or 'no model'}",
    )


def _explained(config: RobQuNN, table: Table) -> Finding:
    full, none, cosine, cnn = (table.area(m, "fgsm", config.eps) for m in ("full", "none", "CNN cosine", "CNN frozen"))
    total, classical, activation = paired(full, cnn), paired(none, cnn), paired(cosine, cnn)
    return Finding(
        "What the cosine explains: the classical formula without entanglement against the frozen CNN, beside full "
        "entanglement against the same.",
        "info",
        f"mean over eps under FGSM: cosine formula {points(classical)}, full {points(total)}, random convolution "
        f"with a cosine in place of ReLU {points(activation)}",
    )


def _transfer(config: RobQuNN, table: Table) -> list[Finding]:
    e = config.probe_eps

    def accuracy(model: str, direction: str) -> list[float]:
        return table.draws("transfer_accuracy", model, eps=e, direction=direction)

    means = {m: float(np.mean(accuracy(m, "to_quantum"))) for m in QUANTUM}
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    spread = paired(accuracy(high, "to_quantum"), accuracy(low, "to_quantum"))
    directions = [paired(accuracy(m, "to_classical"), accuracy(m, "to_quantum")) for m in QUANTUM]
    mean_difference = paired(
        [float(v) for v in np.mean([accuracy(m, "to_classical") for m in QUANTUM], 0)],
        [float(v) for v in np.mean([accuracy(m, "to_quantum") for m in QUANTUM], 0)],
    )
    same = spread.low <= 0 <= spread.high
    return [
        Finding(
            f"Examples made on the CNN hit all quantum architectures alike (FGSM, eps {e:g}).",
            "unclear" if same else "fails",
            f"furthest apart: {high} {means[high]:.1%} and {low} {means[low]:.1%}, {points(spread)}"
            + ("; no difference shown, which does not prove that there is none" if same else ""),
            "all ansatzes decline alike",
        ),
        Finding(
            f"The CNN withstands the quantum models' examples better than they withstand the CNN's (FGSM, eps {e:g}).",
            _status(mean_difference),
            f"mean over the five: {points(mean_difference)}; by model {min(d.value for d in directions):+.1%} to "
            f"{max(d.value for d in directions):+.1%}",
            "the classical model preserved slightly more robustness",
        ),
    ]


def _flags(config: RobQuNN, table: Table) -> list[Flag]:
    e, out = config.probe_eps, []

    def draws(model: str, attack: str, eps: float = e) -> list[float]:
        return table.draws("robust_accuracy", model, attack=attack, eps=eps)

    for m in MODELS:
        rivals = [("gradient-masking", "Square, without gradients,", "pgd_square_samples", "square")]
        if e in config.iterative_eps:
            rivals.append(("random-start-beats-no-start", "PGD with a random start", "pgd", "pgd_random_start"))
        if m in QUANTUM and e in config.iterative_eps:
            rivals.append(("transfer-beats-white-box", "PGD transferred from the CNN", "pgd", "pgd_from_cnn"))
        for code, rival, white, black in rivals:
            out.append(_rival(code, m, rival, draws(m, white), draws(m, black), e))
        noise = paired(draws(m, "random_noise"), draws(m, "fgsm")) if e in config.eps else None
        if noise is not None:
            beaten = noise.low > 0
            out.append(
                Flag(
                    "attack-no-better-than-noise",
                    "ok" if beaten else "fail",
                    f"FGSM {'beats' if beaten else 'does not beat'} the worst of 10 random sign patterns at eps {e:g}: "
                    f"{points(noise)}.",
                    {"difference": noise.value, "low": noise.low, "high": noise.high, "draws": noise.n},
                    m,
                )
            )
        last = max(config.iterative_eps)
        left = float(np.mean(draws(m, "pgd", last)))
        out.append(
            Flag(
                "above-chance-at-largest-eps",
                "ok" if left < 0.12 else "warning",
                f"PGD leaves {left:.1%} at its largest eps {last:g}; chance is 10 %.",
                {"accuracy": left, "eps": last},
                m,
            )
        )
        zeros = float(np.mean(table.draws("zero_gradient_entries", m)))
        out.append(
            Flag(
                "zero-gradient",
                "warning" if zeros > 0.5 else "ok",
                f"{zeros:.1%} of the entries of the input gradient are exactly zero.",
                {"zero_entries": zeros, "median": float(np.mean(table.draws("median_gradient", m)))},
                m,
            )
        )
    return out


def _rival(code: str, model: str, rival: str, white: Sequence[float], black: Sequence[float], eps: float) -> Flag:
    d = paired(white, black)
    stronger = d.low > 0
    wins = sum(b < w for w, b in zip(white, black, strict=True))
    return Flag(
        code,
        "fail" if stronger else "ok",
        f"{rival} is {'stronger' if stronger else 'not stronger'} than white-box PGD at eps {eps:g}: it leaves "
        f"{points(Difference(-d.value, -d.high, -d.low, d.n, d.method))}, and wins in {wins} of {d.n} draws.",
        {"white_box": float(np.mean(white)), "rival": float(np.mean(black)), "draws": d.n},
        model,
    )
