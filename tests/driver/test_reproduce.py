"""The driver: what it trains and executes, takes as it is, and reports."""

import errno
import json
from dataclasses import replace
from functools import partial

import nbformat
import pytest

from attn_blocks.errors import CheckpointError, SettingError, StorageError
from attn_blocks.files import write_json
from attn_blocks.models import published as catalogue
from attn_book.driver import pages, reproduce, schedule, summary
from attn_book.driver.schedule import Schedule, experiments_of, training_task
from attn_book.records import planned, published
from attn_book.records import run as records_run
from attn_book.study.experiment import Experiment
from attn_book.study.pages import GUIDES, PAGES, page_name
from attn_book.study.plan import plan
from attn_book.study.recipes import PROFILES
from attn_book.training import run as training_run

PAGE = "04_sge"


@pytest.fixture
def trained(monkeypatch, write_run):
    """The tasks that a schedule has trained; it finds made-up runs where they would have led."""
    tasks = []

    def train(waiting, jobs, environment, on_progress, on_done):
        for task in waiting:
            tasks.append(task)
            experiment = Experiment.from_dict(task.request["experiment"])
            write_run(task.folder, experiment, weights=True)
            on_done(task, (), None)

    monkeypatch.setattr(schedule, "run_tasks", train)
    return tasks


def test_a_page_is_made_again_once_the_recordings_are_there(data_dir, tmp_path, monkeypatch):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    keys = []
    for folder in ("", str(tmp_path)):
        monkeypatch.setenv("ATTN_REFERENCE_DIR", folder)
        keys += [pages.page_task(page, {}).request["key"] for _ in range(2)]
    assert keys[0] == keys[1] != keys[2] == keys[3]


def test_published_runs_are_taken_or_if_fresh_trained(
    data_dir, tmp_path, monkeypatch, capsys, write_run, trained
):
    folder = tmp_path / "published"
    shared = replace(PROFILES["smoke"], shared=True)
    monkeypatch.setattr(published, "PROFILES", {**PROFILES, "smoke": shared})
    for name in ("import_published_record", "is_done", "is_published", "return_published"):
        patched = partial(getattr(published, name), published=folder)
        for module in (published, reproduce, training_run):
            monkeypatch.setattr(module, name, patched, raising=False)
    settings = {"profile": "smoke", "data_dir": data_dir, "results_dir": tmp_path / "results"}
    page = plan(PAGE, **settings)
    for experiment in page.experiments:
        write_run(folder / "smoke" / "runs" / experiment.name, experiment)
    runs = [planned.run_of(page, experiment) for experiment in page.experiments]

    assert reproduce.reproduce([PAGE], notebooks=False, **settings) == 0
    assert "2 runs taken from book/published" in capsys.readouterr().out
    assert [run.has_weights for run in runs] == [False, False] and trained == []
    assert reproduce.reproduce([PAGE], notebooks=False, fresh=True, **settings) == 0
    assert "2 runs of book/published are trained here instead" in capsys.readouterr().out
    assert [run.has_weights for run in runs] == [True, True]
    assert [task.request["fresh"] for task in trained] == [True, True]


def test_a_page_that_fails_is_reported_and_stops_no_other(
    data_dir, tmp_path, monkeypatch, write_run
):
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    parameters = nbformat.v4.new_code_cell("profile = None", metadata={"tags": ["parameters"]})
    for page, source in ((PAGE, "1 / 0"), ("02_ge", "print(profile)")):
        cells = [parameters, nbformat.v4.new_code_cell(source)]
        kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
        notebook = nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})
        nbformat.write(notebook, notebooks / f"{page}.ipynb")
    monkeypatch.setattr(pages, "NOTEBOOKS", notebooks)
    settings = {"profile": "smoke", "data_dir": data_dir, "results_dir": tmp_path}
    plans = [plan(page, **settings) for page in (PAGE, "02_ge")]
    for experiment in experiments_of(plans):
        write_run(planned.run_of(plans[0], experiment).folder, experiment, weights=True)
    assert Schedule(plans, 1, settings).run() == 1
    made = tmp_path / "smoke" / "notebooks"
    assert {path.name for path in made.glob("0*.ipynb")} == {f"{PAGE}.failed.ipynb", "02_ge.ipynb"}
    assert "ZeroDivisionError" in (made / f"{PAGE}.failed.ipynb").read_text()
    # The next call tries the failed page again, and only that one.
    executed = (made / "02_ge.ipynb").stat().st_mtime_ns
    assert Schedule(plans, 1, settings).run() == 1
    assert (made / "02_ge.ipynb").stat().st_mtime_ns == executed


def test_a_run_that_cannot_be_trained_is_reported_and_stops_no_other(
    data_dir, tmp_path, monkeypatch, capsys
):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path, epochs=1)
    doomed = page.experiments[0].name
    original = schedule.training_task

    def training(settings, experiment, shows_bar):
        settings = replace(settings, device="tpu") if experiment.name == doomed else settings
        return original(settings, experiment, shows_bar)

    monkeypatch.setattr(schedule, "training_task", training)
    assert Schedule([page], 1, None).run() == 1
    assert (
        "FAILED ResNet-50 on Animals-10: unknown device 'tpu'; choose cpu"
        in capsys.readouterr().err
    )
    assert (
        records_run.Run(page.results_dir / "runs" / page.experiments[1].name).status == "finished"
    )


def test_a_page_follows_when_its_runs_have_ended(data_dir, tmp_path, write_run, capsys):
    settings = {"profile": "smoke", "data_dir": data_dir, "results_dir": tmp_path}
    plans = [plan(page, **settings) for page in (PAGE, "02_ge")]
    work = Schedule(plans, 2, settings)
    plain, sge, ge = (experiment.name for experiment in experiments_of(plans))
    tasks = {
        experiment.name: training_task(plans[0], experiment, False)
        for experiment in experiments_of(plans)
    }
    for experiment in experiments_of(plans):
        if experiment.name != sge:
            write_run(tasks[experiment.name].folder, experiment, weights=True)
    assert work._ready_pages() == []
    assert work._on_done(tasks[ge], (), None) == []
    assert [task.title for task in work._on_done(tasks[plain], (), None)] == ["02_ge"]
    # Its notebook would train what could not be trained.
    assert work._on_done(tasks[sge], (), "an error") == []
    assert work._ready_pages() == [] and work.failed_pages == 1
    said = capsys.readouterr()
    assert "[ 3/3] SGE-ResNet-50 on Animals-10: unfinished" in said.out
    assert f"FAILED {PAGE}: left out, it needs SGE-ResNet-50 on Animals-10" in said.err


def test_a_damaged_record_of_a_run_that_is_not_asked_for_blocks_nothing(
    data_dir, tmp_path, write_run, capsys
):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    folder = page.results_dir / "runs" / "shapes-another"
    write_run(folder, page.experiments[0])
    (folder / "experiment.json").write_text('{"dataset": ')
    with pytest.raises(CheckpointError, match="experiment.json is not readable JSON"):
        summary.write_summary(page.results_dir, [page])
    reproduce._put_in_order([page])
    assert f"{folder}/experiment.json is not readable JSON" in capsys.readouterr().err
    summary.write_summary(page.results_dir, [page])
    assert (folder / "experiment.json.damaged").exists()


def test_a_folder_that_is_not_asked_for_and_cannot_be_written_blocks_nothing(
    data_dir, tmp_path, monkeypatch, capsys
):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    runs = page.results_dir / "runs"
    (runs / "shapes-another").mkdir(parents=True)
    (runs / ".DS_Store").touch()

    def locked(folder, **_):
        raise StorageError(f"{folder} cannot be written", OSError(errno.EACCES, ""))

    monkeypatch.setattr(reproduce, "folder_lock", locked)
    reproduce._put_in_order([page])
    assert capsys.readouterr().err == f"{runs / 'shapes-another'} cannot be written\n"
    (runs / page.experiments[0].name).mkdir()
    with pytest.raises(StorageError, match="cannot be written"):
        reproduce._put_in_order([page])


def test_a_run_that_is_known_to_diverge_is_told_and_is_no_failure(
    data_dir, tmp_path, write_run, capsys
):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    for experiment in page.experiments:
        write_run(page.results_dir / "runs" / experiment.name, experiment, weights=True)
    metrics = page.results_dir / "runs" / page.experiments[1].name / "metrics.json"
    write_json(metrics, {"status": "failed", "reason": "the loss is not finite", "epoch": 1})
    assert Schedule([page], 1, None).run() == 0
    assert capsys.readouterr().err == (
        "DIVERGED SGE-ResNet-50 on Animals-10: the loss is not finite (to try it again all the "
        f"same, delete {metrics})\n"
    )
    # One that failed otherwise is tried again.
    write_json(metrics, {"status": "failed", "reason": "out of memory"})
    assert [*Schedule([page], 1, None).missing] == [page.experiments[1].name]


def test_a_run_without_weights_is_announced(data_dir, tmp_path, write_run, capsys):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    write_run(page.results_dir / "runs" / page.experiments[0].name, page.experiments[0])
    reproduce._announce([page], 1)
    assert "1 run without weights: trained again" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("page", "profile", "words"),
    [
        ("own_network", "smoke", "own_network trains nothing; execute it with: attn-book repro"),
        ("unequal", "quick", "unequal is a part of the profile study; choose --profile study"),
        ("pilot", None, "pilot is a part of the profile study"),
        ("annealed", "study", "annealed is a part of the profile paper"),
    ],
)
def test_what_would_train_nothing_or_something_else_is_refused(page, profile, words, tmp_path):
    with pytest.raises(SettingError, match=words):
        reproduce.reproduce([page], notebooks=False, profile=profile, results_dir=tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seeds", ["-1", "one", 2**63])
def test_wrong_seeds(seeds, data_dir, tmp_path):
    with pytest.raises(SettingError, match="seeds must be integers from 0 to 2"):
        plan(PAGE, "smoke", seeds, data_dir, tmp_path)


@pytest.mark.parametrize("threads", ["0", "two", "4,2"])
def test_wrong_threads(threads, monkeypatch):
    monkeypatch.setenv("ATTN_BLOCKS_THREADS", threads)
    with pytest.raises(SettingError, match="ATTN_BLOCKS_THREADS is"):
        schedule._environment(1)


def test_runs_that_two_pages_share_are_trained_once(data_dir, tmp_path):
    settings = {"profile": "smoke", "data_dir": data_dir, "results_dir": tmp_path}
    plans = [plan(page, **settings) for page in PAGES]
    names = [experiment.name for experiment in experiments_of(plans)]
    assert len(names) == len(set(names)) == 17
    assert sum(name.startswith("shapes-resnet50-") for name in names) == 2  # Animals and Caltech


@pytest.mark.parametrize(
    ("name", "page"), [("sge", "04_sge"), ("04_sge", "04_sge"), ("04", "04_sge"), ("01", "01_se")]
)
def test_short_page_names(name, page):
    assert page_name(name) == page


@pytest.mark.parametrize("bad", ["0", "-1", "two"])
def test_wrong_jobs(bad, data_dir, tmp_path):
    page = plan(PAGE, "smoke", data_dir=data_dir, results_dir=tmp_path)
    with pytest.raises(SettingError, match="jobs must be"):
        reproduce.job_count(bad, page)
    assert reproduce.job_count("auto", page) >= 1


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["reproduce", "sgee"], ["unknown page 'sgee'", "04_sge"]),
        (["reproduce", "--profile", "fast"], ["unknown profile 'fast'", "quick"]),
        (["train", "sge", "--profile", "study"], ["data prepare animals10"]),
        (["data", "prepare", "imagenet", "x.zip"], ["imagenet", "animals10"]),
        (["data", "prepare", "cifar10", "absent.zip"], ["absent.zip"]),
    ],
)
def test_wrong_usage_says_what_is_right(attn_book, arguments, words, tmp_path):
    answer = attn_book(
        *arguments, ATTN_BLOCKS_DATA=str(tmp_path), ATTN_BLOCKS_RESULTS=str(tmp_path)
    )
    assert answer.returncode == 2
    for word in words:
        assert word in answer.stderr


def test_the_list_of_models(attn_book, monkeypatch):
    # Each of the others would be counted at its full size, as it is in tests/models.
    monkeypatch.setattr(catalogue, "ROWS", (catalogue.ROWS[1], catalogue.ROWS[-1]))
    answer = attn_book("models")
    assert answer.returncode == 0
    header, first, last = answer.stdout.splitlines()
    assert "reference_params" in header
    assert first.split()[0] == "se_resnet50" and "28,088,024" in first
    assert last.split()[0] == "sa_inception" and "–" in last  # a figure that nobody gives


def test_the_state_of_the_data(attn_book, tmp_path):
    answer = attn_book("data", ATTN_BLOCKS_DATA=str(tmp_path))
    assert answer.returncode == 0
    for word in ("animals10", "caltech16", "cifar10", "shapes", "data prepare"):
        assert word in answer.stdout


def test_notebooks_name_their_kernel_and_parameters():
    paths = sorted(pages.NOTEBOOKS.glob("*.ipynb"))
    assert {path.stem for path in paths} == {*PAGES, *GUIDES}
    for path in paths:
        notebook = json.loads(path.read_text())
        tagged = [c for c in notebook["cells"] if "parameters" in c["metadata"].get("tags", [])]
        assert len(tagged) == (path.stem not in GUIDES), path.name
        for cell in tagged:
            for name in ("profile", "seeds", "data_dir", "results_dir", "device", "epochs"):
                assert f"{name} = None" in "".join(cell["source"]), path.name
        assert notebook["metadata"]["kernelspec"]["name"] == "python3"
