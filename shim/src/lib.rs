//! `agent-shim`: builds the room that an agent runs in, and proves what its walls do.
//!
//! The straight line: [`Sandbox`] → [`plan`] → [`launch`] (clone3, [`compose`], execve of
//! [`image`]) → [`supervise`]. On top of it: [`lab`] runs one operation of `agent-probe` in one
//! room, [`attribute`] derives from such runs which primitive blocked it, [`cost`] measures.

pub mod room;

pub mod plan;

pub mod launch;

pub mod compose;
pub mod idmap;
pub mod image;
pub mod ns;

pub mod supervise;

pub mod sandbox;

pub mod profile;

pub mod attribute;
pub mod cost;
pub mod lab;
pub mod report;

pub mod cli;
pub mod cmd;
pub mod confine;
pub mod verbose;

pub mod error;
pub mod sys;

pub use sandbox::Sandbox;
