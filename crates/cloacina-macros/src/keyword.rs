//! The error for an unknown word where only certain words are allowed.

use proc_macro2::Span;
use syn::Error;

/// Builds the error "unknown `what` '`typed`'". The hint names a similar word and lists all `known` words.
pub fn unknown(span: Span, what: &str, typed: &str, known: &[&str]) -> Error {
    let near = nearest(typed, known);
    let near = near.map_or_else(String::new, |near| format!("did you mean '{near}'? "));
    let known = known.join(", ");
    let message = format!("unknown {what} '{typed}'\nhint: {near}it takes {known}");
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
