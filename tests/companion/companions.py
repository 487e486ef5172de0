#!/usr/bin/env python3
# Copyright (c) 2026 gps_denied.preflight contributors
# SPDX-License-Identifier: Apache-2.0
"""Companion computers in containers: real systemd, real sshd, real host keys, one network namespace each.

Used by the pytest fixtures, and by the molecule scenarios as a program that starts and removes companions
(see `main`) and as their dynamic inventory (`--list`). Containers carry the
label `gps-denied-test=<pid of their owner>`, so that what a killed run left behind is cleared by the next.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import functools
import hashlib
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

REPO = Path(__file__).resolve().parents[2]
CACHE = Path(os.environ.get("GPS_DENIED_TEST_CACHE", REPO / ".cache"))
NETWORK = "gps-denied-test"
LABEL = "gps-denied-test"
IMAGES = "localhost/gps-denied-companion"
KEEP_H = 24 * 7
PAUSE_TRIES = 5
INVENTORY_NAME = "inventory.json"
CACHE_ROOT = "/var/lib/gps-denied"
ADMIN_USER = "pilot"
CACHE_USER = "gps-denied"

# Packages of the embedded companion: the same versions on the containers give the same index bytes.
PINNED_PACKAGES = ("numpy", "onnxruntime", "opencv-python-headless", "pillow")
BUILDER = ("builder/README.md", "builder/pyproject.toml", "builder/src")
# What the provisioned image is made of; another byte in any of it makes another image.
PROVISIONING = (
    *BUILDER,
    "playbooks/provision_companion.yml",
    "roles/companion_provision",
    "src/operator_tool/_wheelhouse.py",
)


class CompanionContainerError(RuntimeError):
    """A container or a command in it did not do what the test needs."""


def podman(*arguments: str, timeout_s: float = 120.0, check: bool = True) -> subprocess.CompletedProcess[str]:
    """Run podman; crun refuses hybrid control groups, so runc everywhere."""
    done = subprocess.run(
        ["podman", "--runtime", "runc", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=timeout_s,
        check=False,
    )
    if check and done.returncode != 0:
        raise CompanionContainerError(f"podman {shlex.join(arguments)} failed: {done.stderr.strip()}")
    return done


@dataclass
class Companion:
    """One companion. `name` is the vehicle's id, under which its host key is pinned (HostKeyAlias)."""

    name: str
    container: str
    address: str
    private_key_path: Path
    known_hosts_path: Path
    user: str = CACHE_USER
    port: int = 22
    cache_root: str = CACHE_ROOT

    @property
    def host(self) -> str:
        """The name to use in an inventory."""
        return self.name

    @property
    def ssh_options(self) -> list[str]:
        """Options of ssh that trust this companion's pinned key and nothing else."""
        return [
            *("-o", "StrictHostKeyChecking=yes"),
            *("-o", f"UserKnownHostsFile={self.known_hosts_path}"),
            *("-o", "GlobalKnownHostsFile=/dev/null"),
            *("-o", f"HostKeyAlias={self.name}"),
            *("-o", "IdentitiesOnly=yes"),
            *("-o", "BatchMode=yes"),
            *("-o", "ConnectTimeout=5"),
            *("-i", str(self.private_key_path)),
            *("-p", str(self.port)),
        ]

    @property
    def inventory_vars(self) -> dict[str, object]:
        """Connection variables for an Ansible inventory."""
        return {
            "ansible_host": self.address,
            "ansible_port": self.port,
            "ansible_user": self.user,
            "ansible_ssh_private_key_file": str(self.private_key_path),
            "ansible_ssh_common_args": shlex.join(
                [
                    *("-o", "StrictHostKeyChecking=yes"),
                    *("-o", f"UserKnownHostsFile={self.known_hosts_path}"),
                    *("-o", "GlobalKnownHostsFile=/dev/null"),
                    *("-o", f"HostKeyAlias={self.name}"),
                    *("-o", "IdentitiesOnly=yes"),
                ]
            ),
            "ansible_python_interpreter": "/usr/bin/python3",
        }

    def run(
        self, command: str, *, user: str | None = None, timeout_s: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command over ssh, as the cache's user unless told."""
        done = subprocess.run(
            ["ssh", *self.ssh_options, f"{user or self.user}@{self.address}", command],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if check and done.returncode != 0:
            raise CompanionContainerError(
                f"{self.name}: {command!r} ended with {done.returncode}: {done.stderr.strip()}"
            )
        return done

    def exec_root(
        self, command: str, *, timeout_s: float = 30.0, check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell command as root inside, without ssh: works while sshd or the network is down."""
        return podman("exec", self.container, "/bin/sh", "-c", command, timeout_s=timeout_s, check=check)

    def pause(self) -> None:
        """Freeze every process: the link stands, nothing answers."""
        for _try in range(PAUSE_TRIES - 1):
            # on a busy machine the runtime may find a process that does not freeze in its time
            if podman("pause", self.container, check=False).returncode == 0:
                return
        podman("pause", self.container)

    def unpause(self) -> None:
        podman("unpause", self.container)

    def disconnect(self) -> None:
        """Cut the network cable: what is sent is lost, and no end is told."""
        _inside(self.container, "ip", "link", "set", "eth0", "down", namespace="net")

    def reconnect(self) -> None:
        """Plug the cable in again, at the address it had."""
        _inside(self.container, "ip", "link", "set", "eth0", "up", namespace="net")
        self.wait_for_ssh()

    def stop(self) -> None:
        """Switch it off; `start` boots it again."""
        podman("stop", "--time", "10", self.container)

    def start(self) -> None:
        """Boot it; the address may be another one afterwards."""
        podman("start", self.container)
        self.refresh_address()
        _isolate(self.container)
        self.wait_for_ssh()

    def refresh_address(self) -> None:
        self.address = _address(self.container)

    def replace_host_key(self) -> None:
        """Become another machine in the eyes of ssh; `known_hosts_path` still pins the first key."""
        self.exec_root(
            "rm -f /etc/ssh/ssh_host_* && systemctl restart ssh-host-key.service && systemctl restart ssh.service"
        )
        _wait_for_port(self.address, self.port)

    def reset_cache(self) -> None:
        """Empty the cache root, as a companion is that was just provisioned."""
        self.exec_root(f"find {CACHE_ROOT} -mindepth 1 -delete")

    def fill_disk(self, *, size: str = "1m") -> None:
        """Put the cache root on a file system of `size`, until the companion is switched off."""
        mount = ["mount", "-t", "tmpfs", "-o", f"size={size},mode=0755", "tmpfs", CACHE_ROOT]
        _inside(self.container, *mount, namespace="mount")
        self.exec_root(f"chown {CACHE_USER}: {CACHE_ROOT}")

    def remove(self) -> None:
        podman("rm", "--force", "--time", "0", self.container, check=False)

    def wait_for_ssh(self, timeout_s: float = 30.0) -> None:
        _wait_for_port(self.address, self.port, timeout_s)


def start_companion(
    name: str,
    *,
    image: str,
    folder: Path,
    container: str | None = None,
    user: str = CACHE_USER,
    private_key_path: Path | None = None,
    owner_pid: int | None = None,
    extra_arguments: Sequence[str] = (),
) -> Companion:
    """Start one companion from `image` and pin its host key.

    `folder` takes the keys and the known_hosts file; `private_key_path` shares a key among several companions.
    """
    container = container or name
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    key = private_key_path or make_key(folder / "id_ed25519")
    accounts = (ADMIN_USER,) if image == bare_image() else (ADMIN_USER, CACHE_USER)
    arguments = ["run", "--detach", "--name", container, "--hostname", name, "--network", network()]
    arguments += ["--ulimit", "nofile=1024:1024", "--ulimit", "nproc=4096:4096", "--systemd=always"]
    arguments += ["--label", f"{LABEL}={owner_pid or os.getpid()}"]
    for account in accounts:
        arguments += ["--volume", f"{key}.pub:/etc/ssh/authorized_keys.d/{account}:ro"]
    podman(*arguments, *extra_arguments, image)
    try:
        address = _address(container)
        _isolate(container)
        _wait_for_port(address, 22)
        # read inside the container, so that what is pinned is the companion's own word and not the network's
        key_line = podman("exec", container, "cat", "/etc/ssh/ssh_host_ed25519_key.pub").stdout.strip()
    except BaseException:
        podman("rm", "--force", "--time", "0", container, check=False)
        raise
    known_hosts = folder / "known_hosts"
    with known_hosts.open("a", encoding="utf-8") as file:
        file.write(f"{name} {' '.join(key_line.split()[:2])}\n")
    return Companion(name, container, address, key, known_hosts, user=user)


def make_key(path: Path) -> Path:
    """Make an ssh key pair without a passphrase; return the private key's path."""
    if not path.exists():
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-C", "gps-denied-test", "-f", str(path)], check=True
        )
    return path


def network() -> str:
    """The containers' own bridge, without a name server."""
    if podman("network", "exists", NETWORK, check=False).returncode != 0:
        made = podman("network", "create", "--disable-dns", NETWORK, check=False)
        if made.returncode != 0 and "already exists" not in made.stderr:
            raise CompanionContainerError(f"podman network create failed: {made.stderr.strip()}")
    return NETWORK


def remove_abandoned() -> None:
    """Remove the companions whose owner no longer runs."""
    form = '{{.ID}} {{index .Labels "' + LABEL + '"}}'
    listing = podman("ps", "--all", "--filter", f"label={LABEL}", "--format", form).stdout
    for line in listing.splitlines():
        identifier, _, owner = line.partition(" ")
        if not Path("/proc", owner.strip() or "none").exists():
            podman("rm", "--force", "--time", "0", identifier, check=False)


@functools.cache
def bare_image() -> str:
    """The image of a companion as its maker ships it: sshd, Python, an administrator with sudo."""
    name = f"{IMAGES}-bare:{_digest([REPO / 'tests/companion/build_image.sh'], '')[:12]}"
    if podman("image", "exists", name, check=False).returncode != 0:
        environment = {**os.environ, "GPS_DENIED_TEST_CACHE": str(CACHE)}
        script = str(REPO / "tests/companion/build_image.sh")
        subprocess.run(["bash", script], check=True, stdout=sys.stderr, timeout=900, env=environment)
    return name


@functools.cache
def provisioned_image() -> str:
    """A companion with the builder: the bare one after `playbooks/provision_companion.yml`, committed."""
    sources = [path for name in PROVISIONING for path in _files(REPO / name)]
    name = f"{IMAGES}:{_digest(sources, bare_image() + ' '.join(_pins()))[:12]}"
    with _locked("provision"):
        if podman("image", "exists", name, check=False).returncode != 0:
            _bake(name)
            _remove_old_images()
    return name


def _remove_old_images() -> None:
    """Remove the images of builders of long ago; other runs may still use younger ones, and a used one stays."""
    listing = podman("images", "--quiet", "--filter", f"reference={IMAGES}*", "--filter", f"until={KEEP_H}h")
    for image in set(listing.stdout.split()):
        podman("rmi", image, check=False)


def _remove_old(folder: Path) -> None:
    """Remove what was made in a cache folder long ago."""
    for path in folder.iterdir():
        if path.stat().st_mtime < time.time() - KEEP_H * 3600.0:
            shutil.rmtree(path)


def _bake(image: str) -> None:
    container = f"gps-denied-bake-{os.getpid()}"
    with tempfile.TemporaryDirectory(prefix="gps-denied-bake-") as text:
        folder = Path(text)
        companion = start_companion(
            "companion", container=container, image=bare_image(), folder=folder, user=ADMIN_USER
        )
        try:
            provision([companion], wheelhouse=wheelhouse(), folder=folder)
            companion.exec_root(
                "rm -rf /etc/ssh/ssh_host_* /home/*/.ansible /root/.ansible /tmp/* /var/tmp/* && : >/etc/machine-id"
            )
            podman("stop", "--time", "10", container)
            podman("commit", "--quiet", container, image)
        finally:
            companion.remove()


def provision(
    companions: Sequence[Companion], *, wheelhouse: Path, folder: Path, extra_vars: Mapping[str, object] | None = None
) -> str:
    """Run the provisioning playbook of this checkout on bare companions; return what it printed."""
    inventory = folder / "inventory.json"
    inventory.write_text(json.dumps(inventory_of(companions, {"companion_provision_wheelhouse": str(wheelhouse)})))
    command = [_tool("ansible-playbook"), "-i", str(inventory), str(REPO / "playbooks/provision_companion.yml")]
    known_hosts = str(companions[0].known_hosts_path)
    command += ["--extra-vars", json.dumps({"companion_known_hosts_file": known_hosts, **(extra_vars or {})})]
    environment = ansible_environment(folder)
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=600, check=False, env=environment
    )
    if done.returncode != 0:
        raise CompanionContainerError(f"provisioning failed:\n{done.stdout}\n{done.stderr}")
    return done.stdout


def inventory_of(companions: Sequence[Companion], group_vars: Mapping[str, object] | None = None) -> dict[str, object]:
    """An Ansible inventory with the companions in the group `companions`."""
    hosts = {companion.name: companion.inventory_vars for companion in companions}
    return {"all": {"children": {"companions": {"hosts": hosts, "vars": dict(group_vars or {})}}}}


def ansible_environment(folder: Path) -> dict[str, str]:
    """The environment for Ansible: this checkout's collection, and nothing of the person's own settings."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith(("ANSIBLE_", "MOLECULE_"))}
    return {
        **kept,
        "ANSIBLE_HOME": str(folder / "ansible"),
        "ANSIBLE_COLLECTIONS_PATH": str(REPO / "dev"),
        "ANSIBLE_HOST_KEY_CHECKING": "True",
        "ANSIBLE_PIPELINING": "True",
        "ANSIBLE_NOCOLOR": "1",
    }


@functools.cache
def wheelhouse() -> Path:
    """The wheelhouse of the builder in this checkout for the containers' Python, made once per builder."""
    sys.path[:0] = [entry for entry in (str(REPO / "dev"), str(REPO / "src")) if entry not in sys.path]
    from operator_tool._wheelhouse import TargetPlatform, make_wheelhouse

    sources = [path for name in (*BUILDER, "src/operator_tool/_wheelhouse.py") for path in _files(REPO / name)]
    folder = CACHE / "wheelhouse" / _digest(sources, " ".join(_pins()))[:12]
    with _locked("wheelhouse"):
        if not (folder / "wheelhouse.json").is_file():
            machine = os.uname().machine
            make_wheelhouse(
                builder=REPO / "builder",
                target=folder,
                platform=TargetPlatform.parse(f"{machine}-cp311"),
                extras=("lite0", "orb"),
                constraints=_pins(),
            )
            _remove_old(folder.parent)
    return folder


def _pins() -> list[str]:
    lock = (REPO / "requirements/runtime.lock").read_text(encoding="utf-8")
    lines = re.findall(r"^([A-Za-z0-9._-]+)(==[^\\\n]+)", lock, flags=re.MULTILINE)
    return [f"{name}{rest}".strip() for name, rest in lines if name in PINNED_PACKAGES]


def _files(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    ignored = {"__pycache__", "dist", "build", ".pytest_cache", ".mypy_cache", ".ruff_cache"}
    return sorted(
        file
        for file in path.rglob("*")
        if file.is_file() and not ignored.intersection(file.parts) and not file.name.endswith(".pyc")
    )


def _digest(files: Sequence[Path], text: str) -> str:
    """SHA-256 as `sha256sum` gives it for a single file; for more, over their names, hashes and `text`."""
    if len(files) == 1 and not text:
        return hashlib.sha256(files[0].read_bytes()).hexdigest()
    lines = [f"{path.relative_to(REPO)} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files]
    return hashlib.sha256("\n".join([*lines, text]).encode()).hexdigest()


@contextlib.contextmanager
def _locked(name: str) -> Iterator[None]:
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"{name}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _tool(name: str) -> str:
    beside = Path(sys.executable).with_name(name)
    return str(beside) if beside.exists() else name


def _address(name: str) -> str:
    form = "{{range .NetworkSettings.Networks}}{{.IPAddress}}{{end}}"
    address = podman("inspect", name, "--format", form).stdout.strip()
    if not address:
        raise CompanionContainerError(f"{name} has no address")
    return address


def _inside(container: str, *command: str, namespace: str) -> None:
    """Run a program of this machine in one namespace of a container, which may not do such things itself."""
    pid = podman("inspect", container, "--format", "{{.State.Pid}}").stdout.strip()
    subprocess.run(["nsenter", "--target", pid, f"--{namespace}", *command], check=True)


def _isolate(container: str) -> None:
    """Take the way to the internet away: what works here works in the field."""
    _inside(container, "ip", "route", "delete", "default", namespace="net")


def _wait_for_port(address: str, port: int, timeout_s: float = 30.0) -> None:
    """Wait until sshd has sent its first line."""
    deadline = time.monotonic() + timeout_s
    while True:
        try:
            with socket.create_connection((address, port), timeout=2.0) as connection:
                connection.settimeout(2.0)
                if connection.recv(4) == b"SSH-":
                    return
        except OSError:
            pass
        if time.monotonic() > deadline:
            raise CompanionContainerError(f"no ssh at {address}:{port} within {timeout_s:.0f} s")
        time.sleep(0.05)


def main(argv: Sequence[str] | None = None) -> int:
    """`up` and `down` for molecule's create and destroy, `--list` for Ansible: prints one JSON object."""
    if list(sys.argv[1:] if argv is None else argv) == ["--list"]:
        sys.stdout.write(json.dumps(_listed(Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "companions")) + "\n")
        return 0
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    commands = parser.add_subparsers(dest="command", required=True)
    up = commands.add_parser("up", help="start companions; prints their inventory")
    up.add_argument("names", nargs="+")
    up.add_argument("--folder", type=Path, required=True, help="where the keys and known_hosts go")
    up.add_argument("--bare", action="store_true", help="from the image before provisioning")
    up.add_argument("--dead", action="append", default=[], metavar="NAME", help="switch this one off again")
    up.add_argument("--other-host-key", action="append", default=[], metavar="NAME", help="give it another host key")
    up.add_argument("--tiny-disk", action="append", default=[], metavar="NAME", help="give it a cache root of 256 KiB")
    down = commands.add_parser("down", help="remove companions")
    down.add_argument("names", nargs="+")
    for command in (up, down):
        command.add_argument(
            "--suffix", default="", help="added to the containers' names, so that two runs can coexist"
        )
    commands.add_parser("image", help="make the images; prints their names")
    commands.add_parser("wheelhouse", help="make the wheelhouse; prints its folder")
    arguments = parser.parse_args(argv)

    if arguments.command == "image":
        sys.stdout.write(json.dumps({"bare": bare_image(), "provisioned": provisioned_image()}) + "\n")
    elif arguments.command == "wheelhouse":
        sys.stdout.write(json.dumps({"wheelhouse": str(wheelhouse())}) + "\n")
    elif arguments.command == "down":
        for name in arguments.names:
            podman("rm", "--force", "--ignore", "--time", "0", name + arguments.suffix)
        sys.stdout.write(json.dumps({"removed": arguments.names}) + "\n")
    else:
        sys.stdout.write(json.dumps(_up(arguments)) + "\n")
    return 0


def _up(arguments: argparse.Namespace) -> dict[str, object]:
    remove_abandoned()
    image = bare_image() if arguments.bare else provisioned_image()
    shutil.rmtree(arguments.folder, ignore_errors=True)
    companions: list[Companion] = []
    for name in arguments.names:
        podman("rm", "--force", "--ignore", "--time", "0", name + arguments.suffix)
        companions.append(
            start_companion(
                name,
                container=name + arguments.suffix,
                image=image,
                folder=arguments.folder,
                user=ADMIN_USER if arguments.bare else CACHE_USER,
                private_key_path=companions[0].private_key_path if companions else None,
                # by hand, containers stay until they are destroyed; the test suite names its own process
                owner_pid=int(os.environ.get("GPS_DENIED_TEST_OWNER", "1")),
            )
        )
    for companion in companions:
        if companion.name in arguments.other_host_key:
            companion.replace_host_key()
        if companion.name in arguments.tiny_disk:
            companion.fill_disk(size="256k")
        if companion.name in arguments.dead:
            companion.stop()
    if arguments.bare:
        (arguments.folder / "wheelhouse").symlink_to(wheelhouse())
    inventory = inventory_of(companions)
    (arguments.folder / INVENTORY_NAME).write_text(json.dumps(inventory))
    return inventory


def _listed(folder: Path) -> dict[str, object]:
    """The companions of a scenario as a dynamic inventory; none before they are made."""
    file = folder / INVENTORY_NAME
    hosts = json.loads(file.read_text())["all"]["children"]["companions"]["hosts"] if file.exists() else {}
    return {"companions": {"hosts": list(hosts)}, "_meta": {"hostvars": hosts}}


if __name__ == "__main__":
    sys.exit(main())
