"""Data sets over the wire: stored once under the hash of what they are, shown, listed and deleted."""

import logging
from collections.abc import Iterator

import grpc

from mnist_proto.v1 import dataset_pb2 as pb
from mnist_proto.v1 import dataset_pb2_grpc
from mnist_server.data_directory import DataDirectory
from mnist_server.dataset_files import Upload
from mnist_server.dataset_registry import DatasetRegistry
from mnist_server.errors import InvalidRequest
from mnist_server.limits import Limits
from mnist_server.names import dataset_name, page_number, page_size
from mnist_server.rpc import Silence, check_wanted

log = logging.getLogger(__name__)


class DatasetServicer(dataset_pb2_grpc.DatasetServiceServicer):
    """Answers `mnist.v1.DatasetService`."""

    def __init__(self, directory: DataDirectory, datasets: DatasetRegistry, limits: Limits) -> None:
        self._folder = directory.datasets
        self._datasets = datasets
        self._limits = limits

    def UploadDataset(
        self, request_iterator: Iterator[pb.UploadDatasetRequest], context: grpc.ServicerContext
    ) -> pb.UploadDatasetResponse:
        """Stores the data set that the batches make."""
        upload = Upload(self._folder, self._limits, self._datasets.check_room)
        try:
            with Silence(context) as silence:
                for request in request_iterator:
                    silence.heard()
                    upload.take(request.batch)
            if not any(upload.counts.values()):
                raise InvalidRequest("batch", "no message at all", "at least one batch")
            with self._datasets.storing(upload) as dataset:
                check_wanted(context)  # until here, whoever breaks off leaves nothing behind
                self._datasets.add(dataset)
        finally:
            upload.abandon()
        log.info("data set stored", extra={"dataset": dataset.name, "bytes": dataset.bytes})
        return pb.UploadDatasetResponse(dataset=dataset)

    def GetDataset(
        self, request: pb.GetDatasetRequest, context: grpc.ServicerContext
    ) -> pb.GetDatasetResponse:
        """Returns one data set."""
        return pb.GetDatasetResponse(dataset=self._datasets.get(dataset_name("dataset", request.dataset)))

    def ListDatasets(
        self, request: pb.ListDatasetsRequest, context: grpc.ServicerContext
    ) -> pb.ListDatasetsResponse:
        """Lists data sets, the last stored first."""
        datasets, following = self._datasets.page(
            page_size(request.page_size), page_number(request.page_token)
        )
        token = "" if following is None else str(following)
        return pb.ListDatasetsResponse(datasets=datasets, next_page_token=token)

    def DeleteDataset(
        self, request: pb.DeleteDatasetRequest, context: grpc.ServicerContext
    ) -> pb.DeleteDatasetResponse:
        """Deletes one data set."""
        name = dataset_name("dataset", request.dataset)
        self._datasets.delete(name)
        log.info("data set deleted", extra={"dataset": name})
        return pb.DeleteDatasetResponse()
