//! A draft model: a smaller model with the same vocabulary, which proposes the next tokens of an
//! answer. The model itself verifies them, so that they only affect the speed.

use std::pin::Pin;
use std::sync::Arc;

use hearth_proto::{DraftFile, KvType, LoadRequest, common_prefix};
use llama_cpp_2::model::LlamaModel;
use llama_cpp_2::model::params::LlamaModelParams;
use llama_cpp_2::token::LlamaToken;

use super::context::{Context, ContextParams};
use super::file::header;
use super::loader::LlamaLoader;
use super::rope::Factors;
use crate::backend::{DecodeError, Part, Progress, Token, argmax};

/// Vocabularies of one family may differ by this many unused tokens at their end.
const PADDING: u32 = 128;
/// A token that is less probable than this is not proposed: it is more likely to be rejected
/// than to be accepted.
const PROBABILITY_MIN: f32 = 0.5;

/// A loaded draft model with a context for one sequence. Field order is drop order.
#[derive(Debug)]
pub(super) struct DraftModel {
    context: Context,
    model: LlamaModel,
    /// The tokens in its KV cache.
    known: Vec<Token>,
    /// Tokens that both vocabularies have.
    vocabulary: Token,
}

impl LlamaLoader {
    /// Loads the draft model of a request for `target`.
    ///
    /// # Errors
    /// Why it cannot be used; the model itself can.
    pub(super) fn load_draft(
        &self,
        request: &LoadRequest,
        file: &DraftFile,
        target: &LlamaModel,
        progress: &Arc<Progress>,
    ) -> Result<DraftModel, String> {
        let kv_tokens = request.context_size.max(1);
        let header = header(&file.path).map_err(|failure| failure.message)?;
        let factors = Factors::of(&header, kv_tokens);
        let impose = |params: Pin<&mut LlamaModelParams>| {
            if let Some(factors) = &factors {
                factors.impose(params, &header.architecture, kv_tokens);
            }
        };
        let model = self.load_model(&file.path, progress, Box::new(|_| ()), impose);
        let model = model.map_err(|failure| failure.message)?;
        let vocabulary = check_vocabulary(target, &model)?;
        let params = ContextParams {
            kv_tokens,
            sequences: 1,
            kv_type: KvType::F16,
            context_original: factors.map_or(0, |factors| factors.context_original),
            outputs: 1,
            collector: None,
            ..self.params(request)
        };
        let context = Context::new(&model, &params, progress);
        let mut context = context.ok_or_else(|| {
            let why = super::log::take_errors().join("; ");
            format!("no memory for its context: {why}")
        })?;
        // Rejected tokens are removed from its cache.
        if !context.memory().kind().can_roll_back() {
            return Err("its state cannot be rolled back".to_owned());
        }
        context.set_threads(request.limits.threads, request.limits.decode_threads);
        Ok(DraftModel {
            context,
            model,
            known: Vec::new(),
            vocabulary,
        })
    }
}

impl DraftModel {
    /// The tokens that it expects after `tokens`, at most `most`. A long text is computed in
    /// several calls, which propose nothing until the last.
    pub(super) fn draft(&mut self, tokens: &[Token], most: usize) -> Vec<Token> {
        self.try_draft(tokens, most).unwrap_or_else(|error| {
            log::debug!("no draft: {error}");
            self.known.clear();
            self.context.memory_mut().clear();
            Vec::new()
        })
    }

    fn try_draft(&mut self, tokens: &[Token], most: usize) -> Result<Vec<Token>, DecodeError> {
        let room = (self.context.size() as usize).saturating_sub(tokens.len());
        // The last token is computed again for its logits.
        let same = common_prefix(&self.known, tokens).min(tokens.len().saturating_sub(1));
        let (_, pending) = tokens.split_at(same);
        // Pictures and sounds are negative.
        let is_known = |token: &Token| (0..self.vocabulary).contains(token);
        if most == 0 || room < most || pending.is_empty() || !pending.iter().all(is_known) {
            return Ok(Vec::new());
        }
        if !self.context.memory_mut().remove(0, position(same)) {
            return Err(DecodeError::Code(0));
        }
        self.known.truncate(same);
        let now = pending.len().min(self.context.batch_size());
        let is_last = now == pending.len();
        self.decode(&pending[..now], is_last)?;
        let mut found = Vec::new();
        let mut part = now - 1;
        while is_last && found.len() < most {
            let Some(token) = self.likeliest(part) else {
                break;
            };
            found.push(token);
            if found.len() < most {
                self.decode(&[token], true)?;
                part = 0;
            }
        }
        Ok(found)
    }

    /// Decodes tokens after those that are known.
    fn decode(&mut self, tokens: &[Token], samples: bool) -> Result<(), DecodeError> {
        let last = tokens.len() - 1;
        let begin = self.known.len();
        let part = |(n, token): (usize, &Token)| Part {
            token: *token,
            position: position(begin + n),
            seq: 0,
            samples: samples && n == last,
        };
        let parts: Vec<Part> = tokens.iter().enumerate().map(part).collect();
        self.context.decode(&parts)?;
        self.known.extend(tokens);
        Ok(())
    }

    /// The likeliest token after a part of the last batch, where it is likely enough and does
    /// not end the answer.
    fn likeliest(&self, part: usize) -> Option<Token> {
        let logits = self.context.logits(part);
        let token = argmax(logits)?;
        let most = *logits.get(usize::try_from(token).ok()?)?;
        let sum: f32 = logits.iter().map(|logit| (logit - most).exp()).sum();
        let is_end = self.model.vocab().is_eog(LlamaToken(token));
        (token < self.vocabulary && !is_end && 1.0 / sum >= PROBABILITY_MIN).then_some(token)
    }

    /// Sets the number of threads from the next decode on.
    pub(super) fn set_threads(&mut self, threads: u32, decode: u32) {
        self.context.set_threads(threads, decode);
    }
}

fn position(tokens: usize) -> u32 {
    u32::try_from(tokens).unwrap_or(u32::MAX)
}

/// Checks that the same numbers mean the same texts; returns how many both have.
fn check_vocabulary(target: &LlamaModel, draft: &LlamaModel) -> Result<Token, String> {
    let (ours, its) = (target.vocab(), draft.vocab());
    let sizes = (ours.n_tokens(), its.n_tokens());
    if sizes.0.abs_diff(sizes.1) > PADDING {
        let (ours, its) = sizes;
        return Err(format!(
            "it has another vocabulary: {its} tokens instead of {ours}"
        ));
    }
    let common = sizes.0.min(sizes.1);
    let differs = (0..common).map(LlamaToken).find_map(|token| {
        let [ours, its] = [&ours, &its].map(|vocab| vocab.token_to_piece(token, true, None));
        (ours != its).then_some((token.0, ours, its))
    });
    match differs {
        None => Ok(common),
        Some((token, ours, its)) => Err(format!(
            "it has another vocabulary: token {token} is {:?} instead of {:?}",
            String::from_utf8_lossy(&its),
            String::from_utf8_lossy(&ours)
        )),
    }
}

#[cfg(test)]
mod tests {
    use std::path::{Path, PathBuf};

    use super::super::testing::{context, load, small};
    use super::*;

    /// A model that is sure of its answers.
    fn demo() -> LlamaModel {
        let folder = std::env::var_os("HEARTH_DEMO_MODEL_DIR").map_or_else(
            || Path::new(env!("CARGO_MANIFEST_DIR")).join("../../packaging/demo-model"),
            PathBuf::from,
        );
        load(&folder.join("hearth-demo-q8_0.gguf"))
    }

    fn draft_model() -> DraftModel {
        let model = demo();
        DraftModel {
            context: context(&model),
            vocabulary: check_vocabulary(&model, &model).unwrap(),
            known: Vec::new(),
            model,
        }
    }

    /// A question, and the first tokens of its answer, computed without a draft.
    fn answered() -> (Vec<Token>, Vec<Token>) {
        let model = demo();
        let text = "<|im_start|>user\nWhat is the capital of Italy?<|im_end|>\n\
                    <|im_start|>assistant\n";
        let prompt = model.vocab().tokenize(text.as_bytes(), false, true);
        let prompt: Vec<Token> = prompt.into_iter().map(|token| token.0).collect();
        let mut context = context(&model);
        let (mut answer, mut at) = (Vec::new(), 0);
        let mut next = prompt.clone();
        for _ in 0..6 {
            let last = next.len() - 1;
            let parts = (0..).zip(&next).map(|(n, token)| Part {
                token: *token,
                position: at + position(n),
                seq: 0,
                samples: n == last,
            });
            context.decode(&parts.collect::<Vec<Part>>()).unwrap();
            at += position(next.len());
            next = vec![argmax(context.logits(last)).unwrap()];
            answer.extend(&next);
        }
        (prompt, answer)
    }

    #[test]
    fn a_draft_is_what_the_model_would_answer() {
        let (prompt, answer) = answered();
        let mut draft = draft_model();
        let found = draft.draft(&prompt, 4);
        assert!(!found.is_empty());
        assert_eq!(found, answer[..found.len()]);
        // After another token was chosen, nothing of the draft remains.
        let other: Vec<Token> = prompt.iter().copied().chain([65]).collect();
        draft.draft(&other, 4);
        let more: Vec<Token> = prompt.iter().chain(&answer[..2]).copied().collect();
        let found = draft.draft(&more, 3);
        assert!(!found.is_empty());
        assert_eq!(found, answer[2..2 + found.len()]);
        assert!(draft.draft(&more, 0).is_empty());
    }

    #[test]
    fn a_long_text_takes_several_calls_and_pictures_are_not_drafted() {
        let (prompt, answer) = answered();
        let mut draft = draft_model();
        let batch = draft.context.batch_size();
        let long: Vec<Token> = prompt.iter().copied().cycle().take(batch).collect();
        let long = [long, prompt].concat();
        assert!(draft.draft(&long, 4).is_empty());
        assert_eq!(draft.known.len(), batch);
        draft.draft(&long, 4);
        assert!(draft.known.len() >= long.len());
        let full = vec![answer[0]; draft.context.size() as usize];
        assert!(draft.draft(&full, 4).is_empty());
        assert!(draft.draft(&[answer[0], -1, answer[1]], 4).is_empty());
    }

    #[test]
    fn another_vocabulary_is_refused() {
        let refused = check_vocabulary(&demo(), &small()).unwrap_err();
        assert!(refused.contains("another vocabulary"), "{refused}");
    }
}
