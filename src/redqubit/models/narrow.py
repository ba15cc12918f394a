"""HQResNets and their twins: a backbone, fixed standardisation of its features, and a narrow head."""

from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

import torch
from torch import Tensor, nn

from redqubit.errors import UsageError
from redqubit.models.backbones import BACKBONES, Backbone, check_pictures, load_pretrained
from redqubit.models.base import MODELS, FeatureClassifier, evaluating
from redqubit.models.hybrid import Bottleneck, HybridNet, HybridTwin
from redqubit.registry import Registry, unknown

Narrow = HybridNet | HybridTwin | Bottleneck


class Head(Protocol):
    """Puts a head of n units over an extractor of d features, for C classes."""

    def __call__(
        self, features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator
    ) -> Narrow: ...


HEADS: Registry[Head] = Registry("head", "redqubit.models")


@HEADS.register("hybrid")
def _hybrid(
    features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator
) -> HybridNet:
    """Linear, tanh, dressed circuit, Linear."""
    return HybridNet(features, d, n_classes, n_qubits=n, depth=depth, generator=generator)


@HEADS.register("prodsin")
def _prodsin(
    features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator
) -> HybridNet:
    """The same circuit with all weights 0 and frozen: a classical product of sines."""
    weights = torch.zeros(n * depth)
    return HybridNet(
        features, d, n_classes, n_qubits=n, depth=depth, weights=weights, trainable=False, generator=generator
    )


@HEADS.register("twin")
def _twin(features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator) -> HybridTwin:
    """Linear, tanh, Linear, Linear: the classical network of the paper's tables, whatever the depth."""
    return HybridTwin(features, d, n_classes, width=n, generator=generator)


@HEADS.register("twin_linear")
def _linear(
    features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator
) -> HybridTwin:
    """The same three linear maps with nothing between them."""
    return HybridTwin(features, d, n_classes, width=n, activation="none", generator=generator)


@HEADS.register("tanh")
def _tanh(features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator) -> Bottleneck:
    """Linear, tanh, Linear: narrow and squashed."""
    return Bottleneck(features, d, n_classes, width=n, generator=generator)


@HEADS.register("sine")
def _sine(features: nn.Module, d: int, n_classes: int, *, n: int, depth: int, generator: torch.Generator) -> Bottleneck:
    """Linear, sin(pi/2 tanh), Linear: narrow, squashed and periodic."""
    return Bottleneck(features, d, n_classes, width=n, activation="sine", generator=generator)


class PooledFeatures(nn.Module):
    """A backbone's pooled features (B, d), standardised: (features - mean) / scale per feature.

    Mean 0 and scale 1 change nothing until `standardise` sets them. They are constants, part of the state dict.

    Args:
        backbone: A backbone without a head.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, backbone: Backbone) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("mean", torch.zeros(backbone.n_features))
        self.register_buffer("scale", torch.ones(backbone.n_features))

    def scaled(self, pooled: Tensor) -> Tensor:
        """Return standardised features of pooled ones."""
        return (pooled - self.mean) / self.scale

    def forward(self, x: Tensor) -> Tensor:
        """Return standardised features (B, d) of pictures in [0, 1]."""
        return self.scaled(self.backbone(x))


def on_backbone(
    backbone: str,
    head: str,
    n_classes: int,
    *,
    n_qubits: int = 10,
    depth: int = 6,
    weights: Path | None = None,
    generator: torch.Generator,
) -> Narrow:
    """Return pictures -> backbone -> fixed standardisation -> Linear(d, n) -> what the head is -> logits.

    Models of one backbone and seed start from the same backbone and, but for the width, the same first linear map.

    Args:
        backbone: A name in `BACKBONES`, such as "resnet18", "resnet50" or "squeezenet1_0".
        head: A name in `HEADS`: "hybrid", a dressed circuit; "twin", the paper's classical network; "twin_linear", the
            same with no activation; "tanh" and "sine", one narrow layer; "prodsin", the circuit with weights 0.
        n_classes: Number of classes C.
        n_qubits: Number of qubits n, or units of a classical head; the paper has 10.
        depth: Layers of the circuit, 1 or more; the paper has 6, and 1 to 6 in its Table 7.
        weights: File of published weights for the backbone, see `redqubit.models.backbones.load_pretrained`; training
            starts from random ones when None.
        generator: Source of the initial weights.

    Raises:
        UsageError: for unknown names, sizes below 1, or weights that cannot be read or do not fit.

    Example:
        >>> net = on_backbone("resnet18", "hybrid", 10, generator=torch.Generator().manual_seed(0))
        >>> sum(p.numel() for p in net.parameters())
        11181812

    Reference: Guo et al., "Backdoor attacks against hybrid classical-quantum neural networks", section 6 and Tables
        2, 3 and 7. Differs: what stands between the classical network's linear layers is not stated there; here it
        is a tanh after the first, as in the hybrid one.
    """
    for name, size in (("n_qubits", n_qubits), ("depth", depth), ("n_classes", n_classes)):
        if size < 1:
            raise UsageError(f"Argument `{name}` must be 1 or more, but is {size}: name another.")
    build = HEADS[head]
    extractor = BACKBONES[backbone](generator=generator)
    if weights is not None:
        load_pretrained(extractor, weights)
    features = PooledFeatures(extractor)
    return build(features, extractor.n_features, n_classes, n=n_qubits, depth=depth, generator=generator)


def _pooled(model: nn.Module) -> PooledFeatures:
    features = getattr(model, "features", None)
    if not isinstance(features, PooledFeatures):
        raise UsageError(
            f"Argument `model` must be a head on a backbone, but is {type(model).__name__}: make it by `on_backbone`."
        )
    return features


@torch.no_grad()
def standardise(model: nn.Module, x: Tensor, *, batch_size: int = 256) -> None:
    """Fix the standardisation of a model's features by the mean and sd of each over clean pictures, in place.

    Features that never vary keep scale 1.

    Args:
        model: What `on_backbone` returned, with its pretrained backbone.
        x: Pictures of the clean training set, in [0, 1], (N, C, H, W); never the test set.
        batch_size: Pictures at a time; the result does not depend on it.

    Raises:
        UsageError: when the model is none of `on_backbone`.
    """
    features = _pooled(model)
    total = square = torch.zeros(features.backbone.n_features, dtype=torch.float64, device=x.device)
    with evaluating(features):
        for batch in x.split(batch_size):
            pooled = features.backbone(batch).double()
            total, square = total + pooled.sum(0), square + pooled.square().sum(0)
    mean = total / len(x)
    sd = (square / len(x) - mean.square()).clamp(min=0).sqrt()
    features.mean.copy_(mean)
    features.scale.copy_(torch.where(sd > 1e-6 * mean.abs().clamp(min=1e-6), sd, 1.0))


@torch.no_grad()
def saturation(model: Narrow, x: Tensor, *, at: float = 0.99, batch_size: int = 256) -> float:
    """Return the share of units, over pictures, whose |tanh| exceeds `at`.

    A saturated unit passes hardly any gradient: where more than half are, training fails or starts by luck, and
    `standardise` is what helps.

    Args:
        model: A head with a tanh after its first linear map; one without ("twin_linear") has share 0.
        x: Inputs in [0, 1], (N, ...).
        at: What counts as saturated; at 0.99 the slope of tanh is 0.02.
        batch_size: Inputs at a time.

    Returns:
        A share in [0, 1].
    """
    if isinstance(model, HybridTwin) and model.activation == "none":
        return 0.0
    with evaluating(model):
        z = torch.cat([model.down(model.forward_features(batch)) for batch in x.split(batch_size)])
    return float((torch.tanh(z).abs() > at).double().mean())


class FromStage(FeatureClassifier):
    """A model that starts at a stage of its backbone, from maps that `front` made once.

    The stages before are frozen, so that their maps stay true; the rest is the model itself, trained in place.

    Args:
        model: What `on_backbone` returned, or a backbone.
        stage: The first stage to train, a name in `Backbone.stages()` such as "layer4" or "features.7".

    Raises:
        UsageError: for a model without a backbone or an unknown stage.

    Example:
        >>> net = on_backbone("resnet18", "twin", 10, generator=torch.Generator().manual_seed(0))
        >>> late = FromStage(net, "layer4")
        >>> maps = late.front(torch.rand(2, 3, 32, 32))
        >>> maps.shape, late(maps).shape
        (torch.Size([2, 256, 2, 2]), torch.Size([2, 10]))
    """

    def __init__(self, model: FeatureClassifier, stage: str) -> None:
        super().__init__()
        self.model = model
        stages = self._backbone.stages()
        if stage not in stages:
            raise unknown("stage", stage, stages)
        self.stage = stage
        self.front.requires_grad_(False)

    @property
    def _backbone(self) -> Backbone:
        return self.model if isinstance(self.model, Backbone) else _pooled(self.model).backbone

    def _cut(self) -> tuple[list[nn.Module], list[nn.Module]]:
        stages = self._backbone.stages()
        place = list(stages).index(self.stage)
        return list(stages.values())[:place], list(stages.values())[place:]

    @property
    def front(self) -> nn.Sequential:
        """The stages before, put in evaluation mode: pictures in [0, 1] to maps."""
        return nn.Sequential(*self._cut()[0]).eval()

    def forward_features(self, x: Tensor) -> Tensor:
        """Return what the head reads, of maps."""
        rest = self._cut()[1]
        if self.model is self._backbone:
            rest = rest[:-1]
        for module in rest:
            x = module(x)
        return x if self.model is self._backbone else _pooled(self.model).scaled(x)

    def forward_head(self, features: Tensor) -> Tensor:
        """Return logits (B, n_classes)."""
        return self.model.forward_head(features)


def _named(
    backbone: str, head: str, input_shape: Sequence[int], n_classes: int, generator: torch.Generator
) -> FeatureClassifier:
    check_pictures(input_shape, 1)
    return on_backbone(backbone, head, n_classes, generator=generator)


@MODELS.register("hqresnet18")
def hqresnet18(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> FeatureClassifier:
    """Return a ResNet-18 under a dressed circuit on 10 qubits, 6 layers, untrained."""
    return _named("resnet18", "hybrid", input_shape, n_classes, generator)


@MODELS.register("hqresnet18_twin")
def hqresnet18_twin(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> FeatureClassifier:
    """Return the classical twin of `hqresnet18`."""
    return _named("resnet18", "twin", input_shape, n_classes, generator)


@MODELS.register("hqresnet50")
def hqresnet50(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> FeatureClassifier:
    """Return a ResNet-50 under a dressed circuit on 10 qubits, 6 layers, untrained."""
    return _named("resnet50", "hybrid", input_shape, n_classes, generator)


@MODELS.register("hqresnet50_twin")
def hqresnet50_twin(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> FeatureClassifier:
    """Return the classical twin of `hqresnet50`."""
    return _named("resnet50", "twin", input_shape, n_classes, generator)
