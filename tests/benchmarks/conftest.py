"""The benchmarks are no installed package: tests find them without the repository's root on the path."""

import sys
import types
from pathlib import Path

_benchmarks = types.ModuleType("benchmarks")
_benchmarks.__path__ = [str(Path(__file__).parents[2] / "benchmarks")]
sys.modules["benchmarks"] = _benchmarks
