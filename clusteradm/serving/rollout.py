"""Roll-out: how far each board has followed the desired state, from what it says of itself. Pure functions."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from clusteradm.node.spec.wire.serving import (
    AVAILABLE,
    LOADING,
    START,
    BoardState,
    DesiredState,
    ServedModel,
    VersionState,
)
from clusteradm.node.spec.wire.serving_requests import BoardSaid, ServingStatus


@dataclass(frozen=True)
class BoardProgress:
    """One board. `followed`: it is where the state is; `away`: it does not answer; `why`: in words, what it lacks."""

    host: str
    followed: bool
    away: bool = False
    why: str = ""
    failed: bool = False


@dataclass(frozen=True)
class Progress:
    """All boards, in the order of their names."""

    boards: tuple[BoardProgress, ...]

    @property
    def followed(self) -> tuple[str, ...]:
        """The hosts that are where the state is."""
        return tuple(board.host for board in self.boards if board.followed)

    @property
    def loading(self) -> tuple[BoardProgress, ...]:
        """Those that answer, and are on the way."""
        return tuple(board for board in self.boards if not board.followed and not board.away and not board.failed)

    @property
    def lacking(self) -> tuple[BoardProgress, ...]:
        """Those that are not there, for whatever reason."""
        return tuple(board for board in self.boards if not board.followed)


def judge(desired: DesiredState, status: ServingStatus, hosts: Iterable[str], model: str | None = None) -> Progress:
    """How far these hosts are; where a model is named, whether they serve what is wanted of it."""
    return Progress(tuple(_board(desired, host, status.boards.get(host), model) for host in hosts))


def _board(desired: DesiredState, host: str, said: BoardSaid | None, model: str | None) -> BoardProgress:
    state = said.state if said is not None else None
    if said is None or state is None:
        return BoardProgress(host, False, away=True, why=(said.error if said else "") or "it was not asked")
    if any(board.host == host and not board.tpus for board in desired.boards):
        return BoardProgress(host, True)  # jobs have all of its TPUs, and it has nothing to load on
    if state.revision < desired.revision:
        return BoardProgress(host, False, why=_on_the_way(state))
    failed = [version for version in state.versions if version.name == model and _has_failed(version)]
    if failed and _is_wanted_at(desired, host, model):
        why = "; ".join(f"{each.name} version {each.version}: {each.reason}" for each in failed)
        return BoardProgress(host, False, failed=True, why=why)
    if model is not None and _is_wanted_at(desired, host, model) and not _serves(state, model):
        return BoardProgress(
            host, False, failed=True, why=state.error or _engines(state) or f"it does not have {model}"
        )
    return BoardProgress(host, True)


def _has_failed(version: VersionState) -> bool:
    return version.state != AVAILABLE and version.reason != ""


def _serves(state: BoardState, model: str) -> bool:
    return any(version.name == model and version.state == AVAILABLE for version in state.versions)


def _is_wanted_at(desired: DesiredState, host: str, model: str | None) -> bool:
    return host not in desired.out_of_service and any(
        each.name == model and host in hosts_of(desired, each, [host]) for each in desired.models
    )


def hosts_of(desired: DesiredState, model: ServedModel, hosts: Iterable[str]) -> list[str]:
    """The hosts, of these, that are to have a model: by where the head has placed it, or else as is said of it."""
    placed = next((each for each in desired.placement if each.name == model.name), None)
    copies = placed.tpus if placed is not None else (model.tpus or model.hosts)
    there = {copy.partition(":")[0] for copy in copies}
    return [host for host in hosts if not there or host in there]


def _on_the_way(state: BoardState) -> str:
    for stage, word in ((LOADING, "loads"), (START, "fetches and tries")):
        found = [f"{each.name} version {each.version}" for each in state.versions if each.state == stage]
        if found and (stage == LOADING or not state.error):
            return f"it {word} {', '.join(found)}"
    return state.error or _engines(state) or f"it is at revision {state.revision}"


def _engines(state: BoardState) -> str:
    ill = [engine for engine in state.engines if engine.state != "ready"]
    return "; ".join(
        f"{engine.pci_address or engine.servables or 'cpu'} is {engine.state}: {engine.reason}".rstrip(": ")
        for engine in ill
    )
