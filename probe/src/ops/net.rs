//! Sockets that leave the room. raw(7), udp(7).

use std::net::{Ipv4Addr, SocketAddrV4};
use std::os::fd::AsFd;

use crate::{Facts, Kind, Op, Outcome, sys};

pub(super) const OPS: &[Op] = &[
    Op {
        id: "net-raw-icmp",
        title: "socket RAW ICMP",
        group: "net",
        call: "socket(AF_INET, SOCK_RAW|SOCK_CLOEXEC, IPPROTO_ICMP); getsockopt(SO_TYPE)",
        safe: "sends and receives nothing, closes the socket at once",
        judged: "the socket says that it is SOCK_RAW",
        run: |facts| Ok(raw_icmp(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
    Op {
        id: "net-connect-udp",
        title: "connect 8.8.8.8:53",
        group: "net",
        call: "socket(AF_INET, SOCK_DGRAM|SOCK_CLOEXEC, 0); connect(8.8.8.8:53); getpeername",
        safe: "on a datagram socket connect asks for a route and sends nothing",
        judged: "getpeername gives the address back",
        run: |facts| Ok(connect_udp(facts)),
        kind: Kind::Attack,
        needs: &[],
        counted: false,
        open: None,
    },
];

fn raw_icmp(_: &Facts) -> Outcome {
    let socket = match sys::socket(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_ICMP) {
        Ok(socket) => socket,
        Err(errno) => return Outcome::BLOCKED.errno(errno),
    };
    match sys::socket_type(socket.as_fd()) {
        Ok(libc::SOCK_RAW) => Outcome::ALLOWED,
        Ok(_) => Outcome::INCONCLUSIVE.note("a socket of another type"),
        Err(errno) => Outcome::INCONCLUSIVE.errno(errno).note("made, not identified"),
    }
}

fn connect_udp(_: &Facts) -> Outcome {
    let resolver = SocketAddrV4::new(Ipv4Addr::new(8, 8, 8, 8), 53);
    let socket = match sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0) {
        Ok(socket) => socket,
        Err(errno) => return Outcome::BLOCKED.errno(errno).note("at socket"),
    };
    if let Err(errno) = sys::connect(socket.as_fd(), resolver) {
        return Outcome::BLOCKED.errno(errno);
    }
    match sys::peer(socket.as_fd()) {
        Ok(peer) if peer == resolver => Outcome::ALLOWED,
        Ok(_) => Outcome::INCONCLUSIVE.note("connected to another peer"),
        Err(errno) => Outcome::INCONCLUSIVE.errno(errno).note("connected, no peer"),
    }
}
