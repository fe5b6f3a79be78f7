"""The command line: ``attn-book <command>``; the Makefile's targets call it."""

from __future__ import annotations

import argparse
import io
import os
import signal
import sys
from collections.abc import Sequence
from typing import TYPE_CHECKING

from attn_blocks.errors import AttnBlocksError
from attn_blocks.files import need_checkout
from attn_book.language import ENGLISH, LANGUAGES, VARIABLE, speaking

if TYPE_CHECKING:  # argparse has no public name for it
    Commands = argparse._SubParsersAction[argparse.ArgumentParser]

INTERRUPTED = 128 + signal.SIGINT  # the exit code that shells know


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0, 1 if something failed, 2 for wrong usage."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # for paths that are not UTF-8
    options = _parser().parse_args(arguments)
    # SIGTERM ends like Ctrl-C: workers stop, and the command says what is saved.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        if getattr(options, "checkout", None):  # asked before what the command needs is imported
            need_checkout(options.checkout)
        with speaking(ENGLISH):  # what a command prints; pages have --language
            return options.command(options)
    except AttnBlocksError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except ModuleNotFoundError as error:
        package = (error.name or "").partition(".")[0]
        if package in ("", "attn_blocks", "attn_book"):
            raise
        extra = "cpu" if package == "paddle" else "book"
        print(
            f"error: this command needs {package}, which is not installed; "
            f"pip install 'attn-blocks[{extra}]'",
            file=sys.stderr,
        )
        return 2
    except KeyboardInterrupt:
        return INTERRUPTED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="attn-book", description="Attention blocks, reproduced")
    commands = parser.add_subparsers(required=True, metavar="command")
    for add in (
        _add_runs,
        _add_estimate,
        _add_data,
        _add_doctor,
        _add_predict,
        _add_judge,
        _add_models,
        _add_publish,
        _add_verify_published,
    ):
        add(commands)
    return parser


def _setting(text: str) -> str | None:
    """An option's text; an empty one, such as of an unset shell variable, counts as not given."""
    return text or None


def _add_folders(command: argparse.ArgumentParser, *names: str) -> None:
    for name in names:
        default = f"default: $ATTN_BLOCKS_{name.upper()}, else {name}"
        command.add_argument(f"--{name}-dir", type=_setting, help=default)


def _add_run_settings(command: argparse.ArgumentParser) -> None:
    command.add_argument("--jobs", default="auto", help="runs side by side (default: auto)")
    command.add_argument(
        "--device", type=_setting, help="cpu, gpu, gpu:1 (default: a GPU if there is one)"
    )


# Training and the pages --------------------------------------------------------------------------


def _add_runs(commands: Commands) -> None:
    for name, help_text in (
        ("reproduce", "train what is missing, run the notebooks, write the summary"),
        ("train", "train what is missing, without the notebooks"),
    ):
        command = commands.add_parser(name, help=help_text)
        _add_choice(command)
        _add_run_settings(command)
        command.add_argument(
            "--fresh", action="store_true", help="train here what is published already, too"
        )
        command.add_argument("--devices", help="GPUs that train each run together, such as 0,1")
        command.add_argument("--nproc", help="processes on this machine that train each run")
        command.add_argument("--nnodes", help="machines that train each run, with --master")
        command.add_argument("--master", help="host:port where the machines meet")
        _add_folders(command, "data", "results")
        command.set_defaults(command=_reproduce, notebooks=name == "reproduce")
        if name == "reproduce":
            command.add_argument(
                "--language",
                default=os.environ.get(VARIABLE) or ENGLISH,
                help=f"what the pages' outputs speak: {' or '.join(LANGUAGES)} "
                f"(default: ${VARIABLE}, else {ENGLISH})",
            )
            command.set_defaults(checkout=name)


def _add_choice(command: argparse.ArgumentParser, default: str = "") -> None:
    command.add_argument("pages", nargs="*", help="such as 04_sge or sge (default: all)")
    command.add_argument("--profile", type=_setting, help=f"smoke, quick, study or paper{default}")
    command.add_argument("--seeds", type=_setting, help='such as "0 1 2"')
    command.add_argument("--epochs", type=int, help="instead of the recipe's")


def _reproduce(options: argparse.Namespace) -> int:
    from attn_book.driver.reproduce import reproduce

    # As variables, so that they reach worker processes and notebooks too.
    for name in ("devices", "nproc", "nnodes", "master"):
        if getattr(options, name):
            os.environ[f"ATTN_BLOCKS_{name.upper()}"] = getattr(options, name)
    failed = reproduce(
        options.pages,
        jobs=options.jobs,
        notebooks=options.notebooks,
        fresh=options.fresh,
        language=getattr(options, "language", None) or ENGLISH,
        profile=options.profile,
        seeds=options.seeds,
        epochs=options.epochs,
        device=options.device,
        data_dir=options.data_dir,
        results_dir=options.results_dir,
    )
    return 1 if failed else 0


def _add_estimate(commands: Commands) -> None:
    command = commands.add_parser("estimate", help="say what a profile will cost on a GPU")
    _add_choice(command, " (default: paper)")
    command.add_argument(
        "--gpu", type=_setting, help="such as V100 (default: the one at hand, else a V100)"
    )
    command.set_defaults(command=_estimate)


def _estimate(options: argparse.Namespace) -> int:
    from attn_book.analysis import estimate
    from attn_book.study.pages import page_name

    pages = [page_name(page) for page in options.pages]
    settings = {
        "profile": options.profile or "paper",
        "seeds": options.seeds,
        "epochs": options.epochs,
    }
    print(estimate.report(pages, options.gpu, **settings))
    return 0


# Data and the machine ----------------------------------------------------------------------------


def _add_data(commands: Commands) -> None:
    command = commands.add_parser("data", help="show the data sets; prepare one")
    _add_folders(command, "data")
    command.set_defaults(command=_data_status)
    actions = command.add_subparsers(metavar="prepare")
    prepare = actions.add_parser("prepare", help="take a folder, zip or tar into the data folder")
    prepare.add_argument("name", help="animals10, caltech16 or cifar10")
    prepare.add_argument("source", nargs="?", help="folder or archive; with --download not needed")
    prepare.add_argument("--download", action="store_true", help="fetch it from its public address")
    prepare.add_argument("--replace", action="store_true", help="replace what is there")
    prepare.add_argument("--data-dir", default=argparse.SUPPRESS, help=argparse.SUPPRESS)
    prepare.set_defaults(command=_data_prepare)


def _data_status(options: argparse.Namespace) -> int:
    from attn_blocks import datasets

    print(datasets.status_report(options.data_dir))
    return 0


def _data_prepare(options: argparse.Namespace) -> int:
    from attn_blocks.datasets import prepare

    if options.download:
        options.source = prepare.download(options.name, options.data_dir)
    prepare.prepare(options.name, options.source, options.data_dir, replace=options.replace)
    return _data_status(options)


def _add_doctor(commands: Commands) -> None:
    command = commands.add_parser(
        "doctor", help="say what this machine has, what is wrong with it, and what fixes it"
    )
    _add_folders(command, "data", "results")
    command.set_defaults(command=_doctor)


def _doctor(options: argparse.Namespace) -> int:
    from attn_book.driver import doctor

    findings, usable = doctor.examine(options.data_dir, options.results_dir)
    print(doctor.report(findings))
    return 0 if usable else 1


# Networks ----------------------------------------------------------------------------------------


def _add_predict(commands: Commands) -> None:
    command = commands.add_parser("predict", help="say what trained weights see in images")
    command.add_argument("images", nargs="+", metavar="IMAGE", help="files to classify")
    network = command.add_mutually_exclusive_group()
    network.add_argument(
        "--weights",
        help="a run's folder (its last weights), or best.safetensors or last.safetensors in it",
    )
    network.add_argument(
        "--model", help="without --weights: whose published weights (default: resnet50)"
    )
    command.add_argument(
        "--cam", metavar="FOLDER", help="also draw Grad-CAM of the likeliest class into a folder"
    )
    command.add_argument("--top", type=int, default=1, help="classes shown an image (default: 1)")
    command.set_defaults(command=_predict)


def _predict(options: argparse.Namespace) -> int:
    from attn_book.driver import predict

    weights = options.weights
    if weights is None:
        run = predict.published_run(options.model or predict.MODEL)
        weights = run.folder
        classes = ", ".join(run.classes)
        print(f"Published weights: {predict.provenance(run)} · {classes}", file=sys.stderr)
    for image, likeliest in predict.predict(options.images, weights, options.top).items():
        for name, probability in likeliest:
            print(f"{image}\t{name}\t{probability:.3f}")
    drawn = predict.draw_cams(options.images, weights, options.cam) if options.cam else {}
    for image, picture in drawn.items():
        print(f"Grad-CAM of {image}: {picture}", file=sys.stderr)
    return 0


def _add_judge(commands: Commands) -> None:
    command = commands.add_parser(
        "judge",
        help="train ResNet-50 with a block of your own by the study's protocol, and judge it",
        description="Train ResNet-50 with a block of your own by the study's protocol (same folds, "
        "start and recipe), take the plain network's records where they are published for the "
        "same images or train it too, and print and draw accuracy by fold, what the block learnt, "
        "its cost, and its outcome beside the eight blocks. Your code is run. The hash of its "
        "file's text names the runs: an edited block is trained anew.",
    )
    command.add_argument("block", help="my_block.py:MyBlock or module:MyBlock, made from channels")
    command.add_argument("--folds", type=int, default=3, help="2 to 5 (default: 3)")
    command.add_argument(
        "--placement", default="inside", help="inside (default), inside_c3_c5 or between"
    )
    command.add_argument("--profile", default="study", help="only study, the default, has outcomes")
    _add_run_settings(command)
    _add_folders(command, "data", "results")
    command.set_defaults(command=_judge)


def _judge(options: argparse.Namespace) -> int:
    from attn_book.driver.judge import judge

    failed = judge(
        options.block,
        options.folds,
        options.placement,
        options.profile,
        options.jobs,
        device=options.device,
        data_dir=options.data_dir,
        results_dir=options.results_dir,
    )
    return 1 if failed else 0


def _add_models(commands: Commands) -> None:
    command = commands.add_parser("models", help="list the models with their parameters and MACs")
    command.set_defaults(command=_models)


def _models(options: argparse.Namespace) -> int:
    import pandas as pd

    from attn_blocks.models import published

    table = pd.DataFrame(published.table(), dtype=object)
    numbers = {"params": "{:,}", "reference_params": "{:,}", "gmac": "{:.3f}"}
    numbers["reference_gmac"] = numbers["gmac"]
    for column, form in numbers.items():
        table[column] = ["–" if pd.isna(v) else form.format(v) for v in table[column]]
    print(table.to_string(index=False))
    return 0


# What is published -------------------------------------------------------------------------------


def _add_publish(commands: Commands) -> None:
    command = commands.add_parser("publish", help="copy finished runs and pages to book/published")
    command.add_argument("--profile", type=_setting, help="smoke, quick, study or paper")
    _add_folders(command, "data", "results")
    command.set_defaults(command=_publish, checkout="publish")


def _publish(options: argparse.Namespace) -> int:
    from attn_book.driver import publish as publishing
    from attn_book.study.recipes import default_profile

    profile = options.profile or default_profile()
    for note in publishing.publish(profile, options.results_dir, data_dir=options.data_dir):
        print(note)
    print(f"Published: book/published/{profile}; see it with: make book serve")
    return 0


def _add_verify_published(commands: Commands) -> None:
    command = commands.add_parser("verify-published", help="check what book/published holds")
    command.add_argument(
        "--retrain",
        nargs="?",
        const="",
        metavar="RUN",
        help="also train a published run again (default: a short one, at random)",
    )
    command.add_argument(
        "--faults",
        action="store_true",
        help="also measure again what is measured on published networks and their images",
    )
    _add_folders(command, "data")
    command.set_defaults(command=_verify_published, checkout="verify-published")


def _verify_published(options: argparse.Namespace) -> int:
    from attn_book.driver import verify

    problems = verify.check()
    for problem in problems:
        print(problem, file=sys.stderr)
    if problems:
        return 1
    print("What is published fits its records and today's code.")
    if options.faults:
        from attn_book.driver import measured

        print("\n".join(measured.check_again(data_dir=options.data_dir)))
    if options.retrain is not None:
        from attn_book.driver.retrain import retrain

        print(retrain(options.retrain or None, data_dir=options.data_dir))
    return 0
