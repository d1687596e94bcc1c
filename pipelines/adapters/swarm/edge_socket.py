"""The edge's HAProxy, told by its own sockets which releases to use, how to share a port, and to reload.

The sockets are on a file system of the edge's own, so that nothing else on its networks reaches them: commands
are run inside its container. The container itself is never updated, since that cuts connections.
"""

from collections.abc import Callable, Collection, Mapping

from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import DeployFailed, TargetUnavailable

_ADMIN, _MASTER = "/run/haproxy/admin.sock", "/run/haproxy/master.sock"
_STATE, _CONFIG = "/run/haproxy/state", "/etc/haproxy/haproxy.cfg"
_SAY = 'printf "%s\\n" "$1" | socat -t 10 - "UNIX-CONNECT:$2"'
_SAVE = f'{_SAY} > "$3.new" && mv "$3.new" "$3"'
_NAME, _WEIGHT = "srv_name", "srv_uweight"
# What health checks add to their path, by the slot that a server's name begins with: in a backend, and in the one that
# is used while nothing in it is ready.
_WANTED = ("virt@{backend}", "virt@{backend}-alive")
# HAProxy knows weights from 0 to 256.
_HEAVIEST = 256
_TIMES = 3


class EdgeSocket:
    """The HAProxy of the edge `name`, a container of that name or the one of a service of that name.

    A backend's servers are named by their slot and a number, as in `live3`.
    """

    def __init__(self, engine: DockerEngine, name: str) -> None:
        self._engine = engine
        self._name = name

    def name_wanted(self, backend: str, slot: str, digests: Collection[str]) -> None:
        """Have a slot's replicas asked whether they serve one of these bundles; one that serves another is not used.

        `none` stands for no bundle. An edge that starts or reloads knows of nothing, and uses every replica that is
        ready. Raises DeployFailed when HAProxy has not taken it over.
        """
        query = "?" + "&".join(f"digest={digest}" for digest in sorted(digests))
        places = [place.format(backend=backend) for place in _WANTED]
        command = "; ".join(
            f"del map {place} {slot}; add map {place} {slot} {query}; show map {place}" for place in places
        )

        def is_taken_over(told: str) -> bool:
            return sum(line.split()[1:] == [slot, query] for line in told.splitlines()) == len(places)

        told = self._ask(command, is_taken_over)
        if not is_taken_over(told):
            raise DeployFailed(
                f"the edge did not take over what {slot} of {backend} serves: {told.strip()}", next='see "slipway logs"'
            )

    def share(self, backend: str, loads: Mapping[str, float]) -> None:
        """Give each server of a slot its part of the load, relative to the others; a slot not named gets none.

        Raises DeployFailed when HAProxy has not taken it over.
        """
        scale = _HEAVIEST / max(loads.values())
        weights = {slot: max(1, round(load * scale)) for slot, load in loads.items()}
        wanted = {server: weights.get(server.rstrip("0123456789"), 0) for server in self._weights(backend)}
        weighed = "; ".join(f"set server {backend}/{server} weight {weight}" for server, weight in wanted.items())
        self._run("sh", "-c", _SAY, "sh", weighed, _ADMIN)
        found = self._weights(backend)
        wrong = [f"{server} {found.get(server)}" for server, weight in wanted.items() if found.get(server) != weight]
        if wrong:
            raise DeployFailed(
                f"the edge did not take over the weights of {backend}: {', '.join(wrong)}", next='see "slipway logs"'
            )

    def reload(self) -> None:
        """Take the configuration file over without dropping a connection, keeping what is known of every server.

        A configuration that does not hold is refused with HAProxy's reason, and the former one goes on.
        """
        self._run("haproxy", "-c", "-f", _CONFIG)
        self._run("sh", "-c", _SAVE, "sh", "show servers state", _ADMIN, _STATE)
        said = self._ask("reload", bool, _MASTER)
        if "Success=1" not in said:
            raise DeployFailed(f"the edge did not reload: {said.strip()}", next='see "slipway logs"')

    def _weights(self, backend: str) -> dict[str, int]:
        told = self._ask(f"show servers state {backend}", bool)
        lines = [line.lstrip("# ").split() for line in told.splitlines()]
        header = next((line for line in lines if _NAME in line), None)
        if header is None:
            said = " ".join(" ".join(line) for line in lines)
            raise DeployFailed(f"the edge has no backend {backend}: {said}", next='run "make up"')
        rows = [dict(zip(header, line, strict=False)) for line in lines if len(line) == len(header) and line != header]
        return {row[_NAME]: int(row[_WEIGHT]) for row in rows}

    def _ask(self, command: str, is_answered: Callable[[str], bool], socket: str = _ADMIN) -> str:
        """Say what may be said again, until it is answered: a busy engine may lose what was answered."""
        told = ""
        for _ in range(_TIMES):
            told = self._run("sh", "-c", _SAY, "sh", command, socket)
            if is_answered(told.strip()):
                break
        return told

    def _run(self, *command: str) -> str:
        status, told = self._engine.run_inside(self._name, list(command))
        if status:
            raise TargetUnavailable(f"the edge {self._name} refuses: {told.strip()}", next='see "slipway logs"')
        return told
