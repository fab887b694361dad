//! `/v1/audio/transcriptions`.

use axum::Json;
use axum::extract::{DefaultBodyLimit, FromRequest as _, Multipart, Request, State};
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse as _, Response};
use hearth_api::openai::{
    TranscriptFormat, decode_transcription, transcript_text, transcription_response,
};
use hearth_proto::Failure;

use super::body::Body;
use super::chat::set_priority;
use super::{ApiError, Connection};
use crate::daemon::Daemon;

/// The most fields of a form.
const FIELDS_MAX: usize = 32;

pub(super) async fn transcribe(
    State(daemon): State<Daemon>,
    connection: Connection,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let fields = form(&headers, body).await?;
    let mut request = decode_transcription(fields)?;
    set_priority(&mut request.submission, &headers)?;
    let caller = connection.0.caller();
    let stream = daemon
        .dispatcher
        .submit(&caller, request.submission)
        .await?;
    let answer = stream.collect().await?;
    Ok(match request.format {
        TranscriptFormat::Json => Json(transcription_response(&answer)).into_response(),
        TranscriptFormat::Text => format!("{}\n", transcript_text(&answer)).into_response(),
    })
}

/// The fields of a form, names and contents. The body was read already, within its bounds.
async fn form(headers: &HeaderMap, body: Body) -> Result<Vec<(String, Vec<u8>)>, Failure> {
    let damaged = |what: &dyn std::fmt::Display| {
        Failure::invalid(format!(
            "the request is not a valid form ({what}): send multipart/form-data"
        ))
    };
    let mut request = Request::new(body.into());
    if let Some(kind) = headers.get(header::CONTENT_TYPE) {
        request
            .headers_mut()
            .insert(header::CONTENT_TYPE, kind.clone());
    }
    DefaultBodyLimit::disable().apply(&mut request);
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|error| damaged(&error))?;
    let mut fields = Vec::new();
    while let Some(field) = form.next_field().await.map_err(|error| damaged(&error))? {
        if fields.len() == FIELDS_MAX {
            return Err(Failure::invalid(format!(
                "the form has more than {FIELDS_MAX} fields: leave some out"
            )));
        }
        let name = field.name().unwrap_or_default().to_owned();
        let content = field.bytes().await.map_err(|error| damaged(&error))?;
        fields.push((name, content.to_vec()));
    }
    Ok(fields)
}
