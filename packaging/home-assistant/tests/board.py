"""Hearthd on a private system bus, as on a board."""

import contextlib
import os
from pathlib import Path
import shutil
import signal
import subprocess
import time

ROOT = Path(__file__).resolve().parents[3]
BIN = Path(os.environ.get("CARGO_TARGET_DIR", ROOT / "target")) / "release"
NAME = "org.hearthd.Inference1"
PATIENCE_S = 60.0


class Board:
    """A bus with the shipped policy, and the daemon; each can be started and stopped."""

    def __init__(
        self,
        folder: Path,
        *,
        fake: str | None = None,
        model: Path | None = None,
        args: tuple[str, ...] = (),
        tcp: bool = False,
        more: str = "",
    ) -> None:
        """Initialize, with the demo model unless another one is given.

        `fake` is a script for an engine that repeats what it is told, `more` the end of the
        configuration. Of the engine's threads there is one, since the tests run on busy
        computers, where two wait for one another.
        """
        self.dir = folder
        self.fake = fake
        self.model = model
        self.more = more or "[engine]\nthreads = 1\n"
        self.args = args
        self.tcp = tcp
        self._bus: subprocess.Popen[bytes] | None = None
        self._daemon: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        """The address of the bus."""
        return f"unix:path={self.dir / 'bus'}"

    def add_projector(self, model: str, width: int) -> None:
        """Make a projector of random weights for a model whose embeddings have this width."""
        models = self.dir / "models"
        models.mkdir(exist_ok=True)
        out = models / f"mmproj-{model}.gguf"
        words = ["--projector", "tiny-gemma3", "--text-width", str(width), "--out", out]
        subprocess.run([BIN / "hearth-engine", "make-model", *words], check=True)

    def start_bus(self) -> None:
        """Start the bus, as packaging/private-bus.sh does."""
        (self.dir / "bus").unlink(missing_ok=True)
        script = (
            'trap "kill \\$bus_pid" TERM EXIT; . packaging/private-bus.sh; '
            f'private_bus "{self.dir}" {os.getuid()} {os.getgid()}; echo up; wait'
        )
        self._bus = subprocess.Popen(
            ["bash", "-c", script], cwd=ROOT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE
        )
        assert self._bus.stdout is not None
        assert self._bus.stdout.readline() == b"up\n"

    def stop_bus(self) -> None:
        """Stop the bus, as an update of its package might."""
        if self._bus is not None:
            self._bus.terminate()
            self._bus.wait()
            assert self._bus.stdout is not None
            self._bus.stdout.close()
            self._bus = None

    def make_activatable(self) -> None:
        """Make the service activatable on the bus, which then fails to start it."""
        service = ROOT / "packaging" / "dbus" / f"{NAME}.service"
        # The helper that starts services as other users does not exist on a private bus.
        lines = service.read_text().splitlines()
        kept = [line for line in lines if not line.startswith(("User=", "SystemdService="))]
        (self.dir / "services" / service.name).write_text("\n".join(kept) + "\n")
        self._reload_bus()

    def forbid(self) -> None:
        """Deny access to the service, as for a user who is not in the group."""
        rule = f'<deny send_destination="{NAME}" send_type="method_call"/>'
        (self.dir / "system.d" / "forbid.conf").write_text(
            f'<busconfig><policy context="mandatory">{rule}</policy></busconfig>'
        )
        self._reload_bus()

    def _reload_bus(self) -> None:
        assert self._bus is not None
        children = f"/proc/{self._bus.pid}/task/{self._bus.pid}/children"
        for pid in Path(children).read_text().split():
            os.kill(int(pid), signal.SIGHUP)
        # A reload is not signalled on a bus that denies calls.
        time.sleep(0.3)

    def start(self) -> None:
        """Start the daemon and wait until it owns its name."""
        (self.dir / "models").mkdir(exist_ok=True)
        engine = BIN / "hearth-engine"
        packaged = ROOT / "packaging" / "demo-model"
        if self.fake is not None:
            script = self.dir / "engine"
            script.write_text(
                f"#!/bin/sh\n[ $# -gt 0 ] && exec {engine} \"$@\"\n"
                f"exec {engine}-fake '{self.fake}'\n"
            )
            script.chmod(0o755)
            engine, packaged = script, self.dir / "packaged"
            packaged.mkdir(exist_ok=True)
            # A header without keys and tensors.
            (packaged / "fake.gguf").write_bytes(b"GGUF\x03".ljust(24, b"\0"))
        if self.model is not None:
            packaged = self.dir / "packaged"
            packaged.mkdir(exist_ok=True)
            (packaged / self.model.name).unlink(missing_ok=True)
            (packaged / self.model.name).symlink_to(self.model)
        config = self.dir / "hearthd.toml"
        config.write_text(
            f'[http]\nsocket = "{self.dir}/hearthd.sock"\n'
            f'[paths]\nmodels = "{self.dir}/models"\nmodels_packaged = "{packaged}"\n'
            f'prompts = "{self.dir}/prompts"\ntuning = "{self.dir}/tuning.json"\n'
            f'engine = "{engine}"\n{self.more}'
        )
        with (self.dir / "hearthd.log").open("ab") as log:
            self._daemon = subprocess.Popen(
                [*self._listen(), BIN / "hearthd", "--config", config, *self.args],
                env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": self.address},
                stdin=subprocess.DEVNULL,
                stderr=log,
            )
        until(lambda: self._ready(), "hearthd is up")

    def _listen(self) -> list[str | Path]:
        """Return the command prefix that passes the daemon its sockets, as systemd does."""
        if not self.tcp:
            return []
        (self.dir / "hearthd.sock").unlink(missing_ok=True)
        return ["python3.14", ROOT / "tests/clients/listen.py"]

    @property
    def port(self) -> int:
        """The port of its TCP socket."""
        return int((self.dir / "port").read_text())

    def _ready(self) -> bool:
        assert self._daemon is not None and self._daemon.poll() is None, self.log()
        return "ready" in self.log() and (self.dir / "hearthd.sock").exists()

    def stop(self) -> None:
        """Stop the daemon."""
        if self._daemon is not None:
            self._daemon.terminate()
            self._daemon.wait()
            self._daemon = None
            # Only the next one's output counts.
            shutil.move(self.dir / "hearthd.log", self.dir / "hearthd.log.1")

    def log(self) -> str:
        """Return the daemon's output."""
        with contextlib.suppress(FileNotFoundError):
            return (self.dir / "hearthd.log").read_text()
        return ""

    def ctl(self, *args: str) -> str:
        """Run hearthctl."""
        return subprocess.run(
            [BIN / "hearthctl", *args],
            env=os.environ | {"DBUS_SYSTEM_BUS_ADDRESS": self.address},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            check=True,
            text=True,
        ).stdout


def until(holds, what: str) -> None:
    """Wait for a condition; the duration is not tested."""
    end = time.monotonic() + PATIENCE_S
    while not holds():
        assert time.monotonic() < end, f"waited in vain until {what}"
        time.sleep(0.02)
