//! What the compiler says about a wrong task or workflow: the message and the place.
//!
//! `TRYBUILD=overwrite cargo test -p cloacina-macros` writes them anew.

#[test]
fn wrong_programs_are_refused_at_their_place() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
