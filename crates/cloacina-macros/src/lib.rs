//! The macros of `cloacina`.
//!
//! This crate will turn tokens into calls of the public API of `cloacina` and decide nothing itself.
//! It is empty so far: workflows are built by calls.
