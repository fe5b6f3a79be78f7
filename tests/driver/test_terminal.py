"""What a command shows: titles, bars that move, and nothing that 80 columns would cut."""

import os
from dataclasses import replace

import pytest

from attn_book.driver import terminal
from attn_book.driver.processes import Task
from attn_book.driver.schedule import training_task
from attn_book.study.plan import plan

WIDTH = 80


@pytest.fixture(autouse=True)
def narrow(monkeypatch):
    monkeypatch.setattr(terminal.shutil, "get_terminal_size", lambda: os.terminal_size((WIDTH, 24)))


@pytest.fixture
def page(data_dir, tmp_path):
    return plan("04_sge", "smoke", data_dir=data_dir, results_dir=tmp_path, epochs=2)


def line_of(bar):
    return bar.format_meter(**bar.format_dict | {"ncols": WIDTH})


def test_runs_are_called_as_the_pages_call_their_models(page, data_dir, tmp_path):
    assert [*terminal.titles_of([page]).values()] == [
        "ResNet-50 on Animals-10",
        "SGE-ResNet-50 on Animals-10",
    ]
    several = plan("04_sge", "smoke", seeds="0 1", data_dir=data_dir, results_dir=tmp_path)
    assert [*terminal.titles_of([several]).values()][-1] == (
        "SGE-ResNet-50 on Animals-10, fold 0, seed 1"
    )


def test_the_bar_moves_within_an_epoch_and_then_counts_pages(page):
    experiments = {experiment.name: experiment for experiment in page.experiments}
    tasks = [training_task(page, e, False) for e in page.experiments]
    progress = terminal.Progress(tasks, experiments, 3, workers_show_bars=False)
    first, second = tasks
    first.folder.mkdir(parents=True)
    progress.show(tasks, {}, 0)
    assert progress.epochs.n == 0
    log = "old  90.0%|###|\rResNet-50  10.0%|#   | 00:01<00:09\rResNet-50  30.0%|###  | 00:03<"
    first.log.write_text(log)
    progress.show(tasks, {}, 0)
    assert progress.epochs.n == pytest.approx(0.6)  # of 2 epochs
    assert "0.6/4 epochs" in line_of(progress.epochs)
    assert line_of(progress.epochs).endswith("ResNet-50 0/2, +1")
    (first.folder / "history.csv").write_text("epoch\n1\n")  # the log lags behind
    progress.show([first], {second.title: None}, 0)
    assert progress.epochs.n == 1
    assert line_of(progress.epochs).endswith(", ResNet-50 1/2")

    pages = [replace(first, title=title, kind="page") for title in ("02_ge", "04_sge")]
    progress.show(pages, dict.fromkeys(experiments), 1)
    assert progress.epochs.disable
    assert "1/3 pages" in line_of(progress.pages)
    assert line_of(progress.pages).endswith(", 02_ge, 04_sge")
    progress.close()


@pytest.mark.parametrize(
    ("names", "shown"),
    [
        (["SRM-ResNet-50 1/40"], ", SRM-ResNet-50 1/40"),
        (["SGE-ResNet-50 10/40"] * 9, ""),  # the last letter would be cut
        (["VGG-19 10/40"] * 9, ", VGG-19 10/40, +8"),
        (["SA-Residual-Inception 10/40"], ""),
    ],
)
def test_no_line_of_a_bar_is_cut(names, shown):
    bar = terminal._bar("Training", 2000, "epochs", False)
    bar.start_t -= 9 * 3600
    terminal._set(bar, 1234.5, names)
    assert len(line_of(bar)) <= WIDTH and "..." not in line_of(bar)
    assert line_of(bar).partition(" left")[2] == shown
    bar.close()


def test_a_log_that_cannot_be_read_is_no_error(tmp_path):
    task = Task("x", "train", {}, tmp_path, ".claim", tmp_path / "train.log", lambda: False)
    assert terminal._epochs_so_far(task, 4, True) == 0
    task.log.mkdir()
    assert terminal._epochs_so_far(task, 4, True) == 0


def test_results_name_their_task_and_leave_out_what_was_reported_on_photographs(
    page, write_run, capsys
):
    for experiment in page.experiments:
        write_run(page.results_dir / "runs" / experiment.name, experiment)
    terminal.print_results([page])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Animals-10, on drawings in its place"
    assert lines[2].startswith("Shapes (10 classes; 40 / 20 images), profile smoke, cpu")
    assert "Reported" not in lines[3] and "Final accuracy" in lines[3]
    assert max(map(len, lines)) <= WIDTH
    photographs = replace(page.comparisons[0].images, name="animals10")
    comparison = replace(page.comparisons[0], images=photographs)
    terminal.print_results([replace(page, comparisons=(comparison,))])
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "Animals-10" and "Reported" in lines[3]
    assert max(map(len, lines)) <= WIDTH


def test_parts_of_a_comparison_are_shown_as_one(page, write_run, capsys):
    (comparison,) = page.comparisons
    for experiment in page.experiments:
        write_run(page.results_dir / "runs" / experiment.name, experiment)
    parts = [
        replace(page, comparisons=(replace(comparison, experiments=(one,)),))
        for one in comparison.experiments
    ]
    terminal.print_results(parts)
    shown = capsys.readouterr().out
    assert shown.count("Shapes (10 classes") == 1 and "not trained" not in shown
    assert all(title in shown for title in comparison.titles)
