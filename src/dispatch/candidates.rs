//! Several candidates for one request (`n` > 1).

use std::future::poll_fn;
use std::task::{Context, Poll};

use hearth_proto::{Answer, Failure, RequestId, StreamEvent, Submission};

use super::{Dispatcher, Stream};
use crate::caller::Caller;

/// The candidates for one request, as they arrive. Dropping it cancels all of them; if one
/// fails, all fail.
#[derive(Debug)]
pub struct Candidates {
    ids: Vec<RequestId>,
    model: String,
    /// Places in the schemas of the request that the answers may not follow.
    not_enforced: Vec<String>,
    /// By index; `None` for a complete candidate.
    streams: Vec<Option<Stream>>,
    /// Which one is polled first: a fast one does not starve the others.
    first: usize,
}

impl Dispatcher {
    /// Enqueues a request `n` times. A seed in the request applies to the first candidate
    /// and is incremented for the others; without one each candidate draws its own.
    ///
    /// # Errors
    /// As [`Self::submit`]; then none is enqueued.
    pub async fn submit_candidates(
        &self,
        caller: &Caller,
        submission: &Submission,
        n: u32,
    ) -> Result<Candidates, Failure> {
        self.submit_all(caller, std::slice::from_ref(submission), n)
            .await
    }

    /// As [`Self::submit_candidates`] for each of several requests: the candidates for the
    /// first one come first.
    ///
    /// # Errors
    /// As [`Self::submit`]; then none is enqueued.
    pub async fn submit_all(
        &self,
        caller: &Caller,
        submissions: &[Submission],
        n: u32,
    ) -> Result<Candidates, Failure> {
        let mut streams = Vec::new();
        for submission in submissions {
            for index in 0..n.max(1) {
                let mut submission = submission.clone();
                if let Some(seed) = &mut submission.request.sampling.seed {
                    *seed = seed.wrapping_add(index);
                }
                // Dropping the others cancels them.
                streams.push(self.submit(caller, submission).await?);
            }
        }
        let first = submissions.first();
        let request = first.map(|submission| &submission.request);
        let model = streams.first().map(Stream::model).unwrap_or_default();
        Ok(Candidates {
            ids: streams.iter().map(Stream::id).collect(),
            model: model.to_owned(),
            not_enforced: request
                .map(hearth_constraint::not_enforced)
                .unwrap_or_default(),
            streams: streams.into_iter().map(Some).collect(),
            first: 0,
        })
    }
}

impl Candidates {
    /// The requests, by index; there is at least one.
    pub fn ids(&self) -> &[RequestId] {
        &self.ids
    }

    /// The name of the model that answers.
    pub fn model(&self) -> &str {
        &self.model
    }

    /// What of the request's schemas the answers are not guaranteed to follow.
    pub fn not_enforced(&self) -> &[String] {
        &self.not_enforced
    }

    /// The next event, with the index of its candidate; `None` after the last one. After a
    /// `Failed` no more events come.
    pub async fn next(&mut self) -> Option<(usize, StreamEvent)> {
        poll_fn(|cx| self.poll_next(cx)).await
    }

    /// Waits for all candidates.
    ///
    /// # Errors
    /// The first failure of any of them.
    pub async fn collect(mut self) -> Result<Vec<Answer>, Failure> {
        let streams = self.streams.iter().flatten();
        let mut answers: Vec<Answer> = streams.map(Stream::answer).collect();
        while let Some((index, event)) = self.next().await {
            if let Some(answer) = answers.get_mut(index) {
                answer.add(event)?;
            }
        }
        Ok(answers)
    }

    fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Option<(usize, StreamEvent)>> {
        let count = self.streams.len();
        let mut over = true;
        for index in (0..count).map(|n| (self.first + n) % count) {
            let Some(stream) = self.streams.get_mut(index).and_then(Option::as_mut) else {
                continue;
            };
            over = false;
            let Poll::Ready(event) = stream.poll_next(cx) else {
                continue;
            };
            self.first = index + 1;
            let event = event.unwrap_or_else(|| StreamEvent::Failed(Failure::cancelled()));
            match event {
                StreamEvent::Finished { .. } => self.streams[index] = None,
                StreamEvent::Failed(_) => self.streams.clear(),
                _ => {}
            }
            return Poll::Ready(Some((index, event)));
        }
        if over {
            Poll::Ready(None)
        } else {
            Poll::Pending
        }
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc::{self, UnboundedSender};

    use super::*;
    use hearth_proto::{AnswerPart, FinishReason, Usage};

    fn candidates(n: u64) -> (Vec<UnboundedSender<StreamEvent>>, Candidates) {
        let (senders, streams): (Vec<_>, Vec<_>) = (1..=n)
            .map(|id| {
                let (sender, events) = mpsc::unbounded_channel();
                let stream = Stream {
                    id: RequestId(id),
                    model: "m".into(),
                    wants_logprobs: false,
                    events,
                    guard: None,
                };
                (sender, Some(stream))
            })
            .unzip();
        let candidates = Candidates {
            ids: (1..=n).map(RequestId).collect(),
            model: "m".into(),
            not_enforced: Vec::new(),
            streams,
            first: 0,
        };
        (senders, candidates)
    }

    fn token(text: &str) -> StreamEvent {
        StreamEvent::Token {
            parts: vec![AnswerPart::Content(text.into())],
            generated: 1,
            tokens: Vec::new(),
            logprobs: Vec::new(),
        }
    }

    fn finished() -> StreamEvent {
        StreamEvent::Finished {
            reason: FinishReason::Stop,
            stop_string: None,
            usage: Usage::default(),
        }
    }

    #[tokio::test]
    async fn answers_take_turns_and_keep_their_index() {
        let (senders, mut candidates) = candidates(2);
        for text in ["a", "b"] {
            senders[0].send(token(text)).unwrap();
            senders[1].send(token(text)).unwrap();
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.push(candidates.next().await.unwrap());
        }
        let expected = [(0, "a"), (1, "a"), (0, "b"), (1, "b")];
        assert_eq!(seen, expected.map(|(index, text)| (index, token(text))));
        senders[1].send(finished()).unwrap();
        assert_eq!(candidates.next().await, Some((1, finished())));
        senders[0].send(token("c")).unwrap();
        senders[0].send(finished()).unwrap();
        assert_eq!(candidates.next().await, Some((0, token("c"))));
        assert_eq!(candidates.next().await, Some((0, finished())));
        assert_eq!(candidates.next().await, None);
    }

    #[tokio::test]
    async fn one_failure_ends_all() {
        for failure in [Some(Failure::invalid("no")), None] {
            let (mut senders, mut candidates) = candidates(3);
            match &failure {
                Some(failure) => senders[1]
                    .send(StreamEvent::Failed(failure.clone()))
                    .unwrap(),
                None => drop(senders.remove(1)),
            }
            let expected = failure.unwrap_or_else(Failure::cancelled);
            assert_eq!(
                candidates.next().await,
                Some((1, StreamEvent::Failed(expected)))
            );
            assert_eq!(candidates.next().await, None);
            // Their receivers are dropped: that is what cancels.
            assert!(senders.iter().all(UnboundedSender::is_closed));
        }
    }

    #[tokio::test]
    async fn all_answers_in_their_order() {
        let (senders, candidates) = candidates(2);
        senders[1].send(token("second")).unwrap();
        senders[1].send(finished()).unwrap();
        senders[0].send(token("first")).unwrap();
        senders[0].send(finished()).unwrap();
        let answers = candidates.collect().await.unwrap();
        let texts: Vec<_> = answers
            .iter()
            .map(|a| (a.id.0, a.content.as_str()))
            .collect();
        assert_eq!(texts, [(1, "first"), (2, "second")]);
    }
}
