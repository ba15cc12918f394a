"""Training and evaluation: the loops over batches."""

from collections.abc import Callable

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
    generator: torch.Generator,
    on_epoch: Callable[[int, float], None] | None = None,
) -> nn.Module:
    """Train a classifier in place by Adam on the cross-entropy of its logits, and return it.

    Args:
        model: Inputs (B, ...) to logits (B, C); left in evaluation mode.
        x: Inputs in [0, 1], (N, ...).
        y: Labels (N,).
        epochs: Passes over the data.
        batch_size: Samples per step; the last batch of a pass may be smaller.
        lr: Adam's learning rate.
        generator: Source of the order of the samples.
        on_epoch: Called with the number of finished epochs and the last epoch's mean loss.

    Raises:
        UsageError: when no parameter can be trained, or the loss stops being finite.
    """
    parameters = [p for p in model.parameters() if p.requires_grad]
    if not parameters:
        raise UsageError("Argument `model` must have a trainable parameter, but all are frozen: audit it with weights.")
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    model.train()
    for epoch in range(epochs):
        total = 0.0
        for batch in torch.randperm(len(x), generator=generator).to(x.device).split(batch_size):
            optimizer.zero_grad(set_to_none=True)
            loss = F.cross_entropy(model(x[batch]), y[batch])
            loss.backward()
            optimizer.step()
            total += float(loss.detach()) * len(batch)
        if not total < float("inf"):  # also catches NaN
            raise UsageError(f"Training diverged in epoch {epoch + 1}: lower `lr`, which is {lr}.")
        if on_epoch is not None:
            on_epoch(epoch + 1, total / len(x))
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
