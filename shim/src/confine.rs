//! The shim's own Landlock domain while it supervises: it has nothing more to open. A second
//! wall, so best effort: the room does not depend on it. By the `landlock` crate.

use landlock::{
    ABI, Access, AccessFs, AccessNet, CompatLevel, Compatible, Ruleset, RulesetAttr, RulesetError,
};

/// Takes from this process, for good, the right to open any file and to use TCP. Signals are not
/// scoped: they are what the shim is for.
pub fn shim() {
    match restrict() {
        Ok(()) => log::info!("the shim has given up the file system"),
        Err(error) => log::info!("the shim keeps the file system: {error}"),
    }
}

fn restrict() -> Result<(), RulesetError> {
    Ruleset::default()
        .set_compatibility(CompatLevel::BestEffort)
        .handle_access(AccessFs::from_all(ABI::V5))?
        .handle_access(AccessNet::from_all(ABI::V4))?
        .create()?
        .restrict_self()
        .map(drop)
}
