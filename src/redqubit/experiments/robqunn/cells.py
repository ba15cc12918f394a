"""The work of the RobQuNN experiment: train, attack and record the models of one draw."""

import math
from collections.abc import Mapping
from dataclasses import replace
from functools import lru_cache, partial
from pathlib import Path

import torch
from torch import Tensor, nn

from redqubit.data import Dataset, first_stratified, load_splits
from redqubit.errors import UsageError
from redqubit.evasion import FGSM, MIM, PGD, EvasionAttack, RandomNoise, Square
from redqubit.experiments.base import Setting
from redqubit.experiments.robqunn.config import ENTANGLED, QUANTUM, RobQuNN
from redqubit.metrics import accuracy, is_correct
from redqubit.models import CosineTwin, FeatureClassifier, QuNN, TwinCNN
from redqubit.quantum import ansatzes, encodings
from redqubit.result import Result
from redqubit.runner import Cell
from redqubit.sanity import input_gradient_statistics
from redqubit.statistics import Proportion
from redqubit.training import logits, train, train_heads

TUTORIAL = (3.44830, 4.49367, 3.78727, 3.42360)  # angles of PennyLane's random layer, seed 42


def cells(config: RobQuNN, setting: Setting) -> list[Cell]:
    """Return one cell per draw: all models of a draw are trained and attacked together, so that they pair up."""
    check(config, load(config, setting.data_dir)[0])
    run = partial(run_draw, config, setting.data_dir)
    return [Cell(f"draw-{draw:03d}", partial(run, draw, setting.device)) for draw in range(config.draws)]


def check(config: RobQuNN, data: Dataset) -> None:
    """Raise a `UsageError` for what would break a draw, or the comparison of draws, after hours of work."""
    if data.x.shape[1:2] != (1,) or data.x.ndim != 4:
        shape = tuple(data.x.shape[1:])
        raise UsageError(f"Argument `data` must have grey images, but those of {config.data} are {shape}: use mnist.")
    if config.draws < 2:
        raise UsageError(f"Argument `draws` must be 2 or more, but is {config.draws}: comparisons pair over draws.")
    for name in ("epochs", "batch_size", "trained_batch_size", "lr", "n_iterative", "n_square"):
        if not getattr(config, name) > 0:
            raise UsageError(f"Argument `{name}` must be above 0, but is {getattr(config, name)}.")
    for name in ("eps", "iterative_eps"):
        grid = getattr(config, name)
        if not grid or min(grid) <= 0 or len(set(grid)) < len(grid):
            raise UsageError(f"Argument `{name}` must hold different radii above 0, but is {list(grid)}.")
    if config.probe_eps not in config.eps:
        raise UsageError(
            f"Argument `probe_eps` must be one of `eps` {list(config.eps)}, but is {config.probe_eps}: add it there."
        )
    attacks(config)
    for eps in config.eps:
        FGSM(eps)  # refuses NaN and infinity


@lru_cache(maxsize=1)
def load(config: RobQuNN, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    """Return the first training and test samples of each class."""
    train_set, test_set = load_splits(config.data, data_dir=data_dir)
    return first_stratified(train_set, config.n_train), first_stratified(test_set, config.n_test)


def run_draw(config: RobQuNN, data_dir: Path | None, draw: int, device: torch.device) -> list[Result]:
    """Train and attack the models of one draw of the random angles and kernels."""
    train_set, test_set = (replace(part, x=part.x.to(device), y=part.y.to(device)) for part in load(config, data_dir))
    generator = torch.Generator().manual_seed(config.seed + 1_000_003 * (draw + 1))
    angles = torch.rand(4, 3, generator=generator, dtype=torch.float64) * (2 * math.pi)
    record = _Record(draw)
    for dtype, difference in order_differences(angles, train_set.x[:200].cpu(), config.phi).items():
        record.value("feature_difference", difference, order="as_written", dtype=dtype)
    models = build(config, train_set, draw, angles.float(), generator)
    for name, model in models.items():
        record.model(config, name, model, test_set, generator)
    record.fgsm(config, models, test_set, generator)
    return record.results


def order_differences(angles: Tensor, x: Tensor, phi: float) -> dict[str, float]:
    """Return, by type, the largest difference of the features of the four entangled circuits as written.

    Raises:
        AssertionError: when they differ by more than rounding: the printed order then would matter after all.
    """
    out = {}
    for dtype, tolerance in ((torch.float32, 1e-6), (torch.float64, 1e-12)):
        maps = []
        for kind in ENTANGLED:
            circuit = encodings.angle(4) + ansatzes.robqunn(kind, order="as_written", phi=phi)
            net = QuNN(x.shape[1:], 2, circuit, weights=angles.flatten(), generator=torch.Generator())
            with torch.no_grad():
                maps.append(net.to(dtype).forward_features(x.to(dtype)))
        difference = max(float((m - maps[0]).abs().max()) for m in maps)
        assert difference <= tolerance, f"as written, the circuits differ by {difference} in {dtype}"
        out[str(dtype).removeprefix("torch.")] = difference
    return out


def build(
    config: RobQuNN, data: Dataset, draw: int, angles: Tensor, generator: torch.Generator
) -> dict[str, FeatureClassifier]:
    """Return the trained models of a draw: five quantum filters, their classical twins."""
    shape, c = data.x.shape[1:], data.n_classes
    models: dict[str, FeatureClassifier] = {}
    for kind in ENTANGLED:
        circuit = encodings.angle(4) + ansatzes.robqunn(kind, order="zz_first", phi=config.phi)
        models[kind] = QuNN(shape, c, circuit, weights=angles.flatten(), generator=generator)
    random_angles = torch.rand(4, generator=generator) * (2 * math.pi)
    random_weights = torch.tensor(TUTORIAL) if draw == 0 else random_angles
    random_circuit = encodings.angle(4) + ansatzes.robqunn("random")
    models["random"] = QuNN(shape, c, random_circuit, weights=random_weights, generator=generator)
    models["CNN frozen"] = TwinCNN(shape, c, generator=generator)
    models["CNN cosine"] = TwinCNN(shape, c, activation="cosine", generator=generator)
    for model in models.values():
        model.to(data.x.device)
    with torch.no_grad():
        features = torch.stack([torch.cat([m.forward_features(b) for b in data.x.split(256)]) for m in models.values()])
    twin = CosineTwin(shape, c, angles=angles, generator=generator).to(data.x.device)
    gap = float((twin.forward_features(data.x[:200]) - features[0, :200]).abs().max())
    assert gap < 1e-5, f"the cosine formula and the circuit without entanglement differ by {gap}"
    weight, bias = train_heads(
        features,
        data.y,
        c,
        epochs=config.epochs,
        batch_size=config.batch_size,
        lr=config.lr,
        generator=generator,
    )
    for model, w, b in zip(models.values(), weight, bias, strict=True):
        head = model.get_submodule("head")
        head.load_state_dict({"weight": w, "bias": b})
    models["CNN trained"] = TwinCNN(shape, c, trainable=True, generator=generator).to(data.x.device)
    train(
        models["CNN trained"],
        data.x,
        data.y,
        epochs=config.epochs,
        batch_size=config.trained_batch_size,
        lr=config.lr,
        generator=generator,
    )
    return models


class _Record:
    """The results of one draw, as they come."""

    def __init__(self, draw: int) -> None:
        self.draw = draw
        self.results: list[Result] = []

    def value(self, metric: str, value: float, **config: object) -> None:
        self.results.append(
            Result("robqunn", f"draw-{self.draw:03d}", metric, value, {"draw": self.draw, **config}, seed=self.draw)
        )

    def share(self, metric: str, p: Proportion, **config: object) -> None:
        self.results.append(
            Result(
                "robqunn",
                f"draw-{self.draw:03d}",
                metric,
                p.value,
                {"draw": self.draw, **config},
                p.low,
                p.high,
                p.k,
                p.n,
                seed=self.draw,
            )
        )

    def model(self, config: RobQuNN, name: str, model: nn.Module, data: Dataset, generator: torch.Generator) -> None:
        """Attack one model in every way of the config but FGSM."""
        who, n = about(name), config.n_iterative
        clean = is_correct(logits(model, data.x), data.y)
        self.share("accuracy", accuracy(clean), **who)
        statistics = input_gradient_statistics(model, data.x[:n], data.y[:n])
        self.value("zero_gradient_entries", statistics.zero_entries, **who)
        self.value("median_gradient", statistics.median_magnitude, **who)
        # the curves start at the clean accuracy of the samples that they use
        for label in ("fgsm", "pgd", "mim", "pgd_random_start"):
            start = clean if label == "fgsm" else clean[:n]
            self.share("robust_accuracy", accuracy(start), attack=label, eps=0.0, **who)
        for label, attack, count in attacks(config):
            x, y = data.x[:count], data.y[:count]
            correct = is_correct(logits(model, attack(model, x, y, generator=generator, batch_size=64)), y)
            self.share("robust_accuracy", accuracy(correct), attack=label, eps=attack.eps, **who)

    def fgsm(self, config: RobQuNN, models: Mapping[str, nn.Module], data: Dataset, generator: torch.Generator) -> None:
        """Attack every model by FGSM, and show the examples across: CNN to quantum (3d), quantum to CNN (3e)."""
        cnn = "CNN frozen"
        quantum = [name for name in models if about(name)["family"] == "quantum"]
        clean = {name: is_correct(logits(model, data.x), data.y) for name, model in models.items()}
        for eps in config.eps:
            examples = {
                name: FGSM(eps)(model, data.x, data.y, generator=generator, batch_size=64)
                for name, model in models.items()
            }
            for name, model in models.items():
                correct = is_correct(logits(model, examples[name]), data.y)
                self.share("robust_accuracy", accuracy(correct), attack="fgsm", eps=eps, **about(name))
            for name in quantum:
                both = clean[name] & clean[cnn]
                for direction, source, target in (("to_quantum", cnn, name), ("to_classical", name, cnn)):
                    correct = is_correct(logits(models[target], examples[source]), data.y)
                    where = {"direction": direction, "eps": eps, **about(name)}
                    self.share("transfer_accuracy", accuracy(correct), **where)
                    self.share("transfer_accuracy_both_correct", accuracy(correct[both]), **where)
        n, eps = config.n_iterative, config.probe_eps
        x, y = data.x[:n], data.y[:n]
        x_adv = PGD(eps, steps=config.pgd_steps)(models[cnn], x, y, generator=generator, batch_size=64)
        for name in quantum:
            correct = is_correct(logits(models[name], x_adv), y)
            self.share("robust_accuracy", accuracy(correct), attack="pgd_from_cnn", eps=eps, **about(name))


def about(name: str) -> dict[str, object]:
    """Return what every result of a model says of it."""
    quantum = name in QUANTUM
    return {"model": name, "family": "quantum" if quantum else "classical"}


def attacks(config: RobQuNN) -> list[tuple[str, EvasionAttack, int | None]]:
    """Return (label, attack, number of samples) of every iterative attack and control."""
    n, probe = config.n_iterative, config.probe_eps
    out: list[tuple[str, EvasionAttack, int | None]] = []
    for eps in config.iterative_eps:
        out += [
            ("pgd", PGD(eps, steps=config.pgd_steps, random_start=False), n),
            ("pgd_random_start", PGD(eps, steps=config.pgd_steps), n),
            ("mim", MIM(eps), n),
        ]
    out += [
        ("random_noise", RandomNoise(probe), None),
        ("fgsm_softmax", FGSM(probe, attack_on="softmax_output"), None),
        ("pgd_absolute_step", PGD.paper(probe), n),
        ("square", Square(probe, queries=config.square_queries), config.n_square),
        ("pgd_square_samples", PGD(probe, steps=config.pgd_steps, random_start=False), config.n_square),
    ]
    return out
