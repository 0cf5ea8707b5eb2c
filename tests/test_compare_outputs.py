import io
import json
import subprocess
import sys
import zipfile
from random import Random

import pytest
from builders import write_files

from kit.compare import Agreement, Comparator, Kind, compare_outputs

CSV = "name,p,zip\na,0.5,007\nb,0.25,010\n"


def compare(tmp_path, name, before, after, comparator=None):
    """(agreement, detail) of two contents: text, bytes, a function that writes, or {path: content} for a folder."""
    sides = []
    for side, content in (("before", before), ("after", after)):
        path = tmp_path / side
        if isinstance(content, dict):
            path.mkdir()
            write_files(path, content)
        elif callable(content):
            content(path)
        else:
            write_files(tmp_path, {side: content})
        sides.append(path)
    found = compare_outputs(name, *sides, comparator)
    assert found.subject == name
    return found.agreement, found.detail


def table(rtol=0.0, atol=0.0):
    return Comparator(Kind.TABLE, rtol, atol)


def test_same_bytes_are_identical_and_load_nothing_heavy(tmp_path):
    (tmp_path / "a").write_bytes(b"no table")
    code = (
        "import sys; from pathlib import Path; from kit.compare import compare_outputs as compare\n"
        "print(compare('a.parquet', Path('a'), Path('a')).agreement)\n"
        "print({'pyarrow', 'pandas', 'numpy', 'PIL', 'h5py', 'tensorflow', 'nbformat'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["identical", "set()"]


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        (b"abc", b"abd", "first at byte 2"),
        (b"abc", b"ab", "first at byte 2; 2 bytes, were 3"),
        (b"", b"x", "first at byte 0; 1 bytes, were 0"),
        (b"\0" * 1_048_577, b"\0" * 1_048_576 + b"x", "first at byte 1,048,576"),
    ],
)
def test_bytes_name_the_first_that_differs(tmp_path, before, after, detail):
    assert compare(tmp_path, "a.bin", before, after) == (Agreement.DIFFERENT, detail)


def test_missing_output_is_unreadable(tmp_path):
    (tmp_path / "before").write_text("x")
    found = compare_outputs("a.txt", tmp_path / "before", tmp_path / "after")
    assert (found.agreement, found.holds, found.detail) == (Agreement.UNREADABLE, False, "the second one is not there")


def test_file_is_not_a_folder(tmp_path):
    assert compare(tmp_path, "a", "x", {"x": "x"}) == (Agreement.DIFFERENT, "a folder, was a file")


def test_ignored_output_is_not_opened(tmp_path):
    comparator = Comparator(Kind.IGNORE, reason="a log")
    found = compare_outputs("log.txt", tmp_path / "no", tmp_path / "no", comparator)
    assert (found.agreement, found.holds, found.comparator) == (Agreement.IGNORED, True, "ignore(a log)")
    assert str(found) == "log.txt: ignored by ignore(a log): a log"


@pytest.mark.parametrize(
    ("before", "after", "agreement", "detail"),
    [
        ('{"a": 1, "b": 2}', '{"b":2,"a":1.0}', "equal", "the same 2 values, stored in other bytes"),
        ('{"a": [1, 2]}', '{"a": [1, 3]}', "different", "1 of 2 values differ, first a[1]: 2, now 3; largest"),
        ('{"a": 1}', '{"b": 1}', "different", "2 of 2 values differ, first a: 1, now missing"),
        ('{"a b": {"c": 1}}', '{"a b": {"c": "1"}}', "different", "first ['a b'].c: 1, now '1'"),
        ("[1, 2, 3]", "[1, 2]", "different", "first length of the value: 3, now 2"),
        ("1", "true", "different", "first the value: 1, now True"),
        ("[NaN, 1.0]", "[NaN, 1]", "equal", "the same 2 values"),
        ("[NaN]", "[null]", "different", "first [0]: nan, now None"),
        ("9007199254740993", "9007199254740992", "different", "9007199254740993, now 9007199254740992"),
        ("{}", "{", "unreadable", "Expecting property name"),
        ("[]", b"\xff", "unreadable", "utf-8"),
        ("[" * 100_000, "[", "unreadable", ""),
    ],
)
def test_json_is_compared_by_value(tmp_path, before, after, agreement, detail):
    found = compare(tmp_path, "a.json", before, after)
    assert found[0] == agreement
    assert detail in found[1]


def test_json_takes_a_tolerance(tmp_path):
    comparator = Comparator(Kind.JSON, rtol=1e-6)
    found = compare(tmp_path, "golden.json", '{"p": [0.5, 1]}', '{"p": [0.50000001, 1]}', comparator)
    assert found == (Agreement.EQUAL, "2 values within the tolerance, largest difference 1e-08 (relative 2e-08)")


@pytest.mark.parametrize(
    ("after", "agreement", "detail"),
    [
        (CSV.replace("\n", "\r\n"), "equal", "the same 6 values"),
        (CSV.replace("0.5", "0.50"), "equal", "the same 6 values"),
        (
            CSV.replace("007", "7"),
            "different",
            "1 of 6 values differ in zip (1), first row 0, column 'zip': '007', now '7'",
        ),
        (
            CSV.replace("0.25", "0.26"),
            "different",
            "row 1, column 'p': 0.25, now 0.26; largest difference 0.01 (relative 0.04)",
        ),
        (CSV.replace("0.25", "nan"), "different", "row 1, column 'p': '0.25', now 'nan'"),
        (CSV.replace("zip", "plz"), "different", "other columns: without 'zip', with new 'plz'"),
        (CSV.replace("name,p", "p,name"), "different", "columns in another order"),
        (CSV + "c,1,1\n", "different", "3 rows, were 2"),
        ("name,p,zip\na,0.5,007\n", "different", "1 rows, were 2"),
        ("name,p,zip\na,0.5,007,x\nb,0.25,010\n", "different", "row 0, number of fields: 3, now 4"),
        ("name,p,zip\nb,0.25,010\na,0.5,007\n", "different", "6 of 6 values differ"),
        ("", "different", "other columns"),
        (b"name,p,zip\n\xff\n", "unreadable", "utf-8"),
    ],
)
def test_csv_is_compared_field_by_field(tmp_path, after, agreement, detail):
    found = compare(tmp_path, "a.csv", CSV, after)
    assert (found[0], detail in found[1]) == (agreement, True), found


@pytest.mark.parametrize(
    ("before", "after", "holds"),
    [("1.0", "1.0000001", True), ("1.0", "1.001", False), ("0", "0.0000001", False), ("1e999", "1", False)],
)
def test_csv_numbers_may_differ_within_the_tolerance(tmp_path, before, after, holds):
    found = compare_texts(tmp_path, f"x\n{before}\n", f"x\n{after}\n", table(rtol=1e-6))
    assert found.holds is holds


def compare_texts(tmp_path, before, after, comparator):
    write_files(tmp_path, {"before": before, "after": after})
    return compare_outputs("a.csv", tmp_path / "before", tmp_path / "after", comparator)


def test_large_integers_in_text_keep_every_digit(tmp_path):
    before, after = "x\n9007199254740993\n", "x\n9007199254740992\n"
    assert compare_texts(tmp_path, before, after, None).agreement is Agreement.DIFFERENT
    assert compare_texts(tmp_path, before, after, table(rtol=1e-9)).agreement is Agreement.EQUAL


def parquet(columns, row_group_size=None, **options):
    import pyarrow
    import pyarrow.parquet

    def write(path):
        pyarrow.parquet.write_table(pyarrow.table(columns), path, row_group_size=row_group_size, **options)

    return write


def test_parquet_in_other_row_groups_is_equal(tmp_path):
    columns = {"x": list(range(1000)), "s": [f"größe {i}" for i in range(1000)]}
    found = compare(
        tmp_path, "a.parquet", parquet(columns, 7, compression="none"), parquet(columns, 64, compression="gzip")
    )
    assert found == (Agreement.EQUAL, "the same 2,000 values, stored in other bytes")


def test_parquet_names_first_row_column_and_distance(tmp_path):
    x = [float(i) for i in range(200_000)]
    changed = [*x[:150_000], x[150_000] + 1, *x[150_001:]]
    changed[199_999] += 3
    s = ["a"] * 199_990 + ["b"] * 10
    found = compare(tmp_path, "a.parquet", parquet({"s": ["a"] * 200_000, "x": x}), parquet({"s": s, "x": changed}))
    assert found == (
        Agreement.DIFFERENT,
        "12 of 400,000 values differ in s (10), x (2), first row 150000, column 'x': 150000.0, now 150001.0; "
        "largest difference 3 (relative 1.5e-05)",
    )


@pytest.mark.parametrize(
    ("before", "after", "agreement", "detail"),
    [
        ({"x": [1.0, float("nan")]}, {"x": [1.0, float("nan")], }, "equal", "the same 2 values"),
        ({"x": [1.0, None]}, {"x": [1.0, float("nan")]}, "different", "row 1, column 'x': None, now nan"),
        ({"x": [1, 2]}, {"x": [1.0, 2.0]}, "different", "column 'x' has type double, was int64"),
        ({"x": [1], "y": [1]}, {"y": [1], "x": [1]}, "different", "columns in another order"),
        ({"x": [1]}, {"x": [1], "y": [1]}, "different", "other columns: with new 'y'"),
        ({"x": [1, 2]}, {"x": [1]}, "different", "1 rows, were 2"),
        ({"x": [2, 1]}, {"x": [1, 2]}, "different", "2 of 2 values differ"),
        ({"x": [2**63 - 1]}, {"x": [2**63 - 2]}, "different", "largest difference 1 "),
        ({"x": [True]}, {"x": [False]}, "different", "row 0, column 'x': True, now False"),
        ({"x": [{"a": [1.0, float("nan")]}]}, {"x": [{"a": [1.0, float("nan")]}]}, "equal", "the same 1 value"),
        ({"x": [{"a": [1.0]}]}, {"x": [{"a": [2.0]}]}, "different", "row 0, column 'x'"),
        ({"x": [float("inf")]}, {"x": [1.0]}, "different", "now 1.0"),
    ],
)  # fmt: skip
def test_parquet_is_compared_value_by_value(tmp_path, before, after, agreement, detail):
    found = compare(tmp_path, "a.parquet", parquet(before), parquet(after, compression="gzip"))
    assert (found[0], detail in found[1]) == (agreement, True), found


def test_parquet_numbers_may_differ_within_the_tolerance(tmp_path):
    nested = [[1.0, 2.0], None]
    before, after = {"x": [1.0, 2.0], "v": nested}, {"x": [1.0, 2.0 + 1e-7], "v": [[1.0 + 1e-7, 2.0], None]}
    found = compare(tmp_path, "a.parquet", parquet(before), parquet(after), table(rtol=1e-6))
    assert found == (
        Agreement.EQUAL, "4 values within the tolerance, largest difference 1e-07 (relative 1e-07)"
    )  # fmt: skip


@pytest.mark.parametrize("after", [b"PAR1 but broken", b"x,y\n1,2\n", b""])
def test_broken_parquet_never_holds(tmp_path, after):
    assert not compare(tmp_path, "a.parquet", parquet({"x": [1]}), after)[0].holds


def npy(array):
    def write(path):
        import numpy

        with path.open("wb") as file:
            numpy.save(file, array, allow_pickle=array.dtype == object)

    return write


def npz(**arrays):
    def write(path):
        import numpy

        with path.open("wb") as file:
            numpy.savez(file, **arrays)

    return write


def test_arrays_name_the_element(tmp_path):
    import numpy

    before = numpy.arange(12.0).reshape(3, 4)
    after = before.copy()
    after[1, 2] = numpy.nan
    found = compare(tmp_path, "a.npy", npy(before), npy(after))
    assert found == (Agreement.DIFFERENT, "1 of 12 values differ in array (1), first 'array'[1, 2]: 6.0, now nan")


def test_arrays_in_another_memory_order_are_equal(tmp_path):
    import numpy

    array = numpy.arange(12.0).reshape(3, 4)
    array[0, 0] = numpy.nan
    found = compare(tmp_path, "a.npy", npy(array), npy(numpy.asfortranarray(array)))
    assert found == (Agreement.EQUAL, "the same 12 values, stored in other bytes")


@pytest.mark.parametrize(
    ("before", "after", "detail"),
    [
        ([1.0], [1], "dtype of 'array': 'float64', now 'int64'"),
        ([1.0], [[1.0]], "shape of 'array': (1,), now (1, 1)"),
        ([], [1.0], "shape of 'array': (0,), now (1,)"),
        (["a"], ["b"], "first 'array'[0]: 'a', now 'b'"),
        ([True], [False], "first 'array'[0]: True, now False"),
        (1.0, 2.0, "first 'array': 1.0, now 2.0"),
        ([1j], [2j], "largest difference 1 (relative 1)"),
    ],
)
def test_arrays_differ_in_type_shape_or_value(tmp_path, before, after, detail):
    import numpy

    found = compare(tmp_path, "a.npy", npy(numpy.array(before)), npy(numpy.array(after)))
    assert (found[0], detail in found[1]) == (Agreement.DIFFERENT, True), found


def test_structured_and_time_arrays_are_compared(tmp_path):
    import numpy

    kind = [("t", "M8[s]"), ("x", "f4")]
    before = numpy.array([("NaT", 1), ("2026-03-01", 2)], kind)
    after = before.copy()
    after["x"][1] = 3
    found = compare(tmp_path, "a.npy", npy(before), npy(after))
    assert found == (
        Agreement.DIFFERENT,
        "1 of 4 values differ in array.x (1), first 'array.x'[1]: 2.0, now 3.0; largest difference 1 (relative 0.5)",
    )


def test_pickled_array_is_never_loaded(tmp_path):
    import numpy

    before, after = (numpy.array([text], dtype=object) for text in ("a", "b"))
    agreement, detail = compare(tmp_path, "a.npy", npy(before), npy(after))
    assert agreement is Agreement.UNREADABLE
    assert "allow_pickle=False" in detail


def test_npz_is_compared_by_name(tmp_path):
    import numpy

    x, y = numpy.ones(3, "float32"), numpy.zeros(2)
    found = compare(tmp_path, "a.npz", npz(x=x, y=y), npz(x=x * numpy.float32(1.0000001), z=y))
    assert found[0] is Agreement.DIFFERENT
    assert "in x (3), y (1), z (1)" in found[1]


def test_tensors_take_a_tolerance(tmp_path):
    import numpy

    x = numpy.linspace(0, 1, 5)
    comparator = Comparator(Kind.TENSORS, rtol=1e-6)
    assert compare(tmp_path, "a.npz", npz(x=x), npz(x=x * (1 + 1e-8)), comparator)[0] is Agreement.EQUAL


@pytest.mark.parametrize("after", [b"\x93NUMPY\x01", b"PK\x03\x04", b"", b"\x89HDF\r\n\x1a\n", b"text"])
def test_broken_tensors_never_hold(tmp_path, after):
    import numpy

    assert not compare(tmp_path, "a.npy", npy(numpy.ones(2)), after)[0].holds


def keras(weights, config, date="2026-03-01", **members):
    import h5py

    def write(path):
        buffer = io.BytesIO()
        with h5py.File(buffer, "w") as file:
            file.create_group("layers/dense/vars").attrs["name"] = "dense"
            file["layers/dense/vars/0"] = weights
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("metadata.json", json.dumps({"keras_version": "3.1", "date_saved": date}))
            archive.writestr("config.json", json.dumps(config))
            archive.writestr("model.weights.h5", buffer.getvalue())
            for name, data in members.items():
                archive.writestr(name, data)

    return write


def test_keras_date_zip_times_and_object_ids_are_no_difference(tmp_path):
    configs = (
        {"layers": [{"shared_object_id": n}, {"shared_object_id": n}, {"shared_object_id": m}]}
        for n, m in ((140, 9), (7, 8))
    )
    before, after = configs
    found = compare(tmp_path, "m.keras", keras([1.0], before), keras([1.0], after, date="2026-03-02"))
    assert found[0] is Agreement.EQUAL


@pytest.mark.parametrize(
    ("after", "detail"),
    [
        (([1.0, 2.5], {"units": 2}), "layers/dense/vars/0 (1), first 'layers/dense/vars/0'[1]: 2.0, now 2.5"),
        (([1.0, 2.0], {"units": 3}), "first config.json.units: 2, now 3"),
        (([1.0], {"units": 2}), "shape of 'layers/dense/vars/0': (2,), now (1,)"),
    ],
)
def test_keras_names_the_tensor_or_the_setting(tmp_path, after, detail):
    agreement, found = compare(tmp_path, "m.keras", keras([1.0, 2.0], {"units": 2}), keras(*after))
    assert (agreement, detail in found) == (Agreement.DIFFERENT, True), found


def test_keras_with_another_member_differs(tmp_path):
    found = compare(tmp_path, "m.keras", keras([1.0], {}), keras([1.0], {}, vocabulary="a"))
    assert found == (Agreement.DIFFERENT, "other members: ['vocabulary']")


def png(pixels, mode="RGB", **options):
    def write(path):
        import numpy
        from PIL import Image

        Image.fromarray(numpy.array(pixels, "uint8")).convert(mode).save(path, "PNG", **options)

    return write


WHITE, BLACK = [255, 255, 255], [0, 0, 0]


def test_images_are_compared_by_pixels(tmp_path):
    found = compare(tmp_path, "a.png", png([[WHITE, BLACK]]), png([[WHITE, BLACK]], "RGBA"))
    assert found == (Agreement.EQUAL, "the same 2 pixels, stored in other bytes")


@pytest.mark.parametrize(
    ("after", "detail"),
    [
        ([[WHITE, [0, 0, 9]]], "1 of 2 pixels differ, first at x=1, y=0: (0, 0, 0, 255), now (0, 0, 9, 255); largest"),
        ([[WHITE], [BLACK]], "1 x 2 pixels, were 2 x 1"),
    ],
)
def test_images_name_the_pixel(tmp_path, after, detail):
    agreement, found = compare(tmp_path, "a.png", png([[WHITE, BLACK]]), png(after))
    assert (agreement, detail in found) == (Agreement.DIFFERENT, True), found


def test_levels_of_pixels_differ_by_no_fraction(tmp_path):
    _, detail = compare(tmp_path, "a.png", png([[WHITE, BLACK]]), png([[WHITE, WHITE]]))
    assert detail.endswith("; largest difference 255")
    _, one = compare(tmp_path, "b.png", png([[BLACK]]), png([[WHITE]]))
    assert (
        one
        == "1 of 1 pixel differs, first at x=0, y=0: (0, 0, 0, 255), now (255, 255, 255, 255); largest difference 255"
    )


def test_images_take_a_tolerance_in_levels(tmp_path):
    comparator = Comparator(Kind.IMAGE, atol=2)
    assert compare(tmp_path, "a.png", png([[WHITE]]), png([[[255, 253, 255]]]), comparator)[0] is Agreement.EQUAL


def test_broken_image_never_holds(tmp_path):
    assert compare(tmp_path, "a.png", png([[WHITE]]), b"\x89PNG")[0] is Agreement.UNREADABLE


WRITERS = {
    "a.npy": lambda: npy(ramp(50)),
    "a.npz": lambda: npz(x=ramp(20), y=ramp(3)),
    "a.keras": lambda: keras([1.0, 2.0], {"units": 2}),
    "a.png": lambda: png([[WHITE, BLACK]] * 4),
    "a.parquet": lambda: parquet({"x": [1.0, 2.0], "s": ["a", "b"], "l": [[1], [2, 3]]}),
    "a.csv": lambda: lambda path: path.write_text(CSV),
    "a.json": lambda: lambda path: path.write_text('{"a": [1, {"b": null}]}'),
}


def ramp(n):
    import numpy

    return numpy.arange(float(n))


def damage(data, random):
    """Bytes with one to five of them changed, cut out or put in."""
    damaged = bytearray(data)
    for _ in range(random.randint(1, 5)):
        place = random.randrange(len(damaged) or 1)
        match random.randrange(3):
            case 0:
                damaged[place : place + 1] = bytes([random.randrange(256)])
            case 1:
                del damaged[place : place + random.randrange(1, 20)]
            case _:
                damaged[place:place] = random.randbytes(4)
    return bytes(damaged)


@pytest.mark.parametrize("name", WRITERS)
def test_damaged_file_is_never_an_exception(tmp_path, name):
    random = Random(name)
    WRITERS[name]()(tmp_path / "before")
    data = (tmp_path / "before").read_bytes()
    for _ in range(60):
        (tmp_path / "after").write_bytes(damage(data, random))
        for sides in (("before", "after"), ("after", "before")):
            assert compare_outputs(name, *(tmp_path / side for side in sides)).comparator


def test_folders_are_compared_file_by_file(tmp_path):
    before = {"a.json": "{}", "deep/b.txt": "x", "c.csv": "x\n1\n"}
    agreement, detail = compare(tmp_path, "folder", before, {**before, "a.json": " {}", "c.csv": "x\n2\n"})
    assert agreement is Agreement.DIFFERENT
    assert detail.startswith("1 of 3 parts differ, first c.csv: 1 of 1 value differs")


def test_folder_with_another_file_differs(tmp_path):
    found = compare(tmp_path, "folder", {"a": "x"}, {"b": "x"})
    assert found == (Agreement.DIFFERENT, "other files: a, b on one side only")


def test_folder_takes_the_declared_comparator_for_files_of_its_type_and_bytes_for_others(tmp_path):
    before, after = {"p.csv": "x\n1.0\n", "a.json": "{}"}, {"p.csv": "x\n1.0000001\n", "a.json": "{} "}
    agreement, detail = compare(tmp_path, "folder", before, after, table(rtol=1e-6))
    assert (agreement, detail) == (
        Agreement.DIFFERENT,
        "1 of 2 parts differ, first a.json: first at byte 2; 3 bytes, were 2",
    )


def test_unreadable_part_makes_the_folder_unreadable(tmp_path):
    assert compare(tmp_path, "folder", {"a.json": "{}"}, {"a.json": "{"})[0] is Agreement.UNREADABLE


MODELS = """
import shutil, sys
from pathlib import Path
import keras, tensorflow as tf
from kit.model import save_saved_model
folder = Path(sys.argv[1])
keras.utils.set_random_seed(1)
model = keras.Sequential([keras.layers.Input((3,)), keras.layers.Dense(2)])
model.compile("adam", "mse")
module = tf.Module()
module.v = tf.Variable([1.0, 2.0])
score = tf.function(lambda x: {"y": x * module.v}, [tf.TensorSpec([2])]).get_concrete_function()
save_saved_model(module, folder / "a", {"serving_default": score})
saved = tf.train.load_checkpoint(str(folder / "a/variables/variables"))
for name, value in {"a": 2.0, "near": 2.000001, "far": 3.0}.items():
    model.layers[0].bias.assign([0.0, value])
    model.save(folder / f"{name}.keras")
    if name != "a":  # the same program with other variables
        shutil.copytree(folder / "a", folder / name)
        names = sorted(saved.get_variable_to_shape_map())
        tensors = [tf.constant([1.0, value]) if n.startswith("v/") else saved.get_tensor(n) for n in names]
        tf.raw_ops.SaveV2(prefix=str(folder / name / "variables/variables"), tensor_names=names,
                          shape_and_slices=[""] * len(names), tensors=tensors)
(folder / "far/saved_model.pb").write_bytes(b"another program")
"""


@pytest.mark.kernel
def test_real_models_are_compared_by_their_tensors(tmp_path):
    subprocess.run([sys.executable, "-c", MODELS, str(tmp_path)], check=True, capture_output=True)
    comparator = Comparator(Kind.TENSORS, rtol=1e-6)

    def compare_with(name):
        before = tmp_path / ("a.keras" if name.endswith(".keras") else "a")
        return compare_outputs(name, before, tmp_path / name, comparator if "near" in name else None)

    found = {name: compare_with(name) for name in ("a", "near", "far", "a.keras", "near.keras", "far.keras")}
    assert {name: str(comparison.agreement) for name, comparison in found.items()} == {
        "a": "identical", "near": "equal", "far": "different",
        "a.keras": "identical", "near.keras": "equal", "far.keras": "different",
    }  # fmt: skip
    assert found["near"].detail.startswith("variables: 3 values within the tolerance, largest difference 9.54e-07")
    assert found["far"].detail.startswith("2 of 2 parts differ, first saved_model.pb: first at byte 0")
    assert "first 'layers/dense/vars/1'[1]: 2.0, now 3.0; largest difference 1" in found["far.keras"].detail
