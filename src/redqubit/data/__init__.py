"""Data sets: labelled inputs in [0, 1], from scikit-learn, a folder, or a checked download."""

from redqubit.data.dataset import Dataset, check_trainable, first_stratified, stratified_subset
from redqubit.data.layouts import SPLITS
from redqubit.data.own import load_image_folder, load_npz
from redqubit.data.pictures import as_rgb
from redqubit.data.scaling import AngleScaling
from redqubit.data.sets import NAMES, load, load_splits
from redqubit.data.weights import find_weights

__all__ = [
    "NAMES",
    "SPLITS",
    "AngleScaling",
    "Dataset",
    "as_rgb",
    "check_trainable",
    "find_weights",
    "first_stratified",
    "load",
    "load_image_folder",
    "load_npz",
    "load_splits",
    "stratified_subset",
]
