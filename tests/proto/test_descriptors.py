import subprocess
import sys

import pytest
from google.protobuf import descriptor_pool
from google.protobuf.descriptor_pb2 import FileDescriptorProto

from mnist_proto.inference import inference_pb2
from mnist_proto.inference.descriptors import POOL, Descriptors
from mnist_proto.v1 import prediction_pb2


def test_the_foreign_package_is_not_in_the_default_pool() -> None:
    assert inference_pb2.DESCRIPTOR.pool is POOL
    with pytest.raises(KeyError):
        descriptor_pool.Default().FindMessageTypeByName("inference.ModelInferRequest")


def test_another_package_of_that_name_may_be_imported_beside_it_in_either_order() -> None:
    # As tritonclient does it; that itself is tried by make check-triton.
    other = FileDescriptorProto(name="grpc_service.proto", package="inference", syntax="proto3")
    other.message_type.add(name="ModelInferRequest")
    theirs = f"descriptor_pool.Default().AddSerializedFile({other.SerializeToString()!r})"
    ours = "import mnist_proto.inference.inference_pb2_grpc"
    for order in ((ours, theirs), (theirs, ours)):
        program = "\n".join(("from google.protobuf import descriptor_pool", *order))
        subprocess.run([sys.executable, "-c", program], check=True, timeout=60)


def test_finds_in_both_pools() -> None:
    find = Descriptors()
    [service] = inference_pb2.DESCRIPTOR.services_by_name.values()
    assert find.FindFileContainingSymbol(service.full_name) is inference_pb2.DESCRIPTOR
    assert find.FindFileByName("mnist_proto/inference/inference.proto") is inference_pb2.DESCRIPTOR
    symbol = "mnist.v1.PredictRequest"
    assert find.FindFileContainingSymbol(symbol).name == prediction_pb2.DESCRIPTOR.name
    with pytest.raises(KeyError):
        find.FindFileContainingSymbol("inference.Nothing")
    with pytest.raises(AttributeError):
        find.AddSerializedFile(b"")
