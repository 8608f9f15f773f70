//! `agent-shim bench`: what things cost here. Measurements, not tests: no number makes a command fail.
//!
//! [`filter`] is what a seccomp filter costs: to install, and per call; [`measure`] takes the times in processes of
//! their own, [`shapes`] are programs of other shapes to compare with, [`peers`] those of other libraries, [`text`] and [`json`] say what was seen.

pub mod filter;

pub mod measure;
pub mod peers;
pub mod shapes;

pub mod json;
pub mod text;
