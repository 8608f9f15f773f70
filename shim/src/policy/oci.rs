//! A filter as the `linux.seccomp` object of an OCI runtime's configuration (runtime-spec, config-linux.md), which
//! libseccomp compiles. What runs is said exactly; what OCI cannot say:
//!
//! - Rules of one call have no order, and a comparison has no "not": a clause is split into masked comparisons
//!   (`SCMP_CMP_MASKED_EQ`: `value` is the mask, `valueTwo` what is left) that no other clause overlaps. A verdict
//!   that would need more than `MOST` of them is not said whole, as libseccomp's program would be longer than the
//!   kernel takes: a refusal is left out, and fails with the errno of unknown numbers instead of its own; of what is
//!   allowed the lowest values of the arguments stay, and others are refused so too. [`unsaid`] names them.
//! - Foreign architectures and x32 numbers get libseccomp's answer to a bad architecture, which kills the thread.
//! - A name that the runtime's libseccomp does not know is left out by the runtime.

use agent_init::policy::{Policy, Row};

use super::Filter;
use super::cube::{self, Cube};
use super::verdict::Action;
use super::words;
use crate::report::json::{Json, array, text};

/// A verdict of one call becomes at most so many rules.
const MOST: usize = 100;

/// The object.
pub fn object_of(filter: &Filter) -> String {
    let mut plain: Vec<(Action, Vec<&str>)> = Vec::new();
    let mut rules = Vec::new();
    for (_, row) in words::numbered(filter.policy, filter.arch) {
        if row.rule.clauses.is_empty() {
            let action = Action::from(row.rule.otherwise);
            match plain.iter_mut().find(|(known, _)| *known == action) {
                Some((_, names)) => names.push(row.name),
                None => plain.push((action, vec![row.name])),
            }
            continue;
        }
        for action in said(filter.policy, row) {
            let mut cubes = cube::given(&row.rule, action);
            cubes.sort_by_key(|cube| cube.value);
            cubes.truncate(MOST);
            rules.extend(cubes.iter().map(|cube| rule(&[row.name], action, args(cube))));
        }
    }
    let unknown = Action::from(filter.policy.unknown);
    plain.retain(|(action, _)| *action != unknown);
    let plain = plain.iter().map(|(action, names)| rule(names, *action, Vec::new()));
    let (action, errno) = members(unknown);
    let mut members = vec![format!("\"defaultAction\":{action}")];
    members.extend(errno.map(|errno| format!("\"defaultErrnoRet\":{errno}")));
    members.push(format!("\"architectures\":[\"SCMP_ARCH_{}\"]", filter.arch.name.to_uppercase()));
    members.push(format!("\"syscalls\":{}", array(plain.chain(rules)).0));
    format!("{{{}}}\n", members.join(",\n"))
}

/// What is not said as the table has it, a line each.
pub fn unsaid(filter: &Filter) -> Vec<String> {
    let unknown = Action::from(filter.policy.unknown);
    let mut lines = Vec::new();
    for (_, row) in words::numbered(filter.policy, filter.arch) {
        let said = said(filter.policy, row);
        for action in actions(row).into_iter().filter(|action| *action != unknown) {
            let (is_said, fits) = (said.contains(&action), fits(row, action));
            let what = match (is_said, fits) {
                (true, true) => continue,
                (true, false) => "for some large arguments".to_owned(),
                (false, _) => format!("instead of {}", action.word()),
            };
            lines.push(format!("{}: {} {what}", row.name, unknown.word()));
        }
    }
    lines
}

fn fits(row: &Row, action: Action) -> bool {
    cube::given(&row.rule, action).len() <= MOST
}

/// What a row with clauses can say in OCI, beyond what unknown numbers get.
fn said(policy: &Policy, row: &Row) -> Vec<Action> {
    let unknown = Action::from(policy.unknown);
    let is_said = |action: &Action| *action != unknown && (action.runs() || fits(row, *action));
    actions(row).into_iter().filter(is_said).collect()
}

fn actions(row: &Row) -> Vec<Action> {
    let mut actions: Vec<Action> = words::verdicts(&row.rule).collect();
    actions.sort();
    actions.dedup();
    actions
}

fn rule(names: &[&str], action: Action, args: Vec<String>) -> Json {
    let (action, errno) = members(action);
    let mut members = vec![
        format!("\"names\":{}", list(names.iter().map(|name| text(name).0))),
        format!("\"action\":{action}"),
    ];
    members.extend(errno.map(|errno| format!("\"errnoRet\":{errno}")));
    if !args.is_empty() {
        members.push(format!("\"args\":{}", list(args)));
    }
    Json(format!("{{{}}}", members.join(",")))
}

fn list(items: impl IntoIterator<Item = String>) -> String {
    format!("[{}]", items.into_iter().collect::<Vec<_>>().join(","))
}

/// The action, and its errno.
fn members(action: Action) -> (String, Option<String>) {
    let (name, errno) = match action {
        Action::Allow => ("ALLOW", None),
        Action::Log => ("LOG", None),
        Action::Errno(errno) => ("ERRNO", Some(errno.to_string())),
        _ => ("KILL_PROCESS", None),
    };
    (format!("\"SCMP_ACT_{name}\""), errno)
}

fn args(cube: &Cube) -> Vec<String> {
    let given = (0..6).filter(|n| cube.mask[*n] != 0);
    let arg = |n: usize| {
        let (mask, value) = (cube.mask[n], cube.value[n]);
        match mask {
            u64::MAX => format!("{{\"index\":{n},\"value\":{value},\"op\":\"SCMP_CMP_EQ\"}}"),
            _ => format!(
                "{{\"index\":{n},\"value\":{mask},\"valueTwo\":{value},\"op\":\"SCMP_CMP_MASKED_EQ\"}}"
            ),
        }
    };
    given.map(arg).collect()
}
