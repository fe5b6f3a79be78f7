"""Whole `reproduce` commands, real processes all of them, while things go wrong around them."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import psutil
import pytest

from attn_book.__main__ import main
from attn_book.driver import pages
from attn_book.driver.processes import WorkerError
from attn_book.language import LANGUAGES, in_language
from attn_book.records.run import Run

# The command line with small pages in place of the book's.
DRIVER = """
import runpy, sys
from pathlib import Path
from attn_book.driver import pages
pages.NOTEBOOKS = Path(sys.argv.pop(1))
runpy.run_module("attn_book", run_name="__main__")
"""
# Ctrl-C ends the command within so many seconds, where Python starts at once.
PATIENCE = 5


def write_page(folder, *sources):
    """A notebook that stands in for the page on SGE."""
    folder.mkdir(exist_ok=True)
    parameters = nbformat.v4.new_code_cell("profile = None", metadata={"tags": ["parameters"]})
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    cells = [parameters, *map(nbformat.v4.new_code_cell, sources or ["print(profile)"])]
    notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
    nbformat.write(notebook, folder / "04_sge.ipynb")
    return folder


def arguments(data_dir, results_dir, epochs=1, jobs=2, command="reproduce"):
    given = [
        command,
        "sge",
        "--profile",
        "smoke",
        "--epochs",
        epochs,
        "--jobs",
        jobs,
        "--data-dir",
        data_dir,
        "--results-dir",
        results_dir,
    ]
    return [str(value) for value in given]


def start(pages, *folders, **options):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, str(pages), *arguments(*folders, **options)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
        # A shell's background jobs ignore Ctrl-C, and so would everything that they start.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )


@pytest.fixture
def finish(monkeypatch, capfd):
    """Runs a command in this process (its workers have their own): exit code, and what it said."""

    def run(notebooks, *folders, **options):
        monkeypatch.setattr(pages, "NOTEBOOKS", notebooks)
        code = main(arguments(*folders, **options))
        return code, "".join(capfd.readouterr())

    return run


def wait_until(condition, seconds=300):
    """The first true answer of ``condition``."""
    deadline = time.monotonic() + seconds
    while not (answer := condition()):
        assert time.monotonic() < deadline, "nothing happened"
        time.sleep(0.02)
    return answer


def runs(results_dir):
    return [Run(path) for path in sorted((results_dir / "smoke" / "runs").glob("*/"))]


def made(results_dir):
    """When every run was finished, by its name."""
    return {
        run.folder.name: (run.folder / "metrics.json").stat().st_mtime_ns
        for run in runs(results_dir)
        if run.status == "finished"
    }


def leftovers(folder):
    return [path for path in folder.rglob(".*") if path.suffix in (".tmp", ".ipynb")]


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """Results with both runs of the page finished, and no page."""
    folder = tmp_path_factory.mktemp("trained")
    assert main(arguments(data_dir, folder, command="train")) == 0
    return folder


@pytest.fixture
def results_dir(trained, tmp_path):
    """A copy of ``trained`` that a test may damage."""
    return shutil.copytree(trained, tmp_path / "results")


# A full disk -------------------------------------------------------------------------------------


def test_a_full_disk_loses_nothing_and_the_same_command_goes_on(
    data_dir, tmp_path, small_disk, finish, trained
):
    notebooks = write_page(tmp_path / "pages", "print('x' * 3_000_000)")
    results_dir, remount = small_disk
    remount("size=1800k")  # room for one run of two, which is there
    plain = runs(trained)[0].folder
    shutil.copytree(plain, results_dir / plain.relative_to(trained))
    first = made(results_dir)
    code, output = finish(notebooks, data_dir, results_dir, jobs=1)
    assert code == 2, output
    assert "Traceback" not in output
    assert f"no room left for {results_dir}/smoke/runs/shapes-sge_resnet50-" in output
    assert re.search(r"it needs 0\.\d+ MB, 0\.\d+ MB are free \(No space left on dev", output)
    assert "make room and give the same command again" in output
    assert "1 of 2 runs are finished" in output
    assert made(results_dir) == first
    assert leftovers(results_dir) == []

    remount("size=4500k")  # for both, but not for the page
    code, output = finish(notebooks, data_dir, results_dir, jobs=1)
    assert code == 2, output
    assert f"no room left for {results_dir}/smoke/notebooks/" in output
    assert "2 of 2 runs are finished" in output
    both = made(results_dir)
    assert first.items() < both.items()
    assert leftovers(results_dir) == []

    remount("size=64m")
    code, output = finish(notebooks, data_dir, results_dir, jobs=1)
    assert code == 0, output
    assert "2 of them finished" in output
    assert made(results_dir) == both
    assert (results_dir / "smoke/notebooks/04_sge.ipynb").exists()
    assert (results_dir / "smoke/summary.csv").read_text().count("finished") == 2


# Two at once -------------------------------------------------------------------------------------


def test_two_at_once_share_the_work(data_dir, tmp_path):
    notebooks = write_page(tmp_path / "pages", "import time\ntime.sleep(2)")
    results_dir = tmp_path / "results"
    # Training takes longer than one driver can be behind the other.
    drivers = [start(notebooks, data_dir, results_dir, jobs=1, epochs=30) for _ in range(2)]
    seen = {}

    def all_ended():
        # A run's record is written when its training starts, its metrics when it is finished.
        for pattern in ("*/experiment.json", "*/metrics.json", "../notebooks/0*.ipynb"):
            for path in (results_dir / "smoke/runs").glob(pattern):
                json.loads(path.read_text())
                seen.setdefault(path, set()).add(path.stat().st_mtime_ns)
        return all(driver.poll() is not None for driver in drivers)

    wait_until(all_ended, 900)
    outputs = [driver.communicate()[0] for driver in drivers]
    assert [driver.returncode for driver in drivers] == [0, 0], outputs
    assert len(seen) == 5
    assert {len(times) for times in seen.values()} == {1}  # nothing was made twice
    assert not leftovers(results_dir)
    started = [(run.folder / "experiment.json").stat().st_mtime for run in runs(results_dir)]
    ended = [(run.folder / "metrics.json").stat().st_mtime for run in runs(results_dir)]
    assert max(started) < min(ended)  # side by side
    for output in outputs:
        assert "[ 2/2]" in output
        assert "Done in" in output


# Interruptions -----------------------------------------------------------------------------------


def family(process):
    return psutil.Process(process.pid).children(recursive=True)


def patience():
    """Seconds that an end may take: more on a machine so busy that even Python starts slowly."""
    begun = time.monotonic()
    subprocess.run([sys.executable, "-S", "-c", ""], check=True)
    return max(PATIENCE, 200 * (time.monotonic() - begun))


def assert_gone(processes):
    def alive():
        # One that has ended may wait for a while to be noticed by its new parent.
        return [p for p in processes if p.is_running() and p.status() != psutil.STATUS_ZOMBIE]

    wait_until(lambda: not alive(), patience())


def interrupt(process):
    """Ctrl-C: to all processes of the terminal. Returns what was printed."""
    children, seconds_at_most = family(process), patience()
    begun = time.monotonic()
    os.killpg(process.pid, signal.SIGINT)
    output, _ = process.communicate(timeout=600)
    seconds = time.monotonic() - begun
    print(f"Ctrl-C ended it in {seconds:.1f} s")
    assert seconds < seconds_at_most
    assert process.returncode == 130
    assert "Traceback" not in output
    assert "The same command goes on" in output
    assert_gone(children)
    return output


def test_ctrl_c_while_training(data_dir, tmp_path):
    process = start(tmp_path, data_dir, tmp_path, epochs=50)
    wait_until(lambda: list(tmp_path.glob("smoke/runs/*/last.safetensors")))
    output = interrupt(process)
    assert "Stopped: 0 of 2 runs are finished, the others are saved up to their last" in output


def test_ctrl_c_while_images_are_prepared(tmp_path):
    process = start(tmp_path, tmp_path, tmp_path / "results")
    wait_until(lambda: list(tmp_path.glob(".cache/.shapes.*.tmp/pixels.u8")))
    output = interrupt(process)
    assert "Stopped before the first run" in output
    assert not leftovers(tmp_path)


def test_interrupted_pages_and_half_written_files(data_dir, results_dir, tmp_path, finish):
    plain, sge = (run.folder for run in runs(results_dir))
    smoke, flag = results_dir / "smoke", tmp_path / "kernel"
    source = f"import pathlib, time\npathlib.Path({str(flag)!r}).touch()\ntime.sleep(600)"
    sleeping = write_page(tmp_path / "sleeping", source)

    # A driver that is killed takes its worker and the kernel with it.
    process = start(sleeping, data_dir, results_dir)
    wait_until(flag.exists)
    children = family(process)
    assert len(children) == 2
    process.kill()
    process.communicate()
    assert_gone(children)

    # Damage of every kind, beside what the kill has left.
    (plain / "last.safetensors").write_bytes((plain / "last.safetensors").read_bytes()[:1000])
    (sge / "metrics.json").write_text('{"status": "finished"')
    (smoke / "notebooks/04_sge.ipynb").write_text('{"cells": [')
    rubbish = [
        sge / ".history.csv.x.tmp",
        smoke / "notebooks/.04_sge.ipynb.x.tmp",
        smoke / "figures/.04_sge_curves.png.x.tmp",
    ]
    for path in rubbish:
        path.parent.mkdir(exist_ok=True)
        path.write_text("half")
    flag.unlink()
    process = start(sleeping, data_dir, results_dir)
    wait_until(flag.exists)
    output = interrupt(process)
    assert "Stopped: 2 of 2 runs are finished" in output
    for path, words in {
        plain / "last.safetensors": "is not a complete safetensors file",
        sge / "metrics.json": "is not readable JSON",
        sge / ".history.csv.x.tmp": "was left by an interrupted write; it is removed",
    }.items():
        assert f"{path} {words}" in output

    (smoke / ".summary.csv.x.tmp").write_text("half")
    code, output = finish(write_page(tmp_path / "pages"), data_dir, results_dir)
    assert code == 0, output
    for name in (".summary.csv.x.tmp", "notebooks/.04_sge.partial.ipynb"):
        assert f"{smoke}/{name} was left by an interrupted write; it is removed" in output
    assert not leftovers(results_dir)
    assert [run.status for run in runs(results_dir)] == ["finished", "finished"]
    assert all(run.has_weights for run in runs(results_dir))
    assert nbformat.read(smoke / "notebooks/04_sge.ipynb", as_version=4).cells


@pytest.mark.parametrize("language", LANGUAGES)
def test_damaged_pages_are_named_and_executed_again(tmp_path, language):
    output = in_language(tmp_path / "smoke/notebooks", language) / "04_sge.ipynb"
    rubbish = [
        output.with_name(".04_sge.ipynb.x.tmp"),
        output.with_name(".04_sge.partial.ipynb"),
        in_language(tmp_path / "smoke/figures", language) / ".04_sge_curves.png.x.tmp",
    ]
    for path in (output, *rubbish):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"cells": [')
    problems = pages.set_aside_damaged_page(output)
    assert problems[-1].startswith(f"{output} is not readable JSON")
    for path in rubbish:
        assert f"{path} was left by an interrupted write; it is removed" in problems
    assert not leftovers(tmp_path)
    assert not output.exists()
    assert output.with_name("04_sge.ipynb.damaged").exists()


# Runs that fail ----------------------------------------------------------------------------------

# What a page of the book asks of its runs.
READING = """
from attn_book import plan, runs_of, train_all
from attn_book.analysis import verdicts
from attn_book.training.checkpoint import load_model
page = plan("04_sge", profile, data_dir={data!r}, results_dir={results!r}, epochs=1)
train_all(page)
runs = runs_of(page, "animals10")
print("finished:", [title for title, found in runs.items() if found])
"""


def test_a_kernel_that_is_killed_is_one_sentence(tmp_path):
    kill = "import os, signal\nos.kill(os.getpid(), signal.SIGKILL)"
    source = write_page(tmp_path / "pages", kill) / "04_sge.ipynb"
    output = tmp_path / "notebooks" / source.name
    output.parent.mkdir()
    with pytest.raises(WorkerError) as caught:
        pages.execute_page(str(source), str(output), {}, "key")
    assert str(caught.value).startswith("the notebook's kernel was killed (Kernel died), most")
    assert "\n" not in str(caught.value)
    assert not output.exists()


def test_a_failed_run_stops_no_other_and_stands_on_the_page(
    data_dir, results_dir, tmp_path, finish
):
    plain, sge = runs(results_dir)
    reason = "the loss is not finite in epoch 1, step 2, at learning rate 0.1"
    failed = {"status": "failed", "reason": reason, "epoch": 1, "step": 2}
    (sge.folder / "metrics.json").write_text(json.dumps(failed))
    shutil.rmtree(plain.folder)
    reading = READING.format(data=str(data_dir), results=str(results_dir))
    cells = [reading, "load_model(runs['SGE-ResNet-50'][0])", "verdicts.verdict_text(page)"]
    code, output = finish(write_page(tmp_path / "pages", *cells), data_dir, results_dir)
    assert code == 0, output  # it was known before
    assert f"DIVERGED SGE-ResNet-50 on Animals-10: {reason}" in output
    assert Run(plain.folder).status == "finished"
    page = nbformat.read(results_dir / "smoke/notebooks/04_sge.ipynb", as_version=4)
    printed = [cell.outputs for cell in page.cells if cell.get("outputs")]
    assert printed[0][0].text == "finished: ['ResNet-50']\n"
    assert printed[1][0].text.startswith("Left out, it needs a run that failed. shapes-sge")
    assert f"run failed: {sge.folder.name}: {reason}" in printed[2][0].data["text/markdown"]
    assert ",failed\n" in (results_dir / "smoke/summary.csv").read_text()


OUT_OF_MEMORY = """
import sys
from dataclasses import replace
from pathlib import Path
import attn_book
import attn_blocks
import paddle
from resource import RLIMIT_AS, setrlimit
from attn_book.study import plan
from attn_book.study.experiment import Experiment
from attn_book.study.recipes import PROFILES
data_dir, results_dir = sys.argv[1:]
recipe = replace(PROFILES["smoke"].recipes["animals10"], batch_size=40, image_size=224, width=1.0)
images = plan.load_images("shapes", replace(recipe, image_size=56), data_dir)
plan.load_images = lambda *_: images
experiment = Experiment("shapes", images.fingerprint, "resnet50", recipe, seed=1)
# Paddle 2 loads its maths library with the first convolution: that must not meet the limit.
attn_blocks.create_model("resnet18", num_classes=2, width=0.125)(paddle.ones([1, 3, 32, 32]))
used = int(Path("/proc/self/statm").read_text().split()[0]) * 4096
setrlimit(RLIMIT_AS, (used + 600 * 2**20,) * 2)
attn_book.train_experiment(experiment, results_dir, data_dir, "cpu", progress=False)
"""


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="reads /proc")
def test_memory_that_really_runs_out_is_called_so(data_dir, tmp_path):
    answer = subprocess.run(
        [sys.executable, "-c", OUT_OF_MEMORY, str(data_dir), str(tmp_path)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        timeout=600,
        check=False,
    )
    assert "TrainingError: out of memory at batch size 40; lower" in answer.stderr
