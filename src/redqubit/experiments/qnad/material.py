"""The pictures of one seed, its network, and the same network on the device."""

import copy
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from redqubit.data import Dataset, load_splits, stratified_subset
from redqubit.errors import UsageError
from redqubit.experiments.base import Setting
from redqubit.experiments.qnad.config import Case, QNADStudy
from redqubit.experiments.qnad.plan import Level
from redqubit.models import MODELS, QuantumProducts, quantum_mac
from redqubit.storage.weights import load_weights, save_weights
from redqubit.training import cross_entropy, train

STREAMS = 1_000_003  # between seeds, so that no two of them share a stream of random numbers by accident
SAMPLES, MODEL, ORDER, DEVICE, CONTROL, ATTACK = range(1, 7)  # streams of a seed
CALIBRATION = 512  # validation pictures that calibrate the device, at most
SHIFT = 8  # training pictures are shifted by up to their side over this


def stream(seed: int, which: int) -> torch.Generator:
    """Return a generator of a seed; all networks on the device have the same one, and so are compared in pairs."""
    return torch.Generator().manual_seed(seed * STREAMS + which)


@dataclass(frozen=True, eq=False)
class Samples:
    """The pictures of one seed; no two sets share one.

    Attributes:
        train: For training.
        validation: Apart from training; chooses the level of crosstalk, and its first ones calibrate the device.
        test: Of the test split; attacked.
    """

    train: Dataset
    validation: Dataset
    test: Dataset

    @property
    def calibration(self) -> Dataset:
        """What the defender calibrates with."""
        return self.validation.subset(torch.arange(min(CALIBRATION, len(self.validation))))


def samples(case: Case, seed: int, setting: Setting) -> Samples:
    """Draw the pictures of a seed.

    Raises:
        UsageError: when the data are absent, or fewer than the case asks for.
    """
    every, test = _splits(case.source, setting.data_dir)
    needed = case.n_validation + max(1, case.n_train)
    if needed > len(every) or case.n_test > len(test):
        raise UsageError(
            f"Argument `cases` must ask for pictures that there are, but {case.name} asks for {needed:,} and "
            f"{case.n_test:,} of {len(every):,} and {len(test):,}: lower `n_train`, `n_validation` or `n_test`."
        )
    generator = stream(seed, SAMPLES)
    order = torch.randperm(len(every), generator=generator)
    end = case.n_validation + (case.n_train or len(every))
    parts = [
        every.subset(order[case.n_validation : end]),
        every.subset(order[: case.n_validation]),
        stratified_subset(test, case.n_test, generator=generator),
    ]
    return Samples(*(replace(part, x=part.x.to(setting.device), y=part.y.to(setting.device)) for part in parts))


@lru_cache(maxsize=2)
def _splits(source: str, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    return load_splits(source, data_dir=data_dir)


def network(case: Case, part: Samples, seed: int, setting: Setting) -> nn.Module:
    """Return the trained network of a seed, from the run's folder once it was trained.

    Raises:
        UsageError: when training fails, or the file is broken.
    """
    generator = stream(seed, MODEL)
    model = MODELS[case.model](tuple(part.train.x.shape[1:]), part.train.n_classes, generator=generator)
    path = setting.artifacts / "networks" / f"{case.name}-seed{seed}.safetensors"
    if path.exists():
        try:
            return load_weights(model, path).to(setting.device).eval()
        except UsageError as error:
            raise UsageError(f"{path} must hold the network of this run, but does not: delete it.") from error
    order = stream(seed, ORDER)
    model = train(
        model.to(setting.device),
        part.train.x,
        part.train.y,
        epochs=case.epochs,
        batch_size=case.batch_size,
        lr=case.lr,
        loss=(lambda m, x, y: cross_entropy(m, moved(x, order), y)) if case.augment else None,
        generator=order,
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    save_weights(model, path)
    return model


def moved(x: Tensor, generator: torch.Generator) -> Tensor:
    """Return pictures (B, C, H, W), each mirrored or not, all shifted by up to an eighth of a side, edges repeated."""
    mirrored = (torch.rand(len(x), generator=generator) < 0.5).to(x.device)
    x = torch.where(mirrored[:, None, None, None], x.flip(3), x)
    height, width = x.shape[2:]
    room = width // SHIFT
    top, left = torch.randint(2 * room + 1, (2,), generator=generator).tolist()
    padded = nn.functional.pad(x, (room,) * 4, mode="replicate")
    return padded[:, :, top : top + height, left : left + width]


def on_device(
    config: QNADStudy, net: nn.Module, clean: Dataset, level: Level, seed: int, *, shots: int | None
) -> nn.Module:
    """Return a network on the device at some level; without shots its deterministic part."""
    return quantum_mac(
        net,
        clean.x,
        calibration_y=clean.y,
        shots=shots,
        crosstalk=level.crosstalk(config.ratio),
        calibrate_offset=level.calibrated,
        generator=stream(seed, DEVICE),
    )


@torch.no_grad()
def contracted(net: nn.Module, noisy: nn.Module) -> nn.Module:
    """Return the network with all weights of each layer scaled alike, as the device scales them on the whole.

    The factor of a layer is <w', w> / <w, w> of its weights w and what the device makes of them.
    """
    out = copy.deepcopy(net)
    for name, part in noisy.named_modules():
        if isinstance(part, QuantumProducts):
            weight = out.get_submodule(name).get_parameter("weight")
            weight.mul_((part.kernel * weight).sum() / weight.square().sum())
    return out
