"""What a run asks of a Docker daemon: containers locked down, their streams, a network and a folder of the run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from torchskew.runtimes.docker.connection import ENVIRON, UNPRIVILEGED, DockerConnection
from torchskew.runtimes.docker.daemon import Spec

SHARE = "/share"
# Without these a look-up of an IPv4-mapped loopback address waits for name servers that an internal network
# does not have; stores of several releases make such look-ups in their only thread.
_LOOPBACK = {"loopback": "::ffff:127.0.0.1"}
_DNS_OPTIONS = ("timeout:1", "attempts:1")


class ContainerApi(DockerConnection):
    """Containers, networks and volumes of a real Docker daemon."""

    def create(self, spec: Spec) -> str:
        """Id of a new container, not started."""
        limits = spec.limits
        with self.asked(f"create the container {spec.name}") as api:
            settings = api.create_host_config(
                init=True,  # reaps what ranks leave, and passes TERM on
                cap_drop=["ALL"],
                security_opt=["no-new-privileges"],
                read_only=True,
                tmpfs={"/tmp": f"rw,exec,nosuid,nodev,mode=1777,size={limits.scratch}"},  # noqa: S108 - inside it
                binds={spec.volume: {"bind": SHARE, "mode": "rw"}, **_read_only(spec.folders)},
                network_mode=spec.network,
                dns_opt=list(_DNS_OPTIONS),
                # Without a network nobody else says where its own name leads.
                extra_hosts=_LOOPBACK | ({spec.hostname: "127.0.0.1"} if spec.network == "none" else {}),
                mem_limit=limits.memory,
                memswap_limit=limits.memory,
                pids_limit=limits.pids,
                log_config={"Type": "none"},  # all of it comes through the attached stream
            )
            container = api.create_container(
                spec.image,
                list(spec.command),
                entrypoint=[],
                name=spec.name,
                hostname=spec.hostname,
                user=spec.user or UNPRIVILEGED,
                stdin_open=True,  # and, docker-py adds, closed when we go away: so the agent ends
                environment=ENVIRON | dict(spec.env),
                labels=dict(spec.labels),
                host_config=settings,
                working_dir="/tmp",  # noqa: S108 - inside the container
            )
        return str(container["Id"])

    def attach(self, container: str) -> Any:
        """The container's streams, multiplexed as Docker does; attach before the start.

        Keep the object: its end closes the socket in it.
        """
        with self.asked("attach to a container") as api:
            return api.attach_socket(container, params={"stdin": 1, "stdout": 1, "stderr": 1, "stream": 1})

    def start(self, container: str, network: str) -> str:
        """Start it; its address on the network."""
        with self.asked("start a container") as api:
            api.start(container)
            networks = api.inspect_container(container)["NetworkSettings"]["Networks"]
        return str(networks[network]["IPAddress"])

    def state(self, container: str) -> Mapping[str, Any]:
        """Docker's State of a container: Status, ExitCode, OOMKilled, Error."""
        with self.asked("inspect a container") as api:
            state: Mapping[str, Any] = api.inspect_container(container)["State"]
        return state

    def signal(self, container: str, name: str) -> None:
        """Send a signal to its first process; nothing happens when it has ended."""
        with self.asked(f"send {name} to a container", missing=(404, 409)) as api:
            api.kill(container, name)

    def ended(self, container: str, seconds: float) -> bool:
        """Whether it has ended, waiting that long at most."""
        connection = self.connected()
        try:
            connection.api.wait(container, timeout=seconds)
        except connection.refusal as error:
            return getattr(error, "status_code", None) == 404
        except connection.silences:
            return False
        return True

    def remove(self, container: str) -> None:
        """Remove it, running or not."""
        with self.asked("remove a container", missing=(404, 409)) as api:
            api.remove_container(container, force=True, v=True)

    def make_network(self, name: str, labels: Mapping[str, str]) -> None:
        """A network of its own without a way out."""
        with self.asked(f"create the network {name}") as api:
            api.create_network(name, driver="bridge", internal=True, labels=dict(labels), check_duplicate=True)

    def make_volume(self, name: str, size: int, labels: Mapping[str, str]) -> None:
        """A folder in memory that containers share, of at most size bytes."""
        options = {"type": "tmpfs", "device": "tmpfs", "o": f"uid=65534,gid=65534,mode=1777,size={size}"}
        with self.asked(f"create the volume {name}") as api:
            api.create_volume(name, driver="local", driver_opts=options, labels=dict(labels))

    def remove_network(self, name: str) -> None:
        """Remove it; nothing happens when it is gone."""
        with self.asked(f"remove the network {name}", missing=(404,)) as api:
            api.remove_network(name)

    def remove_volume(self, name: str) -> None:
        """Remove it; nothing happens when it is gone."""
        with self.asked(f"remove the volume {name}", missing=(404,)) as api:
            api.remove_volume(name)

    def labelled(self, label: str) -> Iterator[tuple[str, str, str, Mapping[str, str]]]:
        """(what, id, name, labels) of everything that carries the label: containers first, then what they hold."""
        chosen = {"label": [label]}
        with self.asked(f"list what carries {label}") as api:
            containers = api.containers(all=True, filters=chosen)
            networks = api.networks(filters=chosen)
            volumes = api.volumes(filters=chosen)["Volumes"] or []
            images = api.images(filters={**chosen, "dangling": True})
        for each in containers:
            yield "container", each["Id"], each["Names"][0].lstrip("/"), each["Labels"]
        for each in networks:
            yield "network", each["Name"], each["Name"], each["Labels"]
        for each in volumes:
            yield "volume", each["Name"], each["Name"], each["Labels"]
        for each in images:
            yield "image", each["Id"], each["Id"][7:19], each["Labels"]


def _read_only(folders: Sequence[str]) -> Mapping[str, Mapping[str, str]]:
    """Each folder under its own path; a folder below another is mounted with that one."""
    outer = [folder for folder in folders if not any(_below(folder, other) for other in folders)]
    return {folder: {"bind": folder, "mode": "ro"} for folder in outer}


def _below(folder: str, other: str) -> bool:
    return folder != other and folder.startswith(f"{other.rstrip('/')}/")
