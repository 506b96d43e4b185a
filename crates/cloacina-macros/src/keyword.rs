//! The compile error for an unknown keyword, such as the name of an option that does not exist.

use proc_macro2::Span;
use syn::Error;

/// Builds the error "unknown `what` '`typed`'". Its hint suggests a similar word and lists all `known` words.
pub fn unknown(span: Span, what: &str, typed: &str, known: &[&str]) -> Error {
    let near = nearest(typed, known);
    let near = near.map_or_else(String::new, |near| format!("did you mean '{near}'? "));
    let known = known.join(", ");
    let message = format!("unknown {what} '{typed}'\nhint: {near}known words: {known}");
    Error::new(span, message)
}

fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (typed.len() / 3).max(2);
    let distances = known
        .iter()
        .map(|word| (strsim::levenshtein(typed, word), *word));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, word)| word)
}
