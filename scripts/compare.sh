#!/bin/sh
# compare.sh - what other sandboxes let through, beside none and full, by the same probe.
# usage: scripts/compare.sh [--only 'NAME...'] [options of agent-shim matrix]
#   --only  the launchers with these names alone
# exit: 0 compared, 1 our room did not hold, 2 a launcher has not answered on an operation, 125 failed
# Which are there is found out; those that are not, or cannot be used here, are named at the end. As root, those
# that are meant for ordinary users are started as uid 65534, which the table shows in their lines.
# needs: sh, mktemp, and what scripts/matrix.sh needs. No bash, no GNU options. Takes some ten seconds.
set -eu
LC_ALL=C; export LC_ALL

# Whatever ends this script early, 0, 1 and 2 would be statements about sandboxes.
dir=
trap 'cleanup; exit 125' EXIT
trap 'trap - EXIT; cleanup; exit 130' INT
trap 'trap - EXIT; cleanup; exit 143' TERM

IMAGE=agent-compare-$$ # of docker and podman: an empty one
USER_ID=65534

is_root() { [ "$(id -u)" = 0 ]; }
fail() { echo "compare.sh: $1" >&2; exit 125; }

# As a file: what a busybox has built in, and command -v names, the shell that starts the launchers may not have.
has() { # PROGRAM
    rest=$PATH:
    while [ -n "$rest" ]; do
        file=${rest%%:*}/$1
        rest=${rest#*:}
        [ ! -f "$file" ] || [ ! -x "$file" ] || return 0
    done
    return 1
}

cleanup() {
    trap '' INT TERM
    [ -n "$dir" ] || return 0
    for state in "$dir/runc/state"/*/; do # of a container whose runc was killed
        [ ! -d "$state" ] || runc --root "$dir/runc/state" delete --force "$(basename "$state")" || :
    done
    for engine in docker podman; do
        [ ! -e "$dir/$engine" ] || "$engine" rmi --force "$IMAGE" || :
    done
    rm -rf "$dir"
} >/dev/null 2>&1

# -- What is there -----------------------------------------------------------------------------------------------

count=0     # of launchers; their lines are $name_N and $line_N
absent=     # a line each

add() { # NAME LINE
    case " ${only-$1} " in *" $1 "*) ;; *) return 0 ;; esac
    count=$((count + 1))
    eval "name_$count=\$1 line_$count=\$2"
}

not_here() { # NAME REASON
    case " ${only-$1} " in *" $1 "*) ;; *) return 0 ;; esac
    absent="$absent    $1: $2
"
}

# Sets $user to what makes root an ordinary user; an ordinary user is one.
find_user() { # NAME...
    user=
    is_root || return 0
    if ! has setpriv; then
        for name; do not_here "$name" "cannot be used: no setpriv to start it as an ordinary user"; done
        return 1
    fi
    user="setpriv --reuid $USER_ID --regid $USER_ID --clear-groups "
}

try_bwrap() {
    has bwrap || { not_here bwrap "not installed"; not_here bwrap-strict "not installed"; return 0; }
    find_user bwrap bwrap-strict || return 0
    add bwrap "${user}bwrap --ro-bind / / --dev /dev --"
    add bwrap-strict "${user}bwrap --unshare-all --die-with-parent --new-session --cap-drop ALL \
--ro-bind /usr /usr --symlink usr/bin /bin --symlink usr/lib /lib --symlink usr/lib64 /lib64 \
--proc /proc --dev /dev --tmpfs /tmp --ro-bind {} {} --"
}

try_unshare() {
    has unshare || { not_here unshare "not installed"; return 0; }
    find_user unshare || return 0
    add unshare "${user}unshare -rmpf --mount-proc --net --ipc --uts --cgroup --kill-child --"
}

# It is set-uid, and takes only users that it knows; so of root it is root's.
try_firejail() {
    has firejail || { not_here firejail "not installed"; return 0; }
    add firejail "firejail --quiet --whitelist={} --"
    add firejail-strict "firejail --quiet --net=none --private --private-dev --caps.drop=all --seccomp \
--nonewprivs --noroot --whitelist={} --"
}

# A bundle of runc's own default, with an empty root but for the probe. That of root has no user namespace.
try_runc() {
    has runc || { not_here runc "not installed"; return 0; }
    mkdir "$dir/runc" "$dir/runc/state" "$dir/runc/rootfs" "$dir/runc/rootfs/tmp"
    chmod 1777 "$dir/runc/rootfs/tmp"
    cp "$dir/agent-probe" "$dir/runc/rootfs"
    rootless=
    is_root || rootless=--rootless
    # shellcheck disable=SC2086 # one word or none
    why=$(cd "$dir/runc" && runc spec $rootless 2>&1) ||
        { not_here runc "cannot be used: runc spec: $(first_line "$why")"; return 0; }
    mv "$dir/runc/config.json" "$dir/runc/default.json"
    write_run_oci
    # shellcheck disable=SC2016 # for the shell that starts it
    add runc 'sh "$AGENT_COMPARE/run-oci"'
}

# What try_runc adds: the default, with the probe and its arguments in the place of the shell, and no terminal.
write_run_oci() {
    cat >"$dir/run-oci" <<'END'
bundle=${0%/*}/runc
shift # the probe's path on the host
args='"/agent-probe"'
for arg; do
    args="$args, \"$(printf '%s' "$arg" | sed 's/[\\"]/\\&/g')\""
done
args=$(printf '%s' "$args" | sed 's/[\\&|]/\\&/g')
sed "s|\"terminal\": *true|\"terminal\": false|; s|^\([[:space:]]*\)\"sh\"|\1$args|" \
    "$bundle/default.json" >"$bundle/config.json"
exec runc --root "$bundle/state" run --bundle "$bundle" "agent-compare-$$"
END
}

# The platform that needs no module and no /dev/kvm.
try_runsc() {
    has runsc || { not_here runsc "not installed"; return 0; }
    rootless=
    is_root || rootless='--rootless '
    add runsc "runsc $rootless--platform=ptrace --network=none --ignore-cgroups do"
}

try_engine() { # docker or podman
    has "$1" || { not_here "$1" "not installed"; return 0; }
    why=$("$1" info 2>&1 >/dev/null) || { not_here "$1" "cannot be used: $(first_line "$why")"; return 0; }
    (cd "$dir" && mkdir empty && tar -c -f - -C empty .) | "$1" import - "$IMAGE" >/dev/null 2>&1 ||
        { not_here "$1" "cannot be used: $1 import failed"; return 0; }
    : >"$dir/$1"
    add "$1" "$1 run --rm --network none -v {}:{}:ro $IMAGE"
}

first_line() { printf '%s\n' "$1" | sed -n '/./{p;q;}'; }

try_systemd() {
    has systemd-run || { not_here systemd-run "not installed"; return 0; }
    [ -d /run/systemd/system ] || { not_here systemd-run "cannot be used: no systemd is running here"; return 0; }
    mode=
    is_root || mode='--user '
    add systemd-run "systemd-run ${mode}--quiet --pipe --wait --collect -p RuntimeMaxSec=5 -p DynamicUser=yes \
-p NoNewPrivileges=yes -p CapabilityBoundingSet= -p ProtectSystem=strict -p ProtectHome=yes -p ProtectProc=invisible \
-p PrivateTmp=yes -p PrivateDevices=yes -p PrivateNetwork=yes -p PrivateUsers=yes -p ProtectKernelModules=yes \
-p RestrictNamespaces=yes -p SystemCallFilter=@system-service -p BindReadOnlyPaths={} --"
}

# ----------------------------------------------------------------------------------------------------------------

if [ "${1-}" = --only ]; then
    [ $# -ge 2 ] || fail "--only: a list of names is missing"
    only=$2
    shift 2
fi
case $0 in */*) here=${0%/*} ;; *) here=. ;; esac
bin=$(sh "$here/matrix.sh" --where)
dir=$(mktemp -d "${TMPDIR:-/tmp}/agent-compare.XXXXXX")
chmod 755 "$dir" # uid 65534 starts the probe here
cp "$bin/agent-shim" "$bin/agent-probe" "$dir"

try_bwrap
try_unshare
try_firejail
try_runc
try_runsc
try_engine docker
try_engine podman
try_systemd

[ $count != 0 ] || fail "none of the launchers can be used here:
$absent"
n=$count
while [ $n != 0 ]; do
    eval "set -- --launcher-as \"\$name_$n\" \"\$line_$n\" \"\$@\""
    n=$((n - 1))
done
status=0
AGENT_COMPARE=$dir AGENT_BIN_DIR=$dir "$dir/agent-shim" matrix "$@" || status=$?
[ -z "$absent" ] || printf 'not compared:\n%s' "$absent"
trap - EXIT
cleanup
exit $status
