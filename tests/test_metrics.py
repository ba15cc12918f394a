"""Metrics against scikit-learn, scipy, torchmetrics, closed forms and counting by hand."""

import importlib
import math
import re
import sys
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
import torchmetrics.image.lpip
from scipy.ndimage import gaussian_filter
from sklearn.metrics import accuracy_score, mean_squared_error
from sklearn.metrics.pairwise import cosine_similarity as pairwise_cosine
from torch import nn

from redqubit.errors import UsageError
from redqubit.metrics import (
    BackdoorRates,
    accuracy,
    attack_success_rate,
    backdoor_success_rate,
    cosine_similarity,
    is_correct,
    linf_distance,
    lpips,
    psnr,
    robust_accuracy,
    squared_error,
    ssim,
    worst_case,
)

CLEAN = torch.tensor([True, True, True, False, False])
ATTACKED = torch.tensor([True, False, False, True, False])


def test_accuracy_equals_scikit_learn() -> None:
    random = torch.Generator().manual_seed(0)
    logits, y = torch.randn(200, 4, generator=random), torch.randint(4, (200,), generator=random)
    found = accuracy(is_correct(logits, y))
    assert found.value == pytest.approx(accuracy_score(y.numpy(), logits.argmax(1).numpy()))
    assert found.n == 200


def test_reconstructions_are_measured_as_scikit_learn_does() -> None:
    random = torch.Generator().manual_seed(0)
    x, changed = torch.randn(2, 30, 1, 4, 5, generator=random)
    a, b = x.flatten(1).numpy(), changed.flatten(1).numpy()
    assert squared_error(x, changed).mean().item() == pytest.approx(mean_squared_error(a, b), rel=1e-5)
    assert squared_error(x, changed)[3].item() == pytest.approx(mean_squared_error(a[3], b[3]), rel=1e-5)
    np.testing.assert_allclose(cosine_similarity(x, changed), np.diag(pairwise_cosine(a, b)), rtol=1e-4, atol=1e-6)
    whole = cosine_similarity(x.reshape(1, -1), changed.reshape(1, -1)).item()
    assert whole == pytest.approx(pairwise_cosine(a.reshape(1, -1), b.reshape(1, -1)).item(), rel=1e-4)
    for measure in (squared_error, cosine_similarity):
        with pytest.raises(UsageError, match="`changed` must pair with `x`"):
            measure(x, changed[:3])


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


def pictures(n: int = 3, channels: int = 3, side: int = 24, seed: int = 0) -> torch.Tensor:
    return torch.rand(n, channels, side, side, generator=torch.Generator().manual_seed(seed))


def test_ssim_equals_a_gaussian_filter_written_apart() -> None:
    x, other = pictures().double(), pictures(seed=1).double()

    def mean(values: np.ndarray) -> np.ndarray:  # 11 taps: radius int(3.5 * 1.5 + 0.5); "mirror" leaves out the edge
        return gaussian_filter(values, 1.5, truncate=3.5, mode="mirror")

    def one(a: np.ndarray, b: np.ndarray) -> float:
        ma, mb = mean(a), mean(b)
        va, vb, cov = mean(a * a) - ma**2, mean(b * b) - mb**2, mean(a * b) - ma * mb
        return float(np.mean((2 * ma * mb + 1e-4) * (2 * cov + 9e-4) / ((ma**2 + mb**2 + 1e-4) * (va + vb + 9e-4))))

    for changed in (other, 0.8 * x + 0.2 * other):
        expected = [
            np.mean([one(a, b) for a, b in zip(p, q, strict=True)])
            for p, q in zip(x.numpy(), changed.numpy(), strict=True)
        ]
        np.testing.assert_allclose(ssim(x, changed, batch_size=2).numpy(), expected, atol=1e-9)


@pytest.mark.parametrize("r", [0.85, 0.95, 1.05, 1.15])
def test_ssim_of_scaled_pictures(r: float) -> None:
    """Scaling texture by r gives (2r/(1+r^2))^2 a channel; a flat picture has no contrast to lose: 2r/(1+r^2)."""
    x = 0.2 + 0.6 * pictures().double()
    factor = 2 * r / (1 + r**2)
    torch.testing.assert_close(ssim(x, r * x), torch.full((3,), factor**2, dtype=x.dtype), atol=5e-4, rtol=0)
    red = x * torch.tensor([r, 1.0, 1.0])[:, None, None]
    torch.testing.assert_close(ssim(x, red), torch.full((3,), (factor**2 + 2) / 3, dtype=x.dtype), atol=2e-4, rtol=0)
    flat = torch.full((1, 3, 16, 16), 0.5, dtype=torch.float64)
    expected = (2 * r * 0.25 + 1e-4) / ((1 + r**2) * 0.25 + 1e-4)
    torch.testing.assert_close(ssim(flat, r * flat), torch.tensor([expected], dtype=x.dtype), atol=1e-9, rtol=0)


def test_ssim_of_the_published_examples() -> None:
    """1.05 on one channel leaves 0.9992 over RGB, on three 0.9976."""
    x = 0.9 * pictures(side=32)
    assert ssim(x, x * torch.tensor([1.05, 1, 1])[:, None, None]).mean() == pytest.approx(0.9992, abs=1e-4)
    assert ssim(x, x * 1.05).mean() == pytest.approx(0.9976, abs=1e-4)


def test_psnr_equals_torchmetrics() -> None:
    from torchmetrics.functional.image import peak_signal_noise_ratio

    x, changed = pictures(), pictures(seed=1)
    theirs = peak_signal_noise_ratio(changed, x, data_range=1.0, dim=(1, 2, 3), reduction="none")
    torch.testing.assert_close(psnr(x, changed), theirs)
    assert psnr(x, x).isinf().all()


def test_pictures_must_pair() -> None:
    x = pictures()
    for measure in (psnr, ssim):
        for changed in (x[:2], x[:, :1], x[:0]):
            with pytest.raises(UsageError, match="`changed` must pair with `x`"):
                measure(x, changed)
        with pytest.raises(UsageError, match="`changed` must pair with `x`"):
            measure(x[:0], x[:0])
    for small in (x[:, :, :5], x.flatten(1)):
        with pytest.raises(UsageError, match="at least 6x6"):
            ssim(small, small)
    assert ssim(x[:, :, :6], x[:, :, :6]).min() > 0.999


def alexnet_features() -> nn.Sequential:
    """AlexNet's convolutions with torchvision's places, without the last pooling."""
    return nn.Sequential(
        *(nn.Conv2d(3, 64, 11, stride=4, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(64, 192, 5, padding=2), nn.ReLU(), nn.MaxPool2d(3, 2)),
        *(nn.Conv2d(192, 384, 3, padding=1), nn.ReLU(), nn.Conv2d(384, 256, 3, padding=1), nn.ReLU()),
        *(nn.Conv2d(256, 256, 3, padding=1), nn.ReLU()),
    )


NAME = "alexnet-owt-7be5be79.pth"


@pytest.fixture
def checkpoints(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty cache of torch's; where torchvision cannot be imported, what LPIPS takes from it stands in."""
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")  # nothing is downloaded
    try:
        importlib.import_module("torchvision.models")
    except (ImportError, RuntimeError):

        class Weights:
            DEFAULT = SimpleNamespace(url=f"https://download.pytorch.org/models/{NAME}")

        def alexnet(*, weights: SimpleNamespace) -> SimpleNamespace:
            net = SimpleNamespace(features=alexnet_features())
            state = torch.hub.load_state_dict_from_url(weights.url)
            net.features.load_state_dict({k.removeprefix("features."): v for k, v in state.items() if "features" in k})
            return net

        package = ModuleType("torchvision")
        package.models = ModuleType("torchvision.models")  # type: ignore[attr-defined]
        package.models.AlexNet_Weights, package.models.alexnet = Weights, alexnet  # type: ignore[attr-defined]
        monkeypatch.setitem(sys.modules, "torchvision", package)
        monkeypatch.setitem(sys.modules, "torchvision.models", package.models)
        for place in ("image.lpip", "functional.image.lpips"):
            monkeypatch.setattr(f"torchmetrics.{place}._TORCHVISION_AVAILABLE", True)
    folder = tmp_path / "hub" / "checkpoints"
    folder.mkdir(parents=True)
    return folder


def random_alexnet(folder: Path) -> nn.Sequential:
    """Write a state dict of torchvision's AlexNet with random weights, and return its convolutions."""
    with torch.random.fork_rng():
        torch.manual_seed(0)
        features = alexnet_features()
        sizes = {1: (256 * 6 * 6, 4096), 4: (4096, 4096), 6: (4096, 1000)}
        heads = {f"classifier.{i}.{k}": v for i, (a, b) in sizes.items() for k, v in linear_state(a, b).items()}
    torch.save({**{f"features.{k}": v for k, v in features.state_dict().items()}, **heads}, folder / NAME)
    return features


def linear_state(n_in: int, n_out: int) -> dict[str, torch.Tensor]:
    return {"weight": torch.zeros(1).expand(n_out, n_in), "bias": torch.zeros(1).expand(n_out)}


def test_lpips_equals_its_formula(checkpoints: Path) -> None:
    features = random_alexnet(checkpoints).double()
    file = Path(torchmetrics.image.lpip.__file__).parents[1] / "functional/image/lpips_models/alex.pth"
    fitted = torch.load(file, map_location="cpu", weights_only=True)
    x, other = pictures(side=40), pictures(side=40, seed=1)
    maps = []
    for values in (x, other):
        z = (2 * values.double() - 1 - torch.tensor([-0.030, -0.088, -0.188])[:, None, None]) / torch.tensor(
            [0.458, 0.448, 0.450]
        )[:, None, None]
        found = []
        for layer in features:
            z = layer(z)
            found += [z / z.norm(dim=1, keepdim=True)] if isinstance(layer, nn.ReLU) else []
        maps.append(found)
    wanted = sum(
        ((a - b).square() * fitted[f"lin{i}.model.1.weight"]).sum(1).mean((1, 2))
        for i, (a, b) in enumerate(zip(*maps, strict=True))
    )
    assert isinstance(wanted, torch.Tensor)
    state = torch.random.get_rng_state()
    torch.testing.assert_close(lpips(x, other, batch_size=2), wanted.float(), atol=1e-6, rtol=1e-4)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert wanted.min() > 1e-4
    assert lpips(x, x).tolist() == [0, 0, 0]


def test_lpips_of_grey_and_of_the_smallest_pictures(checkpoints: Path) -> None:
    random_alexnet(checkpoints)
    grey, other = pictures(1, 1, 31).double(), pictures(1, 1, 31, seed=1).double()
    found = lpips(grey, other)
    assert (found.shape, found.dtype) == ((1,), torch.float64)
    torch.testing.assert_close(found, lpips(grey.repeat(1, 3, 1, 1), other.repeat(1, 3, 1, 1)))
    assert found > 0
    assert lpips(grey, 0.5 * grey + 0.5 * other) < found


def test_weights_of_lpips_that_are_absent_or_no_weights(checkpoints: Path) -> None:
    x = pictures(side=31)
    with pytest.raises(UsageError, match=rf"cannot be had \(URLError\): put https://.*{NAME} into .*checkpoints\.$"):
        lpips(x, x)
    torch.save({"features.0.weight": SimpleNamespace()}, checkpoints / NAME)
    with pytest.raises(UsageError, match=r"cannot be had \(UnpicklingError\)"):
        lpips(x, x)


def test_bad_arguments_of_lpips(monkeypatch: pytest.MonkeyPatch) -> None:
    x = pictures(side=31)
    with pytest.raises(UsageError, match="`changed` must pair with `x`"):
        lpips(x, x[:2])
    with pytest.raises(UsageError, match="Unknown net `alexa`: did you mean alex"):
        lpips(x, x, net="alexa")
    for wrong in (x[:, :, 1:], x[:, :2], x[0]):
        with pytest.raises(UsageError, match="at least 31x31 pixels for the net 'alex'"):
            lpips(wrong, wrong)
    for wrong in (2 * x, x - 0.5, x * math.nan):
        with pytest.raises(UsageError, match=r"must lie in \[0, 1\]"):
            lpips(x, wrong)
    monkeypatch.setitem(sys.modules, "torchvision.models", None)
    with pytest.raises(UsageError, match=f"its build for torch {re.escape(torch.__version__)}, but cannot be imported"):
        lpips(x, x)


def one_hot(*predicted: int) -> torch.Tensor:
    return torch.eye(3)[list(predicted)]


def test_backdoor_rates_by_hand() -> None:
    y = torch.tensor([0, 0, 1, 1, 1, 2, 2])
    rates = BackdoorRates.of(
        y,
        0,
        clean_model=one_hot(0, 0, 1, 1, 1, 2, 2),
        clean_model_triggered=one_hot(0, 0, 0, 1, 1, 2, 2),
        backdoored=one_hot(0, 1, 1, 1, 2, 2, 0),
        backdoored_triggered=one_hot(0, 0, 0, 0, 1, 0, 2),
        train_triggered=one_hot(0, 0, 1),
        train_y=torch.tensor([1, 2, 2]),
    )

    def counts(name: str) -> tuple[int, int]:
        found = getattr(rates, name)
        return found.k, found.n

    assert counts("clean_accuracy") == (7, 7)
    assert counts("backdoor_accuracy") == (4, 7)
    assert counts("attack_success_rate") == (3, 5)  # the two samples of the target class are left out
    assert counts("clean_model_floor") == (1, 5)
    assert counts("untriggered_floor") == (1, 5)
    assert counts("train_attack_success_rate") == (2, 3)
    assert counts("robust_accuracy") == (1, 7)
    assert [(p.k, p.n) for p in rates.by_class] == [(0, 0), (2, 3), (1, 2)]
    assert rates.above_floor == pytest.approx(0.4)
    assert rates.attack_success_rate.low < 0.6 < rates.attack_success_rate.high


def test_bad_arguments_of_the_success_rate() -> None:
    for target in (-1, 3):
        with pytest.raises(UsageError, match=r"`target_class` must lie in 0..2"):
            backdoor_success_rate(one_hot(0, 1), torch.tensor([0, 1]), target)
    with pytest.raises(UsageError, match="`y` must hold one label per row"):
        backdoor_success_rate(one_hot(0, 1), torch.tensor([0]), 0)
