"""What is said to the edge is said again where the answer got lost, and refused where it stays away."""

from typing import Any, cast

import pytest

from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.errors import DeployFailed


class LosingEngine:
    """Answers as HAProxy does, and loses the first answers."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def run_inside(self, name: str, command: list[str]) -> tuple[int, str]:
        if len(command) < 5 or command[4].startswith("set"):
            return 0, ""
        self.lost -= 1
        if self.lost >= 0:
            return 0, "\n"
        if command[4] == "reload":
            return 0, "Success=1"
        if command[4].startswith("show servers"):
            return 0, "1\n# be_name srv_name srv_uweight\nstaging live1 256\n"
        places = [line.split() for line in command[4].split("; ") if line.startswith("add map")]
        return 0, "".join(f"0x1 {slot} {query}\n" for _, _, _, slot, query in places)


def test_a_lost_answer_is_asked_for_again() -> None:
    EdgeSocket(cast(Any, LosingEngine(2)), "edge").name_wanted("staging", "live", ["sha256:a"])
    with pytest.raises(DeployFailed, match="did not take over what live of staging serves"):
        EdgeSocket(cast(Any, LosingEngine(3)), "edge").name_wanted("staging", "live", ["sha256:a"])


def test_a_lost_answer_is_no_edge_without_the_backend_and_no_failed_reload() -> None:
    EdgeSocket(cast(Any, LosingEngine(2)), "edge").share("staging", {"live": 1.0})
    with pytest.raises(DeployFailed, match="no backend staging"):
        EdgeSocket(cast(Any, LosingEngine(3)), "edge").share("staging", {"live": 1.0})
    EdgeSocket(cast(Any, LosingEngine(2)), "edge").reload()
    with pytest.raises(DeployFailed, match="did not reload"):
        EdgeSocket(cast(Any, LosingEngine(4)), "edge").reload()
