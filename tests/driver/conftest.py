"""The command line, called in this process: to start one of its own takes seconds."""

import signal
from types import SimpleNamespace

import pytest

from attn_book.driver import cli


@pytest.fixture(autouse=True)
def own_sigterm():
    """A command makes SIGTERM end like Ctrl-C; the process of the tests is none."""
    handler = signal.getsignal(signal.SIGTERM)
    yield
    signal.signal(signal.SIGTERM, handler)


@pytest.fixture
def attn_book(monkeypatch, capsys):
    """A function that gives a command: what a process would leave of ``subprocess.run``."""

    def run(*arguments, **environment):
        capsys.readouterr()
        with monkeypatch.context() as patched:
            for name, value in environment.items():
                patched.setenv(name, value)
            code = cli.main([*map(str, arguments)])
        said = capsys.readouterr()
        return SimpleNamespace(returncode=code, stdout=said.out, stderr=said.err)

    return run
