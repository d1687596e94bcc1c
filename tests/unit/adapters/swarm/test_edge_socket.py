"""What is said to the edge is said again where the answer got lost, and refused where it stays away."""

from typing import Any, cast

import pytest

from pipelines.adapters.swarm.edge_socket import EdgeSocket
from pipelines.errors import DeployFailed


class LosingEngine:
    """Runs what is said to HAProxy's maps, and loses the first answers."""

    def __init__(self, lost: int) -> None:
        self.lost = lost

    def run_inside(self, name: str, command: list[str]) -> tuple[int, str]:
        self.lost -= 1
        if self.lost >= 0:
            return 0, ""
        places = [line.split() for line in command[4].split("; ") if line.startswith("add map")]
        return 0, "".join(f"0x1 {slot} {query}\n" for _, _, _, slot, query in places)


def test_a_lost_answer_is_asked_for_again() -> None:
    EdgeSocket(cast(Any, LosingEngine(2)), "edge").name_wanted("staging", "live", ["sha256:a"])
    with pytest.raises(DeployFailed, match="did not take over what live of staging serves"):
        EdgeSocket(cast(Any, LosingEngine(3)), "edge").name_wanted("staging", "live", ["sha256:a"])
