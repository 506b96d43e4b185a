//! Paths into a context, such as `order.total` or `rows.0` (semantics C2).

use std::borrow::Cow;

use crate::types::{Context, Json, Tree, nearest};

/// Returns the value at a path. A path is a key of the context, followed by names of members and indices of items, separated by
/// dots. A key of the context that itself contains dots takes precedence.
#[must_use]
pub fn lookup<'a>(context: &'a Context, path: &str) -> Option<Cow<'a, Json>> {
    if let Some(value) = context.get(path) {
        return Some(Cow::Borrowed(value));
    }
    let (value, rest) = longest_key(context, path)?;
    let tree = Tree::of(value)?;
    let mut text = String::new();
    step(&tree, rest).ok()?.write(&mut text);
    Some(Cow::Owned(Json::from_encoder(text)))
}

/// Returns an error text that names a path that does not exist in the context, and a similar path if there is one.
#[must_use]
pub fn missing(context: &Context, path: &str) -> String {
    let (parent, known, part) = match longest_key(context, path) {
        None => {
            let keys = context.iter().map(|(key, _)| key.to_string()).collect();
            (String::new(), keys, path)
        }
        Some((value, rest)) => {
            let tree = Tree::of(value);
            let (known, part) = match tree.as_ref().map(|tree| step(tree, rest)) {
                Some(Err((Tree::Object(members), part))) => {
                    (members.keys().map(ToString::to_string).collect(), part)
                }
                Some(Err((_, part))) => (Vec::new(), part),
                _ => (Vec::new(), rest),
            };
            (path[..path.len() - part.len()].to_owned(), known, part)
        }
    };
    let near = nearest(part, known.iter().map(String::as_str)).map_or_else(String::new, |near| {
        format!("; did you mean '{parent}{near}'?")
    });
    format!("the context has no '{path}'{near}")
}

/// Returns the value of the longest key of the context that is a prefix of the path, and the remaining path.
fn longest_key<'a, 'p>(context: &'a Context, path: &'p str) -> Option<(&'a Json, &'p str)> {
    path.rmatch_indices('.')
        .find_map(|(dot, _)| Some((context.get(&path[..dot])?, &path[dot + 1..])))
}

/// Follows a path into a value. If the path does not exist, the error is the innermost value that was reached, and the
/// remaining path.
fn step<'t, 'a, 'p>(
    tree: &'t Tree<'a>,
    path: &'p str,
) -> Result<&'t Tree<'a>, (&'t Tree<'a>, &'p str)> {
    let mut tree = tree;
    let mut rest = path;
    loop {
        let (part, following) = match rest.split_once('.') {
            Some((part, following)) => (part, Some(following)),
            None => (rest, None),
        };
        let next = match tree {
            Tree::Object(members) => members.get(part),
            Tree::Array(items) => part.parse().ok().and_then(|index: usize| items.get(index)),
            Tree::Scalar(_) => None,
        };
        let Some(next) = next else {
            return Err((tree, rest));
        };
        let Some(following) = following else {
            return Ok(next);
        };
        (tree, rest) = (next, following);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(pairs: &[(&str, &str)]) -> Context {
        let mut context = Context::default();
        for (key, value) in pairs {
            context.set(*key, Json::parse(value).unwrap());
        }
        context
    }

    #[test]
    fn c2_path_leads_into_objects_and_arrays() {
        let context = context(&[
            ("order", r#"{"total":5,"lines":[{"sku":"a"},{"sku":"b"}]}"#),
            ("a.b", "1"),
            ("a", r#"{"b":2,"c":3}"#),
        ]);
        let cases = [
            ("order.total", Some("5")),
            ("order.lines.1.sku", Some("\"b\"")),
            ("order.lines", Some(r#"[{"sku":"a"},{"sku":"b"}]"#)),
            ("a.b", Some("1")),
            ("a.c", Some("3")),
            ("order.lines.2.sku", None),
            ("order.total.x", None),
            ("order.", None),
            (".order", None),
            ("absent.total", None),
        ];
        for (path, expected) in cases {
            let found = lookup(&context, path);
            assert_eq!(found.as_deref().map(Json::as_str), expected, "{path}");
        }
    }

    #[test]
    fn c2_error_for_a_missing_path_suggests_a_similar_path() {
        let context = context(&[("order", r#"{"total":5}"#)]);
        let cases = [
            (
                "order.totl",
                "the context has no 'order.totl'; did you mean 'order.total'?",
            ),
            ("ordr", "the context has no 'ordr'; did you mean 'order'?"),
            ("order.total.x", "the context has no 'order.total.x'"),
            ("something.else", "the context has no 'something.else'"),
        ];
        for (path, expected) in cases {
            assert_eq!(missing(&context, path), expected);
        }
    }
}
