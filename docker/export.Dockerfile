# The export image: the worker with Python and torch beside it, because AOTInductor's compiler exists only there.
#
#   docker build -f docker/export.Dockerfile --build-arg WORKER=anneal-worker:0.1.0 -t anneal-export:0.1.0 .
#
# Python torch has the version of the worker's LibTorch, from the same pinned wheels (cmake/deps/pins.json).
ARG WORKER=anneal-worker:0.1.0

FROM debian:12-slim AS wheels
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY cmake/deps /src/cmake/deps
RUN /src/cmake/deps/install build python

FROM ${WORKER}
USER 0:0
# The compiler writes C++ and compiles it.
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3 && rm -rf /var/lib/apt/lists/*
COPY --from=wheels /src/.deps/wheels /opt/anneal/wheels
COPY --from=wheels /src/.deps/python /opt/anneal/python
COPY --from=wheels /src/.deps/python-stubs /opt/anneal/python-stubs
ENV PYTHONPATH=/opt/anneal/wheels:/opt/anneal/python \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
