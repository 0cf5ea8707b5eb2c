"""A release for a phone or another device: the LiteRT model and its encoding, verified, and how they are used."""

from __future__ import annotations

from pathlib import Path

from kit.archive import Archive
from kit.environment import LiteRTLimits
from kit.files import format_bytes
from kit.handover.subject import Subject, find_artifact

MODEL = "model.tflite"
ENCODING = "encoding.json"


def write_edge(archive: Archive, subject: Subject, limits: LiteRTLimits, folder: Path) -> None:
    """Put the LiteRT model into a new folder.

    Raises:
        NotFoundError: the release has no such artifact, or its bytes are not in the archive.
        IntegrityError: they were changed.
    """
    model = find_artifact(subject, limits.model, "gates.litert.model")
    encoding = find_artifact(subject, limits.encoding, "gates.litert.encoding")
    folder.mkdir()
    archive.objects.copy_artifact(model, folder / MODEL)
    archive.objects.copy_artifact(encoding, folder / ENCODING)
    rows = "\n".join(
        f"| `{name}` | {format_bytes(each.size_bytes)} | `{each.sha256}` |"
        for name, each in ((MODEL, model), (ENCODING, encoding))
    )
    judged = [f"- {each.finding}: {each.detail}" for each in subject.manifest.verdict.evidence if each.kind == "litert"]
    text = _GUIDE.format(release=subject.release.id, rows=rows, judged="\n".join(judged) or "- nothing")
    (folder / "README.md").write_text(text, encoding="utf-8")


_GUIDE = """# The model of release {release} for a phone or a device

| file | size | SHA-256 |
|---|---|---|
{rows}

What the release's gate found when it compared the model with the SavedModel:

{judged}

1. Encode. A row of the model's input is the `parts` of `encoding.json` one after the other, in float32:

   | kind | gives |
   |---|---|
   | `one_hot` | 1 + length of the vocabulary: 1 at the text's place, 0 elsewhere; the first place is for every other text |
   | `standardised` | for each field (x - mean) / max(sqrt(variance), epsilon); 0 where x is missing; then cut to [-clip, clip] |
   | `missing` | for each field 1 where x is missing, else 0 |

2. Ask. Load `model.tflite` with LiteRT (Android: the Maven package `com.google.ai.edge.litert`; Linux: `pip install
   ai-edge-litert`), resize the input to float32 [rows, width], invoke, read the output, float32 [rows, 1].
3. Compare on the device, before it is used, with the golden predictions of the release.

In Python, without TensorFlow:

    from pathlib import Path
    from kit.model.litert import open_litert

    model = open_litert(Path("model.tflite"), Path("encoding.json"))
    answers = model.predict(columns)   # by field: arrays of one length
"""
