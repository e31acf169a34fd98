"""Ours where SciPy is not installed: mnist_core on NumPy alone."""

import sys

from benchmarks.training.learners.ours import Learner

__all__ = ["Learner"]

sys.modules["scipy"] = None  # type: ignore[assignment]  # None is how Python notes what cannot be imported
