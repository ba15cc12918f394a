"""Attacks made on the network itself, shown to it on the device at each level of crosstalk: what the paper did."""

from collections.abc import Mapping

from torch import Tensor, nn

from redqubit.adaptive import score
from redqubit.data import Dataset
from redqubit.experiments.base import Setting
from redqubit.experiments.qnad.config import INTRINSIC, Case, QNADStudy
from redqubit.experiments.qnad.material import ATTACK, network, on_device, samples, stream
from redqubit.experiments.qnad.plan import ATTACKS, NONE, ON_TEST, RAW, VALIDATED, Level, levels, published_attack
from redqubit.experiments.record import Record
from redqubit.result import Result

CLEAN = "clean"
Key = tuple[str, str, float]  # split, attack, radius
Hits = Mapping[Key, Tensor]  # what a network gets right, (K, N)


def sweep_name(case: Case, seed: int) -> str:
    """Return the name of a cell."""
    return f"sweep-{case.name}-seed{seed}"


def run_sweep(config: QNADStudy, case: Case, seed: int, setting: Setting) -> list[Result]:
    """Train the network of a seed, and measure it and its noisy copies under the published attacks."""
    part = samples(case, seed, setting)
    net = network(case, part, seed, setting)
    record = Record("qnad", sweep_name(case, seed), {"case": case.name})
    record.value("n_classes", part.test.n_classes, seed)
    splits = {"test": part.test, "validation": part.validation}
    shown = {
        (split, attack, eps): (_made(net, attack, eps, pictures, seed), pictures.y)
        for split, pictures in splits.items()
        for attack in ATTACKS
        for eps in case.eps
    }
    shown["test", CLEAN, 0.0] = part.test.x, part.test.y

    def hits(model: nn.Module) -> dict[Key, Tensor]:
        return {key: score(model, x, y, draws=config.draws).correct for key, (x, y) in shown.items()}

    def on(level: Level) -> dict[Key, Tensor]:
        return hits(on_device(config, net, part.calibration, level, seed, shots=config.shots))

    of_defense: dict[str, Hits] = {NONE: hits(net), INTRINSIC: on(Level()), RAW: on(Level(calibrated=False))}
    of_level: dict[Level, Hits] = {level: on(level) for level in levels(config)}
    for pairs in config.pairs:
        _keep_level(record, Level(0.0, pairs), of_defense[INTRINSIC], seed)
    for level, found in of_level.items():
        _keep_level(record, level, found, seed)
    for attack in ATTACKS:
        for eps in case.eps:
            for defense, split in ((VALIDATED, "validation"), (ON_TEST, "test")):
                level = best(of_level, (split, attack, eps))
                of_defense[defense] = of_level[level]
                where = {"defense": defense, "attack": attack, "eps": eps}
                record.value("chosen_fraction", level.fraction, seed, **where)
                record.value("chosen_pairs", level.pairs, seed, **where)
            _keep(record, of_defense, attack, eps, seed)
    return record.results


def best(of_level: Mapping[Level, Hits], key: Key) -> Level:
    """Return the level with the highest accuracy; of equal ones the first, which disturbs least."""
    return max(of_level, key=lambda level: float(of_level[level][key].double().mean()))


def _made(net: nn.Module, attack: str, eps: float, pictures: Dataset, seed: int) -> Tensor:
    return published_attack(attack, eps)(net, pictures.x, pictures.y, generator=stream(seed, ATTACK))


def _keep_level(record: Record, level: Level, found: Hits, seed: int) -> None:
    for (split, attack, eps), correct in found.items():
        where = {"split": split, "attack": attack, "eps": eps, "fraction": level.fraction, "pairs": level.pairs}
        record.draws("level_accuracy", correct, seed, **where)


def _keep(record: Record, of_defense: Mapping[str, Hits], attack: str, eps: float, seed: int) -> None:
    """Keep what each defense leaves of clean and attacked test pictures, and the gain as the paper counts it."""
    bare = float(of_defense[NONE]["test", attack, eps].double().mean())
    for defense, found in of_defense.items():
        where = {"defense": defense, "attack": attack, "eps": eps}
        attacked = found["test", attack, eps]
        record.draws("clean_accuracy", found["test", CLEAN, 0.0], seed, **where)
        record.draws("accuracy", attacked, seed, **where)
        if defense != NONE and bare > 0:  # else the quotient does not exist
            record.value("relative_gain", (float(attacked.double().mean()) - bare) / bare, seed, **where)
