//! What is printed and written.

pub mod json;
pub mod text;

pub mod beside;

pub mod proof_json;
pub mod proof_text;

pub mod page;

use agent_probe::{Op, Outcome};

use crate::attribute::Cell;
use crate::cost::Cost;

/// Everything that a run of the matrix has found out.
#[derive(Debug)]
pub struct Report {
    /// One table a profile.
    pub tables: Vec<Table>,
    /// One row a profile.
    pub costs: Vec<Cost>,
    /// Whether the controls as real root were run.
    pub has_root: bool,
    /// Other sandboxes; then the tables are those of `none` and `full`, and there are no costs.
    pub launchers: Vec<Column>,
}

/// What another sandbox has let through.
#[derive(Debug)]
pub struct Column {
    /// What it is called.
    pub name: String,
    /// The command that has started it.
    pub command: String,
    /// Who has started it, effective.
    pub uid: u32,
    /// One row an operation.
    pub rows: Vec<(&'static Op, Outcome)>,
}

/// The table of one profile.
#[derive(Debug)]
pub struct Table {
    /// Its name.
    pub profile: &'static str,
    /// One row an operation.
    pub rows: Vec<(&'static Op, Cell)>,
}
