//! `agent-shim`: builds the room that an agent runs in, and proves what its walls do.
//!
//! The straight line: [`spec`] → [`plan`] → [`launch`] (clone3, [`compose`], execve of
//! [`image`]) → [`supervise`] ([`lent`], [`pump`],
//! [`tty`], [`status`]); [`Sandbox`] is its handle. On top of it: [`lab`] runs one operation of `agent-probe` in one
//! room, [`attribute`] derives from such runs which primitive blocked it, [`cost`] measures;
//! [`mod@bench`] compares filters;
//! [`launcher`] lets another sandbox be judged by the same probe, [`keeper`] starts it;
//! [`doctor`] finds out what this host offers.

pub mod limits;
pub mod spec;

pub mod room;
pub mod tree;

pub mod mounts;
pub mod sockets;
pub mod source;

pub mod furnish;
pub mod git;
pub mod guard;
pub mod plan;

pub mod launch;

pub mod compose;
pub mod pin;

pub mod overlay;

pub mod cgroup;
pub mod heir;
pub mod idmap;
pub mod image;
pub mod ns;

pub mod git_index;
pub mod program;

pub mod child;

pub mod bounded;
pub mod stdio;
pub mod tty;

pub mod lent;
pub mod pump;
pub mod status;
pub mod streams;
pub mod supervise;

pub mod sandbox;

pub mod profile;

pub mod policy;

pub mod attribute;
pub mod bench;
pub mod capability;
pub mod cost;
pub mod credit;
pub mod doctor;
pub mod fixture;
pub mod keeper;
pub mod lab;
pub mod launcher;
pub mod proof;
pub mod report;
pub mod set_uid;

pub mod cli;
pub mod cmd;
pub mod confine;
pub mod verbose;

pub mod error;
pub mod sys;

pub use child::Child;
pub use sandbox::Sandbox;
pub use stdio::Stdio;
