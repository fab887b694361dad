//! Scores of documents.

use hearth_proto::{Command, Event, Failure, ModelRef, RequestId, Use};

use super::Dispatcher;
use super::texts::{TEXTS_MAX, TextWork};
use crate::caller::Caller;

/// A request to score documents.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rerank {
    /// The model that scores.
    pub model: ModelRef,
    /// What the documents are compared with.
    pub query: String,
    /// The documents.
    pub documents: Vec<String>,
    /// How many of the best ones are wanted; `None`: all.
    pub top_n: Option<u32>,
}

/// Scored documents, the best match first; equal ones in their order.
#[derive(Clone, Debug, PartialEq)]
pub struct Ranking {
    /// The place of each document in the request, and its score.
    pub results: Vec<(usize, f32)>,
    /// Tokens of all documents, each with the query.
    pub tokens: u32,
    /// The model that scored them.
    pub model: String,
}

impl Dispatcher {
    /// Scores how well documents match a query, with a reranker.
    ///
    /// # Errors
    /// `InvalidArgs` where there is no query, no document or too many, or an empty one;
    /// `NotSupported` where the model is no reranker; `ContextTooLong` naming the document;
    /// `QuotaExceeded`; those of loading; `EngineCrashed`.
    pub async fn rerank(&self, caller: &Caller, request: &Rerank) -> Result<Ranking, Failure> {
        check(request)?;
        let documents = request.documents.iter().cloned();
        let score = Score {
            query: &request.query,
        };
        let worked = self.work_on(caller, &request.model, &score, documents);
        let worked = worked.await?;
        let mut results: Vec<(usize, f32)> = worked.outputs.into_iter().enumerate().collect();
        results.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        results.truncate(most(request.top_n));
        let (user, sender) = (caller.principal, &caller.origin);
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        let model = worked.model.as_str();
        log::info!(
            uid:% = user, caller_unit, sender:%, model,
            documents = request.documents.len(), prompt_tokens = worked.tokens;
            "reranked"
        );
        Ok(Ranking {
            results,
            tokens: worked.tokens,
            model: worked.model,
        })
    }
}

/// The score of each document.
struct Score<'a> {
    query: &'a str,
}

impl TextWork for Score<'_> {
    type Input = String;
    type Output = f32;
    const PURPOSE: Use = Use::Rerank;
    const WHAT: &'static str = "document";
    const FIELD: &'static str = "documents";

    fn bytes(&self, document: &String) -> usize {
        self.query.len() + document.len()
    }

    fn command(&self, id: RequestId, document: String) -> Command {
        Command::Rerank {
            id,
            query: self.query.to_owned(),
            document,
        }
    }

    fn output(event: Event) -> Option<(Self::Output, u32)> {
        match event {
            Event::Ranked { score, tokens, .. } => Some((score, tokens)),
            _ => None,
        }
    }
}

fn most(top_n: Option<u32>) -> usize {
    top_n
        .and_then(|n| usize::try_from(n).ok())
        .unwrap_or(usize::MAX)
}

fn check(request: &Rerank) -> Result<(), Failure> {
    if request.query.is_empty() {
        return Err(Failure::invalid_field("query", "must not be empty"));
    }
    if request.documents.is_empty() || request.documents.len() > TEXTS_MAX {
        let count = request.documents.len();
        let what = format!("has {count} texts: send 1 to {TEXTS_MAX}");
        return Err(Failure::invalid_field("documents", what));
    }
    if let Some(at) = request.documents.iter().position(String::is_empty) {
        return Err(Failure::invalid_field(
            &format!("documents[{at}]"),
            "must not be empty",
        ));
    }
    if request.top_n == Some(0) {
        return Err(Failure::invalid_field("top_n", "must be at least 1"));
    }
    Ok(())
}
