//! Words that an option knows, and the message for one that it does not.

use proc_macro2::Span;
use syn::Error;

/// `what 'typed'` is unknown; `known` are the words that there are.
pub fn unknown(span: Span, what: &str, typed: &str, known: &[&str]) -> Error {
    let near = nearest(typed, known);
    let near = near.map_or_else(String::new, |near| format!("did you mean '{near}'? "));
    let known = known.join(", ");
    let message = format!("unknown {what} '{typed}'\nhint: {near}it takes {known}");
    Error::new(span, message)
}

fn nearest<'a>(typed: &str, known: &[&'a str]) -> Option<&'a str> {
    let limit = (typed.len() / 3).max(2);
    let distances = known.iter().map(|word| (distance(typed, word), *word));
    distances
        .filter(|(distance, _)| *distance <= limit)
        .min()
        .map(|(_, word)| word)
}

fn distance(left: &str, right: &str) -> usize {
    let right: Vec<char> = right.chars().collect();
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (line, a) in left.chars().enumerate() {
        let mut diagonal = row[0];
        row[0] = line + 1;
        for (column, b) in right.iter().enumerate() {
            let substituted = diagonal + usize::from(a != *b);
            diagonal = row[column + 1];
            row[column + 1] = substituted.min(diagonal + 1).min(row[column] + 1);
        }
    }
    row[right.len()]
}
