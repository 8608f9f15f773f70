//! Why a program that is there cannot be started: its interpreter is not. For messages only: what
//! is read here decides nothing. elf(5), PT_INTERP; execve(2), "Interpreter scripts".

use std::ffi::OsStr;
use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Component, Path, PathBuf};

use crate::plan::{Plan, Program};
use crate::room::{Kind, Node};

/// Most links that are followed: path_resolution(7).
const MOST_LINKS: usize = 40;

/// The first candidate of `plan` that is in the room, and its interpreter that is not: in the
/// words of a message.
pub fn without_interpreter(plan: &Plan) -> Option<String> {
    if !matches!(plan.program, Program::Path(_)) {
        return None;
    }
    plan.candidates().iter().find_map(|path| {
        let path = Path::new(OsStr::from_bytes(path.to_bytes()));
        let interpreter = interpreter(&on_host(&plan.nodes, path)?)?;
        let there = on_host(&plan.nodes, &interpreter).is_some_and(|file| file.exists());
        let (interpreter, path) = (interpreter.display(), path.display());
        (!there).then(|| format!("{interpreter}, the interpreter of {path}"))
    })
}

/// Where a path of the room is on the host; `None` where it is the room's own, or not there.
fn on_host(nodes: &[Node], path: &Path) -> Option<PathBuf> {
    let mut path = path.to_owned();
    for _ in 0..MOST_LINKS {
        match step(nodes, &path)? {
            Place::Found(file) => return Some(file),
            Place::Link(target) => path = target,
        }
    }
    None
}

enum Place {
    Found(PathBuf),
    Link(PathBuf),
}

/// Walks to the end of `path` or to the first link on it, which is then followed in the room.
fn step(nodes: &[Node], path: &Path) -> Option<Place> {
    let mut room = PathBuf::from("/");
    let mut host: Option<PathBuf> = None;
    let mut rest =
        path.components().filter(|c| matches!(c, Component::Normal(_) | Component::ParentDir));
    while let Some(component) = rest.next() {
        if component == Component::ParentDir {
            room.pop();
            let back = room.join(rest.collect::<PathBuf>());
            return Some(Place::Link(back));
        }
        let parent = room.clone();
        room.push(component);
        host = host.map(|dir| dir.join(component));
        let node = nodes.iter().find(|n| n.path.to_bytes() == room.as_os_str().as_bytes());
        let link = match node.map(|n| &n.kind) {
            Some(Kind::Link(target)) => Some(OsStr::from_bytes(target.to_bytes()).into()),
            Some(Kind::Bind(bind) | Kind::Overlay(bind)) => {
                host = Some(bind.source.path().to_owned());
                None
            }
            Some(_) => None,
            None => std::fs::read_link(host.as_ref()?).ok(),
        };
        if let Some(target) = link {
            return Some(Place::Link(parent.join(target).join(rest.collect::<PathBuf>())));
        }
    }
    host.filter(|file| file.exists()).map(Place::Found)
}

/// PT_INTERP of an ELF file of 64 bits, or the word after `#!`.
fn interpreter(file: &Path) -> Option<PathBuf> {
    // The agent may have put a FIFO in its place, whose open would wait for a writer.
    let flags = libc::O_NONBLOCK | libc::O_NOFOLLOW;
    let file = File::options().read(true).custom_flags(flags).open(file).ok()?;
    file.metadata().ok().filter(std::fs::Metadata::is_file)?;
    named_in(file)
}

/// The same of what is in a file.
pub fn named_in(mut file: impl Read + Seek) -> Option<PathBuf> {
    let mut head = [0; 256];
    let len = file.read(&mut head).ok()?;
    let head = head.get(..len)?;
    if let Some(line) = head.strip_prefix(b"#!") {
        let word = line.trim_ascii_start().split(u8::is_ascii_whitespace).next()?;
        return Some(OsStr::from_bytes(word).into());
    }
    let is_elf = head.starts_with(b"\x7fELF\x02\x01");
    let half = |at: usize| Some(u16::from_le_bytes(*head.get(at..)?.first_chunk()?));
    let (table, size, count) = (word(head, 32)?, u64::from(half(54)?), u64::from(half(56)?));
    let header = |n: u64| {
        let mut header = [0; 56];
        file.seek(SeekFrom::Start(table.checked_add(n.checked_mul(size)?)?)).ok()?;
        file.read_exact(&mut header).ok()?;
        Some(header)
    };
    let interp = (0..count.min(64))
        .filter(|_| is_elf)
        .map_while(header)
        .find(|h| h.starts_with(&[3, 0, 0, 0]))?;
    let mut name = vec![0; usize::try_from(word(&interp, 32)?).ok().filter(|n| *n <= 4096)?];
    file.seek(SeekFrom::Start(word(&interp, 8)?)).ok()?;
    file.read_exact(&mut name).ok()?;
    name.truncate(name.iter().position(|b| *b == 0)?);
    Some(std::ffi::OsString::from_vec(name).into())
}

fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::io::Cursor;

    proptest! {
        #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

        /// With the numbers of a header that say where the rest is: anything, or what lies within.
        #[test] // seen to fail with `at + 8` in the place of `get` in `word`
        fn noise_is_no_panic(
            mut bytes in prop::collection::vec(any::<u8>(), 0..600),
            numbers in prop::collection::vec(prop_oneof![0u64..600, any::<u64>()], 3),
        ) {
            let _either = named_in(Cursor::new(&bytes));
            for (at, text) in [(0, &b"\x7fELF\x02\x01"[..]), (54, &[56, 0, 2, 0]), (32, &numbers[0].to_le_bytes()),
                (64, &[3, 0, 0, 0]), (72, &numbers[1].to_le_bytes()), (96, &numbers[2].to_le_bytes())]
            {
                bytes.iter_mut().skip(at).zip(text).for_each(|(to, from)| *to = *from);
            }
            let _either = named_in(Cursor::new(&bytes));
            bytes.iter_mut().skip(32).zip(64u64.to_le_bytes()).for_each(|(to, from)| *to = from);
            prop_assert!(named_in(Cursor::new(&bytes)).is_none_or(|name| name.as_os_str().len() < 4096));
        }
    }

    #[test]
    fn of_a_script_and_of_a_program() {
        let dynamic = interpreter(Path::new("/usr/bin/env")).unwrap();
        assert!(dynamic.to_str().unwrap().contains("ld-"), "{dynamic:?}");
        let path = std::env::temp_dir().join(format!("agent-shim-script-{}", std::process::id()));
        std::fs::write(&path, "#! /bin/no-such -x\n").unwrap();
        assert_eq!(interpreter(&path), Some("/bin/no-such".into()));
        std::fs::remove_file(path).unwrap();
    }
}
