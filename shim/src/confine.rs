//! The shim's own Landlock domain while it supervises: it has nothing more to open. A second
//! wall, so best effort: the room does not depend on it. By the `landlock` crate.

use std::path::Path;

use landlock::{
    ABI, Access, AccessFs, AccessNet, BitFlags, CompatLevel, Compatible, PathBeneath, PathFd,
    Ruleset, RulesetAttr, RulesetCreatedAttr, RulesetError,
};

use crate::cgroup::Group;

/// Takes from this process, for good, the right to open any file and to use TCP. Signals are not
/// scoped: they are what the shim is for. The room's group is asked and removed at the end.
pub fn shim(group: &Group) {
    match restrict(group) {
        Ok(()) => log::info!("the shim has given up the file system"),
        Err(error) => log::info!("the shim keeps the file system: {error}"),
    }
}

fn restrict(group: &Group) -> Result<(), RulesetError> {
    let rule = |path: &Path, access: BitFlags<AccessFs>| {
        PathFd::new(path).ok().map(|fd| Ok::<_, RulesetError>(PathBeneath::new(fd, access)))
    };
    let rules = group.dirs().flat_map(|(above, own)| {
        [rule(above, AccessFs::RemoveDir | AccessFs::ReadDir), rule(own, AccessFs::ReadFile.into())]
    });
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?
        .add_rules(rules.flatten())?
        .restrict_self()
        .map(drop)
}
