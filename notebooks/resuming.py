"""A training that was killed goes on behind its last whole epoch, to the same weights, bit for bit.

What an epoch gives follows from the weights and the optimizer's state before it, from the order of its rows, and from what
dropout leaves out. `keras.callbacks.BackupAndRestore` keeps the first two. Order and dropout come from generators whose
state it does not keep; here they follow from the seed and the number of the epoch alone. And EarlyStopping forgets what it
has seen; here it sees the earlier epochs again.
"""

from __future__ import annotations

import json
import math
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import keras
import numpy as np

LOGS = "logs.json"


class ShuffledRows(keras.utils.PyDataset):
    """Batches of rows, in an order that follows from the seed and the epoch alone. `fit` must not shuffle them once more.

    Args:
        features: (n, n_columns) float32.
        labels: (n,) float32.
        batch_size: rows of a batch; the last one may have fewer.
        seed: 0 or more.
    """

    def __init__(self, features: np.ndarray, labels: np.ndarray, batch_size: int, seed: int) -> None:
        super().__init__()
        self._features, self._labels, self._batch_size, self._seed = features, labels, batch_size, seed
        self.shuffle(0)

    def __len__(self) -> int:
        """Batches of an epoch."""
        return math.ceil(len(self._labels) / self._batch_size)

    def __getitem__(self, index: int) -> tuple[np.ndarray, np.ndarray]:
        """Features and labels of a batch."""
        chosen = self._order[index * self._batch_size : (index + 1) * self._batch_size]
        return self._features[chosen], self._labels[chosen]

    def shuffle(self, epoch: int) -> None:
        """Put the rows in the order of an epoch, from 0."""
        self._order = np.random.default_rng([self._seed, epoch]).permutation(len(self._labels))


class Resume(keras.callbacks.Callback):
    """Keeps each epoch that has ended, and lets the next `fit` of the same model go on behind the last of them.

    Each has a folder of its own, renamed when it is whole: a kill while it is written costs that epoch, not the training.
    Belongs behind the callbacks that it lets see the earlier epochs again.

    Args:
        folder: `stage.scratch`, or a folder in it.
        rows: what the model is fitted to.
        seed: of dropout.
        watching: callbacks that judge by the epochs before, such as EarlyStopping.

    Attributes:
        history: what Keras tells of each epoch, those of earlier attempts among them: `loss`, `val_loss`.
    """

    def __init__(
        self, folder: Path, rows: ShuffledRows, seed: int, watching: Sequence[keras.callbacks.Callback] = ()
    ) -> None:
        super().__init__()
        self._folder, self._rows, self._seed, self._watching = folder, rows, seed, watching
        self.history: list[dict[str, float]] = []

    def on_train_begin(self, logs: Any = None) -> None:
        """Restore what is kept."""
        self.history.clear()
        while (folder := self._folder_of(len(self.history))).is_dir():
            self._backup_in(folder).on_train_begin()
            told = json.loads((folder / LOGS).read_text())
            for each in self._watching:
                each.on_epoch_end(len(self.history), told)
            self._tell(told)

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Let what is random in an epoch follow from its number."""
        self._rows.shuffle(epoch)
        for place, layer in enumerate(self.model.layers):
            if isinstance(layer, keras.layers.Dropout):
                layer.seed_generator.state.assign(np.random.SeedSequence([self._seed, epoch, place]).generate_state(2))

    def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
        """Keep it, unless training ends with it: whoever goes on must come to the same end by itself."""
        self._tell({name: float(value) for name, value in logs.items()})
        if self.model.stop_training:
            return
        making = self._folder / "making"
        shutil.rmtree(making, ignore_errors=True)
        self._backup_in(making).on_epoch_end(epoch)
        (making / LOGS).write_text(json.dumps(self.history[-1]))
        making.rename(self._folder_of(epoch))

    def _tell(self, told: dict[str, float]) -> None:
        """Also of an epoch of an earlier attempt, so that the cell shows the same as if there had been none."""
        self.history.append(told)
        numbers = ", ".join(f"{name} {value:.4f}" for name, value in told.items())
        sys.stdout.write(f"epoch {len(self.history)}: {numbers}\n")

    def _folder_of(self, epoch: int) -> Path:
        return self._folder / f"epoch-{epoch + 1}"

    def _backup_in(self, folder: Path) -> keras.callbacks.BackupAndRestore:
        backup = keras.callbacks.BackupAndRestore(str(folder))
        backup.set_model(self.model)
        return backup
