# The server, with the client beside it for the health check. Build and run:
#   docker build -t mnist-grpc .
#   docker run -p 50051:50051 -v mnist-data:/data mnist-grpc

FROM python:3.13-slim AS build
WORKDIR /source
COPY pyproject.toml README.md LICENSE ./
COPY proto proto
COPY core core
COPY server server
COPY client client
RUN pip wheel --no-cache-dir --no-deps --wheel-dir /wheels .

FROM python:3.13-slim
COPY --from=build /wheels /wheels
RUN pip install --no-cache-dir --root-user-action=ignore "$(echo /wheels/*.whl)[server]" \
    && install -d -o 10001 -g 10001 /data
# A number, so that Kubernetes can see that it is not root. It needs no name and no home.
USER 10001:10001
VOLUME /data
EXPOSE 50051
ENV PYTHONUNBUFFERED=1
# Drains, writes a running job's checkpoint and exits 0, within the ten seconds that `docker stop` gives it.
STOPSIGNAL SIGTERM
HEALTHCHECK --interval=10s --timeout=5s CMD ["mnist-client", "--timeout", "3", "health"]
# In exec form the server is process 1, and signals reach it.
ENTRYPOINT ["mnist-server"]
CMD ["serve", "--host", "0.0.0.0", "--data-dir", "/data"]
