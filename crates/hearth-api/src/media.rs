//! Pictures and sounds in requests.

use hearth_proto::{Failure, FailureKind, Media, MediaKind, decode_base64};
use serde_json::Value;

use crate::read::join;

/// The picture of an `image_url`: an object with a `url`, or the URL itself. Only `data:`
/// URLs are read, since the service has no network.
///
/// # Errors
/// `InvalidArgs`, `NotSupported`; both name the field.
pub(crate) fn picture(place: &str, value: Option<&Value>, at: usize) -> Result<Media, Failure> {
    let place = join(place, "image_url");
    let url = value.and_then(|value| value.as_str().or_else(|| value.get("url")?.as_str()));
    let Some(url) = url else {
        return Err(Failure::invalid_field(&place, "must have a `url`"));
    };
    let Some(data) = strip_prefix_ignoring_case(url, "data:") else {
        return Err(Failure::of_field(
            FailureKind::NotSupported,
            &place,
            "must be a `data:` URL with the picture in base64: this service has no network and \
             fetches none",
        ));
    };
    let Some((kind, data)) = data.split_once(',') else {
        return Err(Failure::invalid_field(&place, "has no data after a comma"));
    };
    if !kind.to_ascii_lowercase().ends_with(";base64") {
        return Err(Failure::invalid_field(
            &place,
            "must be in base64: `data:image/png;base64,…`",
        ));
    }
    medium(&place, MediaKind::Picture, data, at)
}

/// The sound of an `input_audio`: an object with `data`; its `format` is found by its first
/// bytes.
///
/// # Errors
/// `InvalidArgs`, which names the field.
pub(crate) fn sound(place: &str, value: Option<&Value>, at: usize) -> Result<Media, Failure> {
    let place = join(place, "input_audio");
    let data = value.and_then(|value| value.get("data")?.as_str());
    let Some(data) = data else {
        return Err(Failure::invalid_field(&place, "must have `data` in base64"));
    };
    medium(&place, MediaKind::Sound, data, at)
}

/// The `images` of Ollama's requests, which come before the text.
///
/// # Errors
/// `InvalidArgs`, `NotSupported`; both name the field.
pub(crate) fn images(field: &str, value: Option<&Value>) -> Result<Vec<Media>, Failure> {
    let list = match value {
        None | Some(Value::Null) => return Ok(Vec::new()),
        Some(Value::Array(list)) => list,
        Some(_) => {
            return Err(Failure::invalid_field(
                field,
                "must be a list of texts in base64",
            ));
        }
    };
    let image = |(n, value): (usize, &Value)| {
        let place = format!("{field}[{n}]");
        let data = value
            .as_str()
            .ok_or_else(|| Failure::invalid_field(&place, "must be a text in base64"))?;
        medium(&place, MediaKind::Picture, data, 0)
    };
    list.iter().enumerate().map(image).collect()
}

/// A picture or sound in base64, at a place in the text.
///
/// # Errors
/// `InvalidArgs`, `NotSupported`; both name the field.
pub(crate) fn medium(
    place: &str,
    kind: MediaKind,
    data: &str,
    at: usize,
) -> Result<Media, Failure> {
    let bytes = decode_base64(data).map_err(|what| Failure::invalid_field(place, what))?;
    // The message begins with what is wrong with the picture.
    Media::new(kind, at, bytes).map_err(|failure| Failure {
        message: format!("`{place}` {}", failure.message),
        field: Some(place.to_owned()),
        ..failure
    })
}

fn strip_prefix_ignoring_case<'a>(text: &'a str, prefix: &str) -> Option<&'a str> {
    let (head, rest) = text.split_at_checked(prefix.len())?;
    head.eq_ignore_ascii_case(prefix).then_some(rest)
}

#[cfg(test)]
mod tests {
    use FailureKind::{InvalidArgs, NotSupported};
    use serde_json::json;

    use super::*;

    const GIF: &str = "R0lGODlhAgABAIAAAA==";

    #[test]
    fn pictures_are_read_from_data_urls() {
        let url = format!("data:image/gif;base64,{GIF}");
        for value in [json!(url), json!({"url": url, "detail": "low"})] {
            let media = picture("p", Some(&value), 3).unwrap();
            assert_eq!((media.at, media.kind), (3, MediaKind::Picture));
            assert_eq!(&media.bytes[..6], b"GIF89a");
        }
        for (value, kind, part) in [
            (
                json!({"url": "https://example.org/x.png"}),
                NotSupported,
                "no network",
            ),
            (
                json!({"url": "file:///etc/passwd"}),
                NotSupported,
                "no network",
            ),
            (json!({"url": 3}), InvalidArgs, "`url`"),
            (json!("data:image/png,abc"), InvalidArgs, "in base64"),
            (json!("data:image/png;base64"), InvalidArgs, "comma"),
            (json!("data:image/png;base64,!!"), InvalidArgs, "base64"),
            (
                json!("data:image/png;base64,aGk="),
                InvalidArgs,
                "no picture",
            ),
            (
                json!("data:image/svg+xml;base64,PHN2Zy8+"),
                NotSupported,
                "SVG",
            ),
        ] {
            let failure = picture("messages[0].content", Some(&value), 0).unwrap_err();
            assert_eq!(failure.kind, kind, "{failure}");
            assert!(failure.message.contains(part), "{failure}");
            let field = failure.field.unwrap();
            assert_eq!(field, "messages[0].content.image_url");
        }
    }

    #[test]
    fn ollamas_images_are_read_from_a_list() {
        let two = images("images", Some(&json!([GIF, GIF]))).unwrap();
        assert_eq!(two.len(), 2);
        assert!(images("images", None).unwrap().is_empty());
        assert!(images("images", Some(&json!([]))).unwrap().is_empty());
        let wrong = images("images", Some(&json!([GIF, 3]))).unwrap_err();
        assert_eq!(wrong.field.as_deref(), Some("images[1]"));
        assert!(images("images", Some(&json!("x"))).is_err());
    }
}
