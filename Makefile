# Everything a developer, a user trying it out, and the CI run. `make help` lists the targets.
SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
CARGO ?= cargo
# Output of the build itself is shown only where it is slow enough to be missed.
LOCAL = $(CARGO) run --quiet --package bifrost-e2e --bin bifrost-local --

.PHONY: help
help: ## Show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# What the targets below pass on; `make up ARGS="--context NAME"` takes a cluster you have.
ARGS ?=

.PHONY: up
up: ## Start a local cluster with the operator, an example gateway, an app and a fake provider
	@$(CARGO) build --locked --package bifrost-e2e --package kubectl-bifrost
	@$(LOCAL) up $(ARGS)

.PHONY: down
down: ## Remove the local cluster; what was downloaded and built stays
	@$(CARGO) build --locked --package bifrost-e2e
	@$(LOCAL) down

.PHONY: env
env: ## Print the variables of the local cluster, for: eval "$$(make -s env)"
	@$(LOCAL) env

.PHONY: status
status: ## Say what of the local cluster runs
	@$(LOCAL) status

.PHONY: images
images: ## Build the images of operator and gateway, and say where their archives are
	@$(CARGO) build --locked --package bifrost-e2e
	@$(LOCAL) images

.PHONY: test
test: test-unit test-e2e ## Run all tests: unit, property, and end to end on a cluster of their own

.PHONY: test-unit
test-unit: ## Run the tests that need no cluster
	$(CARGO) test --locked --workspace --quiet
	@# What `make bench` measures is run here too, unoptimised: that it works.
	$(CARGO) run --locked --quiet --package bifrost-wire --example wire_bench

.PHONY: test-e2e
test-e2e: ## Run the scenarios on a cluster of their own; ONLY=word,word picks some
	$(CARGO) build --locked --package bifrost-e2e --package kubectl-bifrost
	$(LOCAL) test $(ARGS) $(ONLY)

.PHONY: bench
bench: ## Measure what the wire formats cost: peek, splice, streams, usage
	$(CARGO) run --quiet --release --package bifrost-wire --example wire_bench

.PHONY: simulate
simulate: ## Simulate migrations: how often the analysis is wrong, and how fast it is (ten minutes)
	$(CARGO) run --quiet --release --locked --package bifrost-analysis --example simulate

.PHONY: cost
cost: ## Measure what the analysis, a shadow and a rollout cost a request, in instructions; needs valgrind
	$(CARGO) run --quiet --locked --release --package bifrost-gateway --example request_cost

.PHONY: lint
lint: ## Check formatting and lints
	$(CARGO) fmt --all --check
	$(CARGO) clippy --locked --workspace --all-targets --quiet -- -D warnings

.PHONY: deny
deny: ## Check licences, bans and sources of the dependencies; installs cargo-deny if it is missing
	@command -v cargo-deny > /dev/null || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked check bans licenses sources

.PHONY: crds
crds: ## Write the CRDs, and the chart's copy of them, from the Rust types
	$(CARGO) run --quiet --package bifrost-crds --bin crds-generate

.PHONY: clean
clean: down ## Remove the local cluster and all that was built
	$(CARGO) clean
