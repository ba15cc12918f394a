"""Metrics against scikit-learn and counting by hand."""

import math

import pytest
import torch
from sklearn.metrics import accuracy_score

from redqubit.errors import UsageError
from redqubit.metrics import accuracy, attack_success_rate, is_correct, linf_distance, robust_accuracy, worst_case

CLEAN = torch.tensor([True, True, True, False, False])
ATTACKED = torch.tensor([True, False, False, True, False])


def test_accuracy_equals_scikit_learn() -> None:
    random = torch.Generator().manual_seed(0)
    logits, y = torch.randn(200, 4, generator=random), torch.randint(4, (200,), generator=random)
    found = accuracy(is_correct(logits, y))
    assert found.value == pytest.approx(accuracy_score(y.numpy(), logits.argmax(1).numpy()))
    assert found.n == 200


def test_robust_accuracy_counts_survivors_among_all() -> None:
    """Of 5 samples 3 are right at first and 1 of them survives; the one that the attack corrects does not count."""
    assert (robust_accuracy(CLEAN, ATTACKED).k, robust_accuracy(CLEAN, ATTACKED).n) == (1, 5)


def test_attack_success_rate_counts_victims_among_the_initially_correct() -> None:
    found = attack_success_rate(CLEAN, ATTACKED)
    assert (found.k, found.n) == (2, 3)
    assert math.isnan(attack_success_rate(~CLEAN & CLEAN, ATTACKED).value)


def test_worst_case_needs_every_attack_survived() -> None:
    found = worst_case([CLEAN, ATTACKED, torch.ones(5, dtype=torch.bool)])
    assert found.tolist() == [True, False, False, False, False]
    for wrong in ([], [CLEAN, ATTACKED[:4]]):
        with pytest.raises(UsageError, match="`correct`"):
            worst_case(wrong)


def test_linf_distance_of_images() -> None:
    x = torch.zeros(2, 3, 4, 4)
    x_adv = x.clone()
    x_adv[0, 2, 1, 1], x_adv[0, 0, 0, 0], x_adv[1, 1, 3, 3] = -0.5, 0.25, 0.125
    assert linf_distance(x, x_adv).tolist() == [0.5, 0.125]


def test_labels_must_match_logits() -> None:
    for logits, y in ((torch.zeros(3, 2), torch.zeros(2)), (torch.zeros(3), torch.zeros(3))):
        with pytest.raises(UsageError, match="`y` must hold one label per row"):
            is_correct(logits, y)
