"""Methods: every method that the server answers, by its full name, and whether it streams.

It is written down, not read from the descriptors: the process that renders the page of metrics and the
workers that count for it agree on it without loading a service or gRPC. A test compares it with what is
served.
"""

# As Prometheus's interceptors for gRPC call them.
UNARY, CLIENT_STREAM, SERVER_STREAM, BIDI_STREAM = "unary", "client_stream", "server_stream", "bidi_stream"

_SERVICES: dict[str, dict[str, str]] = {
    "mnist.v1.TrainingService": {
        "Train": BIDI_STREAM,
        "WatchTraining": SERVER_STREAM,
        "GetTrainingJob": UNARY,
        "ListTrainingJobs": UNARY,
        "CancelTraining": UNARY,
        "PauseTraining": UNARY,
        "ResumeTraining": UNARY,
        "DeleteTrainingJob": UNARY,
    },
    "mnist.v1.EvaluationService": {"Evaluate": CLIENT_STREAM},
    "mnist.v1.PredictionService": {"Predict": UNARY, "PredictStream": BIDI_STREAM},
    "mnist.v1.ModelService": {
        "ListModels": UNARY,
        "GetModel": UNARY,
        "SetAlias": UNARY,
        "DeleteModel": UNARY,
        "ExportModel": SERVER_STREAM,
        "ImportModel": CLIENT_STREAM,
    },
    "mnist.v1.DatasetService": {
        "UploadDataset": CLIENT_STREAM,
        "GetDataset": UNARY,
        "ListDatasets": UNARY,
        "DeleteDataset": UNARY,
    },
    "mnist.v1.ServerService": {"GetServerInfo": UNARY},
    "inference.GRPCInferenceService": {
        "ServerLive": UNARY,
        "ServerReady": UNARY,
        "ModelReady": UNARY,
        "ServerMetadata": UNARY,
        "ModelMetadata": UNARY,
        "ModelInfer": UNARY,
        "ModelStreamInfer": BIDI_STREAM,
        "ModelConfig": UNARY,
        "ModelStatistics": UNARY,
        "RepositoryIndex": UNARY,
    },
    "grpc.health.v1.Health": {"Check": UNARY, "List": UNARY, "Watch": SERVER_STREAM},
    "grpc.reflection.v1alpha.ServerReflection": {"ServerReflectionInfo": BIDI_STREAM},
}

# What asks for none of them: UNIMPLEMENTED.
OTHER = "/other/other"

# /package.Service/Method -> its kind; the order is the counters' order in memory.
METHODS: dict[str, str] = {
    f"/{service}/{method}": kind for service, methods in _SERVICES.items() for method, kind in methods.items()
} | {OTHER: UNARY}
