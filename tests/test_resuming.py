"""The worked example's training, killed in each of its epochs: the same weights and history as without, bit for bit."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from kit.model.functions import number_names

# In a process of its own: TensorFlow's settings cannot be taken back in one that has started.
TRAINING = """
import sys
from pathlib import Path
from kit.model import pin_determinism
pin_determinism(seed=7, threads=2)
import delay_model, keras, numpy as np, resuming
LEARNING_RATE = 0.03
chance = np.random.default_rng(0)
features = chance.normal(size=(4000, 20)).astype("float32")
labels = (features[:, 0] + 2 * chance.normal(size=4000) > 0).astype("float32")
validation = features[3000:], labels[3000:]

class Killed(BaseException):
    pass

class Kill(keras.callbacks.Callback):
    def __init__(self, epoch, batch):
        super().__init__()
        self.epoch, self.batch, self.now = epoch, batch, -1
    def on_epoch_begin(self, epoch, logs=None):
        self.now = epoch
    def on_train_batch_begin(self, batch, logs=None):
        if (self.now, batch) == (self.epoch, self.batch):
            raise Killed

def train(scratch, patience, kill=None):
    keras.utils.set_random_seed(len(list(scratch.parent.iterdir())))  # nothing but the first weights may depend on it
    inner = delay_model.build_inner(20, 16, LEARNING_RATE)
    inner.set_weights(initial)
    rows = resuming.ShuffledRows(features[:3000], labels[:3000], 64, 7)
    stop = keras.callbacks.EarlyStopping(monitor="val_loss", patience=patience, restore_best_weights=True)
    resume = resuming.Resume(scratch, rows, 7, watching=[stop])
    inner.fit(
        rows, validation_data=validation, validation_batch_size=64, epochs=4, shuffle=False, verbose=0,
        callbacks=[stop, resume, *([kill] if kill else [])],
    )
    return [weights.tobytes() for weights in inner.get_weights()], resume.history, stop.best_epoch

initial = delay_model.build_inner(20, 16, LEARNING_RATE).get_weights()

def kill_in_each_epoch(folder, patience):
    folder.mkdir()
    undisturbed = train(folder / "undisturbed", patience)
    n_epochs = len(undisturbed[1])
    for epoch in range(n_epochs):
        scratch = folder / f"killed-in-{epoch + 1}"
        try:
            train(scratch, patience, Kill(epoch, 20))
        except Killed:
            pass
        assert len(list(scratch.glob("epoch-*"))) == epoch
        assert train(scratch, patience) == undisturbed, (patience, epoch)
    assert train(folder / "undisturbed", patience) == undisturbed, "after the end"
    return undisturbed

def kill_twice(folder, patience, undisturbed):
    twice = folder / "twice"
    for epoch in (0, 1):
        try:
            train(twice, patience, Kill(epoch, 20))
        except Killed:
            (twice / "making").mkdir(parents=True, exist_ok=True)
            (twice / "making" / "latest.weights.h5").write_bytes(b"half")
    assert train(twice, patience) == undisturbed, "killed twice, the second time while an epoch was written"

for patience in map(int, sys.argv[2:]):
    folder = Path(sys.argv[1], str(patience))
    undisturbed = kill_in_each_epoch(folder, patience)
    print("ends", len(undisturbed[1]), undisturbed[2] + 1)  # and the best epoch
kill_twice(folder, patience, undisturbed)
"""


@pytest.mark.kernel
def test_training_killed_in_any_epoch_comes_to_the_same_weights_whether_it_stops_early_or_not(tmp_path: Path) -> None:
    command = [sys.executable, "-c", TRAINING, str(tmp_path), "1", "3"]
    notebooks = Path(__file__).parents[1] / "notebooks"
    done = subprocess.run(command, cwd=notebooks, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if line.startswith("ends")] == ["ends 3 2", "ends 4 2"]


SAVING = """
import sys
from pathlib import Path
import tensorflow as tf
from kit.model import save_saved_model

def save(folder):
    module = tf.Module()
    module.weights = tf.Variable([3.0])
    module.inner = tf.function(lambda x: tf.exp(x) * module.weights)
    score = tf.function(lambda x: {"p": module.inner(x)})
    module.score = score.get_concrete_function(tf.TensorSpec([None], tf.float32, "x"))
    save_saved_model(module, folder, {"serving_default": module.score})
    return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}

folder = Path(sys.argv[1])
before = save(folder / "before")
for number in range(200):  # the counter gets another digit
    tf.function(lambda x, number=number: x * number).get_concrete_function(tf.TensorSpec([]))
after = save(folder / "after")
assert before == after, [name for name in before if before[name] != after[name]]
loaded = tf.saved_model.load(str(folder / "after")).signatures["serving_default"]
answers = loaded(x=tf.constant([2.0, 1.0, 0.0]))["p"].numpy().tolist()
assert [round(answer, 3) for answer in answers] == [22.167, 8.155, 3.0], answers
"""


@pytest.mark.kernel
def test_saved_model_does_not_tell_what_its_process_did_before(tmp_path: Path) -> None:
    done = subprocess.run([sys.executable, "-c", SAVING, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_functions_are_numbered_in_the_order_in_which_they_were_made() -> None:
    names = ["__inference_score_1003", "__inference__creator_999", "__forward_f_4_1001", "kept"]
    assert number_names(names) == {
        "__inference__creator_999": "__inference__creator_1",
        "__forward_f_4_1001": "__forward_f_4_2",
        "__inference_score_1003": "__inference_score_3",
    }
