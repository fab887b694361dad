//! Evaluation, quantization and importance matrices, through `hearth-engine offline`,
//! compared with a simple computation.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command as Process, Stdio};

use hearth_proto::{
    Failure, FailureKind, ImatrixJob, JudgeJob, JudgeResult, OfflineEvent, OfflineJob, QuantizeJob,
    QuantizeResult, Reference,
};
use serde_json::Value;

use crate::ENGINE;
use crate::forward::Plain;
use crate::harness::random_model;

const SHAPE: &str = "2,64,128,2,1,300";
const CONTEXT: u32 = 64;
const TEXT: &str = "A text of which the models here make nothing at all, since their weights are \
                    random numbers; but what they make of it can be computed in another way, too, \
                    and both must come to the same. So it goes on for a little while.";

/// Runs a job.
fn offline(job: &OfflineJob) -> Result<Value, Failure> {
    let mut child = Process::new(ENGINE)
        .arg("offline")
        .env("HEARTH_LOG", "error")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let description = serde_json::to_vec(job).unwrap();
    child.stdin.take().unwrap().write_all(&description).unwrap();
    let output = child.wait_with_output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let last = text.lines().last().expect("an event");
    match serde_json::from_str(last).unwrap() {
        OfflineEvent::Done(value) => Ok(value),
        OfflineEvent::Failed(failure) => Err(failure),
        OfflineEvent::Progress { .. } => panic!("it ended without a result: {last}"),
    }
}

fn judge(model: &Path, reference: Option<Reference>) -> Result<JudgeResult, Failure> {
    let job = OfflineJob::Judge(JudgeJob {
        model: model.to_owned(),
        text: TEXT.to_owned(),
        context: CONTEXT,
        threads: 2,
        reference,
        questions: Vec::new(),
    });
    offline(&job).map(|value| serde_json::from_value(value).unwrap())
}

/// The chunks that are evaluated: a byte is a token.
fn chunks() -> Vec<Vec<usize>> {
    let tokens: Vec<usize> = TEXT.bytes().map(usize::from).collect();
    let chunks = tokens.chunks_exact(CONTEXT as usize);
    chunks.map(<[usize]>::to_vec).collect()
}

fn temporary(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR"));
    folder.join(format!("judge-{name}-{}", std::process::id()))
}

fn close(is: f64, wanted: f64, share: f64, what: &str) {
    assert!(
        (is - wanted).abs() <= share * wanted.abs(),
        "{what}: {is}, {wanted}"
    );
}

#[test]
fn perplexity_is_what_a_plain_computation_says() {
    let model = random_model("judge-f32", SHAPE, "f32");
    let mut plain = Plain::read(&model, SHAPE);
    let mut losses = Vec::new();
    for chunk in chunks() {
        let logits = plain.logits(&chunk);
        for at in chunk.len() / 2..chunk.len() - 1 {
            let sum: f64 = logits[at].iter().map(|l| l.exp()).sum();
            losses.push(sum.ln() - logits[at][chunk[at + 1]]);
        }
    }
    let count = f64::from(u32::try_from(losses.len()).unwrap());
    let mean = losses.iter().sum::<f64>() / count;
    let variance = losses.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (count - 1.0);
    let text = judge(&model, None).unwrap().text;
    assert_eq!(text.scored_tokens, losses.len() as u64);
    assert_eq!(text.scored_bytes, losses.len() as u64, "a byte is a token");
    assert_eq!(text.chunk_tokens, CONTEXT);
    close(text.perplexity, mean.exp(), 0.003, "perplexity");
    close(text.byte_perplexity, text.perplexity, 1e-9, "by byte");
    let error = mean.exp() * (variance / count).sqrt();
    close(text.perplexity_error, error, 0.01, "its error");
}

#[test]
fn a_model_does_not_diverge_from_itself_but_from_others() {
    let model = random_model("judge-self", SHAPE, "f16");
    let file = temporary("reference");
    let made = judge(&model, Some(Reference::Make(file.clone()))).unwrap();
    assert_eq!(made.text.divergence, None);
    let compare = |model: &Path| {
        judge(model, Some(Reference::Compare(file.clone())))
            .unwrap()
            .text
    };
    let same = compare(&model).divergence.unwrap();
    assert!(same.mean.abs() < 1e-12 && same.error < 1e-12, "{same:?}");
    assert!((same.agreement - 1.0).abs() < 1e-12);

    let out = temporary("q4_0.gguf");
    quantize(&model, &out, 2, None, false).unwrap();
    let worse = compare(&out).divergence.unwrap();
    assert!(worse.mean > 1e-4 && worse.error > 0.0, "{worse:?}");
    assert!(worse.agreement < 1.0);

    let other = compare(&random_model("judge-other", "2,64,128,2,1,320", "f16"));
    assert_eq!(other.divergence, None);
    let why = other.no_divergence.unwrap();
    assert!(why.contains("320 tokens, the reference's 300"), "{why}");
    std::fs::remove_file(file).unwrap();
    std::fs::remove_file(out).unwrap();
}

#[test]
fn a_text_that_is_too_short_is_refused() {
    let job = OfflineJob::Judge(JudgeJob {
        model: random_model("judge-short", SHAPE, "q8_0"),
        text: "short".to_owned(),
        context: CONTEXT,
        threads: 1,
        reference: None,
        questions: Vec::new(),
    });
    let failure = offline(&job).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgs);
    assert!(failure.message.contains("5 tokens"), "{failure}");
}

fn quantize(
    model: &Path,
    out: &Path,
    file_type: u32,
    imatrix: Option<&Path>,
    allow_requantize: bool,
) -> Result<QuantizeResult, Failure> {
    let job = OfflineJob::Quantize(QuantizeJob {
        model: model.to_owned(),
        out: out.to_owned(),
        file_type,
        imatrix: imatrix.map(Path::to_owned),
        threads: 2,
        allow_requantize,
    });
    offline(&job).map(|value| serde_json::from_value(value).unwrap())
}

/// 256 wide: the superblocks fit.
const WIDE: &str = "2,256,512,4,2,600";

#[test]
fn every_type_can_be_made_and_runs() {
    let model = random_model("judge-wide", WIDE, "f16");
    let matrix = imatrix(&model, "types");
    let out = temporary("types.gguf");
    let mut sizes = std::collections::BTreeMap::new();
    for kind in &hearth_gguf::FILE_TYPES {
        let without = quantize(&model, &out, kind.number, None, false);
        let needs = kind.about.ends_with("needs --imatrix");
        if needs {
            let failure = without.unwrap_err();
            assert_eq!(
                failure.kind,
                FailureKind::InvalidArgs,
                "{}: {failure}",
                kind.name
            );
            assert!(failure.message.contains("hearthctl imatrix"), "{failure}");
        } else {
            without.unwrap_or_else(|e| panic!("{}: {e}", kind.name));
        }
        let made = quantize(&model, &out, kind.number, Some(&matrix), false);
        let made = made.unwrap_or_else(|e| panic!("{}: {e}", kind.name));
        assert!(made.ran, "{}", kind.name);
        assert_eq!(made.bytes_after, std::fs::metadata(&out).unwrap().len());
        sizes.insert(kind.name, made.bytes_after);
    }
    assert!(sizes["Q8_0"] < sizes["F16"] && sizes["Q4_0"] < sizes["Q8_0"]);
    assert!(sizes["IQ2_XS"] < sizes["Q4_0"]);
    for path in [out, matrix] {
        std::fs::remove_file(path).unwrap();
    }
}

/// Blocks of 32 weights in 18 bytes; the last matrix, the embeddings, in `Q6_K`: 210
/// bytes for 256; the norms unchanged.
#[test]
fn a_q4_0_file_has_the_size_that_its_blocks_say() {
    let model = random_model("judge-size", WIDE, "f16");
    let out = temporary("size.gguf");
    let made = quantize(&model, &out, 2, None, false).unwrap();
    let (width, hidden, vocab, kv) = (256, 512, 600, 128);
    let embeddings = vocab * width;
    let block = 2 * width * width + 2 * width * kv + 3 * width * hidden;
    let norms = (1 + 2 * 2) * width;
    let f16 = 2 * (embeddings + 2 * block) + 4 * norms;
    let q4_0 = embeddings / 256 * 210 + 2 * block / 32 * 18 + 4 * norms;
    // The header is the same except for a key and padding.
    let saved = made.bytes_before - made.bytes_after;
    assert!(saved.abs_diff(f16 - q4_0) < 128, "{saved}, {}", f16 - q4_0);
    assert_eq!(made.parameters, embeddings + 2 * block + norms);
    std::fs::remove_file(out).unwrap();
}

#[test]
fn what_is_quantized_is_not_quantized_again_unless_told_to() {
    let model = random_model("judge-again", WIDE, "q8_0");
    let out = temporary("again.gguf");
    let failure = quantize(&model, &out, 2, None, false).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgs);
    assert!(failure.message.contains("(Q8_0)"), "{failure}");
    assert!(failure.message.contains("--allow-requantize"), "{failure}");
    assert!(!out.exists());
    assert!(quantize(&model, &out, 2, None, true).unwrap().ran);
    std::fs::remove_file(out).unwrap();
}

#[test]
fn rows_that_are_no_multiple_of_a_block_are_stored_otherwise() {
    let model = random_model("judge-narrow", SHAPE, "f16");
    let out = temporary("narrow.gguf");
    // 64 wide: no superblock of 256 fits.
    let made = quantize(&model, &out, 15, None, false).unwrap();
    assert!(made.fallbacks > 0 && made.ran, "{made:?}");
    std::fs::remove_file(out).unwrap();
}

#[test]
fn bad_input_of_quantize_is_named() {
    let out = temporary("bad.gguf");
    let missing = quantize(Path::new("/nonexistent/m.gguf"), &out, 2, None, false).unwrap_err();
    assert_eq!(missing.kind, FailureKind::ModelNotFound);
    let whole = std::fs::read(random_model("judge-cut", WIDE, "f16")).unwrap();
    let cut = temporary("cut.gguf");
    std::fs::write(&cut, &whole[..whole.len() / 2]).unwrap();
    let failure = quantize(&cut, &out, 2, None, false).unwrap_err();
    assert_eq!(failure.kind, FailureKind::ModelInvalid, "{failure}");
    // An importance matrix of another model.
    let matrix = imatrix(&random_model("judge-matrix", SHAPE, "f16"), "other");
    let model = random_model("judge-bad", WIDE, "f16");
    let failure = quantize(&model, &out, 2, Some(&matrix), false).unwrap_err();
    assert_eq!(failure.kind, FailureKind::InvalidArgs);
    assert!(failure.message.contains("does not fit"), "{failure}");
    std::fs::write(&matrix, "nonsense").unwrap();
    let failure = quantize(&model, &out, 2, Some(&matrix), false).unwrap_err();
    assert!(
        failure.message.contains("not an importance matrix"),
        "{failure}"
    );
    std::fs::remove_file(cut).unwrap();
    std::fs::remove_file(matrix).unwrap();
    _ = std::fs::remove_file(out);
}

fn imatrix(model: &Path, name: &str) -> PathBuf {
    let out = temporary(&format!("{name}.imatrix"));
    let job = OfflineJob::Imatrix(ImatrixJob {
        model: model.to_owned(),
        text: TEXT.to_owned(),
        name: "text".to_owned(),
        out: out.clone(),
        context: CONTEXT,
        threads: 2,
    });
    offline(&job).unwrap();
    out
}

#[test]
fn an_importance_matrix_holds_the_sums_of_a_plain_computation() {
    let model = random_model("judge-sums", SHAPE, "f32");
    let out = imatrix(&model, "sums");
    let read = hearth_engine::llama::Imatrix::read(&out).unwrap();
    let mut plain = Plain::read(&model, SHAPE);
    let mut tokens = 0u32;
    for chunk in chunks() {
        plain.logits(&chunk);
        tokens += u32::try_from(chunk.len()).unwrap();
    }
    // The embeddings are the last matrix, which is left out, as in llama.cpp's tool.
    plain.squares.remove("token_embd.weight");
    assert_eq!(
        read.sums.keys().collect::<Vec<_>>(),
        plain.squares.keys().collect::<Vec<_>>()
    );
    assert_eq!(read.chunks as usize, chunks().len());
    for (name, squares) in &plain.squares {
        let sums = &read.sums[name];
        close(f64::from(sums.counts[0]), f64::from(tokens), 1e-9, name);
        let largest = squares.iter().copied().fold(0.0, f64::max);
        for (is, wanted) in sums.squares.iter().zip(squares) {
            let far = (f64::from(*is) - wanted).abs();
            assert!(far < 0.01 * largest, "{name}: {is}, {wanted}");
        }
    }
    std::fs::remove_file(out).unwrap();
}
