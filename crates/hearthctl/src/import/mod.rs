//! `import`: copies a model that is on this computer, in any supported form, into the
//! service's store.

mod folder;
mod llamafile;
mod projector;

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use clap::Args;
use hearth_gguf::PartName;
use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use serde_json::json;

use self::projector::Projector;
use crate::assemble;
use crate::bus;
use crate::error::{CtlError, Result};
use crate::global::Global;
use crate::models::done;
use crate::progress::Progress;
use crate::pull::partial;
use crate::upload::upload;

/// First bytes of every GGUF file.
const GGUF_MAGIC: [u8; 4] = *b"GGUF";

#[derive(Debug, Args)]
pub struct ImportArgs {
    /// A GGUF file (the first part of a split one), a .llamafile, an Ollama store
    /// (~/.ollama/models or /usr/share/ollama/.ollama/models), a Hugging Face cache
    /// (~/.cache/huggingface/hub) or any directory with GGUF files. It is opened as the
    /// calling user, so the service needs no access to it.
    pub path: PathBuf,
    /// Which model of a directory; if it has several and none is given, they are listed.
    pub model: Option<String>,
    /// The model's projector (mmproj file), with which it takes pictures. If omitted, the only
    /// one beside the model that fits it.
    #[arg(long, value_name = "MMPROJ")]
    pub projector: Option<PathBuf>,
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
    /// Its projector, where the store says which it is.
    projector: Option<PathBuf>,
}

/// How it is stored.
#[derive(Debug)]
enum Form {
    /// As a separate file.
    Complete(File),
    /// In several files, in order.
    Parts(Vec<File>),
    /// Inside another file: offset and length.
    Inside(File, u64, u64),
}

/// `hearthctl import`.
pub async fn run(global: &Global, args: &ImportArgs) -> Result {
    let found = find(&args.path, args.model.as_deref())?;
    let projector = args.projector.as_deref().or(found.projector.as_deref());
    let projector = Projector::find(projector, &args.path)?;
    let name = args.name.clone().unwrap_or(found.name);
    let bus = bus::connect(global).await?;
    let progress = Progress::new(&format!("importing {name}"), global.is_json());
    let file = match found.form {
        Form::Complete(file) => file,
        Form::Parts(files) => assemble::merged(&partial::folder()?, files, &progress).await?,
        Form::Inside(file, start, length) => {
            assemble::extracted(&partial::folder()?, (file, start, length), &progress).await?
        }
    };
    let size = upload(&bus, &name, &file, &progress).await?;
    let with = match &projector {
        Some(projector) => Some(projector.upload(&bus, &name, &progress).await?),
        None => None,
    };
    drop(progress);
    let mut document = json!({ "imported": name, "size_bytes": size });
    let mut note = format!("imported {name}, {}", Bytes(size));
    if let Some(with) = with {
        document["projector_bytes"] = with.into();
        note = format!("{note}, with its projector, {}", Bytes(with));
    }
    done(global.is_json(), &document, &note)
}

fn find(path: &Path, wanted: Option<&str>) -> Result<Found> {
    if path.is_dir() {
        return folder::find(path, wanted);
    }
    if path.extension().is_some_and(|e| e == "llamafile") {
        return llamafile::find(path, wanted);
    }
    if wanted.is_some() {
        let message = format!("{} contains one model: give its path only", path.display());
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
                projector: None,
            })
        }
        _ => Ok(Found {
            form: Form::Complete(open_model(path)?),
            name: model_name(path)?,
            projector: None,
        }),
    }
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
    name.map(str::to_owned).ok_or_else(|| {
        CtlError::Usage("the file name cannot be the name of a model: give one with --name".into())
    })
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
            format!("{place} contains no model"),
        )),
        ([], Some(wanted)) => Err(CtlError::service(
            FailureKind::ModelNotFound,
            format!(
                "{place} contains no {wanted:?}, but\n  {}",
                names(&all.iter().collect::<Vec<_>>())
            ),
        )),
        (several, _) => Err(CtlError::Usage(format!(
            "{place} contains several models; add the name of one:\n  {}",
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
