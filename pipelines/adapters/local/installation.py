"""One installation on this machine: brought up, replaced part by part after an upgrade, and taken down.

What serves goes on serving meanwhile, and a process of another model is left alone.
"""

import asyncio
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil

from pipelines.adapters.database.lost_files import JOURNAL, RECORDS, REGISTRY, refuse_lost
from pipelines.adapters.local.code import StartedCode, own_code
from pipelines.adapters.local.mlflow_store import upgrade_mlflow
from pipelines.adapters.local.parts import DECIDING, Part, parts_of, supervisors_of
from pipelines.adapters.local.ports import free_port, is_free, refuse_taken_port
from pipelines.adapters.local.processes import SUCCESSOR, Processes, abandon, end, kill
from pipelines.adapters.local.supervisor.home import (
    former_supervisor_names,
    live_port,
    record_path,
    supervisor_name,
)
from pipelines.adapters.local.supervisor.identity import end_orphan, left_replicas, marked
from pipelines.adapters.local.told_api import ToldApi
from pipelines.domain.release import Endpoint, Environment
from pipelines.errors import Undecided, UsageError
from pipelines.settings.installation import keep_model, kept_models, other_model
from pipelines.settings.models import KeptModel, ModelProject, own_folders
from pipelines.settings.settings import Settings

# For each part, once those before it are ready: all of them start at once, and take turns on a busy machine.
READY_S = 120.0
# What does not answer for so long while it runs is frozen.
SILENT_S = 15.0
TELL_S = 10.0
_LOOK_S = 0.1
_FORMER = frozenset(name for environment in Environment for name in former_supervisor_names(environment))

ProgressReporter = Callable[[str], None]

# MLflow has no authentication here, and reads what it is told to with whatever it finds.
_MLFLOW_INHERITED = ("PATH", "LANG", "LC_ALL", "TZ", "TMPDIR", "LD_LIBRARY_PATH", "PYTHONPATH", "NO_PROXY", "no_proxy")


class LocalInstallation:
    """Starts, finds and stops the parts of one home.

    `executor_alive` says whether the executor with a process id has lately shown that it lives. `upgrade_tables` brings
    the tables up to date, for which no process of an older Slipway may use them.
    """

    def __init__(
        self,
        settings: Settings,
        environ: Mapping[str, str],
        executor_alive: Callable[[int], bool],
        upgrade_tables: Callable[[], None],
    ) -> None:
        self._settings = settings
        self._environ = settings.child_environ(environ)
        self._processes = Processes(settings.home, settings.logs)
        self._api = ToldApi(settings)
        self._code = StartedCode(settings.home)
        self._executor_alive = executor_alive
        self._upgrade_tables = upgrade_tables

    def known_id(self) -> str | None:
        """Return the id that the home's API was started with last."""
        return self._api.known_id()

    def up(self, report_progress: ProgressReporter) -> None:
        """Start what does not run, or was started by other code, and wait until all is ready.

        Supervisors are replaced without a lost request. Raises OtherModel, PortTaken or Undecided, and UsageError,
        before anything is ended or started, for a home that has lost a database.
        """
        self._processes.take_in()
        self._refuse_other_model()
        refuse_lost(self._settings.home, RECORDS, JOURNAL, REGISTRY)
        self._end_removed(report_progress)
        for model in self._settings.models[1:]:
            self._give_ports(model, report_progress)
        parts = self.parts()
        self._end_former(report_progress)
        self._end_estranged(report_progress)
        self._end_silent(parts, report_progress)
        replaced = self._end_outdated(parts, report_progress)
        self._end_orphans(parts, report_progress)
        self._upgrade_tables()
        self._start_missing(parts, replaced, report_progress)

    def add_model(self, model: str, report_progress: ProgressReporter) -> None:
        """Start the supervisors of a further model, at ports of its own, and wait until they are ready.

        Other models of the project that nobody has added yet stay as they are.
        """
        self._give_ports(self._settings.model(model), report_progress)
        parts = supervisors_of(self._settings, model, own_code(self._settings.root))
        self._start_missing(parts, set(), report_progress)

    def remove_model(self, model: str, report_progress: ProgressReporter) -> None:
        """End the supervisors of a model, whose slots are empty by now."""
        self._end_removed(report_progress)

    def _start_missing(self, parts: Sequence[Part], replaced: set[str], report_progress: ProgressReporter) -> None:
        running = self.running()
        missing = [part for part in parts if part.name not in running or part.name in replaced]
        for part in missing:
            # After a kill the replicas of an earlier supervisor hold its port: its successor ends them, or refuses.
            if part.port is not None and not part.has_left_replicas:
                refuse_taken_port(part.port, part.name, part.port_setting)
        for part in missing:
            report_progress(f"starting {part.name}")
            self._start(part, replaces=part.name in replaced, report_progress=report_progress)
        for part in parts:
            self._await_ready(part, report_progress)
            if part.name in replaced:
                self._code.keep(part.name, part.code)

    def down(self, report_progress: ProgressReporter) -> None:
        """Stop what this home started, the deciding parts first, and nothing else; raise OtherModel."""
        self._refuse_other_model()
        self._stop(report_progress)

    def destroy(self, report_progress: ProgressReporter) -> None:
        """Stop everything, whatever its model; all state is in the home."""
        self._stop(report_progress)

    def logs(self, lines: int) -> dict[str, list[str]]:
        """Return the last `lines` of every log file; raise UsageError when there is none."""
        files = sorted(self._settings.logs.glob("*.log"))
        if not files:
            raise UsageError(f"no logs in {self._settings.logs}", next='run "make up" first')
        return {file.stem: file.read_text(errors="replace").splitlines()[-lines:] for file in files}

    def doctor(self) -> dict[str, Any] | None:
        """Leave it to whoever asks: all is on this machine."""
        return None

    def trainer(self) -> dict[str, str]:
        """Return nothing: MLflow asks nobody who he is here."""
        return {}

    def running(self) -> dict[str, psutil.Process]:
        """Return the parts that run."""
        return self._processes.running()

    def parts(self) -> list[Part]:
        """Return every part, in the order of starting."""
        return parts_of(self._settings, self._executor_alive)

    def _refuse_other_model(self) -> None:
        """Raise OtherModel while a supervisor runs of a model that this installation never had.

        Projects that contradict each other are nothing to this: they keep nobody from stopping what runs.
        """
        default = self._settings.model().name
        inside = {folder.name for folder in own_folders(self._settings.project)}
        known = {default, *(each.name for each in self._kept()), *inside}
        for environment in Environment:
            any_model = f"supervisor-{environment}-"
            for name in self.running():
                if name.startswith(any_model) and name.removeprefix(any_model) not in known:
                    raise other_model(self._settings, kept=name.removeprefix(any_model), asked=default)

    def _kept(self) -> list[KeptModel]:
        return kept_models(self._settings.home)

    def _give_ports(self, model: ModelProject, report_progress: ProgressReporter) -> None:
        """Have a further model's live slots keep their ports, or get free ones where others have taken them."""
        settings, running = self._settings, self.running()
        kept = next((each for each in self._kept() if each.name == model.name), None)
        ports = dict(kept.ports) if kept else {}
        taken = {port for each in self._kept() if each.name != model.name for port in each.ports.values()}
        taken |= settings.own_ports
        for environment in Environment:
            endpoint = Endpoint(model.name, environment)
            record = record_path(settings.home, endpoint)
            # Where what the home remembers was lost, its supervisor goes on at the port that it has.
            port = ports.get(environment) or live_port(record)
            holds = supervisor_name(endpoint) in running or (record.exists() and marked(record))
            beside = taken | {each for name, each in ports.items() if name != environment}
            if port is None or not (holds or (is_free(port) and port not in beside)):
                ports[str(environment)] = free_port(beside | set(ports.values()))
                told = f"in place of {port}, which is taken" if port else "from now on"
                report_progress(f"{endpoint} has port {ports[str(environment)]} {told}")
            else:
                ports[str(environment)] = port
        keep_model(settings, KeptModel.of(model, settings.project, ports=ports))

    def _end_removed(self, report_progress: ProgressReporter) -> None:
        """End the supervisors of models that were removed; nothing of them serves any more."""
        running = self.running()
        for model in (each.name for each in self._kept() if each.removed):
            names = [supervisor_name(Endpoint(model, environment)) for environment in Environment]
            for name in (each for each in names if each in running):
                report_progress(f"stopping {name}, whose model was removed")
                end([running[name]])

    def _end_former(self, report_progress: ProgressReporter) -> None:
        """End the supervisors that an earlier Slipway named otherwise, and first what decides and knows those names.

        What an interrupted `up` began to replace a supervisor by, and has not taken its place yet, goes too.
        """
        running = self.running()
        former = [name for name in running if name in _FORMER]
        deciding = [name for name in running if name in DECIDING and former]
        for name in (*deciding, *former):
            report_progress(f"stopping {name}, which an earlier Slipway started")
        end(running[name] for name in deciding)
        abandon(process for name, process in running.items() if name in former or name.startswith(SUCCESSOR))

    def _end_estranged(self, report_progress: ProgressReporter) -> None:
        """End an API that does not know what the home has by now: it would refuse everybody."""
        api = self.running().get("api")
        if api and not self._api.is_told():
            report_progress("the id of the home or its tokens are others by now: starting the API anew")
            end([api])

    def _end_silent(self, parts: Sequence[Part], report_progress: ProgressReporter) -> None:
        """End what runs but does not answer, such as a frozen process, so that it is started anew.

        Each is asked beside the others and has SILENT_S of its own: one that is frozen takes nothing of their time.
        """
        running = self.running()
        asked = [part for part in parts if part.name in running]
        with ThreadPoolExecutor(max_workers=len(asked) or 1) as pool:
            silent = [part for part, answers in zip(asked, pool.map(self._answers, asked), strict=True) if not answers]
        for part in silent:
            report_progress(f"{part.name} does not answer: starting it anew")
        kill(running[part.name] for part in silent)

    def _answers(self, part: Part) -> bool:
        """Whether a part that runs answers within SILENT_S; one that has ended meanwhile keeps nobody waiting.

        A supervisor that answers is not frozen, even if its replicas never come up: those of before serve meanwhile.
        """
        deadline = time.monotonic() + SILENT_S
        while (pid := self._processes.latest(part.name)) is not None:
            if part.answers() if part.answers else part.ready(pid):
                return True
            if time.monotonic() > deadline:
                return False
            time.sleep(_LOOK_S)
        return True

    def _end_outdated(self, parts: Sequence[Part], report_progress: ProgressReporter) -> set[str]:
        """End what other code than this started, and return the supervisors that pass their place on by themselves."""
        running = self.running()
        outdated = [part for part in parts if part.name in running and not self._code.is_of(part.name, part.code)]
        for part in outdated:
            report_progress(f"{part.name} was started by other code: replacing it")
        supervisors = [part for part in outdated if part.records]
        end(running[part.name] for part in outdated if part not in supervisors)
        passing = {part.name for part in supervisors if part.hands_over}
        abandon(running[part.name] for part in supervisors if part.name not in passing)
        return passing

    def _end_orphans(self, parts: Sequence[Part], report_progress: ProgressReporter) -> None:
        """End what a killed process left, which holds its port; but replicas serve on until a supervisor takes them."""
        own = {part.name for part in parts if not part.records}
        self._end_left((each for each in self._processes.orphans() if each[0] in own), report_progress)

    def _end_left(self, left: Iterable[tuple[str, psutil.Process]], report_progress: ProgressReporter) -> None:
        ending = list(left)
        for name, process in ending:
            report_progress(f"ending process {process.pid}, which {name} left")
        end(process for _, process in ending)

    def _start(self, part: Part, *, replaces: bool, report_progress: ProgressReporter) -> None:
        environ = {
            # What libraries say to programmers would stand where a part says why it does not start.
            "PYTHONWARNINGS": "ignore",
            **(self._mlflow_environ() if part.name == "mlflow" else self._environ),
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
            "PYTHONUNBUFFERED": "1",
        }
        if part.name == "mlflow":
            upgrade_mlflow(self._settings.home / "mlflow.db", self._environ, report_progress)
        if part.name == "api":
            self._api.keep_told()
        command = [*part.command, *(["--replace"] if replaces else [])]
        self._processes.start(part.name, command, cwd=self._settings.root, environ=environ, replaces=replaces)
        if not replaces:
            # One that replaces another may not get its place: then the code of before is what runs.
            self._code.keep(part.name, part.code)

    def _mlflow_environ(self) -> dict[str, str]:
        """Return what MLflow needs of the environment: who may ask it gets at nothing by an operator's logins."""
        needed = {name: value for name, value in self._environ.items() if name in _MLFLOW_INHERITED}
        return {**needed, "HOME": str(self._settings.home)}

    def _await_ready(self, part: Part, report_progress: ProgressReporter) -> None:
        """Wait until a part is ready, and say now and then for what; raise with its own words if it never is."""
        begun = told = time.monotonic()
        while (pid := self._processes.latest(part.name)) is not None and not part.ready(pid):
            now = time.monotonic()
            if now - begun > READY_S:
                said = self._processes.last_lines(part.name)
                raise Undecided(
                    f"{part.name} is not ready after {READY_S:g} s: {said}",
                    next='see "slipway logs", then run "make up" again, which goes on with what runs',
                )
            if now - told > TELL_S:
                told = now
                last = self._processes.last_lines(part.name, 1)
                report_progress(f"waiting for {part.name} for {now - begun:.0f} s, which says: {last or 'nothing yet'}")
            time.sleep(_LOOK_S)
        if pid is None:
            refusal = UsageError if self._processes.exit_code(part.name) == UsageError.exit_code else Undecided
            said = self._processes.last_lines(part.name)
            raise refusal(f"{part.name} ended: {said}", next='mend that, then run "make up" again')

    def _stop(self, report_progress: ProgressReporter) -> None:
        running = self.running()
        for decides in (True, False):
            names = [name for name in running if (name in DECIDING) is decides]
            for name in names:
                report_progress(f"stopping {name}")
            end(running[name] for name in names)
        self._end_left(self._processes.left(), report_progress)
        # Those of a supervisor that was killed serve on.
        self._end_replicas(report_progress)
        self._processes.forget()

    def _end_replicas(self, report_progress: ProgressReporter) -> None:
        left = left_replicas(self._settings.home / "run")
        for replica in left:
            report_progress(f"ending {replica.name} (process {replica.pid}), which a supervisor left")

        async def end_all() -> None:
            await asyncio.gather(*map(end_orphan, left))

        asyncio.run(end_all())
