# The operator: one program and the libraries it needs, nothing else. No shell, no Python, no LibTorch.
#
#   docker build -f docker/operator.Dockerfile -t anneal-operator:0.1.0 .
#
# PROGRAMS=prebuilt takes a folder that docker/collect has filled as the build context, instead of compiling (tests/images).
ARG BASE=debian:12-slim
ARG PROGRAMS=compiled

FROM ${BASE} AS compiled
COPY cmake/deps/apt.txt /src/cmake/deps/
RUN apt-get update && apt-get install -y --no-install-recommends patchelf ca-certificates \
      $(awk '/^# tests:/ {exit} !/^(#|$)/' /src/cmake/deps/apt.txt) && rm -rf /var/lib/apt/lists/*
COPY . /src
RUN cd /src && cmake --preset cpu -B /build -DANNEAL_WORKER=OFF -DANNEAL_TESTS=OFF \
    && cmake --build /build --target anneal-operator
RUN /src/docker/collect --whole /image /build/bin/anneal-operator

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
