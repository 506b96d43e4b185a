//! Recognizes the requests that write something that a web page shows.

use crate::store::{Request, Response, StoreError};

/// Returns whether the request may write something that a web page shows. Requests that notify all runners anyway are
/// left out, and so are heartbeats, which a page does not show.
pub(super) fn can_show(request: &Request<'_>) -> bool {
    matches!(
        request,
        Request::Commit { .. }
            | Request::SetMap { .. }
            | Request::DeclareDead { .. }
            | Request::RetireRunner { .. }
            | Request::Prune { .. }
            | Request::DeleteExecution { .. }
            | Request::NoteInsight { .. }
            | Request::NoteStarts { .. }
            | Request::Send { .. }
            | Request::AdvanceInbox { .. }
            | Request::NoteInbox { .. }
    )
}

/// Returns whether a request may have written something: `false` only for a commit that wrote nothing. Any other
/// request may have written something, even if it failed.
pub(super) fn shows(response: &Result<Response, StoreError>) -> bool {
    match response {
        Ok(Response::Commit(committed)) => {
            !(committed.schedules.is_empty()
                && committed.submits.is_empty()
                && committed.advances.is_empty()
                && committed.claimed.is_empty()
                && committed.items.is_empty()
                && committed.maps.is_empty())
        }
        _ => true,
    }
}
