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
# Which model a verb is about: the default one, if none is named.
OF = --model "$(MODEL)"

.PHONY: help setup lock demo up down destroy backup restore status logs doctor models model-add model-remove \
  candidate model-init model-check model-convert deploy-staging report cancel promote approve \
  reject rollback loadtest data-push data-pull data-diff history live feedback versions lineage evalset-add \
  evalset-list evalset-show evalset-diff audit audit-verify archive policy-apply images offline secrets test mutants zoo check \
  bench reference

help: ## Show every target
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "%-16s %s\n", $$1, $$2}'

setup: ## Make .venv with everything locked: [EXTRA=boosting]
	@$(PYTHON) pipelines/developer/install.py $(EXTRA)

lock: setup ## Resolve all dependencies anew into requirements/
	@$(SLIPWAY) lock

demo: setup ## From a fresh clone: versions to production, one stopped, one rolled back; left running: [MODELS=2]
	@$(SLIPWAY) demo --models "$(or $(MODELS),1)"

up: setup ## Start everything and wait until it answers
	@$(SLIPWAY) up

down: ## Stop what `up` started, and keep all state
	@$(SLIPWAY) down

destroy: ## Remove all state for ever: CONFIRM=yes
	@$(SLIPWAY) destroy --confirm "$(CONFIRM)"

status: ## Show what serves, what waits, and what disagrees: [MODEL=name]
	@$(SLIPWAY) status $(OF) --as "$(AS)"

backup: ## Write all state into one file: FILE=name [TO=age1...]
	@$(SLIPWAY) backup "$(FILE)" --to "$(TO)"

restore: setup ## Make a new home of a backup: FILE=name [IDENTITY=key.txt] [HEAD=SEQ:HASH]
	@$(SLIPWAY) restore "$(FILE)" --identity "$(IDENTITY)" --head "$(HEAD)"

logs: ## Show the last lines that every process wrote: [LINES=20]
	@$(SLIPWAY) logs $(if $(LINES),--lines "$(LINES)")

doctor: ## Check the invariants
	@$(SLIPWAY) doctor

candidate: ## Train in this working tree, register, evaluate into staging: [MODEL=name]
	@$(SLIPWAY) candidate $(OF) --as "$(AS)"

model-init: setup ## Propose a model.yaml for a file of data: FILE=name TARGET_COLUMN=name [PROJECT=folder] [NAME=] [ID=] [FORCE=yes]
	@$(SLIPWAY) model init "$(FILE)" --target "$(TARGET_COLUMN)" --project "$(PROJECT)" --name "$(NAME)" --id "$(ID)" $(if $(FORCE),--force)

model-check: ## Say whether a version can be served, and why not: VERSION=n [MODEL=name]
	@$(SLIPWAY) model check "$(VERSION)" $(OF)

model-convert: ## Have a version's estimator converted to ONNX in a container, as a new version: VERSION=n [ROWS=m] [MODEL=name]
	@$(SLIPWAY) model convert "$(VERSION)" --rows "$(ROWS)" $(OF)

models: ## Show the models of the installation, and where each serves
	@$(SLIPWAY) model list --as "$(AS)"

model-add: ## Add a model to the running installation: [MODEL=name, or the FOLDER of one; otherwise all of models/]
	@$(SLIPWAY) model add "$(or $(FOLDER),$(MODEL))" --as "$(AS)"

model-remove: ## Have nothing of a model serve any more; its history stays: MODEL=name
	@$(SLIPWAY) model remove "$(MODEL)" --as "$(AS)"

deploy-staging: ## Evaluate a version into staging: [VERSION=n] [MODEL=name]
	@$(SLIPWAY) deploy-staging --version "$(VERSION)" $(OF) --as "$(AS)"

report: ## Show what a version's report says, and beside it another version's: VERSION=n [COMPARE=m] [MODEL=name]
	@$(SLIPWAY) report "$(VERSION)" --compare "$(COMPARE)" $(OF) --as "$(AS)"

cancel: ## End an evaluation before it is done: ID=e-3
	@$(SLIPWAY) cancel "$(ID)" --as "$(AS)"

promote: ## Ask for production and wait: VERSION=n [OVERRIDE="reason" GATES=a,b] [MODEL=name]
	@$(SLIPWAY) promote --version "$(VERSION)" --override "$(OVERRIDE)" --gates "$(GATES)" $(OF) --as "$(AS)"

approve: ## Say yes to a version's report: VERSION=n AS=bob [MODEL=name]
	@$(SLIPWAY) approve --version "$(VERSION)" $(OF) --as "$(AS)"

reject: ## Say no to a version's promotion: VERSION=n REASON="why" AS=bob [MODEL=name]
	@$(SLIPWAY) reject --version "$(VERSION)" --reason "$(REASON)" $(OF) --as "$(AS)"

rollback: ## Go back to the previous good release: [ENV=production] [MODEL=name]
	@$(SLIPWAY) rollback --env "$(or $(ENV),production)" $(OF) --as "$(AS)"

data-push: ## Put the data that dvc.lock names into the object store of the containers
	@$(SLIPWAY) data push $(OF)

data-diff: ## Say what changed in the data since production, or from OLD= to NEW=: versions, revisions, . for the tree
	@$(SLIPWAY) data diff "$(OLD)" "$(NEW)" $(OF)

data-pull: ## Fetch the data that dvc.lock names from there
	@$(SLIPWAY) data pull $(OF)

loadtest: ## Load staging and judge its SLO: [RATE=200] [DURATION=60] [WORKERS=1] [SHAPE=ramp] [MODEL=name]
	@$(SLIPWAY) loadtest --env "$(or $(ENV),staging)" --rate "$(RATE)" --duration "$(DURATION)" --workers "$(WORKERS)" --shape "$(SHAPE)" $(OF) --as "$(AS)"

versions: ## List the registered versions: [BEFORE=n] [MODEL=name]
	@$(SLIPWAY) versions --before "$(BEFORE)" $(OF) --as "$(AS)"

history: ## Show who served what when: [MODEL=name]
	@$(SLIPWAY) history $(OF) --as "$(AS)"

evalset-add: ## Add rows of your own as an evaluation set: FILE=rows.csv NAME=hard_cases [MODEL=name]
	@$(SLIPWAY) evalset add "$(FILE)" --name "$(NAME)" $(OF) --as "$(AS)"

evalset-list: ## List the evaluation sets of a model: [MODEL=name]
	@$(SLIPWAY) evalset list $(OF) --as "$(AS)"

evalset-show: ## Show what an evaluation set holds: SET=number, name or digest [MODEL=name]
	@$(SLIPWAY) evalset show "$(SET)" $(OF) --as "$(AS)"

evalset-diff: ## Say what differs between two evaluation sets: OLD= NEW= [MODEL=name]
	@$(SLIPWAY) evalset diff "$(OLD)" "$(NEW)" $(OF) --as "$(AS)"

lineage: ## Show what a version comes of and became, or the versions built from a data hash, a commit, an image: WHAT=n [MODEL=name]
	@$(SLIPWAY) lineage "$(WHAT)" $(OF) --as "$(AS)"

live: ## Show what versions were asked, what was lost of the sample, quality by labels, and drift: [DRIFT=yes] [MODEL=name]
	@$(SLIPWAY) live $(if $(DRIFT),--drift) $(OF) --as "$(AS)"

feedback: ## Tell what was true of answered requests: FILE=labels.csv [MODEL=name]
	@$(SLIPWAY) feedback "$(FILE)" $(OF) --as "$(AS)"

audit: ## Show the last entries of the audit trail
	@$(SLIPWAY) audit --as "$(AS)"

audit-verify: ## Verify the audit chain
	@$(SLIPWAY) audit-verify --as "$(AS)"

archive: ## Remove what nothing needs any more: [DRY_RUN=yes]
	@$(SLIPWAY) archive $(if $(DRY_RUN),--dry-run) --as "$(AS)"

policy-apply: ## Put a policy in force: [FILE=the model's or the installation's policy.yaml] [MODEL=name]
	@$(SLIPWAY) policy apply "$(FILE)" $(OF) --as "$(AS)"

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

zoo: setup ## Show how often the gates stop a good model and let a bad one go on: [COUNT=200]
	@$(SLIPWAY) zoo --count "$(COUNT)"

check: setup ## Format, lint, types and import contracts
	@$(SLIPWAY) check

reference: setup ## Write the schemas of all formats into docs/reference
	@$(SLIPWAY) reference

bench: ## Measure into bench/results: [NAME=rollback] [COUNT=30] [ONLY=K5]
	@$(SLIPWAY) bench $(or $(NAME),all) --count "$(COUNT)" --only "$(ONLY)"
