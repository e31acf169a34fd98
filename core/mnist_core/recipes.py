"""A recipe is a configuration that is known to work, by name: what a caller leaves out is the recipe's."""

from collections.abc import Mapping
from dataclasses import replace

from mnist_core.augmentation import Augmentation
from mnist_core.configuration import TrainingConfig
from mnist_core.layer import Convolution, Dense, Dropout, MaxPool

CLASSIC = "classic"
"""The recipe where none is named."""

# What the recipes but the first have in common.
_MODERN = TrainingConfig(
    activation="relu",
    output="softmax",
    loss="cross_entropy",
    initialization="he",
    optimizer="adamw",
    schedule="cosine",
    warm_up=0.1,
)

# `make bench-accuracy` measures how good they are, through a server. What stands here was chosen by the last
# 10,000 of MNIST's training images; the test set was read afterwards.
RECIPES: Mapping[str, TrainingConfig] = {
    # Nielsen, Neural Networks and Deep Learning, chapter 1.
    CLASSIC: TrainingConfig(),
    # A useful network within seconds.
    "quick": replace(_MODERN, hidden_sizes=(100,), epochs=6, batch_size=100, learning_rate=0.004),
    # What a hundred hidden neurons can do with the images as they are.
    "mlp": replace(
        _MODERN,
        layers=(Dense(100), Dropout(0.15)),
        epochs=20,
        batch_size=100,
        learning_rate=0.004,
        weight_decay=0.1,
    ),
    # Simard et al. 2003 had 98.9 % with affine and 99.3 % with elastic images, of 800 neurons.
    "mlp-augmented": replace(
        _MODERN,
        layers=(Dense(800), Dropout(0.1), Dense(800), Dropout(0.1)),
        epochs=40,
        batch_size=256,
        learning_rate=0.003,
        weight_decay=0.05,
        augmentation=Augmentation(rotation=10, scale=0.1, shear=0.15, shift=1.25, elastic=34, thickness=0.2),
    ),
    # A small convolutional network, after LeCun et al. 1998, Gradient-Based Learning.
    "best": replace(
        _MODERN,
        layers=(
            Convolution(20, 5),
            MaxPool(),
            Convolution(40, 5),
            MaxPool(),
            Dropout(0.1),
            Dense(150),
            Dropout(0.3),
        ),
        epochs=20,
        batch_size=128,
        learning_rate=0.003,
        weight_decay=0.02,
        augmentation=Augmentation(rotation=10, scale=0.1, shear=0.15, shift=1.5, elastic=24, thickness=0.3),
    ),
}
