"""The configuration of the Sim experiment, and how its circuits are built."""

from dataclasses import dataclass

SOURCE = "Sim, Johnson and Aspuru-Guzik, Adv. Quantum Technol. 2, 1900070 (2019), arXiv 1905.10876"
N_QUBITS = 4
# pairs that differ in the controlled gate alone, or in where the controlled gates sit
Z_AND_X = ((3, 4), (5, 6), (7, 8), (13, 14), (16, 17), (18, 19))
LINE_AND_RING = ((3, 18), (4, 19))
LINE_AND_ALL = ((3, 5), (4, 6))
ENTANGLERS = {
    1: "none",
    2: "CX, line",
    3: "CRZ, line",
    4: "CRX, line",
    5: "CRZ, all to all",
    6: "CRX, all to all",
    7: "CRZ, pairs",
    8: "CRX, pairs",
    9: "CZ, line",
    10: "CZ, ring",
    11: "CX, pairs",
    12: "CZ, pairs",
    13: "CRZ, two rings",
    14: "CRX, two rings",
    15: "CX, two rings",
    16: "CRZ, pairs",
    17: "CRX, pairs",
    18: "CRZ, ring",
    19: "CRX, ring",
}


@dataclass(frozen=True)
class Sim2019:
    """The configuration. Pairs of states (5000) and bins (75) are the paper's and not open."""

    circuits: tuple[int, ...] = tuple(range(1, 20))
    layers: tuple[int, ...] = (1, 2, 3, 4, 5)
    repeats: int = 10  # independent histograms of a circuit; the published values look like one
    n_states: int = 5000  # of each repeat of the entangling capability; open
    floor_repeats: int = 200  # histograms of Haar-random states
    seed: int = 0


PRESETS = {
    "smoke": Sim2019(circuits=(1, 3, 4, 6, 9, 10, 18), layers=(1, 3), repeats=3, n_states=2000, floor_repeats=50),
    "laptop": Sim2019(),
    "paper": Sim2019(repeats=50, floor_repeats=1000),
}
