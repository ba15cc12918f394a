"""The autoencoder: the published network, a loss that falls, and a cache that survives damage and company."""

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import load_file, save_file

from redqubit.data import load
from redqubit.errors import UsageError
from redqubit.models import Autoencoder, latents, train_autoencoder, trained_autoencoder
from redqubit.models.autoencoder import resized

PICTURES = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(3))


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def one_line(error: pytest.ExceptionInfo[UsageError]) -> str:
    message = str(error.value)
    assert "\n" not in message
    assert "must" in message
    assert ": " in message
    return message


# ---- the network -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [8, 16])
def test_layers_are_the_published_ones(d: int) -> None:
    model = Autoencoder(d, generator=seeded()).eval()
    # k^2 c_in c_out + c_out of each convolution, n_in n_out + n_out of each linear layer, 2 c of each normalisation
    encoder = (9 * 8 + 8) + (9 * 8 * 16 + 16) + 2 * 16 + (9 * 16 * 32 + 32) + (288 * 128 + 128) + (128 * d + d)
    decoder = (d * 128 + 128) + (128 * 288 + 288) + (9 * 32 * 16 + 16) + 2 * 16 + (9 * 16 * 8 + 8) + 2 * 8 + (9 * 8 + 1)
    assert sum(p.numel() for p in model.encoder.parameters()) == encoder
    assert sum(p.numel() for p in model.decoder.parameters()) == decoder
    with torch.no_grad():
        features, rebuilt = model.encode(PICTURES), model(PICTURES)
    assert (tuple(features.shape), tuple(rebuilt.shape)) == ((40, d), (40, 1, 28, 28))
    assert 0 <= float(rebuilt.min()) <= float(rebuilt.max()) <= 1
    assert float(features.mean(1).abs().max()) < 1e-6  # a layer norm without parameters
    assert float((features.var(1, unbiased=False) - 1).abs().max()) < 1e-2
    assert [model.encoder[:stage](PICTURES[:1]).shape[-1] for stage in (1, 3, 6)] == [14, 7, 3]


def test_weights_come_from_the_generator_alone() -> None:
    drawn = torch.get_rng_state()
    first, same, other = (Autoencoder(8, generator=seeded(s)).state_dict() for s in (1, 1, 2))
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(first[name], same[name]) for name in first)
    assert not torch.equal(first["encoder.0.weight"], other["encoder.0.weight"])
    assert not first["encoder.10.bias"].any()


def test_other_sizes_are_interpolated_as_pillow_does() -> None:
    rough = torch.rand(2, 1, 32, 32, generator=seeded(4))
    ours = resized(rough)
    for picture, small in zip(rough, ours, strict=True):
        theirs = Image.fromarray(picture[0].numpy(), "F").resize((28, 28), Image.Resampling.BILINEAR)
        assert np.abs(np.asarray(theirs) - small[0].numpy()).max() < 1e-5
    assert torch.equal(resized(PICTURES), PICTURES)
    assert resized(load("digits").x[:2].double()).dtype == torch.float32


@pytest.mark.parametrize("shape", [(3, 3, 28, 28), (3, 784), (0, 1, 28, 28), (3, 1, 28, 30)])
def test_what_is_no_grey_picture_is_refused(shape: tuple[int, ...]) -> None:
    with pytest.raises(UsageError, match="square grey pictures") as error:
        train_autoencoder(torch.zeros(shape), d=8, generator=seeded())
    one_line(error)


def test_wrong_settings_are_refused() -> None:
    for wrong in ({"d": 2}, {"d": 8, "held_out": 0.001}, {"d": 8, "held_out": 1.0}):
        with pytest.raises(UsageError) as error:
            train_autoencoder(PICTURES, generator=seeded(), **wrong)
        one_line(error)
    with pytest.raises(UsageError, match=r"diverged in epoch 1: lower `lr`"):
        train_autoencoder(PICTURES.index_fill(2, torch.tensor([3]), float("nan")), d=8, generator=seeded())


# ---- training --------------------------------------------------------------------------------------------------------


def test_the_loss_falls_below_that_of_the_mean_picture_on_pictures_held_out() -> None:
    x = resized(load("digits").x[:400])
    losses: list[tuple[int, float, float]] = []
    model = train_autoencoder(
        x, d=8, epochs=12, batch_size=32, lr=3e-3, generator=seeded(), on_epoch=lambda *now: losses.append(now)
    )
    assert [done for done, _, _ in losses] == list(range(1, 13))
    trained, held = [loss for _, loss, _ in losses], [loss for _, _, loss in losses]
    assert trained[-1] < trained[0] / 2
    assert held[-1] < held[0] / 2
    mean_picture = float((x - x.mean(0)).square().mean())
    assert held[-1] < mean_picture
    assert not model.training


def test_training_follows_its_generator() -> None:
    first, same, other = (train_autoencoder(PICTURES, d=4, epochs=1, generator=seeded(s)) for s in (5, 5, 6))
    assert torch.equal(first.encode(PICTURES), same.encode(PICTURES))
    assert not torch.equal(first.encode(PICTURES), other.encode(PICTURES))


# ---- the cache -------------------------------------------------------------------------------------------------------


def files(cache: Path) -> list[Path]:
    return sorted(cache.glob("*.safetensors"))


def test_what_was_trained_is_not_trained_again(tmp_path: Path) -> None:
    without = latents(PICTURES, PICTURES[:7], d=4, epochs=1)
    first = latents(PICTURES, PICTURES[:7], d=4, epochs=1, cache=tmp_path / "new" / "cache")
    (file,) = files(tmp_path / "new" / "cache")
    written = file.stat().st_mtime_ns, file.stat().st_ino
    second = latents(PICTURES, PICTURES[:7], d=4, epochs=1, cache=tmp_path / "new" / "cache")
    assert torch.equal(first, without)
    assert torch.equal(second, without)
    assert (file.stat().st_mtime_ns, file.stat().st_ino) == written
    assert {path.suffix for path in file.parent.iterdir()} <= {".safetensors", ".lock"}


def test_each_content_and_each_setting_has_its_own_file(tmp_path: Path) -> None:
    changed = PICTURES.clone()
    changed[0, 0, 0, 0] = 1 - changed[0, 0, 0, 0]
    trained_autoencoder(PICTURES, d=4, epochs=0, cache=tmp_path)
    for x, settings in (
        (PICTURES.flip(0), {}),
        (changed, {}),
        (PICTURES[:39], {}),
        (PICTURES, {"d": 5}),
        (PICTURES, {"epochs": 1}),
        (PICTURES, {"seed": 1}),
    ):
        before = len(files(tmp_path))
        trained_autoencoder(x, **{"d": 4, "epochs": 0, "cache": tmp_path, **settings})  # type: ignore[arg-type]
        assert len(files(tmp_path)) == before + 1


class Bomb:
    """Something that leaves a mark when it is unpickled."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.mark),)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-100])


def flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[-1000] ^= 0x10  # among the weights, where the format itself notices nothing
    path.write_bytes(content)
    assert load_file(path)


def foreign(path: Path) -> None:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata()
    save_file({"other": torch.zeros(3)}, path, metadata=metadata)


def unsigned(path: Path) -> None:
    save_file({name: weight + 1 for name, weight in load_file(path).items()}, path)


def pickled(path: Path) -> None:
    torch.save(Bomb(path.parent / "mark"), path)


@pytest.mark.parametrize("damage", [truncated, flipped, foreign, unsigned, pickled, lambda path: path.write_bytes(b"")])
def test_a_damaged_file_is_trained_anew(tmp_path: Path, damage: Callable[[Path], None]) -> None:
    good = latents(PICTURES, PICTURES[:7], d=4, epochs=0, cache=tmp_path)
    (file,) = files(tmp_path)
    written = file.read_bytes()
    damage(file)
    assert file.read_bytes() != written
    assert torch.equal(latents(PICTURES, PICTURES[:7], d=4, epochs=0, cache=tmp_path), good)
    assert not (tmp_path / "mark").exists()
    assert files(tmp_path) == [file]
    assert not list(tmp_path.glob(".*.part"))
    assert {n: w.tolist() for n, w in load_file(file).items()} == {
        n: w.tolist() for n, w in trained_autoencoder(PICTURES, d=4, epochs=0).state_dict().items()
    }


def test_a_cache_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    with pytest.raises(UsageError, match="`cache` must be a folder to write in") as error:
        latents(PICTURES, PICTURES, d=4, epochs=0, cache=tmp_path / "file")
    one_line(error)


def test_two_processes_share_one_training(tmp_path: Path) -> None:
    program = f"""
import torch
from pathlib import Path
from redqubit.models import latents
x = torch.rand(40, 1, 28, 28, generator=torch.Generator().manual_seed(3))
cache = Path({str(tmp_path)!r})
(cache / "ready").touch()
print(latents(x, x[:1], d=4, epochs=20, cache=cache).tolist())
"""
    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE, text=True) as other:
        while not (tmp_path / "ready").exists():
            assert other.poll() is None
            time.sleep(0.01)
        ours = latents(PICTURES, PICTURES[:1], d=4, epochs=20, cache=tmp_path)
        theirs, _ = other.communicate(timeout=120)
    assert other.returncode == 0
    assert theirs.strip() == str(ours.tolist())
    assert len(files(tmp_path)) == 1
    assert not list(tmp_path.glob(".*.part"))
