"""Contracts that every registered trigger keeps, each trigger against its formula, and the poisoning of a set."""

import csv
import json
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
from matplotlib.colors import hsv_to_rgb, rgb_to_hsv
from PIL import Image
from pydantic import TypeAdapter
from scipy.ndimage import map_coordinates
from torch import Tensor, nn
from torch.nn import functional as F

from redqubit.backdoors import (
    TRIGGERS,
    Backdoor,
    Blend,
    Color,
    ColorSearch,
    ColorTrigger,
    Patch,
    Poisoned,
    Qcolor,
    QcolorCandidate,
    QcolorFront,
    QcolorSearch,
    Trigger,
    Triggered,
    WaNet,
    load_front,
    save_front,
    save_npz,
    save_pictures,
)
from redqubit.data import Dataset, load_image_folder, load_npz, load_splits
from redqubit.errors import UsageError
from redqubit.metrics import BackdoorRates, ssim
from redqubit.search import NSGA2, ParticleSwarm
from redqubit.storage.files import sealed
from redqubit.training import logits, train


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def pictures(n: int = 6, channels: int = 3, height: int = 14, width: int = 11) -> Tensor:
    x = torch.rand(n, channels, height, width, generator=seeded(1))
    x[0], x[1] = 0.0, 1.0  # corners of the cube
    return x


def labelled(n: int = 60, n_classes: int = 3, channels: int = 3, classes: tuple[str, ...] = ()) -> Dataset:
    return Dataset(pictures(n, channels), torch.arange(n) % n_classes, n_classes, classes=classes)


each_trigger = pytest.mark.parametrize("name", list(TRIGGERS))
each_channels = pytest.mark.parametrize("channels", [1, 3])


def test_the_registry_holds_the_five() -> None:
    assert list(TRIGGERS) == ["blend", "color", "patch", "qcolor", "wanet"]
    with pytest.raises(UsageError, match="did you mean blend"):
        TRIGGERS["blent"]


@each_trigger
@each_channels
def test_a_triggered_picture_is_another_picture(name: str, channels: int) -> None:
    x = pictures(channels=channels)
    kept, state = x.clone(), torch.get_rng_state()
    triggered = TRIGGERS[name]()(x)
    assert triggered.shape == x.shape
    assert triggered.dtype == x.dtype
    assert triggered.min() >= 0
    assert triggered.max() <= 1
    assert ((triggered - x).abs().flatten(1).amax(1) > 1e-3)[2:].all(), "each picture with texture must change"
    assert torch.equal(x, kept)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(triggered, TRIGGERS[name]()(x)), "the same trigger each time"
    torch.testing.assert_close(TRIGGERS[name]()(x[3:5]), triggered[3:5])  # whatever lies beside it in the batch
    double = TRIGGERS[name]()(x.double())
    assert double.dtype == torch.float64
    torch.testing.assert_close(double.float(), triggered, atol=1e-5, rtol=0)


@each_trigger
def test_gradients_pass_through(name: str) -> None:
    x = pictures()[2:].requires_grad_()
    TRIGGERS[name]()(x).sum().backward()
    assert x.grad is not None
    assert x.grad.isfinite().all()
    assert x.grad.any()


@each_trigger
def test_docstring_names_its_source(name: str) -> None:
    assert "Reference:" in (TRIGGERS[name].__doc__ or "")


@each_trigger
def test_fields_travel_through_json(name: str) -> None:
    trigger = TRIGGERS[name]()
    again = TypeAdapter(TRIGGERS[name]).validate_json(json.dumps(asdict(trigger)))
    assert again == trigger
    assert hash(again) == hash(trigger)
    floats = [key for key, value in asdict(trigger).items() if isinstance(value, float)]
    for key in floats:
        with pytest.raises(UsageError, match=f"`{key}`"):
            replace(trigger, **{key: float("nan")})


@each_trigger
@pytest.mark.parametrize(
    ("x", "match"),
    [
        (torch.rand(3, 12, 12), r"must hold pictures \(B, C, H, W\)"),
        (torch.rand(0, 3, 12, 12), r"must hold pictures \(B, C, H, W\)"),
        (torch.rand(5, 20), r"must hold pictures \(B, C, H, W\)"),
        (torch.full((1, 3, 12, 12), 200, dtype=torch.uint8), "must be floating point"),
        (torch.full((1, 3, 12, 12), 200.0), r"must lie in \[0, 1\], but spans 200 to 200"),
        (torch.full((1, 3, 12, 12), -0.1), r"must lie in \[0, 1\]"),
        (torch.full((1, 3, 12, 12), float("nan")), r"must lie in \[0, 1\]"),
    ],
)
def test_what_is_no_picture_is_refused(name: str, x: Tensor, match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        TRIGGERS[name]()(x)
    assert "\n" not in str(error.value)


@each_trigger
@each_channels
@pytest.mark.parametrize("mode", ["replace", "append"])
def test_the_mask_is_true_exactly_where_something_changed(name: str, channels: int, mode: str) -> None:
    clean = labelled(channels=channels)
    kept = clean.x.clone()
    backdoor = Backdoor(TRIGGERS[name](), target_class=1, poison_rate=0.2, mode=mode)
    poisoned = backdoor(clean, generator=seeded())
    assert isinstance(poisoned, Poisoned)
    assert torch.equal(clean.x, kept)
    x, y = poisoned.dataset.x, poisoned.dataset.y
    before, true = clean.x[poisoned.source], clean.y[poisoned.source]
    assert torch.equal(poisoned.is_poisoned, y != true)
    assert torch.equal(poisoned.is_poisoned, (x != before).flatten(1).any(1) | (y != true))
    torch.testing.assert_close(x[poisoned.is_poisoned], backdoor.trigger(before[poisoned.is_poisoned]))
    assert (y[poisoned.is_poisoned] == 1).all()
    assert not (true[poisoned.is_poisoned] == 1).any(), "no sample of the target class is triggered"
    assert not poisoned.is_cover.any()
    again = backdoor(clean, generator=seeded())
    assert torch.equal(again.dataset.x, x)
    other = backdoor(clean, generator=seeded(1))
    assert not torch.equal(other.source[other.is_poisoned], poisoned.source[poisoned.is_poisoned])


PLACES = {
    ("bottom_right", 0): (6, 3), ("bottom_right", 1): (5, 2), ("bottom_left", 0): (6, 0), ("bottom_left", 2): (4, 2),
    ("top_right", 0): (0, 3), ("top_right", 1): (1, 2), ("top_left", 0): (0, 0), ("top_left", 2): (2, 2),
    ("center", 0): (3, 1), ("center", 2): (3, 1),
}  # fmt: skip


@pytest.mark.parametrize(("place", "margin"), list(PLACES))
def test_patch_lies_in_its_place(place: str, margin: int) -> None:
    top, left = PLACES[place, margin]
    x = torch.full((2, 3, 8, 5), 0.25)
    expected = x.clone()
    expected[:, :, top : top + 2, left : left + 2] = torch.tensor([1.0, 0.0, 0.5])[:, None, None]
    assert torch.equal(Patch(2, place, margin, (1.0, 0.0, 0.5))(x), expected)


def test_a_centred_patch_has_no_margin_and_may_fill_the_picture() -> None:
    assert Patch(5, "center", margin=3)(torch.zeros(1, 1, 5, 5)).all()


def test_patch_by_area() -> None:
    for area, side in ((1, 1), (4, 2), (9, 3), (16, 4)):
        changed = Patch.of_area(area, margin=1, place="top_left")(torch.zeros(1, 3, 9, 9))
        assert changed.sum() == 3 * area
        assert changed[0, 0, 1 : 1 + side, 1 : 1 + side].all()
    for wrong in (0, -4, 8):
        with pytest.raises(UsageError, match="`area` must be a square number"):
            Patch.of_area(wrong)


def test_the_published_similarity_of_patches_is_that_of_side_3_not_9() -> None:
    """99.9 % at 224 pixels: no window further than 5 pixels from the square changes, 8^2 or 14^2 of 224^2 pixels."""
    x = F.interpolate(torch.rand(2, 3, 20, 20, generator=seeded()), 224, mode="bilinear")
    lost = [float(1 - ssim(x, Patch(side)(x)).mean()) for side in (3, 9)]
    assert 0.0003 < lost[0] < 8**2 / 224**2
    assert 0.0015 < lost[1] < 14**2 / 224**2


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: Patch(side=0), "`side` must be an integer of at least 1"),
        (lambda: Patch(margin=-1), "`margin` must be an integer of at least 0"),
        (lambda: Patch(place="bottom"), "did you mean bottom_left or bottom_right"),
        (lambda: Patch(color=()), "`color` must hold numbers"),
        (lambda: Patch(color=(255.0,)), "divide by 255"),
        (lambda: Patch(color=(0.1, 0.2))(pictures()), "`color` must have 1 value or one for each of 3 channels"),
        (lambda: Patch(side=12)(pictures()), "side 12 with margin 0 is larger than 14x11"),
        (lambda: Patch(side=10, margin=2)(pictures()), "side 10 with margin 2 is larger than 14x11"),
        (lambda: Blend(alpha=0.0), r"`alpha` must lie in \(0, 1\]"),
        (lambda: Blend(alpha=1.5), r"`alpha` must lie in \(0, 1\]"),
        (lambda: Blend(picture="absent.png")(pictures()), "`picture` must name a PNG or JPEG file"),
        (lambda: Blend(picture="x.png")(pictures(channels=2)), "go with pictures of 1 or 3 channels"),
        (lambda: WaNet(grid=1), "`grid` must be 2 to 256"),
        (lambda: WaNet(strength=0.0), "`strength` must be positive"),
        (lambda: WaNet(cover_ratio=-1.0), "`cover_ratio` must not be negative"),
        (lambda: Qcolor(r2=-0.5), "`r2` must not be negative"),
        (lambda: Qcolor()(pictures(channels=2)), "`x` must have 1 or 3 channels for a colour trigger, but has 2"),
        (lambda: Color()(pictures(channels=4)), "`x` must have 1 or 3 channels for a colour trigger, but has 4"),
    ],
)
def test_bad_triggers(make: object, match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        make()  # type: ignore[operator]
    assert "\n" not in str(error.value)


def test_blend_is_a_convex_mix_with_one_pattern() -> None:
    x = pictures(64)
    for alpha in (0.05, 0.2, 1.0):
        pattern = Blend(alpha=alpha, seed=4)(torch.zeros_like(x[:1]))[0] / alpha
        torch.testing.assert_close(Blend(alpha=alpha, seed=4)(x), (1 - alpha) * x + alpha * pattern)
    assert pattern.std() == pytest.approx(12**-0.5, abs=0.02)  # of U(0, 1)
    assert pattern.mean() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(Blend(seed=4)(x), Blend(seed=5)(x))


@each_channels
def test_blend_with_a_picture(tmp_path: Path, channels: int) -> None:
    x = pictures(channels=channels)
    pixels = (torch.rand(14, 11, 3, generator=seeded()) * 255).byte().numpy()
    Image.fromarray(pixels).save(tmp_path / "p.png")
    pattern = torch.from_numpy(pixels).permute(2, 0, 1) / 255
    if channels == 1:
        weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
        pattern = (pattern * weights).sum(0, keepdim=True)
    found = Blend(alpha=0.3, picture=str(tmp_path / "p.png"))(x)
    torch.testing.assert_close(found, 0.7 * x + 0.3 * pattern, atol=2e-3, rtol=0)


def test_wanet_equals_the_published_recipe() -> None:
    """The steps of the authors' code on a square picture, in one coordinate system from -1 to 1."""
    side, k, s = 20, 4, 0.5
    x = torch.rand(3, 3, side, side, generator=seeded())
    noise = torch.rand(1, 2, k, k, dtype=torch.float64, generator=seeded(6)) * 2 - 1
    noise = noise / noise.abs().mean()
    field = F.interpolate(noise, size=side, mode="bicubic", align_corners=True).permute(0, 2, 3, 1)
    axis = torch.linspace(-1, 1, side, dtype=torch.float64)
    rows, columns = torch.meshgrid(axis, axis, indexing="ij")
    grid = (torch.stack([columns, rows], 2)[None] + s * field / side).clamp(-1, 1)
    expected = F.grid_sample(x.double(), grid.repeat(3, 1, 1, 1), align_corners=True)
    torch.testing.assert_close(WaNet(k, s, 6)(x.double()), expected)


def test_wanet_equals_scipys_interpolation() -> None:
    """Bilinear interpolation at the displaced pixels, kept inside; a picture that is not square, a large strength."""
    x = pictures(4, 2, 17, 12).double()
    trigger = WaNet(strength=6.0, seed=2)
    shift = trigger.displacement(17, 12).numpy()
    assert np.abs(shift).max() > 1
    rows, columns = np.meshgrid(np.arange(17), np.arange(12), indexing="ij")
    where = np.stack([(rows + shift[..., 1]).clip(0, 16), (columns + shift[..., 0]).clip(0, 11)])
    expected = [[map_coordinates(channel, where, order=1) for channel in picture] for picture in x.numpy()]
    np.testing.assert_allclose(trigger(x).numpy(), expected, atol=1e-12)


def test_wanets_field_on_pictures_that_are_not_square() -> None:
    """1 / size in coordinates from -1 to 1, where a pixel is 2 / (size - 1), along each axis."""
    noise = torch.rand(1, 2, 4, 4, dtype=torch.float64, generator=seeded(2)) * 2 - 1
    field = F.interpolate(noise / noise.abs().mean(), size=(30, 7), mode="bicubic", align_corners=True)[0]
    expected = torch.stack([0.5 * field[0] * 6 / 14, 0.5 * field[1] * 29 / 60], 2)
    torch.testing.assert_close(WaNet(seed=2).displacement(30, 7), expected)


@pytest.mark.parametrize("side", [28, 64, 224])
def test_wanet_moves_by_a_fifth_of_a_pixel_whatever_the_size(side: int) -> None:
    shifts = [WaNet(seed=seed).displacement(side, side).abs().mean() for seed in range(20)]
    assert torch.stack(shifts).mean() == pytest.approx(0.2, abs=0.03)


@pytest.mark.parametrize("mode", ["replace", "append"])
def test_wanets_cover_samples_keep_their_labels(mode: str) -> None:
    clean = labelled(90)
    trigger = WaNet(cover_ratio=2.0)
    poisoned = Backdoor(trigger, poison_rate=0.1, mode=mode)(clean, generator=seeded())
    x, y = poisoned.dataset.x, poisoned.dataset.y
    before, true = clean.x[poisoned.source], clean.y[poisoned.source]
    touched = poisoned.is_poisoned | poisoned.is_cover
    assert (int(poisoned.is_poisoned.sum()), int(poisoned.is_cover.sum())) == (9, 18)
    assert not (poisoned.is_poisoned & poisoned.is_cover).any()
    assert torch.equal(y[~poisoned.is_poisoned], true[~poisoned.is_poisoned])
    textured = poisoned.source > 1
    assert torch.equal(touched & textured, (x != before).flatten(1).any(1))
    covers, warped = x[poisoned.is_cover], trigger(before[poisoned.is_cover])
    assert ((covers - warped).abs().flatten(1).amax(1) > 0.01)[textured[poisoned.is_cover]].all(), "noise on each"
    torch.testing.assert_close(x[poisoned.is_poisoned], trigger(before[poisoned.is_poisoned]))
    assert len(set(poisoned.source[touched].tolist())) == 27, "no sample serves twice"
    with pytest.raises(UsageError, match="`cover_ratio` must leave a cover sample"):
        Backdoor(trigger, poison_rate=0.4)(clean, generator=seeded())


def test_cover_noise_is_up_to_half_a_pixel_and_its_own_for_each_picture() -> None:
    ramp = torch.arange(40, dtype=torch.float64).div(40).expand(200, 1, 40, 40)  # a pixel to the right is 1/40
    trigger = WaNet()
    difference = (trigger.cover(ramp, seeded()) - trigger(ramp)) * 40
    inside = difference[..., 3:-3]
    assert 0.48 < inside.abs().max() <= 39 / 80 + 1e-9
    assert inside.mean() == pytest.approx(0, abs=2e-3)
    assert inside.std() == pytest.approx(39 / 80 / 3**0.5, rel=0.01)  # of U(-1, 1) half pixels
    assert not torch.equal(difference[0], difference[1])


@pytest.mark.parametrize("shift", [(0.05, 0.2, -0.1), (-0.3, -0.5, 0.4), (0.7, 0.0, 0.0), (0.0, 0.0, 0.0)])
def test_color_equals_matplotlibs_hsv(shift: tuple[float, float, float]) -> None:
    x = pictures(20).double()
    x[2, :, :, :3] = 0.4  # grey
    x[3, 0], x[4, 1], x[5, 2] = 1.0, 1.0, 1.0  # each channel the largest
    hsv = rgb_to_hsv(x.permute(0, 2, 3, 1).numpy())
    moved = np.stack([(hsv[..., 0] + shift[0]) % 1, *((hsv[..., k] + shift[k]).clip(0, 1) for k in (1, 2))], -1)
    expected = hsv_to_rgb(moved).transpose(0, 3, 1, 2)
    np.testing.assert_allclose(Color(*shift)(x).numpy(), expected, atol=1e-9)


def test_qcolor_is_eq_15() -> None:
    x = pictures(20)
    found = Qcolor(0.9, 1.1, 1.3)(x)
    for channel, ratio in enumerate((0.9, 1.1, 1.3)):
        torch.testing.assert_close(found[:, channel], (x[:, channel] * ratio).clamp(max=1))
    assert torch.equal(Qcolor(1.0, 1.0, 1.0)(x), x)


@pytest.mark.parametrize("trigger", [Qcolor(0.9, 1.05, 1.0), Color(0.1, 0.4, 0.05)])
def test_on_grey_pictures_a_colour_trigger_is_a_tint_and_says_so(trigger: ColorTrigger) -> None:
    grey = pictures(60, 1) * 0.8
    as_rgb = grey.expand(-1, 3, -1, -1)
    tinted = trigger(as_rgb)
    assert (tinted[2:].amax(1) - tinted[2:].amin(1)).mean() > 0.02, "no longer grey"
    weights = torch.tensor([0.299, 0.587, 0.114])[:, None, None]
    torch.testing.assert_close(trigger(grey), (tinted * weights).sum(1, keepdim=True))
    for x, words in ((grey, "one channel"), (as_rgb, "works as a tint")):
        set_ = Dataset(x.contiguous(), torch.arange(60) % 3, 3)
        (note,) = Backdoor(trigger, poison_rate=0.1)(set_, generator=seeded()).notes
        assert words in note
        assert type(trigger).__name__ in note
    assert Backdoor(trigger, poison_rate=0.1)(labelled(), generator=seeded()).notes == ()
    assert Backdoor(Patch(), poison_rate=0.1)(labelled(channels=1), generator=seeded()).notes == ()


@pytest.mark.parametrize(("rate", "count"), [(0.01, 1), (0.1, 6), (0.11, 7), (0.5, 30), (0.66, 40)])
def test_poison_counts(rate: float, count: int) -> None:
    clean = labelled()
    for mode, size in (("replace", 60), ("append", 60 + count)):
        poisoned = Backdoor(Patch(), poison_rate=rate, mode=mode)(clean, generator=seeded())
        assert int(poisoned.is_poisoned.sum()) == count
        assert len(poisoned) == len(poisoned.dataset) == size
    assert torch.equal(poisoned.dataset.x[:60], clean.x), "appended, the clean samples stay in their places"
    assert torch.equal(poisoned.dataset.y[:60], clean.y)


def test_the_draw_is_uniform_over_the_other_classes() -> None:
    clean, generator = labelled(), seeded()
    backdoor = Backdoor(Patch(), target_class=2, poison_rate=0.2)  # 12 of 40
    counts = sum(backdoor(clean, generator=generator).is_poisoned.int() for _ in range(300))
    assert not counts[clean.y == 2].any()
    others = counts[clean.y != 2].float()
    assert others.mean() == 300 * 12 / 40
    chi2 = float(((others - 90) ** 2 / (90 * 0.7)).sum())
    assert 15 < chi2 < 75  # 39 degrees of freedom: 0.03 % and 99.96 % quantiles


def test_a_poisoned_set_shares_the_clean_one_and_streams() -> None:
    clean = labelled(600)
    for mode in ("replace", "append"):
        poisoned = Backdoor(WaNet(cover_ratio=1.0), poison_rate=0.05, mode=mode)(clean, generator=seeded())
        assert poisoned.clean is clean
        assert len(poisoned.changed) == 60
        xs, ys = zip(*poisoned.batches(47), strict=True)
        assert torch.equal(torch.cat(xs), poisoned.dataset.x)
        assert torch.equal(torch.cat(ys), poisoned.dataset.y)
        indices = torch.randint(len(poisoned), (500,), generator=seeded())
        x, y = poisoned.batch(indices)
        assert torch.equal(x, poisoned.dataset.x[indices])
        assert torch.equal(y, poisoned.dataset.y[indices])
        x.zero_()
        assert clean.x[2:].any(), "a batch is the caller's to change"


def test_poisoning_leaves_type_and_names() -> None:
    clean = Dataset(pictures(30).double(), torch.arange(30) % 3, 3, "toy", ("a", "b", "c"), "here")
    made = Backdoor(Blend(), poison_rate=0.3)(clean, generator=seeded()).dataset
    assert made.x.dtype == torch.float64
    assert (made.name, made.classes, made.source, made.n_classes) == ("toy", ("a", "b", "c"), "here", 3)


@pytest.mark.parametrize(
    ("change", "data", "match"),
    [
        ({"poison_rate": 0.0}, labelled(), "`poison_rate` must lie between 0 and 1, but is 0.0"),
        ({"poison_rate": 1.0}, labelled(), "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": -0.1}, labelled(), "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": float("nan")}, labelled(), "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": 10}, labelled(), "`poison_rate` must lie between 0 and 1"),
        ({"poison_rate": 0.7}, labelled(), "between 1 and 40 of 60 samples, .* but 0.7 is 42"),
        ({"poison_rate": 0.005}, labelled(), "between 1 and 40 of 60 samples, .* but 0.005 is 0"),
        ({"target_class": 3}, labelled(), "`target_class` must be a class of the training set, but 3 is none of 0, 1"),
        ({"target_class": -1}, labelled(), "but -1 is none of 0, 1, 2"),
        ({"target_class": 1}, labelled().subset(labelled().y != 1), "but 1 is none of 0, 2"),
        ({"mode": "insert"}, labelled(), "Unknown value of `mode` `insert`"),
        ({}, Dataset(torch.rand(9, 4), torch.arange(9) % 3, 3), "`dataset` must hold pictures"),
        ({"trigger": Patch(side=30)}, labelled(), "square of side 30 .* is larger than 14x11"),
        ({"trigger": Qcolor()}, labelled(channels=2), "must have 1 or 3 channels"),
    ],
)
def test_what_cannot_be_poisoned(change: dict[str, object], data: Dataset, match: str) -> None:
    with pytest.raises(UsageError, match=match) as error:
        replace(Backdoor(Patch()), **change)(data, generator=seeded())  # type: ignore[arg-type]
    assert "\n" not in str(error.value)


def test_a_model_behind_a_trigger() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(3 * 14 * 11, 3))
    x = pictures(20)
    for trigger in (Patch(), WaNet()):
        torch.testing.assert_close(logits(Triggered(model, trigger), x, batch_size=7), logits(model, trigger(x)))


def net() -> nn.Module:
    model = nn.Sequential(nn.Flatten(), nn.Linear(64, 32), nn.ReLU(), nn.Linear(32, 10))
    generator = seeded(8)
    with torch.no_grad():
        for weight in model.parameters():
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.1)
    return model


def test_a_backdoor_takes_in_a_small_net_and_not_without_poison() -> None:
    """A 2x2 patch at 10 % on digits: the control that trigger, labels and rates belong together."""
    clean, test = load_splits("digits")
    backdoor = Backdoor(Patch(side=2), target_class=3, poison_rate=0.1)
    poisoned = backdoor(clean, generator=seeded())
    models = [
        train(net(), data.x, data.y, epochs=12, lr=3e-3, generator=seeded()) for data in (clean, poisoned.dataset)
    ]
    outputs = [logits(m, test.x) for m in models] + [logits(Triggered(m, backdoor.trigger), test.x) for m in models]
    rates = BackdoorRates.of(
        test.y,
        3,
        clean_model=outputs[0],
        backdoored=outputs[1],
        clean_model_triggered=outputs[2],
        backdoored_triggered=outputs[3],
        train_triggered=logits(models[1], poisoned.dataset.x[poisoned.is_poisoned]),
        train_y=clean.y[poisoned.source][poisoned.is_poisoned],
    )
    assert rates.attack_success_rate.low > 0.9
    assert rates.train_attack_success_rate.low > 0.9
    assert rates.clean_model_floor.high < 0.15
    assert rates.untriggered_floor.high < 0.05
    assert rates.clean_accuracy.value > 0.93
    assert rates.backdoor_accuracy.value > 0.93
    assert rates.robust_accuracy.value < 0.2
    assert rates.above_floor > 0.8


def test_saved_as_npz_it_is_read_back_exactly(tmp_path: Path) -> None:
    poisoned = Backdoor(WaNet(cover_ratio=1.0), poison_rate=0.1, mode="append")(labelled(), generator=seeded())
    path = save_npz(poisoned, tmp_path / "new" / "set.npz")
    again = load_npz(path)
    assert torch.equal(again.x, poisoned.dataset.x)
    assert torch.equal(again.y, poisoned.dataset.y)
    with np.load(path, allow_pickle=False) as arrays:
        for name in ("is_poisoned", "is_cover", "source"):
            np.testing.assert_array_equal(arrays[name], getattr(poisoned, name).numpy())
    save_npz(Backdoor(Patch())(labelled(), generator=seeded()), path)
    assert len(load_npz(path)) == 60
    assert [entry.name for entry in path.parent.iterdir()] == ["set.npz"]
    (tmp_path / "file").write_text("")
    with pytest.raises(UsageError, match="`path` must be writable"):
        save_npz(poisoned, tmp_path / "file" / "set.npz")


@each_channels
def test_saved_as_pictures_it_is_read_back(tmp_path: Path, channels: int) -> None:
    clean = labelled(channels=channels, classes=("zebra", "an/ape", "cat"))
    backdoor = Backdoor(WaNet(cover_ratio=1.0), target_class=2, poison_rate=0.1)
    poisoned = backdoor(clean, generator=seeded())
    folder = save_pictures(poisoned, tmp_path / "set", backdoor=backdoor)
    again = load_image_folder(folder, n_channels=channels)
    assert again.classes == ("0_zebra", "1_an_ape", "2_cat")
    order = poisoned.y.argsort(stable=True)
    assert torch.equal(again.y, poisoned.y[order])
    assert (again.x - poisoned.dataset.x[order]).abs().max() <= 1 / 510 + 1e-6
    with (folder / "index.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [int(row["source"]) for row in rows] == poisoned.source.tolist()
    assert [int(row["clean_label"]) for row in rows] == clean.y.tolist()
    for row, bad, cover in zip(rows, poisoned.is_poisoned.tolist(), poisoned.is_cover.tolist(), strict=True):
        assert (folder / row["file"]).exists()
        assert (row["is_poisoned"], row["is_cover"]) == (str(int(bad)), str(int(cover)))
        assert (row["file"].endswith("_poisoned.png"), row["file"].endswith("_cover.png")) == (bad, cover)
    assert json.loads((folder / "backdoor.json").read_text())["trigger"]["strength"] == 0.5
    with pytest.raises(UsageError, match="`folder` must be new or empty"):
        save_pictures(poisoned, folder)


def test_pictures_of_two_channels_cannot_be_saved_as_such(tmp_path: Path) -> None:
    poisoned = Backdoor(Patch())(labelled(channels=2), generator=seeded())
    with pytest.raises(UsageError, match="1 or 3 channels, but they have 2: save an npz"):
        save_pictures(poisoned, tmp_path / "set")
    assert len(load_npz(save_npz(poisoned, tmp_path / "set.npz"))) == 60


def candidate(loss: float, ssim: float, spread: float = 0.01, seeds: int = 3) -> QcolorCandidate:
    losses = (loss,) if seeds == 1 else tuple(loss + spread * k for k in (-1, 0, 1))
    return QcolorCandidate(Qcolor(1 + loss), losses, 1 - ssim)


def test_the_best_is_the_least_loss_among_the_similar() -> None:
    front = (candidate(3.0, 0.999), candidate(1.0, 0.993), candidate(0.5, 0.97))
    choice = QcolorFront(front, front).best()
    assert (choice.candidate, choice.rule, choice.tied, choice.is_optimum) == (front[1], "ssim", (), True)
    assert QcolorFront(front, front).best(min_ssim=0.96).candidate is front[2]
    at_the_bound = (candidate(3.0, 0.999), candidate(1.0, 0.5 + 0.49))
    assert QcolorFront(at_the_bound, at_the_bound).best(0.5 + 0.49).candidate is at_the_bound[1]


def test_without_a_similar_one_the_knee_is_taken() -> None:
    front = (candidate(3.0, 0.98), candidate(1.0, 0.97), candidate(0.5, 0.80))
    choice = QcolorFront(front, front).best()
    assert (choice.candidate, choice.rule, choice.is_optimum) == (front[1], "knee", False)


def test_a_loss_within_its_spread_is_no_optimum() -> None:
    near = (candidate(1.0, 0.995, spread=0.2), candidate(1.1, 0.999), candidate(1.3, 0.9999))
    choice = QcolorFront(near, near).best()
    assert choice.candidate is near[0]
    assert choice.tied == (near[1],)
    assert not choice.is_optimum
    alone = (candidate(1.0, 0.995, seeds=1),)
    assert not QcolorFront(alone, alone).best().is_optimum, "one seed shows no spread"


@pytest.mark.parametrize("seeds", [1, 3])
def test_a_saved_front_is_read_back_and_says_what_was_chosen(tmp_path: Path, seeds: int) -> None:
    looked_at = [candidate(loss, ssim, 0.2, seeds) for loss, ssim in ((3, 0.999), (9, 0.9), (1, 0.995), (1 / 3, 0.97))]
    front = QcolorFront((looked_at[0], looked_at[2], looked_at[3]), tuple(looked_at))
    path = save_front(front, tmp_path / "front.json")
    assert load_front(path) == front
    assert [p.name for p in tmp_path.iterdir()] == ["front.json"]
    raw = json.loads(path.read_text())
    assert raw["front"] == [0, 2, 3]
    tied = [0] if seeds == 1 else []  # one seed shows no spread: whatever is similar could be as good
    assert raw["choice"] == {"place": 2, "rule": "ssim", "min_ssim": 0.99, "tied": tied, "is_optimum": seeds == 3}
    assert [row["ssim"] for row in raw["evaluated"]] == pytest.approx([0.999, 0.9, 0.995, 0.97])
    assert [row["spread"] for row in raw["evaluated"]] == [None if seeds == 1 else pytest.approx(0.2)] * 4
    assert [row["loss"] for row in raw["evaluated"]] == pytest.approx([3, 9, 1, 1 / 3])
    assert json.loads(save_front(front, path, min_ssim=1.0).read_text())["choice"]["rule"] == "knee"


def test_a_damaged_front_is_one_clear_error(tmp_path: Path) -> None:
    front = QcolorFront((candidate(1, 0.995),), (candidate(1, 0.995),))
    path = save_front(front, tmp_path / "front.json")
    good = path.read_text().partition(', "crc32"')[0] + "}"
    damaged = [
        good[:-20],
        "[]",
        "{}",
        good.replace('"r1": 2', '"r1": -2'),
        good.replace('"r1": 2', '"r1": "red"'),
        good.replace('"dissimilarity": 0', '"dissimilarity": NaN, "was": 0'),
        good.replace('"losses"', '"loses"'),
        good.replace('"front": [\n  0', '"front": [\n  1'),
        good.replace('"front": [\n  0', '"front": ['),
        good.replace('"dissimilarity": 0', f'"dissimilarity": {10**400}, "was": 0'),
    ]
    assert len({good, *damaged}) == 11, "each is damaged in a way of its own"
    for text in damaged:
        path.write_text(sealed(text))
        with pytest.raises(UsageError, match="`path` must be a saved front, but") as error:
            load_front(path)
        assert "\n" not in str(error.value)
    with pytest.raises(UsageError, match="No such file"):
        load_front(tmp_path / "absent.json")
    for bad in (QcolorFront((), ()), QcolorFront((candidate(1, 0.995),), (candidate(2, 0.995),))):
        with pytest.raises(UsageError, match="`front` must have candidates, all among those evaluated"):
            save_front(bad, path)


def test_the_search_of_qcolor_trades_loss_for_similarity() -> None:
    x = 0.1 + 0.7 * pictures(4)
    calls = list[Qcolor]()

    def effectiveness(trigger: Qcolor) -> list[float]:
        calls.append(trigger)
        changed = trigger(x) - x
        return [float(torch.exp(-100 * changed.square().mean())) + seed for seed in (-0.01, 0.0, 0.01)]

    def dissimilarity(trigger: Qcolor) -> float:
        return float(1 - ssim(x, trigger(x)).mean())

    search = QcolorSearch(NSGA2(10, 6), low=0.9, high=1.1)
    found = search(effectiveness, dissimilarity, generator=seeded(), workers=2)
    assert len(calls) == len(set(calls)) == len(found.evaluated) <= 60
    for c in found.evaluated:
        assert all(0.9 <= r <= 1.1 for r in (c.trigger.r1, c.trigger.r2, c.trigger.r3))
        assert c.ssim == pytest.approx(1 - dissimilarity(c.trigger))
    similarity, loss = [c.ssim for c in found.candidates], [c.loss for c in found.candidates]
    assert len(found.candidates) > 3
    assert similarity[0] == max(c.ssim for c in found.evaluated), "both ends survive every generation"
    assert loss[-1] == min(c.loss for c in found.evaluated)
    assert similarity == sorted(similarity, reverse=True)
    assert loss == sorted(loss, reverse=True), "on a front each step away from similarity must gain"
    for c in found.candidates:
        assert not any(o.loss < c.loss and o.ssim > c.ssim for o in found.evaluated)
    assert search(effectiveness, dissimilarity, generator=seeded(), workers=1) == found


def test_the_search_of_color_finds_the_least_loss_that_is_similar_enough() -> None:
    """The loss is least at (0.02, 0.15, 0.15), but a value above 0.1 costs too much similarity."""

    def effectiveness(trigger: Color) -> float:
        return (trigger.hue - 0.02) ** 2 + (trigger.saturation - 0.15) ** 2 + (trigger.value - 0.15) ** 2

    search = ColorSearch(ParticleSwarm(20, 60))
    found = search(effectiveness, lambda trigger: max(0.0, trigger.value), generator=seeded(), workers=2)
    (best,) = found.best
    assert best.trigger.hue == pytest.approx(0.02, abs=0.01)
    assert best.trigger.saturation == pytest.approx(0.15, abs=0.01)
    assert best.trigger.value == pytest.approx(0.10, abs=0.01)
    assert best.ssim == pytest.approx(1 - best.trigger.value)
    assert max(abs(c.trigger.hue) for c in found.evaluated) <= 0.05
    assert max(abs(c.trigger.value) for c in found.evaluated) <= 0.2
    assert best.objective == min(c.objective for c in found.evaluated)


@pytest.mark.parametrize(
    ("make", "match"),
    [
        (lambda: QcolorSearch(low=1.1, high=0.9), "`low` and `high` must be ratios"),
        (lambda: QcolorSearch(low=-0.1), "`low` and `high` must be ratios"),
        (lambda: QcolorSearch()(lambda t: [], lambda t: 0.0, generator=seeded()), "must return a loss per seed"),
        (lambda: QcolorSearch()(lambda t: [np.nan], lambda t: 0.0, generator=seeded()), "2 finite numbers"),
        (lambda: ColorSearch()(lambda t: np.inf, lambda t: 0.0, generator=seeded()), "1 finite numbers"),
        (lambda: ColorSearch(max_hue=0.0), "`max_hue` must be finite and positive"),
    ],
)
def test_bad_searches(make: object, match: str) -> None:
    with pytest.raises(UsageError, match=match):
        make()  # type: ignore[operator]


def test_a_trigger_of_ones_own_needs_only_apply() -> None:
    class Invert(Trigger):
        def apply(self, x: Tensor) -> Tensor:
            return 2 - 3 * x  # beyond [0, 1]: the call clips

    x = pictures()
    torch.testing.assert_close(Invert()(x), (2 - 3 * x).clamp(0, 1))
    assert int(Backdoor(Invert(), poison_rate=0.1)(labelled(), generator=seeded()).is_poisoned.sum()) == 6
