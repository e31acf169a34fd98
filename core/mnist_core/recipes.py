"""A recipe is a configuration that is known to work, by name: what a caller leaves out is the recipe's."""

from collections.abc import Mapping

from mnist_core.configuration import TrainingConfig

CLASSIC = "classic"
"""The recipe where none is named."""

# `make bench-accuracy` measures how good they are, through a server. What stands here was chosen by the last
# 10,000 of MNIST's training images; the test set was read afterwards.
RECIPES: Mapping[str, TrainingConfig] = {
    # Nielsen, Neural Networks and Deep Learning, chapter 1.
    CLASSIC: TrainingConfig(),
    # A useful network within seconds.
    "quick": TrainingConfig(
        hidden_sizes=(200,),
        activation="relu",
        output="softmax",
        loss="cross_entropy",
        initialization="scaled",
        epochs=10,
        batch_size=50,
        learning_rate=0.3,
    ),
}
