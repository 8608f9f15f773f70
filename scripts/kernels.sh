#!/bin/sh
# kernels.sh - the tests of limits in a virtual machine whose only cgroups are v2, as systemd lays them out.
# usage: scripts/kernels.sh [TESTS]   exit: 0 all passed, 1 one failed or the guest did not run, 2 usage,
#   75 it cannot be tried here: the last line says why
# TESTS is the executable of tests/tests/limits.rs; without it cargo makes it. The programs are those in
# AGENT_BIN_DIR, else the release ones of the tree. AGENT_KERNEL names a kernel image; without it one is fetched
# from Debian, once, to target/kernels. The guest's tests run in three places:
#   root     in the root group
#   user     an ordinary user in user@1000.service/app.slice/app.scope, of which user@1000.service is delegated
#   session  an ordinary user in a group of root's: no cgroup can be made
# needs: sh, qemu-system-x86_64, a static busybox, timeout; apt-get and dpkg-deb for the kernel. 1 GiB of memory.
set -eu
LC_ALL=C; export LC_ALL

SKIP=75
# 6.12 has all that the profile full needs. The same release in bookworm-backports dies at random under QEMU 7.2.
SUITE=trixie
PACKAGE=linux-image-cloud-amd64
KEYRING=/usr/share/keyrings/debian-archive-keyring.gpg
BOOT=60 KVM_BOOT=20 # seconds until the guest says that it is up
ALL=600             # seconds until it has ended
# What has nothing to do with cgroups runs on the host only. Of the rest nothing may be skipped in the guest.
ELSEWHERE='a_full_tmpfs_is_told a_group_costs_little cpu_time_is_bounded_and_told open_files_are_bounded
    the_size_of_a_file_is_bounded_and_told the_tmpfs_is_bounded two_hundred_threads_fit_the_defaults
    what_is_no_limit_is_one_line'
WITHOUT='a_fork_bomb_is_bounded every_default_is_in_force memory_is_bounded_and_told what_cannot_be_enforced_is_said'

skip() { echo "$*"; exit $SKIP; }
fail() { echo "kernels.sh: $*"; exit 1; }
has() { command -v "$1" >/dev/null 2>&1; }
needs() { has "$1" || skip "no $1"; }

case $# in 0 | 1) ;; *) echo "usage: scripts/kernels.sh [TESTS]" >&2; exit 2 ;; esac
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
tree=$(cd -P "$here/.." && pwd -P)
target=${CARGO_TARGET_DIR:-$tree/target}
case $target in /*) ;; *) target=$PWD/$target ;; esac
needs qemu-system-x86_64
needs busybox
needs timeout
[ "$(uname -m)" = x86_64 ] || skip "the guest is an x86_64, this is not"
! grep -q '/ld-linux-x86-64\.so' "$(command -v busybox)" || skip "busybox is not static"

guest=
scratch=$(mktemp -d "${TMPDIR:-/tmp}/agent-kernels.XXXXXX")
trap '[ -z "$guest" ] || kill "$guest" 2>/dev/null || :; rm -rf "$scratch"' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

# -- What goes in ------------------------------------------------------------------------------------------------

# The kernel of the package that $PACKAGE depends on, as $kernel. The machine's own apt lists stay as they are.
fetch_kernel() {
    kernel=$target/kernels/$PACKAGE
    [ ! -s "$kernel" ] || return 0
    needs apt-get
    needs dpkg-deb
    [ -r $KEYRING ] || skip "no $KEYRING to check a Debian kernel by"
    mkdir -p "$target/kernels" 2>/dev/null || skip "no kernel in $target/kernels, which cannot be written"
    apt=$scratch/apt
    mkdir -p "$apt/lists/partial" "$apt/cache/archives/partial" "$apt/sources"
    mirror=$(sed -n 's/^URIs: *\([^ ]*\).*/\1/p' /etc/apt/sources.list.d/debian.sources 2>/dev/null | head -n 1)
    echo "deb [arch=amd64 signed-by=$KEYRING] ${mirror:-http://deb.debian.org/debian} $SUITE main" \
        >"$apt/sources/kernels.list"
    cat >"$apt/conf" <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$apt/sources";
Dir::State::lists "$apt/lists";
Dir::Cache "$apt/cache";
Acquire::Languages "none";
Acquire::Retries "1";
Acquire::http::Timeout "20";
APT::Architecture "amd64";
APT::Architectures { "amd64"; };
APT::Sandbox::User "";
END
    (
        APT_CONFIG=$apt/conf; export APT_CONFIG
        cd "$apt"
        apt-get -qq update
        package=$(apt-cache depends $PACKAGE | sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n 1)
        [ -n "$package" ] && apt-get -qq download "$package"
    ) >"$scratch/log" 2>&1 || { cat "$scratch/log"; skip "no $PACKAGE of $SUITE: apt cannot fetch it here"; }
    mkdir "$apt/files"
    dpkg-deb --fsys-tarfile "$apt"/linux-image-*.deb | tar -x -C "$apt/files" --wildcards '*/vmlinuz*'
    # Under its name only when it is whole.
    cp "$(find "$apt/files" -name 'vmlinuz*' -type f)" "$kernel.$$"
    mv "$kernel.$$" "$kernel"
    rm -rf "$apt"
}

# The executable of the tests as $tests, the directory of the programs as $programs.
find_programs() {
    tests=${1-}
    programs=${AGENT_BIN_DIR:-}
    if [ -z "$tests" ]; then
        needs cargo
        tests=$(cd "$tree" && cargo test -q --locked -p agent-tests --test limits --no-run --message-format=json |
            sed -n '/"kind":\["test"\]/s/.*"name":"limits".*"executable":"\([^"]*\)".*/\1/p')
    fi
    if [ -z "$programs" ]; then
        needs cargo
        (cd "$tree" && cargo build -q --release --locked)
        programs=$target/$(sed -n 's/^target *= *"\(.*\)".*/\1/p' "$tree/.cargo/config.toml")/release
    fi
    [ -f "$tests" ] || fail "no executable of the tests: $tests"
}

put() { # FILE NAME: into the guest, without what only a debugger reads
    if ! { has strip && strip -o "$root/$2" "$1" 2>/dev/null; }; then cp "$1" "$root/$2"; fi
    chmod 755 "$root/$2"
}

make_initramfs() {
    root=$scratch/root
    mkdir -p "$root/bin" "$root/agent" "$root/etc" "$root/new"
    cp "$(command -v busybox)" "$root/bin/busybox"
    for program in agent-shim agent-probe attacker; do put "$programs/$program" agent/$program; done
    put "$tests" agent/limits
    printf '%s\n' root:x:0:0:root:/:/bin/sh agent:x:1000:1000:agent:/tmp:/bin/sh >"$root/etc/passwd"
    printf '%s\n' root:x:0: agent:x:1000: >"$root/etc/group"
    leave_out=
    for test in $ELSEWHERE; do leave_out="$leave_out --skip $test"; done
    echo "leave_out='$leave_out' without='$WITHOUT'" >"$root/etc/tests"
    guest_init >"$root/init"
    guest_part >"$root/agent/part"
    chmod 755 "$root/init" "$root/agent/part"
    (cd "$root" && find . | busybox cpio -o -H newc 2>/dev/null) >"$scratch/initramfs"
}

guest_init() {
    cat <<'END'
#!/bin/busybox sh
# PID 1 of the guest.
export PATH=/bin
if [ ! -e /bin/sh ]; then
    # pivot_root(2) refuses the initial ramfs as the old root, so everything moves to a tmpfs.
    /bin/busybox --install -s /bin
    mount -t tmpfs -o mode=755 root /new
    cp -a /bin /agent /etc /init /new/
    chown -R 0:0 /new
    mkdir -m 755 /new/proc /new/sys /new/dev
    mkdir -m 1777 /new/tmp
    exec switch_root /new /init
fi
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev
mkdir /dev/pts /dev/shm
mount -t devpts devpts /dev/pts
mount -t tmpfs -o mode=1777 shm /dev/shm
ip link set lo up
mount -t cgroup2 -o nsdelegate,memory_recursiveprot cgroup2 /sys/fs/cgroup
echo
echo "guest: up $(uname -r)"
. /etc/tests

on='+cpu +memory +pids'
top=/sys/fs/cgroup slice=/sys/fs/cgroup/user.slice/user-1000.slice
manager=$slice/user@1000.service
mkdir -p $manager/init.scope $slice/session-1.scope
for dir in $top ${slice%/*} $slice; do echo "$on" >$dir/cgroup.subtree_control; done
# What systemd gives to the user's manager, and what that makes of it for an application.
for file in . cgroup.procs cgroup.subtree_control cgroup.threads init.scope init.scope/cgroup.procs; do
    chown 1000:1000 $manager/$file
done
scope=$manager/app.slice/app.scope
delegate="mkdir -p $scope && echo '$on' >$manager/cgroup.subtree_control &&
    echo '$on' >$manager/app.slice/cgroup.subtree_control && echo 0 >$scope/cgroup.procs"

as_user() { # GROUP COMMAND
    (echo 0 >"$1/cgroup.procs" && exec su agent -c "$2")
}
/agent/part root $leave_out
as_user $manager/init.scope "$delegate && exec /agent/part user $leave_out --skip what_cannot_be_enforced_is_said"
as_user $slice/session-1.scope "exec /agent/part session --exact $without"
echo "guest: end"
poweroff -f
END
}

guest_part() {
    cat <<'END'
#!/bin/busybox sh
# part NAME [ARGUMENT of the tests...]: what the room's limits are enforced by, then the tests.
export AGENT_BIN_DIR=/agent AGENT_SKIP_LOG=/tmp/skipped.$1
echo "guest: part $1 in $(cat /proc/self/cgroup)"
shift
cd /tmp
/agent/agent-shim run --json-status-fd 3 --best-effort --cpus 1 --memory 64M --pids 20 -- true 3>&1 >/dev/null
/agent/limits "$@" 2>&1
echo "guest: status $?"
[ ! -e $AGENT_SKIP_LOG ] || cat $AGENT_SKIP_LOG
END
}

# -- Running it --------------------------------------------------------------------------------------------------

is_up() { grep -q '^guest: up ' "$scratch/console"; }

# One boot; fails if the guest has not said that it is up. The guest ends with this script, at the latest $ALL
# seconds after it was started.
boot() { # ACCELERATOR CPU SECONDS
    : >"$scratch/console"
    # One processor: two of them wait for one another, and the host has other work.
    (
        cd "$scratch" # a core would be written there
        exec timeout "$ALL" qemu-system-x86_64 -accel "$1" -cpu "$2" -M q35 -m 1024 -smp 1 \
            -nographic -nodefaults -no-reboot -serial stdio -kernel "$kernel" -initrd initramfs \
            -append 'console=ttyS0 loglevel=3 mitigations=off panic=-1 rdinit=/init' </dev/null
    ) >"$scratch/console" 2>"$scratch/errors" &
    guest=$!
    seconds=0
    until is_up || [ $seconds -ge "$3" ] || ! kill -0 "$guest" 2>/dev/null; do
        sleep 1
        seconds=$((seconds + 1))
    done
    is_up || kill "$guest" 2>/dev/null || :
    wait "$guest" 2>/dev/null || :
    guest=
    is_up || { echo "no guest after $seconds s with $1: $(head -n 1 "$scratch/errors")"; return 1; }
}

# Where /dev/kvm cannot run a guest all the same, QEMU aborts or hangs. A guest that has come up is not tried again.
boot_any() {
    if [ -w /dev/kvm ] && boot kvm host $KVM_BOOT; then return; fi
    boot tcg max,la57=off $BOOT || boot tcg max,la57=off $BOOT
}

# Prints what is wrong with the console's text, a line each; nothing if each part ran tests, all of them passed, none
# was skipped, and the room's limits were enforced by what they are to be enforced by there.
judge() {
    awk '
        function wrong(text) { print "FAILED " (part ? part ": " : "") text }
        function by(limit, what) {
            if (!index($0, "\"" what "\"")) wrong("--" limit " is not enforced by " what)
        }
        function close_part() {
            if (part == "") return
            if (!passed) wrong("no test has passed")
            if (status != "0") wrong("the tests ended with status " (status == "" ? "none" : status))
            if (!told) wrong("agent-shim has not told what enforces the limits")
            part = ""
        }
        /^guest: part / { close_part(); part = $3; seen[part]++; passed = 0; status = ""; told = 0 }
        /^guest: status / { status = $3 }
        /^guest: end/ { close_part(); ended = 1 }
        /^test .* \.\.\. FAILED/ { wrong($2) }
        /^test result: / { passed += $4; if ($6 + 0) wrong($6 " tests failed") }
        /^SKIP / { sub(/^SKIP /, ""); wrong("skipped " $0) }
        /"record":"enforced"/ {
            told = 1
            session = part == "session"
            by("memory", session ? "RLIMIT_DATA" : "cgroup v2 memory")
            by("pids", session ? "RLIMIT_NPROC" : "cgroup v2 pids")
            if (!session) by("cpus", "cgroup v2 cpu")
        }
        END {
            close_part()
            for (n = split("root user session", all, " "); n; n--)
                if (seen[all[n]] != 1) wrong(all[n] ": did not run")
            if (!ended) wrong("the guest did not end")
        }' "$1"
}

if [ -n "${AGENT_KERNEL:-}" ]; then kernel=$AGENT_KERNEL; else fetch_kernel; fi
case $kernel in /*) ;; *) kernel=$PWD/$kernel ;; esac
find_programs "$@"
make_initramfs
boot_any || { cat "$scratch/console"; fail "the guest did not boot"; }
tr -d '\r' <"$scratch/console" | sed -n '/^guest: up /,$p' >"$scratch/text"
cat "$scratch/text"
judge "$scratch/text" >"$scratch/wrong"
if [ -s "$scratch/wrong" ]; then
    cat "$scratch/wrong"
    exit 1
fi
