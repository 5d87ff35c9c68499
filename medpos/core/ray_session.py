"""Run tasks on a Ray cluster: join or start it, wait for results, report lost tasks, and leave it.

Whoever reaches a port of Ray runs code as its user, unless Ray asks for a token. So a cluster that is started here
listens on the loopback interface alone and has a token of its own, and one that has no token is joined on request only.
"""

import ipaddress
import itertools
import math
import os
import re
import secrets
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Any, TypeVar

from medpos.core.errors import InputError, first_line

_AUTHENTICATION, _TOKEN = "RAY_AUTH_MODE", "RAY_AUTH_TOKEN"  # environment variables of Ray
_LEAST = (2, 52)  # version of Ray that knows them
ATTEMPTS = 3  # runs of a task before it is given up
_OPEN = "see 'On a Ray cluster' in the documentation, or give --open-cluster in a network that you trust"
Item = TypeVar("Item")


class RaySession(AbstractContextManager["RaySession"]):
    """Join a Ray cluster, or start one on this machine, and leave it at the end of the context.

    Args:
        address: address of a running cluster; empty: start a cluster on this machine.
        cpus: number of CPUs of a cluster that is started.
        threads: number of CPUs of each task.
        gpus: number of GPUs of each task; a fraction shares one.
        may_be_open: whether to join a cluster that asks for no token.

    Raises:
        InputError: Ray isn't installed, or the cluster asks for no token.
    """

    def __init__(self, address: str, cpus: int, threads: int, gpus: float, may_be_open: bool = False) -> None:
        # Ray reads the environment when it is loaded, once.
        self._has_no_token = "ray" in sys.modules and os.environ.get(_AUTHENTICATION) != "token"
        _protect(address, may_be_open)
        try:
            import ray
        except ImportError:
            raise InputError("--engine ray: Ray is not installed; pip install 'medpos[ray]'") from None
        version = tuple(int(part) for part in re.findall(r"\d+", ray.__version__)[:2])
        if address and not may_be_open and version < _LEAST:
            raise InputError(f"--address: expected Ray 2.52 or newer, for its tokens, got {ray.__version__}; {_OPEN}")
        self._ray: Any = ray
        self.address, self.cpus, self.threads, self.gpus = address, cpus, threads, gpus

    def __enter__(self) -> "RaySession":
        """Join the cluster, or start one.

        Raises:
            InputError: there is no cluster at the address, or one that is started would listen on the network.
        """
        if not self.address and not ipaddress.ip_address(node := self._ray.util.get_node_ip_address()).is_loopback:
            raise InputError(
                f"--engine ray: expected Ray on the loopback interface, got {node}: it was loaded before medpos; "
                "run it in a process of its own"
            )
        if not self.address and self._has_no_token:
            raise InputError(
                f"--engine ray: expected Ray with a token ({_AUTHENTICATION}=token), got one that was loaded before "
                "medpos and has none; run it in a process of its own"
            )
        self._handler = signal.getsignal(signal.SIGTERM)  # Ray replaces it and doesn't restore it
        own = {} if self.address else {"include_dashboard": False, "num_cpus": self.cpus}
        try:
            self._ray.init(address=self.address or "local", log_to_driver=False, logging_level="ERROR", **own)
        except (ConnectionError, ValueError) as error:
            raise InputError(
                f"--address: expected the address of a running Ray cluster, got {self.address!r} "
                f"({first_line(error)}); start a cluster there"
            ) from error
        return self

    def __exit__(self, *error: object) -> None:
        """Leave the cluster, and restore the handler of SIGTERM."""
        self._ray.shutdown()
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, self._handler)

    def count_slots(self) -> int:
        """Return the number of tasks that the cluster can run at a time.

        Raises:
            InputError: the cluster is too small for one task.
        """
        has = self._ray.cluster_resources()
        counts = [has.get("CPU", 0) / self.threads] + ([has.get("GPU", 0) / self.gpus] if self.gpus else [])
        if min(counts) < 1:
            raise InputError(
                f"--engine ray: expected a cluster with {self.threads} CPUs and {self.gpus:g} GPUs for a task, got "
                f"{has.get('CPU', 0):g} and {has.get('GPU', 0):g}; give a lower --threads or --gpus"
            )
        return int(min(counts))

    def run_tasks(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Item, tuple[Any, ...]]],
        most: int | None = None,
        until: float = math.inf,
    ) -> Iterator[tuple[Item, Any, str]]:
        """Run a function once for each item, and yield the results in the order in which they finish.

        Args:
            function: function that can be sent to a worker process.
            calls: items, each with the arguments of the function.
            most: largest number of tasks that Ray holds at a time; None: all of them.
            until: time of ``time.monotonic``, in seconds, at which it stops, whatever is not finished.

        Yields:
            Each item with its result and an empty text; or, where its worker died in each of ``ATTEMPTS`` attempts or
            the function raised, with None and the reason.
        """
        task = self._ray.remote(num_cpus=self.threads, num_gpus=self.gpus, max_retries=ATTEMPTS - 1)(function)
        pending: dict[Any, Item] = {}
        waiting = iter(calls)
        while True:
            for item, arguments in itertools.islice(waiting, None if most is None else most - len(pending)):
                pending[task.remote(*arguments)] = item
            if not pending:
                return
            left = None if until == math.inf else max(0.0, until - time.monotonic())
            done, _ = self._ray.wait(list(pending), num_returns=1, timeout=left)
            if not done:
                return  # the tasks end with the context
            [finished] = done
            item = pending.pop(finished)
            try:
                result = self._ray.get(finished)
            except self._ray.exceptions.RayError as error:
                yield item, None, f"Ray gave it up after {ATTEMPTS} attempts: {first_line(error)}"
            else:
                yield item, result, ""


def _protect(address: str, may_be_open: bool) -> None:
    """Let a cluster that Ray starts listen on the loopback interface with a token; refuse to join an open one."""
    if not address:
        os.environ["RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER"] = "0"  # on Linux too
        os.environ.setdefault(_AUTHENTICATION, "token")
        os.environ.setdefault(_TOKEN, secrets.token_hex(32))
    elif not may_be_open and os.environ.get(_AUTHENTICATION) != "token":
        raise InputError(
            f"--address: expected a cluster that asks for a token, got none ({_AUTHENTICATION} is not 'token'); {_OPEN}"
        )
