//! The compiler's errors for invalid tasks and workflows: their messages and locations.
//!
//! `TRYBUILD=overwrite cargo test -p cloacina-macros` updates the expected messages.

#[test]
fn invalid_programs_are_refused_at_the_fault() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
