"""A SavedModel's signature as a servable: its fields, its answers, and what is no model to serve."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from servers import make_saved_model

from kit.errors import IntegrityError
from kit.model.golden import Golden, read_golden
from kit.model.probe import compare_outputs
from kit.model.servable import Field, Signature, golden_columns, open_saved_model

SIGNATURE = Signature((Field("name", "string"), Field("x", "float32"), Field("y", "float32")), (Field("p", "float32"),))


def test_golden_columns_are_as_the_signature_takes_them():
    golden = Golden("s", {"a": ("u", None), "b": (1.0, None), "c": (1.0, 2.0), "d": (0.0, 1.0)}, {"p": (0.0, 1.0)}, 0.1)
    fields = (Field("d", "bool"), Field("c", "int64", (1,)), Field("b", "float32", (None,)), Field("a", "string"))
    columns = golden_columns(golden, Signature(fields, ()))
    assert {name: (array.dtype.name, array.shape) for name, array in columns.items()} == {
        "a": ("object", (2,)),
        "b": ("float32", (2, 1)),
        "c": ("int64", (2, 1)),
        "d": ("bool", (2,)),
    }
    assert columns["a"].tolist() == ["u", ""]
    assert np.isnan(columns["b"][1, 0])
    assert columns["d"].tolist() == [False, True]


def test_golden_columns_of_other_fields_are_refused():
    golden = Golden("s", {"x": (1.0,)}, {"p": (1.0,)}, 0.1)
    with pytest.raises(IntegrityError, match="golden predictions are for inputs x; the model takes y"):
        golden_columns(golden, Signature((Field("y", "float32"),), ()))
    with pytest.raises(IntegrityError, match=r"golden input 'x' has one value a row; the model takes \[3\]"):
        golden_columns(golden, Signature((Field("x", "float32", (3,)),), ()))


def test_importing_servables_and_the_server_does_not_import_what_is_heavy():
    heavy = "('tensorflow', 'keras', 'ai_edge_litert', 'numpy', 'uvicorn', 'prometheus_client')"
    code = (
        f"import sys, kit.model.servable, kit.server, kit.cli.serve; sys.exit(sum(n in sys.modules for n in {heavy}))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# In a process of its own: what TensorFlow does at import and at its end is none of other tests' business.
ASK = """
import sys
from pathlib import Path
sys.path.insert(0, sys.argv[2])
import test_servable
test_servable.check(Path(sys.argv[1]))
"""


def check(folder: Path) -> None:
    """What must hold of a SavedModel, with TensorFlow in this process."""
    import tensorflow as tf

    servable = open_saved_model(folder / "saved_model")
    assert servable.signature == SIGNATURE
    golden = read_golden(folder / "golden.json")
    columns = golden_columns(golden, servable.signature)
    answers = servable.predict(columns)
    assert compare_outputs(golden, answers).passed
    bare = tf.saved_model.load(str(folder / "saved_model")).signatures["serving_default"]
    expected = bare(**{name: tf.constant(values) for name, values in columns.items()})["p"].numpy()
    assert answers["p"].tobytes() == expected.tobytes()
    order = np.array([2, 0])
    part = servable.predict({name: column[order] for name, column in columns.items()})["p"]
    assert part.tolist() == answers["p"][order].tolist()
    for wrong, sentence in {
        "no signature 'other'; the model has serving_default": lambda: open_saved_model(
            folder / "saved_model", "other"
        ),
        "does not load as a SavedModel": lambda: open_saved_model(folder),
        "input 'x' has shape (3,); a signature's first dimension must be the rows": lambda: save(folder, [3]),
        "input 'x' has shape (); a signature's first": lambda: save(folder, []),
        "input 'x' has shape <unknown>": lambda: save(folder, None),
    }.items():
        with pytest.raises(IntegrityError) as refused:
            sentence()
        assert wrong in str(refused.value), refused.value
    several = save(folder, [None, 2])
    shaped = several.predict({"x": np.ones((3, 2), np.float32), "flag": np.array([True, False, True])})
    assert several.signature.inputs == (Field("flag", "bool"), Field("x", "float32", (2,)))
    assert shaped["y"].tolist() == [[2.0, 2.0], [0.0, 0.0], [2.0, 2.0]]


def save(folder: Path, shape: list[int | None] | None):
    """A model that doubles x where flag is set, with x of some shape."""
    import tensorflow as tf

    module = tf.Module()

    def double(x, flag):
        factor = tf.cast(flag, tf.float32) * 2
        return {"y": x * (factor[:, None] if shape == [None, 2] else 1.0)}

    module.double = tf.function(double).get_concrete_function(
        x=tf.TensorSpec(shape, tf.float32), flag=tf.TensorSpec([None], tf.bool)
    )
    target = folder / f"model-{len(list(folder.iterdir()))}"
    tf.saved_model.save(module, str(target), signatures={"serving_default": module.double})
    return open_saved_model(target)


@pytest.mark.kernel
def test_saved_model_answers_as_its_signature_does_to_the_bit(tmp_path):
    folder = make_saved_model(tmp_path / "model")
    command = [sys.executable, "-c", ASK, str(folder), str(Path(__file__).parent)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
