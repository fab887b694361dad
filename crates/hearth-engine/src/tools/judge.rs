//! Evaluates a model on a text and on questions.

use std::sync::Arc;

use hearth_proto::{
    Divergence, EngineShape, Failure, JudgeJob, JudgeResult, Reference, TextScore, Use,
};

use super::questions::answer_all;
use super::reference::{ReferenceReader, ReferenceWriter, fingerprint};
use super::score::{self, Mean};
use super::text::{Text, parts};
use super::{Report, chat, load_request};
use crate::as_u32;
use crate::backend::{
    Backend as _, Decoder as _, KvStore as _, Loader as _, Part, Token, Tokenizer as _, no_logits,
};
use crate::llama::{LlamaLoader, LlamaModelBackend};
use crate::worker::Worker;

/// Context for questions: no question of a question file is longer.
const QUESTIONS_CONTEXT: u32 = 2048;

/// Evaluates a model on the job's text and questions.
///
/// The text is cut into chunks of one context each, and the second half of each is
/// scored, so that every scored token has at least half a context before it: as
/// llama.cpp's `llama-perplexity` does.
///
/// # Errors
/// Those of loading, `InvalidArgs` where the text is too short, `Io` of the reference's
/// file, `Internal`.
pub fn judge(
    loader: LlamaLoader,
    job: &JudgeJob,
    report: Report<'_>,
) -> Result<JudgeResult, Failure> {
    let loader = loader.with_outputs(EngineShape::DEFAULT.micro_batch);
    let mut context = job.context;
    if !job.questions.is_empty() {
        context = context.max(QUESTIONS_CONTEXT);
    }
    let request = load_request(&job.model, context, job.threads);
    let mut backend = loader.load(&request, &Arc::default(), Box::new(|_| ()))?;
    backend.info().kind.check(Use::Completion)?;
    let text = score_text(&mut backend, job, report)?;
    // The questions start with an empty cache.
    backend.remove(0, 0);
    let info = backend.info().clone();
    let accuracy = if job.questions.is_empty() {
        None
    } else {
        let chat = chat(&backend)?;
        let mut worker = Worker::new(backend, chat, None, 0);
        let all = job.questions.len() as u64;
        let mut told = |done| report("answering questions", done, all);
        Some(answer_all(
            &mut worker,
            &request.limits,
            &job.questions,
            &mut told,
        )?)
    };
    Ok(JudgeResult {
        model: info.description,
        parameters: info.parameters,
        text,
        accuracy,
    })
}

fn score_text(
    backend: &mut LlamaModelBackend,
    job: &JudgeJob,
    report: Report<'_>,
) -> Result<TextScore, Failure> {
    let Text { chunks, tokens } = Text::read(backend, &job.text, job.context)?;
    let fingerprint = fingerprint(backend, &tokens);
    let vocab = backend.info().vocab_size;
    let (mut writer, mut comparison, mut no_divergence) = (None, None, None);
    match &job.reference {
        None => {}
        Some(Reference::Make(path)) => {
            writer = Some(ReferenceWriter::create(path, vocab, fingerprint)?);
        }
        Some(Reference::Compare(path)) => match ReferenceReader::open(path, vocab, fingerprint)? {
            Ok(reference) => comparison = Some(Comparison::new(reference)),
            Err(why) => no_divergence = Some(why),
        },
    }
    let mut loss = Mean::default();
    let (mut bytes, mut scored) = (0, 0u64);
    let total = chunks.len() as u64;
    for (done, chunk) in (1..).zip(&chunks) {
        backend.remove(0, 0);
        for (part, logits_of) in batches(chunk, chunk.len() / 2) {
            backend.decode(&part)?;
            for (at, next) in logits_of {
                let logits = backend.logits(at);
                let sum = score::log_sum(logits);
                loss.add(loss_of(logits, sum, next)?);
                scored += 1;
                if let Some(writer) = &mut writer {
                    writer.put(&score::to_store(logits, sum))?;
                }
                if let Some(comparison) = &mut comparison {
                    comparison.add(logits, sum)?;
                }
                bytes += backend.piece(next).len() as u64;
            }
        }
        report("reading the text", done, total);
    }
    if let Some(writer) = writer {
        writer.finish()?;
    }
    let perplexity = loss.mean().exp();
    #[expect(clippy::cast_precision_loss, reason = "a text is far below 2^52 bytes")]
    let byte_perplexity = (loss.sum() / bytes.max(1) as f64).exp();
    Ok(TextScore {
        scored_tokens: scored,
        scored_bytes: bytes,
        chunk_tokens: as_u32(chunks[0].len()),
        perplexity,
        perplexity_error: perplexity * loss.error(),
        byte_perplexity,
        divergence: comparison.map(|comparison| comparison.divergence()),
        no_divergence,
    })
}

/// The negative log-probability of a token.
fn loss_of(logits: &[f32], log_sum: f64, token: Token) -> Result<f64, Failure> {
    let logit = usize::try_from(token).ok().and_then(|n| logits.get(n));
    let loss = log_sum - f64::from(*logit.ok_or_else(no_logits)?);
    if loss.is_finite() {
        Ok(loss)
    } else {
        Err(no_logits())
    }
}

/// The divergence from a reference, as far as it was computed.
struct Comparison {
    reference: ReferenceReader,
    divergence: Mean,
    agreement: Mean,
}

impl Comparison {
    fn new(reference: ReferenceReader) -> Self {
        Self {
            reference,
            divergence: Mean::default(),
            agreement: Mean::default(),
        }
    }

    /// Compares the distributions at the next position.
    fn add(&mut self, logits: &[f32], log_sum: f64) -> Result<(), Failure> {
        let (divergence, is_same) = score::diverge(self.reference.next()?, logits, log_sum);
        self.divergence.add(divergence);
        self.agreement.add(f64::from(u8::from(is_same)));
        Ok(())
    }

    fn divergence(&self) -> Divergence {
        Divergence {
            mean: self.divergence.mean(),
            error: self.divergence.error(),
            agreement: self.agreement.mean(),
            agreement_error: self.agreement.error(),
        }
    }
}

/// A batch, the positions in it that are scored, and the token that follows each.
type Scored = (Vec<Part>, Vec<(usize, Token)>);

/// Splits a chunk into batches, each with the positions in it that are scored, and the
/// tokens that follow them.
fn batches(chunk: &[Token], first: usize) -> Vec<Scored> {
    let scored = |n: usize| n >= first && n + 1 < chunk.len();
    let parts = parts(chunk, scored);
    let batch = |parts: &[Part]| {
        let next = |part: &Part| chunk[part.position as usize + 1];
        let places = (0..).zip(parts).filter(|(_, part)| part.samples);
        let places = places.map(|(at, part)| (at, next(part))).collect();
        (parts.to_vec(), places)
    };
    parts
        .chunks(EngineShape::DEFAULT.micro_batch as usize)
        .map(batch)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_half_is_scored_by_what_comes_after() {
        let chunk: Vec<Token> = (100..400).collect();
        let all = batches(&chunk, 150);
        assert_eq!(
            all.iter().map(|b| b.0.len()).collect::<Vec<_>>(),
            [128, 128, 44]
        );
        let scored: Vec<(usize, Token)> = all.iter().flat_map(|b| b.1.clone()).collect();
        assert_eq!(scored.len(), 149);
        assert_eq!(scored[0], (150 - 128, 251));
        assert_eq!(scored[148], (298 - 256, 399));
    }
}
