//! `pull`: downloads a model as the calling user and passes it to the service.

mod args;
mod download;
mod http;
mod huggingface;
pub mod ollama;
pub mod partial;
mod projector;
pub mod reference;

use std::fs::File;
use std::path::Path;

use hearth_gguf::PartName;
use hearth_proto::FailureKind;
use hearth_proto::check_name;
use hearth_proto::paths::MODELS;
use hearth_proto::units::Bytes;
use reqwest::Url;
use serde_json::json;

use crate::assemble;
use crate::bus::{self, Bus};
use crate::catalogue::catalogue;
use crate::error::{CtlError, Result};
use crate::global::Global;
use crate::output;
use crate::progress::Progress;
use crate::space;
use crate::upload::{name_is_free, upload};
pub use args::PullArgs;
use http::Http;
use partial::Partial;
use reference::Reference;

/// A file on a server.
#[derive(Clone, Debug)]
pub struct Remote {
    pub url: Url,
    /// Bearer token; sent to this host only.
    pub token: Option<String>,
    /// For the user.
    pub file_name: String,
    /// Size in bytes, if a list has it.
    pub size: Option<u64>,
    /// Expected SHA-256 in hexadecimal digits, if known.
    pub sha256: Option<String>,
}

/// A model on a server.
#[derive(Clone, Debug)]
pub struct Source {
    /// Default name of the model.
    pub name: String,
    /// Its files: one, or several parts to be merged.
    pub parts: Vec<Remote>,
    /// Its projector, if it takes pictures or sounds.
    pub projector: Option<Remote>,
}

/// Where a download is delivered.
#[derive(Clone, Copy)]
enum Target<'a> {
    /// To the service, under this name.
    Service(&'a Bus, &'a str),
    /// To a file.
    File(&'a Path),
}

/// `hearthctl pull`.
pub async fn run(global: &Global, args: &PullArgs) -> Result {
    let quiet = global.is_json();
    let (reference, catalogue_name) = resolve(&args.reference)?;
    // Checks before the download what would be refused after it.
    if let Some(output) = &args.output {
        check_output(output)?;
    }
    let bus = match args.output {
        None => Some(bus::connect(global).await?),
        Some(_) => None,
    };
    let progress = Progress::new(&format!("looking up {}", args.reference), quiet);
    let http = Http::new(args)?;
    let mut source = find(&http, &reference, args, &progress).await?;
    source.projector = source.projector.filter(|_| !args.no_projector);
    if let (Some(output), Some(_)) = (&args.output, &source.projector) {
        check_output(&projector::output(output))?;
    }
    let name = args.name.clone().or(catalogue_name);
    let name = name.unwrap_or_else(|| source.name.clone());
    if let Some(bus) = &bus {
        check_name(&name).map_err(|e| CtlError::Usage(e.message))?;
        name_is_free(bus, &name).await?;
    }

    let folder = partial::folder()?;
    check_space(&folder, &source, args.output.as_deref(), &progress)?;
    let mut parts = Vec::new();
    for remote in &source.parts {
        parts.push(download::fetch(&http, remote, &folder, &progress).await?);
    }
    let projector = projector::fetch(&http, &source, &parts, &folder, &progress).await?;
    let mut remotes = source.parts.iter().chain(&source.projector);
    if remotes.any(|remote| remote.sha256.is_none()) {
        progress.note("the digest of this model is not known, so the file was not verified; --sha256 verifies the file of a URL");
    }
    let target = match (&bus, &args.output) {
        (Some(bus), _) => Target::Service(bus, &name),
        (None, output) => Target::File(output.as_deref().unwrap_or(Path::new(&name))),
    };
    let size = match target {
        Target::Service(bus, name) => {
            pass_to_service(bus, name, &folder, &parts, &progress).await?
        }
        Target::File(output) => write_output(output, &folder, &parts, &progress).await?,
    };
    let digest = match source.parts.as_slice() {
        [one] => one.sha256.as_deref(),
        _ => None,
    };
    parts.into_iter().for_each(Partial::delete);
    let with = projector::deliver(projector, target, &progress).await?;
    drop(progress);
    report(quiet, target, (size, with), digest)
}

/// Reports the sizes of a model and its projector, and the digest of a model in one file.
fn report(
    quiet: bool,
    target: Target<'_>,
    (size, projector): (u64, Option<u64>),
    digest: Option<&str>,
) -> Result {
    let (key, value, what) = match target {
        Target::File(path) => ("path", json!(path), format!("wrote {}", path.display())),
        Target::Service(_, name) => ("imported", json!(name), format!("imported {name}")),
    };
    if quiet {
        let mut document = json!({ key: value, "size_bytes": size, "sha256": digest });
        if let Some(projector) = projector {
            document["projector_bytes"] = projector.into();
        }
        return output::json(&document);
    }
    let with = projector.map(|bytes| format!(", with its projector, {}", Bytes(bytes)));
    let with = with.unwrap_or_default();
    output::note(&format!("{what}, {}{with}", Bytes(size)));
    Ok(())
}

fn check_output(output: &Path) -> Result {
    if output.exists() {
        let message = format!("{} already exists and is not replaced", output.display());
        return Err(CtlError::Usage(message));
    }
    match output.parent() {
        Some(folder) if !folder.as_os_str().is_empty() && !folder.is_dir() => Err(CtlError::Usage(
            format!("{}: no such directory", folder.display()),
        )),
        _ => Ok(()),
    }
}

/// The reference, and the name if it is one of the catalogue.
fn resolve(text: &str) -> Result<(Reference, Option<String>)> {
    if let Some(reference) = Reference::parse(text)? {
        return Ok((reference, None));
    }
    let all = catalogue().map_err(|e| CtlError::Unexpected(e.to_string()))?;
    let entry = all.into_iter().find(|entry| entry.name == text);
    let entry =
        entry.ok_or_else(|| reference::usage(&format!("{text:?} is not in the catalogue")))?;
    let reference = Reference::parse(&entry.source)?;
    let reference = reference.ok_or(CtlError::Unexpected(entry.source))?;
    Ok((reference, Some(entry.name)))
}

async fn find(
    http: &Http,
    reference: &Reference,
    args: &PullArgs,
    progress: &Progress,
) -> Result<Source> {
    if args.sha256.is_some() && !matches!(reference, Reference::Address(_)) {
        let message = "--sha256 is only for a URL: here the server provides the digest";
        return Err(CtlError::Usage(message.to_owned()));
    }
    match reference {
        Reference::HuggingFace {
            repo,
            revision,
            choice,
        } => huggingface::find(http, (repo, revision, choice), progress).await,
        Reference::Ollama {
            registry,
            repo,
            tag,
        } => ollama::find(http, (registry, repo, tag), progress).await,
        Reference::Address(url) => address(url, args.sha256.as_deref()),
    }
}

/// One file, or all parts that its name implies.
fn address(url: &Url, sha256: Option<&str>) -> Result<Source> {
    let last = url.path_segments().and_then(|mut all| all.next_back());
    let file_name = last
        .filter(|name| !name.is_empty())
        .ok_or_else(|| CtlError::Usage(format!("{url} is not the address of a file")))?;
    let remote = |url: Url, file_name: &str| Remote {
        url,
        token: None,
        file_name: file_name.to_owned(),
        size: None,
        sha256: sha256.map(str::to_owned),
    };
    let Some(part) = PartName::parse(file_name) else {
        let name = file_name.trim_end_matches(".gguf").to_owned();
        return Ok(Source {
            name,
            parts: vec![remote(url.clone(), file_name)],
            projector: None,
        });
    };
    if sha256.is_some() && part.of > 1 {
        let message = "--sha256 is for one file, but this model has several";
        return Err(CtlError::Usage(message.to_owned()));
    }
    let beside = |name: String| {
        let mut url = url.clone();
        if let Ok(mut path) = url.path_segments_mut() {
            path.pop().push(&name);
        }
        remote(url, &name)
    };
    Ok(Source {
        parts: part.all().into_iter().map(beside).collect(),
        name: part.stem,
        projector: None,
    })
}

/// Checks the sizes in the list before the download; for plain URLs the response has the
/// size.
fn check_space(
    folder: &Path,
    source: &Source,
    output: Option<&Path>,
    progress: &Progress,
) -> Result {
    let sizes = |files: &mut dyn Iterator<Item = &Remote>| -> Option<u64> {
        files.map(|remote| remote.size).sum()
    };
    let Some(model) = sizes(&mut source.parts.iter()) else {
        return Ok(());
    };
    let Some(projector) = sizes(&mut source.projector.iter()) else {
        return Ok(());
    };
    let size = model + projector;
    let mut present = 0;
    for remote in source.parts.iter().chain(&source.projector) {
        let mut partial = Partial::open(folder, remote, progress)?;
        present += partial.length();
        partial.suppress_report();
    }
    // The merged file exists in addition to its parts.
    let merged = if source.parts.len() > 1 { model } else { 0 };
    let missing = size.saturating_sub(present) + merged;
    match output {
        Some(_) => space::check(folder, missing),
        None => space::check_both(folder, missing, Path::new(MODELS), size),
    }
}

/// Passes the model to the service; the download stays if the service refuses it.
async fn pass_to_service(
    bus: &Bus,
    name: &str,
    folder: &Path,
    parts: &[Partial<'_>],
    progress: &Progress,
) -> Result<u64> {
    let merged;
    let file = match parts {
        [one] => one.file(),
        several => {
            merged = assemble::merged(folder, files(several)?, progress).await?;
            &merged
        }
    };
    let imported = upload(bus, name, file, progress).await;
    let denied = FailureKind::AccessDenied;
    if let (Err(CtlError::Service { kind, .. }), [one]) = (&imported, parts)
        && *kind == denied
    {
        let path = one.path().display();
        progress.note(&format!(
            "the download is complete; to import it: sudo hearthctl import {path} --name {name}"
        ));
    }
    imported
}

/// Writes the model to the file that the user named.
async fn write_output(
    output: &Path,
    folder: &Path,
    parts: &[Partial<'_>],
    progress: &Progress,
) -> Result<u64> {
    let fail = |source| CtlError::File {
        path: output.to_owned(),
        source,
    };
    let size = |file: &File| file.metadata().map(|m| m.len()).map_err(fail);
    match parts {
        [one] => {
            // A link on the same file system is immediate and never replaces a file.
            match std::fs::hard_link(one.path(), output) {
                Err(e) if e.kind() != std::io::ErrorKind::AlreadyExists => {
                    assemble::copied(one.file(), output, progress).await?;
                }
                linked => linked.map_err(fail)?,
            }
            size(one.file())
        }
        several => {
            let merged = assemble::merged(folder, files(several)?, progress).await?;
            assemble::copied(&merged, output, progress).await?;
            size(&merged)
        }
    }
}

fn files(parts: &[Partial<'_>]) -> Result<Vec<File>> {
    parts.iter().map(|p| Ok(p.file().try_clone()?)).collect()
}
