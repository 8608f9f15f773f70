//! Running what was written, and code that is data. execve(2), memfd_create(2), mmap(2), mprotect(2), proc_pid_mem(5).

use std::fs::{self, File, OpenOptions, Permissions};
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::fs::{FileExt, OpenOptionsExt, PermissionsExt};
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};

use super::{Made, at, doubt, happened, here, refused};
use crate::facts::{read_text, status_field};
use crate::sys::{self, Arg, Mapping, call, call_fd};
use crate::{Errno, Facts, Fixture, Op, Outcome, Tried};

const fn row(texts: [&'static str; 5], run: fn(&Facts) -> Tried) -> Op {
    Op::attack("exec", texts, run)
}

const OWN: &str = "memory of this process only";

#[rustfmt::skip] // a row a line
pub(super) const OPS: &[Op] = &[
    row(["exec-written",   "run a program just written", r#"write("/tmp/…"); chmod(0700); execve("/tmp/… --version")"#, "a copy of this program, removed", "it prints its version"], written).open("an agent builds programs and runs them"),
    row(["exec-memfd",     "run a program in memory",    r#"memfd_create; write; execve("/proc/self/fd/N --version")"#, "a copy of this program", "it prints its version"], in_memory).open("an agent builds programs; a memory file is a file of the room"),
    row(["exec-script",    "run a script just written",  r##"write("/tmp/…", "#!/tmp/…"); execve"##,                     "the interpreter is a copy of this program", "it is run, and names the script in its complaint"], script).open("an agent writes scripts and runs them"),
    row(["exec-rwx",       "map memory to write and run", "mmap(PROT_READ|PROT_WRITE|PROT_EXEC)",                      OWN, "it can be written"], rwx).open("interpreters make code at run time; --no-wx refuses it"),
    row(["exec-mprotect",  "make written memory code",   "mmap(PROT_WRITE); mprotect(PROT_READ|PROT_EXEC)",            OWN, "the kernel took both"], written_to_code).open("interpreters make code at run time; --no-wx refuses it"),
    row(["exec-map-file",  "map a written file as code", r#"write("/tmp/…"); mmap(PROT_READ|PROT_EXEC)"#,              "a file of mode 0600, removed", "the kernel took it, and the bytes are there"], file_as_code).open("a loader maps libraries so, and needs no right to execute them"),
    row(["exec-proc-mem",  "write past page protection", r#"mmap(PROT_READ); pwrite("/proc/self/mem")"#,               OWN, "the read-only page has the new bytes"], past_protection),
    row(["exec-set-uid",   "run a set-uid program",      r#"fork; execve("SET-UID --version"); read "/proc/CHILD/status""#, "it does nothing but end; of an ordinary user, it says its version", "the child has the id of the program's owner, which is not the own"], set_uid).needs(&[Fixture::SetUid]),
    row(["exec-mmap-null", "map the page at address 0",  "mmap(0, 4096, MAP_FIXED)",                                   OWN, "the kernel took it"], null_page),
];

fn version(mut command: Command) -> Tried {
    let output = command.arg("--version").output()?;
    happened(output.stdout.starts_with(b"agent-probe "))
}

/// The file is closed before it is run, else ETXTBSY.
fn copy(name: &str) -> Result<Made, Outcome> {
    let made = Made(here(name));
    let program = fs::read("/proc/self/exe").map_err(doubt("read itself"))?;
    let file = OpenOptions::new().write(true).create_new(true).open(&made.0);
    let mut file = file.map_err(doubt("create"))?;
    file.write_all(&program).map_err(doubt("write"))?;
    file.set_permissions(Permissions::from_mode(0o700)).map_err(doubt("chmod"))?;
    Ok(made)
}

fn written(_: &Facts) -> Tried {
    let made = copy("program")?;
    version(Command::new(&made.0))
}

fn in_memory(_: &Facts) -> Tried {
    let memory = call_fd(libc::SYS_memfd_create, &mut [Arg::Text(c"agent-probe"), Arg::N(0)]);
    let mut memory = File::from(memory.map_err(doubt("memfd_create"))?);
    let program = fs::read("/proc/self/exe").map_err(doubt("read itself"))?;
    memory.write_all(&program).map_err(doubt("write"))?;
    version(Command::new(format!("/proc/self/fd/{}", memory.as_raw_fd())))
}

fn script(_: &Facts) -> Tried {
    let interpreter = copy("interpreter")?;
    let made = Made(here("script"));
    fs::write(&made.0, format!("#!{}\n", interpreter.0.display())).map_err(doubt("write"))?;
    fs::set_permissions(&made.0, Permissions::from_mode(0o700)).map_err(doubt("chmod"))?;
    let output = Command::new(&made.0).output()?;
    // The interpreter was run with the script's path, which is no operation: it says so.
    happened(
        String::from_utf8_lossy(&output.stderr).starts_with("agent-probe: arguments: operation"),
    )
}

fn rwx(_: &Facts) -> Tried {
    let all = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
    let mut page = Mapping::new(4096, all, None)?;
    page.write(b"\xc3");
    happened(page.read() == *b"\xc3")
}

fn written_to_code(_: &Facts) -> Tried {
    let mut page =
        Mapping::new(4096, libc::PROT_READ | libc::PROT_WRITE, None).map_err(doubt("mmap"))?;
    page.write(b"\xc3");
    page.protect(libc::PROT_READ | libc::PROT_EXEC)?;
    happened(page.read() == *b"\xc3")
}

fn file_as_code(_: &Facts) -> Tried {
    let made = Made(here("code"));
    let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&made.0);
    let mut file = file.map_err(doubt("create"))?;
    file.write_all(b"\xc3").map_err(doubt("write"))?;
    let page = Mapping::new(4096, libc::PROT_READ | libc::PROT_EXEC, Some(file.as_fd()))?;
    happened(page.read() == *b"\xc3")
}

fn past_protection(_: &Facts) -> Tried {
    let page = Mapping::new(4096, libc::PROT_READ, None).map_err(doubt("mmap"))?;
    let memory = OpenOptions::new().write(true).open("/proc/self/mem")?;
    memory.write_all_at(b"past", page.address())?;
    happened(page.read() == *b"past")
}

/// A process that has ended keeps its ids until it is waited for.
fn set_uid(facts: &Facts) -> Tried {
    let place = at(facts, Fixture::SetUid)?;
    let (path, owner) = place.rsplit_once(':').unwrap_or((place, ""));
    let child = started(path)?;
    let ended = sys::wait_and_keep(child);
    let status = read_text(&format!("/proc/{child}/status"));
    sys::wait(child).map_err(doubt("wait"))?;
    ended.map_err(doubt("waitid"))?;
    let status = status.map_err(doubt("status of the child"))?;
    let own = call(libc::SYS_geteuid, &mut []).map_err(doubt("geteuid"))?.to_string();
    let effective = status_field(&status, "Uid").and_then(|ids| ids.split_whitespace().nth(1));
    match effective {
        // In a user namespace the own id may have the owner's number: that is nothing gained.
        Some(id) if id == owner && id != own => Ok(Outcome::ALLOWED),
        Some(_) => Ok(Outcome::BLOCKED.note("run, with the own id")),
        None => Ok(Outcome::INCONCLUSIVE.note("no id in the status of the child")),
    }
}

/// By fork: std asks for clone3 first, and a filter's marked answer to that is none to execve.
fn started(path: &str) -> Result<libc::pid_t, Outcome> {
    let (mut failure, tell) = std::io::pipe().map_err(doubt("pipe"))?;
    let nothing = Stdio::null;
    let mut command = Command::new(path);
    command.arg("--version").stdin(nothing()).stdout(nothing()).stderr(nothing());
    let child = sys::fork(|| {
        let Errno(errno) = command.exec().into();
        i32::from((&tell).write_all(&errno.to_ne_bytes()).is_err())
    });
    let child = child.map_err(doubt("fork"))?;
    drop(tell); // and the child's is closed when the program is run
    let mut errno = Vec::new();
    failure.read_to_end(&mut errno).map_err(doubt("read"))?;
    match errno.try_into().map(i32::from_ne_bytes) {
        Ok(errno) => {
            sys::wait(child).map_err(doubt("wait"))?;
            Err(refused(path, std::io::Error::from_raw_os_error(errno)))
        }
        Err(_) => Ok(child),
    }
}

fn null_page(_: &Facts) -> Tried {
    Mapping::at_null()?;
    Ok(Outcome::ALLOWED)
}
