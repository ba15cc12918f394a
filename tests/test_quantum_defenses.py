"""Quantum noise and crosstalk as defenses: what they return, and whose random numbers they use."""

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import nn

from redqubit.data import Dataset, load_splits
from redqubit.defenses import AdversarialTraining, CrosstalkInjection, Defended, QuantumNoise, equal_power
from redqubit.errors import UsageError
from redqubit.models import MODELS, QuantumProducts, quantum_mac
from redqubit.training import logits, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture(scope="module")
def digits() -> tuple[nn.Module, Dataset, Dataset]:
    train_set, test_set = load_splits("digits")
    model = MODELS["cnn"]((1, 8, 8), 10, generator=seeded(1))
    return train(model, train_set.x, train_set.y, epochs=5, lr=1e-2, generator=seeded(2)), train_set, test_set


def accuracy(model: nn.Module, data: Dataset) -> float:
    return float((logits(model, data.x).argmax(1) == data.y).double().mean())


def test_noise_costs_more_accuracy_the_fewer_the_shots(digits: tuple[nn.Module, Dataset, Dataset]) -> None:
    model, clean, test = digits
    found = [accuracy(QuantumNoise(shots)(model, clean, generator=seeded()), test) for shots in (16, 256, 65536)]
    assert accuracy(model, test) > 0.9
    assert abs(found[2] - accuracy(model, test)) < 0.03
    assert found[0] < found[1] - 0.05 < found[2]


def test_the_most_important_weights_cost_more_than_the_least(digits: tuple[nn.Module, Dataset, Dataset]) -> None:
    model, clean, test = digits
    strong = CrosstalkInjection(0.1, pairs=4, shots=65536)
    most, least = (
        accuracy(replace(strong, selection=s)(model, clean, generator=seeded()), test) for s in ("gradient", "lowest")
    )
    assert most < least - 0.1


def test_defenses_are_quantum_mac_on_drawn_samples(digits: tuple[nn.Module, Dataset, Dataset]) -> None:
    model, clean, test = digits
    defense = CrosstalkInjection(0.2, 2, "gradient", 3.0, "coherent", 512, n_calibration=100)
    g = seeded(7)
    drawn = torch.randperm(len(clean), generator=g)[:100]
    own = seeded(int(torch.randint(2**62, (1,), generator=g)))
    wanted = quantum_mac(
        model,
        clean.x[drawn],
        calibration_y=clean.y[drawn],
        shots=512,
        crosstalk=defense.injected,
        calibrate_offset=True,
        generator=own,
    )
    generator = seeded(7)
    defended = defense(model, clean, generator=generator)
    after = generator.get_state()
    assert torch.equal(defended(test.x), wanted(test.x))
    assert torch.equal(generator.get_state(), after)  # passes draw from a generator of the model's own
    assert torch.equal(after, g.get_state())


def test_they_follow_other_defenses_and_have_a_control_of_equal_power(
    digits: tuple[nn.Module, Dataset, Dataset],
) -> None:
    model, clean, test = digits
    few = clean.subset(torch.arange(200))
    training = AdversarialTraining(steps=1, epochs=1)
    both = Defended(model, [training, QuantumNoise()], few, generator=seeded())
    assert isinstance(both.model.head, QuantumProducts)
    with pytest.raises(UsageError, match="`model` must have a Conv2d or Linear to map"):
        Defended(model, [QuantumNoise(), CrosstalkInjection()], few, generator=seeded())
    with pytest.raises(UsageError, match="`model` must have a trainable parameter"):
        Defended(model, [QuantumNoise(), training], few, generator=seeded())
    noisy = QuantumNoise()(model, few, generator=seeded())
    x = test.x[:100]
    for place in ("logits", "activations", "weights"):
        control = equal_power(model, noisy, x, on=place, generator=seeded())  # type: ignore[arg-type]
        spread = [float(torch.stack([m(x).detach() for _ in range(60)]).var(0).mean()) for m in (noisy, control)]
        assert 0.5 < spread[1] / spread[0] < 2, place


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"fraction": 1.5}, r"`fraction` must lie in \[0, 1\], but is 1.5"),
        ({"fraction": -0.1}, "`fraction` must be finite and not negative"),
        ({"shots": 0}, "`shots` must be an integer of at least 1"),
        ({"pairs": 0}, "`pairs` must be an integer of at least 1"),
        ({"selection": "highest"}, "Unknown value of `selection`"),
        ({"n_calibration": 0}, "`n_calibration` must be an integer of at least 1"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(UsageError, match=message):
        CrosstalkInjection(**settings)
