"""A recipe is how a server is started: what it needs, its files, its command and its environment."""

import functools
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from benchmarks.serving.protocol import INFER, INFER_UINT8, JSON, PREDICT, RAW, Protocol

from mnist_server.worker_process import ENVIRONMENT

REPOSITORY = Path(__file__).resolve().parents[2]
ENVIRONMENTS = REPOSITORY / ".venv-serving"
SERVERS = Path(__file__).resolve().with_name("servers")
COMPILER_SECONDS = 120
MAX_BYTES = 16 * 2**20
# Where all find the model: network.npz for the peers, ours as a data directory; and what null is to answer.
NETWORK, OUR_DATA, ANSWERS = "network.npz", "data", "answers"


class Missing(RuntimeError):
    """A contender cannot be run here; says why."""


@dataclass(frozen=True)
class Launch:
    """What to run, in a folder of its own."""

    command: list[str]
    environment: dict[str, str] = field(default_factory=dict)
    versions: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """One server, and the protocols that it is asked in.

    prepare: is given the shared folder, the server's own and a free port. Raises Missing.
    computes: false for one that always answers the same.
    """

    name: str
    protocols: tuple[Protocol, ...]
    prepare: Callable[[Path, Path, int], Launch]
    computes: bool = True


def free_port() -> int:
    """Returns a port of the loopback that nobody has at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
    return port


def environment(shared: Path, extra: dict[str, str]) -> dict[str, str]:
    """Returns what every server is started with: one BLAS thread, no settings of ours from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MNIST_", "PYTHON"))}
    own = {
        "BENCHMARK_NETWORK": str(shared / NETWORK),
        "OPENBLAS_NUM_THREADS": "1",
        "PYTHONPATH": str(SERVERS),
    }
    return kept | own | extra


def ours(*, options: tuple[str, ...] = (), fast: bool = True) -> Callable[[Path, Path, int], Launch]:
    """Returns how to start our own server, with metrics on where it has them."""

    def prepare(shared: Path, folder: Path, port: int) -> Launch:
        shutil.copytree(shared / OUR_DATA, folder / "data")
        known = serve_help()
        for option in options:
            if option.startswith("--") and option not in known:
                raise Missing(f"mnist-server has no {option}")
        command = [program("mnist-server"), "serve", "--port", str(port), "--data-dir", "data", *options]
        if "--metrics-port" in known:
            command += ["--metrics-port", str(free_port())]
        if not fast:
            if "--no-fast-path" not in known:
                raise Missing("there is no other path in this mnist-server: what it has is the public one")
            command.append("--no-fast-path")
        return Launch(command, versions=versions(Path(sys.executable), ("grpcio", "numpy", "protobuf")))

    return prepare


@functools.cache
def serve_help() -> str:
    """Returns what `mnist-server serve --help` says: a server of another day lacks some options."""
    command = [program("mnist-server"), "serve", "--help"]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=True).stdout


def program(name: str) -> str:
    """Returns a program of the environment that runs this."""
    return str(Path(sys.executable).with_name(name))


def versions(python: Path, packages: Sequence[str]) -> dict[str, str]:
    """Returns what of an environment's packages is installed, by name."""
    source = (
        "import importlib.metadata as m, json, sys\n"
        "print(json.dumps({name: m.version(name) for name in sys.argv[1:]}))"
    )
    done = subprocess.run([python, "-c", source, *packages], capture_output=True, timeout=60, check=True)
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _peer(name: str) -> Path:
    folder = ENVIRONMENTS / name
    if not (folder / "made").exists():
        raise Missing(f"is not installed (make .venv-serving/{name}/made)")
    return folder / "bin"


def _echo(shared: Path, folder: Path, port: int) -> Launch:
    command = [sys.executable, str(SERVERS / "echo.py"), str(port)]
    return Launch(command, versions=versions(Path(sys.executable), ("grpcio", "numpy")))


def _bare_loop(shared: Path, folder: Path, port: int) -> Launch:
    command = [sys.executable, str(SERVERS / "bare_loop.py"), str(port)]
    # As our own workers are started.
    return Launch(command, dict(ENVIRONMENT), versions(Path(sys.executable), ("grpcio", "numpy")))


def _null(shared: Path, folder: Path, port: int) -> Launch:
    library = (
        subprocess.run(
            ["pkg-config", "--modversion", "grpc++"], capture_output=True, text=True, timeout=60, check=False
        )
        if shutil.which("pkg-config")
        else None
    )
    if library is None or library.returncode or not shutil.which("g++"):
        raise Missing("cannot be built without g++, pkg-config and libgrpc++-dev")
    flags = subprocess.run(
        ["pkg-config", "--cflags", "--libs", "grpc++"], capture_output=True, text=True, timeout=60, check=True
    ).stdout.split()
    binary = shared / "null_server"
    if not binary.exists():
        source = str(SERVERS / "null_server.cc")
        build = ["g++", "-O2", "-std=c++17", source, "-o", str(binary), *flags]
        done = subprocess.run(build, capture_output=True, text=True, timeout=COMPILER_SECONDS, check=False)
        if done.returncode:
            raise Missing(f"cannot be built: {done.stderr[-300:]}")
    command = [str(binary), str(port)]
    for protocol in (PREDICT, INFER):
        command += [protocol.path, str(shared / ANSWERS / protocol.path.rsplit("/", 1)[1])]
    return Launch(command, versions={"grpc++": library.stdout.strip()})


def _triton(shared: Path, folder: Path, port: int) -> Launch:
    python = _peer("triton") / "python"
    [site] = python.parents[1].glob("lib/python3*/site-packages")
    home, version = site / "pytriton" / "tritonserver", site.parent.name.removeprefix("python")
    # The backend wants the program that it runs models with, one for each Python, beside itself.
    backend = folder / "backends" / "python"
    shutil.copytree(home / "backends" / "python", backend)
    shutil.copy(home / "python_backend_stubs" / version / "triton_python_backend_stub", backend)
    for model, datatype in (("mnist", "FP32"), ("mnist-uint8", "UINT8")):
        (folder / "models" / model / "1").mkdir(parents=True)
        shutil.copy(SERVERS / "triton_model.py", folder / "models" / model / "1" / "model.py")
        shutil.copy(SERVERS / "forward.py", folder / "models" / model / "1")
        (folder / "models" / model / "config.pbtxt").write_text(
            f'name: "{model}"\nbackend: "python"\nmax_batch_size: 1024\n'
            f'input [ {{ name: "images" data_type: TYPE_{datatype} dims: [ 784 ] }} ]\n'
            'output [ { name: "probabilities" data_type: TYPE_FP32 dims: [ 10 ] } ]\n'
            "instance_group [ { kind: KIND_CPU count: 1 } ]\ndynamic_batching { }\n"
        )
    command = [str(home / "bin" / "tritonserver"), "--model-repository", str(folder / "models")]
    command += ["--backend-directory", str(folder / "backends"), "--allow-http", "false"]
    command += ["--grpc-address", "127.0.0.1", "--grpc-port", str(port)]
    command += ["--metrics-address", "127.0.0.1", "--metrics-port", str(free_port())]
    base = subprocess.run(
        [python, "-c", "import sys; print(sys.base_prefix)"],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    ).stdout.strip()
    found = versions(python, ("nvidia-pytriton", "numpy")) | {"tritonserver": "2.51.0"}
    paths = {
        "LD_LIBRARY_PATH": f"{site / 'nvidia_pytriton.libs'}:{base}/lib",
        "PYTHONPATH": f"{SERVERS}:{site}",
        "PATH": f"{python.parent}:{os.environ['PATH']}",
    }
    return Launch(command, paths, found)


def _mlserver(shared: Path, folder: Path, port: int) -> Launch:
    programs = _peer("mlserver")
    settings = {
        "host": "127.0.0.1",
        "http_port": free_port(),
        "grpc_port": port,
        "metrics_port": free_port(),
        "grpc_max_message_length": MAX_BYTES,
        "parallel_workers": 0,
        "debug": False,
    }
    (folder / "mnist").mkdir()
    (folder / "settings.json").write_text(json.dumps(settings))
    (folder / "mnist" / "model-settings.json").write_text(
        json.dumps({"name": "mnist", "implementation": "mlserver_model.Mnist"})
    )
    found = versions(programs / "python", ("mlserver", "grpcio", "numpy"))
    return Launch([str(programs / "mlserver"), "start", str(folder)], versions=found)


def _kserve(shared: Path, folder: Path, port: int) -> Launch:
    python = _peer("kserve") / "python"
    command = [str(python), str(SERVERS / "kserve_server.py"), str(port)]
    return Launch(command, versions=versions(python, ("kserve", "grpcio", "numpy")))


def _litserve(shared: Path, folder: Path, port: int) -> Launch:
    python = _peer("litserve") / "python"
    command = [str(python), str(SERVERS / "litserve_server.py"), str(port)]
    return Launch(command, versions=versions(python, ("litserve", "uvicorn", "numpy")))


def _bentoml(shared: Path, folder: Path, port: int) -> Launch:
    programs = _peer("bentoml")
    command = [str(programs / "bentoml"), "serve", "--quiet", "--host", "127.0.0.1", "--port", str(port)]
    home = {"BENTOML_HOME": str(folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
    found = versions(programs / "python", ("bentoml", "uvicorn", "numpy"))
    return Launch([*command, "bentoml_service:Mnist"], home, found)


OURS = Recipe("mnist-grpc", (PREDICT, INFER), ours())
PUBLIC = Recipe("mnist-grpc, public path", (PREDICT, INFER), ours(fast=False))
TWO_WORKERS = Recipe("mnist-grpc, two workers", (PREDICT,), ours(options=("--workers", "2")))
ECHO = Recipe("grpc.server echo", (RAW,), _echo)
BARE = Recipe("bare completion queue", (RAW,), _bare_loop)
NULL = Recipe("C++ null server", (PREDICT, INFER), _null, computes=False)
TRITON = Recipe("Triton", (INFER, INFER_UINT8), _triton)
MLSERVER = Recipe("MLServer", (INFER,), _mlserver)
KSERVE = Recipe("KServe", (INFER,), _kserve)
LITSERVE = Recipe("LitServe", (JSON,), _litserve)
BENTOML = Recipe("BentoML", (JSON,), _bentoml)
RECIPES = (OURS, TRITON, PUBLIC, NULL, BARE, ECHO, KSERVE, MLSERVER, LITSERVE, BENTOML)
NOT_RUN = {
    "TorchServe": "archived by its owners, and not tried",
    "Ray Serve": "its processes listen beyond the loopback",
}
