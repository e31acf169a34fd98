"""The gRPC model server: services, model registry, training jobs."""
