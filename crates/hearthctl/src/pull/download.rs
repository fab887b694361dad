//! Downloads one file, with retries.

use std::path::Path;

use hearth_proto::FailureKind;
use hearth_proto::units::Bytes;
use reqwest::header::{
    CONTENT_RANGE, ETAG, HeaderMap, HeaderName, HeaderValue, IF_RANGE, LAST_MODIFIED, RANGE,
};
use reqwest::{Response, StatusCode};

use super::Remote;
use super::http::{Http, RequestError, classify};
use super::partial::Partial;
use crate::error::{CtlError, Result};
use crate::progress::Progress;
use crate::space;

/// First bytes of every GGUF file.
const MAGIC: &[u8] = b"GGUF";

/// Downloads `remote` into `folder`, resumes an earlier attempt, and verifies the digest
/// of the whole file.
///
/// # Errors
/// `Download`, `ModelNotFound`, `ModelInvalid` (then the file is deleted), `File`.
pub async fn fetch<'a>(
    http: &Http,
    remote: &Remote,
    folder: &Path,
    progress: &'a Progress,
) -> Result<Partial<'a>> {
    let mut partial = Partial::open(folder, remote, progress)?;
    let mut retries = http.retries();
    while !partial.is_complete() {
        let before = partial.length();
        let Err(error) = resume(http, remote, &mut partial, progress).await else {
            continue;
        };
        if partial.length() > before {
            retries.reset();
            partial.checkpoint()?;
        }
        retries.pause(error, progress).await?;
    }
    partial.checkpoint()?;
    check(partial, remote).await
}

/// Requests the missing part and writes it; succeeds if the file is then complete.
async fn resume(
    http: &Http,
    remote: &Remote,
    partial: &mut Partial<'_>,
    progress: &Progress,
) -> Result<(), RequestError> {
    let headers = range(remote, partial);
    let is_range = !headers.is_empty();
    let token = remote.token.as_deref();
    let mut response = http.get(&remote.url, token, headers).await?;
    if is_range && !continues(&response, partial) {
        if response.status() != StatusCode::OK {
            // The version has changed, or the range is not satisfiable: request the whole
            // file.
            response = http.get(&remote.url, token, HeaderMap::new()).await?;
        }
        begin(&response, remote, partial)?;
        progress.note("the file has changed, or the server does not support ranges: starting over");
    } else if !is_range {
        begin(&response, remote, partial)?;
    }
    if let Some(size) = partial.size() {
        space::check(partial.path(), size - partial.length())?;
    }
    receive(response, remote, partial, progress).await
}

/// The headers that request the rest; empty to request the whole file.
fn range(remote: &Remote, partial: &Partial<'_>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    // Without a validator or a digest, the rest could belong to another version.
    let known = partial.validator().is_some() || remote.sha256.is_some();
    if partial.length() < MAGIC.len() as u64 || !known {
        return headers;
    }
    let mut put = |name, text: &str| {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    };
    put(RANGE, &format!("bytes={}-", partial.length()));
    if let Some(validator) = partial.validator() {
        put(IF_RANGE, validator);
    }
    headers
}

/// Whether the response continues the partial file.
fn continues(response: &Response, partial: &Partial<'_>) -> bool {
    let headers = response.headers();
    let range = text(headers, &CONTENT_RANGE);
    let Some((from, size)) = range.and_then(content_range) else {
        return false;
    };
    let same_version = match (validator(headers), partial.validator()) {
        (Some(now), Some(before)) => now == before,
        _ => true,
    };
    response.status() == StatusCode::PARTIAL_CONTENT
        && from == partial.length()
        && same_version
        && size.zip(partial.size()).is_none_or(|(a, b)| a == b)
}

/// Starts the file over: the response has the whole file.
fn begin(response: &Response, remote: &Remote, partial: &mut Partial<'_>) -> Result {
    if response.status() != StatusCode::OK {
        let message = format!("{}: the server returned {}", remote.url, response.status());
        return Err(CtlError::network(message));
    }
    let size = response.content_length();
    if let Some((here, listed)) = size.zip(remote.size)
        && here != listed
    {
        let message = format!(
            "{}: the file has {here} bytes, but the list states {listed}",
            remote.url
        );
        return Err(CtlError::network(message));
    }
    partial.restart(validator(response.headers()), size.or(remote.size))
}

async fn receive(
    mut response: Response,
    remote: &Remote,
    partial: &mut Partial<'_>,
    progress: &Progress,
) -> Result<(), RequestError> {
    let mut head = Vec::new();
    loop {
        match partial.size() {
            Some(size) => progress.bytes(&remote.file_name, partial.length(), size),
            None => progress.spin(&format!("{} {}", remote.file_name, Bytes(partial.length()))),
        }
        let chunk = response.chunk().await;
        let Some(chunk) = chunk.map_err(|e| classify(&remote.url, &e))? else {
            break;
        };
        if partial.length() < MAGIC.len() as u64 {
            head.extend(chunk.iter().take(MAGIC.len()));
            let at = MAGIC.len().min(head.len());
            if head.get(..at) != MAGIC.get(..at) {
                partial.restart(None, None)?;
                return Err(not_gguf(remote).into());
            }
        }
        if let Some(size) = partial.size()
            && partial.length() + chunk.len() as u64 > size
        {
            partial.restart(None, None)?;
            let message = format!(
                "{}: the server sent more bytes than it announced",
                remote.url
            );
            return Err(CtlError::network(message).into());
        }
        partial.write(&chunk)?;
    }
    if partial.size().is_none() {
        partial.ends_here();
    }
    if partial.is_complete() {
        return Ok(());
    }
    Err(RequestError::Transient {
        why: format!("{}: the connection ended early", remote.file_name),
        advice: "",
        after: None,
    })
}

fn not_gguf(remote: &Remote) -> CtlError {
    let message = format!(
        "{}: the server did not send a GGUF file; is this the URL of a web page?",
        remote.url
    );
    CtlError::service(FailureKind::ModelInvalid, message)
}

async fn check<'a>(mut partial: Partial<'a>, remote: &Remote) -> Result<Partial<'a>> {
    let Some(expected) = &remote.sha256 else {
        return Ok(partial);
    };
    let is = partial.digest().await?;
    if is.eq_ignore_ascii_case(expected) {
        return Ok(partial);
    }
    partial.delete();
    Err(CtlError::service(
        FailureKind::ModelInvalid,
        format!(
            "{}: the SHA-256 of the file is {is} instead of {expected}; the file was deleted, and \
             the next attempt starts over",
            remote.url
        ),
    ))
}

/// The value of `If-Range`: a strong tag, otherwise a date (RFC 9110, 13.1.5).
fn validator(headers: &HeaderMap) -> Option<String> {
    let tag = text(headers, &ETAG).filter(|tag| !tag.starts_with("W/"));
    let found = tag.or_else(|| text(headers, &LAST_MODIFIED));
    found.map(str::to_owned)
}

/// `bytes FROM-TO/SIZE`, of which the size may be unknown.
fn content_range(text: &str) -> Option<(u64, Option<u64>)> {
    let (range, size) = text.strip_prefix("bytes ")?.split_once('/')?;
    let (from, _) = range.split_once('-')?;
    Some((from.trim().parse().ok()?, size.trim().parse().ok()))
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!(content_range("bytes 5-9/10"), Some((5, Some(10))));
        assert_eq!(content_range("bytes 5-9/*"), Some((5, None)));
        assert_eq!(content_range("bytes */10"), None);
        assert_eq!(content_range("lines 5-9/10"), None);
    }

    #[test]
    fn weak_tags_are_not_validators() {
        let with = |tag| HeaderMap::from_iter([(ETAG, HeaderValue::from_static(tag))]);
        assert_eq!(validator(&with("\"a\"")).as_deref(), Some("\"a\""));
        assert_eq!(validator(&with("W/\"a\"")), None);
    }
}
