//! What the tests share.

pub mod cbpf;
