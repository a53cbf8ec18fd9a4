"""Distribution of the tests over processes, timing, and recordings shared by recipes."""

import os
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import hypothesis
import pytest
from fork_server import Server

# Read when torch is loaded. More threads are not faster at toy size, and spin if tests share the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

# A busy machine must not fail a test.
hypothesis.settings.register_profile("suite", deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow])
hypothesis.settings.load_profile("suite")

HERE = Path(__file__).resolve().parent
SHOWN = 10  # slowest files
# Files that share a toy run, or a process that others are forked from, run in one process.
TOGETHER = {
    f"tests/matrices/test_{name}_matrix.py": "tests/matrices" for name in ("abuse", "determinism", "kill", "safety")
}
SERVER = pytest.StashKey[Server]()


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Sorts the slowest tests first, so that the processes end together."""
    heavy = (HERE, HERE / "matrices")
    items.sort(key=lambda item: item.path.parent not in heavy)


def pytest_collection_finish(session: pytest.Session) -> None:
    """Starts the fork server before anything is computed."""
    if not session.config.option.collectonly and any("server" in item.fixturenames for item in session.items):
        session.config.stash[SERVER] = Server(Path(tempfile.mkdtemp()))


def pytest_sessionfinish(session: pytest.Session) -> None:
    server = session.config.stash.get(SERVER, None)
    if server:
        server.close()
        shutil.rmtree(server.folder)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log):
    """Distributes whole files, or groups of files, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Files(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            file = nodeid.partition("::")[0]
            return TOGETHER.get(file, file)

    config.option.loadscopereorder = False
    return Files(config, log)


def pytest_terminal_summary(terminalreporter) -> None:
    """Reports the slowest files, including fixtures."""
    seconds: Counter[str] = Counter()
    for reports in terminalreporter.stats.values():
        for report in reports:
            if isinstance(report, pytest.TestReport):
                seconds[report.nodeid.partition("::")[0]] += report.duration
    if len(seconds) > 1:
        terminalreporter.section(f"slowest files of {len(seconds)}, {seconds.total():.0f} s in all")
        for file, taken in seconds.most_common(SHOWN):
            terminalreporter.write_line(f"{taken:7.1f} s  {file}")


@pytest.fixture(scope="session")
def recordings(tmp_path_factory) -> Path:
    """Simulated machines of the default run, ten clips of half a second each."""
    from system.corpora.simulation.synthetic import SyntheticSettings, synthesize

    folder = tmp_path_factory.mktemp("recordings") / "data"
    synthesize(folder, SyntheticSettings(train_source=4, train_target=2, test=1, shorten=12.0, rt60=0.1), seed=0)
    return folder


@pytest.fixture(scope="session")
def server(pytestconfig) -> Server:
    """Starts command lines in forked processes that need no imports."""
    return pytestconfig.stash[SERVER]
