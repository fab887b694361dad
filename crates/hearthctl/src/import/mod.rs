//! `import`: copies a model that is on this computer, in any supported form, into the
//! service's store.

mod folder;
mod llamafile;
pub mod whole;

use std::fs::File;
use std::io::{self, Seek as _};
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::Args;
use hearth_gguf::PartName;
use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use serde_json::json;
use zbus::Fd;

use crate::bus::{Bus, Options};
use crate::error::{CtlError, Result};
use crate::global::Global;
use crate::models::done;
use crate::progress::Progress;
use crate::pull::partial;
use crate::value::text;

/// First bytes of every GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";
/// Update interval of the progress bar.
const IMPORT_POLL: Duration = Duration::from_millis(200);

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A GGUF file (the first part of a split one), a .llamafile, an Ollama store
    /// (~/.ollama/models or /usr/share/ollama/.ollama/models), a Hugging Face cache
    /// (~/.cache/huggingface/hub) or any directory with GGUF files. It is opened as the
    /// calling user, so the service needs no access to it.
    pub path: PathBuf,
    /// Which model of a directory; if it has several and none is given, they are listed.
    pub model: Option<String>,
    /// Name of the model; the file name without `.gguf` if omitted.
    #[arg(long)]
    pub name: Option<String>,
}

/// A model that was found, with its files open.
#[derive(Debug)]
struct Found {
    /// Default name of the model.
    name: String,
    form: Form,
}

/// How it is stored.
#[derive(Debug)]
enum Form {
    /// As a separate file.
    Whole(File),
    /// In several files, in order.
    Parts(Vec<File>),
    /// Inside another file: offset and length.
    Inside(File, u64, u64),
}

/// `hearthctl import`.
pub async fn run(global: &Global, args: &ImportArgs) -> Result {
    let found = find(&args.path, args.model.as_deref())?;
    let name = args.name.clone().unwrap_or(found.name);
    let bus = Bus::connect(global).await?;
    let progress = Progress::new(&format!("importing {name}"), global.json);
    let file = match found.form {
        Form::Whole(file) => file,
        Form::Parts(files) => whole::merged(&partial::folder()?, files, &progress).await?,
        Form::Inside(file, start, length) => {
            whole::taken_out(&partial::folder()?, (file, start, length), &progress).await?
        }
    };
    let size = hand_over(&bus, &name, &file, &progress).await?;
    drop(progress);
    let document = json!({ "imported": name, "size_bytes": size });
    done(
        global.json,
        &document,
        &format!("imported {name}, {}", Bytes(size)),
    )
}

fn find(path: &Path, wanted: Option<&str>) -> Result<Found> {
    if path.is_dir() {
        return folder::find(path, wanted);
    }
    if path.extension().is_some_and(|e| e == "llamafile") {
        return llamafile::find(path, wanted);
    }
    if wanted.is_some() {
        let message = format!(
            "{} is one model: there is nothing to choose",
            path.display()
        );
        return Err(CtlError::Usage(message));
    }
    file(path)
}

/// Opens a GGUF file, and the other parts if it is the first of several.
fn file(path: &Path) -> Result<Found> {
    let name = path.file_name().and_then(|name| name.to_str());
    match name.and_then(PartName::parse) {
        Some(part) if part.of > 1 => {
            let open = |name: String| open_model(&path.with_file_name(name));
            let files = part.all().into_iter().map(open).collect::<Result<_>>()?;
            Ok(Found {
                name: part.stem,
                form: Form::Parts(files),
            })
        }
        _ => Ok(Found {
            form: Form::Whole(open_model(path)?),
            name: model_name(path)?,
        }),
    }
}

/// Passes a complete file to the service and waits until it is verified; returns its
/// size.
///
/// # Errors
/// Those of the service.
pub async fn hand_over(bus: &Bus, name: &str, file: &File, progress: &Progress) -> Result<u64> {
    let size = file.metadata()?.len();
    progress.spin(&format!("importing {name}"));
    let options = Options::new();
    tokio::select! {
        imported = bus.service.import_model(name, Fd::from(file), &options) => imported?,
        never = watch_copy(file, size, progress) => never,
    }
    Ok(size)
}

/// Refuses a name that another model has, before a long operation.
///
/// # Errors
/// `Usage`, or that the service cannot be reached.
pub async fn name_is_free(bus: &Bus, name: &str) -> Result {
    let models = bus.service.list_models().await?;
    if models.iter().any(|model| text(model, "name") == name) {
        return Err(CtlError::Usage(format!(
            "there is a model {name:?} already: remove it first, or choose another name with --name"
        )));
    }
    Ok(())
}

/// Opens the file as the calling user and rejects early what cannot be a model, before
/// gigabytes are copied.
fn open_model(path: &Path) -> Result<File> {
    let (file, _) = open(path)?;
    let mut magic = [0; GGUF_MAGIC.len()];
    // `pread` leaves the file offset alone: the service reads from there.
    if file.read_exact_at(&mut magic, 0).is_err() || magic != GGUF_MAGIC {
        return Err(CtlError::service(
            FailureKind::ModelInvalid,
            format!(
                "{}: not a GGUF file; convert the model first",
                path.display()
            ),
        ));
    }
    Ok(file)
}

/// Opens a regular file; also returns its size.
fn open(path: &Path) -> Result<(File, u64)> {
    let fail = |source| CtlError::File {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(fail)?;
    let metadata = file.metadata().map_err(fail)?;
    if !metadata.is_file() {
        return Err(fail(io::Error::other("not a regular file")));
    }
    Ok((file, metadata.len()))
}

/// The file name without its extension; the service decides whether it is valid.
fn model_name(path: &Path) -> Result<String> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .map(|name| name.strip_suffix(".gguf").unwrap_or(name))
        .filter(|name| !name.is_empty());
    name.map(str::to_owned)
        .ok_or_else(|| CtlError::Usage("the file's name will not do: give one with --name".into()))
}

/// Shows how far the service has read: its descriptor is a duplicate of ours and shares
/// the offset. If the service reads without changing the offset, the spinner stays.
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

/// Selects one by its name; the error lists them if none or more than one matches.
fn choose<'a, T>(
    place: &Path,
    all: &'a [(String, T)],
    wanted: Option<&str>,
    is: impl Fn(&str, &str) -> bool,
) -> Result<&'a (String, T)> {
    let fitting: Vec<&(String, T)> = match wanted {
        None => all.iter().collect(),
        Some(wanted) => all.iter().filter(|(name, _)| is(name, wanted)).collect(),
    };
    let place = place.display();
    let names = |of: &[&(String, T)]| {
        let names: Vec<&str> = of.iter().map(|(name, _)| name.as_str()).collect();
        names.join("\n  ")
    };
    match (fitting.as_slice(), wanted) {
        ([one], _) => Ok(one),
        ([], None) => Err(CtlError::service(
            FailureKind::ModelNotFound,
            format!("{place}: there is no model in it"),
        )),
        ([], Some(wanted)) => Err(CtlError::service(
            FailureKind::ModelNotFound,
            format!(
                "{place}: there is no {wanted:?}, but\n  {}",
                names(&all.iter().collect::<Vec<_>>())
            ),
        )),
        (several, _) => Err(CtlError::Usage(format!(
            "{place}: several models; write one of these behind it:\n  {}",
            names(several)
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
