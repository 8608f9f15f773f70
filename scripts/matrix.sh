#!/bin/sh
# matrix.sh - what each profile blocks, which primitive did it, and what it costs.
# usage: scripts/matrix.sh [options of agent-shim matrix]
#        scripts/matrix.sh --where   prints the directory of the binaries, for other scripts
# exit: 0 the room held, 1 it did not, 2 it held and a --launcher has not answered, 125 failed
# The binaries: those in AGENT_BIN_DIR if it is set; else those beside this script; else those of the source
# tree around it, built with cargo where that is possible.
# needs: sh, and readlink where this is started through a symbolic link. No bash, no GNU options.
set -eu
LC_ALL=C; export LC_ALL

# Whatever ends this script before the exec below, 0 and 1 would be statements about the room.
trap 'exit 125' EXIT

fail() { # MESSAGE [HINT]
    echo "matrix.sh: $1" >&2
    [ $# -lt 2 ] || echo "hint: $2" >&2
    exit 125
}

# agent-init is no file of its own here: agent-shim carries it.
has_binaries() { # DIRECTORY; names in $missing what is not there
    missing=
    for program in agent-shim agent-probe; do
        [ -f "$1/$program" ] && [ -x "$1/$program" ] || missing="$missing${missing:+ and }$program"
    done
    [ -z "$missing" ]
}

absolute() { # PATH, into $absolute
    case $1 in /*) absolute=$1 ;; *) absolute=${PWD%/}/$1 ;; esac
}

# The directory of this script, through symbolic links to it, into $here.
find_here() {
    absolute "$0"
    while [ -L "$absolute" ]; do
        link=$(readlink "$absolute") || fail "readlink $absolute failed"
        case $link in /*) absolute=$link ;; *) absolute=${absolute%/*}/$link ;; esac
    done
    here=$(cd -P "${absolute%/*}/" && pwd -P) || fail "no directory ${absolute%/*}"
}

# Where cargo puts the release binaries of the tree $root, into $target and $built: the triple is that of
# .cargo/config.toml, as a line target = "TRIPLE".
find_built() {
    absolute "${CARGO_TARGET_DIR:-${CARGO_BUILD_TARGET_DIR:-$root/target}}"
    target=$absolute
    triple=${CARGO_BUILD_TARGET:-}
    if [ -z "$triple" ] && [ -r "$root/.cargo/config.toml" ]; then
        while IFS=' ="' read -r key _ value _; do
            [ "$key" != target ] || triple=$value
        done <"$root/.cargo/config.toml"
    fi
    built=$target/${triple:+$triple/}release
}

# An ordinary user in the tree of someone else cannot build there, and need not: cargo would have to write.
can_build() {
    command -v cargo >/dev/null || return 1
    where=$target
    while [ ! -e "$where" ] && [ -n "$where" ]; do where=${where%/*}; done
    [ -w "${where:-/}" ] && { [ ! -d "$built" ] || [ -w "$built" ]; }
}

build() {
    quiet=-q
    if ! has_binaries "$built"; then
        echo "matrix.sh: building $missing with cargo" >&2
        [ ! -t 2 ] || quiet=
    fi
    # In the tree, as cargo reads the configuration of the directory it is started in. RUSTFLAGS would take the
    # place of the flags there, and the programs would not be static.
    (
        cd -P "$root/"
        unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
        # shellcheck disable=SC2086 # $quiet: one word or none
        cargo build --release --locked $quiet --target-dir "$target" ${triple:+--target "$triple"} >&2
    ) || fail "cargo build failed" "AGENT_BIN_DIR=DIRECTORY names a directory with agent-shim and agent-probe"
    has_binaries "$built" || fail "cargo has built, but there is no $missing in $built"
}

if [ -n "${AGENT_BIN_DIR:-}" ]; then
    absolute "$AGENT_BIN_DIR"
    bin=$absolute
    has_binaries "$bin" || fail "no $missing in AGENT_BIN_DIR, $bin"
else
    find_here
    root=${here%/*}
    if has_binaries "$here"; then
        bin=$here
    elif [ -f "$root/Cargo.toml" ] && [ -d "$root/shim" ]; then
        find_built
        bin=$built
        if can_build; then
            build
        elif ! has_binaries "$built"; then
            command -v cargo >/dev/null ||
                fail "no $missing in $built, and no cargo to build it with" \
                    "install Rust (https://rustup.rs), or set AGENT_BIN_DIR to a directory with the binaries"
            fail "no $missing in $built, and this user cannot write there" \
                "let the owner of the tree run this once, or set CARGO_TARGET_DIR to a directory of your own"
        fi
    else
        fail "no $missing beside this script in $here, and no source tree around it" \
            "set AGENT_BIN_DIR to a directory with agent-shim and agent-probe"
    fi
fi

# Now, as a shell takes a program of another machine for a script of its own.
version=$("$bin/agent-shim" --version) || fail "$bin/agent-shim cannot be run here"
case $version in "agent-shim "*) ;; *) fail "$bin/agent-shim is something else: $version" ;; esac

if [ "$*" = --where ]; then
    echo "$bin"
    trap - EXIT
    exit 0
fi

AGENT_BIN_DIR=$bin; export AGENT_BIN_DIR
exec "$bin/agent-shim" matrix "$@"
