# The operator: one program and the libraries it needs, nothing else. No shell, no Python, no LibTorch.
#
#   docker build -f docker/operator.Dockerfile -t anneal-operator:0.1.0 .
#
# PROGRAMS=prebuilt takes a folder that docker/collect has filled as the build context, instead of compiling (tests/images).
ARG BASE=debian:12-slim
ARG PROGRAMS=compiled

FROM ${BASE} AS compiled
RUN apt-get update && apt-get install -y --no-install-recommends \
      build-essential cmake ninja-build patchelf ca-certificates protobuf-compiler libprotobuf-dev libcpprest-dev libssl-dev \
      libpcre2-dev libboost-dev libyaml-cpp-dev prometheus-cpp-dev nlohmann-json3-dev libcli11-dev zlib1g-dev \
    && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN cmake -S /src -B /build -G Ninja -DCMAKE_BUILD_TYPE=Release -DANNEAL_WORKER=OFF -DANNEAL_TESTS=OFF \
    && cmake --build /build --target anneal-operator \
    && /src/docker/collect --whole /image /build/bin/anneal-operator

FROM scratch AS prebuilt
COPY . /image

FROM ${PROGRAMS} AS programs

FROM scratch
COPY --from=programs /image/ /
LABEL org.opencontainers.image.title="anneal-operator" \
      org.opencontainers.image.description="Runs TrainJobs, EvalJobs and ExportJobs of a Kubernetes cluster"
# A number: kubelets check runAsNonRoot on it.
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/anneal-operator"]
CMD ["serve"]
