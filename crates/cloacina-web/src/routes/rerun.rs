//! The route that submits a copy of an earlier execution, with an edited input.

use std::collections::BTreeMap;

use axum::http::{StatusCode, header};
use cloacina::runner::{Rerun, RerunVersion};
use cloacina::types::Context;
use serde::Deserialize;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::start::{BODY_LIMIT, at_input, labels, masked};
use crate::access::Permission::Start;
use crate::call::{Call, Reply};
use crate::operation::Operation;
use crate::problem::Problem;
use crate::query::shown;
use crate::redact::{MASK, Redactor};
use crate::views::execution::SubmittedView;

/// Maximum depth at which an edited input is searched for `$keep`.
const MAX_DEPTH: usize = 64;

pub(super) fn operations() -> Vec<Operation> {
    vec![
        Operation::post("/executions/{id}/rerun", Start, "rerunExecution", "Submit a copy of an earlier execution", rerun)
            .about(
                "The new execution has the same or an edited input, and the original or the latest version of the workflow. \
                 Its history names the earlier execution. In an edited input, `{\"$keep\": \"a.b\"}` stands for the value at \
                 this path of the earlier input, so a client does not need to know redacted values. A secret can be kept only \
                 under a key that names a secret, so that it stays redacted.",
            )
            .takes::<RerunRequest>()
            .body_limit(BODY_LIMIT)
            .returns::<SubmittedView>(201, "The new execution; the header Location leads to it."),
    ]
}

/// The differences between the new execution and the earlier execution.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
struct RerunRequest {
    /// The input; default: the input of the earlier execution.
    #[schema(value_type = Option<Object>)]
    input: Option<Box<RawValue>>,
    /// The version of the workflow: original or latest; default: original.
    version: Option<String>,
    /// The labels; default: the labels of the earlier execution.
    labels: Option<BTreeMap<String, String>>,
    /// The reason, for the history.
    note: Option<String>,
}

fn rerun(call: &Call<'_>) -> Result<Reply, Problem> {
    let request: RerunRequest = call.decode()?;
    let id = call.execution_id()?;
    let version = match request.version.as_deref() {
        None | Some("original") => RerunVersion::Original,
        Some("latest") => RerunVersion::Latest,
        Some(text) => {
            let detail = format!("'{}' is neither original nor latest", shown(text));
            return Err(Problem::invalid("/version", detail));
        }
    };
    let input = match request.input.as_deref().map(RawValue::get) {
        None | Some("null") => None,
        Some(text) => {
            let text = if may_refer(text) {
                let earlier = call.inspector.execution(id)?;
                kept_input(text, &earlier.record().input, call.redactor())?
            } else {
                text.to_owned()
            };
            let input = Context::from_json(&text);
            Some(input.map_err(|error| Problem::invalid("/input", error.to_string()))?)
        }
    };
    call.check_revision(id)?;
    let new = Rerun {
        input,
        version,
        labels: request.labels.as_ref().map(labels).transpose()?,
        audit: call.audit(request.note),
    };
    let submitted = call.inspector.rerun(id, new).map_err(at_input)?;
    let new = submitted.id.to_string();
    call.note_change("rerun", &new);
    let reply = Reply::json(&SubmittedView {
        id: Some(new.clone()),
        created: true,
        dry_run: false,
    })?;
    let location = format!("../{new}");
    Ok(reply
        .status(StatusCode::CREATED)
        .header(header::LOCATION, &location))
}

/// Returns an edited input, in which each `$keep` is replaced by the earlier value. Refuses an input that contains the mask.
pub(super) fn kept_input(
    text: &str,
    earlier: &Context,
    redactor: Redactor,
) -> Result<String, Problem> {
    Keep { earlier, redactor }.kept(text, false, MAX_DEPTH)
}

/// Replaces each `$keep` in an edited input. Holds the earlier input, and the redactor that knows which keys name secrets.
struct Keep<'a> {
    earlier: &'a Context,
    redactor: Redactor,
}

impl Keep<'_> {
    /// Replaces each `$keep` in `text`, a part of an edited input, with the earlier value, and refuses the mask. `is_redacted`
    /// says whether `text` is below a key that names a secret. `depth` is the number of levels that may still be nested.
    fn kept(&self, text: &str, is_redacted: bool, depth: usize) -> Result<String, Problem> {
        if !may_refer(text) {
            return Ok(text.to_owned());
        }
        if serde_json::from_str::<String>(text).is_ok_and(|text| text == MASK) {
            return Err(masked("/input")
                .hint("send {\"$keep\": \"path.to.the.value\"} for a value that does not change"));
        }
        let Some(depth) = depth.checked_sub(1) else {
            let detail = format!(
                "an input that contains $keep, '{MASK}' or an escape like \\u0024 may be nested at most {MAX_DEPTH} levels deep"
            );
            return Err(Problem::invalid("/input", detail));
        };
        if let Ok(members) = serde_json::from_str::<BTreeMap<String, &RawValue>>(text) {
            if members.len() == 1
                && let Some(path) = members.get("$keep")
            {
                return self.earlier_value(path, is_redacted);
            }
            let parts = members.iter().map(|(name, value)| {
                let is_redacted = is_redacted || self.redactor.is_secret(name);
                let value = self.kept(value.get(), is_redacted, depth)?;
                let name = serde_json::to_string(name).unwrap_or_default();
                Ok(format!("{name}:{value}"))
            });
            let parts: Vec<String> = parts.collect::<Result<_, Problem>>()?;
            return Ok(format!("{{{}}}", parts.join(",")));
        }
        if let Ok(items) = serde_json::from_str::<Vec<&RawValue>>(text) {
            let items = items.iter();
            let items = items.map(|item| self.kept(item.get(), is_redacted, depth));
            let items: Vec<String> = items.collect::<Result<_, _>>()?;
            return Ok(format!("[{}]", items.join(",")));
        }
        Ok(text.to_owned())
    }

    /// Returns the earlier value at the path that `$keep` names. A secret must stay under a key that names a secret; otherwise
    /// a caller could read the secret from the new execution.
    fn earlier_value(&self, path: &RawValue, is_redacted: bool) -> Result<String, Problem> {
        let given = shown(path.get());
        let missing = || {
            let detail = format!("$keep names {given}, but the earlier input has no value there");
            Problem::invalid("/input", detail)
        };
        let path: Option<String> = serde_json::from_str(path.get()).ok();
        let path = path.ok_or_else(missing)?;
        let value = value_at(self.earlier, &path).ok_or_else(missing)?;
        if !is_redacted && path.split('.').any(|key| self.redactor.is_secret(key)) {
            let shown = shown(&path);
            let detail = format!(
                "the value of '{shown}' is secret, and $keep would put it under a key that names no secret"
            );
            return Err(Problem::invalid("/input", detail).hint(
                "keep it under a key that names a secret, for example under the key that it has in the earlier input",
            ));
        }
        Ok(value)
    }
}

/// Whether a JSON text can contain `$keep` or the mask, as plain text or with escapes (`\u0024keep`). If it cannot, the text
/// does not need to be decoded.
fn may_refer(text: &str) -> bool {
    text.contains("$keep") || text.contains(MASK) || text.contains("\\u")
}

/// Returns the JSON text of the value at a path of keys.
fn value_at(context: &Context, path: &str) -> Option<String> {
    let mut keys = path.split('.');
    let mut text = context.get(keys.next()?)?.as_str().to_owned();
    for key in keys {
        let members: BTreeMap<String, &RawValue> = serde_json::from_str(&text).ok()?;
        text = members.get(key)?.get().to_owned();
    }
    Some(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(edited: &str, earlier: &str) -> Result<String, Problem> {
        let earlier = Context::from_json(earlier).expect("a context");
        let keep = Keep {
            earlier: &earlier,
            redactor: Redactor::new(&[]),
        };
        keep.kept(edited, false, MAX_DEPTH)
    }

    #[test]
    fn kept_values_come_from_the_earlier_input() {
        let earlier = r#"{"db":{"password":"pw","n":1.50},"day":1}"#;
        let edited =
            r#"{"day":2,"db":{"password":{"$keep":"db.password"}},"list":[{"$keep":"db"}]}"#;
        let expected = r#"{"day":2,"db":{"password":"pw"},"list":[{"password":"pw","n":1.50}]}"#;
        assert_eq!(kept(edited, earlier).expect("an input"), expected);
    }

    #[test]
    fn mask_and_unknown_path_are_refused() {
        let earlier = r#"{"token":"t"}"#;
        assert!(kept(r#"{"token":"•••"}"#, earlier).is_err());
        assert!(kept(r#"{"token":{"$keep":"nothing"}}"#, earlier).is_err());
    }

    #[test]
    fn escapes_do_not_hide_the_mask_or_dollar_keep() {
        let earlier = r#"{"token":"t","day":"a"}"#;
        for mask in [r"\u2022\u2022\u2022", r"\u2022••", r"•\u2022•"] {
            for edited in [
                format!(r#"{{"token":"{mask}"}}"#),
                format!(r#"{{"a":[{{"token":"{mask}"}}]}}"#),
            ] {
                assert!(kept(&edited, earlier).is_err(), "{edited}");
            }
        }
        for keep in [r"\u0024keep", r"$\u006beep", r"$kee\u0070"] {
            let edited = format!(r#"{{"token":{{"{keep}":"tok\u0065n"}},"day":"\u00e4"}}"#);
            let expected = r#"{"day":"\u00e4","token":"t"}"#;
            assert_eq!(kept(&edited, earlier).expect("an input"), expected);
        }
    }

    #[test]
    fn deep_input_is_refused_only_if_it_may_refer_to_values() {
        let nested = |value: &str| {
            let deep = MAX_DEPTH + 1;
            format!(r#"{{"a":{}{value}{}}}"#, "[".repeat(deep), "]".repeat(deep))
        };
        assert!(kept(&nested(r#"{"$keep":"day"}"#), r#"{"day":1}"#).is_err());
        assert!(kept(&nested(r#""\u2022\u2022\u2022""#), "{}").is_err());
        assert_eq!(
            kept(&nested("1.50"), "{}").expect("an input"),
            nested("1.50")
        );
    }

    #[test]
    fn kept_secret_needs_a_secret_key_at_its_destination() {
        let earlier = r#"{"password":"pw","credentials":{"user":"ann"},"db":{"token":["t"]}}"#;
        for edited in [
            r#"{"x":{"$keep":"password"}}"#,
            r#"{"x":[{"y":{"$keep":"password"}}]}"#,
            r#"{"user":{"$keep":"credentials.user"}}"#,
            r#"{"db":{"x":{"$keep":"db.token"}}}"#,
        ] {
            assert!(kept(edited, earlier).is_err(), "{edited}");
        }
        for (edited, expected) in [
            (
                r#"{"new_password":{"$keep":"password"}}"#,
                r#"{"new_password":"pw"}"#,
            ),
            (
                r#"{"secrets":{"x":[{"$keep":"password"}]}}"#,
                r#"{"secrets":{"x":["pw"]}}"#,
            ),
            (
                // The members of a kept object stay redacted by their own keys.
                r#"{"x":{"$keep":"db"}}"#,
                r#"{"x":{"token":["t"]}}"#,
            ),
        ] {
            assert_eq!(kept(edited, earlier).expect("an input"), expected);
        }
    }
}
