//! `agent-shim policy`: the filters as people and programs read them, and the judgement of others.

use std::ffi::OsStr;
use std::fmt::Write as _;
use std::io::Write as _;

use agent_init::bpf::SockFilter;
use agent_init::error::{Errno, Step};
use agent_init::nr::{Arch, HOST};

use super::{has_stdout, print, print_bytes};
use crate::cli::Policy;
use crate::cli::policy::{Format, What, number};
use crate::error::Failure;
use crate::policy::choice::{self, Choice};
use crate::policy::dump::Dump;
use crate::policy::insn::{Invalid, Program};
use crate::policy::judge::{self, Judgement};
use crate::policy::walk::{Budget, Calls, TooComplex, Walk, walk};
use crate::policy::{FILTERS, Filter, diff, file, format, oci, show, table, trace, words};
use crate::report::text::one_line;

/// 0; of `check`, 1 if there are findings; of `diff`, 1 if there are differences.
pub fn run(options: &Policy) -> Result<u8, Failure> {
    has_stdout()?;
    let arch = options.arch;
    let filter =
        if options.init { Filter::of_init(arch) } else { Filter::of(&options.choice, arch) };
    match &options.what {
        What::List => list(filter, options),
        What::Groups => print(&choice::text()).map(|()| 0),
        What::Show(word) => {
            let number = number(arch, word).map_err(|_| wrong(word))?;
            print(&show::text(filter, &ours(filter)?, number)?).map(|()| 0)
        }
        What::Dump(None) => dump(filter, options.format),
        What::Dump(Some(source)) => dump_file(source, arch, options.format),
        What::Check(path) => check(path, filter),
        What::Diff(a, b) => differences(a, b, arch),
        What::Trace(pid) => traced(*pid, &options.choice),
    }
}

/// One of ours by its words; `None`: it is a file.
fn named(words: &str, arch: &'static Arch) -> Option<Result<&'static Filter, Failure>> {
    if words == "init" {
        return Some(Ok(Filter::of_init(arch)));
    }
    let choice = Choice::parse(words)?.inspect_err(|why| tell(why));
    Some(choice.map(|choice| Filter::of(&choice, arch)).map_err(|_| wrong(words.as_ref())))
}

fn wrong(words: &OsStr) -> Failure {
    Failure::new(Step::POLICY, "read", words.as_encoded_bytes(), Errno::EINVAL)
}

fn list(filter: &Filter, options: &Policy) -> Result<u8, Failure> {
    let rows = table::rows(filter, options.group.as_deref(), options.action.as_deref());
    let text = match options.format {
        Format::Json => table::json(&rows),
        _ => table::text(filter, &rows),
    };
    print(&text).map(|()| 0)
}

fn dump(filter: &Filter, format: Format) -> Result<u8, Failure> {
    let program = ours(filter)?;
    match format {
        Format::Bpf => print_bytes(&file::bytes(filter.program))?,
        Format::Json => print(&format::json(filter))?,
        Format::Oci => {
            print(&oci::object_of(filter))?;
            for line in oci::unsaid(filter) {
                tell(&format!("OCI cannot say it: {line}"));
            }
        }
        Format::Text | Format::C => {
            let walked = whole(&program).map_err(|_| too_complex(filter.name))?;
            let dump = Dump::new(&program, Some(&walked), Some(filter.policy));
            match format {
                Format::C => print(&format::c(filter.about, filter.name, &program, &dump))?,
                _ => print(&dump.text())?,
            }
        }
    }
    Ok(0)
}

fn dump_file(source: &OsStr, arch: &'static Arch, format: Format) -> Result<u8, Failure> {
    let program = program_of(source)?.on(arch);
    let walked = whole(&program).ok();
    let dump = Dump::new(&program, walked.as_ref(), None);
    match format {
        Format::Bpf => print_bytes(&file::bytes(program.insns()))?,
        Format::C => print(&format::c("a filter", "a", &program, &dump))?,
        _ => print(&dump.text())?,
    }
    Ok(0)
}

fn check(path: &OsStr, by: &Filter) -> Result<u8, Failure> {
    let name = one_line(&path.to_string_lossy());
    let program = match file::read(path)?.and_then(|insns| Program::check(&insns)) {
        Ok(program) => program.on(by.arch),
        Err(Invalid(at, why)) => {
            print(&format!(
                "finding: malformed, the kernel takes it not: instruction {at}: {why}\n{name}: 1 finding\n"
            ))?;
            return Ok(1);
        }
    };
    let (text, judgement) = judged(&program, by);
    let count = judgement.findings.len();
    let verdict = match count {
        0 => "sound".to_owned(),
        1 => "1 finding".to_owned(),
        n => format!("{n} findings"),
    };
    let size = program.insns().len();
    print(&format!("{text}{name}: {size} instructions, {verdict}\n"))?;
    Ok(if count == 0 { 0 } else { 1 })
}

/// The disassembly, and below it what there is to say.
fn judged(program: &Program, by: &Filter) -> (String, Judgement) {
    let mut budget = Budget::new();
    let walked = walk(program, Calls::all(), false, &mut budget).ok();
    let judgement = match &walked {
        Some(walked) => judge::judge_by(by.policy.rows, program, walked, &mut budget),
        None => Judgement { findings: vec![judge::TOO_COMPLEX.into()], ..Judgement::default() },
    };
    let mut text = Dump::new(program, walked.as_ref(), None).text();
    text.push('\n');
    let lines = [
        ("returns: ", &judgement.returns),
        ("note:    ", &judgement.notes),
        ("finding: ", &judgement.findings),
    ];
    for (head, lines) in lines {
        for line in lines {
            text.push_str(&match head {
                "returns: " => format!("{head}{line}\n"),
                _ => words::paragraph(head, "         ", line),
            });
        }
    }
    (text, judgement)
}

fn differences(a: &OsStr, b: &OsStr, arch: &'static Arch) -> Result<u8, Failure> {
    let (left, right) = (source(a, arch)?, source(b, arch)?);
    let mut budget = Budget::new();
    let lines = diff::diff(&left, &right, &mut budget)
        .map_err(|TooComplex| too_complex(&format!("{} {}", a.display(), b.display())))?;
    let mut text = String::new();
    if !lines.is_empty() {
        let [a, b] = [a, b].map(|word| one_line(&word.to_string_lossy()));
        let _infallible = writeln!(text, "what A answers | what B answers; A: {a}; B: {b}");
    }
    for line in &lines {
        let _infallible = writeln!(text, "{line}");
    }
    if lines.is_empty() {
        let how = if left.insns() == right.insns() { "byte for byte" } else { "in every verdict" };
        let _infallible = writeln!(text, "the same, {how}");
    }
    print(&text)?;
    Ok(if lines.is_empty() { 0 } else { 1 })
}

fn traced(pid: i32, choice: &Choice) -> Result<u8, Failure> {
    let filters = trace::filters(pid)?;
    let mut text = String::new();
    for (n, insns) in filters.iter().enumerate() {
        let whose = whose(insns, choice);
        let (n, of) = (n + 1, filters.len());
        let _infallible =
            writeln!(text, "filter {n} of {of}: {} instructions, {whose}\n", insns.len());
        // What the kernel holds it has checked; if we see it otherwise, that is worth a line.
        match Program::check(insns) {
            Ok(program) => {
                let walked = whole(&program).ok();
                let policy = FILTERS.iter().find(|f| f.program == insns).map(|f| f.policy);
                text.push_str(&Dump::new(&program, walked.as_ref(), policy).text());
                text.push('\n');
            }
            Err(invalid) => _ = writeln!(text, "not understood: {invalid}\n"),
        }
    }
    if filters.is_empty() {
        let _infallible = writeln!(text, "process {pid} has no filter");
    }
    print(&text).map(|()| 0)
}

/// Which of ours a program is.
fn whose(insns: &[SockFilter], choice: &Choice) -> String {
    let same = FILTERS.iter().find(|filter| filter.program == insns);
    match same {
        None if choice.program(HOST) == insns => {
            format!("byte for byte `{choice}`, the agent's filter")
        }
        Some(filter) => format!("byte for byte `{}`, {}", filter.name, filter.about),
        None => "none of ours".into(),
    }
}

fn source(word: &OsStr, arch: &'static Arch) -> Result<Program, Failure> {
    match word.to_str().and_then(|words| named(words, arch)) {
        Some(filter) => ours(filter?),
        None => program_of(word).map(|program| program.on(arch)),
    }
}

pub(super) fn program_of(path: &OsStr) -> Result<Program, Failure> {
    let checked = file::read(path)?.and_then(|insns| Program::check(&insns));
    checked.map_err(|Invalid(at, why)| {
        tell(&format!("{}: instruction {at}: {why}", path.display()));
        Failure::new(Step::POLICY, "read", path.as_encoded_bytes(), Errno::ENOEXEC)
    })
}

fn ours(filter: &Filter) -> Result<Program, Failure> {
    Program::check(filter.program)
        .map(|program| program.on(filter.arch))
        .map_err(|_| Failure::new(Step::POLICY, "check", filter.name, Errno::ENOEXEC))
}

fn whole(program: &Program) -> Result<Walk, TooComplex> {
    walk(program, Calls::all(), false, &mut Budget::new())
}

fn too_complex(what: &str) -> Failure {
    Failure::new(Step::POLICY, "walk", what, Errno::E2BIG)
}

fn tell(line: &str) {
    let _nobody_reads = writeln!(std::io::stderr(), "agent-shim: {}", one_line(line));
}
