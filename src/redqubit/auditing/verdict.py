"""What the results of an audit say: the verdict, the trust checks and the panels of its report."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from redqubit.auditing.backdoor_verdict import (
    BackdoorTable,
    backdoor_findings,
    backdoor_flags,
    backdoor_limits,
    backdoor_panels,
)
from redqubit.auditing.config import Audit
from redqubit.auditing.defense_panels import defense_panels
from redqubit.auditing.defense_verdict import DefenseTable, defense_findings, defense_flags, defense_limits
from redqubit.auditing.lint import Target, lint_panel
from redqubit.auditing.poisoning_verdict import (
    PoisoningTable,
    poisoning_findings,
    poisoning_flags,
    poisoning_limits,
    poisoning_panels,
)
from redqubit.data import Dataset
from redqubit.metrics import accuracy, worst_case
from redqubit.quantum import Channel, Circuit, Gate
from redqubit.quantum.descriptors import entangling_capability, expressibility, expressibility_floor
from redqubit.quantum.noise import without_noise
from redqubit.result import Finding, Flag, Panel, Result, Summary
from redqubit.sanity import (
    black_box_check,
    chance_check,
    convergence_check,
    curve_check,
    guess_check,
    noise_check,
    sample_size_check,
    single_step_check,
)
from redqubit.statistics import PairedTest, mcnemar, paired_bootstrap, smallest_detectable_difference
from redqubit.storage.arrays import load_arrays

WHITE_BOX = ("pgd_strong", "pgd", "mim", "fgsm")  # strongest first
GUESSES = "no-better-than-guessing"  # the flag of a model that is not right more often than one answer to all
DESCRIBED = 10  # qubits up to which expressibility is estimated


@dataclass(frozen=True)
class AuditTable:
    """What an audit measured."""

    config: Audit
    models: Sequence[str]  # the model, then its twin when there is one
    results: Sequence[Result]
    correct: Mapping[tuple[str, int, str, float], Tensor]  # by model, seed, attack and eps
    flags: Sequence[Flag]  # of the checks that needed the models
    circuits: Sequence[Target]  # the quantum layers of all models
    backdoors: BackdoorTable
    poisoning: PoisoningTable
    defenses: DefenseTable
    train_set: Dataset
    test_set: Dataset
    artifacts: Path

    def worst(self, model: str, seed: int, eps: float) -> Tensor:
        """Return which samples no attack on the model itself fools."""
        attacks = [("clean", 0.0), *((name, eps) for name in self.config.attacks)]
        return worst_case(self.correct[model, seed, name, e] for name, e in attacks)

    def seeds(self, model: str) -> list[int]:
        """Return the seeds of a model, in order."""
        return sorted({s for (who, s, a, _) in self.correct if who == model and a == "clean"})


def summarise(table: AuditTable, *, cost: Mapping[str, float | int | str], rerun: str) -> Summary:
    """Return the verdict and the panels."""
    data = table.test_set
    flags = [*_flags(table), *table.flags]
    twin = f" and its twin {table.models[1]}" if len(table.models) > 1 else ""
    tried = ["L-infinity perturbations"]
    tried += ["backdoors"] if table.backdoors.models else []
    tried += ["poisoned labels"] if table.poisoning.models else []
    tried += ["defenses"] if table.defenses.plan.applied else []
    return Summary(
        title=f"Security audit of {table.models[0]} on {data.name}",
        subtitle=f"{table.models[0]}{twin}; {len(table.train_set):,} training and {len(data):,} test samples, "
        f"{data.n_classes} classes, {_count(len(table.seeds(table.models[0])), 'seed')}; {', '.join(tried)}",
        findings=(
            *_findings(table, flags),
            *backdoor_findings(table.backdoors),
            *poisoning_findings(table.poisoning),
            *defense_findings(table.defenses),
        ),
        panels=tuple(_panels(table)),
        flags=(
            *flags,
            *backdoor_flags(table.backdoors),
            *poisoning_flags(table.poisoning),
            *defense_flags(table.defenses),
        ),
        cost=cost,
        rerun=rerun,
        limits=(
            *backdoor_limits(table.backdoors.plan),
            *poisoning_limits(table.poisoning.plan),
            *defense_limits(table.defenses),
            "Robust accuracy is an upper bound: a stronger attack can only lower it.",
            *(["No twin was audited: what a classical network would withstand here is not known."] if not twin else []),
            "The seeds vary initial weights, circuit angles and the order of samples, on one data set.",
        ),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _count(n: int, thing: str) -> str:
    return f"{n} {thing}" if n == 1 else f"{n} {thing}s"


def _first_white(attacks: Sequence[str]) -> str | None:
    """Return the strongest white-box attack among these."""
    return next((a for a in WHITE_BOX if a in attacks), None)


def _findings(table: AuditTable, flags: Sequence[Flag]) -> list[Finding]:
    config, model = table.config, table.models[0]
    eps, seed = config.claim_eps, table.seeds(model)[0]
    clean = {s: table.correct[model, s, "clean", 0.0] for s in table.seeds(model)}
    worst = {s: table.worst(model, s, eps) for s in table.seeds(model)}
    chance = 1 / table.test_set.n_classes
    share = float(np.mean([float(m.double().mean()) for m in worst.values()]))
    start = float(np.mean([float(m.double().mean()) for m in clean.values()]))
    first = accuracy(worst[seed])
    failed = {m: [f for f in flags if f.severity == "fail" and f.subject.split(" / ")[0] == m] for m in table.models}
    bad = failed[model]
    spread = [float(m.double().mean()) for m in worst.values()]
    limit = max(start / 2, chance)
    out = [
        Finding(
            f"At eps {eps:g}, the worst case over all attacks leaves {model} right on {_percent(share)} of the test "
            f"samples; without attack it is right on {_percent(start)}.",
            "fails" if share < limit else "unclear",
            f"seed {seed}: {first.k} of {first.n}, 95 % interval {100 * first.low:.1f} to {_percent(first.high)}; "
            f"{_over(spread)}; chance is "
            f"{_percent(chance)}; below {_percent(limit)}, half of what is right without attack, this counts as "
            "failed, and above as unclear: attacks can refute robustness, not prove it",
        )
    ]
    if len(table.models) > 1:
        out.append(_against_twin(table, [m for m in table.models if any(f.code == GUESSES for f in failed[m])]))
    warned = [f for f in flags if f.severity == "warning" and f.subject.split(" / ")[0] == model]
    out.append(
        Finding(
            f"{_count(len(bad), 'trust check')} failed on the model: its robustness numbers overstate what holds."
            if bad
            else f"No trust check of the attacks failed on the model, {len(warned)} warned."
            if warned
            else "No trust check of the attacks failed on the model: nothing found suggests that the attacks were "
            "weakened.",
            "info" if not bad else "fails",
            "; ".join(
                [f"{f.code}: {f.message}" for f in (bad or warned)[:3]]
                + [f"failed on {m}: {', '.join(f.code for f in failed[m])}" for m in table.models[1:] if failed[m]]
            ),
        )
    )
    return out


def _over(shares: Sequence[float]) -> str:
    if len(shares) == 1:
        return "1 seed"
    return f"lowest and highest of {len(shares)} seeds {100 * min(shares):.1f} and {_percent(max(shares))}"


def _against_twin(table: AuditTable, guessing: Sequence[str]) -> Finding:
    model, twin, eps = *table.models, table.config.claim_eps
    seeds = [s for s in table.seeds(model) if s in table.seeds(twin)]
    tests: list[PairedTest] = [mcnemar(table.worst(model, s, eps), table.worst(twin, s, eps)) for s in seeds]
    first = tests[0]
    detail = (
        f"seed {seeds[0]}: {100 * first.value:+.1f} points [{100 * first.low:+.1f}, {100 * first.high:+.1f}], exact "
        f"McNemar p = {first.p_value:.2g}, {model} alone right on {first.only_a}, {twin} alone on {first.only_b}"
    )
    low, high, value = first.low, first.high, first.value
    if len(seeds) > 1:
        a, b = ([float(table.worst(m, s, eps).double().mean()) for s in seeds] for m in (model, twin))
        over = paired_bootstrap(a, b, generator=torch.Generator().manual_seed(0))
        low, high, value = over.low, over.high, over.value
        detail += (
            f"; mean over {len(seeds)} seeds {100 * value:+.1f} points [{100 * low:+.1f}, {100 * high:+.1f}] "
            f"({over.method})"
        )
    starts = [np.mean([float(table.correct[m, s, "clean", 0.0].double().mean()) for s in seeds]) for m in (model, twin)]
    detail += f"; right without attack: {model} {_percent(float(starts[0]))}, {twin} {_percent(float(starts[1]))}"
    n = len(table.test_set)
    p = float(np.mean([float(table.worst(m, seeds[0], eps).double().mean()) for m in (model, twin)]))
    least = smallest_detectable_difference(n, p=min(max(p, 1 / n), 1 - 1 / n))
    detail += f"; {n} samples can be expected to show {100 * least:.1f} points"
    if guessing:
        return Finding(
            f"At eps {eps:g}, {model} and its twin {twin} cannot be compared: without attack {' and '.join(guessing)} "
            f"{'are' if len(guessing) > 1 else 'is'} not shown to beat one answer to all.",
            "unclear",
            detail,
        )
    verdict = "more robust than" if low > 0 else "less robust than" if high < 0 else "not shown to differ from"
    return Finding(
        f"At eps {eps:g}, {model} is {verdict} its twin {twin}.",
        "holds" if low > 0 else "fails" if high < 0 else "unclear",
        detail,
    )


def _flags(table: AuditTable) -> list[Flag]:
    """Return the checks that compare attacks, for every model, on its first seed."""
    config, eps, out = table.config, table.config.claim_eps, []
    for model in table.models:
        seed = table.seeds(model)[0]
        has = config.attacks
        white = _first_white(has)

        def at(attack: str, radius: float = eps, model: str = model, seed: int = seed) -> Tensor:
            return table.correct[model, seed, attack, radius]

        out.append(guess_check(at("clean", 0.0), table.test_set.y, subject=f"{model} / worst_case"))
        if white is None:
            continue
        subject = f"{model} / {white}"
        if "fgsm" in has and white != "fgsm":
            out.append(single_step_check(at("fgsm"), at(white), subject=subject))
        for black in (a for a in has if a not in (*WHITE_BOX, "random_noise")):
            out.append(black_box_check(at(white), at(black), black_box=black, subject=subject))
        for other in (m for m in table.models if m != model):
            rival = table.correct[model, config.seeds[0], f"transfer:{other}", eps]
            out.append(black_box_check(at(white), rival, black_box=f"transfer from {other}", subject=subject))
        if {"pgd", "pgd_strong"} <= set(has):
            more = "100 steps and 5 restarts"
            out.append(convergence_check(at("pgd"), at("pgd_strong"), more=more, subject=f"{model} / pgd"))
        if "random_noise" in has:
            out.append(noise_check(at("random_noise"), at(white), subject=subject))
        curve = {0.0: at("clean", 0.0), **{e: at(white, e) for e in config.eps}}
        out.append(curve_check(curve, subject=subject))
        out.append(chance_check(at(white, max(config.eps)), max(config.eps), table.test_set.n_classes, subject=subject))
    if len(table.models) > 1:
        a, b = (float(table.worst(m, table.seeds(m)[0], eps).double().mean()) for m in table.models)
        subject = " against ".join(table.models)
        out.append(sample_size_check(abs(a - b), len(table.test_set), p=(a + b) / 2, subject=subject))
    return out


def _panels(table: AuditTable) -> list[Panel]:
    config = table.config
    chance = {"chance": 1 / table.test_set.n_classes}
    eps_label, y_label = "eps (L-infinity, inputs in [0, 1])", "accuracy under attack"
    out = []
    if len(table.models) > 1:
        out.append(
            Panel(
                "curves",
                "Security curves: worst case over all attacks",
                "A sample counts when no attack of this eps fools the model. "
                + _seed_words(len(table.seeds(table.models[0]))),
                "Robustness",
                "robust_accuracy",
                "eps",
                eps_label,
                y_label,
                "model",
                {"attack": "worst_case"},
                {"order": list(table.models), **chance},
            )
        )
    order = [*config.attacks, "worst_case"]
    out += [
        Panel(
            "curves",
            f"Security curves of {model}, by attack",
            _seed_words(len(table.seeds(model))),
            "Robustness",
            "robust_accuracy",
            "eps",
            eps_label,
            y_label,
            "attack",
            {"model": model},
            {"order": order, **chance},
        )
        for model in table.models
    ]
    out.append(
        Panel(
            "table",
            f"Accuracy at eps {config.claim_eps:g}",
            "Several seeds: mean and 95 % t interval over them; one seed: Wilson interval.",
            "Robustness",
            "robust_accuracy",
            "model",
            group="attack",
            where={"eps": config.claim_eps},
            data={"order": [*order, *table.models]},
        )
    )
    out += [
        Panel(
            "images",
            f"Adversarial examples of {model} at eps {config.claim_eps:g}",
            f"The first test samples, whether or not the attack works on them: "
            f"{_first_white(config.attacks) or config.attacks[0]}, seed {config.seeds[0]}.",
            "Adversarial examples",
            data={"file": f"examples-{model}.npz", "rows": [_example_row(table, model)]},
        )
        for model in table.models
    ]
    if len(table.models) > 1:
        out.append(
            Panel(
                "heatmap",
                f"Transfer of PGD examples at eps {config.claim_eps:g}",
                f"Accuracy of the target (columns) on examples made on the source (rows), seed {config.seeds[0]}.",
                "Transfer",
                "transfer_accuracy",
                "target",
                "target",
                "source",
                "source",
                data={"order": list(table.models)},
            )
        )
    out += [*backdoor_panels(table.backdoors), *poisoning_panels(table.poisoning), *defense_panels(table.defenses)]
    for target in table.circuits:
        out += [*_circuit(target.circuit), lint_panel(target)]
    return out


def _seed_words(n: int) -> str:
    return f"Mean over {n} seeds with the 95 % t interval." if n > 1 else "One seed, 95 % Wilson interval."


def _example_row(table: AuditTable, model: str) -> dict[str, object]:
    names = table.test_set.classes or tuple(map(str, range(table.test_set.n_classes)))
    cell = f"{model}-seed{table.config.seeds[0]}"
    arrays = load_arrays(table.artifacts / f"examples-{model}.npz", cell=cell)
    labels = {key: [names[i] for i in arrays[key]] for key in ("true", "before", "after")}
    return {"label": model, "clean": "clean", "adv": "adv", **labels}


def _counted(items: Sequence[Gate | Channel]) -> str:
    return ", ".join(f"{n} {name}" for name, n in Counter(item.name for item in items).items())


def _circuit(noisy: Circuit) -> list[Panel]:
    generator, circuit = torch.Generator().manual_seed(0), without_noise(noisy)
    rows: list[list[object]] = [
        ["qubits", circuit.n_qubits],
        ["inputs", circuit.n_inputs],
        ["weights", circuit.n_weights],
        ["depth (layers of gates)", circuit.depth],
        ["gates", _counted(circuit.gates)],
    ]
    if noisy.channels:
        rows.append(["noise channels, not drawn", _counted(noisy.channels)])
    if noisy.readout:
        shares = [f"{a:.3g} / {b:.3g}" for a, b in dict.fromkeys(noisy.readout)]
        rows.append(["read-out errors, 1 for 0 / 0 for 1", ", ".join(shares)])
    if circuit.n_qubits <= DESCRIBED and circuit.initial is None:
        e = expressibility(circuit, generator=generator)
        floor = expressibility_floor(circuit.n_qubits, generator=generator)
        q = entangling_capability(circuit, generator=generator)
        rows += [
            ["expressibility (nats, 0 is Haar)", f"{e.value:.4f} ± {e.standard_error:.4f}"],
            ["its floor for Haar states", f"{floor.value:.4f} ± {floor.standard_error:.4f}"],
            ["entangling capability (Meyer-Wallach, 0 to 1)", f"{q.value:.4f} ± {q.standard_error:.4f}"],
        ]
    return [
        Panel("pre", "Circuit", "x is a feature, w a weight.", "Circuit", data={"text": str(circuit)}),
        Panel(
            "facts",
            "Circuit facts",
            "Inputs and weights drawn uniformly from [0, 2 pi), without noise; ± one standard error.",
            "Circuit",
            data={"columns": ["property", "value"], "rows": rows},
        ),
    ]
