from datetime import UTC, datetime

import pytest

from kit.compare.volatile import normalise_markup, normalise_text

WINDOW = datetime(2026, 3, 1, 9, 30, tzinfo=UTC), datetime(2026, 3, 1, 9, 31, 30, tzinfo=UTC)

# what one execution printed, what another would have printed in its place
VOLATILE = [
    ("2026-03-01T09:30:05.250Z done", "2026-03-01T09:31:00Z done"),
    ("at 2026-03-01 09:30:05,123 INFO", "at 2026-03-01 09:31:06,999 INFO"),
    ("2026-03-01 10:30:05+01:00", "2026-03-01 10:31:05+01:00"),
    ("run 20260301T093005Z", "run 20260301T093101Z"),
    ("log_2026-03-01_09-30-05.txt", "log_2026-03-01_09-31-05.txt"),
    ("today is 2026-03-01", "today is 2026-02-28"),
    ("Sun Mar  1 09:30:05 2026", "Sun Mar  1 09:31:05 2026"),
    ("Sun, 01 Mar 2026 09:30:05 +0000", "Sun, 01 Mar 2026 09:31:05 GMT"),
    ("[09:30:05] start", "[09:31:06] start"),
    ("epoch 1772357405.25", "epoch 1772357465.5"),
    ("epoch 1772357405250", "epoch 1772357465500"),
    ("took 3.2 s", "took 12 ms"),
    ("Training took 1min 3s", "Training took 59.9 s"),
    ("elapsed: 0:00:12.3", "elapsed: 0:01:02"),
    ("elapsed: 3.217", "elapsed: 2.9"),
    ("read 10 rows in 0.52 s", "read 10 rows in 1.2 seconds"),
    ("10 passed in 0.12s", "10 passed in 0.2s"),
    ("finished in 3 minutes", "finished in 2 minutes"),
    ("Wall time: 1.2 s", "Wall time: 980 ms"),
    ("CPU times: user 12 ms, sys: 3 µs, total: 15 ms", "CPU times: user 1.2 s, sys: 0 ns, total: 1.2 s"),
    (
        "12.3 ms ± 456 µs per loop (mean ± std. dev. of 7 runs, 100 loops each)",
        "9.9 ms ± 1 µs per loop (mean ± std. dev. of 7 runs, 10 loops each)",
    ),
    ("step 3 (1.25s)", "step 3 (0.9s)"),
    ("782/782 ━━━━━━━━━━━━━━━━━━━━ 5s 12ms/step - loss: 0.31", "782/782 ━━━━━━━━━━━━━━━━━━━━ 12s 1s/step - loss: 0.31"),
    ("782/782 - 5s - 12ms/step - loss: 0.31", "782/782 - 4s - 900us/step - loss: 0.31"),
    ("100%|██████████| 9/9 [00:11<00:00,  8.57it/s]", "100%|██████████| 9/9 [00:09<00:00,  1.1s/it]"),
    ("100%|██████████| 9/9 [00:11<00:00, 8.57it/s, loss=0.3]", "100%|██████████| 9/9 [00:09<00:00, 9it/s, loss=0.3]"),
    ("  0%|    | 0/9 [00:00<?, ?it/s]\r100%|████| 9/9 [00:01<00:00, 9it/s]", "100%|████| 9/9 [00:02<00:00, 5it/s]"),
    ("read at 120.5 MB/s", "read at 99 MB/s"),
    ("<A object at 0x7f3a12345678>", "<A object at 0x10a2b3c4>"),
    ("0x7f3a12345678", "0x55d012345678"),
    ("pid 123", "pid 4567"),
    ("worker PID=123", "worker PID=4"),
    ("http://127.0.0.1:8787/status", "http://127.0.0.1:40123/status"),
    ("I0000 00:00:1772357405.843714   16562 port.cc:153] on", "I0000 00:00:1772357465.1   7 port.cc:153] on"),
    ("/tmp/tmpab12cd34/x.csv", "/tmp/tmpzz99_a_b/x.csv"),
    ("/tmp/ipykernel_4076/2571535427.py:3: FutureWarning", "/tmp/ipykernel_7/2571535427.py:3: FutureWarning"),
    ("wrote /home/a/p/.kit/work/1/out/x.csv", "wrote /srv/b/.kit/work/22/out/x.csv"),
    ("file:///home/a/x.csv", "file:///srv/b/c/x.csv"),
    (r"C:\Users\a\x.csv", r"D:\b\x.csv"),
    ("20260301T093000Z-train-4f09c1", "20270401T093000Z-train-0000ff"),
    ("/a/20260301T093000Z-train-4f09c1/in/x", "/b/20270401T093000Z-train-0000ff/in/x"),
    ("\x1b[1mbold\x1b[0m", "bold"),
    ("a\r\nb  \n", "a\nb"),
    ("10%\r100%\n", "100%\n"),
    ("1/3\b\b\b3/3", "3/3"),
    ("a long line\r\x1b[Kshort", "short"),
    ("bar\r   \r\nnext", "\nnext"),
]  # fmt: skip

RESULTS = [
    ("auc 0.7231", "auc 0.7232"),
    ("first flight 2013-01-01 05:15:00", "first flight 2013-01-01 05:17:00"),
    ("departs 05:15:00", "departs 05:17:00"),
    ("2026-03-01 1234 rows", "2026-03-01 1235 rows"),
    ("mean delay 12.3 min", "mean delay 12.4 min"),
    ("mean delay: 3.2 s", "mean delay: 3.3 s"),
    ("wind 5.1 m/s", "wind 5.2 m/s"),
    ("pace 5 s/km", "pace 6 s/km"),
    ("782/782 - 5s - 12ms/step - loss: 0.31", "782/782 - 5s - 12ms/step - loss: 0.32"),
    ("100%|███| 9/9 [00:11<00:00, 8.57it/s, loss=0.3]", "100%|███| 9/9 [00:11<00:00, 8.57it/s, loss=0.4]"),
    ("781/782 5s 12ms/step", "782/782 5s 12ms/step"),
    ("sha256 deadbeef", "sha256 deadbeee"),
    ("0xff", "0xfe"),
    ("flags 0x1f2e3d4c", "flags 0x1f2e3d4d"),
    ("/a/b/x.csv", "/a/b/y.csv"),
    ("1/2", "1/3"),
    ("n 20130101", "n 20130102"),
    ("n 1772357405000001", "n 1572357405000001"),
    ("20260301T093000Z-train-4f09c1", "20260301T093000Z-prepare-4f09c1"),
    ("[1, 2]", "[1, 3]"),
    ("a  b", "a b"),
    ("\na", "a"),
    ("https://example.org/a/b", "https://example.org/a/c"),
    ("process 3 of 4", "process 4 of 4"),
    ("lag (5 s)", "lag (6 s)"),
]


@pytest.mark.parametrize(("one", "other"), VOLATILE)
def test_volatile_text_is_the_same(one, other):
    assert normalise_text(one, WINDOW) == normalise_text(other, WINDOW)


@pytest.mark.parametrize(("one", "other"), RESULTS)
def test_results_stay(one, other):
    assert normalise_text(one, WINDOW) != normalise_text(other, WINDOW)


@pytest.mark.parametrize("text", ["2026-03-01 09:30:05", "09:30:05", "1772357405.25", "2013-13-45", "99:99:99"])
def test_times_stay_where_the_execution_is_not_known(text):
    assert normalise_text(text) == text


@pytest.mark.parametrize(
    ("text", "normalised"),
    [
        ("<A object at 0x7f3a12345678>", "<A object at <address>>"),
        ("20260301T093000Z-train-4f09c1", "<record train>"),
        ("/home/a b/x.csv", "<path>/a b/x.csv"),
        ("782/782 - 5s - 12ms/step", "782/782 - <duration>/step"),
        ("", ""),
    ],
)
def test_normalised_text_says_what_was_there(text, normalised):
    assert normalise_text(text, WINDOW) == normalised


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ('#T_a1b2c_row0 {}<td id="T_a1b2c_row0">1</td>', '#T_00000_row0 {}<td id="T_00000_row0">1</td>'),
        ('<div id="1b4e28ba-2fa1-41d2-883f-0016d3cca427">', '<div id="00000000-0000-4000-8000-000000000000">'),
        ('<path id="p0123456789"/><use href="#mabcdef0123"/>', '<path id="p9876543210"/><use href="#m0000000000"/>'),
        ("<dc:date>2026-03-01T09:30:00</dc:date>", "<dc:date>2027-03-01T09:30:00</dc:date>"),
    ],
)  # fmt: skip
def test_random_ids_of_markup_are_the_same(one, other):
    assert normalise_markup(one, WINDOW) == normalise_markup(other, WINDOW)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("<td>1</td>", "<td>2</td>"),
        ('<path d="M 10 20"/>', '<path d="M 10 21"/>'),
        ("<td>#1234567890</td>", "<td>#1234567891</td>"),
        ("<b>a</b>/<i>x</i>", "<b>a</b>/<i>y</i>"),
    ],
)
def test_results_in_markup_stay(one, other):
    assert normalise_markup(one, WINDOW) != normalise_markup(other, WINDOW)


def test_long_progress_is_normalised_in_time():
    frames = "".join(f"\r{n}/20000 [00:00<00:00, 9it/s]" for n in range(20_001))
    assert normalise_text(frames) == "20000/20000 [<progress>]"


@pytest.mark.parametrize(
    "text", ["/" * 50_000, "/a" * 50_000, "1" * 50_000, "0:" * 50_000, "[" * 50_000, "a@" * 50_000]
)
def test_hostile_text_is_normalised_in_time(text):
    assert isinstance(normalise_markup(text, WINDOW), str)
