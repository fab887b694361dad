//! Batches and the choice of tokens.

use std::time::{SystemTime, UNIX_EPOCH};

use hearth_engine::backend::{
    Choice, DecodeError, Decoder, Mask, Part, Sampled, Token, Tokenizer as _, argmax, no_logits,
};
use hearth_proto::{Failure, Sampling};

use super::{END, FakeBackend, FakeSampler};

/// Marks a state that does not correspond to any tokens.
pub(super) const LOST: Token = -1;
/// The number of microseconds after which the digits of a clock token wrap around.
const CLOCK_US: u128 = 1_000_000_000;

impl Decoder for FakeBackend {
    type Sampler = FakeSampler;

    fn decode(&mut self, parts: &[Part]) -> Result<(), DecodeError> {
        self.decodes += 1;
        let fails = parts.iter().any(|part| self.failing.contains(&part.seq));
        if fails || self.script.fail_decode == Some(self.decodes) {
            return Err(DecodeError::Code(-3));
        }
        let used: usize = self.cells.values().map(Vec::len).sum();
        if used + parts.len() > self.info.kv_tokens as usize {
            return Err(DecodeError::NoRoom);
        }
        let computed = self.compute(parts);
        if computed.is_err() && self.script.state {
            for part in parts {
                self.cells.entry(part.seq).or_default().push(LOST);
            }
        }
        computed?;
        for part in parts {
            let cells = self.cells.entry(part.seq).or_default();
            if cells.len() != part.position as usize {
                // llama.cpp refuses a gap too.
                return Err(DecodeError::Code(-1));
            }
            cells.push(part.token);
        }
        self.last.clear();
        self.last.extend(parts);
        Ok(())
    }

    fn apply_adapters(&mut self, scales: &[(usize, f32)]) {
        self.is_adapted = !scales.is_empty();
    }

    fn batch_max(&self) -> u32 {
        128
    }

    fn sampler(&self, _: &Sampling) -> Result<FakeSampler, Failure> {
        Ok(FakeSampler::default())
    }

    fn accept(&self, sampler: &mut FakeSampler, tokens: &[Token], are_answer: bool) {
        if are_answer {
            sampler.answered.extend(tokens);
        } else {
            sampler.prompt.extend(tokens);
        }
    }

    /// Repeats the prompt from the KV cache, so that wrong cells show in the answer.
    fn sample(
        &mut self,
        sampler: &mut FakeSampler,
        part: usize,
        mask: Option<Mask<'_>>,
        logprobs: Option<u8>,
    ) -> Result<Sampled, Failure> {
        let part = self.last.get(part).copied().ok_or_else(no_logits)?;
        let cells = self.cells.get(&part.seq).ok_or_else(no_logits)?;
        let prompt = cells.get(..sampler.prompt.len()).ok_or_else(no_logits)?;
        // Drafted tokens may follow the part.
        if cells.get(prompt.len()..=part.position as usize) != Some(&sampler.answered) {
            return Err(no_logits());
        }
        self.prompt = prompt.to_vec();
        let all = prompt.len() * self.script.repeat.max(1);
        let at = sampler.answered.len();
        let rest = prompt.iter().cycle().skip(at % prompt.len().max(1));
        let rest: Vec<Token> = rest.take(all.saturating_sub(at).min(8)).copied().collect();
        let text: Vec<u8> = rest.iter().flat_map(|t| self.piece(*t)).collect();
        self.obey(&text, part.seq);
        let mut token = rest.first().copied().unwrap_or(END);
        if let Ok(letter) = u8::try_from(token)
            && self.is_adapted
        {
            token = letter.to_ascii_uppercase().into();
        }
        if self.script.clock && token != END {
            token = time_token();
        }
        let mut choice = None;
        if let Some(mask) = mask {
            let mut logits = vec![0.0; 257];
            if let Some(logit) = usize::try_from(token).ok().and_then(|n| logits.get_mut(n)) {
                *logit = 1.0;
            }
            mask(&mut logits)?;
            token = argmax(&logits).ok_or_else(no_logits)?;
            choice = Choice::of(&logits, token);
        }
        Ok(Sampled {
            token,
            logprobs: logprobs.map(|n| (0.0, vec![(token, 0.0); usize::from(n.min(1))])),
            choice,
        })
    }

    fn logprobs(&self, _: usize, token: Token, top: u8) -> (f32, Vec<(Token, f32)>) {
        (-1.0, vec![(token, -1.0); usize::from(top.min(1))])
    }

    /// The frequency of each letter.
    fn embed(&mut self, tokens: &[Token]) -> Result<Vec<f32>, Failure> {
        let text: Vec<u8> = tokens.iter().flat_map(|t| self.piece(*t)).collect();
        if text.starts_with(b"!abort") {
            std::process::abort();
        }
        let mut vector = [0.0f32; 26];
        for byte in text {
            let at = usize::from(byte.to_ascii_lowercase().wrapping_sub(b'a'));
            if let Some(count) = vector.get_mut(at) {
                *count += 1.0;
            }
        }
        let length = vector.iter().map(|v| v * v).sum::<f32>().sqrt();
        Ok(vector.iter().map(|v| v / length.max(1.0)).collect())
    }

    /// It is no reranker.
    fn rank(&mut self, _: &[Token]) -> Result<f32, Failure> {
        Err(no_logits())
    }

    fn embedding_tokens_max(&self) -> u32 {
        self.info.context_size
    }

    fn set_threads(&mut self, _: u32, _: u32) {}
}

/// A token for the current time.
fn time_token() -> Token {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let time = now.unwrap_or_default().as_micros() % CLOCK_US;
    END + 1 + Token::try_from(time).unwrap_or_default()
}
