"""Trust checks: what must hold before a robustness number is believed.

Each check returns a `Flag` with the numbers behind it, "ok" when it finds nothing. `outcomes` compares
attacks, `models` looks at a model, which is put in evaluation mode and left as it was. `subject` names what the flag
is about.

Reference: Carlini et al., "On evaluating adversarial robustness", arXiv:1902.06705, 2019; Athalye, Carlini and Wagner,
    "Obfuscated gradients give a false sense of security", ICML 2018, section 3.1.
"""

from redqubit.sanity.models import (
    GradientStatistics,
    finite_difference_check,
    gradient_check,
    input_gradient_statistics,
    logit_check,
    noise_on_check,
    randomness_check,
)
from redqubit.sanity.outcomes import (
    black_box_check,
    chance_check,
    convergence_check,
    curve_check,
    guess_check,
    loss_check,
    noise_check,
    sample_size_check,
    single_step_check,
)

__all__ = [
    "GradientStatistics",
    "black_box_check",
    "chance_check",
    "convergence_check",
    "curve_check",
    "finite_difference_check",
    "gradient_check",
    "guess_check",
    "input_gradient_statistics",
    "logit_check",
    "loss_check",
    "noise_check",
    "noise_on_check",
    "randomness_check",
    "sample_size_check",
    "single_step_check",
]
