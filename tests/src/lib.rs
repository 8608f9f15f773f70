//! What the tests share.

pub mod cbpf;

pub mod scripts;
