"""The networks of one seed: the circuit or its twin, bare, behind autoencoders, and trained on attacks."""

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import adaptive_avg_pool2d, interpolate, normalize

from redqubit.defenses import AdversarialTraining
from redqubit.defenses.denoising import Denoiser, train_denoiser
from redqubit.experiments.hcqnn.config import HCQNNStudy, Task
from redqubit.experiments.hcqnn.material import CIRCUIT, DENOISER, HARDEN, ORDER, TWIN, Samples, stream
from redqubit.experiments.record import Record
from redqubit.models.hcqnn import HCQNN, POOLED, SIDE
from redqubit.models.initial import linear
from redqubit.models.rescaled import Rescaled
from redqubit.training import logits, train

KINDS = ("circuit", "twin")
NONE, PLACED, BEHIND = "none", "autoencoder", "trained behind"


def static(eps: float) -> str:
    """Return the name of adversarial training with examples that are made once."""
    return f"static {eps:g}"


def online(eps: float) -> str:
    """Return the name of adversarial training with fresh examples in every step."""
    return f"online {eps:g}"


def defenses(config: HCQNNStudy, kind: str = "circuit") -> tuple[str, ...]:
    """Return the defenses of a kind of network, without none; the twin has those that it is compared by."""
    if kind == "twin":
        return PLACED, online(config.online_eps[0])
    return (PLACED, BEHIND, *map(static, config.static_eps), *map(online, config.online_eps))


class Twin(nn.Module):
    """A perceptron in place of the circuit, read out as it is: values in [-1, 1], times a learned scale.

    It takes the same numbers (normalised where these are amplitudes) and has as many hidden units as there are qubits.

    Args:
        net: The network with the circuit.
        generator: CPU source of the initial weights, Glorot uniform.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> Twin(HCQNN((4,), 3, generator=g), generator=g)(torch.rand(5, 4)).shape
        torch.Size([5, 3])
    """

    def __init__(self, net: HCQNN, *, generator: torch.Generator) -> None:
        super().__init__()
        self.encoding, circuit = net.encoding, net.circuit
        hidden = circuit.circuit.n_qubits
        self.layers = nn.Sequential(
            linear(circuit.n_inputs, hidden, generator=generator),
            nn.Tanh(),
            linear(hidden, circuit.n_outputs, generator=generator),
            nn.Tanh(),
        )
        self.sharpness = nn.Parameter(net.sharpness.detach().clone())

    def forward(self, x: Tensor) -> Tensor:
        """Return logits (B, C)."""
        if self.encoding == "pooled":
            x = adaptive_avg_pool2d(x, POOLED).flatten(1)
        elif self.encoding == "amplitude":
            x = normalize(interpolate(x, size=(SIDE, SIDE), mode="bilinear", align_corners=False).flatten(1))
        out: Tensor = self.sharpness * self.layers(x)
        return out


@dataclass(frozen=True, eq=False)
class Trained:
    """The networks of one seed as attacks take them, for inputs in [0, 1], by defense.

    Attributes:
        models: All of them.
        front: The autoencoder, of samples in units of the features.
    """

    models: Mapping[str, Rescaled]
    front: Denoiser


def untrained(task: Task, part: Samples, kind: str, seed: int) -> nn.Module:
    """Return a network with the initial weights of a seed."""
    net = HCQNN(
        part.x.shape[1:],
        part.n_classes,
        encoding=task.encoding,
        layers=task.layers,
        scale=task.scale,
        generator=stream(seed, CIRCUIT),
    )
    return net if kind == "circuit" else Twin(net, generator=stream(seed, TWIN))


def denoiser(config: HCQNNStudy, task: Task, part: Samples, seed: int) -> Denoiser:
    """Return the autoencoder of a seed, trained alone and then frozen."""
    return train_denoiser(
        part.x,
        sigma=task.sigma,
        epochs=task.denoising_epochs,
        batch_size=config.batch_size,
        generator=stream(seed, DENOISER),
    ).requires_grad_(False)


def trained(
    config: HCQNNStudy, task: Task, part: Samples, kind: str, front: Denoiser, seed: int, record: Record
) -> Trained:
    """Train the networks of one kind and seed; that of a bare network and of one behind the autoencoder is watched."""

    def learnt(name: str, model: nn.Module) -> nn.Module:
        def watch(epoch: int, _: float) -> None:
            if task.is_picture:
                hits = logits(model, part.x).argmax(1) == part.y
                record.share("train_accuracy", hits, seed, network=kind, defense=name, epoch=epoch)

        return train(
            model,
            part.x,
            part.y,
            epochs=task.epochs,
            batch_size=config.batch_size,
            lr=config.lr,
            generator=stream(seed, ORDER),
            on_epoch=watch,
        )

    fresh = partial(untrained, task, part, kind, seed)
    bare = learnt(NONE, fresh())
    shown = {
        NONE: part.shown(bare),
        PLACED: part.shown(nn.Sequential(front, copy.deepcopy(bare))),
    }
    if BEHIND in defenses(config, kind):
        shown[BEHIND] = part.shown(learnt(BEHIND, nn.Sequential(front, fresh())))
    trainings = _trainings(config, task, part)
    for name in (name for name in defenses(config, kind) if name in trainings):
        hardened = trainings[name](shown[NONE], part.training, generator=stream(seed, HARDEN))
        assert isinstance(hardened, Rescaled)  # a copy of what it is shown
        shown[name] = hardened
    return Trained(shown, front)


def _trainings(config: HCQNNStudy, task: Task, part: Samples) -> dict[str, AdversarialTraining]:
    """Return the adversarial trainings, which go on from a bare network; radii in units of the inputs of attacks."""
    more: dict[str, Any] = {"epochs": task.epochs, "batch_size": config.batch_size, "lr": config.lr}
    made_once = {
        static(eps): AdversarialTraining("fgsm", eps=eps / part.width, static=True, **more) for eps in config.static_eps
    }
    fresh = {
        online(eps): AdversarialTraining("pgd", eps=eps / part.width, steps=config.online_steps, **more)
        for eps in config.online_eps
    }
    return {**made_once, **fresh}
