"""A defense before attackers who do not know it, and before those who do."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from redqubit.adaptive.draws import Scored, averaging, examples
from redqubit.adaptive.expectation import Expectation, converged_draws
from redqubit.adaptive.grid import CLEAN, WITH, WITHOUT, Averaged, Grid, show
from redqubit.adaptive.verdict import Verdict, decide
from redqubit.defenses import equal_power
from redqubit.errors import UsageError
from redqubit.evasion import EvasionAttack, Square
from redqubit.statistics import Difference, paired_shares
from redqubit.training import BATCH

ONE_DRAW = "with, one draw"
SQUARE_WITHOUT, SQUARE_WITH = "square without", "square with"
STRAIGHT = "straight through"
AVERAGE, GAUSSIAN = "deterministic part", "gaussian"
QUERY_DRAWS = 8  # passes of a random model per query of Square, at most


class Substituted(nn.Module):
    """A model with the gradient of another: what it returns is its own, what flows back is the stand-in's.

    An attack on it goes through a defense that has no gradient, or one that leads nowhere (BPDA).

    Args:
        model: Maps (B, ...) to logits (B, n_classes).
        stand_in: Does about the same, and has a gradient to follow.

    Example:
        >>> x = torch.tensor([[0.4, 0.6]], requires_grad=True)
        >>> out = Substituted(nn.Threshold(0.5, 0.0), nn.Identity())(x)
        >>> out.sum().backward()
        >>> out.detach(), x.grad
        (tensor([[0.0000, 0.6000]]), tensor([[1., 1.]]))

    Reference: Athalye, Carlini and Wagner, "Obfuscated gradients give a false sense of security", ICML 2018,
        section 4.1.
    """

    def __init__(self, model: nn.Module, stand_in: nn.Module) -> None:
        super().__init__()
        self.model, self.stand_in = model, stand_in

    def forward(self, x: Tensor) -> Tensor:
        """Return the model's logits, (B, n_classes)."""
        followed: Tensor = self.stand_in(x)
        own: Tensor = self.model(x)
        return followed + (own - followed).detach()


@dataclass(frozen=True, eq=False)
class Evaluation:
    """How a defense fares.

    Attributes:
        grid: All paths. Made against "with" is the white-box attack, by expectation over draws; against "with, one
            draw", the same without; "straight through" has the defended model's logits and the plain one's gradient;
            "square ..." are queries, and "<name> ..." further attacks; others are controls and other models.
        expectation: How many draws the white-box attack averages, and whether that is enough.
        worst: What is left under the worst attack on each sample, "without" and "with" the defense.
        clean: Gain on clean samples; below 0 it is the clean cost.
        grey_box: Gain under attacks made on the undefended model.
        one_draw: Gain under the attack through the defense as it is, without expectation over its noise.
        white_box: Gain under the attack through the defense with expectation, alone.
        adaptive: Gain under the worst attack on each sample, for both models.
        strongest: The attack that leaves the defended model least.
        verdict: What all this says.
    """

    grid: Grid
    expectation: Expectation
    worst: Mapping[str, Scored]
    clean: Difference
    grey_box: Difference
    one_draw: Difference
    white_box: Difference
    adaptive: Difference
    strongest: str
    verdict: Verdict

    @property
    def relative_gain(self) -> float:
        """The grey-box gain over what the attack leaves of the undefended model, the number that papers print.

        Infinite where that is 0: to be shown beside absolute accuracies only.
        """
        left = self.grid[WITHOUT, WITHOUT].accuracy.value
        return self.grey_box.value / left if left else float("inf")


def evaluate_defense(
    plain: nn.Module,
    defended: nn.Module,
    attack: EvasionAttack,
    x: Tensor,
    y: Tensor,
    *,
    more: Mapping[str, EvasionAttack] | None = None,
    others: Mapping[str, nn.Module] | None = None,
    controls: Mapping[str, nn.Module] | None = None,
    queries: int = 1000,
    limit: int = 64,
    n_choose: int = 256,
    draws: int = 20,
    generator: torch.Generator,
    batch_size: int = BATCH,
) -> Evaluation:
    """Evaluate a defense adaptively: grey-box, white-box with EOT, straight through, transfer, queries, and controls.

    Each attack is made on some model and shown to both. What an attacker who knows the defense can do is the worst of
    all on each sample, on either side; of a random model, the attack on a sample is chosen by half of the draws and
    judged by the other half. The verdict is `decide`'s.

    Args:
        plain: The model without the defense.
        defended: The model with it.
        attack: An untargeted attack, such as `PGD.strong(eps)`; its `draws` are chosen here.
        x: Clean inputs in [0, 1], (N, ...).
        y: True labels, (N,).
        more: Other untargeted attacks by name, made on the model without and with the defense: they join the worst.
        others: Models to transfer from, by name, such as an adversarially trained one, or `Substituted(defended, ...)`
            with a better stand-in than the plain model.
        controls: Models to attack and to evaluate on beside the two, by name. By default, for a random defense, its
            mean logits ("deterministic part") and the plain model with as much Gaussian noise on the logits
            ("gaussian").
        queries: Of Square, per sample.
        limit: Most draws of EOT.
        n_choose: Samples, the first ones, by which its draws are chosen.
        draws: Fresh passes that score a random model, 2 or more.
        generator: CPU source of all random numbers but the models' own.
        batch_size: Samples per pass.

    Raises:
        UsageError: for too few draws, a name that is taken, or as the attack raises.

    Example:
        >>> from redqubit.evasion import FGSM
        >>> g = torch.Generator().manual_seed(0)
        >>> x = torch.rand(60, 2, generator=g)
        >>> y, net = (x[:, 0] > x[:, 1]).long(), nn.Linear(2, 2)
        >>> _ = net.weight.data.copy_(torch.tensor([[-9.0, 9.0], [9.0, -9.0]])), net.bias.data.zero_()
        >>> evaluate_defense(net, net, FGSM(0.1), x, y, queries=10, generator=g).verdict.outcome
        'unclear'

    Reference: Tramer et al., "On adaptive attacks to adversarial example defenses", NeurIPS 2020; Carlini et al.,
        "On evaluating adversarial robustness", arXiv:1902.06705, 2019.
    """
    if draws < 2:
        raise UsageError(f"Argument `draws` must be 2 or more, but is {draws}: one half chooses, the other judges.")
    seed = int(torch.randint(2**62, (1,), generator=generator))  # first, so that all defenses of a model share it
    options: dict[str, Any] = {"limit": limit, "draws": draws, "generator": generator, "batch_size": batch_size}
    expectation = converged_draws(defended, attack, x[:n_choose], y[:n_choose], **options)
    k, noisy = expectation.draws, expectation.change is not None
    k_plain = converged_draws(plain, attack, x[:n_choose], y[:n_choose], **options).draws
    if controls is None:
        controls = (
            {
                AVERAGE: Averaged(defended, k),
                GAUSSIAN: equal_power(plain, defended, x[:batch_size], generator=generator),
            }
            if noisy
            else {}
        )
    more, others = more or {}, others or {}
    names = [CLEAN, WITHOUT, WITH, ONE_DRAW, STRAIGHT, SQUARE_WITHOUT, SQUARE_WITH, *controls, *others]
    names += [f"{name} {side}" for name in more for side in (WITHOUT, WITH)]
    for name in names:
        if names.count(name) > 1:
            raise UsageError(
                f"Arguments `more`, `controls`, `others` must not name `{name}`, which is taken: rename it."
            )
    square = Square(attack.eps, queries=queries)

    def made(method: EvasionAttack, model: nn.Module, passes: int) -> Tensor:
        passes = 1 if isinstance(model, Averaged) else passes  # which averages by itself
        return examples(method, model, x, y, draws=passes, seed=seed, batch_size=batch_size)

    judged = {WITHOUT: plain, WITH: defended, **controls}
    shown = {CLEAN: x, WITHOUT: made(attack, plain, k_plain), WITH: made(attack, defended, k)}
    shown |= {name: made(attack, model, max(k, k_plain)) for name, model in {**controls, **others}.items()}
    shown[ONE_DRAW] = made(averaging(attack, 1), defended, 1) if noisy else shown[WITH]
    shown[STRAIGHT] = made(attack, Substituted(defended, plain), max(k, k_plain))
    for name, method in more.items():
        shown[f"{name} {WITHOUT}"] = made(method, plain, k_plain)
        shown[f"{name} {WITH}"] = made(method, defended, k)
    shown[SQUARE_WITHOUT] = made(square, plain, min(k_plain, QUERY_DRAWS))
    shown[SQUARE_WITH] = made(square, defended, min(k, QUERY_DRAWS))
    grid = Grid(show(shown, judged, y, draws=draws, batch_size=batch_size))

    worst = {name: worst_of([grid[source, name] for source in shown]) for name in (WITHOUT, WITH)}
    left = worst[WITH].accuracy
    attacked = WITHOUT, WITHOUT

    def gain(source: str, baseline: tuple[str, str] = attacked) -> Difference:
        return grid.difference((source, WITH), baseline, generator=generator)

    clean, grey, one = gain(CLEAN, (CLEAN, WITHOUT)), gain(WITHOUT), gain(ONE_DRAW)
    unaware = [grey, one, *(gain(made_by, (made_by, WITHOUT)) for made_by in (f"{name} {WITHOUT}" for name in more))]
    adaptive = paired_shares(worst[WITH].correct, worst[WITHOUT].correct, generator=generator)
    commonest = float(y.bincount().max()) / len(y)
    return Evaluation(
        grid,
        expectation,
        worst,
        clean,
        grey,
        one,
        gain(WITH),
        adaptive,
        strongest=min(shown, key=lambda source: grid[source, WITH].accuracy.value),
        verdict=decide(clean=clean, unaware=unaware, adaptive=adaptive, above_chance=left.low > commonest),
    )


def worst_of(scores: list[Scored]) -> Scored:
    """Return what is left when each sample meets the attack that fools the model most.

    Where the model is random the first half of the draws chooses and the others judge, so that luck does not count. Of
    attacks that look the same on a sample the one that is strongest on the whole is taken; and where that one alone
    leaves less than choosing for each sample, as with few draws, it stands.
    """
    correct = torch.stack([scored.correct for scored in scores])  # (attacks, K, N)
    half = correct.shape[1] // 2
    choosing, judging = (correct[:, :half], correct[:, half:]) if half else (correct, correct)
    share = choosing.double().mean(1)  # (attacks, N)
    order = share.mean(1).argsort(stable=True)  # strongest first, which argmin takes of equal ones
    chosen = order[share[order].argmin(0)]  # (N,)
    each = judging[chosen, :, torch.arange(len(chosen), device=chosen.device)].T
    alone = judging[order[0]]
    return Scored(min(each, alone, key=lambda rows: float(rows.double().mean())))
