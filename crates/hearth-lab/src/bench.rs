//! The speed of llama.cpp on this board, with a model file or with random weights.

use hearth_proto::{BenchJob, BenchResult, OfflineJob, ShapeJob, ShapeResult};

use crate::error::Result;
use crate::{Progress, offline};

/// A measurement of a model with random weights.
#[derive(Clone, Debug)]
pub struct Shape {
    /// A name of `hearth_gguf::synthetic::SHAPES`.
    pub shape: String,
    /// A name of `hearth_gguf::synthetic::STORAGES`.
    pub storage: String,
    /// Tokens of the prompt.
    pub prompt_tokens: u32,
    /// Tokens decoded after it.
    pub tokens: u32,
    /// Numbers of threads; if empty, 1, 2, 4, ... and all.
    pub threads: Vec<u32>,
    /// Runs for each, of which the median is taken.
    pub runs: u32,
}

/// Measures a model file.
///
/// # Errors
/// Those of [`offline::run`].
pub async fn model(job: BenchJob, progress: &dyn Progress) -> Result<BenchResult> {
    offline::run(&OfflineJob::Bench(job), "measuring", progress).await
}

/// Measures a model of random weights, written to a temporary file.
///
/// # Errors
/// Those of [`offline::run`]; `File` if there is no room for the model.
pub async fn shape(shape: Shape, progress: &dyn Progress) -> Result<ShapeResult> {
    let file = offline::temporary()?;
    let job = OfflineJob::Shape(ShapeJob {
        shape: shape.shape,
        storage: shape.storage,
        out: file.path().to_owned(),
        prompt_tokens: shape.prompt_tokens,
        tokens: shape.tokens,
        threads: if shape.threads.is_empty() {
            doublings(offline::threads())
        } else {
            shape.threads
        },
        runs: shape.runs,
    });
    offline::run(&job, "writing random weights", progress).await
}

/// 1, 2, 4, ... and `most`.
fn doublings(most: u32) -> Vec<u32> {
    let powers = (0..u32::BITS).map(|n| 1u32 << n);
    let mut all: Vec<u32> = powers.take_while(|n| *n < most).collect();
    all.push(most.max(1));
    all
}

#[cfg(test)]
mod tests {
    use super::doublings;

    #[test]
    fn threads_are_doubled() {
        assert_eq!(doublings(1), [1]);
        assert_eq!(doublings(4), [1, 2, 4]);
        assert_eq!(doublings(6), [1, 2, 4, 6]);
    }
}
