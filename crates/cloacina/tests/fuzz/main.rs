//! Tests with random user input: no input causes a panic, and accepted input round-trips and can be run.
//!
//! `CLOACINA_FUZZ=n` multiplies the number of inputs by n (`make fuzz`). `tests/fuzz_cases` contains inputs that once failed.
#![cfg(all(feature = "sqlite", feature = "postgres"))]
#![expect(clippy::expect_used, reason = "a test may panic")]

mod input;
mod judge;

use cloacina::workflow::TriggerRule;
use judge::Acceptance;
use proptest::prelude::*;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;

/// The number of random inputs with which each property is tested.
const CASES: u32 = 50_000;

/// The number of random inputs from which the share of accepted inputs is computed.
const SAMPLE: usize = 2_000;

fn cases() -> u32 {
    let times = std::env::var("CLOACINA_FUZZ").ok();
    let times = times.map_or(1, |times| {
        times.parse().expect("CLOACINA_FUZZ is a whole number")
    });
    CASES.saturating_mul(times)
}

#[derive(serde::Deserialize)]
struct RecordedCase {
    text: String,
    /// Text that the refusal must contain, or `None` if the input must be accepted.
    refusal: Option<String>,
}

/// Reads recorded cases. `tests/test_fuzz.py` uses the same files.
fn recorded(file: &str) -> Vec<RecordedCase> {
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/fuzz_cases");
    let text =
        std::fs::read_to_string(format!("{folder}/{file}")).expect("the file of cases exists");
    let recorded: Vec<RecordedCase> =
        serde_json::from_str(&text).expect("the file of cases is valid");
    assert!(!recorded.is_empty());
    recorded
}

fn check_recorded(file: &str, judge: impl Fn(&str) -> Acceptance) {
    for RecordedCase { text, refusal } in recorded(file) {
        let acceptance = judge(&text);
        let message = acceptance.as_ref().err();
        let is_expected = match &refusal {
            None => message.is_none(),
            Some(part) => message.is_some_and(|message| message.contains(part)),
        };
        assert!(
            is_expected,
            "{file}: '{text}' gives {acceptance:?}, expected {refusal:?}"
        );
    }
}

#[test]
fn recorded_cases_are_accepted_or_refused_as_recorded() {
    check_recorded("urls.json", judge::url);
    for RecordedCase { text, .. } in recorded("urls.json") {
        drop(judge::password("user", &text));
    }
    check_recorded("crons.json", |text| judge::cron(text, "Europe/Berlin"));
    check_recorded("contexts.json", judge::context);
    check_recorded("rules.json", judge::rule);
    check_recorded("definitions.json", judge::definition);
}

/// Each generator must produce both accepted and refused input: at least 2 % of each.
#[test]
fn random_input_is_sometimes_accepted_and_sometimes_refused() {
    fn share<S: Strategy>(name: &str, input: S, judge: impl Fn(S::Value) -> Acceptance) {
        let mut runner = TestRunner::default();
        let mut accepted = 0;
        for _ in 0..SAMPLE {
            let tree = input
                .new_tree(&mut runner)
                .expect("the strategy generates input");
            accepted += usize::from(judge(tree.current()).is_ok());
        }
        let least = SAMPLE / 50;
        println!("{name}: {accepted} of {SAMPLE} are accepted");
        assert!(
            (least..=SAMPLE - least).contains(&accepted),
            "{name}: {accepted} of {SAMPLE} are accepted"
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
    serde_json::to_string(rule).expect("a rule serializes")
}

proptest! {
    #![proptest_config(ProptestConfig { cases: cases(), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn no_url_causes_a_panic(text in input::url()) {
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
