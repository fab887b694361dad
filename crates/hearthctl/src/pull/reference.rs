//! Parsing of references to remote models.

use std::path::Path;

use reqwest::Url;

use crate::error::{CtlError, Result};

/// The supported forms.
const FORMS: &str = "give hf:ORG/REPO[:QUANT], ollama:NAME[:TAG], the http(s) URL of a GGUF \
                     file, or a name that `hearthctl models --fit` lists";
/// The registry of Ollama's library.
const OLLAMA_REGISTRY: &str = "https://registry.ollama.ai";
/// Hosts whose file URLs have the form of Hugging Face's.
const HUGGING_FACE: [&str; 2] = ["huggingface.co", "hf.co"];

/// A remote model.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reference {
    /// A repository on Hugging Face or a server with the same API.
    HuggingFace {
        /// `ORG/REPO`.
        repo: String,
        /// Branch, tag or commit.
        revision: String,
        /// Which of its files.
        choice: Choice,
    },
    /// A name in an Ollama registry.
    Ollama {
        /// Scheme and host.
        registry: Url,
        /// `NAMESPACE/NAME`.
        repo: String,
        /// `latest` if none is given.
        tag: String,
    },
    /// The URL of a file.
    Address(Url),
}

/// Selects a file of a repository.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Choice {
    /// The most suitable one for a small board.
    Any,
    /// The one of this quantization.
    Quant(String),
    /// The one of this name.
    File(String),
}

impl Reference {
    /// Parses a reference; `None` if it can only be a name of the catalogue.
    ///
    /// # Errors
    /// `Usage`, with the supported forms.
    pub fn parse(text: &str) -> Result<Option<Self>> {
        if let Some(rest) = text.strip_prefix("hf:") {
            return hugging_face(rest).map(Some);
        }
        if let Some(rest) = text.strip_prefix("ollama:") {
            return ollama(rest).map(Some);
        }
        if text.starts_with("http://") || text.starts_with("https://") {
            let url = Url::parse(text).map_err(|e| usage(&format!("{text}: {e}")))?;
            return Ok(Some(of_repository(&url).unwrap_or(Self::Address(url))));
        }
        if text.contains('/') || text.is_empty() {
            return Err(usage(&format!("{text:?} is not a reference to a model")));
        }
        Ok(None)
    }
}

/// Whether a file of this name is a GGUF model.
pub fn is_gguf(name: &str) -> bool {
    Path::new(name).extension().is_some_and(|e| e == "gguf")
}

/// An error that lists the supported forms.
pub fn usage(what: &str) -> CtlError {
    CtlError::Usage(format!("{what}: {FORMS}"))
}

/// `ORG/REPO[@REVISION][:QUANT or FILE]`.
fn hugging_face(text: &str) -> Result<Reference> {
    let (name, choice) = match text.split_once(':') {
        Some((name, file)) if is_gguf(file) => (name, Choice::File(file.to_owned())),
        Some((name, quant)) => (name, Choice::Quant(quant.to_owned())),
        None => (text, Choice::Any),
    };
    let (repo, revision) = name.split_once('@').unwrap_or((name, "main"));
    let is_repository = repo
        .split_once('/')
        .is_some_and(|(org, repo)| is_name(org) && is_name(repo));
    let empty = matches!(&choice, Choice::Quant(quant) if quant.is_empty());
    if !is_repository || empty || revision.is_empty() {
        return Err(usage(&format!("hf:{text} is not the name of a repository")));
    }
    Ok(Reference::HuggingFace {
        repo: repo.to_owned(),
        revision: revision.to_owned(),
        choice,
    })
}

/// `[[SCHEME://]HOST/[NAMESPACE/]]NAME[:TAG]`, parsed as Ollama does.
fn ollama(text: &str) -> Result<Reference> {
    let invalid = || usage(&format!("ollama:{text} is not the name of a model"));
    let (scheme, rest) = match text.split_once("://") {
        Some((scheme @ ("http" | "https"), rest)) => (Some(scheme), rest),
        Some(_) => return Err(invalid()),
        None => (None, text),
    };
    let (path, tag) = match rest.rsplit_once(':') {
        // A colon before a slash belongs to the host's port.
        Some((path, tag)) if !tag.contains('/') => (path, tag),
        _ => (rest, "latest"),
    };
    let parts: Vec<&str> = path.split('/').collect();
    let (host, repo) = match parts.as_slice() {
        [name] if scheme.is_none() => (None, format!("library/{name}")),
        [namespace, name] if scheme.is_none() => (None, format!("{namespace}/{name}")),
        [host, name] => (Some(*host), format!("library/{name}")),
        [host, namespace, name] => (Some(*host), format!("{namespace}/{name}")),
        _ => return Err(invalid()),
    };
    let named = parts.iter().skip(usize::from(host.is_some()));
    if !named.chain([&tag]).all(|part| is_name(part)) {
        return Err(invalid());
    }
    let registry = match (host, scheme) {
        (None, _) => Url::parse(OLLAMA_REGISTRY),
        (Some(host), Some(scheme)) => Url::parse(&format!("{scheme}://{host}")),
        (Some(host), None) => Url::parse(&format!("https://{host}")).and_then(|url| {
            // Plain HTTP is safe on the loopback interface.
            if is_loopback(&url) {
                Url::parse(&format!("http://{host}"))
            } else {
                Ok(url)
            }
        }),
    };
    Ok(Reference::Ollama {
        registry: registry.map_err(|_| invalid())?,
        repo,
        tag: tag.to_owned(),
    })
}

/// A URL of a file in a repository, as a browser shows it; the API then provides its
/// digest.
fn of_repository(url: &Url) -> Option<Reference> {
    let ours = std::env::var("HF_ENDPOINT").ok();
    let ours = ours.and_then(|endpoint| Url::parse(&endpoint).ok());
    let known = HUGGING_FACE.contains(&url.host_str()?)
        || ours.is_some_and(|ours| ours.origin() == url.origin());
    let segments: Vec<&str> = url.path_segments()?.collect();
    let [org, repo, "resolve" | "blob", revision, file @ ..] = segments.as_slice() else {
        return None;
    };
    let file = file.join("/");
    // Paths with percent-escapes are not converted.
    let known = known && is_gguf(&file) && !url.path().contains('%');
    known.then(|| Reference::HuggingFace {
        repo: format!("{org}/{repo}"),
        revision: (*revision).to_owned(),
        choice: Choice::File(file),
    })
}

/// Whether the host is the loopback interface.
pub fn is_loopback(url: &Url) -> bool {
    let host = url.host_str().unwrap_or_default();
    let host = host.trim_start_matches('[').trim_end_matches(']');
    host == "localhost"
        || host
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback())
}

fn is_name(part: &str) -> bool {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    !part.is_empty() && !part.starts_with('.') && part.chars().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Reference {
        Reference::parse(text).expect("good").expect("a reference")
    }

    #[test]
    fn repositories() {
        let of = |revision: &str, choice| Reference::HuggingFace {
            repo: "org/repo-GGUF".into(),
            revision: revision.into(),
            choice,
        };
        assert_eq!(parse("hf:org/repo-GGUF"), of("main", Choice::Any));
        let quant = Choice::Quant("Q4_0".into());
        assert_eq!(parse("hf:org/repo-GGUF:Q4_0"), of("main", quant));
        let file = || Choice::File("sub/x.gguf".into());
        assert_eq!(parse("hf:org/repo-GGUF@v1:sub/x.gguf"), of("v1", file()));
        let link = "https://huggingface.co/org/repo-GGUF/blob/main/sub/x.gguf?download=true";
        assert_eq!(parse(link), of("main", file()));
    }

    #[test]
    fn registries() {
        for (text, registry, repo, tag) in [
            ("qwen", OLLAMA_REGISTRY, "library/qwen", "latest"),
            ("llama3.2:1b", OLLAMA_REGISTRY, "library/llama3.2", "1b"),
            ("me/mine:x", OLLAMA_REGISTRY, "me/mine", "x"),
            ("hf.co/org/repo:Q4_0", "https://hf.co", "org/repo", "Q4_0"),
            (
                "localhost:5000/a/b",
                "http://localhost:5000",
                "a/b",
                "latest",
            ),
            ("127.0.0.1:1/a/b:c", "http://127.0.0.1:1", "a/b", "c"),
            ("http://nas/a/b:c", "http://nas", "a/b", "c"),
            ("nas.lan/a/b:c", "https://nas.lan", "a/b", "c"),
        ] {
            let expected = Reference::Ollama {
                registry: Url::parse(registry).expect("good"),
                repo: repo.into(),
                tag: tag.into(),
            };
            assert_eq!(parse(&format!("ollama:{text}")), expected, "{text}");
        }
    }

    #[test]
    fn invalid_references_are_refused() {
        for text in [
            "",
            "hf:",
            "hf:repo",
            "hf:org/repo:",
            "hf:org/re po",
            "hf:a/b/c",
            "ollama:",
            "ollama:a:",
            "ollama:a/b/c/d",
            "ollama:ftp://h/a/b",
            "ollama:h/../b",
            "http://",
            "ftp://host/x.gguf",
            "some/path.gguf",
        ] {
            assert!(Reference::parse(text).is_err(), "{text}");
        }
        assert_eq!(Reference::parse("qwen2.5-0.5b").expect("good"), None);
    }
}
