//! The files of the page, which are compiled into the program. `make ui` builds them from `ui/`.

use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use crate::problem::Problem;

/// The HTML of the page. An answer contains the `<base>` for the requested path instead of [`BASE`].
pub(crate) const INDEX: &str = include_str!("../assets/index.html");

/// The `<base>` in the HTML of the page.
pub(crate) const BASE: &str = "<base href=\"./\">";

struct Asset {
    name: &'static str,
    media_type: &'static str,
    /// The entity tag: a digest of the content.
    tag: &'static str,
    content: &'static [u8],
}

macro_rules! assets {
    ($($name:literal $media_type:literal,)*) => {
        &[$(Asset {
            name: $name,
            media_type: $media_type,
            tag: include_str!(concat!("../assets/", $name, ".etag")),
            content: include_bytes!(concat!("../assets/", $name)),
        },)*]
    };
}

const ASSETS: &[Asset] = assets! {
    "app.js" "text/javascript; charset=utf-8",
    "app.css" "text/css; charset=utf-8",
    "icon.svg" "image/svg+xml",
    "icon-alert.svg" "image/svg+xml",
    "THIRD_PARTY.txt" "text/plain; charset=utf-8",
};

/// Answers a request for a file of the page.
pub(crate) async fn serve(Path(name): Path<String>, request: HeaderMap) -> Response {
    let Some(asset) = ASSETS.iter().find(|asset| asset.name == name) else {
        let shown: String = name.chars().take(80).collect();
        let detail = format!("the page has no file '{shown}'");
        return Problem::new("not_found", detail).into_response();
    };
    let known = request.get(header::IF_NONE_MATCH);
    let is_known = known.is_some_and(|known| {
        let known = known.to_str().unwrap_or_default();
        known
            .split(',')
            .any(|tag| tag.trim().trim_start_matches("W/") == asset.tag)
    });
    let mut response = Response::new(if is_known {
        Body::empty()
    } else {
        Body::from(asset.content)
    });
    if is_known {
        *response.status_mut() = StatusCode::NOT_MODIFIED;
    }
    let headers = response.headers_mut();
    headers.insert(
        header::CONTENT_TYPE,
        HeaderValue::from_static(asset.media_type),
    );
    headers.insert(header::ETAG, HeaderValue::from_static(asset.tag));
    response
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_has_one_base_element() {
        assert_eq!(INDEX.matches(BASE).count(), 1);
    }

    #[test]
    fn assets_are_at_most_400_kilobytes() {
        let size: usize = ASSETS.iter().map(|asset| asset.content.len()).sum();
        assert!(size + INDEX.len() <= 400_000, "{size}");
    }

    #[test]
    fn page_has_no_inline_scripts_or_styles() {
        for part in INDEX.split("<script").skip(1) {
            assert!(
                part.contains(" src=") && part.contains("></script>"),
                "{part}"
            );
        }
        assert!(
            !INDEX.contains("<style") && !INDEX.contains("style=") && !INDEX.contains("onload")
        );
    }
}
