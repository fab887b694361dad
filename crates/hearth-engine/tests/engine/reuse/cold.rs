//! The result of a cold engine for a prompt, and the difference between its own runs.

use std::collections::HashMap;

use hearth_proto::{
    Command, Event, GenerateRequest, Limits, LoadRequest, Prompt, RequestId, Reuse,
};

use super::{Row, start};
use crate::harness::{Engine, text_of};

/// The likeliest first tokens with their log-probabilities, and how much of the prompt
/// was reused.
#[derive(Clone, Debug, Default)]
pub struct First {
    pub top: Vec<(Vec<u8>, f32)>,
    pub cached: u32,
    pub prompt: u32,
    /// The whole answer.
    pub text: String,
}

/// Sends a request with this id.
pub fn first_of(engine: &mut Engine, id: u64, request: &GenerateRequest) -> First {
    engine.send(&Command::Generate(GenerateRequest {
        id: RequestId(id),
        ..request.clone()
    }));
    let mut first = First::default();
    loop {
        match engine.next() {
            Event::Started {
                prompt_tokens,
                cached_tokens,
                ..
            } => (first.prompt, first.cached) = (prompt_tokens, cached_tokens),
            Event::Token {
                parts, logprobs, ..
            } => {
                first.text.push_str(&text_of(&parts));
                if let Some(one) = logprobs.into_iter().next()
                    && first.top.is_empty()
                {
                    first.top = one.top;
                }
            }
            Event::Finished { .. } => return first,
            Event::Failed { failure, .. } => panic!("{failure}"),
            _ => {}
        }
    }
}

/// Tokens with a probability below 0.01 are ignored: another order of summation changes
/// them most.
const LIKELY: f32 = -4.6;

/// The largest difference of a log-probability among the tokens that one of the two
/// considers likely, at most ten. A token that the other does not list has at most the
/// probability of its last one.
pub fn difference(one: &First, other: &First) -> f32 {
    let of = |from: &First, token: &[u8]| {
        let found = from.top.iter().find(|(bytes, _)| bytes == token);
        found.or(from.top.last()).map_or(f32::INFINITY, |(_, l)| *l)
    };
    let far = |from: &First, to: &First| {
        let tops = from.top.iter().take(10);
        tops.filter(|(_, logprob)| *logprob >= LIKELY)
            .map(|(token, logprob)| (of(to, token) - logprob).abs())
            .fold(0.0, f32::max)
    };
    far(one, other).max(far(other, one))
}

/// The rounding error of a log-probability in 32 bits, after sums over a vocabulary.
const ROUNDING: f32 = 64.0 * f32::EPSILON;

/// An engine that reuses nothing.
pub struct Cold {
    engine: Engine,
    parts: &'static [u32],
    known: HashMap<String, First>,
    /// The largest difference between two cold runs of any prompt so far.
    largest: f32,
    id: u64,
}

/// The sizes of the parts in which a prompt is computed: the engine's own first, then
/// others.
const PARTS: [u32; 6] = [128, 96, 33, 127, 64, 17];
/// Models of at least this many bytes use fewer of them, since a part takes long.
const FEW: u64 = 50 << 20;

impl Cold {
    pub fn new(load: &LoadRequest) -> Self {
        let bytes = std::fs::metadata(&load.path).unwrap().len();
        Self {
            engine: start(load),
            parts: &PARTS[..if bytes < FEW { PARTS.len() } else { 3 }],
            known: HashMap::new(),
            largest: ROUNDING,
            id: 0,
        }
    }

    fn ask(&mut self, request: &GenerateRequest, part: u32) -> First {
        self.engine.send(&Command::SetLimits(Limits {
            prefill_chunk: part,
            ..Limits::default()
        }));
        self.id += 1;
        let first = first_of(
            &mut self.engine,
            self.id,
            &GenerateRequest {
                reuse: Reuse::Denied,
                max_tokens: Some(1),
                ..request.clone()
            },
        );
        assert_eq!(first.cached, 0);
        first
    }

    /// A prompt's first token, and the noise: twice the largest difference so far between
    /// cold runs of one prompt in different parts. Reuse is one more order of summation.
    pub fn of(&mut self, request: &GenerateRequest) -> (First, f32) {
        let Prompt::Text(text) = &request.prompt else {
            panic!("a text");
        };
        if let Some(known) = self.known.get(text) {
            return (known.clone(), self.noise());
        }
        let first = self.ask(request, self.parts[0]);
        for part in &self.parts[1..] {
            let other = self.ask(request, *part);
            self.largest = self.largest.max(difference(&first, &other));
        }
        self.known.insert(text.clone(), first.clone());
        (first, self.noise())
    }

    fn noise(&self) -> f32 {
        2.0 * self.largest
    }

    /// Compares an answer with the cold one. The prompt is also computed cold with a
    /// split at the end of the reused prefix, as far as parts of one size allow.
    pub fn row(&mut self, how: &'static str, request: &GenerateRequest, first: &First) -> Row {
        let (cold, _) = self.of(request);
        let split = (1..=128).rev().find(|n| first.cached.is_multiple_of(*n));
        if let Some(part) = split.filter(|part| *part > 7) {
            let same = self.ask(request, part);
            self.largest = self.largest.max(difference(&cold, &same));
        }
        Row {
            how,
            cached: first.cached,
            prompt: first.prompt,
            difference: difference(&cold, first),
            noise: self.noise(),
        }
    }
}
