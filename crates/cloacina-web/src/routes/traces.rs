//! Links from executions to their traces.

use cloacina::ExecutionId;
use serde::Deserialize;

use crate::call::Call;
use crate::problem::Problem;

/// The trace context of a submission, in the format of W3C Trace Context.
#[derive(Deserialize)]
struct Carrier {
    traceparent: Option<String>,
}

/// Returns the URL of the trace in which an execution was submitted. Returns `None` if the server has no template for such
/// URLs, or if the execution has no trace.
pub(super) fn url(call: &Call<'_>, id: ExecutionId) -> Result<Option<String>, Problem> {
    let Some(template) = call.web.trace_template() else {
        return Ok(None);
    };
    let carrier = call.inspector.trace(id)?;
    let trace = carrier.and_then(|carrier| trace_id(&carrier));
    Ok(trace.map(|trace| filled(template, &trace, &id.to_string())))
}

/// Returns the id of the trace in a carrier: the second part of `traceparent`, in hexadecimal.
fn trace_id(carrier: &str) -> Option<String> {
    let carrier: Carrier = serde_json::from_str(carrier).ok()?;
    let id = carrier.traceparent?.split('-').nth(1)?.to_owned();
    let is_id = id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_id.then_some(id)
}

fn filled(template: &str, trace: &str, execution: &str) -> String {
    template
        .replace("{trace_id}", trace)
        .replace("{execution_id}", execution)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";

    #[test]
    fn trace_id_is_taken_from_the_traceparent() {
        let carrier = format!(r#"{{"traceparent":"00-{TRACE}-00f067aa0ba902b7-01"}}"#);
        assert_eq!(trace_id(&carrier).as_deref(), Some(TRACE));
        assert_eq!(
            trace_id(r#"{"traceparent":"00-javascript:alert(1)-x-01"}"#),
            None
        );
        assert_eq!(trace_id(r#"{"b3":"x"}"#), None);
        assert_eq!(trace_id("no JSON"), None);
    }

    #[test]
    fn template_is_filled_with_both_ids() {
        let url = filled("https://t.example/{trace_id}?e={execution_id}", TRACE, "7");
        assert_eq!(url, format!("https://t.example/{TRACE}?e=7"));
    }
}
