"""The HCQNN's network: what it computes, what it refuses, and features in any range."""

import itertools
import math
from typing import Literal

import pytest
import torch
from torch import nn

from redqubit.data import load_splits
from redqubit.defenses import Defended, DenoisingAutoencoder
from redqubit.errors import UsageError
from redqubit.evasion import FGSM
from redqubit.models import HCQNN, MODELS, Rescaled
from redqubit.training import logits, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def still(net: HCQNN) -> HCQNN:
    """Leave of the circuit only its CX."""
    net.circuit.weights.data.zero_()
    return net


def test_bits_go_through_the_rings_of_cx() -> None:
    net = still(HCQNN((4,), 3, layers=3, sharpness=2.5, generator=seeded()))
    for bits in itertools.product((0, 1), repeat=4):
        expected = list(bits)
        for reach in (1, 2, 3):
            for q in range(4):
                expected[(q + reach) % 4] ^= expected[q]
        out = net(torch.tensor([bits]).float())[0].tolist()
        assert out == pytest.approx([2.5 * (1 - 2 * bit) for bit in expected[:3]], abs=1e-5)


def test_pooled_pictures_turn_each_qubit_twice() -> None:
    net = still(HCQNN((1, 28, 28), 4, encoding="pooled", layers=1, generator=seeded()))
    x = torch.rand(3, 1, 28, 28, generator=seeded(1))
    means = x.reshape(3, 4, 7, 4, 7).mean((2, 4)).flatten(1).double()
    z = (math.pi * means[:, 0::2]).sin() * (math.pi * means[:, 1::2]).sin()  # <Z> of each qubit before the ring
    after = [{q} for q in range(8)]  # CX turns Z of its target into Z Z
    for q in range(8):
        after[(q + 1) % 8] = after[(q + 1) % 8] ^ after[q]
    expected = torch.stack([z[:, sorted(parts)].prod(1) for parts in after[:4]], 1)
    torch.testing.assert_close(net.forward_features(x).double(), expected, atol=1e-5, rtol=0)


def test_amplitudes_do_not_know_brightness() -> None:
    net = MODELS["hcqnn"]((1, 28, 28), 4, generator=seeded())
    x = torch.rand(3, 1, 28, 28, generator=seeded(1))
    torch.testing.assert_close(net(x), net(0.3 * x), atol=1e-5, rtol=1e-4)
    assert sum(w.numel() for w in net.parameters()) == 8 * 3 * 4 + 1
    assert sum(w.numel() for w in MODELS["hcqnn"]((4,), 3, generator=seeded()).parameters()) == 4 * 3 * 3 + 1


@pytest.mark.parametrize("encoding", ["amplitude", "pooled"])
def test_each_class_has_a_qubit(encoding: Literal["amplitude", "pooled"]) -> None:
    net = HCQNN((1, 28, 28), 10, encoding=encoding, generator=seeded())
    assert net.circuit.circuit.n_qubits == 10
    assert net(torch.rand(2, 1, 28, 28, generator=seeded(1))).shape == (2, 10)


@pytest.mark.parametrize(
    ("shape", "n_classes", "options", "message"),
    [
        ((1, 28, 28), 4, {"encoding": "angle"}, r"`shape` must be \(d,\) for angles"),
        ((4,), 3, {"encoding": "pooled"}, r"`shape` must be \(1, H, W\)"),
        ((3, 32, 32), 3, {"encoding": "amplitude"}, r"`shape` must be \(1, H, W\)"),
        ((4,), 3, {"encoding": "angles"}, "did you mean angle"),
    ],
)
def test_shapes_that_do_not_fit_are_refused(
    shape: tuple[int, ...], n_classes: int, options: dict[str, str], message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        HCQNN(shape, n_classes, generator=seeded(), **options)  # type: ignore[arg-type]


def test_an_attack_may_leave_the_range_of_the_data() -> None:
    inner = HCQNN((4,), 3, generator=seeded())
    net = Rescaled(inner, -0.5, 1.5)
    x = torch.rand(20, 4, generator=seeded(1))
    y = inner(x).argmax(1)
    u = net.unit(x)
    torch.testing.assert_close(net(u), inner(x))
    u_adv = FGSM(0.4 / 2)(net, u, y, generator=seeded())
    moved = 2 * (u_adv - u)
    torch.testing.assert_close(moved.abs(), torch.full_like(moved, 0.4))  # nothing clips
    leaf = x.clone().requires_grad_()
    nn.functional.cross_entropy(inner(leaf), y, reduction="sum").backward()
    assert torch.equal(moved.sign(), leaf.grad.sign())
    for low, high in ((1.0, 1.0), (0.0, math.inf)):
        with pytest.raises(UsageError, match="`low` must be below `high`"):
            Rescaled(inner, low, high)


def test_iris_is_learned_and_can_be_defended() -> None:
    data, test = load_splits("iris")
    net = train(HCQNN((4,), 3, generator=seeded()), data.x, data.y, epochs=8, lr=0.05, generator=seeded())
    assert (logits(net, test.x).argmax(1) == test.y).double().mean() > 0.8
    front = DenoisingAutoencoder(sigma=0.1, epochs=60, lr=1e-2)
    defended = Defended(net, [front], data, generator=seeded())
    assert (logits(defended, test.x).argmax(1) == test.y).double().mean() > 0.7
    white = FGSM(0.15)(defended, test.x, test.y, generator=seeded())
    grey = FGSM(0.15)(net, test.x, test.y, generator=seeded())
    assert not torch.equal(white, grey)
