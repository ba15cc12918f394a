"""Many QNNs of one architecture trained at once: seeds, poisoned labels and ratios in one batch of weights."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.rnn import pad_sequence

from redqubit.errors import UsageError
from redqubit.models.qnn import QNN
from redqubit.quantum.gradients import SPSA
from redqubit.quantum.simulation import stacked
from redqubit.quantum.simulation.stacked import Stacked, StackedPlan

BATCH = 256  # samples of one draw of shots, as `redqubit.training.logits` has them


def train_stack(
    models: Sequence[QNN],
    x: Tensor | Sequence[Tensor],
    y: Tensor | Sequence[Tensor],
    *,
    epochs: int = 30,
    batch_size: int = 32,
    lr: float = 0.01,
    generators: Sequence[torch.Generator],
    on_epoch: Callable[[int], None] | None = None,
) -> Sequence[QNN]:
    """Train QNNs in place, each as `redqubit.training.train` would train it alone, and return them.

    What the encoder makes of the samples is computed once. In a step a model's noisy circuit is carried back to the
    encoder once for all samples; with SPSA each sample has two runs of its own. Models whose passes over their samples
    have equally many steps take them together. In double precision, on the CPU.

    Args:
        models: M models that differ in their weights alone, with gradient "exact" or "spsa"; left in evaluation mode.
        x: Samples (N, ...) of all models, or one tensor for each; a tensor that several share is encoded once.
        y: Labels (N,) of all models, or (M, N), or one tensor for each.
        epochs: Passes over the data; the paper's 30.
        batch_size: Samples per step; the last batch of a pass may be smaller. The paper's 32.
        lr: Adam's learning rate; the paper's 0.01.
        generators: One for each model, the source of the order of its samples. Directions of SPSA come from the
            generator that the model was made with, which may be the same, but not another model's.
        on_epoch: Called after each epoch with the number of finished ones, when the models hold the weights of that
            moment; where passes differ in their number of steps, once for all models of a number.

    Raises:
        UsageError: for models of different architecture, with shots or another gradient, models that share a
            generator, circuits that couple more than five wires, samples that are not finite, labels that are no
            classes, or a loss that is not finite.

    Reference: Kundu and Ghosh, arXiv 2411.14412, section 5.

    Example:
        >>> x = torch.rand(64, 4, generator=torch.Generator().manual_seed(0))
        >>> random = [torch.Generator().manual_seed(seed) for seed in range(2)]
        >>> nets = [QNN(4, 2, generator=g) for g in random]
        >>> labels = torch.stack([(x[:, i] > 0.5).long() for i in (1, 3)])
        >>> nets = train_stack(nets, x, labels, epochs=40, lr=0.1, generators=random)
        >>> [bool((net(x).argmax(1) == y).float().mean() > 0.8) for net, y in zip(nets, labels)]
        [True, True]
    """
    _check(models, generators)
    _check_training(models, generators)
    xs = [x] * len(models) if isinstance(x, Tensor) else list(x)
    ys = [y] * len(models) if isinstance(y, Tensor) and y.ndim == 1 else list(y)
    if not len(xs) == len(ys) == len(models):
        raise UsageError(
            f"Arguments `x` and `y` must be for {len(models)} models, but are for {len(xs)} and {len(ys)}."
        )
    n_classes = models[0].head.out_features
    for samples, labels in zip(xs, ys, strict=True):
        known = not labels.is_floating_point() and bool(((labels >= 0) & (labels < n_classes)).all())
        if len(samples) != len(labels) or not len(labels) or not known:
            raise UsageError(
                f"Argument `y` must have a class of 0 to {n_classes - 1} for each of {len(samples)} samples, but has "
                f"others, or {len(labels)} in all: number classes so."
            )
    plan = stacked.build(models[0].circuit.circuit)
    n_steps = [-(-len(labels) // batch_size) for labels in ys]
    for count in sorted(set(n_steps)):
        chosen = [m for m, steps in enumerate(n_steps) if steps == count]
        _train(
            plan,
            [models[m] for m in chosen],
            [xs[m] for m in chosen],
            [ys[m].cpu().long() for m in chosen],
            [generators[m] for m in chosen],
            epochs,
            batch_size,
            lr,
            on_epoch,
        )
    return models


def _train(
    plan: StackedPlan,
    models: Sequence[QNN],
    xs: Sequence[Tensor],
    ys: list[Tensor],
    generators: Sequence[torch.Generator],
    epochs: int,
    batch_size: int,
    lr: float,
    on_epoch: Callable[[int], None] | None,
) -> None:
    encoded, first = _encoded(plan, models[0], xs)
    weights, head, bias = parameters = [p.requires_grad_() for p in _stack(models)]
    optimizer = torch.optim.Adam(parameters, lr=lr, fused=True)
    mode = _spsa(models[0])
    y = pad_sequence(ys, batch_first=True)
    counts = torch.tensor([len(labels) for labels in ys])
    real = (torch.arange(y.shape[1]) < counts[:, None]).double()  # 0 where the last batch of another model goes on
    for epoch in range(epochs):
        drawn = [torch.randperm(len(labels), generator=g) for labels, g in zip(ys, generators, strict=True)]
        order = pad_sequence(drawn, batch_first=True)
        total = torch.zeros(len(models), dtype=torch.float64)
        for batch, counted in zip(order.split(batch_size, 1), real.split(batch_size, 1), strict=True):  # (M, B)
            sizes, directions = counted.sum(1), None
            if mode is not None:
                found = zip(models, sizes.int().tolist(), strict=True)
                directions = torch.stack([_directions(plan, mode, m, size, batch.shape[1]) for m, size in found])
            optimizer.zero_grad(set_to_none=True)
            z: Tensor = Stacked.apply(  # type: ignore[no-untyped-call]
                plan.angles.of(weights), plan, encoded, first[:, None] + batch, directions, mode.step if mode else 0.0
            )
            logits = torch.baddbmm(bias[:, None], z, head.mT)
            losses = F.cross_entropy(logits.flatten(0, 1), y.gather(1, batch).flatten(), reduction="none")
            mean = (losses.view(batch.shape) * counted).sum(1) / sizes
            mean.sum().backward()
            optimizer.step()
            total += mean.detach()
        if not bool((total < float("inf")).all()):  # also catches NaN
            raise UsageError(f"Training diverged in epoch {epoch + 1}: lower `lr`, which is {lr}.")
        if on_epoch is not None:
            _unstack(models, parameters)
            on_epoch(epoch + 1)
    _unstack(models, parameters)
    for model in models:
        model.eval()


@torch.no_grad()
def _unstack(models: Sequence[QNN], parameters: Sequence[Tensor]) -> None:
    for m, model in enumerate(models):
        for parameter, trained in zip(_parameters(model), parameters, strict=True):
            parameter.copy_(trained[m])


def stack_logits(
    models: Sequence[QNN],
    x: Tensor | Sequence[Tensor],
    *,
    shots: int | None = None,
    generators: Sequence[torch.Generator] = (),
) -> Tensor:
    """Return the logits (M, N, C), float64, of QNNs that differ in their weights alone.

    With shots those of `redqubit.training.logits(noisy(model, shots=shots, generator=g), x)`, all qubits of a sample
    read in the same draws.

    Args:
        models: M models of one architecture.
        x: Samples (N, ...) of all models, or one tensor for each, with N samples each.
        shots: Read-outs of each sample; exact expectation values when None.
        generators: One for each model, the source of its shots.

    Raises:
        UsageError: as `train_stack`, for sets of different size, or for shots without generators.

    Example:
        >>> random = [torch.Generator().manual_seed(seed) for seed in range(2)]
        >>> nets = [QNN(4, 3, generator=g) for g in random]
        >>> stack_logits(nets, torch.rand(5, 4), shots=1000, generators=random).shape
        torch.Size([2, 5, 3])
    """
    _check(models, generators if shots is not None else models)
    xs = [x] * len(models) if isinstance(x, Tensor) else list(x)
    sizes = sorted(set(map(len, xs)))
    if len(xs) != len(models) or len(sizes) > 1:
        raise UsageError(
            f"Argument `x` must be for {len(models)} models, with equally many samples for each, but is for {len(xs)}, "
            f"with {', '.join(map(str, sizes))} samples: take sets of one size at a time."
        )
    weights, head, bias = _stack(models)
    if shots is None:
        plan = stacked.build(models[0].circuit.circuit)
        encoded, first = _encoded(plan, models[0], xs)
        tables = stacked.observables(plan, plan.angles.of(weights))
        starts, n = first.tolist(), sizes[0]
        groups = [
            torch.stack([r[start : start + n] @ table.T for start, table in zip(starts, t, strict=True)])
            for r, t in zip(encoded, tables, strict=True)
        ]
        z = torch.cat(groups, 2).index_select(2, plan.order)
    else:
        z = _sampled(models, xs, shots, generators)
    return torch.baddbmm(bias[:, None], z, head.mT)


@torch.no_grad()
def _sampled(models: Sequence[QNN], xs: Sequence[Tensor], shots: int, generators: Sequence[torch.Generator]) -> Tensor:
    """Return means of read-outs (M, N, n) of one layer, which has each model's weights and generator in turn."""
    own = torch.Generator()
    layer = models[0].circuit.replaced(shots=shots, gradient="exact", generator=own).cpu().double()
    out = []
    for model, x, generator in zip(models, xs, generators, strict=True):
        layer.weights.copy_(model.circuit.weights)
        own.set_state(generator.get_state())
        out.append(torch.cat([layer(part) for part in _inputs(model, x).split(BATCH)]))
        generator.set_state(own.get_state())
    return torch.stack(out)


def _check(models: Sequence[QNN], generators: Sequence[object]) -> None:
    if not models:
        raise UsageError("Argument `models` must hold a model, but is empty.")
    if len(generators) != len(models):
        raise UsageError(
            f"Argument `generators` must have one for each of {len(models)} models, but has {len(generators)}."
        )
    first = models[0]
    for model in models:
        if model.circuit.circuit != first.circuit.circuit or model.head.weight.shape != first.head.weight.shape:
            raise UsageError("Argument `models` must hold one architecture, but has two: train each in its own stack.")


def _check_training(models: Sequence[QNN], generators: Sequence[torch.Generator]) -> None:
    owners: dict[int, int] = {}
    for m, (model, generator) in enumerate(zip(models, generators, strict=True)):
        drawn: list[object] = [generator]
        if _spsa(model) is not None:
            drawn.append(model.circuit.generator)
        if any(owners.setdefault(id(g), m) != m for g in drawn):
            raise UsageError(
                "Argument `generators` must be one a model, but two models share one, so that neither would train as "
                "it does alone: make one for each."
            )
    for layer in (model.circuit for model in models):
        if layer.gradient != models[0].circuit.gradient or layer.gradient in ("adjoint", "parameter-shift"):
            raise UsageError(
                f"Argument `models` must all have gradient exact, or all spsa, but one has {layer.gradient}: train it "
                "alone."
            )
        if not layer.weights.requires_grad:
            raise UsageError(
                "Argument `models` must have weights that can be trained, but has frozen ones: train it alone."
            )
        if layer.shots is not None:
            raise UsageError(
                "Argument `models` must have no shots in training, but has: evaluate with them by `stack_logits`."
            )


def _spsa(model: QNN) -> SPSA | None:
    gradient = model.circuit.gradient
    return gradient if isinstance(gradient, SPSA) else SPSA() if gradient == "spsa" else None


def _directions(plan: StackedPlan, mode: SPSA, model: QNN, size: int, width: int) -> Tensor:
    """Return directions (D width, J) for a batch, those beyond its size 0."""
    assert model.circuit.generator is not None  # held by its constructor
    drawn = stacked.draw(plan, mode, size, generator=model.circuit.generator)
    return F.pad(drawn.unflatten(0, (mode.directions, size)), (0, 0, 0, width - size)).flatten(0, 1)


def _parameters(model: QNN) -> tuple[Tensor, Tensor, Tensor]:
    return model.circuit.weights, model.head.weight, model.head.bias


def _stack(models: Sequence[QNN]) -> list[Tensor]:
    """Return copies of all weights (M, J), heads (M, C, n) and biases (M, C) in double precision."""
    kinds = zip(*map(_parameters, models), strict=True)
    return [torch.stack([p.detach().cpu().double() for p in kind]) for kind in kinds]


def _encoded(plan: StackedPlan, model: QNN, xs: Sequence[Tensor]) -> tuple[tuple[Tensor, ...], Tensor]:
    """Return the encoded samples of all sets, each set once, and where each model's begin."""
    begins: dict[int, int] = {}
    parts: list[Tensor] = []
    for x in xs:
        if id(x) not in begins:
            begins[id(x)] = sum(map(len, parts))
            parts.append(_inputs(model, x))
    return stacked.encode(plan, torch.cat(parts)), torch.tensor([begins[id(x)] for x in xs])


def _inputs(model: QNN, x: Tensor) -> Tensor:
    """Return what the circuit takes of samples, in double precision on the CPU."""
    inputs = model.inputs(x.detach().cpu().double())
    if not bool(inputs.isfinite().all()):
        raise UsageError("Argument `x` must be finite, but is not: drop or fill those samples.")
    return inputs
