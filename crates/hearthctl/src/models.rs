//! `models`, `load`, `unload` and `remove`: the service's model store.

use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use serde_json::{Value, json};

use crate::bus::{Bus, Dict, Options};
use crate::error::{CtlError, Result};
use crate::output;
use crate::progress::Progress;
use crate::table::Table;
use crate::value::{dict_to_json, flag, number, text, texts};

/// `hearthctl models`.
pub async fn list(bus: &Bus, json: bool) -> Result {
    let models = bus.store.list().await?;
    if json {
        return output::json(&models.iter().map(dict_to_json).collect::<Value>());
    }
    let mut table = Table::new(
        &[
            "NAME", "KIND", "SIZE", "ARCH", "QUANT", "PARAMS", "CONTEXT", "NOTES",
        ],
        &[2, 5, 6],
    );
    for model in &models {
        table.row(vec![
            text(model, "name").to_owned(),
            text(model, "kind").to_owned(),
            Bytes(number(model, "size_bytes") + number(model, "projector_bytes")).to_string(),
            text(model, "architecture").to_owned(),
            text(model, "quantization").to_owned(),
            count(number(model, "parameters")),
            count_or_blank(number(model, "context_train")),
            notes(model),
        ]);
    }
    if table.is_empty() {
        output::note("no models: install one with `hearthctl pull` or `hearthctl import`");
        return Ok(());
    }
    table.print()
}

/// `hearthctl load`.
pub async fn load(bus: &Bus, json: bool, name: Option<&str>) -> Result {
    let progress = Progress::new("loading the model", json);
    let name = name.unwrap_or_default();
    bus.service.load_model(name, &Options::new()).await?;
    drop(progress);
    let status = bus.properties().await?;
    // The property names the model that was used last.
    let model = Some(name).filter(|name| !name.is_empty());
    let model = model.unwrap_or(text(&status, "Model"));
    if json {
        // The model's own object learns of the end of a load a moment later.
        let mut context = number(&status, "ContextSize");
        if text(&status, "Model") != model {
            // An alias has no object.
            if let Ok(properties) = bus.model_properties(model).await {
                context = number(&properties, "ContextSize");
            }
        }
        output::json(&json!({ "loaded": model, "context_size": context }))
    } else {
        output::note(&format!("{model} is ready"));
        Ok(())
    }
}

/// `hearthctl unload`.
pub async fn unload(bus: &Bus, json: bool, name: Option<&str>) -> Result {
    let Some(name) = name else {
        bus.service.unload_model().await?;
        return done(json, &json!({ "unloaded": true }), "unloaded");
    };
    let unloaded = bus.model(name).await?.unload().await;
    unloaded.map_err(|error| match CtlError::from(error) {
        CtlError::UnknownObject(_) => CtlError::Service {
            kind: FailureKind::ModelNotFound,
            message: format!("there is no model {name:?}: `hearthctl models` lists them"),
        },
        error => error,
    })?;
    let note = format!("{name} is unloaded");
    done(json, &json!({ "unloaded": true, "model": name }), &note)
}

/// `hearthctl remove`.
pub async fn remove(bus: &Bus, json: bool, name: &str) -> Result {
    bus.store.remove(name).await?;
    done(
        json,
        &json!({ "removed": name }),
        &format!("removed {name}"),
    )
}

/// Reports what was done, in the requested form.
pub fn done(json: bool, document: &Value, note: &str) -> Result {
    if json {
        return output::json(document);
    }
    output::note(note);
    Ok(())
}

fn notes(model: &Dict) -> String {
    let mut notes = Vec::new();
    let memory = match text(model, "state") {
        "ready" => format!("loaded ({})", Bytes(number(model, "memory_bytes"))),
        "waiting" => "waiting for memory".to_owned(),
        "unloaded" => String::new(),
        state => state.to_owned(),
    };
    notes.extend(Some(memory.as_str()).filter(|memory| !memory.is_empty()));
    for (key, word) in [
        ("is_default", "default"),
        ("packaged", "packaged"),
        ("vision", "pictures"),
        ("audio", "sound"),
    ] {
        if flag(model, key) {
            notes.push(word);
        }
    }
    let draft = format!("draft model {}", text(model, "draft"));
    if !text(model, "draft").is_empty() {
        notes.push(&draft);
    }
    let bases = texts(model, "bases").join(", ");
    let of = format!("of {bases}");
    if !bases.is_empty() {
        notes.push(&of);
    }
    let problem = text(model, "problem");
    if !problem.is_empty() {
        notes.push(problem);
    }
    notes.join(", ")
}

/// `494 M`, `1.5 B`: the usual notation of model sizes.
fn count(n: u64) -> String {
    let (whole, unit) = match n {
        0 => return String::new(),
        1_000_000_000.. => (n / 100_000_000, "B"),
        1_000_000.. => (n / 100_000, "M"),
        _ => return n.to_string(),
    };
    if whole >= 1000 {
        format!("{} {unit}", whole / 10)
    } else {
        format!("{}.{} {unit}", whole / 10, whole % 10)
    }
}

fn count_or_blank(n: u64) -> String {
    if n == 0 { String::new() } else { n.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_have_the_usual_notation() {
        assert_eq!(count(0), "");
        assert_eq!(count(15_200), "15200");
        assert_eq!(count(24_400_000), "24.4 M");
        assert_eq!(count(494_032_768), "494 M");
        assert_eq!(count(1_543_714_304), "1.5 B");
    }
}
