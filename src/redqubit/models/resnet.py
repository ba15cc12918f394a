"""Residual networks with 18 and 50 layers, with torchvision's parameter names."""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from redqubit.models.backbones import BACKBONES, Backbone, PicturesIn, check_pictures
from redqubit.models.base import MODELS
from redqubit.models.initial import convolution, linear


class _Block(nn.Module):
    """What both kinds of block share: x -> ReLU(residual(x) + shortcut(x))."""

    expansion = 1

    def __init__(self, n_in: int, n_out: int, stride: int, generator: torch.Generator) -> None:
        super().__init__()
        self.relu = nn.ReLU()
        self.downsample: nn.Sequential | None = None
        if stride != 1 or n_in != n_out:
            conv = convolution(n_in, n_out, 1, stride=stride, bias=False, generator=generator)
            self.downsample = nn.Sequential(conv, nn.BatchNorm2d(n_out))

    def residual(self, x: Tensor) -> Tensor:
        raise NotImplementedError

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.relu(self.residual(x) + (x if self.downsample is None else self.downsample(x)))
        return out


class BasicBlock(_Block):
    """Two 3 x 3 convolutions; the first has the stride."""

    def __init__(self, n_in: int, width: int, stride: int, generator: torch.Generator) -> None:
        super().__init__(n_in, width, stride, generator)
        self.conv1 = convolution(n_in, width, 3, stride=stride, padding=1, bias=False, generator=generator)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, padding=1, bias=False, generator=generator)
        self.bn2 = nn.BatchNorm2d(width)

    def residual(self, x: Tensor) -> Tensor:
        """Return what is added to the shortcut."""
        out: Tensor = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        return out


class BottleneckBlock(_Block):
    """1 x 1, 3 x 3 and 1 x 1 convolutions; the middle one has the stride, as in torchvision (the paper: the first)."""

    expansion = 4

    def __init__(self, n_in: int, width: int, stride: int, generator: torch.Generator) -> None:
        super().__init__(n_in, 4 * width, stride, generator)
        self.conv1 = convolution(n_in, width, 1, bias=False, generator=generator)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = convolution(width, width, 3, stride=stride, padding=1, bias=False, generator=generator)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = convolution(width, 4 * width, 1, bias=False, generator=generator)
        self.bn3 = nn.BatchNorm2d(4 * width)

    def residual(self, x: Tensor) -> Tensor:
        """Return what is added to the shortcut."""
        out = self.relu(self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x))))))
        result: Tensor = self.bn3(self.conv3(out))
        return result


class ResNet(Backbone):
    """A residual network: 7 x 7 convolution, pooling, four groups of blocks, mean over the map, linear head.

    Args:
        block: Kind of block.
        depths: Blocks in each of the four groups.
        n_classes: Number of classes; None leaves the head out.
        generator: Source of the initial weights: He normal, batch normalisation 1 and 0.

    Reference: He et al., "Deep residual learning for image recognition", CVPR 2016. Weights published by torchvision
        load by their names.

    Example:
        >>> net = ResNet(BasicBlock, (2, 2, 2, 2), 10, generator=torch.Generator().manual_seed(0))
        >>> net(torch.rand(5, 1, 32, 32)).shape
        torch.Size([5, 10])
    """

    def __init__(
        self,
        block: type[BasicBlock] | type[BottleneckBlock],
        depths: tuple[int, int, int, int],
        n_classes: int | None = None,
        *,
        generator: torch.Generator,
    ) -> None:
        super().__init__()
        self.normalise = PicturesIn()
        self.conv1 = convolution(3, 64, 7, stride=2, padding=3, bias=False, generator=generator)
        self.bn1 = nn.BatchNorm2d(64)
        self.relu = nn.ReLU()
        self.maxpool = nn.MaxPool2d(3, stride=2, padding=1)
        groups, n_in = [], 64
        for width, stride, depth in zip((64, 128, 256, 512), (1, 2, 2, 2), depths, strict=True):
            blocks = []
            for i in range(depth):
                blocks.append(block(n_in, width, stride if i == 0 else 1, generator))
                n_in = width * block.expansion
            groups.append(nn.Sequential(*blocks))
        self.layer1, self.layer2, self.layer3, self.layer4 = groups
        self.avgpool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self.n_features = n_in
        self.fc = nn.Identity() if n_classes is None else linear(n_in, n_classes, generator=generator)

    def stages(self) -> dict[str, nn.Module]:
        """Return the stages in order."""
        return {
            name: getattr(self, name)
            for name in (
                *("normalise", "conv1", "bn1", "relu", "maxpool"),
                *("layer1", "layer2", "layer3", "layer4", "avgpool", "fc"),
            )
        }

    @property
    def last_block(self) -> nn.Module:
        """The last block of layer4."""
        return self.layer4[-1]


@BACKBONES.register("resnet18")
def resnet18_backbone(n_classes: int | None = None, *, generator: torch.Generator) -> ResNet:
    """Return a ResNet-18; 11,176,512 parameters and 512 features without its head."""
    return ResNet(BasicBlock, (2, 2, 2, 2), n_classes, generator=generator)


@BACKBONES.register("resnet50")
def resnet50_backbone(n_classes: int | None = None, *, generator: torch.Generator) -> ResNet:
    """Return a ResNet-50; 23,508,032 parameters and 2,048 features without its head."""
    return ResNet(BottleneckBlock, (3, 4, 6, 3), n_classes, generator=generator)


@MODELS.register("resnet18")
def resnet18(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> Backbone:
    """Return a ResNet-18 with a linear head, untrained."""
    check_pictures(input_shape, 1)
    return resnet18_backbone(n_classes, generator=generator)


@MODELS.register("resnet50")
def resnet50(input_shape: Sequence[int], n_classes: int, *, generator: torch.Generator) -> Backbone:
    """Return a ResNet-50 with a linear head, untrained."""
    check_pictures(input_shape, 1)
    return resnet50_backbone(n_classes, generator=generator)
