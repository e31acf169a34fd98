"""Models over the wire: what can be asked, and which version a name stands for."""

import logging
from collections.abc import Iterator

import grpc

from mnist_core import InvalidValue
from mnist_proto.names import DEFAULT_MODEL, is_id
from mnist_proto.v1 import model_pb2 as pb
from mnist_proto.v1 import model_pb2_grpc
from mnist_server.data_directory import DataDirectory
from mnist_server.database import Database
from mnist_server.errors import InvalidRequest, NotReady
from mnist_server.limits import Limits
from mnist_server.model_changes import delete_model, delete_version, set_alias
from mnist_server.model_files import ModelUpload, export_model
from mnist_server.names import model_name, page_size
from mnist_server.registry import ModelRegistry
from mnist_server.rpc import Calls, Silence, check_wanted

log = logging.getLogger(__name__)

# By then every process of the server has a change, or something is wrong with it.
EVERYWHERE_SECONDS = 5.0
_MAX_VERSION = 2**63 - 1  # of SQLite's integers


class ModelServicer(model_pb2_grpc.ModelServiceServicer):
    """Answers `mnist.v1.ModelService`."""

    def __init__(
        self,
        registry: ModelRegistry,
        database: Database,
        directory: DataDirectory,
        limits: Limits,
        calls: Calls,
    ) -> None:
        self._registry = registry
        self._database = database
        self._folder = directory.models
        self._limits = limits
        self._calls = calls

    def ListModels(
        self, request: pb.ListModelsRequest, context: grpc.ServicerContext
    ) -> pb.ListModelsResponse:
        """Lists models by name."""
        if request.page_token and not is_id(request.page_token):  # a page begins after a model's name
            raise InvalidValue("page_token", request.page_token, "next_page_token of an earlier page")
        models, following = self._registry.page(page_size(request.page_size), request.page_token)
        return pb.ListModelsResponse(models=models, next_page_token=following or "")

    def GetModel(self, request: pb.GetModelRequest, context: grpc.ServicerContext) -> pb.GetModelResponse:
        """Returns one model."""
        return pb.GetModelResponse(model=self._registry.get(model_name("model", request.model)))

    def SetAlias(self, request: pb.SetAliasRequest, context: grpc.ServicerContext) -> pb.SetAliasResponse:
        """Promotes a version, rolls back to one, or removes an alias."""
        name = model_name("alias", request.alias)
        if name.alias is None:
            raise InvalidValue("alias", request.alias, "models/{m}/aliases/{a}")
        if request.version > _MAX_VERSION:
            raise InvalidValue("version", request.version, "the number of a version, or 0")
        with self._calls.aside():
            if request.version:
                # Loaded and checked before the switch: no prediction waits for it, or meets a bad one.
                self._registry.load(f"models/{name.model}/versions/{request.version}", field="version")
            generation = set_alias(self._database, name.model, name.alias, request.version, request.etag)
            log.info("alias set", extra={"alias": request.alias, "version": request.version})
            self._everywhere(generation)
        return pb.SetAliasResponse(model=self._registry.get(model_name("alias", f"models/{name.model}")))

    def DeleteModel(
        self, request: pb.DeleteModelRequest, context: grpc.ServicerContext
    ) -> pb.DeleteModelResponse:
        """Deletes a version, or a model whole."""
        name = model_name("model", request.model)
        if name.alias is not None:
            expected = "models/{m} or models/{m}/versions/{n}; SetAlias removes an alias"
            raise InvalidValue("model", request.model, expected)
        if name.version is not None and request.force:
            raise InvalidValue("force", "true", "false for one version: it deletes a model with its aliases")
        versions = 1
        with self._calls.aside():
            if name.version is None:
                generation, versions = delete_model(
                    self._database, self._folder, name.model, request.etag, force=request.force
                )
            else:
                generation = delete_version(
                    self._database, self._folder, name.model, name.version, request.etag
                )
            log.info("model deleted", extra={"model": request.model, "versions": versions})
            self._everywhere(generation)
        return pb.DeleteModelResponse(versions=versions)

    def ExportModel(
        self, request: pb.ExportModelRequest, context: grpc.ServicerContext
    ) -> Iterator[pb.ExportModelResponse]:
        """Sends one version as a file."""
        path, version = self._registry.stored(model_name("model", request.model or DEFAULT_MODEL))
        for response in export_model(path, version):
            check_wanted(context)
            yield response

    def ImportModel(
        self, request_iterator: Iterator[pb.ImportModelRequest], context: grpc.ServicerContext
    ) -> pb.ImportModelResponse:
        """Makes a version of a file that is sent."""
        upload: ModelUpload | None = None
        try:
            with Silence(context) as silence:
                for request in request_iterator:
                    silence.heard()
                    if request.WhichOneof("message") == "config":
                        if upload is not None:
                            raise InvalidRequest("config", "a second configuration", "chunks after the first")
                        _check_model(request.config.model)
                        upload = ModelUpload(self._folder, request.config, self._limits)
                    elif upload is None:
                        raise InvalidRequest("message", "a chunk before the configuration", "config first")
                    else:
                        upload.add(request.chunk)
            if upload is None:
                raise InvalidRequest("config", "no message at all", "a configuration, then chunks")
            check_wanted(context)
            version = upload.finish(self._database)
        finally:
            if upload is not None:
                upload.abandon()
        log.info("model imported", extra={"model_version": version.name})
        self._registry.refresh()
        return pb.ImportModelResponse(version=version)

    def _everywhere(self, generation: int) -> None:
        if not self._registry.await_everywhere(generation, EVERYWHERE_SECONDS):
            raise NotReady(
                f"the change is made, but some process of the server has not confirmed it within "
                f"{EVERYWHERE_SECONDS:g} s: expected to follow"
            )


def _check_model(name: str) -> None:
    parts = model_name("config.model", name)
    if parts.version is not None or parts.alias is not None:
        raise InvalidValue("config.model", name, "models/{m}: the version is the server's to number")
