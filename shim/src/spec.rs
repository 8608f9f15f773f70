//! What a caller asks for, as the options say it: plain data. [`crate::plan`] makes of it what is
//! done.

use std::ffi::{CString, OsString};
use std::path::PathBuf;
use std::sync::Arc;

use agent_init::layers::Layers;

use crate::limits::Limits;
use crate::policy::choice::Choice;

/// What the room holds before any option adds to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Base {
    /// The host's system directories, read-only, a composed `/etc`, a home.
    System,
    /// Nothing of the host but its harmless devices.
    Bare,
    /// The root of an image: its entries read-only.
    Image {
        /// The directory that holds it.
        dir: PathBuf,
        /// With a writable layer over it, which ends with the room.
        overlay: bool,
    },
}

/// One thing to be put in the room.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// The option it came by, for messages: `--bind`.
    pub option: &'static str,
    /// Where it is in the room: absolute.
    pub dest: PathBuf,
    /// What it is.
    pub what: What,
}

/// What is put there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum What {
    /// A file or directory of the host.
    Bind(PathBuf, Mode),
    /// An empty directory of the room's own.
    Tmpfs,
    /// A file with this content.
    File(Arc<[u8]>),
    /// A symbolic link to this.
    Symlink(OsString),
    /// Nothing, in place of what would be there.
    Mask,
}

/// How a file or directory of the host is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// To be read and run.
    ReadOnly,
    /// To be written too.
    Writable,
    /// Writable, and its devices can be used.
    Devices,
    /// A socket that can be connected to.
    Socket,
}

/// What a room may reach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Net {
    /// The room's own loopback.
    None,
    /// All that the caller reaches.
    Host,
}

/// What an experiment does otherwise than the room that it is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bend {
    /// The agent is root of its user namespace, with or without capabilities.
    RootInside,
    /// Real root becomes another id, and keeps every capability but those over files of others.
    OtherId,
    /// Without the resource limits that every room has: [`crate::room::RLIMITS`].
    NoRlimits,
    /// As many inotify instances as the host allows.
    Watchers,
}

/// A room. `Spec::default()` is the profile `full` with the host's system directories.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spec {
    /// The layers that must be in force.
    pub layers: Layers,
    /// Layers that are left out and still asked back, for tests: the launch must fail.
    pub omitted: Layers,
    /// Accept less than was asked for, and say so.
    pub best_effort: bool,
    /// Which filter the agent runs under.
    pub filter: Choice,
    /// The filter's refusals answer errno 4095: for experiments.
    pub marked: bool,
    /// Not a room but the control of an experiment: as real root.
    pub as_real_root: bool,
    /// An experiment; none of these in a room that is used.
    pub bend: Option<Bend>,
    /// What the root holds.
    pub base: Base,
    /// What is put in it besides.
    pub mounts: Vec<Mount>,
    /// Writable at its own path, and the start directory.
    pub workspace: Option<PathBuf>,
    /// The workspace's repository can be committed to; else it is read-only.
    pub git: bool,
    /// A link on the way to a source is followed, whoever can have made it.
    pub follow_links: bool,
    /// The agent's home; `None`: an empty one, which ends with the room.
    pub home: Option<PathBuf>,
    /// The start directory; `None`: the workspace, else the home.
    pub start: Option<PathBuf>,
    /// The name of the uts namespace.
    pub hostname: CString,
    /// The agent's user id; `None`: the caller's, or 65534 for root.
    pub uid: Option<u32>,
    /// The agent's group id, likewise.
    pub gid: Option<u32>,
    /// What it may reach.
    pub net: Net,
    /// Name and value of variables, over those that every room has.
    pub env: Vec<(OsString, OsString)>,
    /// What it may use.
    pub limits: Limits,
}

impl Default for Spec {
    fn default() -> Spec {
        Spec {
            layers: Layers::FULL,
            omitted: Layers::empty(),
            best_effort: false,
            filter: Choice::default(),
            marked: false,
            as_real_root: false,
            bend: None,
            base: Base::System,
            mounts: Vec::new(),
            workspace: None,
            git: false,
            follow_links: false,
            home: None,
            start: None,
            hostname: crate::room::HOSTNAME.to_owned(),
            uid: None,
            gid: None,
            net: Net::None,
            env: Vec::new(),
            limits: Limits::default(),
        }
    }
}
