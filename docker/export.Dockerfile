# The export image: the worker with Python and torch beside it, because AOTInductor's compiler exists only there.
#
#   docker build -f docker/export.Dockerfile --build-arg WORKER=anneal-worker:0.1.0 -t anneal-export:0.1.0 .
#
# Python torch has the version of the worker's LibTorch, from the same pinned wheels (cmake/deps/pins.json).
# WHEELS=prebuilt takes a .deps folder as the build context, instead of fetching (tests/images).
ARG BASE=debian:12-slim
ARG WORKER=anneal-worker:0.1.0
ARG WHEELS=fetched

FROM ${BASE} AS fetched
RUN apt-get update && apt-get install -y --no-install-recommends build-essential ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY cmake/deps /src/cmake/deps
RUN /src/cmake/deps/install build compiler && mkdir /image && mv /src/.deps/wheels /src/.deps/python /src/.deps/python-stubs /src/.deps/stub /image

FROM scratch AS prebuilt
COPY wheels /image/wheels
COPY python /image/python
COPY python-stubs /image/python-stubs
COPY stub /image/stub

FROM ${WHEELS} AS wheels

FROM ${WORKER}
USER 0:0
# The compiler writes C++ and compiles it; torch finds its headers through setuptools.
RUN apt-get update && apt-get install -y --no-install-recommends g++ python3 python3-setuptools && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
COPY --from=wheels /image /opt/anneal
LABEL org.opencontainers.image.title="anneal-export" \
      org.opencontainers.image.description="Exports TorchEasyRec models in every format"
ENV PYTHONPATH=/opt/anneal/wheels:/opt/anneal/python \
    LD_LIBRARY_PATH=/opt/anneal/python-stubs:/opt/anneal/stub \
    PYTHONDONTWRITEBYTECODE=1
USER 65532:65532
