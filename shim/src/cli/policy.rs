//! The words and options of `policy`.

use std::ffi::OsString;

use agent_init::nr::{ARCHS, Arch, HOST};
use lexopt::Parser;

use super::{Command, End, Opt, opt, options, utf8};
use crate::policy::choice::Choice;
use crate::policy::{FILTERS, words};

/// What they ask for.
#[derive(Debug, PartialEq, Eq)]
pub struct Policy {
    /// The command, and what it works on.
    pub what: What,
    /// Whether it is about PID 1's own filter.
    pub init: bool,
    /// The agent's filter, else.
    pub choice: Choice,
    /// Whose numbers.
    pub arch: &'static Arch,
    /// Only rows of this group.
    pub group: Option<String>,
    /// Only rows that can answer so.
    pub action: Option<String>,
    /// How it is printed.
    pub format: Format,
}

/// The commands. A program is one of our filters by its name, or a file.
#[derive(Debug, Default, PartialEq, Eq)]
pub enum What {
    /// The table.
    #[default]
    List,
    /// The groups of the table.
    Groups,
    /// One call, by its name or number.
    Show(OsString),
    /// The program.
    Dump(Option<OsString>),
    /// What is wrong with a program.
    Check(OsString),
    /// Where two programs differ.
    Diff(OsString, OsString),
    /// The filters of a process.
    Trace(i32),
}

/// How a filter is printed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// For people.
    #[default]
    Text,
    /// As the kernel takes it.
    Bpf,
    /// An array in C.
    C,
    /// Our schema.
    Json,
    /// For a container runtime.
    Oci,
}

#[rustfmt::skip] // a row a line
const FORMATS: &[(&str, Format)] = &[
    ("text", Format::Text), ("bpf", Format::Bpf), ("c", Format::C), ("json", Format::Json), ("oci", Format::Oci),
];

#[rustfmt::skip] // a row a line
pub(super) const OPTIONS: &[Opt<Policy>] = &[
    opt("group",  "NAME", "list: only the rows of a group", |p, v| { p.group = Some(known(utf8(v)?, &groups())?); Ok(()) }),
    opt("action", "NAME", "list: only the rows that can answer allow, kill, EPERM …", |p, v| { p.action = Some(known(utf8(v)?, &actions())?); Ok(()) }),
    opt("init",   "",     "list, show, dump: of PID 1's own filter", |p, _| { p.init = true; Ok(()) }),
    opt("arch",   "NAME", "for x86_64, aarch64 or riscv64 [this machine's]", |p, v| { p.arch = arch(utf8(v)?)?; Ok(()) }),
    opt("filter", "NAME", "of default or strict, as run has it [default]", |p, v| p.choice.base(utf8(v)?)),
    opt("allow-group", "NAME", "with this group, as run has it", |p, v| p.choice.allow(utf8(v)?)),
    opt("deny-group",  "NAME", "without this group", |p, v| p.choice.deny(utf8(v)?)),
    opt("no-wx",  "",     "with no memory that can be written and run", |p, _| { p.choice.no_wx(); Ok(()) }),
    opt("format", "NAME", "list, dump: text, json; dump: bpf (struct sock_filter),\nc (an array), oci (linux.seccomp) [text]", format),
];

/// A command: its name, which options it takes, and how it reads its words.
type Sub = (&'static str, &'static [&'static str], fn(&[OsString]) -> Result<What, String>);

#[rustfmt::skip] // a row a line
const SUBS: &[Sub] = &[
    ("list",  &["group", "action", "init", "format", "filter", "arch"], |w| { let [] = exactly(w, "")?; Ok(What::List) }),
    ("groups", &[],                |w| { let [] = exactly(w, "")?; Ok(What::Groups) }),
    ("show",  &["init", "filter", "arch"], |w| { let [name] = exactly(w, "NAME|NUMBER")?; Ok(What::Show(name.clone())) }),
    ("dump",  &["init", "format", "filter", "arch"], |w| Ok(What::Dump(if w.is_empty() { None } else { let [file] = exactly(w, "FILE")?; Some(file.clone()) }))),
    ("check", &["filter", "arch"],                |w| { let [file] = exactly(w, "FILE")?; Ok(What::Check(file.clone())) }),
    ("diff",  &["arch"],                |w| { let [a, b] = exactly(w, "A B")?; Ok(What::Diff(a.clone(), b.clone())) }),
    ("trace", &["filter"],              |w| { let [pid] = exactly(w, "PID")?; Ok(What::Trace(process(pid)?)) }),
];

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let mut policy = Policy {
        what: What::List,
        init: false,
        choice: Choice::default(),
        arch: HOST,
        group: None,
        action: None,
        format: Format::Text,
    };
    let mut given = Vec::new();
    loop {
        match options(&mut parser, OPTIONS, "policy", &mut policy)? {
            End::Word(word) => given.push(word),
            End::Print(text) => return Ok(text),
            End::Nothing => break,
        }
    }
    let names = SUBS.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
    let Some((sub, given)) = given.split_first() else {
        return Err(format!("policy: what? One of {names}"));
    };
    let Some((name, takes, read)) = SUBS.iter().find(|(name, ..)| sub == name) else {
        return Err(format!("policy has no {sub:?}; there are {names}"));
    };
    let is_set = [
        ("group", policy.group.is_some()),
        ("action", policy.action.is_some()),
        ("init", policy.init),
        ("filter", !policy.choice.is_default()),
        ("arch", policy.arch.audit_arch != HOST.audit_arch),
        ("format", policy.format != Format::Text),
    ];
    if let Some((option, _)) = is_set.iter().find(|(o, set)| *set && !takes.contains(o)) {
        return Err(format!("policy {name} has no --{option}"));
    }
    policy.what = read(given).map_err(|wrong| format!("policy {name}: {wrong}"))?;
    policy.choice.together()?;
    let is_ours = policy.init || !policy.choice.is_default();
    if policy.init && !policy.choice.is_default() {
        return Err(format!("policy {name}: --init or {}?", policy.choice));
    }
    if let What::Dump(Some(word)) = &policy.what
        && !is_ours
    {
        let text = word.to_str().unwrap_or_default();
        if text == "init" {
            (policy.what, policy.init) = (What::Dump(None), true);
        } else if let Some(choice) = Choice::parse(text) {
            (policy.what, policy.choice) = (What::Dump(None), choice?);
        }
    }
    if let What::Show(word) = &policy.what {
        number(policy.arch, word)?;
    }
    match (&policy.what, policy.format, is_ours) {
        (What::List, Format::Bpf | Format::C | Format::Oci, _) => {
            Err("policy list has --format text and json; dump has the others".into())
        }
        (What::Dump(Some(_)), Format::Json | Format::Oci, _) => {
            Err("policy dump: a file has no table: --format text, bpf or c".into())
        }
        (What::Dump(Some(file)), _, true) => {
            let ours = if policy.init { "--init".to_owned() } else { policy.choice.to_string() };
            Err(format!("policy dump: {ours} or {file:?}?"))
        }
        _ => Ok(Command::Policy(policy)),
    }
}

fn exactly<'a, const N: usize>(
    given: &'a [OsString],
    usage: &str,
) -> Result<&'a [OsString; N], String> {
    if let Some(extra) = given.get(N) {
        return Err(format!("unexpected argument {extra:?}"));
    }
    given.try_into().map_err(|_| format!("{usage} is missing"))
}

fn format(policy: &mut Policy, values: &[OsString]) -> Result<(), String> {
    let name = utf8(values)?;
    let known = FORMATS.iter().find(|(known, _)| *known == name);
    policy.format = known.map(|(_, format)| *format).ok_or("there are text, bpf, c, json, oci")?;
    Ok(())
}

/// By name, in decimal, or in hexadecimal with 0x.
pub(crate) fn number(arch: &Arch, word: &OsString) -> Result<u32, String> {
    let text = word.to_str().unwrap_or_default();
    if let Some(number) = arch.number(text) {
        return Ok(number);
    }
    let digits = match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse(),
        _ => return Err(format!("no system call {word:?}; `policy list` has them")),
    };
    digits.map_err(|_| format!("{word:?} is not a number of 32 bits"))
}

fn arch(name: &str) -> Result<&'static Arch, String> {
    let known = ARCHS.iter().find(|arch| arch.name == name);
    known.copied().ok_or_else(|| {
        let names: Vec<&str> = ARCHS.iter().map(|arch| arch.name).collect();
        format!("there are {}", names.join(", "))
    })
}

fn process(word: &OsString) -> Result<i32, String> {
    let pid = word.to_str().and_then(|text| text.parse::<i32>().ok());
    pid.filter(|pid| *pid > 0).ok_or_else(|| format!("{word:?} is not a process id"))
}

fn known(name: &str, names: &[String]) -> Result<String, String> {
    match names.iter().any(|known| known == name) {
        true => Ok(name.to_owned()),
        false => Err(format!("there are {}", names.join(" "))),
    }
}

/// In the order of the tables.
fn groups() -> Vec<String> {
    let rows = FILTERS.iter().flat_map(|filter| filter.policy.rows);
    distinct(rows.map(|row| row.group.to_owned()))
}

fn actions() -> Vec<String> {
    let rows = FILTERS.iter().flat_map(|filter| filter.policy.rows);
    let words = rows.flat_map(|row| words::verdicts(&row.rule)).map(|action| action.word());
    let mut actions = distinct(words.chain(["kill".to_owned()]));
    actions.sort();
    actions
}

fn distinct(names: impl Iterator<Item = String>) -> Vec<String> {
    let mut all = Vec::new();
    for name in names {
        if !all.contains(&name) {
            all.push(name);
        }
    }
    all
}
