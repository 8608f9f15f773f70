#!/bin/sh
# test.sh - everything there is to check, on a fresh machine: style, lints, tests, scripts, the matrix, the cost.
# usage: scripts/test.sh [--quick | --list]   exit: 0 nothing failed, 1 something did, 2 usage
#   --quick  fewer rounds of the measurements; nothing is left out
#   --list   only name the steps
# As root it installs with apt what is missing, and runs the tests a second time as uid 65534. What cannot be run
# here is a SKIP with its reason, and counted. A step after which a device of the host has another owner or mode has
# failed. The last line: N passed, M failed, K skipped.
# needs: sh, cargo with rustfmt and clippy; apt where something is missing. Writes to target/ and a directory in /tmp.
set -u
LC_ALL=C; export LC_ALL
umask 022 # uid 65534 runs what is built here

STEPS='tools fmt clippy build sizes doc test test-as-user kernels shellcheck matrix-root matrix-user matrix-dash matrix-ash compare bench'
SKIP=75 # the status of a step that cannot be run here; its last line says why
USER_ID=65534

quick=
case ${1-} in
    '') ;;
    --quick) quick=--quick ;;
    --list) AGENT_TEST_LIST=1 ;;
    *) echo "usage: scripts/test.sh [--quick | --list]" >&2; exit 2 ;;
esac
# The test that runs README.md sets it: it is itself one of the steps.
if [ -n "${AGENT_TEST_LIST:-}" ]; then
    echo "$STEPS" | tr ' ' '\n'
    exit 0
fi

case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
tree=$(cd -P "$here/.." && pwd -P) || exit 2
cd "$tree" || exit 2
scratch=$(mktemp -d /tmp/agent-test.XXXXXX) || exit 2
trap 'rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM
chmod 755 "$scratch"
mkdir "$scratch/tmp"
chmod 1777 "$scratch/tmp"
: >"$scratch/skipped"
chmod 666 "$scratch/skipped"

target=${CARGO_TARGET_DIR:-$tree/target}
case $target in /*) ;; *) target=$tree/$target ;; esac
triple=$(sed -n 's/^target *= *"\(.*\)".*/\1/p' .cargo/config.toml)
release=$target/$triple/release

# These change what is built or tested; the steps set what they need.
unset RUSTFLAGS RUSTDOCFLAGS CARGO_ENCODED_RUSTFLAGS AGENT_BIN_DIR CARGO_BUILD_TARGET CARGO_BUILD_TARGET_DIR
CARGO_TARGET_DIR=$target
TMPDIR=$scratch/tmp
AGENT_SKIP_LOG=$scratch/skipped
DEBIAN_FRONTEND=noninteractive
export CARGO_TARGET_DIR TMPDIR AGENT_SKIP_LOG DEBIAN_FRONTEND

is_root() { [ "$(id -u)" = 0 ]; }
has() { command -v "$1" >/dev/null 2>&1; }
skip() { echo "$*"; exit $SKIP; }
needs() { has "$1" || skip "no $1"; }

# Runs a command as an ordinary user with nothing of root's environment. Where that user cannot reach the tree, as
# in /root, the command sees it nevertheless: what stands in the way is covered, in a mount namespace of its own.
as_user() {
    needs setpriv
    set -- setpriv --reuid $USER_ID --regid $USER_ID --clear-groups \
        env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin TMPDIR="$TMPDIR" \
        AGENT_SKIP_LOG="$AGENT_SKIP_LOG" CARGO_TARGET_DIR="$CARGO_TARGET_DIR" LC_ALL=C "$@"
    if user_enters "$tree/scripts" && user_enters "$target"; then
        "$@"
        return
    fi
    needs unshare
    export tree target scratch USER_ID
    # shellcheck disable=SC2016 # expanded by the inner shell
    unshare --mount --propagation private sh -c '
        set -e
        umask 022
        bring() { # NAME DIRECTORY
            mkdir -p "$scratch/$1"
            mount --bind "$2" "$scratch/$1"
            path=
            rest=${2#/}/
            while [ -n "$rest" ]; do
                path=$path/${rest%%/*}
                rest=${rest#*/}
                ! setpriv --reuid $USER_ID --regid $USER_ID --clear-groups test -x "$path" || continue
                mount -t tmpfs -o mode=755 tmpfs "$path"
                mkdir -p "$2"
                for entry in "$scratch/$1"/* "$scratch/$1"/.[!.]*; do
                    to=$2/${entry##*/}
                    if [ -d "$entry" ]; then mkdir "$to"; else : >"$to"; fi
                    mount --bind "$entry" "$to"
                done
                break
            done
        }
        bring tree "$tree"
        bring target "$target"
        cd "$tree"
        exec "$@"' sh "$@"
}

user_enters() { setpriv --reuid $USER_ID --regid $USER_ID --clear-groups test -x "$1"; }

needs_user() {
    for file in "$tree/scripts/matrix.sh" "$release/agent-shim"; do
        as_user test -r "$file" || skip "uid $USER_ID cannot be given a view of $file"
    done
}

# -- The steps: each runs in a shell of its own, and the first command that fails ends it ------------------------

step_tools() {
    packages=
    lacks() { has "$1" || packages="$packages $2"; }
    lacks bwrap bubblewrap
    # The dynamic one is no program for an empty root.
    { has busybox && ! ldd "$(command -v busybox)" >/dev/null 2>&1; } || packages="$packages busybox-static"
    lacks shellcheck shellcheck
    lacks strace strace
    lacks dash dash
    lacks setpriv util-linux
    lacks ps procps
    lacks cc "gcc libc6-dev"
    # What agents use: tests/tests/work.rs runs it in a room, where PATH is the system's.
    lacks make make
    # The numbers of other architectures, from their kernel headers.
    [ -d /usr/aarch64-linux-gnu/include/asm ] || packages="$packages linux-libc-dev-arm64-cross"
    [ -d /usr/riscv64-linux-gnu/include/asm ] || packages="$packages linux-libc-dev-riscv64-cross"
    # What agent-init is compared with as PID 1, and what runs it as the entry point of a container.
    lacks tini tini
    lacks dumb-init dumb-init
    lacks runc runc
    # By whose hands the filter is built too: tests/tests/differential.rs, bench.rs.
    [ -e /usr/include/seccomp.h ] || packages="$packages libseccomp-dev"
    [ -e /usr/share/containers/seccomp.json ] || packages="$packages golang-github-containers-common"
    lacks git git
    lacks sqlite3 sqlite3
    lacks xz xz-utils
    lacks zstd zstd
    lacks rg ripgrep
    lacks ssh-keygen openssh-client
    lacks qemu-system-x86_64 qemu-system-x86
    lacks node nodejs
    lacks npm npm
    # What shows the page of `agent-shim attribute --html`: tests/tests/page.rs.
    lacks chromium chromium
    [ -x /usr/bin/cargo ] || packages="$packages cargo"
    /usr/bin/python3 -m ensurepip --version >/dev/null 2>&1 || packages="$packages python3 python3-venv"
    if [ -n "$packages" ]; then
        is_root || skip "not root, cannot install:$packages"
        has apt-get || skip "no apt-get to install:$packages"
        apt-get -qq update
        # shellcheck disable=SC2086 # a list
        apt-get -qq install -y --no-install-recommends $packages
    fi
    # The prototypes of the system calls. Any kernel's will do: their widths do not change. Without, that test is a SKIP.
    set -- /usr/src/linux-headers-*-common*/include/linux/syscalls.h
    if [ ! -e "$1" ] && is_root && has apt-get; then
        headers=$(apt-cache search --names-only '^linux-headers-[0-9].*-common$' | sed 's/ .*//' | sort | tail -n 1)
        [ -z "$headers" ] || apt-get -qq install -y --no-install-recommends "$headers" || echo "no $headers"
    fi
    cargo --version || { echo "cargo is missing: https://rustup.rs"; exit 1; }
    rustc --version
}

step_fmt() {
    cargo fmt --version >/dev/null || skip "no rustfmt: rustup component add rustfmt"
    cargo fmt --all --check
}

step_clippy() {
    cargo clippy --version >/dev/null || skip "no clippy: rustup component add clippy"
    cargo clippy --workspace --all-targets --locked -- -D warnings
}

# A fresh build repeats the warnings of the last one, so what is searched is never empty for want of work.
step_build() {
    cargo build --release --locked >"$scratch/build" 2>&1 || { cat "$scratch/build"; exit 1; }
    cat "$scratch/build"
    ! grep -q '^warning' "$scratch/build"
}

# That agent-init is static, and no more than 32 KiB, is tests/tests/binaries.rs; here are the files.
step_sizes() {
    for program in agent-init agent-shim agent-probe; do
        bytes=$(wc -c <"$release/$program")
        echo "$program $bytes bytes"
        [ $program != agent-init ] || [ "$bytes" -le 32768 ] || exit 1
    done
}

step_doc() {
    RUSTDOCFLAGS=-Dwarnings cargo doc --workspace --no-deps --document-private-items --locked
}

# Unoptimized: linking each test with LTO takes longer than all of them run. A test that fails does not stop the
# others. The programs are built too, so that the tests find them without cargo.
step_test() {
    cargo build --workspace --locked
    cargo test --workspace --locked --no-fail-fast
}

# The integration tests as cargo has built them, each in the directory of its package, as cargo runs them.
step_test_as_user() {
    is_root || skip "not root: the tests ran as an ordinary user already"
    cargo test --workspace --locked --no-run --message-format=json 2>/dev/null |
        sed -n '/"kind":\["test"\]/s/.*"manifest_path":"\([^"]*\)\/Cargo.toml".*"executable":"\([^"]*\)".*/\1	\2/p' \
            >"$scratch/executables"
    needs_user
    [ -s "$scratch/executables" ] || { echo "no test executables"; exit 1; }
    failed=0
    while IFS='	' read -r package executable; do
        echo "     Running $executable"
        # shellcheck disable=SC2016 # expanded by the inner shell
        as_user sh -c 'cd "$1" && CARGO_MANIFEST_DIR=$1 && export CARGO_MANIFEST_DIR && exec "$2"' sh \
            "$package" "$executable" </dev/null || failed=1
    done <"$scratch/executables"
    [ $failed = 0 ]
}

# A machine of its own, for the cgroups that this one has not. What it may skip is for it to say, by status 75.
step_kernels() { AGENT_BIN_DIR=$release sh scripts/kernels.sh; }

step_shellcheck() {
    needs shellcheck
    shellcheck -s sh scripts/*.sh .ci/run
    for script in scripts/*.sh; do
        dash -n "$script"
        ! has busybox || busybox ash -n "$script"
    done
}

# The first with all its rounds, the others to see that they run and agree.
step_matrix_root() {
    is_root || skip "not root"
    # shellcheck disable=SC2086 # one word or none
    sh scripts/matrix.sh $quick
}
step_matrix_user() {
    # shellcheck disable=SC2086
    if is_root; then
        needs_user
        as_user sh scripts/matrix.sh $quick
    else
        sh scripts/matrix.sh $quick
    fi
}
step_matrix_dash() { needs dash; dash scripts/matrix.sh --quick; }
step_matrix_ash() { needs busybox; busybox ash scripts/matrix.sh --quick; }

# A launcher that is here and does not answer is its own matter: what has to hold is tests/tests/launcher.rs.
step_compare() {
    needs bwrap
    sh scripts/compare.sh || [ $? = 2 ]
}

# Start-up against bubblewrap, the filter against other assemblers'. Numbers, not a verdict: only a start or a filter
# that fails makes it fail.
step_bench() {
    # shellcheck disable=SC2086 # one word or none
    "$release/agent-shim" bench filter $quick
    echo
    needs bwrap
    cargo bench --quiet --locked -p agent-tests --bench start -- $quick
}

# -- Running and counting them -----------------------------------------------------------------------------------

passed=0 failed=0 skipped=0
table=

# Adds the tests of all `test result:` lines of $1 to the counts.
count_tests() {
    sed -n 's/^test result: .* \([0-9]*\) passed; \([0-9]*\) failed; \([0-9]*\) ignored;.*/\1 \2 \3/p' "$1" \
        >"$scratch/counts"
    while read -r p f i; do
        passed=$((passed + p)) failed=$((failed + f)) skipped=$((skipped + i))
    done <"$scratch/counts"
}

# Owner, group and mode of what is in /dev: a sandbox that root starts may change the host's own.
devices() { stat -c '%n %u:%g %a' /dev/*; }

run_step() {
    name=$1
    echo "== $name"
    log=$scratch/log
    begun=$(date +%s)
    function=step_$(echo "$name" | tr - _)
    devices >"$scratch/devices" 2>&1
    (set -e; "$function") >"$log" 2>&1 </dev/null
    status=$?
    seconds=$(($(date +%s) - begun))
    result=passed
    [ $status = 0 ] || result="FAILED ($status)"
    [ $status != $SKIP ] || result="skipped: $(tail -n 1 "$log")"
    if ! devices 2>&1 | diff "$scratch/devices" - >"$scratch/changed"; then
        result='FAILED (devices of the host have changed)'
        { echo 'devices of the host, before (<) and after (>):'; cat "$scratch/changed"; } >>"$log"
    fi
    case $name:$result in
        *:FAILED*) cat "$log" ;;
        matrix-root:* | matrix-user:* | compare:* | bench:* | sizes:* | tools:*) cat "$log" ;;
        test* | kernels:*) grep -e '^test result' -e ^SKIP -e '^mutants: ' -e '^guest: [up]' "$log" ;;
    esac
    before=$failed
    case $name in test* | kernels) count_tests "$log" ;; esac
    case $result in
        passed) case $name in test* | kernels) ;; *) passed=$((passed + 1)) ;; esac ;;
        # A test step that fails without a failed test: it does not build, or died.
        FAILED*) [ $failed != "$before" ] || failed=$((failed + 1)) ;;
        *) skipped=$((skipped + 1)) ;;
    esac
    echo "   $result, $seconds s"
    table="$table$(printf '%-14s %5s s  %s' "$name" "$seconds" "$result")
"
}

all_begun=$(date +%s)
for step in $STEPS; do
    run_step "$step"
done

echo "== summary"
printf '%s' "$table"
printf '%-14s %5s s\n' total "$(($(date +%s) - all_begun))"
if [ -s "$AGENT_SKIP_LOG" ]; then
    echo "skipped tests:"
    sort "$AGENT_SKIP_LOG" | uniq -c
fi
skipped=$((skipped + $(wc -l <"$AGENT_SKIP_LOG")))
echo "$passed passed, $failed failed, $skipped skipped"
[ "$failed" = 0 ]
