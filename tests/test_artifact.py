import pytest

from kit.artifact import TREE_MEDIA_TYPE, Artifact, InputArtifact, Tree, TreeEntry, media_type_of, require_artifact_name
from kit.errors import UsageError
from kit.files import sha256_bytes


@pytest.mark.parametrize("name", ["features.parquet", "saved_model", "größe.csv", "a b", "a..b"])
def test_plain_names_are_accepted(name):
    require_artifact_name(name, "here")


@pytest.mark.parametrize(
    "name", ["", ".", "..", "/", "a/", "./a", "a/b", "../a", "/a", ".hidden", "a\\b", "a\nb", "\udcff"]
)
def test_names_that_are_no_plain_file_name_are_refused(name):
    with pytest.raises(UsageError, match=r"notebooks/a\.ipynb, cell 2: .* cannot name an artifact; expected a plain"):
        require_artifact_name(name, "notebooks/a.ipynb, cell 2")


@pytest.mark.parametrize(
    ("name", "media_type"),
    [
        ("a.PARQUET", "application/vnd.apache.parquet"),
        ("a.tar.json", "application/json"),
        ("a", "application/octet-stream"),
    ],
)
def test_media_type_follows_the_ending(name, media_type):
    assert media_type_of(name) == media_type


def test_folder_is_identified_by_its_files():
    tree = Tree((TreeEntry("a/b.txt", "1" * 64, 3), TreeEntry("ö", "2" * 64, 4)))
    assert tree.size_bytes == 7
    assert tree.sha256 == sha256_bytes(tree.encode())
    assert tree.sha256 != Tree(tree.files[:1]).sha256
    assert Artifact("a", tree.sha256, 7, TREE_MEDIA_TYPE).is_folder


def test_input_comes_from_a_record_or_a_location():
    artifact = Artifact("a.csv", "1" * 64, 1, "text/csv")
    assert InputArtifact(artifact, record="R").origin == "R"
    assert InputArtifact(artifact, source="data/a.csv").origin == "data/a.csv"
    assert not artifact.is_folder
