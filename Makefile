# One habit a target; the work is in cmake/, examples/ and tests/.
.PHONY: demo build test test-deps e2e bench bench-export bench-operator fault format lint deps cuda cuda-image gpu-check cluster-up cluster-down

JOBS ?= $(shell nproc)

deps:
	@cmake/deps/install build

build: deps
	@cmake --preset cpu >/dev/null
	@cmake --build --preset cpu -j $(JOBS)

# SYNTHETIC=1 uses made-up data with a known best AUC instead of MovieLens-100k.
demo: build
	@examples/movielens/demo $(if $(SYNTHETIC),--synthetic)

# Some tests are there only with their packages: those come first.
test: test-deps build
	@OMP_WAIT_POLICY=passive ctest --test-dir build --output-on-failure -j 1

test-deps:
	@cmake/deps/install build movielens python bench

# The example and its faults on two real nodes, with the images and the chart, and the export image; skipped, with the reason,
# without root.
e2e: build
	@cmake/deps/install movielens python
	@ctest --test-dir build --output-on-failure -C e2e -R '^cluster_(e2e|export_image)$$'

# Kernels alone, then training and evaluation against PyPI torch + fbgemm-gpu-cpu. BENCH="--only deepfm --rounds 1" for less.
bench: build
	@cmake/deps/install python bench
	@build/bin/embedding_bench
	@tests/run_python tests/bench/bench.py build $(BENCH)

# Every export format of two models: build/reports/export.json. SCALE=0.01 makes the 26 tables smaller.
SCALE ?= 1
bench-export: build
	@cmake/deps/install movielens python
	@OMP_WAIT_POLICY=passive tests/run_python tests/bench/export_bench.py --scale $(SCALE)

# The operator beside a minimal one of controller-runtime, on a real control plane with kwok: build/reports/operator.json.
# Hours; SCALE=0.1 for less, ONLY=anneal/many for one operator and one scenario.
bench-operator:
	@cmake --preset cpu >/dev/null
	@cmake --build --preset cpu -j $(JOBS) --target anneal-operator
	@tests/bench/operator/run --scale $(SCALE) $(if $(ONLY),--only $(ONLY))

# Every fault plan, a table, and build/reports/fault.json: docs/reliability.md.
fault:
	@cmake --preset cpu >/dev/null
	@cmake --build --preset cpu -j $(JOBS) --target fault_plans
	@build/bin/fault_plans --soaks 200 --report build/reports/fault.json

# The same programs and libanneal_cuda.so: CUDA and NCCL. Builds without a GPU. CUDA_TARGET=anneal_cuda: the library alone.
CUDA_TARGET ?= all
cuda: deps
	@cmake/deps/install cuda
	@cmake --preset cuda >/dev/null
	@cmake --build --preset cuda -j $(JOBS) --target $(CUDA_TARGET)

# The worker's image with CUDA, built and run without a device; fetches 2.4 GB. As root.
cuda-image: build
	@$(MAKE) --no-print-directory cuda CUDA_TARGET=anneal_cuda
	@cmake/deps/install cuda-run
	@ctest --test-dir build --output-on-failure -C e2e -R '^cluster_cuda_image$$'

# On a machine with a GPU: whatever needs one. See docs/gpu.md.
gpu-check: cuda
	@cmake/deps/install cuda-run python bench
	@tests/gpu/check

format:
	@git ls-files '*.h' '*.cpp' '*.inc' | xargs clang-format -i

lint: build
	@git ls-files '*.cpp' | grep -v '^tests/' | xargs clang-tidy -p build --quiet

# TIER=cp: the control plane; TIER=node NODES=2: with nodes that run pods. See tests/cluster/README.md.
TIER ?= cp
NODES ?= 1
cluster-up:
	@tests/cluster/cluster up --tier $(TIER) --nodes $(NODES)

cluster-down:
	@tests/cluster/cluster down
