"""Changes of the desired state: pure functions from one state to the next. Raise UsageError for what cannot be."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from types import MappingProxyType

from clusteradm.errors import UsageError
from clusteradm.models.reference import Reference, check_version
from clusteradm.node.spec.wire.serving import (
    ALL,
    LATEST,
    SPECIFIC,
    BoardTpus,
    Canary,
    DesiredState,
    ServedModel,
    VersionPolicy,
)


@dataclass(frozen=True)
class Where:
    """Where a model is to be: hosts, none for all; their TPUs, HOST:DEVICE, none for all; or so many of each host."""

    hosts: tuple[str, ...] = ()
    tpus: tuple[str, ...] = ()
    each: int | None = None


def policy_of(text: str) -> VersionPolicy:
    """Versions that are to be served at the same time: "all", "latest:N" or "N,N,..."."""
    kind, _, count = text.partition(":")
    if text == ALL:
        return VersionPolicy(ALL)
    if kind == LATEST and re.fullmatch("[1-9][0-9]{0,2}", count):
        return VersionPolicy(LATEST, int(count))
    try:
        return VersionPolicy(SPECIFIC, versions=tuple(sorted({check_version(number) for number in text.split(",")})))
    except UsageError:
        raise UsageError(f"{text!r} names no versions", next_step="all, latest:N, or their numbers: 1,2") from None


def deploy(
    state: DesiredState, wanted: Reference, where: Where | None = None, versions: VersionPolicy | None = None
) -> DesiredState:
    """Serve a version, or a label's; with neither, the highest there is, and each that comes. A canary ends with it.

    `where`: None for where it was; `versions`: those that are served besides, for requests that name one.
    """
    if wanted.label is not None:
        policy, default = VersionPolicy(SPECIFIC), wanted.label
    elif wanted.version is not None:
        policy, default = VersionPolicy(SPECIFIC, versions=(wanted.version,)), str(wanted.version)
    else:
        policy, default = VersionPolicy(LATEST), None
    if versions is not None:
        policy = versions
    if where is None:
        old = _find(state, wanted.name)
        where = Where(old.hosts, old.tpus, old.each) if old is not None else Where()
    return _with(state, ServedModel(wanted.name, policy, default, None, where.hosts, where.tpus, where.each))


def prepare_canary(state: DesiredState, name: str, version: int) -> DesiredState:
    """Have the boards load the version of a canary that gets nothing yet, unless it gets something already."""
    model = _served(state, name)
    if model.canary is not None and model.canary.version == version:
        return state
    return _with(state, replace(model, canary=Canary(version, 0.0)))


def canary(
    state: DesiredState,
    name: str,
    version: int,
    percent: float,
    there: Sequence[int] = (),
    labels: Mapping[str, int] = MappingProxyType({}),
) -> DesiredState:
    """Send `percent` of the requests that name no version to another one, which the boards have; 0 ends that. `there`:
    the model's versions; `labels`: its labels."""
    model = _served(state, name)
    if not 0 <= percent <= 100:
        raise UsageError(f"{percent:g} is no percentage", next_step="0 to 100; 0 ends the canary")
    if percent > 0 and version == _only(replace(model, canary=None), there, dict(labels)):
        raise UsageError(
            f"version {version} of {name} is what is served already",
            next_step=f"name another version, or serve another one first: clusteradm serve deploy {name}:VERSION",
        )
    return _with(state, replace(model, canary=Canary(version, percent) if percent > 0 else None))


def undeploy(state: DesiredState, name: str) -> DesiredState:
    """Serve a model no more."""
    if _find(state, name) is None:
        raise UsageError(_is_not_served(state, name))
    return replace(state, models=tuple(model for model in state.models if model.name != name))


def drain(state: DesiredState, hosts: Iterable[str]) -> DesiredState:
    """Send these hosts nothing new."""
    return replace(state, drained=tuple(sorted({*state.drained, *hosts})))


def undrain(state: DesiredState, hosts: Sequence[str]) -> DesiredState:
    """Send them requests again."""
    for host in hosts:
        if host not in state.drained:
            elsewhere = host in state.out_of_service
            raise UsageError(
                f"{host} is not drained from serving" + (", but out of service as a whole" if elsewhere else ""),
                next_step=f"clusteradm undrain {host}"
                if elsewhere
                else f"drained: {', '.join(state.drained) or 'nothing'}",
            )
    return replace(state, drained=tuple(host for host in state.drained if host not in hosts))


def hold_tpus(state: DesiredState, tpus: Mapping[str, Sequence[str | None]] | None) -> DesiredState:
    """Have serving hold these TPUs, by host, and leave the others to jobs. None: all there are."""
    boards = () if tpus is None else tuple(BoardTpus(host, tuple(tpus[host])) for host in sorted(tpus))
    return replace(state, boards=boards)


def _only(model: ServedModel, there: Sequence[int], labels: dict[str, int]) -> int | None:
    """The version that all requests get which name none, whatever its canary; None where others can."""
    if model.default is not None:
        return int(model.default) if model.default.isdigit() else labels.get(model.default)
    wanted = model.wanted(there, labels)
    return wanted[0] if len(wanted) == 1 else None


def _with(state: DesiredState, model: ServedModel) -> DesiredState:
    others = [each for each in state.models if each.name != model.name]
    return replace(state, models=tuple(sorted([*others, model], key=lambda each: each.name)))


def _find(state: DesiredState, name: str) -> ServedModel | None:
    return next((model for model in state.models if model.name == name), None)


def _served(state: DesiredState, name: str) -> ServedModel:
    model = _find(state, name)
    if model is None:
        raise UsageError(_is_not_served(state, name), next_step=f"serve it: clusteradm serve deploy {name}")
    return model


def _is_not_served(state: DesiredState, name: str) -> str:
    return f"{name} is not served; served: {', '.join(each.name for each in state.models) or 'nothing'}"
