"""The tables and figures of the Sim report."""

from redqubit.experiments.sim2019.config import ENTANGLERS, N_QUBITS, Sim2019
from redqubit.experiments.sim2019.published import PUBLISHED
from redqubit.experiments.sim2019.table import Table, score
from redqubit.quantum.ansatzes import sim
from redqubit.quantum.descriptors import haar_entangling_capability
from redqubit.result import Panel

EXPRESSIBILITY = "Expressibility"
ENTANGLING = "Entangling capability"
CIRCUITS = "Circuits"


def panels(config: Sim2019, table: Table) -> list[Panel]:
    """Return both descriptors beside the published values, and over layers."""
    layers = sorted(config.layers)
    known = [n for n in layers if any((c, n) in PUBLISHED for c in config.circuits)]
    out = [_expressibility(config, table, n) for n in known]
    out += _over_layers(config, "expressibility", EXPRESSIBILITY, "divergence from Haar, nats")
    out += [_entangling(config, table, n) for n in known]
    out += _over_layers(config, "entangling_capability", ENTANGLING, "mean Q")
    return [*out, *_drawings(config)]


def _expressibility(config: Sim2019, table: Table, layers: int) -> Panel:
    ranks = table.ranks(layers)
    rows = []
    for c, rank in ranks.items():
        ours, known = table.expressibility[c, layers], PUBLISHED[c, layers]
        rows.append(
            [
                c,
                ENTANGLERS[c],
                sim(c, N_QUBITS, layers).n_weights,
                str(ours),
                f"{known.expressibility:.4f}",
                _signed(score(ours, known.expressibility, table.floor.spread)),
                f"{known.simulated_expressibility:.4f}",
                "floor" if rank is None else rank,
            ]
        )
    return Panel(
        "facts",
        f"Expressibility with {_layers(layers)}",
        f"Divergence from Haar-random states in nats; 0 is best, {table.floor.mean:.4f} is what Haar-random states "
        f"themselves give. Ours: mean ± standard error over {config.repeats} repeats. Difference: published minus ours "
        "in standard errors, the published value taken for one more repeat. Simulated: mean of 10 repeats of a "
        "numpy simulation apart from this package. Rank: the least divergence first; neighbours whose values overlap "
        "may change places, and those at the floor, which cannot be told from Haar-random states, have no rank.",
        EXPRESSIBILITY,
        data={
            "columns": [
                "circuit",
                "entanglers",
                "parameters",
                "ours",
                "published",
                "difference",
                "simulated",
                "rank",
            ],
            "rows": rows,
        },
    )


def _entangling(config: Sim2019, table: Table, layers: int) -> Panel:
    rows = []
    for c in sorted(config.circuits):
        ours, known = table.entangling[c, layers], PUBLISHED[c, layers]
        published = known.entangling_capability
        rows.append(
            [
                c,
                ENTANGLERS[c],
                str(ours),
                f"{published:.4f}",
                _signed(published - ours.mean, 4),
                f"{published / ours.mean:.2f}" if ours.mean > 1e-6 else "–",
                f"{table.root[c, layers].mean:.4f}",
                f"{known.simulated_entangling_capability:.4f}",
            ]
        )
    return Panel(
        "facts",
        f"Entangling capability with {_layers(layers)}",
        f"Mean Meyer-Wallach measure Q, 0 to 1; Haar-random states have {haar_entangling_capability(N_QUBITS):.4f}. "
        f"Ours: mean ± standard error over {config.repeats} repeats of {config.n_states:,} states. Difference "
        "and ratio: of published to ours. Mean root: of the root of one qubit's linear entropy, another measure, as a "
        "control. Simulated: by a numpy simulation apart from this package.",
        ENTANGLING,
        data={
            "columns": [
                "circuit",
                "entanglers",
                "ours",
                "published",
                "difference",
                "ratio",
                "mean root",
                "simulated",
            ],
            "rows": rows,
        },
    )


def _over_layers(config: Sim2019, metric: str, section: str, y_label: str) -> list[Panel]:
    if len(config.layers) < 2:
        return []
    return [
        Panel(
            "curves",
            f"{section} over layers",
            "Each line is a circuit, named by its number.",
            section,
            metric,
            "layers",
            "layers",
            y_label,
            "circuit",
        )
    ]


def _drawings(config: Sim2019) -> list[Panel]:
    return [
        Panel(
            "pre",
            f"Circuit {c}: {'no entanglers' if ENTANGLERS[c] == 'none' else ENTANGLERS[c]}",
            f"One layer, {sim(c).n_weights} parameters.",
            CIRCUITS,
            data={"text": str(sim(c))},
        )
        for c in sorted(config.circuits)
    ]


def _signed(value: float, digits: int = 1) -> str:
    text = f"{value:+.{digits}f}".replace("-", "−")
    return text[1:] if float(f"{value:.{digits}f}") == 0 else text


def _layers(n: int) -> str:
    return f"{n} layer{'' if n == 1 else 's'}"
