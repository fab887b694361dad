//! `models`, `load`, `unload`, `import` and `remove`: the service's model store.

use std::fs::File;
use std::io::{self, Seek};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::Duration;

use hearthd::units::Bytes;
use serde_json::{Value, json};
use zbus::Fd;

use crate::args::{Global, ImportArgs};
use crate::bus::{Bus, Dict, Options};
use crate::error::{CtlError, Result};
use crate::output;
use crate::progress::Progress;
use crate::table::Table;
use crate::value::{dict_to_json, flag, number, text};

/// First bytes of every GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";
/// How often the bar of an import moves.
const IMPORT_POLL: Duration = Duration::from_millis(200);

/// `hearthctl models`.
pub async fn list(bus: &Bus, json: bool) -> Result {
    let models = bus.service.list_models().await?;
    if json {
        return output::json(&models.iter().map(dict_to_json).collect::<Value>());
    }
    let mut table = Table::new(
        &[
            "NAME", "SIZE", "ARCH", "QUANT", "PARAMS", "CONTEXT", "NOTES",
        ],
        &[1, 4, 5],
    );
    for model in &models {
        table.row(vec![
            text(model, "name").to_owned(),
            Bytes(number(model, "size_bytes")).to_string(),
            text(model, "architecture").to_owned(),
            text(model, "quantization").to_owned(),
            count(number(model, "parameters")),
            count_or_blank(number(model, "context_train")),
            notes(model),
        ]);
    }
    if table.is_empty() {
        output::note("no models: install one with `hearthctl import FILE.gguf`");
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
    let model = text(&status, "Model");
    if json {
        let context = number(&status, "ContextSize");
        output::json(&json!({ "loaded": model, "context_size": context }))
    } else {
        output::note(&format!("{model} is ready"));
        Ok(())
    }
}

/// `hearthctl unload`.
pub async fn unload(bus: &Bus, json: bool) -> Result {
    bus.service.unload_model().await?;
    done(json, &json!({ "unloaded": true }), "unloaded")
}

/// `hearthctl remove`.
pub async fn remove(bus: &Bus, json: bool, name: &str) -> Result {
    bus.service.remove_model(name).await?;
    done(
        json,
        &json!({ "removed": name }),
        &format!("removed {name}"),
    )
}

/// `hearthctl import`.
pub async fn import(global: &Global, args: &ImportArgs) -> Result {
    let (file, size) = open_model(&args.file)?;
    let name = match &args.name {
        Some(name) => name.clone(),
        None => model_name(&args.file)?,
    };
    let bus = Bus::connect(global).await?;
    let progress = Progress::new(&format!("importing {name}"), global.json);
    let options = Options::new();
    tokio::select! {
        imported = bus.service.import_model(&name, Fd::from(&file), &options) => imported?,
        never = watch_copy(&file, size, &progress) => never,
    }
    drop(progress);
    let document = json!({ "imported": name, "size_bytes": size });
    done(
        global.json,
        &document,
        &format!("imported {name}, {}", Bytes(size)),
    )
}

/// Opens the file as the person who calls, and turns away at once what cannot be
/// a model: copying gigabytes first would be a poor way to find out.
fn open_model(path: &Path) -> Result<(File, u64)> {
    let fail = |source| CtlError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(io::Error::other("not a regular file")));
    }
    let mut magic = [0; GGUF_MAGIC.len()];
    // Positioned, since the service reads from where the descriptor stands.
    if file.read_exact_at(&mut magic, 0).is_err() || magic != GGUF_MAGIC {
        return Err(CtlError::service(
            "ModelInvalid",
            format!(
                "{}: not a GGUF file; convert the model first",
                path.display()
            ),
        ));
    }
    Ok((file, metadata.len()))
}

/// The file's name without its ending; the service decides whether it will do.
fn model_name(path: &Path) -> Result<String> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .map(|name| name.strip_suffix(".gguf").unwrap_or(name))
        .filter(|name| !name.is_empty());
    name.map(str::to_owned)
        .ok_or_else(|| CtlError::Usage("the file's name will not do: give one with --name".into()))
}

/// Shows how far the service has read: its descriptor is a duplicate of ours and
/// shares the position. Where it reads without moving that, the spinner stays.
async fn watch_copy<T>(mut file: &File, size: u64, progress: &Progress) -> T {
    while progress.is_shown() {
        tokio::time::sleep(IMPORT_POLL).await;
        match file.stream_position() {
            Ok(position) if position >= size => progress.spin("checking the model"),
            Ok(position) if position > 0 => progress.bytes("copying", position, size),
            _ => {}
        }
    }
    std::future::pending().await
}

fn done(json: bool, document: &Value, note: &str) -> Result {
    if json {
        return output::json(document);
    }
    output::note(note);
    Ok(())
}

fn notes(model: &Dict) -> String {
    let mut notes = Vec::new();
    for (key, word) in [
        ("loaded", "loaded"),
        ("is_default", "default"),
        ("packaged", "packaged"),
    ] {
        if flag(model, key) {
            notes.push(word);
        }
    }
    let problem = text(model, "problem");
    if !problem.is_empty() {
        notes.push(problem);
    }
    notes.join(", ")
}

/// `494 M`, `1.5 B`: as people name models.
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
    fn parameters_read_as_people_name_models() {
        assert_eq!(count(0), "");
        assert_eq!(count(15_200), "15200");
        assert_eq!(count(24_400_000), "24.4 M");
        assert_eq!(count(494_032_768), "494 M");
        assert_eq!(count(1_543_714_304), "1.5 B");
    }

    #[test]
    fn the_name_comes_from_the_file() {
        let name = |path: &str| model_name(Path::new(path)).ok();
        assert_eq!(
            name("/x/Qwen2.5-0.5B.Q4_0.gguf").as_deref(),
            Some("Qwen2.5-0.5B.Q4_0")
        );
        assert_eq!(name("/x/model.bin").as_deref(), Some("model.bin"));
        assert_eq!(name(".gguf"), None);
        assert_eq!(name("/"), None);
    }
}
