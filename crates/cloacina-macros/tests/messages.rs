//! Tests of the compiler errors for invalid tasks and workflows: their messages and locations.
//!
//! `TRYBUILD=overwrite cargo test -p cloacina-macros` overwrites the expected messages in `tests/ui`.

#[test]
fn invalid_programs_fail_to_compile_with_the_expected_errors() {
    trybuild::TestCases::new().compile_fail("tests/ui/*.rs");
}
