# Two commands from a clean clone: `make train` and `make test`. Needs Python 3.11+ and make, nothing else.
PYTHON ?= python3
# cpu or gpu: which FAISS wheel the environment gets (never both).
DEVICE ?= cpu
CONFIG ?= configs/deephps_rendered.yaml
VENV := .venv
BIN := $(VENV)/bin
# processes of the tests, file by file; JOBS=0 runs them in one process, as a debugger wants
JOBS ?= 2
PYTEST := $(BIN)/python -m pytest -n $(JOBS) --dist loadfile

.PHONY: train test test-all gpu-test lint install peers sweeps-env detector weights clean

train: $(VENV)/.run-$(DEVICE) ## train the default experiment on rendered hands
	$(BIN)/python train.py fit --config $(CONFIG) $(ARGS)

test: $(VENV)/.dev-$(DEVICE) ## the fast suite
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(PYTEST) $(ARGS)

test-all: $(VENV)/.dev-$(DEVICE) ## the fast suite and the slow tests
	$(PYTEST) -m "slow or not slow" $(ARGS)

gpu-test: $(VENV)/.dev-$(DEVICE) ## every test that needs a CUDA device
	$(BIN)/python -m pytest -m gpu $(ARGS)

lint: $(VENV)/.dev-$(DEVICE)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

install: $(VENV)/.run-$(DEVICE)

# Peers under licences that are not ours: a separate environment, for benchmarks only.
peers: .venv-peers/.done
.venv-peers/.done: benchmarks/peers.txt constraints.txt
	$(PYTHON) -m venv .venv-peers
	.venv-peers/bin/python -m pip install -q -c constraints.txt torch
	.venv-peers/bin/python -m pip install -q -c constraints.txt -e ".[cpu]" -r benchmarks/peers.txt
	touch $@

# W&B's sweep engine for slurm.local_sweep; it wants NumPy 1, hence not in the main environment
sweeps-env: .venv-sweeps/.done
.venv-sweeps/.done: slurm/sweeps.txt
	$(PYTHON) -m venv .venv-sweeps
	.venv-sweeps/bin/python -m pip install -q -r slurm/sweeps.txt
	touch $@

# MediaPipe's hand detector for predict.py --detect; it, too, wants NumPy 1
detector: .venv-detector/.done
.venv-detector/.done: datamodules/detector.txt
	$(PYTHON) -m venv .venv-detector
	.venv-detector/bin/python -m pip install -q -r datamodules/detector.txt
	touch $@

$(VENV)/.python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "Handful needs Python 3.11 or newer; name one: make PYTHON=python3.12 $(MAKECMDGOALS)"; exit 1; }
	$(PYTHON) -m venv $(VENV)
	touch $@

# faiss-cpu and faiss-gpu write one module: two of them in one environment are refused
ONE_FAISS := $(BIN)/python -c 'from ops.checks import refuse_two_faiss; refuse_two_faiss()'

# uncompiled: of thousands of modules a run imports few, and Python compiles these then
INSTALL := $(BIN)/python -m pip install -q --no-compile -c constraints.txt

$(VENV)/.run-$(DEVICE): $(VENV)/.python pyproject.toml constraints.txt
	$(INSTALL) torch
	$(INSTALL) -e ".[$(DEVICE)]"
	$(ONE_FAISS)
	touch $@

$(VENV)/.dev-$(DEVICE): $(VENV)/.run-$(DEVICE)
	$(INSTALL) -e ".[$(DEVICE),dev]"
	touch $@

# trains what weights/ holds, in the order that steps need each other, and converts it; RUN_ID lets a stopped run go on
TRAIN := $(BIN)/python train.py fit --config
CONVERT := $(BIN)/python -m lightning_modules.weights runs/
BEST := /weights/checkpoints/best.ckpt weights/
weights: export WANDB_MODE := disabled
weights: $(VENV)/.run-$(DEVICE)
	RUN_ID=weights $(TRAIN) configs/weights/deephps.yaml
	RUN_ID=weights $(TRAIN) configs/weights/dhpe_skeletons.yaml
	RUN_ID=weights $(TRAIN) configs/weights/dhpe.yaml
	RUN_ID=weights $(TRAIN) configs/neverova_segmentation.yaml
	$(BIN)/python -m datamodules.patch_dictionary runs/patches.safetensors
	RUN_ID=weights $(TRAIN) configs/neverova_weak.yaml
	RUN_ID=weights $(TRAIN) configs/weights/neverova.yaml
	RUN_ID=weights $(TRAIN) configs/weights/vae.yaml
	$(CONVERT)deephps$(BEST)deephps.safetensors
	$(CONVERT)dhpe$(BEST)dhpe.safetensors --eight-bits networks.backbone.layers.8.weight
	$(CONVERT)neverova$(BEST)neverova.safetensors --eight-bits regressor.hidden
	$(CONVERT)vae$(BEST)vae.safetensors --eight-bits 'encoders.[23]d.[24].weight' 'decoders.[23]d.[2468].weight' \
	  'encoders.*.features.[45].*.0.weight'

clean: ## the environments; never runs/
	rm -rf $(VENV) .venv-peers .venv-sweeps .venv-detector
