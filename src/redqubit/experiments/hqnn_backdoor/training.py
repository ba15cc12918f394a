"""Train one model of the backdoor experiment, clean or poisoned, without a copy of the set for each trigger."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache
from pathlib import Path

import torch
from torch import Tensor, nn

from redqubit.backdoors import Backdoor, Poisoned
from redqubit.data import Dataset, as_rgb, find_weights, first_stratified, load_splits
from redqubit.errors import UsageError
from redqubit.experiments.hqnn_backdoor.config import HQNNBackdoor, Pictures
from redqubit.experiments.hqnn_backdoor.plan import Spec
from redqubit.models.base import FeatureClassifier
from redqubit.models.narrow import FromStage, Narrow, PooledFeatures, on_backbone, standardise
from redqubit.training import fine_tune

STREAMS = 1_000_003  # between seeds, so that no two models share a stream of random numbers by accident
STEP = 64  # pictures at a time: larger batches leave the cache of a core
SHIFT = 8  # a picture is moved by at most this part of its side


@dataclass(frozen=True, eq=False)
class Material:
    """What all models of a data set and backbone share.

    Attributes:
        train: Pictures of the clean training set.
        test: Test pictures.
        train_maps: What the trained part of the network reads of them: maps of the frozen stages, or the pictures.
        test_maps: The same for the test pictures.
        weights: File of published weights; None to start at random.
        pooled: Standardised features of the training pictures by the pretrained backbone, (N, d); None without one.
    """

    part: Pictures
    train: Dataset
    test: Dataset
    train_maps: Tensor
    test_maps: Tensor
    weights: Path | None
    pooled: Tensor | None
    mean: Tensor | None
    scale: Tensor | None


def find_pretrained(config: HQNNBackdoor, part: Pictures, backbone: str, data_dir: Path | None) -> Path | None:
    """Return the file of a backbone's published weights; None where it is to start at random.

    Raises:
        UsageError: when the weights are absent, which says how to do without.
    """
    if not (config.pretrained and part.pretrained):
        return None
    try:
        return find_weights(backbone, data_dir=data_dir)
    except UsageError as error:
        raise UsageError(f"{error} Or train from random weights: --set pretrained=false.") from None


def load(part: Pictures, data_dir: Path | None) -> tuple[Dataset, Dataset]:
    """Return training and test pictures of a set, of its size."""
    train, test = load_splits(part.name, data_dir=data_dir)
    train = first_stratified(train, part.n_train) if part.n_train else train
    test = first_stratified(test, part.n_test) if part.n_test else test
    return as_rgb(train, part.side), as_rgb(test, part.side)


@lru_cache(maxsize=1)
def material(
    config: HQNNBackdoor, part: Pictures, backbone: str, data_dir: Path | None, device: torch.device
) -> Material:
    """Return data, maps and fixed statistics; kept for the next model of the same data and backbone."""
    train, test = (replace(d, x=d.x.to(device), y=d.y.to(device)) for d in load(part, data_dir))
    weights = find_pretrained(config, part, backbone, data_dir)
    if weights is None:
        return Material(part, train, test, train.x, test.x, None, None, None, None)
    net = on_backbone(
        backbone, "twin", train.n_classes, weights=weights, generator=torch.Generator().manual_seed(config.seeds[0])
    ).to(device)
    standardise(net, train.x)
    late = FromStage(net, _first_stage(part, net, weights))
    late.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    maps = [in_batches(late.front, d.x) if part.first_stage else d.x for d in (train, test)]
    late.eval()
    pooled = in_batches(late.forward_features, maps[0])
    features = net.features
    assert isinstance(features, PooledFeatures)
    return Material(part, train, test, maps[0], maps[1], weights, pooled, features.mean, features.scale)


def build(config: HQNNBackdoor, spec: Spec, m: Material) -> tuple[Narrow, FromStage]:
    """Return an untrained model, and the part of it that reads maps."""
    generator = torch.Generator().manual_seed(spec.seed * STREAMS + 1)
    net = on_backbone(
        spec.backbone,
        spec.head,
        m.train.n_classes,
        n_qubits=config.n_qubits,
        depth=spec.depth or config.depth,
        weights=m.weights,
        generator=generator,
    ).to(m.train.x.device)
    if m.mean is not None and m.scale is not None:
        features = net.features
        assert isinstance(features, PooledFeatures)
        features.mean.copy_(m.mean)
        features.scale.copy_(m.scale)
    late = FromStage(net, _first_stage(m.part, net, m.weights))
    late.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # frozen stages: half the time on a CPU
    return net, late


def poison(spec: Spec, backdoor: Backdoor, m: Material) -> Poisoned:
    """Return the poisoned training set; models of one seed share the choice of pictures."""
    generator = torch.Generator().manual_seed(spec.seed * STREAMS + 2)
    return backdoor(m.train, generator=generator)


def train(config: HQNNBackdoor, spec: Spec, m: Material, poisoned: Poisoned | None) -> tuple[Narrow, FromStage]:
    """Return a trained model, and the part of it that reads maps; both in evaluation mode.

    With published weights the head is trained alone first, on features of the untouched backbone.
    """
    net, late = build(config, spec, m)
    n, part = len(m.train) if poisoned is None else len(poisoned), m.part
    generator = torch.Generator().manual_seed(spec.seed * STREAMS + 3)
    changed = None if poisoned is None else in_batches(late.front, poisoned.changed)
    if m.pooled is not None and part.warm_epochs:
        late.eval()
        features = None if changed is None else in_batches(late.forward_features, changed)
        fine_tune(
            OnFeatures(net),
            _batch(m.pooled, m.train.y, poisoned, features),
            n,
            [(_head(net), part.warm_lr)],
            epochs=part.warm_epochs,
            batch_size=64,
            generator=generator,
        )
    batch = _batch(m.train_maps, m.train.y, poisoned, changed)
    fine_tune(
        late,
        _augmented(batch, generator) if part.augment else batch,
        n,
        [(net.features.parameters(), part.lr), (_head(net), part.head_lr)],
        epochs=part.epochs,
        batch_size=part.batch_size,
        generator=generator,
    )
    return net.eval().requires_grad_(True), late


class OnFeatures(nn.Module):
    """The head of a model, which reads pooled features."""

    def __init__(self, model: FeatureClassifier) -> None:
        super().__init__()
        self.model = model

    def forward(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes) of features (B, d)."""
        return self.model.forward_head(features)


@torch.no_grad()
def in_batches(function: Callable[[Tensor], Tensor], x: Tensor) -> Tensor:
    """Return what a function makes of many samples, a batch at a time."""
    return torch.cat([function(part) for part in x.split(STEP)])


def _first_stage(part: Pictures, net: Narrow, weights: Path | None) -> str:
    """Return the first stage that is trained; all are where nothing was learnt before."""
    features = net.features
    assert isinstance(features, PooledFeatures)
    return part.first_stage if weights is not None and part.first_stage else next(iter(features.backbone.stages()))


def _head(net: Narrow) -> list[nn.Parameter]:
    inside = {id(p) for p in net.features.parameters()}
    return [p for p in net.parameters() if id(p) not in inside]


def _batch(
    x: Tensor, y: Tensor, poisoned: Poisoned | None, changed: Tensor | None
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return how to get samples by place: clean ones from `x`, those of the attacker from `changed`."""
    if poisoned is None or changed is None:
        return lambda places: (x[places.to(x.device)], y[places.to(x.device)])
    return lambda places: poisoned.batch(places.to(x.device), x, changed)


def _augmented(
    batch: Callable[[Tensor], tuple[Tensor, Tensor]], generator: torch.Generator
) -> Callable[[Tensor], tuple[Tensor, Tensor]]:
    """Return the same samples, each mirrored or not and shifted by up to an eighth of its side, edges repeated."""

    def get(places: Tensor) -> tuple[Tensor, Tensor]:
        x, y = batch(places)
        side = x.shape[-1]
        room = side // SHIFT
        mirrored = torch.rand(len(x), generator=generator) < 0.5
        x = torch.where(mirrored.to(x.device)[:, None, None, None], x.flip(3), x)
        top, left = torch.randint(2 * room + 1, (2, len(x)), generator=generator).to(x.device)
        at = torch.arange(side, device=x.device)
        rows = (at + top[:, None] - room).clamp(0, side - 1)
        columns = (at + left[:, None] - room).clamp(0, side - 1)
        samples = torch.arange(len(x), device=x.device)
        moved = x.permute(0, 2, 3, 1)[samples[:, None, None], rows[:, :, None], columns[:, None, :]]
        return moved.permute(0, 3, 1, 2).contiguous(), y

    return get
