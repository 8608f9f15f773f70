//! Sockets of the harness outside of the room, and kinds of sockets. ip(7), unix(7), netlink(7), packet(7).
//!
//! A kind of socket is judged by what it is, wherever it is made: with a net namespace of its own a room may have raw
//! sockets, and with them the code of the kernel behind them, which is one for all. CONTAINED is for what has an effect
//! on an object: an address, a link.

use std::io::Read;
use std::net::{Ipv4Addr, SocketAddrV4, TcpStream, UdpSocket};
use std::os::fd::{AsFd, AsRawFd};
use std::os::linux::net::SocketAddrExt;
use std::os::unix::net::{SocketAddr, UnixStream};
use std::time::Duration;

use super::{at, doubt, happened, number, seen, sentinel, unless_own};
use crate::objects::{ints, ioctl};
use crate::sys::{self, Arg, call, n};
use crate::{Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("net", texts, run)
}

const ANSWER: &str = "the fixture answers the nonce";
const FIXTURE: &str = "talks to a fixture only";
const MAKES: &str =
    "sends and receives nothing, closes the socket at once; a module that it brings in stays";
const TYPE: &str = "the socket says its type";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["net-tcp-host",      "connect to TCP on the host",   "connect(127.0.0.1:PORT); read",                    FIXTURE, ANSWER], tcp).needs(&[Fixture::Tcp]),
    row(["net-udp-host",      "send UDP to the host",         "sendto(127.0.0.1:PORT); recv",                     FIXTURE, ANSWER], udp).needs(&[Fixture::Udp]),
    row(["net-abstract-host", "abstract socket of the host",  r#"connect("\0NAME"); read"#,                       FIXTURE, ANSWER], named).needs(&[Fixture::Abstract]),
    row(["net-path-host",     "socket file of the host",      r#"connect("DIR/socket"); read"#,                   FIXTURE, ANSWER], path).needs(&[Fixture::Socket]),
    row(["net-metadata",      "route to cloud metadata",      "socket(SOCK_DGRAM); connect(169.254.169.254:80)",  ROUTE, PEER], |_| route([169, 254, 169, 254])),
    row(["net-lan",           "route to a private network",   "socket(SOCK_DGRAM); connect(10.0.0.1:53)",         ROUTE, PEER], |_| route([10, 0, 0, 1])),
    row(["net-multicast",     "route to a multicast group",   "socket(SOCK_DGRAM); connect(224.0.0.251:5353)",    ROUTE, PEER], |_| route([224, 0, 0, 251])),
    row(["net-packet",        "socket PACKET",                "socket(AF_PACKET, SOCK_RAW, 0)",                   MAKES, TYPE], |_| kind(libc::AF_PACKET, libc::SOCK_RAW, 0)),
    row(["net-raw-tcp",       "socket RAW TCP",               "socket(AF_INET, SOCK_RAW, IPPROTO_TCP)",           MAKES, TYPE], |_| kind(libc::AF_INET, libc::SOCK_RAW, libc::IPPROTO_TCP)),
    row(["net-raw6",          "socket RAW ICMPv6",            "socket(AF_INET6, SOCK_RAW, IPPROTO_ICMPV6)",       MAKES, TYPE], |_| kind(libc::AF_INET6, libc::SOCK_RAW, libc::IPPROTO_ICMPV6)),
    row(["net-ping",          "socket DGRAM ICMP",            "socket(AF_INET, SOCK_DGRAM, IPPROTO_ICMP)",        MAKES, TYPE], |_| kind(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_ICMP)),
    row(["net-mptcp",         "socket MPTCP",                 "socket(AF_INET, SOCK_STREAM, IPPROTO_MPTCP)",      MAKES, TYPE], |_| kind(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP)),
    row(["net-sctp",          "socket SCTP",                  "socket(AF_INET, SOCK_STREAM, IPPROTO_SCTP)",       MAKES, TYPE], |_| kind(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_SCTP)),
    row(["net-udplite",       "socket UDP-Lite",              "socket(AF_INET, SOCK_DGRAM, IPPROTO_UDPLITE)",     MAKES, TYPE], |_| kind(libc::AF_INET, libc::SOCK_DGRAM, libc::IPPROTO_UDPLITE)),
    row(["net-alg",           "socket ALG",                   "socket(AF_ALG, SOCK_SEQPACKET, 0)",                MAKES, TYPE], |_| kind(libc::AF_ALG, libc::SOCK_SEQPACKET, 0)),
    row(["net-vsock",         "socket VSOCK",                 "socket(AF_VSOCK, SOCK_STREAM, 0)",                 MAKES, TYPE], |_| kind(libc::AF_VSOCK, libc::SOCK_STREAM, 0)),
    row(["net-xdp",           "socket XDP",                   "socket(AF_XDP, SOCK_RAW, 0)",                      MAKES, TYPE], |_| kind(libc::AF_XDP, libc::SOCK_RAW, 0)),
    row(["net-key",           "socket KEY",                   "socket(AF_KEY, SOCK_RAW, PF_KEY_V2)",              MAKES, TYPE], |_| kind(libc::AF_KEY, libc::SOCK_RAW, 2)),
    row(["net-bluetooth",     "socket BLUETOOTH",             "socket(AF_BLUETOOTH, SOCK_RAW, 0)",                MAKES, TYPE], |_| kind(libc::AF_BLUETOOTH, libc::SOCK_RAW, 0)),
    row(["net-can",           "socket CAN",                   "socket(AF_CAN, SOCK_RAW, CAN_RAW)",                MAKES, TYPE], |_| kind(libc::AF_CAN, libc::SOCK_RAW, 1)),
    row(["net-tipc",          "socket TIPC",                  "socket(AF_TIPC, SOCK_RDM, 0)",                     MAKES, TYPE], |_| kind(libc::AF_TIPC, libc::SOCK_RDM, 0)),
    row(["net-rds",           "socket RDS",                   "socket(AF_RDS, SOCK_SEQPACKET, 0)",                MAKES, TYPE], |_| kind(21, libc::SOCK_SEQPACKET, 0)),
    row(["net-smc",           "socket SMC",                   "socket(AF_SMC, SOCK_STREAM, 0)",                   MAKES, TYPE], |_| kind(43, libc::SOCK_STREAM, 0)),
    row(["net-nl-route",      "list links by netlink",        "socket(AF_NETLINK, NETLINK_ROUTE); RTM_GETLINK",   "only asks", "a link besides lo; only lo: CONTAINED"], links),
    row(["net-nl-add",        "add a link by netlink",        "socket(AF_NETLINK, NETLINK_ROUTE); RTM_NEWLINK",   "of a kind that does not exist", "EOPNOTSUPP, which comes after the check of CAP_NET_ADMIN"], add_link),
    row(["net-nl-diag",       "socket NETLINK SOCK_DIAG",     "socket(AF_NETLINK, SOCK_RAW, NETLINK_SOCK_DIAG)",  MAKES, TYPE], |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, 4)),
    row(["net-nl-audit",      "socket NETLINK AUDIT",         "socket(AF_NETLINK, SOCK_RAW, NETLINK_AUDIT)",      MAKES, TYPE], |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, 9)),
    row(["net-nl-netfilter",  "socket NETLINK NETFILTER",     "socket(AF_NETLINK, SOCK_RAW, NETLINK_NETFILTER)",  MAKES, TYPE], |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, 12)),
    row(["net-nl-uevent",     "socket NETLINK UEVENT",        "socket(AF_NETLINK, SOCK_RAW, NETLINK_KOBJECT_UEVENT)", MAKES, TYPE], |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, 15)),
    row(["net-nl-generic",    "socket NETLINK GENERIC",       "socket(AF_NETLINK, SOCK_RAW, NETLINK_GENERIC)",    MAKES, TYPE], |_| kind(libc::AF_NETLINK, libc::SOCK_RAW, 16)),
    row(["net-bind-low",      "bind a low port",              "socket(SOCK_STREAM); bind(127.0.0.1:1)",           "does not listen, closes at once", "getsockname gives it back; in the room's own net namespace: CONTAINED"], bind_low),
    row(["net-listen",        "listen without bind",          "socket(SOCK_STREAM); listen",                      "accepts nothing, closes at once", "getsockname has a port; in the room's own net namespace: CONTAINED"], listen),
    row(["net-so-mark",       "mark packets",                 "setsockopt(SO_MARK, 1)",                           "of a socket that sends nothing", "getsockopt gives it back"], mark),
    row(["net-filter",        "BPF on a socket",              "setsockopt(SO_ATTACH_FILTER)",                     "of a socket that receives nothing", "the kernel took the program"], filter),
    row(["net-unix-oob",      "urgent data on a UNIX socket", "socketpair(AF_UNIX); send(MSG_OOB); recv(MSG_OOB)", "between two ends of this process", "the byte comes"], urgent).open("an argument of calls that every program makes"),
    row(["net-ktls",          "TLS in the kernel",            r#"connect; setsockopt(TCP_ULP, "tls")"#,           "between two ends of this process", "the kernel took it"], tls),
    row(["net-zerocopy",      "send without a copy",          "setsockopt(SO_ZEROCOPY, 1)",                       "of a socket that sends nothing", "the kernel took it"], zerocopy).open("an option of sockets that every program has"),
    row(["net-link-flags",    "set flags of lo",              "ioctl(SIOCGIFFLAGS, lo); ioctl(SIOCSIFFLAGS)",     "sets the flags that it has", "the kernel took them; in the room's own net namespace: CONTAINED"], flags),
];

const ROUTE: &str = "on a datagram socket connect asks for a route and sends nothing";
const PEER: &str = "getpeername gives the address back";

const PATIENCE: Duration = Duration::from_millis(500);

fn answer(facts: &Facts, mut from: impl Read) -> Tried {
    let mut word = Vec::new();
    from.by_ref().take(16).read_to_end(&mut word).map_err(doubt("connected, no answer"))?;
    seen(facts, &word)
}

fn here(facts: &Facts, fixture: Fixture) -> Result<SocketAddrV4, Outcome> {
    let port = u16::try_from(number(facts, fixture)?).map_err(|_| Outcome::INCONCLUSIVE)?;
    Ok(SocketAddrV4::new(Ipv4Addr::LOCALHOST, port))
}

fn tcp(facts: &Facts) -> Tried {
    let peer = TcpStream::connect(here(facts, Fixture::Tcp)?)?;
    peer.set_read_timeout(Some(PATIENCE)).map_err(doubt("setsockopt"))?;
    answer(facts, peer)
}

/// An ICMP error of the room's own loopback comes back as ECONNREFUSED.
fn udp(facts: &Facts) -> Tried {
    let socket = UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).map_err(doubt("bind"))?;
    socket.set_read_timeout(Some(PATIENCE)).map_err(doubt("setsockopt"))?;
    socket.connect(here(facts, Fixture::Udp)?)?;
    socket.send(b"who?")?;
    let mut word = [0; 32];
    let len = socket.recv(&mut word)?;
    seen(facts, word.get(..len).unwrap_or_default())
}

fn named(facts: &Facts) -> Tried {
    let name = SocketAddr::from_abstract_name(at(facts, Fixture::Abstract)?);
    let peer = UnixStream::connect_addr(&name.map_err(doubt("address"))?)?;
    peer.set_read_timeout(Some(PATIENCE)).map_err(doubt("setsockopt"))?;
    answer(facts, peer)
}

fn path(facts: &Facts) -> Tried {
    let peer = UnixStream::connect(at(facts, Fixture::Socket)?)?;
    peer.set_read_timeout(Some(PATIENCE)).map_err(doubt("setsockopt"))?;
    answer(facts, peer)
}

fn route(to: [u8; 4]) -> Tried {
    let peer = SocketAddrV4::new(to.into(), 53);
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(doubt("socket"))?;
    sys::connect(socket.as_fd(), peer)?;
    happened(sys::peer(socket.as_fd()) == Ok(peer))
}

fn kind(family: i32, kind: i32, protocol: i32) -> Tried {
    let socket = sys::socket(family, kind, protocol)?;
    happened(sys::socket_type(socket.as_fd()) == Ok(kind))
}

/// struct nlmsghdr: length, type, flags, sequence, port; then what is asked.
fn netlink(kind: u16, flags: u16, payload: &[u8]) -> Result<Vec<u8>, Outcome> {
    let socket = sys::socket(libc::AF_NETLINK, libc::SOCK_RAW, libc::NETLINK_ROUTE)?;
    let len = u32::try_from(16 + payload.len()).unwrap_or(0);
    let mut message = len.to_ne_bytes().to_vec();
    message.extend(kind.to_ne_bytes().into_iter().chain(flags.to_ne_bytes()));
    message.extend([0; 8]);
    message.extend(payload);
    let len = i64::from(len);
    let args = &mut [n(&socket), Arg::In(&message), Arg::N(len), Arg::N(0), Arg::N(0), Arg::N(0)];
    call(libc::SYS_sendto, args)?;
    let mut reply = vec![0; 32768];
    let room = Arg::N(32768);
    let args = &mut [n(&socket), Arg::Out(&mut reply), room, Arg::N(0), Arg::N(0), Arg::N(0)];
    let got = call(libc::SYS_recvfrom, args).map_err(doubt("recvfrom"))?;
    reply.truncate(usize::try_from(got).unwrap_or(0));
    Ok(reply)
}

const NLM_F_REQUEST: u16 = 1;
const NLM_F_ACK: u16 = 4;
const NLM_F_DUMP: u16 = 0x300;

/// Messages of the first datagram, each a link: RTM_NEWLINK, 16.
fn links(_: &Facts) -> Tried {
    let reply = netlink(libc::RTM_GETLINK, NLM_F_REQUEST | NLM_F_DUMP, &[0; 16])?;
    let (mut count, mut rest) = (0, reply.as_slice());
    while let [a, b, c, d, e, f, ..] = *rest {
        let len = usize::try_from(u32::from_ne_bytes([a, b, c, d])).unwrap_or(0).div_ceil(4) * 4;
        count += usize::from(u16::from_ne_bytes([e, f]) == libc::RTM_NEWLINK);
        rest = if len == 0 { &[] } else { rest.get(len..).unwrap_or_default() };
    }
    match count {
        0 => Ok(Outcome::INCONCLUSIVE.note("no link in the answer")),
        1 => Ok(Outcome::CONTAINED.note("the room's own loopback")),
        _ => Ok(Outcome::ALLOWED),
    }
}

/// struct ifinfomsg, then IFLA_LINKINFO 18 holding IFLA_INFO_KIND 1. rtnl_newlink asks CAP_NET_ADMIN first.
fn add_link(facts: &Facts) -> Tried {
    let mut message = vec![0; 16];
    let attribute = |kind: u16, content: &[u8]| {
        let len = u16::try_from(4 + content.len()).unwrap_or(0);
        [&len.to_ne_bytes()[..], &kind.to_ne_bytes()[..], content].concat()
    };
    message.extend(attribute(18, &attribute(1, b"agentxx\0")));
    let flags = NLM_F_REQUEST | NLM_F_ACK | 0x600; // CREATE, EXCL
    let reply = netlink(libc::RTM_NEWLINK, flags, &message)?;
    let errno = reply.get(16..20).and_then(|four| four.try_into().ok()).map(i32::from_ne_bytes);
    let errno = errno.ok_or(Outcome::INCONCLUSIVE.note("no answer"))?;
    let result = if errno == 0 { Ok(0) } else { Err(crate::Errno(-errno)) };
    let outcome = sentinel(result, &[libc::EOPNOTSUPP])?;
    let own = unless_own(facts.netns, "net");
    Ok(if own.verdict == Outcome::CONTAINED.verdict { own } else { outcome })
}

fn bind_low(facts: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map_err(doubt("socket"))?;
    let family = u16::try_from(libc::AF_INET).unwrap_or(0).to_ne_bytes();
    let mut address = [0; 16];
    address[..8].copy_from_slice(&[family[0], family[1], 0, 1, 127, 0, 0, 1]);
    call(libc::SYS_bind, &mut [n(&socket), Arg::In(&address), Arg::N(16)])?;
    let (mut back, mut len) = ([0; 16], [16, 0, 0, 0]);
    let args = &mut [n(&socket), Arg::Out(&mut back), Arg::Out(&mut len)];
    call(libc::SYS_getsockname, args).map_err(doubt("getsockname"))?;
    if back != address {
        return happened(false);
    }
    Ok(unless_own(facts.netns, "net"))
}

/// The kernel chooses the port: Landlock's right to bind is not asked.
fn listen(facts: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map_err(doubt("socket"))?;
    call(libc::SYS_listen, &mut [n(&socket), Arg::N(1)])?;
    let (mut back, mut len) = ([0; 16], [16, 0, 0, 0]);
    let args = &mut [n(&socket), Arg::Out(&mut back), Arg::Out(&mut len)];
    call(libc::SYS_getsockname, args).map_err(doubt("getsockname"))?;
    if back[2..4] == [0, 0] { happened(false) } else { Ok(unless_own(facts.netns, "net")) }
}

fn mark(_: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(doubt("socket"))?;
    let option = || [n(&socket), Arg::N(libc::SOL_SOCKET.into()), Arg::N(libc::SO_MARK.into())];
    let ([fd, level, name], value) = (option(), ints(&[1]));
    call(libc::SYS_setsockopt, &mut [fd, level, name, Arg::In(&value), Arg::N(4)])?;
    let ([fd, level, name], mut back, mut len) = (option(), [0; 4], [4, 0, 0, 0]);
    let args = &mut [fd, level, name, Arg::Out(&mut back), Arg::Out(&mut len)];
    call(libc::SYS_getsockopt, args).map_err(doubt("getsockopt"))?;
    happened(value == back)
}

fn filter(_: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(doubt("socket"))?;
    sys::attach_filter(socket.as_fd())?;
    Ok(Outcome::ALLOWED)
}

/// struct ifreq: 16 bytes of name, then the flags.
fn flags(facts: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_DGRAM, 0).map_err(doubt("socket"))?;
    let mut request = [0; 40];
    request[..2].copy_from_slice(b"lo");
    let fd = socket.as_raw_fd();
    ioctl(fd, libc::SIOCGIFFLAGS, Arg::Out(&mut request)).map_err(doubt("SIOCGIFFLAGS"))?;
    ioctl(fd, libc::SIOCSIFFLAGS, Arg::In(&request))?;
    Ok(unless_own(facts.netns, "net"))
}

/// CVE-2025-38236 was in this code.
fn urgent(_: &Facts) -> Tried {
    let (one, two) = UnixStream::pair().map_err(doubt("socketpair"))?;
    let flag = || Arg::N(libc::MSG_OOB.into());
    let none = || Arg::N(0);
    call(libc::SYS_sendto, &mut [n(&one), Arg::In(b"u"), Arg::N(1), flag(), none(), none()])?;
    let mut byte = [0];
    let args = &mut [n(&two), Arg::Out(&mut byte), Arg::N(1), flag(), none(), none()];
    call(libc::SYS_recvfrom, args)?;
    happened(byte == *b"u")
}

/// TCP_ULP, 31; the socket must be connected.
fn tls(_: &Facts) -> Tried {
    let listener = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).map_err(doubt("bind"))?;
    let address = listener.local_addr().map_err(doubt("getsockname"))?;
    let peer = TcpStream::connect(address).map_err(doubt("connect"))?;
    let (level, name) = (Arg::N(libc::IPPROTO_TCP.into()), Arg::N(31));
    call(libc::SYS_setsockopt, &mut [n(&peer), level, name, Arg::In(b"tls"), Arg::N(3)])?;
    Ok(Outcome::ALLOWED)
}

fn zerocopy(_: &Facts) -> Tried {
    let socket = sys::socket(libc::AF_INET, libc::SOCK_STREAM, 0).map_err(doubt("socket"))?;
    let (level, name) = (Arg::N(libc::SOL_SOCKET.into()), Arg::N(libc::SO_ZEROCOPY.into()));
    let on = ints(&[1]);
    call(libc::SYS_setsockopt, &mut [n(&socket), level, name, Arg::In(&on), Arg::N(4)])?;
    Ok(Outcome::ALLOWED)
}
