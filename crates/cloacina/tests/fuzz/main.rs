//! What users feed in, at random: no input panics, and what is accepted comes back the same and can be run.
//!
//! `CLOACINA_FUZZ=n` tries n times as many inputs (`make fuzz`). What was ever found is kept in `tests/fuzz_cases` of the
//! repository and tried first.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::expect_used, reason = "a test may panic")]

mod input;
mod judge;

use cloacina::workflow::TriggerRule;
use judge::Verdict;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// Inputs for each property.
const CASES: u32 = 50_000;

/// Inputs of which shares are counted.
const SAMPLE: usize = 2_000;

fn cases() -> u32 {
    let times = std::env::var("CLOACINA_FUZZ").ok();
    let times = times.map_or(1, |times| times.parse().expect("a whole number"));
    CASES.saturating_mul(times)
}

#[derive(serde::Deserialize)]
struct Kept {
    text: String,
    /// What the refusal must contain. `None`: the input is accepted.
    refusal: Option<String>,
}

/// Tries what was found before. The files are shared with `tests/test_fuzz.py`.
fn kept(file: &str) -> Vec<Kept> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz_cases");
    let text = std::fs::read_to_string(format!("{folder}/{file}")).expect("the cases are there");
    let kept: Vec<Kept> = serde_json::from_str(&text).expect("the cases can be read");
    assert!(!kept.is_empty());
    kept
}

fn try_kept(file: &str, judge: impl Fn(&str) -> Verdict) {
    for Kept { text, refusal } in kept(file) {
        let verdict = judge(&text);
        let told = verdict.as_ref().err();
        let is_expected = match &refusal {
            None => told.is_none(),
            Some(part) => told.is_some_and(|told| told.contains(part)),
        };
        assert!(
            is_expected,
            "{file}: '{text}' gives {verdict:?}, expected {refusal:?}"
        );
    }
}

#[test]
fn recorded_cases_keep_their_verdicts() {
    try_kept("urls.json", judge::url);
    for Kept { text, .. } in kept("urls.json") {
        drop(judge::password("user", &text));
    }
    try_kept("crons.json", |text| judge::cron(text, "Europe/Berlin"));
    try_kept("contexts.json", judge::context);
    try_kept("rules.json", judge::rule);
    try_kept("definitions.json", judge::definition);
}

/// Input that is always refused, or never, tests little.
#[test]
fn random_input_is_neither_always_nor_never_accepted() {
    fn share<S: Strategy>(name: &str, input: S, judge: impl Fn(S::Value) -> Verdict) {
        let mut runner = TestRunner::default();
        let mut accepted = 0;
        for _ in 0..SAMPLE {
            let tree = input.new_tree(&mut runner).expect("input is made");
            accepted += usize::from(judge(tree.current()).is_ok());
        }
        let least = SAMPLE / 50;
        println!("{name}: {accepted} of {SAMPLE} are accepted");
        assert!(
            (least..=SAMPLE - least).contains(&accepted),
            "{name}: {accepted}"
        );
    }
    share("URLs", input::url(), |text| judge::url(&text));
    share("passwords", input::url(), |rest| {
        judge::password("user", &rest)
    });
    share("crons", (input::cron(), input::zone()), |(text, zone)| {
        judge::cron(&text, &zone)
    });
    share("contexts", input::context(), |text| judge::context(&text));
    share("rules", input::rule(), |rule| judge::rule(&text_of(&rule)));
    share("definitions", input::definition(), |text| {
        judge::definition(&text)
    });
}

fn text_of(rule: &TriggerRule) -> String {
    serde_json::to_string(rule).expect("a rule is data")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_url_panics(text in input::url()) {
        drop(judge::url(&text));
    }

    #[test]
    fn password_never_appears_in_messages(user in "[a-z]{1,8}", rest in input::url()) {
        drop(judge::password(&user, &rest));
    }

    #[test]
    fn cron_expression_fires_in_order_or_is_refused(text in input::cron(), zone in input::zone()) {
        drop(judge::cron(&text, &zone));
    }

    #[test]
    fn context_round_trips_or_is_refused(text in prop_oneof![2 => input::context(), 1 => input::json_text(), 1 => "\\PC*"]) {
        drop(judge::context(&text));
    }

    #[test]
    fn execution_ends_under_any_rule(rule in input::rule()) {
        drop(judge::rule(&text_of(&rule)));
    }

    #[test]
    fn definition_runs_to_its_end_or_is_refused(text in prop_oneof![4 => input::definition(), 1 => input::json_text()]) {
        drop(judge::definition(&text));
    }
}
