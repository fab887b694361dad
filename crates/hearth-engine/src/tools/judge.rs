//! Evaluates a model on a text and on questions.

use std::sync::Arc;

use hearth_gguf::fit::MICRO_BATCH;
use hearth_proto::{Divergence, Failure, JudgeJob, JudgeResult, Reference, TextScore, Use};

use super::questions::answer_all;
use super::reference::{Keeper, Kept, fingerprint};
use super::score::{self, Mean};
use super::text::{Text, parts};
use super::{Report, chat, load_request};
use crate::backend::{Backend as _, Loader as _, Part, Token, no_logits};
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
    let loader = loader.with_outputs(MICRO_BATCH);
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
    let (mut keeper, mut kept, mut no_divergence) = (None, None, None);
    match &job.reference {
        None => {}
        Some(Reference::Make(path)) => keeper = Some(Keeper::create(path, vocab, fingerprint)?),
        Some(Reference::Compare(path)) => match Kept::open(path, vocab, fingerprint)? {
            Ok(open) => kept = Some(open),
            Err(why) => no_divergence = Some(why),
        },
    }
    let (mut loss, mut divergence, mut agreement) =
        (Mean::default(), Mean::default(), Mean::default());
    let mut bytes = 0;
    let mut scored = 0u64;
    let total = chunks.len() as u64;
    for (done, chunk) in (1..).zip(&chunks) {
        backend.remove(0, 0);
        let first = chunk.len() / 2;
        for (part, logits_of) in batches(chunk, first) {
            backend.decode(&part)?;
            for (at, next) in logits_of {
                let logits = backend.logits(at);
                let sum = score::log_sum(logits);
                let logit = usize::try_from(next).ok().and_then(|n| logits.get(n));
                let nll = sum - f64::from(*logit.ok_or_else(no_logits)?);
                if !nll.is_finite() {
                    return Err(no_logits());
                }
                loss.add(nll);
                scored += 1;
                if let Some(keeper) = &mut keeper {
                    keeper.put(&score::keep(logits, sum))?;
                }
                if let Some(kept) = &mut kept {
                    let (far, same) = score::diverge(kept.next()?, logits, sum);
                    divergence.add(far);
                    agreement.add(f64::from(u8::from(same)));
                }
                bytes += backend.piece(next).len() as u64;
            }
        }
        report("reading the text", done, total);
    }
    if let Some(keeper) = keeper {
        keeper.finish()?;
    }
    let perplexity = loss.mean().exp();
    #[expect(clippy::cast_precision_loss, reason = "a text is far below 2^52 bytes")]
    let byte_perplexity = (loss.sum() / bytes.max(1) as f64).exp();
    Ok(TextScore {
        scored_tokens: scored,
        scored_bytes: bytes,
        chunk_tokens: u32::try_from(chunks[0].len()).unwrap_or(u32::MAX),
        perplexity,
        perplexity_error: perplexity * loss.error(),
        byte_perplexity,
        divergence: kept.is_some().then(|| Divergence {
            mean: divergence.mean(),
            error: divergence.error(),
            agreement: agreement.mean(),
            agreement_error: agreement.error(),
        }),
        no_divergence,
    })
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
    parts.chunks(MICRO_BATCH as usize).map(batch).collect()
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
