"""The image by hand: does what the Dockerfile says, instruction by instruction, where no container engine is.

Each stage is a layer over this machine's file system, kept in memory and gone afterwards; a Python
installation stands for the base image. RUN lines run there as they are. The server then runs as process 1,
as the image's user, with a network of its own; it is asked for its health, given a job, and stopped in the
middle of it, as an engine would.

    sudo .venv/bin/python scripts/image_by_hand.py [PREFIX]

Needs Linux and root. PREFIX is the installation (default: the one that .venv was made from).
"""

import fnmatch
import json
import os
import re
import select
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import click

REPOSITORY = Path(__file__).resolve().parent.parent
WORK = Path("/mnt")
Ignore = Callable[[str, list[str]], set[str]]
START_SECONDS, STOP_SECONDS = 30, 10  # the latter is docker stop's
# A job that is far from its end when the server is stopped.
TRAIN = """
import time, numpy, mnist_client
images, labels = numpy.zeros((60_000, 28, 28), numpy.uint8), numpy.zeros(60_000, numpy.uint8)
with mnist_client.Client() as client:
    job = client.train((images, labels), epochs=10_000)
    while (status := job.status()).last_epoch is None:
        time.sleep(0.1)
    print(status.name, status.state, status.last_epoch)
"""


class Stage:
    """One FROM: a root to change to, and what the instructions after it have set."""

    def __init__(self, number: int, prefix: str) -> None:
        layer = WORK / str(number)
        self.root = layer / "root"
        for folder in ("upper", "work", "root"):
            (layer / folder).mkdir(parents=True)
        options = f"lowerdir=/,upperdir={layer}/upper,workdir={layer}/work"
        run("mount", "-t", "overlay", "overlay", "-o", options, str(self.root))
        run("mount", "--bind", "/dev", str(self.root / "dev"))
        for parent in Path(prefix).parents:  # the image's user may look into the installation
            (self.root / parent.relative_to("/")).chmod(0o755)
        self.folder = "/"
        self.user = "0:0"
        self.env = {"PATH": f"{prefix}/bin:/usr/bin:/bin", "HOME": "/"}
        self.last: dict[str, str] = {}

    def command(self, *words: str) -> list[str]:
        """Returns the command line that runs `words` in this stage, as its user."""
        variables = [f"{name}={value}" for name, value in self.env.items()]
        chroot = ["chroot", f"--userspec={self.user}", "--groups=", str(self.root)]
        return [*chroot, "env", "-i", "-C", self.folder, *variables, *words]

    def path(self, name: str) -> Path:
        """Returns where a path of the stage lies on this machine."""
        return self.root / (Path(self.folder) / name).relative_to("/")


def run(*command: str) -> None:
    """Runs a command, or ends this program."""
    if code := subprocess.run(command, timeout=600).returncode:
        sys.exit(f"{shlex.join(command)} exited {code}")


def instructions() -> list[tuple[str, str]]:
    """Returns the Dockerfile's instructions, each a word and the rest."""
    lines = [line for line in (REPOSITORY / "Dockerfile").read_text().splitlines() if line[:1] not in "#"]
    joined = re.sub(r"\\\n\s*", "", "\n".join(lines))
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in joined.splitlines() if line)]


def context(folder: Path) -> None:
    """Copies what .dockerignore lets through: here, names after `!` and no `**/` pattern."""
    rules = [line for line in (REPOSITORY / ".dockerignore").read_text().splitlines() if line[:1] not in "#"]
    dropped = [rule.removeprefix("**/") for rule in rules if rule.startswith("**/")]

    def ignore(_: str, names: list[str]) -> set[str]:
        return {name for name in names if any(fnmatch.fnmatch(name, rule) for rule in dropped)}

    folder.mkdir()
    for name in (rule[1:] for rule in rules if rule.startswith("!")):
        copy(REPOSITORY / name, folder / name, ignore)


def copy(source: Path, target: Path, ignore: Ignore | None = None) -> None:
    """Copies a file or a folder, as COPY does."""
    if source.is_dir():
        shutil.copytree(source, target, dirs_exist_ok=True, ignore=ignore)
    else:
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)


def build(prefix: str) -> Stage:
    """Follows the Dockerfile to its end. Returns the last stage."""
    context(WORK / "context")
    stages: dict[str, Stage] = {}
    for word, rest in instructions():
        click.secho(f"{word} {rest}", bold=True)
        if word == "FROM":
            stage = Stage(len(stages), prefix)
            stages[rest.partition(" AS ")[2] or str(len(stages))] = stage
        elif word == "WORKDIR":
            stage.folder = rest
            stage.path(".").mkdir(parents=True, exist_ok=True)
        elif word == "COPY":
            *sources, target = rest.split()
            origin = WORK / "context"
            if sources[0].startswith("--from="):
                origin = stages[sources.pop(0).removeprefix("--from=")].root
            for source in sources:
                place = stage.path(target) / (Path(source).name if target.endswith("/") else "")
                copy(origin / source.lstrip("/"), place)
        elif word == "RUN":
            run(*stage.command("sh", "-c", rest))
        elif word == "ENV":
            stage.env |= dict(pair.split("=", 1) for pair in shlex.split(rest))
        elif word == "USER":
            stage.user = rest
        else:
            stage.last[word] = rest
    return stage


def serve(stage: Stage) -> None:
    """Runs the image as `docker run` would, asks its health, and stops it as `docker stop` would."""
    server = [*json.loads(stage.last["ENTRYPOINT"]), *json.loads(stage.last["CMD"])]
    check = json.loads(stage.last["HEALTHCHECK"].partition(" CMD ")[2])
    click.secho(f"docker run: {shlex.join(server)}", bold=True)
    # Its network is a loopback alone, so that 0.0.0.0 is nobody else's.
    isolated = ["unshare", "--net", "--pid", "--fork", "--kill-child"]
    inside = ["sh", "-c", 'ip link set lo up && exec "$@"', "sh", *stage.command(*server)]
    unshare = subprocess.Popen([*isolated, *inside], stdout=subprocess.PIPE)
    try:
        assert unshare.stdout is not None
        ready, _, _ = select.select([unshare.stdout], [], [], START_SECONDS)
        line = unshare.stdout.readline().decode().strip() if ready else ""
        if not line.startswith("Serving on "):
            sys.exit(f"the server did not start: {line!r}")
        click.echo(line)
        proc = Path("/proc")
        pid = int((proc / f"{unshare.pid}/task/{unshare.pid}/children").read_text())
        status = (proc / f"{pid}/status").read_text()
        click.echo("".join(re.findall(r"^(?:Uid|Gid|NSpid):.*\n", status, re.MULTILINE)), nl=False)
        click.secho(f"HEALTHCHECK: {shlex.join(check)}", bold=True)
        enter = ["nsenter", f"--net=/proc/{pid}/ns/net"]
        run(*enter, *stage.command(*check))
        run(*enter, *stage.command("timeout", "60", "python", "-c", TRAIN))
        click.secho(f"docker stop: {stage.last['STOPSIGNAL']}", bold=True)
        began = time.monotonic()
        os.kill(pid, getattr(signal, stage.last["STOPSIGNAL"]))
        code = unshare.wait(STOP_SECONDS)
        click.echo(f"exited {code} after {time.monotonic() - began:.2f} s; what it left in the volume:")
        run("ls", "-ln", str(stage.path(stage.last["VOLUME"])))
        if code:
            sys.exit(1)
    finally:
        unshare.kill()
        unshare.wait()


def main() -> None:
    """Builds and runs."""
    prefix = str(Path(sys.argv[1] if len(sys.argv) > 1 else sys.base_prefix).resolve())
    if os.environ.get("IMAGE_BY_HAND") != "inside":
        if sys.platform != "linux" or os.geteuid() != 0:
            sys.exit("image_by_hand.py needs Linux and root")
        os.environ["IMAGE_BY_HAND"] = "inside"
        inside = [sys.executable, __file__, prefix]
        os.execvp(
            "unshare", ["unshare", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc", *inside]
        )
    run("mount", "-t", "tmpfs", "tmpfs", str(WORK))
    serve(build(prefix))


if __name__ == "__main__":
    main()
