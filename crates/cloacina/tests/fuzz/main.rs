//! What users feed in, at random: no input panics, and what is accepted comes back the same and can be run.
//!
//! `CLOACA_FUZZ=n` tries n times as many inputs (`make fuzz`). What was ever found is kept in `tests/fuzz_cases` of the
//! repository and tried first.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::expect_used, reason = "a test may panic")]

mod input;
mod judge;

use proptest::prelude::*;

/// Inputs for each property.
const CASES: u32 = 2_000;

fn cases() -> u32 {
    let times = std::env::var("CLOACA_FUZZ").ok();
    let times = times.map_or(1, |times| times.parse().expect("a whole number"));
    CASES.saturating_mul(times)
}

#[derive(serde::Deserialize)]
struct Kept {
    text: String,
}

/// Tries what was found before. The files are shared with `tests/test_fuzz.py`.
fn try_kept(file: &str, try_one: impl Fn(&str)) {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz_cases");
    let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("the cases are there");
    let kept: Vec<Kept> = serde_json::from_str(&text).expect("the cases can be read");
    assert!(!kept.is_empty());
    for case in kept {
        try_one(&case.text);
    }
}

#[test]
fn what_was_found_stays_mended() {
    try_kept("urls.json", |text| {
        judge::url(text);
        judge::password("user", text);
    });
    try_kept("crons.json", |text| judge::cron(text, "Europe/Berlin"));
    try_kept("contexts.json", judge::context);
    try_kept("rules.json", judge::rule);
    try_kept("definitions.json", judge::definition);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_url_panics(text in input::url()) {
        judge::url(&text);
    }

    #[test]
    fn a_password_never_shows(user in "[a-z]{1,8}", rest in input::url()) {
        judge::password(&user, &rest);
    }

    #[test]
    fn a_cron_expression_fires_in_order_or_is_refused(text in input::cron(), zone in input::zone()) {
        judge::cron(&text, &zone);
    }

    #[test]
    fn a_context_comes_back_or_is_refused(text in prop_oneof![input::json_text(), "\\PC*"]) {
        judge::context(&text);
    }

    #[test]
    fn whatever_the_rules_are_an_execution_ends(rule in input::rule()) {
        judge::rule(&serde_json::to_string(&rule).expect("a rule is data"));
    }

    #[test]
    fn a_definition_is_run_to_its_end_or_refused(text in prop_oneof![4 => input::definition(), 1 => input::json_text()]) {
        judge::definition(&text);
    }
}
