//! Files of a repository on Hugging Face, or on a server with the same API.
//!
//! The list is `/api/models/REPO/tree/REVISION?recursive=true`, in pages; a file is
//! `/REPO/resolve/REVISION/PATH`; `HF_ENDPOINT` and `HF_TOKEN` are those of the library
//! `huggingface_hub`.

mod projector;

use std::path::PathBuf;

use hearth_gguf::PartName;
use hearth_proto::FailureKind;
use reqwest::Url;
use serde::Deserialize;

use super::http::Http;
use super::reference::{Choice, is_gguf};
use super::{Remote, Source};
use crate::error::{CtlError, Result};
use crate::progress::Progress;

const ENDPOINT: &str = "https://huggingface.co";
/// Maximum number of pages of a list; each has a thousand files.
const PAGES_MAX: usize = 20;
/// Preferred quantizations for a small board: first those that are good for their size,
/// then smaller ones, then better ones.
const PREFERRED: [&str; 14] = [
    "Q4_K_M", "Q4_0", "Q4_K_S", "IQ4_NL", "IQ4_XS", "Q4_K_XL", "Q4_1", "Q5_K_M", "Q5_0", "Q6_K",
    "Q8_0", "Q3_K_M", "F16", "BF16",
];
/// GGUF files that belong to a model but are not models: image projectors, importance
/// matrices.
const NO_MODELS: [&str; 2] = ["mmproj", "imatrix"];

/// An entry of the list.
#[derive(Clone, Debug, Deserialize)]
struct Entry {
    path: String,
    #[serde(default)]
    size: u64,
    lfs: Option<Lfs>,
}

/// Git LFS metadata of a file.
#[derive(Clone, Debug, Deserialize)]
struct Lfs {
    /// SHA-256.
    oid: String,
    size: u64,
}

/// One model of a repository: a file, or several parts.
#[derive(Clone, Debug)]
struct Candidate {
    /// The file name without folder, part number and extension.
    stem: String,
    quant: String,
    parts: Vec<Entry>,
}

/// Looks the repository up and selects a model.
pub async fn find(
    http: &Http,
    (repo, revision, choice): (&str, &str, &Choice),
    progress: &Progress,
) -> Result<Source> {
    let endpoint = std::env::var("HF_ENDPOINT").unwrap_or_else(|_| ENDPOINT.to_owned());
    let address = |path: &str| {
        let endpoint = endpoint.trim_end_matches('/');
        Url::parse(&format!("{endpoint}/{path}"))
            .map_err(|e| CtlError::Usage(format!("HF_ENDPOINT {endpoint:?}: {e}")))
    };
    let token = token();
    let mut page = Some(address(&format!(
        "api/models/{repo}/tree/{revision}?recursive=true"
    ))?);
    let mut entries: Vec<Entry> = Vec::new();
    for _ in 0..PAGES_MAX {
        let Some(url) = page.take() else { break };
        let json = "application/json";
        let response = http.document::<Vec<Entry>>(&url, token.as_deref(), json, progress);
        let (more, next) = response.await?;
        entries.extend(more);
        // A page on another host would receive the token.
        page = next.filter(|next| next.origin() == url.origin());
    }
    let projectors = projector::all(&entries);
    let candidates = candidates(entries);
    let chosen = choose(repo, candidates.clone(), choice)?;
    let projector = match projector::choose(projectors, &chosen, &candidates) {
        Ok(projector) => projector,
        Err(names) => {
            progress.note(&format!(
                "the model is downloaded without a projector: none of {names} has its name"
            ));
            None
        }
    };
    let remote = |entry: Entry| {
        Ok(Remote {
            url: address(&format!("{repo}/resolve/{revision}/{}", entry.path))?,
            token: token.clone(),
            file_name: base(&entry.path).to_owned(),
            size: Some(entry.lfs.as_ref().map_or(entry.size, |lfs| lfs.size)),
            sha256: entry.lfs.map(|lfs| lfs.oid),
        })
    };
    Ok(Source {
        projector: projector.map(remote).transpose()?,
        name: chosen.stem,
        parts: chosen
            .parts
            .into_iter()
            .map(remote)
            .collect::<Result<_>>()?,
    })
}

/// `HF_TOKEN`, or the token stored by `hf auth login`.
fn token() -> Option<String> {
    let set = |name| std::env::var(name).ok().filter(|value| !value.is_empty());
    let stored = || {
        let home = || Some(PathBuf::from(set("HOME")?).join(".cache/huggingface"));
        let home = set("HF_HOME").map(PathBuf::from).or_else(home)?;
        let path = set("HF_TOKEN_PATH").map_or_else(|| home.join("token"), PathBuf::from);
        std::fs::read_to_string(path).ok()
    };
    let token = set("HF_TOKEN").or_else(stored)?.trim().to_owned();
    Some(token).filter(|token| !token.is_empty())
}

/// The models among the files.
fn candidates(entries: Vec<Entry>) -> Vec<Candidate> {
    let is_model = |entry: &Entry| {
        let name = base(&entry.path).to_ascii_lowercase();
        is_gguf(&name) && !NO_MODELS.iter().any(|no| name.contains(no))
    };
    let mut entries: Vec<Entry> = entries.into_iter().filter(is_model).collect();
    entries.sort_by(|a, b| a.path.cmp(&b.path));
    let all = entries.clone();
    let mut found = Vec::new();
    for entry in entries {
        let name = base(&entry.path);
        let candidate = match PartName::parse(name) {
            None => Candidate {
                stem: name.trim_end_matches(".gguf").to_owned(),
                quant: quant(name),
                parts: vec![entry],
            },
            Some(PartName { part: 2.., .. }) => continue,
            Some(part) => {
                let folder = entry.path.strip_suffix(name).unwrap_or_default();
                let paths = part.all().into_iter().map(|name| format!("{folder}{name}"));
                let of_path = |path: String| all.iter().find(|e| e.path == path).cloned();
                // Skips a model that lacks a part.
                let Some(parts) = paths.map(of_path).collect() else {
                    continue;
                };
                Candidate {
                    quant: quant(&part.stem),
                    stem: part.stem,
                    parts,
                }
            }
        };
        found.push(candidate);
    }
    found
}

fn choose(repo: &str, candidates: Vec<Candidate>, choice: &Choice) -> Result<Candidate> {
    let list = list(repo, &candidates);
    let path = |c: &Candidate| c.parts.first().map(|e| e.path.clone()).unwrap_or_default();
    let fitting: Vec<Candidate> = match choice {
        Choice::File(file) => {
            let is_it = |c: &&Candidate| c.parts.iter().any(|e| e.path == *file);
            candidates.iter().filter(is_it).cloned().collect()
        }
        Choice::Quant(quant) => with_quant(&candidates, quant),
        Choice::Any if candidates.len() == 1 => candidates,
        Choice::Any => {
            let mut preferred = PREFERRED.iter().map(|quant| with_quant(&candidates, quant));
            preferred
                .find(|found| !found.is_empty())
                .unwrap_or_default()
        }
    };
    let what = match choice {
        Choice::File(name) | Choice::Quant(name) => format!("no {name}"),
        Choice::Any => "no preferred quantization".to_owned(),
    };
    match fitting.as_slice() {
        [one] => Ok(one.clone()),
        [] => Err(CtlError::service(
            FailureKind::ModelNotFound,
            format!("{repo} has {what}; {list}"),
        )),
        several => Err(CtlError::Usage(format!(
            "{repo} has several such files: give one as hf:{repo}:FILE: {}",
            several.iter().map(path).collect::<Vec<_>>().join(", ")
        ))),
    }
}

fn with_quant(candidates: &[Candidate], quant: &str) -> Vec<Candidate> {
    let same = |c: &&Candidate| c.quant.eq_ignore_ascii_case(quant);
    candidates.iter().filter(same).cloned().collect()
}

fn list(repo: &str, candidates: &[Candidate]) -> String {
    if candidates.is_empty() {
        return format!(
            "it has no GGUF files: look for a repository like {repo}-GGUF, often of another \
             author"
        );
    }
    let name = |c: &Candidate| match c.quant.as_str() {
        "" => c.stem.clone(),
        quant => quant.to_owned(),
    };
    let names: Vec<String> = candidates.iter().map(name).collect();
    format!("it has: {}", names.join(", "))
}

/// The quantization at the end of a file name, e.g. `Q4_K_M`; empty if there is none.
fn quant(name: &str) -> String {
    let name = name.trim_end_matches(".gguf").to_ascii_uppercase();
    let words = name.split(['-', '.']).rev();
    let is_quant = |word: &&str| {
        let digit = |rest: &str| rest.starts_with(|c: char| c.is_ascii_digit());
        let after = |prefix: &str| word.strip_prefix(prefix).is_some_and(digit);
        after("Q")
            || after("IQ")
            || after("TQ")
            || after("MXFP")
            || matches!(*word, "F16" | "BF16" | "F32" | "FP16" | "FP32")
    };
    let mut words = words.filter(is_quant);
    match words.next().unwrap_or_default() {
        "FP16" => "F16".to_owned(),
        "FP32" => "F32".to_owned(),
        word => word.to_owned(),
    }
}

fn base(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn list(paths: &[&str]) -> Vec<Candidate> {
        let entry = |path: &&str| Entry {
            path: (*path).to_owned(),
            size: 1,
            lfs: None,
        };
        candidates(paths.iter().map(entry).collect())
    }

    fn chosen(paths: &[&str], choice: &Choice) -> Result<String> {
        let found = choose("org/repo", list(paths), choice)?;
        Ok(found
            .parts
            .first()
            .map(|e| e.path.clone())
            .unwrap_or_default())
    }

    #[test]
    fn quantizations_are_at_the_end_of_names() {
        for (name, expected) in [
            ("Llama-3.2-1B-Instruct-Q4_K_M.gguf", "Q4_K_M"),
            ("qwen2.5-0.5b-instruct-q4_0.gguf", "Q4_0"),
            ("tinyllama-1.1b-chat-v1.0.Q8_0.gguf", "Q8_0"),
            ("gemma-3-1b-it-UD-IQ2_XXS.gguf", "IQ2_XXS"),
            ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
            ("Q4-model-BF16.gguf", "BF16"),
            ("model.gguf", ""),
            ("quick-query.gguf", ""),
        ] {
            assert_eq!(quant(name), expected, "{name}");
        }
    }

    #[test]
    fn the_best_for_a_small_board_is_the_default() {
        let files = [
            "a-Q8_0.gguf",
            "a-Q4_0.gguf",
            "a-Q4_K_M.gguf",
            "mmproj-a-F16.gguf",
        ];
        assert_eq!(chosen(&files, &Choice::Any).expect("one"), "a-Q4_K_M.gguf");
        assert_eq!(
            chosen(&files[..2], &Choice::Any).expect("one"),
            "a-Q4_0.gguf"
        );
        let quant = Choice::Quant("q8_0".into());
        assert_eq!(chosen(&files, &quant).expect("one"), "a-Q8_0.gguf");
        let only = ["README.md", "odd.gguf"];
        assert_eq!(chosen(&only, &Choice::Any).expect("one"), "odd.gguf");
        let file = Choice::File("a-Q4_0.gguf".into());
        assert_eq!(chosen(&files, &file).expect("one"), "a-Q4_0.gguf");
    }

    #[test]
    fn an_error_lists_what_exists() {
        let missing = chosen(
            &["a-Q8_0.gguf", "a-Q2_K.gguf"],
            &Choice::Quant("Q4_0".into()),
        );
        let said = missing.expect_err("none").to_string();
        assert!(
            said.contains("no Q4_0") && said.contains("Q2_K, Q8_0"),
            "{said}"
        );
        let none = chosen(&["model.safetensors"], &Choice::Any).expect_err("none");
        assert!(none.to_string().contains("no GGUF files"), "{none}");
        let two = ["a-Q4_K_M.gguf", "b-Q4_K_M.gguf"];
        let said = chosen(&two, &Choice::Any).expect_err("two").to_string();
        assert!(
            said.contains("hf:org/repo:FILE") && said.contains("b-Q4_K_M.gguf"),
            "{said}"
        );
        let odd = chosen(&["a.gguf", "b.gguf"], &Choice::Any).expect_err("which?");
        assert!(odd.to_string().contains("a, b"), "{odd}");
    }

    #[test]
    fn parts_are_one_model() {
        let files = [
            "q/a-q4_k_m-00002-of-00002.gguf",
            "q/a-q4_k_m-00001-of-00002.gguf",
            "b-q4_0-00001-of-00002.gguf",
        ];
        let found = list(&files);
        assert_eq!(found.len(), 1, "one lacks a part: {found:?}");
        let paths: Vec<&str> = found[0].parts.iter().map(|e| e.path.as_str()).collect();
        assert_eq!(paths, [files[1], files[0]]);
        assert_eq!(
            (found[0].stem.as_str(), found[0].quant.as_str()),
            ("a-q4_k_m", "Q4_K_M")
        );
    }
}
