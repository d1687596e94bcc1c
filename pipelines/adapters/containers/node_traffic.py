"""What goes from node to node of a swarm: encrypted where kernels can, or else to be kept from strangers by a firewall.

An overlay network that is not encrypted takes a datagram from whoever reaches the node, past every rule of the engine.
"""

import gzip
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from pipelines.adapters.containers.engine_secrets import PREFIX_LABEL
from pipelines.adapters.swarm.engine import DockerEngine
from pipelines.errors import UsageError

VARIABLE = "encrypted_networks"
FIREWALL = "let nobody but the swarm's nodes reach UDP 4789 and TCP and UDP 7946 of a node"
# How the kernel's build says that it has what encrypts packets, built in or as a module.
_ESP = re.compile(rb"^CONFIG_INET_ESP=[ym]$", re.MULTILINE)


def choose_encryption(kept: Mapping[str, Any], chosen: bool | None) -> bool:
    """Return whether networks are encrypted: as `chosen`, by default yes; an installation of `kept` keeps what it has.

    Raises UsageError for another choice than it was made with, since every network would have to be made anew.
    """
    if not kept:
        return True if chosen is None else chosen
    # One of before there was a choice has none.
    was = bool(kept.get(VARIABLE, False))
    if chosen not in (None, was):
        raise UsageError(
            f"the networks of this installation were made with {VARIABLE}={str(was).lower()}, which they keep",
            next=f"take {VARIABLE} out of infra.json; or back up, destroy, and restore into a new home that has it",
        )
    return was


def kernel_encrypts(root: Path = Path("/"), release: str = "") -> bool | None:
    """Whether the kernel of this machine can encrypt what goes between nodes; None where it does not say."""
    name = release or os.uname().release
    for config in (root / "proc/config.gz", root / f"boot/config-{name}"):
        try:
            content = config.read_bytes()
        except OSError:
            continue
        return bool(_ESP.search(gzip.decompress(content) if config.suffix == ".gz" else content))
    return None


class NodeTraffic:
    """What goes between the nodes of the installation `prefix`; `chosen` is what its operator says of encryption."""

    def __init__(self, engine: DockerEngine, prefix: str, chosen: bool | None) -> None:
        self._engine = engine
        self._prefix = prefix
        self._chosen = chosen

    def check(self, encrypted: bool, *, is_local: bool) -> Iterator[str]:
        """Yield what the operator has to do beside; raise UsageError where nodes could not reach each other.

        `is_local` says that the engine uses this machine's kernel.
        """
        if not encrypted:
            yield f"networks between nodes are not encrypted: {FIREWALL}"
        elif is_local and kernel_encrypts() is False:
            with self._engine.api() as api:
                nodes = len(api.nodes())
            if nodes > 1:
                raise UsageError(
                    f"the swarm has {nodes} nodes, and this kernel can't encrypt what goes between them (no ESP)",
                    next=f'set "{VARIABLE}": false in infra.json of a new home, and {FIREWALL}',
                )

    def invariant(self) -> dict[str, Any]:
        """Return I10 as the doctor tells it: nobody but the swarm's nodes sends into a network, or reads there."""
        with self._engine.api() as api:
            networks = api.networks(filters={"label": f"{PREFIX_LABEL}={self._prefix}"})
        open_ones = sorted(each["Name"] for each in networks if "encrypted" not in (each.get("Options") or {}))
        if not open_ones:
            return {"id": "I10", "holds": True, "detail": f"{len(networks)} networks are encrypted between nodes"}
        if self._chosen is False:
            return {"id": "I10", "holds": True, "detail": f"left to a firewall by {VARIABLE}: {FIREWALL}"}
        told = f"{open_ones[0]} and {len(open_ones) - 1} more are not encrypted between nodes: {FIREWALL}"
        return {"id": "I10", "holds": None, "detail": f'{told}; then set "{VARIABLE}": false in infra.json'}
