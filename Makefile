# Every target is one line that calls the command line interface; `make` ends with 2 on any failure,
# so scripts call .venv/bin/slipway, whose exit codes say what happened.
.DEFAULT_GOAL := help
PYTHON ?= python3
SLIPWAY = [ -x .venv/bin/slipway ] || { printf 'Slipway is not set up here\nnext: run "make setup"\n' >&2; exit 2; }; \
  .venv/bin/slipway
# make itself knows AS, as the assembler: only what somebody else has set names a person.
ifeq ($(origin AS),default)
AS := alice
endif
export TARGET ?= local

.PHONY: help setup lock demo up down destroy backup restore status logs doctor candidate model-init deploy-staging cancel promote approve \
  reject rollback loadtest data-push data-pull history versions audit audit-verify archive policy-apply \
  images offline secrets test mutants check bench reference

help: ## Show every target
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

setup: ## Make .venv with everything locked: [EXTRA=boosting]
	@$(PYTHON) pipelines/developer/install.py $(EXTRA)

lock: setup ## Resolve all dependencies anew into requirements/
	@$(SLIPWAY) lock

demo: setup ## From a fresh clone: versions to production, one stopped, one rolled back; left running
	@$(SLIPWAY) demo

up: setup ## Start everything and wait until it answers
	@$(SLIPWAY) up

down: ## Stop what `up` started, and keep all state
	@$(SLIPWAY) down

destroy: ## Remove all state for ever: CONFIRM=yes
	@$(SLIPWAY) destroy --confirm "$(CONFIRM)"

status: ## Show what serves, what waits, and what disagrees
	@$(SLIPWAY) status --as "$(AS)"

backup: ## Write all state into one file: FILE=name [TO=age1...]
	@$(SLIPWAY) backup "$(FILE)" --to "$(TO)"

restore: setup ## Make a new home of a backup: FILE=name [IDENTITY=key.txt] [HEAD=SEQ:HASH]
	@$(SLIPWAY) restore "$(FILE)" --identity "$(IDENTITY)" --head "$(HEAD)"

logs: ## Show the last lines that every process wrote: [LINES=20]
	@$(SLIPWAY) logs $(if $(LINES),--lines "$(LINES)")

doctor: ## Check the invariants
	@$(SLIPWAY) doctor

candidate: ## Train in this working tree, register, evaluate into staging
	@$(SLIPWAY) candidate --as "$(AS)"

model-init: setup ## Propose a model.yaml for a file of data: FILE=name TARGET_COLUMN=name [NAME=] [ID=] [FORCE=yes]
	@$(SLIPWAY) model init "$(FILE)" --target "$(TARGET_COLUMN)" --name "$(NAME)" --id "$(ID)" $(if $(FORCE),--force)

deploy-staging: ## Evaluate a version into staging: [VERSION=n]
	@$(SLIPWAY) deploy-staging --version "$(VERSION)" --as "$(AS)"

cancel: ## End an evaluation before it is done: ID=e-3
	@$(SLIPWAY) cancel "$(ID)" --as "$(AS)"

promote: ## Ask for production and wait: VERSION=n [OVERRIDE="reason" GATES=a,b]
	@$(SLIPWAY) promote --version "$(VERSION)" --override "$(OVERRIDE)" --gates "$(GATES)" --as "$(AS)"

approve: ## Say yes to a version's report: VERSION=n AS=bob
	@$(SLIPWAY) approve --version "$(VERSION)" --as "$(AS)"

reject: ## Say no to a version's promotion: VERSION=n REASON="why" AS=bob
	@$(SLIPWAY) reject --version "$(VERSION)" --reason "$(REASON)" --as "$(AS)"

rollback: ## Go back to the previous good release: [ENV=production]
	@$(SLIPWAY) rollback --env "$(or $(ENV),production)" --as "$(AS)"

data-push: ## Put the data that dvc.lock names into the object store of the containers
	@$(SLIPWAY) data push

data-pull: ## Fetch the data that dvc.lock names from there
	@$(SLIPWAY) data pull

loadtest: ## Load staging and judge its SLO: [RATE=200] [DURATION=60] [WORKERS=1] [SHAPE=ramp]
	@$(SLIPWAY) loadtest --env "$(or $(ENV),staging)" --rate "$(RATE)" --duration "$(DURATION)" --workers "$(WORKERS)" --shape "$(SHAPE)" --as "$(AS)"

versions: ## List the registered versions: [BEFORE=n]
	@$(SLIPWAY) versions --before "$(BEFORE)" --as "$(AS)"

history: ## Show who served what when
	@$(SLIPWAY) history --as "$(AS)"

audit: ## Show the last entries of the audit trail
	@$(SLIPWAY) audit --as "$(AS)"

audit-verify: ## Verify the audit chain
	@$(SLIPWAY) audit-verify --as "$(AS)"

archive: ## Remove what nothing needs any more: [DRY_RUN=yes]
	@$(SLIPWAY) archive $(if $(DRY_RUN),--dry-run) --as "$(AS)"

policy-apply: ## Put a policy in force: FILE=policy.yaml
	@$(SLIPWAY) policy apply "$(or $(FILE),policy.yaml)" --as "$(AS)"

images: setup ## Build the container images that are missing: [NAME=app]
	@$(SLIPWAY) images $(NAME)

offline: setup ## Make on a closed network what can't be pulled there: [PART=engine]
	@$(SLIPWAY) offline $(or $(PART),all)

secrets: ## Name the secrets of the containers, or change them everywhere: [ROTATE=all]
	@$(SLIPWAY) secrets $(if $(ROTATE),rotate "$(ROTATE)")

test: setup ## Run every test that this machine can, naming what it skips
	@$(SLIPWAY) test

mutants: setup ## Seed faults, and name those that no test finds: [WORD=gates]
	@$(SLIPWAY) mutants $(WORD)

check: setup ## Format, lint, types and import contracts
	@$(SLIPWAY) check

reference: setup ## Write the schemas of all formats into docs/reference
	@$(SLIPWAY) reference

bench: ## Measure into bench/results: [NAME=rollback] [COUNT=30] [ONLY=K5]
	@$(SLIPWAY) bench $(or $(NAME),all) --count "$(COUNT)" --only "$(ONLY)"
