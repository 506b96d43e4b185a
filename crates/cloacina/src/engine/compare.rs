//! Comparisons of a value in the context with the value in a rule (semantics C2). They read the values from their JSON
//! text, so integers of up to 128 bits are compared exactly.

use std::cmp::Ordering;

use crate::types::{Json, JsonShape, Tree};
use crate::workflow::Operator;

/// Evaluates `found operator expected`.
///
/// # Errors
/// Returns a sentence with the reason if the two values cannot be compared.
pub fn compare(found: Option<&Json>, operator: Operator, expected: &Json) -> Result<bool, String> {
    match operator {
        Operator::Exists => return Ok(found.is_some()),
        Operator::NotExists => return Ok(found.is_none()),
        _ => {}
    }
    // An absent key equals nothing, contains nothing, and is neither less nor greater than anything.
    let Some(found) = found else {
        return Ok(matches!(
            operator,
            Operator::NotEquals | Operator::NotContains
        ));
    };
    match operator {
        Operator::Equals => Ok(equal(found, expected)),
        Operator::NotEquals => Ok(!equal(found, expected)),
        Operator::GreaterThan => order(found, expected).map(Ordering::is_gt),
        Operator::GreaterOrEqual => order(found, expected).map(Ordering::is_ge),
        Operator::LessThan => order(found, expected).map(Ordering::is_lt),
        Operator::LessOrEqual => order(found, expected).map(Ordering::is_le),
        Operator::Contains => contains(found, expected),
        Operator::NotContains => contains(found, expected).map(|inside| !inside),
        Operator::Exists | Operator::NotExists => Ok(false),
    }
}

fn equal(left: &Json, right: &Json) -> bool {
    left == right
        || matches!((Tree::of(left), Tree::of(right)), (Some(left), Some(right)) if equal_trees(&left, &right))
}

fn equal_trees(left: &Tree<'_>, right: &Tree<'_>) -> bool {
    match (left, right) {
        (Tree::Scalar(a), Tree::Scalar(b)) => a == b || equal_scalars(a, b),
        (Tree::Array(a), Tree::Array(b)) => {
            a.len() == b.len() && a.iter().zip(b).all(|(x, y)| equal_trees(x, y))
        }
        (Tree::Object(a), Tree::Object(b)) => {
            a.len() == b.len()
                && a.iter()
                    .all(|(key, x)| b.get(key).is_some_and(|y| equal_trees(x, y)))
        }
        _ => false,
    }
}

/// Compares numbers by value, and strings by their decoded text.
fn equal_scalars(left: &str, right: &str) -> bool {
    if left.starts_with('"') && right.starts_with('"') {
        let text = |quoted| serde_json::from_str::<String>(quoted).ok();
        return text(left).is_some_and(|left| Some(left) == text(right));
    }
    compare_numbers(left, right) == Some(Ordering::Equal)
}

fn order(left: &Json, right: &Json) -> Result<Ordering, String> {
    let ordering = match (left.shape(), right.shape()) {
        (JsonShape::Number, JsonShape::Number) => compare_numbers(left.as_str(), right.as_str()),
        (JsonShape::String, JsonShape::String) => left
            .decode::<String>()
            .ok()
            .zip(right.decode::<String>().ok())
            .map(|(a, b)| a.cmp(&b)),
        _ => None,
    };
    ordering.ok_or_else(|| {
        format!(
            "cannot compare a JSON {} with a JSON {}",
            left.shape().name(),
            right.shape().name()
        )
    })
}

/// Compares integers up to 128 bits exactly, and other numbers as doubles.
fn compare_numbers(left: &str, right: &str) -> Option<Ordering> {
    if let (Ok(a), Ok(b)) = (left.parse::<i128>(), right.parse::<i128>()) {
        return Some(a.cmp(&b));
    }
    left.parse::<f64>().ok()?.partial_cmp(&right.parse().ok()?)
}

fn contains(found: &Json, expected: &Json) -> Result<bool, String> {
    match (found.shape(), expected.shape()) {
        (JsonShape::String, JsonShape::String) => {
            let (whole, part) = (found.decode::<String>(), expected.decode::<String>());
            Ok(matches!((whole, part), (Ok(whole), Ok(part)) if whole.contains(&part)))
        }
        (JsonShape::Array, _) => match (Tree::of(found), Tree::of(expected)) {
            (Some(Tree::Array(items)), Some(expected)) => {
                Ok(items.iter().any(|item| equal_trees(item, &expected)))
            }
            _ => Ok(false),
        },
        (JsonShape::Object, JsonShape::String) => {
            match (Tree::of(found), expected.decode::<String>()) {
                (Some(Tree::Object(members)), Ok(key)) => Ok(members.contains_key(key.as_str())),
                _ => Ok(false),
            }
        }
        (left, right) => Err(format!(
            "a JSON {} cannot contain a JSON {}",
            left.name(),
            right.name()
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn c2_operators_compare_json_values() {
        use Operator::{
            Contains, Equals, Exists, GreaterThan, LessOrEqual, NotContains, NotEquals, NotExists,
        };
        let cases: &[(Option<&str>, Operator, &str, Option<bool>)] = &[
            (Some("1"), Equals, "1.0", Some(true)),
            (
                Some("12345678901234567890123"),
                GreaterThan,
                "12345678901234567890122",
                Some(true),
            ),
            (Some("\"a\""), Equals, "\"\\u0061\"", Some(true)),
            (Some("[1,{\"a\":2}]"), Equals, "[1.0,{\"a\":2}]", Some(true)),
            (Some("1"), NotEquals, "\"1\"", Some(true)),
            (Some("81"), GreaterThan, "80", Some(true)),
            (Some("\"b\""), GreaterThan, "\"a\"", Some(true)),
            (Some("\"b\""), GreaterThan, "1", None),
            (Some("true"), LessOrEqual, "false", None),
            (Some("\"hello\""), Contains, "\"ell\"", Some(true)),
            (Some("[1,2]"), Contains, "2", Some(true)),
            (Some("{\"k\":1}"), Contains, "\"k\"", Some(true)),
            (Some("5"), Contains, "5", None),
            (Some("null"), Exists, "null", Some(true)),
            (None, Exists, "null", Some(false)),
            (None, NotExists, "null", Some(true)),
            (None, Equals, "null", Some(false)),
            (None, NotContains, "1", Some(true)),
            (None, GreaterThan, "1", Some(false)),
        ];
        for (found, operator, expected, holds) in cases {
            let found = found.map(|text| Json::parse(text).unwrap());
            let expected = Json::parse(expected).unwrap();
            assert_eq!(
                compare(found.as_ref(), *operator, &expected).ok(),
                *holds,
                "{found:?} {operator:?} {expected}"
            );
        }
    }
}
