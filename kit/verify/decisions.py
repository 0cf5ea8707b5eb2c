"""What was live by the ledger: rollbacks and waivers are bound to their entries, verdicts to what they were compared with."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from kit.archive import RELEASE_FILE, Objects, decode_rollback, decode_waiver
from kit.artifact import Artifact
from kit.decision import Waiver
from kit.errors import IntegrityError
from kit.files import read_regular
from kit.gate import Manifest, decode_manifest
from kit.ledger import Entry, Kind, environment_of
from kit.release.evidence import LIVE
from kit.release.live import compares_with_live, demands_signatures, find_overtaking
from kit.signing import Envelope, PublicKey, Standing, decode_envelope, judge_envelope
from kit.statement import subjects_of
from kit.verify.chain import Chain
from kit.verify.findings import Code, Finding, false, noted, short
from kit.verify.objects import Hashed
from kit.verify.records import Examined, judge_standing


def judge_decisions(
    archive: Path, origin: str, chain: Chain, found: Mapping[str, Examined], hashed: Hashed, keys: Sequence[PublicKey]
) -> Iterator[Finding]:
    """Verify rollbacks and waivers, and that releases were compared with what was live.

    Args:
        archive: its folder.
        origin: of the archive.
        chain: its ledger.
        found: what was found of each record.
        hashed: its objects.
        keys: trusted ones.
    """
    yield from _Judge(archive, origin, chain, found, hashed, keys).judge()


class _Judge:
    """Goes through the ledger and knows at each entry what was live where, what was released and what decided."""

    def __init__(
        self,
        archive: Path,
        origin: str,
        chain: Chain,
        found: Mapping[str, Examined],
        hashed: Hashed,
        keys: Sequence[PublicKey],
    ) -> None:
        self._archive, self._origin, self._chain = archive, origin, chain
        self._found, self._hashed, self._keys = found, hashed, keys
        self._objects = Objects(archive / "objects")
        self._live: dict[str, Entry] = {}
        self._cut: dict[str, Entry] = {}
        self._decided: dict[str, int] = {}
        self._waiver, self._waivers = 0, list[Waiver]()
        self._withdrawn: set[str] = set()
        self._pinned: dict[str, tuple[str, str] | None] = {}
        self._n_unsigned = 0

    def judge(self) -> Iterator[Finding]:
        """All of it."""
        for entry in self._chain.of_kind(Kind.RELEASE, Kind.ROLLBACK, Kind.WAIVER):
            if entry.kind is Kind.RELEASE:
                manifest = self._read_manifest(entry)
                if manifest is not None and not self._chain.has_gap:
                    yield from self._judge_verdict(entry, manifest)
                self._cut.setdefault(entry.release, entry)
                self._pinned.setdefault(entry.release, _pin(manifest) if manifest else None)
            else:
                yield from self._judge_decision(entry)
                self._decided.setdefault(entry.sha256, entry.seq)
            if entry.kind is Kind.WAIVER:
                self._waiver = entry.seq
            else:
                self._move(entry)
        if self._n_unsigned:
            what = f"{self._n_unsigned} of {len(self._decided)} rollbacks and waivers have no signature"
            yield noted(Code.UNSIGNED, "ledger", what, "only the ledger vouches for these decisions, not a person")

    def _move(self, turn: Entry) -> None:
        """Remember what is live after a release or a rollback, and what was rolled back from."""
        before = self._live.get(environment_of(turn))
        if turn.kind is Kind.ROLLBACK and before:
            self._withdrawn.add(before.release)
            self._withdrawn.discard(turn.release)
        self._live[environment_of(turn)] = turn

    def _judge_verdict(self, entry: Entry, manifest: Manifest) -> Iterator[Finding]:
        """What a verdict says of other releases and of waivers, against what the ledger told of them before."""
        yield from self._judge_compared(entry, manifest)
        yield from self._judge_promoted(entry, manifest)
        numbers = range(self._chain.end_of(entry.record), entry.seq)
        since = (self._chain.entries[seq] for seq in numbers if seq in self._chain.entries)
        if late := find_overtaking(since, entry.record, environment_of(entry)):
            what, meaning = (
                f"{entry.release} before entry {late.seq}",
                f"its gate had decided when {late.release} went live",
            )
            yield false(Code.REWRITTEN, f"ledger/{entry.seq:09d}.json", what, "an entry that came late", meaning)
        for waiver in manifest.verdict.waivers:
            if waiver not in self._waivers:
                what = f"the waiver of {waiver.evidence} by {waiver.who} before"
                meaning = f"nobody let pass what {entry.release} was admitted with"
                yield false(Code.UNLOGGED, f"ledger/{entry.seq:09d}.json", what, "none", meaning)

    def _judge_promoted(self, entry: Entry, manifest: Manifest) -> Iterator[Finding]:
        """A release that was promoted, or may only be, repeats one that was released before and not rolled back from."""
        policy, source = manifest.configuration.get("policy"), manifest.promoted_from.rpartition("-")[0]
        demanded = policy.get("promoted_from") if isinstance(policy, Mapping) else None
        sources = demanded if isinstance(demanded, list) and demanded else [source] if source else []
        if not sources or any(each.evidence.startswith("promotion:") for each in manifest.verdict.waivers):
            return
        # One that cannot be read may be it; that it cannot is said where it is looked at.
        good = (name for name in self._pinned.keys() - self._withdrawn if name.rpartition("-")[0] in sources)
        if not any(self._pinned[name] in (None, _pin(manifest)) for name in good):
            what = f"a release of {manifest.training_record} in {' or '.join(map(str, sources))} before"
            meaning = f"{entry.release} had not passed where it must come from, or was rolled back from there"
            yield false(Code.UNLOGGED, f"ledger/{entry.seq:09d}.json", what, "none", meaning)

    def _judge_compared(self, entry: Entry, manifest: Manifest) -> Iterator[Finding]:
        """A verdict that compared with what was live holds only beside that."""
        path, verdict = f"ledger/{entry.seq:09d}.json", manifest.verdict
        before = self._live.get(environment_of(entry))
        live = before.release if before else ""
        if verdict.live != live and compares_with_live(manifest):
            what, found = f"a verdict beside {live or 'nothing'}", f"one beside {verdict.live or 'nothing'}"
            yield false(Code.REWRITTEN, path, what, found, f"{entry.release} was compared with what was not live")
        compared = self._cut.get(verdict.live)
        expected = self._digest_of(compared) if compared else ""
        if verdict.subjects.get(LIVE, "") != expected and bool(expected) is bool(compared):
            what, found = f"{LIVE} {short(expected)}", short(verdict.subjects.get(LIVE, ""))
            yield false(
                Code.EDITED, path, what, found, f"{entry.release} was compared with what was not {verdict.live}"
            )

    def _judge_decision(self, entry: Entry) -> Iterator[Finding]:
        path = Objects(Path("objects")).path(entry.sha256).as_posix()
        if entry.sha256 in self._decided:
            what = f"one {entry.kind} of that statement, entry {self._decided[entry.sha256]}"
            meaning = "it was decided once, and entered again to have its effect again"
            yield false(Code.REWRITTEN, f"ledger/{entry.seq:09d}.json", what, "another", meaning)
            return
        try:
            envelope = decode_envelope(read_regular(self._archive / path), path)
            yield from self._judge_statement(path, entry, envelope)
        except FileNotFoundError:
            meaning = "who decided what, and why, is not proved any more"
            yield false(Code.MISSING, path, f"the {entry.kind} of entry {entry.seq}", "nothing", meaning)
        except (IntegrityError, OSError) as error:
            meaning = "nobody decided what the entry tells of"
            yield false(Code.EDITED, path, f"the {entry.kind} of entry {entry.seq}", str(error), meaning)

    def _judge_statement(self, path: str, entry: Entry, envelope: Envelope) -> Iterator[Finding]:
        standing, key = judge_envelope(envelope, self._keys)
        yield from judge_standing(path, standing, key, self._keys, imported=False)
        self._n_unsigned += standing is Standing.UNSIGNED
        subjects = subjects_of(envelope.read_statement(path))
        if entry.kind is Kind.WAIVER:
            waiver = decode_waiver(envelope, entry, self._origin)
            if waiver.since_entry != self._waiver and not self._chain.has_gap:
                what, found = f"one decided after entry {self._waiver}", f"one decided after entry {waiver.since_entry}"
                meaning = "it was decided before others, and entered again or late to have its effect now"
                yield false(Code.REWRITTEN, path, what, found, meaning)
                return
            self._waivers.append(waiver)
            yield from self._judge_configuration(path, f"environments/{waiver.environment}.toml", subjects)
            return
        rollback = decode_rollback(envelope, entry, self._origin)
        before = self._live.get(rollback.environment)
        stated, was = (rollback.before, rollback.since_entry), (before.release, before.seq) if before else ("", 0)
        if stated != was and not self._chain.has_gap:
            what, found = "{} live since entry {}".format(*was), "{} since entry {}".format(*stated)
            yield false(Code.REWRITTEN, path, what, found, "it was decided when something else was live")
        yield from self._judge_target(path, entry, subjects, standing)

    def _judge_configuration(self, path: str, name: str, subjects: Mapping[str, str]) -> Iterator[Finding]:
        sha256 = subjects.get(name, "")
        if set(subjects) != {name} or sha256 not in self._hashed.sound | self._hashed.damaged:
            meaning = "what the gate demanded when it was given cannot be looked at"
            yield false(Code.MISSING, path, f"{name} {short(sha256)} in the archive", "nothing", meaning)

    def _judge_target(
        self, path: str, entry: Entry, subjects: Mapping[str, str], standing: Standing
    ) -> Iterator[Finding]:
        cut = self._cut.get(entry.release)
        manifest = self._read_manifest(cut) if cut else None
        if cut is None or manifest is None:
            return  # said of the entry, or of the record that cut it
        if subjects != {RELEASE_FILE: self._digest_of(cut)}:
            what, found = f"{RELEASE_FILE} {short(self._digest_of(cut))}", short(subjects.get(RELEASE_FILE, ""))
            yield false(Code.EDITED, path, what, found, f"it is not about {entry.release}")
        if standing is Standing.UNSIGNED and demands_signatures(manifest):
            meaning = f"{entry.release} was released where signed work is demanded (policy.signed)"
            yield false(Code.UNSIGNED, path, "a signature", "none", meaning)

    def _digest_of(self, cut: Entry) -> str:
        """Digest of the release.json of a release; empty if the record that cut it cannot be read."""
        examined = self._found.get(cut.record)
        output: Artifact | None = examined.record.output(RELEASE_FILE) if examined and examined.record else None
        return output.sha256 if output else ""

    def _read_manifest(self, cut: Entry) -> Manifest | None:
        """The release.json of a release; None if it cannot be read, which is said where it is looked at."""
        sha256 = self._digest_of(cut)
        if sha256 not in self._hashed.sound:
            return None
        try:
            return decode_manifest(read_regular(self._objects.path(sha256)), cut.release)
        except (IntegrityError, OSError):
            return None


def _pin(manifest: Manifest) -> tuple[str, str]:
    """What makes two releases repeat each other: training and bundle."""
    return manifest.training_record, manifest.bundle_sha256
