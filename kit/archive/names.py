"""Names of files and folders in an archive."""

OPEN = ".open"  # behind the id of a record that is being written
STARTED = "started.json"
STATEMENT = "statement.dsse.json"
VERDICT = "verdict.dsse.json"
LOG = "log.txt"  # grows while the kernel runs
JOURNAL = "journal.jsonl"  # of the engine; not part of a sealed record
RELEASE_FILE = "release.json"
