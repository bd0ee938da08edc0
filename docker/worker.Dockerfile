# The worker: trains, evaluates, exports. LibTorch without Python, on a Debian base for those who look into a running pod.
#
#   docker build -f docker/worker.Dockerfile -t anneal-worker:0.1.0 .
#   docker build -f docker/worker.Dockerfile --build-arg VARIANT=cuda -t anneal-worker:0.1.0-cuda .
#
# VARIANT: cpu, or cuda with NVIDIA's and FBGEMM's libraries (6.2 GB). PROGRAMS=prebuilt takes a folder that docker/collect
# has filled as the build context, instead of compiling (tests/images).
ARG BASE=debian:12-slim
ARG PROGRAMS=compiled

FROM ${BASE} AS compiled
ARG VARIANT=cpu
RUN apt-get update && apt-get install -y --no-install-recommends patchelf ca-certificates python3 python3-pip \
    && rm -rf /var/lib/apt/lists/*
COPY cmake/deps /src/cmake/deps
RUN /src/cmake/deps/install build $([ ${VARIANT} = cpu ] || echo cuda cuda-run)
COPY . /src
RUN cd /src && cmake --preset ${VARIANT} -B /build -DANNEAL_TESTS=OFF \
    && cmake --build /build --target anneal anneal-movielens-prepare $([ ${VARIANT} = cpu ] || echo anneal_cuda)
RUN cd /src && docker/collect $([ ${VARIANT} = cpu ] || echo --cuda .deps) /image /build/bin/anneal /build/bin/anneal-movielens-prepare \
         $([ ${VARIANT} = cpu ] || echo /build/bin/libanneal_cuda.so)

FROM scratch AS prebuilt
COPY . /image

FROM ${PROGRAMS} AS programs

FROM ${BASE}
COPY --from=programs /image/ /
RUN ldconfig && echo 'anneal:x:65532:65532::/tmp:/usr/sbin/nologin' >> /etc/passwd && echo 'anneal:x:65532:' >> /etc/group
LABEL org.opencontainers.image.title="anneal-worker" \
      org.opencontainers.image.description="Trains, evaluates and exports TorchEasyRec models"
# What NVIDIA's container runtime puts beside the program where there are GPUs.
ENV NVIDIA_DRIVER_CAPABILITIES=compute,utility ANNEAL_FBGEMM=/usr/local/lib/fbgemm_gpu
USER 65532:65532
WORKDIR /tmp
ENTRYPOINT ["/usr/local/bin/anneal"]
