import errno
import os
import random
import selectors
import signal
import subprocess
import sys
import threading
from collections import Counter
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from kit.errors import IntegrityError, NewerFormatError
from kit.files import canonical_json, sha256_bytes
from kit.ledger import Entry, Kind, Ledger, decode_entry, environment_of, release_number
from kit.merkle import Frontier, hash_leaf, tree_root

TIME = datetime(2026, 3, 1, 9, 30, tzinfo=UTC)
DIGEST = sha256_bytes(b"statement")
FIELDS = {
    "checkpoint": 0,
    "format": 1,
    "kind": "end",
    "prev": "",
    "record": "20260301T093000Z-train-0a1b2c",
    "release": "",
    "seq": 1,
    "sha256": DIGEST,
    "time": "2026-03-01T09:30:00.000Z",
    "who": "ana@laptop",
}

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
names = st.text(st.characters(exclude_categories=["Cs", "Cc"], exclude_characters="/\\."), min_size=1, max_size=20)
digests = st.binary(min_size=32, max_size=32).map(bytes.hex)
moments = st.datetimes(datetime(1, 1, 2), datetime(9999, 12, 30), timezones=st.just(UTC))
releases = st.builds("{}-{}".format, names, st.integers(1, 999_999_999))

no_or_any_release = st.just("") | releases


def entries_of(kinds, record=names, release=no_or_any_release):
    return st.builds(
        Entry,
        seq=st.integers(1, 10**12),
        prev=st.just("") | digests,
        kind=st.sampled_from(kinds),
        record=record,
        sha256=digests,
        time=moments.map(lambda time: time.replace(microsecond=time.microsecond // 1000 * 1000)),
        who=texts,
        release=release,
        checkpoint=st.integers(0, 10**12),
    )


entries = (
    entries_of([kind for kind in Kind if kind not in (Kind.ROLLBACK, Kind.WAIVER)])
    | entries_of([Kind.ROLLBACK], release=releases)
    | entries_of([Kind.WAIVER], st.just(""), st.just(""))
)


def append(ledger, record="r", kind=Kind.END, **changes):
    return ledger.append(kind, record, **{"sha256": DIGEST, "who": "ana@laptop", "time": TIME, **changes})


def fill(folder, n_entries):
    ledger = Ledger(folder)
    for number in range(n_entries):
        append(ledger, f"r{number}")
    return ledger


def list_folder(ledger):
    return sorted(path.name for path in ledger.folder.iterdir())


def replace_entry(ledger, seq, data):
    ledger.path(seq).unlink()
    ledger.path(seq).write_bytes(data)


def read_chain(folder):
    """All entries, if there is no gap, no fork and nothing else; left-overs of killed writers have a dot in front."""
    ledger = Ledger(folder)
    found = list(ledger.read_entries())
    listed = [name for name in list_folder(ledger) if not name.startswith(".")]
    assert listed == [f"{seq:09d}.json" for seq in range(1, len(found) + 1)]
    assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
    digests = [sha256_bytes(entry.encode()) for entry in found]
    assert [entry.prev for entry in found] == [ledger.beginning(), *digests[:-1]][: len(found)]
    return found


# Entries


@given(entries)
def test_entry_reads_back_as_it_was_written(entry):
    assert decode_entry(entry.encode(), "e") == entry


def test_entry_is_canonical_json():
    entry = Entry(seq=1, prev="", kind=Kind.END, record=FIELDS["record"], sha256=DIGEST, time=TIME, who="ana@laptop")
    assert entry.encode() == canonical_json(FIELDS)


@given(entries, st.data())
def test_entry_with_any_changed_byte_is_another_or_none(entry, draw):
    data = bytearray(entry.encode())
    place = draw.draw(st.integers(0, len(data) - 1))
    data[place] = draw.draw(st.integers(0, 255).filter(lambda byte: byte != data[place]))
    try:
        other = decode_entry(bytes(data), "e")
    except IntegrityError:
        return
    assert other != entry


@given(st.binary(max_size=200) | st.recursive(texts | st.integers(), st.lists).map(msgspec.json.encode))
def test_noise_is_refused(data):
    with pytest.raises(IntegrityError, match=r"^ledger/000000007\.json: not a readable entry"):
        decode_entry(data, "ledger/000000007.json")


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("format", 0),
        ("format", True),
        ("format", "1"),
        ("seq", 0),
        ("seq", -1),
        ("seq", 1.0),
        ("seq", "1"),
        ("prev", "0" * 63),
        ("prev", "A" * 64),
        ("prev", DIGEST + "\n"),
        ("kind", "end "),
        ("kind", "merge"),
        ("record", ""),
        ("record", ".."),
        ("record", "../../etc"),
        ("record", "a/b"),
        ("record", "a\\b"),
        ("record", "a\0"),
        ("record", "a\n"),
        ("record", None),
        ("sha256", ""),
        ("sha256", "../" * 21 + "x"),
        ("time", "2026-03-01T09:30:00.000"),
        ("time", "0001-01-01T00:00:00.000+01:00"),
        ("time", "9999-12-31T23:59:59.999-01:00"),
        ("time", 1772357400),
        ("who", None),
        ("release", "dev"),
        ("release", "dev-0"),
        ("release", "dev-01"),
        ("release", "dev-²"),
        ("release", "dev-" + "9" * 5000),
        ("release", "-1"),
        ("checkpoint", -1),
        ("extra", 1),
    ],
)
def test_entry_with_a_wrong_field_is_refused_and_the_field_named(field, value):
    data = canonical_json({**FIELDS, field: value})
    with pytest.raises(IntegrityError, match=f"^e: not a readable entry: .*({field}|out of range)"):
        decode_entry(data, "e")


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b"\0" * 300,
        b"\xff",
        b"[" * 100_000,
        canonical_json(FIELDS)[:-1],
        canonical_json(FIELDS).replace(b"ana", b"\xed\xa0\x80"),
        canonical_json(FIELDS).replace(b"ana", b"\\ud800"),
        canonical_json({name: value for name, value in FIELDS.items() if name != "prev"}),
    ],
    ids=repr,
)
def test_what_is_no_entry_is_refused(data):
    with pytest.raises(IntegrityError, match=r"^e: not a readable entry"):
        decode_entry(data, "e")


@pytest.mark.parametrize(
    "data",
    [
        canonical_json(FIELDS) + b"\n",
        canonical_json(FIELDS).replace(b'":', b'": '),
        canonical_json(FIELDS).replace(b"ana", b"\\u0061na"),
        canonical_json(FIELDS).replace(b".000Z", b"Z"),
        canonical_json(FIELDS).replace(b"09:30:00.000Z", b"10:30:00.000+01:00"),
        canonical_json(FIELDS).replace(b'"seq":1', b'"seq":1,"seq":1'),
        msgspec.json.encode(dict(reversed(FIELDS.items()))),
    ],
    ids=repr,
)
def test_same_entry_in_other_bytes_is_refused(data):
    with pytest.raises(IntegrityError, match=r"^e: the entry is not in canonical form"):
        decode_entry(data, "e")


@pytest.mark.parametrize("fields", [{**FIELDS, "format": 2}, {"format": 3, "all": "else"}, {"format": 10**30}])
def test_entry_of_a_newer_kit_cannot_be_decided_here(fields):
    with pytest.raises(
        NewerFormatError, match=r"^e: entry format \d+ is newer than this kit reads; update kit"
    ) as caught:
        decode_entry(msgspec.json.encode(fields), "e")
    assert caught.value.exit_code == 3


# Appending


def test_each_entry_names_the_one_before_by_digest(tmp_path):
    ledger = Ledger(tmp_path)
    made = [append(ledger, f"r{number}", kind) for number, kind in enumerate([Kind.START, Kind.END, Kind.IMPORT])]
    assert read_chain(tmp_path) == made
    assert [(entry.record, entry.kind.value) for entry in made] == [("r0", "start"), ("r1", "end"), ("r2", "import")]
    assert ledger.path(2).read_bytes() == made[1].encode()
    assert made[2].prev == sha256_bytes(ledger.path(2).read_bytes())


def test_first_entry_names_what_makes_the_folder_an_archive(tmp_path):
    (tmp_path / "archive.json").write_bytes(b"{}")
    assert append(Ledger(tmp_path)).prev == sha256_bytes(b"{}")
    assert append(Ledger(tmp_path / "bare")).prev == ""


def test_what_append_gives_is_what_reads_back(tmp_path):
    time = datetime(2026, 3, 1, 10, 30, 0, 250_999, timezone(timedelta(hours=1)))
    entry = append(Ledger(tmp_path), time=time)
    assert entry == Ledger(tmp_path).read(1)
    assert entry.time == datetime(2026, 3, 1, 9, 30, 0, 250_000, UTC)


def test_entries_are_read_only_files(tmp_path):
    assert fill(tmp_path, 1).path(1).stat().st_mode & 0o777 == 0o444


def test_empty_ledger_has_no_entries(tmp_path):
    ledger = Ledger(tmp_path / "none")
    assert (ledger.size(), list(ledger.read_entries()), list(ledger.read_back())) == (0, [], [])
    assert not ledger.folder.exists()


def test_size_is_found_whatever_was_known_before(tmp_path):
    old = Ledger(tmp_path)
    old.folder.mkdir()
    for size in range(1, 70):
        old.path(size).touch()
        assert Ledger(tmp_path).size() == size
        if size % 7 == 0:
            assert old.size() == size


def test_entries_are_read_forth_and_back(tmp_path):
    ledger = fill(tmp_path, 5)
    assert [entry.seq for entry in ledger.read_entries()] == [1, 2, 3, 4, 5]
    assert [entry.seq for entry in ledger.read_back()] == [5, 4, 3, 2, 1]


class SlowLedger(Ledger):
    """Looks at the size, and others append before it does itself."""

    def __init__(self, archive, *others):
        self.pauses_s = []
        super().__init__(archive, pause=self.pauses_s.append)
        self.others = list(others)

    def size(self):
        size = super().size()
        if self.others:
            self.others.pop()()
        return size


def test_who_comes_too_late_reads_the_new_head_and_tries_again(tmp_path):
    other = Ledger(tmp_path)
    slow = SlowLedger(tmp_path, *[lambda: append(other, "theirs")] * 3)
    assert append(slow, "ours").seq == 4
    assert len(slow.pauses_s) == 3
    assert [entry.record for entry in read_chain(tmp_path)] == ["theirs", "theirs", "theirs", "ours"]


def test_pauses_of_those_who_lose_grow_to_32_ms_and_no_further(tmp_path):
    other = Ledger(tmp_path)
    slow = SlowLedger(tmp_path, *[lambda: append(other)] * 60)
    append(slow)
    assert all(0 <= pause_s <= 0.001 * 2**n_lost for n_lost, pause_s in enumerate(slow.pauses_s, start=1))
    assert 0.008 < max(slow.pauses_s[5:]) <= 0.032
    assert len(set(slow.pauses_s)) == 60


def test_two_releases_at_once_get_two_numbers(tmp_path):
    other = Ledger(tmp_path)
    slow = SlowLedger(tmp_path, lambda: append(other, kind=Kind.RELEASE, environment="dev"))
    ours = append(slow, kind=Kind.RELEASE, environment="dev")
    assert [entry.release for entry in read_chain(tmp_path)] == ["dev-1", "dev-2"]
    assert ours.release == "dev-2"


class RefusedError(Exception):
    pass


def test_append_is_admitted_again_after_each_attempt_that_came_too_late(tmp_path):
    other, sizes = Ledger(tmp_path), []
    slow = SlowLedger(tmp_path, *[lambda: append(other)] * 2)
    append(slow, admit=lambda: sizes.append(Ledger(tmp_path).size()))
    assert sizes == [1, 2, 2]
    assert len(read_chain(tmp_path)) == 3


def test_what_is_refused_in_the_second_attempt_is_never_appended(tmp_path):
    def admit():
        if any(entry.kind is Kind.RELEASE for entry in Ledger(tmp_path).read_entries()):
            raise RefusedError

    other = Ledger(tmp_path)
    append(other)
    slow = SlowLedger(tmp_path, lambda: append(other, kind=Kind.RELEASE, environment="dev"))
    with pytest.raises(RefusedError):
        append(slow, kind=Kind.RELEASE, environment="dev", admit=admit)
    assert [entry.release for entry in read_chain(tmp_path)] == ["", "dev-1"]


def test_rollback_names_the_release_that_is_live_again_and_takes_no_number(tmp_path):
    ledger = Ledger(tmp_path)
    for kind, more in ((Kind.RELEASE, {"environment": "a-b"}), (Kind.ROLLBACK, {"release": "a-b-1"})) * 2:
        append(ledger, kind=kind, **more)
    found = read_chain(tmp_path)
    assert [entry.release for entry in found] == ["a-b-1", "a-b-1", "a-b-2", "a-b-1"]
    assert {environment_of(entry) for entry in found} == {"a-b"}


def test_waiver_is_about_no_record(tmp_path):
    entry = append(Ledger(tmp_path), "", Kind.WAIVER)
    assert (entry.record, entry.release, environment_of(entry)) == ("", "", "")


def test_each_environment_counts_its_own_releases(tmp_path):
    ledger = Ledger(tmp_path)
    for environment in ("dev", "dev-2", "größe ü", "dev", "dev-2", "dev"):
        append(ledger)
        append(ledger, kind=Kind.RELEASE, environment=environment)
    made = [entry for entry in read_chain(tmp_path) if entry.release]
    assert [each.release for each in made] == ["dev-1", "dev-2-1", "größe ü-1", "dev-2", "dev-2-2", "dev-3"]
    assert [release_number(each, "dev") for each in made] == [1, 0, 0, 2, 0, 3]
    assert [release_number(each, "dev-2") for each in made] == [0, 1, 0, 0, 2, 0]


def test_release_id_on_an_entry_of_another_kind_is_no_release(tmp_path):
    entry = append(Ledger(tmp_path))
    assert release_number(msgspec.structs.replace(entry, release="dev-1"), "dev") == 0


def test_entry_names_the_newest_checkpoint_before_it(tmp_path):
    ledger = fill(tmp_path, 2)
    ledger.checkpoints.mkdir()
    (ledger.checkpoints / "2").touch()
    after = [append(ledger) for _ in range(2)]
    (ledger.checkpoints / "4").touch()
    assert [entry.checkpoint for entry in [*after, append(ledger)]] == [2, 2, 4]


def test_many_threads_append_to_one_chain(tmp_path):
    def write(name):
        ledger = Ledger(tmp_path)
        for number in range(10):
            append(ledger, f"{name}-{number}")

    threads = [threading.Thread(target=write, args=[name]) for name in "abcdefgh"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    records = [entry.record for entry in read_chain(tmp_path)]
    assert sorted(records) == [f"{name}-{number}" for name in "abcdefgh" for number in range(10)]
    for name in "abcdefgh":
        assert [record for record in records if record[0] == name] == [f"{name}-{number}" for number in range(10)]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"record": ""}, "record"),
        ({"record": "a/b"}, "record"),
        ({"sha256": "abc"}, "sha256"),
        ({"kind": Kind.RELEASE, "environment": ""}, "release"),
        ({"kind": Kind.ROLLBACK}, "the release that is live again"),
        ({"kind": Kind.ROLLBACK, "release": "dev-1", "record": ""}, "a record"),
        ({"kind": Kind.WAIVER}, "no record"),
        ({"kind": Kind.WAIVER, "record": "", "release": "dev-1"}, "no release"),
    ],
)
def test_what_nobody_could_read_is_never_appended(tmp_path, changes, reason):
    ledger = fill(tmp_path, 1)
    with pytest.raises(IntegrityError, match=rf"^ledger/000000002\.json: not a readable entry: .*{reason}"):
        append(ledger, **changes)
    assert list_folder(ledger) == ["000000001.json"]


@pytest.mark.parametrize("changes", [{"who": "\ud800"}, {"time": datetime(2026, 3, 1)}])
def test_what_has_no_canonical_json_is_never_appended(tmp_path, changes):
    ledger = fill(tmp_path, 1)
    with pytest.raises((TypeError, ValueError)):
        append(ledger, **changes)
    assert list_folder(ledger) == ["000000001.json"]


# Damage


def test_last_entry_that_cannot_be_read_is_named_and_nothing_appended(tmp_path):
    ledger = fill(tmp_path, 2)
    replace_entry(ledger, 2, b"{")
    with pytest.raises(
        IntegrityError, match=r"^ledger/000000002\.json: not a readable entry: Input data was truncated"
    ):
        append(ledger)
    assert ledger.size() == 2


def test_nothing_is_appended_after_an_entry_of_a_newer_kit(tmp_path):
    ledger = fill(tmp_path, 2)
    replace_entry(ledger, 2, canonical_json({**FIELDS, "format": 2}))
    with pytest.raises(NewerFormatError, match=r"^ledger/000000002\.json: entry format 2 is newer"):
        append(ledger)
    assert ledger.size() == 2


def test_missing_entry_is_named(tmp_path):
    ledger = fill(tmp_path, 3)
    ledger.path(2).unlink()
    for read in (lambda: ledger.read(2), lambda: list(ledger.read_entries()), lambda: ledger.extend(Frontier())):
        with pytest.raises(IntegrityError, match=r"^ledger/000000002\.json: cannot be read: No such file"):
            read()


def test_ledger_that_vanished_is_no_empty_one(tmp_path):
    ledger = fill(tmp_path, 2)
    ledger.folder.rename(tmp_path / "elsewhere")
    with pytest.raises(IntegrityError, match=r"^ledger/000000002\.json: cannot be read"):
        append(ledger)


def test_folder_in_the_place_of_an_entry_is_named(tmp_path):
    ledger = fill(tmp_path, 1)
    ledger.path(2).mkdir()
    with pytest.raises(IntegrityError, match=r"^ledger/000000002\.json: cannot be read: no regular file"):
        append(ledger)


@pytest.mark.timeout(20)
def test_link_to_nowhere_in_the_place_of_an_entry_does_not_hold_up_for_ever(tmp_path):
    ledger = fill(tmp_path, 1)
    ledger.path(2).symlink_to(tmp_path / "nowhere")
    with pytest.raises(IntegrityError, match=r"^ledger/000000002\.json: expected no file or an entry, found neither"):
        append(ledger)


def test_what_a_killed_writer_left_is_in_nobody_s_way(tmp_path):
    ledger = fill(tmp_path, 1)
    for half in (b"", b"{"):
        (ledger.folder / f".000000002.json.{len(half)}.tmp").write_bytes(half)
    assert append(ledger).seq == 2
    assert len(read_chain(tmp_path)) == 2


@pytest.mark.parametrize("limit", ["size=64k", "nr_inodes=24"])
def test_full_disk_leaves_the_ledger_as_it_was(tmp_path, limit):
    """A real ENOSPC, where this machine lets us mount a small tmpfs."""
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", limit, "kit", str(tmp_path)], capture_output=True)
    if mounted.returncode:
        pytest.skip("no tmpfs can be mounted here")
    try:
        ballast = tmp_path / "ballast"
        ballast.write_bytes(bytes(16_000))
        ledger = Ledger(tmp_path)
        made = []
        with pytest.raises(OSError, match="No space left") as caught:
            made.extend(append(ledger) for _ in iter(int, 1))
        assert caught.value.errno == errno.ENOSPC
        assert read_chain(tmp_path) == made != []
        assert len(list_folder(ledger)) == len(made)
        ballast.unlink()
        assert append(ledger).seq == len(made) + 1 == len(read_chain(tmp_path))
    finally:
        subprocess.run(["umount", "-l", str(tmp_path)], check=True)


# The tree over it


def test_root_is_that_over_the_entries_exact_bytes(tmp_path):
    ledger = fill(tmp_path, 9)
    leaves = [hash_leaf(ledger.path(seq).read_bytes()) for seq in range(1, 10)]
    assert ledger.extend(Frontier()).root == tree_root(leaves)
    assert ledger.extend(Frontier(), until=0).size == 0
    begun = ledger.extend(Frontier(), until=5)
    assert (begun.size, begun.root) == (5, tree_root(leaves[:5]))
    resumed = ledger.extend(Frontier(begun.size, begun.hashes))
    assert (resumed.size, resumed.root) == (9, tree_root(leaves))


def test_root_up_to_more_entries_than_there_are_is_refused(tmp_path):
    with pytest.raises(IntegrityError, match=r"^ledger/000000003\.json: cannot be read: No such file"):
        fill(tmp_path, 2).extend(Frontier(), until=3)


# Writers that are killed

N_WRITERS, N_APPENDS, N_KILLS = 16, 50, 40

# Appends what is left to do and says so each time append has returned: to a pipe, which outlives a killed writer.
WRITER = """
import os, sys
from datetime import UTC, datetime
from pathlib import Path
from kit.ledger import Kind, Ledger

ledger, name = Ledger(Path(sys.argv[1])), sys.argv[2]
for number in range(int(sys.argv[3]), int(sys.argv[4])):
    entry = ledger.append(Kind.END, f"{name}-{number}", "0" * 64, "ana@laptop", datetime.now(UTC))
    os.write(1, f"{entry.seq} {entry.record}\\n".encode())
"""


class Herd:
    """Writers, each started again until it has appended all it should.

    Attributes:
        acknowledged: (number, record) that a writer was told of.
        n_killed: writers that a kill hit.
    """

    def __init__(self, archive):
        self.archive, self.acknowledged, self.n_killed = archive, [], 0
        self._done, self._rest, self._selector = Counter(), Counter(), selectors.DefaultSelector()

    def start(self, name):
        command = [sys.executable, "-c", WRITER, self.archive, name, str(self._done[name]), str(N_APPENDS)]
        writer = subprocess.Popen(command, stdout=subprocess.PIPE)
        self._selector.register(writer.stdout, selectors.EVENT_READ, (name, writer))

    def run(self, chance):
        """Until all is done; now and then one that has just said something, or another, is killed."""
        while keys := list(self._selector.get_map().values()):
            for key, _ in self._selector.select():
                n_said = self._read(*key.data)
                # one in ten that are told of, so that a fast disk, on which a writer says much at once, saves nobody
                if self.n_killed < N_KILLS and chance.random() > 0.9**n_said:
                    chance.choice(keys).data[1].send_signal(signal.SIGKILL)

    def _read(self, name, writer):
        """How many entries a writer says it was told of."""
        if said := os.read(writer.stdout.fileno(), 1 << 16):
            lines = said.decode().splitlines()  # whole ones: a write of so few bytes to a pipe is not divided
            self.acknowledged += [(int(seq), record) for seq, record in map(str.split, lines)]
            self._done[name] += len(lines)
            return len(lines)
        self._selector.unregister(writer.stdout)
        writer.stdout.close()
        code = writer.wait()
        assert code in (0, -signal.SIGKILL)
        if code:
            self.n_killed += 1
            self.start(name)
        return 0

    def stop(self):
        for key in list(self._selector.get_map().values()):
            key.data[1].kill()
            key.data[1].wait()
            key.fileobj.close()
        self._selector.close()


@pytest.mark.kernel  # 16 processes, and 40 more for those that are killed: 2 to 5 s
def test_killed_writers_lose_no_acknowledged_entry_and_leave_nothing_to_repair(tmp_path):
    herd = Herd(tmp_path)
    with ExitStack() as stack:
        stack.callback(herd.stop)
        for number in range(N_WRITERS):
            herd.start(f"w{number}")
        herd.run(random.Random(7))
    found = read_chain(tmp_path)
    in_ledger = [(entry.seq, entry.record) for entry in found]
    assert herd.n_killed >= N_KILLS // 2
    assert set(herd.acknowledged) <= set(in_ledger)
    expected = {f"w{writer}-{number}" for writer in range(N_WRITERS) for number in range(N_APPENDS)}
    assert {record for _, record in herd.acknowledged} == expected
    assert len(herd.acknowledged) == len(expected) == N_WRITERS * N_APPENDS
    # An entry whose writer was killed before it heard of it was appended again: once a kill at most.
    assert 0 <= len(found) - len(expected) <= herd.n_killed
    assert append(Ledger(tmp_path)).seq == len(found) + 1
