//! The words and options of `policy`.

use std::ffi::OsString;

use agent_init::nr;
use lexopt::Parser;

use super::{Command, End, Opt, opt, options, utf8};
use crate::policy::{FILTERS, words};

/// What they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// The command, and what it works on.
    pub what: What,
    /// The name of the filter.
    pub filter: Option<&'static str>,
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
    /// One number.
    Show(u32),
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
    opt("init",   "",     "list, show, dump: of PID 1's own filter", |p, _| { p.filter = Some("init"); Ok(()) }),
    opt("format", "NAME", "list, dump: text, json; dump: bpf (struct sock_filter),\nc (an array), oci (linux.seccomp) [text]", format),
];

/// A command: its name, which options it takes, and how it reads its words.
type Sub = (&'static str, &'static [&'static str], fn(&[OsString]) -> Result<What, String>);

#[rustfmt::skip] // a row a line
const SUBS: &[Sub] = &[
    ("list",  &["group", "action", "init", "format"], |w| { let [] = exactly(w, "")?; Ok(What::List) }),
    ("show",  &["init"],           |w| { let [name] = exactly(w, "NAME|NUMBER")?; Ok(What::Show(number(name)?)) }),
    ("dump",  &["init", "format"], |w| Ok(What::Dump(if w.is_empty() { None } else { let [file] = exactly(w, "FILE")?; Some(file.clone()) }))),
    ("check", &[],                 |w| { let [file] = exactly(w, "FILE")?; Ok(What::Check(file.clone())) }),
    ("diff",  &[],                 |w| { let [a, b] = exactly(w, "A B")?; Ok(What::Diff(a.clone(), b.clone())) }),
    ("trace", &[],                 |w| { let [pid] = exactly(w, "PID")?; Ok(What::Trace(process(pid)?)) }),
];

pub(super) fn parse(mut parser: Parser) -> Result<Command, String> {
    let (mut policy, mut given) = (Policy::default(), Vec::new());
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
        ("init", policy.filter.is_some()),
        ("format", policy.format != Format::Text),
    ];
    if let Some((option, _)) = is_set.iter().find(|(o, set)| *set && !takes.contains(o)) {
        return Err(format!("policy {name} has no --{option}"));
    }
    policy.what = read(given).map_err(|wrong| format!("policy {name}: {wrong}"))?;
    if let What::Dump(Some(word)) = &policy.what
        && policy.filter.is_none()
        && let Some(filter) = FILTERS.iter().find(|filter| word == filter.name)
    {
        (policy.what, policy.filter) = (What::Dump(None), Some(filter.name));
    }
    match (&policy.what, policy.format, policy.filter) {
        (What::List, Format::Bpf | Format::C | Format::Oci, _) => {
            Err("policy list has --format text and json; dump has the others".into())
        }
        (What::Dump(Some(_)), Format::Json | Format::Oci, _) => {
            Err("policy dump: a file has no table: --format text, bpf or c".into())
        }
        (What::Dump(Some(file)), _, Some(_)) => Err(format!("policy dump: --init or {file:?}?")),
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
fn number(word: &OsString) -> Result<u32, String> {
    let text = word.to_str().unwrap_or_default();
    if let Some(number) = nr::number(text) {
        return Ok(number);
    }
    let digits = match text.strip_prefix("0x") {
        Some(hex) if hex.bytes().all(|b| b.is_ascii_hexdigit()) => u32::from_str_radix(hex, 16),
        None if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) => text.parse(),
        _ => return Err(format!("no system call {word:?}; `policy list` has them")),
    };
    digits.map_err(|_| format!("{word:?} is not a number of 32 bits"))
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
