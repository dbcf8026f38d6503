"""When prepare.yml sets a run_state's clock: its own task, rendered for facts as boards report them."""

from __future__ import annotations

import datetime

import pytest

from clusteradm import shipped
from clusteradm.inventory import Cluster
from clusteradm.playbook import Templates, load
from clusteradm.playbook.render.variables import GLOBALS
from clusteradm.playbook.run.planner import Planned, Planner
from clusteradm.playbook.state import BEGINNING, RunState

YEAR = 365 * 86400


def planned(cluster: Cluster, epoch: int, stratum: str) -> Planned:
    """The task, for a run_state whose clock says `epoch`, and whose time server `stratum`."""
    playbook = load(shipped.PLAYBOOKS / "prepare.yml", cluster)
    play = playbook.plays[0]
    run_state = RunState(cluster.hosts.values())
    run_state.begin_play(play, cluster.hosts)
    state = run_state.hosts["w1"]
    state.facts = {"date_time": {"epoch": str(epoch)}}
    state.results["stratum"] = {"stdout": stratum}
    run_state.advance(state, BEGINNING + 2)
    (step,) = [step for step in play.steps if step.task.name.startswith("Set the clock")]
    planner = Planner(playbook, run_state, Templates(), check=False, diff=False, limit=None)
    return planner.plan(state, play, step)


@pytest.mark.parametrize(
    ("off", "stratum", "is_set"),
    [
        *((off, "", True) for off in (-YEAR, YEAR, -11, 11)),
        *((off, "", False) for off in (-10, 10, 0)),
        # A head that follows nobody, one that is not synchronized, and one that follows the world's time.
        *((YEAR, stratum, True) for stratum in ("10", "0", "16")),
        *((YEAR, stratum, False) for stratum in ("1", "3", "9")),
    ],
)
def test_a_clock_is_set_where_it_is_more_than_ten_seconds_off(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch, off: int, stratum: str, is_set: bool
) -> None:
    now = 1_790_000_000
    monkeypatch.setitem(GLOBALS, "now", lambda: datetime.datetime.fromtimestamp(now))
    task = planned(cluster, now + off, stratum)
    if is_set:
        assert task.request is not None and task.request["module"] == "command"
        assert task.request["args"]["cmd"] == f"date --set=@{now}"
    else:
        assert task.result is not None and task.result["skipped"]


def test_nothing_believes_in_the_clock_before_it_is_set(cluster: Cluster) -> None:
    steps = load(shipped.PLAYBOOKS / "bootstrap.yml", cluster).plays[0].steps
    assert "clock" in steps[0].task.name


def time_plan(cluster: Cluster, lines: list[str], *, check: bool) -> set[str]:
    """The tasks of time.yml that the node would be asked to do, where its inspection printed `lines`."""
    playbook = load(shipped.PLAYBOOKS / "time.yml", cluster)
    (play,) = playbook.plays
    run_state = RunState(cluster.hosts.values())
    run_state.begin_play(play, cluster.hosts)
    state = run_state.hosts["w1"]
    state.results["time"] = {"stdout_lines": lines}
    run_state.advance(state, play.steps[-1].index)
    planner = Planner(playbook, run_state, Templates(), check=check, diff=False, limit=None)
    plans = [(step.task.name, planner.plan(state, play, step)) for step in play.steps[1:] if not step.handler]
    asked = {name for name, plan in plans if plan.request is not None or not (plan.result or {}).get("skipped")}
    # A handler: none of the skipped tasks notifies it.
    return asked - {"Restart chrony"}


@pytest.mark.parametrize("check", [True, False])
def test_a_host_without_chrony_is_asked_for_nothing_about_it(cluster: Cluster, check: bool) -> None:
    """In check mode before the first run, and where `health --fix` sets the clock of a host that was never finished."""
    assert time_plan(cluster, ["sets", "other"], check=check) == set()


def test_a_unit_is_not_enabled_before_it_is_written(cluster: Cluster) -> None:
    assert "Enable that wait" not in time_plan(cluster, ["sets", "chrony"], check=True)
    assert "Enable that wait" in time_plan(cluster, ["sets", "chrony"], check=False)
    assert "Enable that wait" in time_plan(cluster, ["sets", "chrony", "waits"], check=True)
