//! The proof, for machines. Members may be added within a version; readers ignore unknown ones.
//!
//! ```text
//! {"schema":"agent-shim/attribute","version":2,
//!  "kernel":"6.18.0","control":true,          whether the controls as real root were run
//!  "control_lacks":[],                        capabilities that these had not: CAP_SYS_RESOURCE
//!  "partial":false,                           the run was stopped before the last operation
//!  "judged":{"room":"full",                   the profile's name, or yours; a file of before has no
//!            "layers":["seccomp",…],          such member, and is of full
//!            "filter":"default",              none, default, strict; +GROUP -GROUP no-wx
//!            "mounts":[]},                    "--ro-bind /data /data"
//!  "rooms":[{"room":"full","kind":"profile",  control profile marked root alone
//!            "layers":["seccomp",…]}],        added without: the columns, in the order of a page
//!  "ops":[{"op":"fs-read-shadow","title":"…","group":"fs",
//!          "must_work":false,"call":"…","safe":"…","judged":"…",
//!          "state":"blocked",                 in the judged room: see proof::finding::State
//!          "blocker":"mnt ns",                the first that refuses, contains or hides there; or null
//!          "note":"not present",              null, or a few words of evidence
//!          "without_control":false,           the credit would rest on a control that was not run
//!          "depth":2,                         how many layers are enough alone: those of the next two
//!          "sufficient":["mnt","landlock"],   each turns "allowed" into "blocked"
//!          "keeps":[],                        each turns "allowed" into "contained" or "redacted"
//!          "necessary":[],                    without it that room allows it
//!          "blockers":{"none":"DAC",…},       of each "profile"; null: it is allowed
//!          "results":{"full":{"result":"BLOCKED","errno":"ENOENT","note":null},…},  by room
//!          "lattice":null,                    or {"rooms":645,"blocking":540,
//!                                             "minimal":[["seccomp"],…],"open":[[…]]}
//!          "doubts":[],                       evidence that disagrees
//!          "chain":["real root, no layer: ALLOWED",…]}],
//!  "layers":[{"layer":"mnt","word":"mnt ns",
//!             "alone":["fs-read-shadow",…],   what it stops when added alone
//!             "keeps":[],                     what it keeps inside or hides, alone
//!             "only":[],                      what it stops or keeps, and no other layer does
//!             "necessary":[]}],               what gets through without it
//!  "open":{"ns_only":[…],"full":[…]},         dangerous operations that are allowed there
//!  "cost":[{"profile":"none","startup_ms":0.31,…}]}   as in agent-shim/matrix; of a page only
//! ```

use agent_init::layers::Layers;
use agent_probe::Outcome;

use super::json::{Json, array, boolean, cost, names, object, outcome_members, text, text_or_null};
use crate::lab::Setup;
use crate::proof::finding::{Finding, chain};
use crate::proof::judged::Judged;
use crate::proof::lattice::Lattice;
use crate::proof::rooms::{Room, rooms};
use crate::proof::{Proof, summary};

/// The name of the schema.
pub const SCHEMA: &str = "agent-shim/attribute";
/// The version that is written, and the only one that is read.
pub const VERSION: u32 = 2;

/// The whole document, ending in a newline.
pub fn proof(proof: &Proof) -> String {
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let open = summary::open(proof).into_iter();
    let open = open.map(|(room, ids)| (room.to_owned(), array(ids.into_iter().map(text))));
    let document = object([
        ("schema", text(SCHEMA)),
        ("version", Json(VERSION.to_string())),
        ("kernel", text(kernel.trim())),
        ("control", boolean(proof.has_root)),
        ("control_lacks", array(proof.lacks.iter().map(|name| text(name)))),
        ("partial", boolean(proof.is_partial)),
        ("judged", judged(&proof.judged)),
        ("rooms", array(rooms(proof.has_root, proof.judged.room).iter().map(room))),
        ("ops", array(proof.findings.iter().map(op))),
        ("layers", array(summary::contributions(proof).iter().map(contribution))),
        ("open", map(open)),
        ("cost", array(proof.costs.iter().map(cost))),
    ]);
    document.0 + "\n"
}

fn judged(judged: &Judged) -> Json {
    object([
        ("room", text(judged.room.name)),
        ("layers", names(judged.room.layers)),
        ("filter", text(&judged.filter_words())),
        ("mounts", array(judged.mount_words().iter().map(|mount| text(mount)))),
    ])
}

fn room(room: &Room) -> Json {
    let layers = match room.setup {
        Setup::Room(layers) | Setup::Marked(layers) | Setup::RootWith(layers) => layers,
        Setup::RootInside(layers) | Setup::Unlimited(layers, _) => layers,
        Setup::RealRoot | Setup::OtherId => Layers::empty(),
    };
    object([
        ("room", text(&room.name)),
        ("kind", text(room.kind.word())),
        ("layers", names(layers)),
    ])
}

fn op(finding: &Finding) -> Json {
    let op = finding.op;
    let in_room = finding.cell();
    let layers = |of: fn(&crate::attribute::Cell) -> Layers| in_room.map_or(Layers::empty(), of);
    let blockers = finding.cells.iter().map(|(column, cell)| {
        let blocker = text_or_null(cell.blocker.map(|blocker| blocker.word()));
        (column.name.to_owned(), blocker)
    });
    let result =
        |(room, outcome): &(Room, Outcome)| (room.name.clone(), object(outcome_members(outcome)));
    let texts = |lines: &[String]| array(lines.iter().map(|line| text(line)));
    object([
        ("op", text(op.id)),
        ("title", text(op.title)),
        ("group", text(op.group)),
        ("must_work", boolean(op.must_work())),
        ("call", text(op.call)),
        ("safe", text(op.safe)),
        ("judged", text(op.judged)),
        ("state", text(finding.state.word())),
        ("blocker", text_or_null(in_room.and_then(|c| c.blocker).map(|b| b.word()))),
        ("note", text_or_null(in_room.and_then(|c| c.note.as_deref()))),
        ("without_control", boolean(in_room.is_some_and(|cell| cell.without_control))),
        ("depth", Json(finding.depth().to_string())),
        ("sufficient", names(layers(|cell| cell.sufficient))),
        ("keeps", names(layers(|cell| cell.keeps))),
        ("necessary", names(layers(|cell| cell.necessary))),
        ("blockers", map(blockers)),
        ("results", map(finding.rooms.iter().map(result))),
        ("lattice", finding.lattice.as_ref().map_or(Json("null".into()), lattice)),
        ("doubts", texts(&finding.doubts)),
        ("chain", texts(&chain(finding))),
    ])
}

fn lattice(lattice: &Lattice) -> Json {
    let sets = |sets: &[Layers]| array(sets.iter().map(|set| names(*set)));
    object([
        ("rooms", Json(lattice.rooms.to_string())),
        ("blocking", Json(lattice.blocking.to_string())),
        ("minimal", sets(&lattice.minimal)),
        ("open", sets(&lattice.open)),
    ])
}

fn contribution(row: &summary::Contribution) -> Json {
    let ids = |ids: &[&str]| array(ids.iter().map(|id| text(id)));
    object([
        ("layer", text(row.layer.name)),
        ("word", text(row.layer.word)),
        ("alone", ids(&row.alone)),
        ("keeps", ids(&row.keeps)),
        ("only", ids(&row.only)),
        ("necessary", ids(&row.necessary)),
    ])
}

/// An object whose names are data.
fn map(members: impl IntoIterator<Item = (String, Json)>) -> Json {
    let members: Vec<String> =
        members.into_iter().map(|(name, value)| format!("{}:{}", text(&name).0, value.0)).collect();
    Json(format!("{{{}}}", members.join(",")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use agent_init::layers::LAYERS;

    #[test]
    fn an_empty_run_is_a_document() {
        let nothing = Proof {
            judged: Judged::default(),
            findings: vec![],
            costs: vec![],
            has_root: false,
            lacks: vec![],
            is_partial: true,
        };
        let document: tinyjson::JsonValue = proof(&nothing).parse().unwrap();
        let members = document.get::<std::collections::HashMap<_, _>>().unwrap();
        assert_eq!(members["schema"].get::<String>().map(String::as_str), Some(SCHEMA));
        assert_eq!(members["layers"].get::<Vec<_>>().map(Vec::len), Some(LAYERS.len()));
    }
}
