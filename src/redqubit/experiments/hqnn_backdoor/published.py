"""The published numbers, in percent unless said, and which of them the paper itself contradicts."""

from dataclasses import dataclass

SUCCESS = 80.0  # attack success rate, in percent, from which a backdoor counts as working


@dataclass(frozen=True)
class Cell:
    """One published model: accuracy with the backdoor on clean pictures, and attack success rate."""

    accuracy: float
    success: float
    note: str = ""  # why the number is in doubt


ZERO = "exactly 0.00, though some clean errors must fall on the target class"
REUSED = "the same two numbers stand in another row of Table 1 (patches: another model; Color: another trigger)"
SHIFTED = "above the same models' accuracies in Table 5, five of eight by exactly 3.00 or 4.00 points"

_TRIGGERS = ("patch:1", "patch:2", "patch:3", "patch:4", "blend:0.05", "blend:0.1", "blend:0.15", "blend:0.2")
_TABLE1 = {
    ("twin", "resnet18"): (
        95.24,
        (
            (93.63, 96.03),
            (94.93, 97.48),
            (94.19, 98.47),
            (94.24, 99.77),
            (93.78, 95.42),
            (93.78, 99.52),
            (92.34, 99.82),
            (91.78, 99.33),
        ),
    ),
    ("twin", "resnet50"): (
        96.27,
        (
            (94.3, 94.03),
            (94.39, 96.48),
            (94.89, 98.4),
            (95.24, 99.48),
            (94.34, 96.04),
            (93.78, 99.15),
            (93.78, 99.87),
            (93.78, 99.89),
        ),
    ),
    ("hybrid", "resnet18"): (
        93.83,
        (
            (93.08, 0.0),
            (93.11, 0.0),
            (88.02, 89.94),
            (87.24, 98.41),
            (93.68, 0.0),
            (93.45, 0.0),
            (92.56, 88.42),
            (91.12, 98.62),
        ),
    ),
    ("hybrid", "resnet50"): (
        93.57,
        (
            (93.91, 0.0),
            (93.91, 0.0),
            (93.02, 93.94),
            (91.24, 96.45),
            (93.68, 0.0),
            (90.22, 0.0),
            (90.05, 85.42),
            (88.02, 99.34),
        ),
    ),
}


def _cell(accuracy: float, success: float, note: str = "") -> Cell:
    return Cell(accuracy, success, note or (ZERO if success == 0 else ""))


# (head, backbone, trigger); the sides of patches are read as areas of 1, 4, 9 and 16 pixels
TABLE1 = {
    (*model, trigger): _cell(*pair)
    for model, (_, pairs) in _TABLE1.items()
    for trigger, pair in zip(_TRIGGERS, pairs, strict=True)
}
CLEAN_ACCURACY = {model: clean for model, (clean, _) in _TABLE1.items()}

# layer: number of weights and gradient norm, of the hybrid network and of its classical twin
TABLE2 = {
    "FC1": {"hybrid": (5120, 0.0175), "twin": (5120, 0.0063)},
    "FC2": {"hybrid": (60, 0.0184), "twin": (100, 0.0069)},
    "FC3": {"hybrid": (100, 0.039), "twin": (100, 0.0099)},
}
TABLE3: dict[str, dict[str, float]] = {
    "n_parameters": {"hybrid": 11_181_812, "twin": 11_181_862},
    "gradient_norm": {"hybrid": 19.0, "twin": 7.93},
    "mean_gradient": {"hybrid": -2.14e-06, "twin": -1.71e-06},
    "largest_gradient": {"hybrid": 0.13, "twin": 0.13},
    "smallest_gradient": {"hybrid": -0.17, "twin": -0.11},
}

# (data set, backbone): CA, clean ASR, BA, ASR of hybrid networks
TABLE4 = {
    ("imagenette", "resnet18"): (96.63, 0.0, 96.43, 0.0),
    ("imagenette", "resnet50"): (96.87, 0.0, 96.63, 0.0),
    ("cifar10", "resnet18"): (95.73, 0.0, 95.92, 0.0),
    ("cifar10", "resnet50"): (94.91, 0.0, 94.88, 0.0),
}
TABLE5 = {
    ("imagenette", "resnet18"): (93.83, 0.0, 93.43, 99.95),
    ("imagenette", "resnet50"): (93.57, 0.0, 92.66, 99.92),
    ("cifar10", "resnet18"): (92.73, 0.0, 92.92, 99.9),
    ("cifar10", "resnet50"): (90.91, 0.0, 90.88, 99.87),
    ("mnist", "resnet18"): (98.75, 0.0, 98.6, 99.85),
    ("mnist", "resnet50"): (98.5, 0.0, 98.35, 99.8),
}

RATES = (0.1, 0.04, 0.03, 0.02, 0.01)
_TABLE6 = {
    ("resnet18", "blend:0.15"): ((92.56, 88.42), (90.95, 0.0), (91.79, 0.0), (91.72, 0.0), (92.97, 0.0)),
    ("resnet18", "patch:3"): ((93.02, 93.94), (90.32, 0.0), (89.3, 0.0), (90.24, 0.0), (93.4, 0.0)),
    ("resnet18", "wanet"): ((93.57, 94.21), (86.08, 0.0), (90.42, 0.0), (90.44, 0.0), (91.23, 0.0)),
    ("resnet18", "color"): ((91.12, 98.62), (85.23, 88.23), (90.24, 82.93), (85.23, 0.0), (86.36, 0.0)),
    ("resnet18", "qcolor"): ((93.43, 99.43), (92.84, 99.85), (93.12, 99.72), (93.78, 99.77), (93.39, 98.75)),
    ("resnet50", "blend:0.15"): ((90.05, 85.42), (90.34, 0.0), (91.81, 0.0), (92.12, 0.0), (92.21, 0.0)),
    ("resnet50", "patch:3"): ((93.01, 93.93), (91.23, 0.0), (91.42, 0.0), (92.31, 0.0), (92.42, 0.0)),
    ("resnet50", "wanet"): ((93.17, 90.21), (91.23, 0.0), (90.64, 0.0), (92.43, 0.0), (92.32, 0.0)),
    ("resnet50", "color"): ((89.31, 96.42), (88.32, 88.14), (88.23, 74.23), (88.23, 0.0), (90.21, 0.0)),
    ("resnet50", "qcolor"): ((93.68, 98.43), (91.34, 97.32), (91.23, 98.24), (92.44, 95.34), (92.87, 94.53)),
}
# (backbone, trigger, poison rate)
TABLE6 = {
    (*which, rate): _cell(
        *pair,
        REUSED
        if (*which, rate)
        in {
            ("resnet18", "patch:3", 0.1),
            ("resnet18", "color", 0.1),
        }
        else "",
    )
    for which, pairs in _TABLE6.items()
    for rate, pair in zip(RATES, pairs, strict=True)
}

# layers of the circuit: CA, BA, ASR; the network is not named there
TABLE7 = {
    1: (90.27, 90.01, 99.97),
    2: (91.87, 91.21, 99.84),
    3: (91.97, 91.61, 99.94),
    4: (91.87, 92.11, 99.31),
    5: (92.99, 92.87, 99.03),
    6: (93.83, 93.01, 99.94),
}
# trigger: ASR, BA, SSIM of the hybrid ResNet-18
TABLE8 = {
    "patch:3": (93.93, 93.01, 99.9),
    "blend:0.15": (88.42, 92.56, 91.6),
    "wanet": (94.21, 93.57, 91.7),
    "color": (98.62, 91.12, 92.8),
    "qcolor": (99.94, 93.42, 99.9),
}
FOUR_VALUES = "one setting has ASR 99.95, 99.43 and 99.94 and BA 93.43, 93.01 and 93.42 in Tables 5 to 8"
IN_DOUBT = {"qcolor", "patch:3"}  # of Table 8: Qcolor for that reason; its patch is Table 6's hybrid ResNet-50
