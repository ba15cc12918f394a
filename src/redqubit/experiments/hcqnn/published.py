"""The published numbers, and what the paper leaves in doubt."""

from redqubit.experiments.hcqnn.plan import GREY, NOISY

# Table 1: by measure and change, before and after the autoencoder
TABLE1 = {
    ("mse", NOISY): (0.263, 0.173),
    ("mse", GREY): (0.211, 0.176),
    ("cosine", NOISY): (0.832, 0.895),
    ("cosine", GREY): (0.873, 0.910),
}
# Table 2, percent, by radius: no defense, autoencoder, adversarial training
TABLE2 = {0.15: (42.2, 89.9, 67.4), 0.3: (24.6, 61.6, 27.5), 0.45: (13.7, 34.9, 16.4)}
FIGURE4 = {0.15: 93.3, 0.3: 90.0, 0.45: 86.67, 0.6: 73.33}  # percent, by radius, with the autoencoder

DOUBTS = (
    "It is not said on which model FGSM examples are made. A front end with a gradient must be attacked through it.",
    "Iris has 30 test samples there (all accuracies are multiples of 1/30): one run is worth 10 points more or less.",
    "Adversarial training is one set of examples made beforehand, not on-line; its 27.5 % at radius 0.3 are near the "
    "25 % of four classes.",
    "Sizes, encoding, circuit, scaling of features, noise and training are not given, nor a number of seeds.",
    "An FGSM error of 0.211 is a radius of 0.46 and no clipping, a noise of 0.263 a standard deviation of 0.51: these "
    "two columns of Table 1 are settings, not results.",
)
