"""Under which terms an export says that its sources stand."""

import zipfile
from pathlib import Path

import pytest

from kit.crate.licence import Licence, read_licence


def bundle_of(folder: Path, text: bytes | None) -> Path:
    with zipfile.ZipFile(folder / "bundle.zip", "w") as archive:
        if text is not None:
            archive.writestr("pyproject.toml", text)
    return folder / "bundle.zip"


def test_spdx_licence_has_its_address_and_the_project_its_home(tmp_path: Path) -> None:
    text = b'[project]\nlicense = "Apache-2.0"\n[project.urls]\nIssues = "https://x.org/i"\nRepository = "https://x.org/r"\n'
    licence = read_licence(bundle_of(tmp_path, text))
    assert (licence.id, licence.name) == ("https://spdx.org/licenses/Apache-2.0", "Apache-2.0")
    assert licence.home == "https://x.org/r"


@pytest.mark.parametrize(
    ("text", "name"),
    [
        (b'[project]\nlicense = "MIT OR Apache-2.0"\n', "MIT OR Apache-2.0"),
        (b'[project]\nlicense = { text = "ours alone" }\n', "ours alone"),
    ],
)
def test_other_terms_are_told_in_their_words(tmp_path: Path, text: bytes, name: str) -> None:
    licence = read_licence(bundle_of(tmp_path, text))
    assert (licence.id, licence.name) == ("#licence", name)
    assert name in licence.description


@pytest.mark.parametrize(
    "text",
    [None, b"", b"[project]\n", b"project = 3\n", b"[project]\nlicense = 3\n", b"[project]\nlicense = ' '\n",
     b"[project]\nlicense = { file = 'LICENSE' }\n", b"\xff\xfe", b"[project", b"[project]\nurls = 'https://x.org'\n",
     b"[project.urls]\nHomepage = 'javascript:alert(1)'\n"],
)  # fmt: skip
def test_without_terms_it_says_that_there_are_none(tmp_path: Path, text: bytes | None) -> None:
    licence = read_licence(bundle_of(tmp_path, text))
    assert licence == Licence("#licence", "No licence stated", licence.description, "")
    assert "no licence" in licence.description
