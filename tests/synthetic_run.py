"""A run folder with one of everything, made up but of realistic size, for the tests of the report."""

from pathlib import Path
from typing import Any

import numpy as np
from scipy.stats import norm

from redqubit.result import Finding, Flag, Panel, Result, Summary, append, save_summary
from redqubit.storage.arrays import save_arrays
from redqubit.storage.files import save_json

EPS = (0.0, 0.01, 0.02, 0.05, 0.1, 0.15, 0.2, 0.3, 0.4, 0.5)
MODELS = {"dressed QNN": 1.0, "quanvolution, ansatz 14": 1.5, "classical twin": 0.8, "<script>alert(1)</script>": 2.2}
ATTACKS = {"FGSM": 0.5, "PGD": 1.0, "MIM": 0.9, "gaussian noise": 0.05, "random search": 0.6}

DRAWING = "\n".join(
    f"q{i}: ──RY(x{i})──" + "─●───" * i + "─X─" + f"──RY(w{2 * i})──RZ(w{2 * i + 1})──" * 4 + "┤ <Z>" for i in range(4)
)


def wilson(k: int, n: int) -> tuple[float, float]:
    z, p = float(norm.ppf(0.975)), k / n
    centre, half = p + z * z / 2 / n, z * (p * (1 - p) / n + z * z / 4 / n / n) ** 0.5
    return (centre - half) / (1 + z * z / n), (centre + half) / (1 + z * z / n)


def proportion(cell: str, metric: str, p: float, config: dict[str, Any], n: int = 300, **more: Any) -> Result:
    k = round(p * n)
    low, high = wilson(k, n)
    return Result("audit", cell, metric, k / n, config, low, high, k, n, **more)


def synthetic_results(models: dict[str, float] = MODELS) -> list[Result]:
    found = []
    for i, (model, strength) in enumerate(models.items()):
        for j, (attack, power) in enumerate(ATTACKS.items()):
            for eps in EPS:
                p = 0.08 + 0.86 * float(np.exp(-((eps * 7 * power / strength) ** 1.4)))
                odd = attack == "FGSM" and model == "dressed QNN" and eps == 0.3
                found.append(
                    proportion(
                        f"{model} {attack}", "robust_accuracy", p, {"model": model, "attack": attack, "eps": eps},
                        reported=0.62 if eps == 0.1 and attack == "PGD" and i < 2 else None,
                        flags=("stronger-than-iterative",) if odd else (), seed=0, seconds=3.4 * j, version="0.1.0",
                    )
                )  # fmt: skip
        for seed in range(5):
            for metric, value in {"accuracy": 0.94, "attack_success_rate": 0.71}.items():
                p = value - 0.02 * i + 0.01 * np.sin(7 * seed + i)
                found.append(proportion(f"{model} s{seed}", metric, p, {"model": model}, seed=seed, seconds=12.5))
            found.append(Result("audit", f"{model} s{seed}", "median_distance", 0.03 * strength, {"model": model}))
        for j, other in enumerate(models):
            p = 0.8 if i == j else 0.25 + 0.1 * ((3 * i + j) % 4)
            config = {"source": model, "target": other}
            found.append(proportion(f"transfer {model} {other}", "transfer_rate", p, config, seed=0))
    return found


def examples(folder: Path) -> None:
    """Write pictures and features in the schema of an "images" panel."""
    draw = np.random.default_rng(0)
    y, x = np.mgrid[:8, :8]
    ring = np.exp(-((np.hypot(x - 3.5, y - 3.5) - 2.5) ** 2))
    grey = np.stack([np.clip(ring * s, 0, 1)[None] for s in (0.6, 0.8, 0.9, 1.0, 0.7)])
    colour = np.stack([np.stack([ring, x / 7, y / 7])] * 3)
    features = draw.uniform(0, 1, (4, 9))
    arrays = {"grey": grey, "colour": colour, "features": features}
    (folder / "artifacts").mkdir()
    noisy = {f"{k}_adv": np.clip(a + 0.1 * np.sign(draw.normal(size=a.shape)), 0, 1) for k, a in arrays.items()}
    save_arrays(folder / "artifacts" / "examples.npz", **arrays, **noisy)


def image_row(array: str, title: str, n: int) -> dict[str, Any]:
    return {
        "clean": array, "adv": f"{array}_adv", "label": title,
        "true": ["3"] * n, "before": ["3"] * n, "after": ["8", "3", "0", "8", "8"][:n],
    }  # fmt: skip


def synthetic_summary() -> Summary:
    robust: dict[str, Any] = {"metric": "robust_accuracy", "x": "eps", "x_label": "budget ε (L∞, inputs in [0, 1])"}
    ok = [
        Flag(f"finite-logits-{i % 4}", "ok", "All logits are finite.", {"n": 300}, f"model {i} / PGD")
        for i in range(100)
    ]
    return Summary(
        title="Red-team audit of three quantum classifiers on digits",
        subtitle="Digits 0 to 9, 8 × 8 pixels, 300 test samples; attacked with five methods at ten budgets.",
        source="El Maouaki, Marchisio, Said, Shafique, Bennai, RobQuNNs, 2024",
        findings=(
            Finding(
                "The quanvolutional model keeps more accuracy under PGD at ε = 0.1 than its classical twin.",
                "holds", "84.3 % against 61.0 %, n = 300, paired McNemar p = 0.002, Holm over 4 comparisons.",
                "“robust against all attacks” (Table 3)",
            ),
            Finding(
                "The dressed QNN is not robust: random search finds what FGSM does not.", "fails",
                "At ε = 0.3, FGSM leaves 55.0 % and random search 31.3 % (n = 300).",
            ),
            Finding("Whether noise helps cannot be told from 300 samples.", "unclear", "2.1 points, p = 0.4"),
            Finding("Names given by the user, such as <script>alert(1)</script>, are shown as text."),
        ),
        panels=(
            Panel("curves", "Robust accuracy of each model under PGD", section="Evasion", group="model",
                  caption="Accuracy on the test set after projected gradient descent of 40 steps.",
                  where={"attack": "PGD"}, data={"chance": 0.1}, **robust),
            Panel("curves", "Every attack on every model", section="Evasion", group="attack",
                  caption="The weakest line of a plot is what counts; Gaussian noise is the control.",
                  data={"chance": 0.1, "facet": "model"}, **robust),
            Panel("curves", "Attacks on the dressed QNN", section="Evasion", group="attack",
                  where={"model": "dressed QNN"}, **robust),
            Panel("images", "Adversarial examples", section="Evasion", caption="PGD at ε = 0.1.",
                  data={"file": "examples.npz", "rows": [image_row("grey", "dressed QNN, PGD, ε = 0.1", 5),
                        image_row("colour", "quanvolution, PGD, ε = 0.1", 3), image_row("features", "tabular", 4)]}),
            Panel("heatmap", "Transfer of adversarial examples", section="Transfer", metric="transfer_rate",
                  group="source", x="target", x_label="evaluated on",
                  caption="Share of examples made on the model of the row that fool the model of the column."),
            Panel("heatmap", "Distances", section="Transfer", metric="median_distance", group="model", x="metric"),
            Panel("table", "All models over five seeds", section="Accuracy", group="model", x="metric",
                  caption="Accuracy and success rate in percent; distance in data units.",
                  where={"experiment": "audit"}, data={"order": ["accuracy", "attack_success_rate"]}),
            Panel("curves", "Accuracy by model", section="Accuracy", metric="accuracy", x="model"),
            Panel("pre", "The circuit of the dressed QNN", section="Models", data={"text": DRAWING}),
            Panel("facts", "The models", section="Models", data={
                "columns": ["model", "qubits", "weights", "data re-uploaded", "learning rate"],
                "rows": [[m, 4, 1234 * (i + 1), i % 2 == 0, 0.01 / (i + 1)] for i, m in enumerate(MODELS)]}),
            Panel("table", "Not there", section="Models", metric="nothing", group="model"),
        ),
        flags=(
            *ok,
            Flag("gradient-masking", "fail", "A gradient-free attack is stronger than PGD, so the gradients mislead.",
                 {"random_search": 0.313, "pgd": 0.55, "n": 300}, "dressed QNN / PGD"),
            Flag("chance-not-reached", "warning", "At the largest budget the accuracy is above chance.",
                 {"accuracy": 0.21, "chance": 0.1}, "<script>alert(1)</script> / random search"),
        ),
        cost={"circuit_evaluations": 18_432_000, "peak_memory": "1.2 GB"},
        rerun="redqubit audit --config runs/digits/config.yaml --set pgd.eps=0.1 --out runs/digits-again --seeds 0 1 2",
        limits=("Only test samples of one data set were attacked.",),
    )  # fmt: skip


def store(folder: Path, results: list[Result]) -> None:
    by_cell: dict[str, list[Result]] = {}
    for result in results:
        by_cell.setdefault(result.cell, []).append(result)
    for cell in by_cell.values():
        append(folder / "results.jsonl", cell)


def synthetic_run(folder: Path) -> Path:
    """Write a run folder that has one of everything."""
    folder.mkdir(parents=True)
    store(folder, synthetic_results())
    save_summary(folder / "summary.json", synthetic_summary())
    (folder / "config.yaml").write_text("# experiment: audit\npgd:\n  eps: 0.1\nname: <b>&amp;\n")
    about = {"experiment": "audit", "started": "2025-01-01T12:00:00+00:00", "device": "cpu",
             "versions": {"redqubit": "0.1.0", "torch": "2.6"}}  # fmt: skip
    save_json(folder / "run.json", about)
    examples(folder)
    return folder
