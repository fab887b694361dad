//! Requests to model servers: which errors are retried, and what a refusal means.

use std::time::{Duration, SystemTime};

use hearth_proto::FailureKind;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderMap, HeaderValue, LINK, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::PullArgs;
use crate::error::{CtlError, DownloadError, Result};
use crate::progress::Progress;

/// The longest delay between two attempts, unless the server asks for more.
const PAUSE_MAX: Duration = Duration::from_secs(30);
/// The longest `Retry-After` that is obeyed; a longer one is an error.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);
/// Redirects that are followed for one request.
const REDIRECTS_MAX: usize = 10;
/// Maximum size of a list or manifest; real ones are below 1 MiB.
const DOCUMENT_MAX: usize = 8 << 20;

/// An error of a request.
#[derive(Debug)]
pub enum RequestError {
    /// A transient error.
    Transient {
        /// For the user.
        why: String,
        /// What to check if it persists.
        advice: &'static str,
        /// `Retry-After` of the server.
        after: Option<Duration>,
    },
    /// A permanent error.
    Permanent(CtlError),
}

impl From<CtlError> for RequestError {
    fn from(error: CtlError) -> Self {
        Self::Permanent(error)
    }
}

/// A client and the number of its retries.
#[derive(Debug)]
pub struct Http {
    client: Client,
    tries: u32,
}

impl Http {
    /// A client that trusts the system's certificates and uses the proxies of the
    /// environment.
    pub fn new(args: &PullArgs) -> Result<Self> {
        // Fails if a provider is installed already, which then is the same one.
        _ = rustls::crypto::ring::default_provider().install_default();
        let timeout = Duration::from_secs(args.timeout.into());
        let client = Client::builder()
            .user_agent(concat!("hearthctl/", env!("CARGO_PKG_VERSION")))
            .connect_timeout(timeout)
            .read_timeout(timeout)
            .redirect(Policy::custom(|next| {
                let secure = |url: &Url| url.scheme() == "https";
                let is_downgrade = next.previous().last().is_some_and(secure) && !secure(next.url());
                if next.previous().len() > REDIRECTS_MAX {
                    next.error("too many redirects")
                } else if is_downgrade {
                    next.error("a redirect from https to http is not followed")
                } else {
                    next.follow()
                }
            }))
            .referer(false)
            .build()
            .map_err(|e| CtlError::network(format!(
                    "cannot set up TLS: {}\nAre there certificates? Try: sudo apt install ca-certificates",
                    root(&e)
                )))?;
        Ok(Self {
            client,
            tries: args.retries,
        })
    }

    /// The retry state of one transfer.
    pub fn retries(&self) -> Retries {
        Retries {
            tries: self.tries,
            left: self.tries,
        }
    }

    /// Sends one request; any response other than a success is an error.
    pub async fn get(
        &self,
        url: &Url,
        token: Option<&str>,
        headers: HeaderMap,
    ) -> Result<Response, RequestError> {
        let mut request = self.client.get(url.clone()).headers(headers);
        if let Some(token) = token {
            let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
                .map_err(|_| CtlError::Usage("HF_TOKEN contains invalid characters".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let response = request.send().await.map_err(|e| classify(url, &e))?;
        let status = response.status();
        if status.is_success() || status == StatusCode::RANGE_NOT_SATISFIABLE {
            return Ok(response);
        }
        Err(refused(url, &response, token.is_some()))
    }

    /// Requests a JSON document, with retries; also returns the next page (the `Link`
    /// header's `next`).
    pub async fn document<T: DeserializeOwned>(
        &self,
        url: &Url,
        token: Option<&str>,
        accept: &'static str,
        progress: &Progress,
    ) -> Result<(T, Option<Url>)> {
        let mut retries = self.retries();
        let body = loop {
            match self.body(url, token, accept).await {
                Ok(body) => break body,
                Err(trouble) => retries.pause(trouble, progress).await?,
            }
        };
        let (body, next) = body;
        let document = serde_json::from_slice(&body)
            .map_err(|e| CtlError::network(format!("{url}: unexpected response: {e}")))?;
        Ok((document, next))
    }

    async fn body(
        &self,
        url: &Url,
        token: Option<&str>,
        accept: &'static str,
    ) -> Result<(Vec<u8>, Option<Url>), RequestError> {
        let headers = HeaderMap::from_iter([(ACCEPT, HeaderValue::from_static(accept))]);
        let mut response = self.get(url, token, headers).await?;
        let next = next_page(response.headers()).and_then(|n| response.url().join(&n).ok());
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|e| classify(url, &e))? {
            if body.len() + chunk.len() > DOCUMENT_MAX {
                let message = format!("{url}: the response is too long");
                return Err(CtlError::network(message).into());
            }
            body.extend_from_slice(&chunk);
        }
        Ok((body, next))
    }
}

/// Counts the retries of a transfer.
#[derive(Debug)]
pub struct Retries {
    tries: u32,
    left: u32,
}

impl Retries {
    /// Restores the number of retries, after data was received.
    pub fn reset(&mut self) {
        self.left = self.tries;
    }

    /// Waits before the next try.
    ///
    /// # Errors
    /// A permanent error, or a transient one that exhausted the retries.
    pub async fn pause(&mut self, error: RequestError, progress: &Progress) -> Result {
        let (why, advice, after) = match error {
            RequestError::Permanent(error) => return Err(error),
            RequestError::Transient { why, advice, after } => (why, advice, after),
        };
        if let Some(after) = after.filter(|after| *after > RETRY_AFTER_MAX) {
            let message = format!("{why}; try again in {} min", after.as_secs().div_ceil(60));
            return Err(CtlError::network(message));
        }
        if self.left == 0 {
            let times = match self.tries {
                0 => String::new(),
                n => format!(" (tried {} times)", n + 1),
            };
            let message = format!("{why}{times}{advice}");
            return Err(CtlError::network(message));
        }
        let doubled = Duration::from_secs(1 << (self.tries - self.left).min(5));
        let pause = after.unwrap_or(doubled.min(PAUSE_MAX));
        self.left -= 1;
        let what = format!("{why}; retrying in {} s", pause.as_secs());
        progress.note(&what);
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Classifies an error of the transfer.
pub fn classify(url: &Url, error: &reqwest::Error) -> RequestError {
    let host = url.host_str().unwrap_or_default();
    if error.is_redirect() || error.is_builder() {
        let message = format!("{url}: {}", root(error));
        return CtlError::network(message).into();
    }
    let mut advice = "";
    let why = if error.is_timeout() {
        format!("{host} does not respond")
    } else if error.is_connect() {
        advice = "\nIs this computer online? A proxy is taken from HTTPS_PROXY, HTTP_PROXY and \
                  NO_PROXY";
        format!("cannot reach {host}: {}", root(error))
    } else {
        format!("the connection to {host} failed: {}", root(error))
    };
    // An untrusted certificate is a permanent error.
    if root(error).contains("certificate") {
        return CtlError::network(why).into();
    }
    RequestError::Transient {
        why,
        advice,
        after: None,
    }
}

/// Classifies a response without a success status.
fn refused(url: &Url, response: &Response, with_token: bool) -> RequestError {
    let status = response.status();
    let host = response.url().host_str().unwrap_or_default();
    let outcome = format!("{host} returned {status}");
    let is_transient = matches!(status.as_u16(), 408 | 425 | 429 | 500 | 502 | 503 | 504);
    if is_transient {
        return RequestError::Transient {
            why: outcome,
            advice: "",
            after: retry_after(response.headers(), SystemTime::now()),
        };
    }
    match status.as_u16() {
        404 | 410 => CtlError::service(FailureKind::ModelNotFound, format!("{url}: no such file")),
        401 | 403 => {
            let advice = if with_token {
                "the token in HF_TOKEN has no access: request access on the page of the model"
            } else {
                "the model is private, gated, or does not exist; on Hugging Face accept its \
                 conditions in the browser and set HF_TOKEN"
            };
            CtlError::Download {
                kind: DownloadError::AccessDenied,
                message: format!("{url}: {outcome}: {advice}"),
            }
        }
        _ => CtlError::network(format!("{url}: {outcome}")),
    }
    .into()
}

/// RFC 9110, 10.2.3: seconds, or a date.
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get(RETRY_AFTER)?.to_str().ok()?.trim();
    if let Ok(seconds) = value.parse() {
        return Some(Duration::from_secs(seconds));
    }
    let date = httpdate::parse_http_date(value).ok()?;
    Some(date.duration_since(now).unwrap_or_default())
}

/// RFC 8288: `<…>; rel="next"`.
fn next_page(headers: &HeaderMap) -> Option<String> {
    let links = headers.get(LINK)?.to_str().ok()?;
    links.split(',').find_map(|link| {
        let (target, parameters) = link.split_once(';')?;
        let is_next = parameters.contains("rel=\"next\"") || parameters.contains("rel=next");
        let target = target.trim().strip_prefix('<')?.strip_suffix('>')?;
        is_next.then(|| target.to_owned())
    })
}

/// The innermost cause, which has the specific message.
fn root(error: &dyn std::error::Error) -> String {
    let mut error = error;
    while let Some(source) = error.source() {
        error = source;
    }
    error.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: reqwest::header::HeaderName, value: &'static str) -> HeaderMap {
        HeaderMap::from_iter([(name, HeaderValue::from_static(value))])
    }

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_770);
        let after = |value| retry_after(&headers(RETRY_AFTER, value), now);
        assert_eq!(after("7"), Some(Duration::from_secs(7)));
        let date = "Sun, 06 Nov 1994 08:49:37 GMT";
        assert_eq!(after(date), Some(Duration::from_secs(7)));
        let past = "Sun, 06 Nov 1994 08:49:00 GMT";
        assert_eq!(after(past), Some(Duration::ZERO));
        assert_eq!(after("soon"), None);
        assert_eq!(after("-1"), None);
    }

    #[test]
    fn lists_have_pages() {
        let next = |value| next_page(&headers(LINK, value));
        assert_eq!(
            next("<https://h/a?cursor=x>; rel=\"next\"").as_deref(),
            Some("https://h/a?cursor=x")
        );
        assert_eq!(
            next("</a>; rel=\"prev\", </b>; rel=next").as_deref(),
            Some("/b")
        );
        assert_eq!(next("</a>; rel=\"prev\""), None);
    }
}
