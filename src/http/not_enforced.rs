//! The response header that names what of a schema an answer is not guaranteed to follow.

use axum::http::{HeaderName, HeaderValue};
use axum::response::Response;

pub(super) const HEADER: HeaderName = HeaderName::from_static("x-hearthd-not-enforced");
/// Longer headers are refused by some clients.
const BYTES_MAX: usize = 1000;

/// Adds the places, if there are any.
pub(super) fn name(places: &[String], response: &mut Response) {
    if places.is_empty() {
        return;
    }
    let mut text = String::new();
    for place in places {
        let shown: String = place
            .chars()
            .map(|c| if is_plain(c) { c } else { '?' })
            .collect();
        if text.len() + shown.len() > BYTES_MAX {
            text.push_str(", ...");
            break;
        }
        if !text.is_empty() {
            text.push_str(", ");
        }
        text.push_str(&shown);
    }
    if let Ok(value) = HeaderValue::from_str(&text) {
        response.headers_mut().insert(HEADER, value);
    }
}

fn is_plain(c: char) -> bool {
    c.is_ascii_graphic() || c == ' '
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn named(places: &[&str]) -> Option<String> {
        let places: Vec<String> = places.iter().map(|&p| p.to_owned()).collect();
        let mut response = Response::new(Body::empty());
        name(&places, &mut response);
        let value = response.headers().get(HEADER)?;
        Some(value.to_str().unwrap().to_owned())
    }

    #[test]
    fn places_are_named_in_ascii_and_bounded() {
        assert_eq!(named(&[]), None);
        assert_eq!(named(&["/a/not", "/é\n/if"]).unwrap(), "/a/not, /??/if");
        let long = named(&["/x".repeat(400).as_str(), "/y".repeat(400).as_str()]).unwrap();
        assert!(long.len() < BYTES_MAX && long.ends_with(", ..."), "{long}");
    }
}
