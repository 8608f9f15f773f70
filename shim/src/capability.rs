//! What the control as real root cannot do, though it is root: a service manager or a container may
//! have taken capabilities from it. What only they allow looks absent then. capabilities(7).

/// By number, linux/capability.h of Linux 6.18.
#[rustfmt::skip] // ten a line
const NAMES: [&str; 41] = [
    "CHOWN", "DAC_OVERRIDE", "DAC_READ_SEARCH", "FOWNER", "FSETID", "KILL", "SETGID", "SETUID", "SETPCAP", "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE", "NET_BROADCAST", "NET_ADMIN", "NET_RAW", "IPC_LOCK", "IPC_OWNER", "SYS_MODULE", "SYS_RAWIO", "SYS_CHROOT", "SYS_PTRACE",
    "SYS_PACCT", "SYS_ADMIN", "SYS_BOOT", "SYS_NICE", "SYS_RESOURCE", "SYS_TIME", "SYS_TTY_CONFIG", "MKNOD", "LEASE", "AUDIT_WRITE",
    "AUDIT_CONTROL", "SETFCAP", "MAC_OVERRIDE", "MAC_ADMIN", "SYSLOG", "WAKE_ALARM", "BLOCK_SUSPEND", "AUDIT_READ", "PERFMON", "BPF",
    "CHECKPOINT_RESTORE",
];

/// Of the effective set of this process, which is the control's.
pub fn lacking() -> Vec<String> {
    agent_init::sys::caps().map_or(Vec::new(), |sets| not_in(sets.effective))
}

fn not_in(set: u64) -> Vec<String> {
    let lacks = NAMES.iter().enumerate().filter(|(number, _)| set & 1 << number == 0);
    lacks.map(|(_, name)| format!("CAP_{name}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_where_the_kernel_counts_them() {
        assert_eq!(not_in(!0), [""; 0]);
        let of = |number: u32| not_in(!(1 << number)).concat();
        // linux/capability.h
        assert_eq!([8, 21, 24, 34, 40].map(of), {
            ["SETPCAP", "SYS_ADMIN", "SYS_RESOURCE", "SYSLOG", "CHECKPOINT_RESTORE"]
                .map(|name| format!("CAP_{name}"))
        });
    }
}
