"""Training and evaluation: the loops over batches."""

import math
from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.errors import UsageError

BATCH = 256  # evaluation batch; results do not depend on it


def train(
    model: nn.Module,
    x: Tensor,
    y: Tensor,
    *,
    epochs: int = 30,
    batch_size: int = 32,
    lr: float = 1e-3,
    loss: Callable[[nn.Module, Tensor, Tensor], Tensor] | None = None,
    generator: torch.Generator,
    on_epoch: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a model in place by Adam, by default on the cross-entropy of its logits, and return it.

    Args:
        model: Inputs (B, ...) to logits (B, C); left in evaluation mode.
        x: Inputs in [0, 1], (N, ...).
        y: Labels (N,).
        epochs: Passes over the data.
        batch_size: Samples per step; the last batch of a pass may be smaller.
        lr: Adam's learning rate.
        loss: What to lower instead: a number for the model, inputs and labels of one batch.
        generator: Source of the order of the samples.
        on_epoch: Called with the number of finished epochs and the last epoch's mean loss.

    Raises:
        UsageError: when no parameter can be trained, or the loss stops being finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("Argument `model` must have a trainable parameter, but all are frozen: audit it with weights.")
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    loss = loss or cross_entropy
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).to(x.device).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            value = loss(model, x[batch], y[batch])
            value.backward()
            optimizer.step()
            total += float(value.detach()) * len(batch)
        if not total < float("inf"):  # also catches NaN
            raise UsageError(f"Training diverged in epoch {epoch + 1}: lower `lr`, which is {lr}.")
        if on_epoch is not None:
            on_epoch(epoch + 1, total / len(x))
    model.eval()
    return model


def cross_entropy(model: nn.Module, x: Tensor, y: Tensor) -> Tensor:
    """Return the mean cross-entropy of a model's logits on one batch."""
    return F.cross_entropy(model(x), y)


def fine_tune(
    model: nn.Module,
    batch: Callable[[Tensor], tuple[Tensor, Tensor]],
    n: int,
    groups: Sequence[tuple[Iterable[nn.Parameter], float]],
    *,
    epochs: int = 6,
    batch_size: int = 32,
    warmup: int = 50,
    clip: float = 1.0,
    generator: torch.Generator,
) -> nn.Module:
    """Train a classifier in place with a rate for each group of its parameters, and return it.

    Adam on the cross-entropy. Rates rise linearly over the first steps and then fall along half a cosine to 0; the
    gradient is cut to a norm of `clip`. What is left over of a pass after whole batches is left out, as batch
    normalisation needs more than a sample or two.

    Args:
        model: Inputs (B, ...) to logits (B, C); left in evaluation mode.
        batch: Places (B,) in 0..n-1 to inputs and labels, so that a set need not lie in one tensor.
        n: Number of samples.
        groups: Parameters to train, and their greatest rate.
        epochs: Passes over the data.
        batch_size: Samples per step; all when there are fewer.
        warmup: Steps until the rates are full, at most a third of all.
        clip: Greatest L2 norm of the gradient over all groups.
        generator: CPU source of the order of the samples.

    Raises:
        UsageError: when the loss stops being finite.

    Example:
        >>> g = torch.Generator().manual_seed(0)
        >>> x, net = torch.rand(64, 2, generator=g), nn.Linear(2, 2).apply(lambda m: nn.init.zeros_(m.weight))
        >>> y = (x[:, 0] > x[:, 1]).long()
        >>> net = fine_tune(net, lambda i: (x[i], y[i]), 64, [(net.parameters(), 0.1)], epochs=50, generator=g)
        >>> float((net(x).argmax(1) == y).float().mean()) > 0.9
        True
    """
    batch_size = min(batch_size, n)
    total = epochs * (n // batch_size)
    warmup = max(1, min(warmup, total // 3))
    chosen = [([p for p in parameters if p.requires_grad], rate) for parameters, rate in groups]
    optimizer = torch.optim.Adam([{"params": p, "lr": rate} for p, rate in chosen if p], fused=True)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer,
        lambda step: (
            (step + 1) / warmup
            if step < warmup
            else (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup))) / 2
        ),
    )
    every = [p for parameters, _ in chosen for p in parameters]
    model.train()
    for epoch in range(epochs):
        for places in torch.randperm(n, generator=generator)[: n // batch_size * batch_size].split(batch_size):
            x, y = batch(places)
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x), y)
            loss.backward()
            nn.utils.clip_grad_norm_(every, clip)
            optimizer.step()
            schedule.step()
        if not math.isfinite(float(loss.detach())):
            raise UsageError(f"Training diverged in epoch {epoch + 1}: lower the rates.")
    model.eval()
    return model


def train_heads(
    features: Tensor,
    y: Tensor,
    n_classes: int,
    *,
    epochs: int = 30,
    batch_size: int = 32,
    lr: float = 1e-3,
    generator: torch.Generator,
) -> tuple[Tensor, Tensor]:
    """Train a linear head on each of H fixed feature sets, all together, and return (weight, bias).

    Each head takes the steps that `train` would take alone: Adam acts by element, and all see the same order of
    samples. They start from the same Glorot-uniform weight and a zero bias.

    Args:
        features: (H, N, d).
        y: Labels (N,).
        n_classes: Number of classes C.
        epochs: Passes over the data.
        batch_size: Samples per step.
        lr: Adam's learning rate.
        generator: Source of the initial weights and of the order of the samples.

    Returns:
        Weights (H, C, d) and biases (H, C), as `nn.Linear` holds them.
    """
    heads, n, d = features.shape
    start = nn.init.xavier_uniform_(torch.empty(n_classes, d), generator=generator).to(features)
    weight = start.T.repeat(heads, 1, 1).requires_grad_()  # (H, d, C)
    bias = features.new_zeros(heads, 1, n_classes).requires_grad_()
    optimizer = torch.optim.Adam([weight, bias], lr=lr, fused=True)
    target = F.one_hot(y, n_classes).to(features.dtype)
    for _ in range(epochs):
        for batch in torch.randperm(n, generator=generator).to(y.device).split(batch_size):
            with torch.no_grad():  # the gradient of the cross-entropy is short, and autograd is most of a small step
                x = features.index_select(1, batch)
                error = torch.baddbmm(bias, x, weight).softmax(2).sub_(target[batch]).div_(len(batch))  # (H, B, C)
                weight.grad = torch.bmm(x.transpose(1, 2), error)
                bias.grad = error.sum(1, keepdim=True)
            optimizer.step()
    return weight.detach().transpose(1, 2).contiguous(), bias.detach()[:, 0]


@torch.no_grad()
def logits(model: nn.Module, x: Tensor, *, batch_size: int = BATCH) -> Tensor:
    """Return the logits (N, C) of a model in evaluation mode, whose mode is restored."""
    was_training = model.training
    model.eval()
    out = torch.cat([model(batch) for batch in x.split(batch_size)])
    model.train(was_training)
    return out
