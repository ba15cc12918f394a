"""What the results of the RobQuNN experiment say: the paper's claims, each put to a paired test over draws."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Literal

import numpy as np
import torch

from redqubit.quantum import ansatzes, encodings
from redqubit.result import Finding, Flag, Panel, Result, Summary
from redqubit.statistics import Difference, paired_bootstrap

if TYPE_CHECKING:
    from redqubit.experiments.robqunn import RobQuNN

Status = Literal["holds", "fails", "unclear", "info"]
ENTANGLED: tuple[Literal["none", "linear", "star", "full"], ...] = ("none", "linear", "star", "full")
QUANTUM = (*ENTANGLED, "random")
CLASSICAL = ("CNN frozen", "CNN cosine", "CNN trained")
MODELS = (*QUANTUM, *CLASSICAL)
FIGURES = "The paper's figures, ZZ before Rot"
PRINTED = "The circuit as printed"
CONTROLS = "Controls"


def summarise(config: RobQuNN, results: Sequence[Result]) -> Summary:
    """Return the verdict and the panels."""
    table = _Table(results)
    probe = config.probe_eps
    reduced = "" if config.data == "mnist" and config.n_train >= 60_000 else ", reduced"
    return Summary(
        title="RobQuNNs: does entanglement make a quanvolution robust?",
        subtitle=(
            f"Independent replication on {config.data}{reduced}: {config.n_train:,} training and {config.n_test:,} "
            f"test samples, {config.draws} draws of all random angles and kernels, every comparison paired over draws"
        ),
        findings=tuple(_findings(config, table)),
        panels=tuple(_panels(config, table)),
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


class _Table:
    """Values by draw of a metric, selected by config keys."""

    def __init__(self, results: Sequence[Result]) -> None:
        self.results = results
        self.index: dict[tuple[object, ...], dict[int, float]] = {}
        for r in results:
            c = r.config
            key = (r.metric, c.get("model"), c.get("attack"), c.get("eps"), c.get("direction"), c.get("dtype"))
            self.index.setdefault(key, {})[c["draw"]] = r.value

    def draws(
        self,
        metric: str,
        model: str | None = None,
        *,
        attack: str | None = None,
        eps: float | None = None,
        direction: str | None = None,
        dtype: str | None = None,
    ) -> list[float]:
        """Return the values in order of the draws."""
        found = self.index[metric, model, attack, eps, direction, dtype]
        return [found[d] for d in sorted(found)]

    def area(self, model: str, attack: str, eps: Sequence[float]) -> list[float]:
        """Return for each draw the mean robust accuracy over the grid of eps."""
        values = np.array([self.draws("robust_accuracy", model, attack=attack, eps=e) for e in eps])
        return [float(v) for v in values.mean(0)]


def _paired(a: Sequence[float], b: Sequence[float]) -> Difference:
    return paired_bootstrap(a, b, generator=torch.Generator().manual_seed(0))


def _points(d: Difference) -> str:
    return f"{100 * d.value:+.1f} points [{100 * d.low:+.1f}, {100 * d.high:+.1f}]"


def _status(d: Difference) -> Status:
    """Tell whether a claimed gain d > 0 is borne out."""
    return "holds" if d.low > 0 else "fails" if d.high < 0 else "unclear"


def _findings(config: RobQuNN, table: _Table) -> list[Finding]:
    gap32, gap64 = (max(table.draws("feature_difference", dtype=t)) for t in ("float32", "float64"))
    out = [
        Finding(
            "As printed, the circuits none, linear, star and full compute one and the same function: ZZ comes last, "
            "is diagonal and commutes with the read-out.",
            "fails",
            f"largest difference of any feature over {config.draws} draws: {gap32:.1e} in float32, {gap64:.1e} in "
            "float64. The cosine formula of one pixel per channel, with no qubit in it, gives the same features.",
            "the architectures differ, ZZ full is the most robust",
        )
    ]
    grids = {"FGSM": config.eps, "PGD": config.iterative_eps, "MIM": config.iterative_eps}
    full = {a: _paired(table.area("full", a.lower(), e), table.area("none", a.lower(), e)) for a, e in grids.items()}
    worst = min(full.values(), key=lambda d: d.low)
    status: Status = "holds" if worst.low > 0 else "fails" if all(d.high < 0 for d in full.values()) else "unclear"
    out.append(
        Finding(
            "With ZZ before Rot, full entanglement against none: "
            + ("more robust under every attack." if status == "holds" else "no gain under every attack."),
            status,
            "mean robust accuracy over the eps grid, full minus none: "
            + "; ".join(f"{a} {_points(d)}" for a, d in full.items()),
            "ZZ full performed best",
        )
    )
    others = [table.area(m, "fgsm", config.eps) for m in ENTANGLED]
    rest = [float(v) for v in np.mean(others, 0)]
    gap = _paired(rest, table.area("random", "fgsm", config.eps))
    out.append(
        Finding(
            "The random architecture is the least robust of the five (FGSM, against the mean of the others).",
            _status(gap),
            f"others minus random: {_points(gap)}",
            "Random was the least robust",
        )
    )
    out += [_against_cnn(config, table), _strongest(config, table), _explained(config, table)]
    out += _transfer(config, table)
    return out


def _against_cnn(config: RobQuNN, table: _Table) -> Finding:
    gains: dict[float, Difference] = {}
    for e in config.eps:
        full, cnn = (table.draws("robust_accuracy", m, attack="fgsm", eps=e) for m in ("full", "CNN frozen"))
        gains[e] = _paired(full, cnn)
    best = max(gains, key=lambda e: gains[e].value)
    a, b = (float(np.mean(table.draws("robust_accuracy", m, attack="fgsm", eps=best))) for m in ("full", "CNN frozen"))
    trained = _paired(
        table.draws("robust_accuracy", "full", attack="fgsm", eps=best),
        table.draws("robust_accuracy", "CNN trained", attack="fgsm", eps=best),
    )
    d = gains[best]
    return Finding(
        "The QuNN (full, ZZ first) is more robust than the paper's baseline, a CNN with a frozen random convolution.",
        _status(d),
        f"largest gain under FGSM, at eps {best:g} (chosen after the fact): {_points(d)}, {a:.1%} against {b:.1%}"
        + (f", a ratio of {a / b:.2f}" if b > 0 else "")
        + f"; against a CNN that is trained: {_points(trained)}",
        'up to 60 % higher robustness, "particularly at low levels of perturbation"',
    )


def _strongest(config: RobQuNN, table: _Table) -> Finding:
    e, grid = config.probe_eps, config.iterative_eps
    gain = _paired(table.area("full", "pgd_random_start", grid), table.area("CNN frozen", "pgd_random_start", grid))
    no_start = _paired(table.area("full", "pgd", grid), table.area("CNN frozen", "pgd", grid))
    square = {m: float(np.mean(table.draws("robust_accuracy", m, attack="square", eps=e))) for m in MODELS}
    masked = {m: float(np.mean(table.draws("robust_accuracy", m, attack="pgd_square_samples", eps=e))) for m in MODELS}
    beaten = [f"{m} ({masked[m]:.1%} to {square[m]:.1%})" for m in MODELS if square[m] < masked[m]]
    return Finding(
        "The same claim under PGD with a random start.",
        _status(gain),
        f"mean over eps, full minus frozen CNN: {_points(gain)}; with PGD from x itself {_points(no_start)}. "
        f"Gradient-free Square leaves less than PGD from x itself at eps {e:g} on: {', '.join(beaten) or 'no model'}",
    )


def _explained(config: RobQuNN, table: _Table) -> Finding:
    full, none, cosine, cnn = (table.area(m, "fgsm", config.eps) for m in ("full", "none", "CNN cosine", "CNN frozen"))
    total, classical, activation = _paired(full, cnn), _paired(none, cnn), _paired(cosine, cnn)
    return Finding(
        "What the cosine explains: the classical formula without entanglement against the frozen CNN, beside full "
        "entanglement against the same.",
        "info",
        f"mean over eps under FGSM: cosine formula {_points(classical)}, full {_points(total)}, random convolution "
        f"with a cosine in place of ReLU {_points(activation)}",
    )


def _transfer(config: RobQuNN, table: _Table) -> list[Finding]:
    e = config.probe_eps

    def accuracy(model: str, direction: str) -> list[float]:
        return table.draws("transfer_accuracy", model, eps=e, direction=direction)

    means = {m: float(np.mean(accuracy(m, "to_quantum"))) for m in QUANTUM}
    high, low = max(means, key=means.__getitem__), min(means, key=means.__getitem__)
    spread = _paired(accuracy(high, "to_quantum"), accuracy(low, "to_quantum"))
    directions = [_paired(accuracy(m, "to_classical"), accuracy(m, "to_quantum")) for m in QUANTUM]
    mean_difference = _paired(
        [float(v) for v in np.mean([accuracy(m, "to_classical") for m in QUANTUM], 0)],
        [float(v) for v in np.mean([accuracy(m, "to_quantum") for m in QUANTUM], 0)],
    )
    same = spread.low <= 0 <= spread.high
    return [
        Finding(
            f"Examples made on the CNN hit all quantum architectures alike (FGSM, eps {e:g}).",
            "unclear" if same else "fails",
            f"furthest apart: {high} {means[high]:.1%} and {low} {means[low]:.1%}, {_points(spread)}"
            + ("; no difference shown, which does not prove that there is none" if same else ""),
            "all ansatzes decline alike",
        ),
        Finding(
            f"The CNN withstands the quantum models' examples better than they withstand the CNN's (FGSM, eps {e:g}).",
            _status(mean_difference),
            f"mean over the five: {_points(mean_difference)}; by model {min(d.value for d in directions):+.1%} to "
            f"{max(d.value for d in directions):+.1%}",
            "the classical model preserved slightly more robustness",
        ),
    ]


def _flags(config: RobQuNN, table: _Table) -> list[Flag]:
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
        noise = _paired(draws(m, "random_noise"), draws(m, "fgsm")) if e in config.eps else None
        if noise is not None:
            beaten = noise.low > 0
            out.append(
                Flag(
                    "attack-no-better-than-noise",
                    "ok" if beaten else "fail",
                    f"FGSM {'beats' if beaten else 'does not beat'} the worst of 10 random sign patterns at eps {e:g}: "
                    f"{_points(noise)}.",
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
    d = _paired(white, black)
    stronger = d.low > 0
    wins = sum(b < w for w, b in zip(white, black, strict=True))
    return Flag(
        code,
        "fail" if stronger else "ok",
        f"{rival} is {'stronger' if stronger else 'not stronger'} than white-box PGD at eps {eps:g}: it leaves "
        f"{_points(Difference(-d.value, -d.high, -d.low, d.n, d.method))}, and wins in {wins} of {d.n} draws.",
        {"white_box": float(np.mean(white)), "rival": float(np.mean(black)), "draws": d.n},
        model,
    )


def _panels(config: RobQuNN, table: _Table) -> list[Panel]:
    order = {"order": list(MODELS)}
    chance = {"chance": 0.1 if config.data in ("mnist", "digits") else None}
    out = []
    for figure, attack, n in (
        ("3a", "fgsm", config.n_test),
        ("3b", "pgd", config.n_iterative),
        ("3c", "mim", config.n_iterative),
    ):
        out.append(
            Panel(
                "curves",
                f"Figure {figure}: {attack.upper()}",
                f"Mean over {config.draws} draws with the 95 % t interval; {n:,} test samples.",
                FIGURES,
                "robust_accuracy",
                "eps",
                "eps (L-infinity, pixels in [0, 1])",
                "accuracy under attack",
                "model",
                {"attack": attack},
                {**order, **chance},
            )
        )
    for figure, direction, title in (
        ("3d", "to_quantum", "examples of the frozen CNN shown to the quantum models"),
        ("3e", "to_classical", "examples of the quantum models shown to the frozen CNN"),
    ):
        out.append(
            Panel(
                "curves",
                f"Figure {figure}: {title}",
                "FGSM on all test samples; lines are named after the quantum model.",
                FIGURES,
                "transfer_accuracy",
                "eps",
                "eps (L-infinity, pixels in [0, 1])",
                "accuracy of the target",
                "model",
                {"direction": direction},
                {"order": list(QUANTUM), **chance},
            )
        )
    out.append(
        Panel(
            "facts",
            "Paired differences, in points of accuracy",
            "Each cell: mean over draws of the difference of robust accuracy, averaged over the eps grid, with its "
            "95 % interval. An interval that excludes 0 is marked by an asterisk.",
            FIGURES,
            data=_differences(config, table),
        )
    )
    out.append(
        Panel(
            "curves",
            "PGD with a random start",
            "The paper's library starts at x itself, where ReLU and the cosine can have no slope. "
            f"{config.n_iterative:,} test samples.",
            CONTROLS,
            "robust_accuracy",
            "eps",
            "eps (L-infinity, pixels in [0, 1])",
            "accuracy under attack",
            "model",
            {"attack": "pgd_random_start"},
            {**order, **chance},
        )
    )
    printed = ["none", "random", *CLASSICAL]
    for figure, attack in (("3a", "fgsm"), ("3b", "pgd"), ("3c", "mim")):
        out.append(
            Panel(
                "curves",
                f"Figure {figure} in the printed order: {attack.upper()}",
                'The line "none" is also linear, star and full: they are one function, so they were attacked once.',
                PRINTED,
                "robust_accuracy",
                "eps",
                "eps (L-infinity, pixels in [0, 1])",
                "accuracy under attack",
                "model",
                {"attack": attack, "model": printed},
                {"order": printed, **chance},
            )
        )
    for title, kind, zz in (
        ("Full entanglement as printed", "full", "as_written"),
        ("Full entanglement with ZZ first", "full", "zz_first"),
        ("Random", "random", "as_written"),
    ):
        circuit = encodings.angle(4) + ansatzes.robqunn(kind, order=zz, phi=config.phi)  # type: ignore[arg-type]
        out.append(Panel("pre", title, section=PRINTED, data={"text": str(circuit)}))
    out.append(
        Panel(
            "table",
            f"Accuracy under each attack at eps {config.probe_eps:g}",
            f"pgd: {config.pgd_steps} relative steps from x itself, as CleverHans starts; pgd_random_start: from a "
            "random point of the ball; pgd_absolute_step: 40 steps of 0.01 at most; fgsm_softmax: the probabilities "
            "attacked as if they were logits; pgd_square_samples: pgd on the samples that Square sees; pgd_from_cnn: "
            "examples of the frozen CNN.",
            CONTROLS,
            "robust_accuracy",
            "attack",
            group="model",
            where={"eps": config.probe_eps},
            data=order,
        )
    )
    out.append(
        Panel(
            "facts",
            "Input gradients of the cross-entropy on clean test samples",
            "Mean over draws. The derivative of cos(pi x) vanishes at x = 0 and 1, where most MNIST pixels are; the "
            "sum over features rarely does.",
            CONTROLS,
            data={
                "columns": ["model", "entries exactly 0", "median |gradient|", "clean accuracy"],
                "rows": [
                    [
                        m,
                        f"{np.mean(table.draws('zero_gradient_entries', m)):.1%}",
                        f"{np.mean(table.draws('median_gradient', m)):.2e}",
                        f"{np.mean(table.draws('accuracy', m)):.1%}",
                    ]
                    for m in MODELS
                ],
            },
        )
    )
    return out


def _differences(config: RobQuNN, table: _Table) -> dict[str, object]:
    grids = {"FGSM": config.eps, "PGD": config.iterative_eps, "MIM": config.iterative_eps}
    pairs = [(m, "none") for m in ("linear", "star", "full", "random")]
    pairs += [("full", c) for c in CLASSICAL] + [("none", "CNN frozen")]

    def cell(d: Difference) -> str:
        mark = "*" if d.low > 0 or d.high < 0 else ""
        return f"{100 * d.value:+.1f} [{100 * d.low:+.1f}, {100 * d.high:+.1f}]{mark}"

    area: Callable[[str, str], list[float]] = lambda m, a: table.area(m, a.lower(), grids[a])  # noqa: E731
    return {
        "columns": ["comparison", *grids],
        "rows": [[f"{a} minus {b}", *(cell(_paired(area(a, g), area(b, g))) for g in grids)] for a, b in pairs],
    }
