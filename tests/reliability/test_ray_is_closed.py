"""Ray runs code for whoever reaches its ports, so nothing but this machine reaches them, and a token is asked for."""

import subprocess
import sys
from importlib.util import find_spec

import pytest
from running import ENVIRONMENT
from typer.testing import CliRunner

from medpos.__main__ import app
from medpos.core.errors import InputError
from medpos.core.ray_session import RaySession

pytestmark = pytest.mark.skipif(find_spec("ray") is None, reason="Ray is not installed")

LISTEN = """
import ipaddress, os, psutil
from medpos.core.ray_session import RaySession

def double(number):
    return 2 * number

with RaySession("", 1, 1, 0) as session:
    assert list(session.run_tasks(double, [("a", (1,))])) == [("a", 2, "")]
    me = psutil.Process()
    ports = [c.laddr for p in (me, *me.children(recursive=True)) for c in p.net_connections() if c.status == "LISTEN"]
    assert len(ports) > 3
    for port in ports:
        address = ipaddress.ip_address(port.ip)
        print(port.ip, (getattr(address, "ipv4_mapped", None) or address).is_loopback)
    print(os.environ["RAY_AUTH_MODE"], len(os.environ["RAY_AUTH_TOKEN"]))
"""
LATE = """
import ray
from medpos.core.ray_session import RaySession

with RaySession("", 1, 1, 0):
    print("open")
"""
JOIN = """
import os
from medpos.core.ray_session import RaySession

for address in os.environ["ADDRESSES"].split():
    print(RaySession(address, 1, 1, 0, may_be_open=os.environ["MAY_BE_OPEN"] == "True").address)
"""
ADDRESSES = ["auto", "10.0.0.1:6379", "ray://10.0.0.1:10001", "127.0.0.1:6379"]


def run(script, **environment):
    command = [sys.executable, "-c", script]
    return subprocess.run(command, env={**ENVIRONMENT, **environment}, capture_output=True, text=True, timeout=200)


def test_a_cluster_of_this_machine_listens_on_its_loopback_interface_and_has_a_token():
    done = run(LISTEN)
    assert done.returncode == 0, done.stderr
    *ports, token = done.stdout.splitlines()
    assert [port for port in ports if not port.endswith(" True")] == []
    assert token == "token 64"


def test_a_ray_that_was_loaded_before_does_not_start_open():
    done = run(LATE)
    assert "expected Ray on the loopback interface" in done.stderr
    assert "open" not in done.stdout.splitlines()


def test_a_ray_that_was_loaded_before_has_no_token():
    done = run(LATE, RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER="0")
    assert "expected Ray with a token (RAY_AUTH_MODE=token)" in done.stderr
    assert "open" not in done.stdout.splitlines()


@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("mode", [None, "disabled", ""])
def test_a_cluster_without_a_token_is_refused(monkeypatch, address, mode):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode is not None:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    with pytest.raises(InputError, match="expected a cluster that asks for a token"):
        RaySession(address, 1, 1, 0)


@pytest.mark.parametrize(("mode", "may_be_open"), [("disabled", "True"), ("token", "False")])
def test_an_open_cluster_is_joined_on_request_and_one_with_a_token_always(mode, may_be_open):
    # Outside this process, in which Ray would remember the mode.
    done = run(JOIN, RAY_AUTH_MODE=mode, ADDRESSES=" ".join(ADDRESSES), MAY_BE_OPEN=may_be_open)
    assert done.stdout.split() == ADDRESSES, done.stderr


@pytest.mark.parametrize("command", [["study", "figure3"], ["predict", "RUN", "IMAGES", "--out", "OUT"]])
def test_the_commands_refuse_an_open_cluster(monkeypatch, trained, data, tmp_path, command):
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    monkeypatch.chdir(tmp_path)
    places = {"RUN": str(trained), "IMAGES": str(data / "images")}
    given = [places.get(part, part) for part in command]
    done = CliRunner().invoke(app, [*given, "--engine", "ray", "--address", "auto"])
    assert "--open-cluster" in f"{done.output}{done.exception}"
    assert done.exit_code != 0
