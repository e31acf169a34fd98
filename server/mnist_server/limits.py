"""Limits: what the server takes, at most. Published by GetServerInfo, so that clients can keep to them."""

from dataclasses import dataclass

from mnist_core.configuration import MAX_CLASSES
from mnist_core.pictures import MAX_PIXELS
from mnist_proto.v1 import server_pb2


@dataclass(frozen=True)
class Limits:
    """What the server takes, at most; the units are those of `mnist.v1.Limits`."""

    max_message_bytes: int = 16 * 2**20
    max_images_per_request: int = 16_384
    max_encoded_images: int = 64
    max_encoded_pixels: int = MAX_PIXELS
    max_image_pixels: int = 65_536
    max_dataset_images: int = 1_000_000
    max_dataset_bytes: int = 2 * 2**30
    max_parameters: int = 20_000_000
    max_queued_jobs: int = 100
    max_streams: int = 1000
    max_model_bytes: int = 192 * 2**20  # max_parameters of float64, and what a file says of them
    max_running_jobs: int = 1
    max_watchers: int = 800
    max_stored_dataset_bytes: int = 20 * 2**30
    max_classes: int = MAX_CLASSES

    def to_message(self) -> server_pb2.Limits:
        """Returns the limits as the wire has them."""
        return server_pb2.Limits(**vars(self))


# A stream whose client sends nothing for so long in the middle of an upload is ended.
SILENCE_SECONDS = 60.0
# A stream that has nothing to say says so, that often: proxies drop streams that are idle for 60 s.
HEARTBEAT_SECONDS = 15.0
