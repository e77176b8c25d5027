"""Environments made by real uv from small wheels, and what is said when that fails."""

from __future__ import annotations

import os
import platform
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import pytest
from torchskew.errors import ProvisionError
from torchskew.model.versions import Source, SourceKind, Version
from torchskew.runtimes.venv import runtime as venv_module
from torchskew.runtimes.venv import uv as uv_module
from torchskew.runtimes.venv.runtime import VenvRuntime

from tests.conftest import ROOT, Silent, write_wheel

pytestmark = pytest.mark.slow


@pytest.fixture
def wheels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of wheels, the only place that uv may look at."""
    folder = tmp_path / "wheels"
    folder.mkdir()
    for name in [each for each in os.environ if each.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("UV_FIND_LINKS", str(folder))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("UV_PYTHON_DOWNLOADS", "never")
    return folder


@pytest.fixture
def runtime(tmp_path: Path):
    made = VenvRuntime(tmp_path / "store")
    yield made
    made.close()


def pip(requirement: str = "torch==9.9.0", name: str = "new", **more) -> Version:
    return Version(name=name, sources=(Source(kind=SourceKind.PIP, value=requirement, **more),))


def wheel(path: Path) -> Version:
    return Version(name="new", sources=(Source(kind=SourceKind.WHEEL, value=str(path)),))


def interpreter(path: str) -> Version:
    return Version(name="new", sources=(Source(kind=SourceKind.INTERPRETER, value=path),))


def refuse_to_run() -> str:
    raise AssertionError("uv was called")


def environments(runtime: VenvRuntime) -> list[Path]:
    return list((runtime._store.folder / "envs").glob("*"))


def test_a_requirement_becomes_an_environment_whose_python_imports_it(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    made = runtime.provision(pip(), progress)
    said = subprocess.check_output([made.handle, "-c", "import torch; print(torch.__version__)"])
    assert said == b"9.9.0\n"
    assert (made.reports, made.version, made.runtime) == ("9.9.0", "new", "venv")
    assert made.note.startswith("torch 9.9.0, Python 3.")
    assert len(made.identity) == 64
    assert [text for _, text in progress.steps] == ["resolving", "unpacking", "importing torch once"]


def test_a_complete_environment_is_reused_without_a_step_and_without_uv(runtime, wheels, progress, monkeypatch) -> None:
    write_wheel(wheels)
    first = runtime.provision(pip(), progress)
    monkeypatch.setattr(uv_module, "binary", refuse_to_run)
    again = VenvRuntime(runtime._store.folder)
    quiet = Silent()
    assert again.provision(pip(), quiet) == first
    assert quiet.steps == []
    again.close()


def test_the_same_lock_gives_the_same_identity_and_another_wheel_another(runtime, wheels, progress, tmp_path) -> None:
    path = write_wheel(wheels)
    one = runtime.provision(pip(), progress)
    other = VenvRuntime(tmp_path / "other")
    assert other.provision(pip(), progress).identity == one.identity
    write_wheel(path.parent, source="__version__ = '9.9.0'\nfrom torch import version\nx = 1\n")
    third = VenvRuntime(tmp_path / "third")
    assert third.provision(pip(), progress).identity != one.identity
    other.close()
    third.close()


def test_a_local_wheel_is_installed_and_a_rebuilt_one_is_installed_anew(runtime, wheels, progress, tmp_path) -> None:
    path = write_wheel(tmp_path)
    one = runtime.provision(wheel(path), progress)
    write_wheel(tmp_path, source="__version__ = '9.9.0+rebuilt'\nfrom torch import version\n")
    os.utime(path, ns=(1, 1))
    two = runtime.provision(wheel(path), progress)
    assert (one.reports, two.reports) == ("9.9.0", "9.9.0+rebuilt")
    assert one.identity != two.identity


def test_requirements_beside_torch_are_installed_too(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    write_wheel(wheels, "1.0", name="numpy")
    made = runtime.provision(pip(requires=("numpy<2",)), progress)
    assert "2 packages" in made.note
    assert (made.python, made.numpy) == (platform.python_version(), "1.0")
    with pytest.raises(ProvisionError, match="that release does not exist.*numpy"):
        runtime.provision(pip(requires=("numpy>2",)), progress)


def test_an_interpreter_is_asked_once_until_its_torch_changes(runtime, wheels, progress, monkeypatch) -> None:
    write_wheel(wheels)
    python = runtime.provision(pip(), progress).handle
    one = runtime.provision(interpreter(python), progress)
    asked = []
    real = venv_module.probed
    monkeypatch.setattr(venv_module, "probed", lambda *words: asked.append(words[1]) or real(*words))
    assert runtime.provision(interpreter(python), progress) == one
    assert asked == ["look"]
    init = next(Path(python).parent.parent.glob("lib/*/site-packages/torch/__init__.py"))
    init.write_text("__version__ = '9.10.1'\nfrom torch import version\n")
    assert runtime.provision(interpreter(python), progress).reports == "9.10.1"
    assert asked == ["look", "look", "import"]


def test_any_changed_file_of_an_interpreters_torch_makes_it_another_one(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    python = runtime.provision(pip(), progress).handle
    before = runtime.provision(interpreter(python), progress).identity
    assert runtime.provision(interpreter(python), progress).identity == before
    folder = next(Path(python).parent.parent.glob("lib/*/site-packages/torch"))
    (folder / "distributed.py").write_text("broken = True\n")
    assert runtime.provision(interpreter(python), progress).identity != before


def test_a_release_that_does_not_exist_is_said_so(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    with pytest.raises(ProvisionError, match=r'versions."new" \(torch==8.8.8\): that release does not exist'):
        runtime.provision(pip("torch==8.8.8"), progress)
    assert environments(runtime) == []


def test_a_name_that_no_index_knows_is_said_so(runtime, wheels, progress) -> None:
    with pytest.raises(ProvisionError, match="no index knows that name. Correct the name"):
        runtime.provision(pip("torchh==2.0"), progress)


def test_a_text_that_is_no_requirement_is_said_so(runtime, wheels, progress) -> None:
    with pytest.raises(ProvisionError, match=r'it is not a requirement: .* Write it like "torch==2.6.0"'):
        runtime.provision(pip("torch=2"), progress)


def test_a_file_that_is_no_zip_is_no_wheel(runtime, wheels, progress, tmp_path) -> None:
    path = tmp_path / "torch-9.9.0-py3-none-any.whl"
    path.write_text("junk")
    with pytest.raises(ProvisionError, match="it is not a wheel. Build or download it again"):
        runtime.provision(wheel(path), progress)


def test_a_wheel_with_a_name_that_is_none_is_no_wheel(runtime, wheels, progress, tmp_path) -> None:
    path = tmp_path / "torch.whl"
    path.write_text("junk")
    with pytest.raises(ProvisionError, match="it is not a wheel"):
        runtime.provision(wheel(path), progress)


def test_a_wheel_for_another_platform_does_not_fit(runtime, wheels, progress, tmp_path) -> None:
    path = write_wheel(tmp_path, tag="cp311-cp311-win_amd64")
    with pytest.raises(ProvisionError, match="no wheel fits"):
        runtime.provision(wheel(path), progress)


def test_a_release_without_a_wheel_for_any_python_here_names_the_fix(runtime, wheels, progress) -> None:
    write_wheel(wheels, tag="cp36-cp36m-manylinux2014_x86_64")
    words = "no wheel fits any Python on this machine. Install a Python that it was built"
    with pytest.raises(ProvisionError, match=words):
        runtime.provision(pip(), progress)


def test_a_wheel_that_is_not_there_is_said_so(runtime, wheels, progress, tmp_path) -> None:
    with pytest.raises(ProvisionError, match="No such file or directory. Build the wheel, or correct its path"):
        runtime.provision(wheel(tmp_path / "torch-1-py3-none-any.whl"), progress)


def test_an_interpreter_without_torch_is_said_so(runtime, wheels, progress) -> None:
    with pytest.raises(ProvisionError, match="`import torch` fails: there is no torch in it. See it with: "):
        runtime.provision(interpreter(sys.executable), progress)


@pytest.mark.parametrize("path", ["/nowhere/bin/python", "/tmp", "/etc/passwd"])
def test_a_path_that_is_no_interpreter_is_said_so(runtime, wheels, progress, path) -> None:
    with pytest.raises(ProvisionError, match="there is no interpreter at that path. Write the absolute path"):
        runtime.provision(interpreter(path), progress)


def test_a_python_that_is_not_here_is_said_so(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    with pytest.raises(ProvisionError, match="that Python is not installed. Install it"):
        runtime.provision(pip(python="3.7"), progress)


def test_a_torch_that_does_not_import_leaves_no_environment(runtime, wheels, progress) -> None:
    write_wheel(wheels, source="raise ImportError('libcudart.so.12: cannot open shared object file')")
    with pytest.raises(ProvisionError, match="`import torch` fails: ImportError: libcudart.so.12"):
        runtime.provision(pip(), progress)
    assert environments(runtime) == []


def test_an_import_that_never_ends_is_given_up(runtime, wheels, progress, monkeypatch) -> None:
    write_wheel(wheels, source="import threading; threading.Event().wait()")
    monkeypatch.setattr("torchskew.runtimes.venv.probe._PATIENCE", 0.5)
    with pytest.raises(ProvisionError, match=r"`import torch` took over 0\.5 s"):
        runtime.provision(pip(), progress)


def test_another_release_than_declared_is_said_so(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    version = Version(name="new", sources=pip().sources, reports="9.8.0")
    with pytest.raises(ProvisionError, match=r"reports torch 9.9.0, but 9.8.0 is declared"):
        runtime.provision(version, progress)


def test_a_local_part_of_the_release_does_not_matter(runtime, wheels, progress) -> None:
    write_wheel(wheels, "9.9.0+cpu")
    version = Version(name="new", sources=pip().sources, reports="9.9.0+cu124")
    assert runtime.provision(version, progress).reports == "9.9.0+cpu"


def test_a_source_for_containers_names_the_runtime_that_can(runtime, progress) -> None:
    version = Version(name="old", sources=(Source(kind=SourceKind.DEBIAN, value="trixie"),))
    with pytest.raises(ProvisionError, match=r'versions."old" comes from debian, which .* Use --runtime docker'):
        runtime.provision(version, progress)


def test_the_first_source_that_fits_is_taken(runtime, wheels, progress) -> None:
    write_wheel(wheels)
    sources = (Source(kind=SourceKind.DEBIAN, value="trixie"), *pip().sources)
    assert runtime.provision(Version(name="both", sources=sources), progress).reports == "9.9.0"


def test_an_index_that_is_not_reached_is_said_so(runtime, wheels, progress, monkeypatch) -> None:
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("UV_DEFAULT_INDEX", "http://127.0.0.1:9/simple")
    monkeypatch.setenv("UV_HTTP_RETRIES", "0")
    with pytest.raises(ProvisionError, match="the index can't be reached. Check the network and HTTPS_PROXY"):
        runtime.provision(pip("other==1"), progress)


def test_a_full_disk_is_said_so(wheels, tmp_path) -> None:
    write_wheel(wheels, **{"torch/big.bin": "x" * 20_000_000})
    write_wheel(wheels, "1.0", name="beside", **{"beside/large.bin": "x" * 1_000_000})
    store = tmp_path / "small"
    store.mkdir()
    program = f"""
        from pathlib import Path
        from torchskew.errors import ProvisionError
        from tests.conftest import Silent
        from tests.runtimes.venv.test_runtime import pip
        from torchskew.runtimes.venv.runtime import VenvRuntime
        try:
            VenvRuntime(Path({str(store)!r})).provision(pip(requires=("beside==1.0",)), Silent())
        except ProvisionError as error:
            print(error)
        large = [path.name for path in Path({str(store)!r}).rglob("*.bin")]
        print("left", large)
    """
    mount = f'mount -t tmpfs -o size=4m none {store} && exec {sys.executable} -c "$1"'
    command = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c", mount, "sh", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=False)
    if "unshare" in done.stderr or "mount" in done.stderr:
        pytest.skip(f"no private mounts here: {done.stderr}")
    assert "the disk is full. Free space in" in done.stdout, done.stdout + done.stderr
    assert "left []" in done.stdout


def test_two_runs_at_once_make_an_environment_once(wheels, tmp_path) -> None:
    write_wheel(wheels, source="import time; time.sleep(0.3)\n__version__ = '9.9.0'\nfrom torch import version\n")
    store = tmp_path / "store"
    program = textwrap.dedent(f"""
        import sys
        from pathlib import Path
        from tests.conftest import Silent
        from tests.runtimes.venv.test_runtime import pip
        from torchskew.runtimes.venv.runtime import VenvRuntime
        progress, runtime = Silent(), VenvRuntime(Path({str(store)!r}))
        made = runtime.provision(pip(), progress)
        print(made.reports, sum(text.startswith("importing") for _, text in progress.steps), flush=True)
        sys.stdin.read()
    """)
    command = [sys.executable, "-c", program]
    pipe = subprocess.PIPE
    runs = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, cwd=ROOT) for _ in range(3)]
    said = [run.stdout.readline().split() for run in runs]
    for run in runs:
        run.communicate("")
    assert [words[0] for words in said] == ["9.9.0"] * 3
    assert sum(int(words[1]) for words in said) == 1


def test_a_run_killed_while_making_leaves_nothing_that_counts_as_whole(wheels, tmp_path, progress) -> None:
    write_wheel(wheels, source="print('importing', flush=True); import time; time.sleep(60)")
    store = tmp_path / "store"
    program = textwrap.dedent(f"""
        from pathlib import Path
        from tests.runtimes.venv.test_runtime import pip
        from torchskew.runtimes.venv.runtime import VenvRuntime
        class Told:
            def say(self, text): pass
            def step(self, version, text, done=0, total=0): print(text, flush=True)
        VenvRuntime(Path({str(store)!r})).provision(pip(), Told())
    """)
    command = [sys.executable, "-c", program]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=ROOT, start_new_session=True) as run:
        for line in run.stdout:
            if line.startswith("importing"):
                break
        os.killpg(run.pid, signal.SIGKILL)
    assert len(list((store / "envs").glob("*/bin/python"))) == 1
    write_wheel(wheels)
    runtime = VenvRuntime(store)
    assert runtime.provision(pip(), progress).reports == "9.9.0"
    runtime.close()


def test_eviction_takes_the_longest_unused_and_never_one_in_use(runtime, wheels, progress, monkeypatch) -> None:
    for release in ("9.1.0", "9.2.0", "9.3.0"):
        write_wheel(wheels, release)
        runtime.provision(pip(f"torch=={release}"), progress)
    runtime.close()
    user = VenvRuntime(runtime._store.folder)
    user.provision(pip("torch==9.1.0"), progress)
    gone = runtime.evict(0)
    assert sorted(line.partition(",")[0] for line in gone) == ["torch 9.2.0", "torch 9.3.0"]
    user.close()
    assert [line.partition(",")[0] for line in runtime.evict(0)] == ["torch 9.1.0"]
    kept = [path for path in (runtime._store.folder / "uv").rglob("*") if "torch" in path.name and path.is_dir()]
    assert kept == []
    assert runtime.clear() == ()
    assert environments(runtime) == []
    assert runtime.provision(pip("torch==9.2.0"), progress).reports == "9.2.0"


def test_eviction_stops_where_the_rest_fits(runtime, wheels, progress) -> None:
    for release in ("9.1.0", "9.2.0", "9.3.0"):
        write_wheel(wheels, release)
        runtime.provision(pip(f"torch=={release}"), progress)
    runtime.close()
    assert [made.reports for made, _ in runtime._store._by_use()] == ["9.1.0", "9.2.0", "9.3.0"]
    assert runtime.evict(runtime._store.used()) == ()
    gone = runtime.evict(runtime._store.used() - 1)
    assert [line.partition(",")[0] for line in gone] == ["torch 9.1.0"]


def test_room_is_made_for_what_is_to_come_and_never_by_what_is_about_to_be_used(runtime, wheels, progress) -> None:
    for release in ("9.1.0", "9.2.0", "9.3.0"):
        write_wheel(wheels, release)
    for release in ("9.1.0", "9.2.0"):
        runtime.provision(pip(f"torch=={release}"), progress)
    runtime.close()
    bound = runtime._store.used()
    room = runtime.room([pip("torch==9.1.0", name="old"), pip("torch==9.3.0")])
    assert room.wanted()["old"] > 0
    with zipfile.ZipFile(next(wheels.glob("torch-9.3.0*"))) as new:
        assert room.wanted()["new"] == sum(member.file_size for member in new.infolist())
    assert room.make(bound + room.wanted()["new"]) == ()
    assert [line.partition(",")[0] for line in room.make(bound)] == ["torch 9.2.0"]
    assert room.make(0) == ()
    assert room.most(0) - room.most(1000) == pytest.approx(1000, abs=10**7)


def test_it_answers_where_uv_is_and_says_where_environments_are(runtime, monkeypatch) -> None:
    assert runtime.answers() is None
    assert runtime.describe().startswith("uv ")

    def gone() -> str:
        raise FileNotFoundError("uv")

    monkeypatch.setattr(venv_module, "binary", gone)
    assert "pip install uv" in runtime.answers()


def test_the_index_is_asked_for_the_doctor(runtime, wheels) -> None:
    assert "no index knows that name" in runtime.index_answers()
    write_wheel(wheels)
    assert runtime.index_answers() is None


# Builds itself without an index: a project whose build backend is in its own folder.
BACKEND = """
import zipfile

def build_wheel(folder, settings=None, metadata=None):
    name, info = "mylib-1.0-py3-none-any.whl", "mylib-1.0.dist-info"
    with zipfile.ZipFile(f"{folder}/{name}", "w") as wheel:
        wheel.write("src/mylib.py", "mylib.py")
        wheel.writestr(f"{info}/METADATA", "Metadata-Version: 2.1\\nName: mylib\\nVersion: 1.0\\n")
        tags = "Root-Is-Purelib: true\\nTag: py3-none-any\\n"
        wheel.writestr(f"{info}/WHEEL", f"Wheel-Version: 1.0\\nGenerator: t\\n{tags}")
        wheel.writestr(f"{info}/RECORD", "")
    return name
"""


def test_a_change_in_a_local_projects_sources_is_installed(runtime, wheels, progress, tmp_path: Path) -> None:
    """uv alone would install what it built before: it looks at pyproject.toml only."""
    write_wheel(wheels)
    project = tmp_path / "mylib"
    (project / "src").mkdir(parents=True)
    (project / "backend.py").write_text(BACKEND)
    build = '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    (project / "pyproject.toml").write_text(f'{build}[project]\nname = "mylib"\nversion = "1.0"\n')
    seen = []
    for number in ("1", "2"):
        (project / "src" / "mylib.py").write_text(f"X = {number}\n")
        made = runtime.provision(pip(requires=(str(project),)), progress)
        said = subprocess.check_output([made.handle, "-c", "import mylib; print(mylib.X)"], text=True)
        seen.append((made.identity, said.strip()))
    assert [said for _, said in seen] == ["1", "2"]
    assert seen[0][0] != seen[1][0]
