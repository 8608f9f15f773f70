//! A filter for other programs: C, and our own schema. Members may be added within a version; readers ignore
//! unknown ones.
//!
//! ```text
//! {"schema":"agent-shim/policy","version":1,
//!  "filter":"default","arch":"x86_64","audit_arch":3221225534,
//!  "foreign":"kill",                     every other architecture, and x32 numbers
//!  "unknown":"ENOSYS",                   every number without a row
//!  "rows":[{"number":16,"name":"ioctl","group":"ioctl",
//!           "clauses":[{"tests":[{"argument":1,"bits":32,"mask":4294967295,"values":[21522]}],
//!                       "action":"EPERM"}],   from the left, the first whose tests all hold decides
//!           "action":"allow",                 if none does
//!           "why":"…"}],
//!  "program":[[32,0,0,4],…]}             code, jt, jf, k of each instruction
//! ```
//!
//! A test holds if the argument, its low 32 bits where `bits` is 32, and-ed with `mask` is one of `values`; or, with
//! `values` null, if any bit is left; with `first` and `last` instead, if it lies between them, both included. Actions: `allow`, `kill`, or the name of an errno.

use std::fmt::Write as _;

use agent_init::bpf::SockFilter;
use agent_init::policy::{Row, Test, When};

use super::dump::Dump;
use super::insn::Program;
use super::verdict::Action;
use super::{Filter, words};
use crate::report::json::{Json, array, object, text};

/// Our schema.
pub fn json(filter: &Filter) -> String {
    let rows = words::numbered(filter.policy, filter.arch);
    let document = object([
        ("schema", text("agent-shim/policy")),
        ("version", Json("1".into())),
        ("filter", text(filter.name)),
        ("arch", text(filter.arch.name)),
        ("audit_arch", Json(filter.arch.audit_arch.to_string())),
        ("foreign", text("kill")),
        ("unknown", text(&Action::from(filter.policy.unknown).word())),
        ("rows", array(rows.iter().map(|(number, row)| json_row(*number, row)))),
        ("program", array(filter.program.iter().map(json_insn))),
    ]);
    document.0 + "\n"
}

/// Rows alone, as `list` selects them.
pub(crate) fn json_row(number: u32, row: &Row) -> Json {
    object([
        ("number", Json(number.to_string())),
        ("name", text(row.name)),
        ("group", text(row.group)),
        ("clauses", array(row.rule.clauses.iter().map(json_clause))),
        ("action", text(&Action::from(row.rule.otherwise).word())),
        ("why", text(row.why)),
    ])
}

fn json_clause(When(tests, verdict): &When) -> Json {
    let tests = array(tests.iter().map(json_test));
    object([("tests", tests), ("action", text(&Action::from(*verdict).word()))])
}

fn json_test(test: &Test) -> Json {
    let list = |values: &[u32]| format!("{values:?}");
    let range = |n: &usize, bits: u32, first: u64, last: u64| {
        object([
            ("argument", Json(n.to_string())),
            ("bits", Json(bits.to_string())),
            ("first", Json(first.to_string())),
            ("last", Json(last.to_string())),
        ])
    };
    let (argument, bits, mask, values) = match test {
        Test::Between(n, first, last) => return range(n, 32, (*first).into(), (*last).into()),
        Test::WholeBetween(n, first, last) => return range(n, 64, *first, *last),
        Test::WholeMasked(n, mask, value) => (n, 64, *mask, format!("[{value}]")),
        Test::Low(n, set) => (n, 32, u64::from(u32::MAX), list(set)),
        Test::Masked(n, mask, set) => (n, 32, u64::from(*mask), list(set)),
        Test::AnyBit(n, bits) => (n, 32, u64::from(*bits), "null".into()),
        Test::Whole(n, value) => (n, 64, u64::MAX, format!("[{value}]")),
    };
    object([
        ("argument", Json(argument.to_string())),
        ("bits", Json(bits.to_string())),
        ("mask", Json(mask.to_string())),
        ("values", Json(values)),
    ])
}

fn json_insn(SockFilter { code, jt, jf, k }: &SockFilter) -> Json {
    Json(format!("[{code},{jt},{jf},{k}]"))
}

/// An array that compiles, with the disassembly beside it.
pub fn c(about: &str, name: &str, program: &Program, dump: &Dump) -> String {
    let count = program.insns().len();
    let letters = name.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' });
    let name = format!("{}_filter", letters.collect::<String>());
    let mut text = format!(
        "/* {about}, {}: agent-shim {}. Labels of jumps are in `agent-shim policy dump`. */\n\
         #include <linux/filter.h>\n\n\
         const unsigned short {name}_len = {count};\n\
         const struct sock_filter {name}[{count}] = {{\n",
        program.arch().name,
        env!("CARGO_PKG_VERSION"),
    );
    for (pc, SockFilter { code, jt, jf, k }) in program.insns().iter().enumerate() {
        let (word, operands) = dump.instruction(pc);
        let insn = format!("{{ {code:#04x}, {jt}, {jf}, {k:#x} }},");
        let _infallible = writeln!(text, "\t{insn:<36}/* {pc:>4}  {word:<5}{operands} */");
    }
    text + "};\n"
}
