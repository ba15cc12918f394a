"""Training: heads trained together take the steps of heads trained alone, and faults are told."""

import math

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.errors import UsageError
from redqubit.training import fine_tune, logits, train, train_heads


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def problem(n: int = 53, d: int = 6, heads: int = 3) -> tuple[Tensor, Tensor]:
    """Return features (H, N, d) of very different scales, and three classes that the first head can tell."""
    g = seeded(1)
    features = torch.rand(heads, n, d, generator=g, dtype=torch.float64)
    features *= torch.tensor([1.0, 10.0, 0.01], dtype=torch.float64)[:heads, None, None]
    return features, features[0, :, :3].argmax(1)


def fresh_head(generator: torch.Generator) -> nn.Linear:
    """Return a head with Glorot-uniform weights, which are drawn in single precision, and no bias."""
    head = nn.Linear(6, 3)
    nn.init.xavier_uniform_(head.weight, generator=generator)
    nn.init.zeros_(head.bias)
    return head.double()


def alone(x: Tensor, y: Tensor, generator: torch.Generator) -> nn.Linear:
    """Train one head by a plain loop written here."""
    head = fresh_head(generator)
    optimizer = torch.optim.Adam(head.parameters(), lr=0.02)
    for _ in range(4):
        order = torch.randperm(len(x), generator=generator)
        for start in range(0, len(x), 8):
            rows = order[start : start + 8]
            optimizer.zero_grad()
            F.cross_entropy(head(x[rows]), y[rows]).backward()
            optimizer.step()
    return head


@pytest.mark.tiny
def test_heads_together_equal_heads_alone() -> None:
    features, y = problem()
    weight, bias = train_heads(features, y, 3, epochs=4, batch_size=8, lr=0.02, generator=seeded(5))
    assert weight.shape == (3, 3, 6)
    assert bias.shape == (3, 3)
    for x, w, b in zip(features, weight, bias, strict=True):
        head = alone(x, y, seeded(5))
        assert torch.allclose(w, head.weight, atol=1e-9)
        assert torch.allclose(b, head.bias, atol=1e-9)


def test_heads_together_equal_train() -> None:
    features, y = problem()
    weight, bias = train_heads(features, y, 3, epochs=4, batch_size=8, lr=0.02, generator=seeded(5))
    for x, w, b in zip(features, weight, bias, strict=True):
        g = seeded(5)
        head = fresh_head(g)
        train(head, x, y, epochs=4, batch_size=8, lr=0.02, generator=g)
        assert torch.allclose(w, head.weight, atol=1e-9)
        assert torch.allclose(b, head.bias, atol=1e-9)


def test_heads_in_single_precision_follow_the_double_ones() -> None:
    features, y = problem()
    options = {"epochs": 4, "batch_size": 8, "lr": 0.02}
    single = train_heads(features.float(), y, 3, generator=seeded(5), **options)  # type: ignore[arg-type]
    double = train_heads(features, y, 3, generator=seeded(5), **options)  # type: ignore[arg-type]
    for one, two in zip(single, double, strict=True):
        assert one.dtype == torch.float32
        assert torch.allclose(one.double(), two, atol=1e-4)


def small_net(seed: int = 0) -> nn.Sequential:
    net = nn.Sequential(nn.Linear(6, 8), nn.Tanh(), nn.Linear(8, 3)).double()
    for module in net:
        if isinstance(module, nn.Linear):
            nn.init.xavier_uniform_(module.weight, generator=seeded(seed))
            nn.init.zeros_(module.bias)
    return net


def test_training_learns_repeats_and_leaves_evaluation_mode() -> None:
    features, y = problem()
    x, losses = features[0], list[tuple[int, float]]()
    nets = [small_net() for _ in range(3)]
    before = torch.get_rng_state()
    for net, seed in zip(nets, (0, 0, 1), strict=True):
        train(net, x, y, epochs=40, lr=0.03, batch_size=8, generator=seeded(seed))
    assert torch.equal(torch.get_rng_state(), before)
    assert not any(module.training for module in nets[0].modules())
    outputs = [net(x) for net in nets]
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2])  # another order of the samples
    assert (outputs[0].argmax(1) == y).double().mean() > 0.9
    model = small_net()
    first = float(F.cross_entropy(model(x), y).detach())
    given = train(
        model,
        x,
        y,
        epochs=3,
        lr=1e-9,
        batch_size=8,
        generator=seeded(),
        on_epoch=lambda done, loss: losses.append((done, loss)),
    )
    assert given is model
    assert [done for done, _ in losses] == [1, 2, 3]
    assert losses[0][1] == pytest.approx(first, rel=1e-6)  # with hardly a step, the mean over all samples


def test_what_is_frozen_stays_as_it_is() -> None:
    features, y = problem()
    net = small_net()
    net[0].requires_grad_(False)
    before = net[0].weight.clone()
    last = net[2].weight.clone()
    train(net, features[0], y, epochs=1, generator=seeded())
    assert torch.equal(net[0].weight, before)
    assert not torch.equal(net[2].weight, last)


def test_a_model_without_trainable_weights_is_told() -> None:
    features, y = problem()
    with pytest.raises(UsageError, match="must have a trainable parameter"):
        train(small_net().requires_grad_(False), features[0], y, generator=seeded())


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_is_told_with_its_epoch(bad: float) -> None:
    features, y = problem()

    class Breaks(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inner, self.calls = small_net(), 0

        def forward(self, x: Tensor) -> Tensor:
            self.calls += 1
            out: Tensor = self.inner(x)
            return out if self.calls <= 7 else out * bad

    with pytest.raises(UsageError, match=r"diverged in epoch 2: lower `lr`, which is 0\.01") as caught:
        train(Breaks(), features[0], y, epochs=3, batch_size=8, lr=0.01, generator=seeded())
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("mode", [True, False])
def test_logits_do_not_depend_on_the_batch_and_leave_the_mode(mode: bool) -> None:
    features, _ = problem()
    x = features[0].float()
    net = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.Dropout(0.5), nn.Linear(8, 3))
    net.train(mode)
    one, many = logits(net, x), logits(net, x, batch_size=7)
    assert torch.allclose(one, many, atol=1e-6)
    assert not one.requires_grad
    assert net.training is mode


def test_fine_tuning_is_adam_with_warm_up_and_half_a_cosine() -> None:
    g = seeded(0)
    x, y = torch.rand(40, 3, generator=g, dtype=torch.float64), torch.randint(2, (40,), generator=g)
    net, alone = (nn.Linear(3, 2, dtype=torch.float64) for _ in range(2))
    alone.load_state_dict(net.state_dict())
    groups = [([net.weight], 0.1), ([net.bias], 0.3)]
    fine_tune(
        net, lambda i: (x[i], y[i]), 40, groups, epochs=3, batch_size=16, warmup=2, clip=0.05, generator=seeded(1)
    )

    optimizer = torch.optim.Adam([{"params": [alone.weight], "lr": 0.1}, {"params": [alone.bias], "lr": 0.3}])
    order, step, total = seeded(1), 0, 6  # two whole batches a pass
    for _ in range(3):
        for places in torch.randperm(40, generator=order)[:32].split(16):
            share = (step + 1) / 2 if step < 2 else (1 + math.cos(math.pi * (step - 2) / (total - 2))) / 2
            for group, full in zip(optimizer.param_groups, (0.1, 0.3), strict=True):
                group["lr"] = full * share
            optimizer.zero_grad()
            F.cross_entropy(alone(x[places]), y[places]).backward()
            norm = torch.cat([alone.weight.grad.flatten(), alone.bias.grad]).norm()  # type: ignore[union-attr]
            for p in alone.parameters():
                assert p.grad is not None
                p.grad *= min(1.0, 0.05 / (float(norm) + 1e-6))
            optimizer.step()
            step += 1
    torch.testing.assert_close(net.weight, alone.weight)
    torch.testing.assert_close(net.bias, alone.bias)


def test_fine_tuning_leaves_frozen_weights_and_says_when_it_diverges() -> None:
    x, y = torch.rand(8, 3), torch.zeros(8, dtype=torch.int64)
    net = nn.Linear(3, 2)
    net.weight.requires_grad_(False)
    before = net.weight.clone()
    fine_tune(net, lambda i: (x[i], y[i]), 8, [(net.parameters(), 0.1)], epochs=1, generator=seeded(0))
    assert torch.equal(net.weight, before)
    with pytest.raises(UsageError, match="diverged"):
        fine_tune(net, lambda i: (x[i] * torch.inf, y[i]), 8, [(net.parameters(), 0.1)], generator=seeded(0))


def test_another_loss_is_lowered_where_one_is_given() -> None:
    x, net = torch.rand(40, 6, generator=seeded(2)).double(), fresh_head(seeded(3))
    batches = []

    def loss(model: nn.Module, inputs: Tensor, labels: Tensor) -> Tensor:
        batches.append((inputs, labels))
        return (model(inputs) - labels).square().mean()

    y = x[:, 3:]
    before = float((net(x) - y).square().mean())
    train(net, x, y, epochs=100, lr=0.05, loss=loss, generator=seeded())
    assert float((net(x) - y).square().mean()) < 0.01 * before
    assert all(torch.equal(inputs[:, 3:], labels) for inputs, labels in batches)
    assert len(batches) == 100 * 2
