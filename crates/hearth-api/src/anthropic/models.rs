//! Models in the form of Anthropic's API.

use std::time::{Duration, UNIX_EPOCH};

use hearth_proto::{Failure, ModelEntry, Use};
use serde::Serialize;
use serde_json::Value;

use crate::encode::value;
use crate::ollama::timestamp;

/// The most models of one page.
const LIMIT_MAX: usize = 1000;

/// Which part of the list is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Page {
    /// Begin after this model.
    after_id: Option<String>,
    /// End before this model.
    before_id: Option<String>,
    /// The most models.
    limit: Option<String>,
}

#[derive(Serialize)]
struct ModelBody<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    id: &'a str,
    display_name: &'a str,
    created_at: String,
    lifecycle: &'static str,
    /// The context that the model was trained for; null where unknown.
    max_input_tokens: Option<u32>,
    /// The context is for both.
    max_tokens: Option<u32>,
}

#[derive(Serialize)]
struct PageBody<'a> {
    data: Vec<ModelBody<'a>>,
    has_more: bool,
    first_id: Option<&'a str>,
    last_id: Option<&'a str>,
}

/// One model.
pub fn model_object(model: &ModelEntry) -> Value {
    value(&body(model))
}

/// A page of the models that hold conversations.
///
/// # Errors
/// `InvalidArgs` naming the field of the query.
pub fn model_page(models: &[ModelEntry], page: &Page) -> Result<Value, Failure> {
    let limit = page.limit()?;
    let chats = |model: &&ModelEntry| model.kind.is_none_or(|kind| kind.can(Use::Chat));
    let models: Vec<&ModelEntry> = models.iter().filter(chats).collect();
    let place = |id: &Option<String>| {
        let id = id.as_ref()?;
        models.iter().position(|model| model.name == *id)
    };
    let (first, end) = match (place(&page.after_id), place(&page.before_id)) {
        // The page before a model ends there, and begins where its size allows.
        (None, Some(end)) => (end.saturating_sub(limit), end),
        (after, end) => (after.map_or(0, |at| at + 1), end.unwrap_or(models.len())),
    };
    let range = models.get(first..end).unwrap_or_default();
    let shown = range.get(..limit).unwrap_or(range);
    let has_more = match page.before_id {
        Some(_) if page.after_id.is_none() => first > 0,
        _ => shown.len() < range.len(),
    };
    Ok(value(&PageBody {
        first_id: shown.first().map(|model| model.name.as_str()),
        last_id: shown.last().map(|model| model.name.as_str()),
        data: shown.iter().map(|model| body(model)).collect(),
        has_more,
    }))
}

impl Page {
    /// The page that the query of a request asks for; other fields are ignored.
    pub fn of_query(query: &str) -> Self {
        let mut page = Self::default();
        for (name, text) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let field = match name {
                "after_id" => &mut page.after_id,
                "before_id" => &mut page.before_id,
                "limit" => &mut page.limit,
                _ => continue,
            };
            *field = Some(unescaped(text));
        }
        page
    }

    fn limit(&self) -> Result<usize, Failure> {
        let Some(text) = &self.limit else {
            return Ok(LIMIT_MAX);
        };
        let limit = text.parse().ok().filter(|n| (1..=LIMIT_MAX).contains(n));
        limit.ok_or_else(|| {
            Failure::invalid_field("limit", format_args!("must be from 1 to {LIMIT_MAX}"))
        })
    }
}

/// A text of a query: `%3A` is a colon, as it may be in a model's name.
fn unescaped(text: &str) -> String {
    let mut parts = text.split('%');
    let mut bytes = parts.next().unwrap_or_default().as_bytes().to_vec();
    for part in parts {
        if let Some(Ok(byte)) = part.get(..2).map(|digits| u8::from_str_radix(digits, 16)) {
            bytes.push(byte);
            bytes.extend(&part.as_bytes()[2..]);
        } else {
            bytes.push(b'%');
            bytes.extend(part.as_bytes());
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn body(model: &ModelEntry) -> ModelBody<'_> {
    let context = Some(model.context_train).filter(|tokens| *tokens > 0);
    ModelBody {
        kind: "model",
        id: &model.name,
        display_name: &model.name,
        created_at: timestamp(UNIX_EPOCH + Duration::from_secs(model.modified_s)),
        lifecycle: "active",
        max_input_tokens: context,
        max_tokens: context,
    }
}

#[cfg(test)]
mod tests {
    use hearth_proto::ModelKind;
    use serde_json::json;

    use super::*;

    fn models() -> Vec<ModelEntry> {
        let model = |name: &str, kind| ModelEntry {
            name: name.into(),
            kind,
            context_train: 4096,
            modified_s: 86_400,
            ..ModelEntry::default()
        };
        vec![
            model("a", Some(ModelKind::Chat)),
            model("b:1", None),
            model("c", Some(ModelKind::Chat)),
            model("vectors", Some(ModelKind::Embedding)),
        ]
    }

    #[test]
    fn a_model_has_its_date() {
        assert_eq!(
            model_object(&models()[0]),
            json!({"type": "model", "id": "a", "display_name": "a",
                "created_at": "1970-01-02T00:00:00.000000Z", "lifecycle": "active",
                "max_input_tokens": 4096, "max_tokens": 4096})
        );
    }

    #[test]
    fn pages_hold_what_is_asked_for() {
        for (query, ids, has_more) in [
            ("", vec!["a", "b:1", "c"], false),
            ("limit=2", vec!["a", "b:1"], true),
            ("limit=2&after_id=b%3A1", vec!["c"], false),
            ("limit=1&after_id=a", vec!["b:1"], true),
            ("limit=1&before_id=c", vec!["b:1"], true),
            (
                "before_id=c&lifecycle%5B%5D=active",
                vec!["a", "b:1"],
                false,
            ),
            ("after_id=c", vec![], false),
            ("after_id=c&before_id=a", vec![], false),
        ] {
            let list = model_page(&models(), &Page::of_query(query)).unwrap();
            let data = list["data"].as_array().unwrap();
            let found: Vec<&str> = data.iter().map(|m| m["id"].as_str().unwrap()).collect();
            assert_eq!(found, ids, "{query}");
            assert_eq!(list["has_more"], has_more, "{query}");
            assert_eq!(list["first_id"].as_str(), ids.first().copied(), "{query}");
            assert_eq!(list["last_id"].as_str(), ids.last().copied(), "{query}");
        }
        for query in ["limit=0", "limit=1001", "limit=x", "limit="] {
            let failure = model_page(&models(), &Page::of_query(query)).unwrap_err();
            assert_eq!(failure.field.as_deref(), Some("limit"), "{query}");
        }
    }

    #[test]
    fn a_query_is_unescaped() {
        for (text, expected) in [
            ("a%3Ab", "a:b"),
            ("%2B%", "+%"),
            ("%zz%4", "%zz%4"),
            ("%é", "%é"),
        ] {
            assert_eq!(unescaped(text), expected);
        }
    }
}
