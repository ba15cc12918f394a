"""Models that a run leaves behind: what is written is what is read, and damage is told."""

from pathlib import Path

import pytest
import torch
from torch import nn

from redqubit.errors import UsageError
from redqubit.victims import Victim, find_victims, load_victim, save_victim, trigger

VICTIM = Victim(
    "digits-patch-s0",
    "digits, hybrid",
    0,
    {"source": "hybrid"},
    {"name": "digits"},
    10,
    "patch",
    {"side": 2},
    target_class=3,
    poison_rate=0.1,
)


def test_a_victim_comes_back_whole(tmp_path: Path) -> None:
    net, other = nn.Linear(3, 2), nn.Linear(3, 2)
    save_victim(VICTIM, net, tmp_path)
    assert find_victims(tmp_path) == [VICTIM]
    load_victim(VICTIM, other, tmp_path)
    assert torch.equal(net.weight, other.weight)
    assert not other.training
    assert VICTIM.backdoor is not None
    assert VICTIM.backdoor.target_class == 3
    assert VICTIM.backdoor.trigger == trigger("patch", {"side": 2})


def test_a_run_without_models_has_none(tmp_path: Path) -> None:
    assert find_victims(tmp_path) == []


def test_damage_is_told_in_one_line(tmp_path: Path) -> None:
    save_victim(VICTIM, nn.Linear(3, 2), tmp_path)
    with pytest.raises(UsageError, match="must be as the run wrote it"):
        load_victim(VICTIM, nn.Linear(4, 2), tmp_path)
    weights = tmp_path / "models" / "digits-patch-s0.safetensors"
    weights.write_bytes(weights.read_bytes()[:20])
    with pytest.raises(UsageError, match="must be as the run wrote it") as told:
        load_victim(VICTIM, nn.Linear(3, 2), tmp_path)
    assert "\n" not in str(told.value)
    (tmp_path / "models" / "digits-patch-s0.json").write_text("{")
    with pytest.raises(UsageError, match="must be as the run wrote it") as told:
        find_victims(tmp_path)
    assert "\n" not in str(told.value)


def test_trigger_fields_are_checked() -> None:
    with pytest.raises(UsageError, match="must be given fields"):
        trigger("patch", {"breadth": 2})
    with pytest.raises(UsageError, match="Unknown trigger"):
        trigger("ptach", {})
