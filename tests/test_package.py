"""The package: what is in the wheel that users install, and what may be in no source."""

import ast
import importlib.metadata
import json
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import click
import pytest

import mnist_proto
from mnist_client.cli import program
from mnist_server.cli import main as server_program

REPOSITORY = Path(__file__).resolve().parent.parent
PACKAGES = {
    "mnist_proto": REPOSITORY / "proto",
    "mnist_core": REPOSITORY / "core",
    "mnist_server": REPOSITORY / "server",
    "mnist_client": REPOSITORY / "client",
}
# They unpickle, or do what comes to the same: a file's contents become code.
UNPICKLERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "marshal", "shelve"}


def files() -> Iterator[Path]:
    """Every file that belongs to the project: those that git tracks or would."""
    listed = subprocess.run(
        ["git", "--no-optional-locks", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=REPOSITORY,
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    ).stdout
    yield from (path for name in listed.split("\0") if name and (path := REPOSITORY / name).is_file())


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Iterator[zipfile.ZipFile]:
    """The wheel, built as any installer builds it: the build backend comes from the package index."""
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(folder), "."]
    subprocess.run(command, cwd=REPOSITORY, check=True, timeout=300)
    [path] = folder.glob("*.whl")
    with zipfile.ZipFile(path) as opened:
        yield opened


def test_the_wheel_holds_the_four_packages_and_nothing_else(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    dist_info = f"mnist_grpc-{mnist_proto.__version__}.dist-info"
    assert {name.partition("/")[0] for name in names} == {*PACKAGES, dist_info}
    expected = {
        str(path.relative_to(root))
        for package, root in PACKAGES.items()
        for path in files()
        if path.is_relative_to(root / package)
    }
    assert {name for name in names if not name.startswith(dist_info)} == expected


@pytest.mark.parametrize("package", PACKAGES)
def test_the_wheel_says_that_its_packages_are_typed(wheel: zipfile.ZipFile, package: str) -> None:
    assert f"{package}/py.typed" in wheel.namelist()


def test_the_wheel_brings_the_protos_the_licence_and_both_programs(wheel: zipfile.ZipFile) -> None:
    names = wheel.namelist()
    assert "mnist_proto/v1/prediction.proto" in names
    assert any(name.endswith("licenses/LICENSE") for name in names)
    [entry_points] = [name for name in names if name.endswith("entry_points.txt")]
    text = wheel.read(entry_points).decode()
    assert "mnist-server = mnist_server.cli:main" in text
    assert "mnist-client = mnist_client.cli:main" in text


def test_there_is_one_version(wheel: zipfile.ZipFile) -> None:
    [metadata] = [name for name in wheel.namelist() if name.endswith("/METADATA")]
    assert f"\nVersion: {mnist_proto.__version__}\n" in wheel.read(metadata).decode()
    assert importlib.metadata.version("mnist-grpc") == mnist_proto.__version__
    written = [
        f"{path.relative_to(REPOSITORY)}: {line}"
        for path in files()
        if path.suffix in (".py", ".toml") and path != Path(__file__)
        for line in path.read_text(encoding="utf-8").splitlines()
        if re.match(r"(__version__|version)\s*=\s*['\"]", line)
    ]
    assert written == [f'proto/mnist_proto/__init__.py: __version__ = "{mnist_proto.__version__}"']


@pytest.mark.parametrize("command", ["mnist-server", "mnist-client"])
def test_programs_say_their_version(command: str) -> None:
    program = Path(sys.executable).parent / command
    said = subprocess.run([program, "--version"], capture_output=True, text=True, check=True, timeout=60)
    assert said.stdout == f"{command}, version {mnist_proto.__version__}\n"


def imported(tree: ast.AST) -> Iterator[str]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module.partition(".")[0]


def may_unpickle(call: ast.Call) -> bool:
    """np.load and np.memmap's kin, unless told not to."""
    name = call.func.attr if isinstance(call.func, ast.Attribute) else ""
    allowed = [word.value for word in call.keywords if word.arg == "allow_pickle"]
    forbidden = [isinstance(value, ast.Constant) and value.value is False for value in allowed]
    of_numpy = isinstance(call.func, ast.Attribute) and isinstance(call.func.value, ast.Name)
    is_load = of_numpy and name == "load" and ast.unparse(call.func) in ("np.load", "numpy.load")
    return (is_load and not allowed) or not all(forbidden)


def test_nothing_is_ever_unpickled() -> None:
    found = []
    for path in files():
        if path.suffix != ".py" or path.is_relative_to(REPOSITORY / "tests"):  # they make hostile files
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found += [f"{path}: imports {name}" for name in imported(tree) if name in UNPICKLERS]
        calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
        found += [f"{path}:{call.lineno} may unpickle" for call in calls if may_unpickle(call)]
    assert found == []


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("np.load(p)", True),
        ("np.load(p, allow_pickle=True)", True),
        ("other.load(p, allow_pickle=flag)", True),
        ("np.load(p, allow_pickle=False)", False),
        ("json.load(p)", False),
    ],
)
def test_what_may_unpickle_is_told_apart(source: str, expected: bool) -> None:
    call = ast.parse(source, mode="eval").body
    assert isinstance(call, ast.Call)
    assert may_unpickle(call) is expected


def test_no_file_names_a_place_on_this_machine() -> None:
    places = "|".join(re.escape(str(place)) for place in (REPOSITORY, Path.home()) if len(place.parts) > 1)
    pattern = re.compile(rf"(?<![\w.}}])(?:{places})(?=[/\s\"'])")
    found = []
    for path in files():
        try:
            text = path.read_text(encoding="utf-8")
        except UnicodeDecodeError:
            continue
        found += [f"{path.relative_to(REPOSITORY)}: {match[0]}" for match in pattern.finditer(text)]
    assert found == []


# The README


def readme_block(heading: str) -> str:
    """The first indented or fenced block after a heading."""
    section = (REPOSITORY / "README.md").read_text(encoding="utf-8").partition(f"\n## {heading}\n")[2]
    assert section, f"README.md has no heading {heading!r}"
    return section.partition("\n## ")[0].split("```")[1].partition("\n")[2]


def commands(group: click.Group, prefix: str) -> Iterator[str]:
    for name, command in group.commands.items():
        if isinstance(command, click.Group):
            yield from commands(command, f"{prefix} {name}")
        else:
            yield f"{prefix} {name}"


def test_readme_lists_every_command_and_no_other() -> None:
    told = []
    for line in readme_block("Commands").splitlines():
        match = re.match(r"(mnist-\w+(?: [a-z]+)+)", line)
        assert match, line
        told.append(match[1])
    assert told == [*commands(server_program, "mnist-server"), *commands(program, "mnist-client")]


def test_readme_maps_the_folders_as_they_are() -> None:
    told = [line.split()[0] for line in readme_block("Folders").splitlines()]
    assert [name for name in told if not (REPOSITORY / name).exists()] == []
    tops = {path.relative_to(REPOSITORY).parts[0] for path in files() if path.parent != REPOSITORY}
    shown = {name.partition("/")[0] for name in told}
    assert {name for name in tops if not name.startswith(".")} - shown == set()


def test_the_map_names_every_module_of_core_and_server() -> None:
    text = (REPOSITORY / "CONTRIBUTING.md").read_text(encoding="utf-8")
    told = text.partition("## The map")[2].partition("## Decisions")[0]
    sources = [*REPOSITORY.glob("core/mnist_core/**/*.py"), *REPOSITORY.glob("server/mnist_server/**/*.py")]
    modules = {path.stem for path in sources} - {"__init__"}
    assert {name for name in modules if f"`{name}`" not in told} == set()


def test_documents_link_only_to_what_is_there() -> None:
    documents = [REPOSITORY / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")]
    for document in documents + sorted((REPOSITORY / "docs").glob("*.md")):
        text = document.read_text(encoding="utf-8")
        targets = [target.partition("#")[0] for target in re.findall(r"\]\(([^)]+)\)", text)]
        local = [target for target in targets if target and "://" not in target]
        assert [target for target in local if not (document.parent / target).exists()] == [], document
        if document.name == "README.md":
            assert "docs/training.svg" in local


def test_the_figures_of_the_pretrained_model_are_those_of_its_card() -> None:
    card = (REPOSITORY / "docs" / "model-card.md").read_text(encoding="utf-8")
    found = re.search(r"right on ([\d,]+) of MNIST's 10,000 test images: \*\*([\d.]+)%\*\*", card)
    assert found
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    assert f"{found[1]} of MNIST's 10,000 test images" in " ".join(text.split())
    assert f"| {found[1]}; {found[2]} % | `mnist-client evaluate` |" in text


def test_readme_gives_the_figures_that_were_recorded() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    recorded = json.loads((REPOSITORY / "benchmarks" / "results" / "classic.json").read_bytes())
    runs = [f"{run['final_accuracy']:.2%}".replace("%", " %") for run in recorded["runs"]]
    median = f"{recorded['median_final_accuracy']:.2%}".replace("%", " %")
    assert f"| {', '.join(runs)}; median {median} |" in text


def test_readme_gives_the_figures_of_streams_and_uploads_that_were_recorded() -> None:
    text = (REPOSITORY / "README.md").read_text(encoding="utf-8")
    results = REPOSITORY / "benchmarks" / "results"
    streams = json.loads((results / "streams.json").read_bytes())
    upload = json.loads((results / "upload.json").read_bytes())
    watched, predict = streams["watched"], streams["predict_milliseconds"]
    delay, memory = watched["delay_ms"], watched["memory_kb_a_watcher"]
    rows = [
        f"| {delay['p50']} ms, {delay['p99']} ms; {memory} kB | `make bench-streams` |",
        f"| {'; '.join(str(predict[phase]['p99']) + ' ms' for phase in predict)} | `make bench-streams` |",
        f"| {upload['upload_seconds']['median']} s; {upload['already_there_seconds']['median']} s ",
    ]
    assert [row for row in rows if row not in text] == []


# The image


def test_the_image_gets_what_it_copies() -> None:
    dockerfile = (REPOSITORY / "Dockerfile").read_text(encoding="utf-8")
    rules = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").splitlines()
    copied = re.findall(r"^COPY (?!--from)(.*) \S+$", dockerfile, re.MULTILINE)
    sources = {source for line in copied for source in line.split()}
    assert sources == {rule[1:] for rule in rules if rule.startswith("!")}
    assert all((REPOSITORY / source).exists() for source in sources)
