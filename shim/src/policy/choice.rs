//! Which filter a room has: `default` or `strict`, with groups of the table added and taken away. Whatever is chosen,
//! the table it is made from is the one of `agent_init::policy`, changed by whole groups; the program is made by the
//! same assembler, and `agent-shim policy` shows both.

use std::fmt;

use agent_init::bpf::{self, SockFilter};
use agent_init::groups::{self, GRANTS, GROUPS, Grant, Group, NO_WX};
use agent_init::nr::{Arch, HOST};
use agent_init::policy::{AGENT, AGENT_POLICY, Policy, Row, Rule, Verdict, When};

/// A filter by its words: `default +ptrace -net no-wx`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Without the groups that a computation does not need.
    is_strict: bool,
    /// Groups that are added; none twice.
    added: Vec<&'static str>,
    /// Groups that are taken away.
    removed: Vec<&'static str>,
    /// No memory that can be written and run.
    no_wx: bool,
}

/// `filter`, or what is wrong with it.
type Chosen = Result<(), String>;

impl Choice {
    /// `--filter`.
    pub fn base(&mut self, name: &str) -> Chosen {
        self.is_strict = match name {
            "default" => false,
            "strict" => true,
            _ => return Err(format!("no filter `{name}`; there are default and strict")),
        };
        Ok(())
    }

    /// `--allow-group`.
    pub fn allow(&mut self, name: &str) -> Chosen {
        let group = group(name)?;
        if let Grant::Never(why) = group.grant {
            return Err(format!("group `{name}` cannot be added: {why}"));
        }
        push(&mut self.added, &self.removed, group)
    }

    /// `--deny-group`.
    pub fn deny(&mut self, name: &str) -> Chosen {
        let group = group(name)?;
        if group.denied.is_none() {
            return Err(format!("group `{name}` cannot be taken away: no program runs without it"));
        }
        push(&mut self.removed, &self.added, group)
    }

    /// What options mean together, wherever they stand.
    pub fn together(&self) -> Chosen {
        let without = |name| {
            let is_out = groups::named(name).is_some_and(|group| !group.in_strict);
            self.removed.contains(&name) || self.is_strict && is_out && !self.added.contains(&name)
        };
        if self.added.contains(&"io_uring") && without("net") {
            return Err("io_uring opens the sockets that a filter without `net` refuses".into());
        }
        Ok(())
    }

    /// What a user should know of it.
    pub fn warning(&self) -> Option<&'static str> {
        let is_voided = self.no_wx && self.added.contains(&"ptrace");
        is_voided.then_some("--no-wx with ptrace: a tracer can write what another process executes")
    }

    /// `--no-wx`.
    pub fn no_wx(&mut self) {
        self.no_wx = true;
    }

    /// What [`Choice`]'s text says; the words may be parted by commas too. `None`: it does not begin as one.
    pub fn parse(text: &str) -> Option<Result<Choice, String>> {
        let mut words = text.split([' ', ',']).filter(|word| !word.is_empty());
        let mut choice = Choice::default();
        choice.base(words.next()?).ok()?;
        let mut add = |word: &str| match word.split_at_checked(1) {
            Some(("+", name)) => choice.allow(name),
            Some(("-", name)) => choice.deny(name),
            _ if word == "no-wx" => {
                choice.no_wx();
                Ok(())
            }
            _ => Err(format!("`{word}`: there are +GROUP, -GROUP and no-wx")),
        };
        let wrong = words.find_map(|word| add(word).err());
        let wrong = wrong.or_else(|| choice.together().err());
        Some(wrong.map_or(Ok(choice), Err))
    }

    /// Whether it is what init has in it.
    pub fn is_default(&self) -> bool {
        *self == Choice::default()
    }

    /// The table.
    pub fn rows(&self) -> Vec<Row> {
        AGENT.iter().map(|row| self.row(*row)).collect()
    }

    fn row(&self, mut row: Row) -> Row {
        let Some(group) = groups::named(row.group) else { return row };
        let is_added = self.added.contains(&row.group);
        if is_added && group.grant == Grant::Yes {
            row.rule = rule(GRANTS, row.name).unwrap_or(Rule::always(Verdict::Allow));
            row.why = group.about;
        }
        let is_out = self.is_strict && !group.in_strict && !is_added;
        if let Some(verdict) = group.denied
            && (is_out || self.removed.contains(&row.group))
            && runs(&row.rule)
        {
            (row.rule, row.why) = (Rule::always(verdict), "its group is left out of this filter");
        }
        if self.no_wx
            && row.rule == Rule::always(Verdict::Allow)
            && let Some(rule) = rule(NO_WX, row.name)
        {
            row.rule = rule;
            row.why = "no-wx: no memory that can be written and run, or is made executable later";
        }
        row
    }

    /// The program for an architecture.
    pub fn program(&self, arch: &Arch) -> Vec<SockFilter> {
        let rows = self.rows();
        let policy = Policy { rows: &rows, unknown: AGENT_POLICY.unknown };
        bpf::assemble(&policy, arch).as_slice().to_vec()
    }

    /// What init is given: nothing, where it has the program itself. `marked`: refusals answer errno 4095.
    pub(crate) fn handed_over(&self, marked: bool) -> Vec<SockFilter> {
        if self.is_default() && !marked {
            return Vec::new();
        }
        let program = self.program(HOST);
        if !marked {
            return program;
        }
        let mut copy = program.clone();
        bpf::marked(&program, &mut copy);
        copy
    }
}

/// `default +ptrace -net no-wx`.
impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter) -> fmt::Result {
        f.write_str(if self.is_strict { "strict" } else { "default" })?;
        self.added.iter().try_for_each(|group| write!(f, " +{group}"))?;
        self.removed.iter().try_for_each(|group| write!(f, " -{group}"))?;
        if self.no_wx { f.write_str(" no-wx") } else { Ok(()) }
    }
}

/// Once in one list, and not in the other.
fn push(to: &mut Vec<&'static str>, other: &[&'static str], group: &Group) -> Chosen {
    if other.contains(&group.name) {
        return Err(format!("group `{}` is both added and taken away", group.name));
    }
    if !to.contains(&group.name) {
        to.push(group.name);
        to.sort_unstable();
    }
    Ok(())
}

fn group(name: &str) -> Result<&'static Group, String> {
    groups::named(name).ok_or_else(|| {
        let names: Vec<&str> = GROUPS.iter().map(|group| group.name).collect();
        format!("no group `{name}`; there are {}", names.join(" "))
    })
}

fn rule(rules: &[(&str, Rule)], name: &str) -> Option<Rule> {
    rules.iter().find(|(known, _)| *known == name).map(|(_, rule)| *rule)
}

/// With some arguments.
fn runs(rule: &Rule) -> bool {
    let allows = |When(_, verdict): &When| *verdict == Verdict::Allow;
    rule.otherwise == Verdict::Allow || rule.clauses.iter().any(allows)
}

const NODES: &str = "
file-node is what makes nodes alone: bind(2) of a UNIX socket makes one too, and is of net.
";

/// The groups, a line each.
pub fn text() -> String {
    let mut text = String::new();
    let mut line = |columns: [&str; 4], about: &str| {
        let [name, add, deny, strict] = columns;
        let first = format!("{name:<12}{add:<9}{deny:<9}{strict:<8}");
        text.push_str(&super::words::paragraph(&first, &" ".repeat(38), about));
    };
    line(["group", "default", "deny", "strict"], "what it is for");
    for group in GROUPS {
        let grant = match group.grant {
            Grant::Present => "in",
            Grant::Yes => "can add",
            Grant::Never(_) => "never",
        };
        let denied = group.denied.map(|verdict| super::verdict::Action::from(verdict).word());
        let strict = match (group.grant, group.in_strict) {
            (Grant::Present, true) => "in",
            _ => "out",
        };
        let about = match group.grant {
            Grant::Never(why) => format!("{}; never: {why}", group.about),
            _ => group.about.to_owned(),
        };
        line([group.name, grant, denied.as_deref().unwrap_or("cannot"), strict], &about);
    }
    text + NODES
}
