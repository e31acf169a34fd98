import grpc
from google.protobuf.descriptor_pool import DescriptorPool
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase

from mnist_server.methods import BIDI_STREAM, CLIENT_STREAM, METHODS, OTHER, SERVER_STREAM, UNARY

KINDS = {
    (False, False): UNARY,
    (True, False): CLIENT_STREAM,
    (False, True): SERVER_STREAM,
    (True, True): BIDI_STREAM,
}


def test_the_methods_are_those_that_the_server_says_it_has(channel: grpc.Channel) -> None:
    described = ProtoReflectionDescriptorDatabase(channel)
    pool = DescriptorPool(described)
    served = {
        f"/{service}/{method.name}": KINDS[method.client_streaming, method.server_streaming]
        for service in described.get_services()
        for method in pool.FindServiceByName(service).methods
    }
    assert served == {name: kind for name, kind in METHODS.items() if name != OTHER}
