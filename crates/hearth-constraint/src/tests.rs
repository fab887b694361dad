//! Tests without a model: a small vocabulary, and a random model.

mod bare;
mod bombs;
mod calls;
mod check;
mod grammars;
mod reasoning;
mod relaxed;
mod schemas;
mod tools;

use std::sync::Arc;

use super::{Matcher, Tokenize, Vocabulary};

/// Ends an answer.
const END: i32 = 256;
/// `<tool_call>` as a control token.
const CALL: i32 = 257;
/// Its end.
const CALL_END: i32 = 258;

const MERGES: &[&str] = &[
    "{\"",
    "\": ",
    "\", \"",
    "\":",
    "\"}",
    "}}",
    "true",
    "false",
    "null",
    "name",
    "arguments",
    "parameters",
    "\": {\"",
    "  ",
    "\n  ",
    "the",
    "ab",
    "12",
    "00",
    "turn",
    "_on",
    "_call",
    "tool",
    "<tool",
    ">\n",
    ">{",
    "></",
    "}\n",
    "]}",
    "[{",
    "{}",
    " {",
];

/// Single bytes, longer pieces, an end, and the control tokens if `special`.
fn vocabulary(special: bool) -> (Vocabulary, Vec<Vec<u8>>) {
    let mut pieces: Vec<Vec<u8>> = (0..=255).map(|b| vec![b]).collect();
    pieces.extend([&b"<end>"[..], b"<tool_call>", b"</tool_call>"].map(<[u8]>::to_vec));
    if !special {
        pieces[257].clear();
        pieces[258].clear();
    }
    pieces.extend(MERGES.iter().map(|m| m.as_bytes().to_vec()));
    let specials: Vec<bool> = (0..pieces.len()).map(|i| i == 257 || i == 258).collect();
    let text: Vec<Vec<u8>> = pieces.clone();
    let tokenize: Tokenize = Arc::new(move |bytes| greedy(&text, bytes));
    let vocabulary = Vocabulary::new(pieces.clone(), &specials, &[END], tokenize).unwrap();
    (vocabulary, pieces)
}

/// The longest piece that fits, control tokens aside.
fn greedy(pieces: &[Vec<u8>], mut bytes: &[u8]) -> Vec<i32> {
    let mut tokens = Vec::new();
    while !bytes.is_empty() {
        let (id, piece) = (0..)
            .zip(pieces)
            .filter(|(id, p)| !(256..=258).contains(id) && !p.is_empty() && bytes.starts_with(p))
            .max_by_key(|(_, p)| p.len())
            .unwrap();
        tokens.push(id);
        bytes = &bytes[piece.len()..];
    }
    tokens
}

/// A random model: the same logits for the same seed. The probability of quotes and of the
/// end rises, or strings would go on for ever.
struct RandomModel(fastrand::Rng);

impl RandomModel {
    #[expect(clippy::cast_precision_loss, reason = "a few thousand steps")]
    fn logits(&mut self, pieces: &[Vec<u8>], step: usize) -> Vec<f32> {
        let weary = (step as f32 / 40.0).min(0.95);
        (0..)
            .zip(pieces)
            .map(|(id, piece)| {
                let lot = self.0.f32();
                // An email address needs its `@`, and random exponents leave every range.
                match piece.as_slice() {
                    b"\"" | b"@" => lot + weary,
                    b"e" | b"E" => lot - 1.0,
                    _ if id == END => lot + weary,
                    _ if id == CALL => lot + 0.7,
                    _ => lot,
                }
            })
            .collect()
    }
}

/// The output, and the number of tokens that the model chose.
struct Run {
    text: Vec<u8>,
    decodes: usize,
    complete: bool,
}

/// Lets the model write at most `limit` tokens; checks every forced token against
/// the mask.
fn run(matcher: &mut Matcher, pieces: &[Vec<u8>], seed: u64, fast: bool, limit: usize) -> Run {
    let mut model = RandomModel(fastrand::Rng::with_seed(seed));
    let mut out = Run {
        text: Vec::new(),
        decodes: 0,
        complete: false,
    };
    for step in 0..limit {
        if matcher.is_complete() {
            out.complete = true;
            break;
        }
        let forced = if fast { matcher.forced() } else { Vec::new() };
        if !forced.is_empty() {
            for token in forced {
                let mut logits = vec![0.0; pieces.len()];
                matcher.mask(&mut logits).unwrap();
                assert!(
                    logits[usize::try_from(token).unwrap()].is_finite(),
                    "{token}"
                );
                matcher.accept(token).unwrap();
                out.text
                    .extend_from_slice(&pieces[usize::try_from(token).unwrap()]);
            }
            continue;
        }
        out.decodes += 1;
        let mut logits = model.logits(pieces, step);
        matcher.mask(&mut logits).unwrap();
        let (token, best) = (0..)
            .zip(&logits)
            .max_by(|a, b| a.1.total_cmp(b.1))
            .unwrap();
        assert!(
            best.is_finite(),
            "nothing allowed after {:?}",
            lossy(&out.text)
        );
        if token == END {
            out.complete = true;
            break;
        }
        matcher.accept(token).unwrap();
        out.text
            .extend_from_slice(&pieces[usize::try_from(token).unwrap()]);
    }
    out
}

/// Feeds a text; how many of its tokens fit, and whether it may end there.
fn fits(matcher: &mut Matcher, pieces: &[Vec<u8>], text: &str) -> (bool, bool) {
    for token in greedy(pieces, text.as_bytes()) {
        let mut logits = vec![0.0; pieces.len()];
        matcher.mask(&mut logits).unwrap();
        if !logits[usize::try_from(token).unwrap()].is_finite() {
            return (false, false);
        }
        matcher.accept(token).unwrap();
    }
    let mut logits = vec![0.0; pieces.len()];
    matcher.mask(&mut logits).unwrap();
    (true, logits[256].is_finite())
}

fn lossy(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}
