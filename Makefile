# SPDX-License-Identifier: Apache-2.0
# A short front of CMake and Ninja. `make help` lists the targets; CMAKE_FLAGS adds options (CMakeLists.txt).
JOBS ?= $(shell nproc)
PREFIX ?= /usr/local
FUZZ_SECONDS ?= 30
CMAKE_FLAGS ?=

CONFIGURE = cmake --log-level=WARNING -G Ninja -S . $(CMAKE_FLAGS) >/dev/null
CTEST = ctest -j $(JOBS) --output-on-failure
ASAN_LABELS = unit;fault;conform;plugins;fuzz
TSAN_LABELS = unit;sim;conform;net
# 64-bit ARM's kernels are built and run under an emulator, where this machine isn't one.
ARM = $(if $(filter x86_64,$(shell uname -m)),build-arm)
# gcc's thread sanitizer needs the address-space layout of an older kernel's defaults.
FIXED_LAYOUT = $(shell setarch -R true 2>/dev/null && echo setarch -R)

.PHONY: all demo check check-cuda asan tsan tidy fuzz bench fmt model install help clean
.DEFAULT_GOAL := all

all: ## build the program: build/couplet
	@tools/setup.sh build
	@$(CONFIGURE) -B build -DCOUPLET_TESTS=OFF -DCMAKE_INSTALL_PREFIX=$(PREFIX)
	@cmake --build build -j $(JOBS)

demo: all model ## rank passages with a real model over gRPC, then a throughput table
	@tools/demo.sh

# One ctest over all builds, so that its summary is the verdict on everything.
check: ## every test: the release build; unit, fault, conformance, fuzz corpora under ASan + UBSan; ARM kernels under qemu
	@tools/setup.sh check
	@tools/get_model.sh
	@tools/get_go_tools.sh
	@$(CONFIGURE) -B build-check -DCOUPLET_WERROR=ON
	@cmake --build build-check -j $(JOBS)
	@$(CONFIGURE) -B build-asan -DCMAKE_BUILD_TYPE=Debug -DCOUPLET_SANITIZE=address,undefined \
		"-DCOUPLET_TEST_LABELS=$(ASAN_LABELS)"
	@cmake --build build-asan -j $(JOBS)
	@[ -z "$(ARM)" ] || $(CONFIGURE) -B $(ARM) --toolchain cmake/aarch64-linux-gnu.cmake \
		-DCOUPLET_KERNCHECK_ONLY=ON -DCOUPLET_WERROR=ON
	@[ -z "$(ARM)" ] || cmake --build $(ARM) -j $(JOBS)
	@mkdir -p build-check/all
	@printf 'subdirs("%s")\n' $(addprefix $(CURDIR)/,build-check build-asan $(ARM)) >build-check/all/CTestTestfile.cmake
	@$(CTEST) --test-dir build-check/all

# nvcc comes from PATH, /usr/local/cuda or tools/setup.sh; without a GPU this still proves that everything builds.
check-cuda: ## build the cuda plug-in and, on a machine with an NVIDIA GPU, test and measure it
	@tools/setup.sh cuda
	@$(CONFIGURE) -B build-cuda -DCOUPLET_WERROR=ON -DCOUPLET_CUDA=ON "-DCOUPLET_TEST_LABELS=cuda;conform"
	@cmake --build build-cuda -j $(JOBS)
	@$(CTEST) --test-dir build-cuda
	@build-cuda/bench_cuda --quick || echo "no bench: see above"

asan: ## only the tests under ASan + UBSan
	@tools/setup.sh check
	@$(CONFIGURE) -B build-asan -DCMAKE_BUILD_TYPE=Debug -DCOUPLET_SANITIZE=address,undefined \
		"-DCOUPLET_TEST_LABELS=$(ASAN_LABELS)"
	@cmake --build build-asan -j $(JOBS)
	@$(CTEST) --test-dir build-asan

tsan: ## unit, simulation and conformance tests under TSan
	@tools/setup.sh check
	@$(CONFIGURE) -B build-tsan -DCMAKE_BUILD_TYPE=Debug -DCOUPLET_SANITIZE=thread "-DCOUPLET_TEST_LABELS=$(TSAN_LABELS)"
	@cmake --build build-tsan -j $(JOBS)
	@$(FIXED_LAYOUT) $(CTEST) --test-dir build-tsan

tidy: ## clang-tidy over src/
	@tools/setup.sh tidy
	@$(CONFIGURE) -B build-check -DCOUPLET_WERROR=ON
	@tools/tidy.sh build-check $(JOBS)

fuzz: ## libFuzzer on every parser, FUZZ_SECONDS each
	@tools/setup.sh fuzz
	@CC=clang $(CONFIGURE) -B build-fuzz -DCMAKE_BUILD_TYPE=Debug -DCOUPLET_TESTS=OFF -DCOUPLET_FUZZ=ON
	@cmake --build build-fuzz -j $(JOBS)
	@tools/fuzz.sh build-fuzz $(FUZZ_SECONDS)

bench: all model ## the numbers of this machine: engine, accuracy, tokenizer, kernels, memory, server (10 minutes)
	@python3 tools/bench.py

fmt: ## format the C sources in place
	@tools/setup.sh check
	@tools/check_format.sh --fix

model: ## fetch the default models into models/
	@tools/setup.sh demo
	@tools/get_model.sh

install: all ## install program, library, header, pkg-config file, man pages, completions (PREFIX, DESTDIR)
	@cmake --install build

help: ## this list
	@sed -n 's/^\([a-z-]*\):[^#]*## /\1\t/p' Makefile | awk -F '\t' '{printf "  make %-10s %s\n", $$1, $$2}'

clean: ## remove what was built (models/ and .venv stay)
	rm -rf build build-check build-asan build-arm build-tsan build-fuzz build-cuda
