"""What a user installs: the packages, the wheel and the source distribution."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import venv
import zipfile
from pathlib import Path
from typing import Any

import pytest

ROOT = Path(__file__).parents[2]
PYPROJECT: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text())
SETUPTOOLS: dict[str, Any] = PYPROJECT["tool"]["setuptools"]

# Folders of the checkout that are packages, and the name they install under.
SOURCES = {
    "marlin": "marlin",
    "schemas": "marlin.schemas",
    "sinks": "marlin.sinks",
    "streams": "marlin.streams",
}

CHECK_CORE = """
import importlib, importlib.util, sys
for name in ("marlin", "marlin.budget", "marlin.errors", "marlin.estimation", "marlin.runtime",
             "marlin.schemas", "marlin.settings", "marlin.topics", "marlin.broker.cluster"):
    importlib.import_module(name)
import marlin
for name in marlin.__all__:
    getattr(marlin, name)
estimate = marlin.estimate("gpt-4o", region="DE", input_tokens=1000, output_tokens=100)
assert 0 < estimate.carbon_g.low <= estimate.carbon_g.central <= estimate.carbon_g.high, estimate
for absent in ("faust", "duckdb", "pyarrow", "typer", "streams", "schemas", "sinks"):
    assert importlib.util.find_spec(absent) is None, absent
print(marlin.__file__)
"""


def _copy_of_checkout(target: Path) -> Path:
    """The checkout without what builds and tests leave in it."""
    leavings = shutil.ignore_patterns(
        *(".git", ".venv", "build", "dist", "target", "node_modules"),
        *("*.egg-info", "*.duckdb", "__pycache__", ".*_cache", ".hypothesis"),
    )
    shutil.copytree(ROOT, target, symlinks=True, ignore=leavings)
    return target


def _run(*command: str | Path, cwd: Path) -> str:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the source distribution and the wheel that was built from it."""
    folder = tmp_path_factory.mktemp("packaging")
    checkout = _copy_of_checkout(folder / "checkout")
    built = folder / "dist"
    _run(sys.executable, "-m", "build", "--no-isolation", "--outdir", built, cwd=checkout)
    return built


@pytest.fixture(scope="module")
def wheel(distributions: Path) -> Path:
    """The wheel."""
    (found,) = distributions.glob("*.whl")
    return found


def _package_folders() -> dict[str, Path]:
    """Every folder with Python files below the package folders, by the name it installs under."""
    folders: dict[str, Path] = {}
    for source, name in SOURCES.items():
        for module in (ROOT / source).rglob("*.py"):
            inside = module.parent.relative_to(ROOT / source)
            if not module.parent.is_symlink():
                folders[".".join((name, *inside.parts))] = module.parent
    return folders


def test_pyproject_lists_every_package_on_disk() -> None:
    assert sorted(SETUPTOOLS["packages"]) == sorted(_package_folders())
    assert SETUPTOOLS["package-dir"] == {name: source for source, name in SOURCES.items()}


def test_every_package_has_an_init() -> None:
    assert [
        name for name, path in _package_folders().items() if not (path / "__init__.py").exists()
    ] == []


def test_the_links_for_type_checkers_point_at_the_packages() -> None:
    for source in ("schemas", "sinks", "streams"):
        link = ROOT / "marlin" / source
        assert link.is_symlink()
        assert link.resolve() == ROOT / source


def test_the_wheel_holds_every_file_of_the_packages(wheel: Path) -> None:
    expected = {
        f"{name.replace('.', '/')}/{path.relative_to(folder)}"
        for name, folder in _package_folders().items()
        for path in folder.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    }
    found = {name for name in zipfile.ZipFile(wheel).namelist() if ".dist-info/" not in name}

    assert "marlin/py.typed" in found
    assert "marlin/schemas/generated/asyncapi.json" in found
    assert found == expected


def test_the_wheel_installs_one_top_level_package_and_the_licence(wheel: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()

    assert {name.partition("/")[0] for name in names} == {
        "marlin",
        f"marlin_carbon-{PYPROJECT['project']['version']}.dist-info",
    }
    assert any(name.endswith(".dist-info/licenses/LICENSE") for name in names)


def test_the_source_distribution_holds_what_the_wheel_is_built_from(distributions: Path) -> None:
    (archive,) = distributions.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        names = {name.partition("/")[2] for name in opened.getnames()}

    assert {
        "pyproject.toml",
        "LICENSE",
        "README.md",
        "schemas/usage.py",
        "marlin/py.typed",
    } <= names
    assert {"schemas/generated/asyncapi.json", "streams/transport.py", "sinks/__init__.py"} <= names


def test_the_wheel_alone_meters_without_faust_or_duckdb(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "environment"
    venv.create(environment, with_pip=False)
    python = environment / "bin" / "python"
    pins = tmp_path / "pins.txt"
    # pip takes hashes as a demand for hashes of everything, our own wheel included.
    lock = (ROOT / "requirements.lock").read_text()
    pins.write_text("\n".join(re.findall(r"^[a-z][^\s\\]*==[^\\\n]*", lock, re.MULTILINE)))
    _run(
        *(sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check"),
        *("install", "--quiet", "--only-binary", ":all:", "--constraint", pins, wheel),
        cwd=tmp_path,
    )

    located = _run(python, "-I", "-c", CHECK_CORE, cwd=tmp_path)

    assert Path(located.strip()).is_relative_to(environment)
    command = subprocess.run(
        [environment / "bin" / "marlin", "--help"], capture_output=True, text=True, check=False
    )
    assert command.returncode == 1
    assert "marlin-carbon[pipeline]" in command.stderr
    assert "Traceback" not in command.stderr


def test_versions_agree() -> None:
    from marlin import __version__

    assert PYPROJECT["project"]["version"] == __version__
    assert f"marlin-carbon:{__version__}" in (ROOT / "docker-compose.kafka.yml").read_text()


def _tracked_texts() -> dict[str, str]:
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout: what is tracked is unknown")
    texts: dict[str, str] = {}
    for name in _run("git", "ls-files", "-z", cwd=ROOT).split("\0"):
        path = ROOT / name
        if name and path.is_file() and not path.is_symlink():
            raw = path.read_bytes()
            if b"\0" not in raw:
                texts[name] = raw.decode()
    return texts


def test_tracked_files_name_no_package_index_and_no_path_of_this_machine() -> None:
    hosts = [
        ".".join(parts)
        for parts in (
            ("pypi", "org"),
            ("pythonhosted", "org"),
            ("npmjs", "org"),
            ("repo1", "maven"),
            ("repo", "maven"),
            ("crates", "io"),
            ("proxy", "golang"),
            ("deb", "debian"),
        )
    ]
    places = [f"{ROOT}/", f"{Path.home()}/"]
    texts = _tracked_texts()
    found = [
        (name, text)
        for name, content in texts.items()
        for text in (*hosts, *places)
        if text in content
    ]

    assert "requirements.lock" in texts
    assert found == []


def test_locks_pin_everything_by_hash() -> None:
    for lock in ("requirements.lock", "requirements/pipeline.lock", "requirements/uv.lock"):
        pinned = re.split(r"\n(?=\S)", (ROOT / lock).read_text().strip())
        assert len(pinned) >= 1
        for entry in pinned:
            assert re.match(r"[a-z0-9.-]+(\[[a-z,]+\])?==\S+", entry), entry[:80]
            assert "--hash=sha256:" in entry, entry[:80]


def test_the_lock_holds_every_declared_dependency() -> None:
    def names(requirements: list[str]) -> set[str]:
        return {re.split(r"[\[<>=;~! ]", requirement)[0].lower() for requirement in requirements}

    project = PYPROJECT["project"]
    run = names([*project["dependencies"], *project["optional-dependencies"]["pipeline"]])
    every = run | names(PYPROJECT["dependency-groups"]["dev"])
    pattern = re.compile(r"^([a-z0-9-]+)(?:\[[a-z,]+\])?==", re.MULTILINE)

    assert every <= set(pattern.findall((ROOT / "requirements.lock").read_text()))
    pipeline = set(pattern.findall((ROOT / "requirements/pipeline.lock").read_text()))
    assert run <= pipeline
    assert not {"pytest", "mypy", "ruff"} & pipeline
