"""Our messages and tritonclient's in one process: `messages.py ours` or `messages.py theirs`, imported first.

Every field that ours have, theirs have too, under the same number and of the same type.
"""

import importlib
import sys
from typing import Any

OURS = ["mnist_proto.inference.inference_pb2"]
THEIRS = ["tritonclient.grpc.service_pb2", "tritonclient.grpc.model_config_pb2"]


def main() -> None:
    """Imports both and compares them."""
    order = [*OURS, *THEIRS] if sys.argv[1] == "ours" else [*THEIRS, *OURS]
    modules = {name: importlib.import_module(name) for name in order}
    [ours] = (modules[name].DESCRIPTOR for name in OURS)
    theirs = [modules[name].DESCRIPTOR for name in THEIRS]
    fields = 0
    for name, message in ours.message_types_by_name.items():
        fields += compare(message, find(theirs, "message_types_by_name", name))
    for name, enum in ours.enum_types_by_name.items():
        there = find(theirs, "enum_types_by_name", name).values_by_name
        assert {n: v.number for n, v in enum.values_by_name.items()} == {
            n: v.number for n, v in there.items()
        }
    [service] = ours.services_by_name.values()
    there = find(theirs, "services_by_name", service.name).methods_by_name
    for method in service.methods:
        other = there[method.name]
        for side in ("input_type", "output_type"):
            assert getattr(method, side).full_name == getattr(other, side).full_name
    sys.stdout.write(
        f"{sys.argv[1]} imported first: {fields} fields and {len(service.methods)} methods are theirs\n"
    )


def find(files: list[Any], kind: str, name: str) -> Any:
    """Returns what has this name in any of the files."""
    return next(getattr(file, kind)[name] for file in files if name in getattr(file, kind))


def compare(ours: Any, theirs: Any) -> int:
    """Compares a message's fields, and those of the messages in it; returns how many."""
    for field in ours.fields:
        other = theirs.fields_by_name[field.name]
        for what in ("number", "type", "is_repeated", "full_name"):
            assert getattr(field, what) == getattr(other, what), (field.full_name, what)
    return len(ours.fields) + sum(
        compare(inner, theirs.nested_types_by_name[name]) for name, inner in ours.nested_types_by_name.items()
    )


if __name__ == "__main__":
    main()
