//! What each layer contributes, over all operations.

use agent_init::layers::{LAYERS, Layer, Layers};

use super::Proof;
use super::finding::{Finding, State};
use super::judged::Named;
use crate::attribute::Cell;

/// One layer of the judged room.
#[derive(Debug)]
pub struct Contribution {
    /// Which.
    pub layer: &'static Layer,
    /// What it stops when it is added alone: see [`Cell::sufficient`].
    pub alone: Vec<&'static str>,
    /// What it alone keeps inside, or hides the content of.
    pub keeps: Vec<&'static str>,
    /// What it stops or keeps alone, and no other layer does.
    pub only: Vec<&'static str>,
    /// What gets through when it is taken out.
    pub necessary: Vec<&'static str>,
}

/// A row for each layer of the judged room, in the order in which the kernel asks them.
pub fn contributions(proof: &Proof) -> Vec<Contribution> {
    let settled = || proof.findings.iter().filter(|f| f.doubts.is_empty());
    let ids = |holds: &dyn Fn(&Cell) -> bool| -> Vec<&'static str> {
        let cells = settled().filter_map(|f| Some((f.op.id, f.cell()?)));
        cells.filter(|(_, cell)| holds(cell)).map(|(id, _)| id).collect()
    };
    let row = |layer: &'static Layer| Contribution {
        layer,
        alone: ids(&|cell| cell.sufficient.contains(layer.flag)),
        keeps: ids(&|cell| cell.keeps.contains(layer.flag)),
        only: ids(&|cell| cell.enough() == layer.flag),
        necessary: ids(&|cell| cell.necessary.contains(layer.flag)),
    };
    LAYERS.iter().filter(|l| proof.judged.room.layers.contains(l.flag)).map(row).collect()
}

/// How many operations came to each state.
pub fn counts(proof: &Proof) -> Vec<(State, usize)> {
    let count = |state| proof.findings.iter().filter(|f| f.state == state).count();
    State::ALL.into_iter().map(|state| (state, count(state))).filter(|(_, n)| *n > 0).collect()
}

/// The dangerous operations that namespaces alone allow (so they are no sandbox), and those that the
/// judged room does; of that alone, if it is namespaces alone.
pub fn open(proof: &Proof) -> Vec<(&'static str, Vec<&'static str>)> {
    let judged = proof.judged.room;
    let ns_only = Named { name: "ns_only", layers: Layers::NS_ONLY };
    let beside = Some(ns_only).filter(|ns_only| ns_only.layers != judged.layers);
    beside
        .into_iter()
        .chain([judged])
        .map(|room| (room.name, open_in(proof, room.layers)))
        .collect()
}

fn open_in(proof: &Proof, layers: Layers) -> Vec<&'static str> {
    let is_open = |f: &&Finding| !f.op.must_work() && f.is_open_in(layers);
    proof.findings.iter().filter(is_open).map(|f| f.op.id).collect()
}
