//! Scores of documents: one document at a time, so that answers continue in between.

use hearth_proto::{Command, Event, Failure, FailureKind, ModelRef, Priority, Use};

use super::Dispatcher;
use super::accept::check_bytes;
use super::embed::TEXTS_MAX;
use crate::caller::Caller;
use crate::engines::{engine_died, stopping};

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
        let config = self.shared.config.get();
        if let (_, Some(kind)) = self.resolve(&request.model, Use::Rerank).await? {
            kind.check(Use::Rerank)?;
        }
        let (now, user) = (self.now(), caller.principal);
        self.shared
            .requests
            .lock()
            .check_tokens(now, user, &config.limits)?;
        let mut ranking = Ranking {
            results: Vec::with_capacity(request.documents.len()),
            tokens: 0,
            model: self
                .shared
                .pool
                .ready_or_load(caller, &request.model, Use::Rerank)
                .await?,
        };
        for (at, document) in request.documents.iter().enumerate() {
            if self.shared.requests.lock().draining {
                return Err(stopping());
            }
            let bytes = request.query.len() + document.len();
            check_bytes(bytes, config.queue.prompt_max_bytes)?;
            let scored = self.score(caller, &ranking.model, &request.query, document);
            let (score, tokens) = scored.await.map_err(|failure| in_document(failure, at))?;
            ranking.tokens = ranking.tokens.saturating_add(tokens);
            ranking.results.push((at, score));
        }
        ranking.results.sort_by(|(_, a), (_, b)| b.total_cmp(a));
        ranking.results.truncate(most(request.top_n));
        let caller_unit = caller.unit.as_deref().unwrap_or_default();
        let (sender, model) = (&caller.origin, ranking.model.as_str());
        log::info!(
            uid:% = user, caller_unit, sender:%, model,
            documents = request.documents.len(), prompt_tokens = ranking.tokens;
            "reranked"
        );
        Ok(ranking)
    }

    /// The score of one document and the number of its tokens with the query.
    async fn score(
        &self,
        caller: &Caller,
        model: &str,
        query: &str,
        document: &str,
    ) -> Result<(f32, u32), Failure> {
        // Another request may have loaded another model meanwhile.
        let wanted = ModelRef::named(model);
        let pool = &self.shared.pool;
        pool.ready_or_load(caller, &wanted, Use::Rerank).await?;
        let sets_keep_alive = caller.keep.is_some();
        let command = |id| Command::Rerank {
            id,
            query: query.to_owned(),
            document: document.to_owned(),
        };
        let reply = self.call_engine(model, Priority::Background, command, sets_keep_alive);
        let Event::Ranked { score, tokens, .. } = reply.await? else {
            return Err(engine_died());
        };
        let (now, uid) = (self.now(), caller.principal.uid());
        self.shared.requests.lock().quotas.charge(now, uid, tokens);
        self.shared.metrics.computed(Some(uid), tokens);
        Ok((score, tokens))
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

fn in_document(mut failure: Failure, at: usize) -> Failure {
    if failure.kind == FailureKind::ContextTooLong {
        failure.message = format!("document {at}: {}", failure.message);
    }
    failure
}
