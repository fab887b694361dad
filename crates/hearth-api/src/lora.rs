//! The adapters of a request, as llama-server's clients write them, or as an object of names
//! and scales.

use hearth_proto::{ADAPTERS_MAX, AdapterRef, Lora};
use serde::Deserialize;
use serde::de::{Error, MapAccess, SeqAccess};

use crate::scalars::{Float, Text, Whole};
use crate::shape::{Object, Shape, deserialize_by_shape, refusal};

/// The adapters with their scales.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Loras(pub Vec<Lora>);

#[derive(Debug, Deserialize)]
struct Entry {
    id: Option<Whole>,
    name: Option<Text>,
    scale: Option<Float>,
}

deserialize_by_shape!(Loras);

impl<'de> Shape<'de> for Loras {
    const WHAT: &'static str = "must be a list of at most 16 objects, each with `scale` and \
                                either `id` or `name`, or an object of names and scales";

    fn list<A: SeqAccess<'de>>(mut list: A) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some(Object(entry)) = list.next_element::<Object<Entry>>()? {
            let adapter = match (entry.id, entry.name) {
                (Some(id), None) => AdapterRef::Id(id.into()),
                (None, Some(name)) => AdapterRef::Name(name.into()),
                _ => return Err(refusal::<Self, A::Error>()),
            };
            let scale = entry.scale.map_or(1.0, Into::into);
            all.push(Lora { adapter, scale });
        }
        bounded(all)
    }

    fn object<A: MapAccess<'de>>(mut object: A) -> Result<Self, A::Error> {
        let mut all = Vec::new();
        while let Some((name, scale)) = object.next_entry::<String, Float>()? {
            all.push(Lora {
                adapter: AdapterRef::Name(name),
                scale: scale.into(),
            });
        }
        bounded(all)
    }
}

fn bounded<E: Error>(all: Vec<Lora>) -> Result<Loras, E> {
    if all.len() > ADAPTERS_MAX {
        return Err(refusal::<Loras, E>());
    }
    Ok(Loras(all))
}

impl From<Loras> for Vec<Lora> {
    fn from(loras: Loras) -> Self {
        loras.0
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn read(value: &Value) -> Result<Vec<Lora>, String> {
        let read = Loras::deserialize(value);
        read.map(|loras| loras.0).map_err(|e| e.to_string())
    }

    fn lora(adapter: AdapterRef, scale: f32) -> Lora {
        Lora { adapter, scale }
    }

    #[test]
    fn all_forms_of_lora_are_read() {
        let named = |name: &str, scale| lora(AdapterRef::Name(name.into()), scale);
        for (given, expected) in [
            (json!([]), vec![]),
            (
                json!([{"id": 0, "scale": 0.5}, {"name": "tone", "scale": 1}]),
                vec![lora(AdapterRef::Id(0), 0.5), named("tone", 1.0)],
            ),
            (json!([{"name": "tone"}]), vec![named("tone", 1.0)]),
            (json!([{"id": null, "name": "0"}]), vec![named("0", 1.0)]),
            (json!({"tone": -0.5}), vec![named("tone", -0.5)]),
        ] {
            assert_eq!(read(&given), Ok(expected), "{given}");
        }
    }

    #[test]
    fn an_adapter_without_name_or_id_is_refused() {
        for given in [
            json!("tone"),
            json!(["tone"]),
            json!([{"scale": 1}]),
            json!([{"id": 1, "name": "x"}]),
            json!([{"id": -1}]),
            json!([{"id": 1, "scale": "much"}]),
            json!({"tone": 1e300}),
            json!({"tone": null}),
            Value::from(vec![json!({"id": 1}); ADAPTERS_MAX + 1]),
        ] {
            assert!(read(&given).is_err(), "{given}");
        }
    }
}
