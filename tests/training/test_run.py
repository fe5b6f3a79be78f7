"""The training loop: it learns, repeats, resumes and fails in the open."""

import re
import shutil
from dataclasses import replace

import numpy as np
import paddle
import pytest

from attn_blocks import models
from attn_blocks.datasets import DATASETS
from attn_blocks.errors import TrainingError
from attn_blocks.files import PROJECT, sha256_of, write_json
from attn_blocks.layers import list_attns
from attn_blocks.tensors import load_tensors, save_tensors
from attn_book.records.logits import confusion_of, read_logits
from attn_book.records.repair import disagreements
from attn_book.records.run import Run
from attn_book.study.experiment import Experiment
from attn_book.study.plan import load_images
from attn_book.study.recipes import PROFILES
from attn_book.training import build, checkpoint, loop, modulation
from attn_book.training import compute as computing
from attn_book.training import run as training_run

RECIPE = replace(PROFILES["smoke"].recipes["animals10"], epochs=3, train_images=30)


@pytest.fixture(scope="module")
def experiment(data_dir):
    return experiment_of("sge_resnet18", data_dir)


def experiment_of(model, data_dir, **recipe_changes):
    recipe = replace(RECIPE, **recipe_changes)
    images = load_images("shapes", recipe, data_dir)
    return Experiment("shapes", images.fingerprint, model, recipe, seed=1)


@pytest.fixture(scope="module")
def finished(experiment, data_dir, tmp_path_factory):
    return training_run.train_experiment(
        experiment, tmp_path_factory.mktemp("finished"), data_dir, "cpu", progress=False
    )


def evaluate(model, images, recipe):
    return loop.evaluate(build.prepare(model, images, recipe, compute=computing.Compute()))


def assert_same_result(first: Run, second: Run) -> None:
    for name, column in first.history.items():
        if name != "seconds":
            np.testing.assert_array_equal(column, second.history[name], name)
    for which in ("last", "best"):
        tensors = load_tensors(first.folder / f"{which}.safetensors")[0]
        again = load_tensors(second.folder / f"{which}.safetensors")[0]
        assert tensors.keys() == again.keys()
        for name, array in tensors.items():
            np.testing.assert_array_equal(array, again[name], name)


def test_a_run_folder_holds_what_the_design_says(finished, experiment):
    assert finished.status == "finished"
    assert finished.folder.name == experiment.name
    assert finished.experiment == experiment
    record, metrics = finished.record, finished.metrics
    assert record["compute"]["device"] == "cpu"
    wheel = "paddlepaddle-gpu" if paddle.is_compiled_with_cuda() else "paddlepaddle"
    assert record["versions"][wheel] == paddle.__version__
    assert record["semantics"] == {
        "training": 2,
        "data/shapes": 1,
        "model/resnet": 1,
        "block/sge": 1,
    }
    assert record["model_settings"]["width"] == RECIPE.width
    np.testing.assert_array_equal(finished.history["epoch"], [1, 2, 3])
    assert metrics["final_val_acc"] == finished.history["val_acc"][-1]
    assert metrics["best_val_acc"] == finished.history["val_acc"].max()
    assert metrics["best_epoch"] == 1 + finished.history["val_acc"].argmax()
    assert np.trace(finished.confusion) / finished.confusion.sum() == metrics["final_val_acc"]
    assert finished.confusion.sum() == RECIPE.validation_images
    assert 0 <= metrics["final_train_acc"] <= 1
    logits, labels = read_logits(finished.folder / "logits.safetensors")
    np.testing.assert_array_equal(confusion_of(logits, labels), finished.confusion)
    assert record["protocol"] == sha256_of(PROJECT / "book" / "protocol.md")
    model = checkpoint.load_model(finished)
    assert metrics["params"] == models.count_params(model)
    assert list((finished.folder / "vdl").iterdir())


def test_the_saved_model_gives_the_recorded_accuracy(finished, experiment, data_dir):
    images = load_images("shapes", experiment.recipe, data_dir)
    loss, logits = evaluate(checkpoint.load_model(finished), images, experiment.recipe)
    np.testing.assert_array_equal(confusion_of(logits, images.val.labels), finished.confusion)
    assert loss == finished.history["val_loss"][-1]


def test_the_same_seed_gives_the_same_numbers(finished, experiment, data_dir, tmp_path):
    assert_same_result(
        finished,
        training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False),
    )


def test_another_seed_gives_others(finished, experiment, data_dir, tmp_path):
    other = training_run.train_experiment(
        replace(experiment, seed=2), tmp_path, data_dir, "cpu", progress=False
    )
    assert (other.history["train_loss"] != finished.history["train_loss"]).all()


@pytest.mark.parametrize(
    ("module", "moment"),
    [
        (loop, "evaluate"),
        (training_run, "write_history"),
        (training_run, "save_checkpoint"),
        (training_run, "write_json"),
    ],
)
def test_a_stopped_run_goes_on_to_the_same_numbers(
    finished, experiment, data_dir, tmp_path, monkeypatch, module, moment
):
    calls = iter(range(100))
    stop_at = {"write_json": 1, "save_checkpoint": 2}.get(moment, 1)
    original = getattr(module, moment)

    def stopping(*arguments, **keywords):
        if next(calls) == stop_at:
            raise KeyboardInterrupt
        return original(*arguments, **keywords)

    with monkeypatch.context() as patched:
        patched.setattr(module, moment, stopping)
        with pytest.raises(KeyboardInterrupt):
            training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    run = Run(tmp_path / "runs" / experiment.name)
    assert run.status == "unfinished"
    # Other models made in between must not disturb what is restored (Paddle numbers parameters).
    models.create_model("resnet18", 3, width=1 / 16, stem="small", image_size=56)
    assert_same_result(
        finished,
        training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False),
    )


def test_a_record_is_of_when_the_run_began_and_lists_the_sessions_that_went_on(
    experiment, data_dir, tmp_path, monkeypatch
):
    def train(commit, stop_at):
        calls = iter(range(100))
        original = training_run.write_history

        def stopping(*arguments):
            if next(calls) == stop_at:
                raise KeyboardInterrupt
            original(*arguments)

        with monkeypatch.context() as patched:
            patched.setattr(training_run.provenance, "git_commit", lambda: commit)
            patched.setattr(training_run, "write_history", stopping)
            return training_run.train_experiment(
                experiment, tmp_path, data_dir, "cpu", progress=False
            )

    for commit in ("first", "second"):  # each stopped in its second epoch
        with pytest.raises(KeyboardInterrupt):
            train(commit, 1)
    run = train("third", None)
    assert run.status == "finished" and run.record["git_commit"] == "first"
    told = [(one["after_epoch"], one["git_commit"]) for one in run.record["resumed"]]
    assert told == [(1, "second"), (2, "third")]
    assert {*run.record["resumed"][0]} == {
        *("after_epoch", "compute", "protocol", "versions", "git_commit")
    }
    assert disagreements(run) == []


def test_a_damaged_checkpoint_is_named_and_the_run_made_again(
    finished, experiment, data_dir, tmp_path
):
    folder = tmp_path / "runs" / experiment.name
    folder.mkdir(parents=True)
    (folder / "last.safetensors").write_bytes(b"half")
    with pytest.warns(UserWarning, match=r"last\.safetensors is not a complete safetensors file"):
        again = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert_same_result(finished, again)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop("conv1.weight"), "missing: conv1.weight"),
        (lambda tensors: tensors.update(new=np.zeros(3)), "unknown: new"),
        (
            lambda tensors: tensors.update({"conv1.weight": np.zeros(3)}),
            r"misshaped: conv1.weight is \[3\], needed \[",
        ),
        (
            lambda tensors: tensors.update(
                {f"{checkpoint.OPTIMIZER_PREFIX}fc.bias": np.zeros(11, np.float32)}
            ),
            r"misshaped: optimizer/velocity/fc.bias is \[11\], needed \[10\]",
        ),
    ],
)
def test_a_checkpoint_of_another_network_is_not_read(finished, experiment, tmp_path, change, words):
    folder = shutil.copytree(finished.folder, tmp_path / experiment.name)
    tensors, metadata = load_tensors(folder / "last.safetensors")
    change(tensors)
    save_tensors(folder / "last.safetensors", tensors, metadata)
    model = build.build_model(experiment, len(finished.classes))
    before = {name: value.numpy() for name, value in model.state_dict().items()}
    optimizer = build.build_optimizer(model, experiment.recipe)
    with pytest.warns(UserWarning, match=f"does not fit its model .*{words}.*from the start"):
        assert checkpoint.restore(folder, model, optimizer, computing.compute("cpu").scaler()) == []
    for name, value in model.state_dict().items():
        np.testing.assert_array_equal(value.numpy(), before[name])


def test_a_finished_run_is_not_trained_again(finished, experiment, data_dir, monkeypatch):
    monkeypatch.setattr(training_run, "train_into", lambda *_: pytest.fail("trained again"))
    results_dir = finished.folder.parents[1]
    assert (
        training_run.train_experiment(experiment, results_dir, data_dir, "cpu").metrics
        == finished.metrics
    )


def test_a_network_learns_its_training_images(data_dir, tmp_path):
    experiment = experiment_of(
        "resnet18",
        data_dir,
        epochs=30,
        learning_rate=0.02,
        width=0.125,
        train_images=20,
        batch_size=10,
        augmentation="rotate",
    )
    history = training_run.train_experiment(
        experiment, tmp_path, data_dir, "cpu", progress=False
    ).history
    assert history["train_loss"][-1] < 0.5 * history["train_loss"][0]
    assert history["train_acc"][-1] > 0.5


def test_divergence_is_recorded_and_not_repeated(data_dir, tmp_path, monkeypatch):
    experiment = experiment_of("resnet18", data_dir, learning_rate=1e30, schedule="constant")
    run = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert run.status == "failed"
    assert run.metrics["learning_rate"] == pytest.approx(1e30)
    assert run.metrics["epoch"] >= 1
    assert run.metrics["step"] >= 1
    assert "not finite" in run.metrics["reason"]
    monkeypatch.setattr(training_run, "train_into", lambda *_: pytest.fail("trained again"))
    assert training_run.train_experiment(experiment, tmp_path, data_dir, "cpu").status == "failed"


def test_a_validation_loss_that_is_no_number_ends_the_run(
    experiment, data_dir, tmp_path, monkeypatch
):
    evaluate = loop.evaluate
    monkeypatch.setattr(loop, "evaluate", lambda *given: (np.inf, evaluate(*given)[1]))
    run = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert run.status == "failed"
    steps = experiment.recipe.train_images // experiment.recipe.batch_size
    assert (run.metrics["epoch"], run.metrics["step"]) == (1, steps)
    assert not (run.folder / "last.safetensors").exists()


def test_weights_that_are_no_numbers_end_the_run_in_the_epoch_of_the_harm(
    experiment, data_dir, tmp_path, monkeypatch
):
    train_epoch = loop.train_epoch

    def harming(training, epoch, report):
        found = train_epoch(training, epoch, report)
        if epoch == 1:  # behind a ReLU, and so where no loss shows it
            broken = training.model.conv1.weight.numpy()
            broken[0, 0, 0, 0] = np.nan
            training.model.conv1.weight.set_value(broken)
        return found

    monkeypatch.setattr(loop, "train_epoch", harming)
    run = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert run.status == "failed"
    assert run.metrics["epoch"] == 2
    assert "1 of 118 weights, conv1.weight the first, are not finite" in run.metrics["reason"]


def test_a_gradient_that_is_no_number_ends_the_run(experiment, data_dir):
    images = load_images("shapes", experiment.recipe, data_dir)
    training = build.prepare(build.build_model(experiment, 10), images, experiment.recipe)
    weight = training.model.fc.weight
    # What a step at rate 0 does: it leaves the weights alone, and the momentum keeps the gradient.
    training.optimizer.set_lr(0.0)
    (weight * float("inf")).sum().backward()
    training.optimizer.step()
    weight.set_value(paddle.zeros_like(weight))
    with pytest.raises(loop.Diverged, match="gradients, fc.weight the first, are not finite"):
        loop.check_finite(training, 1, 1, 0.0)


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("ResourceExhaustedError: Out of memory error on GPU 0")]
)
def test_out_of_memory_says_what_to_lower_and_loses_no_epoch(
    finished, experiment, data_dir, tmp_path, monkeypatch, error
):
    def exhausted(*_):
        raise error

    folder = shutil.copytree(finished.folder, tmp_path / "runs" / experiment.name)
    failed = {"status": "failed", "reason": "out of memory"}  # as it was recorded once
    write_json(folder / "metrics.json", failed)
    with monkeypatch.context() as patched:
        patched.setattr(training_run, "train_into", exhausted)
        with pytest.raises(TrainingError, match=f"out of memory at batch size {RECIPE.batch_size}"):
            training_run.train_experiment(experiment, tmp_path, data_dir, "cpu")
    assert Run(folder).status == "unfinished"
    monkeypatch.setattr(training_run, "save_epoch", lambda *_: pytest.fail("trained again"))
    again = training_run.train_experiment(experiment, tmp_path, data_dir, "cpu", progress=False)
    assert_same_result(finished, again)


def test_a_run_that_lost_its_weights_is_trained_again_and_its_record_kept(
    finished, experiment, data_dir, tmp_path, monkeypatch
):
    folder = shutil.copytree(finished.folder, tmp_path / "runs" / experiment.name)
    (folder / "best.safetensors").unlink()
    monkeypatch.setattr(training_run, "train_into", lambda folder, *_: None)
    with pytest.warns(UserWarning, match="has lost its weights and is trained again; its record"):
        training_run.train_experiment(experiment, tmp_path, data_dir, "cpu")
    (kept,) = (tmp_path / "outdated").iterdir()
    assert Run(kept).metrics == finished.metrics
    assert [path.name for path in folder.iterdir()] == [".lock"]


def test_other_errors_are_not_hidden(experiment, data_dir, tmp_path, monkeypatch):
    def broken(*_):
        raise RuntimeError("a bug")

    monkeypatch.setattr(training_run, "train_into", broken)
    with pytest.raises(RuntimeError, match="a bug"):
        training_run.train_experiment(experiment, tmp_path, data_dir, "cpu")


def test_images_that_changed_are_noticed(experiment, data_dir, tmp_path):
    with pytest.raises(TrainingError, match="changed"):
        training_run.train_experiment(
            replace(experiment, fingerprint="0" * 64), tmp_path, data_dir, "cpu"
        )


def spared_by_decay(model, recipe):
    """Names of the parameters that a step without any gradient leaves as they are."""
    trainable = {name: p for name, p in model.named_parameters() if not p.stop_gradient}
    for parameter in trainable.values():
        parameter.set_value(paddle.ones_like(parameter))
    optimizer = build.build_optimizer(model, recipe)
    sum((0 * parameter).sum() for parameter in trainable.values()).backward()
    optimizer.step()
    return {name for name, parameter in trainable.items() if (parameter.numpy() == 1).all()}


# What is decayed of each block: the weights of what mixes its channels.
MIXING = {
    "se": {"fc1.weight", "fc2.weight"},
    "nl": {"g.weight", "theta.weight", "phi.weight", "z.weight"},
    "gc": {"conv_mask.weight", "f_add.conv1.weight", "f_add.conv2.weight"},
    "bat": {
        "conv1.conv.weight",
        "transform.conv1.conv.weight",
        "transform.conv_p.weight",
        "transform.conv_q.weight",
        "transform.conv2.conv.weight",
        "conv2.conv.weight",
    },
}  # the others have depth-wise convolutions, norms, and gains for each channel or group
GAINS = {
    "srm": {"cfc"},
    "sge": {"weight", "bias"},
    "sa": {"cweight", "cbias", "sweight", "sbias"},
}


@pytest.mark.parametrize("attn", list_attns())
def test_weight_decay_acts_on_what_mixes_channels(attn):
    model = models.create_model(f"{attn}_resnet50", 10, width=1 / 4, stem="small", image_size=56)
    trained = {name for name, p in model.named_parameters() if not p.stop_gradient}
    blocks = tuple(f"{name}." for name in modulation.attention_blocks(model))
    of_blocks = {name for name in trained if name.startswith(blocks)}

    def decayed(decay):
        return trained - spared_by_decay(model, replace(RECIPE, decay=decay))

    def inside(names):
        return {re.sub(r"^.*?\.(attn|nl\d)\.", "", name) for name in names & of_blocks}

    convolutions = re.compile(r"(conv\d|downsample\.0|^fc)\.weight$")
    mixing = decayed("mixing")
    assert inside(mixing) == MIXING.get(attn, set())
    assert mixing - of_blocks == {n for n in trained - of_blocks if convolutions.search(n)} != set()
    assert inside(decayed("gains")) == MIXING.get(attn, set()) | GAINS.get(attn, set())
    assert decayed("all") == trained


def test_weight_decay_spares_depthwise_convolutions():
    model = models.create_model("mobilenet_v2", 10, width=1 / 4, stem="small", image_size=56)
    kernels = {n: p for n, p in model.named_parameters() if p.ndim == 4}
    decayed = set(build.decayed_parameters(model))
    assert {n for n, p in kernels.items() if p.shape[1] == 1} != set()
    assert {n for n, p in kernels.items() if p.shape[1] > 1} == decayed & kernels.keys()


def initial_values(data_dir, model, seed=1, **options):
    experiment = experiment_of(model, data_dir, image_size=64)
    experiment = replace(experiment, seed=seed, options=options)
    return {n: p.numpy() for n, p in build.build_model(experiment, 10).named_parameters()}


@pytest.fixture(scope="module")
def plain(data_dir):
    """The initial values of the network that all blocks go into."""
    return initial_values(data_dir, "resnet50")


@pytest.mark.parametrize("attn", list_attns())
def test_networks_of_a_seed_share_their_initial_values(attn, plain, data_dir):
    with_block = initial_values(data_dir, f"{attn}_resnet50")
    for name, value in plain.items():
        np.testing.assert_array_equal(with_block[name], value, name)


def test_every_convolution_has_initial_values_of_its_own_and_another_seed_has_others(
    plain, data_dir
):
    assert sum(value.ndim == 4 for value in plain.values()) == 53
    other = initial_values(data_dir, "resnet50", seed=2)
    assert all((other[n] != v).any() for n, v in plain.items() if v.ndim == 4)
    assert not np.array_equal(plain["layer1.1.conv2.weight"], plain["layer1.2.conv2.weight"])


@pytest.mark.parametrize("model", ["senet_cifar", "sa_inception"])
def test_a_block_that_is_left_out_shifts_no_name(model, data_dir):
    with_block, without = (initial_values(data_dir, model, **o) for o in ({}, {"attn": False}))
    assert without.keys() < with_block.keys()
    for name, value in without.items():
        np.testing.assert_array_equal(with_block[name], value, name)


def test_the_optimiser_steps_as_the_formula_says():
    weight = np.array([1.0, -2.0], dtype=np.float32)
    layer = paddle.nn.Linear(2, 1, bias_attr=False)
    layer.weight.set_value(weight.reshape(2, 1))
    recipe = replace(RECIPE, weight_decay=0.1, momentum=0.9, nesterov=True, learning_rate=0.5)
    optimizer = build.build_optimizer(layer, recipe)
    velocity = np.zeros(2)
    for x in ([1.0, 2.0], [0.5, -1.0]):
        layer(paddle.to_tensor([x], dtype="float32")).sum().backward()
        optimizer.step()
        optimizer.clear_grad()
        gradient = np.array(x) + 0.1 * weight  # L2: the decay is part of the gradient
        velocity = 0.9 * velocity + gradient
        weight = weight - 0.5 * (gradient + 0.9 * velocity)
    np.testing.assert_allclose(layer.weight.numpy().ravel(), weight, rtol=1e-6)


def test_a_last_batch_is_kept_on_request_and_statistics_reversed(data_dir):
    experiment = experiment_of("resnet18", data_dir, drop_last=False, batch_size=16)
    images = load_images("shapes", experiment.recipe, data_dir)
    images = replace(images, name="cifar10")  # whose channels have different statistics
    kept, _ = build.build_loaders(images, experiment.recipe, 0)
    dropped, _ = build.build_loaders(images, replace(experiment.recipe, drop_last=True), 0)
    assert [len(labels) for _, labels in kept.epoch(0)] == [16, 14]
    assert [len(labels) for _, labels in dropped.epoch(0)] == [16]
    model = build.build_model(experiment, 10)
    assert build.prepare(model, images, experiment.recipe).images_an_epoch == 30
    turned = replace(experiment.recipe, reversed_statistics=True)
    plain, reversed_ = (
        next(iter(build.build_loaders(images, recipe, 0)[1].epoch(0)))[0]
        for recipe in (experiment.recipe, turned)
    )
    mean, std = (np.array(getattr(DATASETS["cifar10"], name)) for name in ("mean", "std"))
    pixels = plain * std.reshape(3, 1, 1) + mean.reshape(3, 1, 1)
    expected = (pixels - mean[::-1].reshape(3, 1, 1)) / std[::-1].reshape(3, 1, 1)
    np.testing.assert_allclose(reversed_, expected, atol=1e-5)


# Mixed precision: what can be shown without a GPU -------------------------------------------------


@pytest.fixture
def scaled(loss_scaler):
    """How a GPU without bfloat16 computes, but for the float16 products themselves."""

    class Scaled(computing.Compute):
        def scaler(self):
            return loss_scaler

    return Scaled()


def trained(experiment, data_dir, folder, compute):
    images = load_images("shapes", experiment.recipe, data_dir)
    training_run.train_into(folder, experiment, images, compute, progress=False)
    return Run(folder)


def test_a_scaled_loss_trains_as_the_loss_itself(finished, experiment, data_dir, tmp_path, scaled):
    run = trained(experiment, data_dir, tmp_path, scaled)
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(run.history[name], finished.history[name], rtol=1e-5)
    assert '"scale": [65536.0]' in load_tensors(tmp_path / "last.safetensors")[1]["scaler"]
    assert "scaler" not in load_tensors(finished.folder / "last.safetensors")[1]


@pytest.fixture
def steep(monkeypatch):
    """The loss keeps its value and has gradients that are no numbers: a root's slope at 0."""
    loss = loop.F.cross_entropy

    def patched(scores, *given, **how):
        return loss(scores, *given, **how) + (0 * scores).sum().sqrt()

    monkeypatch.setattr(loop.F, "cross_entropy", patched)


def test_skipped_steps_are_no_divergence(
    experiment, data_dir, tmp_path, scaled, loss_scaler, steep
):
    state = loss_scaler.state_dict()
    run = trained(experiment, data_dir, tmp_path, scaled)
    assert run.status == "finished"
    assert loss_scaler.state_dict()["scale"] < state["scale"]
    computing.seed_everything(experiment.seed)
    fresh = build.build_model(experiment, len(run.classes))
    tensors = load_tensors(tmp_path / "last.safetensors")[0]
    for name, parameter in fresh.named_parameters():
        if not parameter.stop_gradient:
            np.testing.assert_array_equal(tensors[name], parameter.numpy(), name)

    # A resumed run goes on with the scale that it had.
    reached = loss_scaler.state_dict()["scale"]
    loss_scaler.load_state_dict(state)
    checkpoint.restore(
        tmp_path, fresh, build.build_optimizer(fresh, experiment.recipe), loss_scaler
    )
    assert loss_scaler.state_dict()["scale"] == reached


def test_divergence_is_noticed_under_a_loss_scale(
    experiment, data_dir, tmp_path, scaled, monkeypatch
):
    build_model = build.build_model

    def overflowing(*arguments):
        model = build_model(*arguments)
        model.fc.weight.set_value(np.full(model.fc.weight.shape, np.inf, "float32"))
        return model

    monkeypatch.setattr(training_run, "build_model", overflowing)
    with pytest.raises(loop.Diverged, match="not finite in epoch 1, step 1"):
        trained(experiment, data_dir, tmp_path, scaled)


def test_a_run_that_skips_every_step_is_not_finished(data_dir, tmp_path, scaled, steep):
    experiment = experiment_of("resnet18", data_dir, epochs=20)
    with pytest.raises(TrainingError, match="overflow in float16 at every loss scale"):
        trained(experiment, data_dir, tmp_path, scaled)


def test_scores_in_bfloat16_are_counted_as_numbers(finished, experiment, data_dir):
    class Half(paddle.nn.Layer):
        def __init__(self, model):
            super().__init__()
            self.model = model

        def forward(self, x):
            return self.model(x).astype("bfloat16")

    images = load_images("shapes", experiment.recipe, data_dir)
    model = Half(checkpoint.load_model(finished))
    loss, logits = evaluate(model, images, experiment.recipe)
    assert loss == pytest.approx(finished.history["val_loss"][-1], rel=0.02)
    assert logits.dtype == np.float32 and np.isfinite(logits).all()
    scores = paddle.to_tensor([[0.25, 8.0, -3.0], [1.0, 0.5, -2.0]]).astype("bfloat16")
    assert loop.count_correct(scores, paddle.to_tensor([1, 2])) == 1


def test_a_compiled_network_trains_the_same(data_dir, tmp_path):
    # Compiled, it sums in another order. A higher rate amplifies that, on some processors more.
    gentle = experiment_of("sge_resnet18", data_dir, learning_rate=0.01)
    eager = trained(gentle, data_dir, tmp_path / "eager", computing.Compute())
    run = trained(gentle, data_dir, tmp_path / "compiled", computing.Compute(to_static=True))
    assert run.record["compute"]["to_static"]
    for name in ("train_loss", "val_loss"):
        np.testing.assert_allclose(run.history[name], eager.history[name], rtol=1e-3)
    # The weights are those of the network, whatever it was compiled to.
    tensors = load_tensors(run.folder / "last.safetensors")[0]
    assert tensors.keys() == load_tensors(eager.folder / "last.safetensors")[0].keys()
