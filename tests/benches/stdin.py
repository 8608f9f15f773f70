#!/usr/bin/env python3
"""stdin.py - what standard input through a room costs, against a plain pipe, in alternation.
usage: tests/benches/stdin.py AGENT_SHIM [MEGABYTES]   exit: 0 within the bounds, 1 not
Throughput of `cat big | sha256sum` (at least 0.8 of plain), and the time of a line through cat
(at most 200 us more). needs: cat, sha256sum, 500 MB in TMPDIR."""

import os, statistics, subprocess, sys, tempfile, time

ROUNDS, LINES = 7, 2000


def throughput(path, room):
    since = time.perf_counter()
    cat = subprocess.Popen(["cat", path], stdout=subprocess.PIPE)
    said = subprocess.run([*room, "sha256sum"], stdin=cat.stdout, stdout=subprocess.PIPE, check=True)
    cat.stdout.close()
    cat.wait()
    return time.perf_counter() - since, said.stdout


def line_us(room):
    with subprocess.Popen([*room, "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0) as cat:
        times = []
        for n in range(LINES):
            since = time.perf_counter()
            cat.stdin.write(b"line %d\n" % n)
            cat.stdout.readline()
            times.append((time.perf_counter() - since) * 1e6)
        cat.stdin.close()
    return statistics.median(times[LINES // 10 :])


def main():
    shim, size = sys.argv[1], int(sys.argv[2]) if len(sys.argv) > 2 else 500
    room = [shim, "run", "--quiet", "--"]
    with tempfile.NamedTemporaryFile() as big:
        for _ in range(size):
            big.write(os.urandom(1 << 20))
        big.flush()
        runs = {"plain": [], "room": []}
        for _ in range(ROUNDS):
            sums = set()
            for name, prefix in (("plain", []), ("room", room)):
                seconds, said = throughput(big.name, prefix)
                runs[name].append(seconds)
                sums.add(said)
            assert len(sums) == 1, sums
    plain, roomy = (statistics.median(runs[name]) for name in ("plain", "room"))
    print(f"throughput: plain {size / plain:.0f} MB/s, room {size / roomy:.0f} MB/s, ratio {plain / roomy:.3f}")
    lines = {"plain": [], "room": []}
    for _ in range(ROUNDS):
        lines["plain"].append(line_us([]))
        lines["room"].append(line_us(room))
    plain_us, room_us = (statistics.median(lines[name]) for name in ("plain", "room"))
    print(f"a line: plain {plain_us:.1f} us, room {room_us:.1f} us, {room_us - plain_us:.1f} us more")
    sys.exit(plain / roomy < 0.8 or room_us - plain_us > 200)


main()
