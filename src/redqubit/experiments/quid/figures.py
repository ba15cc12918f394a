"""The figures of the paper, and what the autoencoders make of pictures."""

from redqubit.experiments.quid.cells import CURVES
from redqubit.experiments.quid.config import QUIDStudy
from redqubit.experiments.quid.encoders import CONTROL
from redqubit.experiments.quid.plan import EXACT
from redqubit.experiments.quid.table import Table
from redqubit.experiments.quid.tables import table2
from redqubit.experiments.seeds import seeds
from redqubit.result import Panel


def figures(config: QUIDStudy, table: Table) -> list[Panel]:
    """Return Figures 3 to 5."""
    if config.large is None:
        return []
    task, of = config.large, seeds(len(config.seeds))
    n = len(task.classes) * task.per_class
    out = table2(config, table, [task], "Figure 3: distances with ten classes")
    if any(r.metric == "label_agreement" and "p" in r.config for r in table.results):
        out.append(
            Panel(
                "curves",
                "Angle and amplitude encoding under noise (the paper's Figure 4)",
                f"{task.name}, {n:,} samples of {config.d_large} latents; {config.d_large // 4} qubits with four "
                f"angles each, {(config.d_large - 1).bit_length()} with amplitudes; Frobenius distance; {of}, 95 % "
                "interval. One gate: each channel once on each wire. Decomposed: after each of the rotations and CX "
                f"that prepare the amplitudes. {CONTROL}: without a circuit.",
                "Figure 4: encodings",
                "label_agreement",
                "p",
                "strength p of each channel",
                "labels suggested rightly",
                "encoder",
                where={"task": task.name},
                data={
                    "order": ["angle", "amplitude, one gate", "amplitude, decomposed", CONTROL],
                    "unit": "%",
                    "chance": 1 / len(task.classes),
                },
            )
        )
    if any("epoch" in r.config for r in table.results):
        section = f"Figure 5: {config.d_large // 2} qubits"
        where = {"task": task.name, "regime": EXACT, "poison": list(CURVES)}
        caption = (
            f"{task.name}, {n:,} samples, {config.d_large // 2} qubits, circuit {config.pqcs[0]} with "
            f"{config.large_layers} layers, no noise, ratio {config.ratio:g}; {of}, 95 % interval."
        )
        for metric, label, title in (
            ("accuracy", "test accuracy", "Accuracy by epoch (the paper's Figure 5)"),
            ("test_loss", "test loss, nats", "Loss by epoch (the paper's Figure 5)"),
        ):
            data: dict[str, object] = {"order": list(CURVES)}
            if metric == "accuracy":
                data["chance"] = 1 / len(task.classes)
            out.append(
                Panel(
                    "curves", title, caption, section, metric, "epoch", "epoch", label, "poison", where=where, data=data
                )
            )
    return out


def autoencoders(config: QUIDStudy, table: Table) -> list[Panel]:
    """Return where the latents come from."""
    rows = []
    for task in (*config.tasks, *([] if config.large is None else [config.large])):
        for d in dict.fromkeys((config.d, config.d_large)):
            found = {r.metric: r.value for r in table.results if r.cell == f"autoencoder-{task.name}-{d}"}
            if found:
                classes = ", ".join(map(str, task.classes)) if len(task.classes) < 10 else f"{len(task.classes)}"
                rows.append(
                    [
                        task.name,
                        task.source,
                        classes,
                        task.per_class,
                        f"{found['n_pool']:,.0f}",
                        d,
                        f"{found['n_shown']:,.0f}",
                        f"{found['pixel_error']:.4f}",
                    ]
                )
    if not rows:
        return []
    columns = ["task", "data", "classes", "a class", "drawn from", "latents", "pictures for training"]
    return [
        Panel(
            "facts",
            "Tasks and their autoencoders",
            "Each seed draws equally many samples of a class, and splits them. The autoencoder is trained once, "
            "without labels, on pictures that no seed draws; the error, mean squared over pixels in [0, 1], is that "
            "of the pictures that seeds draw from. Classes are numbers of the data set, from 0.",
            "Samples",
            data={"columns": [*columns, "error"], "rows": rows},
        )
    ]
