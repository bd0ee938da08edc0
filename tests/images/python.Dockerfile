# What the servers of tests run on: a Python. Their packages, pinned, are mounted.
ARG BASE
FROM ${BASE}
RUN apt-get update && apt-get install -y --no-install-recommends python3 && rm -rf /var/lib/apt/lists/* /var/cache/apt/*
USER 65532:65532
