import msgspec
import pytest
from builders import make_record

from kit.artifact import Artifact, InputArtifact
from kit.compare import Cause, find_causes, read_packages
from kit.errors import IntegrityError
from kit.parameter import ResolvedParameter, Source

replace = msgspec.structs.replace
A, B = "a" * 64, "b" * 64


def parameters(**values):
    return tuple(ResolvedParameter(name, value, Source.NOTEBOOK, "int") for name, value in values.items())


def causes(before=None, after=None, packages=({}, {}), cells=({}, {}), **sources):
    found = find_causes(before or make_record(), after or make_record(), *packages, *cells, **sources)
    return [(cause.kind, cause.subject, cause.before, cause.after) for cause in found]


def test_same_execution_has_no_causes():
    packages, cells = {"numpy": "2.4.6"}, {"a": "x = 1"}
    assert causes(packages=(packages, packages), cells=(cells, cells)) == []


def test_time_host_and_person_are_no_causes():
    other = replace(make_record().machine, host="elsewhere", user="someone")
    assert causes(after=make_record(id="20270301T093000Z-train-000000", machine=other, metrics={}, outputs=())) == []


def test_changed_parameter_is_named():
    found = causes(make_record(parameters=parameters(epochs=3, rate=1)), make_record(parameters=parameters(epochs=5)))
    assert found == [("parameter", "epochs", 3, 5), ("parameter", "rate", 1, None)]


@pytest.mark.parametrize(("before", "after"), [(1, 1.0), (1, True), (None, 0), ([1, 2], [1, 2.0])])
def test_value_of_another_type_is_another_value(before, after):
    found = causes(make_record(parameters=parameters(x=before)), make_record(parameters=parameters(x=after)))
    assert found == [("parameter", "x", before, after)]


def test_changed_data_row_is_named_as_its_input():
    def read(digest, record=""):
        artifact = Artifact("größe.parquet", digest, 5, "text/csv")
        return make_record(inputs=(InputArtifact(artifact, record, "data/größe.parquet"),))

    assert causes(read(A), read(B)) == [("input", "größe.parquet", A, B)]
    assert causes(read(A), read(A, "20260301T093000Z-prepare-000000")) == []


def test_changed_cell_is_named_and_its_line_shown():
    code = make_record().code
    after = make_record(code=replace(code, bundle_sha256=B, notebook_sha256=B))
    cells = {"a": "x = 1\ny = 2", "gone": "z = 1"}, {"a": "x = 1\ny = 3", "new": "z = 2"}
    found = find_causes(make_record(), after, {}, {}, *cells)
    assert [str(cause) for cause in found] == [
        "cell 'a' was changed: line 2 was 'y = 2', is 'y = 3'",
        "cell 'gone' is gone",
        "cell 'new' is new",
        f"code 'bundle' was {A[:12]}…, is {B[:12]}…",
    ]


def test_other_sources_are_told_by_digest_or_by_name():
    code = make_record().code
    after = make_record(code=replace(code, bundle_sha256=B))
    assert causes(after=after) == [("code", "bundle", A, B)]
    files = {"notebooks/train.ipynb": A, "notebooks/model.py": A}, {"notebooks/train.ipynb": B, "notebooks/model.py": B}
    cells = {"a": "1"}, {"a": "1"}
    named = causes(after=after, cells=cells, sources_before=files[0], sources_after=files[1])
    assert named == [("code", "notebooks/model.py", A, B)]
    changed = make_record(code=replace(code, bundle_sha256=B, notebook_sha256=B))
    assert causes(after=changed)[0] == ("code", "notebooks/train.ipynb", A, B)


def test_changed_seed_is_named():
    found = causes(make_record(determinism={"seed": 7}), make_record(determinism={"seed": 8, "python_hash_seed": "0"}))
    assert found == [("seed", "seed", 7, 8), ("seed", "python_hash_seed", None, "0")]


def test_changed_package_is_named():
    found = causes(packages=({"numpy": "2.4.6", "six": "1"}, {"numpy": "2.3.0", "wheel": "1"}))
    assert found == [
        ("package", "numpy", "2.4.6", "2.3.0"),
        ("package", "six", "1", None),
        ("package", "wheel", None, "1"),
    ]


def test_machine_software_and_determinism_are_named():
    before = make_record(determinism={"onednn": False, "intra_op_threads": 1, "numpy": "2.4.6"})
    machine = replace(
        before.machine, python="CPython 3.12", platform="Darwin", cpu_model="M4", cpu_flags_sha256=B, n_cpus=8,
        thread_settings={"OMP_NUM_THREADS": "4"},
    )  # fmt: skip
    after = make_record(
        machine=machine,
        determinism={"onednn": True, "intra_op_threads": 2, "numpy": "2.3.0"},
        software=replace(before.software, kit_version="0.2.0", kit_sources_sha256=B),
        configuration_sha256=B,
        environment="ci",
    )
    packages = {"numpy": "2.4.6"}, {"numpy": "2.3.0"}
    assert [(kind, subject) for kind, subject, *_ in causes(before, after, packages)] == [
        ("configuration", "environment"),
        ("configuration", "settings"),
        ("package", "numpy"),
        ("python", "version"),
        ("platform", "system"),
        ("processor", "model"),
        ("processor", "flags_sha256"),
        ("threads", "n_cpus"),
        ("threads", "intra_op_threads"),
        ("threads", "OMP_NUM_THREADS"),
        ("determinism", "onednn"),
        ("kit", "version"),
        ("kit", "sources_sha256"),
    ]


@pytest.mark.parametrize(
    ("cause", "sentence"),
    [
        (Cause("parameter", "epochs", 3, 5), "parameter 'epochs' was 3, is 5"),
        (Cause("parameter", "name", "a", "b"), "parameter 'name' was 'a', is 'b'"),
        (Cause("package", "six", None, "1.17"), "package 'six' is new: 1.17"),
        (Cause("package", "six", "1.17", None), "package 'six' is gone, was 1.17"),
        (Cause("input", "a.csv", A, B), f"input 'a.csv' was {A[:12]}…, is {B[:12]}…"),
        (Cause("parameter", "text", "x" * 500, "y"), f"parameter 'text' was {repr('x' * 500)[:119]}…, is 'y'"),
        (Cause("cell", "c", "a", "a\nb"), "cell 'c' was changed: line 2 was '', is 'b'"),
    ],
)
def test_cause_reads_as_a_sentence(cause, sentence):
    assert str(cause) == sentence


def test_packages_are_read_from_a_record():
    assert read_packages(b"numpy==2.4.6\n# note\n\n six == 1.17 \n") == {"numpy": "2.4.6", "six": "1.17"}
    assert read_packages(b"") == {}


@pytest.mark.parametrize("line", ["numpy", "numpy>=2", "==2", "numpy==", "\x00"])
def test_unreadable_package_line_is_an_integrity_error(line):
    with pytest.raises(IntegrityError, match="line 2: expected name==version"):
        read_packages(f"six==1\n{line}\n".encode())
