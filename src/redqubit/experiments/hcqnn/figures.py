"""The figures of the paper."""

from redqubit.experiments.hcqnn.config import HCQNNStudy
from redqubit.experiments.hcqnn.networks import BEHIND, NONE, PLACED, static
from redqubit.experiments.hcqnn.plan import CLEAN, GREY, NOISY, WHITE, path
from redqubit.experiments.hcqnn.restored import AFTER, BEFORE
from redqubit.experiments.hcqnn.table import Table
from redqubit.experiments.seeds import seeds
from redqubit.result import Panel

ROWS = {NOISY: "Gaussian noise", GREY: "FGSM on the bare circuit", WHITE: "FGSM through the autoencoder"}


def by_radius(config: HCQNNStudy, table: Table, *, of_pictures: bool) -> list[Panel]:
    """Return curves of accuracy by the radius of FGSM."""
    out = []
    hardened = static(config.static_eps[-1])
    order = [
        path(NONE, WHITE),
        *(path(defense, attack) for defense in (PLACED, BEHIND) for attack in (GREY, WHITE)),
        *((path(hardened, attack) for attack in (GREY, WHITE)) if of_pictures else ()),
    ]
    for task in config.tasks:
        if task.is_picture is not of_pictures or not table.accuracy(task.name):
            continue
        section = "Table 2: pictures" if of_pictures else "Figure 4: Iris"
        out.append(
            Panel(
                "curves",
                f"{task.name}: accuracy by radius" + ("" if of_pictures else " (the paper's Figure 4)"),
                f"FGSM on {table.trials(task.name):,} test samples; {seeds(table.n_seeds(task.name))}, 95 % interval. "
                "Grey-box: made on the bare circuit. White-box: made on the network itself.",
                section,
                "accuracy",
                "eps",
                "radius of FGSM",
                "test accuracy",
                "path",
                where={"task": task.name, "network": "circuit", "path": order},
                data={"order": order, "chance": 1 / (len(task.classes) or 3)},
            )
        )
    return out


def figure5(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return training accuracy with and without the autoencoder."""
    return [
        Panel(
            "curves",
            f"{task.name}: training accuracy by epoch (the paper's Figure 5)",
            f"{task.n_train:,} pictures, circuit; {seeds(table.n_seeds(task.name))}, 95 % interval.",
            "Figure 5: training",
            "train_accuracy",
            "epoch",
            "epoch",
            "training accuracy",
            "defense",
            where={"task": task.name, "network": "circuit"},
            data={"order": [NONE, BEHIND]},
        )
        for task in config.tasks
        if table.by_seed("train_accuracy", task.name, network="circuit", defense=NONE)
    ]


def figure6(config: HCQNNStudy, table: Table) -> list[Panel]:
    """Return pictures before and after the autoencoder."""
    out = []
    for task in config.tasks:
        for r in table.by_seed("pictures_shown", task.name).values():
            said, true = r.config["said"], r.config["true"]

            def row(change: str, said: dict[str, list[int]] = said, true: list[int] = true) -> dict[str, object]:
                before, after = (f"{change}_{stage}".replace("-", "_") for stage in (BEFORE, AFTER))
                words = [f"true {t}: {a} → {b}" for t, a, b in zip(true, said[before], said[after], strict=True)]
                return {"label": ROWS.get(change, "clean"), "clean": before, "adv": after, "said": words}

            out.append(
                Panel(
                    "images",
                    f"{task.name}: pictures before and after the autoencoder (the paper's Figure 6)",
                    f"First test pictures of each class, seed {r.seed}; noise {task.noise:g}, FGSM of radius "
                    f"{task.shown_eps:g}. Below: the class, and what the bare circuit says before and after.",
                    "Figure 6: pictures",
                    data={
                        "pair": True,
                        "changed": "restored",
                        "file": r.config["file"],
                        "rows": [row(change) for change in (CLEAN, NOISY, GREY, WHITE)],
                    },
                )
            )
    return out
