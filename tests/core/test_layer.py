import json
import re
from typing import Any

import pytest

from mnist_core import InvalidValue
from mnist_core.layer import Convolution, Dense, Dropout, Layer, MaxPool, checked_layers, described

BEST: list[Layer] = [Convolution(20, 5), MaxPool(), Convolution(40, 5), MaxPool(), Dropout(0.5), Dense(150)]


def test_layers_come_back_from_what_json_has_of_them() -> None:
    text = json.dumps([described(layer) for layer in BEST])
    assert checked_layers(json.loads(text)) == tuple(BEST) == checked_layers(BEST)
    assert described(BEST[0]) == {"kind": "convolution", "features": 20, "size": 5}
    assert described(BEST[1]) == {"kind": "max_pool"}
    assert described(BEST[4]) == {"kind": "dropout", "rate": 0.5}
    assert checked_layers([]) == ()


@pytest.mark.parametrize(
    ("layers", "field"),
    [
        ("Dense", "layers"),
        (None, "layers"),
        ([Dense(1)] * 65, "layers"),
        ([Dense(0)], "layers[0].neurons"),
        ([Dense(65_537)], "layers[0].neurons"),
        ([Dense(True)], "layers[0].neurons"),
        ([Dense(2.0)], "layers[0].neurons"),  # type: ignore[arg-type]  # which is the point
        ([Convolution(0, 5)], "layers[0].features"),
        ([Convolution(1025, 5)], "layers[0].features"),
        ([Convolution(20, 0)], "layers[0].size"),
        ([Convolution(20, 32)], "layers[0].size"),
        ([Dense(30), Dropout(0)], "layers[1].rate"),
        ([Dense(30), Dropout(1)], "layers[1].rate"),
        ([Dense(30), Dropout(float("nan"))], "layers[1].rate"),
        ([MaxPool()], "layers[0]"),
        ([Convolution(20, 5), MaxPool(), MaxPool()], "layers[2]"),
        ([Dense(30), Convolution(20, 5)], "layers[1]"),
        ([Convolution(20, 5), Dropout(0.5), Convolution(20, 5)], "layers[2]"),
        ([Dropout(0.5)], "layers[0]"),
        ([Dense(30), Dropout(0.5), Dropout(0.5)], "layers[2]"),
        ([{"kind": "pool"}], "layers[0].kind"),
        ([{"neurons": 30}], "layers[0].kind"),
        ([{"kind": "dense", "size": 30}], "layers[0]"),
        ([{"kind": "dense"}], "layers[0]"),
        ([30], "layers[0]"),
    ],
)
def test_what_is_no_layer_or_in_no_place_is_refused(layers: Any, field: str) -> None:
    with pytest.raises(InvalidValue, match=f"^{re.escape(field)}: ") as caught:
        checked_layers(layers)
    assert caught.value.field == field
